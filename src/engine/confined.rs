//! An engine whose calling thread is confined to CPUs before its first inference.

use super::{Engine, EngineError, TensorView};
use crate::affinity::{self, CpuSet};
use crate::frame::{Place, SlotMemory};

/// An engine, and where the thread that uses it is to run; the threads of its library were confined when it was loaded.
pub(super) struct Confined {
    pub engine: Box<dyn Engine>,
    /// Until the thread is confined.
    pub cpus: Option<CpuSet>,
}

impl Engine for Confined {
    fn backend(&self) -> &'static str {
        self.engine.backend()
    }

    fn precision(&self) -> &'static str {
        self.engine.precision()
    }

    fn max_batch(&self) -> usize {
        self.engine.max_batch()
    }

    fn place(&self) -> Place {
        self.engine.place()
    }

    fn infer(
        &mut self,
        inputs: &[&SlotMemory],
        each: &mut dyn FnMut(usize, &[TensorView<'_>]),
    ) -> Result<(), EngineError> {
        // It worked when the engine was loaded; a thread that runs elsewhere still infers.
        if let Some(Err(error)) = self.cpus.take().map(|cpus| affinity::confine(&cpus)) {
            tracing::warn!("{error}");
        }
        self.engine.infer(inputs, each)
    }
}
