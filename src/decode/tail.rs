//! What YOLO heads say of an object after its box and its class: keypoints, mask coefficients, an angle.
//!
//! Sources: Ultralytics `nn/modules/head.py` (`Pose.kpts_decode`, `Segment.forward`, `OBB.forward`). When exported, keypoints
//! are in tensor pixels and their visibility is through a sigmoid; coefficients are those of YOLACT; angles are
//! radians.

use super::DecodeError;
use super::details::{Details, Rotated};
use super::error::Shape;
use super::head::Binding;
use super::outline::Outliner;
use crate::engine::TensorView;
use crate::model::{Extra, InputRecipe};

/// Prototypes larger than the input tensor do not exist; usually they are a quarter of its width.
fn pixels_at_most(input: &InputRecipe) -> usize {
    input.width * input.height
}

#[derive(Debug)]
pub(super) struct Tail {
    extra: Extra,
    width: f32,
    height: f32,
    outliner: Option<Outliner>,
}

impl Tail {
    pub fn new(extra: Extra, input: &InputRecipe) -> Self {
        // A quarter of each side is what all known models have; half of each is room enough.
        let outliner = matches!(extra, Extra::Mask { .. }).then(|| Outliner::new(pixels_at_most(input) / 4));
        Self { extra, width: input.width as f32, height: input.height as f32, outliner }
    }

    pub fn len(&self) -> usize {
        self.extra.len()
    }

    /// Adds the prototypes of a segmentation model to the outputs that are bound.
    pub fn bind(
        &self,
        head: &'static str,
        outputs: &[Shape<'_>],
        mut binding: Binding,
    ) -> Result<Binding, DecodeError> {
        let Extra::Mask { coefficients } = self.extra else { return Ok(binding) };
        let fits = |dims: &[usize]| {
            matches!(*dims, [1, count, height, width]
                if count == coefficients && height > 0 && width > 0
                    && self.outliner.as_ref().is_some_and(|_| height * width * 4 <= (self.width * self.height) as usize))
        };
        match outputs.iter().position(|output| fits(output.dims)) {
            Some(index) => {
                binding.push(index);
                Ok(binding)
            }
            None => Err(DecodeError::Missing {
                head,
                name: format!("of prototypes [1, {coefficients}, height, width]"),
                names: super::error::names(outputs),
            }),
        }
    }

    /// The oriented box with this upright one as its own axes' extent.
    pub fn rotated(&self, [x, y, width, height]: [f32; 4], number: impl Fn(usize) -> f32) -> Option<Rotated> {
        matches!(self.extra, Extra::Angle).then(|| Rotated { x, y, width, height, angle: number(0) })
    }

    /// Appends what there is about one object; `number(k)` is the k-th number after the classes.
    pub fn detail(
        &mut self,
        tensors: &[TensorView<'_>],
        number: impl Fn(usize) -> f32,
        bbox: [f32; 4],
        details: &mut Details,
    ) {
        match self.extra {
            Extra::None | Extra::Angle => {}
            Extra::Keypoints { count, dims } => {
                details.keypoints.extend((0..count).map(|point| {
                    let at = |axis: usize| if axis < dims { number(point * dims + axis) } else { 1.0 };
                    let [x, y, score] = [at(0), at(1), at(2)];
                    // A point that is no number was not seen.
                    let seen = x.is_finite() && y.is_finite() && score.is_finite();
                    if seen { [x, y, score.clamp(0.0, 1.0)] } else { [0.0; 3] }
                }));
            }
            Extra::Mask { .. } => {
                if let (Some(outliner), Some(prototypes)) = (&mut self.outliner, tensors.get(1))
                    && let &[_, _, rows, columns] = prototypes.shape
                {
                    let scale = [self.width / columns as f32, self.height / rows as f32];
                    outliner.outline(prototypes, number, bbox, scale, &mut details.outlines);
                }
                details.end_outline();
            }
        }
    }

    pub fn buffer_bytes(&self) -> usize {
        self.outliner.as_ref().map_or(0, Outliner::buffer_bytes)
    }
}
