//! What does not move: zones, lines that are crossed, and what nobody may see.

use super::Surroundings;
use super::canvas::{Canvas, Color, OPAQUE};

/// What a zone is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZoneKind {
    /// Objects in it count.
    Include,
    /// Objects in it do not count.
    Ignore,
    /// Nothing in it may be seen.
    Privacy,
}

/// A polygon with a name, in pixels of the picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Zone {
    /// May be empty.
    pub name: String,
    /// What it is for.
    pub kind: ZoneKind,
    /// At least three corners.
    pub polygon: Vec<[f32; 2]>,
}

/// A line with a name, in pixels of the picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// May be empty.
    pub name: String,
    /// One end.
    pub from: [f32; 2],
    /// The other end.
    pub to: [f32; 2],
    /// Whether crossings from the left of the way `from` to `to` to its right count, as one sees the picture, and those
    /// from its right to its left.
    pub counts: [bool; 2],
}

/// Of 256: how much of the picture a zone colors.
const ZONE_PARTS: u32 = 30;
const IGNORED_PARTS: u32 = 110;
const LINE_COLOR: Color = [255, 255, 255];

impl ZoneKind {
    fn color(self) -> Color {
        match self {
            Self::Include => [0, 200, 150],
            Self::Ignore => [70, 70, 70],
            Self::Privacy => [0; 3],
        }
    }
}

pub(super) fn draw(canvas: &mut Canvas, surroundings: &Surroundings, width: i64) {
    let width = width as f32;
    for zone in &surroundings.zones {
        let color = zone.kind.color();
        match zone.kind {
            ZoneKind::Privacy => canvas.polygon(&zone.polygon, color, OPAQUE),
            ZoneKind::Ignore => canvas.polygon(&zone.polygon, color, IGNORED_PARTS),
            ZoneKind::Include => {
                canvas.polygon(&zone.polygon, color, ZONE_PARTS);
                canvas.outline(&zone.polygon, width, color);
            }
        }
    }
    for line in &surroundings.lines {
        canvas.line(line.from, line.to, width + 2.0, [0; 3], 150);
        canvas.line(line.from, line.to, width, LINE_COLOR, OPAQUE);
        arrows(canvas, line, width);
    }
}

/// An arrow across the middle of a line for each direction that counts.
fn arrows(canvas: &mut Canvas, line: &Line, width: f32) {
    let (dx, dy) = (line.to[0] - line.from[0], line.to[1] - line.from[1]);
    let length = dx.hypot(dy);
    if !(length.is_finite() && length > 0.0) {
        return;
    }
    let middle = [(line.from[0] + line.to[0]) / 2.0, (line.from[1] + line.to[1]) / 2.0];
    // To the right of the way, as one sees the picture: y points downwards.
    let (right_x, right_y) = (-dy / length, dx / length);
    let (along_x, along_y) = (dx / length, dy / length);
    let reach = 8.0 * width;
    for sign in [1.0, -1.0].into_iter().zip(line.counts).filter_map(|(sign, counts)| counts.then_some(sign)) {
        let at = |across: f32, along: f32| {
            let (across, along) = (across * sign * reach, along * reach);
            [middle[0] + right_x * across + along_x * along, middle[1] + right_y * across + along_y * along]
        };
        canvas.line(middle, at(1.0, 0.0), width, LINE_COLOR, OPAQUE);
        canvas.polygon(&[at(1.5, 0.0), at(0.9, 0.35), at(0.9, -0.35)], LINE_COLOR, OPAQUE);
    }
}

/// Shows the name of everything that has one, where it belongs, and its color.
pub(super) fn names(surroundings: &Surroundings, mut show: impl FnMut(&str, [f32; 2], Color)) {
    for zone in surroundings.zones.iter().filter(|zone| !zone.name.is_empty()) {
        // At its highest corner.
        if let Some(corner) = zone.polygon.iter().copied().min_by(|a, b| a[1].total_cmp(&b[1])) {
            show(&zone.name, corner, zone.kind.color());
        }
    }
    for line in surroundings.lines.iter().filter(|line| !line.name.is_empty()) {
        show(&line.name, line.from, LINE_COLOR);
    }
}
