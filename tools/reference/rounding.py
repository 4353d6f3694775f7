#!/usr/bin/env python3
"""How much the figure of a quantised model is a draw: ONNX Runtime's own mAP with and without its optimisations, and with
one sample in a hundred one code value up or down. The small table in docs/models.md.

With the environment of table.py, from the repository's root:
  /tmp/reference/bin/python tools/reference/rounding.py ../shared
"""

import pathlib
import sys

import numpy
import onnxruntime

import evaluate

NAME = "yolov8n-int8-qdq"
DRAWS = 3


def disturbed(prepare, random):
    """The picture with a hundredth of its samples one code value off."""

    def prepared(image, side):
        tensor, back = prepare(image, side)
        chosen = random.random(tensor.shape) < 0.01
        tensor = tensor + chosen * random.choice([-1, 1], tensor.shape) / 255
        return numpy.clip(tensor, 0, 1).astype(numpy.float32), back

    return prepared


def main():
    shared = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "../shared")
    images = sorted((shared / "footage/coco-val/images").glob("*.jpg"))
    side, prepare, decode, labels = evaluate.MODELS[NAME]
    levels = onnxruntime.GraphOptimizationLevel
    for words, level in [("all optimisations", levels.ORT_ENABLE_ALL), ("none", levels.ORT_DISABLE_ALL)]:
        settings = onnxruntime.SessionOptions()
        settings.graph_optimization_level = level
        file = shared / "models" / f"{NAME}.onnx"
        session = onnxruntime.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])
        for draw in [None, *range(DRAWS)]:
            seen = prepare if draw is None else disturbed(prepare, numpy.random.default_rng(draw))
            evaluate.MODELS[NAME] = (side, seen, decode, labels)
            found = list(evaluate.detections(NAME, session, images))
            figures = evaluate.evaluate(images, shared / "footage/coco-val/labels", labels, found)
            print(words, "as it is" if draw is None else f"draw {draw}", f"{figures[0]:.4f} / {figures[1]:.4f}", flush=True)


if __name__ == "__main__":
    main()
