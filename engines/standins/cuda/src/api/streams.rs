//! Streams, host functions, and captures.

use std::ffi::{c_int, c_uint};
use std::sync::Arc;

use crate::api::give;
use crate::codes::{
    CAPTURE_INVALIDATED, CAPTURE_UNMATCHED, CAPTURE_UNSUPPORTED, Code, INVALID_VALUE, NOT_READY, Outcome,
};
use crate::context::current;
use crate::driver::{Driver, call, query};
use crate::event::{BLOCKING_SYNC, Record};
use crate::foreign::Out;
use crate::graph::{Capture, Graph};
use crate::stream::{self, NON_BLOCKING, Stream};
use crate::work::{HostFunction, StreamCallback, Work};

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamCreate(handle: Out<u64>, flags: c_uint) -> Code {
    cuStreamCreateWithPriority(handle, flags, 0)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamCreateWithPriority(handle: Out<u64>, flags: c_uint, priority: c_int) -> Code {
    call(|driver| {
        handle.required()?;
        if flags & !NON_BLOCKING != 0 {
            return Err(INVALID_VALUE);
        }
        handle.set(Stream::create(driver, current()?.handle, flags, priority.clamp(-5, 0))?)
    })
}

/// What is still in the queue is done, later. An idle stream's thread has ended when this returns.
#[unsafe(no_mangle)]
pub extern "C" fn cuStreamDestroy_v2(handle: u64) -> Code {
    query(|driver| {
        driver.streams.remove(handle)?.close(false);
        driver.counters.live_streams.change(-1);
        driver.lost()
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamDestroy(handle: u64) -> Code {
    cuStreamDestroy_v2(handle)
}

/// A call that cannot be made while the stream records.
fn not_while_capturing(stream: &Stream) -> Outcome {
    match stream.capture() {
        Some(capture) => {
            capture.invalidate();
            Err(CAPTURE_UNSUPPORTED)
        }
        None => Ok(()),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamSynchronize(handle: u64) -> Code {
    call(|driver| {
        let stream = stream::find(driver, handle)?;
        not_while_capturing(&stream)?;
        driver.next_sync(!driver.contexts().get(stream.context)?.blocks())?;
        stream.tail().wait();
        driver.lost()
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamQuery(handle: u64) -> Code {
    call(|driver| {
        let stream = stream::find(driver, handle)?;
        not_while_capturing(&stream)?;
        if stream.tail().is_reached() { Ok(()) } else { Err(NOT_READY) }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamWaitEvent(handle: u64, event: u64, flags: c_uint) -> Code {
    call(|driver| {
        if flags & !1 != 0 {
            return Err(INVALID_VALUE);
        }
        let (stream, event) = (stream::find(driver, handle)?, driver.events.get(event)?);
        match (event.record(), stream.capture()) {
            (Record::Never, _) => Ok(()),
            // The stream joins the recording.
            (Record::Capture(capture), None) => {
                stream.set_capture(Some(capture));
                Ok(())
            }
            (Record::Capture(_), Some(_)) => Ok(()),
            (Record::Stream(..), Some(capture)) => {
                capture.invalidate();
                Err(CAPTURE_UNSUPPORTED)
            }
            (Record::Stream(mark, _), None) => {
                let after = if mark.is_reached() { Vec::new() } else { vec![mark] };
                stream.give(driver, Work::Nothing, after).map(drop)
            }
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLaunchHostFunc(handle: u64, function: Option<HostFunction>, data: usize) -> Code {
    call(|driver| {
        let function = function.ok_or(INVALID_VALUE)?;
        give(driver, &stream::find(driver, handle)?, Work::Host { function, data }).map(drop)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamAddCallback(
    handle: u64,
    function: Option<StreamCallback>,
    data: usize,
    flags: c_uint,
) -> Code {
    call(|driver| {
        let function = function.filter(|_| flags == 0).ok_or(INVALID_VALUE)?;
        let stream = stream::find(driver, handle)?;
        not_while_capturing(&stream)?;
        give(driver, &stream, Work::Callback { function, data, stream: handle }).map(drop)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetCtx(handle: u64, context: Out<u64>) -> Code {
    query(|driver| context.set(stream::find(driver, handle)?.context))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetFlags(handle: u64, flags: Out<c_uint>) -> Code {
    query(|driver| flags.set(stream::find(driver, handle)?.flags))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetPriority(handle: u64, priority: Out<c_int>) -> Code {
    query(|driver| priority.set(stream::find(driver, handle)?.priority))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetId(handle: u64, id: Out<u64>) -> Code {
    query(|driver| id.set(stream::find(driver, handle)?.handle))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamBeginCapture_v2(handle: u64, mode: c_int) -> Code {
    call(|driver| {
        if !(0..=2).contains(&mode) {
            return Err(INVALID_VALUE);
        }
        let stream = stream::find(driver, handle)?;
        if handle <= 2 || stream.capture().is_some() {
            return Err(CAPTURE_UNSUPPORTED);
        }
        stream.set_capture(Some(Capture::new(handle, mode)));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamEndCapture(handle: u64, graph: Out<u64>) -> Code {
    call(|driver| {
        graph.required()?;
        let capture = stream::find(driver, handle)?.capture().ok_or(CAPTURE_UNMATCHED)?;
        if capture.origin != handle {
            return Err(CAPTURE_UNMATCHED);
        }
        leave(driver, &capture);
        if capture.is_broken() {
            graph.set(0)?;
            return Err(CAPTURE_INVALIDATED);
        }
        let new = driver.new_handle();
        driver.graphs.insert(new, Graph { nodes: Arc::new(capture.take()) });
        driver.counters.live_graphs.change(1);
        graph.set(new)
    })
}

/// Every stream that has joined the recording is free again.
fn leave(driver: &Driver, capture: &Arc<Capture>) {
    let joined = driver.streams.all(|one| one.capture().is_some_and(|other| Arc::ptr_eq(&other, capture)));
    joined.iter().for_each(|stream| stream.set_capture(None));
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamIsCapturing(handle: u64, status: Out<c_int>) -> Code {
    query(|driver| {
        let capture = stream::find(driver, handle)?.capture();
        status.set(capture.map_or(0, |capture| if capture.is_broken() { 2 } else { 1 }))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuThreadExchangeStreamCaptureMode(mode: Out<c_int>) -> Code {
    // Captures of all modes are told apart where they begin.
    query(|_| mode.required())
}

/// Whether a thread that waits for an event would spin.
pub fn spins(driver: &Driver, context: u64, event_flags: u32) -> bool {
    event_flags & BLOCKING_SYNC == 0 && driver.contexts().get(context).is_ok_and(|context| !context.blocks())
}
