"""Latency over RTSP on loopback: from the camera's picture (before it is encoded) to its record, and beside it what decoder and
engine alone take on the same camera at the same rate: keyframes take several times as long as other pictures, and everything takes
longer on a core that was idle than in a loop."""

import json

import daemon
import offline
import places
from child import Camera, Child, Failed
from places import NANO, YOLOV8N

RATE = 30
SCENE = f"seed=1,width=1280,height=720,fps={RATE}"
#: Who, model, detections a second ("all": every picture of the 30): rates that leave the core idle for half of the time, because what
#: waits in a queue says nothing about the path.
OURS = (
    ("onnxruntime", "fp32", NANO, '"all"'), ("openvino", "bf16", NANO, '"all"'), ("builtin", "fp32", NANO, "10"),
    ("openvino", "bf16", YOLOV8N, "10"), ("openvino", "int8", YOLOV8N, "10"),
)


def run(bench):
    seconds = 6 if bench.quick else 15
    log = places.WORK / "frames.log"
    arguments = ["--scene", SCENE, "--high-profile", "--bitrate-kbps", 3000, "--gop", 30, "--nagle", "--frame-log", log]
    bench.load("latency")
    with Camera(places.TESTCAM, arguments, places.LOG) as camera:
        url = camera.urls[0]
        for backend, precision, model, rate in OURS[:2] if bench.quick else OURS:
            if not places.can(model, precision):
                continue
            keys = f"detect_fps = {rate}\nread_stamp = true"
            config = daemon.config([url], model.file(precision), backend, precision, keys)
            key = (model.name, "ours", backend, precision, rate.strip('"'))
            with daemon.start(config) as child:
                note(bench, key, child, log, seconds)
            every = 1 if rate == '"all"' else RATE // int(rate)
            command = [*offline.limit(model, backend, precision, 1 << 40, url), "--every", every]
            bare(bench, (model.name, "limit", backend, precision, rate.strip('"')), command, seconds)
        if places.has_python():
            with Child(offline.python_loop(url, NANO, "--stamp"), log=places.LOG) as child:
                note(bench, (NANO.name, "Python loop", "onnxruntime", "fp32", "all"), child, log, seconds)
        if places.has_ultralytics() and not bench.quick:
            env = places.ultralytics_environment()
            with Child(offline.ultralytics(url, YOLOV8N, "--stamp"), env, log=places.LOG) as child:
                note(bench, (YOLOV8N.name, "Ultralytics", "onnxruntime", "fp32", "all"), child, log, seconds)


def bare(bench, key, command, seconds):
    """The bare decoder and engine on the same camera at the same rate: from a coded picture in front of the decoder to its
    inference."""
    try:
        with Child(command, places.environment(), log=places.LOG) as child:
            if next(child.detections(60), None) is None:
                raise Failed("no pictures within 60 s")
            for _ in child.lines(2):
                pass
            times = [json.loads(line)["latency_ms"] for _, _, line in child.detections(seconds)]
        if not times:
            raise Failed("no pictures")
        bench.add("latency", key, {"records_per_second": len(times) / seconds, **percentiles(times, "own_")})
    except Failed as failed:
        bench.miss("latency", key, failed)


def note(bench, key, child, log, seconds):
    try:
        if next(child.detections(60), None) is None:
            raise Failed("no detections within 60 s")
        for _ in child.lines(2):
            pass
        records = [(wall_ns, json.loads(line)) for _, wall_ns, line in child.detections(seconds)]
        child.end()
        handed = dict(map(int, line.split()) for line in log.read_text().splitlines() if line.count(" ") == 1)
        whole = [(wall_ns - handed[r["stamp"]]) / 1e6 for wall_ns, r in records if r.get("stamp") in handed]
        own = [r["latency_ms"] for _, r in records if r.get("latency_ms") is not None]
        if not whole:
            raise Failed(f"none of {len(records)} records had a readable frame number")
        value = {"records_per_second": len(records) / seconds, **percentiles(whole, "")}
        bench.add("latency", key, value | (percentiles(own, "own_") if own else {}))
    except Failed as failed:
        bench.miss("latency", key, failed)


def percentiles(times, prefix):
    times = sorted(times)
    return {f"{prefix}p{share}": times[min(len(times) - 1, len(times) * share // 100)] for share in (50, 95, 99)}
