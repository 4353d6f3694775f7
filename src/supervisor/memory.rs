//! Looks after the process's memory: is it growing, and is there too much of it?
//!
//! The deciding is done by [`super::sentinel`] and [`super::shedding`]; here is what they
//! look at and what follows from what they say.

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::sentinel::{self, Report, Sample, Sentinel};
use super::shedding::{self, Candidate, Shedding, State};
use super::{LOOK_EVERY, Supervisor, Watched};
use crate::clock;
use crate::config::Locator;
use crate::metrics::{Holding, ProcessUsage, process_usage, pss_bytes};
use crate::publish::Growth;

/// What is read of the process, and how often; tests read something else, and are in a hurry.
pub struct MemoryWatch {
    /// All of the supervisor's regular looks are so far apart.
    pub look_every: Duration,
    /// Reads memory and handles.
    pub usage: Box<dyn FnMut() -> ProcessUsage + Send>,
    /// Of the search for growth.
    pub growth: sentinel::Pace,
    /// Of shedding load.
    pub shedding: shedding::Pace,
}

impl Default for MemoryWatch {
    fn default() -> Self {
        Self {
            look_every: LOOK_EVERY,
            usage: Box::new(process_usage),
            growth: sentinel::Pace::default(),
            shedding: shedding::Pace::default(),
        }
    }
}

impl fmt::Debug for MemoryWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryWatch").field("look_every", &self.look_every).finish_non_exhaustive()
    }
}

/// The watch at work.
pub(super) struct Memory {
    watch: MemoryWatch,
    sentinel: Sentinel,
    shedding: Shedding,
    was_spent: bool,
    last_usage: Option<ProcessUsage>,
    /// Openings since the start, also of cameras that have gone since.
    openings: u64,
    openings_of_present: u64,
}

impl Memory {
    pub fn new(watch: MemoryWatch, now: Instant) -> Self {
        Self {
            sentinel: Sentinel::new(watch.growth, now),
            shedding: Shedding::new(watch.shedding),
            watch,
            was_spent: false,
            last_usage: None,
            openings: 0,
            openings_of_present: 0,
        }
    }

    /// Between two regular looks.
    pub fn look_every(&self) -> Duration {
        self.watch.look_every
    }

    /// Reads memory and handles. What cannot be read (there is no descriptor to read it with) is as it was.
    pub fn usage(&mut self) -> ProcessUsage {
        let usage = (self.watch.usage)();
        if usage.rss_bytes > 0 && usage.fd_count > 0 {
            self.last_usage = Some(usage);
        }
        self.last_usage.unwrap_or(usage)
    }
}

fn candidate(camera: &Watched) -> Candidate {
    Candidate {
        priority: camera.options.priority,
        has_keyframes: matches!(camera.options.locator, Locator::Rtsp { .. } | Locator::File { .. }),
        level: camera.shed,
    }
}

impl Supervisor {
    /// Has memory watched in another way from now on.
    #[must_use]
    pub fn watch_memory_with(mut self, watch: MemoryWatch) -> Self {
        let now = clock::now();
        self.next_look = now + watch.look_every;
        self.memory = Memory::new(watch, now);
        self
    }

    /// Tells once when something begins to grow steadily, and once when it no longer does.
    pub(super) fn watch_growth(&mut self, usage: &ProcessUsage, now: Instant) {
        if !self.memory.sentinel.is_due(now) {
            return;
        }
        watchpost_pipelines::trim_after_closing();
        let sample = self.sample(usage);
        let sentinel = &mut self.memory.sentinel;
        sentinel.observe(sample, now);
        while let Some(report) = sentinel.next_report() {
            let detail = report.to_string();
            let (growing, per_hour, over_s) = match &report {
                Report::Grows(growth) => {
                    tracing::warn!("{detail}");
                    (true, Some(growth.per_hour().round()), Some(growth.over.as_secs()))
                }
                Report::Steady { .. } => {
                    tracing::info!("{detail}");
                    (false, None, None)
                }
            };
            let (kind, held) = (report.holding().as_str(), report.held());
            self.house.publisher.growth(&Growth {
                ts: clock::wall(),
                kind,
                growing,
                held,
                per_hour,
                over_s,
                detail: &detail,
            });
        }
        for &holding in Holding::ALL {
            self.registry.growth[holding as usize]
                .set(sentinel.per_hour(holding), sentinel.is_growing(holding));
        }
    }

    fn sample(&mut self, usage: &ProcessUsage) -> Sample {
        let openings = self.cameras.iter().map(|camera| camera.machine.generation()).sum();
        self.memory.openings += u64::saturating_sub(openings, self.memory.openings_of_present);
        self.memory.openings_of_present = openings;
        let handles = &self.registry.handles;
        let mut sample = Sample {
            openings: self.memory.openings,
            expected: self.cameras.iter().filter(|camera| camera.is_streaming()).count() as u64,
            ..Sample::default()
        };
        for &holding in Holding::ALL {
            sample.held[holding as usize] = match holding {
                Holding::Rss => usage.rss_bytes,
                Holding::Pss => pss_bytes(),
                Holding::Gpu => handles.gpu_bytes.load(Ordering::Relaxed),
                Holding::Fd => usage.fd_count.saturating_sub(self.registry.readers_count()),
                Holding::Thread => usage.thread_count,
                Holding::Pipeline => handles.pipelines.load(Ordering::Relaxed),
                Holding::Slot => handles.slots_in_flight.load(Ordering::Relaxed),
            };
        }
        sample
    }

    /// Sheds load above the soft limit, and takes it up again.
    pub(super) fn watch_soft_limit(&mut self, rss_bytes: u64, now: Instant) {
        let shedding = &mut self.memory.shedding;
        let before = shedding.state();
        shedding.follow(self.cameras.iter().map(candidate));
        shedding.observe(rss_bytes, self.config.memory.soft_limit_bytes.unwrap_or(u64::MAX), now);
        let (after, spent) = (shedding.state(), shedding.is_spent());
        let rss_mib = rss_bytes >> 20;
        let was_pressed = matches!(before, State::Pressed { .. });
        match after {
            State::Pressed { .. } if !was_pressed => {
                tracing::warn!(rss_mib, "resident memory is above memory.soft_limit");
            }
            State::Held | State::Easing { .. } | State::Idle if was_pressed => {
                tracing::info!(rss_mib, "resident memory is below memory.soft_limit again");
            }
            _ => {}
        }
        if spent && !std::mem::replace(&mut self.memory.was_spent, spent) {
            tracing::error!(
                rss_mib,
                "resident memory is above memory.soft_limit, and there is nothing left to shed: raise the limit, \
                 or give this box fewer cameras"
            );
        }
        self.memory.was_spent = spent;
        while let Some(change) = self.memory.shedding.next_change() {
            self.cameras[change.camera_index].shed(change.to, now, &self.house);
        }
    }
}
