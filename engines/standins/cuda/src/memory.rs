//! Device memory and page-locked memory: pages of this process, each allocation with its owner.
//!
//! No address is ever given out twice, and what is freed loses its pages. So every address says whether it is live, was
//! freed, or lies between allocations; host code that touches a freed one crashes where it does so.

use std::collections::BTreeMap;
use std::ptr;

use crate::codes::{OUT_OF_MEMORY, Outcome};

/// Fresh memory holds this, over and over: as f16, f32 and f64 not a number, and as bytes not a plausible picture.
pub const POISON: [u8; 2] = [0xfe, 0x7f];

const POISON_WORD: u64 = {
    let [low, high] = POISON;
    u64::from_ne_bytes([low, high, low, high, low, high, low, high])
};
const PAGE: u64 = 4096;
const REGION_BYTES: u64 = 1 << 36;

/// What an allocation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Memory of a device.
    Device(u32),
    /// Page-locked host memory that we allocated.
    Pinned,
    /// Page-locked host memory that the caller allocated and registered.
    Registered,
}

/// One live allocation.
#[derive(Clone, Copy, Debug)]
pub struct Allocation {
    pub kind: Kind,
    pub start: u64,
    pub bytes: u64,
    /// Handle of the context that owns it.
    pub context: u64,
}

/// Why an address range cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It was given back.
    Freed,
    /// It runs over the end of a live allocation, or begins between two.
    OutOfBounds,
    /// It is no memory of the driver's.
    Foreign,
}

/// Every allocation of the process.
#[derive(Debug, Default)]
pub struct Memory {
    live: BTreeMap<u64, Allocation>,
    /// Address space that was reserved, and how much of each region has been used.
    regions: Vec<(u64, u64)>,
}

fn pages(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE) * PAGE
}

impl Memory {
    /// `bytes` of new memory, poisoned.
    pub fn allocate(&mut self, kind: Kind, bytes: u64, context: u64) -> Outcome<u64> {
        let start = self.reserve(pages(bytes) + PAGE)?;
        // SAFETY: whole pages of a region of ours that nobody has used yet.
        if unsafe {
            libc::mprotect(start as *mut _, pages(bytes) as usize, libc::PROT_READ | libc::PROT_WRITE)
        } != 0
        {
            return Err(OUT_OF_MEMORY);
        }
        // SAFETY: just made writable, and nobody else knows the address.
        let fresh = unsafe { std::slice::from_raw_parts_mut(start as *mut u64, pages(bytes) as usize / 8) };
        fresh.fill(POISON_WORD);
        self.live.insert(start, Allocation { kind, start, bytes, context });
        Ok(start)
    }

    fn reserve(&mut self, bytes: u64) -> Outcome<u64> {
        if let Some((start, used)) = self.regions.last_mut()
            && *used + bytes <= REGION_BYTES
        {
            let at = *start + *used;
            *used += bytes;
            return Ok(at);
        }
        if bytes > REGION_BYTES {
            return Err(OUT_OF_MEMORY);
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), REGION_BYTES as usize, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(OUT_OF_MEMORY);
        }
        self.regions.push((start as u64, bytes));
        Ok(start as u64)
    }

    /// Takes note of memory that the caller has made and page-locks.
    pub fn register(&mut self, start: u64, bytes: u64, context: u64) -> bool {
        let free = self
            .live
            .range(..start + bytes)
            .next_back()
            .is_none_or(|(_, last)| last.start + last.bytes <= start);
        if free {
            self.live.insert(start, Allocation { kind: Kind::Registered, start, bytes, context });
        }
        free
    }

    /// Takes the allocation that begins at `start` off the ledger; its pages go. Says also whether something was
    /// written between its end and the end of its last page.
    pub fn free(&mut self, start: u64, wanted: impl Fn(Kind) -> bool) -> Result<(Allocation, bool), Wrong> {
        match self.live.get(&start) {
            Some(allocation) if wanted(allocation.kind) => {}
            Some(_) => return Err(Wrong::Foreign),
            None => return Err(self.why(start)),
        }
        let Some(allocation) = self.live.remove(&start) else { return Err(Wrong::Foreign) };
        if allocation.kind == Kind::Registered {
            return Ok((allocation, false));
        }
        let overrun = tail_is_written(&allocation);
        let length = pages(allocation.bytes) as usize;
        // SAFETY: whole pages of an allocation that has just been taken off the ledger.
        unsafe {
            libc::madvise(start as *mut _, length, libc::MADV_DONTNEED);
            libc::mprotect(start as *mut _, length, libc::PROT_NONE);
        }
        Ok((allocation, overrun))
    }

    /// The live allocation that holds all of `bytes` at `address`.
    pub fn find(&self, address: u64, bytes: u64) -> Result<&Allocation, Wrong> {
        match self.live.range(..=address).next_back() {
            Some((_, last)) if address < last.start + last.bytes => {
                if address.checked_add(bytes).is_some_and(|end| end <= last.start + last.bytes) {
                    Ok(last)
                } else {
                    Err(Wrong::OutOfBounds)
                }
            }
            Some((_, last)) if last.kind != Kind::Registered && address < last.start + pages(last.bytes) => {
                Err(Wrong::OutOfBounds)
            }
            _ => Err(self.why(address)),
        }
    }

    fn why(&self, address: u64) -> Wrong {
        match self.regions.iter().find(|(start, _)| (*start..*start + REGION_BYTES).contains(&address)) {
            // Between two live ones there may also be a guard page; most often it is what was freed.
            Some((start, used)) if address < start + used => Wrong::Freed,
            Some(_) => Wrong::OutOfBounds,
            None => Wrong::Foreign,
        }
    }

    /// Bytes of device memory in use.
    pub fn device_bytes(&self, device: u32) -> u64 {
        self.live.values().filter(|one| one.kind == Kind::Device(device)).map(|one| one.bytes).sum()
    }

    /// What a context still owns.
    pub fn owned_by(&self, context: u64) -> Vec<Allocation> {
        self.live.values().filter(|one| one.context == context).copied().collect()
    }
}

fn tail_is_written(allocation: &Allocation) -> bool {
    let rest = (pages(allocation.bytes) - allocation.bytes) as usize;
    // SAFETY: the end of the last page of an allocation whose pages are still there.
    let tail =
        unsafe { std::slice::from_raw_parts((allocation.start + allocation.bytes) as *const u8, rest) };
    let phase = (allocation.bytes % 2) as usize;
    tail.iter().enumerate().any(|(index, byte)| *byte != POISON[(index + phase) % 2])
}
