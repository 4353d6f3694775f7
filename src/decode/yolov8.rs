//! The YOLOv8 head (also YOLOv9, 11 and 12): decoded in the model, no objectness.
//!
//! One output `[1, 4 + labels, N]`, channel by channel: rows cx, cy, w, h in tensor pixels, then one row of
//! scores (already through a sigmoid) per label. The score of a box is its best label's. Source: Ultralytics
//! `nn/modules/head.py` (`Detect`) and `utils/ops.py` (`non_max_suppression`, `xywh2xyxy`).
//!
//! N is the model's own affair (heads with three or four grids exist), so the best label is found block by
//! block: the rows are walked in stretches that fit the first cache, into buffers whose size does not depend
//! on N.

use super::candidates::Candidates;
use super::{DecodeError, shape_text};

pub(super) const FAMILY: &str = "YOLOv8";

/// Rows before the class scores: cx, cy, w, h.
const BOX_LEN: usize = 4;

/// Boxes of a block: 2 KiB of each row.
const BLOCK: usize = 512;

#[derive(Debug)]
pub(super) struct Yolov8 {
    label_count: usize,
    best_score: Vec<f32>,
    best_class: Vec<u32>,
}

impl Yolov8 {
    pub fn new(label_count: usize) -> Self {
        Self { label_count, best_score: vec![0.0; BLOCK], best_class: vec![0; BLOCK] }
    }

    pub fn check(&self, name: &str, shape: &[usize]) -> Result<(), DecodeError> {
        if self.label_count == 0 {
            let reason = "it has no labels; name the model's labels in the manifest".to_owned();
            return Err(DecodeError::Recipe { head: FAMILY, reason });
        }
        let row_count = BOX_LEN + self.label_count;
        match *shape {
            [1, rows, boxes] if rows == row_count && boxes > 0 && boxes <= u32::MAX as usize => Ok(()),
            _ => Err(DecodeError::Shape {
                head: FAMILY,
                name: name.to_owned(),
                expected: format!(
                    "[1, {row_count}, N] ({BOX_LEN} + {} labels, then boxes)",
                    self.label_count
                ),
                got: shape_text(shape),
                hint: self.hint(shape),
            }),
        }
    }

    fn hint(&self, shape: &[usize]) -> String {
        let row_count = BOX_LEN + self.label_count;
        match *shape {
            [1, _, len] if len == row_count => {
                "it is transposed: export the model without a transposing output".to_owned()
            }
            [1, _, 6] => "its NMS is inside the model: export it without NMS (nms=False)".to_owned(),
            [1, rows, boxes] if rows > BOX_LEN && rows < boxes => format!(
                "this one would have {} labels, the manifest names {}; pose and segmentation models are not supported",
                rows - BOX_LEN,
                self.label_count
            ),
            _ => "choose another head in the manifest, or export the model with batch size 1".to_owned(),
        }
    }

    /// Offers every box whose score may be good enough. `data` has passed `check`.
    pub fn collect(&mut self, data: &[f32], candidates: &mut Candidates) {
        let box_count = data.len() / (BOX_LEN + self.label_count);
        let Some(scores) = data.get(BOX_LEN * box_count..) else { return };
        for start in (0..box_count).step_by(BLOCK) {
            let len = BLOCK.min(box_count - start);
            let (best_score, best_class) = (&mut self.best_score[..len], &mut self.best_class[..len]);
            best_score.fill(f32::NEG_INFINITY);
            best_class.fill(0);
            for (class_id, row) in scores.chunks_exact(box_count).enumerate() {
                keep_better(&row[start..start + len], class_id as u32, best_score, best_class);
            }
            for (index, (&score, &class_id)) in best_score.iter().zip(best_class.iter()).enumerate() {
                if score >= candidates.least_score() {
                    candidates.offer(score, class_id, (start + index) as u32);
                }
            }
        }
    }

    /// The box of one anchor, `[x1, y1, x2, y2]` in tensor pixels.
    pub fn bbox(&self, data: &[f32], anchor: usize) -> [f32; 4] {
        let box_count = data.len() / (BOX_LEN + self.label_count);
        let [x, y, width, height] = std::array::from_fn(|row| data[row * box_count + anchor]);
        [x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0]
    }

    pub fn buffer_bytes(&self) -> usize {
        self.best_score.capacity() * size_of::<f32>() + self.best_class.capacity() * size_of::<u32>()
    }
}

/// One label's scores against the best so far. NaN is never better; the first of equals stays.
fn keep_better(row: &[f32], class_id: u32, best_score: &mut [f32], best_class: &mut [u32]) {
    for ((&score, best_score), best_class) in row.iter().zip(best_score).zip(best_class) {
        let better = score > *best_score;
        *best_score = if better { score } else { *best_score };
        *best_class = if better { class_id } else { *best_class };
    }
}
