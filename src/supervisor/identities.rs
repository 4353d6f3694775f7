//! Who is who at one camera, from reading to reading: a reload or another engine changes how outputs are read, not who
//! is in the picture.

use std::sync::{Arc, Mutex, PoisonError};

use crate::config::CameraOptions;
use crate::filter::{Event, Events};
use crate::frame::Work;
use crate::track::{Ids, Moment, Options, Timeline, Tracked, Tracker, Workspace};

/// What a camera remembers. Only the engine's thread uses it.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    timeline: Timeline,
    /// Classes mean the same as long as the model is the same.
    model_sha256: String,
    tracker: Option<Tracker>,
    events: Option<Events>,
}

/// It belongs to the camera and is lent to the reading in use.
pub(super) type Memory = Arc<Mutex<Remembered>>;

/// Takes the place of what is remembered, with a reading's first frame.
struct Fresh {
    tracker: Option<Tracker>,
    events: Option<Events>,
    model_sha256: String,
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
        model_sha256: &str,
        options: Option<Options>,
        ids: &Ids,
        events: Option<Events>,
    ) -> Self {
        let tracker = options.map(|options| Tracker::new(options, ids.clone()));
        let fresh = Some(Fresh { tracker, events, model_sha256: model_sha256.to_owned() });
        Self { memory: Arc::clone(memory), fresh }
    }

    /// When the next frame is, in the camera's own time.
    pub fn moment(&mut self, work: &Work) -> Moment {
        let mut remembered = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fresh) = self.fresh.take() {
            remembered.renew(fresh);
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
        moment: Moment,
        objects: impl Iterator<Item = Tracked>,
        tell: &mut dyn FnMut(&Event<'_>),
    ) {
        let mut remembered = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(events) = &mut remembered.events {
            events.update(moment, objects, tell);
        }
    }
}

impl Remembered {
    /// Another reading begins.
    fn renew(&mut self, fresh: Fresh) {
        let Fresh { mut tracker, mut events, model_sha256 } = fresh;
        if self.model_sha256 == model_sha256 {
            if let (Some(fresh), Some(old)) = (&mut tracker, &self.tracker) {
                fresh.inherit(old);
            }
            if let (Some(fresh), Some(old)) = (&mut events, &self.events) {
                fresh.inherit(old);
            }
        }
        *self = Self { timeline: std::mem::take(&mut self.timeline), model_sha256, tracker, events };
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
