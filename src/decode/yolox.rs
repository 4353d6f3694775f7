//! The YOLOX head, not decoded in the model.
//!
//! One output `[1, N, 5 + labels]`. Box `n` of the grid with stride `s`, in column `i` and row `j`, is
//! `x = (p0 + i) * s`, `y = (p1 + j) * s` (centre), `w = exp(p2) * s`, `h = exp(p3) * s`, in tensor pixels; its
//! score is `p4 * max(p5..)`, both already through a sigmoid. Grids follow each other in the order of the
//! strides, each row by row. Source: YOLOX `yolox/models/yolo_head.py` (`decode_outputs`) and
//! `yolox/utils/demo_utils.py` (`demo_postprocess`).

use super::DecodeError;
use super::candidates::{Candidate, Candidates};
use super::error::Shape;
use super::head::{Binding, Head, bind_one};
use super::scores::best_class;
use crate::engine::TensorView;
use crate::model::InputRecipe;

const FAMILY: &str = "YOLOX";

/// Values before the class scores: x, y, w, h, objectness.
const BOX_LEN: usize = 5;

/// One grid of boxes.
#[derive(Debug, Clone, Copy)]
struct Grid {
    stride: usize,
    columns: usize,
    /// Index of its first box.
    start: usize,
}

#[derive(Debug)]
pub(super) struct Yolox {
    strides: Vec<usize>,
    width: usize,
    height: usize,
    grids: Vec<Grid>,
    box_count: usize,
    label_count: usize,
}

impl Yolox {
    pub fn new(strides: &[usize], recipe: &InputRecipe, label_count: usize) -> Self {
        let mut grids = Vec::with_capacity(strides.len());
        let mut box_count = 0;
        // A stride of 0 is told by `check`; here it only must not divide.
        for &stride in strides.iter().filter(|&&stride| stride > 0) {
            let columns = recipe.width / stride;
            grids.push(Grid { stride, columns, start: box_count });
            box_count += columns * (recipe.height / stride);
        }
        let (width, height) = (recipe.width, recipe.height);
        Self { strides: strides.to_vec(), width, height, grids, box_count, label_count }
    }

    fn check_recipe(&self) -> Result<(), DecodeError> {
        let bad = |reason: String| Err(DecodeError::Recipe { head: FAMILY, reason });
        if self.label_count == 0 {
            return bad("it has no labels; name the model's labels in the manifest".to_owned());
        }
        if self.strides.is_empty() {
            return bad("it has no strides; write strides = [8, 16, 32]".to_owned());
        }
        for &stride in &self.strides {
            if stride == 0 || !self.width.is_multiple_of(stride) || !self.height.is_multiple_of(stride) {
                let (width, height) = (self.width, self.height);
                return bad(format!("stride {stride} does not divide the {width}x{height} input"));
            }
        }
        Ok(())
    }

    fn hint(&self, shape: &[usize]) -> String {
        match *shape {
            [1, _, len] if len > BOX_LEN => {
                let labels = len - BOX_LEN;
                format!("this one would have {labels} labels: the manifest names {}", self.label_count)
            }
            _ => "choose another head in the manifest, or export the model with batch size 1".to_owned(),
        }
    }
}

impl Head for Yolox {
    fn bind(&self, outputs: &[Shape<'_>]) -> Result<Binding, DecodeError> {
        self.check_recipe()?;
        let row_len = BOX_LEN + self.label_count;
        let rows = |dims: &[usize]| matches!(*dims, [1, _, len] if len == row_len).then(|| dims[1]);
        let fits = |dims: &[usize]| rows(dims) == Some(self.box_count);
        if let [output] = outputs
            && let Some(got) = rows(output.dims).filter(|&got| got != self.box_count)
        {
            let (name, expected) = (output.name.to_owned(), self.box_count);
            let (width, height, strides) = (self.width, self.height, self.strides.clone());
            return Err(DecodeError::BoxCount { name, got, expected, width, height, strides });
        }
        let expected = || {
            format!(
                "[1, {}, {row_len}] (boxes, then {BOX_LEN} + {} labels)",
                self.box_count, self.label_count
            )
        };
        bind_one(FAMILY, outputs, expected, |dims| self.hint(dims), fits)
    }

    fn collect(&mut self, tensors: &[TensorView<'_>], candidates: &mut Candidates) {
        for (anchor, row) in tensors[0].data.chunks_exact(BOX_LEN + self.label_count).enumerate() {
            let (head, classes) = row.split_at(BOX_LEN);
            // A class score is at most 1, so the objectness alone rules most boxes out.
            let objectness = head[BOX_LEN - 1];
            if objectness >= candidates.least_score() {
                let (class_id, class_score) = best_class(classes);
                candidates.offer(objectness * class_score, class_id, anchor as u32);
            }
        }
    }

    fn bbox(&self, tensors: &[TensorView<'_>], candidate: &Candidate) -> [f32; 4] {
        let anchor = candidate.anchor as usize;
        let start = anchor * (BOX_LEN + self.label_count);
        let grid = self.grids.iter().rev().find(|grid| grid.start <= anchor && grid.columns > 0);
        let (Some(row), Some(grid)) = (tensors[0].data.get(start..start + 4), grid) else {
            return [f32::NAN; 4];
        };
        let (column, line) = ((anchor - grid.start) % grid.columns, (anchor - grid.start) / grid.columns);
        let stride = grid.stride as f32;
        let (x, y) = ((row[0] + column as f32) * stride, (row[1] + line as f32) * stride);
        let (half_width, half_height) = (row[2].exp() * stride / 2.0, row[3].exp() * stride / 2.0);
        [x - half_width, y - half_height, x + half_width, y + half_height]
    }

    fn buffer_bytes(&self) -> usize {
        self.strides.capacity() * size_of::<usize>() + self.grids.capacity() * size_of::<Grid>()
    }
}
