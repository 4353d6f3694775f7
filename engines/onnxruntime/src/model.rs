//! One model in one session.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::{TensorElementType, ValueType};
use watchpost_binding::{
    Frame, NotShared, Number, PictureInput, Stack, TensorView, lend_shares, share_shape,
};
use watchpost_cuda::CudaError;

use crate::find::LIBRARY_VARIABLE;
use crate::inputs::{self, Constant, Picture, Settled};
use crate::outputs;

/// Where the weights are.
#[derive(Debug, Clone, Copy)]
pub enum ModelBytes<'a> {
    /// An ONNX file.
    File(&'a Path),
    /// An ONNX file's contents.
    Memory(&'a [u8]),
}

/// How a model is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadOptions {
    /// Threads of one inference, at least 1. They sleep between inferences.
    pub threads: usize,
    /// Width and height of the input, for models that leave them open.
    pub input_size: (usize, usize),
}

/// An input or output of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name in the model.
    pub name: String,
    /// Row-major shape for one frame.
    pub shape: Vec<usize>,
}

/// Why a model was not loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The library itself cannot be used.
    #[error("{} cannot be used: {reason}", .path.display())]
    Library {
        /// The file.
        path: PathBuf,
        /// Its loader's words.
        reason: String,
    },
    /// The library is there, and its provider for the GPU cannot be used.
    #[error(
        "ONNX Runtime's {provider} provider cannot be used: {reason}; install onnxruntime-gpu with the CUDA and cuDNN \
         that its release names, or name a library that has the provider with {LIBRARY_VARIABLE}"
    )]
    Provider {
        /// `"CUDA"` or `"TensorRT"`.
        provider: &'static str,
        /// The library's words.
        reason: String,
    },
    /// The GPU refuses.
    #[error(transparent)]
    Cuda(#[from] CudaError),
    /// The library refuses the model.
    #[error("ONNX Runtime refuses the model: {0}")]
    Refused(String),
    /// The model is not one that takes a picture.
    #[error("the model's input {0}; one of f32 [1, 3, height, width] is needed")]
    Input(String),
    /// A fixed batch, and an output that is not one share for each picture of it.
    #[error(transparent)]
    Shared(#[from] NotShared),
}

/// Why an inference failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RunError(pub(crate) String);

/// A model, loaded once.
pub struct Model {
    session: Session,
    name: String,
    input: PictureInput,
    picture: Picture,
    /// Where the pictures of a fixed batch are put together.
    stack: Stack,
    /// What the inputs besides the picture are fed with.
    constants: Vec<Constant>,
    outputs: Vec<TensorInfo>,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("input", &self.input)
            .field("outputs", &self.outputs)
            .finish_non_exhaustive()
    }
}

/// The library and its environment, once in the process: a second path would not be looked at.
static LIBRARY: OnceLock<Result<Environment, LoadError>> = OnceLock::new();

pub(crate) fn library(path: &Path) -> Result<&'static Environment, LoadError> {
    let load = || {
        let refuse = |reason: String| LoadError::Library { path: path.to_owned(), reason };
        let builder = ort::init_from(path).map_err(|error| refuse(error.to_string()))?;
        // Nothing about this box or its models is anybody else's business.
        let builder = builder.with_name("watchpost").with_telemetry(false);
        let environment = builder.build().map_err(|error| refuse(error.to_string()))?;
        // What goes wrong comes back as an error; its chatter would go to stderr past our log.
        environment.set_log_level(LogLevel::Fatal);
        Ok(environment)
    };
    LIBRARY.get_or_init(load).as_ref().map_err(LoadError::clone)
}

impl Model {
    /// Loads `library` (once in the process) and the model, and infers one empty frame.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(library: &Path, model: ModelBytes<'_>, options: LoadOptions) -> Result<Self, LoadError> {
        let environment = self::library(library)?;
        let builder = builder(environment, options.threads).map_err(LoadError::Refused)?;
        let session = commit(builder, model).map_err(LoadError::Refused)?;
        let Settled { name, input, picture, constants } = inputs::settle(&session, options.input_size)?;
        let stack = Stack::new(input);
        let mut loaded = Self { session, name, input, picture, stack, constants, outputs: Vec::new() };
        let len = input.batch * input.frame_len();
        let mut outputs = Vec::new();
        let mut note = |found: &[TensorView<'_>]| {
            outputs.extend(found.iter().map(|view| (view.name.to_owned(), view.shape.to_vec())));
            Ok(())
        };
        let ran = match input.form.number {
            Number::F32 => loaded.infer(&[Frame::F32(&vec![0.0; len])], true, &mut note),
            Number::U8 => loaded.infer(&[Frame::U8(&vec![0; len])], true, &mut note),
        };
        ran.map_err(|error| LoadError::Refused(error.to_string()))?;
        for (name, shape) in outputs {
            let shape = share_shape(&name, &shape, input.batch)?;
            loaded.outputs.push(TensorInfo { name, shape });
        }
        Ok(loaded)
    }

    /// The picture. Inputs that say how large it is are fed with constants and not listed.
    pub fn picture(&self) -> PictureInput {
        self.input
    }

    /// The outputs of one frame, as the first inference gave them.
    pub fn outputs(&self) -> &[TensorInfo] {
        &self.outputs
    }

    /// Infers one frame of floats: `input` is read in place, outputs are lent to `each`.
    ///
    /// # Errors
    /// [`RunError`]; the model stays usable.
    pub fn run(&mut self, input: &[f32], each: &mut dyn FnMut(&[TensorView<'_>])) -> Result<(), RunError> {
        self.run_frames(&[Frame::F32(input)], &mut |_index, outputs| each(outputs))
    }

    /// Infers up to [`PictureInput::batch`] frames at once and lends the outputs of each to `each`, in order. A single one is
    /// read where it lies.
    ///
    /// # Errors
    /// [`RunError`]; the model stays usable.
    pub fn run_frames(
        &mut self,
        frames: &[Frame<'_>],
        each: &mut dyn FnMut(usize, &[TensorView<'_>]),
    ) -> Result<(), RunError> {
        let batch = self.input.batch;
        self.infer(frames, false, &mut |views| {
            lend_shares(views, (frames.len(), batch), each).map_err(|error| RunError(error.to_string()))
        })
    }

    /// The library's part of a run: `frames` are put together, unless the only one `is_whole` already.
    fn infer(
        &mut self,
        frames: &[Frame<'_>],
        is_whole: bool,
        take: &mut dyn FnMut(&[TensorView<'_>]) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        let fail = |error: ort::Error| RunError(error.to_string());
        let input = match frames {
            &[whole] if is_whole => whole,
            frames => self.stack.gather(frames).map_err(|error| RunError(error.to_string()))?,
        };
        let mut fed = Vec::with_capacity(1 + self.constants.len());
        fed.push((self.name.as_str(), self.picture.value(self.input.shape(), input).map_err(fail)?));
        for constant in &self.constants {
            fed.push((constant.name.as_str(), constant.value().map_err(fail)?));
        }
        let outputs = self.session.run(fed).map_err(fail)?;
        let values: Vec<_> = outputs.iter().collect();
        let mut tensors = Vec::with_capacity(values.len());
        for (name, value) in &values {
            let (shape, data) = outputs::floats(name, value)?;
            tensors.push((*name, shape, data));
        }
        let views: Vec<TensorView<'_>> =
            tensors.iter().map(|(name, shape, data)| TensorView { name, shape, data }).collect();
        take(&views)
    }
}

pub(crate) fn builder(environment: &Environment, threads: usize) -> Result<SessionBuilder, String> {
    let words = |error: &dyn fmt::Display| error.to_string();
    let builder = Session::builder(environment).map_err(|error| words(&error))?;
    let builder = builder.with_intra_threads(threads).map_err(|error| words(&error))?;
    let builder = builder.with_inter_threads(1).map_err(|error| words(&error))?;
    // A thread that spins between frames takes a core from the decoders.
    let builder = builder.with_intra_op_spinning(false).map_err(|error| words(&error))?;
    builder.with_optimization_level(GraphOptimizationLevel::All).map_err(|error| words(&error))
}

pub(crate) fn commit(mut builder: SessionBuilder, model: ModelBytes<'_>) -> Result<Session, String> {
    let session = match model {
        ModelBytes::File(path) => builder.commit_from_file(path),
        ModelBytes::Memory(bytes) => builder.commit_from_memory(bytes),
    };
    session.map_err(|error| error.to_string())
}

/// The one input of a model that computes on a GPU.
pub(crate) struct Input {
    /// With batch 1 and, where the model leaves it open, the size asked for.
    pub(crate) one_frame: TensorInfo,
    /// Whether the model takes any number of frames.
    pub(crate) is_batch_open: bool,
}

pub(crate) fn input(session: &Session, (width, height): (usize, usize)) -> Result<Input, LoadError> {
    let [outlet] = session.inputs() else {
        return Err(LoadError::Input(format!("is one of {}", session.inputs().len())));
    };
    let ValueType::Tensor { ty: TensorElementType::Float32, shape, .. } = outlet.dtype() else {
        return Err(LoadError::Input(format!("{} is {}", outlet.name(), outlet.dtype())));
    };
    let &[batch, channels, model_height, model_width] = &shape[..] else {
        return Err(LoadError::Input(format!("{} has {} dimensions", outlet.name(), shape.len())));
    };
    if batch > 1 || channels > 0 && channels != 3 {
        return Err(LoadError::Input(format!("{} has the shape {shape:?}", outlet.name())));
    }
    let size =
        |fixed: i64, asked: usize| usize::try_from(fixed).ok().filter(|&fixed| fixed > 0).unwrap_or(asked);
    let shape = vec![1, 3, size(model_height, height), size(model_width, width)];
    let one_frame = TensorInfo { name: outlet.name().to_owned(), shape };
    Ok(Input { one_frame, is_batch_open: batch < 0 })
}
