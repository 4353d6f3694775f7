//! How long an engine takes for a batch, on this box, now.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Engine, EngineError};
use crate::clock;
use crate::frame::{Pool, SlotForm, SlotMemory};
use crate::metrics::process_usage;
use crate::model::InputRecipe;
use crate::wake::doorbell;

/// The first inferences of an engine are slower than all that follow.
const WARM_UP: usize = 3;
/// However slow it is, a median needs some.
const RUNS_MIN: usize = 5;
/// However quick it is, no more are kept.
const RUNS_MAX: usize = 100_000;

/// One line of `watchpost bench`: a promise to its readers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// `"inference"`: the engine alone. `"detect"`: decoding, letterbox, inference and boxes of every frame of an input.
    pub what: String,
    /// The backend's name.
    pub backend: String,
    /// The arithmetic really used.
    pub precision: String,
    /// Frames in one inference.
    pub batch: usize,
    /// Threads of one inference on the CPU.
    pub threads: usize,
    /// Median of one batch, in milliseconds; of one frame for `"detect"`.
    pub median_ms: f64,
    /// The slowest of twenty.
    pub p95_ms: f64,
    /// Frames in a second.
    pub per_second: f64,
    /// The process's most resident memory.
    pub max_rss_mib: f64,
}

impl Timing {
    /// From the times of batches of `batch` frames, in any order, that took `total` together.
    pub fn new(
        what: &str,
        engine: &dyn Engine,
        batch: usize,
        threads: usize,
        times: &mut [Duration],
        total: Duration,
    ) -> Self {
        times.sort_unstable();
        let at = |part: usize| times.get((times.len() * part / 100).min(times.len().saturating_sub(1)));
        let ms = |time: Option<&Duration>| rounded(time.map_or(0.0, |time| time.as_secs_f64() * 1e3));
        let frames = times.len() * batch;
        Self {
            what: what.to_owned(),
            backend: engine.backend().to_owned(),
            precision: engine.precision().to_owned(),
            batch,
            threads,
            median_ms: ms(at(50)),
            p95_ms: ms(at(95)),
            per_second: rounded(frames as f64 / total.as_secs_f64().max(1e-9)),
            max_rss_mib: rounded(process_usage().max_rss_bytes as f64 / 1_048_576.0),
        }
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Infers batches of one frame for about `duration`, and batches as large as the engine takes for as long again.
///
/// # Errors
/// The engine's, and [`EngineError::Slots`].
pub fn time(
    engine: &mut dyn Engine,
    input: &InputRecipe,
    threads: usize,
    duration: Duration,
) -> Result<Vec<Timing>, EngineError> {
    let place = engine.place();
    let form = Arc::new(SlotForm { epoch: 1, input: *input, gpu: place.gpu(), place });
    let most = engine.max_batch().max(1);
    let (wake, _bell) = doorbell();
    let pool = Pool::new(most, &form, wake)?;
    let mut slots: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
    for slot in &mut slots {
        match slot.memory_mut() {
            SlotMemory::Host(tensor) => fill(tensor),
            SlotMemory::Formed(tensor) => {
                let mut values = vec![0.0; tensor.len()];
                fill(&mut values);
                let (first, rest) = values.split_at(values.len() / 3);
                let (second, third) = rest.split_at(rest.len() / 2);
                tensor.put(0, [first, second, third]);
            }
            SlotMemory::Device(_) => {}
        }
    }
    let inputs: Vec<&SlotMemory> = slots.iter().map(|slot| slot.memory()).collect();
    let batches: &[usize] = if most == 1 { &[1] } else { &[1, most] };
    batches.iter().map(|&batch| time_batch(engine, &inputs[..batch], threads, duration)).collect()
}

fn time_batch(
    engine: &mut dyn Engine,
    inputs: &[&SlotMemory],
    threads: usize,
    duration: Duration,
) -> Result<Timing, EngineError> {
    for _ in 0..WARM_UP {
        engine.infer(inputs, &mut |_, _| {})?;
    }
    let began = clock::now();
    let mut last = began;
    let mut times = Vec::new();
    while times.len() < RUNS_MIN || last - began < duration && times.len() < RUNS_MAX {
        engine.infer(inputs, &mut |_, _| {})?;
        let now = clock::now();
        times.push(now - last);
        last = now;
    }
    Ok(Timing::new("inference", engine, inputs.len(), threads, &mut times, last - began))
}

/// Values of a picture's range and without a pattern: zeros would be quicker than any picture on some engines.
fn fill(tensor: &mut [f32]) {
    let mut state = 0x9e37_79b9_u32;
    for value in tensor {
        // A linear congruential generator (Numerical Recipes).
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *value = (state >> 24) as f32 / 255.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::TensorView;

    struct Counting(usize);

    impl Engine for Counting {
        fn backend(&self) -> &'static str {
            "builtin"
        }
        fn precision(&self) -> &'static str {
            "fp32"
        }
        fn max_batch(&self) -> usize {
            4
        }
        fn infer(
            &mut self,
            inputs: &[&SlotMemory],
            each: &mut dyn FnMut(usize, &[TensorView<'_>]),
        ) -> Result<(), EngineError> {
            self.0 += inputs.len();
            (0..inputs.len()).for_each(|index| each(index, &[]));
            Ok(())
        }
    }

    #[test]
    fn one_frame_and_the_largest_batch_are_timed() {
        let input = crate::model::find("demo", &[]).expect("always there").input;
        let mut engine = Counting(0);
        let timings = time(&mut engine, &input, 1, Duration::ZERO).expect("it infers");
        assert_eq!(timings.iter().map(|one| one.batch).collect::<Vec<_>>(), [1, 4]);
        assert_eq!(engine.0, (WARM_UP + RUNS_MIN) * 5);
    }

    #[test]
    fn medians_and_rates_are_of_the_times() {
        let mut times: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
        let timing = Timing::new("inference", &Counting(0), 2, 1, &mut times, Duration::from_secs(5));
        assert_eq!((timing.median_ms, timing.p95_ms, timing.per_second), (51.0, 96.0, 40.0));
    }
}
