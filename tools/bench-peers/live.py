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
#: Of the cameras.
FPS = 30
#: Model, engine, arithmetic. In fp32 they compute what the Python loop does; in bf16 and INT8 they detect as well (`int8.py`,
#: docs/models.md) in less time.
OURS = (
    (NANO, "onnxruntime", "fp32"), (NANO, "openvino", "bf16"),
    (YOLOV8N, "onnxruntime", "fp32"), (YOLOV8N, "openvino", "bf16"), (YOLOV8N, "openvino", "int8"),
)
#: What cameras are told to decode, by scene. Nobody sleeps on a busy street: `lazy` is there to show what it costs.
MODES = {"busy": ("all", "auto", "keyframes", "lazy"), "quiet": ("auto", "lazy", "lazy, motion_gate")}
#: The same for other engines and the larger model, where less has to be shown.
MODES_OF_OTHERS = {"busy": ("auto",), "quiet": ("lazy",)}
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
#: Until `lazy` sleeps: nothing has moved for `motion_hold`, and the stream's sizes are known.
ASLEEP_SECONDS = 30
#: What is looked for: a table that stands there would keep a camera awake for a minute.
CLASSES = 'classes = ["person", "car"]'


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
    is_quiet = stream[1] == "quiet"
    for model, backend, precision in OURS:
        if model not in models or not places.can(model, precision):
            continue
        # The smaller stream shows what a smaller stream costs, and no more.
        if stream[0] == "720p30" and precision != "fp32":
            continue
        for mode in (MODES if (model, precision) == (NANO, "fp32") else MODES_OF_OTHERS)[stream[1]]:
            decode, *gate = mode.split(", ")
            keys = "\n".join([f'detect_fps = {RATE}\ndecode = "{decode}"', CLASSES, *(f"{key} = true" for key in gate)])
            config = daemon.config([url] * CAMERAS, model.file(precision), backend, precision, keys)
            warm = ASLEEP_SECONDS if decode == "lazy" and is_quiet else WARM_SECONDS
            with daemon.start(config) as child:
                note(bench, (*stream, model.name, "ours", mode, f"{backend} {precision}"), child, CAMERAS, warm, seconds)
        if stream[:2] == ("1080p30", "busy"):
            # Two of three pictures of the camera with B-frames are needed by no other: the limit leaves them out.
            leaves_out = stream[2] == "B"
            every = FPS // RATE // (3 if leaves_out else 1)
            bare = [*offline.limit(model, backend, precision, 1 << 40, url), "--every", every, *["--references"] * leaves_out]
            mode = "reference" if leaves_out else "all"
            with Child(bare, places.environment(), log=places.LOG) as child:
                note(bench, (*stream, model.name, "limit", mode, f"{backend} {precision}"), child, 1, WARM_SECONDS, seconds)
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
