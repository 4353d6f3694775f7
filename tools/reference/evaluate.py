#!/usr/bin/env python3
"""Reference figures for `watchpost eval`: each model through plain ONNX Runtime with the preprocessing of its own
tool (OpenCV), the published formula of its head, and pycocotools.

Writes tests/fixtures/reference/eval.json: {MODEL: {"map_50_95", "map_50"}}, and with --results DIR the detections of
each model in COCO's format. With --check FILE (of `watchpost eval --results FILE`) it evaluates those detections with
pycocotools and prints the two figures, to compare with what `watchpost eval` itself said.

  python3 -m venv /tmp/reference
  /tmp/reference/bin/pip install onnxruntime opencv-python-headless numpy pycocotools
  /tmp/reference/bin/python tools/reference/evaluate.py ../shared
"""

import argparse
import contextlib
import io
import json
import pathlib

import cv2
import numpy
import onnxruntime
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

SCORE_THRESHOLD = 0.001
IOU_THRESHOLD = 0.65
OBJECTS_MAX = 1000
PAD = 114


def letterbox(image, width, height, centred):
    """Aspect kept, bilinear, the rest padded: Ultralytics' LetterBox, YOLOX's preproc."""
    scale = min(width / image.shape[1], height / image.shape[0])
    if centred:
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    else:
        size = (int(image.shape[1] * scale), int(image.shape[0] * scale))
    left = (width - size[0]) // 2 if centred else 0
    top = (height - size[1]) // 2 if centred else 0
    canvas = numpy.full((height, width, 3), PAD, numpy.uint8)
    canvas[top : top + size[1], left : left + size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    scale_x, scale_y = size[0] / image.shape[1], size[1] / image.shape[0]
    return canvas, (scale_x, scale_y, left, top)


def stretch(image, width, height):
    canvas = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return canvas, (width / image.shape[1], height / image.shape[0], 0, 0)


def planes(picture):
    return numpy.ascontiguousarray(picture.transpose(2, 0, 1)[None].astype(numpy.float32))


def ultralytics(image, side):
    picture, back = letterbox(image, side, side, True)
    return planes(picture[:, :, ::-1]) / numpy.float32(255), back


def yolox(image, side):
    picture, back = letterbox(image, side, side, False)
    return planes(picture), back


def nanodet(image, side):
    picture, back = stretch(image, side, side)
    mean = numpy.array([103.53, 116.28, 123.675], numpy.float32)
    std = numpy.array([57.375, 57.12, 58.395], numpy.float32)
    return planes((picture.astype(numpy.float32) - mean) / std), back


def detr(image, side):
    picture, back = stretch(image, side, side)
    return planes(picture[:, :, ::-1]) / numpy.float32(255), back


def corners(boxes):
    return numpy.concatenate((boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2), 1)


def best(boxes, scores):
    """Of each box its best class, then NMS within each class."""
    classes, top = scores.argmax(1), scores.max(1)
    there = top >= SCORE_THRESHOLD
    boxes, classes, top = boxes[there], classes[there], top[there]
    return suppress(boxes, classes, top)


def suppress(boxes, classes, scores):
    kept = []
    for c in numpy.unique(classes):
        index = numpy.flatnonzero(classes == c)
        index = index[numpy.argsort(-scores[index], kind="stable")]
        while index.size:
            first, rest = index[0], index[1:]
            kept.append(first)
            left_top = numpy.maximum(boxes[first, :2], boxes[rest, :2])
            right_bottom = numpy.minimum(boxes[first, 2:], boxes[rest, 2:])
            common = numpy.prod(numpy.clip(right_bottom - left_top, 0, None), 1)
            area = numpy.prod(boxes[rest, 2:] - boxes[rest, :2], 1)
            union = numpy.prod(boxes[first, 2:] - boxes[first, :2]) + area - common
            index = rest[common <= IOU_THRESHOLD * union]
    kept = numpy.array(kept, int)
    kept = kept[numpy.argsort(-scores[kept], kind="stable")][:OBJECTS_MAX]
    return boxes[kept], classes[kept], scores[kept]


def decode_yolov8(outputs, _side, labels):
    rows = outputs[0][0].T
    return best(corners(rows[:, :4]), rows[:, 4 : 4 + labels])


def decode_yolox(outputs, side, _labels):
    grids, strides = [], []
    for stride in (8, 16, 32):
        xs, ys = numpy.meshgrid(numpy.arange(side // stride), numpy.arange(side // stride))
        grids.append(numpy.stack((xs, ys), 2).reshape(-1, 2))
        strides.append(numpy.full((grids[-1].shape[0], 1), stride))
    grid, stride = numpy.concatenate(grids), numpy.concatenate(strides)
    rows = outputs[0][0]
    boxes = numpy.concatenate(((rows[:, :2] + grid) * stride, numpy.exp(rows[:, 2:4]) * stride), 1)
    return best(corners(boxes), rows[:, 4:5] * rows[:, 5:])


def decode_nanodet(outputs, side, _labels):
    boxes, scores = [], []
    for stride in (8, 16, 32):
        cells = (side // stride) ** 2
        of = {o.shape[1]: o for o in outputs if o.shape[0] == cells}
        distances = numpy.exp(of[32].reshape(-1, 4, 8))
        distances = (distances / distances.sum(2, keepdims=True) * numpy.arange(8)).sum(2) * stride
        xs, ys = numpy.meshgrid(numpy.arange(side // stride), numpy.arange(side // stride))
        centre = (numpy.stack((xs, ys), 2).reshape(-1, 2) + 0.5) * stride
        boxes.append(numpy.concatenate((centre - distances[:, :2], centre + distances[:, 2:]), 1))
        scores.append(of[80])
    return best(numpy.concatenate(boxes), numpy.concatenate(scores))


def decode_rows(outputs, _side, _labels):
    rows = outputs[0][0]
    rows = rows[rows[:, 4] >= SCORE_THRESHOLD]
    return rows[:, :4], rows[:, 5].astype(int), rows[:, 4]


def decode_lists(outputs, _side, _labels):
    classes, boxes, scores = outputs
    there = scores >= SCORE_THRESHOLD
    return boxes[there], classes[there], scores[there]


# Name: side, preprocessing, decoder, labels.
MODELS = {
    "yolox_nano": (416, yolox, decode_yolox, 80),
    "yolov8n": (640, ultralytics, decode_yolov8, 80),
    "yolov8n-fp16": (640, ultralytics, decode_yolov8, 80),
    "yolov8n-int8-qdq": (640, ultralytics, decode_yolov8, 80),
    "yolov8n-dynamic-batch": (640, ultralytics, decode_yolov8, 80),
    "yolov8n-nms": (640, ultralytics, decode_rows, 80),
    "yolov8n-pose": (640, ultralytics, decode_yolov8, 1),
    "yolov8n-seg": (320, ultralytics, decode_yolov8, 80),
    "yolo11n": (640, ultralytics, decode_yolov8, 80),
    "nanodet": (320, nanodet, decode_nanodet, 80),
    "deimv2-atto": (320, detr, decode_lists, 80),
}


def detections(name, session, images):
    side, prepare, decode, labels = MODELS[name]
    for number, path in enumerate(images, 1):
        image = cv2.imread(str(path))
        tensor, (scale_x, scale_y, left, top) = prepare(image, side)
        feed = {}
        for entry in session.get_inputs():
            is_size = entry.name == "orig_target_sizes"
            feed[entry.name] = numpy.array([[side, side]], numpy.int64) if is_size else tensor
        boxes, classes, scores = decode(session.run(None, feed), side, labels)
        boxes = (boxes - (left, top, left, top)) / (scale_x, scale_y, scale_x, scale_y)
        boxes = numpy.clip(boxes, 0, (image.shape[1], image.shape[0]) * 2)
        for box, c, score in zip(boxes, classes, scores):
            x1, y1, x2, y2 = (float(v) for v in box)
            yield {
                "image_id": number,
                "file_name": path.name,
                "category_id": int(c),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "score": float(score),
            }


def truth(images, labels_dir, labels):
    data = {"images": [], "annotations": [], "categories": [{"id": c, "name": str(c)} for c in range(labels)]}
    for number, path in enumerate(images, 1):
        height, width = cv2.imread(str(path)).shape[:2]
        data["images"].append({"id": number, "width": width, "height": height, "file_name": path.name})
        file = labels_dir / f"{path.stem}.txt"
        for line in file.read_text().splitlines() if file.exists() else []:
            c, x, y, w, h = line.split()
            if int(c) >= labels:
                continue
            w, h = float(w) * width, float(h) * height
            box = [float(x) * width - w / 2, float(y) * height - h / 2, w, h]
            data["annotations"].append(
                {"id": len(data["annotations"]) + 1, "image_id": number, "category_id": int(c), "bbox": box,
                 "area": w * h, "iscrowd": 0}
            )
    return data


def evaluate(images, labels_dir, labels, found):
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth(images, labels_dir, labels)
        coco.createIndex()
        if not found:
            return 0.0, 0.0
        run = COCOeval(coco, coco.loadRes(found), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return float(run.stats[0]), float(run.stats[1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("shared", nargs="?", default="../shared", type=pathlib.Path)
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--results", type=pathlib.Path, help="folder for the detections of each model")
    parser.add_argument("--check", type=pathlib.Path, help="detections of watchpost to evaluate instead")
    parser.add_argument("--labels", type=int, default=80, help="number of labels for --check")
    options = parser.parse_args()
    images = sorted((options.shared / "footage/coco-val/images").glob("*.jpg"))
    labels_dir = options.shared / "footage/coco-val/labels"
    if options.check:
        figures = evaluate(images, labels_dir, options.labels, json.loads(options.check.read_text()))
        print(f"map_50_95 {figures[0]!r} map_50 {figures[1]!r}")
        return
    out = pathlib.Path("tests/fixtures/reference/eval.json")
    report = json.loads(out.read_text()) if out.exists() else {}
    for name in options.models:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 2
        file = options.shared / "models" / f"{name}.onnx"
        session = onnxruntime.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])
        found = list(detections(name, session, images))
        if options.results:
            options.results.mkdir(parents=True, exist_ok=True)
            (options.results / f"{name}.json").write_text(json.dumps(found))
        map_50_95, map_50 = evaluate(images, labels_dir, MODELS[name][3], found)
        report[name] = {"map_50_95": round(map_50_95, 6), "map_50": round(map_50, 6)}
        print(name, report[name], len(found))
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(report[name])}" for name in MODELS if name in report)
    out.write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()
