//! The loop of a camera's thread while its opening lives: newest frame, free slot, admission, letterbox, send.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Sender, TrySendError};
use watchpost_cuda::Gpu;

use super::feed::Feed;
use super::freeze::FreezeWatch;
use super::mailbox::{Mailbox, Numbered};
use super::mask::PrivacyMask;
use super::motion::MotionGate;
use super::pool::Slot;
use super::preprocess::{PreprocessError, Preprocessor};
use super::turnstile::Turnstile;
use super::{Geometry, Layout, Picture};
use crate::camera::Reason;
use crate::clock;
use crate::metrics::Outcome;
use crate::source::{Arrived, Decoded, Fault, Pixels, TsSource};

/// Without a ring the thread looks around this often; nothing depends on it.
const IDLE: Duration = Duration::from_secs(1);

/// Said once a camera.
const BLIND: &str = "the motion gate is not used for this camera: its frames are in the GPU's memory, and are all inferred; \
    write decoder = \"software\" for the camera if the gate matters more";

/// A filled slot on its way to the engine, with what its record will say.
#[derive(Debug)]
pub struct Work {
    /// The input tensor.
    pub slot: Slot,
    /// Whose frame it is.
    pub feed: Arc<Feed>,
    /// Which opening it came from.
    pub generation: u64,
    /// The frame's number in its camera.
    pub seq: u64,
    /// Its place on the camera's timeline, monotonic.
    pub arrived_at: Instant,
    /// When its first packet arrived, monotonic.
    pub received_at: Instant,
    /// When it was taken or arrived, wall clock.
    pub wall: SystemTime,
    /// Which of the two `wall` is.
    pub ts_source: TsSource,
    /// Presentation time.
    pub pts_ns: Option<u64>,
    /// From tensor pixels back to the frame's.
    pub geometry: Geometry,
    /// Frame width in pixels.
    pub width: u32,
    /// Frame height in pixels.
    pub height: u32,
    /// The frame number that the test camera drew, where asked for.
    pub stamp: Option<u32>,
}

/// What stays with a camera from opening to opening, used by one opening at a time.
#[derive(Debug)]
pub struct Bench {
    /// Tables and buffers.
    pub preprocessor: Preprocessor,
    /// Present where `freeze_timeout` is set.
    pub freeze: Option<FreezeWatch>,
    /// Present with `motion_gate` or `decode = "lazy"`.
    pub motion: Option<MotionGate>,
    /// That frames cannot be compared has been said.
    is_blind: bool,
    mask: PrivacyMask,
    mask_version: u64,
}

impl Bench {
    /// Tools; the masks come with the first frame.
    pub fn new(preprocessor: Preprocessor, freeze: Option<FreezeWatch>, motion: Option<MotionGate>) -> Self {
        Self { preprocessor, freeze, motion, is_blind: false, mask: PrivacyMask::default(), mask_version: 0 }
    }

    /// Forgets what it saw: another opening begins.
    pub fn reset(&mut self) {
        if let Some(freeze) = &mut self.freeze {
            freeze.reset();
        }
        if let Some(motion) = &mut self.motion {
            motion.reset();
        }
    }
}

/// How a pump ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// It was asked to.
    Stopped,
    /// The stream is over or broken.
    Fault(Fault),
}

/// One opening's loop.
#[derive(Debug)]
pub struct Pump<'a> {
    /// The camera.
    pub feed: &'a Arc<Feed>,
    /// The opening's mailbox.
    pub mailbox: &'a Mailbox,
    /// The opening.
    pub generation: u64,
    /// The camera's tools.
    pub bench: &'a mut Bench,
    /// Who may send.
    pub turnstile: &'a Arc<Turnstile>,
    /// To the engine. Has room for every slot there is.
    pub work: &'a Sender<Work>,
    /// Frames older than this are not worth an inference.
    pub max_frame_age: Duration,
    /// Look for the test camera's frame number.
    pub read_stamp: bool,
    /// Where frames in device memory are.
    pub gpu: Option<Gpu>,
    /// Set to end the loop; ring the feed's bell afterwards.
    pub stop: &'a AtomicBool,
}

/// What a step left to do.
enum Next {
    Again,
    WaitUntil(Instant),
}

impl Pump<'_> {
    /// Runs until stopped or until the stream is over. `first_frame` is called once, at the first sign of life.
    pub fn run(&mut self, first_frame: &dyn Fn()) -> End {
        let mut alive = false;
        let end = loop {
            if self.stop.load(Ordering::Acquire) {
                break End::Stopped;
            }
            if !alive && self.feed.last_progress().is_some() {
                alive = true;
                first_frame();
            }
            match self.step(clock::now()) {
                Ok(Next::Again) => {}
                Ok(Next::WaitUntil(deadline)) => {
                    // The last frames of a file are frames: its end waits until they have been seen.
                    let drained = self.is_drained();
                    let due = |fault: &Fault| fault.reason != Reason::Ended || drained;
                    if let Some(fault) = self.mailbox.take_fault_if(due) {
                        break End::Fault(fault);
                    }
                    self.feed.bell().wait_until(deadline);
                }
                Err(end) => break end,
            }
        };
        self.turnstile.leave(self.feed.index);
        end
    }

    /// No frame waits and none is on its way.
    fn is_drained(&self) -> bool {
        !self.mailbox.has_frame() && self.feed.pool.free() == self.feed.pool.capacity()
    }

    fn step(&mut self, now: Instant) -> Result<Next, End> {
        if !self.mailbox.has_frame() {
            return Ok(Next::WaitUntil(now + IDLE));
        }
        if now.checked_sub(self.max_frame_age).is_some_and(|oldest| self.mailbox.is_too_old(oldest)) {
            if self.mailbox.take().is_some() {
                self.feed.dropped(Outcome::TooOld);
            }
            return Ok(Next::Again);
        }
        // Detections of a camera that has not yet said that it streams would confuse every reader; the
        // announcement rings the bell.
        if !self.feed.is_announced(self.generation) {
            return Ok(Next::WaitUntil(now + IDLE));
        }
        // Its return rings the bell.
        let Some(mut slot) = self.feed.pool.take() else {
            return Ok(Next::WaitUntil(now + IDLE));
        };
        match self.turnstile.ask(self.feed.index, now) {
            Ok(ticket) => slot.admit(ticket),
            Err(until) => {
                slot.put_back();
                return Ok(Next::WaitUntil(until.unwrap_or(now + IDLE)));
            }
        }
        match self.mailbox.take() {
            Some(numbered) => self.send(numbered, slot),
            None => Ok(Next::Again),
        }
    }

    fn send(&mut self, numbered: Numbered, mut slot: Slot) -> Result<Next, End> {
        let Numbered { seq, arrived, .. } = numbered;
        if let Some(end) = self.frozen(&arrived) {
            return Err(end);
        }
        if self.is_still(&arrived) {
            self.feed.dropped(Outcome::Still);
            return Ok(Next::Again);
        }
        if !self.bench.preprocessor.fits(slot.form()) {
            let Some(preprocessor) = self.feed.take_refit(slot.form()) else {
                // Another engine has taken over since the slot was taken: the next slot will be of its form.
                self.feed.dropped(Outcome::Superseded);
                return Ok(Next::Again);
            };
            self.bench.preprocessor = preprocessor;
        }
        let Bench { preprocessor, mask, mask_version, .. } = &mut *self.bench;
        if let Some(polygons) = self.feed.newer_masks(mask_version) {
            *mask = PrivacyMask::new(polygons);
        }
        let geometry = match preprocessor.run(&arrived.frame, mask, &mut slot) {
            Ok(geometry) => geometry,
            Err(PreprocessError::Device(error)) => {
                // The GPU refuses, not the frame: one sentence and a pause, not one for every frame.
                self.feed.dropped(Outcome::EngineError);
                return Err(End::Fault(Fault { reason: Reason::Internal, detail: error.to_string() }));
            }
            Err(error) => {
                self.feed.dropped(Outcome::DecodeError);
                tracing::debug!(camera = self.feed.name(), %error, "a frame could not be read");
                return Ok(Next::Again);
            }
        };
        let work = Work {
            slot,
            feed: Arc::clone(self.feed),
            generation: self.generation,
            seq,
            arrived_at: arrived.at,
            received_at: arrived.received_at,
            wall: arrived.wall,
            ts_source: arrived.ts_source,
            pts_ns: arrived.frame.pts_ns(),
            geometry,
            width: geometry.source_width,
            height: geometry.source_height,
            stamp: self.stamp(&arrived.frame),
        };
        match self.work.try_send(work) {
            // The engine may begin; the frame goes back to its decoder when it has been read.
            Ok(()) => match self.bench.preprocessor.finish(&arrived.frame) {
                Ok(()) => Ok(Next::Again),
                Err(error) => {
                    let detail = error.to_string();
                    Err(End::Fault(Fault { reason: Reason::Internal, detail }))
                }
            },
            // The channel has room for all slots, so only an engine that is gone ends here.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.feed.dropped(Outcome::Shutdown);
                Err(End::Stopped)
            }
        }
    }
}

impl Pump<'_> {
    /// The end of an opening whose picture stands still, where somebody wants to know.
    fn frozen(&mut self, arrived: &Arrived) -> Option<End> {
        let freeze = self.bench.freeze.as_mut()?;
        let frozen = match arrived.frame.pixels() {
            Pixels::Host(picture) => Ok(freeze.is_frozen(&picture, arrived.at)),
            Pixels::Device(picture) => match &self.gpu {
                Some(gpu) => freeze.is_frozen_on(gpu, &picture, arrived.at),
                None => Ok(false),
            },
        };
        let (outcome, reason, detail) = match frozen {
            Ok(false) => return None,
            Ok(true) => {
                let detail = "timestamps run, but the picture has not changed".to_owned();
                (Outcome::StaleGeneration, Reason::FrozenPicture, detail)
            }
            Err(error) => (Outcome::EngineError, Reason::Internal, error.to_string()),
        };
        self.feed.dropped(outcome);
        Some(End::Fault(Fault { reason, detail }))
    }

    /// Whether the frame need not be inferred because nothing moves, where somebody wants to know.
    fn is_still(&mut self, arrived: &Arrived) -> bool {
        let Bench { motion: Some(motion), is_blind, .. } = &mut *self.bench else { return false };
        let Pixels::Host(picture) = arrived.frame.pixels() else {
            if !std::mem::replace(is_blind, true) {
                let camera = self.feed.name();
                tracing::warn!(camera, "{BLIND}");
            }
            return false;
        };
        let look = motion.look(&picture, arrived.at, self.feed.last_object());
        self.mailbox.looked(look.moved, arrived.at);
        !look.infer
    }

    /// Drawn by the test camera for the eyes of the host.
    fn stamp(&self, frame: &Decoded) -> Option<u32> {
        frame.picture().filter(|_| self.read_stamp).and_then(|picture| read_stamp(&picture))
    }
}

fn read_stamp(picture: &Picture<'_>) -> Option<u32> {
    let (Layout::Planar { y, .. } | Layout::Nv12 { y, .. } | Layout::Gray { y }) = picture.layout else {
        // The test camera sends video, and video is luma and chroma.
        return None;
    };
    watchpost_scene::stamp::read(y.data, y.stride_bytes, picture.width as usize, picture.height as usize)
}
