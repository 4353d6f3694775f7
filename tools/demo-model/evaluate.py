"""How much of the truth an exported model finds. The rules are those of the scene crate's `score` module."""

import time
from dataclasses import dataclass

import numpy as np
import onnxruntime

from net import CLASSES, INPUT_HEIGHT, INPUT_WIDTH, grid

NMS_IOU = 0.5
MATCH_IOU = 0.5
VISIBLE_MIN = 0.6


def area(box):
    return np.clip(box[..., 2] - box[..., 0], 0, None) * np.clip(box[..., 3] - box[..., 1], 0, None)


def shared(box, boxes):
    return area(np.concatenate([np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])], 1))


def iou(box, boxes):
    both = shared(box, boxes)
    return both / np.maximum(area(box) + area(boxes) - both, 1e-9)


class Model:
    """An exported model on onnxruntime, one thread."""

    def __init__(self, path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        self.grid = grid()

    def output(self, images):
        return self.session.run(["output"], {"images": images})[0]

    def detect(self, frame, score_min):
        """Boxes [K, 4] in pixels of the 640x360 picture, scores [K], classes [K], by falling score; of `frame`
        [180, 320, 3] in bytes."""
        margin = (INPUT_HEIGHT - frame.shape[0]) // 2
        image = np.full((INPUT_HEIGHT, INPUT_WIDTH, 3), 114, np.uint8)
        image[margin:margin + frame.shape[0]] = frame
        raw = self.output(np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32) / 255)[0]
        classes = raw[:, 5:].argmax(1)
        scores = raw[:, 4] * raw[:, 5:].max(1)
        chosen = np.flatnonzero(scores >= score_min)
        chosen = chosen[np.argsort(-scores[chosen], kind="stable")]
        stride = self.grid[chosen, 2:]
        middle = (raw[chosen, :2] + self.grid[chosen, :2]) * stride
        half = np.exp(raw[chosen, 2:4]) * stride / 2
        boxes = np.concatenate([middle - half, middle + half], 1) - [0, margin, 0, margin]
        boxes = np.clip(boxes * 2, 0, [2 * frame.shape[1], 2 * frame.shape[0]] * 2)
        scores, classes = scores[chosen], classes[chosen]
        kept = []
        for index in range(len(boxes)):
            rivals = [other for other in kept if classes[other] == classes[index]]
            if not rivals or iou(boxes[index], boxes[rivals]).max() <= NMS_IOU:
                kept.append(index)
        return boxes[kept], scores[kept], classes[kept]

    def milliseconds(self, rounds=100):
        """The median time of one inference on one thread."""
        image = np.random.default_rng(0).random((1, 3, INPUT_HEIGHT, INPUT_WIDTH), np.float32)
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            self.output(image)
            times.append(time.perf_counter() - start)
        return 1000 * float(np.median(times))


@dataclass
class Score:
    """Counts over frames."""

    right: int = 0
    wrong: int = 0
    missed: int = 0

    @property
    def recall(self):
        return self.right / max(self.right + self.missed, 1)

    @property
    def precision(self):
        return self.right / max(self.right + self.wrong, 1)

    def match(self, detections, objects):
        """Adds one frame: detections by falling score, each takes the free object of its class it fits best."""
        boxes = np.array([item["bbox"] for item in objects], np.float32).reshape(-1, 4)
        classes = np.array([item["class_id"] for item in objects], int)
        counts = np.array([item["visible"] >= VISIBLE_MIN for item in objects], bool)
        free = np.ones(len(objects), bool)
        for box, _, kind in zip(*detections):
            usable = free & (classes == kind)
            fit = np.where(usable & counts, iou(box, boxes), 0)
            partly = np.where(usable & ~counts, shared(box, boxes) / max(area(box), 1e-9), 0)
            if len(objects) and fit.max() >= MATCH_IOU:
                free[fit.argmax()] = False
                self.right += 1
            elif len(objects) and partly.max() >= MATCH_IOU:
                free[partly.argmax()] = False
            else:
                self.wrong += 1
        self.missed += int((free & counts).sum())


def score_clip(model, clip, thresholds):
    """One Score for each threshold."""
    scores = {threshold: Score() for threshold in thresholds}
    for frame, objects in zip(clip.rgb, clip.objects):
        boxes, confidences, classes = model.detect(frame, min(thresholds))
        for threshold, score in scores.items():
            # What NMS keeps at a low threshold contains what it keeps at a higher one.
            sure = confidences >= threshold
            score.match((boxes[sure], confidences[sure], classes[sure]), objects)
    return scores


def score_by_class(model, clip, threshold):
    """One Score for each class."""
    scores = {name: Score() for name in CLASSES}
    for frame, objects in zip(clip.rgb, clip.objects):
        boxes, confidences, classes = model.detect(frame, threshold)
        for kind, name in enumerate(CLASSES):
            of_kind = classes == kind
            same = [item for item in objects if item["class_id"] == kind]
            scores[name].match((boxes[of_kind], confidences[of_kind], classes[of_kind]), same)
    return scores
