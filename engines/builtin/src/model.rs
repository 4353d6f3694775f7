//! One loaded model and its thread pool.

use std::any::Any;
use std::borrow::Cow;
use std::fs::File;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use rten::{
    LoadErrorKind, ModelOptions, NodeId, RunOptions, ThreadPool, Value, ValueOrView, ValueType, ValueView,
};

use rten_tensor::prelude::*;
use watchpost_binding::{Frame, Number, PictureInput, Stack, TensorView, lend_shares, share_shape};
use watchpost_blocks::Inference;

use crate::cut::{self, Cut};
use crate::halves::Halves;
use crate::inputs::Settled;
use crate::{LoadError, RunError, envelope, inputs};

/// A detector for an edge box has megabytes of weights, not gigabytes: beyond this it is a mistake.
const MAX_FILE_BYTES: u64 = 2 << 30;

/// How a model is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadOptions {
    /// Threads of one inference, at least 1. No other thread works for it. (The library also starts a pool
    /// of its own, which sleeps; `RTEN_NUM_THREADS=1` in the environment keeps that to one thread.)
    pub threads: usize,
    /// Width and height of the input, for models that leave them open. Ignored where the model fixes them.
    pub input_size: Option<(usize, usize)>,
}

/// An input or output of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name in the model.
    pub name: String,
    /// Row-major shape, nothing left open: of an input for one inference, of an output for one frame.
    pub shape: Vec<usize>,
    /// `"f32"`, `"i32"`, …: the type inside the engine (it widens f16 to f32 when loading).
    pub dtype: String,
}

/// A model, loaded once. Inference needs it exclusively; it is `Send`.
pub struct Model {
    /// For its drop.
    _kept: Kept,
    model: rten::Model,
    threads: Arc<ThreadPool>,
    input_id: NodeId,
    picture: PictureInput,
    /// Where the pictures of a fixed batch are put together.
    stack: Stack,
    /// What the inputs besides the picture are fed with.
    constants: Vec<(NodeId, Value)>,
    /// For a graph that is run in two halves.
    halves: Option<Halves>,
    output_ids: Vec<NodeId>,
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
}

/// What a model's inferences have kept of their memory: given back when it goes.
struct Kept;

impl Drop for Kept {
    fn drop(&mut self) {
        watchpost_blocks::clear();
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("inputs", &self.inputs).field("outputs", &self.outputs).finish()
    }
}

impl Model {
    /// Loads an ONNX file and infers one empty frame, so that a model which cannot run fails here and not
    /// at the first picture of the first camera.
    ///
    /// # Errors
    /// [`LoadError`]. Panics of the library are caught and become [`LoadError::Panicked`].
    pub fn load(path: &Path, options: LoadOptions) -> Result<Self, LoadError> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(LoadError::NotOnnx { reason: "it is not a regular file".to_owned() });
        }
        check_size(metadata.len())?;
        envelope::check(file, metadata.len())?;
        let onnx_extension = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx"));
        if cut::is_needed(File::open(path)?)?
            && let Some((cut, bytes)) = cut::cut(&std::fs::read(path)?)?
        {
            return Self::finish(|| Ok(ModelOptions::with_all_ops().load(bytes)), Some(cut), options);
        }
        let load = || {
            // The library tells the format by the extension, and reads a file piece by piece: no second
            // copy of the weights.
            if onnx_extension {
                Ok(ModelOptions::with_all_ops().load_file(path))
            } else {
                Ok(ModelOptions::with_all_ops().load(std::fs::read(path)?))
            }
        };
        Self::finish(load, None, options)
    }

    /// Loads an ONNX model from memory, for one that is compiled in. External weights are not found.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn from_bytes(bytes: &'static [u8], options: LoadOptions) -> Result<Self, LoadError> {
        let size_bytes = bytes.len() as u64;
        check_size(size_bytes)?;
        envelope::check(Cursor::new(bytes), size_bytes)?;
        if cut::contains(bytes)
            && let Some((cut, bytes)) = cut::cut(bytes)?
        {
            return Self::finish(|| Ok(ModelOptions::with_all_ops().load(bytes)), Some(cut), options);
        }
        Self::finish(|| Ok(ModelOptions::with_all_ops().load_static_slice(bytes)), None, options)
    }

    fn finish(
        load: impl FnOnce() -> Result<Result<rten::Model, rten::LoadError>, LoadError>,
        cut: Option<Cut>,
        options: LoadOptions,
    ) -> Result<Self, LoadError> {
        let model = catch_unwind(AssertUnwindSafe(load))
            .map_err(|panic| LoadError::Panicked { message: panic_message(panic) })??
            .map_err(|error| load_error(&error))?;
        let Settled { id: input_id, name, picture, constants } = inputs::settle(&model, options.input_size)?;
        let dtype = match picture.form.number {
            Number::F32 => "f32",
            Number::U8 => "u8",
        };
        let input = TensorInfo { name, shape: picture.shape().to_vec(), dtype: dtype.to_owned() };
        let threads = options.threads.max(1);
        let pool = catch_unwind(|| ThreadPool::with_num_threads(threads))
            .map_err(|_| LoadError::Threads { threads })?;
        let halves = cut.map(|cut| Halves::new(&model, &cut)).transpose()?;
        let mut output_ids = model.output_ids().to_vec();
        output_ids.truncate(halves.as_ref().map_or(usize::MAX, |halves| halves.output_count));
        if output_ids.is_empty() {
            return Err(LoadError::Invalid { reason: "it has no outputs".to_owned() });
        }
        // As in `run_frames`: what is kept from the first inference on is what the engine needs.
        let _inference = Inference::new();
        let mut loaded = Self {
            _kept: Kept,
            model,
            threads: Arc::new(pool),
            input_id,
            picture,
            stack: Stack::new(picture),
            constants,
            halves,
            output_ids: output_ids.clone(),
            inputs: vec![input],
            outputs: Vec::new(),
        };
        let len = picture.batch * picture.frame_len();
        let values = match picture.form.number {
            Number::F32 => loaded.infer(Frame::F32(&vec![0.0; len])),
            Number::U8 => loaded.infer(Frame::U8(&vec![0; len])),
        };
        let values = values.map_err(LoadError::FirstRun)?;
        for (index, (&id, value)) in output_ids.iter().zip(&values).enumerate() {
            let name = node_name(&loaded.model, id, index);
            let Some(values) = contiguous_f32(value) else {
                return Err(LoadError::FirstRun(RunError::OutputType { name }));
            };
            if !values.is_empty() && values.iter().all(|value| value.is_nan()) {
                return Err(LoadError::NotNumbers { output: name });
            }
            let dtype = match value.dtype() {
                ValueType::Tensor(element) => element.to_string(),
                other => other.to_string(),
            };
            let shape = share_shape(&name, &shape_of(value), picture.batch)?;
            loaded.outputs.push(TensorInfo { name, shape, dtype });
        }
        Ok(loaded)
    }

    /// The picture, as [`Self::picture`] says. Inputs that say how large it is are fed with constants and not listed.
    pub fn inputs(&self) -> &[TensorInfo] {
        &self.inputs
    }

    /// The outputs in the model's order, as they came out for one empty frame.
    pub fn outputs(&self) -> &[TensorInfo] {
        &self.outputs
    }

    /// The form of the picture, and how many an inference takes.
    pub fn picture(&self) -> PictureInput {
        self.picture
    }

    /// Infers one frame of floats and lends its outputs to `each`. The input is read where it lies.
    ///
    /// # Errors
    /// [`RunError`]; the model stays usable. A panic in `each` is the caller's and passes through.
    pub fn run(&mut self, input: &[f32], each: &mut dyn FnMut(&[TensorView<'_>])) -> Result<(), RunError> {
        self.run_frames(&[Frame::F32(input)], &mut |_index, outputs| each(outputs))
    }

    /// Infers up to [`PictureInput::batch`] frames at once and lends the outputs of each to `each`, in order. A single one is
    /// read where it lies.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_frames(
        &mut self,
        frames: &[Frame<'_>],
        each: &mut dyn FnMut(usize, &[TensorView<'_>]),
    ) -> Result<(), RunError> {
        // Dropped last: what the library frees, this call's outputs too, is there for the next call.
        let _inference = Inference::new();
        // Out of the way of the rest of `self`; it comes back whatever happens below, but for a panic, which ends the model.
        let mut stack = std::mem::replace(&mut self.stack, Stack::empty());
        let values = stack.gather(frames).map_err(RunError::from).and_then(|input| self.infer(input));
        self.stack = stack;
        let values = values?;
        let mut tensors = Vec::with_capacity(values.len());
        for (info, value) in self.outputs.iter().zip(&values) {
            let data =
                contiguous_f32(value).ok_or_else(|| RunError::OutputType { name: info.name.clone() })?;
            tensors.push((info.name.as_str(), shape_of(value), data));
        }
        let views: Vec<TensorView<'_>> =
            tensors.iter().map(|(name, shape, data)| TensorView { name, shape, data }).collect();
        Ok(lend_shares(&views, (frames.len(), self.picture.batch), each)?)
    }

    /// The library's part of a run. Its graph is immutable and its buffers belong to the call, so nothing
    /// is left half-done when it unwinds.
    fn infer(&self, input: Frame<'_>) -> Result<Vec<Value>, RunError> {
        let shape = self.picture.shape();
        let failed = |error: &dyn std::fmt::Display| RunError::Failed { reason: error.to_string() };
        let view = match input {
            Frame::F32(values) => ValueView::from_shape(shape, values).map_err(|error| failed(&error))?,
            Frame::U8(values) => ValueView::from_shape(shape, values).map_err(|error| failed(&error))?,
        };
        let options = RunOptions::default().with_thread_pool(Some(Arc::clone(&self.threads)));
        catch_unwind(AssertUnwindSafe(|| {
            let mut inputs: Vec<(NodeId, ValueOrView<'_>)> = vec![(self.input_id, view.into())];
            inputs.extend(self.constants.iter().map(|(id, value)| (*id, value.as_view().into())));
            match &self.halves {
                None => self.model.run(inputs, &self.output_ids, Some(options)),
                Some(halves) => halves.run(&self.model, inputs, &self.output_ids, &options),
            }
        }))
        .map_err(|panic| RunError::Panicked { message: panic_message(panic) })?
        .map_err(|error| RunError::Failed { reason: error.to_string() })
    }
}

fn check_size(size_bytes: u64) -> Result<(), LoadError> {
    if size_bytes > MAX_FILE_BYTES {
        return Err(LoadError::TooLarge { size_bytes, limit_bytes: MAX_FILE_BYTES });
    }
    Ok(())
}

pub(crate) fn node_name(model: &rten::Model, id: NodeId, index: usize) -> String {
    let name = model.node_info(id).and_then(|info| info.name().map(str::to_owned));
    name.unwrap_or_else(|| format!("output {index}"))
}

fn shape_of(value: &Value) -> Vec<usize> {
    match value.as_view() {
        ValueView::FloatTensor(tensor) => tensor.shape().to_vec(),
        ValueView::Int32Tensor(tensor) => tensor.shape().to_vec(),
        ValueView::Int8Tensor(tensor) => tensor.shape().to_vec(),
        ValueView::UInt8Tensor(tensor) => tensor.shape().to_vec(),
        _ => Vec::new(),
    }
}

/// The values in row-major order: borrowed where the library has them so, copied where it has not.
fn contiguous_f32(value: &Value) -> Option<Cow<'_, [f32]>> {
    match value.as_view() {
        ValueView::FloatTensor(tensor) => {
            Some(tensor.data().map_or_else(|| tensor.to_vec().into(), Cow::Borrowed))
        }
        #[allow(clippy::cast_precision_loss, reason = "class ids and counts are far below 2^24")]
        ValueView::Int32Tensor(tensor) => Some(tensor.iter().map(|&v| v as f32).collect()),
        ValueView::Int8Tensor(tensor) => Some(tensor.iter().map(|&v| f32::from(v)).collect()),
        ValueView::UInt8Tensor(tensor) => Some(tensor.iter().map(|&v| f32::from(v)).collect()),
        _ => None,
    }
}

/// The library says only in words which operator it does not have.
fn load_error(error: &rten::LoadError) -> LoadError {
    let text = error.to_string();
    let cause = std::error::Error::source(error).map_or_else(String::new, ToString::to_string);
    let missing = [" operator not supported", " operator not enabled", " operator uses opset version"];
    match (error.kind(), missing.iter().find_map(|words| cause.split_once(words))) {
        (LoadErrorKind::IoError, _) => LoadError::Unreadable(std::io::Error::other(text)),
        (LoadErrorKind::OperatorInvalid, Some((operator, rest))) => {
            let node = error.node().map_or_else(String::new, |node| format!(" (at {node})"));
            let version = if rest.contains("later") { " in this old version" } else { "" };
            LoadError::UnsupportedOperator { operator: format!("{operator}{version}{node}") }
        }
        _ => LoadError::Invalid { reason: text },
    }
}

fn panic_message(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
