//! What becomes of an inference: output tensors -> detections -> filter -> record.

use std::sync::Arc;

use crate::clock;
use crate::decode::{Decoder, Detection};
use crate::filter::Filter;
use crate::frame::Work;
use crate::engine::TensorView;
use crate::metrics::Outcome;
use crate::publish::{Detections, FrameSize, ModelPart, Object, Publisher};

/// The model as records name it.
#[derive(Debug, Clone)]
pub struct ModelTag {
    /// The manifest's name.
    pub name: String,
    /// First 12 hex digits of the file's SHA-256.
    pub sha256: String,
    /// Which backend runs it.
    pub backend: &'static str,
    /// In which arithmetic.
    pub precision: &'static str,
}

/// Turns finished frames into records. Lives on the engine's thread; allocates only in `new`.
pub struct Results<'a> {
    labels: &'a [String],
    tag: &'a ModelTag,
    filters: &'a [Filter],
    decoder: Decoder,
    detections: Vec<Detection>,
    objects: Vec<Object<'a>>,
    publisher: Arc<Publisher>,
}

impl<'a> Results<'a> {
    /// `filters` has one for each camera, by its index.
    pub fn new(
        labels: &'a [String],
        tag: &'a ModelTag,
        filters: &'a [Filter],
        decoder: Decoder,
        max_objects: usize,
        publisher: Arc<Publisher>,
    ) -> Self {
        Self {
            labels,
            tag,
            filters,
            decoder,
            detections: Vec::with_capacity(max_objects),
            objects: Vec::with_capacity(max_objects),
            publisher,
        }
    }

    /// Decodes one frame's outputs and publishes its record, unless its opening is over.
    pub fn finish(&mut self, work: &Work, outputs: &[TensorView<'_>]) {
        if let Err(error) = self.decoder.decode(outputs, &mut self.detections) {
            work.feed.dropped(Outcome::EngineError);
            tracing::error!(camera = work.feed.name(), %error, "the engine's output cannot be decoded");
            return;
        }
        self.objects.clear();
        for detection in &self.detections {
            if !self.filters[work.feed.index].passes(detection) {
                continue;
            }
            self.objects.push(Object {
                label: self.labels.get(detection.class_id as usize).map_or("", String::as_str),
                class_id: detection.class_id,
                score: detection.score,
                bbox: work.geometry.to_source(detection.bbox),
                track_id: None,
            });
        }
        // Nothing is published after the record that says the camera is being closed.
        if work.feed.while_live(work.generation, || self.publish(work)).is_none() {
            work.feed.dropped(Outcome::StaleGeneration);
        }
    }

    fn publish(&self, work: &Work) {
        let age = clock::now().saturating_duration_since(work.arrived_at);
        work.feed.metrics.frame_age.observe(age);
        self.publisher.detections(&Detections {
            camera: work.feed.name(),
            generation: work.generation,
            seq: work.seq,
            ts: work.wall,
            ts_source: work.ts_source,
            pts_ns: work.pts_ns,
            stamp: work.stamp.map(u64::from),
            latency_ms: age.as_secs_f64() * 1e3,
            frame: FrameSize { width: work.width, height: work.height },
            model: ModelPart {
                name: &self.tag.name,
                sha256: &self.tag.sha256,
                backend: self.tag.backend,
                precision: self.tag.precision,
            },
            dropped_since_last: work.feed.published(work.seq),
            objects: &self.objects,
        });
    }
}
