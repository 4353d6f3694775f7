//! PURE: which object of a frame is which object of the frames before it.
//!
//! ByteTrack (Zhang et al., ECCV 2022), one [`Tracker`] a camera: boxes of high score are given to the tracks whose
//! predicted boxes they overlap, then boxes of low score to the tracks that are left, so that somebody who is half
//! hidden for a moment stays who they are. A new track is tentative until it is seen a second time; then it gets its
//! number. A track that nobody has seen for [`Options::keep`] is forgotten.
//!
//! What differs from the paper, because cameras are not benchmarks:
//!
//! - Time is real. Every frame brings its own, predictions go over the interval that passed, and tracks are forgotten
//!   after a time, not after a number of frames.
//! - Where the prediction is vague (few frames a second, a second sighting, a gap), boxes are widened by that vagueness
//!   before they are compared, after the paper's stages: see `stages.rs`.
//! - Heights count, not places alone, and a track that was lost long ago or has just begun has the weaker claim to a box:
//!   people leave a picture, and others come where they left.
//! - A track is of a class. Only a box that nothing of its own class explains, and that lies on a track's box, may
//!   change it: a van that the detector calls a truck for a moment is still the same van.
//! - Everything is bounded and allocated in `new`.

mod assignment;
mod motion;
mod stages;
mod sweep;
mod timeline;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::decode::Detection;
use motion::Motion;
pub use stages::Workspace;
pub(crate) use stages::iou;
pub use timeline::Timeline;

/// An object of one frame and, once it is known, which one it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tracked {
    /// Index into the model's labels.
    pub class_id: u32,
    /// 0..=1.
    pub score: f32,
    /// `[x1, y1, x2, y2]` in pixels of the source frame.
    pub bbox: [f32; 4],
    /// The same number as long as it is the same object; from 1, never used again. `None`: not known (yet).
    pub track_id: Option<u64>,
}

impl Tracked {
    /// A detection, with its box in pixels of the source frame.
    pub fn new(detection: &Detection, bbox: [f32; 4]) -> Self {
        Self { class_id: detection.class_id, score: detection.score, bbox, track_id: None }
    }
}

/// When a frame was, and of which size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The camera's own time, which never goes back: see [`Timeline`].
    pub at: Duration,
    /// Which opening of the camera the frame is of.
    pub generation: u64,
    /// Width of the source frame in pixels.
    pub width: u32,
    /// Height of the source frame in pixels.
    pub height: u32,
}

/// How a camera's objects are tracked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Boxes from this score on are tracked, and tell a new object.
    pub high_score: f32,
    /// Boxes from this score on are taken for an object that is known already.
    pub low_score: f32,
    /// An object that was not seen for longer is forgotten.
    pub keep: Duration,
    /// A new opening of the camera no later than this after the last frame of the one before goes on with its tracks;
    /// `None`: it begins anew.
    pub across_restart: Option<Duration>,
    /// Objects of one frame at most; twice as many tracks are remembered.
    pub max_objects: usize,
}

/// Boxes from this score on can belong to known objects: the paper's.
pub const LOW_SCORE: f32 = 0.1;

impl Options {
    /// Boxes from `high_score` on are published; 2 s, nothing across a restart.
    pub fn new(high_score: f32, max_objects: usize) -> Self {
        let keep = Duration::from_secs(2);
        Self { high_score, low_score: high_score.min(LOW_SCORE), keep, across_restart: None, max_objects }
    }

    /// Tracks that are remembered at most.
    pub fn tracks_max(&self) -> usize {
        self.max_objects.saturating_mul(2)
    }
}

/// Numbers for tracks, used once in this process.
#[derive(Debug, Clone, Default)]
pub struct Ids(Arc<AtomicU64>);

impl Ids {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Seen once.
    Tentative,
    /// Seen in the last frame.
    Seen,
    /// Not seen in the last frame.
    Lost,
}

/// What is known of one object.
#[derive(Debug, Clone, Copy)]
struct Track {
    /// 0: tentative.
    id: u64,
    class_id: u32,
    standing: Standing,
    motion: Motion,
    /// The predicted, then the corrected box.
    bbox: [f32; 4],
    born_at: Duration,
    seen_at: Duration,
    /// Height of the box where it was seen last.
    seen_height: f32,
}

/// The identities of one camera's objects.
#[derive(Debug)]
pub struct Tracker {
    options: Options,
    ids: Ids,
    tracks: Vec<Track>,
    last: Option<Moment>,
}

impl Tracker {
    /// Nothing is known yet. Everything that it will ever need of its own is allocated here.
    pub fn new(options: Options, ids: Ids) -> Self {
        Self { options, ids, tracks: Vec::with_capacity(options.tracks_max()), last: None }
    }

    /// Goes on where another tracker of the same camera stopped, with its own options.
    pub fn inherit(&mut self, other: &Self) {
        self.tracks.clear();
        self.tracks.extend(other.tracks.iter().take(self.options.tracks_max()));
        self.last = other.last;
    }

    /// Says of each object of the camera's next frame which one it is. Objects are looked at in the order given, best
    /// first, as far as the workspace reaches.
    pub fn update(&mut self, workspace: &mut Workspace, moment: Moment, objects: &mut [Tracked]) {
        for object in objects.iter_mut() {
            object.track_id = None;
        }
        let before = self.last.map_or(moment.at, |last| last.at);
        let now = stages::Now { at: moment.at, interval: moment.at.saturating_sub(before) };
        let is_first = self.advance(moment);
        let Self { options, ids, tracks, .. } = self;
        workspace.begin(options, tracks, objects);
        workspace.associate(options, tracks, objects, &now);
        for (object, &place) in objects.iter_mut().zip(workspace.track_of()) {
            let Some(track) = tracks.get_mut(place as usize) else { continue };
            if track.id == 0 {
                track.id = ids.next();
            }
            object.track_id = Some(track.id);
        }
        self.forget(workspace, moment.at);
        self.welcome(workspace, moment.at, objects, is_first);
    }

    /// Brings every track to the time of this frame. True if nothing was known before it.
    fn advance(&mut self, moment: Moment) -> bool {
        let Some(last) = self.last.replace(moment) else { return true };
        let gap = moment.at.saturating_sub(last.at);
        if moment.generation != last.generation {
            if self.options.across_restart.is_none_or(|limit| gap > limit) {
                self.tracks.clear();
                return true;
            }
            // Nobody could be seen meanwhile.
            self.tracks.retain(|track| track.id != 0);
            for track in &mut self.tracks {
                track.seen_at += gap;
                track.born_at += gap;
            }
        }
        if (moment.width, moment.height) != (last.width, last.height) {
            let ratio = |new: u32, old: u32| new.max(1) as f32 / old.max(1) as f32;
            let (horizontal, vertical) = (ratio(moment.width, last.width), ratio(moment.height, last.height));
            for track in &mut self.tracks {
                track.motion.scale(horizontal, vertical);
                track.seen_height *= vertical;
            }
        }
        for track in &mut self.tracks {
            track.motion.predict(gap.as_secs_f32(), track.standing == Standing::Lost);
            track.bbox = track.motion.bbox();
        }
        false
    }

    /// After the stages: what was not seen is lost, or gone.
    fn forget(&mut self, workspace: &Workspace, at: Duration) {
        let keep = self.options.keep;
        for (place, track) in self.tracks.iter_mut().enumerate() {
            let is_seen = workspace.is_served(place);
            track.standing = if is_seen { Standing::Seen } else { Standing::Lost };
        }
        self.tracks.retain(|track| {
            let is_remembered = track.id != 0 && at.saturating_sub(track.seen_at) <= keep;
            track.standing == Standing::Seen || is_remembered
        });
    }

    /// Objects that no track explains begin one.
    fn welcome(&mut self, workspace: &Workspace, at: Duration, objects: &mut [Tracked], is_first: bool) {
        for (object, &place) in objects.iter_mut().zip(workspace.track_of()) {
            if place != stages::NEW {
                continue;
            }
            if self.tracks.len() == self.options.tracks_max() {
                let longest_lost =
                    self.tracks.iter().enumerate().filter(|(_, track)| track.standing == Standing::Lost);
                match longest_lost.min_by_key(|(_, track)| track.seen_at).map(|(place, _)| place) {
                    Some(place) => drop(self.tracks.swap_remove(place)),
                    None => return,
                }
            }
            // In the very first frame there is nothing to confirm it by: the paper takes all that is there.
            let (id, standing) =
                if is_first { (self.ids.next(), Standing::Seen) } else { (0, Standing::Tentative) };
            object.track_id = (id != 0).then_some(id);
            self.tracks.push(Track {
                id,
                class_id: object.class_id,
                standing,
                motion: Motion::new(object.bbox),
                bbox: object.bbox,
                born_at: at,
                seen_at: at,
                seen_height: object.bbox[3] - object.bbox[1],
            });
        }
    }

    /// Tracks that are remembered now.
    pub fn len(&self) -> usize {
        self.tracks.len()
    }

    /// Nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.tracks.is_empty()
    }

    /// Bytes that the tracker of a camera holds: the line for the memory budget.
    pub fn buffer_bytes(max_objects: usize) -> usize {
        Options::new(1.0, max_objects).tracks_max() * size_of::<Track>()
    }
}
