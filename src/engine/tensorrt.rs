//! TensorRT behind the [`Engine`] trait, and behind the seam that builds engines.

use std::fmt;

use watchpost_cuda::{Gpu, SlotTensor};
use watchpost_tensorrt::{
    BuildOptions, BuildWay, Built, CalibrationFrames, Library, LoadOptions, Precision, Runner, TensorRtError,
    build, build_preview, build_way, find,
};

use super::batch_probe::Measurement;
use super::cache::{Cached, EngineKey, InUse, PlanPrecision};
use super::calibration::Pictures;
use super::tensorrt_build::{BuildDevice, BuildError, Measure, PlanBuilder, PlanOrder};
use super::{BATCH_MAX, Engine, EngineError, TensorView, check_shapes};
use crate::clock;
use crate::frame::{Place, SlotMemory};
use crate::model::Manifest;

/// Name of this backend in records, metrics and errors.
pub const BACKEND: &str = "tensorrt";

/// The GPU that is used where several are there.
const DEVICE_INDEX: u32 = 0;
/// Inferences whose median is a measurement, after as many that are not counted.
const MEASURED: usize = 15;

/// The library and the GPU, both of which work.
#[derive(Clone)]
pub struct TensorRt {
    library: Library,
    gpu: Gpu,
}

impl fmt::Debug for TensorRt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TensorRT {} on {}", self.library.version(), self.gpu.info().name)
    }
}

/// One line on what was found, or why nothing was. Makes no context.
///
/// # Errors
/// The line that says why not.
pub fn look() -> Result<String, String> {
    let library = find().map_err(|why| why.to_string())?;
    let way = match build_way(&library) {
        Ok(BuildWay::Builder { .. }) => "builds engines".to_owned(),
        Ok(BuildWay::Trtexec { program, .. }) => format!("builds engines with {}", program.display()),
        Err(error) => format!("runs engines, but {error}"),
    };
    Ok(format!("TensorRT {}, {}; {way}", library.version(), library.path().display()))
}

impl TensorRt {
    /// Loads the library and takes the GPU.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`] in one line: what is missing and what to do.
    pub fn open() -> Result<Self, EngineError> {
        let unavailable = |reason: String| EngineError::Unavailable { backend: BACKEND, reason };
        let library = find().map_err(|why| unavailable(why.to_string()))?;
        let gpu = Gpu::open(DEVICE_INDEX).map_err(|error| unavailable(error.to_string()))?;
        gpu.make_current().map_err(|error| unavailable(error.to_string()))?;
        library.probe().map_err(|error| unavailable(error.to_string()))?;
        Ok(Self { library, gpu })
    }

    /// The GPU.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Makes a built engine ready to run.
    ///
    /// # Errors
    /// [`EngineError::Model`] if it does not take and give what the manifest says, and others.
    pub fn load(
        &self,
        manifest: &Manifest,
        cached: Cached,
        key: &EngineKey,
    ) -> Result<TensorRtEngine, EngineError> {
        let options = LoadOptions { dla_core: key.dla_core, ..LoadOptions::default() };
        let runner = Runner::load(&self.library, &self.gpu, &cached.plan, options)
            .map_err(|error| failure(manifest, &error))?;
        let outputs: Vec<&[usize]> = runner.outputs().iter().map(|output| output.shape.as_slice()).collect();
        check_shapes(manifest, &runner.input().shape, &outputs)?;
        Ok(TensorRtEngine {
            runner,
            gpu: self.gpu.clone(),
            precision: key.precision.as_str(),
            _in_use: cached.in_use,
        })
    }
}

fn failure(manifest: &Manifest, error: &TensorRtError) -> EngineError {
    match error {
        _ if error.is_lost() => EngineError::Lost { backend: BACKEND, reason: error.to_string() },
        // What the engine takes and gives is what the model is; all else is this box as it is now.
        TensorRtError::Tensor { .. } | TensorRtError::Batch(_) => {
            EngineError::Model { path: manifest.source.to_string(), reason: error.to_string() }
        }
        _ => EngineError::Unavailable { backend: BACKEND, reason: error.to_string() },
    }
}

/// One model on one GPU.
#[derive(Debug)]
pub struct TensorRtEngine {
    runner: Runner,
    gpu: Gpu,
    precision: &'static str,
    /// No process removes the engine's file while it is loaded.
    _in_use: InUse,
}

impl Engine for TensorRtEngine {
    fn backend(&self) -> &'static str {
        BACKEND
    }

    fn precision(&self) -> &'static str {
        self.precision
    }

    fn max_batch(&self) -> usize {
        self.runner.max_batch()
    }

    fn place(&self) -> Place {
        Place::Device { gpu: self.gpu.clone(), element: self.runner.slot_element() }
    }

    fn infer(
        &mut self,
        inputs: &[&SlotMemory],
        each: &mut dyn FnMut(usize, &[TensorView<'_>]),
    ) -> Result<(), EngineError> {
        let slots = super::device_slots(inputs).ok_or_else(|| EngineError::Inference {
            backend: BACKEND,
            reason: "a slot lies in host memory: it was made for another engine".to_owned(),
        })?;
        let count = inputs.len().min(BATCH_MAX);
        self.runner.infer(&slots[..count], each).map_err(|error| match error.is_lost() {
            true => EngineError::Lost { backend: BACKEND, reason: error.to_string() },
            false => EngineError::Inference { backend: BACKEND, reason: error.to_string() },
        })
    }
}

impl PlanBuilder for TensorRt {
    fn library(&self) -> (&'static str, String) {
        (BACKEND, self.library.version().to_string())
    }

    fn device(&self) -> BuildDevice {
        let info = self.gpu.info();
        BuildDevice { name: info.name.clone(), compute_capability: info.compute_capability }
    }

    fn precision(&self, order: &PlanOrder<'_>) -> Result<PlanPrecision, BuildError> {
        // Whether there are pictures is looked at by whoever asks; here only what the library can is.
        let (precision, _batch) =
            build_preview(&self.library, order.onnx, &build_options(order, Some(&Calibrates))?)
                .map_err(build_failure)?;
        from_binding(precision)
    }

    fn build(
        &mut self,
        order: &PlanOrder<'_>,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Vec<u8>, BuildError> {
        let calibration = order.request.calibration.as_ref();
        let pictures =
            calibration.map(|calibration| Pictures::new(&calibration.pictures, &order.manifest.input));
        let options = build_options(order, pictures.as_ref().map(|pictures| pictures as _))?;
        let built: Result<Built, _> = build(&self.library, &self.gpu, order.onnx, &options, progress);
        match (built, pictures.as_ref().and_then(Pictures::failure)) {
            (Ok(built), _) => Ok(built.plan),
            (Err(_), Some(words)) => Err(BuildError::Input(words)),
            (Err(error), None) => Err(build_failure(error)),
        }
    }

    fn measuring<'a>(&'a mut self, plan: &[u8], order: &PlanOrder<'_>) -> Result<Measure<'a>, BuildError> {
        let before = self.gpu.ledger().device_bytes();
        let options = LoadOptions { dla_core: order.request.dla_core, ..LoadOptions::default() };
        let mut runner = Runner::load(&self.library, &self.gpu, plan, options).map_err(build_failure)?;
        let gpu = &self.gpu;
        Ok(Box::new(move |batch| measured(gpu, &mut runner, batch, before).map_err(build_failure)))
    }
}

fn build_options<'a>(
    order: &PlanOrder<'_>,
    calibration: Option<&'a dyn CalibrationFrames>,
) -> Result<BuildOptions<'a>, BuildError> {
    let request = order.request;
    Ok(BuildOptions {
        precision: to_binding(request.precision)?,
        max_batch: Some(order.profile.max),
        best_batch: Some(order.profile.opt),
        size: Some((order.manifest.input.width, order.manifest.input.height)),
        timing_cache: request.timing_cache.clone(),
        sparse: request.sparse,
        dla_core: request.dla_core,
        calibration,
        ..BuildOptions::default()
    })
}

/// The median time of batches of this size, and what the engine and their slots take on the device; the activations are
/// those of the largest batch.
fn measured(
    gpu: &Gpu,
    runner: &mut Runner,
    batch: usize,
    bytes_before: u64,
) -> Result<Measurement, TensorRtError> {
    let (element, len) = (runner.slot_element(), runner.input().len());
    let slots = (0..batch).map(|_| SlotTensor::new(gpu, element, len)).collect::<Result<Vec<_>, _>>()?;
    let slots: Vec<&SlotTensor> = slots.iter().collect();
    let mut times_ms = Vec::with_capacity(MEASURED);
    for turn in 0..2 * MEASURED {
        let began = clock::now();
        runner.infer(&slots, &mut |_, _| {})?;
        if turn >= MEASURED {
            times_ms.push(clock::now().saturating_duration_since(began).as_secs_f64() * 1e3);
        }
    }
    times_ms.sort_by(f64::total_cmp);
    let bytes = gpu.ledger().device_bytes().saturating_sub(bytes_before);
    Ok(Measurement { median_ms: times_ms[MEASURED / 2], bytes })
}

/// Stands for pictures while only the possibility counts.
struct Calibrates;

impl CalibrationFrames for Calibrates {
    fn count(&self) -> usize {
        1
    }

    fn frame(&self, _index: usize, _to: &mut [f32]) -> Result<(), String> {
        Err("no pictures were given".to_owned())
    }
}

fn to_binding(precision: Option<PlanPrecision>) -> Result<Precision, BuildError> {
    Ok(match precision {
        None => Precision::Auto,
        Some(PlanPrecision::Fp32) => Precision::Fp32,
        Some(PlanPrecision::Fp16) => Precision::Fp16,
        Some(PlanPrecision::Int8) => Precision::Int8,
        Some(PlanPrecision::Bf16) => {
            let words = "TensorRT engines are built here in fp16, fp32 or int8, not in bf16; use precision = \"fp16\"";
            return Err(BuildError::Unavailable(words.to_owned()));
        }
    })
}

fn from_binding(precision: Precision) -> Result<PlanPrecision, BuildError> {
    match precision {
        Precision::Fp32 => Ok(PlanPrecision::Fp32),
        Precision::Fp16 => Ok(PlanPrecision::Fp16),
        Precision::Int8 => Ok(PlanPrecision::Int8),
        Precision::Auto => Err(BuildError::Failed("the library did not decide on a precision".to_owned())),
    }
}

fn build_failure(error: TensorRtError) -> BuildError {
    let words = error.to_string();
    match error {
        TensorRtError::Cuda(watchpost_cuda::CudaError::OutOfMemory { .. }) => BuildError::OutOfMemory(words),
        // The builder says it in words only.
        TensorRtError::Refused { .. } if says_memory(&words) => BuildError::OutOfMemory(words),
        TensorRtError::Build(_) | TensorRtError::Unavailable(_) | TensorRtError::OldMinor { .. } => {
            BuildError::Unavailable(words)
        }
        TensorRtError::Refused { what: "the model", .. } | TensorRtError::Tensor { .. } => {
            BuildError::Input(words)
        }
        _ => BuildError::Failed(words),
    }
}

fn says_memory(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    ["out of memory", "outofmemory", "insufficient memory"].iter().any(|sign| words.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_from_other_refusals() {
        assert!(says_memory("[defaultAllocator] Cuda Runtime (out of memory)"));
        assert!(says_memory("Error Code 2: OutOfMemory (Requested size was 4294967296 bytes.)"));
        assert!(!says_memory("Could not find any implementation for node"));
    }
}
