//! What there is about detections besides box, class and score: keypoints, oriented boxes, outlines.

use super::Limits;
use crate::model::Extra;

/// Points of one outline at most.
pub const OUTLINE_MAX: usize = 64;

/// An oriented box in tensor pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rotated {
    /// Centre.
    pub x: f32,
    /// Centre.
    pub y: f32,
    /// Along the box's own first axis.
    pub width: f32,
    /// Across it.
    pub height: f32,
    /// From the picture's horizontal to the first axis, in radians, clockwise as one sees the picture.
    pub angle: f32,
}

impl Rotated {
    /// The four corners, clockwise as one sees the picture where the angle is 0.
    pub fn corners(&self) -> [[f32; 2]; 4] {
        let (sin, cos) = self.angle.sin_cos();
        let (half_width, half_height) = (self.width / 2.0, self.height / 2.0);
        [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)].map(|(right, down)| {
            let (along, across) = (right * half_width, down * half_height);
            [self.x + along * cos - across * sin, self.y + along * sin + across * cos]
        })
    }

    /// The upright box around it, `[x1, y1, x2, y2]`.
    pub fn enclosing(&self) -> [f32; 4] {
        let (sin, cos) = self.angle.sin_cos();
        let half_width = (self.width * cos.abs() + self.height * sin.abs()) / 2.0;
        let half_height = (self.width * sin.abs() + self.height * cos.abs()) / 2.0;
        [self.x - half_width, self.y - half_height, self.x + half_width, self.y + half_height]
    }
}

/// What there is about one detection, in tensor pixels.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Detail<'a> {
    /// `[x, y, score]` of each point of the pose, in the model's order; none for other models. The score is 0..=1; 1 where
    /// the model gives none.
    pub keypoints: &'a [[f32; 3]],
    /// The oriented box, of which the detection's box is the enclosure.
    pub rotated: Option<Rotated>,
    /// Corners of the mask's outline, clockwise; none for other models, or where no mask was found.
    pub outline: &'a [[f32; 2]],
}

/// Side by side with the detections of one picture. Its buffers are made once.
#[derive(Debug, Default)]
pub(super) struct Details {
    keypoint_count: usize,
    pub keypoints: Vec<[f32; 3]>,
    pub rotated: Vec<Rotated>,
    pub outlines: Vec<[f32; 2]>,
    /// Where the outline of each detection ends.
    outline_ends: Vec<usize>,
}

impl Details {
    pub fn new(extra: Extra, limits: &Limits) -> Self {
        let objects = limits.max_objects.min(limits.max_candidates).min(Limits::MOST);
        let mut details = Self::default();
        match extra {
            Extra::None => {}
            Extra::Keypoints { count, .. } => {
                details.keypoint_count = count;
                details.keypoints.reserve_exact(objects.saturating_mul(count));
            }
            Extra::Mask { .. } => {
                details.outlines.reserve_exact(objects * OUTLINE_MAX);
                details.outline_ends.reserve_exact(objects);
            }
            Extra::Angle => details.rotated.reserve_exact(objects),
        }
        details
    }

    pub fn clear(&mut self) {
        self.keypoints.clear();
        self.rotated.clear();
        self.outlines.clear();
        self.outline_ends.clear();
    }

    /// The outline of the detection that comes next is whole.
    pub fn end_outline(&mut self) {
        self.outline_ends.push(self.outlines.len());
    }

    pub fn of(&self, index: usize) -> Detail<'_> {
        let keypoints = index * self.keypoint_count;
        let end = self.outline_ends.get(index).copied().unwrap_or(0);
        let start =
            index.checked_sub(1).and_then(|before| self.outline_ends.get(before)).copied().unwrap_or(0);
        Detail {
            keypoints: self.keypoints.get(keypoints..keypoints + self.keypoint_count).unwrap_or(&[]),
            rotated: self.rotated.get(index).copied(),
            outline: self.outlines.get(start..end).unwrap_or(&[]),
        }
    }

    pub fn points_at_most(&self) -> (usize, usize) {
        (self.keypoint_count, if self.outlines.capacity() > 0 { OUTLINE_MAX } else { 0 })
    }

    pub fn buffer_bytes(&self) -> usize {
        self.keypoints.capacity() * size_of::<[f32; 3]>()
            + self.rotated.capacity() * size_of::<Rotated>()
            + self.outlines.capacity() * size_of::<[f32; 2]>()
            + self.outline_ends.capacity() * size_of::<usize>()
    }
}
