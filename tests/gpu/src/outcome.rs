//! What a check found.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use watchpost_cuda::CudaError;
use watchpost_tensorrt::TensorRtError;

/// Numbers and words by name.
pub type Figures = Map<String, Value>;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything that it looks at is as it should be.
    Passed,
    /// Something is not.
    Failed,
    /// This machine cannot run it.
    Skipped,
}

/// One check's line of the report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// Its name.
    pub check: String,
    /// How it ended.
    pub result: Verdict,
    /// Why it failed or was skipped.
    pub reason: Option<String>,
    /// What was measured, also before a failure.
    pub figures: Figures,
}

/// Why a check ended early.
#[derive(Debug)]
pub enum Stop {
    /// What is wrong.
    Failed(String),
    /// What this machine lacks.
    Skipped(String),
}

impl Stop {
    /// A failure in words.
    pub fn failed(words: impl Into<String>) -> Self {
        Self::Failed(words.into())
    }

    /// A reason not to run, in words.
    pub fn skipped(words: impl Into<String>) -> Self {
        Self::Skipped(words.into())
    }
}

impl From<CudaError> for Stop {
    fn from(error: CudaError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<TensorRtError> for Stop {
    fn from(error: TensorRtError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Outcome {
    /// Runs a check to its end.
    pub fn of(check: &str, run: impl FnOnce(&mut Figures) -> Result<(), Stop>) -> Self {
        let mut figures = Figures::new();
        let (result, reason) = match run(&mut figures) {
            Ok(()) => (Verdict::Passed, None),
            Err(Stop::Failed(reason)) => (Verdict::Failed, Some(reason)),
            Err(Stop::Skipped(reason)) => (Verdict::Skipped, Some(reason)),
        };
        Self { check: check.to_owned(), result, reason, figures }
    }

    /// One that did not come to say anything itself.
    pub fn silent(check: &str, result: Verdict, reason: impl Into<String>) -> Self {
        Self { check: check.to_owned(), result, reason: Some(reason.into()), figures: Figures::new() }
    }
}

/// `condition`, or a failure.
///
/// # Errors
/// [`Stop::Failed`] with `words`.
pub fn demand(condition: bool, words: impl FnOnce() -> String) -> Result<(), Stop> {
    if condition { Ok(()) } else { Err(Stop::Failed(words())) }
}

/// Three digits behind the point: more would be noise.
pub fn rounded(value: f64) -> Value {
    Value::from((value * 1e3).round() / 1e3)
}

/// The middle and the tail of measurements, in their own unit; nothing of none.
pub fn percentiles(values: &mut [f64]) -> Option<[f64; 3]> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    Some([0.5, 0.95, 0.99].map(|share| values[(last as f64 * share).round() as usize]))
}
