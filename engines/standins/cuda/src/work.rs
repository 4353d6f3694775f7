//! What a stream carries out: copies, fills, kernels, host functions, marks, graphs.

use std::ffi::c_void;
use std::sync::Arc;

use crate::codes::{Code, ILLEGAL_ADDRESS, INVALID_VALUE, Outcome, SUCCESS};
use crate::driver::{Driver, as_callback, lock, now_ns};
use crate::event::Stamp;
use crate::kernels::Launch;
use crate::memory::{Kind, Wrong};

/// A host function of `cuLaunchHostFunc`.
pub type HostFunction = unsafe extern "C" fn(data: *mut c_void);
/// A host function of `cuStreamAddCallback`.
pub type StreamCallback = unsafe extern "C" fn(stream: u64, status: Code, data: *mut c_void);

/// One operation.
#[derive(Clone, Debug)]
pub enum Work {
    /// Only its place in the queue matters.
    Nothing,
    Copy(Copy),
    Fill(Fill),
    Kernel(Arc<Launch>),
    Host {
        function: HostFunction,
        data: usize,
    },
    Callback {
        function: StreamCallback,
        data: usize,
        stream: u64,
    },
    Record(Stamp),
    /// The nodes of a graph.
    Graph(Arc<Vec<Work>>),
    /// The device is lost here.
    Fail(Code),
}

/// Rows of bytes, each `pitch_bytes` after the one before.
#[derive(Clone, Debug)]
pub struct Side {
    pub address: u64,
    pub pitch_bytes: u64,
    pub place: Place,
}

/// Where bytes are.
#[derive(Clone, Debug)]
pub enum Place {
    Device,
    /// Page-locked.
    Pinned,
    /// Any other host memory.
    Pageable,
    /// Host memory as it was when the copy was asked for.
    Snapshot(Arc<Vec<u8>>),
}

/// A copy of `rows` rows of `row_bytes`.
#[derive(Clone, Debug)]
pub struct Copy {
    pub from: Side,
    pub to: Side,
    pub row_bytes: u64,
    pub rows: u64,
}

/// Sets `rows` rows of `row_elements` elements of 1, 2 or 4 bytes.
#[derive(Clone, Debug)]
pub struct Fill {
    pub address: u64,
    pub pitch_bytes: u64,
    pub element_bytes: u64,
    pub value: u32,
    pub row_elements: u64,
    pub rows: u64,
}

/// Bytes from the first of the first row to the last of the last.
fn extent_bytes(pitch_bytes: u64, row_bytes: u64, rows: u64) -> u64 {
    if rows == 0 || row_bytes == 0 {
        0
    } else {
        pitch_bytes.saturating_mul(rows - 1).saturating_add(row_bytes)
    }
}

impl Work {
    /// Carries it out, unless the device is lost.
    pub fn perform(&self, driver: &Driver) {
        if let Work::Graph(nodes) = self {
            nodes.iter().for_each(|node| node.perform(driver));
            return;
        }
        if let Work::Record(stamp) = self {
            *lock(stamp) = Some(now_ns());
            return;
        }
        if matches!(self, Work::Nothing) {
            return;
        }
        let begun = driver.begin_operation();
        if let Work::Callback { function, data, stream } = *self {
            driver.counters.host_functions.change(1);
            let status = begun.err().unwrap_or(SUCCESS);
            // SAFETY: the caller's function, with what it is to be called with.
            as_callback(|| unsafe { function(stream, status, data as *mut c_void) });
            return;
        }
        if begun.is_err() {
            return;
        }
        let done = match self {
            Work::Copy(copy) => copy.perform(driver),
            Work::Fill(fill) => fill.perform(driver),
            Work::Kernel(launch) => launch.perform(driver),
            Work::Host { function, data } => {
                driver.counters.host_functions.change(1);
                // SAFETY: the caller's function, with what it is to be called with.
                as_callback(|| unsafe { function(*data as *mut c_void) });
                Ok(())
            }
            Work::Fail(code) => Err(*code),
            Work::Nothing | Work::Record(_) | Work::Graph(_) | Work::Callback { .. } => Ok(()),
        };
        if let Err(code) = done {
            driver.lose(code);
        }
    }
}

impl Side {
    /// A side whose place the address tells.
    pub fn anywhere(driver: &Driver, address: u64, pitch_bytes: u64) -> Side {
        let place = match driver.memory().find(address, 1).map(|found| found.kind) {
            Ok(Kind::Device(_)) => Place::Device,
            Ok(Kind::Pinned | Kind::Registered) => Place::Pinned,
            // What is ours and not live was device or page-locked memory: the check finds that out.
            Err(Wrong::Freed | Wrong::OutOfBounds) => Place::Pinned,
            Err(Wrong::Foreign) => Place::Pageable,
        };
        Side { address, pitch_bytes, place }
    }

    /// A side that the caller says is device memory.
    pub fn device(address: u64, pitch_bytes: u64) -> Side {
        Side { address, pitch_bytes, place: Place::Device }
    }

    fn check(&self, driver: &Driver, row_bytes: u64, rows: u64, what: &str) -> Outcome {
        let bytes = extent_bytes(self.pitch_bytes, row_bytes, rows);
        let wrong = match (&self.place, driver.memory().find(self.address, bytes).map(|found| found.kind)) {
            (Place::Device, Ok(Kind::Device(_))) => return Ok(()),
            (Place::Pinned, Ok(Kind::Pinned | Kind::Registered)) => return Ok(()),
            (Place::Pageable | Place::Snapshot(_), _) => return Ok(()),
            (_, Ok(_)) => Wrong::Foreign,
            (_, Err(wrong)) => wrong,
        };
        driver.wrong_access(wrong, what, self.address, bytes);
        Err(INVALID_VALUE)
    }

    fn is_device(&self) -> bool {
        matches!(self.place, Place::Device)
    }

    fn start(&self) -> *mut u8 {
        match &self.place {
            Place::Snapshot(bytes) => bytes.as_ptr().cast_mut(),
            _ => self.address as *mut u8,
        }
    }
}

impl Copy {
    /// Both ends are live memory. Asked when the copy is, and again when it is carried out.
    pub fn check(&self, driver: &Driver) -> Outcome {
        if self.rows > 1 && self.from.pitch_bytes.min(self.to.pitch_bytes) < self.row_bytes {
            return Err(INVALID_VALUE);
        }
        self.from.check(driver, self.row_bytes, self.rows, "a copy reads")?;
        self.to.check(driver, self.row_bytes, self.rows, "a copy writes")
    }

    /// The source is host memory that may change before the copy is carried out: the bytes as they are now.
    pub fn snapshot(&mut self) {
        let mut bytes = Vec::with_capacity((self.row_bytes * self.rows) as usize);
        for row in 0..self.rows {
            let start = (self.from.address + row * self.from.pitch_bytes) as *const u8;
            // SAFETY: the caller promises readable host memory of that size.
            bytes.extend_from_slice(unsafe { std::slice::from_raw_parts(start, self.row_bytes as usize) });
        }
        self.from.pitch_bytes = self.row_bytes;
        self.from.place = Place::Snapshot(Arc::new(bytes));
    }

    fn perform(&self, driver: &Driver) -> Outcome {
        self.check(driver).map_err(|_| ILLEGAL_ADDRESS)?;
        // Held, so that nothing is freed meanwhile.
        let memory = driver.memory();
        for row in 0..self.rows {
            let from = self.from.start().wrapping_add((row * self.from.pitch_bytes) as usize);
            let to = self.to.start().wrapping_add((row * self.to.pitch_bytes) as usize);
            // SAFETY: checked against the ledger where it is the driver's memory; the caller's promise where it is not.
            unsafe { std::ptr::copy(from, to, self.row_bytes as usize) };
        }
        drop(memory);
        let counters = &driver.counters;
        let (copies, bytes) = match (self.from.is_device(), self.to.is_device()) {
            (true, true) => (counters.d2d_copies, counters.d2d_bytes),
            (true, false) => (counters.d2h_copies, counters.d2h_bytes),
            (false, true) => (counters.h2d_copies, counters.h2d_bytes),
            (false, false) => return Ok(()),
        };
        copies.change(1);
        bytes.change((self.row_bytes * self.rows) as i64);
        Ok(())
    }
}

impl Fill {
    fn side(&self, driver: &Driver) -> Side {
        Side::anywhere(driver, self.address, self.pitch_bytes)
    }

    /// The memory is live.
    pub fn check(&self, driver: &Driver) -> Outcome {
        let side = self.side(driver);
        let row_bytes = self.row_elements * self.element_bytes;
        if matches!(side.place, Place::Pageable) {
            driver.wrong_access(Wrong::Foreign, "a fill writes", self.address, row_bytes);
            return Err(INVALID_VALUE);
        }
        side.check(driver, row_bytes, self.rows, "a fill writes")
    }

    fn perform(&self, driver: &Driver) -> Outcome {
        self.check(driver).map_err(|_| ILLEGAL_ADDRESS)?;
        let memory = driver.memory();
        let pattern = self.value.to_le_bytes();
        for row in 0..self.rows {
            let start = (self.address + row * self.pitch_bytes) as *mut u8;
            // SAFETY: the ledger says that this is live memory, and it stays so while `memory` is held.
            let bytes = unsafe {
                std::slice::from_raw_parts_mut(start, (self.row_elements * self.element_bytes) as usize)
            };
            bytes.chunks_exact_mut(self.element_bytes as usize).for_each(|element| {
                element.copy_from_slice(&pattern[..self.element_bytes as usize]);
            });
        }
        drop(memory);
        Ok(())
    }
}
