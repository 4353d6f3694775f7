//! Distances as distributions: NanoDet, PicoDet, and YOLOv8 cut off before its head.
//!
//! Per stride `s` class scores of each cell and, per side of the box, `bins` numbers `p` that stand for the distances
//! `0, 1, …, bins - 1` (in strides): `distance = s * sum(i * softmax(p)_i)`. The grid point of column `i`, row `j` is
//! `((i + o) s, (j + o) s)` with the cell offset `o`, and the box reaches from it by the distances to the left, top,
//! right and bottom. Sources: X. Li and others, "Generalized Focal Loss", 2020, section 3.2; NanoDet
//! `nanodet/model/head/gfl_head.py` (o = 0.5) and `nanodet_plus_head.py` (o = 0); PaddleDetection
//! `ppdet/modeling/heads/pico_head.py` (o = 0.5).
//!
//! The outputs are found by their shapes: `[cells, n]`, `[1, cells, n]` or `[1, n, rows, columns]` with n the classes or
//! `4 * bins`, in any order; or one output `[1, all cells, classes + 4 * bins]`, strides in order.

use super::DecodeError;
use super::candidates::{Candidate, Candidates};
use super::error::{Shape, names};
use super::head::{Binding, Head};
use super::scores::{activate, logit_floor};
use crate::engine::TensorView;
use crate::model::{Activation, InputRecipe};

const FAMILY: &str = "NanoDet";

/// Bins that a side may have: 8 for NanoDet, 16 for YOLOv8, 33 is the most that has been seen.
const BINS_MAX: usize = 64;

#[derive(Debug, Clone, Copy)]
struct Level {
    stride: usize,
    columns: usize,
    rows: usize,
    /// Index of its first cell.
    start: usize,
}

impl Level {
    fn cells(&self) -> usize {
        self.columns * self.rows
    }
}

#[derive(Debug)]
pub(super) struct Nanodet {
    levels: Vec<Level>,
    cell_count: usize,
    bins: usize,
    cell_offset: f32,
    activation: Activation,
    label_count: usize,
}

/// Where the numbers of one cell lie: `data[start + k * step]`.
#[derive(Debug, Clone, Copy)]
struct Place {
    start: usize,
    step: usize,
}

/// A tensor's values, and where in them a cell's numbers lie.
type Numbers<'a> = (&'a [f32], Place);

/// What a head is made of besides its strides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Distances {
    pub bins: usize,
    pub cell_offset: f32,
    pub activation: Activation,
}

impl Nanodet {
    pub fn new(strides: &[usize], distances: Distances, recipe: &InputRecipe, label_count: usize) -> Self {
        let (mut levels, mut start) = (Vec::with_capacity(strides.len()), 0);
        for &stride in strides.iter().filter(|&&stride| stride > 0) {
            let (columns, rows) = (recipe.width.div_ceil(stride), recipe.height.div_ceil(stride));
            levels.push(Level { stride, columns, rows, start });
            start += columns * rows;
        }
        let Distances { bins, cell_offset, activation } = distances;
        Self { levels, cell_count: start, bins, cell_offset, activation, label_count }
    }

    fn is_joined(&self, tensors: usize) -> bool {
        tensors == 1
    }

    fn joined_len(&self) -> usize {
        self.label_count + 4 * self.bins
    }

    /// Whether an output has `len` numbers for each cell of a level.
    fn fits(level: &Level, dims: &[usize], len: usize) -> bool {
        match *dims {
            [1, n, rows, columns] => [n, rows, columns] == [len, level.rows, level.columns],
            [cells, n] | [1, cells, n] => [cells, n] == [level.cells(), len],
            _ => false,
        }
    }

    /// The output of a level with `len` numbers a cell. Where classes and distances are as many, names decide.
    fn find(&self, outputs: &[Shape<'_>], level: &Level, len: usize, is_class: bool) -> Option<usize> {
        let fitting = || outputs.iter().enumerate().filter(|(_, output)| Self::fits(level, output.dims, len));
        if self.label_count != 4 * self.bins {
            return fitting().map(|(index, _)| index).next();
        }
        let says_class =
            |name: &str| ["cls", "class", "score", "conf"].iter().any(|part| name.contains(part));
        fitting().find(|(_, output)| says_class(output.name) == is_class).map(|(index, _)| index)
    }

    /// Where the numbers of a cell lie in the output of a level.
    fn place(&self, level: &Level, tensor: &TensorView<'_>, cell: usize, len: usize) -> Place {
        if tensor.shape.len() == 4 {
            return Place { start: cell, step: level.cells() };
        }
        Place { start: cell * len, step: 1 }
    }

    /// Tensors of a level: where the classes of a cell lie, and where its distances.
    fn places<'a>(
        &self,
        tensors: &[TensorView<'a>],
        index: usize,
        cell: usize,
    ) -> (Numbers<'a>, Numbers<'a>) {
        let level = &self.levels[index];
        if self.is_joined(tensors.len()) {
            let start = (level.start + cell) * self.joined_len();
            let data = tensors[0].data;
            return (
                (data, Place { start, step: 1 }),
                (data, Place { start: start + self.label_count, step: 1 }),
            );
        }
        let (classes, distances) = (&tensors[2 * index], &tensors[2 * index + 1]);
        (
            (classes.data, self.place(level, classes, cell, self.label_count)),
            (distances.data, self.place(level, distances, cell, 4 * self.bins)),
        )
    }

    fn check_recipe(&self) -> Result<(), DecodeError> {
        let bad = |reason: &str| Err(DecodeError::Recipe { head: FAMILY, reason: reason.to_owned() });
        if self.label_count == 0 {
            return bad("it has no labels; name the model's labels in the manifest");
        }
        if self.levels.is_empty() || self.levels.len() > 8 || self.cell_count > u32::MAX as usize {
            return bad("it needs one to eight strides; write strides = [8, 16, 32]");
        }
        if !(2..=BINS_MAX).contains(&self.bins) {
            return bad("bins must be 2..=64; write bins = 8");
        }
        Ok(())
    }
}

impl Head for Nanodet {
    /// One joined output, or classes and distances of each level.
    fn bind(&self, outputs: &[Shape<'_>]) -> Result<Binding, DecodeError> {
        self.check_recipe()?;
        let joined = [self.cell_count, self.joined_len()];
        if let Some(index) = outputs.iter().position(|output| output.frame(2) == joined) {
            return Ok(Binding::new(&[index]));
        }
        if let [output] = outputs {
            let expected = format!(
                "[1, {}, {}] ({} labels + 4 x {} bins)",
                joined[0], joined[1], self.label_count, self.bins
            );
            let hint = "correct the strides, bins, labels or input size in the manifest";
            return Err(output.error(FAMILY, expected, hint));
        }
        let mut binding = Binding::new(&[]);
        for level in &self.levels {
            for (len, is_class) in [(self.label_count, true), (4 * self.bins, false)] {
                let Some(index) = self.find(outputs, level, len, is_class) else {
                    let (cells, stride) = (level.cells(), level.stride);
                    let expected = format!("an output [{cells}, {len}] for stride {stride}");
                    let (got, names) = (outputs.len(), names(outputs));
                    return Err(DecodeError::OutputCount { head: FAMILY, got, names, expected });
                };
                binding.push(index);
            }
        }
        Ok(binding)
    }

    fn collect(&mut self, tensors: &[TensorView<'_>], candidates: &mut Candidates) {
        for (index, level) in self.levels.iter().enumerate() {
            for cell in 0..level.cells() {
                let ((data, Place { start, step }), _) = self.places(tensors, index, cell);
                let all = data[start..].iter().step_by(step).take(self.label_count).copied();
                let (mut class_id, mut best) = (0, f32::NEG_INFINITY);
                for (label, value) in all.clone().enumerate() {
                    if value > best {
                        (class_id, best) = (label, value);
                    }
                }
                let floor = match self.activation {
                    Activation::None => candidates.least_score(),
                    Activation::Sigmoid => logit_floor(candidates.least_score()),
                    Activation::Softmax => f32::NEG_INFINITY,
                };
                if best >= floor {
                    let score = activate(self.activation, best, all);
                    candidates.offer(score, class_id as u32, (level.start + cell) as u32);
                }
            }
        }
    }

    fn bbox(&self, tensors: &[TensorView<'_>], candidate: &Candidate) -> [f32; 4] {
        let anchor = candidate.anchor as usize;
        let Some(index) = self.levels.iter().rposition(|level| level.start <= anchor) else {
            return [f32::NAN; 4];
        };
        let (level, cell) = (&self.levels[index], anchor - self.levels[index].start);
        let (_, (data, Place { start, step })) = self.places(tensors, index, cell);
        let stride = level.stride as f32;
        let distance = |side: usize| {
            let bins = data[start + side * self.bins * step..].iter().step_by(step).take(self.bins);
            expectation(bins.copied()) * stride
        };
        let x = ((cell % level.columns) as f32 + self.cell_offset) * stride;
        let y = ((cell / level.columns) as f32 + self.cell_offset) * stride;
        [x - distance(0), y - distance(1), x + distance(2), y + distance(3)]
    }

    fn buffer_bytes(&self) -> usize {
        self.levels.capacity() * size_of::<Level>()
    }
}

/// `sum(i * softmax(p)_i)`
fn expectation(bins: impl Iterator<Item = f32> + Clone) -> f32 {
    let greatest = bins.clone().fold(f32::NEG_INFINITY, f32::max);
    let (mut sum, mut weighted) = (0.0, 0.0);
    for (index, value) in bins.enumerate() {
        let weight = (value - greatest).exp();
        sum += weight;
        weighted += weight * index as f32;
    }
    weighted / sum
}
