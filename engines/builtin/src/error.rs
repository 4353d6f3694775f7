//! Why a model cannot be loaded or run, in the words of the one who has to do something about it.

use watchpost_binding::{FrameError, NotShared};

/// Why a model cannot be loaded. The caller knows the file's name and puts it in front.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The operating system said no.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    /// Nothing in it.
    #[error("is empty (0 bytes): copy or download it again")]
    Empty,
    /// Larger than a detector for an edge box can be.
    #[error("is {size_bytes} bytes, more than the {limit_bytes} that are allowed")]
    TooLarge {
        /// Its size.
        size_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// The file begins like something else.
    #[error("is not an ONNX model: {reason}")]
    NotOnnx {
        /// What was found instead.
        reason: String,
    },
    /// The file ends inside a field.
    #[error(
        "is truncated: it should go on to byte {expected_bytes} and ends at {actual_bytes}; copy it again"
    )]
    Truncated {
        /// Where the field that is cut off would end.
        expected_bytes: u64,
        /// Where the file ends.
        actual_bytes: u64,
    },
    /// ONNX, but broken inside.
    #[error("is damaged or uses ONNX in a way this engine cannot read: {reason}")]
    Invalid {
        /// The library's words.
        reason: String,
    },
    /// An operator that this engine does not have.
    #[error(
        "needs the operator {operator}, which the built-in engine does not have; export the model without \
         it, or use another backend"
    )]
    UnsupportedOperator {
        /// Its name, with where it is if the model says so.
        operator: String,
    },
    /// The model's inputs are not one picture.
    #[error("has an input that this engine cannot feed: {reason}")]
    Input {
        /// Which and why.
        reason: String,
    },
    /// A fixed batch, and an output that is not one share for each picture of it.
    #[error(transparent)]
    Shared(#[from] NotShared),
    /// The proof on one empty frame failed.
    #[error("was loaded but cannot be run: {0}")]
    FirstRun(#[source] RunError),
    /// One of its outputs is nothing but NaN.
    #[error(
        "computes only NaN in output {output} for an empty picture: its weights are damaged, or overflowed when they were \
         converted; export it again"
    )]
    NotNumbers {
        /// Which output.
        output: String,
    },
    /// The threads could not be started.
    #[error("needs {threads} threads, which could not be started")]
    Threads {
        /// How many.
        threads: usize,
    },
    /// The library panicked while loading.
    #[error("makes the engine's library fail: {message}; please report this model")]
    Panicked {
        /// The panic's message.
        message: String,
    },
}

/// Why one inference failed. The model stays usable after each of them.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// What was given is not frames of this model.
    #[error(transparent)]
    Frames(#[from] FrameError),
    /// An output of a fixed batch is not of as many pictures any more.
    #[error(transparent)]
    Shared(#[from] NotShared),
    /// The library refused.
    #[error("{reason}")]
    Failed {
        /// The library's words.
        reason: String,
    },
    /// An output whose values cannot be made f32.
    #[error("output {name} is not a tensor of numbers")]
    OutputType {
        /// Which.
        name: String,
    },
    /// The library panicked; this frame has no result.
    #[error("the engine's library panicked: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
}
