//! Decodes only what needs no other picture, as long as the receiver wishes it.
//!
//! Pictures that need others (delta units) are thrown away in front of the decoder, which is where most of a
//! camera's memory and time goes. Once one has been thrown away those after it are of no use until the next
//! keyframe, also when all are wanted again.

use std::sync::{Arc, Mutex, PoisonError};

use gstreamer as gst;
use gstreamer::prelude::*;

use crate::report::Reporter;

/// A stream without keyframes (some cameras refresh the picture bit by bit) is let through after so many
/// pictures: what the decoder makes of it heals with time.
const WAITED_MAX: u32 = 300;

/// Lets pictures through, or not.
#[derive(Debug, Default)]
struct Gate {
    /// Something that was thrown away is missing from what follows.
    broken: bool,
    /// Pictures thrown away although all are wanted.
    waited: u32,
}

impl Gate {
    fn lets_through(&mut self, is_delta: bool, keyframes_only: bool) -> bool {
        self.broken = is_delta && (keyframes_only || (self.broken && self.waited < WAITED_MAX));
        self.waited = if self.broken && !keyframes_only { self.waited + 1 } else { 0 };
        !self.broken
    }
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
    let (gate, reporter) = (Mutex::new(Gate::default()), reporter.clone());
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let Some(picture) = info.buffer() else { return gst::PadProbeReturn::Ok };
        let is_delta = picture.flags().contains(gst::BufferFlags::DELTA_UNIT);
        let mut gate = gate.lock().unwrap_or_else(PoisonError::into_inner);
        if gate.lets_through(is_delta, reporter.outlet.keyframes_only()) {
            return gst::PadProbeReturn::Ok;
        }
        let mark = reporter.rtp_times.changes_count().or(picture.pts().map(gst::ClockTime::nseconds));
        reporter.outlet.skipped(mark);
        gst::PadProbeReturn::Drop
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What passes of `K` (keyframes) and `d` (pictures that need others).
    fn passed(gate: &mut Gate, keyframes_only: bool, pictures: &str) -> String {
        pictures.chars().filter(|&picture| gate.lets_through(picture == 'd', keyframes_only)).collect()
    }

    #[test]
    fn everything_passes_as_long_as_everything_is_wanted() {
        assert_eq!(passed(&mut Gate::default(), false, "KdddKdd"), "KdddKdd");
    }

    #[test]
    fn keyframes_pass_alone_and_what_follows_waits_for_the_next_one() {
        let mut gate = Gate::default();
        assert_eq!(passed(&mut gate, false, "Kd"), "Kd");
        assert_eq!(passed(&mut gate, true, "ddKddK"), "KK");
        assert_eq!(passed(&mut gate, true, "d"), "");
        assert_eq!(passed(&mut gate, false, "ddKddd"), "Kddd");
    }

    #[test]
    fn a_wish_that_was_taken_back_before_anything_was_lost_costs_nothing() {
        let mut gate = Gate::default();
        assert_eq!(passed(&mut gate, true, "K"), "K");
        assert_eq!(passed(&mut gate, false, "dd"), "dd");
    }

    #[test]
    fn a_stream_without_keyframes_comes_back() {
        let mut gate = Gate::default();
        assert_eq!(passed(&mut gate, true, "dddd"), "");
        let pictures = "d".repeat(WAITED_MAX as usize + 5);
        assert_eq!(passed(&mut gate, false, &pictures), "ddddd");
    }
}
