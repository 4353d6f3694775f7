//! PURE: what is given up when memory runs short, in which order, and when it comes back.
//!
//! ```text
//!              above the limit
//!     Idle ─────────────────────► Pressed ──┐ above for `confirm`, then every `settle`:
//!      ▲ ▲      at or below it,      │  ▲ ▲ │ a step down
//!      │ └───────── nothing shed ────┤  │ └─┘
//!      │                 at or below,│  │ above
//!      │               something shed▼  │
//!      │                           Held ┤
//!      │    below nine tenths of it  │▲ │
//!      │                             ▼│ │ no longer below nine tenths
//!      └──────────────────────── Easing ┘──┐ below for `patience`, again and again:
//!        the last step was taken back  ▲   │ a step back
//!                                      └───┘
//! ```
//!
//! A step down takes the cameras of the lowest priority that have something to give:
//!
//! | level | what it means | taken by |
//! |---|---|---|
//! | half | half the detections a second | all cameras of the priority together |
//! | slow | one detection a second at most | together |
//! | keyframes | only pictures that need no other are decoded | together, those whose stream has such |
//! | paused | the camera is closed | one by one, the last first |
//!
//! Only when they are all paused is the next priority touched. One camera is never paused: a daemon that sees
//! nothing is of no use, and what does not help is `hard_limit`'s affair. Steps are taken back in reverse
//! order. If memory is short again soon after a step back, the next one has to wait twice as long: a box that
//! has too little for all its cameras does not open and close them for ever.

use std::time::{Duration, Instant};

/// How patient it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Above the limit for so long before the first step: a blip costs nobody anything.
    pub confirm: Duration,
    /// Between two steps down: what a step frees takes its time.
    pub settle: Duration,
    /// Below the lower line for so long before a step back.
    pub patience: Duration,
    /// The longest that `patience` can become.
    pub patience_max: Duration,
    /// Short again within so long after a step back: that step came too early.
    pub relapse: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            confirm: Duration::from_secs(3),
            settle: Duration::from_secs(5),
            patience: Duration::from_secs(30),
            patience_max: Duration::from_secs(1800),
            relapse: Duration::from_secs(600),
        }
    }
}

/// How much of a camera is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// Nothing.
    #[default]
    Full,
    /// Half the detections.
    Half,
    /// All but one detection a second.
    Slow,
    /// All pictures that need others.
    Keyframes,
    /// The camera.
    Paused,
}

impl Level {
    /// Snake-case name in records and debug output; `None` where nothing is given up.
    pub fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Full => None,
            Self::Half => Some("half"),
            Self::Slow => Some("slow"),
            Self::Keyframes => Some("keyframes"),
            Self::Paused => Some("paused"),
        }
    }

    fn down(self, has_keyframes: bool) -> Option<Self> {
        match self {
            Self::Full => Some(Self::Half),
            Self::Half => Some(Self::Slow),
            Self::Slow if has_keyframes => Some(Self::Keyframes),
            Self::Slow | Self::Keyframes => Some(Self::Paused),
            Self::Paused => None,
        }
    }

    fn up(self, has_keyframes: bool) -> Option<Self> {
        match self {
            Self::Full => None,
            Self::Half => Some(Self::Full),
            Self::Slow => Some(Self::Half),
            Self::Paused if has_keyframes => Some(Self::Keyframes),
            Self::Paused | Self::Keyframes => Some(Self::Slow),
        }
    }
}

/// A camera as it is seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Lower is shed earlier.
    pub priority: i32,
    /// Its stream has pictures that need others and such that do not.
    pub has_keyframes: bool,
    /// What is given up of it now.
    pub level: Level,
}

/// Where shedding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing is shed, and nothing need be.
    Idle,
    /// Memory is above the limit.
    Pressed {
        /// Then the next step down is due.
        step_at: Instant,
    },
    /// Something is shed, which is just enough.
    Held,
    /// Something is shed, and less might do.
    Easing {
        /// Then the next step back is due.
        step_at: Instant,
    },
}

/// A camera's level has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Which camera.
    pub camera_index: usize,
    /// From.
    pub from: Level,
    /// To.
    pub to: Level,
}

/// Sheds load and takes it up again.
#[derive(Debug)]
pub struct Shedding {
    pace: Pace,
    state: State,
    cameras: Vec<Candidate>,
    /// The levels that [`Self::next_change`] has told.
    told: Vec<Level>,
    patience: Duration,
    last_step_back_at: Option<Instant>,
}

impl Shedding {
    /// Idle, and without cameras.
    pub fn new(pace: Pace) -> Self {
        Self {
            pace,
            state: State::Idle,
            cameras: Vec::new(),
            told: Vec::new(),
            patience: pace.patience,
            last_step_back_at: None,
        }
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// Memory is above the limit, and nothing is left to give up.
    pub fn is_spent(&self) -> bool {
        matches!(self.state, State::Pressed { .. }) && self.next_down().is_none()
    }

    /// The cameras as they are, in the order in which changes will name them. They may come and go; those that
    /// come catch up with the others of their priority first.
    pub fn follow(&mut self, cameras: impl Iterator<Item = Candidate>) {
        self.cameras.clear();
        self.cameras.extend(cameras);
        self.told.clear();
        self.told.extend(self.cameras.iter().map(|camera| camera.level));
    }

    /// The next camera whose level has changed. Drain it after every [`Self::observe`].
    pub fn next_change(&mut self) -> Option<Change> {
        let mut levels = self.told.iter_mut().zip(&self.cameras).enumerate();
        let (camera_index, (told, camera)) = levels.find(|(_, (told, camera))| **told != camera.level)?;
        let from = std::mem::replace(told, camera.level);
        Some(Change { camera_index, from, to: camera.level })
    }

    /// Resident memory is so large, and may be so large.
    pub fn observe(&mut self, rss_bytes: u64, limit_bytes: u64, now: Instant) {
        let above = rss_bytes > limit_bytes;
        let low = rss_bytes < limit_bytes - limit_bytes / 10;
        let sheds = self.cameras.iter().any(|camera| camera.level != Level::Full);
        self.state = match self.state {
            State::Pressed { step_at } if above && now >= step_at => self.step_down(now),
            State::Pressed { .. } if above => self.state,
            _ if above => State::Pressed { step_at: now + self.pace.confirm },
            _ if !sheds => State::Idle,
            State::Easing { step_at } if low && now >= step_at => self.step_back(now),
            State::Easing { .. } if low => self.state,
            _ if low => State::Easing { step_at: now + self.patience },
            _ => State::Held,
        };
    }

    fn step_down(&mut self, now: Instant) -> State {
        if let Some(back_at) = self.last_step_back_at.take() {
            let relapsed = now.saturating_duration_since(back_at) <= self.pace.relapse;
            self.patience = match relapsed {
                true => (2 * self.patience).min(self.pace.patience_max),
                false => self.pace.patience,
            };
        }
        match self.next_down() {
            Some(Step::Together { priority, to }) => {
                for camera in self.cameras.iter_mut().filter(|camera| camera.priority == priority) {
                    if camera.level.down(camera.has_keyframes) == Some(to) {
                        camera.level = to;
                    }
                }
            }
            Some(Step::One { camera_index, to }) => self.cameras[camera_index].level = to,
            None => {}
        }
        State::Pressed { step_at: now + self.pace.settle }
    }

    fn step_back(&mut self, now: Instant) -> State {
        match self.next_back() {
            Some(Step::Together { priority, to }) => {
                let from = self.highest_of(priority);
                for camera in self.cameras.iter_mut().filter(|camera| camera.priority == priority) {
                    if camera.level == from {
                        camera.level = to;
                    }
                }
            }
            Some(Step::One { camera_index, to }) => self.cameras[camera_index].level = to,
            None => {}
        }
        self.last_step_back_at = Some(now);
        match self.cameras.iter().any(|camera| camera.level != Level::Full) {
            true => State::Easing { step_at: now + self.patience },
            false => State::Idle,
        }
    }

    fn next_down(&self) -> Option<Step> {
        let awake = self.cameras.iter().filter(|camera| camera.level != Level::Paused).count();
        let downs = self.cameras.iter().enumerate().filter_map(|(camera_index, camera)| {
            let to = camera.level.down(camera.has_keyframes)?;
            (to != Level::Paused || awake > 1).then_some((camera.priority, to, camera_index))
        });
        // The lowest priority; in it who has given up least; of those to be paused the last.
        let (priority, to, camera_index) =
            downs.min_by_key(|&(priority, to, index)| (priority, to, std::cmp::Reverse(index)))?;
        Some(match to {
            Level::Paused => Step::One { camera_index, to },
            _ => Step::Together { priority, to },
        })
    }

    /// The step that [`Self::next_down`] led to last.
    fn next_back(&self) -> Option<Step> {
        let shed = self.cameras.iter().enumerate().filter(|(_, camera)| camera.level != Level::Full);
        // The highest priority; in it who has given up most; of those paused the first.
        let (camera_index, camera) =
            shed.max_by_key(|(index, camera)| (camera.priority, camera.level, std::cmp::Reverse(*index)))?;
        let to = camera.level.up(camera.has_keyframes)?;
        Some(match camera.level {
            Level::Paused => Step::One { camera_index, to },
            _ => Step::Together { priority: camera.priority, to },
        })
    }

    fn highest_of(&self, priority: i32) -> Level {
        let of_priority = self.cameras.iter().filter(|camera| camera.priority == priority);
        of_priority.map(|camera| camera.level).max().unwrap_or_default()
    }
}

/// One step, down or back.
enum Step {
    Together { priority: i32, to: Level },
    One { camera_index: usize, to: Level },
}

#[cfg(test)]
#[path = "shedding_tests.rs"]
mod tests;
