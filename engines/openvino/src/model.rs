//! One model, compiled for one device, with one inference request.

use std::ffi::c_void;
use std::fmt;
use std::path::{Path, PathBuf};
use std::ptr;

use openvino_sys as ov;
use openvino_sys::ov_element_type_e as Element;
use watchpost_binding::TensorView;

use crate::find::LIBRARY_VARIABLE;
use crate::graph::{Constant, feed_constants, output_names, settle};
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
    /// Frames that one call of [`Model::run`] infers side by side.
    pub fn requests(&self) -> usize {
        match self.mode {
            Mode::Latency => 1,
            Mode::Throughput => self.streams.max(1),
        }
    }
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
    /// Half-precision copy of the picture, for models that want it so.
    halves: Option<Vec<half::f16>>,
    // Below, in the order in which it has to go.
    /// What the inputs besides the picture are fed with; the request reads them.
    _constants: Vec<Constant>,
    request: Request,
}

/// A model, loaded once. Inference needs it exclusively.
pub struct Model {
    input: TensorInfo,
    /// Where the picture is among the model's inputs.
    input_index: usize,
    outputs: Vec<Output>,
    arithmetic: Option<Arithmetic>,
    was_kept: bool,
    // What is above is ours. Below, in the order in which it has to go.
    lanes: Vec<Lane>,
    compiled: Compiled,
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
        let (input, input_index, is_half) = settle(&graph, options.input_size)?;
        // What was kept under other settings would compute in something else.
        let is_as_asked =
            |compiled: &Compiled| options.arithmetic.is_none() || computes_in(compiled) == options.arithmetic;
        let kept = kept.and_then(|bytes| import(&core, bytes, &options.device).ok()).filter(is_as_asked);
        let was_kept = kept.is_some();
        let compiled = match kept {
            Some(compiled) => compiled,
            None => compile(&core, &graph, &options.device)?,
        };
        let length: usize = input.shape.iter().product();
        let lane = |_| -> Result<Lane, LoadError> {
            // SAFETY: `compiled` is a compiled model.
            let request = Request::made(|request| unsafe {
                ov::ov_compiled_model_create_infer_request(compiled.raw(), request)
            })?;
            let constants = feed_constants(&graph, &request, (input.shape[3], input.shape[2]))?;
            let halves = is_half.then(|| vec![half::f16::ZERO; length]);
            Ok(Lane { halves, _constants: constants, request })
        };
        let lanes = (0..options.requests()).map(lane).collect::<Result<Vec<_>, _>>()?;
        let outputs = output_names(&graph)?.into_iter();
        let outputs = outputs.map(|name| Output { name, shape: Vec::new(), converted: Vec::new() }).collect();
        let arithmetic = computes_in(&compiled);
        let mut loaded =
            Self { input, input_index, outputs, arithmetic, was_kept, lanes, compiled, _core: core };
        let empty = vec![0.0; length];
        // All of them: the first inference of each takes its memory.
        let empties = vec![empty.as_slice(); loaded.lanes.len()];
        loaded.run(&empties, &mut |_, _| {}).map_err(|error| LoadError::Refused(error.to_string()))?;
        Ok(loaded)
    }

    /// It was taken from what had been kept.
    pub fn was_kept(&self) -> bool {
        self.was_kept
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
    pub fn input(&self) -> &TensorInfo {
        &self.input
    }

    /// Frames that one call of [`Self::run`] takes at most.
    pub fn requests(&self) -> usize {
        self.lanes.len()
    }

    /// Shapes of the outputs, as the first inference gave them.
    pub fn output_shapes(&self) -> Vec<&[usize]> {
        self.outputs.iter().map(|output| output.shape.as_slice()).collect()
    }

    /// What it really computes in, as far as the device tells.
    pub fn arithmetic(&self) -> Option<Arithmetic> {
        self.arithmetic
    }

    /// Infers frames, at most [`Self::requests`], side by side: `inputs` are read in place, outputs of each are lent to
    /// `each`, in order.
    ///
    /// # Errors
    /// [`RunError`]; the model stays usable.
    pub fn run(
        &mut self,
        inputs: &[&[f32]],
        each: &mut dyn FnMut(usize, &[TensorView<'_>]),
    ) -> Result<(), RunError> {
        if inputs.len() > self.lanes.len() {
            return Err(RunError(format!("{} frames are more than {}", inputs.len(), self.lanes.len())));
        }
        let mut tensors = Vec::with_capacity(inputs.len());
        for (lane, input) in self.lanes.iter_mut().zip(inputs) {
            tensors.push(lane.feed(&self.input, self.input_index, input)?);
        }
        // Nothing below returns before all that was started has ended: it reads `inputs`.
        let mut outcome = Ok(());
        let mut started = 0;
        for lane in self.lanes.iter().take(inputs.len()) {
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
        outcome?;
        (0..inputs.len()).try_for_each(|index| self.lend(index, each))
    }

    fn lend(&mut self, index: usize, each: &mut dyn FnMut(usize, &[TensorView<'_>])) -> Result<(), RunError> {
        let request = self.lanes[index].request.raw();
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
        each(index, &views);
        Ok(())
    }
}

impl Lane {
    /// Has the request read `input` where it lies, which has to stay there until it has; so has what is returned.
    fn feed(&mut self, info: &TensorInfo, index: usize, input: &[f32]) -> Result<Tensor, RunError> {
        let length: usize = info.shape.iter().product();
        if input.len() != length {
            return Err(RunError(format!("the input holds {} values, not {length}", input.len())));
        }
        let (element, data) = match &mut self.halves {
            None => (Element::F32, input.as_ptr().cast::<c_void>()),
            Some(halves) => {
                half::slice::HalfFloatSliceExt::convert_from_f32_slice(halves.as_mut_slice(), input);
                (Element::F16, halves.as_ptr().cast::<c_void>())
            }
        };
        let mut dims = info.shape.iter().map(|&size| size as i64);
        let mut dims: [i64; 4] = std::array::from_fn(|_| dims.next().unwrap_or(1));
        let shape = ov::ov_shape_t { rank: 4, dims: dims.as_mut_ptr() };
        // SAFETY: `data` holds as many values as the shape says and outlives the inference; inputs are only read.
        let tensor = Tensor::made(|tensor| unsafe {
            ov::ov_tensor_create_from_host_ptr(element, shape, data.cast_mut(), tensor)
        })?;
        // SAFETY: request and tensor are the library's own.
        check(unsafe {
            ov::ov_infer_request_set_input_tensor_by_index(self.request.raw(), index, tensor.raw())
        })?;
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

/// A compiled model as it was exported.
fn import(core: &Core, bytes: &[u8], device: &str) -> Result<Compiled, Refusal> {
    let device = c_string(device)?;
    // SAFETY: the bytes are read during the call and copied; a string that ends with 0.
    Compiled::made(|compiled| unsafe {
        ov::ov_core_import_model(core.raw(), bytes.as_ptr().cast(), bytes.len(), device.as_ptr(), compiled)
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
