//! What the daemon holds, second by second, and what it holds at rest.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use watchpost::clock;

use super::daemon::{debug, usage};
use super::pause;

/// What the run is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Everything happens a few times, so that what is allocated once is allocated.
    WarmUp,
    /// One camera, nobody disturbs: what is held now is the baseline.
    Baseline,
    /// Everything at once.
    Work,
    /// One camera again, after half of the work.
    Middle,
    /// After all of it.
    End,
}

impl Phase {
    pub const ALL: [Self; 5] = [Self::WarmUp, Self::Baseline, Self::Work, Self::Middle, Self::End];
}

/// What the process held at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sample {
    pub seconds: f64,
    pub phase: Phase,
    pub rss_bytes: u64,
    pub pss_bytes: u64,
    pub fds: u64,
    pub threads: u64,
    /// GStreamer pipelines, elements and pads.
    pub objects: u64,
    pub pipelines: u64,
    /// Decoded frames that somebody holds.
    pub frames: u64,
    pub slots: u64,
    pub slots_free: u64,
    pub cameras: u64,
    pub cameras_up: u64,
    pub cpu_seconds: f64,
}

/// What is counted at rest, where it has to be the same before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub fds: u64,
    pub threads: u64,
    pub objects: u64,
    pub pipelines: u64,
    pub slots: u64,
    /// Slots that are not at home, and frames held: the least that was seen, for both come and go.
    pub slots_away: u64,
    pub frames: u64,
    pub cameras_up: u64,
    pub children: u64,
}

/// Looks at the daemon.
pub struct Observer<'a> {
    pub pid: u32,
    pub folder: &'a Path,
    began: Instant,
    phase: AtomicU8,
    samples: Mutex<Vec<Sample>>,
}

impl<'a> Observer<'a> {
    pub fn new(pid: u32, folder: &'a Path) -> Self {
        Self { pid, folder, began: clock::now(), phase: AtomicU8::new(0), samples: Mutex::default() }
    }

    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    pub fn last(&self) -> Option<Sample> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).last().copied()
    }

    pub fn into_samples(self) -> Vec<Sample> {
        self.samples.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes samples until `over`.
    pub fn watch(&self, every: Duration, over: &AtomicBool) {
        while !over.load(Ordering::Relaxed) {
            if let Some((sample, _)) = self.look() {
                self.samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
            }
            pause(every);
        }
    }

    /// One look; `None` where the daemon does not answer.
    fn look(&self) -> Option<(Sample, u64)> {
        let state = debug(self.folder)?;
        // Only now: the answer's own descriptor is closed again.
        let usage = usage(self.pid);
        let phase = Phase::ALL[usize::from(self.phase.load(Ordering::Relaxed))];
        let handle = |kind: &str| state.handles[kind].as_u64().unwrap_or(0);
        let sum = |of: fn(&watchpost::supervisor::CameraDebug) -> usize| -> u64 {
            state.cameras.iter().map(of).sum::<usize>() as u64
        };
        let sample = Sample {
            seconds: self.began.elapsed().as_secs_f64(),
            phase,
            rss_bytes: usage.rss_bytes,
            pss_bytes: usage.pss_bytes,
            fds: usage.fds,
            threads: usage.threads,
            objects: handle("object"),
            pipelines: handle("pipeline"),
            frames: handle("frame"),
            slots: sum(|camera| camera.slots.capacity),
            slots_free: sum(|camera| camera.slots.free),
            cameras: state.cameras.len() as u64,
            cameras_up: sum(|camera| usize::from(camera.state == "streaming")),
            cpu_seconds: usage.cpu_seconds,
        };
        Some((sample, usage.children))
    }

    /// Waits until all cameras of a configuration stream.
    pub fn all_up(&self, cameras: usize, patience: Duration) -> bool {
        let deadline = clock::now() + patience;
        while clock::now() < deadline {
            if let Some((sample, _)) = self.look()
                && (sample.cameras, sample.cameras_up) == (cameras as u64, cameras as u64)
            {
                return true;
            }
            pause(Duration::from_millis(100));
        }
        false
    }

    /// The counts of a daemon at rest. Without a `target`: once they have stood still for `stable_for`. With one:
    /// as soon as nothing is more than in it. In both cases whatever there is when `patience` is over.
    pub fn settle(
        &self,
        target: Option<&Counts>,
        stable_for: Duration,
        patience: Duration,
    ) -> Option<Counts> {
        let deadline = clock::now() + patience;
        let mut stable: Option<(Counts, Instant)> = None;
        loop {
            if let Some((sample, children)) = self.look() {
                let now = Counts::of(&sample, children);
                stable = match stable {
                    Some((then, since)) if then.steady() == now.steady() => Some((then.least(&now), since)),
                    _ => Some((now, clock::now())),
                };
            }
            let done = stable.is_some_and(|(counts, since)| match target {
                Some(target) => counts.is_back_at(target),
                None => since.elapsed() >= stable_for,
            });
            if done || clock::now() >= deadline {
                return stable.map(|(counts, _)| counts);
            }
            pause(Duration::from_millis(200));
        }
    }
}

impl Counts {
    fn of(sample: &Sample, children: u64) -> Self {
        Self {
            fds: sample.fds,
            threads: sample.threads,
            objects: sample.objects,
            pipelines: sample.pipelines,
            slots: sample.slots,
            slots_away: sample.slots - sample.slots_free,
            frames: sample.frames,
            cameras_up: sample.cameras_up,
            children,
        }
    }

    /// As reports call them, in the order of [`Self::values`].
    pub const NAMES: [&'static str; 9] = [
        "descriptors",
        "threads",
        "pipelines",
        "GStreamer objects",
        "frames",
        "slots away",
        "child processes",
        "slots",
        "cameras up",
    ];

    pub fn values(&self) -> [u64; 9] {
        [
            self.fds,
            self.threads,
            self.pipelines,
            self.objects,
            self.frames,
            self.slots_away,
            self.children,
            self.slots,
            self.cameras_up,
        ]
    }

    /// What has to be the same, and not only no more.
    pub fn is_fixed(name: &str) -> bool {
        matches!(name, "slots" | "cameras up")
    }

    /// Nothing of it is more than in `then`.
    fn is_back_at(&self, then: &Self) -> bool {
        let pairs = Self::NAMES.into_iter().zip(self.values().into_iter().zip(then.values()));
        pairs.into_iter().all(|(name, (now, then))| now == then || now < then && !Self::is_fixed(name))
    }

    /// What does not come and go with every frame.
    fn steady(&self) -> Self {
        Self { slots_away: 0, frames: 0, ..*self }
    }

    fn least(&self, other: &Self) -> Self {
        let (slots_away, frames) = (self.slots_away.min(other.slots_away), self.frames.min(other.frames));
        Self { slots_away, frames, ..*self }
    }
}
