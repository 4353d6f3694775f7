//! Boxes and class scores before NMS: SSD and its like.
//!
//! `boxes [1, N, 4]` and `scores [1, N, classes]` or `[1, classes, N]`. The score of a box is its best label's, where a
//! background class, if there is one, is no label and takes part in the softmax. Boxes are decoded in the model.
//! - SSD (pytorch-ssd `vision/ssd/ssd.py` and UltraFace): corners 0..1, softmax done, background first.
//! - YOLO-NAS (`super_gradients`), DAMO-YOLO, PP-YOLOE without its NMS: corners in tensor pixels, sigmoid done, no
//!   background.

use super::DecodeError;
use super::boxes::BoxReader;
use super::candidates::{Candidate, Candidates};
use super::error::Shape;
use super::head::{Binding, Head, bind_named};
use super::scores::activate;
use crate::engine::TensorView;
use crate::model::{Activation, Background, BoxFormat, InputRecipe};

const FAMILY: &str = "SSD";

#[derive(Debug)]
pub(super) struct Ssd {
    boxes: String,
    scores: String,
    reader: BoxReader,
    activation: Activation,
    background: Background,
    label_count: usize,
}

impl Ssd {
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
}

impl Head for Ssd {
    fn bind(&self, outputs: &[Shape<'_>]) -> Result<Binding, DecodeError> {
        let hint =
            "correct the names and labels in the manifest, or write it anew with `watchpost model add`";
        let boxes = bind_named(FAMILY, outputs, &self.boxes)?;
        let scores = bind_named(FAMILY, outputs, &self.scores)?;
        // SSD's own exports have a dimension of one more: [1, N, 1, 4].
        let rows = match *outputs[boxes].frame(2) {
            [rows, 4] | [1, rows, 1, 4] if rows <= u32::MAX as usize => rows,
            _ => return Err(outputs[boxes].error(FAMILY, "[1, N, 4] (boxes)", hint)),
        };
        let classes = self.class_count();
        let dims = outputs[scores].frame(2);
        if self.label_count == 0 || (dims != [rows, classes] && dims != [classes, rows]) {
            let expected = format!("[1, {rows}, {classes}] ({} labels)", self.label_count);
            return Err(outputs[scores].error(FAMILY, expected, hint));
        }
        Ok(Binding::new(&[boxes, scores]))
    }

    fn collect(&mut self, tensors: &[TensorView<'_>], candidates: &mut Candidates) {
        let (rows, classes) = (tensors[0].data.len() / 4, self.class_count());
        let shape = tensors[1].shape;
        let by_box = shape[shape.len() - 1] == classes;
        let (box_step, class_step) = if by_box { (classes, 1) } else { (1, rows) };
        let first_label = usize::from(self.background == Background::First);
        for anchor in 0..rows {
            let all = (0..classes).map(|class| tensors[1].data[anchor * box_step + class * class_step]);
            let (mut class_id, mut best) = (0, f32::NEG_INFINITY);
            for (label, value) in all.clone().skip(first_label).take(self.label_count).enumerate() {
                if value > best {
                    (class_id, best) = (label, value);
                }
            }
            // What is through a softmax or a sigmoid already needs no more than this comparison.
            if self.activation == Activation::None && best < candidates.least_score() {
                continue;
            }
            candidates.offer(activate(self.activation, best, all), class_id as u32, anchor as u32);
        }
    }

    fn bbox(&self, tensors: &[TensorView<'_>], candidate: &Candidate) -> [f32; 4] {
        let start = candidate.anchor as usize * 4;
        self.reader.read(tensors[0].data.get(start..start + 4).unwrap_or(&[]))
    }
}
