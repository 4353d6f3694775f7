"""Makes an INT8 model (QDQ) of an FP32 one. Run by `watchpost engine build --precision int8 --calibration DIR`, which
carries this text in itself and sends the pictures, letterboxed like a camera's frames, to stdin: 32-bit floats, one
picture after the other.

Arguments: the model, the file to write, the input's name, its shape as 1,3,H,W, and the backend that will run it
(openvino or onnxruntime). Needs the Python packages onnxruntime and onnx. Ends with 3 where one of them is missing, with
4 where the model is none that can be quantized.

What is quantized: convolutions and multiplications by constant weights, where nearly all of the time goes. Weights have
eight bits and a scale for each channel. The input of a layer has eight bits and one scale for all of its channels; its
range is the one with the least squared error on samples of all pictures. Not quantized are
- the last layers: boxes and scores lose the most by eight bits and gain nothing;
- layers to whose input rounding would add noise of more than a thousandth of its variance, because a few great values
  spread the steps too far for the many small ones;
- depthwise convolutions: each of their channels has a range of its own, often a hundredth of its neighbour's, which one
  scale for all of them wipes out; they are a small part of the work, and slow in eight bits besides.
OpenVINO computes a layer and its activation function in one go and rounds only what comes out of both. ONNX Runtime has
no such convolution: it is slower than FP32 unless the output of the layer, too, is rounded before the function. That range
is the mean of what the pictures reach, cut where the function makes nothing of it (a SiLU below -5).
"""

import os
import sys
import tempfile

try:
    import numpy
    import onnx
    import onnx.version_converter
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper
    from onnxruntime.quantization.shape_inference import quant_pre_process
except ImportError as error:
    print(f"the package {error.name} is missing")
    sys.exit(3)

QUANTIZED = ["Conv", "MatMul", "Gemm"]
# The first version of the standard operators in which weights have a scale for each channel.
OPSET = 13
# So many values of each tensor of each picture are looked at, and so many pictures' are kept: half a megabyte a tensor.
SAMPLES = 2048
PICTURES = 64
# What part of the variance rounding may add as noise.
NOISE = 0.001


def refuse(words):
    print(words)
    sys.exit(4)


# What follows a layer, and below what its output makes no difference any more.
FLOORS = {"SiLU": -5, "Sigmoid": -8, "HardSwish": -3, "Relu": 0}


def function_behind(tensor, readers):
    """What is made of a layer's output: the name of one of FLOORS, or nothing known."""
    behind = readers.get(tensor, [])
    kinds = {node.op_type for node in behind}
    if kinds == {"Sigmoid", "Mul"}:
        gates = {node.output[0] for node in behind if node.op_type == "Sigmoid"}
        products = [node for node in behind if node.op_type == "Mul"]
        return "SiLU" if all(set(node.input) <= gates | {tensor} for node in products) else None
    return kinds.pop() if len(kinds) == 1 and kinds <= FLOORS.keys() else None


def noise(values, low, high):
    """What rounding to 256 steps of a range adds, as a part of the variance."""
    step = max((high - low) / 255, 1e-12)
    zero = round(-low / step)
    rounded = (numpy.clip(numpy.round(values / step) + zero, 0, 255) - zero) * step
    return float(((rounded - values) ** 2).mean()) / max(float(values.var()), 1e-12)


def readers_of(graph):
    readers = {}
    for node in graph.node:
        for tensor in node.input:
            readers.setdefault(tensor, []).append(node)
    return readers


def layers(graph):
    """The operators to quantize."""
    readers = readers_of(graph)
    weights = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    # From the end: a node is followed if one that reads it is of the kind or followed. The others are the last layers.
    followed, found = set(), []
    for index in range(len(graph.node) - 1, -1, -1):
        node = graph.node[index]
        behind = [reader for tensor in node.output for reader in readers.get(tensor, [])]
        if not any(reader.op_type in QUANTIZED or reader.output[0] in followed for reader in behind):
            continue
        followed.add(node.output[0])
        if node.op_type not in QUANTIZED or node.input[1] not in weights:
            continue
        is_depthwise = attribute(node, "group", 1) > 1 and weights[node.input[1]].dims[1] == 1
        if not is_depthwise:
            found.append(node)
    return found[::-1]


def attribute(node, name, default):
    return next((one.i for one in node.attribute if one.name == name), default)


class Ranges:
    """What was seen of some tensors of a model, picture by picture."""

    def __init__(self, model, tensors, folder):
        self.tensors, self.count = tensors, 0
        self.random = numpy.random.default_rng(0)
        self.lows = {tensor: [] for tensor in tensors}
        self.highs = {tensor: [] for tensor in tensors}
        self.samples = {tensor: [] for tensor in tensors}
        watched = onnx.ModelProto()
        watched.CopyFrom(model)
        self.watch(watched.graph)
        path = os.path.join(folder, "watched.onnx")
        onnx.save(watched, path)
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def watch(self, graph):
        """Has the model itself give the few numbers that are wanted: all of its tensors would not fit into memory."""
        del graph.output[:]
        graph.input.append(helper.make_tensor_value_info("watch_where", TensorProto.DOUBLE, [SAMPLES]))
        graph.initializer.append(numpy_helper.from_array(numpy.array([-1]), "watch_flat"))
        for index, tensor in enumerate(self.tensors):
            def node(kind, inputs, what, **attributes):
                graph.node.append(helper.make_node(kind, inputs, [f"watch_{what}{index}"], **attributes))
                return f"watch_{what}{index}"

            size = node("Cast", [node("Size", [tensor], "size")], "real", to=TensorProto.DOUBLE)
            where = node("Cast", [node("Mul", ["watch_where", size], "place")], "index", to=TensorProto.INT64)
            flat = node("Reshape", [tensor, "watch_flat"], "row")
            for name in (node("ReduceMin", [tensor], "low", keepdims=0), node("ReduceMax", [tensor], "high", keepdims=0),
                         node("Gather", [flat, where], "sample")):
                graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))

    def see(self, name, picture):
        found = self.session.run(None, {name: picture, "watch_where": self.random.random(SAMPLES)})
        # Of many pictures those are kept that a draw leaves, each as likely as the others.
        place = self.count if self.count < PICTURES else int(self.random.integers(self.count + 1))
        self.count += 1
        for tensor, low, high, sample in zip(self.tensors, found[::3], found[1::3], found[2::3]):
            self.lows[tensor].append(float(low))
            self.highs[tensor].append(float(high))
            if len(self.samples[tensor]) < PICTURES:
                self.samples[tensor].append(sample)
            elif place < PICTURES:
                self.samples[tensor][place] = sample

    def of_input(self, tensor):
        """The range of which 256 steps are nearest to what was seen, and the noise of rounding to them."""
        low, high = min(self.lows[tensor] + [0]), max(self.highs[tensor] + [0])
        ends = numpy.array(self.lows[tensor] + self.highs[tensor], numpy.float32)
        values = numpy.concatenate(self.samples[tensor] + [ends])
        best_low, best_high = low, high
        for _ in range(2):
            lows, highs = low * numpy.linspace(1, 0.02, 50), high * numpy.linspace(1, 0.1, 46)
            best_low = min(lows, key=lambda end: noise(values, end, best_high))
            best_high = min(highs, key=lambda end: noise(values, best_low, end))
        return best_low, best_high, noise(values, best_low, best_high)

    def of_output(self, tensor, floor):
        """From the mean of the pictures' least values to that of their greatest, but not below the floor."""
        return max(numpy.mean(self.lows[tensor]), floor), numpy.mean(self.highs[tensor])


class Writer:
    """Puts the roundings into a model."""

    def __init__(self, graph, inputs, outputs):
        self.graph, self.inputs, self.outputs = graph, inputs, outputs
        self.weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self.steps = {}
        self.nodes = []

    def constant(self, name, value):
        self.graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def rounded(self, tensor, low, high, target):
        """Rounds a tensor to 256 steps of a range, with 0 among them. Returns the step."""
        low, high = min(float(low), 0.0), max(float(high), 0.0)
        step = numpy.float32(max((high - low) / 255, 1e-8))
        zero = numpy.uint8(numpy.clip(round(-low / float(step)), 0, 255))
        scale = self.constant(f"{target}_step", numpy.array(step))
        point = self.constant(f"{target}_zero", numpy.array(zero))
        codes = f"{target}_codes"
        for kind, source, to in (("QuantizeLinear", tensor, codes), ("DequantizeLinear", codes, target)):
            self.nodes.append(helper.make_node(kind, [source, scale, point], [to], name=to))
        return step

    def input(self, tensor):
        """The rounded twin of a layer's input, which other layers may read, too, and its step."""
        twin = f"{tensor}_rounded"
        if tensor not in self.steps:
            self.steps[tensor] = self.rounded(tensor, *self.inputs[tensor], twin)
        return twin, self.steps[tensor]

    def codes(self, name, codes, scales, axis):
        """Weights or a bias of integers."""
        zeros = self.constant(f"{name}_zero", numpy.zeros(len(scales), codes.dtype))
        inputs = [self.constant(f"{name}_codes", codes), self.constant(f"{name}_step", scales), zeros]
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [name], name=name, axis=axis))
        return name

    def layer(self, node):
        name = f"{node.output[0]}_layer"
        twin, step = self.input(node.input[0])
        weights = self.weights[node.input[1]]
        is_conv = node.op_type == "Conv"
        axis = 0 if is_conv or attribute(node, "transB", 0) else weights.ndim - 1
        others = tuple(index for index in range(weights.ndim) if index != axis)
        scales = numpy.maximum(numpy.abs(weights).max(axis=others) / 127, 1e-12)
        bias = self.weights.get(node.input[2]) if is_conv and len(node.input) > 2 else None
        if bias is not None:
            # The bias of a channel whose weights are nearly nothing has to fit into 32 bits of its steps.
            scales = numpy.maximum(scales, numpy.abs(bias) / (float(step) * 2**30))
        scales = scales.astype(numpy.float32)
        across = [-1 if index == axis else 1 for index in range(weights.ndim)]
        codes = numpy.clip(numpy.round(weights / scales.reshape(across)), -127, 127).astype(numpy.int8)
        quantized = onnx.NodeProto()
        quantized.CopyFrom(node)
        quantized.input[0], quantized.input[1] = twin, self.codes(f"{name}_weights", codes, scales, axis)
        if bias is not None:
            steps = (scales * step).astype(numpy.float32)
            codes = numpy.round(bias / steps.astype(numpy.float64)).astype(numpy.int32)
            quantized.input[2] = self.codes(f"{name}_bias", codes, steps, 0)
        self.nodes.append(quantized)
        if node.output[0] in self.outputs:
            quantized.output[0] = name
            self.rounded(name, *self.outputs[node.output[0]], node.output[0])

    def write(self, quantized):
        for node in self.graph.node:
            self.layer(node) if node.output[0] in quantized else self.nodes.append(node)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        read = {tensor for node in self.nodes for tensor in node.input} | {one.name for one in self.graph.output}
        kept = [tensor for tensor in self.graph.initializer if tensor.name in read]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)


def prepare(model, folder):
    """The model with its constants folded and its normalisations in the weights."""
    loaded = onnx.load(model)
    initialized = {tensor.name for tensor in loaded.graph.initializer}
    inputs = [one for one in loaded.graph.input if one.name not in initialized]
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type != TensorProto.FLOAT:
        refuse("it takes more than a picture of 32-bit floats: export it in FP32, with one input")
    opset = max(one.version for one in loaded.opset_import if one.domain in ("", "ai.onnx"))
    if opset < OPSET:
        loaded = onnx.version_converter.convert_version(loaded, OPSET)
    current, prepared = os.path.join(folder, "current.onnx"), os.path.join(folder, "prepared.onnx")
    onnx.save(loaded, current)
    # Shapes are those of the file: symbolic inference needs another package.
    quant_pre_process(current, prepared, skip_symbolic_shape=True)
    return onnx.load(prepared)


def main(model, target, name, shape, backend):
    shape = [int(side) for side in shape.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare(model, folder)
        found = layers(prepared.graph)
        if not found:
            refuse("it has no layer of 32-bit floats that eight bits would speed up")
        rounds_outputs = backend == "onnxruntime"
        tensors = [node.input[0] for node in found] + [node.output[0] for node in found if rounds_outputs]
        ranges = Ranges(prepared, list(dict.fromkeys(tensors)), folder)
        length = 4 * int(numpy.prod(shape))
        while len(data := sys.stdin.buffer.read(length)) == length:
            ranges.see(name, numpy.frombuffer(data, dtype=numpy.float32).reshape(shape))
    if not ranges.count:
        refuse("no picture came")
    inputs = {}
    for tensor in dict.fromkeys(node.input[0] for node in found):
        low, high, added = ranges.of_input(tensor)
        if added <= NOISE:
            inputs[tensor] = low, high
    quantized = {node.output[0] for node in found if node.input[0] in inputs}
    outputs = {}
    if rounds_outputs:
        readers = readers_of(prepared.graph)
        for tensor in quantized - {one.name for one in prepared.graph.output}:
            outputs[tensor] = ranges.of_output(tensor, FLOORS.get(function_behind(tensor, readers), -numpy.inf))
    Writer(prepared.graph, inputs, outputs).write(quantized)
    onnx.checker.check_model(prepared)
    onnx.save(prepared, target)
    print(f"calibrated with {ranges.count} pictures, {len(quantized)} of {len(found)} layers quantized")


main(*sys.argv[1:])
