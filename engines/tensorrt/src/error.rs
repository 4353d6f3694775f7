//! Why TensorRT cannot do something, in the words of the one who has to do something about it.

use std::path::PathBuf;

use watchpost_cuda::CudaError;

use crate::library::{LIBRARY_VARIABLE, Unavailable};
use crate::version::Version;

/// What went wrong with TensorRT.
#[derive(Debug, thiserror::Error)]
pub enum TensorRtError {
    /// It is not on this box, or there is no GPU for it.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// A library of a version whose interface we do not know. Nothing of it was called.
    #[error(
        "{} is TensorRT {version}; 10.3 or a later 10.x, or 11.1 or a later 11.x is needed: install one, or name its \
         library with {LIBRARY_VARIABLE}",
        .path.display()
    )]
    UnsupportedVersion {
        /// The file.
        path: PathBuf,
        /// What it says it is.
        version: Version,
    },
    /// The file cannot be loaded, or is not what its name says.
    #[error("{} cannot be used: {reason}; install TensorRT again, or name another library with {LIBRARY_VARIABLE}",
        .path.display())]
    Library {
        /// The file.
        path: PathBuf,
        /// The loader's words, or the function that is missing.
        reason: String,
    },
    /// The library came back without a runtime, or a builder.
    #[error(
        "TensorRT {version} does not start: {words}; see whether `nvidia-smi` (on Jetson: `tegrastats`) works, and \
         whether the driver is new enough for this TensorRT"
    )]
    Start {
        /// Of the library.
        version: Version,
        /// What it said.
        words: String,
    },
    /// This version does not have, or is not known to have, a method that is needed.
    #[error("TensorRT {have} is too old for {method}{}; install a newer TensorRT", since_words(.since))]
    OldMinor {
        /// The method.
        method: &'static str,
        /// The first version that is known to have it; `None` if this major does not have it at all.
        since: Option<Version>,
        /// The library's version.
        have: Version,
    },
    /// The library does not take what it was given.
    #[error("TensorRT {version} refuses {what}: {words}; {advice}")]
    Refused {
        /// Of the library.
        version: Version,
        /// `"the engine"`, `"the model"`, …
        what: &'static str,
        /// What it said.
        words: String,
        /// What to do.
        advice: &'static str,
    },
    /// The engine takes or gives something that we cannot feed or read.
    #[error("the engine's {tensor} {reason}")]
    Tensor {
        /// `"input images"`, …
        tensor: String,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// A batch or a slot that is not this engine's.
    #[error("{0}")]
    Batch(String),
    /// What was asked of the build cannot be had.
    #[error("{0}")]
    Build(String),
    /// An inference could not be put on the stream.
    #[error("TensorRT {version} does not run the engine: {words}; build the engine again on this machine")]
    Enqueue {
        /// Of the library.
        version: Version,
        /// What it said.
        words: String,
    },
    /// The GPU, or its memory.
    #[error(transparent)]
    Cuda(#[from] CudaError),
}

impl TensorRtError {
    /// Whether the GPU's context is lost for this process: it has to leave with 75.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Cuda(error) if error.is_lost())
    }
}

fn since_words(since: &Option<Version>) -> String {
    since.map_or_else(
        || ", which its major does not have".to_owned(),
        |since| format!(" (it is there from {since} on)"),
    )
}
