#!/bin/sh
# Installs the Debian packages that building, testing and the demo need, if any is missing.
# Says what it installs. Does nothing, and needs no network, when all are there.
set -eu

# To build: the C compiler that Rust links with, g++ for the host build of the CUDA kernels (tests), and GStreamer's headers.
BUILD="gcc g++ libc6-dev pkg-config libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev"
# To run: sources and parsers, decoders (libav), TLS for rtsps://.
RUN="gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-libav glib-networking"
# For tests of labels in many scripts: Latin, Cyrillic, Arabic, Hebrew; Chinese, Japanese, Korean; Devanagari (8 MB together).
FONTS="fonts-dejavu-core fonts-wqy-microhei fonts-lohit-deva"
# For the test camera only: an RTSP server, and x264 (ugly) to encode with.
TESTCAM="libgstrtspserver-1.0-dev gstreamer1.0-plugins-ugly"
# For tests only: tools/cpu-engines.sh unpacks the wheels of ONNX Runtime and OpenVINO with it.
ENGINES="python3-pip"
# For the tests of networks, which they make for themselves where root may: ip, mount, unshare.
NETWORKS="iproute2 mount util-linux"

if ! command -v dpkg-query >/dev/null 2>&1; then
    echo "deps: this is not a Debian-like system; install the counterparts of: $BUILD $RUN $FONTS $TESTCAM $ENGINES $NETWORKS" >&2
    exit 0
fi

missing=""
for package in $BUILD $RUN $FONTS $TESTCAM $ENGINES $NETWORKS; do
    status=$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null || true)
    [ "$status" = "install ok installed" ] || missing="$missing $package"
done

if ! command -v cargo >/dev/null 2>&1; then
    echo "deps: cargo is not on the PATH; install Rust 1.92 or newer (https://rustup.rs), then try again" >&2
    exit 1
fi

[ -n "$missing" ] || exit 0

echo "deps: installing the Debian packages:$missing" >&2
as_root=""
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || {
        echo "deps: run as root: apt-get install$missing" >&2
        exit 1
    }
    as_root="sudo"
fi
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq
# shellcheck disable=SC2086 # a list of words
$as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
