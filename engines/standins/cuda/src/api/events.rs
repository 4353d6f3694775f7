//! Events.

use std::ffi::{c_float, c_uint};
use std::sync::{Arc, Mutex};

use crate::api::streams::spins;
use crate::codes::{CAPTURED_EVENT, Code, INVALID_VALUE, NOT_READY};
use crate::context::current;
use crate::driver::{call, query};
use crate::event::{BLOCKING_SYNC, DISABLE_TIMING, Event, Record, Stamp};
use crate::foreign::Out;
use crate::stream;
use crate::work::Work;

const INTERPROCESS: u32 = 4;

#[unsafe(no_mangle)]
pub extern "C" fn cuEventCreate(handle: Out<u64>, flags: c_uint) -> Code {
    call(|driver| {
        handle.required()?;
        if flags & !(BLOCKING_SYNC | DISABLE_TIMING | INTERPROCESS) != 0 {
            return Err(INVALID_VALUE);
        }
        handle.set(Event::create(driver, current()?.handle, flags))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventDestroy_v2(handle: u64) -> Code {
    query(|driver| {
        driver.events.remove(handle)?;
        driver.counters.live_events.change(-1);
        driver.lost()
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventDestroy(handle: u64) -> Code {
    cuEventDestroy_v2(handle)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventRecord(handle: u64, stream: u64) -> Code {
    call(|driver| {
        let (event, stream) = (driver.events.get(handle)?, stream::find(driver, stream)?);
        if let Some(capture) = stream.capture() {
            event.set_record(Record::Capture(capture));
            return Ok(());
        }
        let stamp: Stamp = Arc::new(Mutex::new(None));
        if let Some(mark) = stream.give(driver, Work::Record(stamp.clone()), Vec::new())? {
            event.set_record(Record::Stream(mark, stamp));
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventRecordWithFlags(handle: u64, stream: u64, _flags: c_uint) -> Code {
    cuEventRecord(handle, stream)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventQuery(handle: u64) -> Code {
    call(|driver| match driver.events.get(handle)?.record() {
        Record::Never => Ok(()),
        Record::Stream(mark, _) if mark.is_reached() => Ok(()),
        Record::Stream(..) => Err(NOT_READY),
        Record::Capture(capture) => {
            capture.invalidate();
            Err(CAPTURED_EVENT)
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventSynchronize(handle: u64) -> Code {
    call(|driver| {
        let event = driver.events.get(handle)?;
        driver.next_sync(spins(driver, event.context, event.flags))?;
        match event.record() {
            Record::Never => {}
            Record::Stream(mark, _) => mark.wait(),
            Record::Capture(capture) => {
                capture.invalidate();
                return Err(CAPTURED_EVENT);
            }
        }
        driver.lost()
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventElapsedTime(milliseconds: Out<c_float>, from: u64, to: u64) -> Code {
    call(|driver| {
        let (from, to) = (driver.events.get(from)?.time_ns()?, driver.events.get(to)?.time_ns()?);
        milliseconds.set((to as f64 / 1e6 - from as f64 / 1e6) as c_float)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventElapsedTime_v2(milliseconds: Out<c_float>, from: u64, to: u64) -> Code {
    cuEventElapsedTime(milliseconds, from, to)
}
