#!/bin/sh
# Fetches the libraries of ONNX Runtime and OpenVINO into DIR, for the tests of the backends that load them:
#
#     tools/cpu-engines.sh DIR
#
# About 75 MB of wheels from PyPI (MIT, Apache-2.0; nothing of it is kept in this repository). Does nothing, and needs no
# network, when they are there. Without a network it says so and succeeds: the tests then say what they did not test.
set -eu

if [ $# -ne 1 ]; then
    echo "usage: tools/cpu-engines.sh DIR" >&2
    exit 64
fi
folder=$1

fetch() {
    name=$1 version=$2 library=$3
    # shellcheck disable=SC2086 # a pattern
    ls "$folder"/$name-$version/$library >/dev/null 2>&1 && return
    wheels=$(mktemp -d)
    if python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest "$wheels" "$name==$version"; then
        mkdir -p "$folder"
        rm -rf "$folder/$name-$version.part"
        python3 -m zipfile -e "$wheels"/*.whl "$folder/$name-$version.part"
        mv "$folder/$name-$version.part" "$folder/$name-$version"
        echo "engines: $name $version is in $folder" >&2
    else
        echo "engines: $name $version could not be fetched; its backend will not be tested" >&2
    fi
    rm -rf "$wheels"
}

fetch onnxruntime 1.31.1 'onnxruntime/capi/libonnxruntime.so*'
fetch openvino 2026.4.1 'openvino/libs/libopenvino_c.so*'
