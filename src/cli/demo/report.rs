//! The demo's report: recall, precision, latency, frame accounting, memory.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use watchpost_scene::score::{Detection, Score, match_frame};
use watchpost_scene::{Scene, SceneOptions};

use crate::supervisor::DebugState;

/// Boxes that overlap less than this are not the same object.
const IOU_MIN: f32 = 0.5;

/// Takes note of what the daemon publishes.
pub(super) struct Witness {
    scene: Scene,
    score: Score,
    /// Frame number, when its record was read.
    read_at: Vec<(u64, u64)>,
    frames: u64,
    backend: String,
    rss_warm_bytes: u64,
    rss_end_bytes: u64,
}

impl Witness {
    pub fn new(scene: SceneOptions) -> Self {
        Self {
            scene: Scene::new(scene),
            score: Score::default(),
            read_at: Vec::new(),
            frames: 0,
            backend: String::new(),
            rss_warm_bytes: 0,
            rss_end_bytes: 0,
        }
    }

    /// Reads one record; true if it is one of detections.
    pub fn read(&mut self, line: &str, read_unix_ns: u64) -> bool {
        let record: Value = serde_json::from_str(line).unwrap_or_default();
        if record["type"] != "detections" {
            return false;
        }
        self.frames += 1;
        self.backend = record["model"]["backend"].as_str().unwrap_or_default().to_owned();
        let Some(number) = record["stamp"].as_u64() else { return true };
        self.read_at.push((number, read_unix_ns));
        let Ok(frame_number) = u32::try_from(number) else { return true };
        let detections: Vec<Detection> =
            record["objects"].as_array().into_iter().flatten().filter_map(detection).collect();
        self.score.add(match_frame(&detections, &self.scene.truth(frame_number), IOU_MIN));
        true
    }

    /// Takes note of the daemon's memory.
    pub fn rss(&mut self, bytes: u64, warm: bool) {
        if warm && self.rss_warm_bytes == 0 {
            self.rss_warm_bytes = bytes;
        }
        self.rss_end_bytes = bytes;
    }

    /// Frames with a record.
    pub fn frames(&self) -> u64 {
        self.frames
    }
}

fn detection(object: &Value) -> Option<Detection> {
    let mut bbox = [0.0; 4];
    for (side, value) in bbox.iter_mut().zip(object["box"].as_array()?) {
        *side = value.as_f64()? as f32;
    }
    Some(Detection {
        class_id: u32::try_from(object["class_id"].as_u64()?).ok()?,
        score: object["score"].as_f64()? as f32,
        bbox,
    })
}

/// Milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Latency {
    p50: f64,
    p95: f64,
    p99: f64,
}

/// Every frame that was decoded.
#[derive(Debug, Serialize)]
pub(super) struct Frames {
    #[serde(rename = "in")]
    arrived: u64,
    detected: u64,
    dropped: BTreeMap<String, u64>,
    /// On their way when the counters were read.
    in_flight: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Rss {
    warm: f64,
    end: f64,
}

/// What `--report` writes.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    recall: f64,
    precision: f64,
    /// From handing the picture to the camera's encoder to reading its record.
    latency_ms: Latency,
    frames: Frames,
    rss_mib: Rss,
    restarts: u64,
    backend: String,
    duration_s: f64,
    /// Frames whose number could be read, on which recall, precision and latency rest.
    frames_scored: u64,
    counts: Score,
}

impl Report {
    pub fn new(witness: &Witness, frame_log: &str, state: &DebugState, duration: Duration) -> Self {
        let camera = state.cameras.first();
        let outcomes = camera.and_then(|camera| camera.outcomes.as_object()).cloned().unwrap_or_default();
        let counted: BTreeMap<String, u64> =
            outcomes.into_iter().map(|(name, count)| (name, count.as_u64().unwrap_or(0))).collect();
        let detected = counted.get("detected").copied().unwrap_or(0);
        let arrived = camera.map_or(0, |camera| camera.frames_in);
        let done: u64 = counted.values().sum();
        let dropped = counted.into_iter().filter(|(name, count)| name != "detected" && *count > 0).collect();
        let mib = |bytes: u64| (bytes as f64 / 1_048_576.0 * 10.0).round() / 10.0;
        Self {
            recall: round(witness.score.recall().unwrap_or(0.0), 4),
            precision: round(witness.score.precision().unwrap_or(0.0), 4),
            latency_ms: latency(&witness.read_at, frame_log),
            frames: Frames { arrived, detected, dropped, in_flight: arrived.saturating_sub(done) },
            rss_mib: Rss { warm: mib(witness.rss_warm_bytes), end: mib(witness.rss_end_bytes) },
            restarts: camera.map_or(0, |camera| camera.restarts),
            backend: witness.backend.clone(),
            duration_s: duration.as_secs_f64(),
            frames_scored: witness.read_at.len() as u64,
            counts: witness.score,
        }
    }

    /// For people.
    pub fn table(&self) -> String {
        let Frames { arrived, detected, in_flight, .. } = self.frames;
        let reasons: Vec<String> =
            self.frames.dropped.iter().map(|(name, count)| format!("{count} {name}")).collect();
        let dropped = if reasons.is_empty() { "none".to_owned() } else { reasons.join(", ") };
        format!(
            "\n\
             recall     {:.4}   at IoU {IOU_MIN}, over {} frames\n\
             precision  {:.4}\n\
             latency    p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms   from the camera's picture to its record\n\
             frames     {arrived} in = {detected} detected + dropped ({dropped}) + {in_flight} in flight\n\
             memory     {:.1} MiB warm, {:.1} MiB at the end\n\
             restarts   {}\n\
             backend    {}, {:.0} s\n",
            self.recall,
            self.frames_scored,
            self.precision,
            self.latency_ms.p50,
            self.latency_ms.p95,
            self.latency_ms.p99,
            self.rss_mib.warm,
            self.rss_mib.end,
            self.restarts,
            self.backend,
            self.duration_s,
        )
    }
}

fn round(value: f64, digits: i32) -> f64 {
    let factor = 10f64.powi(digits);
    (value * factor).round() / factor
}

/// Nearest-rank percentiles over all frames that are in the log and have a record.
fn latency(read_at: &[(u64, u64)], frame_log: &str) -> Latency {
    let sent_at: BTreeMap<u64, u64> = frame_log
        .lines()
        .filter_map(|line| {
            let (number, unix_ns) = line.split_once(' ')?;
            Some((number.parse().ok()?, unix_ns.trim().parse().ok()?))
        })
        .collect();
    let mut times_ms: Vec<f64> = read_at
        .iter()
        .filter_map(|(number, read)| Some(read.checked_sub(*sent_at.get(number)?)? as f64 / 1e6))
        .collect();
    times_ms.sort_unstable_by(f64::total_cmp);
    let rank = |q: f64| {
        let index = ((times_ms.len() as f64 * q).ceil() as usize).saturating_sub(1);
        round(times_ms.get(index).copied().unwrap_or(0.0), 1)
    };
    Latency { p50: rank(0.50), p95: rank(0.95), p99: rank(0.99) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_is_matched_by_frame_number_and_ranked() {
        let log = "1 1000000\n2 2000000\n3 3000000\nbroken\n";
        let read_at = [(1, 11_000_000), (3, 33_000_000), (9, 5)];
        let latency = latency(&read_at, log);
        assert_eq!((latency.p50, latency.p99), (10.0, 30.0));
    }

    #[test]
    fn a_record_without_a_stamp_is_a_frame_but_is_not_scored() {
        let mut witness = Witness::new(SceneOptions { seed: 1, width: 640, height: 360, fps: 15 });
        assert!(witness.read(r#"{"type":"detections","model":{"backend":"x"},"objects":[]}"#, 1));
        assert!(!witness.read(r#"{"type":"camera_state"}"#, 1));
        assert!(!witness.read("not JSON", 1));
        assert_eq!((witness.frames(), witness.read_at.len()), (1, 0));
    }
}
