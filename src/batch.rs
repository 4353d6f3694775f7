//! PURE: when is a batch complete? At its size or at its deadline, whichever comes first.
//!
//! Never for an absent camera: nothing here knows who could still come.

use std::time::{Duration, Instant};

/// Collects items until [`BatchFormer::is_due`]. Holds at most `max_size`; allocates only in `new`.
#[derive(Debug)]
pub struct BatchFormer<T> {
    items: Vec<T>,
    max_size: usize,
    max_delay: Duration,
    first_at: Option<Instant>,
}

impl<T> BatchFormer<T> {
    /// A batch of at most `max_size` (at least 1) whose first item waits at most `max_delay`.
    pub fn new(max_size: usize, max_delay: Duration) -> Self {
        let max_size = max_size.max(1);
        Self { items: Vec::with_capacity(max_size), max_size, max_delay, first_at: None }
    }

    /// Adds an item. A due batch must have been [taken](Self::clear) before.
    pub fn push(&mut self, item: T, now: Instant) {
        debug_assert!(self.items.len() < self.max_size, "the batch was due");
        self.first_at.get_or_insert(now);
        self.items.push(item);
    }

    /// Whether the batch should go now.
    pub fn is_due(&self, now: Instant) -> bool {
        self.items.len() >= self.max_size || self.deadline().is_some_and(|deadline| now >= deadline)
    }

    /// When the batch is due at the latest; `None` while it is empty.
    pub fn deadline(&self) -> Option<Instant> {
        self.first_at.map(|first_at| first_at + self.max_delay)
    }

    /// What has been collected, in order of arrival.
    pub fn items(&self) -> &[T] {
        &self.items
    }

    /// Drops the batch and begins the next.
    pub fn clear(&mut self) {
        self.items.clear();
        self.first_at = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_millis(10);

    #[test]
    fn a_full_batch_goes_at_once() {
        let now = crate::clock::now();
        let mut former = BatchFormer::new(2, DELAY);
        former.push('a', now);
        assert!(!former.is_due(now));
        former.push('b', now);
        assert!(former.is_due(now));
        assert_eq!(former.items(), ['a', 'b']);
    }

    #[test]
    fn a_lonely_item_goes_at_its_deadline_counted_from_the_first() {
        let now = crate::clock::now();
        let mut former = BatchFormer::new(3, DELAY);
        former.push('a', now);
        former.push('b', now + DELAY / 2);
        assert_eq!(former.deadline(), Some(now + DELAY));
        assert!(!former.is_due(now + DELAY - Duration::from_nanos(1)));
        assert!(former.is_due(now + DELAY));
    }

    #[test]
    fn an_empty_batch_is_never_due() {
        let now = crate::clock::now();
        let mut former = BatchFormer::<char>::new(1, Duration::ZERO);
        assert!(!former.is_due(now + Duration::from_secs(3600)));
        former.push('a', now);
        former.clear();
        assert_eq!((former.deadline(), former.items().len()), (None, 0));
    }

    proptest::proptest! {
        /// Nothing is lost or reordered, no batch is too large and no item waits longer than the delay.
        #[test]
        fn everything_comes_out_in_order_and_in_time(
            max_size in 1usize..9,
            gaps_ms in proptest::collection::vec(0u64..30, 1..200),
        ) {
            let mut now = crate::clock::now();
            let mut former = BatchFormer::new(max_size, DELAY);
            let mut out = Vec::new();
            let mut arrived = Vec::new();
            for (item, gap_ms) in gaps_ms.iter().enumerate() {
                let next = now + Duration::from_millis(*gap_ms);
                // The worker wakes at the deadline, should nothing come before it.
                if let Some(deadline) = former.deadline().filter(|&d| d <= next) {
                    proptest::prop_assert!(former.is_due(deadline));
                    for &i in former.items() {
                        proptest::prop_assert!(deadline - arrived[i] <= DELAY);
                        out.push(i);
                    }
                    former.clear();
                }
                now = next;
                arrived.push(now);
                former.push(item, now);
                if former.is_due(now) {
                    proptest::prop_assert!(former.items().len() <= max_size);
                    out.extend_from_slice(former.items());
                    former.clear();
                }
            }
            out.extend_from_slice(former.items());
            proptest::prop_assert_eq!(out, (0..gaps_ms.len()).collect::<Vec<_>>());
        }
    }
}
