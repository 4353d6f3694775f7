//! What can be wrong with a model or its manifest.

use std::path::{Path, PathBuf};

use super::{ConcludeError, InspectError};
use crate::os_words::os_words;

/// Why a model cannot be used. Each message says where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// No manifest of this name in any of the places where they are looked for.
    #[error("there is no model {name:?}; {hint}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The nearest name, the names there are, and where they were looked for.
        hint: String,
    },
    /// A file cannot be read.
    #[error("{}: {}", path.display(), os_words(cause))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        cause: std::io::Error,
    },
    /// The manifest is there and the weights are not.
    #[error(
        "{}: the model file of {name:?} is missing; put it there (sha256 {sha256}), or write a manifest for \
         your own file with `watchpost model add FILE.onnx --name {name}`",
        path.display()
    )]
    FileMissing {
        /// Name of the model.
        name: String,
        /// Where it should be.
        path: PathBuf,
        /// Which file it should be.
        sha256: String,
    },
    /// It is in the catalogue and has not been fetched.
    #[error(
        "the model {name:?} is known but not on this box yet; `watchpost model pull {name}` fetches it \
         ({mebibytes:.1} MiB, licence {license}; as root for the service)"
    )]
    NotPulled {
        /// Name of the model.
        name: String,
        /// How much it is.
        mebibytes: f64,
        /// Licence of the weights.
        license: String,
    },
    /// The file is not the one that the manifest was written for.
    #[error(
        "{path}: this is not the file that the manifest describes (sha256 {actual}, the manifest says \
         {expected}); restore the file, or describe the new one with `watchpost model add {path} --force`"
    )]
    Digest {
        /// The file.
        path: String,
        /// In the manifest.
        expected: String,
        /// Of the file.
        actual: String,
    },
    /// The manifest's text is wrong.
    #[error("{file}:{line}:{column}: {reason}", file = path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong.
        reason: String,
    },
    /// The manifest and the model contradict each other.
    #[error("model {name:?}: {reason}")]
    Mismatch {
        /// Name of the model.
        name: String,
        /// What contradicts what.
        reason: String,
    },
    /// The ONNX file cannot be looked into.
    #[error("{path}: {cause}")]
    Inspect {
        /// The file.
        path: String,
        /// Why.
        cause: InspectError,
    },
    /// The ONNX file is not a detector we can read.
    #[error("{path}: {cause}")]
    Conclude {
        /// The file.
        path: String,
        /// Why.
        cause: ConcludeError,
    },
}

impl ModelError {
    pub(crate) fn unreadable(path: &Path, cause: std::io::Error) -> Self {
        Self::Unreadable { path: path.to_owned(), cause }
    }
}
