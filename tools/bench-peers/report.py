"""The page: machine, versions, commands, tables, plots."""

import datetime
import os
import pathlib
import platform

import bars
import claims
import live
import places
from figures import DL_STREAMER, median, number, ratios, table
from places import NANO, YOLOV8N

#: More than this at work besides, and the figures are worth nothing.
QUIET_CORES = 0.2


def write(bench, output):
    pictures = output.with_suffix("")
    pictures.mkdir(parents=True, exist_ok=True)
    parts = [heading(bench), claims.part(bench)]
    for section, part in (("offline", offline), ("startup", startup), ("latency", latency), ("live", cameras), ("cost", cost)):
        if bench.values[section]:
            parts.append(part(bench, pictures))
    parts.append(missing(bench))
    output.write_text("\n".join(part.rstrip() + "\n" for part in parts if part))


def heading(bench):
    busiest = max((busy for _, _, busy in bench.loads), default=0.0)
    worth = "The machine was quiet."
    if busiest > QUIET_CORES:
        worth = (
            f"**NOT A QUIET MACHINE: up to {busiest:.1f} cores were busy with something else. CPU times say something, frames per "
            "second and latencies nothing.**"
        )
    if bench.quick:
        worth += " **A quick run: one short round of each.**"
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
    when = datetime.datetime.fromtimestamp(bench.began, datetime.timezone.utc)
    pip = places.output_of([places.PYTHON, "-m", "pip", "list", "--format=freeze"]) if places.has_python() else ""
    names = ("numpy", "onnxruntime", "opencv-python-headless", "ultralytics")
    peers = ", ".join(line.replace("==", " ") for line in pip.splitlines() if line.split("==")[0] in names)
    gst = places.output_of(["gst-launch-1.0", "--version"]).splitlines()
    loads = "; ".join(f"{what}: {load:.1f} ({busy:.2f})" for what, load, busy in bench.loads)
    return f"""# Benchmarks

Written by `make bench-peers` (`tools/bench-peers/`): watchpost beside what people use today, in one run on one machine. Everybody
gets the same clip or camera, model, score threshold (0.35) and IoU (0.45), **one core** and one thread of the engine, and
runs one after the other in each round. Ratios are medians of the ratios within a round. Ratios carry further than milliseconds.

{worth}

- {when:%Y-%m-%d %H:%M} UTC, {places.output_of([places.WATCHPOST, "--version"])} ({bench.commit}), {cpu}, {os.cpu_count()} cores, {platform.machine()}
- {gst[1] if len(gst) > 1 else "GStreamer"}; ours: {pathlib.Path(places.library("onnxruntime-*") or "no ONNX Runtime").name}, {pathlib.Path(places.library("openvino-*") or "no OpenVINO").name}; peers: Python {platform.python_version()}, {peers or "none"}
- Load average before each round (and cores that were busy with something else): {loads}
"""


def offline(bench, pictures):
    values = bench.values["offline"]
    decode = median(values.get(("decode", "limit", "none", ""), []), "cpu_ms")
    text = [
        "## Offline: every frame of a clip\n",
        f"`watchpost detect people-walking-720p.mp4`, H.264 1280x720, one core. *limit*: the same decoder (avdec_h264, {number(decode, 2)} CPU "
        "ms a frame) and the same engine on a tensor that lies ready, one after the other, and nothing else "
        "(`tools/bench-peers/limit`). CPU and memory are the whole process's; loading is not in the times.\n",
    ]
    for model in (NANO, YOLOV8N):
        rows, plot = [], []
        python = values.get((model.name, "Python loop", "onnxruntime", "fp32"))
        for key, got in values.items():
            if key[0] != model.name:
                continue
            _, who, backend, precision = key
            theirs = values.get((model.name, "limit", backend, precision)) if who == "ours" else None
            share = ratios(got, theirs, "fps") if theirs else None
            over = median(got, "cpu_ms") - median(theirs, "cpu_ms") if theirs else None
            times = ratios(got, python, "fps") if python and who != "Python loop" else None
            fps = median(got, "fps")
            rows.append([
                who, f"{backend} {precision}", number(fps), number(median(got, "cpu_ms"), 2), number(median(got, "rss_mib"), 0),
                number(share, 3), number(over, 2), number(times, 2),
            ])
            plot.append((f"{who}, {backend} {precision}", fps))
        fps, cpu, rss, _ = DL_STREAMER[model.name]
        rows.append(["DL Streamer (quoted)", "openvino bf16", number(fps), number(cpu, 2), str(rss), "–", "–", "–"])
        plot.append(("DL Streamer, bf16 (quoted)", fps))
        head = ["who", "engine", "frames/s", "CPU ms a frame", "peak RSS MiB", "of the limit", "CPU ms above the limit", "x Python loop"]
        text += [f"### {model.name}, {model.size}x{model.size}\n", table(head, rows)]
        bars.plot(pictures / f"offline-{model.name}.svg", f"{model.name}, 720p, one core: frames/s", plot, "")
        text.append(f"![frames/s]({pictures.name}/offline-{model.name}.svg)\n")
    text.append(
        "DL Streamer's packages are not for this system: its figures were measured before, on an older processor of the same kind, "
        f"where decoder and engine alone took {number(DL_STREAMER[NANO.name][3])} and {number(DL_STREAMER[YOLOV8N.name][3])} CPU ms a frame.\n"
    )
    # Its verdict; where it put the file is nobody's business.
    if verdict := [" ".join(line.split()) for line in bench.int8.splitlines() if line.startswith("accepted")]:
        text.append(f"INT8 is what `watchpost engine build --precision int8` makes of yolov8n. It said: {verdict[0]}.\n")
    return "\n".join(text)


def startup(bench, pictures):
    rows = [
        [who, backend, model, number(median(got, "first_ms"), 0)] for (model, who, backend), got in bench.values["startup"].items()
    ]
    text = (
        "## From the start of the process to the first detection\n\nRTSP on loopback, 1280x720; the camera begins with a keyframe, so "
        "nobody waits for one.\n\n"
    )
    return text + table(["who", "engine", "model", "ms"], rows)


def latency(bench, pictures):
    values = bench.values["latency"]
    rows, plot = [], []
    for (model, who, backend, precision, rate), got in values.items():
        bare = values.get((model, "limit", backend, precision, rate), [])
        own, least = ([median(whose, f"own_p{share}") for share in (50, 99)] for whose in (got, bare))
        above = [a - b if who == "ours" and a is not None and b is not None else None for a, b in zip(own, least)]
        rows.append([
            who, model, f"{backend} {precision}", rate, number(median(got, "records_per_second")),
            *(number(median(got, f"p{share}")) for share in (50, 95, 99)),
            *(number(one) for one in own), *(number(one) for one in above),
        ])
        if who != "limit":
            plot.append((f"{who}, {model}, {backend} {precision}, {rate}/s", median(got, "p50")))
    bars.plot(pictures / "latency.svg", "Picture handed to the camera's encoder -> record, median", plot, "ms")
    head = ["who", "model", "engine", "asked/s", "got/s", "p50", "p95", "p99", "since arrival p50", "p99", "above decode + engine p50", "p99"]
    text = (
        "## Latency, live\n\nA camera of 1280x720 at 30/s over RTSP (TCP) on loopback, its encoder and this harness on the other core. "
        "Milliseconds from handing the picture to the camera's encoder until its record is read (encoding included); for ours also from "
        "the arrival of its first packet in our process to the record (`latency_ms`), and that above the limit: the bare decoder and engine on "
        "the same camera at the same rate, from a coded picture in front of the decoder to its inference. The camera waits for "
        "acknowledgements (Nagle's algorithm), as sockets do that nobody told otherwise.\n\n"
    )
    return text + table(head, rows) + f"\n![latency]({pictures.name}/latency.svg)\n"


def cameras(bench, pictures):
    values = bench.values["live"]
    rows, plot = [], {}
    for (size, scene, gop, model, who, mode, engine), got in values.items():
        python = values.get((size, scene, gop, model, "Python loop", "", "onnxruntime fp32"))
        per_core = median(got, "cameras_per_core")
        times = ratios(got, python, "cameras_per_core") if python and who != "Python loop" else None
        gop = "with B-frames" if gop == "B" else "IPPP"
        rows.append([
            f"{size} {gop}", scene, model, who, mode or "–", engine, number(median(got, "pictures_per_second"), 0), number(median(got, "detections_per_second")),
            number(median(got, "cpu_ms_per_second"), 0), number(per_core, 1), number(times, 2), number(median(got, "rss_mib"), 0),
        ])
        if mode != "keyframes" and who != "limit":
            plot.setdefault(model, []).append((f"{who} {mode} {engine.split()[1]}, {size} {gop} {scene}", per_core))
    for model, bars_of_it in plot.items():
        bars.plot(pictures / f"cameras-{model}.svg", f"Cameras per core at {live.RATE} detections/s, {model}", bars_of_it, "")
    head = ["camera", "scene", "model", "who", "decode", "engine", "pictures/s", "detections/s", "CPU ms a second", "cameras per core", "x Python loop", "peak RSS MiB"]
    text = (
        f"## Cameras per core at {live.RATE} detections/s\n\nA keyframe every two seconds. `busy`: people walking; `quiet`: an empty "
        f"room with a sensor's noise, `lazy` asleep. Ours: {live.CAMERAS} cameras in one process; the Python loop: a process a camera, which reads "
        "every frame and infers those that are due. *limit*: the bare decoder and engine on the same camera at the same rate, one camera to a process. `keyframes` gives what there is of them (0.5/s here). A row with fewer than 29 pictures/s (but for `keyframes` and `lazy`) "
        "was starved and says nothing.\n\n"
    )
    return text + table(head, rows) + "".join(f"\n![cameras per core]({pictures.name}/cameras-{model}.svg)\n" for model in plot)


def cost(bench, pictures):
    values = bench.values["cost"]
    one = values.get(1)
    rows = [
        [str(count), number(median(got, "cpu_ms_per_detection"), 2),
         number(ratios(got, one, "cpu_ms_per_detection"), 3) if one else "–",
         number(median(got, "detections_per_second"), 2), number(median(got, "rss_mib"), 0)]
        for count, got in values.items()
    ]
    text = (
        "## One camera and 32\n\n640x360 at 10/s, every picture decoded, 2 detections/s each, the demo model on the built-in engine, one core.\n\n"
    )
    return text + table(["cameras", "CPU ms per detection", "of one camera's", "got/s each", "peak RSS MiB"], rows)


def missing(bench):
    if not bench.missing:
        return ""
    return "## Not measured\n\n" + "\n".join(f"- {section} {who}: {why}" for section, who, why in bench.missing) + "\n"
