//! The engine that is always there: ONNX in pure Rust, no library to install.
//!
//! A [`Model`] is loaded once, proves itself on one empty frame, and then infers frame by frame on its
//! own bounded thread pool. Nothing here knows what the numbers mean.
#![forbid(unsafe_code)]

mod cut;
mod envelope;
mod error;
mod halves;
mod inputs;
mod model;
mod nms;

pub use error::{LoadError, RunError};
pub use model::{LoadOptions, Model, TensorInfo};
pub use watchpost_binding::{AxisOrder, Frame, FrameError, Number, PictureInput, TensorForm, TensorView};
