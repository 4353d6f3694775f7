//! One execution context with everything that an inference needs, allocated once: a stream, a batch, activations, outputs
//! on the device and on the host.
//!
//! ```text
//!   slots ── wait for `filled`, copy side by side ──► batch ──► enqueue (or replay) ──► outputs ──► pinned ──► `done`
//!        one slot: read in place                              on the lane's stream; only `collect` waits, blocking
//! ```

use watchpost_cuda::{Batch, Buffer, CudaError, Event, Gpu, Graph, Owner, Pinned, SlotTensor, Stream};

use crate::element::{TensorElement, as_f32, widen};
use crate::engine::{Context, Engine};
use crate::error::TensorRtError;
use crate::tensors::{BATCH_MAX, Input, OUTPUTS_MAX, Output};
use watchpost_binding::TensorView;

/// Where one output lies.
#[derive(Debug)]
struct Outlet {
    device: Buffer,
    host: Pinned,
    /// One frame as f32; empty where the engine's own numbers are f32.
    floats: Vec<f32>,
}

impl Outlet {
    fn new(gpu: &Gpu, output: &Output, batch: usize) -> Result<Self, CudaError> {
        let bytes = output.info.frame_bytes() * batch;
        let floats = if output.info.element == TensorElement::F32 { 0 } else { output.info.len() };
        Ok(Self {
            device: Buffer::new(gpu, Owner::Outputs, bytes)?,
            host: Pinned::new(gpu, Owner::Outputs, bytes)?,
            floats: vec![0.0; floats],
        })
    }

    /// One frame's values.
    fn frame(&mut self, output: &Output, index: usize) -> Option<&[f32]> {
        let bytes = output.info.frame_bytes();
        let bytes = self.host.bytes().get(index * bytes..(index + 1) * bytes)?;
        if output.info.element == TensorElement::F32 {
            return as_f32(bytes);
        }
        widen(output.info.element, bytes, &mut self.floats).then_some(self.floats.as_slice())
    }
}

/// An inference of one batch size, recorded. A graph holds the addresses and the state of the context that it was
/// recorded from, so each has a context of its own; they share the activations, because one runs at a time.
#[derive(Debug)]
struct Replay {
    batch: usize,
    graph: Graph,
    _context: Context,
}

/// See the top of this file. Fields are dropped in this order: what runs before what it runs in.
#[derive(Debug)]
pub(crate) struct Lane {
    replays: Vec<Replay>,
    context: Context,
    /// Frames and address that the context is set to.
    set: (usize, u64),
    outlets: Vec<Outlet>,
    batch: Batch,
    /// Where a single frame goes that a graph reads: a graph knows one address, and every slot has another.
    single: Option<Buffer>,
    activations: Buffer,
    done: Event,
    /// Frames under way.
    under_way: usize,
    stream: Stream,
}

impl Drop for Lane {
    fn drop(&mut self) {
        // Nothing goes while the GPU is at it. Errors are for those who want results.
        let _ = self.stream.wait();
    }
}

impl Lane {
    /// Takes a context and the activations it works in: as a pair, so that after an error the context goes first.
    pub(crate) fn new(
        gpu: &Gpu,
        parts: (Context, Buffer),
        input: &Input,
        outputs: &[Output],
    ) -> Result<Self, TensorRtError> {
        let (_, most) = input.batch;
        let outlets =
            outputs.iter().map(|output| Outlet::new(gpu, output, most)).collect::<Result<_, _>>()?;
        let batch = Batch::new(gpu, input.element, input.info.len(), most)?;
        let (done, stream) = (Event::new(gpu)?, Stream::new(gpu)?);
        let (context, activations) = parts;
        Ok(Self {
            replays: Vec::new(),
            context,
            set: (0, 0),
            outlets,
            batch,
            single: None,
            activations,
            done,
            under_way: 0,
            stream,
        })
    }

    /// Frames under way.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way
    }

    /// Puts an inference of these slots on the stream: at least one, at most the engine's largest batch.
    pub(crate) fn submit(
        &mut self,
        input: &Input,
        outputs: &[Output],
        slots: &[&SlotTensor],
    ) -> Result<(), TensorRtError> {
        let queued = self.queue(input, outputs, slots);
        let Err(error) = queued else { return Ok(()) };
        // What was queued before the error still reads the slots. If the context is lost, that is the reason.
        match self.stream.wait() {
            Err(lost) if lost.is_lost() => Err(lost.into()),
            _ => Err(error),
        }
    }

    fn queue(
        &mut self,
        input: &Input,
        outputs: &[Output],
        slots: &[&SlotTensor],
    ) -> Result<(), TensorRtError> {
        let count = slots.len();
        let run = count.max(input.batch.0);
        // An engine that takes no fewer gets the first frame again in the places that are left.
        let mut padded = [slots[0]; BATCH_MAX];
        padded[..count].copy_from_slice(slots);
        let slots = &padded[..run];
        if let Some(index) = self.replays.iter().position(|replay| replay.batch == run) {
            self.gather_to_fixed_place(slots)?;
            // SAFETY: batch, activations and outputs are the lane's, which waits for its stream before they go.
            unsafe { self.replays[index].graph.launch(&self.stream) }?;
            self.batch.read_by(slots, &self.stream)?;
        } else {
            let address = self.batch.gather(slots, &self.stream)?;
            // SAFETY: the address is where `gather` has put so many frames; the rest as above. A slot that is read
            // in place is told so, and waits for it before it goes or is written again.
            let queued = unsafe { self.enqueue(input, outputs, run, address) };
            self.batch.read_by(slots, &self.stream)?;
            queued?;
        }
        for (outlet, output) in self.outlets.iter_mut().zip(outputs) {
            let bytes = output.info.frame_bytes() * count;
            // SAFETY: both are as long, the lane's, and read only after `done`.
            unsafe { self.stream.copy_to_host(&mut outlet.host, outlet.device.address(), bytes) }?;
        }
        self.done.record(&self.stream)?;
        self.under_way = count;
        Ok(())
    }

    /// # Safety
    /// At `address` there will be `run` frames, until the stream has come past what this queues.
    unsafe fn enqueue(
        &mut self,
        input: &Input,
        outputs: &[Output],
        run: usize,
        address: u64,
    ) -> Result<(), TensorRtError> {
        let set = std::mem::take(&mut self.set);
        if set.0 != run {
            self.context.set_input_shape(&input.name, &input.dims(run))?;
        }
        if set.0 == 0 {
            // SAFETY: the outputs have room for the largest batch and live as long as the lane.
            unsafe { set_outputs(&mut self.context, outputs, &self.outlets) }?;
        }
        // SAFETY: the caller's promise; activations live as long as the lane.
        unsafe {
            if set.1 != address {
                self.context.set_address(input.name.as_ptr(), address)?;
            }
            self.context.enqueue(self.stream.raw())?;
        }
        self.set = (run, address);
        Ok(())
    }

    /// Brings slots to where graphs read them: into the batch, or into the place for a single one.
    fn gather_to_fixed_place(&mut self, slots: &[&SlotTensor]) -> Result<u64, CudaError> {
        let address = self.batch.gather(slots, &self.stream)?;
        let [slot] = slots else { return Ok(address) };
        let single = match self.single.take() {
            Some(single) => single,
            None => Buffer::new(self.stream.gpu(), Owner::Batches, slot.bytes())?,
        };
        let to = self.single.insert(single).address();
        // SAFETY: `gather` has seen that the slot is one of this engine: as long as `single`. The slot waits for
        // `read_by`, and the lane for its stream, before they go.
        unsafe { self.stream.copy(to, address, slot.bytes()) }?;
        self.batch.read_by(slots, &self.stream)?;
        Ok(to)
    }

    /// Records an inference of `run` frames, to be replayed from now on.
    pub(crate) fn record(
        &mut self,
        engine: &Engine,
        input: &Input,
        outputs: &[Output],
        slot: &SlotTensor,
        run: usize,
    ) -> Result<(), TensorRtError> {
        let address = self.gather_to_fixed_place(&[slot; BATCH_MAX][..run])?;
        let mut context = engine.context(self.stream.gpu(), &self.activations)?;
        context.set_input_shape(&input.name, &input.dims(run))?;
        // SAFETY: all of these are the lane's, and it waits for its stream before they go. The first inference in a
        // new shape does work that must not be recorded.
        unsafe {
            set_outputs(&mut context, outputs, &self.outlets)?;
            context.set_address(input.name.as_ptr(), address)?;
            context.enqueue(self.stream.raw())?;
        }
        self.stream.wait()?;
        // SAFETY: as above.
        let mut graph = Graph::record(&self.stream, |stream| unsafe { context.enqueue(stream.raw()) })?;
        // SAFETY: as above.
        unsafe { graph.launch(&self.stream) }?;
        self.stream.wait()?;
        self.replays.push(Replay { batch: run, graph, _context: context });
        Ok(())
    }

    /// Waits, without spinning, for what is under way, and lends its outputs, frame by frame.
    pub(crate) fn collect(
        &mut self,
        outputs: &[Output],
        each: &mut dyn FnMut(usize, &[TensorView<'_>]),
    ) -> Result<(), TensorRtError> {
        let count = std::mem::take(&mut self.under_way);
        self.done.wait()?;
        for index in 0..count {
            let mut views = [TensorView { name: "", shape: &[], data: &[] }; OUTPUTS_MAX];
            for ((view, outlet), output) in views.iter_mut().zip(&mut self.outlets).zip(outputs) {
                let Some(data) = outlet.frame(output, index) else {
                    // Lengths come from the same tensor infos: this would be a mistake of ours.
                    return Err(TensorRtError::Batch(format!("output {} is too short", output.info.name)));
                };
                *view = TensorView { name: &output.info.name, shape: &output.info.shape, data };
            }
            each(index, &views[..outputs.len()]);
        }
        Ok(())
    }
}

/// # Safety
/// The outlets have room for every shape that the context will be set to, and stay as long as it is used.
unsafe fn set_outputs(
    context: &mut Context,
    outputs: &[Output],
    outlets: &[Outlet],
) -> Result<(), TensorRtError> {
    for (output, outlet) in outputs.iter().zip(outlets) {
        // SAFETY: the caller's promise.
        unsafe { context.set_address(output.name.as_ptr(), outlet.device.address()) }?;
    }
    Ok(())
}
