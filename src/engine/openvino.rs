//! OpenVINO behind the [`Engine`] trait.

use watchpost_openvino::{
    Arithmetic, Library, LoadError, LoadOptions, Mode, Model, ModelBytes, find_library,
};

use super::compiled::Kept;
use super::{BATCH_MAX, Engine, EngineError, TensorView, check_host, fastest, infer_on_host, is_quantised};
use crate::config::{Auto, DetectorOptions, EngineMode, OpenVinoDevice, Precision};
use crate::frame::{Place, SlotMemory};
use crate::model::{Manifest, ModelSource};

/// Name of this backend in records, metrics and errors.
pub const BACKEND: &str = "openvino";

/// One model on the library that this box has.
#[derive(Debug)]
pub struct OpenVinoEngine {
    model: Model,
    precision: &'static str,
}

/// The library's file, where there is one.
pub fn library() -> Option<std::path::PathBuf> {
    find_library().ok()
}

/// One line on what was found, or why nothing was.
///
/// # Errors
/// The line that says why not.
pub fn look() -> Result<String, String> {
    find_library()
        .map(|path| format!("Intel and ARM CPUs, Intel GPUs and NPUs, {}", path.display()))
        .map_err(|error| error.to_string())
}

impl OpenVinoEngine {
    /// Loads the library, compiles the manifest's model for `threads` threads, and infers one empty frame.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`] without a usable library or device, [`EngineError::Precision`],
    /// [`EngineError::Model`].
    pub fn load(options: &DetectorOptions, manifest: &Manifest, threads: usize) -> Result<Self, EngineError> {
        let unavailable = |reason: String| EngineError::Unavailable { backend: BACKEND, reason };
        let path = find_library().map_err(|error| unavailable(error.to_string()))?;
        let library = Library::load(&path).map_err(|error| unavailable(error.to_string()))?;
        let is_quantised = is_quantised(manifest)?;
        if options.precision == Precision::Int8 && !is_quantised {
            return Err(refuse_precision(
                options,
                "the model is not quantised; give it a model with INT8 weights (QDQ)",
            ));
        }
        let input = &manifest.input;
        let load = LoadOptions {
            device: options.device.name().to_owned(),
            threads,
            streams: streams(options, threads),
            input_size: (input.width, input.height),
            arithmetic: asked(options.precision, options.device),
            mode: match options.mode {
                EngineMode::Latency => Mode::Latency,
                EngineMode::Throughput => Mode::Throughput,
            },
        };
        let kept = Kept::of(&conditions(&library, &load, manifest), options.engine_cache_limit_bytes);
        let known = kept.as_ref().and_then(Kept::take);
        let bytes = match &manifest.source {
            ModelSource::File(path) => ModelBytes::File(path),
            ModelSource::Embedded(bytes) => ModelBytes::Memory(bytes),
        };
        let known_bytes = known.as_ref().map(|known| known.bytes.as_slice());
        let model = Model::load(&library, bytes, &load, known_bytes).map_err(|error| match error {
            LoadError::Library { .. } | LoadError::Device { .. } => unavailable(error.to_string()),
            error => EngineError::Model { path: manifest.source.to_string(), reason: error.to_string() },
        })?;
        if let Some(known) = known.filter(|_| model.was_kept()) {
            known.works();
        }
        if load.arithmetic.is_some() && model.arithmetic().is_some() && model.arithmetic() != load.arithmetic
        {
            let can = name(model.arithmetic());
            return Err(refuse_precision(
                options,
                &format!("this device computes in {can} instead; write \"{can}\" or \"auto\""),
            ));
        }
        check_host(manifest, &model.picture(), model.output_shapes().iter().map(Vec::as_slice))?;
        keep(&model, kept.as_ref());
        let precision = if is_quantised { "int8" } else { name(model.arithmetic()) };
        Ok(Self { model, precision })
    }
}

/// What the precision asked for means to the device. `auto` loses nothing: a CPU that has bfloat16 would take it by itself,
/// and that costs some models up to 0.01 mAP (docs/models.md), also for the layers of an INT8 model that were left in float
/// because they lose the most. Other devices choose what they are made for.
fn asked(precision: Precision, device: OpenVinoDevice) -> Option<Arithmetic> {
    match (precision, device) {
        (Precision::Fp32, _) | (Precision::Auto | Precision::Int8, OpenVinoDevice::Cpu) => {
            Some(Arithmetic::F32)
        }
        (Precision::Fp16, _) => Some(Arithmetic::F16),
        (Precision::Bf16, _) => Some(Arithmetic::Bf16),
        (Precision::Auto | Precision::Int8, OpenVinoDevice::Gpu | OpenVinoDevice::Npu) => None,
    }
}

fn name(arithmetic: Option<Arithmetic>) -> &'static str {
    match arithmetic {
        None | Some(Arithmetic::F32) => "fp32",
        Some(Arithmetic::F16) => "fp16",
        Some(Arithmetic::Bf16) => "bf16",
    }
}

fn refuse_precision(options: &DetectorOptions, reason: &str) -> EngineError {
    let precision = options.precision.as_str();
    EngineError::Precision { backend: BACKEND, precision, reason: reason.to_owned() }
}

/// Frames at a time: as configured, else one a thread; never more than there are threads, or than a batch holds.
fn streams(options: &DetectorOptions, threads: usize) -> usize {
    let most = match options.device {
        OpenVinoDevice::Cpu => threads.clamp(1, BATCH_MAX),
        OpenVinoDevice::Gpu | OpenVinoDevice::Npu => BATCH_MAX,
    };
    match options.streams {
        Auto::Auto => {
            most.min(if options.device == OpenVinoDevice::Cpu { most } else { ACCELERATOR_STREAMS })
        }
        Auto::Fixed(streams) if streams > most => {
            tracing::warn!("streams = {streams} is more than can be used: {most} are, one a thread at most");
            most
        }
        Auto::Fixed(streams) => streams.max(1),
    }
}

/// So many a GPU or NPU is given where nothing is configured: one computes, one is ready.
const ACCELERATOR_STREAMS: usize = 2;

/// What a compiled model holds for.
fn conditions(library: &Library, load: &LoadOptions, manifest: &Manifest) -> String {
    let found = std::fs::metadata(library.path()).map(|found| (found.len(), found.modified().ok()));
    format!(
        "{} {} {found:?} {} {load:?} {} {}",
        library.path().display(),
        library.version(),
        manifest.sha256,
        fastest::processor(),
        env!("CARGO_PKG_VERSION"),
    )
}

/// Keeps what was compiled now. Without it the next start takes longer, and that is all.
fn keep(model: &Model, kept: Option<&Kept>) {
    let Some(kept) = kept else { return };
    if model.was_kept() {
        tracing::info!("OpenVINO's compiled model was kept from an earlier start");
        return;
    }
    match kept.write(|path| model.export(path).map_err(|error| error.to_string())) {
        Ok(path) => tracing::info!("OpenVINO's compiled model is kept in {}", path.display()),
        Err(why) => {
            tracing::info!("OpenVINO's compiled model is not kept, the next start compiles again: {why}")
        }
    }
}

impl Engine for OpenVinoEngine {
    fn backend(&self) -> &'static str {
        BACKEND
    }

    fn precision(&self) -> &'static str {
        self.precision
    }

    /// One a stream, or as many as the model is fixed to: a batch of four takes four times as long as one frame, unless they
    /// are inferred side by side.
    fn max_batch(&self) -> usize {
        self.model.frames_max().min(BATCH_MAX)
    }

    fn place(&self) -> Place {
        Place::host(self.model.picture().form)
    }

    fn infer(
        &mut self,
        inputs: &[&SlotMemory],
        each: &mut dyn FnMut(usize, &[TensorView<'_>]),
    ) -> Result<(), EngineError> {
        let at_once = self.max_batch();
        infer_on_host(inputs, at_once, each, |frames, each| self.model.run_frames(frames, each))
            .map_err(|error| EngineError::Inference { backend: BACKEND, reason: error.to_string() })
    }
}
