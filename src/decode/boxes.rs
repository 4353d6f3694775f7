//! The ways in which models write a box.

use crate::model::{BoxFormat, BoxOrder, BoxUnit, InputRecipe};

/// From a model's four numbers to `[x1, y1, x2, y2]` in tensor pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct BoxReader {
    order: BoxOrder,
    scale_x: f32,
    scale_y: f32,
}

impl BoxReader {
    pub fn new(format: BoxFormat, input: &InputRecipe) -> Self {
        let (scale_x, scale_y) = match format.unit {
            BoxUnit::Pixels => (1.0, 1.0),
            BoxUnit::Normalised => (input.width as f32, input.height as f32),
        };
        Self { order: format.order, scale_x, scale_y }
    }

    /// `numbers` has at least four.
    pub fn read(&self, numbers: &[f32]) -> [f32; 4] {
        let &[a, b, c, d, ..] = numbers else { return [f32::NAN; 4] };
        let [x1, y1, x2, y2] = match self.order {
            BoxOrder::Xyxy => [a, b, c, d],
            BoxOrder::Yxyx => [b, a, d, c],
            BoxOrder::Cxcywh => [a - c / 2.0, b - d / 2.0, a + c / 2.0, b + d / 2.0],
        };
        [x1 * self.scale_x, y1 * self.scale_y, x2 * self.scale_x, y2 * self.scale_y]
    }
}
