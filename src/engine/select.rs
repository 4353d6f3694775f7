//! Which backend runs the model: what the user asked for, or the best that this box has.

use super::builtin::{self, BuiltinEngine};
use super::onnxruntime::{self, OnnxRuntimeEngine};
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
    let onnxruntime = onnxruntime::look();
    vec![
        missing("tensorrt"),
        missing("openvino"),
        BackendReport {
            name: onnxruntime::BACKEND,
            available: onnxruntime.is_ok(),
            explanation: onnxruntime.unwrap_or_else(|why_not| why_not),
        },
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

/// Loads the model once, on the backend that was asked for; for `auto`, on the fastest that this box has.
///
/// # Errors
/// [`EngineError::Unavailable`] or [`EngineError::Precision`] when the backend or the precision is not to be had
/// here; [`EngineError::Model`] when the model cannot be loaded.
pub fn load(options: &DetectorOptions, manifest: &Manifest) -> Result<Box<dyn Engine>, EngineError> {
    let threads = threads(options);
    match options.backend {
        Backend::Tensorrt => return Err(unavailable("tensorrt")),
        Backend::Openvino => return Err(unavailable("openvino")),
        Backend::Onnxruntime => {
            fp32_only(onnxruntime::BACKEND, options.precision)?;
            return Ok(Box::new(OnnxRuntimeEngine::load(manifest, threads)?));
        }
        Backend::Auto | Backend::Builtin => fp32_only(builtin::BACKEND, options.precision)?,
    }
    if options.backend == Backend::Auto && onnxruntime::look().is_ok() {
        match OnnxRuntimeEngine::load(manifest, threads) {
            Ok(engine) => return Ok(Box::new(engine)),
            Err(error) => tracing::warn!("backend auto passes over ONNX Runtime: {error}"),
        }
    }
    Ok(Box::new(BuiltinEngine::load(manifest, threads)?))
}

fn fp32_only(backend: &'static str, precision: Precision) -> Result<(), EngineError> {
    match precision {
        Precision::Auto | Precision::Fp32 => Ok(()),
        other => Err(EngineError::Precision {
            backend,
            precision: other.as_str(),
            reason: "it computes in fp32 only; write precision = \"auto\" or \"fp32\"",
        }),
    }
}

fn unavailable(backend: &'static str) -> EngineError {
    let report = backends().into_iter().find(|report| report.name == backend);
    let explanation = report.map(|report| report.explanation).unwrap_or_default();
    EngineError::Unavailable {
        backend,
        reason: format!("{explanation}; write backend = \"auto\" to use what this box has"),
    }
}
