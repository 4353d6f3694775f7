//! What a model wants and what its numbers mean: the manifest, and looking into ONNX files.

mod catalogue;
mod conclude;
mod error;
mod find;
mod head_text;
mod inspect_error;
mod labels;
mod manifest;
mod manifest_text;
mod observe;
mod onnx;
mod outputs;
mod python_literal;
mod recipe;
mod weights;
mod wire;

pub use catalogue::{catalogue, downloadable, pull_dir};
pub(crate) use conclude::settle as picture;
pub use conclude::{ConcludeError, Conclusion, Overrides, Values, conclude};
pub use error::ModelError;
pub use find::{Listed, digest, find, list, locate, look_into, search_dirs, verify};
pub use inspect_error::InspectError;
pub use labels::{coco80, parse as parse_labels};
pub use manifest::{Download, Manifest, ModelSource, load_labels};
pub use manifest_text::check_name;
pub(crate) use manifest_text::nearest;
pub use observe::conclude_file;
pub use onnx::{Dim, NodeFacts, OnnxFacts, TensorFacts, inspect, inspect_bytes, inspect_source};
pub use recipe::*;
