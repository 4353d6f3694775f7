//! For tests only: what the stand-ins of `libnvinfer` do.
//!
//! TensorRT's interface is C++. The classes are in `shim/` (C++, compiled by the crates `nvinfer10` and `nvinfer11`
//! into a library each); everything behind their methods is here. An engine is an ONNX file with a header, and the
//! built-in engine runs it in the stream that the stand-in `libcuda` gives. The README says how to make it fail.

mod bridge;
mod bridge_builder;
mod builder;
mod context;
mod counters;
mod cuda;
mod engine;
mod exports;
mod job;
mod log;
mod model;
mod network;
mod onnx;
#[cfg(test)]
#[path = "../../../builtin/tests/onnx_writer/mod.rs"]
mod onnx_writer;
mod pause;
mod plan;
mod settings;
mod trtexec;

/// What the crates of the libraries need; see [`exports!`].
pub mod library {
    pub use crate::exports::{Shim, configure, count, create_builder, create_runtime, order};
    pub use crate::settings::{set_major, version};
    pub use crate::trtexec::main as trtexec;
}
