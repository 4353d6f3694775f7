//! What one reader is being sent: whole lines out of the ring, with the news of losses between them.

use super::record::Lost;
use super::ring::{Cursor, ReadOutcome, Ring};
use crate::metrics::OutputMetrics;

/// Staging of one reader, in bytes. Only a line longer than this makes it larger, until that line is sent;
/// no line is longer than the ring.
pub const STAGING_BYTES: usize = 64 * 1024;

/// A reader's place in the ring, and the bytes that were taken from there and not written yet.
pub(super) struct Outbox {
    cursor: Cursor,
    staged: Vec<u8>,
    /// How much of `staged` has been written.
    sent: usize,
    /// The log says once for each reader that it is too slow; the counter says how much it lost.
    slowness_was_said: bool,
}

impl Outbox {
    /// For a reader that gets what is pushed from now on.
    pub(super) fn new(ring: &Ring) -> Self {
        let staged = Vec::with_capacity(STAGING_BYTES);
        Self { cursor: ring.cursor(), staged, sent: 0, slowness_was_said: false }
    }

    /// What is to be written next. Takes lines from the ring only when everything before is written, so
    /// that a line which was begun is always ended. Empty when the reader has everything.
    pub(super) fn pending(&mut self, output: &str, ring: &Ring, metrics: &OutputMetrics) -> &[u8] {
        if self.sent == self.staged.len() {
            self.staged.clear();
            self.sent = 0;
            self.staged.shrink_to(STAGING_BYTES);
            if let ReadOutcome::Lost(records) = ring.read(&mut self.cursor, &mut self.staged, STAGING_BYTES) {
                metrics.lost(records);
                if !std::mem::replace(&mut self.slowness_was_said, true) {
                    tracing::warn!(
                        output,
                        "a reader of output {output} is too slow and loses the oldest records"
                    );
                }
                Lost { output, records }.write_line(&mut self.staged);
            }
        }
        &self.staged[self.sent..]
    }

    /// So many bytes of [`Outbox::pending`] have been written.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.sent += bytes;
    }

    #[cfg(test)]
    pub(super) fn staging_capacity_bytes(&self) -> usize {
        self.staged.capacity()
    }
}
