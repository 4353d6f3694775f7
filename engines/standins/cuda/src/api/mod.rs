//! The exported functions, and what several of them need.

pub mod contexts;
pub mod control;
pub mod copies;
pub mod devices;
pub mod errors;
pub mod events;
pub mod graphs;
pub mod memory;
pub mod modules;
pub mod streams;
pub mod unsupported;

use std::sync::Arc;

use crate::codes::{CAPTURE_UNSUPPORTED, OUT_OF_MEMORY, Outcome};
use crate::context::Context;
use crate::driver::Driver;
use crate::stream::{Mark, Stream};
use crate::work::Work;

/// Gives work to a stream; captures swallow it.
fn give(driver: &Driver, stream: &Arc<Stream>, work: Work) -> Outcome<Option<Mark>> {
    stream.give(driver, work, Vec::new())
}

/// Does work on the current context's default stream and waits for it.
fn do_now(driver: &Driver, context: &Arc<Context>, work: Work) -> Outcome {
    no_capture(driver)?;
    let mark = give(driver, &context.legacy(), work)?;
    mark.iter().for_each(Mark::wait);
    driver.lost()
}

/// Calls that may synchronise are not for a thread that records a graph, as far as the recording's mode says.
fn no_capture(driver: &Driver) -> Outcome {
    let strict = |stream: &Stream| stream.capture().is_some_and(|capture| capture.forbids_here());
    let capturing = driver.streams.all(strict);
    if capturing.is_empty() {
        return Ok(());
    }
    capturing.iter().filter_map(|stream| stream.capture()).for_each(|capture| capture.invalidate());
    Err(CAPTURE_UNSUPPORTED)
}

/// An allocation of `bytes` more is made to fail, or would exceed the device.
fn may_allocate(driver: &Driver, device: u32, bytes: u64) -> Outcome {
    if driver.next_allocation_fails() {
        return Err(OUT_OF_MEMORY);
    }
    let used = driver.memory().device_bytes(device);
    if used.saturating_add(bytes) > driver.setting(|settings| settings.total_bytes) {
        Err(OUT_OF_MEMORY)
    } else {
        Ok(())
    }
}
