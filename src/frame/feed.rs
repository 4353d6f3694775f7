//! What one camera owns for as long as it is configured: its slots, its doorbell, its counters.
//!
//! Openings come and go; the feed stays. So no restart allocates frame memory, and no opening, however it
//! ends, can take any along.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::pool::{Pool, Restock, SlotError, SlotForm};
use super::preprocess::Preprocessor;
use crate::metrics::{CameraMetrics, Outcome};
use crate::shape::Polygon;
use crate::source::Stage;
use crate::wake::{Bell, Wake};

/// A camera's permanent part.
#[derive(Debug)]
pub struct Feed {
    /// Position among the configured cameras; its place in the turnstile.
    pub index: usize,
    /// Its slots.
    pub pool: Pool,
    /// Waits for the camera's thread to meet the first slot of a new engine.
    refit: Mutex<Option<Preprocessor>>,
    /// Counters.
    pub metrics: Arc<CameraMetrics>,
    /// Rings the camera's thread.
    pub wake: Wake,
    bell: Bell,
    /// The opening whose frames count; 0 before the first.
    live_generation: AtomicU64,
    /// The newest opening of which the world knows that it streams; 0 before the first.
    announced_generation: AtomicU64,
    /// Held while a record is published, so that none can slip out after the end of its opening.
    publishing: Mutex<()>,
    /// How far the newest opening has come: the number of a [`Stage`].
    stage: AtomicU8,
    epoch: Instant,
    /// Nanoseconds since `epoch` plus one of the newest frame with a new timestamp; 0: none in this opening.
    progress_ns: AtomicU64,
    /// Nanoseconds since `epoch` plus one of the newest frame with an object that is not at rest; 0: none yet.
    object_ns: AtomicU64,
    /// Number of the newest frame; frames are counted from 1 over all openings.
    seq: AtomicU64,
    /// Number of the frame published last.
    published_seq: AtomicU64,
    /// Nanoseconds from one frame to the next that are not given up while load is shed; 0: none is.
    shed_interval_ns: AtomicU64,
    /// Only pictures that need no others are decoded while load is shed.
    keyframes_only: AtomicBool,
    /// What is masked of its pictures.
    masks: Mutex<Arc<[Polygon]>>,
    /// Counts the changes of `masks`.
    masks_version: AtomicU64,
}

impl Feed {
    /// Allocates the camera's slots. `epoch` is any time not after the first frame.
    ///
    /// # Errors
    /// [`SlotError`]; nothing stays allocated.
    pub fn new(
        index: usize,
        slots: usize,
        form: &Arc<SlotForm>,
        metrics: Arc<CameraMetrics>,
        (wake, bell): (Wake, Bell),
        epoch: Instant,
    ) -> Result<Self, SlotError> {
        Ok(Self {
            index,
            pool: Pool::new(slots, form, wake.clone())?,
            refit: Mutex::new(None),
            metrics,
            wake,
            bell,
            live_generation: AtomicU64::new(0),
            announced_generation: AtomicU64::new(0),
            publishing: Mutex::new(()),
            stage: AtomicU8::new(0),
            epoch,
            progress_ns: AtomicU64::new(0),
            object_ns: AtomicU64::new(0),
            seq: AtomicU64::new(0),
            published_seq: AtomicU64::new(0),
            shed_interval_ns: AtomicU64::new(0),
            keyframes_only: AtomicBool::new(false),
            masks: Mutex::default(),
            masks_version: AtomicU64::new(0),
        })
    }

    /// Another engine takes over: from now on frames go into slots of its form.
    pub fn refit(&self, restock: Restock, preprocessor: Preprocessor) {
        // First the means, then the slots: whoever takes such a slot finds what fills it.
        *self.refit.lock().unwrap_or_else(PoisonError::into_inner) = Some(preprocessor);
        self.pool.restock(restock);
    }

    /// What fills slots of a form that the camera's thread meets for the first time.
    pub fn take_refit(&self, form: &SlotForm) -> Option<Preprocessor> {
        let mut refit = self.refit.lock().unwrap_or_else(PoisonError::into_inner);
        refit.take_if(|preprocessor| preprocessor.fits(form))
    }

    /// From the next frame on this is masked.
    pub fn set_masks(&self, polygons: &[Polygon]) {
        let mut masks = self.masks.lock().unwrap_or_else(PoisonError::into_inner);
        if **masks != *polygons {
            *masks = polygons.into();
            self.masks_version.fetch_add(1, Ordering::Release);
        }
    }

    /// What is masked, if it is another than when `version` was the newest. Costs one load where it is not.
    pub fn newer_masks(&self, version: &mut u64) -> Option<Arc<[Polygon]>> {
        if self.masks_version.load(Ordering::Acquire) == *version {
            return None;
        }
        let masks = self.masks.lock().unwrap_or_else(PoisonError::into_inner);
        *version = self.masks_version.load(Ordering::Acquire);
        Some(Arc::clone(&masks))
    }

    /// The camera's name.
    pub fn name(&self) -> &str {
        self.metrics.name()
    }

    /// What the camera's thread waits on.
    pub fn bell(&self) -> &Bell {
        &self.bell
    }

    /// A new opening begins: frames of all others are stale from now on.
    pub fn begin_generation(&self, generation: u64) {
        self.progress_ns.store(0, Ordering::Relaxed);
        self.stage.store(Stage::Begun as u8, Ordering::Relaxed);
        self.live_generation.store(generation, Ordering::Release);
    }

    /// No opening is live: every frame still on its way is stale. When this returns, nothing that
    /// [`Self::while_live`] runs is under way or will be.
    pub fn end_generation(&self) {
        let _publishing = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        self.live_generation.store(0, Ordering::Release);
    }

    /// Does something if this opening still counts, and keeps it counting meanwhile.
    pub fn while_live<T>(&self, generation: u64, act: impl FnOnce() -> T) -> Option<T> {
        let _publishing = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_live(generation).then(act)
    }

    /// Whether frames of this opening still count.
    pub fn is_live(&self, generation: u64) -> bool {
        self.live_generation.load(Ordering::Acquire) == generation
    }

    /// This opening has come so far.
    pub fn reached(&self, generation: u64, stage: Stage) {
        if self.is_live(generation) {
            self.stage.store(stage as u8, Ordering::Relaxed);
        }
    }

    /// How far the newest opening has come.
    pub fn stage(&self) -> Stage {
        Stage::ALL.get(usize::from(self.stage.load(Ordering::Relaxed))).copied().unwrap_or_default()
    }

    /// The world has been told that this opening streams: its frames may be sent on.
    pub fn announced(&self, generation: u64) {
        self.announced_generation.store(generation, Ordering::Release);
        self.wake.ring();
    }

    /// Whether the world knows that this opening streams.
    pub fn is_announced(&self, generation: u64) -> bool {
        self.announced_generation.load(Ordering::Acquire) == generation
    }

    /// A frame with a new timestamp arrived.
    pub fn progressed(&self, at: Instant) {
        // One that was kept before it was decoded arrived earlier than what has been heard since.
        self.progress_ns.fetch_max(self.ns_of(at), Ordering::Relaxed);
    }

    fn ns_of(&self, at: Instant) -> u64 {
        let ns = at.saturating_duration_since(self.epoch).as_nanos();
        u64::try_from(ns).unwrap_or(u64::MAX - 1) + 1
    }

    fn instant_of(&self, ns: &AtomicU64) -> Option<Instant> {
        let ns = ns.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.epoch + Duration::from_nanos(ns))
    }

    /// In a frame that arrived at `at` an object was detected that is not at rest.
    pub fn saw_object(&self, at: Instant) {
        self.object_ns.fetch_max(self.ns_of(at), Ordering::Relaxed);
    }

    /// When the newest such frame arrived.
    pub fn last_object(&self) -> Option<Instant> {
        self.instant_of(&self.object_ns)
    }

    /// When the newest frame of this opening with a new timestamp arrived.
    pub fn last_progress(&self) -> Option<Instant> {
        self.instant_of(&self.progress_ns)
    }

    /// Counts an arriving frame and gives it its number.
    pub fn number(&self, at: Instant) -> u64 {
        self.metrics.frame_in(at);
        self.seq.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// From now on frames are given up: all but one in `interval`, and undecoded where they need others.
    pub fn shed(&self, interval: Option<Duration>, keyframes_only: bool) {
        let ns = interval.map_or(0, |interval| u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX));
        self.shed_interval_ns.store(ns, Ordering::Relaxed);
        self.keyframes_only.store(keyframes_only, Ordering::Relaxed);
    }

    /// One frame in so long is not given up; `None`: none is.
    pub fn shed_interval(&self) -> Option<Duration> {
        let ns = self.shed_interval_ns.load(Ordering::Relaxed);
        (ns > 0).then(|| Duration::from_nanos(ns))
    }

    /// Whether pictures that need others are to be skipped.
    pub fn keyframes_only(&self) -> bool {
        self.keyframes_only.load(Ordering::Relaxed)
    }

    /// A frame met another end than detection.
    pub fn dropped(&self, outcome: Outcome) {
        self.metrics.outcome(outcome);
    }

    /// Frame `seq` is being published: how many before it were not.
    pub fn published(&self, seq: u64) -> u64 {
        self.metrics.outcome(Outcome::Detected);
        let last = self.published_seq.swap(seq, Ordering::Relaxed);
        seq.saturating_sub(last).saturating_sub(1)
    }
}
