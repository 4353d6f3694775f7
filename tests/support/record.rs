//! Records as a reader of the socket or of stdout sees them, and what must hold for any sequence of them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use serde_json::Value;

/// One line.
#[derive(Debug, Clone)]
pub struct Record {
    /// When it was read.
    pub at: Instant,
    pub camera: String,
    pub generation: u64,
    pub body: Body,
}

#[derive(Debug, Clone)]
pub enum Body {
    /// Of the process, not of a camera.
    Growth {
        kind: String,
        growing: bool,
    },
    State {
        state: String,
        reason: Option<String>,
        detail: Option<String>,
    },
    Detections {
        seq: u64,
        dropped_since_last: u64,
        stamp: Option<u64>,
        latency_ms: f64,
        /// Milliseconds of the day, in UTC, and whose clock says so.
        ts_ms: u64,
        ts_source: String,
        pts_ns: Option<u64>,
        width: u32,
        height: u32,
        objects: Vec<Object>,
    },
}

#[derive(Debug, Clone)]
pub struct Object {
    pub label: String,
    pub score: f64,
    /// x1, y1, x2, y2 in pixels of the frame.
    pub bbox: [f64; 4],
}

impl Record {
    /// Panics on a line that is no record of the schema: the test then fails in the reader's name.
    pub fn parse(line: &str, at: Instant) -> Self {
        let json: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(json["schema"], "watchpost/1", "{line}");
        let number = |key: &str| json[key].as_u64().unwrap_or_else(|| panic!("{key} is missing: {line}"));
        let text = |key: &str| json[key].as_str().map(str::to_owned);
        let body = match json["type"].as_str() {
            Some("camera_state") => Body::State {
                state: text("state").unwrap_or_else(|| panic!("state is missing: {line}")),
                reason: text("reason"),
                detail: text("detail"),
            },
            Some("growth") => {
                let (kind, growing) = (text("kind").unwrap_or_default(), json["growing"] == true);
                return Self {
                    at,
                    camera: String::new(),
                    generation: 0,
                    body: Body::Growth { kind, growing },
                };
            }
            Some("detections") => Body::Detections {
                seq: number("seq"),
                dropped_since_last: number("dropped_since_last"),
                stamp: json["stamp"].as_u64(),
                latency_ms: json["latency_ms"].as_f64().unwrap_or(f64::NAN),
                ts_ms: text("ts").and_then(|ts| ms_of_day(&ts)).unwrap_or_else(|| panic!("no time: {line}")),
                ts_source: text("ts_source").unwrap_or_default(),
                pts_ns: json["pts_ns"].as_u64(),
                width: json["frame"]["width"].as_u64().unwrap_or(0) as u32,
                height: json["frame"]["height"].as_u64().unwrap_or(0) as u32,
                objects: json["objects"]
                    .as_array()
                    .map(|list| list.iter().map(object).collect())
                    .unwrap_or_default(),
            },
            _ => panic!("a record of a type that this test does not know: {line}"),
        };
        Self { at, camera: text("camera").unwrap_or_default(), generation: number("generation"), body }
    }

    pub fn is_state(&self) -> bool {
        self.state().is_some()
    }

    /// The state that this record announces, if it does.
    pub fn state(&self) -> Option<&str> {
        match &self.body {
            Body::State { state, .. } => Some(state),
            _ => None,
        }
    }

    pub fn reason(&self) -> Option<&str> {
        match &self.body {
            Body::State { reason, .. } => reason.as_deref(),
            _ => None,
        }
    }

    pub fn detail(&self) -> &str {
        match &self.body {
            Body::State { detail, .. } => detail.as_deref().unwrap_or_default(),
            _ => "",
        }
    }

    /// The number that the test camera drew into the picture.
    pub fn stamp(&self) -> Option<u64> {
        match self.body {
            Body::Detections { stamp, .. } => stamp,
            _ => None,
        }
    }
}

fn object(json: &Value) -> Object {
    Object {
        label: json["label"].as_str().unwrap_or_default().to_owned(),
        score: json["score"].as_f64().unwrap_or(f64::NAN),
        bbox: std::array::from_fn(|corner| json["box"][corner].as_f64().unwrap_or(f64::NAN)),
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (camera, generation) = (&self.camera, self.generation);
        match &self.body {
            Body::State { state, reason, detail } => {
                let [reason, detail] = [reason, detail].map(|text| text.as_deref().unwrap_or("-"));
                write!(f, "{camera} gen {generation} {state} ({reason}: {detail})")
            }
            Body::Growth { kind, growing } => write!(f, "{kind} grows: {growing}"),
            Body::Detections { seq, stamp, .. } => {
                write!(f, "{camera} gen {generation} detections seq {seq} stamp {stamp:?}")
            }
        }
    }
}

/// What one camera's records have said so far.
#[derive(Default)]
struct Story {
    state: String,
    generation: u64,
    seq: u64,
    /// It was closed because memory is short.
    shed: bool,
}

/// What holds for the records of any run, from its first one on: every camera goes through its states in a
/// legal order, each opening has the next generation, detections come only while the camera streams and from
/// its living generation, no frame number is missing, and every box lies in its frame.
pub fn assert_consistent(records: &[Record]) {
    let mut stories: BTreeMap<&str, Story> = BTreeMap::new();
    for record in records {
        let story = stories.entry(&record.camera).or_default();
        match &record.body {
            Body::Growth { .. } => {}
            // Less of a camera, or all of it again: it stays where it is.
            Body::State { state, reason, .. }
                if *state == story.state && matches!(reason.as_deref(), Some("shed" | "restored")) => {}
            Body::State { state, reason, .. } => {
                let legal: &[&str] = match story.state.as_str() {
                    "" | "backing_off" => &["opening", "stopped"],
                    "opening" => &["streaming", "closing", "backing_off"],
                    "streaming" => &["closing", "backing_off"],
                    "closing" => &["backing_off", "stopped", "wedged"],
                    "wedged" => &["backing_off", "stopped"],
                    "stopped" if story.shed => &["opening"],
                    _ => &[],
                };
                assert!(legal.contains(&state.as_str()), "after {:?}: {record}", story.state);
                let expected = story.generation + u64::from(state == "opening");
                assert_eq!(record.generation, expected, "{record}");
                (story.state, story.generation) = (state.clone(), expected);
                story.shed = reason.as_deref() == Some("shed");
            }
            Body::Detections { seq, dropped_since_last, width, height, objects, .. } => {
                assert_eq!(
                    story.state, "streaming",
                    "detections of a camera that is not streaming: {record}"
                );
                assert_eq!(record.generation, story.generation, "{record}");
                assert_eq!(*seq, story.seq + dropped_since_last + 1, "after seq {}: {record}", story.seq);
                story.seq = *seq;
                for object in objects {
                    let [x1, y1, x2, y2] = object.bbox;
                    let inside = 0.0 <= x1
                        && x1 < x2
                        && x2 <= f64::from(*width)
                        && 0.0 <= y1
                        && y1 < y2
                        && y2 <= f64::from(*height);
                    assert!(inside, "{object:?} in {width}x{height}: {record}");
                }
            }
        }
    }
}

/// Of `2026-11-21T09:30:01.123Z`.
fn ms_of_day(ts: &str) -> Option<u64> {
    let (_, time) = ts.strip_suffix('Z')?.split_once('T')?;
    let mut parts = time.split([':', '.']).map(|part| part.parse::<u64>().ok());
    let [hours, minutes, seconds, ms] = [(); 4].map(|()| parts.next().flatten());
    Some(((hours? * 60 + minutes?) * 60 + seconds?) * 1000 + ms?)
}
