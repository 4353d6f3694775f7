//! The engine's thread: filled slots in, output tensors to whoever reads them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::{Engine, EngineError, TensorView};
use crate::batch::BatchFormer;
use crate::clock;
use crate::frame::{Turnstile, Work};
use crate::metrics::{Outcome, Registry};

/// Most frames in one batch, whatever is configured: inputs are gathered in an array on the stack.
pub const BATCH_MAX: usize = 64;

/// So many failed inferences in a row mean that the engine is broken, not the frames.
const FAILURES_MAX: u32 = 10;

/// A sign of life that the watchdog reads: how long the running inference has been running.
#[derive(Debug)]
pub struct Pulse {
    epoch: Instant,
    /// Nanoseconds since `epoch` plus one at which the running inference began; 0: idle.
    busy_since_ns: AtomicU64,
}

impl Pulse {
    /// An idle engine.
    pub fn new(epoch: Instant) -> Arc<Self> {
        Arc::new(Self { epoch, busy_since_ns: AtomicU64::new(0) })
    }

    /// How long the running inference has been running; `None`: idle.
    pub fn busy_for(&self, now: Instant) -> Option<Duration> {
        let ns = self.busy_since_ns.load(Ordering::Relaxed).checked_sub(1)?;
        Some(now.saturating_duration_since(self.epoch).saturating_sub(Duration::from_nanos(ns)))
    }

    fn begin(&self, now: Instant) {
        let ns = now.saturating_duration_since(self.epoch).as_nanos();
        self.busy_since_ns.store(u64::try_from(ns).unwrap_or(u64::MAX - 1) + 1, Ordering::Relaxed);
    }

    fn end(&self) {
        self.busy_since_ns.store(0, Ordering::Relaxed);
    }
}

/// What the worker needs besides the engine.
#[derive(Debug)]
pub struct Worker {
    /// Filled slots.
    pub work: Receiver<Work>,
    /// Told when inferences begin and end.
    pub turnstile: Arc<Turnstile>,
    /// Largest batch; the engine's own limit applies too.
    pub max_batch: usize,
    /// How long the first frame of a batch waits for company.
    pub max_batch_delay: Duration,
    /// For the watchdog.
    pub pulse: Arc<Pulse>,
    /// Takes inference times and batch sizes.
    pub metrics: Arc<Registry>,
}

impl Worker {
    /// Runs until every sender of work is gone. `finish` gets each frame with its outputs, in order.
    ///
    /// # Errors
    /// The engine failed too often in a row to be trusted again.
    pub fn run(
        &self,
        engine: &mut dyn Engine,
        finish: &mut dyn FnMut(&Work, &[TensorView<'_>]),
    ) -> Result<(), EngineError> {
        let max_batch = self.max_batch.min(engine.max_batch()).clamp(1, BATCH_MAX);
        let mut former = BatchFormer::new(max_batch, self.max_batch_delay);
        let mut failures = 0;
        loop {
            let received = match former.deadline() {
                Some(deadline) => self.work.recv_deadline(deadline),
                None => self.work.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let ended = matches!(received, Err(RecvTimeoutError::Disconnected));
            if let Ok(work) = received {
                if work.feed.is_live(work.generation) {
                    former.push(work, clock::now());
                } else {
                    work.feed.dropped(Outcome::StaleGeneration);
                }
            }
            if former.is_due(clock::now()) || (ended && !former.items().is_empty()) {
                let outcome = self.infer(engine, former.items(), finish);
                // The slots go home here, after the engine is done with them.
                former.clear();
                failures = if outcome.is_ok() { 0 } else { failures + 1 };
                if failures >= FAILURES_MAX {
                    return outcome;
                }
            }
            if ended {
                return Ok(());
            }
        }
    }

    fn infer(
        &self,
        engine: &mut dyn Engine,
        batch: &[Work],
        finish: &mut dyn FnMut(&Work, &[TensorView<'_>]),
    ) -> Result<(), EngineError> {
        let mut inputs: [&[f32]; BATCH_MAX] = [&[]; BATCH_MAX];
        for (input, work) in inputs.iter_mut().zip(batch) {
            *input = work.slot.tensor();
        }
        let began = clock::now();
        self.pulse.begin(began);
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
        self.pulse.end();
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
