"""Offline: every frame of a clip, one core, ours and each peer in turn."""

import places
from child import LEAD, Failed, frames_of
from places import NANO, YOLOV8N

#: Who runs which engine in which arithmetic.
ENGINES = (("builtin", "fp32"), ("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"), ("openvino", "int8"))


def ours(model, backend, precision, frames):
    return [
        places.WATCHPOST, "detect", places.CLIP, "-m", model.file(precision), "--backend", backend, "--precision", precision,
        "--threads", 1, "--max-frames", frames + LEAD, "--log-level", "error",
    ]


def limit(model, backend, precision, frames, source=places.CLIP):
    bf16 = ["--bf16"] if precision == "bf16" else []
    return [
        places.LIMIT, source, "--model", model.file(precision), "--backend", backend, "--size", model.size,
        "--max-frames", frames + LEAD, *bf16,
    ]


def python_loop(source, model, *more):
    return [places.PYTHON, places.SCRIPTS / "python_loop.py", source, model.path, "--head", model.head, "--size", model.size, *more]


def ultralytics(source, model, *more):
    return [places.PYTHON, places.SCRIPTS / "ultralytics_loop.py", source, model.path, "--size", model.size, *more]


def contestants(model, frames):
    """Name, command, environment; ours and its limit side by side."""
    rows = []
    for backend, precision in ENGINES:
        if not places.can(model, precision):
            continue
        env = places.environment()
        rows.append((("ours", backend, precision), ours(model, backend, precision, frames), env))
        rows.append((("limit", backend, precision), limit(model, backend, precision, frames), env))
    asked = ("--max-frames", frames + LEAD)
    if places.has_python():
        rows.append((("Python loop", "onnxruntime", "fp32"), python_loop(places.CLIP, model, *asked), {}))
    if places.has_ultralytics() and model is YOLOV8N:
        env = places.ultralytics_environment()
        rows.append((("Ultralytics", "onnxruntime", "fp32"), ultralytics(places.CLIP, model, *asked), env))
    return rows


def run(bench):
    """All rounds; what was measured goes to `bench`, a key for each contestant, a value for each round."""
    frames = {NANO: 60 if bench.quick else 160, YOLOV8N: 30 if bench.quick else 70}
    for round_index in range(1 if bench.quick else 5):
        bench.load(f"offline, round {round_index + 1}")
        for model in (NANO, YOLOV8N):
            for who, command, env in contestants(model, frames[model]):
                try:
                    bench.add("offline", (model.name, *who), frames_of(command, frames[model], env, places.LOG))
                except Failed as failed:
                    bench.miss("offline", (model.name, *who), failed)
    decode = [places.LIMIT, places.CLIP, "--model", NANO.path, "--backend", "none", "--size", 0, "--max-frames", 300]
    bench.add("offline", ("decode", "limit", "none", ""), frames_of(decode, 290, places.environment(), places.LOG))
