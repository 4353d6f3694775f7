//! Greedy non-maximum suppression.
//!
//! Boxes come best first. A box stays unless its intersection over union with a box that stayed is ABOVE the
//! threshold: `IoU = |A and B| / (|A| + |B| - |A and B|)`, areas in continuous coordinates (no `+ 1`), as in
//! torchvision's `nms`. Class by class unless asked otherwise; classes are compared, boxes are not shifted
//! by a class offset, which would cost precision.
//!
//! Only boxes that stayed are kept, so memory is linear in `max_objects` and work is at most
//! `max_candidates * max_objects` comparisons, done in blocks without branches.
//!
//! Oriented boxes have their own rule, that of the tool that trains such models (Ultralytics `utils/nms.py`, `fast_nms`; D.
//! Bolya and others, "YOLACT", 2019): a box goes when ANY better one of its class has a probabilistic IoU of the threshold or
//! more, also one that went itself. So every candidate is remembered: memory is linear in `max_candidates`.

use super::details::Rotated;
use super::rotated::probabilistic_iou;
use super::{Detection, Limits};

/// Boxes that are compared before it is asked whether one of them overlapped.
const BLOCK: usize = 16;

/// Boxes that stayed, coordinate by coordinate so that comparing them vectorises.
#[derive(Debug, Clone, Copy)]
struct Block {
    x1: [f32; BLOCK],
    y1: [f32; BLOCK],
    x2: [f32; BLOCK],
    y2: [f32; BLOCK],
    area: [f32; BLOCK],
    class_id: [u32; BLOCK],
}

impl Block {
    /// Boxes without area: they overlap nothing.
    const EMPTY: Self = Self {
        x1: [0.0; BLOCK],
        y1: [0.0; BLOCK],
        x2: [0.0; BLOCK],
        y2: [0.0; BLOCK],
        area: [0.0; BLOCK],
        class_id: [0; BLOCK],
    };
}

/// The boxes that stayed so far.
#[derive(Debug)]
pub(super) struct Suppressor {
    blocks: Vec<Block>,
    /// Oriented boxes and their classes, those that went among them.
    rotated: Vec<(Rotated, u32)>,
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
    pub fn new(limits: &Limits, is_rotated: bool) -> Self {
        let max_objects = limits.max_objects.min(Limits::MOST).min(limits.max_candidates);
        let rotated = if is_rotated { limits.max_candidates.min(Limits::MOST) } else { 0 };
        Self {
            blocks: vec![Block::EMPTY; max_objects.div_ceil(BLOCK)],
            rotated: Vec::with_capacity(rotated),
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
        self.rotated.clear();
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

    /// As [`Suppressor::offer`] for oriented boxes.
    pub fn offer_rotated(
        &mut self,
        detection: Detection,
        rotated: Rotated,
        out: &mut Vec<Detection>,
    ) -> Room {
        let covers = |&(ref other, class_id): &(Rotated, u32)| {
            (self.class_agnostic || class_id == detection.class_id)
                && probabilistic_iou(other, &rotated) >= self.iou_threshold
        };
        let is_covered = self.rotated.iter().any(covers);
        if self.rotated.len() < self.rotated.capacity() {
            self.rotated.push((rotated, detection.class_id));
        }
        if is_covered {
            return if self.count < self.max_objects { Room::Free } else { Room::Full };
        }
        self.take(detection, out)
    }

    /// Appends `detection` to `out` unless its box is no box: what was chosen already is not chosen again.
    pub fn take(&mut self, detection: Detection, out: &mut Vec<Detection>) -> Room {
        let area = area(detection.bbox);
        if self.count < self.max_objects && area > 0.0 && area.is_finite() {
            self.count += 1;
            out.push(detection);
        }
        if self.count < self.max_objects { Room::Free } else { Room::Full }
    }

    pub fn buffer_bytes(&self) -> usize {
        self.blocks.capacity() * size_of::<Block>() + self.rotated.capacity() * size_of::<(Rotated, u32)>()
    }

    fn stays(&self, detection: &Detection) -> bool {
        let area = area(detection.bbox);
        if !(area > 0.0 && area.is_finite()) {
            return false;
        }
        let used = &self.blocks[..self.count.div_ceil(BLOCK)];
        !used.iter().any(|block| self.covers(block, detection, area))
    }

    /// Does a box of this block cover the detection by more than the threshold?
    fn covers(&self, block: &Block, detection: &Detection, area: f32) -> bool {
        let [left, top, right, bottom] = detection.bbox;
        let any_class = u32::from(self.class_agnostic);
        let mut covered = 0;
        for index in 0..BLOCK {
            let width = least(block.x2[index], right) - greatest(block.x1[index], left);
            let height = least(block.y2[index], bottom) - greatest(block.y1[index], top);
            let common = greatest(width, 0.0) * greatest(height, 0.0);
            // IoU > threshold, without the division.
            let above = common > self.iou_threshold * (block.area[index] + area - common);
            let same_class = any_class | u32::from(block.class_id[index] == detection.class_id);
            covered |= u32::from(above) & same_class;
        }
        covered != 0
    }

    fn keep(&mut self, detection: &Detection) {
        let (block, index) = (&mut self.blocks[self.count / BLOCK], self.count % BLOCK);
        if index == 0 {
            // What the last picture left in the block must overlap nothing.
            *block = Block::EMPTY;
        }
        [block.x1[index], block.y1[index], block.x2[index], block.y2[index]] = detection.bbox;
        block.area[index] = area(detection.bbox);
        block.class_id[index] = detection.class_id;
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
