//! One run, from the first camera to the verdict.
//!
//! ```text
//!   one camera ─► all, warming up ─► one camera: baseline ─► all, everything at once ─► one camera: memory
//!                                   one camera: the same counts, the same memory? ◄─ all, everything at once ◄─┘
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use watchpost::supervisor::DebugState;

use super::churn::churn;
use super::cycles::{Cycle, Ledger, Victim};
use super::daemon::{Daemon, debug, write_config};
use super::form::Form;
use super::judge::{Evidence, Neighbours, judge};
use super::leak::Leak;
use super::readers::{Seen, disturb};
use super::report::{Outcome, clock_face, load};
use super::series::{Observer, Phase};
use super::stage::{Layout, PASSWORD, Stage, neighbour, victim};
use super::{Dice, Failure, pause};

/// A daemon that is told something does it in seconds.
const PATIENCE: Duration = Duration::from_secs(90);
/// A leak does not go away by waiting; what GLib keeps does.
const SETTLE_WITHIN: Duration = Duration::from_secs(60);
const SETTLE_WITHIN_LEAKING: Duration = Duration::from_secs(10);

struct Run<'a> {
    form: &'a Form,
    stage: &'a Stage,
    daemon: &'a Daemon,
    observer: &'a Observer<'a>,
}

/// What came of everything at once.
#[derive(Default)]
struct Work {
    cycles: Vec<Cycle>,
    failure: Option<String>,
    reloads: usize,
    readers: Seen,
    neighbours: Neighbours,
}

/// When it is enough: cycles of this stretch, frames in all.
#[derive(Clone, Copy)]
struct Goal {
    cycles: usize,
    frames: u64,
}

pub fn run(form: &Form) -> Result<Outcome, Failure> {
    let folder = tempfile::tempdir()?;
    let load_at_start = load();
    let stage = Stage::new(form, folder.path())?;
    write_config(folder.path(), &stage.config(&Layout::default()))?;
    let mut daemon = Daemon::start(folder.path(), form.leak, PASSWORD)?;
    let observer = Observer::new(daemon.pid(), folder.path());
    let over = AtomicBool::new(false);
    let result = std::thread::scope(|scope| {
        scope.spawn(|| observer.watch(form.sample_every, &over));
        let run = Run { form, stage: &stage, daemon: &daemon, observer: &observer };
        let result = run.phases();
        over.store(true, Ordering::Relaxed);
        result
    });
    let is_running = daemon.is_running();
    let log = daemon.log();
    let (mut evidence, work) = result.map_err(|Failure(words)| {
        let state = if is_running { "runs" } else { "has ended" };
        Failure(format!("{}: {words}; the daemon {state}, its log ends with\n{}", form.name, log.join("\n")))
    })?;
    let seconds = observer.elapsed().as_secs_f64();
    evidence.samples = observer.into_samples();
    evidence.frames = daemon.story.detections();
    evidence.wedged = daemon.story.wedged();
    evidence.alarms = daemon.story.alarms();
    evidence.problems.extend(daemon.story.problems());
    evidence.problems.extend(daemon.bad_lines());
    evidence.problems.extend(work.readers.bad_lines.clone());
    evidence.ended_in_order = daemon.stop()?.code() == Some(0);
    evidence.cycles = work.cycles;
    let (reloads, readers) = (work.reloads, work.readers);
    let checks = judge(form, &evidence);
    let load = (load_at_start, load());
    Ok(Outcome { form: form.clone(), evidence, checks, seconds, reloads, readers, load, log })
}

impl Run<'_> {
    fn phases(&self) -> Result<(Evidence, Work), Failure> {
        self.expect_up(&Layout::default())?;
        self.work(Phase::WarmUp, None)?;
        let Form { stable_for, cycles, frames, .. } = *self.form;
        self.rest(Phase::Baseline)?;
        let baseline = self.observer.settle(None, stable_for, SETTLE_WITHIN);
        let mut work = self.work(Phase::Work, Some(Goal { cycles: cycles / 2, frames: frames / 2 }))?;
        self.rest(Phase::Middle)?;
        self.observer.settle(None, stable_for, SETTLE_WITHIN);
        if work.failure.is_none() {
            let cycles = cycles.saturating_sub(work.cycles.len());
            work.add(self.work(Phase::Work, Some(Goal { cycles, frames }))?);
        }
        self.rest(Phase::End)?;
        let within = if self.form.leak == Leak::Nothing { SETTLE_WITHIN } else { SETTLE_WITHIN_LEAKING };
        let end = self.observer.settle(baseline.as_ref(), stable_for, within);
        // As long as in the middle, for as many samples.
        pause(stable_for);
        let mut evidence = Evidence { baseline, end, neighbours: work.neighbours, ..Evidence::default() };
        evidence.problems.extend(work.failure.take());
        Ok((evidence, work))
    }

    fn expect_up(&self, layout: &Layout) -> Result<(), Failure> {
        let cameras = self.stage.cameras_count(layout);
        match self.observer.all_up(cameras, PATIENCE) {
            true => Ok(()),
            false => Err(Failure(format!("{cameras} cameras are not up after {} s", PATIENCE.as_secs()))),
        }
    }

    /// Back to one camera.
    fn rest(&self, phase: Phase) -> Result<(), Failure> {
        let layout = Layout::default();
        self.daemon.configure(&self.stage.config(&layout))?;
        self.observer.enter(phase);
        self.expect_up(&layout)
    }

    /// Victims suffer, cameras and outputs come and go, readers misbehave. Without a goal each victim goes through the
    /// cycles of the warm-up.
    fn work(&self, phase: Phase, goal: Option<Goal>) -> Result<Work, Failure> {
        let layout = Layout { at_work: true, ..Layout::default() };
        self.daemon.configure(&self.stage.config(&layout))?;
        self.expect_up(&layout)?;
        self.observer.enter(phase);
        let before = self.neighbours();
        let ledger = Ledger::default();
        let over = AtomicBool::new(false);
        let cycles_each = goal.map_or(self.form.warm_cycles_per_victim, |_| usize::MAX);
        let (readers, reloads) = std::thread::scope(|scope| {
            let disturbed = self.form.disturbed.then(|| {
                let readers = scope.spawn(|| disturb(self.stage, &mut Dice::new(7), &over));
                (readers, scope.spawn(|| churn(self.daemon, self.stage, &mut Dice::new(11), &over)))
            });
            let victims: Vec<_> = (0..self.stage.victims.len())
                .map(|index| {
                    let ledger = &ledger;
                    scope.spawn(move || {
                        self.victim(index).suffer(&self.form.faults, 2 * index, cycles_each, ledger)
                    })
                })
                .collect();
            if let Some(goal) = goal {
                self.follow(&ledger, goal);
            }
            victims.into_iter().for_each(|victim| drop(victim.join()));
            over.store(true, Ordering::Relaxed);
            disturbed.map_or((Seen::default(), Ok(0)), |(readers, reloads)| {
                let reloads =
                    reloads.join().unwrap_or_else(|_| Err(Failure("the churn panicked".to_owned())));
                (readers.join().unwrap_or_default(), reloads)
            })
        });
        let neighbours = self.neighbours().since(&before);
        let (failure, cycles) = (ledger.failure(), ledger.into_cycles());
        Ok(Work { cycles, failure, reloads: reloads?, readers, neighbours })
    }

    fn victim(&self, index: usize) -> Victim<'_> {
        Victim {
            name: victim(index),
            camera: &self.stage.victims[index],
            story: &self.daemon.story,
            dice: Dice::new(100 + index as u64),
        }
    }

    /// Waits until enough has happened, and says how far it is.
    fn follow(&self, ledger: &Ledger, goal: Goal) {
        let form = self.form;
        let began = watchpost::clock::now();
        let mut said = began;
        loop {
            pause(Duration::from_millis(100));
            let (cycles, frames) = (ledger.count(), self.daemon.story.detections());
            if said.elapsed() >= form.progress_every {
                said = watchpost::clock::now();
                self.say(cycles, frames, goal);
            }
            let is_enough = cycles >= goal.cycles && frames >= goal.frames;
            if is_enough || ledger.failure().is_some() || began.elapsed() >= form.give_up_after {
                return ledger.end();
            }
        }
    }

    fn say(&self, cycles: usize, frames: u64, goal: Goal) {
        let form = self.form;
        let Some(now) = self.observer.last() else { return };
        println!(
            "  {} {}: {cycles} of {} cycles, {frames} of {} frames, rss {:.1} MiB, {} descriptors, {} threads, {} objects, {} of {} cameras up, load {}",
            form.name,
            clock_face(self.observer.elapsed()),
            goal.cycles,
            goal.frames,
            now.rss_bytes as f64 / f64::from(1 << 20),
            now.fds,
            now.threads,
            now.objects,
            now.cameras_up,
            now.cameras,
            load(),
        );
    }

    fn neighbours(&self) -> Neighbours {
        let state = debug(&self.stage.folder);
        let arrived = |state: &DebugState, name: &str| {
            state.cameras.iter().find(|camera| camera.name == name).map_or(0, |camera| camera.frames_in)
        };
        let mut all = Neighbours::default();
        for (index, camera) in self.stage.neighbours.iter().enumerate() {
            let name = neighbour(index);
            all.sent += camera.frames_sent();
            all.arrived += state.as_ref().map_or(0, |state| arrived(state, &name));
            all.restarts += self.daemon.story.faults(&name);
        }
        all
    }
}

impl Work {
    fn add(&mut self, other: Self) {
        self.cycles.extend(other.cycles);
        self.failure = self.failure.take().or(other.failure);
        self.reloads += other.reloads;
        self.readers.add(other.readers);
        self.neighbours.sent += other.neighbours.sent;
        self.neighbours.arrived += other.neighbours.arrived;
        self.neighbours.restarts += other.neighbours.restarts;
    }
}

impl Neighbours {
    fn since(self, then: &Self) -> Self {
        Self {
            sent: self.sent - then.sent,
            arrived: self.arrived.saturating_sub(then.arrived),
            restarts: self.restarts - then.restarts,
        }
    }
}
