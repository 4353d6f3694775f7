//! Why outputs are not those of the head that the manifest names.

use crate::engine::TensorView;

/// Why outputs are not those of the head that the manifest names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The manifest contradicts itself.
    #[error("the manifest's {head} head cannot be: {reason}")]
    Recipe {
        /// Head family.
        head: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// No output, or more than one, looks like the head's.
    #[error(
        "the model has {got} outputs ({names}) and none of them alone is that of a {head} head, {expected}; export it \
         with the raw detection output only, or write its manifest anew with `watchpost model add`"
    )]
    OutputCount {
        /// Head family.
        head: &'static str,
        /// How many there are.
        got: usize,
        /// Their names.
        names: String,
        /// In words: `[1, 84, N]`.
        expected: String,
    },
    /// An output that the manifest names is not there.
    #[error(
        "the model has no output {name:?}, which the manifest's {head} head reads; it has: {names}. Correct the names in \
         [head], or write the manifest anew with `watchpost model add`"
    )]
    Missing {
        /// Head family.
        head: &'static str,
        /// Which one.
        name: String,
        /// What there is.
        names: String,
    },
    /// The output has another shape.
    #[error("output {name} has shape {got} where a {head} head has {expected}; {hint}")]
    Shape {
        /// Head family.
        head: &'static str,
        /// The output's name in the model.
        name: String,
        /// In words: `[1, 3549, 85] (boxes, 5 + 80 labels)`.
        expected: String,
        /// As found: `[1, 3549, 86]`.
        got: String,
        /// What the user can do.
        hint: String,
    },
    /// The number of boxes does not follow from the input size.
    #[error(
        "output {name} has {got} boxes where a {width}x{height} input with strides {strides:?} has {expected}: \
             set the input size or the strides in the manifest to those the model was exported with"
    )]
    BoxCount {
        /// The output's name in the model.
        name: String,
        /// Boxes in the output.
        got: usize,
        /// Sum of the grids.
        expected: usize,
        /// Input width in pixels.
        width: usize,
        /// Input height in pixels.
        height: usize,
        /// The manifest's strides.
        strides: Vec<usize>,
    },
    /// Fewer values than the shape says.
    #[error(
        "output {name} holds {got} values where its shape {shape} has {expected}: the backend is at fault, please report it"
    )]
    Values {
        /// The output's name in the model.
        name: String,
        /// Its shape.
        shape: String,
        /// Product of the shape.
        expected: usize,
        /// Length of the slice.
        got: usize,
    },
    /// More outputs than any head has.
    #[error(
        "the model has {got} outputs, more than the {limit} that are looked at; export it with its detection outputs only"
    )]
    TooManyOutputs {
        /// How many there are.
        got: usize,
        /// The limit.
        limit: usize,
    },
}

/// Name and shape of an output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape<'a> {
    pub name: &'a str,
    pub dims: &'a [usize],
}

impl<'a> Shape<'a> {
    pub const NONE: Self = Self { name: "", dims: &[] };

    pub fn new(view: &TensorView<'a>) -> Self {
        Self { name: view.name, dims: view.shape }
    }

    /// The dimensions without a leading batch of one.
    pub fn frame(&self, rank: usize) -> &'a [usize] {
        match self.dims {
            [1, rest @ ..] if rest.len() == rank => rest,
            dims => dims,
        }
    }

    pub fn error(
        &self,
        head: &'static str,
        expected: impl Into<String>,
        hint: impl Into<String>,
    ) -> DecodeError {
        let (name, got) = (self.name.to_owned(), shape_text(self.dims));
        DecodeError::Shape { head, name, expected: expected.into(), got, hint: hint.into() }
    }
}

pub(super) fn shape_text(shape: &[usize]) -> String {
    let sizes: Vec<_> = shape.iter().map(usize::to_string).collect();
    format!("[{}]", sizes.join(", "))
}

pub(super) fn names(outputs: &[Shape<'_>]) -> String {
    outputs.iter().map(|output| output.name).collect::<Vec<_>>().join(", ")
}
