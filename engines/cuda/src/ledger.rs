//! Who holds how much of the GPU.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// What memory is for: the names of the budget's lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// Input tensors of cameras.
    Slots,
    /// What brings frames decoded on the CPU to the GPU.
    Staging,
    /// Contiguous batches.
    Batches,
    /// Weights of an engine.
    Weights,
    /// Memory that an engine works in.
    Activations,
    /// Output tensors.
    Outputs,
}

impl Owner {
    /// All of them, in the order of the budget.
    pub const ALL: [Self; 6] =
        [Self::Slots, Self::Staging, Self::Batches, Self::Weights, Self::Activations, Self::Outputs];

    /// As the budget spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Slots => "slots",
            Self::Staging => "staging",
            Self::Batches => "batches",
            Self::Weights => "weights",
            Self::Activations => "activations",
            Self::Outputs => "outputs",
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Memory held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Bytes that were asked for.
    pub bytes: u64,
    /// Allocations.
    pub count: u64,
}

/// What a [`Gpu`](crate::Gpu) holds at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ledger {
    device: [Held; Owner::ALL.len()],
    pinned: [Held; Owner::ALL.len()],
    /// Streams that exist.
    pub stream_count: u64,
    /// Events that exist.
    pub event_count: u64,
    /// Graphs that exist.
    pub graph_count: u64,
}

impl Ledger {
    /// Device memory of this owner.
    pub fn device(&self, owner: Owner) -> Held {
        self.device[owner as usize]
    }

    /// Page-locked host memory of this owner.
    pub fn pinned(&self, owner: Owner) -> Held {
        self.pinned[owner as usize]
    }

    /// All device memory.
    pub fn device_bytes(&self) -> u64 {
        self.device.iter().map(|held| held.bytes).sum()
    }

    /// All page-locked host memory.
    pub fn pinned_bytes(&self) -> u64 {
        self.pinned.iter().map(|held| held.bytes).sum()
    }

    /// True when nothing is held.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Bytes that this crate has copied between host and device since the [`Gpu`](crate::Gpu) was opened: a frame that never
/// visits the host adds nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// From host to device.
    pub to_device_bytes: u64,
    /// From device to host.
    pub to_host_bytes: u64,
}

/// Where memory lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Device,
    Pinned,
}

#[derive(Debug, Default)]
struct Count {
    bytes: AtomicU64,
    count: AtomicU64,
}

impl Count {
    fn read(&self) -> Held {
        Held { bytes: self.bytes.load(Ordering::Relaxed), count: self.count.load(Ordering::Relaxed) }
    }
}

/// The counters behind a [`Ledger`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    device: [Count; Owner::ALL.len()],
    pinned: [Count; Owner::ALL.len()],
    pub(crate) streams: AtomicU64,
    pub(crate) events: AtomicU64,
    pub(crate) graphs: AtomicU64,
    pub(crate) to_device_bytes: AtomicU64,
    pub(crate) to_host_bytes: AtomicU64,
}

impl Counters {
    pub(crate) fn copied(&self) -> Copied {
        Copied {
            to_device_bytes: self.to_device_bytes.load(Ordering::Relaxed),
            to_host_bytes: self.to_host_bytes.load(Ordering::Relaxed),
        }
    }

    fn of(&self, place: Place, owner: Owner) -> &Count {
        match place {
            Place::Device => &self.device[owner as usize],
            Place::Pinned => &self.pinned[owner as usize],
        }
    }

    pub(crate) fn took(&self, place: Place, owner: Owner, bytes: usize) {
        let count = self.of(place, owner);
        count.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        count.count.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn gave_back(&self, place: Place, owner: Owner, bytes: usize) {
        let count = self.of(place, owner);
        count.bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
        count.count.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Ledger {
        Ledger {
            device: self.device.each_ref().map(Count::read),
            pinned: self.pinned.each_ref().map(Count::read),
            stream_count: self.streams.load(Ordering::Relaxed),
            event_count: self.events.load(Ordering::Relaxed),
            graph_count: self.graphs.load(Ordering::Relaxed),
        }
    }
}
