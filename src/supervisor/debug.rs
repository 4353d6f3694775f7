//! The state of the running daemon, for `watchpost debug` and SIGUSR1.

use serde::{Deserialize, Serialize};

use super::watched::Watched;
use crate::camera::Reason;
use crate::metrics::Snapshot;

/// Slots of one camera. `free + in flight == capacity`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slots {
    /// In all.
    pub capacity: usize,
    /// At home.
    pub free: usize,
}

/// One camera.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CameraDebug {
    /// Configured name.
    pub name: String,
    /// State of its machine.
    pub state: String,
    /// Why it is there, where there is a why.
    pub reason: Option<String>,
    /// Number of its newest opening.
    pub generation: u64,
    /// Decoded frames a second, over the last second.
    pub fps: f64,
    /// Age of the newest frame.
    pub last_frame_age_ms: Option<u64>,
    /// Its slots.
    pub slots: Slots,
    /// Frames that arrived.
    pub frames_in: u64,
    /// Frames by what became of them.
    pub outcomes: serde_json::Value,
    /// Openings given up for a fault.
    pub restarts: u64,
    /// What is given up of it while memory is short: `half`, `slow`, `keyframes`, `paused`.
    #[serde(default)]
    pub shed: Option<String>,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DebugState {
    /// In the order of the configuration.
    pub cameras: Vec<CameraDebug>,
    /// By kind: rss, pool, gpu.
    pub memory_bytes: serde_json::Value,
    /// By kind: fd, thread, pipeline, slot, object, frame.
    pub handles: serde_json::Value,
    /// The engine that runs now: inference times and batch sizes.
    pub engine: serde_json::Value,
    /// By kind: how fast they grow an hour, and whether that is a steady growth.
    #[serde(default)]
    pub growth: serde_json::Value,
    /// All counters under their Prometheus names.
    pub counters: serde_json::Value,
}

impl DebugState {
    pub(super) fn new(cameras: &[Watched], snapshot: Snapshot) -> Self {
        let json = |value: serde_json::Result<serde_json::Value>| value.unwrap_or_default();
        let cameras = cameras.iter().zip(&snapshot.cameras).map(|(camera, counted)| CameraDebug {
            name: camera.options.name.clone(),
            state: camera.machine.state().as_str().to_owned(),
            reason: camera.reason.map(Reason::as_str).map(str::to_owned),
            generation: camera.machine.generation(),
            fps: (camera.rate.fps * 10.0).round() / 10.0,
            last_frame_age_ms: counted.last_frame_age_ms,
            slots: Slots { capacity: camera.feed.pool.capacity(), free: camera.feed.pool.free() },
            frames_in: counted.frames_in,
            outcomes: json(serde_json::to_value(&counted.outcomes)),
            restarts: camera.machine.restarts_count(),
            shed: camera.shed.as_str().map(str::to_owned),
        });
        Self {
            cameras: cameras.collect(),
            memory_bytes: json(serde_json::to_value(snapshot.memory_bytes)),
            handles: json(serde_json::to_value(snapshot.handles)),
            growth: json(serde_json::to_value(&snapshot.growth)),
            engine: json(serde_json::to_value(snapshot.engines.first())),
            counters: json(serde_json::to_value(snapshot.counters())),
        }
    }

    /// One line for the log.
    pub fn summary(&self) -> String {
        let cameras: Vec<String> = self
            .cameras
            .iter()
            .map(|c| format!("{} {} gen {} {:.1}/s", c.name, c.state, c.generation, c.fps))
            .collect();
        let number = |value: &serde_json::Value, key: &str| value[key].as_u64().unwrap_or(0);
        format!(
            "{}; rss {} MiB, {} descriptors, {} threads",
            cameras.join(", "),
            number(&self.memory_bytes, "rss") >> 20,
            number(&self.handles, "fd"),
            number(&self.handles, "thread"),
        )
    }
}
