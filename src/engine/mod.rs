//! One engine, loaded once, shared by all cameras.

pub mod batch_probe;
pub mod builtin;
pub mod cache;
pub mod calibration;
mod compiled;
mod confined;
mod fastest;
mod on_gpu;
pub mod onnxruntime;
pub mod onnxruntime_gpu;
pub mod openvino;
mod select;
pub mod stopwatch;
pub mod tensorrt;
pub mod tensorrt_build;
mod worker;

pub use on_gpu::expectation;
pub use select::{BackendReport, Choice, Later, backends, load, threads};
pub use worker::{BATCH_MAX, Finish, ORDERS_MAX, Order, Pulse, Reading, Station, WORK_MAX, Worker};

pub use watchpost_binding::TensorView;

use watchpost_binding::{Frame, PictureInput};
use watchpost_cuda::SlotTensor;

use crate::affinity::AffinityError;
use crate::frame::{Place, SlotError, SlotMemory};
use crate::model::{self, HeadRecipe, Manifest, RowLayout};

/// Why an inference, or the loading of an engine, failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The backend is not on this box.
    #[error("backend {backend} is unavailable: {reason}")]
    Unavailable {
        /// Which one.
        backend: &'static str,
        /// What is missing and what to do.
        reason: String,
    },
    /// The backend is here and cannot compute like this.
    #[error("precision {precision} is unavailable on backend {backend}: {reason}")]
    Precision {
        /// Which one.
        backend: &'static str,
        /// As configured.
        precision: &'static str,
        /// What it can and what to do.
        reason: String,
    },
    /// The model cannot be loaded or does not fit its manifest.
    #[error("model {path}: {reason}")]
    Model {
        /// The file.
        path: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// Its threads cannot run where they are to.
    #[error(transparent)]
    Affinity(#[from] AffinityError),
    /// There is no memory for its slots.
    #[error(transparent)]
    Slots(#[from] SlotError),
    /// The device or its context is lost: nothing of this process can compute on it any more.
    #[error("backend {backend} is lost: {reason}")]
    Lost {
        /// Which one.
        backend: &'static str,
        /// The library's words.
        reason: String,
    },
    /// An inference failed.
    #[error("inference failed on {backend}: {reason}")]
    Inference {
        /// Which one.
        backend: &'static str,
        /// The library's words.
        reason: String,
    },
}

impl EngineError {
    /// Whether trying again in this process is in vain.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Lost { .. })
    }
}

/// Whether a model that computes on the CPU takes and gives what its manifest says.
///
/// # Errors
/// [`EngineError::Model`], with both sides named.
fn check_host<'o>(
    manifest: &Manifest,
    picture: &PictureInput,
    outputs: impl Iterator<Item = &'o [usize]>,
) -> Result<(), EngineError> {
    let one_flat_list = match &manifest.head {
        HeadRecipe::Selected { .. } => true,
        HeadRecipe::EndToEnd { layout, .. } => *layout == RowLayout::PictureBoxClassScore,
        _ => false,
    };
    if picture.batch > 1 && one_flat_list {
        let batch = picture.batch;
        let reason = format!(
            "takes {batch} pictures at once and lists the boxes of all of them in one: export it for one picture (batch=1), \
             or dynamic"
        );
        return Err(EngineError::Model { path: manifest.source.to_string(), reason });
    }
    let outputs: Vec<&[usize]> = outputs.collect();
    check_shapes(manifest, &[picture.batch, 3, picture.height, picture.width], &outputs)
}

/// Whether a loaded model takes and gives what its manifest says; `input` is `[batch, 3, height, width]`.
///
/// # Errors
/// [`EngineError::Model`], with both sides named.
fn check_shapes(manifest: &Manifest, input: &[usize], outputs: &[&[usize]]) -> Result<(), EngineError> {
    let refuse = |reason: String| EngineError::Model { path: manifest.source.to_string(), reason };
    let said = &manifest.input;
    match input {
        [_, _, height, width] if [*height, *width] == [said.height, said.width] => {}
        [_, _, height, width] => {
            let reason = format!(
                "takes pictures of {width}x{height}, and its manifest says {}x{}",
                said.width, said.height
            );
            return Err(refuse(reason));
        }
        other => {
            return Err(refuse(format!("takes an input of the shape {other:?}, not [1, 3, height, width]")));
        }
    }
    manifest.check_outputs(outputs).map_err(|error| refuse(error.to_string()))
}

/// Whether the model's own weights are quantised.
fn is_quantised(manifest: &Manifest) -> Result<bool, EngineError> {
    let facts = model::verify(manifest).map_err(|error| EngineError::Model {
        path: manifest.source.to_string(),
        reason: error.to_string(),
    })?;
    Ok(facts.nodes.iter().any(|node| node.op == "DequantizeLinear"))
}

/// A slot's tensor, for engines that compute on the CPU; empty for one that was made for another engine, which
/// every engine refuses by its length.
fn host_tensor(memory: &SlotMemory) -> Frame<'_> {
    match memory {
        SlotMemory::Host(tensor) => Frame::F32(tensor),
        SlotMemory::Formed(tensor) => tensor.frame(),
        SlotMemory::Device(_) => Frame::F32(&[]),
    }
}

/// Infers `inputs` on the CPU, in batches of `batch` (the last may be smaller), by way of `run`.
fn infer_on_host<E>(
    inputs: &[&SlotMemory],
    batch: usize,
    each: &mut dyn FnMut(usize, &[TensorView<'_>]),
    mut run: impl FnMut(&[Frame<'_>], &mut dyn FnMut(usize, &[TensorView<'_>])) -> Result<(), E>,
) -> Result<(), E> {
    let mut done = 0;
    for chunk in inputs.chunks(batch.clamp(1, BATCH_MAX)) {
        let mut frames = [Frame::F32(&[]); BATCH_MAX];
        for (frame, memory) in frames.iter_mut().zip(chunk) {
            *frame = host_tensor(memory);
        }
        run(&frames[..chunk.len()], &mut |index, outputs| each(done + index, outputs))?;
        done += chunk.len();
    }
    Ok(())
}

/// The slots of a batch, for engines that compute on the GPU; `None` if one of them is not there, or if there is none.
fn device_slots<'a>(inputs: &[&'a SlotMemory]) -> Option<[&'a SlotTensor; BATCH_MAX]> {
    let tensor = |memory: &'a SlotMemory| match memory {
        SlotMemory::Device(tensor) => Some(tensor),
        SlotMemory::Host(_) | SlotMemory::Formed(_) => None,
    };
    let mut slots = [tensor(inputs.first()?)?; BATCH_MAX];
    for (slot, input) in slots.iter_mut().zip(inputs) {
        *slot = tensor(input)?;
    }
    Some(slots)
}

/// What the engine worker needs of a backend, and no more.
pub trait Engine: Send {
    /// `"builtin"`, `"tensorrt"`, …
    fn backend(&self) -> &'static str;

    /// `"fp32"`, `"fp16"`, …: the arithmetic really used.
    fn precision(&self) -> &'static str;

    /// Frames that one call takes at most, at least 1.
    fn max_batch(&self) -> usize;

    /// Where it wants its slots to be. Every input of [`Self::infer`] is of this kind.
    fn place(&self) -> Place {
        Place::Host
    }

    /// Infers `inputs` (each one slot's planar tensor) and hands each frame's outputs to `each`, in order. No
    /// input is read after it has returned.
    ///
    /// # Errors
    /// [`EngineError::Inference`]: the engine stays usable. [`EngineError::Lost`]: the process has to leave.
    fn infer(
        &mut self,
        inputs: &[&SlotMemory],
        each: &mut dyn FnMut(usize, &[TensorView<'_>]),
    ) -> Result<(), EngineError>;
}
