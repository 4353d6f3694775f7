#!/bin/sh
# Fetches the lean TensorRT runtime of both majors into DIR, for `engines/tensorrt/tests/lean.rs`:
#
#     tools/tensorrt-lean.sh DIR && WATCHPOST_TENSORRT_LEAN=DIR cargo test -p watchpost-tensorrt --test lean
#
# 2 x 46 MB from PyPI (NVIDIA's licence; nothing of it is kept in this repository). It is a real libnvinfer without
# the builder: enough to see that our calls fit, on a machine without a GPU.
set -eu

if [ $# -lt 1 ]; then
    echo "usage: tools/tensorrt-lean.sh DIR [VERSION...]" >&2
    exit 64
fi
folder=$1
shift
[ $# -gt 0 ] || set -- 10.16.1.11 11.4.0.106

mkdir -p "$folder"
for version in "$@"; do
    target=$folder/$version
    if ls "$target"/tensorrt_lean_libs/libnvinfer_lean.so.* >/dev/null 2>&1; then
        echo "$version is there"
        continue
    fi
    wheels=$(mktemp -d)
    trap 'rm -rf "$wheels"' EXIT
    python3 -m pip download --quiet --no-deps --only-binary=:all: --dest "$wheels" "tensorrt-lean-cu12-libs==$version"
    mkdir -p "$target"
    python3 -m zipfile -e "$wheels"/*.whl "$target"
    rm -rf "$wheels"
    trap - EXIT
    ls "$target"/tensorrt_lean_libs/libnvinfer_lean.so.*
done
