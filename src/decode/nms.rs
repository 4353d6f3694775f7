//! Greedy non-maximum suppression.
//!
//! Boxes come best first. A box stays unless its intersection over union with a box that stayed is ABOVE the
//! threshold: `IoU = |A and B| / (|A| + |B| - |A and B|)`, areas in continuous coordinates (no `+ 1`), as in
//! torchvision's `nms`. Class by class unless asked otherwise; classes are compared, boxes are not shifted
//! by a class offset, which would cost precision.
//!
//! Only boxes that stayed are kept, so memory is linear in `max_objects` and work is at most
//! `max_candidates * max_objects` comparisons, done in blocks without branches.

use super::{Detection, Limits};

/// Boxes that are compared before it is asked whether one of them overlapped.
const BLOCK: usize = 16;

/// The boxes that stayed so far, one array per coordinate so that comparing them vectorises.
#[derive(Debug)]
pub(super) struct Suppressor {
    x1: Vec<f32>,
    y1: Vec<f32>,
    x2: Vec<f32>,
    y2: Vec<f32>,
    area: Vec<f32>,
    class_id: Vec<u32>,
    count: usize,
    max_objects: usize,
    iou_threshold: f32,
    class_agnostic: bool,
}

/// Whether more boxes are worth offering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    Free,
    Full,
}

impl Room {
    pub fn is_full(self) -> bool {
        self == Self::Full
    }
}

impl Suppressor {
    pub fn new(limits: &Limits) -> Self {
        // Whole blocks; a box of zeros at the end overlaps nothing.
        let max_objects = limits.max_objects.min(Limits::MOST).min(limits.max_candidates);
        let len = max_objects.next_multiple_of(BLOCK);
        let zeros = || vec![0.0; len];
        Self {
            x1: zeros(),
            y1: zeros(),
            x2: zeros(),
            y2: zeros(),
            area: zeros(),
            class_id: vec![0; len],
            count: 0,
            max_objects,
            // Below 0 boxes that do not touch would suppress each other.
            iou_threshold: limits.iou_threshold.max(0.0),
            class_agnostic: limits.class_agnostic,
        }
    }
    /// Forgets the last picture's boxes.
    pub fn clear(&mut self) {
        self.count = 0;
    }

    /// Appends `detection` to `out` unless its box is no box (not finite, no area) or a better one covers it.
    /// Detections must be offered best first.
    pub fn offer(&mut self, detection: Detection, out: &mut Vec<Detection>) -> Room {
        if self.count < self.max_objects && self.stays(&detection) {
            self.keep(&detection);
            out.push(detection);
        }
        if self.count < self.max_objects { Room::Free } else { Room::Full }
    }

    pub fn buffer_bytes(&self) -> usize {
        let floats = [&self.x1, &self.y1, &self.x2, &self.y2, &self.area].map(Vec::capacity);
        floats.iter().sum::<usize>() * size_of::<f32>() + self.class_id.capacity() * size_of::<u32>()
    }

    fn stays(&self, detection: &Detection) -> bool {
        let area = area(detection.bbox);
        if !(area > 0.0 && area.is_finite()) {
            return false;
        }
        !(0..self.count.div_ceil(BLOCK)).any(|block| self.block_covers(block * BLOCK, detection, area))
    }

    /// Does a box of the block at `start` cover this one by more than the threshold?
    fn block_covers(&self, start: usize, detection: &Detection, area: f32) -> bool {
        let block = |values: &[f32]| -> [f32; BLOCK] { std::array::from_fn(|index| values[start + index]) };
        let (x1, y1, x2, y2) = (block(&self.x1), block(&self.y1), block(&self.x2), block(&self.y2));
        let (areas, classes) = (block(&self.area), &self.class_id[start..start + BLOCK]);
        let [left, top, right, bottom] = detection.bbox;
        let mut covered = false;
        for index in 0..BLOCK {
            let width = least(x2[index], right) - greatest(x1[index], left);
            let height = least(y2[index], bottom) - greatest(y1[index], top);
            let common = greatest(width, 0.0) * greatest(height, 0.0);
            // IoU > threshold, without the division.
            let above = common > self.iou_threshold * (areas[index] + area - common);
            covered |= above & (self.class_agnostic | (classes[index] == detection.class_id));
        }
        covered
    }

    fn keep(&mut self, detection: &Detection) {
        let index = self.count;
        if index.is_multiple_of(BLOCK) {
            // A new block: what the last picture left in it must overlap nothing.
            for values in [&mut self.x1, &mut self.y1, &mut self.x2, &mut self.y2, &mut self.area] {
                values[index..index + BLOCK].fill(0.0);
            }
        }
        [self.x1[index], self.y1[index], self.x2[index], self.y2[index]] = detection.bbox;
        self.area[index] = area(detection.bbox);
        self.class_id[index] = detection.class_id;
        self.count += 1;
    }
}

/// Area of a box; 0 without a width or a height, not finite when a coordinate is not.
fn area([x1, y1, x2, y2]: [f32; 4]) -> f32 {
    let (width, height) = (x2 - x1, y2 - y1);
    if width > 0.0 && height > 0.0 { width * height } else { 0.0 }
}

/// `f32::min` that may return either of two operands when one is NaN, which compiles to one instruction.
fn least(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// As [`least`].
fn greatest(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}
