"""Where everything is: programs, libraries, models, clips, and what each model is called like."""

import os
import pathlib
import subprocess

from child import Failed

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHARED = pathlib.Path(os.environ.get("WATCHPOST_SHARED", ROOT / "../shared")).resolve()
RELEASE = ROOT / "target/release"
PEERS = ROOT / "target/peers"
WORK = PEERS / "work"
SCRIPTS = pathlib.Path(__file__).resolve().parent / "peers"
LOG = WORK / "stderr.log"

WATCHPOST = RELEASE / "watchpost"
TESTCAM = RELEASE / "watchpost-testcam"
LIMIT = RELEASE / "watchpost-bench-limit"
PYTHON = PEERS / "venv/bin/python"
CLIP = SHARED / "footage/people-walking-720p.mp4"
#: Begins with a room that nobody is in.
ROOM = SHARED / "footage/one-by-one-person-detection.mp4"


class Model:
    def __init__(self, name, size, head):
        self.name, self.size, self.head = name, size, head
        self.path = SHARED / f"models/{name}.onnx"

    def file(self, precision):
        """The file for this arithmetic: INT8 is another model, made by `int8.py`."""
        return WORK / f"{self.name}-int8.onnx" if precision == "int8" else self.path


NANO = Model("yolox_nano", 416, "yolox")
YOLOV8N = Model("yolov8n", 640, "yolov8")


def library(pattern):
    found = sorted((ROOT / "target/engines").glob(pattern))
    return str(found[-1]) if found else None


def environment():
    """For our programs: the libraries that `make engines` has fetched, and an empty cache of our own."""
    variables = {"XDG_CACHE_HOME": str(WORK / "cache"), "RTEN_NUM_THREADS": "1"}
    for name, pattern in (
        ("WATCHPOST_ONNXRUNTIME_LIB", "onnxruntime-*/onnxruntime/capi/libonnxruntime.so*"),
        ("WATCHPOST_OPENVINO_LIB", "openvino-*/openvino/libs/libopenvino_c.so*"),
    ):
        if path := library(pattern):
            variables[name] = path
    return variables


def ultralytics_environment():
    debian = PEERS / "debian"
    folders = ("lib/x86_64-linux-gnu", "usr/lib", "usr/lib/ogdi/4.1", "usr/lib/x86_64-linux-gnu")
    return {
        "LD_LIBRARY_PATH": ":".join(str(debian / folder) for folder in folders),
        "PYTHONPATH": str(PEERS / "torch"),
        "YOLO_CONFIG_DIR": str(PEERS / "ultralytics"),
        "YOLO_OFFLINE": "true",
    }


def has_python():
    return (PEERS / "peers-are-here").exists()


def has_ultralytics():
    return (PEERS / "ultralytics-is-here").exists()


def can(model, precision):
    """Whether there is something to measure: a processor with bfloat16 (AVX-512 or AMX), a model in INT8."""
    if precision == "bf16":
        return "avx512_bf16" in pathlib.Path("/proc/cpuinfo").read_text()
    return model.file(precision).exists()


def check():
    """Says at once what is missing."""
    for path, what in (
        (WATCHPOST, "run `make bench-peers`"),
        (TESTCAM, "run `make bench-peers`"),
        (LIMIT, "run `make bench-peers`"),
        (CLIP, "set WATCHPOST_SHARED to the folder with footage and models"),
        (ROOM, "set WATCHPOST_SHARED"),
        (NANO.path, "set WATCHPOST_SHARED"),
        (YOLOV8N.path, "set WATCHPOST_SHARED"),
    ):
        if not path.exists():
            raise Failed(f"{path} is not there; {what}")
    WORK.mkdir(parents=True, exist_ok=True)


def output_of(command, env=None):
    """First line of what a command prints; empty if it cannot be run."""
    try:
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, env={**os.environ, **(env or {})}, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
