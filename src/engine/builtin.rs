//! The built-in engine behind the [`Engine`] trait.

use watchpost_builtin::{LoadOptions, Model};

use super::{Engine, EngineError, TensorView, check_shapes, host_tensor};
use crate::frame::SlotMemory;
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
        let outputs: Vec<&[usize]> = model.outputs().iter().map(|output| output.shape.as_slice()).collect();
        check_shapes(manifest, &model.inputs()[0].shape, &outputs)?;
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

    /// One: on a CPU a batch of four takes four times as long as one frame, so waiting for company would
    /// only add latency.
    fn max_batch(&self) -> usize {
        1
    }

    fn infer(
        &mut self,
        inputs: &[&SlotMemory],
        each: &mut dyn FnMut(usize, &[TensorView<'_>]),
    ) -> Result<(), EngineError> {
        for (index, input) in inputs.iter().enumerate() {
            self.model
                .run(host_tensor(input), &mut |outputs| each(index, outputs))
                .map_err(|error| EngineError::Inference { backend: BACKEND, reason: error.to_string() })?;
        }
        Ok(())
    }
}
