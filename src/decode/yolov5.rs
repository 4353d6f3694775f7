//! The YOLOv5 head, decoded in the model (also YOLOv7, YOLOv6, and YOLOX exported with `--decode_in_inference`).
//!
//! One output `[1, N, 5 + labels + extra]`: cx, cy, w, h in tensor pixels, objectness, one score per label, all already
//! through a sigmoid, then the coefficients of a mask (`Segment`). The score of a box is `objectness * best label's`. YOLOv6 has no objectness and writes 1. Sources: YOLOv5
//! `models/yolo.py` (`Detect.forward`) and `utils/general.py` (`non_max_suppression`); YOLOv6
//! `yolov6/models/heads/effidehead_distill_ns.py` (`forward`).

use super::candidates::{Candidate, Candidates};
use super::details::Details;
use super::error::Shape;
use super::head::{Binding, Head, bind_one};
use super::scores::best_class;
use super::tail::Tail;
use super::{DecodeError, Detection};
use crate::engine::TensorView;
use crate::model::{Extra, InputRecipe};

const FAMILY: &str = "YOLOv5";

/// Values before the class scores: cx, cy, w, h, objectness.
const BOX_LEN: usize = 5;

#[derive(Debug)]
pub(super) struct Yolov5 {
    label_count: usize,
    tail: Tail,
}

impl Yolov5 {
    pub fn new(extra: Extra, recipe: &InputRecipe, label_count: usize) -> Self {
        Self { label_count, tail: Tail::new(extra, recipe) }
    }

    fn row_len(&self) -> usize {
        BOX_LEN + self.label_count + self.tail.len()
    }

    fn hint(&self, shape: &[usize]) -> String {
        match *shape {
            [1, len, boxes] if len == self.row_len() && boxes != len => {
                "it is transposed: export the model without a transposing output".to_owned()
            }
            [1, _, len] if len > BOX_LEN + self.tail.len() => {
                let labels = len - BOX_LEN - self.tail.len();
                format!("this one would have {labels} labels: the manifest names {}", self.label_count)
            }
            _ => "choose another head in the manifest, or export the model with batch size 1".to_owned(),
        }
    }
}

impl Head for Yolov5 {
    fn bind(&self, outputs: &[Shape<'_>]) -> Result<Binding, DecodeError> {
        if self.label_count == 0 {
            let reason = "it has no labels; name the model's labels in the manifest".to_owned();
            return Err(DecodeError::Recipe { head: FAMILY, reason });
        }
        let len = self.row_len();
        let binding = bind_one(
            FAMILY,
            outputs,
            || format!("[1, N, {len}] (boxes, then {BOX_LEN} + {} labels)", self.label_count),
            |dims| self.hint(dims),
            |dims| matches!(*dims, [1, boxes, row] if row == len && boxes > 0 && boxes <= u32::MAX as usize),
        )?;
        self.tail.bind(FAMILY, outputs, binding)
    }

    fn collect(&mut self, tensors: &[TensorView<'_>], candidates: &mut Candidates) {
        for (anchor, row) in tensors[0].data.chunks_exact(self.row_len()).enumerate() {
            let (head, classes) = row[..BOX_LEN + self.label_count].split_at(BOX_LEN);
            // A class score is at most 1, so the objectness alone rules most boxes out.
            let objectness = head[BOX_LEN - 1];
            if objectness >= candidates.least_score() {
                let (class_id, class_score) = best_class(classes);
                candidates.offer(objectness * class_score, class_id, anchor as u32);
            }
        }
    }

    fn bbox(&self, tensors: &[TensorView<'_>], candidate: &Candidate) -> [f32; 4] {
        let start = candidate.anchor as usize * self.row_len();
        let Some(&[x, y, width, height]) = tensors[0].data.get(start..start + 4) else {
            return [f32::NAN; 4];
        };
        [x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0]
    }

    fn detail(
        &mut self,
        tensors: &[TensorView<'_>],
        candidate: &Candidate,
        detection: &Detection,
        details: &mut Details,
    ) {
        let first = candidate.anchor as usize * self.row_len() + BOX_LEN + self.label_count;
        self.tail.detail(tensors, |k| tensors[0].data[first + k], detection.bbox, details);
    }

    fn buffer_bytes(&self) -> usize {
        self.tail.buffer_bytes()
    }
}
