//! One model, compiled for one device, with one inference request.

use std::ffi::c_void;
use std::fmt;
use std::path::{Path, PathBuf};
use std::ptr;

use openvino_sys as ov;
use openvino_sys::ov_element_type_e as Element;
use watchpost_binding::{
    Frame, NotShared, Number, PictureInput, Stack, TensorView, lend_shares, share_shape,
};

use crate::find::LIBRARY_VARIABLE;
use crate::graph::{Constant, Settled, feed_constants, output_names, settle};
use crate::library::Library;
use crate::outputs::{floats, shape_of};
use crate::owned::{Compiled, Core, Graph, Refusal, Request, Tensor, c_string, check, take_text};

/// Where the weights are.
#[derive(Debug, Clone, Copy)]
pub enum ModelBytes<'a> {
    /// An ONNX file.
    File(&'a Path),
    /// An ONNX file's contents.
    Memory(&'a [u8]),
}

/// In what the device computes what the model has in floating point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// 32-bit float.
    F32,
    /// 16-bit float.
    F16,
    /// bfloat16.
    Bf16,
}

impl Arithmetic {
    const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];

    fn hint(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }
}

/// What the device is tuned for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One inference as soon as possible: all threads work on it.
    Latency,
    /// As many inferences as possible.
    Throughput,
}

/// How a model is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOptions {
    /// `"CPU"`, `"GPU"`, `"NPU"`, as OpenVINO names it.
    pub device: String,
    /// Threads of one inference, at least 1; for the CPU.
    pub threads: usize,
    /// Width and height of the input, for models that leave them open.
    pub input_size: (usize, usize),
    /// What to compute in; `None` leaves it to the device: bfloat16 on a CPU that has it.
    pub arithmetic: Option<Arithmetic>,
    /// What to tune for.
    pub mode: Mode,
    /// Where compiled models are kept, so that the next load is quicker; `None` keeps none.
    pub cache_dir: Option<PathBuf>,
}

/// Why a model was not loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The library itself cannot be used.
    #[error("{} cannot be used: {reason}", .path.display())]
    Library {
        /// The file.
        path: PathBuf,
        /// Its loader's words, or ours.
        reason: String,
    },
    /// The library is there, and the device is not.
    #[error(
        "OpenVINO has no device {device} here: {reason}; name another library with {LIBRARY_VARIABLE}, or use the CPU"
    )]
    Device {
        /// As asked for.
        device: String,
        /// The library's words.
        reason: String,
    },
    /// The library refuses the model.
    #[error("OpenVINO refuses the model: {0}")]
    Refused(String),
    /// The model is not one that takes a picture.
    #[error("the model's input {0}; one of f32 [1, 3, height, width] is needed")]
    Input(String),
    /// A fixed batch, and an output that is not one share for each picture of it.
    #[error(transparent)]
    Shared(#[from] NotShared),
}

impl From<Refusal> for LoadError {
    fn from(Refusal(words): Refusal) -> Self {
        Self::Refused(words)
    }
}

/// Why an inference failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RunError(pub(crate) String);

impl From<Refusal> for RunError {
    fn from(Refusal(words): Refusal) -> Self {
        Self(words)
    }
}

/// An output as the library gives it: its name, and room for values that are not f32 there.
struct Output {
    name: String,
    shape: Vec<usize>,
    converted: Vec<f32>,
}

/// A model, loaded once. Inference needs it exclusively.
pub struct Model {
    input: PictureInput,
    /// Where the pictures of a fixed batch are put together.
    stack: Stack,
    /// Where the picture is among the model's inputs.
    input_index: usize,
    /// Half-precision copy of the picture, for models that want it so.
    halves: Option<Vec<half::f16>>,
    outputs: Vec<Output>,
    arithmetic: Option<Arithmetic>,
    // What is above is ours. Below, in the order in which it has to go.
    /// What the inputs besides the picture are fed with; the request reads them.
    _constants: Vec<Constant>,
    request: Request,
    _compiled: Compiled,
    _core: Core,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("input", &self.input).finish_non_exhaustive()
    }
}

impl Model {
    /// Compiles the model for a device of `library`, and infers one empty frame.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(_library: &Library, model: ModelBytes<'_>, options: &LoadOptions) -> Result<Self, LoadError> {
        // SAFETY: the library is loaded, and the pointer it is given is valid for writes.
        let core = Core::made(|core| unsafe { ov::ov_core_create(core) })?;
        configure(&core, options)?;
        let graph = read(&core, model)?;
        let Settled { picture: input, index: input_index, is_half } = settle(&graph, options.input_size)?;
        let compiled = compile(&core, &graph, &options.device)?;
        let arithmetic = computes_in(&compiled);
        // SAFETY: `compiled` is a compiled model.
        let request = Request::made(|request| unsafe {
            ov::ov_compiled_model_create_infer_request(compiled.raw(), request)
        })?;
        let constants = feed_constants(&graph, &request, &input)?;
        let length = input.batch * input.frame_len();
        let halves = is_half.then(|| vec![half::f16::ZERO; length]);
        let outputs = output_names(&graph)?.into_iter();
        let outputs = outputs.map(|name| Output { name, shape: Vec::new(), converted: Vec::new() }).collect();
        let mut loaded = Self {
            input,
            stack: Stack::new(input),
            input_index,
            halves,
            outputs,
            arithmetic,
            _constants: constants,
            request,
            _compiled: compiled,
            _core: core,
        };
        let ran = match input.form.number {
            Number::F32 => loaded.infer(Frame::F32(&vec![0.0; length])),
            Number::U8 => loaded.infer(Frame::U8(&vec![0; length])),
        };
        let ran = ran.and_then(|()| loaded.lend(&mut |_| Ok(())));
        ran.map_err(|error| LoadError::Refused(error.to_string()))?;
        for output in &loaded.outputs {
            share_shape(&output.name, &output.shape, input.batch)?;
        }
        Ok(loaded)
    }

    /// The picture. Inputs that say how large it is are fed with constants and not listed.
    pub fn picture(&self) -> PictureInput {
        self.input
    }

    /// Shapes of the outputs for one frame, as the first inference gave them.
    pub fn output_shapes(&self) -> Vec<Vec<usize>> {
        let mut shapes: Vec<Vec<usize>> = self.outputs.iter().map(|output| output.shape.clone()).collect();
        if self.input.batch > 1 {
            shapes.iter_mut().filter_map(|shape| shape.first_mut()).for_each(|first| *first = 1);
        }
        shapes
    }

    /// What it really computes in, as far as the device tells.
    pub fn arithmetic(&self) -> Option<Arithmetic> {
        self.arithmetic
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
        // Out of the way of the rest of `self`; it comes back whatever happens below.
        let mut stack = std::mem::replace(&mut self.stack, Stack::empty());
        let gathered = stack.gather(frames).map_err(|error| RunError(error.to_string()));
        let ran = gathered.and_then(|input| self.infer(input));
        self.stack = stack;
        ran?;
        self.lend(&mut |views| {
            lend_shares(views, (frames.len(), batch), each).map_err(|error| RunError(error.to_string()))
        })
    }

    /// The library's part of a run.
    fn infer(&mut self, input: Frame<'_>) -> Result<(), RunError> {
        let length = self.input.batch * self.input.frame_len();
        if input.len() != length {
            return Err(RunError(format!("the input holds {} values, not {length}", input.len())));
        }
        let (element, data) = match (&mut self.halves, input) {
            (None, Frame::F32(input)) => (Element::F32, input.as_ptr().cast::<c_void>()),
            (Some(halves), Frame::F32(input)) => {
                half::slice::HalfFloatSliceExt::convert_from_f32_slice(halves.as_mut_slice(), input);
                (Element::F16, halves.as_ptr().cast::<c_void>())
            }
            (_, Frame::U8(input)) => (Element::U8, input.as_ptr().cast::<c_void>()),
        };
        let mut dims = self.input.shape().map(|size| size as i64);
        let shape = ov::ov_shape_t { rank: 4, dims: dims.as_mut_ptr() };
        // SAFETY: `data` holds as many values as the shape says and outlives the inference below; inputs are only read.
        let tensor = Tensor::made(|tensor| unsafe {
            ov::ov_tensor_create_from_host_ptr(element, shape, data.cast_mut(), tensor)
        })?;
        let request = self.request.raw();
        // SAFETY: request and tensor are the library's own.
        check(unsafe {
            ov::ov_infer_request_set_input_tensor_by_index(request, self.input_index, tensor.raw())
        })?;
        // SAFETY: as above; it returns when nothing reads the input any more.
        check(unsafe { ov::ov_infer_request_infer(request) })?;
        Ok(())
    }

    /// Hands out the outputs of the last inference, of all its frames together.
    fn lend(
        &mut self,
        take: &mut dyn FnMut(&[TensorView<'_>]) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        let mut tensors = Vec::with_capacity(self.outputs.len());
        for (index, output) in self.outputs.iter_mut().enumerate() {
            let request = self.request.raw();
            // SAFETY: the request is the library's own; the index is below the count of its outputs.
            let tensor = Tensor::made(|tensor| unsafe {
                ov::ov_infer_request_get_output_tensor_by_index(request, index, tensor)
            })?;
            shape_of(&tensor, &mut output.shape)?;
            tensors.push(tensor);
        }
        let mut views = Vec::with_capacity(self.outputs.len());
        for (output, tensor) in self.outputs.iter_mut().zip(&tensors) {
            let data = floats(tensor, &output.name, output.shape.iter().product(), &mut output.converted)?;
            views.push(TensorView { name: &output.name, shape: &output.shape, data });
        }
        take(&views)
    }
}

fn configure(core: &Core, options: &LoadOptions) -> Result<(), LoadError> {
    let device = c_string(&options.device)?;
    let set = |key: &str, value: &str| -> Result<(), Refusal> {
        let (key, value) = (c_string(key)?, c_string(value)?);
        // SAFETY: four strings that end with 0.
        check(unsafe { ov::ov_core_set_property(core.raw(), device.as_ptr(), key.as_ptr(), value.as_ptr()) })
    };
    let missing = |Refusal(reason): Refusal| LoadError::Device { device: options.device.clone(), reason };
    let mode = match options.mode {
        Mode::Latency => "LATENCY",
        Mode::Throughput => "THROUGHPUT",
    };
    set("PERFORMANCE_HINT", mode).map_err(missing)?;
    if let Some(arithmetic) = options.arithmetic {
        set("INFERENCE_PRECISION_HINT", arithmetic.hint())?;
    }
    if options.device == "CPU" {
        set("INFERENCE_NUM_THREADS", &options.threads.to_string())?;
        if options.mode == Mode::Latency {
            set("NUM_STREAMS", "1")?;
        }
        // Decoders and other processes want the cores too: the kernel knows better who sits where.
        set("ENABLE_CPU_PINNING", "NO")?;
    }
    if let Some(folder) = options.cache_dir.as_deref().and_then(Path::to_str) {
        set("CACHE_DIR", folder)?;
    }
    Ok(())
}

fn read(core: &Core, model: ModelBytes<'_>) -> Result<Graph, LoadError> {
    let graph = match model {
        ModelBytes::File(path) => {
            let path = path.to_str().ok_or_else(|| LoadError::Refused("its path is not UTF-8".to_owned()))?;
            let path = c_string(path)?;
            // SAFETY: a string that ends with 0; no file of weights besides the ONNX file.
            Graph::made(|graph| unsafe {
                ov::ov_core_read_model(core.raw(), path.as_ptr(), ptr::null(), graph)
            })
        }
        // SAFETY: the bytes are read during the call; no tensor of weights besides them.
        ModelBytes::Memory(bytes) => Graph::made(|graph| unsafe {
            ov::ov_core_read_model_from_memory_buffer(
                core.raw(),
                bytes.as_ptr().cast(),
                bytes.len(),
                ptr::null(),
                graph,
            )
        }),
    };
    Ok(graph?)
}

fn compile(core: &Core, graph: &Graph, device: &str) -> Result<Compiled, LoadError> {
    let device = c_string(device)?;
    // SAFETY: core and graph are the library's own; no properties follow.
    let compiled = Compiled::made(|compiled| unsafe {
        ov::ov_core_compile_model(core.raw(), graph.raw(), device.as_ptr(), 0, compiled)
    });
    Ok(compiled?)
}

fn computes_in(compiled: &Compiled) -> Option<Arithmetic> {
    let key = c"INFERENCE_PRECISION_HINT";
    let mut value = ptr::null_mut();
    // SAFETY: the compiled model is the library's own, the pointer valid for writes.
    check(unsafe { ov::ov_compiled_model_get_property(compiled.raw(), key.as_ptr(), &raw mut value) })
        .ok()?;
    // SAFETY: properties are freed with `ov_free`.
    let text = unsafe { take_text(value) };
    Arithmetic::ALL.into_iter().find(|one| one.hint() == text)
}
