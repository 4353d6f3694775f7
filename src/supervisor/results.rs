//! What becomes of an inference: output tensors -> objects -> record.

use std::sync::Arc;

use super::identities::Identities;
use crate::clock;
use crate::engine::TensorView;
use crate::filter::{Filter, Presence};
use crate::frame::Work;
use crate::metrics::Outcome;
use crate::publish::{Detections, FrameSize, ModelPart, Object, ObjectReader, Publisher};
use crate::snapshots::{self, Snapshots};
use crate::track::Workspace;

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

impl ModelTag {
    /// As a part of a record.
    pub fn part(&self) -> ModelPart<'_> {
        ModelPart { name: &self.name, sha256: &self.sha256, backend: self.backend, precision: self.precision }
    }
}

/// What is done with one camera's objects.
pub(super) struct View {
    pub filter: Filter,
    pub identities: Identities,
    pub presence: Presence,
}

/// Turns finished frames into records. Lives on the engine's thread, with its engine.
pub(super) struct Results {
    pub reader: ObjectReader,
    pub tag: ModelTag,
    /// By the index of the camera; `None` where there is none now.
    pub views: Vec<Option<View>>,
    /// For tracking, where a camera does.
    pub workspace: Workspace,
    pub publisher: Arc<Publisher>,
    /// Where cameras want the best pictures of tracks.
    pub snapshots: Option<Snapshots>,
}

impl Results {
    /// Decodes one frame's outputs and publishes its record, unless its opening is over.
    pub fn finish(&mut self, work: &Work, outputs: &[TensorView<'_>]) {
        let Self { reader, tag, views, workspace, publisher, snapshots } = self;
        let Some(Some(View { filter, identities, presence })) = views.get_mut(work.feed.index) else {
            work.feed.dropped(Outcome::StaleGeneration);
            return;
        };
        let moment = identities.moment(work, publisher);
        let identify = |objects: &mut [_]| identities.identify(workspace, moment, objects);
        let published = reader.read(outputs, &work.geometry, filter, identify, |objects| {
            // Nothing is published after the record that says the camera is being closed.
            work.feed.while_live(work.generation, || {
                publish(publisher, tag, work, objects);
                if presence.is_lively(objects.iter().map(|one| (one.class_id, one.bbox)), work.arrived_at) {
                    work.feed.saw_object(work.arrived_at);
                }
                if let Some(snapshots) = snapshots {
                    let moment = snapshots::Moment { now: clock::now(), wall: work.wall };
                    snapshots.consider(work.feed.index, moment, work.slot.memory(), &work.geometry, objects);
                }
                identities.tell(work, moment, objects.iter().map(Object::tracked), publisher);
            })
        });
        match published {
            Ok(Some(())) => {}
            Ok(None) => work.feed.dropped(Outcome::StaleGeneration),
            Err(error) => {
                work.feed.dropped(Outcome::EngineError);
                tracing::error!(camera = work.feed.name(), %error, "the engine's output cannot be decoded");
            }
        }
    }
}

fn publish(publisher: &Publisher, tag: &ModelTag, work: &Work, objects: &[Object<'_>]) {
    let age = clock::now().saturating_duration_since(work.received_at);
    work.feed.metrics.frame_age.observe(age);
    publisher.detections(&Detections {
        camera: work.feed.name(),
        generation: work.generation,
        seq: work.seq,
        ts: work.wall,
        ts_source: work.ts_source,
        pts_ns: work.pts_ns,
        stamp: work.stamp.map(u64::from),
        latency_ms: age.as_secs_f64() * 1e3,
        frame: FrameSize { width: work.width, height: work.height },
        model: tag.part(),
        dropped_since_last: work.feed.published(work.seq),
        objects,
    });
}
