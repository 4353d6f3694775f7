//! What the process holds, by kind, and how fast that grows.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::GrowthSnapshot;

named! {
    /// What this process holds and must not hold more and more of. The names are the label values of
    /// `watchpost_memory_bytes` and `watchpost_open_handles`, and the `kind` of `growth` records.
    Holding {
        /// Resident memory, bytes.
        Rss = "rss",
        /// Resident memory, with shared pages split among those who share them, bytes.
        Pss = "pss",
        /// Memory on GPUs, bytes.
        Gpu = "gpu",
        /// File descriptors without those of readers.
        Fd = "fd",
        /// Threads.
        Thread = "thread",
        /// GStreamer pipelines.
        Pipeline = "pipeline",
        /// Frame slots that are not at home.
        Slot = "slot",
    }
}

impl Holding {
    /// Counted in bytes, not in pieces.
    pub const fn is_bytes(self) -> bool {
        matches!(self, Self::Rss | Self::Pss | Self::Gpu)
    }
}

/// How fast one holding grows, as the sentinel last saw it.
#[derive(Debug, Default)]
pub struct GrowthGauge {
    /// Bytes or pieces an hour, as the bits of an f64; may be negative.
    per_hour: AtomicU64,
    growing: AtomicBool,
}

impl GrowthGauge {
    /// Sets both.
    pub fn set(&self, per_hour: f64, growing: bool) {
        self.per_hour.store(per_hour.to_bits(), Relaxed);
        self.growing.store(growing, Relaxed);
    }

    pub(super) fn snapshot(&self, holding: Holding) -> GrowthSnapshot {
        let per_hour = f64::from_bits(self.per_hour.load(Relaxed));
        GrowthSnapshot { kind: holding, per_hour, growing: self.growing.load(Relaxed) }
    }
}
