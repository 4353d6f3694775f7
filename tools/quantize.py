"""Makes an INT8 model (QDQ) of an FP32 one with ONNX Runtime's own tool. Run by `watchpost engine build
--precision int8 --calibration DIR`, which carries this text in itself and sends the pictures, letterboxed like a
camera's frames, to stdin: 32-bit floats, one picture after the other.

Arguments: the model, the file to write, the input's name, its shape as 1,3,H,W. Needs the Python packages onnxruntime
and onnx. Ends with 3 where one of them is missing, with 4 where the model is none that can be quantized.
"""

import os
import sys
import tempfile

try:
    import numpy
    import onnx
    import onnx.version_converter
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process
except ImportError as error:
    print(f"the package {error.name} is missing")
    sys.exit(3)

# Where nearly all of the time goes. What follows (sigmoids, box arithmetic, NMS) loses the most by eight bits and gains
# nothing.
QUANTIZED = ["Conv", "MatMul", "Gemm"]
# The first version of the standard operators in which weights have a scale for each channel.
OPSET = 13


class Pictures(CalibrationDataReader):
    def __init__(self, name, shape):
        self.name, self.shape = name, shape
        self.length = 4 * int(numpy.prod(shape))
        self.count = 0

    def get_next(self):
        data = sys.stdin.buffer.read(self.length)
        if len(data) < self.length:
            return None
        self.count += 1
        return {self.name: numpy.frombuffer(data, dtype=numpy.float32).reshape(self.shape)}


def last_layers(graph):
    """The operators that give boxes and scores: those behind which there is none of their kind any more."""
    readers = {}
    for node in graph.node:
        for tensor in node.input:
            readers.setdefault(tensor, []).append(node)
    # From the end: a node is followed if one that reads it is quantized or followed.
    followed = set()
    for node in reversed(graph.node):
        behind = [reader for tensor in node.output for reader in readers.get(tensor, [])]
        if any(reader.op_type in QUANTIZED or reader.name in followed for reader in behind):
            followed.add(node.name)
    return [node.name for node in graph.node if node.op_type in QUANTIZED and node.name not in followed]


def main(model, target, name, shape):
    loaded = onnx.load(model)
    initialized = {tensor.name for tensor in loaded.graph.initializer}
    inputs = [one for one in loaded.graph.input if one.name not in initialized]
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        print("it takes more than a picture of 32-bit floats: export it in FP32, with one input")
        sys.exit(4)
    with tempfile.TemporaryDirectory() as folder:
        opset = max(one.version for one in loaded.opset_import if one.domain in ("", "ai.onnx"))
        if opset < OPSET:
            loaded = onnx.version_converter.convert_version(loaded, OPSET)
        current, prepared = os.path.join(folder, "current.onnx"), os.path.join(folder, "prepared.onnx")
        onnx.save(loaded, current)
        # Shapes are those of the file: symbolic inference needs another package.
        quant_pre_process(current, prepared, skip_symbolic_shape=True)
        pictures = Pictures(name, [int(side) for side in shape.split(",")])
        quantize_static(
            prepared,
            target,
            pictures,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=QUANTIZED,
            nodes_to_exclude=last_layers(onnx.load(prepared).graph),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    print(f"calibrated with {pictures.count} pictures")


main(*sys.argv[1:])
