#!/bin/sh
# End to end: frames per second per core of `watchpost detect` on a clip, every frame inferred, one core.
# WATCHPOST_SHARED names the folder with models and footage; ../shared by default.
set -eu
shared=${WATCHPOST_SHARED:-../shared}
clip=$shared/footage/people-walking-720p.mp4
if [ ! -f "$clip" ]; then
    echo "bench-detect: $clip is not there; set WATCHPOST_SHARED. Nothing was measured." >&2
    exit 0
fi
cargo build --release --locked --bin watchpost
summary=$(mktemp)
trap 'rm -f "$summary"' EXIT
for model in yolox_nano yolov8n; do
    frames=150
    taskset -c 0 target/release/watchpost detect "$clip" -m "$shared/models/$model.onnx" --threads 1 \
        --max-frames $frames -o /dev/null --summary "$summary" --log-level error
    printf '%s, 720p, one core: ' "$model"
    tr -d '\n' <"$summary"
    echo
done
