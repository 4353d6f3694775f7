//! Finished boxes as outputs of their own: boxes, scores, classes, and perhaps how many count.
//!
//! - TensorRT's EfficientNMS plugin (`plugin/efficientNMSPlugin/README.md`): `num_dets [1, 1]`, `det_boxes [1, N, 4]`,
//!   `det_scores [1, N]`, `det_classes [1, N]`; corners in tensor pixels.
//! - RT-DETR, D-FINE and DEIM as deployed (`RTDETRPostProcessor`): `labels [1, N]`, `boxes [1, N, 4]`, `scores [1, N]`; corners in
//!   the size that the input `orig_target_sizes` names, which is the tensor's.
//! - torchvision and ONNX SSD: the same, labels from 1.
//! - MMDeploy: `dets [1, N, 5]` with the score last, `labels [1, N]`.
//! - TensorFlow's Object Detection API: `detection_boxes` (top, left, bottom, right; 0..1), `detection_classes` from 1,
//!   `detection_scores`, `num_detections`.
//!
//! What has been chosen is not suppressed again.

use super::DecodeError;
use super::boxes::BoxReader;
use super::candidates::{Candidate, Candidates};
use super::error::Shape;
use super::head::{Binding, Head, bind_named};
use crate::engine::TensorView;
use crate::model::{BoxFormat, InputRecipe, ListedOutputs};

const FAMILY: &str = "listed";

#[derive(Debug)]
pub(super) struct Listed {
    outputs: ListedOutputs,
    reader: BoxReader,
    first_class: u32,
    label_count: usize,
}

impl Listed {
    pub fn new(
        outputs: &ListedOutputs,
        format: BoxFormat,
        first_class: u32,
        recipe: &InputRecipe,
        label_count: usize,
    ) -> Self {
        Self { outputs: outputs.clone(), reader: BoxReader::new(format, recipe), first_class, label_count }
    }

    /// Numbers of a box.
    fn box_len(&self) -> usize {
        if self.outputs.scores.is_some() { 4 } else { 5 }
    }
}

impl Head for Listed {
    /// Boxes, classes, scores or again boxes, count or nothing.
    fn bind(&self, outputs: &[Shape<'_>]) -> Result<Binding, DecodeError> {
        let hint = "correct the names in [head], or write the manifest anew with `watchpost model add`";
        let boxes = bind_named(FAMILY, outputs, &self.outputs.boxes)?;
        let box_len = self.box_len();
        let rows = match outputs[boxes].frame(2) {
            &[rows, len] if len == box_len => rows,
            _ => return Err(outputs[boxes].error(FAMILY, format!("[1, N, {box_len}] (boxes)"), hint)),
        };
        let list = |name: &str, what: &str| {
            let index = bind_named(FAMILY, outputs, name)?;
            match outputs[index].frame(1) {
                &[len] if len == rows => Ok(index),
                // One box may come without its list's dimension.
                [] if rows == 1 => Ok(index),
                &[len, 1] if len == rows => Ok(index),
                _ => Err(outputs[index].error(FAMILY, format!("[1, {rows}] ({what})"), hint)),
            }
        };
        let classes = list(&self.outputs.classes, "classes")?;
        let scores = match &self.outputs.scores {
            Some(name) => list(name, "scores")?,
            None => boxes,
        };
        let mut binding = Binding::new(&[boxes, classes, scores]);
        if let Some(name) = &self.outputs.count {
            let index = bind_named(FAMILY, outputs, name)?;
            if outputs[index].dims.iter().product::<usize>() != 1 {
                return Err(outputs[index].error(FAMILY, "[1, 1] (how many boxes count)", hint));
            }
            binding.push(index);
        }
        Ok(binding)
    }

    fn collect(&mut self, tensors: &[TensorView<'_>], candidates: &mut Candidates) {
        let (classes, scores) = (tensors[1].data, tensors[2].data);
        let (step, first) = if self.outputs.scores.is_some() { (1, 0) } else { (5, 4) };
        // A count that is no number counts nothing: the cast saturates.
        let count = self.outputs.count.as_ref().and_then(|_| tensors[3].data.first());
        let count = count.map_or(usize::MAX, |&count| count as usize);
        for (anchor, &class) in classes.iter().enumerate().take(count) {
            let (Some(&score), class) = (scores.get(anchor * step + first), class - self.first_class as f32)
            else {
                return;
            };
            if score >= candidates.least_score() && class >= 0.0 && class < self.label_count as f32 {
                candidates.offer(score, class.round() as u32, anchor as u32);
            }
        }
    }

    fn bbox(&self, tensors: &[TensorView<'_>], candidate: &Candidate) -> [f32; 4] {
        let start = candidate.anchor as usize * self.box_len();
        self.reader.read(tensors[0].data.get(start..start + 4).unwrap_or(&[]))
    }

    fn suppresses(&self) -> bool {
        false
    }
}
