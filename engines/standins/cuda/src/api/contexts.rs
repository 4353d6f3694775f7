//! Contexts, current ones and primary ones.

use std::ffi::{c_int, c_uint};
use std::sync::atomic::Ordering;

use crate::api::no_capture;
use crate::codes::{Code, INVALID_VALUE, Outcome, PEER_ACCESS_NOT_ENABLED, PEER_ACCESS_UNSUPPORTED, SUCCESS};
use crate::context::{self, current, device};
use crate::driver::{call, query};
use crate::foreign::Out;

const FLAGS: c_uint = 0xff;

fn flags_are_known(flags: c_uint) -> Outcome {
    if flags & !FLAGS == 0 { Ok(()) } else { Err(INVALID_VALUE) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxCreate_v2(handle: Out<u64>, flags: c_uint, ordinal: c_int) -> Code {
    call(|driver| {
        handle.required()?;
        flags_are_known(flags)?;
        handle.set(context::create(driver, device(driver, ordinal)?, flags))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxCreate_v3(
    handle: Out<u64>,
    _affinity: Out<u64>,
    _count: c_int,
    flags: c_uint,
    ordinal: c_int,
) -> Code {
    cuCtxCreate_v2(handle, flags, ordinal)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxCreate_v4(handle: Out<u64>, _params: Out<u64>, flags: c_uint, ordinal: c_int) -> Code {
    cuCtxCreate_v2(handle, flags, ordinal)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxDestroy_v2(handle: u64) -> Code {
    query(|driver| {
        context::destroy(driver, handle)?;
        driver.lost()
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxPushCurrent_v2(handle: u64) -> Code {
    query(|_| context::push(handle))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxPopCurrent_v2(handle: Out<u64>) -> Code {
    query(|_| {
        handle.offer(context::pop()?);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetCurrent(handle: u64) -> Code {
    query(|_| context::set(handle))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetCurrent(handle: Out<u64>) -> Code {
    query(|_| handle.set(context::current_handle()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetDevice(ordinal: Out<c_int>) -> Code {
    query(|_| ordinal.set(current()?.device as c_int))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetFlags(flags: Out<c_uint>) -> Code {
    query(|_| flags.set(current()?.flags.load(Ordering::SeqCst)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetFlags(flags: c_uint) -> Code {
    query(|_| {
        flags_are_known(flags)?;
        current()?.flags.store(flags, Ordering::SeqCst);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetApiVersion(_context: u64, version: Out<c_uint>) -> Code {
    query(|_| version.set(3020))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetId(context: u64, id: Out<u64>) -> Code {
    query(|_| id.set(if context == 0 { current()?.handle } else { context }))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetStreamPriorityRange(least: Out<c_int>, greatest: Out<c_int>) -> Code {
    query(|_| {
        least.offer(0);
        greatest.offer(-5);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetLimit(value: Out<usize>, _limit: c_int) -> Code {
    query(|_| value.set(1024))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetLimit(_limit: c_int, _value: usize) -> Code {
    query(|_| current().map(drop))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetCacheConfig(config: Out<c_int>) -> Code {
    query(|_| config.set(0))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetCacheConfig(_config: c_int) -> Code {
    query(|_| current().map(drop))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSynchronize() -> Code {
    call(|driver| {
        let context = current()?;
        no_capture(driver)?;
        driver.next_sync(!context.blocks())?;
        context.finish(driver);
        driver.lost()
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxEnablePeerAccess(_peer: u64, _flags: c_uint) -> Code {
    PEER_ACCESS_UNSUPPORTED
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxDisablePeerAccess(_peer: u64) -> Code {
    PEER_ACCESS_NOT_ENABLED
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRetain(handle: Out<u64>, ordinal: c_int) -> Code {
    call(|driver| {
        handle.required()?;
        handle.set(context::retain_primary(driver, device(driver, ordinal)?))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRelease(ordinal: c_int) -> Code {
    query(|driver| context::release_primary(driver, device(driver, ordinal)?, false))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRelease_v2(ordinal: c_int) -> Code {
    cuDevicePrimaryCtxRelease(ordinal)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxReset_v2(ordinal: c_int) -> Code {
    query(|driver| context::release_primary(driver, device(driver, ordinal)?, true))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxSetFlags_v2(ordinal: c_int, flags: c_uint) -> Code {
    query(|driver| {
        flags_are_known(flags)?;
        let index = device(driver, ordinal)?;
        driver.contexts().set_primary_flags(index, flags);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxGetState(ordinal: c_int, flags: Out<c_uint>, active: Out<c_int>) -> Code {
    query(|driver| {
        let (now, is_active) = driver.contexts().primary_state(device(driver, ordinal)?);
        flags.set(now)?;
        active.set(c_int::from(is_active))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuProfilerStart() -> Code {
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuProfilerStop() -> Code {
    SUCCESS
}
