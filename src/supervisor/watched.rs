//! One camera under supervision: its state machine, its thread, its story.

use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use watchpost_cuda::Gpu;

use super::Message;
use super::identities::{self, Memory};
use super::opening::{Opening, Running};
use super::shedding::Level;
use super::station::HandedOn;
use crate::camera::{Action, Announcement, BackoffOptions, Input, Limits, Machine, Reason, State};
use crate::clock;
use crate::config::{CameraOptions, SupervisorOptions};
use crate::frame::{
    Bench, Feed, FreezeWatch, GateOptions, MotionGate, Preprocessor, SlotForm, Turnstile, Work,
};
use crate::publish::{CameraState, Publisher};
use crate::source::{Fault, Source};

/// Why load is shed.
const SHED_WORDS: &str = "memory is above memory.soft_limit";

/// What every camera needs of the house.
pub(super) struct House {
    pub turnstile: Arc<Turnstile>,
    pub work: Sender<Work>,
    pub supervisor: Sender<Message>,
    pub publisher: Arc<Publisher>,
    /// Whose decoders may be used: the engine is on it, or will be.
    pub gpu: Option<Gpu>,
    pub handed_on: HandedOn,
}

/// What compares the camera's frames, where somebody wants to know.
fn gate(options: &CameraOptions) -> Option<MotionGate> {
    GateOptions::of(options).map(MotionGate::new)
}

/// One camera.
pub(super) struct Watched {
    pub options: Arc<CameraOptions>,
    pub feed: Arc<Feed>,
    pub machine: Machine,
    source: Arc<dyn Source>,
    bench: Arc<Mutex<Bench>>,
    /// Who is in the picture.
    pub memory: Memory,
    running: Option<Running>,
    /// Threads of wedged openings, which nobody waits for. At most `max_wedged` + 1 in the process.
    pub wedged: Vec<Running>,
    /// What a reload made of it, until it has come to rest.
    next: Next,
    /// What the last fault said, for the announcement that follows it.
    detail: Option<String>,
    /// Why the camera is where it is, for `debug`.
    pub reason: Option<Reason>,
    pub rate: Rate,
    /// What is given up of it.
    pub shed: Level,
    /// It was closed for that, and will be opened again.
    paused: bool,
}

impl Watched {
    pub fn new(
        options: CameraOptions,
        source: Arc<dyn Source>,
        feed: Arc<Feed>,
        preprocessor: Preprocessor,
        supervisor: &SupervisorOptions,
    ) -> Self {
        let limits = limits(&options, supervisor);
        let seed = seed(&options.name);
        let bench = Bench::new(preprocessor, options.freeze_timeout.map(FreezeWatch::new), gate(&options));
        feed.set_masks(&options.privacy_masks);
        Self {
            options: Arc::new(options),
            feed,
            machine: Machine::new(limits, seed),
            source,
            bench: Arc::new(Mutex::new(bench)),
            memory: Memory::default(),
            running: None,
            wedged: Vec::new(),
            next: Next::Nothing,
            detail: None,
            reason: None,
            rate: Rate::default(),
            shed: Level::Full,
            paused: false,
        }
    }

    /// Feeds one input and does what follows from it.
    pub fn handle(&mut self, input: Input, now: Instant, house: &House) {
        self.machine.handle(input, now);
        let mut unopened = None;
        while let Some(action) = self.machine.next_action() {
            match action {
                Action::Open { generation } => {
                    if let Err(error) = self.open(generation, house) {
                        unopened = Some((generation, error));
                    }
                }
                Action::Close { generation } => self.close(generation),
                Action::Announce(announcement) => self.announce(announcement, house),
            }
        }
        if let Some((generation, error)) = unopened {
            self.detail = Some(format!("no thread could be started for the camera: {error}"));
            self.handle(Input::Failed { generation, reason: Reason::Internal }, now, house);
            self.handle(Input::Closed { generation }, now, house);
        }
    }

    /// An opening reported that its stream is over or broken.
    pub fn failed(&mut self, generation: u64, fault: Fault, now: Instant, house: &House) {
        if generation == self.machine.generation() {
            self.detail = Some(fault.detail);
        }
        self.handle(Input::Failed { generation, reason: fault.reason }, now, house);
    }

    /// An opening's thread is done.
    pub fn closed(&mut self, generation: u64, now: Instant, house: &House) {
        if let Some(running) = self.running.take_if(|running| running.generation == generation) {
            running.join();
        }
        self.wedged.retain(|running| running.generation != generation);
        self.feed.end_generation();
        self.handle(Input::Closed { generation }, now, house);
    }

    /// Tells the machine of new frames and of the time.
    pub fn look(&mut self, now: Instant, house: &House) {
        if matches!(self.machine.state(), State::Opening { .. } | State::Streaming { .. })
            && let Some(at) = self.feed.last_progress()
        {
            let generation = self.machine.generation();
            self.handle(Input::Progress { generation, at }, now, house);
        }
        self.handle(Input::Tick, now, house);
    }

    /// Gives up so much of the camera, and tells.
    pub fn shed(&mut self, level: Level, now: Instant, house: &House) {
        self.shed = level;
        self.feed.metrics.set_shed_level(level as u64);
        // Half of what it is to detect, or of what it sends.
        let half = self.options.detect_fps.unwrap_or(self.rate.fps.max(1.0)) / 2.0;
        let fps = match level {
            Level::Full => None,
            Level::Half => Some(half),
            Level::Slow | Level::Keyframes | Level::Paused => Some(half.min(1.0)),
        };
        self.feed.shed(fps.map(|fps| Duration::from_secs_f64(1.0 / fps)), level >= Level::Keyframes);
        if level == Level::Paused {
            // A finite input that has ended rests already, and must not begin again with the others.
            self.paused = self.machine.state() != State::Stopped;
            if self.paused {
                self.detail = Some(SHED_WORDS.to_owned());
                self.handle(Input::Pause, now, house);
            }
        } else if std::mem::take(&mut self.paused) {
            // A reload that has something else in mind for it begins by itself.
            if matches!(self.next, Next::Nothing) {
                self.handle(Input::Start, now, house);
            }
        } else {
            self.announce_shed(fps, house);
        }
    }

    fn announce_shed(&self, fps: Option<f64>, house: &House) {
        let camera = self.feed.name();
        let (reason, detail) = match (self.shed, fps) {
            (Level::Keyframes, Some(fps)) => (
                "shed",
                format!("{SHED_WORDS}: only keyframes are decoded, and {fps:.1} of them a second detected"),
            ),
            (_, Some(fps)) => {
                ("shed", format!("{SHED_WORDS}: at most {fps:.1} frames a second are detected"))
            }
            (_, None) => ("restored", "detection is as configured again".to_owned()),
        };
        match self.shed {
            Level::Full => tracing::info!(camera, "{detail}"),
            _ => tracing::warn!(camera, reason, "{detail}"),
        }
        house.publisher.camera_state(&CameraState {
            camera,
            generation: self.machine.generation(),
            ts: clock::wall(),
            state: wire_state(&self.machine.state()),
            reason: Some(reason),
            detail: Some(&detail),
            retry_in_ms: None,
            shed: self.shed.as_str(),
        });
    }

    /// Openings whose teardown has not returned.
    pub fn wedged_count(&self) -> usize {
        self.wedged.iter().filter(|running| !running.is_finished()).count()
    }

    /// Nothing runs and nothing is being torn down that could still end in time.
    pub fn is_at_rest(&self) -> bool {
        matches!(self.machine.state(), State::Stopped | State::Wedged { .. })
    }

    /// Frames arrive.
    pub fn is_streaming(&self) -> bool {
        matches!(self.machine.state(), State::Streaming { .. })
    }

    /// It came to its end in order.
    pub fn has_ended(&self) -> bool {
        self.machine.state() == State::Stopped && self.reason == Some(Reason::Ended)
    }

    /// Nothing has started it yet.
    pub fn is_new(&self) -> bool {
        self.machine.generation() == 0 && matches!(self.next, Next::Nothing)
    }

    /// A reload before has already decided that its present opening ends, and what follows.
    pub fn is_leaving(&self) -> bool {
        !matches!(self.next, Next::Nothing)
    }

    /// The process ends: what a reload wanted to begin does not begin any more.
    pub fn begin_no_more(&mut self) {
        self.next = Next::Nothing;
    }

    /// Options that need no other opening.
    pub fn adopt(&mut self, options: CameraOptions) {
        if matches!(self.next, Next::Gone) {
            return;
        }
        self.feed.set_masks(&options.privacy_masks);
        self.options = Arc::new(options);
    }

    /// It is no longer configured: it comes to rest and goes.
    pub fn retire(&mut self, now: Instant, house: &House) {
        self.next = Next::Gone;
        self.handle(Input::Stop, now, house);
    }

    /// It comes to rest and begins again with other options; its generations and frame numbers go on.
    pub fn reopen_as(
        &mut self,
        options: CameraOptions,
        source: Arc<dyn Source>,
        supervisor: &SupervisorOptions,
        now: Instant,
        house: &House,
    ) {
        let limits = limits(&options, supervisor);
        // What is to be masked is, also until the old opening has ended.
        self.feed.set_masks(&options.privacy_masks);
        self.next = Next::Reopened(Box::new(Successor { options, source, limits }));
        self.handle(Input::Stop, now, house);
    }

    /// Whether it was to go, and has.
    pub fn has_gone(&self) -> bool {
        matches!(self.next, Next::Gone) && self.machine.state() == State::Stopped
    }

    /// Begins again as the reload says, once it has come to rest.
    pub fn begin_again_if_at_rest(&mut self, form: &SlotForm, now: Instant, house: &House) {
        if self.machine.state() != State::Stopped {
            return;
        }
        let successor = match std::mem::replace(&mut self.next, Next::Nothing) {
            Next::Reopened(successor) => *successor,
            other => {
                self.next = other;
                return;
            }
        };
        let Successor { options, source, limits } = successor;
        self.machine.set_limits(limits, seed(&options.name));
        let freeze = options.freeze_timeout.map(FreezeWatch::new);
        // A wedged opening holds the bench for good; it is left to it.
        let is_held = matches!(self.bench.try_lock(), Err(TryLockError::WouldBlock));
        if !is_held {
            let mut bench = self.bench.lock().unwrap_or_else(PoisonError::into_inner);
            (bench.freeze, bench.motion) = (freeze, gate(&options));
        } else {
            match Preprocessor::new(form) {
                Ok(preprocessor) => {
                    self.bench = Arc::new(Mutex::new(Bench::new(preprocessor, freeze, gate(&options))));
                }
                Err(error) => tracing::warn!(camera = options.name, "nothing to letterbox with: {error}"),
            }
        }
        (self.options, self.source) = (Arc::new(options), source);
        if !self.paused {
            self.handle(Input::Start, now, house);
        }
    }

    fn open(&mut self, generation: u64, house: &House) -> std::io::Result<()> {
        self.feed.begin_generation(generation);
        self.feed.metrics.set_generation(generation);
        self.detail = None;
        let opening = Opening {
            options: Arc::clone(&self.options),
            source: Arc::clone(&self.source),
            feed: Arc::clone(&self.feed),
            bench: Arc::clone(&self.bench),
            turnstile: Arc::clone(&house.turnstile),
            work: house.work.clone(),
            supervisor: house.supervisor.clone(),
            generation,
            gpu: house.gpu.clone(),
        };
        self.source.use_gpu(house.gpu.as_ref());
        self.running = Some(opening.spawn()?);
        Ok(())
    }

    fn close(&mut self, generation: u64) {
        self.feed.end_generation();
        if let Some(running) = self.running.as_ref().filter(|running| running.generation == generation) {
            running.ask_to_close(&self.feed);
        }
    }

    fn announce(&mut self, announcement: Announcement, house: &House) {
        let Announcement { generation, state, reason, retry_in } = announcement;
        self.reason = reason;
        self.feed.metrics.set_up(matches!(state, State::Streaming { .. }));
        if let State::Closing { reason, .. } = state {
            if reason.is_fault() {
                self.feed.metrics.restart(reason);
            }
            if self.detail.is_none() {
                self.detail = self.own_words(reason);
            }
        }
        if matches!(state, State::Wedged { .. }) {
            self.wedged.extend(self.running.take());
        }
        if reason == Some(Reason::Shutdown) {
            self.detail = None;
        }
        if state == State::Stopped && !self.paused && !matches!(self.next, Next::Reopened(_)) {
            identities::end(&self.memory, &self.feed, &house.publisher);
        }
        let detail = reason.and(self.detail.as_deref());
        log(self.feed.name(), &announcement, detail);
        house.publisher.camera_state(&CameraState {
            camera: self.feed.name(),
            generation,
            ts: clock::wall(),
            state: wire_state(&state),
            reason: reason.map(Reason::as_str),
            detail,
            retry_in_ms: retry_in.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            shed: self.shed.as_str(),
        });
        if matches!(state, State::Streaming { .. }) {
            self.feed.announced(generation);
        }
    }

    /// What a deadline of ours says about the camera.
    fn own_words(&self, reason: Reason) -> Option<String> {
        let seconds = |time: Duration| time.as_secs_f64();
        match reason {
            Reason::Stalled => Some(format!("no new frame for {:.1} s", seconds(self.options.stall_timeout))),
            Reason::OpenTimeout => {
                let words = self.feed.stage().as_words();
                let colon = if words.is_empty() { "" } else { ": " };
                Some(format!(
                    "no first frame within {:.1} s{colon}{words}",
                    seconds(self.options.open_timeout)
                ))
            }
            _ => None,
        }
    }
}

/// What a reload made of a camera.
enum Next {
    Nothing,
    Gone,
    Reopened(Box<Successor>),
}

struct Successor {
    options: CameraOptions,
    source: Arc<dyn Source>,
    limits: Limits,
}

fn limits(options: &CameraOptions, supervisor: &SupervisorOptions) -> Limits {
    Limits {
        open_timeout: options.open_timeout,
        stall_timeout: options.stall_timeout,
        teardown_timeout: supervisor.teardown_timeout,
        healthy_after: supervisor.healthy_after,
        backoff: BackoffOptions { min: supervisor.backoff_min, max: supervisor.backoff_max },
    }
}

/// FNV-1a of the name: cameras differ, and one camera's waits can be told from its log again.
fn seed(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn wire_state(state: &State) -> crate::publish::State {
    match state {
        State::Stopped => crate::publish::State::Stopped,
        State::Opening { .. } => crate::publish::State::Opening,
        State::Streaming { .. } => crate::publish::State::Streaming,
        State::Closing { .. } => crate::publish::State::Closing,
        State::BackingOff { .. } => crate::publish::State::BackingOff,
        State::Wedged { .. } => crate::publish::State::Wedged,
    }
}

/// The log tells the story in calm sentences: one when something changes, none while it lasts.
fn log(camera: &str, announcement: &Announcement, detail: Option<&str>) {
    let generation = announcement.generation;
    let reason = announcement.reason.map_or("", Reason::as_str);
    let detail = detail.unwrap_or(reason);
    match announcement.state {
        State::Opening { .. } => tracing::info!(camera, generation, "opening"),
        State::Streaming { .. } => tracing::info!(camera, generation, "streaming"),
        State::Closing { reason: Reason::Shutdown | Reason::Ended, .. } => {
            tracing::info!(camera, generation, "closing: {detail}");
        }
        State::Closing { .. } => tracing::warn!(camera, generation, reason, "closing: {detail}"),
        State::BackingOff { .. } => {
            let wait = announcement.retry_in.unwrap_or_default().as_secs_f64();
            tracing::info!(camera, generation, reason, "next try in {wait:.1} s");
        }
        State::Wedged { .. } => {
            tracing::error!(
                camera,
                generation,
                reason,
                "the teardown does not return; the camera is left alone"
            );
        }
        State::Stopped => tracing::info!(camera, generation, "stopped: {detail}"),
    }
}

/// Frames a second, measured between two looks.
#[derive(Debug, Default)]
pub(super) struct Rate {
    frames: u64,
    at: Option<Instant>,
    pub fps: f64,
}

impl Rate {
    /// `frames` have come so far.
    pub fn measure(&mut self, frames: u64, now: Instant) {
        if let Some(at) = self.at {
            let seconds = now.saturating_duration_since(at).as_secs_f64();
            if seconds > 0.0 {
                self.fps = frames.saturating_sub(self.frames) as f64 / seconds;
            }
        }
        self.frames = frames;
        self.at = Some(now);
    }
}
