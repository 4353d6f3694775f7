//! Compiles the classes of the ONNX parser of TensorRT 11 and gives the library its name.

#[path = "../nvinfer/shim/compile.rs"]
mod compile;
#[path = "../nvinfer/shim/declarations.rs"]
mod declarations;

fn main() {
    compile::compile("nvonnxparser", 11);
}
