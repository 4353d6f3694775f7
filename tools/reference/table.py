#!/usr/bin/env python3
"""Writes the table of docs/models.md: what `watchpost eval` says of each model of the shared folder on each backend for the
CPU, what plain ONNX Runtime in Python says of it with its own tool's preprocessing and pycocotools, and the differences.

  python3 -m venv /tmp/reference
  /tmp/reference/bin/pip install onnxruntime openvino opencv-python-headless numpy pycocotools
  cargo build --release
  /tmp/reference/bin/python tools/reference/table.py ../shared

Figures are kept in target/models-table/ and computed again when the model, the program or the script that made them is
another. --write-reference also writes tests/fixtures/reference/eval.json.
"""

import argparse
import hashlib
import json
import os
import pathlib
import subprocess

import onnxruntime

import evaluate

CACHE = pathlib.Path("target/models-table")
DOC = pathlib.Path("docs/models.md")
BEGIN, END = "<!-- table: tools/reference/table.py -->\n", "<!-- end of the table -->"
# As PROVENANCE.md of the shared folder has them.
LICENCES = {"yolox_nano": "Apache-2.0", "nanodet": "Apache-2.0", "deimv2-atto": "Apache-2.0"}
FAMILIES = {
    "yolox": "YOLOX", "yolov8": "YOLOv8, 11", "end-to-end": "NMS inside", "nanodet": "NanoDet", "listed": "DEIM, deployed",
}


def cached(name, key, compute):
    """The JSON of an earlier run with the same key, or of this one."""
    path = CACHE / f"{name}.json"
    if path.exists():
        kept = json.loads(path.read_text())
        if kept.get("key") == key:
            return kept["value"]
    value = compute()
    path.write_text(json.dumps({"key": key, "value": value}))
    return value


def digest(*paths):
    state = hashlib.sha256()
    for path in paths:
        state.update(path.read_bytes())
    return state.hexdigest()


def reference(name, file, images, labels_dir):
    def compute():
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 2
        session = onnxruntime.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])
        found = list(evaluate.detections(name, session, images))
        return evaluate.evaluate(images, labels_dir, evaluate.MODELS[name][3], found)

    key = digest(file, pathlib.Path(evaluate.__file__)) + onnxruntime.__version__
    return cached(f"{name}-reference", key, compute)


BACKENDS = ("onnxruntime", "openvino", "builtin")


def ours(program, libraries, name, file, images_dir, backend):
    def compute():
        command = [program, "eval", file, "--images", images_dir, "--backend", backend, "--json", "-"]
        environment = {**os.environ, **{variable: str(file) for variable, file in libraries.items()}}
        run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
        report = json.loads(run.stdout)
        return [report["map_50_95"], report["map_50"]]

    versions = "".join(str(file) for file in libraries.values())
    return cached(f"{name}-{backend}", digest(file, program) + versions, compute)


def rows(options, images, labels_dir):
    for file in sorted((options.shared / "models").glob("*.onnx")):
        name = file.stem
        if name not in evaluate.MODELS:
            raise SystemExit(f"{file}: evaluate.py has no reference preprocessing for it; add it to MODELS")
        shown = json.loads(subprocess.run([options.watchpost, "model", "show", file, "--json"], check=True,
                                          stdout=subprocess.PIPE).stdout)
        expected = reference(name, file, images, labels_dir)
        runs = {backend: ours(options.watchpost, options.libraries, name, file, images[0].parent, backend)
                for backend in BACKENDS}
        print(name, expected, runs, flush=True)
        yield name, file, shown, expected, runs


def both(figures):
    return f"{figures[0]:.4f} / {figures[1]:.4f}"


def off(figures, expected):
    # No minus before nothing.
    return " / ".join(f"{round(a - b, 4) + 0.0:+.4f}" for a, b in zip(figures, expected))


def cells(name, file, shown, expected, runs):
    head = shown["head"]
    side = f'{shown["input"]["width"]}x{shown["input"]["height"]}'
    family = FAMILIES.get(head["family"], head["family"])
    yield f"{name}.onnx", family, head["task"], side
    yield (both(expected),)
    for backend in BACKENDS:
        yield both(runs[backend]), off(runs[backend], expected)
    yield f"{file.stat().st_size / 2**20:.1f} MiB", LICENCES.get(name, "AGPL-3.0")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("shared", nargs="?", default="../shared", type=pathlib.Path)
    parser.add_argument("--watchpost", default="target/release/watchpost", type=pathlib.Path)
    parser.add_argument("--onnxruntime", type=pathlib.Path, help="its library [default: this Python's]")
    parser.add_argument("--openvino", type=pathlib.Path, help="libopenvino_c.so [default: this Python's]")
    parser.add_argument("--write-reference", action="store_true")
    options = parser.parse_args()
    packages = pathlib.Path(onnxruntime.__file__).parent.parent
    options.libraries = {
        "WATCHPOST_ONNXRUNTIME_LIB":
            options.onnxruntime or sorted(packages.glob("onnxruntime/capi/libonnxruntime.so.*"))[0],
        "WATCHPOST_OPENVINO_LIB": options.openvino or sorted(packages.glob("openvino/libs/libopenvino_c.so*"))[0],
    }
    options.watchpost = options.watchpost.resolve()
    CACHE.mkdir(parents=True, exist_ok=True)
    images = sorted((options.shared / "footage/coco-val/images").glob("*.jpg"))
    found = list(rows(options, images, options.shared / "footage/coco-val/labels"))
    header = ("Model", "Family", "Task", "Input", "Reference", "ONNX Runtime", "Its difference", "OpenVINO",
              "OpenVINO's difference", "Built-in engine", "Built-in's difference", "Size", "Licence")
    lines = [header, tuple("---" for _ in header)]
    lines += [tuple(cell for part in cells(*row) for cell in part) for row in found]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    before, rest = DOC.read_text().split(BEGIN)
    DOC.write_text(before + BEGIN + table + END + rest.split(END)[1])
    if options.write_reference:
        figures = {name: {"map_50_95": round(e[0], 6), "map_50": round(e[1], 6)} for name, _, _, e, _ in found}
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in figures.items())
        pathlib.Path("tests/fixtures/reference/eval.json").write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()
