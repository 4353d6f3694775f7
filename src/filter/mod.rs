//! PURE: which objects of a camera are published, and what is told of their ways through zones and over lines.
//!
//! ```text
//!   tracked objects ─► Filter: class, score, box, include and ignore zones ─► published ─► Events: zones, lines
//! ```
//!
//! Everything is allocated when a camera is configured; nothing is per frame.

mod events;
mod line_watch;
mod place;
mod presence;
mod zone_watch;

#[cfg(test)]
mod events_tests;

use crate::config::{BoxArea, BoxLimits, CameraOptions, ZoneKind};
use crate::model::nearest;
use crate::track::Tracked;

pub use events::{Event, Events, Parting, Subject, Where};
use place::{Area, Classes, Placed};
pub use presence::Presence;

/// Labels that the model does not have, and the key that names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownLabels {
    /// Within the camera: `classes`, `zone.door.classes`, …
    pub key: String,
    /// What is named there.
    pub labels: Vec<String>,
}

/// One camera's filter.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    classes: Classes,
    score_threshold: f32,
    /// By class id, where single labels have thresholds of their own; else empty.
    thresholds: Vec<f32>,
    boxes: BoxLimits,
    includes: Vec<Area>,
    ignores: Vec<Area>,
}

impl Filter {
    /// `classes` are labels of the model, `None` for all; scores below `score_threshold` do not pass.
    ///
    /// # Errors
    /// The labels that the model does not have.
    pub fn new(
        classes: Option<&[String]>,
        labels: &[String],
        score_threshold: f32,
    ) -> Result<Self, Vec<String>> {
        let classes = Classes::new(classes, labels)?;
        let (thresholds, boxes) = (Vec::new(), BoxLimits::default());
        Ok(Self { classes, score_threshold, thresholds, boxes, includes: Vec::new(), ignores: Vec::new() })
    }

    /// All that a camera asks for; `score_threshold` is that of the detector.
    ///
    /// # Errors
    /// Every label that the model does not have.
    pub fn of_camera(
        camera: &CameraOptions,
        labels: &[String],
        score_threshold: f32,
    ) -> Result<Self, Vec<UnknownLabels>> {
        let mut unknown = Unknown::default();
        let score_threshold = camera.score_threshold.unwrap_or(score_threshold);
        let classes = unknown.all("classes", Classes::new(camera.classes.as_deref(), labels));
        let mut thresholds = Vec::new();
        for (label, threshold) in &camera.score_thresholds {
            match labels.iter().position(|known| known == label) {
                Some(class_id) => {
                    thresholds.resize(labels.len(), score_threshold);
                    thresholds[class_id] = *threshold;
                }
                None => unknown.note("score_thresholds", vec![label.clone()]),
            }
        }
        let mut areas = |kind: ZoneKind| {
            let zones = camera.zones.iter().filter(|zone| zone.kind == kind);
            let area =
                |zone| unknown.all(&format!("zone.{}.classes", zone_name(zone)), Area::new(zone, labels));
            zones.filter_map(area).collect::<Vec<_>>()
        };
        let (includes, ignores) = (areas(ZoneKind::Include), areas(ZoneKind::Ignore));
        match classes {
            Some(classes) if unknown.0.is_empty() => {
                Ok(Self { classes, score_threshold, thresholds, boxes: camera.boxes, includes, ignores })
            }
            _ => Err(unknown.0),
        }
    }

    /// Whether objects of this class are of any interest: others are not even tracked.
    pub fn wants(&self, class_id: u32) -> bool {
        self.classes.has(class_id)
    }

    /// Whether this object of a picture of `size` (width and height in pixels) is published.
    pub fn passes(&self, object: &Tracked, size: [u32; 2]) -> bool {
        let class_id = object.class_id;
        let threshold = self.thresholds.get(class_id as usize).copied().unwrap_or(self.score_threshold);
        // Written so that a score that is not a number does not pass.
        if !(self.classes.has(class_id) && object.score >= threshold) {
            return false;
        }
        if self.boxes == BoxLimits::default() && self.includes.is_empty() && self.ignores.is_empty() {
            return true;
        }
        let placed = placed(object, size);
        let mut about = self.includes.iter().filter(|area| area.classes.has(class_id)).peekable();
        fits(&self.boxes, &placed)
            && (about.peek().is_none() || about.any(|area| area.holds(&placed)))
            && !self.ignores.iter().any(|area| area.classes.has(class_id) && area.holds(&placed))
    }
}

fn zone_name(zone: &crate::config::ZoneOptions) -> &str {
    &zone.name
}

fn placed(object: &Tracked, size: [u32; 2]) -> Placed {
    Placed { bbox: object.bbox, size: size.map(|side| side.max(1) as f32) }
}

/// Within the limits, their ends included.
fn fits(limits: &BoxLimits, placed: &Placed) -> bool {
    let [x1, y1, x2, y2] = placed.bbox;
    let (width, height) = (x2 - x1, y2 - y1);
    let (area, picture) = (width * height, placed.size[0] * placed.size[1]);
    let pixels = |limit: BoxArea| match limit {
        BoxArea::Fraction(fraction) => fraction * picture,
        BoxArea::Pixels(pixels) => pixels,
    };
    // A box without height is as wide as any.
    let aspect = if height > 0.0 { width / height } else { f32::INFINITY };
    limits.min_area.is_none_or(|limit| area >= pixels(limit))
        && limits.max_area.is_none_or(|limit| area <= pixels(limit))
        && limits.min_aspect.is_none_or(|limit| aspect >= limit)
        && limits.max_aspect.is_none_or(|limit| aspect <= limit)
}

/// Collects what a model lacks.
#[derive(Default)]
struct Unknown(Vec<UnknownLabels>);

impl Unknown {
    fn note(&mut self, key: &str, labels: Vec<String>) {
        match self.0.iter_mut().find(|unknown| unknown.key == key) {
            Some(unknown) => unknown.labels.extend(labels),
            None => self.0.push(UnknownLabels { key: key.to_owned(), labels }),
        }
    }

    fn all<T>(&mut self, key: &str, outcome: Result<T, Vec<String>>) -> Option<T> {
        outcome.map_err(|labels| self.note(key, labels)).ok()
    }
}

/// More labels than this are not listed in a message.
const LISTED_MAX: usize = 12;

/// What to say of a model that lacks labels, after its name: the nearest ones that it has.
pub fn lacks_labels(unknown: &[String], labels: &[String]) -> String {
    let quoted: Vec<String> = unknown
        .iter()
        .map(|word| match nearest(word, labels.iter().map(String::as_str)) {
            Some(label) => format!("\"{word}\" (did you mean \"{label}\"?)"),
            None => format!("\"{word}\""),
        })
        .collect();
    let known = if labels.len() <= LISTED_MAX {
        format!("it has: {}", labels.join(", "))
    } else {
        format!("`watchpost model show` lists the {} that it has", labels.len())
    };
    format!("has no label {}; {known}", quoted.join(", "))
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
