//! What every head family does, and which of the model's outputs it does it to.

use std::fmt;

use super::candidates::{Candidate, Candidates};
use super::details::{Details, Rotated};
use super::error::{Shape, names};
use super::{DecodeError, Detection};
use crate::engine::TensorView;

/// Outputs of a model that are looked at.
pub(super) const OUTPUTS_MAX: usize = 64;
/// Outputs that one head reads: two for each of eight strides.
const BOUND_MAX: usize = 16;

/// Which outputs a head reads, in the order in which its methods get them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Binding {
    index: [u8; BOUND_MAX],
    len: usize,
}

impl Binding {
    pub fn new(indices: &[usize]) -> Self {
        let mut binding = Self { index: [0; BOUND_MAX], len: 0 };
        for &index in indices {
            binding.push(index);
        }
        binding
    }

    /// One more output. More than a head can have are left out: `bind` has refused such recipes.
    pub fn push(&mut self, index: usize) {
        if self.len < BOUND_MAX {
            self.index[self.len] = index as u8;
            self.len += 1;
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// The outputs in the head's order.
    pub fn of<'a>(&self, outputs: &[TensorView<'a>]) -> [TensorView<'a>; BOUND_MAX] {
        let mut bound = [TensorView { name: "", shape: &[], data: &[] }; BOUND_MAX];
        for (slot, &index) in bound.iter_mut().zip(&self.index[..self.len]) {
            *slot = outputs[usize::from(index)];
        }
        bound
    }
}

/// One family of heads with what it keeps. `tensors` are the bound outputs; their shapes and lengths have been
/// checked.
pub(super) trait Head: fmt::Debug + Send {
    /// Finds its outputs among those of the model. Allocates only for an error.
    fn bind(&self, outputs: &[Shape<'_>]) -> Result<Binding, DecodeError>;

    /// Offers every box whose score may be good enough.
    fn collect(&mut self, tensors: &[TensorView<'_>], candidates: &mut Candidates);

    /// The box of a candidate, `[x1, y1, x2, y2]` in tensor pixels.
    fn bbox(&self, tensors: &[TensorView<'_>], candidate: &Candidate) -> [f32; 4];

    /// The oriented box of a candidate, in tensor pixels.
    fn rotated(&self, _tensors: &[TensorView<'_>], _candidate: &Candidate) -> Option<Rotated> {
        None
    }

    /// Whether boxes that overlap are duplicates.
    fn suppresses(&self) -> bool {
        true
    }

    /// Objects of one picture at most, whatever the limits allow.
    fn objects_max(&self) -> usize {
        usize::MAX
    }

    /// Says what else there is about a box that stayed.
    fn detail(
        &mut self,
        _tensors: &[TensorView<'_>],
        _candidate: &Candidate,
        _detection: &Detection,
        _details: &mut Details,
    ) {
    }

    fn buffer_bytes(&self) -> usize {
        0
    }
}

/// The one output for which `fits`. Others may be there: some exporters leave intermediate tensors among them.
pub(super) fn bind_one(
    head: &'static str,
    outputs: &[Shape<'_>],
    expected: impl Fn() -> String,
    hint: impl Fn(&[usize]) -> String,
    fits: impl Fn(&[usize]) -> bool,
) -> Result<Binding, DecodeError> {
    let mut fitting = outputs.iter().enumerate().filter(|(_, output)| fits(output.dims));
    match (fitting.next(), fitting.next()) {
        (Some((index, _)), None) => Ok(Binding::new(&[index])),
        (None, _) if outputs.len() == 1 => Err(outputs[0].error(head, expected(), hint(outputs[0].dims))),
        _ => Err(DecodeError::OutputCount {
            head,
            got: outputs.len(),
            names: names(outputs),
            expected: expected(),
        }),
    }
}

/// The output of this name.
pub(super) fn bind_named(
    head: &'static str,
    outputs: &[Shape<'_>],
    name: &str,
) -> Result<usize, DecodeError> {
    outputs.iter().position(|output| output.name == name).ok_or_else(|| DecodeError::Missing {
        head,
        name: name.to_owned(),
        names: names(outputs),
    })
}
