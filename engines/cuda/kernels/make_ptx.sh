#!/bin/sh
# Compiles letterbox.cu to the PTX that is committed beside it. Needs python3 with venv, and a package index.
#
# NVRTC 11.8 because its PTX (ISA 7.8) is taken by every driver of CUDA 12, from 525 on, and by JetPack 6; NVRTC 12.2 writes
# ISA 8.2, which takes a driver of 535. 12.9 and later write what JetPack 6 refuses.
set -eu

VERSION=11.8.89
here=$(cd "$(dirname "$0")" && pwd)
venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT

python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check "nvidia-cuda-nvrtc-cu11==$VERSION"
library=$(find "$venv" -name 'libnvrtc.so.*' -print -quit)
# Its own second library is looked for by name.
LD_LIBRARY_PATH=$(dirname "$library") "$venv/bin/python" "$here/make_ptx.py" "$library" "$VERSION" "$here"
