#!/usr/bin/env python3
"""Reference numbers from ONNX Runtime, for the tests.

Writes into tests/fixtures/reference/:
  photos-MODEL.json  boxes above score 0.4 in source pixels, with plain OpenCV preprocessing:
                     [{"model", "image", "objects": [{"class_id", "score", "box": [x1, y1, x2, y2]}]}]
  raw-MODEL.json     the raw outputs for a fixed pseudo-random input: shape, sums and sampled values

Run from the repository's root, with the models and photos of the shared folder:
  python3 -m venv /tmp/reference && /tmp/reference/bin/pip install onnxruntime opencv-python-headless numpy
  /tmp/reference/bin/python tools/reference/onnx_reference.py ../shared
"""

import json
import pathlib
import sys

import cv2
import numpy
import onnxruntime

SCORE_THRESHOLD = 0.4
IOU_THRESHOLD = 0.45
PAD = 114


def letterbox(image, width, height, centred):
    """Aspect kept, bilinear, the rest padded. Returns the picture, the scale and the offsets."""
    scale = min(width / image.shape[1], height / image.shape[0])
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    left = (width - size[0]) // 2 if centred else 0
    top = (height - size[1]) // 2 if centred else 0
    canvas = numpy.full((height, width, 3), PAD, numpy.uint8)
    canvas[top : top + size[1], left : left + size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    return canvas, scale, left, top


def decode_yolox(output, width, height):
    """[1, N, 5 + C] -> boxes (cx, cy, w, h) and class scores; the formula of the YOLOX project."""
    grids, strides = [], []
    for stride in (8, 16, 32):
        xs, ys = numpy.meshgrid(numpy.arange(width // stride), numpy.arange(height // stride))
        grids.append(numpy.stack((xs, ys), 2).reshape(-1, 2))
        strides.append(numpy.full((grids[-1].shape[0], 1), stride))
    grid, stride = numpy.concatenate(grids), numpy.concatenate(strides)
    rows = output[0]
    boxes = numpy.concatenate(((rows[:, :2] + grid) * stride, numpy.exp(rows[:, 2:4]) * stride), 1)
    return boxes, rows[:, 4:5] * rows[:, 5:]


def decode_yolov8(output, _width, _height):
    """[1, 4 + C, N] -> boxes (cx, cy, w, h) and class scores."""
    rows = output[0].T
    return rows[:, :4], rows[:, 4:]


def iou(box, others):
    left_top = numpy.maximum(box[:2], others[:, :2])
    right_bottom = numpy.minimum(box[2:], others[:, 2:])
    common = numpy.prod(numpy.clip(right_bottom - left_top, 0, None), 1)
    area = numpy.prod(others[:, 2:] - others[:, :2], 1)
    return common / (numpy.prod(box[2:] - box[:2]) + area - common)


def objects(boxes, scores):
    """Greedy NMS within each class, best score first."""
    classes, best = scores.argmax(1), scores.max(1)
    corners = numpy.concatenate((boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2), 1)
    kept = []
    for index in numpy.argsort(-best, kind="stable"):
        if best[index] < SCORE_THRESHOLD:
            break
        rivals = [k for k in kept if classes[k] == classes[index]]
        if not rivals or iou(corners[index], corners[rivals]).max() <= IOU_THRESHOLD:
            kept.append(index)
    return [(int(classes[k]), float(best[k]), corners[k]) for k in kept]


def pseudo_random(count):
    """0..255, the same in every language: the top byte of index * 2654435761 mod 2**32."""
    return ((numpy.arange(count, dtype=numpy.uint64) * 2654435761 % 2**32) >> 24).astype(numpy.float32)


# Name: width and height, RGB or BGR, scale of the values, centred, decoder.
MODELS = {
    "yolox_nano": (416, False, 1.0, False, decode_yolox),
    "yolov8n": (640, True, 1.0 / 255.0, True, decode_yolov8),
}


def photos(name, session, folder):
    side, rgb, scale_values, centred, decode = MODELS[name]
    for path in sorted(folder.glob("*.jpg")):
        image = cv2.imread(str(path))
        picture, scale, left, top = letterbox(image, side, side, centred)
        tensor = (picture[:, :, ::-1] if rgb else picture).transpose(2, 0, 1)[None].astype(numpy.float32)
        tensor = numpy.ascontiguousarray(tensor * numpy.float32(scale_values))
        output = session.run(None, {session.get_inputs()[0].name: tensor})[0]
        found = []
        for class_id, score, box in objects(*decode(output, side, side)):
            box = (box - (left, top, left, top)) / scale
            limit = (image.shape[1], image.shape[0]) * 2
            box = [round(float(v), 2) for v in numpy.clip(box, 0, limit)]
            found.append({"class_id": class_id, "score": round(score, 5), "box": box})
        yield {"model": name, "image": path.name, "objects": found}


def raw(name, session):
    side, _, scale_values, _, _ = MODELS[name]
    tensor = (pseudo_random(3 * side * side) * numpy.float32(scale_values)).reshape(1, 3, side, side)
    values = session.run(None, {session.get_inputs()[0].name: tensor})[0]
    flat = values.ravel().astype(numpy.float64)
    step = max(1, flat.size // 257)
    return {
        "model": name,
        "scale": scale_values,
        "output": session.get_outputs()[0].name,
        "shape": list(values.shape),
        "sum": float(flat.sum()),
        "sum_of_squares": float((flat * flat).sum()),
        "min": float(flat.min()),
        "max": float(flat.max()),
        "samples": [[int(i), float(flat[i])] for i in range(0, flat.size, step)],
    }


def main():
    shared = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "../shared")
    out = pathlib.Path("tests/fixtures/reference")
    out.mkdir(parents=True, exist_ok=True)
    for name in MODELS:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            str(shared / "models" / f"{name}.onnx"), options, providers=["CPUExecutionProvider"]
        )
        found = list(photos(name, session, shared / "footage" / "photos"))
        lines = ",\n".join(json.dumps(entry) for entry in found)
        (out / f"photos-{name}.json").write_text(f"[\n{lines}\n]\n")
        (out / f"raw-{name}.json").write_text(json.dumps(raw(name, session)) + "\n")
        print(name, {entry["image"]: len(entry["objects"]) for entry in found})


if __name__ == "__main__":
    main()
