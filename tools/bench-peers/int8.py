"""The INT8 model, made as a user makes it: calibrated with pictures, accepted only if it detects as well."""

import os
import subprocess

import places
from child import Failed
from places import YOLOV8N

#: mAP 50-95 that INT8 may lose and still count as the same answer.
MAX_LOSS = 0.005
PICTURES = places.SHARED / "footage/coco-val/images"


def build():
    """What `engine build` says of it: its mAP beside that of the model it was made of."""
    target = YOLOV8N.file("int8")
    said = target.with_suffix(".txt")
    if target.exists() and said.exists():
        return said.read_text()
    if not places.has_python():
        raise Failed("INT8 is made with the Python peers, which are not installed")
    command = [
        places.WATCHPOST, "--log-level", "error", "engine", "build", YOLOV8N.path, "--backend", "cpu", "--precision", "int8",
        "--calibration", PICTURES, "--max-loss", MAX_LOSS, "--output", target,
    ]
    env = {**os.environ, **places.environment(), "WATCHPOST_PYTHON": str(places.PYTHON)}
    done = subprocess.run([str(word) for word in command], env=env, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed((done.stderr.strip().splitlines() or ["engine build said nothing"])[-1])
    said.write_text(done.stdout)
    return done.stdout
