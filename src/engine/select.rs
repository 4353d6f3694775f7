//! Which backend runs the model: what the user asked for, or the best that this box has.

use super::builtin::{self, BuiltinEngine};
use super::{Engine, EngineError};
use crate::config::{Auto, Backend, DetectorOptions, Precision};
use crate::model::Manifest;

/// One backend, as `devices` and `check` explain it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendReport {
    /// The name in the configuration.
    pub name: &'static str,
    /// Whether it can be used here.
    pub available: bool,
    /// One line: what it is, or why it cannot be used.
    pub explanation: String,
}

/// Every backend that the configuration can name, best first.
pub fn backends() -> Vec<BackendReport> {
    let missing = |name: &'static str| BackendReport {
        name,
        available: false,
        explanation: format!("this version of watchpost does not contain the {name} backend yet"),
    };
    vec![
        missing("tensorrt"),
        missing("openvino"),
        missing("onnxruntime"),
        BackendReport {
            name: builtin::BACKEND,
            available: true,
            explanation: "pure Rust on the CPU, fp32, always there".to_owned(),
        },
    ]
}

/// Threads of one inference: as configured, else one a core.
pub fn threads(options: &DetectorOptions) -> usize {
    match options.threads {
        Auto::Fixed(threads) => threads.max(1),
        Auto::Auto => std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX),
    }
}

/// More threads than this make one inference of a small detector slower, not faster.
const THREADS_MAX: usize = 8;

/// Loads the model once, on the backend that was asked for.
///
/// # Errors
/// [`EngineError::Unavailable`] when the backend or the precision is not to be had here;
/// [`EngineError::Model`] when the model cannot be loaded.
pub fn load(options: &DetectorOptions, manifest: &Manifest) -> Result<Box<dyn Engine>, EngineError> {
    let backend = match options.backend {
        Backend::Auto | Backend::Builtin => builtin::BACKEND,
        Backend::Tensorrt => return Err(unavailable("tensorrt")),
        Backend::Openvino => return Err(unavailable("openvino")),
        Backend::Onnxruntime => return Err(unavailable("onnxruntime")),
    };
    if !matches!(options.precision, Precision::Auto | Precision::Fp32) {
        return Err(EngineError::Precision {
            backend,
            precision: options.precision.as_str(),
            reason: "it computes in fp32 only; write precision = \"auto\" or \"fp32\"",
        });
    }
    Ok(Box::new(BuiltinEngine::load(manifest, threads(options))?))
}

fn unavailable(backend: &'static str) -> EngineError {
    let report = backends().into_iter().find(|report| report.name == backend);
    let explanation = report.map(|report| report.explanation).unwrap_or_default();
    EngineError::Unavailable {
        backend,
        reason: format!("{explanation}; write backend = \"auto\" to use what this box has"),
    }
}
