//! A camera's frame slots: allocated once, lent as RAII values, home again on every path.
//!
//! `free + in_flight == capacity` always: a slot's memory is either in the pool's channel or in a living
//! [`Slot`], and dropping a `Slot` (also while a thread unwinds) sends it home. The channel has room for all.

use crossbeam_channel::{Receiver, Sender, bounded};

use super::turnstile::Ticket;
use crate::wake::Wake;

/// Where a slot's tensor lives. A closed enum: every place that reads a slot says what it does with each.
#[derive(Debug)]
pub enum SlotMemory {
    /// Planar f32 in host memory.
    Host(Box<[f32]>),
}

impl SlotMemory {
    fn bytes(&self) -> usize {
        match self {
            Self::Host(tensor) => size_of_val::<[f32]>(tensor),
        }
    }
}

/// The slots of one camera.
#[derive(Debug)]
pub struct Pool {
    free: Receiver<SlotMemory>,
    home: Sender<SlotMemory>,
    wake: Wake,
    capacity: usize,
    slot_bytes: usize,
}

impl Pool {
    /// Allocates `capacity` slots of `elements` f32 each, and rings `wake` whenever one comes home.
    pub fn new(capacity: usize, elements: usize, wake: Wake) -> Self {
        let (home, free) = bounded(capacity);
        let mut slot_bytes = 0;
        for _ in 0..capacity {
            let memory = SlotMemory::Host(vec![0.0; elements].into_boxed_slice());
            slot_bytes = memory.bytes();
            let sent = home.try_send(memory);
            debug_assert!(sent.is_ok(), "the channel has room for every slot");
        }
        Self { free, home, wake, capacity, slot_bytes }
    }

    /// A free slot, if there is one. Never waits.
    pub fn take(&self) -> Option<Slot> {
        let memory = self.free.try_recv().ok()?;
        Some(Slot { memory: Some(memory), ticket: None, home: self.home.clone(), wake: self.wake.clone() })
    }

    /// Slots at home.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Slots in all.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes of all slots together.
    pub fn bytes(&self) -> usize {
        self.capacity * self.slot_bytes
    }
}

/// The right to one slot's memory until dropped.
#[derive(Debug)]
pub struct Slot {
    memory: Option<SlotMemory>,
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
            let _pool_gone = self.home.try_send(memory);
        }
    }

    /// The tensor, to write.
    pub fn tensor_mut(&mut self) -> &mut [f32] {
        match &mut self.memory {
            Some(SlotMemory::Host(tensor)) => tensor,
            None => &mut [],
        }
    }

    /// The tensor, to read.
    pub fn tensor(&self) -> &[f32] {
        match &self.memory {
            Some(SlotMemory::Host(tensor)) => tensor,
            None => &[],
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            // Fails only when the pool itself is gone: then the memory is freed here.
            let _pool_gone = self.home.try_send(memory);
            self.wake.ring();
        }
        // The ticket drops after this: whoever it wakes finds the slot at home.
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wake::doorbell;

    #[test]
    fn free_and_in_flight_add_up_to_the_capacity() {
        let (wake, _bell) = doorbell();
        let pool = Pool::new(3, 12, wake);
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
        let (wake, _bell) = doorbell();
        let pool = Pool::new(1, 4, wake);
        let _held = pool.take().expect("free");
        assert!(pool.take().is_none());
    }

    #[test]
    fn a_slot_comes_home_and_rings_when_its_thread_panics() {
        let (wake, bell) = doorbell();
        let pool = Pool::new(1, 4, wake);
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
        let (wake, _bell) = doorbell();
        let pool = Pool::new(1, 4, wake);
        let mut slot = pool.take().expect("free");
        drop(pool);
        slot.tensor_mut()[0] = 1.0;
        assert_eq!(slot.tensor().len(), 4);
    }
}
