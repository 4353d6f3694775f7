//! The way out of a pipeline: who gets its samples and its messages.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use gstreamer as gst;
use gstreamer_app as gst_app;

use crate::capture_time::CaptureClock;
use crate::coded::PictureKind;
use crate::failure::{Failure, FailureClass};
use crate::frame::{Frame, Origin, Pixels};
use crate::rtp_times::RtpTimes;

/// What becomes of a coded picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// It is decoded. Those that were kept are decoded first, from this one on, some with every picture that arrives, until
    /// none is left.
    Decode,
    /// It is kept, undecoded. A picture that needs no other is decoded, and those that were kept are thrown away.
    Keep,
    /// It is thrown away, and what needs it too.
    Leave,
}

/// What gets a live pipeline's frames and events.
///
/// All are called from GStreamer's streaming threads and must return at once: a receiver that waits stops
/// its camera. None may stop the pipeline it is called from. None is called after
/// [`Pipeline::stop`](crate::Pipeline::stop) has returned.
pub trait Receiver: Send + Sync {
    /// A decoded picture.
    fn frame(&self, frame: Frame);
    /// Something else happened.
    fn event(&self, event: Event);
    /// Whether the next coded picture, of this kind, is to be decoded. Asked for each, in order.
    fn wants(&self, _kind: PictureKind) -> bool {
        true
    }
    /// What becomes of the next coded picture, of this kind and size. Asked for each, in order.
    fn judge(&self, kind: PictureKind, _size_bytes: usize) -> Judgement {
        if self.wants(kind) { Judgement::Decode } else { Judgement::Leave }
    }
    /// Whether a frame would be welcome at once. Asked while kept pictures are decoded, which may be faster than frames are
    /// needed.
    fn is_ready(&self) -> bool {
        true
    }
    /// A picture was kept. `mark` is that of [`Self::skipped`].
    fn kept(&self, _mark: Option<u64>) {}
    /// All kept pictures have been decoded.
    fn caught_up(&self) {}
    /// Whether some pictures are left out at present: a decoder may then be given less than it needs to show one.
    fn leaves_out(&self) -> bool {
        false
    }
    /// A picture was thrown away undecoded, also because the pipeline is being stopped. `mark` moves with the stream's own
    /// timestamps and stands still when they do.
    fn skipped(&self, _mark: Option<u64>) {}
    /// A network camera has been brought so far.
    fn stage(&self, _stage: Stage) {}
}

/// How far the opening of a network camera has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A connection is being made.
    Connecting,
    /// It is there, and the camera is being asked what it has and to send it.
    Asking,
    /// The camera has agreed to send.
    Awaiting,
}

/// What a pipeline says besides its frames.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The source ended: the file is over, or the camera said goodbye. Nothing follows.
    Eos,
    /// The pipeline failed. Nothing follows; it has to be stopped and built again.
    Error(Failure),
    /// Something is wrong that the pipeline survives.
    Warning(Failure),
    /// What the source turned out to be; comes just before the first frame.
    SourceInfo(SourceInfo),
}

/// What a source turned out to be.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SourceInfo {
    /// `"H.264"`, `"H.265"`, `"JPEG"`, …; `None` for a camera that sends raw pictures.
    pub codec: Option<String>,
    /// The GStreamer element that decodes, for example `"avdec_h264"`.
    pub decoder: Option<String>,
    /// A GPU or video unit decodes.
    pub hardware: bool,
    /// Where its pictures are.
    pub memory: Memory,
    /// Why the CPU decodes although the spec names a GPU, or although a video unit's decoder is installed; `None`
    /// where hardware does, or there is none.
    pub why_not_hardware: Option<String>,
    /// Frames a second as the stream declares them; `None` where it does not.
    pub declared_fps: Option<f64>,
    /// The stream's colorimetry in GStreamer's notation, for example `"bt709"`.
    pub colorimetry: Option<String>,
}

/// Where decoded pictures are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Memory {
    /// In system memory.
    #[default]
    System,
    /// In the memory of an NVIDIA GPU.
    Cuda,
}

impl Memory {
    /// A stable name for reports: `"system"`, `"cuda"`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Cuda => "cuda",
        }
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "system memory",
            Self::Cuda => "CUDA memory",
        })
    }
}

/// What [`PullPipeline::pull`](crate::PullPipeline::pull) came back with.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly every one is a frame, and boxing it would allocate for each"
)]
pub enum Pull {
    /// The next picture.
    Frame(Frame),
    /// There are no more.
    Eos,
    /// The pipeline failed and will give no more.
    Error(Failure),
    /// Nothing within the timeout; ask again.
    TimedOut,
}

/// What a network camera says of its own time.
#[derive(Clone, Copy)]
pub(crate) struct Times<'a> {
    /// The timestamps of its packets.
    pub(crate) rtp_times: &'a RtpTimes,
    /// From stream time to the camera's clock.
    pub(crate) capture_clock: &'a CaptureClock,
}

/// Where samples and messages of one pipeline go.
pub(crate) trait Outlet: Send + Sync {
    /// A decoded sample waits in `sink`. Runs on the streaming thread. An error says why it cannot be read.
    fn sample(&self, sink: &gst_app::AppSink, origin: Origin<'_>) -> Result<(), String>;
    /// A message. The first [`Event::Eos`] or [`Event::Error`] is the last event.
    fn event(&self, event: Event);
    /// See [`Receiver::judge`].
    fn judge(&self, _kind: PictureKind, _size_bytes: usize) -> Judgement {
        Judgement::Decode
    }
    /// See [`Receiver::is_ready`].
    fn is_ready(&self) -> bool {
        true
    }
    /// See [`Receiver::kept`].
    fn kept(&self, _mark: Option<u64>) {}
    /// See [`Receiver::caught_up`].
    fn caught_up(&self) {}
    /// See [`Receiver::leaves_out`].
    fn leaves_out(&self) -> bool {
        false
    }
    /// See [`Receiver::skipped`].
    fn skipped(&self, _mark: Option<u64>) {}
    /// See [`Receiver::stage`].
    fn stage(&self, _stage: Stage) {}
    /// From now on nothing gets out but what is thrown away; returns when the last callback has.
    fn close(&self);
    /// The last word has been said.
    fn finish(&self) {}
}

/// Pushes to a [`Receiver`].
pub(crate) struct Push {
    /// A callback holds the lock for reading, so closing waits for it.
    receiver: RwLock<Listener>,
    progress: Mutex<Progress>,
}

/// Who listens, and to what.
enum Listener {
    All(Arc<dyn Receiver>),
    /// Of a pipeline that is being taken down: only to what becomes of pictures that were kept.
    Ends(Arc<dyn Receiver>),
    None,
}

#[derive(Default)]
struct Progress {
    described: bool,
    finished: bool,
}

impl Push {
    pub(crate) fn new(receiver: Arc<dyn Receiver>) -> Self {
        Self { receiver: RwLock::new(Listener::All(receiver)), progress: Mutex::default() }
    }

    fn with_receiver(&self, call: impl FnOnce(&dyn Receiver)) {
        if let Listener::All(receiver) = &*self.listener() {
            call(&**receiver);
        }
    }

    fn listener(&self) -> RwLockReadGuard<'_, Listener> {
        self.receiver.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outlet for Push {
    fn sample(&self, sink: &gst_app::AppSink, origin: Origin<'_>) -> Result<(), String> {
        // A missing sample means that the sink is being shut down or that a newer one took its place.
        let Some(sample) = sink.try_pull_sample(gst::ClockTime::ZERO) else {
            return Ok(());
        };
        let frame = Frame::new(&sample, sink, origin)?;
        let describe = !std::mem::replace(&mut self.progress().described, true);
        self.with_receiver(|receiver| {
            if describe {
                let memory = match frame.pixels() {
                    Pixels::Device(_) => Memory::Cuda,
                    Pixels::Host(_) => Memory::System,
                };
                let why_not_hardware = origin.why_not_hardware.map(str::to_owned);
                receiver.event(Event::SourceInfo(SourceInfo {
                    hardware: origin.is_hardware,
                    memory,
                    why_not_hardware,
                    ..crate::build::describe(sink, &sample)
                }));
            }
            receiver.frame(frame);
        });
        Ok(())
    }

    fn event(&self, event: Event) {
        {
            let mut progress = self.progress();
            if progress.finished {
                return;
            }
            progress.finished = matches!(event, Event::Eos | Event::Error(_));
        }
        self.with_receiver(|receiver| receiver.event(event));
    }

    fn judge(&self, kind: PictureKind, size_bytes: usize) -> Judgement {
        match &*self.listener() {
            Listener::All(receiver) => receiver.judge(kind, size_bytes),
            // Nobody would see it.
            Listener::Ends(_) | Listener::None => Judgement::Leave,
        }
    }

    fn is_ready(&self) -> bool {
        matches!(&*self.listener(), Listener::All(receiver) if receiver.is_ready())
    }

    fn kept(&self, mark: Option<u64>) {
        self.with_receiver(|receiver| receiver.kept(mark));
    }

    fn caught_up(&self) {
        self.with_receiver(|receiver| receiver.caught_up());
    }

    fn leaves_out(&self) -> bool {
        matches!(&*self.listener(), Listener::All(receiver) if receiver.leaves_out())
    }

    fn skipped(&self, mark: Option<u64>) {
        match &*self.listener() {
            Listener::All(receiver) | Listener::Ends(receiver) => receiver.skipped(mark),
            Listener::None => {}
        }
    }

    fn stage(&self, stage: Stage) {
        self.with_receiver(|receiver| receiver.stage(stage));
    }

    fn close(&self) {
        let mut listener = self.receiver.write().unwrap_or_else(PoisonError::into_inner);
        if let Listener::All(receiver) = std::mem::replace(&mut *listener, Listener::None) {
            *listener = Listener::Ends(receiver);
        }
    }

    fn finish(&self) {
        *self.receiver.write().unwrap_or_else(PoisonError::into_inner) = Listener::None;
    }
}

/// Keeps samples in the sink, which holds back the pipeline when it is full, until somebody pulls.
#[derive(Default)]
pub(crate) struct Inbox {
    state: Mutex<InboxState>,
    changed: Condvar,
}

#[derive(Default)]
struct InboxState {
    /// Samples that the sink announced and nobody pulled.
    ready_count: usize,
    end: Option<Event>,
    closed: bool,
}

impl Inbox {
    fn state(&self) -> MutexGuard<'_, InboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn pull(&self, sink: &gst_app::AppSink, origin: Origin<'_>, timeout: Duration) -> Pull {
        let (mut state, _) = self
            .changed
            .wait_timeout_while(self.state(), timeout, |state| {
                state.ready_count == 0 && state.end.is_none() && !state.closed
            })
            .unwrap_or_else(PoisonError::into_inner);
        if state.ready_count > 0 {
            state.ready_count -= 1;
            drop(state);
            return match sink.try_pull_sample(gst::ClockTime::ZERO) {
                Some(sample) => match Frame::new(&sample, sink, origin) {
                    Ok(frame) => Pull::Frame(frame),
                    Err(reason) => Pull::Error(Failure::new(FailureClass::Decode, reason)),
                },
                None => Pull::TimedOut,
            };
        }
        match &state.end {
            Some(Event::Error(failure)) => Pull::Error(failure.clone()),
            Some(_) => Pull::Eos,
            None => Pull::TimedOut,
        }
    }
}

impl Outlet for Inbox {
    fn sample(&self, _sink: &gst_app::AppSink, _origin: Origin<'_>) -> Result<(), String> {
        self.state().ready_count += 1;
        self.changed.notify_all();
        Ok(())
    }

    fn event(&self, event: Event) {
        let mut state = self.state();
        if state.end.is_none() && matches!(event, Event::Eos | Event::Error(_)) {
            state.end = Some(event);
            drop(state);
            self.changed.notify_all();
        }
    }

    fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }
}
