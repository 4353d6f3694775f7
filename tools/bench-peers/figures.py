"""Figures: medians and ratios over the rounds, what is quoted, tables."""

import statistics

from places import NANO, YOLOV8N

#: Measured in an earlier run on the same kind of processor (Zen 4 with bfloat16, one core), 720p, every frame; its packages
#: are not for this system, so it cannot run here. Frames/s, CPU ms a frame, peak MiB, and the CPU ms of the decoder and the engine
#: alone on that machine.
DL_STREAMER = {NANO.name: (61.0, 16.4, 171, 1.9 + 10.8), YOLOV8N.name: (18.3, 54.4, 184, 1.9 + 47.5)}


def median(values, name):
    found = [value[name] for value in values if name in value]
    return statistics.median(found) if found else None


def ratios(ours, theirs, name):
    """Median of the ratios within each round."""
    pairs = [(a[name], b[name]) for a, b in zip(ours, theirs)]
    return statistics.median(a / b for a, b in pairs) if pairs else None


def number(value, digits=1):
    return "–" if value is None else f"{value:.{digits}f}"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"
