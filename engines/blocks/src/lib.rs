//! The memory of an inference, kept for the next one.
//!
//! The built-in engine allocates the same few large blocks for every inference and frees them when it is over. glibc hands them
//! back to the system and asks for them again, page by page: with yolox_nano 2,400 page faults an inference. Letting glibc keep its
//! heaps' tops would help, and make the heaps of cameras that come and go grow, which share them.
//!
//! So the process's allocator, [`Allocator`], puts large blocks that are freed during an inference ([`Inference`]) on a shelf, and
//! takes large blocks that are asked for during one from there if there is one of exactly that layout. Everything else, and
//! everything at other times, goes to the system's allocator, from which all blocks come and which may get any of them back.
//!
//! **Bounded.** At most [`BLOCKS_MAX`] blocks of [`BYTES_MAX`] in all; what has not been used for [`INFERENCES_MAX`] inferences is freed
//! at the end of one, and all of it by [`clear`], when an engine goes. So what is kept is what an inference takes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, TryLockError};

/// Smaller ones glibc keeps by itself.
const LEAST_BYTES: usize = 128 << 10;
/// Blocks on the shelf.
pub const BLOCKS_MAX: usize = 64;
/// Bytes on the shelf.
pub const BYTES_MAX: usize = 256 << 20;
/// Inferences that a block lies there unused.
pub const INFERENCES_MAX: u32 = 8;

static SHELF: Shelf = Shelf::new();

/// What a program declares as its global allocator.
#[derive(Debug)]
pub struct Allocator;

// SAFETY: blocks come from `System` with the layout that was asked for, and go back to it, or to somebody who asks for exactly
// that layout; a block on the shelf belongs to nobody else.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match SHELF.take(layout) {
            Some(block) => block,
            // SAFETY: the caller's promise.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match SHELF.take(layout) {
            Some(block) => {
                // SAFETY: it has `layout.size()` bytes and nobody else has it.
                unsafe { block.write_bytes(0, layout.size()) };
                block
            }
            // SAFETY: the caller's promise.
            None => unsafe { System.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if !SHELF.put(block, layout) {
            // SAFETY: the caller's promise; it came from `System`, with this layout.
            unsafe { System.dealloc(block, layout) };
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promise; it came from `System`, with this layout.
        unsafe { System.realloc(block, layout, new_size) }
    }
}

/// While it lives, large blocks go to the shelf and come from there.
#[derive(Debug)]
pub struct Inference(());

impl Inference {
    /// An inference begins. Several may run at the same time.
    #[expect(clippy::new_without_default, reason = "what begins is said where it begins")]
    pub fn new() -> Self {
        SHELF.running.fetch_add(1, Ordering::AcqRel);
        Self(())
    }
}

impl Drop for Inference {
    fn drop(&mut self) {
        SHELF.running.fetch_sub(1, Ordering::AcqRel);
        SHELF.free_where(|block| {
            block.unused += 1;
            block.unused > INFERENCES_MAX
        });
    }
}

/// Frees what is kept: an engine is gone.
pub fn clear() {
    SHELF.free_where(|_| true);
}

/// Bytes that are kept at present.
#[must_use]
pub fn kept_bytes() -> usize {
    let blocks = SHELF.blocks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    blocks.iter().flatten().map(|block| block.layout.size()).sum()
}

/// A block that nobody uses.
#[derive(Debug)]
struct Block {
    /// An address. Whoever takes it off the shelf owns it.
    at: usize,
    layout: Layout,
    /// Inferences that have ended since it was put here.
    unused: u32,
}

#[derive(Debug)]
struct Shelf {
    running: AtomicUsize,
    blocks: Mutex<[Option<Block>; BLOCKS_MAX]>,
}

impl Shelf {
    const fn new() -> Self {
        Self { running: AtomicUsize::new(0), blocks: Mutex::new([const { None }; BLOCKS_MAX]) }
    }

    fn is_open_to(&self, layout: Layout) -> bool {
        layout.size() >= LEAST_BYTES && self.running.load(Ordering::Acquire) > 0
    }

    /// Nothing in `work` may allocate. `None` where somebody else is at it: nobody waits here.
    fn with_blocks<T>(&self, work: impl FnOnce(&mut [Option<Block>; BLOCKS_MAX]) -> T) -> Option<T> {
        match self.blocks.try_lock() {
            Ok(mut blocks) => Some(work(&mut blocks)),
            Err(TryLockError::Poisoned(poisoned)) => Some(work(&mut poisoned.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn take(&self, layout: Layout) -> Option<*mut u8> {
        if !self.is_open_to(layout) {
            return None;
        }
        self.with_blocks(|blocks| {
            let fits =
                |place: &&mut Option<Block>| place.as_ref().is_some_and(|block| block.layout == layout);
            let block = blocks.iter_mut().find(fits)?.take()?;
            Some(std::ptr::with_exposed_provenance_mut(block.at))
        })?
    }

    /// Whether the shelf has taken it.
    fn put(&self, block: *mut u8, layout: Layout) -> bool {
        if !self.is_open_to(layout) {
            return false;
        }
        let taken = self.with_blocks(|blocks| {
            let kept_bytes: usize = blocks.iter().flatten().map(|block| block.layout.size()).sum();
            if kept_bytes + layout.size() > BYTES_MAX {
                return false;
            }
            let Some(place) = blocks.iter_mut().find(|place| place.is_none()) else { return false };
            *place = Some(Block { at: block.expose_provenance(), layout, unused: 0 });
            true
        });
        taken.unwrap_or(false)
    }

    fn free_where(&self, mut goes: impl FnMut(&mut Block) -> bool) {
        let mut blocks = self.blocks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for place in blocks.iter_mut() {
            if let Some(block) = place.take_if(|block| goes(block)) {
                // SAFETY: it came from `System` with this layout, and was on the shelf, so nobody has it.
                unsafe { System.dealloc(std::ptr::with_exposed_provenance_mut(block.at), block.layout) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Barrier, MutexGuard, PoisonError};

    use super::*;

    #[global_allocator]
    static ALLOCATOR: Allocator = Allocator;

    const MIB: usize = 1 << 20;

    /// One test at a time: the shelf is the process's.
    fn alone() -> MutexGuard<'static, ()> {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        clear();
        alone
    }

    fn vector(bytes: usize) -> Vec<u8> {
        let mut vector = Vec::with_capacity(bytes);
        vector.resize(bytes, 7);
        vector
    }

    #[test]
    fn the_next_inference_gets_the_blocks_of_the_last() {
        let _alone = alone();
        let addresses: Vec<[usize; 2]> = (0..4)
            .map(|_| {
                let _inference = Inference::new();
                let (a, b) = (vector(3 * MIB), vector(MIB));
                [a.as_ptr().addr(), b.as_ptr().addr()]
            })
            .collect();
        assert!(addresses.windows(2).all(|two| two[0] == two[1]), "{addresses:x?}");
        assert_eq!(kept_bytes(), 4 * MIB);
        // What comes from the shelf is as it was left, unless zeros are asked for.
        let _inference = Inference::new();
        let zeros = vec![0_u8; 3 * MIB];
        assert_eq!(zeros.as_ptr().addr(), addresses[0][0]);
        assert!(zeros.iter().all(|&byte| byte == 0));
    }

    #[test]
    fn outside_of_inferences_nothing_is_kept_and_nothing_is_taken() {
        let _alone = alone();
        drop(vector(2 * MIB));
        assert_eq!(kept_bytes(), 0);
        drop((Inference::new(), vector(2 * MIB)));
        let inference = Inference::new();
        let during = vector(2 * MIB);
        drop(inference);
        drop(during);
        assert_eq!(kept_bytes(), 0);
        {
            let _inference = Inference::new();
            drop(vector(2 * MIB));
        }
        let kept = vector(2 * MIB);
        assert_eq!(kept_bytes(), 2 * MIB, "it stays for the next inference");
        drop(kept);
        clear();
        assert_eq!(kept_bytes(), 0);
    }

    #[test]
    fn what_is_not_used_again_goes_and_what_is_small_or_too_much_is_not_kept() {
        let _alone = alone();
        {
            let _inference = Inference::new();
            drop(vector(5 * MIB));
            drop(vector(LEAST_BYTES - 1));
        }
        assert_eq!(kept_bytes(), 5 * MIB);
        for _ in 0..INFERENCES_MAX {
            let _inference = Inference::new();
            drop(vector(2 * MIB));
        }
        assert_eq!(kept_bytes(), 2 * MIB, "the five of the first are gone");
        let _inference = Inference::new();
        let many: Vec<_> = (0..2 * BLOCKS_MAX).map(|index| vector(LEAST_BYTES + index)).collect();
        drop(many);
        assert!(kept_bytes() <= BLOCKS_MAX * (LEAST_BYTES + 2 * BLOCKS_MAX) + 2 * MIB);
        let large: Vec<_> = (0..5).map(|_| Vec::<u8>::with_capacity(BYTES_MAX / 4)).collect();
        drop(large);
        assert!(kept_bytes() <= BYTES_MAX);
    }

    #[test]
    fn growing_and_moving_between_threads_loses_no_byte() {
        let _alone = alone();
        let start = Barrier::new(4);
        std::thread::scope(|scope| {
            for thread in 0..4_usize {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    for turn in 0..200 {
                        let _inference = Inference::new();
                        let mark = (thread * 50 + turn % 50) as u8;
                        let mut vector = vec![mark; LEAST_BYTES + (turn % 7) * 4096];
                        vector.extend(std::iter::repeat_n(mark, LEAST_BYTES));
                        vector.shrink_to(LEAST_BYTES + 1);
                        let other = vec![!mark; LEAST_BYTES + (turn % 5) * 4096];
                        assert!(vector.iter().all(|&byte| byte == mark));
                        assert!(other.iter().all(|&byte| byte == !mark));
                    }
                });
            }
        });
        clear();
        assert_eq!(kept_bytes(), 0);
    }
}
