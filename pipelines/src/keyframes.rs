//! Decodes only what the receiver wants, and of that only what can be decoded.
//!
//! Pictures are thrown away in front of the decoder, which is where most of a camera's memory and time goes. Once one that
//! others need has been thrown away those after it are of no use until the next key picture, also when all are wanted again.
//!
//! Pictures may also be kept until it is known whether they are wanted (`kept.rs`). When they are they go into the decoder from
//! its own pad's probe, on the streaming thread, a few with each picture that arrives: the thread that carries a camera's packets
//! never waits, and the order stays what it was.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gstreamer as gst;
use gstreamer::prelude::*;

use crate::coded::{Coded, PictureKind};
use crate::held_back::HeldBack;
use crate::kept::Kept;
use crate::outlet::Judgement;
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
#[derive(Debug)]
struct Passage {
    coded: Coded,
    gate: Gate,
    held_back: HeldBack,
    kept: Kept,
}

/// Where a picture goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// Into the decoder.
    On,
    /// Into the decoder, which shows the key picture only then; nobody sees it.
    Hidden,
    /// Away.
    Off,
    /// It is kept.
    Aside,
    /// It is kept behind the others, which are decoded first.
    Behind,
}

impl Passage {
    fn new(held_back: HeldBack, kept: Kept) -> Self {
        Self { coded: Coded::default(), gate: Gate::default(), held_back, kept }
    }

    /// [`Self::course`], with an eye on what the decoder holds back.
    fn steer(
        &mut self,
        picture: &gst::BufferRef,
        kind: PictureKind,
        judgement: Judgement,
    ) -> (Course, usize) {
        // Not where it would be decoded again with those that are kept.
        let is_unwanted = match judgement {
            Judgement::Leave => true,
            Judgement::Keep => self.kept.is_empty(),
            Judgement::Decode => false,
        };
        let may_push = is_unwanted && kind != PictureKind::Key && !self.gate.broken;
        if may_push && self.held_back.pushes(picture.pts()) {
            let cleared = if kind == PictureKind::Disposable { 0 } else { self.kept.clear() };
            self.gate.lets_through(kind, true);
            return (Course::Hidden, cleared);
        }
        let (course, cleared) = self.course(picture, kind, judgement);
        if course == Course::On && kind == PictureKind::Key {
            self.held_back.key(picture.pts());
        }
        (course, cleared)
    }

    /// Where the next picture goes, and how many of those that were kept are thrown away.
    fn course(
        &mut self,
        picture: &gst::BufferRef,
        kind: PictureKind,
        judgement: Judgement,
    ) -> (Course, usize) {
        let passes = |passes| if passes { Course::On } else { Course::Off };
        match judgement {
            Judgement::Keep if kind == PictureKind::Key => {
                (passes(self.gate.lets_through(kind, true)), self.kept.clear())
            }
            // Without what is missing it could never be decoded.
            Judgement::Keep if self.gate.broken => (Course::Off, 0),
            Judgement::Keep => self.put_aside(picture, kind, Course::Aside),
            Judgement::Leave => {
                let cleared = if kind == PictureKind::Disposable { 0 } else { self.kept.clear() };
                (passes(self.gate.lets_through(kind, false)), cleared)
            }
            Judgement::Decode if self.kept.is_empty() => (passes(self.gate.lets_through(kind, true)), 0),
            Judgement::Decode => {
                self.kept.release();
                self.put_aside(picture, kind, Course::Behind)
            }
        }
    }

    fn put_aside(&mut self, picture: &gst::BufferRef, kind: PictureKind, course: Course) -> (Course, usize) {
        if self.kept.push(picture) {
            return (course, 0);
        }
        // What comes after it needs those that are thrown away, and this one.
        let cleared = self.kept.clear();
        let passes = self.gate.lets_through(kind, kind == PictureKind::Key);
        (if passes { Course::On } else { Course::Off }, cleared)
    }
}

/// The passage of one decoder.
struct Guard {
    passage: Mutex<Passage>,
    /// The decoder is being given what was kept.
    releases: AtomicBool,
    reporter: Arc<Reporter>,
}

impl Guard {
    fn passage(&self) -> MutexGuard<'_, Passage> {
        self.passage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn picture(&self, pad: &gst::Pad, picture: &gst::Buffer) -> gst::PadProbeReturn {
        if self.releases.load(Ordering::Relaxed) {
            return gst::PadProbeReturn::Ok;
        }
        let outlet = &self.reporter.outlet;
        let mark = self.reporter.rtp_times.changes_count().or(picture.pts().map(gst::ClockTime::nseconds));
        let mut passage = self.passage();
        let kind = passage.coded.kind(picture);
        let was_behind = passage.kept.is_released();
        let (course, cleared) = passage.steer(picture, kind, outlet.judge(kind, picture.size()));
        let has_given_up = was_behind && !passage.kept.is_released();
        drop(passage);
        if has_given_up {
            outlet.caught_up();
        }
        // Their marks have been seen when they were kept.
        (0..cleared).for_each(|_| outlet.skipped(None));
        match course {
            Course::On => return gst::PadProbeReturn::Ok,
            Course::Hidden => {
                outlet.skipped(mark);
                return gst::PadProbeReturn::Ok;
            }
            Course::Off => outlet.skipped(mark),
            Course::Aside => outlet.kept(mark),
            Course::Behind => {
                outlet.kept(mark);
                self.release(pad, false);
            }
        }
        gst::PadProbeReturn::Drop
    }

    /// Gives the decoder what was kept: so many pictures that the camera catches up, more while frames are welcome, or all.
    fn release(&self, pad: &gst::Pad, all: bool) {
        self.releases.store(true, Ordering::Relaxed);
        let mut given = 0;
        loop {
            let (picture, enough) = {
                let mut passage = self.passage();
                let enough = passage.kept.share();
                (passage.kept.pop(), enough)
            };
            let Some(picture) = picture else { break };
            given += 1;
            if pad.chain(picture).is_err() {
                // The next picture that arrives meets the same and says so upstream.
                let mut passage = self.passage();
                let cleared = passage.kept.clear();
                passage.gate.broken = true;
                drop(passage);
                (0..cleared).for_each(|_| self.reporter.outlet.skipped(None));
            }
            if self.passage().kept.is_empty() {
                self.reporter.outlet.caught_up();
                break;
            }
            if !all && given >= enough && !self.reporter.outlet.is_ready() {
                break;
            }
        }
        self.releases.store(false, Ordering::Relaxed);
    }

    fn event(&self, pad: &gst::Pad, event: &gst::EventRef) {
        let changes = match event.view() {
            gst::EventView::Caps(caps) => {
                // A parser says the same again with every keyframe.
                let changes = pad.current_caps().is_none_or(|current| current.as_ref() != caps.caps());
                if !changes {
                    return;
                }
                true
            }
            gst::EventView::Eos(_) | gst::EventView::Segment(_) => true,
            _ => false,
        };
        if changes {
            self.settle(pad);
        }
        if let gst::EventView::Caps(caps) = event.view() {
            self.passage().coded.set_caps(caps.caps());
        }
    }

    /// What was kept belongs before an event: it is decoded if it was to be, else thrown away.
    fn settle(&self, pad: &gst::Pad) {
        let mut passage = self.passage();
        if passage.kept.is_empty() {
            return;
        }
        if passage.kept.is_released() {
            drop(passage);
            self.release(pad, true);
            return;
        }
        let cleared = passage.kept.clear();
        passage.gate.broken = true;
        drop(passage);
        (0..cleared).for_each(|_| self.reporter.outlet.skipped(None));
    }
}

/// Puts a gate in front of `element` if it is a decoder.
pub(crate) fn guard(element: &gst::Element, kept_bytes_max: usize, reporter: &Arc<Reporter>) {
    let factory = element.factory();
    let class = factory.as_ref().and_then(|factory| factory.metadata("klass")).unwrap_or_default();
    // Bins such as decodebin are "Generic/Bin/Decoder"; the real one is inside.
    if !class.contains("Decoder") || !class.contains("Video") || class.contains("Bin") {
        return;
    }
    let Some(pad) = element.static_pad("sink") else { return };
    let kept = Kept::new(kept_bytes_max, reporter.kept_count.clone());
    let guard = Guard {
        passage: Mutex::new(Passage::new(HeldBack::of(element), kept)),
        releases: AtomicBool::new(false),
        reporter: reporter.clone(),
    };
    let wanted = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
    pad.add_probe(wanted, move |pad, info| {
        if let Some(event) = info.event() {
            guard.event(pad, event);
            return gst::PadProbeReturn::Ok;
        }
        info.buffer().map_or(gst::PadProbeReturn::Ok, |picture| guard.picture(pad, picture))
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
