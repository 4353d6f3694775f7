//! ONNX Runtime's providers for NVIDIA GPUs behind the [`Engine`] trait: real inference on device slots also where
//! TensorRT itself is missing.

use watchpost_cuda::{Gpu, SlotTensor};
use watchpost_onnxruntime::{
    DeviceModel, DeviceOptions, DeviceRunError, LoadError, ModelBytes, Provider, check_provider, find_library,
};

use super::cache::default_folder;
use super::{BATCH_MAX, Engine, EngineError, TensorView, check_shapes};
use crate::config::{Auto, DetectorOptions, OnnxProvider, Precision};
use crate::frame::{Place, SlotMemory};
use crate::model::{Manifest, ModelSource};

/// Name of this backend in records, metrics and errors: where it computes is in `check` and in the log.
pub const BACKEND: &str = super::onnxruntime::BACKEND;

/// The GPU that is used where several are there.
const DEVICE_INDEX: u32 = 0;
/// Frames in one inference where nothing is configured and the model takes several.
const BATCH: usize = 8;

/// One model on the GPU, through one of ONNX Runtime's providers.
#[derive(Debug)]
pub struct OnnxRuntimeGpuEngine {
    model: DeviceModel,
    gpu: Gpu,
    precision: &'static str,
}

/// Whether there is a GPU, and a library that has the provider for it.
///
/// # Errors
/// The line that says why not.
pub fn look(provider: &Provider) -> Result<(), String> {
    let devices = watchpost_cuda::devices().map_err(|why| why.to_string())?;
    if devices.is_empty() {
        return Err("there is no GPU".to_owned());
    }
    let library = find_library().map_err(|why| why.to_string())?;
    check_provider(&library, provider).map_err(|why| why.to_string())
}

/// The provider that was asked for; `None` for the CPU. `auto` is CUDA.
pub fn provider(options: &DetectorOptions) -> Option<Provider> {
    match options.provider {
        OnnxProvider::Cpu => None,
        OnnxProvider::Auto | OnnxProvider::Cuda => Some(Provider::Cuda),
        OnnxProvider::Tensorrt => {
            let is_fp16 = matches!(options.precision, Precision::Auto | Precision::Fp16);
            let cache = default_folder().map(|folder| folder.with_file_name("onnxruntime"));
            Some(Provider::TensorRt { is_fp16, cache })
        }
    }
}

impl OnnxRuntimeGpuEngine {
    /// Loads the library, the provider and the model.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`] where any of it, or a GPU, is missing: never a session on the CPU.
    pub fn load(
        options: &DetectorOptions,
        manifest: &Manifest,
        provider: Provider,
    ) -> Result<Self, EngineError> {
        let unavailable = |reason: String| EngineError::Unavailable { backend: BACKEND, reason };
        let precision = match (&provider, options.precision) {
            (Provider::TensorRt { is_fp16: true, .. }, _) => "fp16",
            (_, Precision::Auto | Precision::Fp32) => "fp32",
            (provider, other) => {
                return Err(EngineError::Precision {
                    backend: BACKEND,
                    precision: other.as_str(),
                    reason: format!(
                        "its provider {} computes in fp32 here; write precision = \"auto\", or provider = \"tensorrt\" \
                         for fp16",
                        provider.name()
                    ),
                });
            }
        };
        look(&provider).map_err(unavailable)?;
        let library = find_library().map_err(|error| unavailable(error.to_string()))?;
        let gpu = Gpu::open(DEVICE_INDEX).map_err(|error| unavailable(error.to_string()))?;
        let bytes = match &manifest.source {
            ModelSource::File(path) => ModelBytes::File(path),
            ModelSource::Embedded(bytes) => ModelBytes::Memory(bytes),
        };
        let device = DeviceOptions {
            provider,
            input_size: (manifest.input.width, manifest.input.height),
            max_batch: match options.max_batch_size {
                Auto::Auto => BATCH,
                Auto::Fixed(size) => size.clamp(1, BATCH_MAX),
            },
            memory_limit_bytes: None,
        };
        let model = DeviceModel::load(&library, bytes, &gpu, &device).map_err(|error| match error {
            LoadError::Cuda(error) if error.is_lost() => {
                EngineError::Lost { backend: BACKEND, reason: error.to_string() }
            }
            LoadError::Library { .. } | LoadError::Provider { .. } | LoadError::Cuda(_) => {
                unavailable(error.to_string())
            }
            error => EngineError::Model { path: manifest.source.to_string(), reason: error.to_string() },
        })?;
        let outputs: Vec<&[usize]> = model.outputs().iter().map(|output| output.shape.as_slice()).collect();
        check_shapes(manifest, &model.input().shape, &outputs)?;
        Ok(Self { model, gpu, precision })
    }
}

impl Engine for OnnxRuntimeGpuEngine {
    fn backend(&self) -> &'static str {
        BACKEND
    }

    fn precision(&self) -> &'static str {
        self.precision
    }

    fn max_batch(&self) -> usize {
        self.model.max_batch().min(BATCH_MAX)
    }

    fn place(&self) -> Place {
        Place::Device { gpu: self.gpu.clone(), element: self.model.element() }
    }

    fn infer(
        &mut self,
        inputs: &[&SlotMemory],
        each: &mut dyn FnMut(usize, &[TensorView<'_>]),
    ) -> Result<(), EngineError> {
        let failed = |reason: String| EngineError::Inference { backend: BACKEND, reason };
        let slots = super::device_slots(inputs)
            .ok_or_else(|| failed("a slot lies in host memory: it was made for another engine".to_owned()))?;
        let slots: &[&SlotTensor] = &slots[..inputs.len().min(BATCH_MAX)];
        self.model.run(slots, each).map_err(|error| match error {
            DeviceRunError::Cuda(error) if error.is_lost() => {
                EngineError::Lost { backend: BACKEND, reason: error.to_string() }
            }
            error => failed(error.to_string()),
        })
    }
}
