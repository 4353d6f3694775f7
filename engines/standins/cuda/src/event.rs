//! Events: a mark in a stream's work, and the time at which the work came there.

use std::sync::{Arc, Mutex};

use crate::codes::{INVALID_HANDLE, NOT_READY, Outcome};
use crate::driver::{Driver, lock};
use crate::graph::Capture;
use crate::stream::Mark;

/// `CU_EVENT_BLOCKING_SYNC`: threads that wait for it sleep.
pub const BLOCKING_SYNC: u32 = 1;
/// `CU_EVENT_DISABLE_TIMING`.
pub const DISABLE_TIMING: u32 = 2;

/// When a recorded event was reached, in nanoseconds; nothing until then.
pub type Stamp = Arc<Mutex<Option<u64>>>;

/// Where an event was recorded last.
#[derive(Clone, Debug, Default)]
pub enum Record {
    /// Nowhere: it counts as reached.
    #[default]
    Never,
    /// In a stream's work.
    Stream(Mark, Stamp),
    /// In a graph that is being captured.
    Capture(Arc<Capture>),
}

/// An event.
#[derive(Debug)]
pub struct Event {
    pub context: u64,
    pub flags: u32,
    record: Mutex<Record>,
}

impl Event {
    /// An event that has not been recorded.
    pub fn create(driver: &Driver, context: u64, flags: u32) -> u64 {
        let handle = driver.new_handle();
        driver.events.insert(handle, Event { context, flags, record: Mutex::default() });
        driver.counters.live_events.change(1);
        handle
    }

    /// The last record.
    pub fn record(&self) -> Record {
        lock(&self.record).clone()
    }

    /// Takes the place of the last record.
    pub fn set_record(&self, record: Record) {
        *lock(&self.record) = record;
    }

    /// The time of the last record.
    pub fn time_ns(&self) -> Outcome<u64> {
        match self.record() {
            Record::Stream(..) if self.flags & DISABLE_TIMING != 0 => Err(INVALID_HANDLE),
            Record::Stream(_, stamp) => lock(&stamp).ok_or(NOT_READY),
            Record::Never | Record::Capture(_) => Err(INVALID_HANDLE),
        }
    }
}
