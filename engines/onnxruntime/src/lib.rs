//! ONNX Runtime on the CPU, loaded at run time when the box has its library.
//!
//! Nothing of it is needed to build. A library that is missing, too old or broken is a typed error, never a panic.

mod find;
mod inputs;
mod model;
mod outputs;

pub use find::{LIBRARY_VARIABLE, NotFound, find_library};
pub use model::{LoadError, LoadOptions, Model, ModelBytes, OutputView, RunError, TensorInfo};
