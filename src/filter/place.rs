//! Where an object is: anchors, and what is known of one object in one frame.

use crate::config::{Anchor, ZoneOptions};
use crate::shape::{Point, Polygon};

/// A box that touches the picture's lower or right edge is in a zone that reaches there.
const LAST: f32 = 1.0 - f32::EPSILON;

/// A box in its picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Placed {
    /// `[x1, y1, x2, y2]` in pixels.
    pub bbox: [f32; 4],
    /// Width and height of the picture in pixels.
    pub size: [f32; 2],
}

impl Placed {
    /// The box in fractions of the picture.
    pub fn fractions(&self) -> [f32; 4] {
        let [x1, y1, x2, y2] = self.bbox;
        let [width, height] = self.size;
        [x1 / width, y1 / height, x2 / width, y2 / height]
    }

    /// The point that an anchor names; the middle for a share of the area.
    pub fn anchor(&self, anchor: Anchor) -> Point {
        let [x1, y1, x2, y2] = self.fractions();
        let y = match anchor {
            Anchor::Foot => y2,
            Anchor::Centre | Anchor::Overlap(_) => (y1 + y2) / 2.0,
        };
        [((x1 + x2) / 2.0).clamp(0.0, LAST), y.clamp(0.0, LAST)]
    }

    /// The box's shorter side, in pixels.
    pub fn shorter_side(&self) -> f32 {
        let [x1, y1, x2, y2] = self.bbox;
        (x2 - x1).min(y2 - y1).max(0.0)
    }
}

/// A set of class ids.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Classes(Option<Vec<bool>>);

impl Classes {
    /// `None` for all.
    ///
    /// # Errors
    /// The labels that the model does not have.
    pub fn new(classes: Option<&[String]>, labels: &[String]) -> Result<Self, Vec<String>> {
        let Some(classes) = classes else { return Ok(Self(None)) };
        let unknown: Vec<String> = classes.iter().filter(|class| !labels.contains(class)).cloned().collect();
        if !unknown.is_empty() {
            return Err(unknown);
        }
        Ok(Self(Some(labels.iter().map(|label| classes.contains(label)).collect())))
    }

    /// Whether a class is among them.
    pub fn has(&self, class_id: u32) -> bool {
        let known = |all: &Vec<bool>| all.get(class_id as usize).copied().unwrap_or(false);
        self.0.as_ref().is_none_or(known)
    }
}

/// A polygon, whom it is about, and what it takes to be in it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Area {
    polygon: Polygon,
    anchor: Anchor,
    pub classes: Classes,
}

/// Who is in a zone is out of it when so much of the share it takes to be in is missing.
const OVERLAP_KEPT: f32 = 0.8;

impl Area {
    /// # Errors
    /// The labels that the model does not have.
    pub fn new(zone: &ZoneOptions, labels: &[String]) -> Result<Self, Vec<String>> {
        let classes = Classes::new(zone.classes.as_deref(), labels)?;
        Ok(Self { polygon: zone.polygon.clone(), anchor: zone.anchor, classes })
    }

    /// Whether an object is in it.
    pub fn holds(&self, placed: &Placed) -> bool {
        match self.anchor {
            Anchor::Overlap(share) => self.polygon.covered(placed.fractions()) >= share,
            anchor => self.polygon.contains(placed.anchor(anchor)),
        }
    }

    /// Whether an object that was in it still is: its box may tremble by `margin` pixels.
    pub fn keeps(&self, placed: &Placed, margin: f32) -> bool {
        match self.anchor {
            Anchor::Overlap(share) => self.polygon.covered(placed.fractions()) >= share * OVERLAP_KEPT,
            anchor => self.polygon.contains_within(placed.anchor(anchor), margin, placed.size),
        }
    }
}
