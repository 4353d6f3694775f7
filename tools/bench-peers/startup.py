"""From the start of a process to its first detection, over RTSP on loopback."""

import daemon
import offline
import places
from child import Camera, Child, Failed
from places import NANO, YOLOV8N

SCENE = "seed=1,width=1280,height=720,fps=30"


def run(bench):
    for round_index in range(1 if bench.quick else 3):
        bench.load(f"first detection, round {round_index + 1}")
        for model in (NANO,):
            for backend in ("builtin", "onnxruntime", "openvino"):
                def ours(url, model=model, backend=backend):
                    return daemon.start(daemon.config([url], model.path, backend, "fp32", "detect_fps = 5"))
                once(bench, (model.name, "ours", backend), ours)
        if places.has_python():
            def loop(url):
                return Child(offline.python_loop(url, NANO), log=places.LOG)
            once(bench, (NANO.name, "Python loop", "onnxruntime"), loop)
        if places.has_ultralytics() and round_index == 0 and not bench.quick:
            def ultralytics(url):
                return Child(offline.ultralytics(url, YOLOV8N), places.ultralytics_environment(), log=places.LOG)
            once(bench, (YOLOV8N.name, "Ultralytics", "onnxruntime"), ultralytics)


def once(bench, key, start):
    """A camera of its own, whose stream begins with the first client's keyframe: nobody waits for one."""
    try:
        with Camera(places.TESTCAM, ["--scene", SCENE, "--high-profile", "--bitrate-kbps", 3000], places.LOG) as camera:
            with start(camera.urls[0]) as child:
                first = next(child.detections(60), None)
                if first is None:
                    raise Failed("no detections within 60 s")
                bench.add("startup", key, {"first_ms": (first[0] - child.started_at) * 1e3})
    except Failed as failed:
        bench.miss("startup", key, failed)
