//! PURE: output tensors to detections.
//!
//! Score threshold first, then at most `max_candidates` of the best, then their boxes, then NMS, then at most
//! `max_objects`. Every buffer has its size from [`Limits`], so that a picture full of nonsense costs no
//! more memory than an empty one. Values that are not finite never become detections. Heads that have chosen their
//! boxes themselves are not suppressed again.

mod boxes;
mod candidates;
mod classify;
mod details;
mod detr;
mod end_to_end;
mod error;
mod head;
mod listed;
mod nanodet;
mod nms;
mod outline;
mod rotated;
mod scores;
mod selected;
mod ssd;
mod tail;
mod yolov5;
mod yolov5_grids;
mod yolov8;
mod yolox;

#[cfg(test)]
mod family_tests;
#[cfg(test)]
mod tests;

pub use details::{Detail, OUTLINE_MAX, Rotated};
pub use error::DecodeError;

use crate::engine::TensorView;
use crate::model::{Extra, HeadRecipe, InputRecipe};
use candidates::Candidates;
use details::Details;
use error::{Shape, shape_text};
use head::{Binding, Head, OUTPUTS_MAX};
use nms::Suppressor;

/// One object. The box is `[x1, y1, x2, y2]`; its unit is said where it is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// Index into the model's labels.
    pub class_id: u32,
    /// 0..=1.
    pub score: f32,
    /// `[x1, y1, x2, y2]`.
    pub bbox: [f32; 4],
}

/// What bounds the decoder's work and memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Least score of a detection, 0..=1.
    pub score_threshold: f32,
    /// Of two boxes that overlap by more than this (IoU, 0..=1) only the better one stays.
    pub iou_threshold: f32,
    /// Detections per picture at most.
    pub max_objects: usize,
    /// Boxes per picture that NMS looks at, at most; the best are kept.
    pub max_candidates: usize,
    /// True: boxes of different classes suppress each other too.
    pub class_agnostic: bool,
}

impl Limits {
    /// Larger limits count as this: 65 536 boxes are more than any head here makes in one picture.
    pub const MOST: usize = 1 << 16;
}

impl Default for Limits {
    /// 0.35, 0.45, 300 objects, 1000 candidates, class by class.
    fn default() -> Self {
        Self {
            score_threshold: 0.35,
            iou_threshold: 0.45,
            max_objects: 300,
            max_candidates: 1000,
            class_agnostic: false,
        }
    }
}

/// The family's decoder.
fn head(head: &HeadRecipe, input: &InputRecipe, label_count: usize) -> Box<dyn Head> {
    match head {
        HeadRecipe::Yolox { strides } => Box::new(yolox::Yolox::new(strides, input, label_count)),
        HeadRecipe::Yolov5 { extra } => Box::new(yolov5::Yolov5::new(*extra, input, label_count)),
        HeadRecipe::Yolov5Grids { strides, anchors } => {
            Box::new(yolov5_grids::Yolov5Grids::new(strides, anchors, input, label_count))
        }
        HeadRecipe::Yolov8 { extra } => Box::new(yolov8::Yolov8::new(*extra, input, label_count)),
        HeadRecipe::EndToEnd { layout, extra } => {
            Box::new(end_to_end::EndToEnd::new(*layout, *extra, input, label_count))
        }
        HeadRecipe::Listed { outputs, format, first_class } => {
            Box::new(listed::Listed::new(outputs, *format, *first_class, input, label_count))
        }
        HeadRecipe::Selected { boxes, scores, indices, format } => {
            Box::new(selected::Selected::new([boxes, scores, indices], *format, input, label_count))
        }
        HeadRecipe::Nanodet { strides, bins, cell_offset, activation } => {
            let distances =
                nanodet::Distances { bins: *bins, cell_offset: *cell_offset, activation: *activation };
            Box::new(nanodet::Nanodet::new(strides, distances, input, label_count))
        }
        HeadRecipe::Detr { boxes, scores, format, activation, background } => {
            let meaning = (*activation, *background);
            Box::new(detr::Detr::new([boxes, scores], *format, meaning, input, label_count))
        }
        HeadRecipe::Ssd { boxes, scores, format, activation, background } => {
            let meaning = (*activation, *background);
            Box::new(ssd::Ssd::new([boxes, scores], *format, meaning, input, label_count))
        }
        HeadRecipe::Classify { activation } => {
            Box::new(classify::Classify::new(*activation, input, label_count))
        }
    }
}

/// Turns one frame's output tensors into detections. One per engine worker; buffers are made in `new`.
#[derive(Debug)]
pub struct Decoder {
    head: Box<dyn Head>,
    candidates: Candidates,
    suppressor: Suppressor,
    details: Details,
    /// Boxes that overlap are duplicates.
    suppresses: bool,
}

impl Decoder {
    /// For one model. `label_count` is the number of the manifest's labels. A recipe that cannot be is told by
    /// [`Decoder::check_outputs`], so that `new` never fails.
    pub fn new(recipe: &HeadRecipe, input: &InputRecipe, label_count: usize, limits: Limits) -> Self {
        let head = head(recipe, input, label_count);
        let limits = Limits { max_objects: limits.max_objects.min(head.objects_max()), ..limits };
        let details = Details::new(recipe.extra(), &limits);
        let suppresses = head.suppresses();
        Self {
            head,
            candidates: Candidates::new(&limits),
            suppressor: Suppressor::new(&limits, suppresses && recipe.extra() == Extra::Angle),
            details,
            suppresses,
        }
    }

    /// Sees at load time that outputs of these names and shapes (batch dimension 1) are this head's.
    ///
    /// # Errors
    /// [`DecodeError`], saying what was expected, what came and what to do.
    pub fn check_outputs(&self, outputs: &[(&str, &[usize])]) -> Result<(), DecodeError> {
        self.bind(outputs.iter().map(|&(name, dims)| Shape { name, dims })).map(|_| ())
    }

    fn bind<'a>(&self, outputs: impl ExactSizeIterator<Item = Shape<'a>>) -> Result<Binding, DecodeError> {
        let count = outputs.len();
        if count > OUTPUTS_MAX {
            return Err(DecodeError::TooManyOutputs { got: count, limit: OUTPUTS_MAX });
        }
        let mut shapes = [Shape::NONE; OUTPUTS_MAX];
        for (shape, output) in shapes.iter_mut().zip(outputs) {
            *shape = output;
        }
        self.head.bind(&shapes[..count])
    }

    /// Replaces the contents of `out` by the detections of one frame: boxes in tensor pixels (not clipped),
    /// best score first, at most `max_objects`. Give `out` that capacity once and nothing is ever allocated.
    ///
    /// # Errors
    /// [`DecodeError`] as from [`Decoder::check_outputs`]; `out` is empty then.
    pub fn decode(
        &mut self,
        outputs: &[TensorView<'_>],
        out: &mut Vec<Detection>,
    ) -> Result<(), DecodeError> {
        out.clear();
        self.candidates.clear();
        self.suppressor.clear();
        self.details.clear();
        // Outputs may change their shapes from frame to frame: some lists are as long as what was found.
        let binding = self.bind(outputs.iter().map(Shape::new))?;
        let tensors = binding.of(outputs);
        let tensors = &tensors[..binding.len()];
        for tensor in tensors {
            let sizes = tensor.shape.iter();
            let expected = sizes.fold(1_usize, |product, &size| product.saturating_mul(size));
            if tensor.data.len() != expected {
                let (name, shape) = (tensor.name.to_owned(), shape_text(tensor.shape));
                return Err(DecodeError::Values { name, shape, expected, got: tensor.data.len() });
            }
        }
        self.head.collect(tensors, &mut self.candidates);
        for candidate in self.candidates.best_first() {
            let bbox = self.head.bbox(tensors, candidate);
            let detection = Detection { class_id: candidate.class_id, score: candidate.score, bbox };
            let before = out.len();
            let room = match self.head.rotated(tensors, candidate) {
                Some(rotated) if self.suppresses => self.suppressor.offer_rotated(detection, rotated, out),
                _ if self.suppresses => self.suppressor.offer(detection, out),
                _ => self.suppressor.take(detection, out),
            };
            if out.len() > before {
                self.details.rotated.extend(self.head.rotated(tensors, candidate));
                self.head.detail(tensors, candidate, &detection, &mut self.details);
            }
            if room.is_full() {
                break;
            }
        }
        Ok(())
    }

    /// What there is about the detection at `index` of the last [`Decoder::decode`], besides its box.
    pub fn detail(&self, index: usize) -> Detail<'_> {
        self.details.of(index)
    }

    /// Keypoints and points of an outline that one detection has at most.
    pub fn points_at_most(&self) -> (usize, usize) {
        self.details.points_at_most()
    }

    /// Bytes of the decoder's own buffers: the line for the memory budget. It never changes.
    pub fn buffer_bytes(&self) -> usize {
        self.head.buffer_bytes()
            + self.candidates.buffer_bytes()
            + self.suppressor.buffer_bytes()
            + self.details.buffer_bytes()
    }
}
