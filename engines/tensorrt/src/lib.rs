//! TensorRT 10 and 11, loaded at run time when the box has the library.
//!
//! Nothing of it, nor of CUDA, is needed to build. libnvinfer's interface is C++; this is a small binding of our own to
//! the entries of its virtual tables that a detector needs (`slots`), fenced here. The order of the gate matters: a GPU is
//! there, the library is there, its version is read before anything else of it is called, and what it hands out is looked
//! at before it is used. A missing, old, foreign or broken library is a typed error with words, never a crash.
//!
//! `tensorrt-rs` was not an option: it knows TensorRT 5 and 7 only.

mod abi;
mod build;
mod builder;
mod calibrator;
mod element;
mod engine;
mod error;
mod lane;
mod library;
mod logger;
mod onnx;
mod plan;
mod runner;
mod slots;
mod tensors;
mod trtexec;
mod version;

pub use build::{BuildOptions, Built, build, build_preview, build_way};
pub use calibrator::CalibrationFrames;
pub use element::TensorElement;
pub use error::TensorRtError;
pub use library::{LIBRARY_VARIABLE, Library, Unavailable, find, find_library};
pub use plan::{BuildWay, Precision};
pub use runner::{LoadOptions, Runner};
pub use tensors::{BATCH_MAX, TensorInfo};
pub use version::Version;
pub use watchpost_binding::TensorView;
