//! Why an ONNX file cannot be looked into.

use crate::os_words::os_words;

/// Why an ONNX file cannot be looked into. The caller puts the file's name in front.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The operating system said no.
    #[error("cannot be read: {}", os_words(.0))]
    Unreadable(#[from] std::io::Error),
    /// Nothing in it.
    #[error("is empty (0 bytes); copy or download it again")]
    Empty,
    /// The file is something else.
    #[error("is not an ONNX model: {reason}")]
    NotOnnx {
        /// What was found instead.
        reason: &'static str,
    },
    /// The file ends inside a field.
    #[error(
        "is truncated: it should go on to at least byte {expected_bytes} and ends at {actual_bytes}; copy it \
         again"
    )]
    Truncated {
        /// Where the field that is cut off would end.
        expected_bytes: u64,
        /// Where the file ends.
        actual_bytes: u64,
    },
    /// Lengths or tags inside contradict each other.
    #[error("is damaged at byte {position}; copy it again")]
    Damaged {
        /// Where.
        position: u64,
    },
    /// More of something than any detector has.
    #[error("has more of {what} than a detector can have (limit {limit}); it was not read")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A shape asks for other bytes than there are.
    #[error(
        "says that its weights {name:?} have the shape {dims:?}, which is {needed}, and holds {found}; it is damaged or made \
         to deceive: export or download it again"
    )]
    Weights {
        /// The tensor.
        name: String,
        /// Its shape.
        dims: Vec<i64>,
        /// What that asks for.
        needed: String,
        /// What there is.
        found: String,
    },
    /// Weights lie in another file, which cannot be used.
    #[error("has its weights {name:?} in {reason}")]
    External {
        /// The tensor.
        name: String,
        /// Which file, and what to do.
        reason: String,
    },
    /// An operator would make a tensor that no detector needs.
    #[error(
        "makes a tensor of the shape {shape:?} with {op}, more than a detector can need; export it again"
    )]
    Made {
        /// The operator.
        op: String,
        /// The shape that the file holds.
        shape: Vec<i64>,
    },
}
