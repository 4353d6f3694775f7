//! Queries with class logits and boxes: DETR, RT-DETR, D-FINE, DEIM, RF-DETR.
//!
//! `boxes [1, Q, 4]`: cx, cy, w, h of the picture's size (0..1), and `scores [1, Q, labels]`, or both in one output
//! `[1, Q, 4 + labels]` (RT-DETR of Ultralytics). With the sigmoid every pair of a query and a label is a candidate of
//! score `sigmoid(logit)`, and the best of all pairs are the detections (RT-DETR `RTDETRPostProcessor`, RF-DETR
//! `PostProcess`). With the softmax, of DETR itself, a query has one label: the best of those that are not "no
//! object", which is the last class (DETR `PostProcess`). There is no NMS.

use super::DecodeError;
use super::boxes::BoxReader;
use super::candidates::{Candidate, Candidates};
use super::error::Shape;
use super::head::{Binding, Head, bind_named};
use super::scores::{best_class, logit_floor, sigmoid, softmax};
use crate::engine::TensorView;
use crate::model::{Activation, Background, BoxFormat, InputRecipe};

const FAMILY: &str = "DETR";

#[derive(Debug)]
pub(super) struct Detr {
    boxes: String,
    scores: String,
    reader: BoxReader,
    activation: Activation,
    background: Background,
    label_count: usize,
}

impl Detr {
    pub fn new(
        [boxes, scores]: [&str; 2],
        format: BoxFormat,
        (activation, background): (Activation, Background),
        recipe: &InputRecipe,
        label_count: usize,
    ) -> Self {
        let (boxes, scores) = (boxes.to_owned(), scores.to_owned());
        Self { boxes, scores, reader: BoxReader::new(format, recipe), activation, background, label_count }
    }

    fn class_count(&self) -> usize {
        self.label_count + usize::from(self.background != Background::None)
    }

    fn is_joined(&self) -> bool {
        self.boxes == self.scores
    }

    /// Length of a query's row of scores, and where in it they begin.
    fn row(&self) -> (usize, usize) {
        let first = if self.is_joined() { 4 } else { 0 };
        (first + self.class_count(), first)
    }

    /// Index of the first label among the classes.
    fn first_label(&self) -> usize {
        usize::from(self.background == Background::First)
    }
}

impl Head for Detr {
    fn bind(&self, outputs: &[Shape<'_>]) -> Result<Binding, DecodeError> {
        let hint =
            "correct the names and labels in the manifest, or write it anew with `watchpost model add`";
        let boxes = bind_named(FAMILY, outputs, &self.boxes)?;
        let scores = bind_named(FAMILY, outputs, &self.scores)?;
        let box_len = if self.is_joined() { self.row().0 } else { 4 };
        let queries = match outputs[boxes].frame(2) {
            &[queries, len] if len == box_len && queries <= u32::MAX as usize => queries,
            _ => return Err(outputs[boxes].error(FAMILY, format!("[1, N, {box_len}]"), hint)),
        };
        if self.label_count == 0 || outputs[scores].frame(2) != [queries, self.row().0] {
            let expected = format!("[1, {queries}, {}] ({} labels)", self.row().0, self.label_count);
            return Err(outputs[scores].error(FAMILY, expected, hint));
        }
        Ok(Binding::new(&[boxes, scores]))
    }

    fn collect(&mut self, tensors: &[TensorView<'_>], candidates: &mut Candidates) {
        let ((len, first), first_label) = (self.row(), self.first_label());
        for (anchor, row) in tensors[1].data.chunks_exact(len).enumerate() {
            let classes = &row[first..];
            let labels = &classes[first_label..][..self.label_count];
            if self.activation == Activation::Softmax {
                let (class_id, logit) = best_class(labels);
                let score = softmax(logit, classes.iter().copied());
                candidates.offer(score, class_id, anchor as u32);
                continue;
            }
            let activated = self.activation == Activation::None;
            let mut floor =
                if activated { candidates.least_score() } else { logit_floor(candidates.least_score()) };
            for (class_id, &value) in labels.iter().enumerate() {
                if value >= floor {
                    let score = if activated { value } else { sigmoid(value) };
                    candidates.offer(score, class_id as u32, anchor as u32);
                    floor = if activated { candidates.least_score() } else { floor };
                }
            }
        }
    }

    fn bbox(&self, tensors: &[TensorView<'_>], candidate: &Candidate) -> [f32; 4] {
        let len = if self.is_joined() { self.row().0 } else { 4 };
        let start = candidate.anchor as usize * len;
        self.reader.read(tensors[0].data.get(start..start + 4).unwrap_or(&[]))
    }

    fn suppresses(&self) -> bool {
        false
    }
}
