//! One camera after the other misbehaves in every way it knows, and how long the daemon took to notice, and to
//! recover.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use watchpost::clock;
use watchpost_testcam::{Fault, TestCamera};

use super::story::Story;
use super::{Dice, Failure, pause};

/// What is waited for comes in seconds, or something is broken.
const PATIENCE: Duration = Duration::from_secs(180);

/// One fault, from its beginning to the recovery.
#[derive(Debug, Clone, PartialEq)]
pub struct Cycle {
    pub fault: &'static str,
    pub reason: String,
    /// From the beginning to `closing`.
    pub noticed_ms: f64,
    /// From the end to the record of a picture taken after it.
    pub recovered_ms: f64,
}

/// Cycles of all victims.
#[derive(Debug, Default)]
pub struct Ledger {
    cycles: Mutex<Vec<Cycle>>,
    count: AtomicUsize,
    failure: Mutex<Option<String>>,
    over: AtomicBool,
}

impl Ledger {
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// What went so wrong that a victim gave up.
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn into_cycles(self) -> Vec<Cycle> {
        self.cycles.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, cycle: Cycle) {
        self.cycles.lock().unwrap_or_else(PoisonError::into_inner).push(cycle);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    fn give_up(&self, failure: String) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        self.end();
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// A camera that suffers.
pub struct Victim<'a> {
    pub name: String,
    pub camera: &'a TestCamera,
    pub story: &'a Story,
    pub dice: Dice,
}

impl Victim<'_> {
    /// Goes through the faults, beginning with the one at `first`, for so many cycles or until the ledger ends.
    pub fn suffer(&mut self, faults: &[Fault], first: usize, cycles: usize, ledger: &Ledger) {
        let turns = (first..).map(|turn| faults[turn % faults.len()]);
        for fault in turns.take(cycles) {
            if ledger.is_over() {
                break;
            }
            match self.cycle(fault) {
                Ok(cycle) => ledger.add(cycle),
                Err(Failure(words)) => {
                    ledger.give_up(format!("{}, {}: {words}", self.name, fault.name()));
                    break;
                }
            }
        }
        self.camera.heal();
    }

    fn cycle(&mut self, fault: Fault) -> Result<Cycle, Failure> {
        self.fresh_picture()?;
        let healthy = self.dice.between(200, 700);
        pause(healthy);
        match fault {
            // Nobody has to notice these; then the camera closes, so that the next opening meets what they left.
            Fault::CorruptPayload { .. } | Fault::ResolutionChange { .. } => {
                self.inject(fault)?;
                let held = self.dice.between(500, 1000);
                pause(held);
                self.outage(fault, Fault::Close, None)
            }
            // Only who connects anew notices.
            Fault::SlowStart { .. } => self.outage(fault, Fault::Close, Some(fault)),
            _ => self.outage(fault, fault, None),
        }
    }

    /// The camera is lost through `closing`, goes on with `then`, and comes back.
    fn outage(&mut self, named: Fault, closing: Fault, then: Option<Fault>) -> Result<Cycle, Failure> {
        let (name, story) = (self.name.as_str(), self.story);
        story.watch_closing(name);
        let began = clock::now();
        self.inject(closing)?;
        let (noticed, reason) = story
            .closing(name, PATIENCE)
            .ok_or_else(|| Failure(format!("not noticed within {} s", PATIENCE.as_secs())))?;
        if let Some(then) = then {
            self.inject(then)?;
        }
        // The camera's return may fall into any moment of the attempts to open it.
        let held = self.dice.between(200, 1500);
        pause(held);
        story.watch_picture(name, u64::from(self.camera.stats().next_frame_number));
        let healed = clock::now();
        self.camera.heal();
        let recovered = story
            .picture(name, PATIENCE)
            .ok_or_else(|| Failure(format!("not recovered within {} s", PATIENCE.as_secs())))?;
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        Ok(Cycle {
            fault: named.name(),
            reason,
            noticed_ms: ms(noticed.saturating_duration_since(began)),
            recovered_ms: ms(recovered.saturating_duration_since(healed)),
        })
    }

    fn fresh_picture(&self) -> Result<(), Failure> {
        self.story.watch_picture(&self.name, u64::from(self.camera.stats().next_frame_number));
        let seen = self.story.picture(&self.name, PATIENCE);
        seen.map(drop)
            .ok_or_else(|| Failure("it does not stream although nothing is wrong with it".to_owned()))
    }

    fn inject(&self, fault: Fault) -> Result<(), Failure> {
        self.camera.inject(fault).map_err(|error| Failure(error.to_string()))
    }
}
