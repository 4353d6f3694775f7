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

/// Boxes of a block: 8 KiB of each row.
const BLOCK: usize = 2048;

#[derive(Debug)]
pub(super) struct Yolov8 {
    label_count: usize,
    best_score: Vec<f32>,
}

impl Yolov8 {
    pub fn new(label_count: usize) -> Self {
        Self { label_count, best_score: vec![0.0; BLOCK] }
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

    /// The box of one anchor, `[x1, y1, x2, y2]` in tensor pixels.
    pub fn bbox(&self, data: &[f32], anchor: usize) -> [f32; 4] {
        let box_count = data.len() / (BOX_LEN + self.label_count);
        let [x, y, width, height] = std::array::from_fn(|row| data[row * box_count + anchor]);
        [x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0]
    }

    pub fn buffer_bytes(&self) -> usize {
        self.best_score.capacity() * size_of::<f32>()
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
