"""Live: what a camera costs at 5 detections a second, over RTSP on loopback."""

import json
import time

import daemon
import offline
import places
import streams
from child import Camera, Child, Failed
from places import NANO

RATE = 5
#: What the daemon's cameras are told, one key of the configuration each.
MODES = ("all", "auto", "keyframes", "lazy")
#: The engine that everybody has in the same arithmetic, and what our `auto` may take where the processor has it.
BACKENDS = (("onnxruntime", "fp32"),)
#: Size, scene, B-frames.
STREAMS = (
    ("720p30", "busy", False), ("720p30", "quiet", False), ("720p30", "busy", True),
    ("1080p30", "busy", False), ("1080p30", "quiet", False), ("1080p30", "busy", True),
)
QUICK_STREAMS = (("1080p30", "busy", False), ("1080p30", "busy", True))
#: Cameras of the daemon at one time, so that what they share is shared.
CAMERAS = 2


def run(bench):
    seconds = 4 if bench.quick else 10
    for size, scene, b_frames in QUICK_STREAMS if bench.quick else STREAMS:
        bench.load(f"live, {size}, {scene}" + (", B-frames" if b_frames else ""))
        try:
            with Camera(places.TESTCAM, streams.camera_arguments(size, scene, b_frames), places.LOG) as camera:
                of_stream(bench, (size, scene, "B" if b_frames else "P"), camera.urls[0], seconds)
        except Failed as failed:
            bench.miss("live", (size, scene, "B" if b_frames else "P"), failed)


def of_stream(bench, stream, url, seconds):
    for mode in MODES:
        for backend, precision in BACKENDS:
            keys = f'detect_fps = {RATE}\ndecode = "{mode}"'
            config = daemon.config([url] * CAMERAS, NANO.path, backend, precision, keys)
            with daemon.start(config) as child:
                note(bench, (*stream, "ours", mode, backend), child, CAMERAS, seconds)
    if places.has_python():
        loop = offline.python_loop(url, NANO, "--interval", 1 / RATE)
        with Child(loop, log=places.LOG) as child:
            note(bench, (*stream, "Python loop", "", "onnxruntime"), child, 1, seconds)


def note(bench, key, child, cameras, seconds):
    """What a camera costs once all is warm: opened, learnt what may be left out, caches filled."""
    try:
        first = next(child.detections(30), None)
        if first is None:
            raise Failed("no detections within 30 s")
        for _ in child.lines(4 if seconds < 10 else 6):
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
