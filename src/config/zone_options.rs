//! What a camera's boxes, zones and lines are to be, validated.

use std::time::Duration;

use crate::shape::{Polygon, Segment};

/// Most zones of one camera.
pub const ZONES_MAX: usize = 16;
/// Most lines of one camera.
pub const LINES_MAX: usize = 16;
/// Most privacy masks of one camera.
pub const MASKS_MAX: usize = 32;

/// `settle` where nothing is set.
pub const SETTLE: Duration = Duration::from_millis(500);

/// What the boxes of a camera must be like to be published; both ends are included.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct BoxLimits {
    /// Smaller ones are left out.
    pub min_area: Option<BoxArea>,
    /// Larger ones are left out.
    pub max_area: Option<BoxArea>,
    /// Width over height, in pixels; slimmer ones are left out.
    pub min_aspect: Option<f32>,
    /// Width over height, in pixels; wider ones are left out.
    pub max_aspect: Option<f32>,
}

/// An area, in one of two units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BoxArea {
    /// Of the whole picture, 0..=1.
    Fraction(f32),
    /// Square pixels of the source.
    Pixels(f32),
}

/// What a zone is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZoneKind {
    /// Events tell of what happens in it; it hides nothing.
    Watch,
    /// Where a camera has such zones, only what is in one of them is published.
    Include,
    /// What is in it is not published.
    Ignore,
}

/// Which part of a box is where its object is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Anchor {
    /// The middle of its lower edge: where a person stands.
    Foot,
    /// Its middle.
    Centre,
    /// At least this share of its area, above 0 and at most 1. Only for zones.
    Overlap(f32),
}

/// `[camera.NAME.zone.NAME]`
#[derive(Debug, Clone, PartialEq)]
pub struct ZoneOptions {
    /// Same alphabet as a camera's name.
    pub name: String,
    /// In fractions of the picture.
    pub polygon: Polygon,
    /// What it is for; `Watch` by default.
    pub kind: ZoneKind,
    /// When an object is in it; `Foot` by default.
    pub anchor: Anchor,
    /// Only objects of these labels; `None`: all that the camera publishes.
    pub classes: Option<Vec<String>>,
    /// Who stays so long is told of; `None`: nobody.
    pub dwell: Option<Duration>,
    /// Who is in it or out of it for so long has entered or left.
    pub settle: Duration,
}

/// `[camera.NAME.line.NAME]`
#[derive(Debug, Clone, PartialEq)]
pub struct LineOptions {
    /// Same alphabet as a camera's name.
    pub name: String,
    /// In fractions of the picture.
    pub segment: Segment,
    /// Which point of a box has to cross it; never an overlap.
    pub anchor: Anchor,
    /// Only objects of these labels; `None`: all that the camera publishes.
    pub classes: Option<Vec<String>>,
    /// What to call a crossing to the right, and one to the left, as seen from `from` towards `to`.
    pub directions: [String; 2],
}
