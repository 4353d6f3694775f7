//! The state machine of one camera.
//!
//! ```text
//!             Start                first new frame
//!  Stopped ─────────► Opening ──────────────────────► Streaming
//!     ▲                  │ failed, open timeout          │ failed, stalled, frozen, eos
//!     │                  ▼                               ▼
//!     │               Closing ◄──────────────────────────┘
//!     │ stop or end   │      │ teardown deadline
//!     ├───────────────┤      ▼
//!     │               │   Wedged ──┐ teardown returned after all
//!     │        closed ▼            ▼
//!     └────────── BackingOff ◄─────┘
//!                     │ wait is over
//!                     └──────────► Opening (next generation)
//! ```
//!
//! The caller feeds [`Input`]s with the time, drains [`Machine::next_action`] after every input, and
//! sleeps at most until [`Machine::next_timeout`]. Time never passes inside.
//!
//! Every opening has a generation. Inputs that carry another generation than the current one are from
//! a pipeline that is being, or has been, torn down; they are ignored and counted.

use std::time::{Duration, Instant};

use super::backoff::{Backoff, BackoffOptions};

/// Why a camera left a state. The snake-case name is what records and metrics carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The configuration or the operator asked for it.
    Shutdown,
    /// A finite input came to its end in order.
    Ended,
    /// The host could not be reached or refused.
    ConnectFailed,
    /// User or password are wrong.
    Unauthorized,
    /// The server has no such stream, or the device is not there.
    NotFound,
    /// No element on this box can carry or decode the stream.
    Unsupported,
    /// No decoded frame before the open timeout.
    OpenTimeout,
    /// Streaming, but no decoded frame with a new timestamp for the stall timeout.
    Stalled,
    /// Timestamps run but the picture has not changed for the freeze timeout.
    FrozenPicture,
    /// A live source said it is over.
    Eos,
    /// The pipeline reported an error.
    SourceError,
    /// Our own thread could not be started or ended in a panic.
    Internal,
    /// Memory is short, and this camera's priority is low.
    Shed,
}

impl Reason {
    /// All reasons, in the order of their indices in metrics.
    pub const ALL: [Self; 13] = [
        Self::Shutdown,
        Self::Ended,
        Self::ConnectFailed,
        Self::Unauthorized,
        Self::NotFound,
        Self::Unsupported,
        Self::OpenTimeout,
        Self::Stalled,
        Self::FrozenPicture,
        Self::Eos,
        Self::SourceError,
        Self::Internal,
        Self::Shed,
    ];

    /// Whether something is wrong with the camera, so that closing it for this reason is a restart.
    pub fn is_fault(self) -> bool {
        !matches!(self, Self::Shutdown | Self::Ended | Self::Shed)
    }

    /// Snake-case name in records, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shutdown => "shutdown",
            Self::Ended => "ended",
            Self::ConnectFailed => "connect_failed",
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not_found",
            Self::Unsupported => "unsupported",
            Self::OpenTimeout => "open_timeout",
            Self::Stalled => "stalled",
            Self::FrozenPicture => "frozen_picture",
            Self::Eos => "eos",
            Self::SourceError => "source_error",
            Self::Internal => "internal",
            Self::Shed => "shed",
        }
    }
}

/// Where a camera is in its life.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum State {
    /// Nothing runs and nothing will until it is started.
    Stopped,
    /// A pipeline is being built and has not yet delivered a frame.
    Opening {
        /// Then it has failed.
        deadline: Instant,
    },
    /// Frames arrive.
    Streaming {
        /// When the newest frame with a new timestamp arrived.
        last_frame_at: Instant,
        /// When the first frame of this generation arrived.
        since: Instant,
    },
    /// The pipeline is being torn down on its own thread.
    Closing {
        /// Then it is wedged.
        deadline: Instant,
        /// Why.
        reason: Reason,
    },
    /// Waiting before the next opening.
    BackingOff {
        /// When the wait is over.
        until: Instant,
        /// Why we wait.
        reason: Reason,
    },
    /// The teardown has not returned. The thread is left alone; the slots are not its own.
    Wedged {
        /// Why it was to be closed.
        reason: Reason,
    },
}

impl State {
    /// Snake-case name in records and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Opening { .. } => "opening",
            Self::Streaming { .. } => "streaming",
            Self::Closing { .. } => "closing",
            Self::BackingOff { .. } => "backing_off",
            Self::Wedged { .. } => "wedged",
        }
    }
}

/// What happens to a camera.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Input {
    /// Begin, or begin again after `Stopped`.
    Start,
    /// Come to rest, for good until the next `Start`.
    Stop,
    /// The same for another reason: memory is short.
    Pause,
    /// A decoded frame with a new timestamp arrived at `at` (not after `now`).
    Progress {
        /// Which opening it came from.
        generation: u64,
        /// When.
        at: Instant,
    },
    /// The opening failed or the stream broke.
    Failed {
        /// Which opening.
        generation: u64,
        /// How.
        reason: Reason,
    },
    /// The teardown is complete; the thread is gone.
    Closed {
        /// Which opening.
        generation: u64,
    },
    /// Time has passed; deadlines are checked.
    Tick,
}

/// What the caller has to do next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Action {
    /// Build a pipeline on a thread of its own.
    Open {
        /// The new generation.
        generation: u64,
    },
    /// Ask that thread to tear down and report `Closed`.
    Close {
        /// The generation to close.
        generation: u64,
    },
    /// Tell the world.
    Announce(Announcement),
}

/// A state change, as records and logs tell it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Announcement {
    /// The generation that it is about.
    pub generation: u64,
    /// The new state.
    pub state: State,
    /// Why, where there is a why.
    pub reason: Option<Reason>,
    /// How long until the next opening, when backing off.
    pub retry_in: Option<Duration>,
}

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// The first frame must be there.
    Open,
    /// The next frame must be there.
    Stall,
    /// The teardown must have returned.
    Teardown,
    /// The wait is over.
    Retry,
}

/// Deadlines of one camera.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// From opening to the first frame.
    pub open_timeout: Duration,
    /// From one new frame to the next.
    pub stall_timeout: Duration,
    /// From asking for a teardown to its return.
    pub teardown_timeout: Duration,
    /// Streaming this long makes earlier failures forgotten.
    pub healthy_after: Duration,
    /// Waits between openings.
    pub backoff: BackoffOptions,
}

/// At most this many actions follow from one input: a close or an open, and an announcement.
const ACTIONS_MAX: usize = 3;

/// One camera's state machine.
#[derive(Debug, Clone)]
pub struct Machine {
    limits: Limits,
    state: State,
    generation: u64,
    backoff: Backoff,
    stop_asked: bool,
    stale_inputs_count: u64,
    restarts_count: u64,
    actions: [Option<Action>; ACTIONS_MAX],
}

impl Machine {
    /// A stopped camera. `seed` varies the jitter of its waits.
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self {
            limits,
            state: State::Stopped,
            generation: 0,
            backoff: Backoff::new(limits.backoff, seed),
            stop_asked: false,
            stale_inputs_count: 0,
            restarts_count: 0,
            actions: [None; ACTIONS_MAX],
        }
    }

    /// Other deadlines and waits from now on; what is under way keeps the deadline it has.
    pub fn set_limits(&mut self, limits: Limits, seed: u64) {
        self.limits = limits;
        self.backoff = Backoff::new(limits.backoff, seed);
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// Number of the newest opening; 0 before the first.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Inputs that came from openings already given up.
    pub fn stale_inputs_count(&self) -> u64 {
        self.stale_inputs_count
    }

    /// Openings that were given up for a fault.
    pub fn restarts_count(&self) -> u64 {
        self.restarts_count
    }

    /// The next thing to do, oldest first. Drain it after every [`Self::handle`].
    pub fn next_action(&mut self) -> Option<Action> {
        let first = self.actions[0].take();
        self.actions.rotate_left(1);
        first
    }

    /// When to come back with a [`Input::Tick`], and what for.
    pub fn next_timeout(&self) -> Option<(Instant, Timer)> {
        match self.state {
            State::Stopped | State::Wedged { .. } => None,
            State::Opening { deadline } => Some((deadline, Timer::Open)),
            State::Streaming { last_frame_at, .. } => {
                Some((last_frame_at + self.limits.stall_timeout, Timer::Stall))
            }
            State::Closing { deadline, .. } => Some((deadline, Timer::Teardown)),
            State::BackingOff { until, .. } => Some((until, Timer::Retry)),
        }
    }

    /// The whole process stood still for so long: nothing could arrive, so nothing is late by that much.
    pub fn postpone(&mut self, by: Duration, now: Instant) {
        match &mut self.state {
            State::Opening { deadline } | State::Closing { deadline, .. } => *deadline += by,
            State::Streaming { last_frame_at, .. } => *last_frame_at = now.min(*last_frame_at + by),
            State::BackingOff { .. } | State::Stopped | State::Wedged { .. } => {}
        }
    }

    /// Takes one input at time `now`.
    pub fn handle(&mut self, input: Input, now: Instant) {
        match input {
            Input::Start => self.on_start(now),
            Input::Stop => self.on_stop(Reason::Shutdown, now),
            Input::Pause => self.on_stop(Reason::Shed, now),
            Input::Tick => self.on_tick(now),
            Input::Progress { generation, at } if self.is_current(generation) => self.on_progress(at),
            Input::Failed { generation, reason } if self.is_current(generation) => {
                self.on_failed(reason, now)
            }
            Input::Closed { generation } if self.is_current(generation) => self.on_closed(now),
            Input::Progress { .. } | Input::Failed { .. } | Input::Closed { .. } => {
                self.stale_inputs_count += 1
            }
        }
    }

    fn is_current(&self, generation: u64) -> bool {
        generation == self.generation && generation != 0
    }

    fn on_start(&mut self, now: Instant) {
        self.stop_asked = false;
        if self.state == State::Stopped {
            self.backoff.reset();
            self.open(now);
        }
    }

    fn on_stop(&mut self, reason: Reason, now: Instant) {
        self.stop_asked = true;
        match self.state {
            State::Opening { .. } | State::Streaming { .. } => self.close(reason, now),
            State::BackingOff { .. } | State::Wedged { .. } => self.rest(reason),
            State::Stopped | State::Closing { .. } => {}
        }
    }

    fn on_progress(&mut self, at: Instant) {
        match self.state {
            State::Opening { .. } => {
                self.enter(State::Streaming { last_frame_at: at, since: at }, None, None);
            }
            State::Streaming { last_frame_at, since } => {
                self.state = State::Streaming { last_frame_at: last_frame_at.max(at), since };
            }
            // A frame that was on its way when the teardown began: neither progress nor a surprise.
            State::Closing { .. } | State::Wedged { .. } | State::Stopped | State::BackingOff { .. } => {
                self.stale_inputs_count += 1;
            }
        }
    }

    fn on_failed(&mut self, reason: Reason, now: Instant) {
        match self.state {
            State::Opening { .. } | State::Streaming { .. } => self.close(reason, now),
            // The first reason stands: what a dying pipeline says afterwards is a consequence.
            State::Closing { .. } | State::Wedged { .. } | State::Stopped | State::BackingOff { .. } => {
                self.stale_inputs_count += 1;
            }
        }
    }

    fn on_closed(&mut self, now: Instant) {
        match self.state {
            State::Closing { reason, .. } if self.stop_asked || reason == Reason::Ended => self.rest(reason),
            State::Closing { reason, .. } | State::Wedged { reason } => self.back_off(reason, now),
            // The thread ended without being asked to, and without a word: it panicked.
            State::Opening { .. } | State::Streaming { .. } => {
                self.restarts_count += 1;
                self.back_off(Reason::Internal, now);
            }
            State::Stopped | State::BackingOff { .. } => self.stale_inputs_count += 1,
        }
    }

    fn on_tick(&mut self, now: Instant) {
        let Some((deadline, timer)) = self.next_timeout() else { return };
        if now < deadline {
            return;
        }
        match timer {
            Timer::Open => self.close(Reason::OpenTimeout, now),
            Timer::Stall => self.close(Reason::Stalled, now),
            Timer::Retry => self.open(now),
            Timer::Teardown => {
                if let State::Closing { reason, .. } = self.state {
                    self.enter(State::Wedged { reason }, Some(reason), None);
                }
            }
        }
    }

    fn open(&mut self, now: Instant) {
        self.generation += 1;
        self.push(Action::Open { generation: self.generation });
        self.enter(State::Opening { deadline: now + self.limits.open_timeout }, None, None);
    }

    fn close(&mut self, reason: Reason, now: Instant) {
        if let State::Streaming { last_frame_at, since } = self.state
            && last_frame_at.saturating_duration_since(since) >= self.limits.healthy_after
        {
            self.backoff.reset();
        }
        if reason.is_fault() {
            self.restarts_count += 1;
        }
        self.push(Action::Close { generation: self.generation });
        let deadline = now + self.limits.teardown_timeout;
        self.enter(State::Closing { deadline, reason }, Some(reason), None);
    }

    fn back_off(&mut self, reason: Reason, now: Instant) {
        let wait = self.backoff.next_wait();
        self.enter(State::BackingOff { until: now + wait, reason }, Some(reason), Some(wait));
    }

    fn rest(&mut self, reason: Reason) {
        self.enter(State::Stopped, Some(reason), None);
    }

    fn enter(&mut self, state: State, reason: Option<Reason>, retry_in: Option<Duration>) {
        self.state = state;
        self.push(Action::Announce(Announcement { generation: self.generation, state, reason, retry_in }));
    }

    fn push(&mut self, action: Action) {
        let free = self.actions.iter_mut().find(|slot| slot.is_none());
        debug_assert!(free.is_some(), "next_action was not drained");
        if let Some(slot) = free {
            *slot = Some(action);
        }
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
