//! The YOLOv5 head before its decoding (also YOLOv7 exported without `--grid`).
//!
//! One output per stride `s`, `[1, A, H, W, 5 + labels]` or, straight from the convolution,
//! `[1, A * (5 + labels), H, W]`; numbers before the sigmoid. For anchor `a` of size `(aw, ah)` in the cell of column
//! `i` and row `j`, with `q = sigmoid(p)`:
//! `x = (2 q0 - 0.5 + i) * s`, `y = (2 q1 - 0.5 + j) * s` (centre), `w = (2 q2)^2 * aw`, `h = (2 q3)^2 * ah`, in tensor
//! pixels; `score = q4 * max(q5..)`. Source: YOLOv5 `models/yolo.py` (`Detect.forward`), YOLOv7 `models/yolo.py`
//! (`IDetect.forward`).

use super::DecodeError;
use super::candidates::{Candidate, Candidates};
use super::error::Shape;
use super::head::{Binding, Head};
use super::scores::{logit_floor, sigmoid};
use crate::engine::TensorView;
use crate::model::InputRecipe;

const FAMILY: &str = "YOLOv5 grid";

/// Numbers before the class scores: x, y, w, h, objectness.
const BOX_LEN: usize = 5;

/// One output.
#[derive(Debug, Clone)]
struct Grid {
    stride: usize,
    columns: usize,
    rows: usize,
    /// Index of its first box.
    start: usize,
    anchors: Vec<[f32; 2]>,
}

impl Grid {
    fn cells(&self) -> usize {
        self.columns * self.rows
    }

    fn len(&self) -> usize {
        self.cells() * self.anchors.len()
    }
}

#[derive(Debug)]
pub(super) struct Yolov5Grids {
    grids: Vec<Grid>,
    label_count: usize,
    divides: bool,
}

/// Where the numbers of one box lie: `data[start + k * step]`.
#[derive(Clone, Copy)]
struct Place {
    start: usize,
    step: usize,
}

impl Yolov5Grids {
    pub fn new(
        strides: &[usize],
        anchors: &[Vec<[f32; 2]>],
        recipe: &InputRecipe,
        label_count: usize,
    ) -> Self {
        let (mut grids, mut start) = (Vec::with_capacity(strides.len()), 0);
        for (&stride, anchors) in strides.iter().zip(anchors).filter(|(stride, _)| **stride > 0) {
            let (columns, rows) = (recipe.width / stride, recipe.height / stride);
            let grid = Grid { stride, columns, rows, start, anchors: anchors.clone() };
            start += grid.len();
            grids.push(grid);
        }
        let side = |side: usize| strides.iter().all(|&stride| stride > 0 && side.is_multiple_of(stride));
        let divides = side(recipe.width)
            && side(recipe.height)
            && anchors.len() == strides.len()
            && u32::try_from(start).is_ok();
        Self { grids, label_count, divides }
    }

    fn row_len(&self) -> usize {
        BOX_LEN + self.label_count
    }

    fn fits(&self, grid: &Grid, dims: &[usize]) -> bool {
        let (len, anchors) = (self.row_len(), grid.anchors.len());
        match *dims {
            [1, a, rows, columns, row] => [a, rows, columns, row] == [anchors, grid.rows, grid.columns, len],
            [1, channels, rows, columns] => {
                [channels, rows, columns] == [anchors * len, grid.rows, grid.columns]
            }
            _ => false,
        }
    }

    /// Where box `index` of a grid lies in its output.
    fn place(&self, grid: &Grid, dims: &[usize], index: usize) -> Place {
        let len = self.row_len();
        if dims.len() == 5 {
            return Place { start: index * len, step: 1 };
        }
        let (anchor, cell) = (index / grid.cells(), index % grid.cells());
        Place { start: anchor * len * grid.cells() + cell, step: grid.cells() }
    }
}

impl Head for Yolov5Grids {
    fn bind(&self, outputs: &[Shape<'_>]) -> Result<Binding, DecodeError> {
        if self.label_count == 0 || self.grids.is_empty() || !self.divides {
            let reason = "it needs labels, strides that divide the input's width and height, and a list of anchors per \
                          stride: strides = [8, 16, 32], anchors = [[[10, 13], …], …]"
                .to_owned();
            return Err(DecodeError::Recipe { head: FAMILY, reason });
        }
        let mut binding = Binding::new(&[]);
        for grid in &self.grids {
            match outputs.iter().position(|output| self.fits(grid, output.dims)) {
                Some(index) => binding.push(index),
                None => {
                    let (len, anchors) = (self.row_len(), grid.anchors.len());
                    let expected = format!(
                        "[1, {anchors}, {}, {}, {len}] for stride {} ({anchors} anchors, {BOX_LEN} + {} labels)",
                        grid.rows, grid.columns, grid.stride, self.label_count
                    );
                    let hint = "correct the strides, anchors or labels in the manifest";
                    // The one that comes nearest is the one to show.
                    let shown = outputs.iter().max_by_key(|output| output.dims.len()).copied();
                    return Err(shown.unwrap_or(Shape::NONE).error(FAMILY, expected, hint));
                }
            }
        }
        Ok(binding)
    }

    fn collect(&mut self, tensors: &[TensorView<'_>], candidates: &mut Candidates) {
        for (grid, tensor) in self.grids.iter().zip(tensors) {
            for index in 0..grid.len() {
                let Place { start, step } = self.place(grid, tensor.shape, index);
                let objectness = tensor.data[start + (BOX_LEN - 1) * step];
                // A class score is at most 1, so the objectness alone rules most boxes out.
                if objectness < logit_floor(candidates.least_score()) {
                    continue;
                }
                let classes =
                    tensor.data[start + BOX_LEN * step..].iter().step_by(step).take(self.label_count);
                let (mut class_id, mut best) = (0, f32::NEG_INFINITY);
                for (index, &score) in classes.enumerate() {
                    if score > best {
                        (class_id, best) = (index, score);
                    }
                }
                let anchor = (grid.start + index) as u32;
                candidates.offer(sigmoid(objectness) * sigmoid(best), class_id as u32, anchor);
            }
        }
    }

    fn bbox(&self, tensors: &[TensorView<'_>], candidate: &Candidate) -> [f32; 4] {
        let anchor = candidate.anchor as usize;
        let found = self.grids.iter().zip(tensors).rev().find(|(grid, _)| grid.start <= anchor);
        let Some((grid, tensor)) = found else { return [f32::NAN; 4] };
        let index = anchor - grid.start;
        let Place { start, step } = self.place(grid, tensor.shape, index);
        let [x, y, width, height]: [f32; 4] = std::array::from_fn(|k| sigmoid(tensor.data[start + k * step]));
        let (cell, size) = (index % grid.cells(), grid.anchors[index / grid.cells()]);
        let (column, row) = ((cell % grid.columns) as f32, (cell / grid.columns) as f32);
        let stride = grid.stride as f32;
        let (x, y) = ((2.0 * x - 0.5 + column) * stride, (2.0 * y - 0.5 + row) * stride);
        let (width, height) = (4.0 * width * width * size[0], 4.0 * height * height * size[1]);
        [x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0]
    }

    fn buffer_bytes(&self) -> usize {
        let anchors: usize =
            self.grids.iter().map(|grid| grid.anchors.capacity() * size_of::<[f32; 2]>()).sum();
        self.grids.capacity() * size_of::<Grid>() + anchors
    }
}
