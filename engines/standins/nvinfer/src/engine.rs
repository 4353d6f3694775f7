//! A deserialised plan: its tensors, and the model that computes.

use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use half::f16;

use crate::counters::{self, Live};
use crate::cuda::{Cuda, DeviceMemory};
use crate::log::{Logger, Severity};
use crate::model::{Loaded, Network};
use crate::pause;
use crate::plan::{Element, Plan};
use crate::settings::{self, Amount, Fault};

/// An input or output.
#[derive(Debug)]
pub struct Tensor {
    pub name: CString,
    pub is_input: bool,
    pub element: Element,
    /// As `ICudaEngine::getTensorShape` says it: -1 where open.
    pub declared: Vec<i64>,
    /// For one frame.
    pub frame: Vec<i64>,
}

impl Tensor {
    /// Values of one frame.
    pub fn frame_len(&self) -> usize {
        self.frame.iter().map(|&size| usize::try_from(size).unwrap_or(0)).product()
    }

    /// Bytes of `batch` frames.
    pub fn bytes(&self, batch: i64) -> u64 {
        batch.unsigned_abs() * (self.frame_len() * self.element.bytes()) as u64
    }

    /// The shape of `batch` frames.
    pub fn shape(&self, batch: i64) -> Vec<i64> {
        let mut shape = self.frame.clone();
        if let (Some(first), true) = (shape.first_mut(), self.declared.first() == Some(&-1)) {
            *first = batch;
        }
        shape
    }
}

/// What work in a stream needs of an engine.
#[derive(Debug)]
pub struct Engine {
    pub plan: Plan,
    /// The input first.
    pub tensors: Vec<Tensor>,
    model: Mutex<Loaded>,
}

impl Engine {
    /// A tensor by its name.
    pub fn tensor(&self, name: &CStr) -> Option<(usize, &Tensor)> {
        self.tensors.iter().enumerate().find(|(_, tensor)| tensor.name.as_c_str() == name)
    }

    /// The largest batch.
    pub fn max_batch(&self) -> i64 {
        self.plan.profile.max[0]
    }

    /// Bytes of activations for `batch` frames.
    pub fn activation_bytes(&self, batch: i64) -> u64 {
        match settings::amount(Amount::ActivationBytes) {
            0 => {
                let values: usize = self.tensors.iter().map(Tensor::frame_len).sum();
                (batch.unsigned_abs() * values as u64 * 4).next_multiple_of(512)
            }
            bytes => bytes,
        }
    }

    /// Infers the frames that lie at the tensors' addresses, one after the other.
    ///
    /// # Errors
    /// What the built-in engine says.
    ///
    /// # Safety
    /// Each address is that of `batch` frames of its tensor, in host memory, the outputs writable.
    pub unsafe fn infer(&self, addresses: &[u64], batch: usize, nan: bool) -> Result<(), String> {
        let mut loaded = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        let input = &self.tensors[0];
        let len = input.frame_len();
        for frame in 0..batch {
            // SAFETY: frame `frame` of the input, as the caller promises.
            let values = unsafe { read(input.element, addresses[0], frame * len, len) };
            let mut written = Ok(());
            let each = &mut |outputs: &[watchpost_builtin::TensorView<'_>]| {
                for ((tensor, view), &address) in self.tensors[1..].iter().zip(outputs).zip(&addresses[1..]) {
                    let len = tensor.frame_len();
                    if view.data.len() != len {
                        written = Err(format!("an output has {} values, not {len}", view.data.len()));
                        return;
                    }
                    // SAFETY: frame `frame` of an output, as the caller promises.
                    unsafe { write(tensor.element, address, frame * len, view.data, nan) };
                }
            };
            loaded.model.run(&values, each).map_err(|error| error.to_string())?;
            written?;
        }
        Ok(())
    }
}

/// Reads `len` values that begin `from` values behind `address`.
///
/// # Safety
/// They are there.
unsafe fn read(element: Element, address: u64, from: usize, len: usize) -> Vec<f32> {
    let start = (address as *const u8).wrapping_add(from * element.bytes());
    // SAFETY: as the caller promises.
    let bytes = unsafe { std::slice::from_raw_parts(start, len * element.bytes()) };
    match element {
        Element::F16 => bytes.as_chunks().0.iter().map(|&value| f16::from_le_bytes(value).to_f32()).collect(),
        _ => bytes.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).collect(),
    }
}

/// Writes values from `from` values behind `address` on.
///
/// # Safety
/// There is room for them.
unsafe fn write(element: Element, address: u64, from: usize, values: &[f32], nan: bool) {
    let start = (address as *mut u8).wrapping_add(from * element.bytes());
    // SAFETY: as the caller promises.
    let bytes = unsafe { std::slice::from_raw_parts_mut(start, values.len() * element.bytes()) };
    for (to, &value) in bytes.chunks_exact_mut(element.bytes()).zip(values) {
        let value = if nan { f32::NAN } else { value };
        match element {
            Element::F32 => to.copy_from_slice(&value.to_le_bytes()),
            Element::F16 => to.copy_from_slice(&f16::from_f32(value).to_le_bytes()),
            // The built-in engine widened them to f32 exactly.
            #[allow(clippy::cast_possible_truncation, reason = "class ids and counts")]
            Element::I32 => to.copy_from_slice(&(value as i32).to_le_bytes()),
            #[allow(clippy::cast_possible_truncation, reason = "class ids and counts")]
            Element::I64 => to.copy_from_slice(&(value as i64).to_le_bytes()),
        }
    }
}

/// What an `ICudaEngine` owns.
pub struct Handle {
    pub engine: Arc<Engine>,
    pub logger: Logger,
    pub cuda: Cuda,
    pub contexts: Arc<AtomicUsize>,
    _weights: DeviceMemory,
    of_runtime: Arc<AtomicUsize>,
    _live: Live,
}

impl Handle {
    /// `IRuntime::deserializeCudaEngine`
    ///
    /// # Errors
    /// Why not, for the log.
    pub fn deserialize(
        blob: &[u8],
        logger: Logger,
        cuda: Cuda,
        of_runtime: &Arc<AtomicUsize>,
    ) -> Result<Self, String> {
        logger.chatter("deserializeCudaEngine");
        pause::wait(Duration::from_millis(settings::amount(Amount::DeserializeMs)));
        if settings::due(Fault::DeserializeFails) {
            return Err(
                "Error Code 1: Serialization (Serialization assertion failed: refused on demand)".to_owned()
            );
        }
        let plan = Plan::decode(blob).map_err(|why| format!("Error Code 1: Serialization ({why})"))?;
        check_plan(&plan, cuda)?;
        let engine = load(plan).map_err(|why| format!("Error Code 1: Serialization ({why})"))?;
        let weights = DeviceMemory::allocate(cuda, engine.plan.onnx.len())
            .map_err(|error| format!("Error Code 2: OutOfMemory (weights: CUDA error {error})"))?;
        of_runtime.fetch_add(1, Ordering::SeqCst);
        logger.say(Severity::Info, &format!("Loaded engine size: {} bytes", blob.len()));
        Ok(Self {
            engine: Arc::new(engine),
            logger,
            cuda,
            contexts: Arc::default(),
            _weights: weights,
            of_runtime: Arc::clone(of_runtime),
            _live: Live::new(&counters::LIVE_ENGINES),
        })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let contexts = self.contexts.load(Ordering::SeqCst);
        if contexts > 0 {
            counters::violation(&format!("an ICudaEngine is deleted before {contexts} of its contexts"));
        }
        self.of_runtime.fetch_sub(1, Ordering::SeqCst);
    }
}

fn check_plan(plan: &Plan, cuda: Cuda) -> Result<(), String> {
    let (here, there) = (settings::version(), plan.version);
    let fits = here == there || (plan.version_compatible && here.major == there.major);
    if !fits {
        return Err(format!(
            "Error Code 6: API Usage Error (The engine plan file is not compatible with this version of TensorRT, \
             expecting library version {there} got {here})"
        ));
    }
    let (here, there) = (cuda.compute_capability(), plan.compute_capability);
    let fits = match plan.hardware_compatibility {
        1 => here >= (8, 0) && there >= (8, 0),
        _ => here == there,
    };
    if !fits {
        return Err(format!(
            "Error Code 6: API Usage Error (The engine plan file is generated on an incompatible device, expecting \
             compute {}.{} got compute {}.{})",
            here.0, here.1, there.0, there.1
        ));
    }
    Ok(())
}

fn load(plan: Plan) -> Result<Engine, String> {
    let network = Network::parse(&plan.onnx)?;
    let [_, _, height, width] = plan.profile.max;
    let size = |side: i64| usize::try_from(side).map_err(|_| "the profile has no size".to_owned());
    let loaded = Loaded::new(Arc::clone(&network.onnx), Some((size(width)?, size(height)?)))?;
    let batched = network.input.sizes[0] < 0;
    let frame =
        |shape: &[usize]| shape.iter().map(|&size| i64::try_from(size).unwrap_or(-1)).collect::<Vec<_>>();
    let text = |name: &str| CString::new(name).map_err(|_| "a name with a zero byte".to_owned());
    let mut tensors = vec![Tensor {
        name: text(&network.input.name)?,
        is_input: true,
        element: plan.input,
        declared: network.input.sizes.clone(),
        frame: frame(&loaded.model.inputs()[0].shape),
    }];
    for (index, (info, declared)) in loaded.model.outputs().iter().zip(&network.outputs).enumerate() {
        let frame = frame(&info.shape);
        let mut shape = frame.clone();
        if let (true, Some(first)) = (batched, shape.first_mut()) {
            *first = -1;
        }
        let element = *plan.outputs.get(index).ok_or("the plan and its model have different outputs")?;
        tensors.push(Tensor {
            name: text(&declared.name)?,
            is_input: false,
            element,
            declared: shape,
            frame,
        });
    }
    Ok(Engine { plan, tensors, model: Mutex::new(loaded) })
}
