#!/usr/bin/env python3
"""Reference tracks and figures for tests/tracking: ByteTrack as `supervision` (the authors' code, ported) and `trackers`
(rewritten, also over time stamps) have it, on the same boxes, judged by py-motmetrics.

  WATCHPOST_TRACKS=/tmp/boxes cargo test --test tracking
  python3 -m venv /tmp/reference
  /tmp/reference/bin/pip install supervision==0.26.1 trackers==2.6.1 motmetrics==1.4.0
  /tmp/reference/bin/python tools/reference/tracks.py scenes /tmp/boxes
  watchpost detect CLIP -m yolov8n --score-threshold 0.1 --classes person -o /tmp/clip.jsonl
  /tmp/reference/bin/python tools/reference/tracks.py clip NAME FPS FRAMES /tmp/clip.jsonl

Writes tests/fixtures/tracking/scenes.json: by scene a hash of its boxes and the figures of each implementation;
metrics.txt, one scene with its truth and one reference's tracks, for checking our own MOTA and IDF1; and NAME.clip: the
boxes of a real clip with the reference's identities at the full frame rate, and how well each implementation finds
those again when it sees only some of the frames.
"""

import argparse
import collections
import json
import pathlib
import warnings

import motmetrics
import numpy
import supervision
from trackers import ByteTrackTracker

warnings.simplefilter("ignore")
OUT = pathlib.Path("tests/fixtures/tracking")
HIGH_SCORE = 0.35
KEEP_S = 2.0
METRICS_SCENE = ("crossing", "0", "supervision")


def fnv(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) % (1 << 64)
    return f"{value:016x}"


def supervised(fps, high, matching=0.8):
    """The authors' code: counts frames. New tracks need `high` + 0.1."""
    tracker = supervision.ByteTrack(high, round(KEEP_S * 30), matching, fps)

    def update(_seconds, detections):
        return tracker.update_with_detections(detections)

    return update


def rewritten(fps, timed):
    tracker = ByteTrackTracker(
        lost_track_buffer=round(KEEP_S * 30),
        frame_rate=fps,
        track_activation_threshold=HIGH_SCORE,
        high_conf_det_threshold=HIGH_SCORE,
    )

    def update(seconds, detections):
        found = tracker.update(detections, timestamp=seconds if timed else None)
        return found[found.tracker_id >= 0]

    return update


IMPLEMENTATIONS = {
    "supervision": lambda fps: supervised(fps, HIGH_SCORE),
    "supervision-0.25": lambda fps: supervised(fps, 0.25),
    "trackers": lambda fps: rewritten(fps, False),
    "trackers-timed": lambda fps: rewritten(fps, True),
}


def run(make, fps, frames):
    """`frames`: (seconds, rows of class, score, x1, y1, x2, y2). By frame: rows of id, x1, y1, x2, y2."""
    update, tracks = make(fps), []
    for seconds, rows in frames:
        rows = numpy.array(rows, numpy.float32).reshape(-1, 6)
        rows = rows[rows[:, 1] >= 0.1]
        detections = supervision.Detections(
            xyxy=rows[:, 2:6], confidence=rows[:, 1], class_id=rows[:, 0].astype(int)
        )
        found = update(seconds, detections)
        ids = found.tracker_id if found.tracker_id is not None else []
        tracks.append([(int(i), *(float(v) for v in box)) for i, box in zip(ids, found.xyxy)])
    return tracks


def distances(wanted, found):
    """1 - IoU; not a number where that is above a half."""
    wanted = numpy.array([row[1:] for row in wanted], float).reshape(-1, 1, 4)
    found = numpy.array([row[1:] for row in found], float).reshape(1, -1, 4)
    low, high = numpy.maximum(wanted[..., :2], found[..., :2]), numpy.minimum(wanted[..., 2:], found[..., 2:])
    common = numpy.prod(numpy.clip(high - low, 0, None), 2)
    areas = [numpy.prod(boxes[..., 2:] - boxes[..., :2], 2) for boxes in (wanted, found)]
    overlap = common / (areas[0] + areas[1] - common)
    return numpy.where(overlap >= 0.5, 1 - overlap, numpy.nan)


def judge(truth, tracks):
    accumulator = motmetrics.MOTAccumulator(auto_id=True)
    for wanted, found in zip(truth, tracks):
        accumulator.update([row[0] for row in wanted], [row[0] for row in found], distances(wanted, found))
    names = ["mota", "idf1", "num_switches", "num_misses", "num_false_positives"]
    summary = motmetrics.metrics.create().compute(accumulator, metrics=names, name="it")
    values = [summary[name].iloc[0] for name in names]
    return dict(zip(["mota", "idf1"], (round(float(v), 6) for v in values))) | dict(
        zip(["switches", "misses", "false_positives"], (int(v) for v in values[2:]))
    )


def read(path, width):
    frames = []
    for line in path.read_text().splitlines():
        if line.startswith("fps"):
            continue
        ms, *rows = line.split(";")
        frames.append((int(ms) / 1000, [tuple(float(v) for v in row.split(" ")) for row in rows]))
    assert all(len(row) == width for _, rows in frames for row in rows)
    return frames


def means(rows):
    """Of several runs; a count is the sum."""
    figures = {key: round(sum(row[key] for row in rows) / len(rows), 6) for key in ("mota", "idf1")}
    return figures | {"switches": sum(row["switches"] for row in rows)}


def scenes(folder):
    """By scene and implementation, MOTA, IDF1 and switches of each variation."""
    report = {}
    for boxes in sorted(folder.glob("*.boxes"), key=lambda path: (path.stem.split(".")[0], int(path.stem.split(".")[1]))):
        name, variation = boxes.stem.split(".")
        fps = int(boxes.read_text().split()[1])
        truth_file = boxes.with_suffix(".truth")
        frames, truth = read(boxes, 6), [rows for _, rows in read(truth_file, 5)]
        entry = report.setdefault(name, {"boxes": []} | {name: [] for name in IMPLEMENTATIONS})
        entry["boxes"].append(fnv(boxes.read_bytes() + truth_file.read_bytes()))
        for implementation, make in IMPLEMENTATIONS.items():
            tracks = run(make, fps, frames)
            entry[implementation].append(judge(truth, tracks))
            if (name, variation, implementation) == METRICS_SCENE:
                metrics(truth, tracks)
    for name, entry in report.items():
        print(name)
        for implementation in IMPLEMENTATIONS:
            rows = entry[implementation]
            print("   ", f"{implementation:17}", means(rows))
            entry[implementation] = [[row["mota"], row["idf1"], row["switches"]] for row in rows]
    (OUT / "scenes.json").write_text(json.dumps(report) + "\n")


def metrics(truth, tracks):
    """A frame a line: truth, then tracks, rows of id, x1, y1, x2, y2."""
    def text(rows):
        return ";".join(" ".join(f"{v:g}" for v in (row[0], *(round(v, 1) for v in row[1:]))) for row in rows)

    rounded = [[(row[0], *(round(v, 1) for v in row[1:])) for row in rows] for rows in tracks]
    figures = judge([[(row[0], *(round(v, 1) for v in row[1:])) for row in rows] for rows in truth], rounded)
    lines = [json.dumps(figures)] + [f"{text(a)}|{text(b)}" for a, b in zip(truth, tracks)]
    (OUT / "metrics.txt").write_text("\n".join(lines) + "\n")


def agreed(one, other):
    """The tracks that two implementations agree on from beginning to end, but for a frame in twenty."""
    together, of_one, of_other = (collections.Counter() for _ in range(3))
    for rows, others in zip(one, other):
        ids = {row[1:]: row[0] for row in others}
        pairs = [(row[0], ids[row[1:]]) for row in rows if row[1:] in ids]
        together.update(pairs)
        of_one.update(a for a, _ in pairs)
        of_other.update(b for _, b in pairs)
    kept = {a for (a, b), count in together.items() if count >= 0.95 * max(of_one[a], of_other[b])}
    print(f"{len(kept)} of {len(of_one)} tracks are agreed on")
    return [[row for row in rows if row[0] in kept] for rows in one]


# What looking at the pictures of the tracks has shown: from this frame on a track is somebody else, or nobody can say
# who. Both references take a woman in white trousers for the man who went out of the picture where she came in.
ENDS = {
    "people-walking": {11: 37, 22: 300, 25: 215, 31: 170, 32: 107, 35: 167},
    "people-walking-yolox": {2: 138, 4: 34, 6: 27, 7: 3, 8: 14, 14: 222, 33: 93, 37: 178, 40: 160, 42: 138},
}

def corrected(name, whole):
    """The tracks as far as they are right."""
    ends = ENDS.get(name, {})
    return [[row for row in rows if number < ends.get(row[0], len(whole))] for number, rows in enumerate(whole)]


def clip(name, fps, label, frames_max, records):
    frames = []
    for number, line in enumerate(records.read_text().splitlines()[:frames_max]):
        rows = [
            (o["class_id"], round(o["score"], 2), *(round(v) for v in o["box"]))
            for o in json.loads(line)["objects"]
            if o["label"] == label
        ]
        frames.append((round(number * 1000 / fps) / 1000, rows))
    whole = agreed(*(run(IMPLEMENTATIONS[name], round(fps), frames) for name in ("supervision", "trackers")))
    whole = corrected(name, whole)
    figures = {}
    for rate in (fps, 10, 5, 3):
        every = max(round(fps / rate), 1)
        if every in figures:
            continue
        figures[every] = {}
        for implementation, make in IMPLEMENTATIONS.items():
            # Each frame is the first once: where one begins is luck.
            rows = []
            for first in range(every):
                tracks = run(make, max(round(fps / every), 1), frames[first::every])
                # Who tracks more boxes is neither better nor worse for it.
                kept = [
                    [row for row in found if row[1:] in {row[1:] for row in wanted}]
                    for wanted, found in zip(whole[first::every], tracks)
                ]
                rows.append(judge(whole[first::every], kept))
            figures[every][implementation] = means(rows)
        print(every, *(f"\n    {k:17} {v}" for k, v in figures[every].items()))
    lines = [json.dumps(figures)]
    for (seconds, rows), tracks in zip(frames, whole):
        ids = {tuple(round(v) for v in row[1:]): row[0] for row in tracks}
        text = (f"{c} {s:g} {x1} {y1} {x2} {y2} {ids.get((x1, y1, x2, y2), 0)}" for c, s, x1, y1, x2, y2 in rows)
        lines.append(";".join([str(round(seconds * 1000)), *text]))
    (OUT / f"{name}.clip").write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("scenes")
    command.add_argument("folder", type=pathlib.Path)
    command = commands.add_parser("clip")
    command.add_argument("name")
    command.add_argument("fps", type=float)
    command.add_argument("label")
    command.add_argument("frames", type=int)
    command.add_argument("records", type=pathlib.Path)
    options = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    if options.command == "scenes":
        scenes(options.folder)
    else:
        clip(options.name, options.fps, options.label, options.frames, options.records)


if __name__ == "__main__":
    main()
