//! One model in one session on a GPU: it reads the cameras' slots where they are and computes on our stream.

use std::path::Path;

use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use watchpost_binding::TensorView;
use watchpost_cuda::{Batch, Buffer, CudaError, Element, Gpu, Owner, SlotTensor, Stream};

use crate::in_place::InPlace;
use crate::model::{LoadError, ModelBytes, RunError, TensorInfo, builder, commit, input, library};
use crate::provider::{Provider, Target, register};

/// How a model is loaded onto a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceOptions {
    /// What computes.
    pub provider: Provider,
    /// Width and height of the input, for models that leave them open.
    pub input_size: (usize, usize),
    /// Most frames in one inference, at least 1; 1 for a model that takes one at a time.
    pub max_batch: usize,
    /// What the provider may take for weights and activations; `None` for what there is. It is not in the GPU's
    /// ledger, because the library takes it without us.
    pub memory_limit_bytes: Option<usize>,
}

/// Why an inference on the GPU failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceRunError {
    /// The GPU's words; where [`CudaError::is_lost`], the process has to leave.
    #[error(transparent)]
    Cuda(#[from] CudaError),
    /// The library's words.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// A model, loaded once onto one GPU. Its session, like every value in it, is dropped before the stream it uses.
#[derive(Debug)]
pub struct DeviceModel {
    model: InPlace,
    batch: Batch,
    stream: Stream,
    max_batch: usize,
}

impl DeviceModel {
    /// Loads `library` (once in the process) and the model, and infers empty batches of 1 and of the largest size.
    ///
    /// # Errors
    /// [`LoadError`]; [`LoadError::Provider`] where the provider cannot be loaded: never a session on the CPU.
    pub fn load(
        library: &Path,
        model: ModelBytes<'_>,
        gpu: &Gpu,
        options: &DeviceOptions,
    ) -> Result<Self, LoadError> {
        let environment = self::library(library)?;
        // What the input is called and whether batches are open has to be known before a provider is configured.
        let looked = commit(builder(environment, 1).map_err(LoadError::Refused)?, model);
        let input = input(&looked.map_err(LoadError::Refused)?, options.input_size)?;
        let max_batch = if input.is_batch_open { options.max_batch.max(1) } else { 1 };
        let stream = Stream::new(gpu)?;
        let device_index = gpu.info().index;
        let memory_limit_bytes = options.memory_limit_bytes;
        let target = Target { device_index, stream: stream.raw().0, memory_limit_bytes };
        let batches = Some((&input.one_frame, max_batch));
        gpu.make_current()?;
        let builder = builder(environment, 1).map_err(LoadError::Refused)?;
        let builder = register(builder, &options.provider, target, batches)?;
        let session = commit(builder, model).map_err(LoadError::Refused)?;
        let model = in_place(session, input.one_frame, device_index)
            .map_err(|error| LoadError::Refused(error.to_string()))?;
        let frame_len = model.input().shape.iter().product();
        let batch = Batch::new(gpu, Element::F32, frame_len, max_batch)?;
        let mut loaded = Self { model, batch, stream, max_batch };
        loaded.warm_up(gpu, frame_len)?;
        Ok(loaded)
    }

    fn warm_up(&mut self, gpu: &Gpu, frame_len: usize) -> Result<(), LoadError> {
        let bytes = vec![0; frame_len * Element::F32.bytes() * self.max_batch];
        let mut empty = Buffer::new(gpu, Owner::Batches, bytes.len())?;
        empty.write(&self.stream, &bytes)?;
        for frames in [1, self.max_batch] {
            // SAFETY: the buffer has `max_batch` frames and lives until `run_at` has waited.
            unsafe { self.run_at(empty.address(), frames, &mut |_, _| {}) }.map_err(|error| match error {
                DeviceRunError::Cuda(error) => LoadError::Cuda(error),
                DeviceRunError::Run(error) => LoadError::Refused(error.to_string()),
            })?;
        }
        Ok(())
    }

    /// The input of one frame.
    pub fn input(&self) -> &TensorInfo {
        self.model.input()
    }

    /// The outputs of one frame, as the first inference gave them.
    pub fn outputs(&self) -> &[TensorInfo] {
        self.model.outputs()
    }

    /// Frames that one call takes at most.
    pub fn max_batch(&self) -> usize {
        self.max_batch
    }

    /// What the slots must be made of.
    pub fn element(&self) -> Element {
        Element::F32
    }

    /// Infers the frames in `slots`, each as soon as it is filled, and lends each frame's outputs to `each`, in order.
    /// When it returns, nothing reads the slots any more.
    ///
    /// # Errors
    /// [`DeviceRunError`]; the model stays usable unless the GPU is lost.
    pub fn run(
        &mut self,
        slots: &[&SlotTensor],
        each: &mut dyn FnMut(usize, &[TensorView<'_>]),
    ) -> Result<(), DeviceRunError> {
        let address = self.batch.gather(slots, &self.stream)?;
        // SAFETY: the slot or the batch has as many frames (`Batch::gather` has checked them), and both are borrowed
        // until `run_at` has waited.
        unsafe { self.run_at(address, slots.len(), each) }
    }

    /// # Safety
    /// `address` is `frames` inputs on this GPU, which nobody writes until this returns, apart from what is already in
    /// our stream.
    unsafe fn run_at(
        &mut self,
        address: u64,
        frames: usize,
        each: &mut dyn FnMut(usize, &[TensorView<'_>]),
    ) -> Result<(), DeviceRunError> {
        let stream = &self.stream;
        stream.gpu().make_current()?;
        let wait = || stream.wait().map_err(DeviceRunError::Cuda);
        let address = std::ptr::with_exposed_provenance_mut(usize::try_from(address).unwrap_or_default());
        // SAFETY: the caller's promise; `wait` returns when all that reads the input is done.
        let result = unsafe { self.model.run(address, frames, wait, each) };
        // The library says "CUDA failure 700" in its own words; what it means for the process, the GPU knows.
        match (result, stream.gpu().lost()) {
            (Err(_), Some(lost)) => Err(DeviceRunError::Cuda(lost)),
            (result, _) => result,
        }
    }
}

/// The input lies on the device; the outputs come into page-locked memory, which the device writes by itself.
fn in_place(
    session: ort::session::Session,
    input: TensorInfo,
    device_index: u32,
) -> Result<InPlace, RunError> {
    let device = i32::try_from(device_index).unwrap_or(i32::MAX);
    let memory = |kind: AllocationDevice<'static>, device: i32, role: MemoryType| {
        MemoryInfo::new(kind, device, AllocatorType::Device, role)
            .map_err(|error| RunError(error.to_string()))
    };
    let on_device = memory(AllocationDevice::CUDA, device, MemoryType::Default)?;
    let pinned = memory(AllocationDevice::CUDA_PINNED, device, MemoryType::CPUOutput)?;
    InPlace::new(session, input, on_device, pinned)
}

/// The engine's thread is not the one that loads.
const fn is_send<T: Send>() {}
const _: () = is_send::<DeviceModel>();
