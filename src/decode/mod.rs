//! PURE: output tensors to detections.
//!
//! Score threshold first, then at most `max_candidates` of the best, then their boxes, then NMS, then at most
//! `max_objects`. Every buffer has its size from [`Limits`], so that a picture full of nonsense costs no
//! more memory than an empty one. Values that are not finite never become detections.

mod candidates;
mod nms;
mod yolov8;
mod yolox;

#[cfg(test)]
mod tests;

use crate::engine::TensorView;
use crate::model::{HeadRecipe, InputRecipe};
use candidates::Candidates;
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

/// Why outputs are not those of the head that the manifest names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The manifest contradicts itself.
    #[error("the manifest's {head} head cannot be: {reason}")]
    Recipe {
        /// Head family.
        head: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Too few or too many outputs.
    #[error(
        "the model has {got} outputs ({names}) where a {head} head has 1; export it with the raw detection output only"
    )]
    OutputCount {
        /// Head family.
        head: &'static str,
        /// How many there are.
        got: usize,
        /// Their names.
        names: String,
    },
    /// The output has another shape.
    #[error("output {name} has shape {got} where a {head} head has {expected}; {hint}")]
    Shape {
        /// Head family.
        head: &'static str,
        /// The output's name in the model.
        name: String,
        /// In words: `[1, 3549, 85] (boxes, 5 + 80 labels)`.
        expected: String,
        /// As found: `[1, 3549, 86]`.
        got: String,
        /// What the user can do.
        hint: String,
    },
    /// The number of boxes does not follow from the input size.
    #[error(
        "output {name} has {got} boxes where a {width}x{height} input with strides {strides:?} has {expected}: \
             set the input size or the strides in the manifest to those the model was exported with"
    )]
    BoxCount {
        /// The output's name in the model.
        name: String,
        /// Boxes in the output.
        got: usize,
        /// Sum of the grids.
        expected: usize,
        /// Input width in pixels.
        width: usize,
        /// Input height in pixels.
        height: usize,
        /// The manifest's strides.
        strides: Vec<usize>,
    },
    /// Fewer values than the shape says.
    #[error(
        "output {name} holds {got} values where its shape {shape} has {expected}: the backend is at fault, please report it"
    )]
    Values {
        /// The output's name in the model.
        name: String,
        /// Its shape.
        shape: String,
        /// Product of the shape.
        expected: usize,
        /// Length of the slice.
        got: usize,
    },
}

/// The head families, with what each keeps.
#[derive(Debug)]
enum Head {
    Yolox(yolox::Yolox),
    Yolov8(yolov8::Yolov8),
}

/// Turns one frame's output tensors into detections. One per engine worker; buffers are made in `new`.
#[derive(Debug)]
pub struct Decoder {
    head: Head,
    candidates: Candidates,
    suppressor: Suppressor,
}

impl Decoder {
    /// For one model. `label_count` is the number of the manifest's labels. A recipe that cannot be is told by
    /// [`Decoder::check_outputs`], so that `new` never fails.
    pub fn new(head: &HeadRecipe, recipe: &InputRecipe, label_count: usize, limits: Limits) -> Self {
        let head = match head {
            HeadRecipe::Yolox { strides } => Head::Yolox(yolox::Yolox::new(strides, recipe, label_count)),
            HeadRecipe::Yolov8 => Head::Yolov8(yolov8::Yolov8::new(label_count)),
        };
        Self { head, candidates: Candidates::new(&limits), suppressor: Suppressor::new(&limits) }
    }

    /// Sees at load time that outputs of these names and shapes (batch dimension 1) are this head's.
    ///
    /// # Errors
    /// [`DecodeError`], saying what was expected, what came and what to do.
    pub fn check_outputs(&self, outputs: &[(&str, &[usize])]) -> Result<(), DecodeError> {
        let family = match &self.head {
            Head::Yolox(_) => yolox::FAMILY,
            Head::Yolov8(_) => yolov8::FAMILY,
        };
        let &[(name, shape)] = outputs else {
            let names = outputs.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            return Err(DecodeError::OutputCount { head: family, got: outputs.len(), names });
        };
        match &self.head {
            Head::Yolox(head) => head.check(name, shape),
            Head::Yolov8(head) => head.check(name, shape),
        }
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
        let output = match outputs {
            [output] => output,
            _ => {
                let shapes: Vec<_> = outputs.iter().map(|output| (output.name, output.shape)).collect();
                return self.check_outputs(&shapes);
            }
        };
        self.check_outputs(&[(output.name, output.shape)])?;
        let expected = output.shape.iter().product();
        if output.data.len() != expected {
            let (name, shape) = (output.name.to_owned(), shape_text(output.shape));
            return Err(DecodeError::Values { name, shape, expected, got: output.data.len() });
        }
        self.candidates.clear();
        self.suppressor.clear();
        match &mut self.head {
            Head::Yolox(head) => head.collect(output.data, &mut self.candidates),
            Head::Yolov8(head) => head.collect(output.data, &mut self.candidates),
        }
        for candidate in self.candidates.best_first() {
            let bbox = match &self.head {
                Head::Yolox(head) => head.bbox(output.data, candidate.anchor as usize),
                Head::Yolov8(head) => head.bbox(output.data, candidate.anchor as usize),
            };
            let detection = Detection { class_id: candidate.class_id, score: candidate.score, bbox };
            if self.suppressor.offer(detection, out).is_full() {
                break;
            }
        }
        Ok(())
    }

    /// Bytes of the decoder's own buffers: the line for the memory budget. It never changes.
    pub fn buffer_bytes(&self) -> usize {
        let head = match &self.head {
            Head::Yolox(head) => head.buffer_bytes(),
            Head::Yolov8(head) => head.buffer_bytes(),
        };
        head + self.candidates.buffer_bytes() + self.suppressor.buffer_bytes()
    }
}

fn shape_text(shape: &[usize]) -> String {
    let sizes: Vec<_> = shape.iter().map(usize::to_string).collect();
    format!("[{}]", sizes.join(", "))
}
