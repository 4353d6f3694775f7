//! What a model wants and what its numbers mean: the manifest, and looking into ONNX files.

mod recipe;

pub use recipe::*;
