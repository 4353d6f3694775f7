//! Who is who at one camera, from reading to reading: a reload or another engine changes how outputs are read, not who
//! is in the picture.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::config::CameraOptions;
use crate::filter::{Event, Events};
use crate::frame::{Feed, Work};
use crate::publish::{EventRecord, FrameSize, Publisher, TsSource};
use crate::track::{Ids, Moment, Options, Timeline, Tracked, Tracker, Workspace};

/// What a camera remembers. Only the engine's thread uses it.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    timeline: Timeline,
    /// Classes mean the same as long as the model is the same.
    model_sha256: String,
    tracker: Option<Tracker>,
    events: Option<Events>,
    labels: Arc<[String]>,
    /// The frame of which was told last.
    last: Option<Told>,
}

/// What the records of a frame's events say of it.
#[derive(Debug, Clone, Copy)]
struct Told {
    generation: u64,
    seq: u64,
    time: (SystemTime, TsSource, Option<u64>),
    frame: FrameSize,
}

/// It belongs to the camera and is lent to the reading in use.
pub(super) type Memory = Arc<Mutex<Remembered>>;

/// Takes the place of what is remembered, with a reading's first frame.
struct Fresh {
    tracker: Option<Tracker>,
    events: Option<Events>,
    model_sha256: String,
    labels: Arc<[String]>,
}

/// How one reading tells who is who at one camera, and what happens to them.
pub(super) struct Identities {
    memory: Memory,
    fresh: Option<Fresh>,
}

impl Identities {
    /// Allocates what the camera's tracker needs, if it has one.
    pub fn new(
        memory: &Memory,
        (model_sha256, labels): (&str, &Arc<[String]>),
        options: Option<Options>,
        ids: &Ids,
        events: Option<Events>,
    ) -> Self {
        let tracker = options.map(|options| Tracker::new(options, ids.clone()));
        let fresh = Some(Fresh {
            tracker,
            events,
            model_sha256: model_sha256.to_owned(),
            labels: Arc::clone(labels),
        });
        Self { memory: Arc::clone(memory), fresh }
    }

    /// When the next frame is, in the camera's own time. If it is the first of another reading, whoever is in a zone that
    /// is no more leaves it with the last frame of the reading before.
    pub fn moment(&mut self, work: &Work, publisher: &Publisher) -> Moment {
        let mut remembered = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fresh) = self.fresh.take() {
            remembered.renew(fresh, &work.feed, publisher);
        }
        let at = remembered.timeline.advance(work.generation, work.pts_ns, work.arrived_at);
        let Work { generation, width, height, .. } = *work;
        Moment { at, generation, width, height }
    }

    /// Says of each object of that frame which one it is.
    pub fn identify(&self, workspace: &mut Workspace, moment: Moment, objects: &mut [Tracked]) {
        let mut remembered = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tracker) = &mut remembered.tracker {
            tracker.update(workspace, moment, objects);
        }
    }

    /// Tells what has happened in zones and at lines, given those objects of the frame that are published.
    pub fn tell(
        &self,
        work: &Work,
        moment: Moment,
        objects: impl Iterator<Item = Tracked>,
        publisher: &Publisher,
    ) {
        let mut remembered = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let Remembered { events, labels, last, .. } = &mut *remembered;
        let Some(events) = events else { return };
        let told = Told {
            generation: work.generation,
            seq: work.seq,
            time: (work.wall, work.ts_source, work.pts_ns),
            frame: FrameSize { width: work.width, height: work.height },
        };
        *last = Some(told);
        events.update(moment, objects, &mut |event| told.publish(event, &work.feed, labels, publisher));
    }
}

/// The camera is watched no longer: whoever is in one of its zones leaves it. After its last opening has ended.
pub(super) fn end(memory: &Memory, feed: &Feed, publisher: &Publisher) {
    let mut remembered = memory.lock().unwrap_or_else(PoisonError::into_inner);
    let Remembered { events, labels, last, .. } = &mut *remembered;
    if let (Some(events), Some(told)) = (events, last) {
        events.end(&mut |event| told.publish(event, feed, labels, publisher));
    }
}

impl Told {
    fn publish(&self, event: &Event<'_>, feed: &Feed, labels: &[String], publisher: &Publisher) {
        feed.metrics.event(event.kind);
        let of_frame = EventRecord::of_frame(feed.name(), (self.generation, self.seq), self.time, self.frame);
        publisher.event(&EventRecord::new(event, labels, of_frame));
    }
}

impl Remembered {
    /// Another reading begins. What it does not go on with ends: who has entered leaves.
    fn renew(&mut self, fresh: Fresh, feed: &Feed, publisher: &Publisher) {
        let Fresh { mut tracker, mut events, model_sha256, labels } = fresh;
        let is_same_model = self.model_sha256 == model_sha256;
        if let (Some(fresh), Some(old), true) = (&mut tracker, &self.tracker, is_same_model) {
            fresh.inherit(old);
        }
        let Self { events: old, labels: old_labels, last, .. } = &mut *self;
        let mut tell = |event: &Event<'_>| {
            if let Some(told) = last {
                told.publish(event, feed, old_labels, publisher);
            }
        };
        match (old, &mut events) {
            (Some(old), Some(fresh)) if is_same_model => fresh.inherit(old, &mut tell),
            (Some(old), _) => old.end(&mut tell),
            (None, _) => {}
        }
        let timeline = std::mem::take(&mut self.timeline);
        *self = Self { timeline, model_sha256, tracker, events, labels, last: self.last };
    }
}

/// How a camera's objects are tracked, if they are. `threshold` is the score from which they are published.
pub(super) fn options(camera: &CameraOptions, threshold: f32, max_objects: usize) -> Option<Options> {
    camera.track.then(|| Options {
        keep: camera.track_keep,
        across_restart: camera.track_across_restart,
        ..Options::new(threshold, max_objects)
    })
}
