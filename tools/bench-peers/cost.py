"""Whether a camera costs the same when it is one of 32."""

import time

import daemon
import places
from child import Camera, Failed

COUNTS = (1, 4, 16, 32)
#: Small, so that 32 of them fit on one core; with the demo model.
SCENE = "seed=1,width=640,height=360,fps=10"
RATE = 2


def run(bench):
    seconds = 5 if bench.quick else 10
    for round_index in range(1 if bench.quick else 2):
        bench.load(f"1 to 32 cameras, round {round_index + 1}")
        with Camera(places.TESTCAM, ["--scene", SCENE, "--high-profile", "--bitrate-kbps", 500], places.LOG) as camera:
            for count in (1, 8, 32) if bench.quick else COUNTS:
                config = daemon.config([camera.urls[0]] * count, camera_keys=f"detect_fps = {RATE}\ndecode = \"all\"")
                with daemon.start(config) as child:
                    note(bench, count, child, seconds)


def note(bench, count, child, seconds):
    try:
        seen = set()
        deadline = time.monotonic() + 30
        for at, _, line in child.detections(30):
            seen.add(line.split(b'"camera":')[1].split(b",")[0])
            if len(seen) == count or at > deadline:
                break
        if len(seen) < count:
            raise Failed(f"only {len(seen)} of {count} cameras came up")
        for _ in child.lines(2):
            pass
        began, spent = time.monotonic(), child.cpu_seconds()
        detections = sum(1 for _ in child.detections(seconds))
        cpu, took = child.cpu_seconds() - spent, time.monotonic() - began
        child.end()
        bench.add("cost", count, {
            "cpu_ms_per_detection": cpu / max(1, detections) * 1e3,
            "detections_per_second": detections / took / count,
            "rss_mib": child.max_rss_mib,
        })
    except Failed as failed:
        bench.miss("cost", count, failed)
