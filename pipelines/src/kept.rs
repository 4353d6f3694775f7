//! Coded pictures that are kept until it is known whether they are wanted.
//!
//! They are copied: what is kept is exactly as large as its bytes say, and no pool of a driver or of a jitter buffer waits for
//! it. That costs a copy of what the network brings, a megabyte a second.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gstreamer as gst;

use crate::census::Ticket;

/// Whatever their sizes: GStreamer's own part of a buffer takes some hundred bytes.
const PICTURES_MAX: usize = 2048;
/// A camera that is released is live again after about so much time.
const CATCH_UP_S: u64 = 2;
/// How much is kept where pictures do not say their times.
const UNKNOWN_S: u64 = 4;

/// The most that is ever kept in front of a decoder whose [`Spec::kept_bytes_max`](crate::Spec::kept_bytes_max) is this: while
/// pictures are given away one more comes with each, so room is what was promised, and what is on its way.
#[must_use]
pub const fn kept_bytes_bound(kept_bytes_max: usize) -> usize {
    kept_bytes_max.saturating_mul(2)
}

/// Pictures in the order in which they arrived, and how fast they are given away.
pub(crate) struct Kept {
    pictures: VecDeque<(gst::Buffer, Ticket)>,
    bytes: usize,
    bytes_max: usize,
    /// Pictures that are decoded with each that arrives; 0: they are not.
    share: usize,
    /// How many there are, for whoever takes the pipeline down.
    count: Arc<AtomicUsize>,
}

impl Kept {
    /// None; `count` follows how many there are.
    pub(crate) fn new(bytes_max: usize, count: Arc<AtomicUsize>) -> Self {
        Self { pictures: VecDeque::new(), bytes: 0, bytes_max, share: 0, count }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pictures.is_empty()
    }

    /// They are on their way into the decoder.
    pub(crate) fn is_released(&self) -> bool {
        self.share > 0
    }

    /// Pictures that are to be decoded with each that arrives.
    pub(crate) fn share(&self) -> usize {
        self.share
    }

    /// Keeps a copy; false if there is no room for it, or no memory.
    pub(crate) fn push(&mut self, picture: &gst::BufferRef) -> bool {
        let bytes_max = if self.is_released() { kept_bytes_bound(self.bytes_max) } else { self.bytes_max };
        if self.bytes.saturating_add(picture.size()) > bytes_max || self.pictures.len() >= PICTURES_MAX {
            return false;
        }
        let Ok(copy) = picture.copy_deep() else { return false };
        self.bytes += copy.size();
        self.pictures.push_back((copy, Ticket::of_coded()));
        self.count.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// From now on they are given away, so fast that none is left after [`CATCH_UP_S`].
    pub(crate) fn release(&mut self) {
        if self.is_released() {
            return;
        }
        let time = |picture: &(gst::Buffer, Ticket)| picture.0.dts_or_pts();
        let span = self.pictures.front().and_then(time).zip(self.pictures.back().and_then(time));
        let span_s = span.map_or(UNKNOWN_S, |(first, last)| last.saturating_sub(first).seconds());
        // One for the picture that arrives, and the backlog in equal parts. No more than half a minute is ever kept.
        self.share = 2 + usize::try_from(span_s.min(30) / CATCH_UP_S).unwrap_or(0);
    }

    /// The oldest.
    pub(crate) fn pop(&mut self) -> Option<gst::Buffer> {
        let (picture, _) = self.pictures.pop_front()?;
        self.bytes -= picture.size();
        self.count.fetch_sub(1, Ordering::Relaxed);
        if self.pictures.is_empty() {
            self.share = 0;
        }
        Some(picture)
    }

    /// Throws all away; returns how many.
    pub(crate) fn clear(&mut self) -> usize {
        let count = self.pictures.len();
        self.count.fetch_sub(count, Ordering::Relaxed);
        // The memory of the list too: a burst must not be kept for months.
        self.pictures = VecDeque::new();
        (self.bytes, self.share) = (0, 0);
        count
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept")
            .field("pictures", &self.pictures.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(bytes: usize, at_ms: u64) -> gst::Buffer {
        crate::init().unwrap();
        let mut buffer = gst::Buffer::from_slice(vec![0_u8; bytes]);
        buffer.get_mut().unwrap().set_pts(gst::ClockTime::from_mseconds(at_ms));
        buffer
    }

    #[test]
    fn no_more_bytes_are_kept_than_allowed_and_all_of_them_are_counted() {
        let count = Arc::new(AtomicUsize::new(0));
        let mut kept = Kept::new(1000, count.clone());
        assert!(kept.push(&picture(600, 0)) && kept.push(&picture(400, 40)));
        assert!(!kept.push(&picture(1, 80)));
        kept.release();
        assert!(kept.push(&picture(1000, 80)), "what arrives while it catches up");
        assert!(!kept.push(&picture(1, 120)));
        assert_eq!(kept.pop().map(|picture| picture.size()), Some(600));
        assert_eq!((kept.bytes, count.load(Ordering::Relaxed)), (1400, 2));
        assert_eq!((kept.clear(), kept.bytes, kept.is_released()), (2, 0, false));
        assert_eq!(count.load(Ordering::Relaxed), 0);
        assert!(!Kept::new(0, count).push(&picture(1, 0)));
    }

    #[test]
    fn whatever_comes_and_goes_the_bound_holds_and_is_reached() {
        let (mut kept, mut most) = (Kept::new(10_000, Arc::default()), 0);
        for number in 0..2000_u64 {
            let bytes = 100 + (number * 7919 % 400) as usize;
            if !kept.push(&picture(bytes, 40 * number)) && !kept.is_released() {
                kept.release();
            }
            // More comes than goes, until it is full; then all of it goes.
            if number % 3 == 0 && kept.is_released() {
                kept.pop();
            }
            if number % 500 == 499 {
                while kept.pop().is_some() {}
            }
            most = most.max(kept.bytes);
        }
        assert!((kept_bytes_bound(10_000) - 500..=kept_bytes_bound(10_000)).contains(&most), "{most}");
    }

    #[test]
    fn the_longer_it_is_behind_the_faster_it_is_given_away() {
        for (last_ms, share) in [(100, 2), (4_000, 4), (10_000, 7), (10_000_000, 17)] {
            let mut kept = Kept::new(1000, Arc::default());
            assert!(kept.push(&picture(1, 0)) && kept.push(&picture(1, last_ms)));
            kept.release();
            assert_eq!(kept.share(), share, "{last_ms} ms");
            while kept.pop().is_some() {}
            assert!(!kept.is_released());
        }
    }
}
