//! Who is who at one camera, from reading to reading: a reload or another engine changes how outputs are read, not who
//! is in the picture.

use std::sync::{Arc, Mutex, PoisonError};

use crate::config::CameraOptions;
use crate::frame::Work;
use crate::track::{Ids, Moment, Options, Timeline, Tracked, Tracker, Workspace};

/// What a camera remembers. Only the engine's thread uses it.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    timeline: Timeline,
    /// Classes mean the same as long as the model is the same.
    model_sha256: String,
    tracker: Option<Tracker>,
}

/// It belongs to the camera and is lent to the reading in use.
pub(super) type Memory = Arc<Mutex<Remembered>>;

/// How one reading tells who is who at one camera.
pub(super) struct Identities {
    memory: Memory,
    model_sha256: String,
    /// Takes the place of the tracker that is remembered, with the first frame.
    fresh: Option<Option<Tracker>>,
}

impl Identities {
    /// Allocates what the camera's tracker needs, if it has one.
    pub fn new(memory: &Memory, model_sha256: &str, options: Option<Options>, ids: &Ids) -> Self {
        Self {
            memory: Arc::clone(memory),
            model_sha256: model_sha256.to_owned(),
            fresh: Some(options.map(|options| Tracker::new(options, ids.clone()))),
        }
    }

    /// Says of each object of the next frame which one it is.
    pub fn identify(&mut self, workspace: &mut Workspace, work: &Work, objects: &mut [Tracked]) {
        let mut remembered = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let at = remembered.timeline.advance(work.generation, work.pts_ns, work.arrived_at);
        if let Some(fresh) = self.fresh.take() {
            remembered.renew(fresh, std::mem::take(&mut self.model_sha256));
        }
        if let Some(tracker) = &mut remembered.tracker {
            let Work { generation, width, height, .. } = *work;
            tracker.update(workspace, Moment { at, generation, width, height }, objects);
        }
    }
}

impl Remembered {
    /// Another reading begins.
    fn renew(&mut self, mut fresh: Option<Tracker>, model_sha256: String) {
        if let (Some(fresh), Some(old)) = (&mut fresh, &self.tracker)
            && self.model_sha256 == model_sha256
        {
            fresh.inherit(old);
        }
        (self.tracker, self.model_sha256) = (fresh, model_sha256);
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
