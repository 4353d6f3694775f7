//! Gets a key picture out of its decoder although nothing that follows is wanted.
//!
//! A decoder of a stream whose pictures are reordered shows one only when it has been given those that could come before it. If
//! all it gets are key pictures, that is one or two keyframes later: seconds. So some of the pictures that follow are decoded
//! too, without being shown, until the key picture is out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gstreamer as gst;
use gstreamer::prelude::*;

/// No more pictures than these are decoded for one key picture; H.264 and H.265 hold back 16 at the most.
const PUSHES_MAX: usize = 16;
/// Those of the last two key pictures: when one comes out the decoder may still hold those before it.
const HIDDEN_MAX: usize = 2 * PUSHES_MAX;

/// What comes out of the decoder.
#[derive(Debug, Default)]
struct Shown {
    /// Presentation time of the newest picture.
    newest_ns: Option<u64>,
    /// Those of pictures that are not to be shown; the oldest is forgotten first.
    hidden_ns: [Option<u64>; HIDDEN_MAX],
    next_hidden: usize,
}

impl Shown {
    fn hide(&mut self, pts_ns: u64) {
        self.hidden_ns[self.next_hidden % HIDDEN_MAX] = Some(pts_ns);
        self.next_hidden = (self.next_hidden + 1) % HIDDEN_MAX;
    }

    /// Whether the picture that comes out is to be shown.
    fn shows(&mut self, pts_ns: u64) -> bool {
        self.newest_ns = self.newest_ns.max(Some(pts_ns));
        match self.hidden_ns.iter_mut().find(|hidden_ns| **hidden_ns == Some(pts_ns)) {
            Some(hidden_ns) => {
                *hidden_ns = None;
                false
            }
            None => true,
        }
    }
}

/// Whether a decoder holds its last key picture back.
#[derive(Debug, Default)]
pub(crate) struct HeldBack {
    shown: Arc<Mutex<Shown>>,
    /// Presentation time of the key picture, while it has not been seen to come out.
    key_ns: Option<u64>,
    pushes: usize,
}

impl HeldBack {
    /// Watches what `decoder` shows.
    pub fn of(decoder: &gst::Element) -> Self {
        let held_back = Self::default();
        if let Some(pad) = decoder.static_pad("src") {
            let shown = held_back.shown.clone();
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                let pts = info.buffer().and_then(|picture| picture.pts());
                let shows = pts.is_none_or(|pts| locked(&shown).shows(pts.nseconds()));
                if shows { gst::PadProbeReturn::Ok } else { gst::PadProbeReturn::Drop }
            });
        }
        held_back
    }

    /// The decoder is given a key picture. One without a time cannot be waited for.
    pub fn key(&mut self, pts: Option<gst::ClockTime>) {
        (self.key_ns, self.pushes) = (pts.map(gst::ClockTime::nseconds), 0);
        // What came out earlier says nothing: a camera's clock may have been set back.
        locked(&self.shown).newest_ns = None;
    }

    /// Whether the next picture, which nobody wants, is to be decoded so that the key picture comes out. It will not be shown.
    pub fn pushes(&mut self, pts: Option<gst::ClockTime>) -> bool {
        let mut shown = locked(&self.shown);
        let (Some(key_ns), Some(pts)) = (self.key_ns, pts) else { return false };
        if self.pushes >= PUSHES_MAX || shown.newest_ns.is_some_and(|newest_ns| newest_ns >= key_ns) {
            self.key_ns = None;
            return false;
        }
        shown.hide(pts.nseconds());
        self.pushes += 1;
        true
    }
}

fn locked(shown: &Mutex<Shown>) -> MutexGuard<'_, Shown> {
    shown.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ns: u64) -> Option<gst::ClockTime> {
        Some(gst::ClockTime::from_nseconds(ns))
    }

    #[test]
    fn a_decoder_that_shows_nothing_is_given_no_more_than_it_could_hold_back() {
        let mut held_back = HeldBack::default();
        assert!(!held_back.pushes(at(1)), "there was no key picture");
        held_back.key(None);
        assert!(!held_back.pushes(at(1)), "its time is not known");
        held_back.key(at(0));
        assert!(!held_back.pushes(None), "it could not be told from the others when it comes out");
        assert_eq!((1..100).filter(|&ns| held_back.pushes(at(ns))).count(), PUSHES_MAX);
        held_back.key(at(100));
        assert!(held_back.pushes(at(101)));
    }

    #[test]
    fn what_was_shown_before_the_key_picture_does_not_count() {
        let mut held_back = HeldBack::default();
        held_back.key(at(50));
        assert!(locked(&held_back.shown).shows(40));
        assert!(held_back.pushes(at(60)));
        assert!(locked(&held_back.shown).shows(50));
        assert!(!held_back.pushes(at(70)));
        let mut shown = locked(&held_back.shown);
        assert!(!shown.shows(60) && shown.shows(60) && shown.shows(70), "each is hidden once");
    }
}
