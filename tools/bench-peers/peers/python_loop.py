"""The loop people write: OpenCV's VideoCapture, a letterbox, ONNX Runtime, boxes with numpy, NMS with OpenCV.

    python_loop.py INPUT MODEL --head yolox|yolov8 --size N --threads N [--max-frames N] [--interval SECONDS] [--stamp]

One JSON line a frame that was inferred. It is written with care (no copies that numpy can do without, one session, the
threads it was given), but as such loops are: it reads every frame, and drops those that come before the interval is over."""

import argparse
import json
import time

import cv2
import numpy as np
import onnxruntime

import stamp


def letterbox(picture, size):
    height, width = picture.shape[:2]
    scale = min(size / width, size / height)
    w, h = round(width * scale), round(height * scale)
    canvas = np.full((size, size, 3), 114, np.uint8)
    canvas[:h, :w] = cv2.resize(picture, (w, h), interpolation=cv2.INTER_LINEAR)
    return canvas, scale


def grids(size):
    places, strides = [], []
    for stride in (8, 16, 32):
        side = size // stride
        y, x = np.mgrid[:side, :side]
        places.append(np.stack((x, y), 2).reshape(-1, 2))
        strides.append(np.full((side * side, 1), stride))
    return np.concatenate(places).astype(np.float32), np.concatenate(strides).astype(np.float32)


def yolox(output, places, strides, threshold):
    rows = output[0]
    scores = rows[:, 4:5] * rows[:, 5:]
    best = scores.max(1)
    keep = best > threshold
    rows, centre = rows[keep], (rows[keep, :2] + places[keep]) * strides[keep]
    size = np.exp(rows[:, 2:4]) * strides[keep]
    return np.concatenate((centre - size / 2, size), 1), best[keep], scores[keep].argmax(1)


def yolov8(output, threshold):
    rows = output[0].T
    best = rows[:, 4:].max(1)
    keep = best > threshold
    rows = rows[keep]
    size = rows[:, 2:4]
    return np.concatenate((rows[:, :2] - size / 2, size), 1), best[keep], rows[:, 4:].argmax(1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("input")
    parser.add_argument("model")
    parser.add_argument("--head", choices=("yolox", "yolov8"), required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--threshold", type=float, default=0.35)
    parser.add_argument("--max-frames", type=int, default=1 << 62)
    parser.add_argument("--interval", type=float, default=0.0)
    parser.add_argument("--stamp", action="store_true")
    args = parser.parse_args()
    cv2.setNumThreads(args.threads)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = onnxruntime.InferenceSession(args.model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    places, strides = grids(args.size)
    capture = cv2.VideoCapture(args.input)
    frame_count, read_count, due = 0, 0, 0.0
    while frame_count < args.max_frames:
        is_there, picture = capture.read()
        if not is_there:
            break
        read_count += 1
        now = time.monotonic()
        if now < due:
            continue
        # As a camera's frames come: keeping to the raster, without catching up.
        due = max(due + args.interval, now - args.interval) if due else now + args.interval
        canvas, scale = letterbox(picture, args.size)
        tensor = canvas.transpose(2, 0, 1) if args.head == "yolox" else canvas[:, :, ::-1].transpose(2, 0, 1)
        tensor = np.ascontiguousarray(tensor, np.float32)[None]
        if args.head == "yolox":
            boxes, scores, classes = yolox(session.run(None, {name: tensor})[0], places, strides, args.threshold)
        else:
            tensor /= 255
            boxes, scores, classes = yolov8(session.run(None, {name: tensor})[0], args.threshold)
        kept = cv2.dnn.NMSBoxesBatched(boxes.tolist(), scores.tolist(), classes.tolist(), args.threshold, 0.45)
        objects = [
            {"class_id": int(classes[i]), "score": round(float(scores[i]), 4),
             "box": [round(float(v) / scale, 1) for v in (*boxes[i, :2], *(boxes[i, :2] + boxes[i, 2:]))]}
            for i in kept
        ]
        frame_count += 1
        record = {"type": "detections", "seq": read_count, "objects": objects}
        if args.stamp:
            record["stamp"] = stamp.read(picture)
        print(json.dumps(record), flush=True)


main()
