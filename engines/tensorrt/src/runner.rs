//! An engine that has been loaded and runs batches of slots.

use watchpost_binding::TensorView;
use watchpost_cuda::{Buffer, Claim, Gpu, Owner, SlotTensor};

use crate::engine::{Context, Engine};
use crate::error::TensorRtError;
use crate::lane::Lane;
use crate::library::Library;
use crate::tensors::{self, BATCH_MAX, Input, Output, TensorInfo};

/// Contexts beyond this would only hold memory.
const CONTEXTS_MAX: usize = 4;

/// How an engine is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadOptions {
    /// Batches that may be under way at once, 1 to 4. Each has a context, activations, outputs and a stream of its own. One
    /// is enough for [`Runner::infer`]; with two, [`Runner::submit`] puts the next batch on the GPU before
    /// [`Runner::collect`] waits for the one before, so the GPU does not stand still while the host decodes. Where memory
    /// does not suffice there are fewer.
    pub contexts: usize,
    /// Record inferences as CUDA graphs and replay them: one call in place of hundreds. Costs a copy of the frame where
    /// there is only one, and a little memory per recorded batch size.
    pub replay: bool,
    /// The DLA core that an engine built for DLA runs on.
    pub dla_core: Option<u32>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { contexts: 1, replay: true, dla_core: None }
    }
}

/// An engine on one GPU. Dropping it waits for the GPU and gives everything back: contexts, then the engine, then the
/// runtime. Any thread may have it, one at a time.
#[derive(Debug)]
pub struct Runner {
    /// Before the engine: fields are dropped in this order.
    lanes: Vec<Lane>,
    engine: Engine,
    _weights: Claim,
    input: Input,
    outputs: Vec<Output>,
    /// Of the lanes: the one that was submitted first, and how many are under way.
    oldest: usize,
    under_way: usize,
    replayed: Vec<usize>,
    infos: Vec<TensorInfo>,
    gpu: Gpu,
    _library: Library,
}

impl Runner {
    /// Makes a plan into an engine, sees that it takes one picture and gives tensors we can read, allocates everything, and
    /// runs it once with the largest and once with the smallest batch: what cannot run fails here.
    ///
    /// # Errors
    /// [`TensorRtError`]. Nothing is left on the GPU.
    pub fn load(
        library: &Library,
        gpu: &Gpu,
        plan: &[u8],
        options: LoadOptions,
    ) -> Result<Self, TensorRtError> {
        Self::try_load(library, gpu, plan, options).map_err(|error| match gpu.free_bytes() {
            // The library only says that something failed.
            Err(lost) if lost.is_lost() => lost.into(),
            _ => error,
        })
    }

    fn try_load(
        library: &Library,
        gpu: &Gpu,
        plan: &[u8],
        options: LoadOptions,
    ) -> Result<Self, TensorRtError> {
        gpu.make_current()?;
        let free_before = gpu.free_bytes()?;
        let engine = Engine::deserialize(library, gpu, plan, options.dla_core)?;
        // The library allocates by itself. Other programs may have had a hand in it, so this is an estimate.
        let weights_bytes = free_before.saturating_sub(gpu.free_bytes()?);
        let weights = Claim::new(gpu, Owner::Weights, usize::try_from(weights_bytes).unwrap_or(0));
        let (input, names) = tensors::input(&engine)?;
        // A pair, so that the context goes first, also after an error.
        let mut first = context(&engine, gpu)?;
        first.0.set_input_shape(&input.name, &input.dims(input.batch.1))?;
        let mut outputs = Vec::with_capacity(names.len());
        for name in names {
            let shape = first.0.tensor_shape(&name)?;
            outputs.push(tensors::output(&engine, &input, name, shape)?);
        }
        let lanes = vec![Lane::new(gpu, first, &input, &outputs)?];
        let infos = outputs.iter().map(|output| output.info.clone()).collect();
        let mut runner = Self {
            lanes,
            engine,
            _weights: weights,
            input,
            outputs,
            oldest: 0,
            under_way: 0,
            replayed: Vec::new(),
            infos,
            gpu: gpu.clone(),
            _library: library.clone(),
        };
        runner.add_lanes(options.contexts.clamp(1, CONTEXTS_MAX))?;
        runner.warm_up(options.replay)?;
        Ok(runner)
    }

    /// More lanes, as far as memory goes.
    fn add_lanes(&mut self, wanted: usize) -> Result<(), TensorRtError> {
        while self.lanes.len() < wanted {
            let lane = context(&self.engine, &self.gpu)
                .and_then(|context| Lane::new(&self.gpu, context, &self.input, &self.outputs));
            match lane {
                Ok(lane) => self.lanes.push(lane),
                Err(error) if error.is_lost() => return Err(error),
                Err(error) => {
                    tracing::warn!("{} of {wanted} contexts: {error}", self.lanes.len());
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn warm_up(&mut self, replay: bool) -> Result<(), TensorRtError> {
        let slot = SlotTensor::new(&self.gpu, self.input.element, self.input.info.len())?;
        let (fewest, most) = self.input.batch;
        for lane in &mut self.lanes {
            for batch in [most, fewest] {
                lane.submit(&self.input, &self.outputs, &[&slot; BATCH_MAX][..batch])?;
                lane.collect(&self.outputs, &mut |_, _| {})?;
            }
        }
        if replay { self.record(&slot) } else { Ok(()) }
    }

    /// Records powers of two and the largest batch: every recorded size has a context of its own.
    fn record(&mut self, slot: &SlotTensor) -> Result<(), TensorRtError> {
        let (fewest, most) = self.input.batch;
        let sizes = (0..)
            .map(|power| 1_usize << power)
            .take_while(|&size| size < most)
            .filter(|&size| size >= fewest);
        let sizes: Vec<usize> = sizes.chain([most]).collect();
        for run in sizes {
            for lane in &mut self.lanes {
                match lane.record(&self.engine, &self.input, &self.outputs, slot, run) {
                    Ok(()) => {}
                    Err(error) if error.is_lost() => return Err(error),
                    Err(error) => {
                        tracing::warn!(
                            "inferences of {run} and more frames are not recorded as graphs: {error}"
                        );
                        return Ok(());
                    }
                }
            }
            self.replayed.push(run);
        }
        Ok(())
    }

    /// The input, `[1, 3, height, width]`; its element is what slots must be made of.
    pub fn input(&self) -> &TensorInfo {
        &self.input.info
    }

    /// What the slots have to be made of.
    pub fn slot_element(&self) -> watchpost_cuda::Element {
        self.input.element
    }

    /// The outputs in the engine's order.
    pub fn outputs(&self) -> &[TensorInfo] {
        &self.infos
    }

    /// Frames of one inference at most, 1 to 64.
    pub fn max_batch(&self) -> usize {
        self.input.batch.1
    }

    /// Frames of one inference at least: a smaller batch is filled up, and costs as much.
    pub fn min_batch(&self) -> usize {
        self.input.batch.0
    }

    /// Batches that may be under way at once.
    pub fn contexts(&self) -> usize {
        self.lanes.len()
    }

    /// Batch sizes that are replayed from a graph.
    pub fn replayed(&self) -> &[usize] {
        &self.replayed
    }

    /// Infers these slots, one to `max_batch`, and hands each frame's outputs to `each`, in order. Waits for the GPU without
    /// spinning. When it returns, nothing reads the slots any more, also after an error.
    ///
    /// # Errors
    /// [`TensorRtError`]. Unless `is_lost` says otherwise, the runner stays usable.
    pub fn infer(
        &mut self,
        slots: &[&SlotTensor],
        each: &mut dyn FnMut(usize, &[TensorView<'_>]),
    ) -> Result<(), TensorRtError> {
        if self.under_way > 0 {
            return Err(TensorRtError::Batch("a batch is under way: collect it before infer".to_owned()));
        }
        self.submit(slots)?;
        self.collect(each).map(|_| ())
    }

    /// Puts a batch on the GPU and returns. The slots may be filled again, or dropped, at any time: their next writer waits
    /// on the GPU until they have been read.
    ///
    /// # Errors
    /// [`TensorRtError::Batch`] if [`Runner::contexts`] batches are under way, and others.
    pub fn submit(&mut self, slots: &[&SlotTensor]) -> Result<(), TensorRtError> {
        let most = self.input.batch.1;
        if slots.is_empty() || slots.len() > most {
            let words = format!("a batch of {} frames; this engine takes 1 to {most}", slots.len());
            return Err(TensorRtError::Batch(words));
        }
        if self.under_way == self.lanes.len() {
            let words = format!("{} batches are under way, and there are no more contexts", self.under_way);
            return Err(TensorRtError::Batch(words));
        }
        self.gpu.make_current()?;
        let index = (self.oldest + self.under_way) % self.lanes.len();
        self.lanes[index].submit(&self.input, &self.outputs, slots)?;
        self.under_way += 1;
        Ok(())
    }

    /// Waits for the batch that was submitted first, without spinning, and lends its outputs to `each`, frame by frame.
    /// Returns how many frames it had; 0 if nothing is under way.
    ///
    /// # Errors
    /// [`TensorRtError`]; the batch is over.
    pub fn collect(
        &mut self,
        each: &mut dyn FnMut(usize, &[TensorView<'_>]),
    ) -> Result<usize, TensorRtError> {
        if self.under_way == 0 {
            return Ok(0);
        }
        let contexts = self.lanes.len();
        let lane = &mut self.lanes[self.oldest];
        self.oldest = (self.oldest + 1) % contexts;
        self.under_way -= 1;
        let count = lane.under_way();
        lane.collect(&self.outputs, each).map(|()| count)
    }
}

/// A context and what it works in. The buffer goes last: see [`Lane`].
fn context(engine: &Engine, gpu: &Gpu) -> Result<(Context, Buffer), TensorRtError> {
    let bytes = engine.activations_bytes()?;
    let activations = Buffer::new(gpu, Owner::Activations, bytes)?;
    let context = engine.context(gpu, &activations)?;
    Ok((context, activations))
}
