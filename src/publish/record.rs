//! The wire schema: one JSON object a line, `schema` first. Fields are only ever added.
//!
//! Records borrow everything and are written straight into a byte buffer: nothing is allocated but
//! what the buffer itself may have to grow.

use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

pub use crate::source::TsSource;
use crate::track::Tracked;

/// The first field of every record.
pub const SCHEMA: &str = "watchpost/1";

/// 0000-01-01T00:00:00Z in seconds since 1970: RFC 3339 has no years before it.
const YEAR_ZERO_SECONDS: i64 = -62_167_219_200;

/// Size of the source frame in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FrameSize {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

/// Which model saw the frame, and how it was run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ModelPart<'a> {
    /// The manifest's name.
    pub name: &'a str,
    /// First 12 hex digits of the model file's SHA-256.
    pub sha256: &'a str,
    /// `"builtin"`, `"tensorrt"`, …
    pub backend: &'a str,
    /// `"fp32"`, `"fp16"`, …
    pub precision: &'a str,
}

/// One object of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Object<'a> {
    /// The model's label, any UTF-8.
    pub label: &'a str,
    /// Index into the model's labels.
    pub class_id: u32,
    /// 0..=1; written with at most 3 decimals.
    #[serde(serialize_with = "three_decimals")]
    pub score: f32,
    /// `[x1, y1, x2, y2]` in pixels of the source frame; written with at most 1 decimal.
    #[serde(rename = "box", serialize_with = "box_one_decimal")]
    pub bbox: [f32; 4],
    /// Identity over time; left out when nothing tracks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub track_id: Option<u64>,
    /// `[[x, y, score], …]`: the points of a pose in pixels of the source frame, in the model's order; x and y with at
    /// most 1 decimal, score 0..=1 with at most 3. Left out for models without poses.
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "keypoints")]
    pub keypoints: &'a [[f32; 3]],
    /// What of the box belongs to the object; left out for models without masks, and where none was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<Mask<'a>>,
    /// For an oriented box, of which `box` is the upright enclosure: from the picture's horizontal to the box's first
    /// side, in radians, clockwise as one sees the picture; at most 4 decimals.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "four_decimals")]
    pub angle: Option<f32>,
    /// The corners of an oriented box, `[[x, y]; 4]`, in pixels of the source frame, outside of it where the box is; at most
    /// 1 decimal.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "corners")]
    pub corners: Option<[[f32; 2]; 4]>,
}

impl<'a> Object<'a> {
    /// An object of which no more is known than its box.
    pub fn new(label: &'a str, class_id: u32, score: f32, bbox: [f32; 4]) -> Self {
        Self {
            label,
            class_id,
            score,
            bbox,
            track_id: None,
            keypoints: &[],
            mask: None,
            angle: None,
            corners: None,
        }
    }
}

impl Object<'_> {
    /// What of it tracking knows.
    pub fn tracked(&self) -> Tracked {
        let Self { class_id, score, bbox, track_id, .. } = *self;
        Tracked { class_id, score, bbox, track_id }
    }
}

/// What of a box belongs to its object.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Mask<'a> {
    /// `[[x, y], …]`: corners of its outline, clockwise, in pixels of the source frame; at most 1 decimal.
    #[serde(serialize_with = "points")]
    pub polygon: &'a [[f32; 2]],
}

/// `type: "detections"`: what was seen in one frame that was really decoded. `objects` may be empty.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Detections<'a> {
    /// The camera's configured name.
    pub camera: &'a str,
    /// Which opening of the camera, from 1.
    pub generation: u64,
    /// Number of the frame among all frames of its camera, from 1. The camera's previous record has
    /// `seq - dropped_since_last - 1`.
    pub seq: u64,
    /// Time of the frame; written as RFC 3339 UTC with milliseconds.
    #[serde(serialize_with = "rfc3339")]
    pub ts: SystemTime,
    /// What `ts` means.
    pub ts_source: TsSource,
    /// Presentation time in nanoseconds, where the source has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pts_ns: Option<u64>,
    /// The frame number that the test camera draws into its pictures, where it was asked for and read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stamp: Option<u64>,
    /// Arrival of the frame (its capture time where the camera tells it) to publishing; 1 decimal.
    #[serde(serialize_with = "one_decimal")]
    pub latency_ms: f64,
    /// Size of the source frame.
    pub frame: FrameSize,
    /// The model and how it was run.
    pub model: ModelPart<'a>,
    /// Frames of this camera that were not inferred since its previous detections record.
    pub dropped_since_last: u64,
    /// The objects, in the order given.
    pub objects: &'a [Object<'a>],
}

/// What a camera is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Connecting, waiting for the first frame.
    Opening,
    /// Frames arrive.
    Streaming,
    /// Being taken down.
    Closing,
    /// Waiting before the next try.
    BackingOff,
    /// Its pipeline does not end; nothing more is tried.
    Wedged,
    /// Not watched.
    Stopped,
}

/// `type: "camera_state"`: a camera has entered a state.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct CameraState<'a> {
    /// The camera's configured name.
    pub camera: &'a str,
    /// Which opening of the camera, from 1.
    pub generation: u64,
    /// When; written as RFC 3339 UTC with milliseconds.
    #[serde(serialize_with = "rfc3339")]
    pub ts: SystemTime,
    /// The state entered.
    pub state: State,
    /// Why: `stalled`, `unauthorized`, … (the names of [`crate::camera::Reason`]); `restored` where nothing is
    /// shed any more. A record with `shed` or `restored` may repeat the state the camera is in. Static on
    /// purpose: text that came from outside cannot get into it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// One sentence for people. The caller sees to it that no secret is in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<&'a str>,
    /// Until the next try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_in_ms: Option<u64>,
    /// What is given up of the camera because memory is short: `half`, `slow`, `keyframes`, `paused`. Left out
    /// while nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shed: Option<&'static str>,
}

/// `type: "growth"`: the process holds steadily more of something, or no longer does.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Growth<'a> {
    /// When; written as RFC 3339 UTC with milliseconds.
    #[serde(serialize_with = "rfc3339")]
    pub ts: SystemTime,
    /// Of what: `rss`, `gpu`, `fd`, … (the names of [`crate::metrics::Holding`]).
    pub kind: &'static str,
    /// `true` at the beginning of an episode, `false` at its end.
    pub growing: bool,
    /// How much there is: bytes for `rss` and `gpu`, else pieces.
    pub held: u64,
    /// How fast it grows, in the same unit; left out at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_hour: Option<f64>,
    /// The time over which that was seen, in seconds; left out at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub over_s: Option<u64>,
    /// One sentence for people, with the owner where it can be told.
    pub detail: &'a str,
}

/// `type: "lost"`: this reader was too slow, and so many records passed it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Lost<'a> {
    /// The output's configured name.
    pub output: &'a str,
    /// Records that this reader does not get.
    pub records: u64,
}

/// `type: "refused"`: the only line that a reader over `max_readers` gets before it is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Refused<'a> {
    /// The output's configured name.
    pub output: &'a str,
    /// One sentence for people.
    pub detail: &'a str,
    /// The limit that was reached.
    pub max_readers: usize,
}

/// `schema` and `type` before the record's own fields.
#[derive(Serialize)]
struct Wire<'a, T> {
    schema: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    body: &'a T,
}

pub(super) fn write_wire<T: Serialize>(buf: &mut Vec<u8>, kind: &'static str, body: &T) {
    let start = buf.len();
    match serde_json::to_writer(&mut *buf, &Wire { schema: SCHEMA, kind, body }) {
        Ok(()) => buf.push(b'\n'),
        // A Vec takes every byte and no record has a key that JSON refuses, so this does not happen;
        // if it did, half a line would be worse than none.
        Err(_) => buf.truncate(start),
    }
}

impl Detections<'_> {
    /// Appends this record as one JSON line, `'\n'` included. Allocates only what `buf` grows.
    pub fn write_line(&self, buf: &mut Vec<u8>) {
        write_wire(buf, "detections", self);
    }
}

impl CameraState<'_> {
    /// Appends this record as one JSON line, `'\n'` included. Allocates only what `buf` grows.
    pub fn write_line(&self, buf: &mut Vec<u8>) {
        write_wire(buf, "camera_state", self);
    }
}

impl Growth<'_> {
    /// Appends this record as one JSON line, `'\n'` included. Allocates only what `buf` grows.
    pub fn write_line(&self, buf: &mut Vec<u8>) {
        write_wire(buf, "growth", self);
    }
}

impl Lost<'_> {
    /// Appends this record as one JSON line, `'\n'` included. Allocates only what `buf` grows.
    pub fn write_line(&self, buf: &mut Vec<u8>) {
        write_wire(buf, "lost", self);
    }
}

impl Refused<'_> {
    /// Appends this record as one JSON line, `'\n'` included. Allocates only what `buf` grows.
    pub fn write_line(&self, buf: &mut Vec<u8>) {
        write_wire(buf, "refused", self);
    }
}

/// Rounded half away from zero to `1 / scale`. What is not finite stays so, and JSON writes it as null.
fn rounded(value: f64, scale: f64) -> f64 {
    // Adding zero turns -0.0 into 0.0.
    (value * scale).round() / scale + 0.0
}

fn three_decimals<S: Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(rounded(f64::from(*value), 1000.0))
}

fn one_decimal<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(rounded(*value, 10.0))
}

fn four_decimals<S: Serializer>(value: &Option<f32>, serializer: S) -> Result<S::Ok, S::Error> {
    value.map(|value| rounded(f64::from(value), 10_000.0)).serialize(serializer)
}

fn tenth(value: f32) -> f64 {
    rounded(f64::from(value), 10.0)
}

fn points<S: Serializer>(points: &[[f32; 2]], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(points.iter().map(|point| point.map(tenth)))
}

fn corners<S: Serializer>(corners: &Option<[[f32; 2]; 4]>, serializer: S) -> Result<S::Ok, S::Error> {
    corners.map(|corners| corners.map(|corner| corner.map(tenth))).serialize(serializer)
}

fn keypoints<S: Serializer>(points: &[[f32; 3]], serializer: S) -> Result<S::Ok, S::Error> {
    let point = |&[x, y, score]: &[f32; 3]| [tenth(x), tenth(y), rounded(f64::from(score), 1000.0)];
    serializer.collect_seq(points.iter().map(point))
}

fn box_one_decimal<S: Serializer>(value: &[f32; 4], serializer: S) -> Result<S::Ok, S::Error> {
    value.map(|v| rounded(f64::from(v), 10.0)).serialize(serializer)
}

pub(super) fn optional_box<S: Serializer>(
    value: &Option<[f32; 4]>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    value.map(|value| value.map(tenth)).serialize(serializer)
}

pub(super) fn optional_seconds<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    value.map(|value| rounded(value, 1000.0)).serialize(serializer)
}

/// Times outside the years 0000 to 9999 are written as the nearest end: a camera's clock may say anything.
pub(super) fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let first = Timestamp::from_second(YEAR_ZERO_SECONDS).unwrap_or(Timestamp::UNIX_EPOCH);
    let timestamp = Timestamp::try_from(*time).map_or_else(
        |_| if *time < SystemTime::UNIX_EPOCH { first } else { Timestamp::MAX },
        |timestamp| timestamp.max(first),
    );
    serializer.collect_str(&format_args!("{timestamp:.3}"))
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
