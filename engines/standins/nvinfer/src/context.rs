//! An execution context: shapes, addresses, activation memory, and putting work into a stream.

use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::counters::{self, Live};
use crate::cuda::{Cuda, DeviceMemory, Stream};
use crate::engine::{Engine, Handle};
use crate::job::Job;
use crate::log::Logger;
use crate::pause;
use crate::settings::{self, Fault};

/// `ExecutionContextAllocationStrategy::kUSER_MANAGED`
pub const USER_MANAGED: i32 = 2;
/// Device memory and tensors begin at multiples of this.
const ALIGNMENT: u64 = 256;

/// Where the activations lie.
enum Activations {
    Own(DeviceMemory),
    /// The caller's: address and size, once it has said so.
    User(Option<(u64, u64)>),
}

/// What an `IExecutionContext` owns.
pub struct Context {
    engine: Arc<Engine>,
    logger: Logger,
    cuda: Cuda,
    /// Frames of the next batch; `None` until the input's open shape is set.
    batch: Option<i64>,
    addresses: Vec<u64>,
    activations: Activations,
    in_flight: Arc<AtomicUsize>,
    of_engine: Arc<AtomicUsize>,
    _live: Live,
}

impl Context {
    /// `ICudaEngine::createExecutionContext`; `None` after a word in the log.
    pub fn create(handle: &Handle, strategy: i32) -> Option<Self> {
        handle.logger.chatter("createExecutionContext");
        let engine = Arc::clone(&handle.engine);
        let bytes = engine.activation_bytes(engine.max_batch());
        let memory = if settings::due(Fault::ContextFails) {
            Err(2)
        } else if strategy == USER_MANAGED {
            Ok(Activations::User(None))
        } else {
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            DeviceMemory::allocate(handle.cuda, bytes).map(Activations::Own)
        };
        let activations = match memory {
            Ok(activations) => activations,
            Err(error) => {
                handle.logger.error(&format!(
                    "[allocator] Error Code 2: OutOfMemory (Requested size was {bytes} bytes; CUDA error {error})"
                ));
                return None;
            }
        };
        handle.contexts.fetch_add(1, Ordering::SeqCst);
        let open = engine.tensors[0].declared.contains(&-1);
        Some(Self {
            addresses: vec![0; engine.tensors.len()],
            batch: (!open).then_some(1),
            engine,
            logger: handle.logger,
            cuda: handle.cuda,
            activations,
            in_flight: Arc::default(),
            of_engine: Arc::clone(&handle.contexts),
            _live: Live::new(&counters::LIVE_CONTEXTS),
        })
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Frames of the next batch, if its shape is known.
    pub fn batch(&self) -> Option<i64> {
        self.batch
    }

    fn refuse(&self, call: &str, why: &str) -> bool {
        self.logger.error(&format!("IExecutionContext::{call}: Error Code 3: API Usage Error ({why})"));
        false
    }

    /// The index of a tensor; says so where there is none.
    pub fn index(&self, call: &str, name: &CStr) -> Option<usize> {
        let found = self.engine.tensor(name).map(|(index, _)| index);
        if found.is_none() {
            self.refuse(call, &format!("{} is not the name of an input or output", name.to_string_lossy()));
        }
        found
    }

    /// `setInputShape`
    pub fn set_input_shape(&mut self, name: &CStr, shape: &[i64]) -> bool {
        let Some(index) = self.index("setInputShape", name) else { return false };
        let (declared, profile) = (&self.engine.tensors[0].declared, &self.engine.plan.profile);
        if index != 0 {
            return self.refuse("setInputShape", &format!("{} is no input", name.to_string_lossy()));
        }
        if shape.len() != declared.len() {
            let why = format!("shape {shape:?} has not the {} dimensions of the network", declared.len());
            return self.refuse("setInputShape", &why);
        }
        let fits = |axis: usize| (profile.min[axis]..=profile.max[axis]).contains(&shape[axis]);
        if !(0..shape.len()).all(fits) {
            let why = format!(
                "shape {shape:?} is not within the optimization profile, {:?} to {:?}",
                profile.min, profile.max
            );
            return self.refuse("setInputShape", &why);
        }
        self.batch = Some(shape[0]);
        true
    }

    /// `setTensorAddress` and its two narrower forms.
    pub fn set_address(&mut self, call: &str, name: &CStr, address: u64) -> bool {
        let Some(index) = self.index(call, name) else { return false };
        if !address.is_multiple_of(ALIGNMENT) && self.cuda_is_real() {
            return self.refuse(call, &format!("{address:#x} is not aligned to {ALIGNMENT} bytes"));
        }
        self.addresses[index] = address;
        true
    }

    /// Our own memory without a driver is a `Vec`, which is aligned to less.
    fn cuda_is_real(&self) -> bool {
        settings::amount(settings::Amount::Cuda) != 0
    }

    /// The address that was set, or 0.
    pub fn address(&self, name: &CStr) -> u64 {
        self.index("getTensorAddress", name).map_or(0, |index| self.addresses[index])
    }

    /// `setDeviceMemoryV2`, and `setDeviceMemory`, which does not know the size.
    pub fn set_device_memory(&mut self, address: u64, size: Option<u64>) {
        if matches!(self.activations, Activations::Own(_)) {
            self.refuse(
                "setDeviceMemory",
                "the context manages its own memory; create it with kUSER_MANAGED",
            );
            return;
        }
        if !address.is_multiple_of(ALIGNMENT) && self.cuda_is_real() {
            self.refuse("setDeviceMemory", &format!("{address:#x} is not aligned to {ALIGNMENT} bytes"));
            return;
        }
        let size = size.or_else(|| self.cuda.bytes_from(address)).unwrap_or(u64::MAX);
        self.activations = Activations::User((address != 0).then_some((address, size)));
    }

    /// Bytes of activations for the shape that is set; 0 without one.
    pub fn bytes_for_shapes(&self) -> u64 {
        self.batch.map_or(0, |batch| self.engine.activation_bytes(batch))
    }

    /// `enqueueV3`
    pub fn enqueue(&mut self, stream: Stream) -> bool {
        self.logger.chatter("enqueueV3");
        if settings::due(Fault::EnqueueHangs) {
            pause::hang();
        }
        if settings::due(Fault::EnqueueFails) {
            self.logger.error("IExecutionContext::enqueueV3: Error Code 1: Cuda Runtime (refused on demand)");
            return false;
        }
        match self.job().and_then(|job| {
            job.enqueue(self.cuda, stream).map_err(|error| format!("Cuda Runtime (error {error})"))
        }) {
            Ok(()) => {
                counters::ENQUEUED.add(1);
                true
            }
            Err(why) => self.refuse("enqueueV3", &why),
        }
    }

    /// Everything that a batch needs is there.
    fn job(&self) -> Result<Job, String> {
        let batch = self.batch.ok_or("the shape of an input has not been set")?;
        let needed = self.engine.activation_bytes(batch);
        let activations = match &self.activations {
            Activations::Own(memory) => memory.address(),
            Activations::User(Some((address, size))) if *size >= needed => *address,
            Activations::User(Some((_, size))) => {
                return Err(format!("{size} bytes of device memory, {needed} are needed"));
            }
            Activations::User(None) => return Err("device memory has not been set".to_owned()),
        };
        self.check("activations", activations, needed)?;
        for (tensor, &address) in self.engine.tensors.iter().zip(&self.addresses) {
            let name = tensor.name.to_string_lossy();
            if address == 0 {
                return Err(format!("the address of {name} has not been set"));
            }
            self.check(&name, address, tensor.bytes(batch))?;
        }
        Ok(Job::new(&self.engine, batch, &self.addresses, (activations, needed), &self.in_flight))
    }

    fn check(&self, name: &str, address: u64, bytes: u64) -> Result<(), String> {
        match self.cuda.holds(address, bytes) {
            Ok(true) => Ok(()),
            Ok(false) => {
                // A real library would let the kernels fault; a test is better served by words.
                let why = format!("{name}: {bytes} bytes at {address:#x} are not in one device allocation");
                counters::violation(&format!("enqueueV3: {why}"));
                Err(why)
            }
            Err(error) => Err(format!("Cuda Runtime (error {error})")),
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let in_flight = self.in_flight.load(Ordering::SeqCst);
        if in_flight > 0 && !self.cuda.is_lost() {
            counters::violation(&format!(
                "an IExecutionContext is deleted with {in_flight} inferences in a stream"
            ));
        }
        self.of_engine.fetch_sub(1, Ordering::SeqCst);
    }
}
