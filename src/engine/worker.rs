//! The engine's thread: filled slots in, output tensors to whoever reads them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::{Engine, EngineError, TensorView};
use crate::batch::BatchFormer;
use crate::clock;
use crate::frame::{SlotForm, SlotMemory, Turnstile, Work};
use crate::metrics::{Outcome, Registry};

/// Most frames in one batch, whatever is configured: inputs are gathered in an array on the stack.
pub const BATCH_MAX: usize = 64;

/// Frames on their way to the engine, at most: the turnstile lets in two batches, and two more when the engine changes.
pub const WORK_MAX: usize = 4 * BATCH_MAX;

/// Orders that wait while one inference runs: reloads come one after the other, and take some milliseconds each.
pub const ORDERS_MAX: usize = 8;

/// So many failed inferences in a row mean that the engine is broken, not the frames.
const FAILURES_MAX: u32 = 10;

/// Without work the worker looks around this often: for another engine, and for one that may go.
const IDLE: Duration = Duration::from_secs(1);

/// A sign of life that the watchdog reads: since when the worker owes one. It owes the next when it begins an
/// inference, and when what it waits for has to have come, work or none.
#[derive(Debug)]
pub struct Pulse {
    epoch: Instant,
    /// Nanoseconds since `epoch`.
    owed_since_ns: AtomicU64,
}

impl Pulse {
    /// An idle engine.
    pub fn new(epoch: Instant) -> Arc<Self> {
        Arc::new(Self { epoch, owed_since_ns: AtomicU64::new(0) })
    }

    /// How long a sign of life has been owed; `None`: none is, as while the worker waits for work.
    pub fn silent_for(&self, now: Instant) -> Option<Duration> {
        let since_ns = self.owed_since_ns.load(Ordering::Relaxed);
        now.saturating_duration_since(self.epoch).checked_sub(Duration::from_nanos(since_ns))
    }

    fn owes(&self, since: Instant) {
        let ns = since.saturating_duration_since(self.epoch).as_nanos();
        self.owed_since_ns.store(u64::try_from(ns).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// Reads one frame's outputs.
pub type Finish = Box<dyn FnMut(&Work, &[TensorView<'_>]) + Send>;

/// How an engine's outputs are read, and its batches are formed.
pub struct Reading {
    /// Gets each frame with its outputs, in order.
    pub finish: Finish,
    /// Largest batch as configured; the engine's own limit applies too. `None`: the engine's.
    pub max_batch: Option<usize>,
    /// How long the first frame of a batch waits for company.
    pub max_batch_delay: Duration,
}

/// A loaded engine, what its slots are like, and who reads its outputs.
pub struct Station {
    /// Loaded once.
    pub engine: Box<dyn Engine>,
    /// The form of its slots. Whoever else holds it may still send a frame.
    pub form: Arc<SlotForm>,
    /// Reads its outputs.
    pub reading: Reading,
}

/// What the worker is told while it runs.
#[derive(Debug)]
pub enum Order {
    /// Another engine takes over.
    Install(Station),
    /// The outputs are read in another way.
    Read(Reading),
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading").field("max_batch", &self.max_batch).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Station {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Station")
            .field("backend", &self.engine.backend())
            .field("form", &self.form)
            .finish_non_exhaustive()
    }
}

impl Station {
    /// Nobody can send it a frame any more.
    fn is_deserted(&self) -> bool {
        Arc::strong_count(&self.form) == 1
    }
}

/// What the worker needs besides the engine.
#[derive(Debug)]
pub struct Worker {
    /// Filled slots.
    pub work: Receiver<Work>,
    /// Each is here before the first frame that it is meant for can be sent.
    pub orders: Receiver<Order>,
    /// Told when inferences begin and end.
    pub turnstile: Arc<Turnstile>,
    /// For the watchdog.
    pub pulse: Arc<Pulse>,
    /// Takes inference times and batch sizes.
    pub metrics: Arc<Registry>,
}

impl Worker {
    /// Runs until every sender of work is gone.
    ///
    /// # Errors
    /// The engine failed too often in a row to be trusted again, or is lost.
    pub fn run(&self, first: Station) -> Result<(), EngineError> {
        let mut former = self.former(&first);
        let mut current = first;
        // Engines whose slots are still on their way; at most a few, for as long as an inference takes.
        let mut leaving: Vec<Station> = Vec::new();
        let mut failures = 0;
        loop {
            let idle_until = || clock::now() + IDLE;
            let until = former.deadline().unwrap_or_else(idle_until);
            self.pulse.owes(until);
            let received = self.work.recv_deadline(until);
            let ended = matches!(received, Err(RecvTimeoutError::Disconnected));
            if let Ok(work) = &received
                && !former.items().is_empty()
                && work.slot.form().epoch != epoch_of(former.items())
            {
                // A batch is of one engine.
                self.settle(&mut former, &mut current, &mut leaving, &mut failures)?;
            }
            // All of them: what was received may be meant for the newest engine.
            while let Ok(order) = self.orders.try_recv() {
                // What waits is read as before; there is no next frame to keep it company.
                self.settle(&mut former, &mut current, &mut leaving, &mut failures)?;
                match order {
                    Order::Install(station) => leaving.push(std::mem::replace(&mut current, station)),
                    Order::Read(reading) => current.reading = reading,
                }
                former = self.former(&current);
            }
            if let Ok(work) = received {
                if work.feed.is_live(work.generation) {
                    former.push(work, clock::now());
                } else {
                    work.feed.dropped(Outcome::StaleGeneration);
                }
            }
            if former.is_due(clock::now()) || ended {
                self.settle(&mut former, &mut current, &mut leaving, &mut failures)?;
            }
            leaving.retain(|station| !station.is_deserted());
            if ended {
                return Ok(());
            }
        }
    }

    fn former(&self, station: &Station) -> BatchFormer<Work> {
        let Reading { max_batch, max_batch_delay, .. } = station.reading;
        let max_batch = max_batch.unwrap_or(BATCH_MAX).min(station.engine.max_batch()).clamp(1, BATCH_MAX);
        self.turnstile.set_batch(max_batch);
        self.metrics.engine.runs_on(station.engine.backend());
        BatchFormer::new(max_batch, max_batch_delay)
    }

    /// Infers what has been collected, on the engine it was prepared for. Its slots go home after that.
    fn settle(
        &self,
        former: &mut BatchFormer<Work>,
        current: &mut Station,
        leaving: &mut [Station],
        failures: &mut u32,
    ) -> Result<(), EngineError> {
        if former.items().is_empty() {
            return Ok(());
        }
        let epoch = epoch_of(former.items());
        let station = std::iter::once(current).chain(leaving).find(|station| station.form.epoch == epoch);
        let Some(station) = station else {
            debug_assert!(false, "an engine's slots do not outlive it, nor come before it");
            former.items().iter().for_each(|work| work.feed.dropped(Outcome::EngineError));
            former.clear();
            return Ok(());
        };
        let mut outcome = Ok(());
        let max_batch = station.engine.max_batch().clamp(1, BATCH_MAX);
        for batch in former.items().chunks(max_batch) {
            let result = self.infer(station, batch);
            *failures = if result.is_ok() { 0 } else { *failures + 1 };
            outcome = outcome.and(result);
        }
        former.clear();
        match outcome {
            Err(error) if *failures >= FAILURES_MAX || error.is_final() => Err(error),
            _ => Ok(()),
        }
    }

    fn infer(&self, station: &mut Station, batch: &[Work]) -> Result<(), EngineError> {
        let inputs: [&SlotMemory; BATCH_MAX] =
            std::array::from_fn(|index| batch.get(index).unwrap_or(&batch[0]).slot.memory());
        let Station { engine, reading: Reading { finish, .. }, .. } = station;
        let began = clock::now();
        self.pulse.owes(began);
        self.turnstile.inference_started(began);
        let mut finished = 0;
        let result = engine.infer(&inputs[..batch.len()], &mut |index, outputs| {
            finished = index + 1;
            if let Some(work) = batch.get(index) {
                finish(work, outputs);
            }
        });
        let ended = clock::now();
        self.turnstile.inference_finished(ended);
        self.pulse.owes(ended);
        self.metrics.engine.batch(batch.len(), ended.saturating_duration_since(began));
        if let Err(error) = &result {
            for work in &batch[finished.min(batch.len())..] {
                work.feed.dropped(Outcome::EngineError);
            }
            tracing::error!(%error, frames = batch.len() - finished, "an inference failed");
        }
        result
    }
}

/// Which engine a batch, which is not empty, was prepared for.
fn epoch_of(batch: &[Work]) -> u64 {
    batch.first().map_or(0, |work| work.slot.form().epoch)
}
