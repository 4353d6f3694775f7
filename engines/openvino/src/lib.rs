//! OpenVINO, loaded at run time when the box has its library: Intel's CPUs (with bfloat16 where they have it), GPUs and NPUs,
//! and ARM's CPUs.
//!
//! Nothing of it is needed to build. A library that is missing, too old or none at all is a typed error, never a panic.
//! Input tensors are lent to it in place.

mod find;
mod graph;
mod library;
mod model;
mod outputs;
mod owned;

pub use find::{LIBRARY_VARIABLE, find_library};
pub use library::{Library, OldestVersion};
pub use model::{Arithmetic, LoadError, LoadOptions, Mode, Model, ModelBytes, RunError};
pub use watchpost_binding::{NotFound, TensorView};
