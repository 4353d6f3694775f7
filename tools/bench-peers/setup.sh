#!/bin/sh
# Installs the peers of `make bench-peers` into a virtual environment of their own:
#
#     tools/bench-peers/setup.sh DIR
#
# OpenCV, ONNX Runtime, onnx (for INT8) and Ultralytics from PyPI (350 MB). PyPI's torch brings gigabytes of CUDA, so
# Ultralytics gets Debian's build for CPUs, unpacked into DIR and installed nowhere (550 MB): with ONNX models torch only
# carries tensors and the NMS. Does nothing, and needs no network, when all is there. What cannot be had is said, and then not
# measured.
set -eu

if [ $# -ne 1 ]; then
    echo "usage: tools/bench-peers/setup.sh DIR" >&2
    exit 64
fi
mkdir -p "$1"
folder=$(cd "$1" && pwd)
python=$folder/venv/bin/python

# numpy 1: Debian's torch is built for it.
PEERS="numpy==1.26.4 opencv-python-headless==4.11.0.86 onnxruntime==1.31.1 onnx==1.19.1"
ULTRALYTICS="ultralytics==8.4.190"
# What Ultralytics imports when it predicts; its other requirements are for training.
ITS_NEEDS="pyyaml pillow psutil requests matplotlib tqdm typing_extensions py-cpuinfo scipy==1.14.1"

if [ "$(cat "$folder/peers-are-here" 2>/dev/null)" != "$PEERS" ]; then
    rm -f "$folder/peers-are-here"
    python3 -m venv "$folder/venv"
    # shellcheck disable=SC2086 # lists of words
    if "$python" -m pip install --quiet --disable-pip-version-check $PEERS; then
        echo "$PEERS" > "$folder/peers-are-here"
    else
        echo "bench-peers: the Python loop's packages could not be installed; it will not be measured" >&2
    fi
fi

torch() {
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if [ "$version" != 3.11 ] || ! command -v apt-get >/dev/null 2>&1; then
        echo "bench-peers: Debian 12's torch is for Python 3.11, this is $version" >&2
        return 1
    fi
    packages=$(apt-get install --simulate --no-install-recommends python3-torch 2>/dev/null | awk '/^Inst/ { print $2 }')
    mkdir -p "$folder/debs" "$folder/debian" "$folder/torch"
    # shellcheck disable=SC2086 # a list of words
    (cd "$folder/debs" && apt-get download --quiet=2 $packages python3-torch python3-torchvision 2>/dev/null) || return 1
    for package in "$folder"/debs/*.deb; do
        dpkg -x "$package" "$folder/debian" || return 1
    done
    rm -rf "$folder/debs"
    # Of all these Python packages only torch and torchvision are to be seen: the others would shadow the environment's.
    for package in "$folder"/debian/usr/lib/python3/dist-packages/torch*; do
        ln -sfn "$package" "$folder/torch/"
    done
}

if [ -f "$folder/peers-are-here" ] && ! [ -f "$folder/ultralytics-is-here" ]; then
    # shellcheck disable=SC2086 # lists of words
    if torch && "$python" -m pip install --quiet --disable-pip-version-check $ITS_NEEDS &&
        "$python" -m pip install --quiet --disable-pip-version-check --no-deps $ULTRALYTICS; then
        touch "$folder/ultralytics-is-here"
    else
        echo "bench-peers: Ultralytics could not be installed; it will not be measured" >&2
    fi
fi
