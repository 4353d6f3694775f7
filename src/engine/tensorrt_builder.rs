//! TensorRT as a [`PlanBuilder`]: the library of this box, on its first GPU.

use std::sync::Mutex;
use std::time::Duration;

use watchpost_cuda::{CudaError, Element, Gpu, Letterboxer, Recipe, SlotTensor};
use watchpost_pipelines::{Pipeline, Pull, SourceKind, Spec};
use watchpost_tensorrt::{
    BuildOptions, CalibrationFrames, Library, LoadOptions, Precision, Runner, TensorRtError, build_preview,
    build_way,
};

use super::batch_probe::Measurement;
use super::cache::PlanPrecision;
use super::tensorrt_build::{BuildDevice, BuildError, Calibration, Measure, PlanBuilder, PlanOrder};
use crate::clock;
use crate::frame::Letterbox;
use crate::source::fault;

/// Runs before a measurement: clocks rise, graphs are recorded.
const WARM_UP_RUNS: usize = 5;
/// Runs of a measurement, fewer where they take long.
const RUNS_MAX: usize = 50;
const RUNS_MIN: usize = 5;
const MEASURE_FOR: Duration = Duration::from_millis(500);
/// A picture file that has not been decoded by then never will be.
const DECODE_WITHIN: Duration = Duration::from_secs(30);

/// The builder of this box.
///
/// # Errors
/// [`BuildError::Unavailable`] with what is missing and what to do.
pub fn look() -> Result<Box<dyn PlanBuilder>, BuildError> {
    let unavailable =
        |reason: String| BuildError::Unavailable(format!("engines cannot be built here: {reason}"));
    let library = watchpost_tensorrt::find().map_err(|error| unavailable(error.to_string()))?;
    build_way(&library).map_err(|error| unavailable(error.to_string()))?;
    let gpu = Gpu::open(0).map_err(|error| unavailable(error.to_string()))?;
    Ok(Box::new(TensorRtBuilder { library, gpu }))
}

#[derive(Debug)]
struct TensorRtBuilder {
    library: Library,
    gpu: Gpu,
}

impl From<TensorRtError> for BuildError {
    fn from(error: TensorRtError) -> Self {
        let words = error.to_string();
        match error {
            TensorRtError::Cuda(CudaError::OutOfMemory { .. }) => Self::OutOfMemory(words),
            // The builder says it in words only.
            TensorRtError::Refused { .. } | TensorRtError::Enqueue { .. } if says_memory(&words) => {
                Self::OutOfMemory(words)
            }
            TensorRtError::Unavailable(_)
            | TensorRtError::UnsupportedVersion { .. }
            | TensorRtError::Library { .. }
            | TensorRtError::Start { .. }
            | TensorRtError::OldMinor { .. }
            | TensorRtError::Build(_) => Self::Unavailable(words),
            TensorRtError::Refused { what: "the model", .. } | TensorRtError::Tensor { .. } => {
                Self::Input(words)
            }
            _ => Self::Failed(words),
        }
    }
}

fn says_memory(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    words.contains("out of memory") || words.contains("outofmemory") || words.contains("insufficient memory")
}

impl PlanBuilder for TensorRtBuilder {
    fn library(&self) -> (&'static str, String) {
        ("tensorrt", self.library.version().to_string())
    }

    fn device(&self) -> BuildDevice {
        let info = self.gpu.info();
        BuildDevice { name: info.name.clone(), compute_capability: info.compute_capability }
    }

    fn precision(&self, order: &PlanOrder<'_>) -> Result<PlanPrecision, BuildError> {
        let pictures = order.request.calibration.as_ref().map(|pictures| Pictures::new(pictures, order));
        let options = options(order, pictures.as_ref())?;
        let (precision, _) = build_preview(&self.library, order.onnx, &options)?;
        Ok(match precision {
            Precision::Auto | Precision::Fp32 => PlanPrecision::Fp32,
            Precision::Fp16 => PlanPrecision::Fp16,
            Precision::Int8 => PlanPrecision::Int8,
        })
    }

    fn build(
        &mut self,
        order: &PlanOrder<'_>,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Vec<u8>, BuildError> {
        let pictures = order.request.calibration.as_ref().map(|pictures| Pictures::new(pictures, order));
        if pictures.is_some() {
            watchpost_pipelines::init().map_err(|error| BuildError::Unavailable(error.to_string()))?;
        }
        let options = options(order, pictures.as_ref())?;
        let built = watchpost_tensorrt::build(&self.library, &self.gpu, order.onnx, &options, progress)?;
        Ok(built.plan)
    }

    fn measuring<'a>(&'a mut self, plan: &[u8]) -> Result<Measure<'a>, BuildError> {
        let held_before = self.gpu.ledger().device_bytes();
        let mut runner = Runner::load(&self.library, &self.gpu, plan, LoadOptions::default())?;
        let gpu = &self.gpu;
        Ok(Box::new(move |batch| measure(gpu, &mut runner, batch, held_before)))
    }
}

fn options<'a>(
    order: &PlanOrder<'_>,
    pictures: Option<&'a Pictures<'_>>,
) -> Result<BuildOptions<'a>, BuildError> {
    let request = order.request;
    let precision = match request.precision {
        None => Precision::Auto,
        Some(PlanPrecision::Fp32) => Precision::Fp32,
        Some(PlanPrecision::Fp16) => Precision::Fp16,
        Some(PlanPrecision::Int8) => Precision::Int8,
        Some(PlanPrecision::Bf16) => {
            let words = "bf16 is not built for TensorRT; write precision = \"fp16\" or \"auto\"";
            return Err(BuildError::Unavailable(words.to_owned()));
        }
    };
    Ok(BuildOptions {
        precision,
        max_batch: Some(order.profile.max),
        best_batch: Some(order.profile.opt),
        size: Some((order.manifest.input.width, order.manifest.input.height)),
        timing_cache: request.timing_cache.clone(),
        sparse: request.sparse,
        dla_core: request.dla_core,
        calibration: pictures.map(|pictures| pictures as &dyn CalibrationFrames),
        ..BuildOptions::default()
    })
}

/// The median time of batches of this size, and the device memory that the engine and they take.
fn measure(
    gpu: &Gpu,
    runner: &mut Runner,
    batch: usize,
    held_before: u64,
) -> Result<Measurement, BuildError> {
    let input = runner.input();
    let &[_, _, height, width] = input.shape.as_slice() else {
        return Err(BuildError::Failed(format!("the engine takes {:?}", input.shape)));
    };
    let (element, side) = (runner.slot_element(), |side: usize| u32::try_from(side).unwrap_or(u32::MAX));
    let recipe = Recipe {
        width: side(width),
        height: side(height),
        pad: 0.0,
        scale: [1.0; 3],
        offset: [0.0; 3],
        bgr: false,
    };
    let cuda = |error: CudaError| BuildError::from(TensorRtError::Cuda(error));
    let slots = grey_slots(gpu, recipe, element, batch).map_err(cuda)?;
    let slots: Vec<&SlotTensor> = slots.iter().collect();
    for _ in 0..WARM_UP_RUNS {
        runner.infer(&slots, &mut |_, _| {})?;
    }
    let mut times = Vec::with_capacity(RUNS_MAX);
    let began = clock::now();
    while times.len() < RUNS_MAX && (times.len() < RUNS_MIN || clock::now() - began < MEASURE_FOR) {
        let run = clock::now();
        runner.infer(&slots, &mut |_, _| {})?;
        times.push(clock::now() - run);
    }
    times.sort();
    let median_ms = times[times.len() / 2].as_secs_f64() * 1e3;
    Ok(Measurement { median_ms, bytes: gpu.ledger().device_bytes().saturating_sub(held_before) })
}

/// Slots with a picture in them that no arithmetic takes a short cut through.
fn grey_slots(
    gpu: &Gpu,
    recipe: Recipe,
    element: Element,
    count: usize,
) -> Result<Vec<SlotTensor>, CudaError> {
    let mut letterboxer = Letterboxer::new(gpu, recipe)?;
    let len = 3 * recipe.width as usize * recipe.height as usize;
    let mut slots = Vec::with_capacity(count);
    for _ in 0..count {
        let mut slot = SlotTensor::new(gpu, element, len)?;
        for (index, value) in letterboxer.staging()?.iter_mut().enumerate() {
            *value = (index % 251) as f32 / 251.0;
        }
        letterboxer.upload(&mut slot)?;
        slots.push(slot);
    }
    letterboxer.finish()?;
    Ok(slots)
}

/// Calibration pictures as the model takes them.
struct Pictures<'a> {
    pictures: &'a Calibration,
    letterbox: Mutex<Letterbox>,
}

impl<'a> Pictures<'a> {
    fn new(pictures: &'a Calibration, order: &PlanOrder<'_>) -> Self {
        Self { pictures, letterbox: Mutex::new(Letterbox::new(&order.manifest.input)) }
    }
}

impl CalibrationFrames for Pictures<'_> {
    fn count(&self) -> usize {
        self.pictures.pictures.len()
    }

    fn frame(&self, index: usize, to: &mut [f32]) -> Result<(), String> {
        let path = self.pictures.pictures.get(index).ok_or("there are no more pictures")?;
        let refuse = |words: String| format!("calibration picture {}: {words}", path.display());
        let spec = Spec::new(SourceKind::Image { path: path.clone() });
        let pipeline = Pipeline::start_pull(&spec, "calibration")
            .map_err(|error| refuse(fault(error.into_failure()).detail))?;
        let frame = match pipeline.pull(DECODE_WITHIN) {
            Pull::Frame(frame) => frame,
            Pull::Eos => return Err(refuse("has no picture in it; take it out".to_owned())),
            Pull::Error(failure) => return Err(refuse(fault(failure).detail)),
            Pull::TimedOut => return Err(refuse("was not decoded in 30 s; take it out".to_owned())),
        };
        let mut letterbox = self.letterbox.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        letterbox.run(&frame.picture(), to).map(drop).map_err(|error| refuse(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::engine::cache::BatchRequest;
    use crate::engine::tensorrt_build::{Profile, tests::request};

    #[test]
    fn calibration_pictures_are_letterboxed_as_the_model_takes_them() {
        let shared = std::env::var_os("WATCHPOST_SHARED").map(PathBuf::from);
        let shared = shared.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"));
        let photos = shared.join("footage/photos");
        if !photos.is_dir() {
            eprintln!("NOT TESTED: calibration pictures: {} is not there", photos.display());
            return;
        }
        watchpost_pipelines::init().unwrap();
        let manifest = crate::model::find("demo", &[]).unwrap();
        let request = request(BatchRequest::Upto(1));
        let profile = Profile { min: 1, opt: 1, max: 1 };
        let order = PlanOrder { onnx: &[], manifest: &manifest, profile, request: &request };
        let calibration = Calibration::read(&photos).unwrap();
        let pictures = Pictures::new(&calibration, &order);
        assert!(pictures.count() >= 3);
        let mut tensor = vec![f32::NAN; manifest.input.len()];
        for index in 0..pictures.count() {
            tensor.fill(f32::NAN);
            pictures.frame(index, &mut tensor).unwrap();
            assert!(tensor.iter().all(|value| value.is_finite()), "picture {index}");
            let (least, most) = tensor.iter().fold((f32::MAX, f32::MIN), |(a, b), &v| (a.min(v), b.max(v)));
            assert!(most > least, "picture {index} is empty");
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("broken.jpg"), "no picture").unwrap();
        let broken = Calibration::read(folder.path()).unwrap();
        let error = Pictures::new(&broken, &order).frame(0, &mut tensor).unwrap_err();
        assert!(error.contains("broken.jpg"), "{error}");
        assert!(pictures.frame(pictures.count(), &mut tensor).is_err());
    }

    #[test]
    fn memory_is_told_from_other_refusals() {
        assert!(says_memory("[defaultAllocator] Cuda Runtime (out of memory)"));
        assert!(says_memory("OutOfMemory Error in GlobWriter"));
        assert!(!says_memory("Could not find any implementation for node"));
    }
}
