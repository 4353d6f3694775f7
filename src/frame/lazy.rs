//! PURE: when does a camera with `decode = "lazy"` sleep, and what wakes it?
//!
//! ```text
//!              still for `hold`, sizes learned, keyframes near enough
//!   Awake ─────────────────────────────────────────────────────────► Asleep
//!     ▲  decodes                                    decodes keyframes, keeps what follows them
//!     └──────────────────────────────────────────────────────────────┘
//!        coded: pictures larger than those of the still scene      picture: a keyframe shows motion
//!        object: one that is not at rest is in a keyframe          buffer_full: the next keyframe is too far away
//! ```
//!
//! Asleep, coded pictures that follow a keyframe are kept until the next one, and decoded if the camera wakes: what woke it is
//! seen from its beginning. Without eyes (frames in a GPU's memory are not looked at) coded pictures are all there is to judge by.

use std::time::{Duration, Instant};

use super::activity::Activity;
use crate::config::{CameraOptions, Decode};
use crate::metrics::Wake;
use crate::source::PictureKind;

/// A camera that is behind for longer is not taken to catch up any more.
const CATCH_UP_MAX: Duration = Duration::from_secs(10);
/// Whose keyframes are further apart is decoded in full.
const BUFFER_TIME: Duration = Duration::from_secs(10);
/// Woken by coded pictures and not confirmed by anything that moves in them it is awake for no longer than this.
const DOUBT: Duration = Duration::from_secs(3);
/// After so long a sleep smaller changes of the sizes wake it again.
const RELENT_AFTER: Duration = Duration::from_secs(600);
/// Sizes are those of a still scene so long after the last motion.
const STILL_AFTER: Duration = Duration::from_secs(1);

/// The limits of one camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LazyOptions {
    /// Awake for so long after the last motion.
    pub hold: Duration,
    /// Most bytes that are kept.
    pub buffer_bytes: usize,
    /// Longest time that is kept.
    pub buffer_time: Duration,
}

impl LazyOptions {
    /// Those of a camera with `decode = "lazy"`.
    pub fn of(camera: &CameraOptions) -> Option<Self> {
        (camera.decode == Decode::Lazy).then(|| Self {
            hold: camera.motion_hold,
            buffer_bytes: usize::try_from(camera.lazy_buffer_bytes).unwrap_or(usize::MAX),
            buffer_time: BUFFER_TIME,
        })
    }
}

/// What becomes of a coded picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// It is decoded, as soon as those kept before it are.
    Decode,
    /// It is kept; a keyframe is decoded, and what was kept before it is not needed any more.
    Keep,
}

/// Of one opening.
#[derive(Debug)]
pub struct Lazy {
    options: LazyOptions,
    asleep_since: Option<Instant>,
    activity: Activity,
    gops: Gops,
    /// Something was in motion.
    active_at: Option<Instant>,
    /// Frames are looked at.
    has_eyes: bool,
    kept_bytes: usize,
    kept_since: Option<Instant>,
    behind_since: Option<Instant>,
    woken_by: Option<Wake>,
    /// Coded pictures woke it, and nothing has been seen to move since.
    is_unconfirmed: bool,
    woken_at: Option<Instant>,
    relented_at: Option<Instant>,
    complains: Complaint,
}

/// Whether it was said that the camera's keyframes are too far apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Complaint {
    None,
    Due,
    Made,
}

/// How far keyframes are apart, and what lies between them.
#[derive(Debug, Default)]
struct Gops {
    key_at: Option<Instant>,
    /// The last two.
    lengths: [Option<Duration>; 2],
    bytes: usize,
    last_bytes: usize,
}

impl Gops {
    fn saw(&mut self, kind: PictureKind, size_bytes: usize, at: Instant) {
        if kind != PictureKind::Key {
            self.bytes = self.bytes.saturating_add(size_bytes);
            return;
        }
        if let Some(key_at) = self.key_at.replace(at) {
            self.lengths = [Some(at.saturating_duration_since(key_at)), self.lengths[0]];
        }
        self.last_bytes = std::mem::take(&mut self.bytes);
    }

    fn fit(&self, options: &LazyOptions, at: Instant) -> bool {
        let now = self.key_at.map(|key_at| at.saturating_duration_since(key_at));
        self.bytes.max(self.last_bytes) <= options.buffer_bytes
            && [now, self.lengths[0], self.lengths[1]]
                .iter()
                .all(|length| length.is_some_and(|length| length <= options.buffer_time))
    }

    /// They have been seen not to fit.
    fn are_too_long(&self, options: &LazyOptions, at: Instant) -> bool {
        let too_long = |length: Duration| length > options.buffer_time;
        self.bytes.max(self.last_bytes) > options.buffer_bytes
            || self.lengths.iter().flatten().any(|&length| too_long(length))
            || self.key_at.is_some_and(|key_at| too_long(at.saturating_duration_since(key_at)))
    }
}

impl Lazy {
    /// Awake.
    pub fn new(options: LazyOptions) -> Self {
        Self {
            options,
            asleep_since: None,
            activity: Activity::default(),
            gops: Gops::default(),
            active_at: None,
            has_eyes: false,
            kept_bytes: 0,
            kept_since: None,
            behind_since: None,
            woken_by: None,
            is_unconfirmed: false,
            woken_at: None,
            relented_at: None,
            complains: Complaint::None,
        }
    }

    /// The next coded picture arrives at `at`. `object_at`: the newest frame with an object that is not at rest.
    pub fn coded(
        &mut self,
        kind: PictureKind,
        size_bytes: usize,
        at: Instant,
        object_at: Option<Instant>,
    ) -> Treatment {
        self.gops.saw(kind, size_bytes, at);
        if let Some(object_at) = object_at {
            self.active_at = self.active_at.max(Some(object_at));
            self.confirm(object_at);
        }
        let active_at = *self.active_at.get_or_insert(at);
        let quiet = at.saturating_duration_since(active_at);
        let learns = match self.asleep_since {
            Some(_) => self.activity.is_calm(),
            None => !self.is_catching_up(at) && (!self.has_eyes || quiet > STILL_AFTER),
        };
        let alarm = self.activity.saw(kind, size_bytes, learns);
        match self.asleep_since {
            None => {
                if alarm {
                    self.activity.calm();
                    self.active_at = if self.has_eyes { self.active_at } else { Some(at) };
                }
                if !self.may_sleep(at) {
                    return Treatment::Decode;
                }
                self.asleep_since = Some(at);
                self.relented_at = Some(at);
                self.activity.calm();
                if std::mem::take(&mut self.is_unconfirmed) {
                    self.activity.was_false();
                }
            }
            Some(since) => {
                self.relent(at);
                let kept_for =
                    self.kept_since.map_or(Duration::ZERO, |kept| at.saturating_duration_since(kept));
                let is_full = kind != PictureKind::Key
                    && (self.kept_bytes.saturating_add(size_bytes) > self.options.buffer_bytes
                        || kept_for > self.options.buffer_time);
                let why = [
                    (alarm, Wake::Coded),
                    (object_at.is_some_and(|object_at| object_at > since), Wake::Object),
                    (is_full, Wake::BufferFull),
                ];
                if let Some((_, why)) = why.into_iter().find(|(holds, _)| *holds) {
                    self.wake(why, at);
                    return Treatment::Decode;
                }
            }
        }
        if kind == PictureKind::Key {
            self.forget();
        } else {
            self.kept_bytes += size_bytes;
            self.kept_since.get_or_insert(at);
        }
        Treatment::Keep
    }

    /// A frame that arrived at `at` was looked at.
    pub fn looked(&mut self, moved: bool, at: Instant) {
        self.has_eyes = true;
        if !moved {
            return;
        }
        self.active_at = self.active_at.max(Some(at));
        self.confirm(at);
        // One from before it fell asleep says nothing new.
        if self.asleep_since.is_some_and(|since| at > since) {
            self.wake(Wake::Picture, at);
        }
    }

    /// All that was kept has been decoded.
    pub fn caught_up(&mut self) {
        self.behind_since = None;
    }

    /// Nothing but keyframes is decoded.
    pub fn is_asleep(&self) -> bool {
        self.asleep_since.is_some()
    }

    /// What was kept is being decoded.
    pub fn is_catching_up(&self, at: Instant) -> bool {
        self.behind_since.is_some_and(|since| at.saturating_duration_since(since) < CATCH_UP_MAX)
    }

    /// What woke it, once.
    pub fn take_woken_by(&mut self) -> Option<Wake> {
        self.woken_by.take()
    }

    /// Its keyframes are too far apart for it ever to sleep: true once.
    pub fn take_complaint(&mut self) -> bool {
        let due = self.complains == Complaint::Due;
        if due {
            self.complains = Complaint::Made;
        }
        due
    }

    /// Something moved at `at`.
    fn confirm(&mut self, at: Instant) {
        // What was kept is from before the alarm.
        let is_of_alarm = self.woken_at.is_some_and(|woken_at| at + self.options.buffer_time > woken_at);
        if self.is_unconfirmed && is_of_alarm {
            self.is_unconfirmed = false;
            self.activity.relents();
        }
    }

    fn relent(&mut self, at: Instant) {
        if self.relented_at.is_none_or(|then| at.saturating_duration_since(then) > RELENT_AFTER) {
            self.relented_at = Some(at);
            self.activity.relents();
        }
    }

    fn may_sleep(&mut self, at: Instant) -> bool {
        let quiet =
            self.active_at.map_or(Duration::ZERO, |active_at| at.saturating_duration_since(active_at));
        let hold = if self.is_unconfirmed { DOUBT.min(self.options.hold) } else { self.options.hold };
        if quiet < hold || self.is_catching_up(at) || !self.activity.has_learned() {
            return false;
        }
        let fits = self.gops.fit(&self.options, at);
        if self.complains == Complaint::None && self.gops.are_too_long(&self.options, at) {
            self.complains = Complaint::Due;
        }
        fits
    }

    fn wake(&mut self, why: Wake, at: Instant) {
        self.asleep_since = None;
        self.behind_since = (self.kept_bytes > 0).then_some(at);
        self.active_at = self.active_at.max(Some(at));
        self.woken_by = Some(why);
        self.woken_at = Some(at);
        self.is_unconfirmed = why == Wake::Coded && self.has_eyes;
        self.forget();
        self.activity.calm();
    }

    fn forget(&mut self) {
        self.kept_bytes = 0;
        self.kept_since = None;
    }
}

#[cfg(test)]
#[path = "lazy_tests.rs"]
mod tests;
