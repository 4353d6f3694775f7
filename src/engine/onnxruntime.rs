//! ONNX Runtime behind the [`Engine`] trait.

use watchpost_onnxruntime::{LoadOptions, Model, ModelBytes, find_library};

use super::{Engine, EngineError, TensorView, check_host, infer_on_host, is_quantised};
use crate::frame::{Place, SlotMemory};
use crate::model::{Manifest, ModelSource};

/// Name of this backend in records, metrics and errors.
pub const BACKEND: &str = "onnxruntime";

/// One model on the library that this box has.
#[derive(Debug)]
pub struct OnnxRuntimeEngine {
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
    find_library().map(|path| format!("CPU, fp32, {}", path.display())).map_err(|error| error.to_string())
}

impl OnnxRuntimeEngine {
    /// Loads the library and the manifest's model for `threads` threads, and infers one empty frame.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`] without a usable library, [`EngineError::Model`].
    pub fn load(manifest: &Manifest, threads: usize) -> Result<Self, EngineError> {
        let unavailable = |reason: String| EngineError::Unavailable { backend: BACKEND, reason };
        let library = find_library().map_err(|error| unavailable(error.to_string()))?;
        let bytes = match &manifest.source {
            ModelSource::File(path) => ModelBytes::File(path),
            ModelSource::Embedded(bytes) => ModelBytes::Memory(bytes),
        };
        let input = &manifest.input;
        let options = LoadOptions { threads, input_size: (input.width, input.height) };
        let refuse = |reason: String| EngineError::Model { path: manifest.source.to_string(), reason };
        let model = Model::load(&library, bytes, options).map_err(|error| match error {
            watchpost_onnxruntime::LoadError::Library { .. } => unavailable(error.to_string()),
            error => refuse(error.to_string()),
        })?;
        check_host(manifest, &model.picture(), model.outputs().iter().map(|output| output.shape.as_slice()))?;
        let precision = if is_quantised(manifest)? { "int8" } else { "fp32" };
        Ok(Self { model, precision })
    }
}

impl Engine for OnnxRuntimeEngine {
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
