"""Frames of the procedural scene as arrays: rendered, sent through a video codec, halved to the net's width."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

WIDTH, HEIGHT, FPS = 640, 360, 15
FRAME_BYTES = WIDTH * HEIGHT * 3 // 2

# What lies between the camera and the detector, as GStreamer elements.
CODECS = {
    "h264-1500": "x264enc bitrate=1500 threads=1 ! h264parse ! avdec_h264",
    "h264-3000": "x264enc bitrate=3000 speed-preset=veryfast threads=1 ! h264parse ! avdec_h264",
    "h264-6000": "x264enc bitrate=6000 speed-preset=veryfast threads=1 ! h264parse ! avdec_h264",
    "jpeg-35": "jpegenc quality=35 ! jpegdec",
    "jpeg-85": "jpegenc quality=85 ! jpegdec",
}


@dataclass
class Clip:
    """Frames [N, 180, 320, 3] as RGB bytes, and the objects of each as the renderer's JSON has them."""

    rgb: np.ndarray
    objects: list


def render(renderer: Path, folder: Path, first_seed: int, end_seed: int, frames: int, start: int, step: int,
           codec: str) -> Clip:
    """Renders `frames` frames of every seed and sends them through `codec` as one stream."""
    prefix = folder / f"clip-{first_seed}"
    subprocess.run(
        [renderer, "--out", prefix, "--seeds", f"{first_seed}..{end_seed}", "--frames", str(frames),
         "--start", str(start), "--step", str(step),
         "--width", str(WIDTH), "--height", str(HEIGHT), "--fps", str(FPS)],
        check=True)
    raw, decoded, truth = (Path(f"{prefix}.{kind}") for kind in ("i420", "decoded", "jsonl"))
    pipeline = (f"filesrc location={raw} ! rawvideoparse format=i420 width={WIDTH} height={HEIGHT} "
                f"framerate={FPS}/1 ! {CODECS[codec]} ! videoconvert ! video/x-raw,format=I420 ! "
                f"filesink location={decoded}")
    subprocess.run(["gst-launch-1.0", "-q", *pipeline.split()], check=True)
    objects = [json.loads(line)["objects"] for line in truth.read_text().splitlines()]
    pixels = np.fromfile(decoded, dtype=np.uint8)
    original = np.fromfile(raw, dtype=np.uint8, count=FRAME_BYTES)
    if pixels.size != len(objects) * FRAME_BYTES:
        raise SystemExit(f"{codec} returned {pixels.size / FRAME_BYTES} frames of {len(objects)}")
    error = np.square(pixels[:FRAME_BYTES].astype(np.float32) - original).mean()
    if error > 400:
        raise SystemExit(f"{codec} returned another picture than it was given (mean square error {error:.0f})")
    for file in (raw, decoded, truth):
        file.unlink()
    return Clip(halve(pixels.reshape(-1, FRAME_BYTES)), objects)


def halve(frames: np.ndarray) -> np.ndarray:
    """I420 frames to RGB at half size, by BT.601 limited range. Halving is exact: 2x2 luma samples to one chroma."""
    out = np.empty((len(frames), HEIGHT // 2, WIDTH // 2, 3), np.uint8)
    luma_bytes = WIDTH * HEIGHT
    for index, frame in enumerate(frames):
        y = frame[:luma_bytes].reshape(HEIGHT // 2, 2, WIDTH // 2, 2).astype(np.float32).mean((1, 3))
        u, v = frame[luma_bytes:].reshape(2, HEIGHT // 2, WIDTH // 2).astype(np.float32) - 128
        y = 1.164383 * (y - 16)
        rgb = np.stack([y + 1.596027 * v, y - 0.391762 * u - 0.812968 * v, y + 2.017232 * u], -1)
        out[index] = np.clip(rgb + 0.5, 0, 255)
    return out
