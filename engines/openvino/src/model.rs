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
    /// As many inferences as possible: several at a time, each on its share of the threads.
    Throughput,
}

/// How a model is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOptions {
    /// `"CPU"`, `"GPU"`, `"NPU"`, as OpenVINO names it.
    pub device: String,
    /// Threads of all inferences together, at least 1; for the CPU.
    pub threads: usize,
    /// Inferences at a time, at least 1; counts in [`Mode::Throughput`]. Each has buffers of its own.
    pub streams: usize,
    /// Width and height of the input, for models that leave them open.
    pub input_size: (usize, usize),
    /// What to compute in; `None` leaves it to the device: bfloat16 on a CPU that has it.
    pub arithmetic: Option<Arithmetic>,
    /// What to tune for.
    pub mode: Mode,
}

impl LoadOptions {
    /// Inferences that one call of [`Model::run_frames`] does side by side.
    pub fn requests(&self) -> usize {
        match self.mode {
            Mode::Latency => 1,
            Mode::Throughput => self.streams.max(1),
        }
    }
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

/// One inference and what it reads.
struct Lane {
    /// Where the pictures of a fixed batch are put together.
    stack: Stack,
    /// Half-precision copy of the picture, for models that want it so.
    halves: Option<Vec<half::f16>>,
    // Below, in the order in which it has to go.
    /// What the inputs besides the picture are fed with; the request reads them.
    _constants: Vec<Constant>,
    request: Request,
}

/// A model, loaded once. Inference needs it exclusively.
pub struct Model {
    input: PictureInput,
    /// Where the picture is among the model's inputs.
    input_index: usize,
    outputs: Vec<Output>,
    arithmetic: Option<Arithmetic>,
    // What is above is ours. Below, in the order in which it has to go.
    lanes: Vec<Lane>,
    compiled: Compiled,
    /// What it was imported from, and reads its weights from.
    blob: Option<Blob>,
    _core: Core,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("input", &self.input).finish_non_exhaustive()
    }
}

impl Model {
    /// Compiles the model for a device of `library`, and infers one empty frame. `kept` is what [`Model::export`] wrote for
    /// the same model, library, device and options: it is taken instead of compiling, if the library takes it.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(
        _library: &Library,
        model: ModelBytes<'_>,
        options: &LoadOptions,
        kept: Option<&[u8]>,
    ) -> Result<Self, LoadError> {
        // SAFETY: the library is loaded, and the pointer it is given is valid for writes.
        let core = Core::made(|core| unsafe { ov::ov_core_create(core) })?;
        configure(&core, options)?;
        let graph = read(&core, model)?;
        let Settled { picture: input, index: input_index, is_half } = settle(&graph, options.input_size)?;
        // What was kept under other settings would compute in something else.
        let is_as_asked =
            |compiled: &Compiled| options.arithmetic.is_none() || computes_in(compiled) == options.arithmetic;
        let blob = kept.map(Blob::of);
        let imported = blob.as_ref().and_then(|blob| import(&core, blob, &options.device).ok());
        let (compiled, blob) = match imported.filter(is_as_asked) {
            Some(compiled) => (compiled, blob),
            None => (compile(&core, &graph, &options.device)?, None),
        };
        let length = input.batch * input.frame_len();
        let lane = |_| -> Result<Lane, LoadError> {
            // SAFETY: `compiled` is a compiled model.
            let request = Request::made(|request| unsafe {
                ov::ov_compiled_model_create_infer_request(compiled.raw(), request)
            })?;
            let constants = feed_constants(&graph, &request, &input)?;
            let halves = is_half.then(|| vec![half::f16::ZERO; length]);
            Ok(Lane { stack: Stack::new(input), halves, _constants: constants, request })
        };
        let lanes = (0..options.requests()).map(lane).collect::<Result<Vec<_>, _>>()?;
        let outputs = output_names(&graph)?.into_iter();
        let outputs = outputs.map(|name| Output { name, shape: Vec::new(), converted: Vec::new() }).collect();
        let arithmetic = computes_in(&compiled);
        let mut loaded = Self { input, input_index, outputs, arithmetic, lanes, compiled, blob, _core: core };
        // All of them: the first inference of each takes its memory.
        let (floats, bytes) = match input.form.number {
            Number::F32 => (vec![0.0; input.frame_len()], Vec::new()),
            Number::U8 => (Vec::new(), vec![0; input.frame_len()]),
        };
        let empty = match input.form.number {
            Number::F32 => Frame::F32(&floats),
            Number::U8 => Frame::U8(&bytes),
        };
        let empties = vec![empty; loaded.frames_max()];
        // An output that is nobody's is told apart from one that failed.
        loaded.infer(&empties).map_err(|error| LoadError::Refused(error.to_string()))?;
        loaded.lend(0, &mut |_| Ok(())).map_err(|error| LoadError::Refused(error.to_string()))?;
        for output in &loaded.outputs {
            share_shape(&output.name, &output.shape, input.batch)?;
        }
        Ok(loaded)
    }

    /// It was taken from what had been kept.
    pub fn was_kept(&self) -> bool {
        self.blob.is_some()
    }

    /// Writes the compiled model into a new file. Not every device can.
    ///
    /// # Errors
    /// The library's words.
    pub fn export(&self, path: &Path) -> Result<(), RunError> {
        let path = path.to_str().ok_or_else(|| RunError("the path is not UTF-8".to_owned()))?;
        let path = c_string(path)?;
        // SAFETY: the compiled model is the library's own; a string that ends with 0.
        Ok(check(unsafe { ov::ov_compiled_model_export_model(self.compiled.raw(), path.as_ptr()) })?)
    }

    /// The picture. Inputs that say how large it is are fed with constants and not listed.
    pub fn picture(&self) -> PictureInput {
        self.input
    }

    /// Frames that one call of [`Self::run_frames`] takes at most: a batch for each inference side by side.
    pub fn frames_max(&self) -> usize {
        self.lanes.len() * self.input.batch
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

    /// Infers frames, at most [`Self::frames_max`], side by side and in batches where the model's are fixed: `inputs` are read
    /// in place where a model takes one at a time, outputs of each are lent to `each`, in order.
    ///
    /// # Errors
    /// [`RunError`]; the model stays usable.
    pub fn run_frames(
        &mut self,
        inputs: &[Frame<'_>],
        each: &mut dyn FnMut(usize, &[TensorView<'_>]),
    ) -> Result<(), RunError> {
        self.infer(inputs)?;
        let batch = self.input.batch;
        for (lane, frames) in inputs.chunks(batch).enumerate() {
            self.lend(lane, &mut |views| {
                let each =
                    &mut |index: usize, outputs: &[TensorView<'_>]| each(lane * batch + index, outputs);
                lend_shares(views, (frames.len(), batch), each).map_err(|error| RunError(error.to_string()))
            })?;
        }
        Ok(())
    }

    fn infer(&mut self, inputs: &[Frame<'_>]) -> Result<(), RunError> {
        if inputs.len() > self.frames_max() {
            return Err(RunError(format!("{} frames are more than {}", inputs.len(), self.frames_max())));
        }
        let mut tensors = Vec::with_capacity(self.lanes.len());
        for (lane, frames) in self.lanes.iter_mut().zip(inputs.chunks(self.input.batch)) {
            tensors.push(lane.feed(&self.input, self.input_index, frames)?);
        }
        // Nothing below returns before all that was started has ended: it reads `inputs`.
        let mut outcome = Ok(());
        let mut started = 0;
        for lane in self.lanes.iter().take(tensors.len()) {
            // SAFETY: the request is the library's own, its tensors are set, and what they lie in is held until the waiting
            // below is over.
            outcome = check(unsafe { ov::ov_infer_request_start_async(lane.request.raw()) });
            if outcome.is_err() {
                break;
            }
            started += 1;
        }
        for lane in self.lanes.iter().take(started) {
            // SAFETY: as above; it returns when nothing reads the input any more, also if the inference has failed.
            outcome = outcome.and(check(unsafe { ov::ov_infer_request_wait(lane.request.raw()) }));
        }
        Ok(outcome?)
    }

    /// Hands out the outputs of the last inference of a lane, of all its frames together.
    fn lend(
        &mut self,
        lane: usize,
        take: &mut dyn FnMut(&[TensorView<'_>]) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        let request = self.lanes[lane].request.raw();
        let mut tensors = Vec::with_capacity(self.outputs.len());
        for (index, output) in self.outputs.iter_mut().enumerate() {
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

impl Lane {
    /// Has the request read the frames where they lie (or where a batch of them was put together), which have to stay there
    /// until it has; so has what is returned.
    fn feed(&mut self, info: &PictureInput, index: usize, frames: &[Frame<'_>]) -> Result<Tensor, RunError> {
        let Self { stack, halves, request, .. } = self;
        // As many numbers as the input has, or an error.
        let input = stack.gather(frames).map_err(|error| RunError(error.to_string()))?;
        let (element, data) = match (halves, input) {
            (None, Frame::F32(input)) => (Element::F32, input.as_ptr().cast::<c_void>()),
            (Some(halves), Frame::F32(input)) => {
                half::slice::HalfFloatSliceExt::convert_from_f32_slice(halves.as_mut_slice(), input);
                (Element::F16, halves.as_ptr().cast::<c_void>())
            }
            (_, Frame::U8(input)) => (Element::U8, input.as_ptr().cast::<c_void>()),
        };
        let mut dims = info.shape().map(|size| size as i64);
        let shape = ov::ov_shape_t { rank: 4, dims: dims.as_mut_ptr() };
        // SAFETY: `data` holds as many values as the shape says and outlives the inference; inputs are only read.
        let tensor = Tensor::made(|tensor| unsafe {
            ov::ov_tensor_create_from_host_ptr(element, shape, data.cast_mut(), tensor)
        })?;
        // SAFETY: request and tensor are the library's own.
        check(unsafe { ov::ov_infer_request_set_input_tensor_by_index(request.raw(), index, tensor.raw()) })?;
        Ok(tensor)
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
        set("NUM_STREAMS", &options.requests().to_string())?;
        // Decoders and other processes want the cores too: the kernel knows better who sits where.
        set("ENABLE_CPU_PINNING", "NO")?;
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

/// An exported model, as aligned as the code that reads its weights may want them.
struct Blob {
    lines: Vec<Line>,
    length: usize,
}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([u8; 64]);

impl Blob {
    fn of(bytes: &[u8]) -> Self {
        let line = |chunk: &[u8]| {
            let mut line = Line([0; 64]);
            line.0[..chunk.len()].copy_from_slice(chunk);
            line
        };
        Self { lines: bytes.chunks(64).map(line).collect(), length: bytes.len() }
    }
}

/// A compiled model as it was exported. It reads `blob` as long as it lives: whoever holds it has to hold that longer.
fn import(core: &Core, blob: &Blob, device: &str) -> Result<Compiled, Refusal> {
    let device = c_string(device)?;
    // SAFETY: the lines hold `length` bytes, are never changed, and stay beside the compiled model, which is dropped before
    // them (`Model`) or at once (`Model::load`); a string that ends with 0.
    Compiled::made(|compiled| unsafe {
        ov::ov_core_import_model(
            core.raw(),
            blob.lines.as_ptr().cast(),
            blob.length,
            device.as_ptr(),
            compiled,
        )
    })
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
