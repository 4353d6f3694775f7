//! Which backend runs the model: what the user asked for, or the best that this box has.

use watchpost_cuda::Gpu;
use watchpost_onnxruntime::Provider;

use super::builtin::{self, BuiltinEngine};
use super::confined::Confined;
use super::on_gpu::{self, OnGpu};
use super::onnxruntime::{self, OnnxRuntimeEngine};
use super::onnxruntime_gpu::{self, OnnxRuntimeGpuEngine};
use super::openvino::{self, OpenVinoEngine};
use super::{Engine, EngineError, fastest, tensorrt};
use crate::affinity::{self, Meanwhile};
use crate::config::{Auto, Backend, DetectorOptions, OnnxProvider, Precision};
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
    let report = |name: &'static str, found: Result<String, String>| BackendReport {
        name,
        available: found.is_ok(),
        explanation: found.unwrap_or_else(|why_not| why_not),
    };
    vec![
        report(tensorrt::BACKEND, tensorrt::look()),
        report(openvino::BACKEND, openvino::look()),
        report(onnxruntime::BACKEND, onnxruntime::look()),
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
        Auto::Auto => {
            let cpus = options.cpus.as_ref().and_then(|cpus| cpus.usable().ok());
            let most = cpus.map_or(THREADS_MAX, |cpus| cpus.count().min(THREADS_MAX));
            affinity::parallelism().min(most)
        }
    }
}

/// More threads than this make one inference of a small detector slower, not faster.
const THREADS_MAX: usize = 8;

/// An engine, and perhaps the way to a better one.
pub struct Choice {
    /// Loaded, ready to run.
    pub engine: Box<dyn Engine>,
    /// Makes the engine that `auto` would rather have. Takes minutes; for a process that lives longer.
    pub later: Option<Later>,
    /// What that engine will run on.
    pub gpu: Option<Gpu>,
}

impl std::fmt::Debug for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Choice").field("backend", &self.engine.backend()).finish_non_exhaustive()
    }
}

/// Work of minutes.
pub type Later = Box<dyn FnOnce() -> Result<Box<dyn Engine>, EngineError> + Send>;

/// Loads the model once, on the backend that was asked for; for `auto`, on the fastest that this box has now. `say` is told
/// what takes long, about every five seconds.
///
/// # Errors
/// [`EngineError::Unavailable`] or [`EngineError::Precision`] when the backend or the precision is not to be had
/// here; [`EngineError::Model`] when the model cannot be loaded.
pub fn load(
    options: &DetectorOptions,
    manifest: &Manifest,
    say: &mut dyn FnMut(&str),
) -> Result<Choice, EngineError> {
    // Once anything is confined, who asks for nothing must not inherit it.
    let unconfined = || affinity::is_in_use().then(|| *affinity::allowed());
    let Some(cpus) = options.cpus.or_else(unconfined) else {
        return load_here(options, manifest, say);
    };
    affinity::tell(&cpus);
    let _library_starts_its_threads = Meanwhile::confined(&cpus)?;
    let choice = load_here(options, manifest, say)?;
    Ok(Choice { engine: Box::new(Confined { engine: choice.engine, cpus: Some(cpus) }), ..choice })
}

fn load_here(
    options: &DetectorOptions,
    manifest: &Manifest,
    say: &mut dyn FnMut(&str),
) -> Result<Choice, EngineError> {
    match options.backend {
        Backend::Tensorrt => match on_gpu::load(options, manifest).map_err(or_auto)? {
            OnGpu::Ready(engine) => Ok(now(*engine)),
            OnGpu::ToBuild(build) => build.run(say).map(now),
        },
        Backend::Openvino => {
            OpenVinoEngine::load(options, manifest, threads(options)).map(now).map_err(or_auto)
        }
        Backend::Onnxruntime => match onnxruntime_gpu::provider(options) {
            Some(provider) if options.provider != OnnxProvider::Auto => {
                OnnxRuntimeGpuEngine::load(options, manifest, provider).map(now)
            }
            provider => on_onnxruntime(options, manifest, provider),
        },
        Backend::Builtin => {
            fp32_only(builtin::BACKEND, options.precision)?;
            BuiltinEngine::load(manifest, threads(options)).map(now)
        }
        Backend::Auto => auto(options, manifest, say),
    }
}

fn now(engine: impl Engine + 'static) -> Choice {
    Choice { engine: Box::new(engine), later: None, gpu: None }
}

/// ONNX Runtime on the GPU if it can be had, else on the CPU.
fn on_onnxruntime(
    options: &DetectorOptions,
    manifest: &Manifest,
    provider: Option<Provider>,
) -> Result<Choice, EngineError> {
    if let Some(provider) = provider {
        match onnxruntime_gpu::look(&provider) {
            Ok(()) => match OnnxRuntimeGpuEngine::load(options, manifest, provider) {
                Ok(engine) => return Ok(now(engine)),
                Err(error) => tracing::warn!("ONNX Runtime computes on the CPU: {error}"),
            },
            Err(why) => tracing::debug!("ONNX Runtime computes on the CPU: {why}"),
        }
    }
    fp32_or_its_own(options.precision, manifest)?;
    OnnxRuntimeEngine::load(manifest, threads(options)).map(now)
}

/// TensorRT where it is; the CPU until its engine is built, and where it is not.
fn auto(
    options: &DetectorOptions,
    manifest: &Manifest,
    say: &mut dyn FnMut(&str),
) -> Result<Choice, EngineError> {
    let build = match on_gpu::load(options, manifest) {
        Ok(OnGpu::Ready(engine)) => return Ok(now(*engine)),
        Ok(OnGpu::ToBuild(build)) => Some(build),
        Err(EngineError::Unavailable { reason, .. }) => {
            tracing::info!("backend auto runs on the CPU: {reason}");
            None
        }
        Err(error) => {
            tracing::warn!("backend auto passes over TensorRT: {error}");
            None
        }
    };
    match (on_cpu(options, manifest, say), build) {
        (Ok(engine), build) => {
            let gpu = build.as_ref().map(|build| build.gpu().clone());
            let later: Option<Later> = build.map(|build| {
                let later = move || {
                    let engine = build.run(&mut |line| tracing::debug!("{line}"))?;
                    Ok(Box::new(engine) as Box<dyn Engine>)
                };
                Box::new(later) as Later
            });
            Ok(Choice { engine, later, gpu })
        }
        // Only the GPU has the arithmetic that was asked for: there is nothing to begin with.
        (Err(EngineError::Precision { .. }), Some(build)) => build.run(say).map(now),
        (Err(error), _) => Err(error),
    }
}

/// The fastest that this box has without TensorRT and gives the precision asked for.
fn on_cpu(
    options: &DetectorOptions,
    manifest: &Manifest,
    say: &mut dyn FnMut(&str),
) -> Result<Box<dyn Engine>, EngineError> {
    // A provider for the GPU is faster than any CPU.
    if let Some(provider) = onnxruntime_gpu::provider(options)
        && onnxruntime_gpu::look(&provider).is_ok()
    {
        match OnnxRuntimeGpuEngine::load(options, manifest, provider) {
            Ok(engine) => return Ok(Box::new(engine)),
            Err(error) => tracing::warn!("backend auto passes over ONNX Runtime on the GPU: {error}"),
        }
    }
    let backends = order(options, manifest, say);
    let mut refusal = None;
    for backend in backends {
        match load_on_cpu(&backend, options, manifest) {
            Ok(engine) => return Ok(engine),
            // The built-in engine comes last and its words count: the others are extras of this box.
            Err(error) if backend == builtin::BACKEND => refusal = Some(error),
            Err(error) => tracing::warn!("backend auto passes over {backend}: {error}"),
        }
    }
    let nothing =
        || EngineError::Unavailable { backend: builtin::BACKEND, reason: "it was not tried".to_owned() };
    Err(refusal.unwrap_or_else(nothing))
}

/// In which order the CPU's backends are tried.
fn order(options: &DetectorOptions, manifest: &Manifest, say: &mut dyn FnMut(&str)) -> Vec<String> {
    let mut candidates = Vec::with_capacity(3);
    candidates.extend(openvino::look().is_ok().then_some(openvino::BACKEND));
    candidates.extend(onnxruntime::look().is_ok().then_some(onnxruntime::BACKEND));
    candidates.push(builtin::BACKEND);
    let mut order: Vec<String> = candidates.iter().map(|&name| name.to_owned()).collect();
    if candidates.len() == 1 {
        return order;
    }
    if let Some(ranking) = fastest::rank(&candidates, options, manifest, say) {
        tracing::info!("backend auto takes {}: {}", ranking.backends[0], ranking.explanation);
        order.retain(|name| !ranking.backends.contains(name));
        order.splice(0..0, ranking.backends);
    }
    order
}

fn load_on_cpu(
    backend: &str,
    options: &DetectorOptions,
    manifest: &Manifest,
) -> Result<Box<dyn Engine>, EngineError> {
    let threads = threads(options);
    Ok(match backend {
        openvino::BACKEND => Box::new(OpenVinoEngine::load(options, manifest, threads)?),
        onnxruntime::BACKEND => {
            fp32_or_its_own(options.precision, manifest)?;
            Box::new(OnnxRuntimeEngine::load(manifest, threads)?)
        }
        _ => {
            fp32_only(builtin::BACKEND, options.precision)?;
            Box::new(BuiltinEngine::load(manifest, threads)?)
        }
    })
}

fn fp32_only(backend: &'static str, precision: Precision) -> Result<(), EngineError> {
    match precision {
        Precision::Auto | Precision::Fp32 => Ok(()),
        other => Err(EngineError::Precision {
            backend,
            precision: other.as_str(),
            reason: "it computes in fp32 only; write precision = \"auto\" or \"fp32\"".to_owned(),
        }),
    }
}

/// A library that computes quantised models in integers, and all others in fp32.
fn fp32_or_its_own(precision: Precision, manifest: &Manifest) -> Result<(), EngineError> {
    if precision == Precision::Int8 && super::is_quantised(manifest)? {
        return Ok(());
    }
    fp32_only(onnxruntime::BACKEND, precision)
}

/// What somebody who named a backend can do without it.
fn or_auto(error: EngineError) -> EngineError {
    match error {
        EngineError::Unavailable { backend, reason } => {
            let reason = format!("{reason}; or write backend = \"auto\" to use what this box has");
            EngineError::Unavailable { backend, reason }
        }
        other => other,
    }
}
