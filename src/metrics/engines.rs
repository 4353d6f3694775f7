//! What the engines have done, by backend.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use super::{EngineSnapshot, Histogram, zeros};

/// Largest batch that is counted by itself.
const MAX_BATCH_SIZE: usize = 64;
/// Backends that one process may run on over its life: an engine may take over from another.
const BACKENDS_MAX: usize = 6;

/// What the engines have done, one block for each backend that has run.
#[derive(Debug)]
pub struct EngineMetrics {
    backends: [(OnceLock<&'static str>, BackendMetrics); BACKENDS_MAX],
    current_index: AtomicUsize,
}

impl EngineMetrics {
    pub(super) fn new() -> Self {
        Self {
            backends: std::array::from_fn(|_| (OnceLock::new(), BackendMetrics::new())),
            current_index: AtomicUsize::new(0),
        }
    }

    /// From now on batches are counted for this backend.
    pub fn runs_on(&self, backend: &'static str) {
        let found = self.backends.iter().position(|(name, _)| *name.get_or_init(|| backend) == backend);
        // There are fewer backends than places; a stranger would be counted with the last.
        self.current_index.store(found.unwrap_or(BACKENDS_MAX - 1), Relaxed);
    }

    /// One inference of `batch_size` frames has taken `duration`.
    pub fn batch(&self, batch_size: usize, duration: Duration) {
        self.backends[self.current_index.load(Relaxed)].1.batch(batch_size, duration);
    }

    /// The current backend first.
    pub(super) fn snapshot(&self) -> Vec<EngineSnapshot> {
        let current = self.current_index.load(Relaxed);
        let order = std::iter::once(current).chain((0..BACKENDS_MAX).filter(|&index| index != current));
        let blocks = order.map(|index| &self.backends[index]);
        blocks.filter_map(|(name, block)| name.get().map(|name| block.snapshot(name))).collect()
    }
}

/// What the engine of one backend has done.
#[derive(Debug)]
struct BackendMetrics {
    /// One inference, whatever its batch.
    inference: Histogram,
    /// Batches by size, 0 unused; the last also takes what is larger.
    batch_sizes: [AtomicU64; MAX_BATCH_SIZE + 1],
}

impl BackendMetrics {
    fn new() -> Self {
        Self { inference: Histogram::default(), batch_sizes: zeros() }
    }

    fn batch(&self, batch_size: usize, duration: Duration) {
        self.inference.observe(duration);
        self.batch_sizes[batch_size.min(MAX_BATCH_SIZE)].fetch_add(1, Relaxed);
    }

    fn snapshot(&self, backend: &str) -> EngineSnapshot {
        let counts = self.batch_sizes.iter().map(|count| count.load(Relaxed)).enumerate();
        let batch_sizes: Vec<_> = counts.filter(|(_, batches)| *batches > 0).collect();
        EngineSnapshot { backend: backend.to_owned(), inference: self.inference.summary(), batch_sizes }
    }
}
