//! TensorRT behind the [`Engine`] trait, and behind the seam that builds engines.

use std::fmt;

use watchpost_cuda::{Gpu, SlotTensor};
use watchpost_tensorrt::{
    BuildOptions, BuildWay, Built, CalibrationFrames, Library, LoadOptions, OutputView, Precision, Runner,
    TensorRtError, build, build_preview, build_way, find,
};

use super::batch_probe::Measurement;
use super::cache::{Cached, InUse, PlanPrecision};
use super::calibration::Pictures;
use super::tensorrt_build::{BuildDevice, BuildError, PlanBuilder, PlanOrder};
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

    /// Makes a built engine ready to run.
    ///
    /// # Errors
    /// [`EngineError::Model`] if it does not take and give what the manifest says, and others.
    pub fn load(
        &self,
        manifest: &Manifest,
        cached: Cached,
        precision: PlanPrecision,
    ) -> Result<TensorRtEngine, EngineError> {
        let runner = Runner::load(&self.library, &self.gpu, &cached.plan, LoadOptions::default())
            .map_err(|error| failure(manifest, &error))?;
        let outputs: Vec<&[usize]> = runner.outputs().iter().map(|output| output.shape.as_slice()).collect();
        check_shapes(manifest, &runner.input().shape, &outputs)?;
        Ok(TensorRtEngine {
            runner,
            gpu: self.gpu.clone(),
            precision: precision.as_str(),
            _in_use: cached.in_use,
        })
    }
}

fn failure(manifest: &Manifest, error: &TensorRtError) -> EngineError {
    match error {
        _ if error.is_lost() => EngineError::Lost { backend: BACKEND, reason: error.to_string() },
        TensorRtError::Unavailable(_) | TensorRtError::Cuda(_) | TensorRtError::Start { .. } => {
            EngineError::Unavailable { backend: BACKEND, reason: error.to_string() }
        }
        _ => EngineError::Model { path: manifest.source.to_string(), reason: error.to_string() },
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
        let wrong = || EngineError::Inference {
            backend: BACKEND,
            reason: "a slot lies in host memory: it was made for another engine".to_owned(),
        };
        let first = inputs.first().copied().and_then(device_tensor).ok_or_else(wrong)?;
        let mut slots: [&SlotTensor; BATCH_MAX] = [first; BATCH_MAX];
        for (slot, input) in slots.iter_mut().zip(inputs) {
            *slot = device_tensor(input).ok_or_else(wrong)?;
        }
        let mut lend = |index: usize, outputs: &[OutputView<'_>]| {
            let none = TensorView { name: "", shape: &[], data: &[] };
            let mut views = [none; OUTPUTS_MAX];
            for (view, output) in views.iter_mut().zip(outputs) {
                *view = TensorView { name: output.name, shape: output.shape, data: output.data };
            }
            each(index, &views[..outputs.len().min(OUTPUTS_MAX)]);
        };
        let count = inputs.len().min(BATCH_MAX);
        self.runner.infer(&slots[..count], &mut lend).map_err(|error| match error.is_lost() {
            true => EngineError::Lost { backend: BACKEND, reason: error.to_string() },
            false => EngineError::Inference { backend: BACKEND, reason: error.to_string() },
        })
    }
}

/// A detector has a handful of outputs; the binding refuses engines with more than this.
const OUTPUTS_MAX: usize = 32;

fn device_tensor(memory: &SlotMemory) -> Option<&SlotTensor> {
    match memory {
        SlotMemory::Device(tensor) => Some(tensor),
        SlotMemory::Host(_) => None,
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

    fn precision(&self, asked: Option<PlanPrecision>, onnx: &[u8]) -> Result<PlanPrecision, BuildError> {
        let can_calibrate = Calibrates;
        let options = BuildOptions {
            precision: to_binding(asked)?,
            // Whether there are pictures is looked at by whoever asks; here only what the library can is.
            calibration: Some(&can_calibrate),
            ..BuildOptions::default()
        };
        let (precision, _batch) = build_preview(&self.library, onnx, &options).map_err(build_failure)?;
        from_binding(precision)
    }

    fn build(
        &mut self,
        order: &PlanOrder<'_>,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Vec<u8>, BuildError> {
        let request = order.request;
        let pictures = request
            .calibration
            .as_ref()
            .map(|calibration| Pictures::new(&calibration.pictures, &order.manifest.input));
        let options = BuildOptions {
            precision: to_binding(Some(order.precision))?,
            max_batch: Some(order.profile.max),
            best_batch: Some(order.profile.opt),
            size: Some((order.manifest.input.width, order.manifest.input.height)),
            timing_cache: request.timing_cache.clone(),
            sparse: request.sparse,
            dla_core: request.dla_core,
            calibration: pictures.as_ref().map(|pictures| pictures as &dyn CalibrationFrames),
            ..BuildOptions::default()
        };
        let built: Built =
            build(&self.library, &self.gpu, order.onnx, &options, progress).map_err(build_failure)?;
        Ok(built.plan)
    }

    fn measure(&mut self, plan: &[u8], batch: usize) -> Result<Measurement, BuildError> {
        let before = self.gpu.ledger().device_bytes();
        let mut runner =
            Runner::load(&self.library, &self.gpu, plan, LoadOptions::default()).map_err(build_failure)?;
        let (element, len) = (runner.slot_element(), runner.input().len());
        let slots = (0..batch).map(|_| SlotTensor::new(&self.gpu, element, len));
        let slots = slots.collect::<Result<Vec<_>, _>>().map_err(|error| build_failure(error.into()))?;
        let slots: Vec<&SlotTensor> = slots.iter().collect();
        let mut times_ms = Vec::with_capacity(MEASURED);
        for turn in 0..2 * MEASURED {
            let began = clock::now();
            runner.infer(&slots, &mut |_, _| {}).map_err(build_failure)?;
            if turn >= MEASURED {
                times_ms.push(clock::now().saturating_duration_since(began).as_secs_f64() * 1e3);
            }
        }
        times_ms.sort_by(f64::total_cmp);
        let bytes = self.gpu.ledger().device_bytes().saturating_sub(before);
        Ok(Measurement { median_ms: times_ms[MEASURED / 2], bytes })
    }
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
        TensorRtError::Build(_) | TensorRtError::Unavailable(_) | TensorRtError::OldMinor { .. } => {
            BuildError::Unavailable(words)
        }
        TensorRtError::Refused { what: "the model", .. } | TensorRtError::Tensor { .. } => {
            BuildError::Input(words)
        }
        _ => BuildError::Failed(words),
    }
}
