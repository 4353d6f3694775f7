"""Live: what a camera costs at 5 detections a second, over RTSP on loopback."""

import json
import time

import daemon
import offline
import places
import streams
from child import Camera, Child, Failed
from places import NANO, YOLOV8N

RATE = 5
#: Model, engine, arithmetic, and what its cameras are told to decode. The first row computes as the Python loop does, the others
#: detect as well (`int8.py`, docs/models.md) in less time.
OURS = (
    (NANO, "onnxruntime", "fp32", ("all", "auto", "keyframes", "lazy")),
    (YOLOV8N, "onnxruntime", "fp32", ("auto",)),
    (YOLOV8N, "openvino", "bf16", ("auto", "lazy")),
    (YOLOV8N, "openvino", "int8", ("auto", "lazy")),
)
#: Size, scene, B-frames, models.
STREAMS = (
    ("720p30", "busy", False, (NANO,)), ("720p30", "quiet", False, (NANO,)), ("720p30", "busy", True, (NANO,)),
    ("1080p30", "busy", False, (NANO, YOLOV8N)), ("1080p30", "quiet", False, (NANO, YOLOV8N)),
    ("1080p30", "busy", True, (NANO, YOLOV8N)),
)
QUICK_STREAMS = (("1080p30", "busy", False, (NANO,)), ("1080p30", "busy", True, (YOLOV8N,)))
#: Cameras of the daemon at one time, so that what they share is shared.
CAMERAS = 2
#: Until all is warm: opened, learnt what may be left out, caches filled.
WARM_SECONDS = 6
#: Until `lazy` sleeps: what stands still counts as furniture only after a minute.
ASLEEP_SECONDS = 80


def run(bench):
    seconds = 4 if bench.quick else 10
    for size, scene, b_frames, models in QUICK_STREAMS if bench.quick else STREAMS:
        bench.load(f"live, {size}, {scene}" + (", B-frames" if b_frames else ""))
        stream = (size, scene, "B" if b_frames else "P")
        try:
            with Camera(places.TESTCAM, streams.camera_arguments(size, scene, b_frames), places.LOG) as camera:
                of_stream(bench, stream, models, camera.urls[0], seconds)
        except Failed as failed:
            bench.miss("live", stream, failed)


def of_stream(bench, stream, models, url, seconds):
    for model, backend, precision, modes in OURS:
        if model not in models or not places.can(model, precision):
            continue
        for mode in modes:
            # Nobody sleeps on a busy street: once is enough to show what it costs there.
            if mode == "lazy" and stream[1] == "busy" and model is not NANO:
                continue
            keys = f'detect_fps = {RATE}\ndecode = "{mode}"'
            config = daemon.config([url] * CAMERAS, model.file(precision), backend, precision, keys)
            warm = ASLEEP_SECONDS if mode == "lazy" and stream[1] == "quiet" and not bench.quick else WARM_SECONDS
            with daemon.start(config) as child:
                note(bench, (*stream, model.name, "ours", mode, f"{backend} {precision}"), child, CAMERAS, warm, seconds)
    for model in models if places.has_python() else ():
        loop = offline.python_loop(url, model, "--interval", 1 / RATE)
        with Child(loop, log=places.LOG) as child:
            note(bench, (*stream, model.name, "Python loop", "", "onnxruntime fp32"), child, 1, WARM_SECONDS, seconds)


def note(bench, key, child, cameras, warm, seconds):
    """What a camera costs once all is warm."""
    try:
        if next(child.detections(30), None) is None:
            raise Failed("no detections within 30 s")
        for _ in child.lines(warm):
            pass
        began, spent = time.monotonic(), child.cpu_seconds()
        records = [json.loads(line) for _, _, line in child.detections(seconds)]
        cpu, took = child.cpu_seconds() - spent, time.monotonic() - began
        child.end()
        bench.add("live", key, {
            "cpu_ms_per_second": cpu / took / cameras * 1e3,
            "cameras_per_core": took * cameras / cpu,
            "detections_per_second": len(records) / took / cameras,
            "pictures_per_second": pictures_per_second(records, took) / cameras,
            "rss_mib": child.max_rss_mib,
        })
    except Failed as failed:
        bench.miss("live", key, failed)


def pictures_per_second(records, took):
    """Pictures that came: `seq` counts them for each camera, also those that nothing was detected in."""
    reach = {}
    for record in records:
        first, _ = reach.get(record.get("camera"), (record["seq"], 0))
        reach[record.get("camera")] = first, record["seq"]
    return sum(last - first for first, last in reach.values()) / took
