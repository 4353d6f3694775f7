//! Durations in fixed buckets, and quantiles out of them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::Serialize;

/// Sub-buckets of each octave, as a power of two.
const SUB_BITS: u32 = 4;
/// Buckets reach 2^27 µs, about 134 s.
pub(super) const TOP_BIT: u32 = 27;
pub(super) const BUCKETS: usize = ((TOP_BIT - SUB_BITS + 1) << SUB_BITS) as usize;

/// Durations in fixed buckets: exact below 32 µs, then 16 buckets an octave up to 134 s, longer ones in
/// the last. A quantile is given as the middle of its bucket: at most 3.2 % beside the true value.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
    max_us: AtomicU64,
}

pub(super) fn bucket_index(us: u64) -> usize {
    let us = us.min((1 << TOP_BIT) - 1);
    // Which octave, counted from the first that is wider than its sub-buckets.
    let octave = (63 - us.max(1).leading_zeros()).saturating_sub(SUB_BITS);
    ((octave << SUB_BITS) as u64 + (us >> octave)) as usize
}

/// Lower end and width of a bucket in µs. Inverse of [`bucket_index`].
pub(super) fn bucket_range(index: usize) -> (u64, u64) {
    let octave = ((index >> SUB_BITS) as u32).saturating_sub(1);
    let low = (index as u64 - (u64::from(octave) << SUB_BITS)) << octave;
    (low, 1 << octave)
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
            sum_us: AtomicU64::new(0),
            max_us: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket_index(us)].fetch_add(1, Relaxed);
        self.sum_us.fetch_add(us, Relaxed);
        self.max_us.fetch_max(us, Relaxed);
    }

    /// Count, sum, maximum and the usual quantiles. Concurrent observations may be half in it.
    pub fn summary(&self) -> HistogramSummary {
        let counts: [u64; BUCKETS] = std::array::from_fn(|i| self.buckets[i].load(Relaxed));
        let count = counts.iter().sum();
        let max_us = self.max_us.load(Relaxed);
        let quantile = |q: f64| quantile_us(&counts, count, q).min(max_us as f64) / 1e6;
        HistogramSummary {
            count,
            sum_seconds: self.sum_us.load(Relaxed) as f64 / 1e6,
            max_seconds: max_us as f64 / 1e6,
            p50_seconds: quantile(0.50),
            p95_seconds: quantile(0.95),
            p99_seconds: quantile(0.99),
        }
    }
}

/// Nearest rank: the middle of the bucket that holds the `ceil(q * count)`-th smallest value; 0 if none.
fn quantile_us(counts: &[u64; BUCKETS], count: u64, q: f64) -> f64 {
    let rank = ((q * count as f64).ceil() as u64).max(1);
    let mut seen = 0;
    for (index, bucket) in counts.iter().enumerate() {
        seen += bucket;
        if seen >= rank {
            let (low, width) = bucket_range(index);
            return low as f64 + (width - 1) as f64 / 2.0;
        }
    }
    0.0
}

/// A [`Histogram`] at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct HistogramSummary {
    /// Observations.
    pub count: u64,
    /// Their sum.
    pub sum_seconds: f64,
    /// The longest.
    pub max_seconds: f64,
    /// Median.
    pub p50_seconds: f64,
    /// 95th percentile.
    pub p95_seconds: f64,
    /// 99th percentile.
    pub p99_seconds: f64,
}
