//! The built-in engine behind the [`Engine`] trait.

use watchpost_builtin::{LoadOptions, Model};

use super::{Engine, EngineError, TensorView, check_host, infer_on_host};
use crate::frame::{Place, SlotMemory};
use crate::model::{Manifest, ModelSource};

/// Name of this backend in records, metrics and errors.
pub const BACKEND: &str = "builtin";

/// One model on the engine that is compiled in.
#[derive(Debug)]
pub struct BuiltinEngine {
    model: Model,
}

impl BuiltinEngine {
    /// Loads the manifest's model for `threads` threads (at least 1) and infers one empty frame.
    ///
    /// # Errors
    /// [`EngineError::Model`].
    pub fn load(manifest: &Manifest, threads: usize) -> Result<Self, EngineError> {
        let input = &manifest.input;
        let options = LoadOptions { threads, input_size: Some((input.width, input.height)) };
        let loaded = match &manifest.source {
            ModelSource::File(path) => Model::load(path, options),
            ModelSource::Embedded(bytes) => Model::from_bytes(bytes, options),
        };
        let refuse = |reason: String| EngineError::Model { path: manifest.source.to_string(), reason };
        let model = loaded.map_err(|error| refuse(error.to_string()))?;
        check_host(manifest, &model.picture(), model.outputs().iter().map(|output| output.shape.as_slice()))?;
        Ok(Self { model })
    }
}

impl Engine for BuiltinEngine {
    fn backend(&self) -> &'static str {
        BACKEND
    }

    fn precision(&self) -> &'static str {
        "fp32"
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
