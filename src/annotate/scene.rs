//! What does not move: zones, lines that are crossed, and what nobody may see.

use super::canvas::{Canvas, Color, OPAQUE};
use crate::config::{CameraOptions, ZoneKind};
use crate::shape::{Point, Segment};

/// What is to be drawn besides objects, in fractions of the picture. It stays the same from picture to picture.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Polygons with their names.
    pub zones: Vec<(String, ZoneKind, Vec<Point>)>,
    /// Lines with their names.
    pub lines: Vec<(String, Segment)>,
    /// Polygons in which nothing may be seen.
    pub masks: Vec<Vec<Point>>,
}

impl Surroundings {
    /// What a camera's configuration says.
    pub fn of(camera: &CameraOptions) -> Self {
        let zone = |zone: &crate::config::ZoneOptions| {
            (zone.name.clone(), zone.kind, zone.polygon.points().to_vec())
        };
        Self {
            zones: camera.zones.iter().map(zone).collect(),
            lines: camera.lines.iter().map(|line| (line.name.clone(), line.segment)).collect(),
            masks: camera.privacy_masks.iter().map(|mask| mask.points().to_vec()).collect(),
        }
    }

    /// All that will be written.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        let zones = self.zones.iter().map(|(name, ..)| name.as_str());
        zones.chain(self.lines.iter().map(|(name, _)| name.as_str()))
    }
}

/// Of 256: how much of the picture a zone colors.
const ZONE_PARTS: u32 = 30;
const IGNORED_PARTS: u32 = 110;
const LINE_COLOR: Color = [255, 255, 255];

fn zone_color(kind: ZoneKind) -> Color {
    match kind {
        ZoneKind::Watch => [86, 180, 233],
        ZoneKind::Include => [0, 200, 150],
        ZoneKind::Ignore => [90, 90, 90],
    }
}

/// Points in pixels of a picture, from fractions of it.
fn scaled(points: &[Point], size: [f32; 2]) -> impl Iterator<Item = Point> + Clone {
    points.iter().map(move |&[x, y]| [x * size[0], y * size[1]])
}

pub(super) fn draw(canvas: &mut Canvas, surroundings: &Surroundings, width: i64, points: &mut Vec<Point>) {
    let (width, size) = (width as f32, [canvas.width as f32, canvas.height as f32]);
    for mask in &surroundings.masks {
        points.clear();
        points.extend(scaled(mask, size));
        canvas.polygon(points, [0; 3], OPAQUE);
        // A pixel that is covered in part is black as well, and so are those whose color ran over the edge.
        canvas.outline(points, 4.0, [0; 3]);
    }
    for (_, kind, zone) in &surroundings.zones {
        points.clear();
        points.extend(scaled(zone, size));
        let color = zone_color(*kind);
        let parts = if *kind == ZoneKind::Ignore { IGNORED_PARTS } else { ZONE_PARTS };
        canvas.polygon(points, color, parts);
        canvas.outline(points, width, color);
    }
    for (_, line) in &surroundings.lines {
        let [from, to] = ends(line, size);
        canvas.line(from, to, width + 2.0, [0; 3], 150);
        canvas.line(from, to, width, LINE_COLOR, OPAQUE);
        arrow(canvas, [from, to], width);
    }
}

fn ends(line: &Segment, size: [f32; 2]) -> [Point; 2] {
    [line.from, line.to].map(|[x, y]| [x * size[0], y * size[1]])
}

/// An arrow from the middle of a line to its right, as seen from its first end: by it a person tells the directions apart.
fn arrow(canvas: &mut Canvas, [from, to]: [Point; 2], width: f32) {
    let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
    let length = dx.hypot(dy);
    if !(length.is_finite() && length > 0.0) {
        return;
    }
    let middle = [(from[0] + to[0]) / 2.0, (from[1] + to[1]) / 2.0];
    // y points downwards: right of the way along the x axis is further down.
    let (right_x, right_y) = (-dy / length, dx / length);
    let (along_x, along_y) = (dx / length, dy / length);
    let reach = 8.0 * width;
    let at = |across: f32, along: f32| {
        let (across, along) = (across * reach, along * reach);
        [middle[0] + right_x * across + along_x * along, middle[1] + right_y * across + along_y * along]
    };
    canvas.line(middle, at(1.0, 0.0), width, LINE_COLOR, OPAQUE);
    canvas.polygon(&[at(1.5, 0.0), at(0.9, 0.35), at(0.9, -0.35)], LINE_COLOR, OPAQUE);
}

/// Shows the name of everything that has one, where it belongs, and its color.
pub(super) fn names(surroundings: &Surroundings, size: [f32; 2], mut show: impl FnMut(&str, Point, Color)) {
    for (name, kind, zone) in surroundings.zones.iter().filter(|(name, ..)| !name.is_empty()) {
        // At its highest corner.
        if let Some(corner) = scaled(zone, size).min_by(|a, b| a[1].total_cmp(&b[1])) {
            show(name, corner, zone_color(*kind));
        }
    }
    for (name, line) in surroundings.lines.iter().filter(|(name, _)| !name.is_empty()) {
        show(name, ends(line, size)[0], LINE_COLOR);
    }
}
