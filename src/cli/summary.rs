//! What `watchpost detect --summary` writes: frames, time, memory, milliseconds per stage.

use std::time::{Duration, Instant};

use serde_json::json;

use super::common::LoadedModel;
use super::{Failure, exit};
use crate::clock;
use crate::metrics::process_usage;
use crate::offline::{Ready, Totals};

/// Milliseconds per frame of each stage. Bounded: a long run is sampled.
#[derive(Default)]
pub(super) struct Stages {
    samples: [Vec<f32>; 4],
    seen: u64,
    pub objects: u64,
    pub events: u64,
}

/// Frames whose times are kept; of more, every n-th.
const SAMPLES_MAX: u64 = 100_000;

impl Stages {
    pub fn add(&mut self, ready: &Ready, inference: Duration, postprocess_began: Instant) {
        self.seen += 1;
        if self.seen > SAMPLES_MAX {
            return;
        }
        let postprocess = clock::now().saturating_duration_since(postprocess_began);
        let times = [ready.decode, ready.preprocess, inference, postprocess];
        for (samples, time) in self.samples.iter_mut().zip(times) {
            samples.push(time.as_secs_f32() * 1e3);
        }
    }

    fn median(&self, stage: usize) -> f64 {
        let mut sorted = self.samples[stage].clone();
        sorted.sort_unstable_by(f32::total_cmp);
        let middle = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
        (f64::from(middle) * 1000.0).round() / 1000.0
    }
}

/// The summary as JSON.
pub(super) fn summary_text(
    inputs: usize,
    totals: &Totals,
    seconds: f64,
    model: &LoadedModel,
    stages: &Stages,
) -> Result<String, Failure> {
    let usage = process_usage();
    let round = |value: f64| (value * 1000.0).round() / 1000.0;
    let summary = json!({
        "inputs": inputs,
        "frames": totals.frames,
        "dropped": totals.dropped,
        "objects": stages.objects,
        "events": stages.events,
        "seconds": round(seconds),
        "fps": round(totals.frames as f64 / seconds.max(1e-9)),
        "cpu_seconds": round(usage.cpu_seconds),
        "max_rss_mib": round(usage.max_rss_bytes as f64 / 1_048_576.0),
        "backend": model.tag.backend,
        "precision": model.tag.precision,
        "batch": 1,
        "decode_ms": stages.median(0),
        "preprocess_ms": stages.median(1),
        "inference_ms": stages.median(2),
        "postprocess_ms": stages.median(3),
    });
    let text = serde_json::to_string_pretty(&summary)
        .map_err(|error| Failure::new(exit::INTERNAL, format!("the summary cannot be written: {error}")))?;
    Ok(text + "\n")
}
