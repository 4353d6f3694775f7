//! The metrics at one moment, as `watchpost debug` shows them.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::{HistogramSummary, Holding};

/// Names and numbers that serialise as one object, in this order.
#[derive(Debug, Clone, PartialEq)]
pub struct Named(pub Vec<(&'static str, u64)>);

impl Serialize for Named {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// A [`CameraMetrics`](super::CameraMetrics) at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the fields are those of CameraMetrics")]
pub struct CameraSnapshot {
    pub name: String,
    pub up: bool,
    pub shed_level: u64,
    pub generation: u64,
    pub last_frame_age_ms: Option<u64>,
    pub frames_in: u64,
    pub outcomes: Named,
    pub restarts: Named,
    /// What happened in its zones and at its lines, by kind.
    pub events: Named,
    /// Pictures saved or not, by outcome.
    pub snapshots: Named,
    /// What has woken it, by reason; only with `decode = "lazy"`.
    pub wakes: Named,
    /// Only its keyframes are decoded, because nothing moves.
    pub asleep: bool,
    pub frame_age: HistogramSummary,
}

impl CameraSnapshot {
    /// Frames that arrived and have no outcome yet. Negative would be a frame counted twice.
    pub fn unaccounted(&self) -> i64 {
        let settled: u64 = self.outcomes.0.iter().map(|(_, count)| count).sum();
        self.frames_in as i64 - settled as i64
    }
}

/// An [`OutputMetrics`](super::OutputMetrics) at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the fields are those of OutputMetrics")]
pub struct OutputSnapshot {
    pub name: String,
    pub published: u64,
    pub lost: u64,
    pub too_long: u64,
    pub readers: u64,
    pub refused_readers: u64,
}

/// What one backend has done, at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EngineSnapshot {
    /// Which one.
    pub backend: String,
    /// One inference, whatever its batch.
    pub inference: HistogramSummary,
    /// `(frames, batches)`, only sizes that happened.
    pub batch_sizes: Vec<(usize, u64)>,
}

/// Memory of the process by owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the label values of watchpost_memory_bytes")]
pub struct MemoryBytes {
    pub rss: u64,
    pub pool: u64,
    pub gpu: u64,
}

/// What the process holds open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the label values of watchpost_open_handles")]
pub struct OpenHandles {
    pub fd: u64,
    pub thread: u64,
    pub pipeline: u64,
    pub slot: u64,
    pub object: u64,
    pub frame: u64,
    pub coded: u64,
}

fn name<S: Serializer>(kind: &Holding, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.as_str())
}

/// How fast the process holds more of one kind of thing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct GrowthSnapshot {
    /// What.
    #[serde(serialize_with = "name")]
    pub kind: Holding,
    /// Bytes or pieces an hour over the sentinel's shortest window; may be negative.
    pub per_hour: f64,
    /// The sentinel calls it growth.
    pub growing: bool,
}

/// A [`Registry`](super::Registry) at one moment. [`Snapshot::counters`] is the `"counters"` of `watchpost debug --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// In the order of the configuration.
    pub cameras: Vec<CameraSnapshot>,
    /// In the order of the configuration.
    pub outputs: Vec<OutputSnapshot>,
    /// One for each backend that has run; the one that runs now comes first.
    pub engines: Vec<EngineSnapshot>,
    /// By owner.
    pub memory_bytes: MemoryBytes,
    /// By kind.
    pub handles: OpenHandles,
    /// By kind: how fast they grow.
    pub growth: Vec<GrowthSnapshot>,
}

impl Snapshot {
    /// All counters under their Prometheus names, as one flat JSON object.
    pub fn counters(&self) -> Counters<'_> {
        Counters(self)
    }
}

/// Serialises as `{"watchpost_frames_total{camera=\"gate\",outcome=\"detected\"}": 12, …}`. Camera and
/// output names have an alphabet that needs no escaping.
#[derive(Debug, Clone, Copy)]
pub struct Counters<'a>(&'a Snapshot);

impl Serialize for Counters<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for camera in &self.0.cameras {
            camera_counters(&mut map, camera)?;
        }
        let (mut batches, mut frames) = (0, 0);
        for engine in &self.0.engines {
            let label = format!("backend=\"{}\"", engine.backend);
            histogram(&mut map, "watchpost_inference_seconds", &label, &engine.inference)?;
            batches += engine.batch_sizes.iter().map(|(_, batches)| batches).sum::<u64>();
            frames += engine.batch_sizes.iter().map(|(size, batches)| *size as u64 * batches).sum::<u64>();
        }
        map.serialize_entry("watchpost_batch_size_count", &batches)?;
        map.serialize_entry("watchpost_batch_size_sum", &frames)?;
        for output in &self.0.outputs {
            let outcomes =
                [("published", output.published), ("lost", output.lost), ("too_long", output.too_long)];
            for (outcome, value) in outcomes {
                let key =
                    format!("watchpost_records_total{{output=\"{}\",outcome=\"{outcome}\"}}", output.name);
                map.serialize_entry(&key, &value)?;
            }
        }
        for GrowthSnapshot { kind, per_hour, growing } in &self.0.growth {
            let unit = if kind.is_bytes() { "growth_bytes" } else { "growth_handles" };
            let kind = kind.as_str();
            map.serialize_entry(&format!("watchpost_{unit}_per_hour{{kind=\"{kind}\"}}"), per_hour)?;
            map.serialize_entry(&format!("watchpost_growing{{kind=\"{kind}\"}}"), &u8::from(*growing))?;
        }
        map.end()
    }
}

fn camera_counters<M: SerializeMap>(map: &mut M, camera: &CameraSnapshot) -> Result<(), M::Error> {
    let name = &camera.name;
    for (outcome, value) in &camera.outcomes.0 {
        let key = format!("watchpost_frames_total{{camera=\"{name}\",outcome=\"{outcome}\"}}");
        map.serialize_entry(&key, value)?;
    }
    for (reason, value) in &camera.restarts.0 {
        let key = format!("watchpost_camera_restarts_total{{camera=\"{name}\",reason=\"{reason}\"}}");
        map.serialize_entry(&key, value)?;
    }
    for (outcome, value) in camera.snapshots.0.iter().filter(|(_, value)| *value > 0) {
        let key = format!("watchpost_snapshots_total{{camera=\"{name}\",outcome=\"{outcome}\"}}");
        map.serialize_entry(&key, value)?;
    }
    for (why, value) in camera.wakes.0.iter().filter(|(_, value)| *value > 0) {
        map.serialize_entry(
            &format!("watchpost_camera_wakes_total{{camera=\"{name}\",reason=\"{why}\"}}"),
            value,
        )?;
    }
    for (kind, value) in &camera.events.0 {
        map.serialize_entry(&format!("watchpost_events_total{{camera=\"{name}\",event=\"{kind}\"}}"), value)?;
    }
    map.serialize_entry(&format!("watchpost_camera_up{{camera=\"{name}\"}}"), &u8::from(camera.up))?;
    map.serialize_entry(&format!("watchpost_camera_asleep{{camera=\"{name}\"}}"), &u8::from(camera.asleep))?;
    map.serialize_entry(&format!("watchpost_shed_level{{camera=\"{name}\"}}"), &camera.shed_level)?;
    histogram(map, "watchpost_frame_age_seconds", &format!("camera=\"{name}\""), &camera.frame_age)
}

fn histogram<M: SerializeMap>(
    map: &mut M,
    name: &str,
    label: &str,
    summary: &HistogramSummary,
) -> Result<(), M::Error> {
    map.serialize_entry(&format!("{name}_count{{{label}}}"), &summary.count)?;
    map.serialize_entry(&format!("{name}_sum{{{label}}}"), &summary.sum_seconds)?;
    for (quantile, value) in [("0.5", summary.p50_seconds), ("0.99", summary.p99_seconds)] {
        map.serialize_entry(&format!("{name}{{{label},quantile=\"{quantile}\"}}"), &value)?;
    }
    Ok(())
}
