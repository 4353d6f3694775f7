//! One thread that never blocks on what it supervises.
//!
//! ```text
//!   cam-gate  ─┐ first frame, failed, closed                ┌─► open / close openings
//!   cam-yard  ─┤                                            │
//!   engine-0  ─┼─► inbox (bounded) ─► Supervisor ──────────┼─► camera_state records
//!   signals   ─┤                        │ one Machine each   │
//!   debug     ─┘                        └ watchdog, 1 a s    └─► verdict: how the process ends
//! ```
//!
//! The supervisor sleeps until a message comes or the nearest deadline of a machine passes. It never joins
//! a thread that has not said it is done, and never sends to a channel that could be full.

mod alarm;
mod debug;
mod debug_socket;
mod identities;
mod memory;
mod notify;
mod opening;
mod reload;
mod renew;
mod results;
mod sentinel;
mod shedding;
mod start;
mod station;
mod takeover;
mod watchdog;
mod watched;
mod wishes;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use watchpost_cuda::Gpu;

use crate::camera::Input;
use crate::clock;
use crate::config::Config;
use crate::descriptors;
use crate::engine::{EngineError, Order, Pulse};
use crate::frame::SlotForm;
use crate::metrics::Registry;
use crate::source::Fault;
use notify::Notify;
use opening::Running;
use station::Outputs;
use watchdog::{Tolerances, Vitals};
use watched::{House, Watched};

pub use alarm::Alarm;
pub use debug::{CameraDebug, DebugState};
pub use memory::MemoryWatch;
pub use notify::still_starting;
pub use reload::{Reloader, Renewed};
pub use results::ModelTag;
pub use sentinel::Pace as GrowthPace;
pub use shedding::Pace as SheddingPace;
pub use start::{Parts, StartError};
pub use station::{CANDIDATES_MAX, Detector, Upgrade};
pub use wishes::{Wish, lacking, lowest_shown};

/// The watchdog looks this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Woken up so late the supervisor was not asleep: the process was stopped.
const PAUSE: Duration = Duration::from_secs(1);
/// Cameras get this long to come to rest when the process ends.
const REST_WITHIN: Duration = Duration::from_millis(1200);
/// Then the engine and the outputs get this long.
const FLUSH_WITHIN: Duration = Duration::from_millis(400);

/// All of that, and the outputs' threads get a moment to be joined.
pub const END_WITHIN: Duration = Duration::from_millis(1800);

/// What the supervisor is told.
#[derive(Debug)]
pub enum Message {
    /// A camera's first frame is there: its machine wants to know now, not at its next deadline.
    FirstFrame,
    /// An opening's stream is over or broken.
    Failed {
        /// Which camera.
        index: usize,
        /// Which opening.
        generation: u64,
        /// Why.
        fault: Fault,
    },
    /// An opening's thread is done.
    Closed {
        /// Which camera.
        index: usize,
        /// Which opening.
        generation: u64,
    },
    /// The engine's thread is done: in order, by its error, or (`Err(None)`) by a panic.
    EngineEnded(Result<(), Option<EngineError>>),
    /// Another engine can take over, or there will be none.
    EngineReady(Result<Box<Detector>, EngineError>),
    /// An output closed by itself.
    OutputClosed,
    /// A thread that nobody else would miss.
    Panicked(&'static str),
    /// A new configuration; the channel has room for whether it is taken.
    Renew(Box<Renewed>, Sender<Result<(), String>>),
    /// A reload is over, whatever came of it.
    ReloadDone,
    /// Come to rest; the text goes to the log.
    Stop(&'static str),
    /// Log the state.
    LogState,
    /// Somebody asks for the state. The channel has room for the answer.
    Debug(Sender<DebugState>),
}

/// How the process ends.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was asked to.
    Stopped,
    /// Every camera came to its end in order.
    Ended,
    /// Nobody reads any output any more.
    OutputsClosed,
    /// It is no longer worth running: 75, systemd starts it clean.
    TryAgain(String),
    /// A fault of ours: 70.
    Internal(String),
}

/// Talks to a running supervisor.
#[derive(Debug, Clone)]
pub struct Control {
    supervisor: Sender<Message>,
    reload: Option<Sender<()>>,
}

impl Control {
    /// Asks it to come to rest.
    pub fn stop(&self, why: &'static str) {
        let _already_gone = self.supervisor.send(Message::Stop(why));
    }

    /// Asks for the configuration to be read again. Asking again while one waits to be read changes nothing.
    pub fn reload(&self) {
        match &self.reload {
            Some(reload) => drop(reload.try_send(())),
            None => tracing::warn!("this process has no configuration file to read again"),
        }
    }

    /// Has it log its state.
    pub fn log_state(&self) {
        let _already_gone = self.supervisor.send(Message::LogState);
    }

    /// For a thread that serves the supervisor from outside.
    pub fn alarm(&self, thread: &'static str) -> Alarm {
        Alarm::new(&self.supervisor, thread)
    }

    /// Its state, or `None` if it does not answer in time.
    pub fn state(&self, timeout: Duration) -> Option<DebugState> {
        let (tx, rx) = crossbeam_channel::bounded(1);
        self.supervisor.send_timeout(Message::Debug(tx), timeout).ok()?;
        rx.recv_timeout(timeout).ok()
    }
}

/// The supervisor of a running daemon.
pub struct Supervisor {
    cameras: Vec<Watched>,
    house: House,
    inbox: Receiver<Message>,
    registry: Arc<Registry>,
    pulse: Arc<Pulse>,
    engine: Option<JoinHandle<()>>,
    /// To the engine's thread.
    orders: Sender<Order>,
    /// The form of the slots that the current engine wants.
    form: Arc<SlotForm>,
    /// How its outputs can be read.
    reading: Outputs,
    /// Asks for a reload; its end ends that thread.
    reload: Option<Sender<()>>,
    /// Wedged openings of cameras that are no longer configured.
    left_behind: Vec<Running>,
    debug_socket: Option<debug_socket::DebugSocket>,
    config: Config,
    memory: memory::Memory,
    notify: Notify,
    verdict: Option<Verdict>,
    next_look: Instant,
    /// What took longer than since then has stood still meanwhile.
    pause_ended_at: Instant,
}

impl Supervisor {
    /// A handle for signals and for other threads.
    pub fn control(&self) -> Control {
        Control { supervisor: self.house.supervisor.clone(), reload: self.reload.clone() }
    }

    /// Where a TCP output really listens.
    pub fn local_addr(&self, output: &str) -> Option<std::net::SocketAddr> {
        self.house.publisher.local_addr(output)
    }

    /// The counters.
    pub fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry)
    }

    /// Runs until the process should end, and brings everything to rest; also if this panics.
    pub fn run(self) -> Verdict {
        self.run_telling(|_| {})
    }

    /// As [`Supervisor::run`]; `ending` is told the verdict before anything is brought to rest, which should take
    /// no longer than [`END_WITHIN`].
    pub fn run_telling(mut self, ending: impl FnOnce(&Verdict)) -> Verdict {
        let panicked = |_| Verdict::Internal("the supervisor panicked".to_owned());
        if let Err(verdict) = catch_unwind(AssertUnwindSafe(|| self.watch())).map_err(panicked) {
            self.verdict = Some(verdict);
        }
        ending(self.verdict.get_or_insert(Verdict::Stopped));
        catch_unwind(AssertUnwindSafe(|| self.come_to_rest())).unwrap_or_else(panicked)
    }

    fn watch(&mut self) {
        self.all_cameras(Input::Start);
        self.notify.ready();
        while self.verdict.is_none() {
            self.turn(self.next_deadline());
        }
    }

    /// Waits for one message, at most until `deadline`, and does what is due.
    fn turn(&mut self, deadline: Instant) {
        if let Ok(message) = self.inbox.recv_deadline(deadline) {
            self.take(message);
        }
        let now = clock::now();
        self.forgive_pause(now.saturating_duration_since(deadline), now);
        for camera in &mut self.cameras {
            camera.look(now, &self.house);
        }
        self.settle_cameras(now);
        // Who comes to rest is not looked after any more: a camera that was paused would begin again.
        if now >= self.next_look && self.verdict.is_none() {
            self.next_look = now + self.memory.look_every();
            self.look_after(now);
        }
        if !self.cameras.is_empty() && self.cameras.iter().all(Watched::has_ended) {
            self.verdict.get_or_insert(Verdict::Ended);
        }
    }

    /// Woken up so long after the time to which it slept, the process was stopped (a debugger, the freezer of
    /// a container), or starved: that is no fault of any camera, and no inference hangs for it.
    fn forgive_pause(&mut self, late: Duration, now: Instant) {
        if late < PAUSE {
            return;
        }
        tracing::warn!(
            "this process stood still for {:.1} s; cameras get that much more time",
            late.as_secs_f64()
        );
        self.pause_ended_at = now;
        for camera in &mut self.cameras {
            camera.machine.postpone(late, now);
        }
    }

    fn take(&mut self, message: Message) {
        let now = clock::now();
        match message {
            // The look at all cameras that follows every message sees it.
            Message::FirstFrame => {}
            Message::Failed { index, generation, fault } => {
                if let Some((camera, house)) = self.camera(index) {
                    camera.failed(generation, fault, now, house);
                }
            }
            Message::Closed { index, generation } => {
                if let Some((camera, house)) = self.camera(index) {
                    camera.closed(generation, now, house);
                }
            }
            Message::EngineEnded(result) => self.engine_ended(result),
            Message::EngineReady(built) if self.verdict.is_none() => self.engine_ready(built),
            Message::EngineReady(_too_late) => {}
            Message::Renew(_too_late, answer) if self.verdict.is_some() => {
                let _asker_gone = answer.try_send(Err(reload::STOPPING.to_owned()));
            }
            Message::Renew(renewed, answer) => {
                self.notify.reloading();
                let _asker_gone = answer.try_send(self.renew(*renewed));
            }
            Message::ReloadDone => self.notify.ready(),
            Message::OutputClosed => self.look_after_outputs(),
            Message::Panicked(thread) => self.missing(thread),
            Message::Stop(why) => {
                tracing::info!("stopping: {why}");
                self.verdict.get_or_insert(Verdict::Stopped);
            }
            Message::LogState => tracing::info!("{}", self.debug_state(now).summary()),
            Message::Debug(reply) => {
                let _asker_gone = reply.try_send(self.debug_state(now));
            }
        }
    }

    /// The camera at this place, unless it is gone.
    fn camera(&mut self, index: usize) -> Option<(&mut Watched, &House)> {
        let camera = self.cameras.iter_mut().find(|camera| camera.feed.index == index)?;
        Some((camera, &self.house))
    }

    fn engine_ended(&mut self, result: Result<(), Option<EngineError>>) {
        let verdict = match result {
            Ok(()) => return,
            Err(Some(error)) if error.is_final() => Verdict::TryAgain(error.to_string()),
            Err(Some(error)) => Verdict::TryAgain(format!("the engine failed too often in a row: {error}")),
            Err(None) => Verdict::Internal("the engine's thread panicked".to_owned()),
        };
        self.verdict.get_or_insert(verdict);
    }

    /// A thread has panicked that the others cannot do without.
    fn missing(&mut self, thread: &str) {
        self.verdict.get_or_insert_with(|| Verdict::Internal(format!("the thread {thread} panicked")));
    }

    fn all_cameras(&mut self, input: Input) {
        let now = clock::now();
        for camera in &mut self.cameras {
            camera.handle(input, now, &self.house);
        }
    }

    fn next_deadline(&self) -> Instant {
        let timers = self.cameras.iter().filter_map(|camera| camera.machine.next_timeout());
        timers.map(|(at, _timer)| at).min().map_or(self.next_look, |at| at.min(self.next_look))
    }

    fn look_after_outputs(&mut self) {
        if let Some(output) = self.house.publisher.panicked() {
            self.missing(&format!("of output {output}"));
        }
        if self.house.publisher.closed_all() && self.verdict.is_none() {
            tracing::info!("nobody reads any output any more; stopping");
            self.verdict = Some(Verdict::OutputsClosed);
        }
    }

    /// Once a second: rates, gauges, limits.
    fn look_after(&mut self, now: Instant) {
        // The message that says so is not waited for when the inbox is full.
        self.look_after_outputs();
        for camera in &mut self.cameras {
            camera.rate.measure(camera.feed.metrics.frames_in(), now);
        }
        let slots_out: usize =
            self.cameras.iter().map(|camera| camera.feed.pool.capacity() - camera.feed.pool.free()).sum();
        let handles = &self.registry.handles;
        handles.slots_in_flight.store(slots_out as u64, Ordering::Relaxed);
        handles.pipelines.store(watchpost_pipelines::open_pipelines() as u64, Ordering::Relaxed);
        handles.objects.store(watchpost_pipelines::open_objects() as u64, Ordering::Relaxed);
        handles.coded.store(watchpost_pipelines::open_coded() as u64, Ordering::Relaxed);
        handles.frames.store(watchpost_pipelines::open_frames() as u64, Ordering::Relaxed);
        let usage = self.memory.usage();
        let gpu = self.house.gpu.clone();
        let vitals = Vitals {
            engine_silent_for: self.pulse.silent_for(now).map(|time| time.min(now - self.pause_ended_at)),
            wedged_count: self.cameras.iter().map(Watched::wedged_count).sum::<usize>()
                + self.left_behind.len(),
            rss_bytes: usage.rss_bytes,
            gpu_lost: gpu.as_ref().and_then(Gpu::lost).map(|error| error.to_string()),
            descriptors: descriptors::Count::now(),
        };
        let gpu_bytes = gpu.as_ref().map_or(0, |gpu| gpu.ledger().device_bytes());
        self.registry.handles.gpu_bytes.store(gpu_bytes, Ordering::Relaxed);
        let tolerances = Tolerances {
            inference_timeout: self.config.supervisor.inference_timeout,
            max_wedged: self.config.supervisor.max_wedged,
            hard_limit_bytes: self.config.memory.hard_limit_bytes,
        };
        self.watch_growth(&usage, now);
        self.watch_soft_limit(usage.rss_bytes, now);
        match watchdog::examine(&vitals, tolerances) {
            Some(finding) => {
                self.notify.broken(&finding.to_string());
                self.verdict.get_or_insert(Verdict::TryAgain(finding.to_string()));
            }
            None => {
                let up = self.cameras.iter().filter(|camera| camera.is_streaming()).count();
                let fps = self.cameras.iter().map(|camera| camera.rate.fps).sum();
                self.notify.healthy(up, self.cameras.len(), fps);
            }
        }
    }

    /// Cameras first, then the engine, then the outputs: what is on its way still arrives. Nothing is waited
    /// for beyond its deadline; the end of the process ends what is left.
    fn come_to_rest(mut self) -> Verdict {
        self.notify.stopping(REST_WITHIN + FLUSH_WITHIN);
        let deadline = clock::now() + REST_WITHIN;
        self.cameras.iter_mut().for_each(Watched::begin_no_more);
        self.all_cameras(Input::Stop);
        while clock::now() < deadline && !self.cameras.iter().all(Watched::is_at_rest) {
            self.turn(self.next_deadline().min(deadline));
        }
        for camera in self.cameras.iter().filter(|camera| !camera.is_at_rest()) {
            tracing::warn!(camera = camera.feed.name(), "not at rest in time; left behind");
        }
        let deadline = clock::now() + FLUSH_WITHIN;
        self.reload.take();
        self.debug_socket.take();
        let House { work, publisher, .. } = self.house;
        // The engine ends when the last sender of work is gone.
        drop(work);
        let engine_done = self.engine.take().is_none_or(|engine| join_before(engine, &self.inbox, deadline));
        if !engine_done {
            tracing::warn!("the engine did not come to rest in time; left behind");
        }
        publisher.shutdown(deadline);
        let verdict = self.verdict.take().unwrap_or(Verdict::Stopped);
        if !engine_done || !self.cameras.iter().all(Watched::is_at_rest) {
            // What is left behind may hold a GPU that hangs, and giving memory back to it would wait for ever.
            Box::leak(Box::new((self.cameras, self.left_behind, self.form)));
        }
        verdict
    }

    fn debug_state(&self, now: Instant) -> DebugState {
        DebugState::new(&self.cameras, self.registry.snapshot(now))
    }
}

/// Joins the engine's thread once it has said that it is done; false if it does not in time.
fn join_before(engine: JoinHandle<()>, inbox: &Receiver<Message>, deadline: Instant) -> bool {
    while !engine.is_finished() {
        match inbox.recv_deadline(deadline) {
            Ok(Message::EngineEnded(_)) => break,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    engine.join().is_ok()
}
