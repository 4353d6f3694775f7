//! The YOLOv8 head (also YOLOv9, 11 and 12): decoded in the model, no objectness.
//!
//! One output `[1, 4 + labels + extra, N]`, channel by channel: rows cx, cy, w, h in tensor pixels, then one row of
//! scores (already through a sigmoid) per label, then the numbers of a pose, a mask or an angle. The score of a box is
//! its best label's. Source: Ultralytics `nn/modules/head.py` (`Detect`, `Pose`, `Segment`, `OBB`) and `utils/ops.py`
//! (`non_max_suppression`, `xywh2xyxy`).
//!
//! N is the model's own affair (heads with three or four grids exist), so the best label is found block by
//! block: the rows are walked in stretches that fit the first cache, into buffers whose size does not depend
//! on N.

use super::candidates::{Candidate, Candidates};
use super::details::{Details, Rotated};
use super::error::Shape;
use super::head::{Binding, Head, bind_one};
use super::tail::Tail;
use super::{DecodeError, Detection};
use crate::engine::TensorView;
use crate::model::{Extra, InputRecipe};

const FAMILY: &str = "YOLOv8";

/// Rows before the class scores: cx, cy, w, h.
const BOX_LEN: usize = 4;

/// Boxes of a block: 8 KiB of each row.
const BLOCK: usize = 2048;

#[derive(Debug)]
pub(super) struct Yolov8 {
    label_count: usize,
    tail: Tail,
    best_score: Vec<f32>,
}

impl Yolov8 {
    pub fn new(extra: Extra, recipe: &InputRecipe, label_count: usize) -> Self {
        Self { label_count, tail: Tail::new(extra, recipe), best_score: vec![0.0; BLOCK] }
    }

    fn row_count(&self) -> usize {
        BOX_LEN + self.label_count + self.tail.len()
    }

    fn box_count(&self, tensors: &[TensorView<'_>]) -> usize {
        tensors[0].data.len() / self.row_count()
    }

    fn expected(&self) -> String {
        let (row_count, labels) = (self.row_count(), self.label_count);
        match self.tail.len() {
            0 => format!("[1, {row_count}, N] ({BOX_LEN} + {labels} labels, then boxes)"),
            extra => format!("[1, {row_count}, N] ({BOX_LEN} + {labels} labels + {extra}, then boxes)"),
        }
    }

    fn hint(&self, shape: &[usize]) -> String {
        let row_count = self.row_count();
        match *shape {
            [1, _, len] if len == row_count => {
                "it is transposed: export the model without a transposing output".to_owned()
            }
            [1, _, 6] => {
                "its NMS is inside the model: write its manifest anew with `watchpost model add`, or export it with \
                 nms=False"
                    .to_owned()
            }
            [1, rows, boxes] if rows > BOX_LEN && rows < boxes => format!(
                "this one would have {} labels, the manifest names {}; for pose and segmentation models write it anew \
                 with `watchpost model add`",
                rows - BOX_LEN,
                self.label_count
            ),
            _ => "choose another head in the manifest, or export the model with batch size 1".to_owned(),
        }
    }

    fn number(&self, tensors: &[TensorView<'_>], candidate: &Candidate, row: usize) -> f32 {
        tensors[0].data[row * self.box_count(tensors) + candidate.anchor as usize]
    }
}

impl Head for Yolov8 {
    fn bind(&self, outputs: &[Shape<'_>]) -> Result<Binding, DecodeError> {
        if self.label_count == 0 {
            let reason = "it has no labels; name the model's labels in the manifest".to_owned();
            return Err(DecodeError::Recipe { head: FAMILY, reason });
        }
        let row_count = self.row_count();
        let binding = bind_one(
            FAMILY,
            outputs,
            || self.expected(),
            |dims| self.hint(dims),
            |dims| matches!(*dims, [1, rows, boxes] if rows == row_count && boxes > 0 && boxes <= u32::MAX as usize),
        )?;
        self.tail.bind(FAMILY, outputs, binding)
    }

    fn collect(&mut self, tensors: &[TensorView<'_>], candidates: &mut Candidates) {
        let box_count = self.box_count(tensors);
        let scores = &tensors[0].data[BOX_LEN * box_count..(BOX_LEN + self.label_count) * box_count];
        for start in (0..box_count).step_by(BLOCK) {
            let len = BLOCK.min(box_count - start);
            let best = &mut self.best_score[..len];
            best.fill(f32::NEG_INFINITY);
            let mut rows = scores.chunks_exact(box_count).map(|row| &row[start..start + len]);
            while let Some(first) = rows.next() {
                // Past the last label the row itself, which changes nothing.
                let rows = [
                    first,
                    rows.next().unwrap_or(first),
                    rows.next().unwrap_or(first),
                    rows.next().unwrap_or(first),
                ];
                keep_greatest(rows, best);
            }
            for (index, &score) in best.iter().enumerate() {
                if score >= candidates.least_score() {
                    let anchor = start + index;
                    // Which label it was is asked of the few that pass.
                    let mut column = scores[anchor..].iter().step_by(box_count);
                    let class_id = column.position(|&other| other == score).unwrap_or(0);
                    candidates.offer(score, class_id as u32, anchor as u32);
                }
            }
        }
    }

    fn bbox(&self, tensors: &[TensorView<'_>], candidate: &Candidate) -> [f32; 4] {
        if let Some(rotated) = self.rotated(tensors, candidate) {
            return rotated.enclosing();
        }
        let [x, y, width, height] = std::array::from_fn(|row| self.number(tensors, candidate, row));
        [x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0]
    }

    fn rotated(&self, tensors: &[TensorView<'_>], candidate: &Candidate) -> Option<Rotated> {
        let upright = std::array::from_fn(|row| self.number(tensors, candidate, row));
        let first = BOX_LEN + self.label_count;
        self.tail.rotated(upright, |k| self.number(tensors, candidate, first + k))
    }

    fn detail(
        &mut self,
        tensors: &[TensorView<'_>],
        candidate: &Candidate,
        detection: &Detection,
        details: &mut Details,
    ) {
        let (first, box_count) = (BOX_LEN + self.label_count, self.box_count(tensors));
        let data = tensors[0].data;
        let number = |k: usize| data[(first + k) * box_count + candidate.anchor as usize];
        self.tail.detail(tensors, number, detection.bbox, details);
    }

    fn buffer_bytes(&self) -> usize {
        self.best_score.capacity() * size_of::<f32>() + self.tail.buffer_bytes()
    }
}

/// The greatest of four labels' scores and of the best so far, box by box. NaN is never the greatest.
// Not inlined: only as arguments are the slices known not to overlap, which vectorising needs.
#[inline(never)]
fn keep_greatest(rows: [&[f32]; 4], best: &mut [f32]) {
    let len = best.len();
    let [a, b, c, d] = rows.map(|row| &row[..len]);
    for index in 0..len {
        let mut greatest = best[index];
        for score in [a[index], b[index], c[index], d[index]] {
            greatest = if score > greatest { score } else { greatest };
        }
        best[index] = greatest;
    }
}
