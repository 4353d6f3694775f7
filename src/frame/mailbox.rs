//! One opening's mailbox: at most one frame, the newest.
//!
//! A source's threads put frames in and never wait; a newer frame takes the place of the older one, which is
//! counted and freed. The camera's thread takes them out when it may send one on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::feed::Feed;
use super::lazy::{Lazy, LazyOptions, Treatment};
use super::pacer::Pacer;
use super::thinning::Thinning;
use crate::config::Decode;
use crate::metrics::Outcome;
use crate::source::{Arrived, Fault, Judgement, PictureKind, Receiver, Stage};

/// A camera of which only keyframes are decoded has to send one within this time; else nobody could say
/// whether its pictures can still be decoded.
const KEYFRAME_WITHIN: Duration = Duration::from_secs(60);

/// Said once an opening.
const LAZY_IN_VAIN: &str = "every picture of this camera is decoded although decode is \"lazy\": its keyframes are further apart \
    than what is kept; let the camera send one every 2 s (often called I-frame interval or GOP), or raise lazy_buffer";

/// A frame and its number among all frames of its camera.
#[derive(Debug)]
pub struct Numbered {
    /// Counted from 1 over all openings.
    pub seq: u64,
    /// The frame.
    pub arrived: Arrived,
    /// It was kept on purpose before it was decoded: its age is no reason to throw it away.
    pub kept: bool,
}

/// The mailbox of one opening.
#[derive(Debug)]
pub struct Mailbox {
    feed: Arc<Feed>,
    generation: u64,
    inside: Mutex<Inside>,
}

#[derive(Debug)]
struct Inside {
    newest: Option<Numbered>,
    last_mark: Option<u64>,
    fault: Option<Fault>,
    pacer: Pacer,
    thinning: Thinning,
    /// Present with `decode = "lazy"`.
    lazy: Option<Lazy>,
    /// While load is shed.
    shed: Pacer,
    last_decoded_at: Option<Instant>,
    open: bool,
}

impl Mailbox {
    /// For opening `generation` of this feed.
    pub fn new(
        feed: Arc<Feed>,
        generation: u64,
        pacer: Pacer,
        decode: Decode,
        lazy: Option<LazyOptions>,
    ) -> Arc<Self> {
        let inside = Inside {
            newest: None,
            last_mark: None,
            fault: None,
            thinning: Thinning::new(decode, pacer.interval()),
            pacer,
            lazy: lazy.map(Lazy::new),
            shed: Pacer::every(None),
            last_decoded_at: None,
            open: true,
        };
        Arc::new(Self { feed, generation, inside: Mutex::new(inside) })
    }

    /// Whether a frame waits.
    pub fn has_frame(&self) -> bool {
        self.lock().newest.is_some()
    }

    /// When the waiting frame arrived.
    pub fn newest_at(&self) -> Option<Instant> {
        self.lock().newest.as_ref().map(|newest| newest.arrived.at)
    }

    /// Whether the waiting frame arrived before `oldest` and was not kept on purpose.
    pub fn is_too_old(&self, oldest: Instant) -> bool {
        self.lock().newest.as_ref().is_some_and(|newest| !newest.kept && newest.arrived.at < oldest)
    }

    /// A frame that arrived at `at` was compared with the one before.
    pub fn looked(&self, moved: bool, at: Instant) {
        if let Some(lazy) = &mut self.lock().lazy {
            lazy.looked(moved, at);
        }
    }

    /// The newest frame. Its turn at the camera's detection rate counts as taken.
    pub fn take(&self) -> Option<Numbered> {
        let mut inside = self.lock();
        let newest = inside.newest.take()?;
        inside.pacer.taken(newest.arrived.at);
        inside.shed.taken(newest.arrived.at);
        Some(newest)
    }

    /// What ended the stream, once, if it is `wanted` now.
    pub fn take_fault_if(&self, wanted: impl FnOnce(&Fault) -> bool) -> Option<Fault> {
        self.lock().fault.take_if(|fault| wanted(fault))
    }

    /// Nothing is accepted any more; the waiting frame goes, for this reason.
    pub fn close(&self, outcome: Outcome) {
        let waiting = {
            let mut inside = self.lock();
            inside.open = false;
            self.feed.metrics.set_asleep(false);
            inside.newest.take()
        };
        if waiting.is_some() {
            self.feed.dropped(outcome);
        }
    }

    /// Puts a frame in and says what has to be counted and freed outside the lock.
    fn put(&self, arrived: Arrived) -> Option<(Outcome, Numbered)> {
        let mut inside = self.lock();
        let kept =
            inside.lazy.as_ref().is_some_and(|lazy| lazy.is_asleep() || lazy.is_catching_up(arrived.at));
        let newest = Numbered { seq: self.feed.number(arrived.at), arrived, kept };
        let arrived = &newest.arrived;
        if !inside.open || !self.feed.is_live(self.generation) {
            return Some((Outcome::StaleGeneration, newest));
        }
        let mark = arrived.frame.progress_mark();
        // A frame without a timestamp, or with the one of its predecessor, is no sign of life.
        if mark.is_some() && mark != inside.last_mark {
            inside.last_mark = mark;
            self.feed.progressed(arrived.at);
        }
        inside.last_decoded_at = Some(arrived.at);
        if !inside.pacer.is_due(arrived.at) {
            return Some((Outcome::RateLimited, newest));
        }
        let shed_interval = self.feed.shed_interval();
        if inside.shed.interval() != shed_interval {
            inside.shed = Pacer::every(shed_interval);
        }
        if !inside.shed.is_due(arrived.at) {
            return Some((Outcome::Shed, newest));
        }
        inside.newest.replace(newest).map(|older| (Outcome::Superseded, older))
    }

    /// Counts a picture that was not decoded because it is not wanted. It is a sign of life, as long as
    /// there are pictures that are decoded.
    fn skip(&self, at: Instant, mark: Option<u64>) -> Outcome {
        let mut inside = self.lock();
        self.feed.number(at);
        if !inside.open || !self.feed.is_live(self.generation) {
            return Outcome::StaleGeneration;
        }
        inside.progressed_undecoded(&self.feed, at, mark);
        if self.feed.keyframes_only() { Outcome::Shed } else { Outcome::NotDecoded }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn progressed_undecoded(&mut self, feed: &Feed, at: Instant, mark: Option<u64>) {
        let decoded = self.last_decoded_at;
        let decodes = decoded.is_some_and(|last| at.saturating_duration_since(last) < KEYFRAME_WITHIN);
        if decodes && mark.is_some() && mark != self.last_mark {
            self.last_mark = mark;
            feed.progressed(at);
        }
    }
}

impl Receiver for Mailbox {
    fn stage(&self, stage: Stage) {
        self.feed.reached(self.generation, stage);
    }

    fn frame(&self, arrived: Arrived) {
        if let Some((outcome, _freed_here)) = self.put(arrived) {
            self.feed.dropped(outcome);
        }
        self.feed.wake.ring();
    }

    fn wants(&self, at: Instant, kind: PictureKind) -> bool {
        let wanted = self.lock().thinning.wants(kind, at);
        wanted && (kind == PictureKind::Key || !self.feed.keyframes_only())
    }

    fn judge(&self, at: Instant, kind: PictureKind, size_bytes: usize) -> Judgement {
        let mut inside = self.lock();
        let Inside { lazy: Some(lazy), thinning, .. } = &mut *inside else {
            drop(inside);
            return if self.wants(at, kind) { Judgement::Decode } else { Judgement::Leave };
        };
        let treatment = lazy.coded(kind, size_bytes, at, self.feed.last_object());
        if let Some(why) = lazy.take_woken_by() {
            self.feed.metrics.wakes(why);
            tracing::debug!(camera = self.feed.name(), reason = why.as_str(), "the camera wakes");
        }
        if lazy.take_complaint() {
            tracing::info!(camera = self.feed.name(), "{LAZY_IN_VAIN}");
        }
        self.feed.metrics.set_asleep(lazy.is_asleep());
        // Learns how often they come, whatever becomes of this one.
        let is_needed = thinning.wants(kind, at);
        match treatment {
            _ if kind != PictureKind::Key && self.feed.keyframes_only() => Judgement::Leave,
            Treatment::Keep => Judgement::Keep,
            Treatment::Decode if is_needed => Judgement::Decode,
            Treatment::Decode => Judgement::Leave,
        }
    }

    fn is_ready(&self) -> bool {
        self.lock().newest.is_none()
    }

    fn kept(&self, at: Instant, mark: Option<u64>) {
        let mut inside = self.lock();
        if inside.open && self.feed.is_live(self.generation) {
            self.feed.metrics.sign_of_life(at);
            inside.progressed_undecoded(&self.feed, at, mark);
        }
    }

    fn caught_up(&self) {
        if let Some(lazy) = &mut self.lock().lazy {
            lazy.caught_up();
        }
    }

    fn leaves_out(&self) -> bool {
        let inside = self.lock();
        let sleeps = inside.lazy.as_ref().is_some_and(Lazy::is_asleep);
        sleeps || self.feed.keyframes_only() || inside.thinning.leaves_out()
    }

    fn skipped(&self, at: Instant, mark: Option<u64>) {
        self.feed.dropped(self.skip(at, mark));
    }

    fn fault(&self, fault: Fault) {
        let mut inside = self.lock();
        // The first word stands: later ones are its echoes.
        if inside.open && inside.fault.is_none() {
            inside.fault = Some(fault);
        }
        drop(inside);
        self.feed.wake.ring();
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::frame::pool::{Place, SlotForm};
    use crate::metrics::Registry;
    use crate::model::{ChannelOrder, Fit, InputRecipe};
    use crate::source::{Decoded, MemoryFrame, MemoryPicture, TsSource};

    /// A mailbox of a live opening, and the time at which it was opened.
    fn mailbox() -> (Arc<Mailbox>, Instant) {
        mailbox_with(Decode::All, None)
    }

    fn mailbox_with(decode: Decode, lazy: Option<LazyOptions>) -> (Arc<Mailbox>, Instant) {
        let now = crate::clock::now();
        let registry = Registry::new(["gate"], [], now);
        let input = InputRecipe {
            width: 4,
            height: 1,
            channels: ChannelOrder::Rgb,
            fit: Fit::LetterboxCentre,
            pad: 0,
            scale: [1.0; 3],
            offset: [0.0; 3],
        };
        let form = Arc::new(SlotForm { epoch: 1, input, place: Place::Host, gpu: None });
        let feed = Feed::new(0, 1, &form, Arc::clone(&registry.cameras()[0]), crate::wake::doorbell(), now)
            .expect("a slot");
        feed.begin_generation(1);
        (Mailbox::new(Arc::new(feed), 1, Pacer::new(Some(10.0)), decode, lazy), now)
    }

    /// Frame `number` of a camera with 40 pictures a second, taken out at once.
    fn arrives(mailbox: &Mailbox, start: Instant, number: u64) {
        let picture = Arc::new(MemoryPicture::new(2, 2));
        mailbox.frame(Arrived {
            frame: Decoded::Memory(MemoryFrame::new(picture, number)),
            at: start + Duration::from_millis(25 * number),
            received_at: start + Duration::from_millis(25 * number),
            wall: SystemTime::UNIX_EPOCH,
            ts_source: TsSource::Arrival,
        });
        if mailbox.take().is_some() {
            mailbox.feed.dropped(Outcome::Detected);
        }
    }

    #[test]
    fn what_is_shed_is_counted_apart_from_what_is_not_wanted_anyway() {
        let (mailbox, start) = mailbox();
        let counts = |mailbox: &Mailbox| {
            [Outcome::Detected, Outcome::RateLimited, Outcome::Shed]
                .map(|outcome| mailbox.feed.metrics.outcome_count(outcome))
        };
        (0..400).for_each(|number| arrives(&mailbox, start, number));
        assert_eq!(counts(&mailbox), [100, 300, 0]);
        mailbox.feed.shed(Some(Duration::from_secs(1)), false);
        (400..800).for_each(|number| arrives(&mailbox, start, number));
        let [detected, unwanted, shed] = counts(&mailbox);
        assert!((110..=111).contains(&detected), "one a second, and perhaps the first: {detected}");
        assert_eq!(detected + unwanted + shed, 800);
        assert!(shed >= 85, "{shed}");
        mailbox.feed.shed(None, false);
        (800..1200).for_each(|number| arrives(&mailbox, start, number));
        assert_eq!(counts(&mailbox)[0], detected + 100, "and all that are wanted again");
    }

    #[test]
    fn what_a_sleeping_camera_kept_is_a_sign_of_life_and_not_too_old_when_it_is_decoded() {
        let options = LazyOptions {
            hold: Duration::from_secs(2),
            buffer_bytes: 1 << 20,
            buffer_time: Duration::from_secs(10),
        };
        let (mailbox, start) = mailbox_with(Decode::Lazy, Some(options));
        let at = |number: u64| start + Duration::from_millis(25 * number);
        let judge = |number: u64, size_bytes| {
            let kind = if number.is_multiple_of(80) { PictureKind::Key } else { PictureKind::Reference };
            let judgement = mailbox.judge(at(number), kind, size_bytes);
            match judgement {
                Judgement::Keep if kind != PictureKind::Key => mailbox.kept(at(number), Some(number)),
                _ => arrives(&mailbox, start, number),
            }
            mailbox.looked(false, at(number));
            judgement
        };
        (0..600).for_each(|number| {
            judge(number, 1000);
        });
        assert_eq!(judge(601, 1000), Judgement::Keep);
        assert!(mailbox.leaves_out() && mailbox.feed.metrics.snapshot(start).asleep);
        assert_eq!(mailbox.feed.last_progress(), Some(at(601)));
        let coded = |number| mailbox.judge(at(number), PictureKind::Reference, 20_000);
        assert!((602..610).any(|number| coded(number) == Judgement::Decode));
        assert_eq!(mailbox.feed.metrics.wake_count(crate::metrics::Wake::Coded), 1);
        // Now those before it come out of the decoder, late, and time does not run back for that.
        let progress = mailbox.feed.last_progress();
        let late = |number: u64| {
            mailbox.take();
            mailbox.frame(Arrived {
                frame: Decoded::Memory(MemoryFrame::new(Arc::new(MemoryPicture::new(2, 2)), number)),
                at: at(number),
                received_at: at(number),
                wall: SystemTime::UNIX_EPOCH,
                ts_source: TsSource::Arrival,
            });
            mailbox.is_too_old(at(700))
        };
        assert!(mailbox.is_ready() && !late(580));
        assert!(mailbox.has_frame() && !mailbox.is_ready() && !mailbox.is_too_old(at(700)));
        assert_eq!(mailbox.feed.last_progress(), progress);
        mailbox.caught_up();
        assert!(late(640), "what comes late by itself is as old as ever");
        mailbox.close(Outcome::StaleGeneration);
        assert!(!mailbox.feed.metrics.snapshot(start).asleep);
    }

    #[test]
    fn a_skipped_picture_is_a_sign_of_life_only_while_others_are_decoded() {
        let (mailbox, start) = mailbox();
        let at = |seconds| start + Duration::from_secs(seconds);
        mailbox.skipped(at(1), Some(1));
        assert_eq!(mailbox.feed.last_progress(), None, "nothing was decoded yet");
        arrives(&mailbox, at(2), 0);
        mailbox.skipped(at(10), Some(11));
        assert_eq!(mailbox.feed.last_progress(), Some(at(10)));
        mailbox.skipped(at(11), Some(11));
        mailbox.skipped(at(12), None);
        assert_eq!(mailbox.feed.last_progress(), Some(at(10)), "its timestamps stand still");
        mailbox.skipped(at(62), Some(13));
        assert_eq!(mailbox.feed.last_progress(), Some(at(10)), "for a minute nothing was decoded");
        let metrics = &mailbox.feed.metrics;
        assert_eq!((metrics.frames_in(), metrics.outcome_count(Outcome::NotDecoded)), (6, 5));
        // What is given up because memory is short is counted as that.
        mailbox.feed.shed(None, true);
        mailbox.skipped(at(62), Some(14));
        assert_eq!(metrics.outcome_count(Outcome::Shed), 1);
        mailbox.feed.end_generation();
        mailbox.skipped(at(63), Some(14));
        assert_eq!(metrics.outcome_count(Outcome::StaleGeneration), 1);
    }
}
