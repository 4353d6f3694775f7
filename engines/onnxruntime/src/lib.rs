//! ONNX Runtime, loaded at run time when the box has its library: on the CPU, and on an NVIDIA GPU through its CUDA and
//! TensorRT providers.
//!
//! Nothing of it is needed to build. A library or a provider that is missing, too old or broken is a typed error, never
//! a panic and never a silent run on the CPU.

mod device;
mod find;
mod in_place;
mod inputs;
mod model;
mod outputs;
mod provider;

pub use device::{DeviceModel, DeviceOptions, DeviceRunError};
pub use find::{LIBRARY_VARIABLE, find_library};
pub use model::{LoadError, LoadOptions, Model, ModelBytes, RunError, TensorInfo};
pub use provider::{Provider, check_provider};
pub use watchpost_binding::{NotFound, TensorView};
