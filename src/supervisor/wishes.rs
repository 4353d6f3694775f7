//! PURE: what each camera wants of the detector's results.

use super::{ModelTag, StartError, identities};
use crate::config::{CameraOptions, DetectorOptions};
use crate::filter::{Events, Filter, UnknownLabels, lacks_labels};
use crate::track;

/// What one camera wants of the detector's results.
#[derive(Debug)]
pub struct Wish {
    /// Which objects are published.
    pub filter: Filter,
    /// How they are tracked, if they are.
    pub tracking: Option<track::Options>,
    /// What is told of their ways, if anything is.
    pub events: Option<Events>,
}

/// What each camera wants.
///
/// # Errors
/// [`StartError::Classes`]: some ask for labels that the model does not have.
pub(super) fn wishes(
    cameras: &[CameraOptions],
    detector: &DetectorOptions,
    tag: &ModelTag,
    labels: &[String],
) -> Result<Vec<Wish>, StartError> {
    let mut wishes = Vec::with_capacity(cameras.len());
    let mut mistakes = String::new();
    for camera in cameras {
        match Wish::new(camera, detector, labels) {
            Ok(wish) => wishes.push(wish),
            Err(unknown) => mistakes += &lacking(camera, &unknown, &tag.name, labels),
        }
    }
    match mistakes.trim_end() {
        "" => Ok(wishes),
        mistakes => Err(StartError::Classes(mistakes.to_owned())),
    }
}

impl Wish {
    /// What one camera wants.
    ///
    /// # Errors
    /// Every label that the model does not have.
    pub fn new(
        camera: &CameraOptions,
        detector: &DetectorOptions,
        labels: &[String],
    ) -> Result<Self, Vec<UnknownLabels>> {
        let filter = Filter::of_camera(camera, labels, detector.score_threshold);
        let tracking = identities::options(camera, lowest_shown(camera, detector), detector.max_objects);
        let events = tracking.filter(|_| Events::are_wanted(camera));
        let events = events.map(|tracking| Events::new(camera, labels, tracking)).transpose();
        match (filter, events) {
            (Ok(filter), Ok(events)) => Ok(Self { filter, tracking, events }),
            (filter, events) => Err(filter.err().into_iter().chain(events.err()).flatten().collect()),
        }
    }
}

/// A line for each key that names labels which the model lacks.
pub fn lacking(camera: &CameraOptions, unknown: &[UnknownLabels], model: &str, labels: &[String]) -> String {
    let line = |unknown: &UnknownLabels| {
        let lacks = lacks_labels(&unknown.labels, labels);
        format!("camera.{}.{}: the model {model} {lacks}\n", camera.name, unknown.key)
    };
    unknown.iter().map(line).collect()
}

/// The lowest score with which an object of a camera may be published.
pub fn lowest_shown(camera: &CameraOptions, detector: &DetectorOptions) -> f32 {
    let of_all = camera.score_threshold.unwrap_or(detector.score_threshold);
    camera.score_thresholds.iter().map(|(_, threshold)| *threshold).fold(of_all, f32::min)
}
