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
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process
except ImportError as error:
    print(f"the package {error.name} is missing")
    sys.exit(3)

# Where nearly all of the time goes. Heads (sigmoids, box arithmetic, NMS) lose the most by eight bits and gain nothing.
QUANTIZED = ["Conv", "MatMul", "Gemm"]


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


def main(model, target, name, shape):
    initialized = {tensor.name for tensor in onnx.load(model, load_external_data=False).graph.initializer}
    inputs = [one for one in onnx.load(model, load_external_data=False).graph.input if one.name not in initialized]
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        print("it takes more than a picture of 32-bit floats: export it in FP32, with one input")
        sys.exit(4)
    with tempfile.TemporaryDirectory() as folder:
        prepared = os.path.join(folder, "prepared.onnx")
        # Shapes are those of the file: symbolic inference needs another package.
        quant_pre_process(model, prepared, skip_symbolic_shape=True)
        pictures = Pictures(name, [int(side) for side in shape.split(",")])
        quantize_static(
            prepared,
            target,
            pictures,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=QUANTIZED,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    print(f"calibrated with {pictures.count} pictures")


main(*sys.argv[1:])
