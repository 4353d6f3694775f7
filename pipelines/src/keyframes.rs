//! Decodes only what the receiver wants, and of that only what can be decoded.
//!
//! Pictures are thrown away in front of the decoder, which is where most of a camera's memory and time goes. Once one that
//! others need has been thrown away those after it are of no use until the next key picture, also when all are wanted again.

use std::sync::{Arc, Mutex, PoisonError};

use gstreamer as gst;
use gstreamer::prelude::*;

use crate::coded::{Coded, PictureKind};
use crate::held_back::HeldBack;
use crate::report::Reporter;

/// A stream without keyframes (some cameras refresh the picture bit by bit) is let through after so many
/// pictures: what the decoder makes of it heals with time.
const WAITED_MAX: u32 = 300;

/// Lets pictures through, or not.
#[derive(Debug, Default)]
struct Gate {
    /// Something that was thrown away is missing from what follows.
    broken: bool,
    /// Pictures thrown away although they are wanted.
    waited: u32,
}

impl Gate {
    fn lets_through(&mut self, kind: PictureKind, wanted: bool) -> bool {
        match kind {
            PictureKind::Key => *self = Self { broken: !wanted, waited: 0 },
            PictureKind::Reference | PictureKind::Disposable => {
                self.waited = if self.broken && wanted { self.waited + 1 } else { 0 };
                let gives_up = self.waited > WAITED_MAX;
                self.broken = match kind {
                    PictureKind::Disposable => self.broken && !gives_up,
                    _ => !wanted || (self.broken && !gives_up),
                };
            }
        }
        wanted && !self.broken
    }
}

/// What a stream's pictures pass in front of their decoder.
#[derive(Debug, Default)]
struct Passage {
    coded: Coded,
    gate: Gate,
    held_back: HeldBack,
}

/// Puts a gate in front of `element` if it is a decoder.
pub(crate) fn guard(element: &gst::Element, reporter: &Arc<Reporter>) {
    let factory = element.factory();
    let class = factory.as_ref().and_then(|factory| factory.metadata("klass")).unwrap_or_default();
    // Bins such as decodebin are "Generic/Bin/Decoder"; the real one is inside.
    if !class.contains("Decoder") || !class.contains("Video") || class.contains("Bin") {
        return;
    }
    let Some(pad) = element.static_pad("sink") else { return };
    let passage = Passage { held_back: HeldBack::of(element), ..Passage::default() };
    let (passage, reporter) = (Mutex::new(passage), reporter.clone());
    let wanted = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
    pad.add_probe(wanted, move |_, info| {
        let mut passage = passage.lock().unwrap_or_else(PoisonError::into_inner);
        let Passage { coded, gate, held_back } = &mut *passage;
        if let Some(event) = info.event() {
            if let gst::EventView::Caps(caps) = event.view() {
                coded.set_caps(caps.caps());
            }
            return gst::PadProbeReturn::Ok;
        }
        let Some(picture) = info.buffer() else { return gst::PadProbeReturn::Ok };
        let kind = coded.kind(picture);
        let is_wanted = reporter.outlet.wants(kind);
        let may_push = !is_wanted && !gate.broken && kind != PictureKind::Key;
        let is_pushed = may_push && held_back.pushes(picture.pts());
        let passes = gate.lets_through(kind, is_wanted || is_pushed);
        if passes && kind == PictureKind::Key {
            held_back.key(picture.pts());
        }
        if !passes || is_pushed {
            let mark = reporter.rtp_times.changes_count().or(picture.pts().map(gst::ClockTime::nseconds));
            reporter.outlet.skipped(mark);
        }
        if passes { gst::PadProbeReturn::Ok } else { gst::PadProbeReturn::Drop }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What passes of `K` (key pictures), `r` (others need them) and `d` (nobody needs them) if these are wanted.
    fn passed(gate: &mut Gate, wanted: &str, pictures: &str) -> String {
        let kind = |picture| match picture {
            'K' => PictureKind::Key,
            'r' => PictureKind::Reference,
            _ => PictureKind::Disposable,
        };
        pictures.chars().filter(|&one| gate.lets_through(kind(one), wanted.contains(one))).collect()
    }

    #[test]
    fn everything_passes_as_long_as_everything_is_wanted() {
        assert_eq!(passed(&mut Gate::default(), "Krd", "KrdrKdd"), "KrdrKdd");
    }

    #[test]
    fn what_nobody_needs_can_be_left_out_without_a_loss() {
        let mut gate = Gate::default();
        assert_eq!(passed(&mut gate, "Kr", "KddrddKr"), "KrKr");
        assert_eq!(passed(&mut gate, "Krd", "drd"), "drd");
    }

    #[test]
    fn keyframes_pass_alone_and_what_follows_waits_for_the_next_one() {
        let mut gate = Gate::default();
        assert_eq!(passed(&mut gate, "Krd", "Kr"), "Kr");
        assert_eq!(passed(&mut gate, "K", "rdKrdK"), "KK");
        assert_eq!(passed(&mut gate, "K", "r"), "");
        assert_eq!(passed(&mut gate, "Krd", "rdKrdr"), "Krdr");
    }

    #[test]
    fn a_wish_that_was_taken_back_before_anything_was_lost_costs_nothing() {
        let mut gate = Gate::default();
        assert_eq!(passed(&mut gate, "K", "Kd"), "K");
        assert_eq!(passed(&mut gate, "Krd", "rd"), "rd");
    }

    #[test]
    fn a_stream_without_keyframes_comes_back() {
        let mut gate = Gate::default();
        assert_eq!(passed(&mut gate, "K", "rrrr"), "");
        let pictures = "r".repeat(WAITED_MAX as usize + 5);
        assert_eq!(passed(&mut gate, "Krd", &pictures), "rrrrr");
    }
}
