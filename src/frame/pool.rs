//! A camera's frame slots: allocated once per engine, lent as RAII values, home again on every path.
//!
//! `free + in_flight == capacity` always: a slot's memory is either on the pool's shelf or in a living
//! [`Slot`], and dropping a `Slot` (also while a thread unwinds) sends it home. The shelf has room for all.
//!
//! ```text
//!             take()                    drop                    restock(new shelf)
//!   shelf A ─────────► Slot of form A ───────► shelf A      shelf A is freed; what of it is still out
//!                                                           is freed when it comes home
//! ```
//!
//! An engine says in a [`SlotForm`] what its slots must be like. When another engine takes over, every camera
//! gets a new shelf; slots carry their form along, so a frame always meets the engine it was prepared for,
//! and the old engine may go when nobody holds its form any more.

use std::sync::{Arc, PoisonError, RwLock};

use crossbeam_channel::{Receiver, Sender, bounded};
use watchpost_binding::TensorForm;
use watchpost_cuda::{CudaError, Element, Gpu, SlotTensor};

use super::formed::FormedTensor;
use super::host_tensor::HostTensor;
use super::turnstile::Ticket;
use crate::model::InputRecipe;
use crate::wake::Wake;

/// Where an engine's slots live.
#[derive(Debug, Clone)]
pub enum Place {
    /// Planar f32 in host memory.
    Host,
    /// Another form in host memory, for the models that take one.
    HostFormed(TensorForm),
    /// Planar elements in this GPU's memory.
    Device {
        /// Which GPU.
        gpu: Gpu,
        /// What the engine computes in.
        element: Element,
    },
}

impl Place {
    /// Host memory, in the form that a model takes.
    pub fn host(form: TensorForm) -> Self {
        if form == TensorForm::default() { Self::Host } else { Self::HostFormed(form) }
    }

    /// The GPU, if it is one.
    pub fn gpu(&self) -> Option<Gpu> {
        match self {
            Self::Host | Self::HostFormed(_) => None,
            Self::Device { gpu, .. } => Some(gpu.clone()),
        }
    }
}

/// What one loaded engine wants its slots to be.
#[derive(Debug)]
pub struct SlotForm {
    /// Counts the engines that this process has loaded; forms of one epoch are alike.
    pub epoch: u64,
    /// Size, colour order and normalisation of the tensor.
    pub input: InputRecipe,
    /// Where it lives.
    pub place: Place,
    /// The GPU whose decoders may hand over frames in its memory, also where the engine is not on it.
    pub gpu: Option<Gpu>,
}

/// A slot's memory, or what fills it, was refused.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// By the GPU.
    #[error(transparent)]
    Device(#[from] CudaError),
}

impl SlotForm {
    fn allocate(&self) -> Result<SlotMemory, SlotError> {
        match &self.place {
            Place::Host => Ok(SlotMemory::Host(HostTensor::new(self.input.len()))),
            Place::HostFormed(form) => Ok(SlotMemory::Formed(FormedTensor::new(*form, self.input.len()))),
            Place::Device { gpu, element } => {
                Ok(SlotMemory::Device(SlotTensor::new(gpu, *element, self.input.len())?))
            }
        }
    }
}

/// Where a slot's tensor lives. A closed enum: every place that reads a slot says what it does with each.
#[derive(Debug)]
pub enum SlotMemory {
    /// Planar f32 in host memory.
    Host(HostTensor),
    /// Another form in host memory.
    Formed(FormedTensor),
    /// In a GPU's memory.
    Device(SlotTensor),
}

impl SlotMemory {
    fn bytes(&self) -> usize {
        match self {
            Self::Host(tensor) => size_of_val::<[f32]>(tensor),
            Self::Formed(tensor) => tensor.bytes(),
            Self::Device(tensor) => tensor.bytes(),
        }
    }
}

/// The slots of one camera for one engine.
#[derive(Debug)]
struct Shelf {
    form: Arc<SlotForm>,
    free: Receiver<SlotMemory>,
    home: Sender<SlotMemory>,
    capacity: usize,
    slot_bytes: usize,
}

impl Shelf {
    fn allocate(capacity: usize, form: &Arc<SlotForm>) -> Result<Self, SlotError> {
        let (home, free) = bounded(capacity);
        let mut slot_bytes = 0;
        for _ in 0..capacity {
            let memory = form.allocate()?;
            slot_bytes = memory.bytes();
            let sent = home.try_send(memory);
            debug_assert!(sent.is_ok(), "the shelf has room for every slot");
        }
        Ok(Self { form: Arc::clone(form), free, home, capacity, slot_bytes })
    }
}

/// A full shelf that is not in use yet.
#[derive(Debug)]
pub struct Restock(Shelf);

/// The slots of one camera.
#[derive(Debug)]
pub struct Pool {
    shelf: RwLock<Shelf>,
    wake: Wake,
}

impl Pool {
    /// Allocates `capacity` slots of this form, and rings `wake` whenever one comes home.
    ///
    /// # Errors
    /// [`SlotError`]; nothing stays allocated.
    pub fn new(capacity: usize, form: &Arc<SlotForm>, wake: Wake) -> Result<Self, SlotError> {
        Ok(Self { shelf: RwLock::new(Shelf::allocate(capacity, form)?), wake })
    }

    /// Allocates `capacity` slots of another form.
    ///
    /// # Errors
    /// [`SlotError`]; nothing stays allocated, and the pool is as it was.
    pub fn prepare(capacity: usize, form: &Arc<SlotForm>) -> Result<Restock, SlotError> {
        Shelf::allocate(capacity, form).map(Restock)
    }

    /// From now on slots come from this shelf. Those of the old one are freed now, or when they come home.
    pub fn restock(&self, restock: Restock) {
        let mut shelf = self.shelf.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *shelf, restock.0);
        drop(shelf);
        drop(old);
        self.wake.ring();
    }

    /// A free slot, if there is one. Never waits.
    pub fn take(&self) -> Option<Slot> {
        let shelf = self.shelf();
        let memory = shelf.free.try_recv().ok()?;
        Some(Slot {
            memory: Some(memory),
            form: Arc::clone(&shelf.form),
            ticket: None,
            home: shelf.home.clone(),
            wake: self.wake.clone(),
        })
    }

    /// Slots at home.
    pub fn free(&self) -> usize {
        self.shelf().free.len()
    }

    /// Slots in all.
    pub fn capacity(&self) -> usize {
        self.shelf().capacity
    }

    /// Bytes of all slots together.
    pub fn bytes(&self) -> usize {
        let shelf = self.shelf();
        shelf.capacity * shelf.slot_bytes
    }

    fn shelf(&self) -> std::sync::RwLockReadGuard<'_, Shelf> {
        // Nothing that holds the lock can leave a shelf half-made.
        self.shelf.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to one slot's memory until dropped.
#[derive(Debug)]
pub struct Slot {
    memory: Option<SlotMemory>,
    form: Arc<SlotForm>,
    ticket: Option<Ticket>,
    home: Sender<SlotMemory>,
    wake: Wake,
}

impl Slot {
    /// Ties the engine's admission to this slot: both end together.
    pub fn admit(&mut self, ticket: Ticket) {
        self.ticket = Some(ticket);
    }

    /// Sends the slot home unused, without a ring: whoever returns it is the one that would be woken.
    pub fn put_back(mut self) {
        if let Some(memory) = self.memory.take() {
            let _shelf_gone = self.home.try_send(memory);
        }
    }

    /// Which engine it is for.
    pub fn form(&self) -> &SlotForm {
        &self.form
    }

    /// The tensor's memory, to read.
    ///
    /// # Panics
    /// Never: only dropping and putting back take the memory out.
    pub fn memory(&self) -> &SlotMemory {
        self.memory.as_ref().expect("a living slot has its memory")
    }

    /// The tensor's memory, to write.
    ///
    /// # Panics
    /// Never: only dropping and putting back take the memory out.
    pub fn memory_mut(&mut self) -> &mut SlotMemory {
        self.memory.as_mut().expect("a living slot has its memory")
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            // Fails only when its shelf is gone: then the memory is freed here.
            let _shelf_gone = self.home.try_send(memory);
            self.wake.ring();
        }
        // The ticket drops after this: whoever it wakes finds the slot at home.
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ChannelOrder, Fit};
    use crate::wake::doorbell;

    /// A form of `width` by 1 pixels, 12 bytes each.
    fn form(epoch: u64, width: usize) -> Arc<SlotForm> {
        let input = InputRecipe {
            width,
            height: 1,
            channels: ChannelOrder::Rgb,
            fit: Fit::LetterboxCentre,
            pad: 0,
            scale: [1.0; 3],
            offset: [0.0; 3],
        };
        Arc::new(SlotForm { epoch, input, place: Place::Host, gpu: None })
    }

    fn pool(capacity: usize) -> (Pool, crate::wake::Bell) {
        let (wake, bell) = doorbell();
        (Pool::new(capacity, &form(1, 4), wake).expect("host memory"), bell)
    }

    #[test]
    fn free_and_in_flight_add_up_to_the_capacity() {
        let (pool, _bell) = pool(3);
        assert_eq!((pool.free(), pool.capacity(), pool.bytes()), (3, 3, 144));
        let a = pool.take().expect("free");
        let b = pool.take().expect("free");
        assert_eq!(pool.free(), 1);
        drop(a);
        assert_eq!(pool.free(), 2);
        drop(b);
        assert_eq!(pool.free(), 3);
    }

    #[test]
    fn an_empty_pool_says_no_at_once() {
        let (pool, _bell) = pool(1);
        let _held = pool.take().expect("free");
        assert!(pool.take().is_none());
    }

    #[test]
    fn a_slot_comes_home_and_rings_when_its_thread_panics() {
        let (pool, bell) = pool(1);
        let slot = pool.take().expect("free");
        let thread = std::thread::spawn(move || {
            let _held = slot;
            panic!("on purpose");
        });
        assert!(thread.join().is_err());
        assert_eq!(pool.free(), 1);
        assert!(bell.wait(std::time::Duration::ZERO));
    }

    #[test]
    fn a_slot_outlives_its_pool_without_harm() {
        let (pool, _bell) = pool(1);
        let mut slot = pool.take().expect("free");
        drop(pool);
        let SlotMemory::Host(tensor) = slot.memory_mut() else { panic!("a host slot") };
        tensor[0] = 1.0;
        assert_eq!(tensor.len(), 12);
    }

    #[test]
    fn another_engine_gets_slots_of_its_own_form_and_the_old_form_is_let_go_with_its_last_slot() {
        let (pool, bell) = pool(2);
        let old = Arc::downgrade(&pool.shelf().form);
        let (out, home) = (pool.take().expect("free"), pool.take().expect("free"));
        drop(home);
        pool.restock(Pool::prepare(3, &form(2, 8)).expect("host memory"));
        assert!(bell.wait(std::time::Duration::ZERO), "whoever waits for a slot is told");
        assert_eq!((pool.free(), pool.capacity(), pool.bytes()), (3, 3, 288));
        assert_eq!((pool.take().expect("free").form().epoch, out.form().epoch), (2, 1));
        assert!(old.upgrade().is_some(), "a slot of the old form is still out");
        drop(out);
        assert!(old.upgrade().is_none(), "and nothing else holds it");
        assert_eq!(pool.free(), 3, "a stranger does not come home");
    }
}
