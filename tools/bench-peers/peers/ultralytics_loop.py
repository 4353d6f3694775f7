"""Ultralytics' own loop, `predict(stream=True)`: one JSON line a frame.

    ultralytics_loop.py INPUT MODEL --size N --threads N [--max-frames N] [--stamp]
"""

import argparse
import json

import cv2
import onnxruntime
import torch
from ultralytics import YOLO

import stamp


def keep_to(threads):
    """ONNX Runtime has as many threads as everybody else: left alone, it takes each core and pins a thread to it, also to those
    that this process is not to use."""
    original = onnxruntime.InferenceSession

    def session(path, options=None, **more):
        options = options or onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        return original(path, options, **more)

    onnxruntime.InferenceSession = session


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("input")
    parser.add_argument("model")
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--threshold", type=float, default=0.35)
    parser.add_argument("--max-frames", type=int, default=1 << 62)
    parser.add_argument("--stamp", action="store_true")
    args = parser.parse_args()
    cv2.setNumThreads(args.threads)
    torch.set_num_threads(args.threads)
    keep_to(args.threads)
    model = YOLO(args.model, task="detect")
    results = model.predict(
        args.input, stream=True, imgsz=args.size, conf=args.threshold, iou=0.45, device="cpu", verbose=False, save=False
    )
    for number, result in enumerate(results, 1):
        boxes = result.boxes
        objects = [
            {"class_id": int(c), "score": round(float(s), 4), "box": [round(v, 1) for v in b]}
            for c, s, b in zip(boxes.cls.tolist(), boxes.conf.tolist(), boxes.xyxy.tolist())
        ]
        record = {"type": "detections", "objects": objects}
        if args.stamp:
            record["stamp"] = stamp.read(result.orig_img)
        print(json.dumps(record), flush=True)
        if number >= args.max_frames:
            break


main()
