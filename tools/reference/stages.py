#!/usr/bin/env python3
"""Reference numbers for single stages, for the tests. Writes into tests/fixtures/reference/:

  metric.json      made-up detections and truth, and what pycocotools says of them
  resize.json      SHA-256 of what OpenCV's resize makes of made-up pictures
  decode.json      SHA-256 of the photos as OpenCV reads them (red, green, blue)
  pose.json        keypoints of yolov8n-pose on zidane.jpg, in source pixels
  segment.json     masks of yolov8n-seg on bus.jpg: each object's area in source pixels and some points of it

Run from the repository's root, with the environment of evaluate.py:
  /tmp/reference/bin/python tools/reference/stages.py ../shared
"""

import contextlib
import hashlib
import io
import json
import pathlib
import sys

import cv2
import numpy
import onnxruntime
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import evaluate

OUT = pathlib.Path("tests/fixtures/reference")


def metric():
    """Boxes of four classes in seven images; one class has more detections than count, one has no truth."""
    random = numpy.random.default_rng(5)
    truth, found = [], []
    for image in range(1, 8):
        for c in range(3):
            for _ in range(random.integers(0, 5)):
                x, y, w, h = (round(float(v), 2) for v in random.uniform((0, 0, 10, 10), (300, 300, 120, 120)))
                truth.append({"image": image, "class": c, "box": [x, y, w, h]})
                for _ in range(random.integers(0, 4)):
                    box = [round(float(v + d), 2) for v, d in zip((x, y, w, h), random.normal(0, 6, 4))]
                    box[2:] = [max(1.0, v) for v in box[2:]]
                    found.append({"image": image, "class": c, "score": round(float(random.uniform()), 2), "box": box})
        for _ in range(130 if image == 3 else 6):
            box = [round(float(v), 2) for v in random.uniform((0, 0, 5, 5), (300, 300, 150, 150))]
            c = 0 if image == 3 else int(random.integers(0, 4))
            found.append({"image": image, "class": c, "score": round(float(random.uniform()), 2), "box": box})
    data = {
        "images": [{"id": i, "width": 400, "height": 400} for i in range(1, 8)],
        "categories": [{"id": c, "name": str(c)} for c in range(4)],
        "annotations": [
            {"id": i + 1, "image_id": t["image"], "category_id": t["class"], "bbox": t["box"],
             "area": t["box"][2] * t["box"][3], "iscrowd": 0}
            for i, t in enumerate(truth)
        ],
    }
    results = [
        {"image_id": f["image"], "category_id": f["class"], "bbox": f["box"], "score": f["score"]} for f in found
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = data
        coco.createIndex()
        run = COCOeval(coco, coco.loadRes(results), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    # [thresholds, recalls, classes, areas, limits]
    precision = run.eval["precision"][:, :, :, 0, 2]
    classes = [float(precision[:, :, c].mean()) for c in range(3)]
    return {"truth": truth, "found": found, "map_50_95": float(run.stats[0]), "map_50": float(run.stats[1]),
            "per_class": classes}


def made_up(width, height):
    """The same in every language: the top byte of index * 2654435761 mod 2**32."""
    values = (numpy.arange(width * height * 3, dtype=numpy.uint64) * 2654435761 % 2**32) >> 24
    return values.astype(numpy.uint8).reshape(height, width, 3)


def digest(array):
    return hashlib.sha256(numpy.ascontiguousarray(array).tobytes()).hexdigest()


def resize():
    cases = []
    for source, size in [
        ((640, 427), (416, 277)), ((640, 427), (640, 427)), ((375, 500), (480, 640)), ((375, 500), (640, 640)),
        ((640, 480), (320, 240)), ((1920, 1080), (640, 360)), ((33, 57), (320, 320)), ((7, 3), (64, 32)),
        ((1, 1), (5, 4)), ((1000, 2), (64, 1)),
    ]:
        resized = cv2.resize(made_up(*source), size, interpolation=cv2.INTER_LINEAR)
        cases.append({"source": source, "size": size, "sha256": digest(resized)})
    return cases


def pose(shared):
    session = onnxruntime.InferenceSession(str(shared / "models/yolov8n-pose.onnx"))
    image = cv2.imread(str(shared / "footage/photos/zidane.jpg"))
    tensor, (scale_x, scale_y, left, top) = evaluate.ultralytics(image, 640)
    rows = session.run(None, {"images": tensor})[0][0].T
    rows = rows[rows[:, 4] >= 0.5]
    boxes, _, scores = evaluate.suppress(evaluate.corners(rows[:, :4]), numpy.zeros(len(rows), int), rows[:, 4])
    objects = []
    for box, score in zip(boxes, scores):
        row = next(r for r in rows if r[4] == score)
        points = row[5:].reshape(17, 3)
        points[:, 0] = numpy.clip((points[:, 0] - left) / scale_x, 0, image.shape[1])
        points[:, 1] = numpy.clip((points[:, 1] - top) / scale_y, 0, image.shape[0])
        objects.append({"score": float(score), "keypoints": [[round(float(v), 3) for v in p] for p in points]})
    return objects


def segment(shared):
    """Masks as Ultralytics makes them: prototypes summed, enlarged to the tensor, cropped, cut at zero."""
    side = 320
    session = onnxruntime.InferenceSession(str(shared / "models/yolov8n-seg.onnx"))
    image = cv2.imread(str(shared / "footage/photos/bus.jpg"))
    tensor, (scale_x, scale_y, left, top) = evaluate.ultralytics(image, side)
    out, prototypes = session.run(None, {"images": tensor})
    rows = out[0].T
    rows = rows[rows[:, 4:84].max(1) >= 0.5]
    classes, scores = rows[:, 4:84].argmax(1), rows[:, 4:84].max(1)
    boxes, classes, scores = evaluate.suppress(evaluate.corners(rows[:, :4]), classes, scores)
    objects = []
    for box, c, score in zip(boxes, classes, scores):
        row = next(r for r in rows if r[4 + c] == score)
        mask = (row[84:] @ prototypes[0].reshape(32, -1)).reshape(80, 80)
        mask = cv2.resize(mask, (side, side), interpolation=cv2.INTER_LINEAR) > 0
        inside = numpy.zeros((side, side), bool)
        x1, y1, x2, y2 = (int(round(float(v))) for v in box)
        inside[max(0, y1) : y2, max(0, x1) : x2] = True
        mask = (mask & inside).astype(numpy.uint8)
        # The largest piece, its holes filled: what an outline tells.
        borders, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        mask = cv2.drawContours(numpy.zeros_like(mask), [max(borders, key=cv2.contourArea)], -1, 1, -1)
        # Rows and columns of the tensor that belong to it, every fourth pixel: enough for a comparison.
        grid = ["".join("#" if v else "." for v in line) for line in mask[2::4, 2::4]]
        objects.append({"class_id": int(c), "score": float(score), "grid": grid})
    return {"side": side, "step": 4, "scale": [scale_x, scale_y], "offset": [left, top], "objects": objects}


def main():
    shared = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "../shared")
    photos = sorted((shared / "footage/photos").glob("*.jpg"))
    decoded = {photo.name: digest(cv2.imread(str(photo))[:, :, ::-1]) for photo in photos}
    for name, value in [("metric", metric()), ("resize", resize()), ("decode", decoded), ("pose", pose(shared)),
                        ("segment", segment(shared))]:
        (OUT / f"{name}.json").write_text(json.dumps(value) + "\n")
        print(name, (OUT / f"{name}.json").stat().st_size, "bytes")


if __name__ == "__main__":
    main()
