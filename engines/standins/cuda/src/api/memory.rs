//! Device memory, page-locked memory, and what is known about an address.

use std::ffi::{c_int, c_uint};

use crate::api::{may_allocate, no_capture};
use crate::codes::{
    Code, HOST_MEMORY_ALREADY_REGISTERED, HOST_MEMORY_NOT_REGISTERED, INVALID_VALUE, NOT_SUPPORTED, Outcome,
};
use crate::context::current;
use crate::driver::{Driver, call, query};
use crate::foreign::Out;
use crate::memory::{Allocation, Kind, Wrong};

/// What `cuMemAllocPitch` aligns rows to.
const PITCH_BYTES: u64 = 512;

fn allocate(driver: &Driver, kind: impl FnOnce(u32) -> Kind, bytes: u64) -> Outcome<u64> {
    let context = current()?;
    if bytes == 0 {
        return Err(INVALID_VALUE);
    }
    no_capture(driver)?;
    let kind = kind(context.device);
    may_allocate(driver, context.device, if matches!(kind, Kind::Device(_)) { bytes } else { 0 })?;
    let start = driver.memory_mut().allocate(kind, bytes, context.handle)?;
    count(driver, kind, 1, bytes as i64);
    driver.counters.allocations.change(1);
    Ok(start)
}

fn count(driver: &Driver, kind: Kind, allocations: i64, bytes: i64) {
    let counters = &driver.counters;
    if matches!(kind, Kind::Device(_)) {
        counters.live_allocations.change(allocations);
        let now = counters.live_bytes.change(bytes) + bytes;
        if now > counters.peak_bytes.get() {
            counters.peak_bytes.set(now);
        }
    } else {
        counters.live_pinned.change(allocations);
        counters.live_pinned_bytes.change(bytes);
    }
}

/// Takes memory off the ledger, also when the device is lost: its owner has done what it can. Waits for the work of the
/// context that owns it, as the driver does.
fn free(
    driver: &Driver,
    address: u64,
    wanted: impl Fn(Kind) -> bool + std::marker::Copy,
) -> Outcome<Allocation> {
    no_capture(driver)?;
    let owner = driver.memory().find(address, 1).map(|found| found.context);
    if let Ok(owner) = owner
        && let Ok(context) = driver.contexts().get(owner)
    {
        context.finish(driver);
    }
    let freed = driver.memory_mut().free(address, wanted);
    match freed {
        Ok((allocation, overrun)) => {
            count(driver, allocation.kind, -1, -(allocation.bytes as i64));
            if overrun {
                let what = format!("written behind the end of {} bytes at {address:#x}", allocation.bytes);
                driver.violation(driver.counters.out_of_bounds, &what);
            }
            Ok(allocation)
        }
        Err(Wrong::Freed) => {
            driver.violation(driver.counters.double_free, &format!("freed twice: {address:#x}"));
            Err(INVALID_VALUE)
        }
        Err(wrong) => {
            driver.wrong_access(wrong, "a free", address, 1);
            Err(INVALID_VALUE)
        }
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAlloc_v2(address: Out<u64>, bytes: usize) -> Code {
    call(|driver| {
        address.required()?;
        address.set(allocate(driver, Kind::Device, bytes as u64)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAllocPitch_v2(
    address: Out<u64>,
    pitch: Out<usize>,
    row_bytes: usize,
    rows: usize,
    element: c_uint,
) -> Code {
    call(|driver| {
        address.required()?;
        pitch.required()?;
        if !matches!(element, 4 | 8 | 16) {
            return Err(INVALID_VALUE);
        }
        let row = (row_bytes as u64).next_multiple_of(PITCH_BYTES);
        let bytes = row.checked_mul(rows as u64).ok_or(INVALID_VALUE)?;
        address.set(allocate(driver, Kind::Device, bytes)?)?;
        pitch.set(row as usize)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFree_v2(address: u64) -> Code {
    query(|driver| {
        current()?;
        free(driver, address, |kind| matches!(kind, Kind::Device(_)))?;
        driver.lost()
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAllocHost_v2(address: Out<u64>, bytes: usize) -> Code {
    cuMemHostAlloc(address, bytes, 0)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostAlloc(address: Out<u64>, bytes: usize, flags: c_uint) -> Code {
    call(|driver| {
        address.required()?;
        if flags & !7 != 0 {
            return Err(INVALID_VALUE);
        }
        address.set(allocate(driver, |_| Kind::Pinned, bytes as u64)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFreeHost(address: u64) -> Code {
    query(|driver| {
        current()?;
        free(driver, address, |kind| kind == Kind::Pinned)?;
        driver.lost()
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostRegister_v2(address: u64, bytes: usize, _flags: c_uint) -> Code {
    call(|driver| {
        let context = current()?;
        if address == 0 || bytes == 0 {
            return Err(INVALID_VALUE);
        }
        if !driver.memory_mut().register(address, bytes as u64, context.handle) {
            return Err(HOST_MEMORY_ALREADY_REGISTERED);
        }
        count(driver, Kind::Registered, 1, bytes as i64);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostUnregister(address: u64) -> Code {
    query(|driver| {
        current()?;
        free(driver, address, |kind| kind == Kind::Registered).map_err(|_| HOST_MEMORY_NOT_REGISTERED)?;
        driver.lost()
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostGetDevicePointer_v2(device: Out<u64>, host: u64, _flags: c_uint) -> Code {
    call(|driver| {
        driver.memory().find(host, 1).map_err(|_| INVALID_VALUE)?;
        device.set(host)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) -> Code {
    call(|driver| {
        let context = current()?;
        let all = driver.setting(|settings| settings.total_bytes);
        free.set(all.saturating_sub(driver.memory().device_bytes(context.device)) as usize)?;
        total.set(all as usize)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemGetAddressRange_v2(start: Out<u64>, bytes: Out<usize>, address: u64) -> Code {
    call(|driver| {
        let found = *driver.memory().find(address, 1).map_err(|_| INVALID_VALUE)?;
        start.offer(found.start);
        bytes.offer(found.bytes as usize);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuPointerGetAttribute(value: Out<u64>, attribute: c_int, address: u64) -> Code {
    call(|driver| {
        let found = *driver.memory().find(address, 1).map_err(|_| INVALID_VALUE)?;
        let device = matches!(found.kind, Kind::Device(_));
        let word = Out(value.0.cast::<u32>());
        match attribute {
            // Context; device pointer; start and size of the range.
            1 => value.set(found.context),
            3 => value.set(address),
            11 => value.set(found.start),
            12 => value.set(found.bytes),
            // CU_MEMORYTYPE_DEVICE or _HOST.
            2 => word.set(if device { 2 } else { 1 }),
            4 if !device => value.set(address),
            // Managed.
            8 => Out(value.0.cast::<u8>()).set(0),
            9 => word.set(match found.kind {
                Kind::Device(index) => index,
                Kind::Pinned | Kind::Registered => 0,
            }),
            _ => Err(INVALID_VALUE),
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAllocAsync(_address: Out<u64>, _bytes: usize, _stream: u64) -> Code {
    NOT_SUPPORTED
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFreeAsync(_address: u64, _stream: u64) -> Code {
    NOT_SUPPORTED
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAllocManaged(_address: Out<u64>, _bytes: usize, _flags: c_uint) -> Code {
    NOT_SUPPORTED
}
