//! A fixed set of atomics: what the process has done and how long it took. No map, no lock, no growth.
//!
//! Each camera and each output has one block, allocated when it is configured; threads hold their block
//! by `Arc` and count with relaxed atomics. [`Registry::snapshot`] reads all of it for `watchpost debug`.

mod engines;
mod histogram;
mod process;
mod snapshot;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use crate::camera::Reason;

pub use engines::EngineMetrics;
pub use growth::{GrowthGauge, Holding};
pub use histogram::{Histogram, HistogramSummary};
pub use process::{ProcessUsage, process_usage, pss_bytes};
pub use snapshot::{
    CameraSnapshot, Counters, EngineSnapshot, GrowthSnapshot, MemoryBytes, Named, OpenHandles,
    OutputSnapshot, Snapshot,
};

/// An enum whose variants have one name each, everywhere: in metrics, in records, in reports.
macro_rules! named {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_meta])* $variant,)+ }

        impl $name {
            /// All of them, in order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name used in metrics, records and reports.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

// It speaks with the macro above.
mod growth;

named! {
    /// What became of a frame that arrived. Every frame has exactly one outcome.
    Outcome {
        /// Inferred and published.
        Detected = "detected",
        /// A newer frame took its place before a slot was free.
        Superseded = "superseded",
        /// Not wanted: `detect_fps` was reached.
        RateLimited = "rate_limited",
        /// Left out undecoded: `decode` says so.
        NotDecoded = "not_decoded",
        /// Nothing moved in it: `motion_gate` says that it need not be inferred.
        Still = "still",
        /// Older than `max_frame_age` when its turn came.
        TooOld = "too_old",
        /// Came from an opening of the camera that is over.
        StaleGeneration = "stale_generation",
        /// Could not be decoded or mapped.
        DecodeError = "decode_error",
        /// The inference failed.
        EngineError = "engine_error",
        /// Given up to stay below the memory limit.
        Shed = "shed",
        /// The process was ending.
        Shutdown = "shutdown",
    }
}

named! {
    /// What wakes a camera with `decode = "lazy"`.
    Wake {
        /// Coded pictures are larger than those of the still scene.
        Coded = "coded",
        /// A keyframe shows motion.
        Picture = "picture",
        /// An object that is not at rest was detected in a keyframe.
        Object = "object",
        /// The next keyframe is further away than what is kept.
        BufferFull = "buffer_full",
    }
}

named! {
    /// What became of a picture that was worth saving.
    SnapshotOutcome {
        /// Saved.
        Written = "written",
        /// Nobody had time for it, or it was in a GPU's memory; a later one may be saved.
        Skipped = "skipped",
        /// The disk did not take it.
        Failed = "failed",
    }
}

named! {
    /// What happens in zones and at lines.
    EventKind {
        /// An object has come into a zone.
        Enter = "enter",
        /// An object has left a zone.
        Leave = "leave",
        /// An object has been in a zone for the time that was asked for.
        Dwell = "dwell",
        /// An object has gone over a line.
        Cross = "cross",
        /// The number of objects in a zone is another.
        Count = "count",
    }
}

/// What one camera has done. One block, allocated when the camera is configured.
#[derive(Debug)]
pub struct CameraMetrics {
    name: String,
    outcomes: [AtomicU64; Outcome::ALL.len()],
    restarts: [AtomicU64; Reason::ALL.len()],
    events: [AtomicU64; EventKind::ALL.len()],
    snapshots: [AtomicU64; SnapshotOutcome::ALL.len()],
    wakes: [AtomicU64; Wake::ALL.len()],
    asleep: AtomicBool,
    frames_in: AtomicU64,
    up: AtomicBool,
    shed_level: AtomicU64,
    generation: AtomicU64,
    /// Milliseconds from the registry's start to the last frame, plus one; 0: none yet.
    last_frame_ms: AtomicU64,
    started: Instant,
    /// Age of a frame when its detections are published.
    pub frame_age: Histogram,
}

fn zeros<const N: usize>() -> [AtomicU64; N] {
    std::array::from_fn(|_| AtomicU64::new(0))
}

impl CameraMetrics {
    fn new(name: &str, started: Instant) -> Self {
        Self {
            name: name.to_owned(),
            outcomes: zeros(),
            restarts: zeros(),
            events: zeros(),
            snapshots: zeros(),
            wakes: zeros(),
            asleep: AtomicBool::new(false),
            frames_in: AtomicU64::new(0),
            up: AtomicBool::new(false),
            shed_level: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            last_frame_ms: AtomicU64::new(0),
            started,
            frame_age: Histogram::default(),
        }
    }

    /// The camera's configured name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A frame has arrived, decoded, or skipped because load is shed. It is owed exactly one [`CameraMetrics::outcome`].
    pub fn frame_in(&self, now: Instant) {
        self.frames_in.fetch_add(1, Relaxed);
        self.sign_of_life(now);
    }

    /// Something has arrived that is, or will be, a frame.
    pub fn sign_of_life(&self, now: Instant) {
        let ms =
            u64::try_from(now.saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX - 1);
        // One that was kept before it was decoded arrived earlier.
        self.last_frame_ms.fetch_max(ms + 1, Relaxed);
    }

    /// A frame has met its end.
    pub fn outcome(&self, outcome: Outcome) {
        self.outcomes_add(outcome, 1);
    }

    /// So many frames have met the same end.
    pub fn outcomes_add(&self, outcome: Outcome, frames: u64) {
        self.outcomes[outcome as usize].fetch_add(frames, Relaxed);
    }

    /// Frames with this outcome.
    pub fn outcome_count(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize].load(Relaxed)
    }

    /// Frames that have arrived.
    pub fn frames_in(&self) -> u64 {
        self.frames_in.load(Relaxed)
    }

    /// The camera is being taken down to be opened again.
    pub fn restart(&self, reason: Reason) {
        self.restarts[reason as usize].fetch_add(1, Relaxed);
    }

    /// Restarts for this reason.
    pub fn restart_count(&self, reason: Reason) -> u64 {
        self.restarts[reason as usize].load(Relaxed)
    }

    /// Restarts for all reasons.
    pub fn restarts(&self) -> u64 {
        self.restarts.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// What became of a picture that was to be saved.
    pub fn snapshot_taken(&self, outcome: SnapshotOutcome) {
        self.snapshots[outcome as usize].fetch_add(1, Relaxed);
    }

    /// How many pictures came to this.
    pub fn snapshot_count(&self, outcome: SnapshotOutcome) -> u64 {
        self.snapshots[outcome as usize].load(Relaxed)
    }

    /// Something has happened in a zone or at a line.
    pub fn event(&self, kind: EventKind) {
        self.events[kind as usize].fetch_add(1, Relaxed);
    }

    /// Events of this kind.
    pub fn event_count(&self, kind: EventKind) -> u64 {
        self.events[kind as usize].load(Relaxed)
    }

    /// The camera wakes, for this reason.
    pub fn wakes(&self, why: Wake) {
        self.wakes[why as usize].fetch_add(1, Relaxed);
    }

    /// How often it woke for this reason.
    pub fn wake_count(&self, why: Wake) -> u64 {
        self.wakes[why as usize].load(Relaxed)
    }

    /// Whether only its keyframes are decoded, because nothing moves.
    pub fn set_asleep(&self, asleep: bool) {
        self.asleep.store(asleep, Relaxed);
    }

    /// Whether frames arrive.
    pub fn set_up(&self, up: bool) {
        self.up.store(up, Relaxed);
    }

    /// How much of the camera is given up while memory is short: 0 nothing, 4 all of it.
    pub fn set_shed_level(&self, level: u64) {
        self.shed_level.store(level, Relaxed);
    }

    /// Which opening this is.
    pub fn set_generation(&self, generation: u64) {
        self.generation.store(generation, Relaxed);
    }

    /// How long ago the last frame arrived; `None`: none yet.
    pub fn last_frame_age(&self, now: Instant) -> Option<Duration> {
        let at_ms = self.last_frame_ms.load(Relaxed).checked_sub(1)?;
        Some(now.saturating_duration_since(self.started).saturating_sub(Duration::from_millis(at_ms)))
    }

    /// All of it at one moment.
    pub fn snapshot(&self, now: Instant) -> CameraSnapshot {
        let age_ms = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        CameraSnapshot {
            name: self.name.clone(),
            up: self.up.load(Relaxed),
            shed_level: self.shed_level.load(Relaxed),
            generation: self.generation.load(Relaxed),
            last_frame_age_ms: self.last_frame_age(now).map(age_ms),
            frames_in: self.frames_in(),
            outcomes: Named(Outcome::ALL.iter().map(|o| (o.as_str(), self.outcome_count(*o))).collect()),
            restarts: Named(Reason::ALL.iter().map(|r| (r.as_str(), self.restart_count(*r))).collect()),
            snapshots: Named(
                SnapshotOutcome::ALL.iter().map(|o| (o.as_str(), self.snapshot_count(*o))).collect(),
            ),
            events: Named(EventKind::ALL.iter().map(|k| (k.as_str(), self.event_count(*k))).collect()),
            wakes: Named(Wake::ALL.iter().map(|why| (why.as_str(), self.wake_count(*why))).collect()),
            asleep: self.asleep.load(Relaxed),
            frame_age: self.frame_age.summary(),
        }
    }
}

/// What one output has done. One block, allocated when the output is configured.
#[derive(Debug, Default)]
pub struct OutputMetrics {
    name: String,
    published: AtomicU64,
    lost: AtomicU64,
    too_long: AtomicU64,
    readers: AtomicU64,
    refused_readers: AtomicU64,
}

impl OutputMetrics {
    /// A block for an output of this name.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// The output's configured name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// One record was put into the output's ring, or was longer than the ring.
    pub fn record(&self, kept: bool) {
        let counter = if kept { &self.published } else { &self.too_long };
        counter.fetch_add(1, Relaxed);
    }

    /// A reader was told that it lost so many records.
    pub fn lost(&self, records: u64) {
        self.lost.fetch_add(records, Relaxed);
    }

    /// Readers connected now.
    pub fn set_readers(&self, readers: usize) {
        self.readers.store(readers as u64, Relaxed);
    }

    /// A reader over `max_readers` was turned away.
    pub fn refused(&self) {
        self.refused_readers.fetch_add(1, Relaxed);
    }

    /// All of it at one moment.
    pub fn snapshot(&self) -> OutputSnapshot {
        OutputSnapshot {
            name: self.name.clone(),
            published: self.published.load(Relaxed),
            lost: self.lost.load(Relaxed),
            too_long: self.too_long.load(Relaxed),
            readers: self.readers.load(Relaxed),
            refused_readers: self.refused_readers.load(Relaxed),
        }
    }
}

/// Things that this process holds open and that `/proc` cannot count. Whoever opens and closes sets them.
#[derive(Debug, Default)]
pub struct HandleGauges {
    /// GStreamer pipelines.
    pub pipelines: AtomicU64,
    /// GStreamer pipelines, elements and pads.
    pub objects: AtomicU64,
    /// Decoded frames that somebody holds.
    pub frames: AtomicU64,
    /// Coded pictures that are kept until it is known whether they are decoded.
    pub coded: AtomicU64,
    /// Frame slots in flight.
    pub slots_in_flight: AtomicU64,
    /// Bytes of the frame pool.
    pub pool_bytes: AtomicU64,
    /// Bytes on GPUs.
    pub gpu_bytes: AtomicU64,
}

/// Everything that is counted. Built once from the configuration and passed around by `Arc`.
#[derive(Debug)]
pub struct Registry {
    cameras: RwLock<Vec<Arc<CameraMetrics>>>,
    outputs: RwLock<Vec<Arc<OutputMetrics>>>,
    /// The engine, and those before it.
    pub engine: EngineMetrics,
    /// Open handles and memory.
    pub handles: HandleGauges,
    /// How fast they grow, by [`Holding`].
    pub growth: [GrowthGauge; Holding::ALL.len()],
}

impl Registry {
    /// One block for each name.
    pub fn new<'a>(
        cameras: impl IntoIterator<Item = &'a str>,
        outputs: impl IntoIterator<Item = &'a str>,
        now: Instant,
    ) -> Self {
        Self {
            cameras: RwLock::new(
                cameras.into_iter().map(|name| Arc::new(CameraMetrics::new(name, now))).collect(),
            ),
            outputs: RwLock::new(
                outputs.into_iter().map(|name| Arc::new(OutputMetrics::new(name))).collect(),
            ),
            engine: EngineMetrics::new(),
            handles: HandleGauges::default(),
            growth: Default::default(),
        }
    }

    /// The blocks of all cameras: in the order of the configuration, later ones behind. Not for the frame path.
    pub fn cameras(&self) -> Vec<Arc<CameraMetrics>> {
        read(&self.cameras).clone()
    }

    /// The block of this camera.
    pub fn camera(&self, name: &str) -> Option<Arc<CameraMetrics>> {
        read(&self.cameras).iter().find(|camera| camera.name == name).cloned()
    }

    /// The block of this output.
    pub fn output(&self, name: &str) -> Option<Arc<OutputMetrics>> {
        read(&self.outputs).iter().find(|output| output.name == name).cloned()
    }

    /// The block of a camera that comes with a reload.
    pub fn add_camera(&self, name: &str, now: Instant) -> Arc<CameraMetrics> {
        let camera = Arc::new(CameraMetrics::new(name, now));
        write(&self.cameras).push(Arc::clone(&camera));
        camera
    }

    /// A camera is no longer configured.
    pub fn remove_camera(&self, camera: &Arc<CameraMetrics>) {
        write(&self.cameras).retain(|known| !Arc::ptr_eq(known, camera));
    }

    /// The block of an output that comes with a reload.
    pub fn add_output(&self, name: &str) -> Arc<OutputMetrics> {
        let output = Arc::new(OutputMetrics::new(name));
        write(&self.outputs).push(Arc::clone(&output));
        output
    }

    /// Readers connected now, of all outputs.
    pub fn readers_count(&self) -> u64 {
        read(&self.outputs).iter().map(|output| output.readers.load(Relaxed)).sum()
    }

    /// An output is no longer configured.
    pub fn remove_output(&self, name: &str) {
        write(&self.outputs).retain(|known| known.name != name);
    }

    /// All of it at one moment, with the process's own memory, descriptors and threads.
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let process = process_usage();
        let gauges = &self.handles;
        Snapshot {
            cameras: read(&self.cameras).iter().map(|camera| camera.snapshot(now)).collect(),
            outputs: read(&self.outputs).iter().map(|output| output.snapshot()).collect(),
            engines: self.engine.snapshot(),
            memory_bytes: MemoryBytes {
                rss: process.rss_bytes,
                pool: gauges.pool_bytes.load(Relaxed),
                gpu: gauges.gpu_bytes.load(Relaxed),
            },
            handles: OpenHandles {
                fd: process.fd_count,
                thread: process.thread_count,
                pipeline: gauges.pipelines.load(Relaxed),
                slot: gauges.slots_in_flight.load(Relaxed),
                object: gauges.objects.load(Relaxed),
                frame: gauges.frames.load(Relaxed),
                coded: gauges.coded.load(Relaxed),
            },
            growth: Holding::ALL.iter().map(|&h| self.growth[h as usize].snapshot(h)).collect(),
        }
    }
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
