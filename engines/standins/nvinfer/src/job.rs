//! One batch in a stream: what `enqueueV3` checked, done when the stream comes to it.

use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::counters;
use crate::cuda::{Cuda, Stream};
use crate::engine::Engine;
use crate::pause;
use crate::settings::{self, Amount, Fault};

/// What the activations are filled with while an inference runs: whoever reads or shares them sees it.
const POISON: u8 = 0xa5;

/// Addresses and batch as they were when it was enqueued. The engine may be gone when its turn comes.
pub struct Job {
    engine: Weak<Engine>,
    batch: usize,
    addresses: Vec<u64>,
    activations: (u64, u64),
    in_flight: Arc<AtomicUsize>,
    nan: bool,
    hangs: bool,
    /// In a graph: the work may be done any number of times, and nobody tells us when no more.
    captured: bool,
}

impl Job {
    pub fn new(
        engine: &Arc<Engine>,
        batch: i64,
        addresses: &[u64],
        activations: (u64, u64),
        in_flight: &Arc<AtomicUsize>,
    ) -> Self {
        Self {
            engine: Arc::downgrade(engine),
            batch: usize::try_from(batch).unwrap_or(0),
            addresses: addresses.to_vec(),
            activations,
            in_flight: Arc::clone(in_flight),
            nan: settings::due(Fault::OutputsNan),
            hangs: settings::due(Fault::WorkHangs),
            captured: false,
        }
    }

    /// Into the stream.
    ///
    /// # Errors
    /// The driver's error.
    pub fn enqueue(mut self, cuda: Cuda, stream: Stream) -> Result<(), i32> {
        self.captured = cuda.is_capturing(stream);
        if !self.captured {
            self.in_flight.fetch_add(1, Ordering::SeqCst);
            counters::IN_FLIGHT.add(1);
        }
        // Of a captured job nobody knows the end; it stays, and it is small: the engine is not held by it.
        let job = Box::into_raw(Box::new(self));
        cuda.launch(stream, perform, job.cast()).inspect_err(|_| {
            // SAFETY: made three lines above, and nobody else has it: the driver refused.
            unsafe { Box::from_raw(job) }.done();
        })
    }

    fn done(&self) {
        if !self.captured {
            self.in_flight.fetch_sub(1, Ordering::SeqCst);
            counters::IN_FLIGHT.add(-1);
        }
    }

    fn run(&self) {
        pause::wait(Duration::from_micros(settings::amount(Amount::EnqueueUs)));
        if self.hangs {
            pause::hang();
        }
        let Some(engine) = self.engine.upgrade() else {
            counters::violation("work of an engine that has been deleted is done");
            return;
        };
        let (address, bytes) = self.activations;
        let batch = i64::try_from(self.batch).unwrap_or(0);
        let tensors = engine.tensors.iter().zip(&self.addresses);
        let mut ranges =
            tensors.map(|(tensor, &address)| (tensor.name.to_string_lossy(), address, tensor.bytes(batch)));
        if !counters::may_touch("activation memory", address, bytes)
            || !ranges.all(|(name, address, bytes)| counters::may_touch(&name, address, bytes))
        {
            return;
        }
        let length = usize::try_from(bytes).unwrap_or(0);
        // SAFETY: one live device allocation, which is host memory here.
        let activations = unsafe { std::slice::from_raw_parts_mut(address as *mut u8, length) };
        activations.fill(POISON);
        // SAFETY: as above, for each tensor.
        if let Err(why) = unsafe { engine.infer(&self.addresses, self.batch, self.nan) } {
            counters::violation(&format!("an inference fails in its stream: {why}"));
        }
        if activations.iter().any(|&byte| byte != POISON) {
            counters::violation("activation memory was written by somebody else during an inference");
        }
        counters::FRAMES.add(batch);
    }
}

/// `CUhostFn`
extern "C" fn perform(job: *mut c_void) {
    let job: *mut Job = job.cast();
    // SAFETY: from `enqueue`; a captured one stays for ever, another comes here once.
    let captured = unsafe { &*job }.captured;
    if captured {
        // SAFETY: as above.
        unsafe { &*job }.run();
    } else {
        // SAFETY: as above: this is the only time.
        let job = unsafe { Box::from_raw(job) };
        job.run();
        job.done();
    }
}
