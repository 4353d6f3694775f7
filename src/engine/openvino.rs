//! OpenVINO behind the [`Engine`] trait.

use watchpost_openvino::{
    Arithmetic, Library, LoadError, LoadOptions, Mode, Model, ModelBytes, find_library,
};

use super::{Engine, EngineError, TensorView, cache, check_host, infer_on_host, is_quantised};
use crate::config::{DetectorOptions, OpenVinoDevice, Precision};
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
            input_size: (input.width, input.height),
            arithmetic: asked(options.precision, options.device),
            mode: Mode::Latency,
            cache_dir: compiled_models(options.device),
        };
        let bytes = match &manifest.source {
            ModelSource::File(path) => ModelBytes::File(path),
            ModelSource::Embedded(bytes) => ModelBytes::Memory(bytes),
        };
        let model = Model::load(&library, bytes, &load).map_err(|error| match error {
            LoadError::Library { .. } | LoadError::Device { .. } => unavailable(error.to_string()),
            error => EngineError::Model { path: manifest.source.to_string(), reason: error.to_string() },
        })?;
        if load.arithmetic.is_some() && model.arithmetic().is_some() && model.arithmetic() != load.arithmetic
        {
            let can = name(model.arithmetic());
            return Err(refuse_precision(
                options,
                &format!("this device computes in {can} instead; write \"{can}\" or \"auto\""),
            ));
        }
        check_host(manifest, &model.picture(), model.output_shapes().iter().map(Vec::as_slice))?;
        let precision = if is_quantised { "int8" } else { name(model.arithmetic()) };
        Ok(Self { model, precision })
    }
}

/// What the precision asked for means to the device. `auto` loses nothing: a CPU that has bfloat16 would take it by itself,
/// and that costs some models up to 0.01 mAP (docs/models.md). Other devices choose what they are made for.
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

/// A GPU or an NPU compiles for a minute, and what it compiled is worth keeping; a CPU takes less time than a file would.
fn compiled_models(device: OpenVinoDevice) -> Option<std::path::PathBuf> {
    match device {
        OpenVinoDevice::Cpu => None,
        OpenVinoDevice::Gpu | OpenVinoDevice::Npu => {
            cache::default_folder().map(|engines| engines.with_file_name("openvino"))
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

    /// As many as the model is fixed to, which is one for most: on a CPU a batch of four takes four times as long as one
    /// frame, so waiting for company would only add latency.
    fn max_batch(&self) -> usize {
        self.model.picture().batch
    }

    fn place(&self) -> Place {
        Place::host(self.model.picture().form)
    }

    fn infer(
        &mut self,
        inputs: &[&SlotMemory],
        each: &mut dyn FnMut(usize, &[TensorView<'_>]),
    ) -> Result<(), EngineError> {
        let batch = self.max_batch();
        infer_on_host(inputs, batch, each, |frames, each| self.model.run_frames(frames, each))
            .map_err(|error| EngineError::Inference { backend: BACKEND, reason: error.to_string() })
    }
}
