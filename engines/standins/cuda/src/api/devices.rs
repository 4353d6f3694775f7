//! Devices and their attributes.

use std::ffi::{c_char, c_int};

use crate::codes::{Code, INVALID_VALUE, NOT_SUPPORTED, Outcome};
use crate::context::device;
use crate::driver::{Driver, query};
use crate::foreign::Out;

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetCount(count: Out<c_int>) -> Code {
    query(|driver| count.set(driver.setting(|settings| settings.devices) as c_int))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGet(handle: Out<c_int>, ordinal: c_int) -> Code {
    query(|driver| {
        device(driver, ordinal)?;
        handle.set(ordinal)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetName(name: Out<c_char>, room: c_int, ordinal: c_int) -> Code {
    query(|driver| {
        let index = device(driver, ordinal)?;
        let text = format!("watchpost stand-in {} {index}", driver.setting(|settings| settings.name.clone()));
        name.text(&text, usize::try_from(room).map_err(|_| INVALID_VALUE)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetUuid(uuid: Out<[u8; 16]>, ordinal: c_int) -> Code {
    query(|driver| {
        let mut bytes = *b"watchpost-stand\0";
        bytes[15] = device(driver, ordinal)? as u8;
        uuid.set(bytes)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetUuid_v2(uuid: Out<[u8; 16]>, ordinal: c_int) -> Code {
    cuDeviceGetUuid(uuid, ordinal)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceTotalMem_v2(bytes: Out<usize>, ordinal: c_int) -> Code {
    query(|driver| {
        device(driver, ordinal)?;
        bytes.set(driver.setting(|settings| settings.total_bytes) as usize)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceComputeCapability(major: Out<c_int>, minor: Out<c_int>, ordinal: c_int) -> Code {
    query(|driver| {
        device(driver, ordinal)?;
        let compute = driver.setting(|settings| settings.compute);
        major.set(compute.0 as c_int)?;
        minor.set(compute.1 as c_int)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetPCIBusId(text: Out<c_char>, room: c_int, ordinal: c_int) -> Code {
    query(|driver| {
        let index = device(driver, ordinal)?;
        text.text(&format!("0000:{:02X}:00.0", index + 1), usize::try_from(room).map_err(|_| INVALID_VALUE)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetAttribute(value: Out<c_int>, attribute: c_int, ordinal: c_int) -> Code {
    query(|driver| {
        let index = device(driver, ordinal)?;
        value.set(self::attribute(driver, attribute, index)?)
    })
}

/// CUdevice_attribute. Those of a small device; what is not in the table is not there.
fn attribute(driver: &Driver, attribute: c_int, index: u32) -> Outcome<c_int> {
    Ok(match attribute {
        1..=3 => 1024,
        4 => 64,
        5 => c_int::MAX,
        6 | 7 => 65535,
        // Shared memory and constant memory, bytes.
        8 => 49152,
        9 => 65536,
        // Warp.
        10 => 32,
        11 => c_int::MAX,
        12 => 65536,
        // Clock, kHz.
        13 | 36 => 1_500_000,
        14 => 512,
        // Multiprocessors.
        16 => 16,
        18 => c_int::from(driver.setting(|settings| settings.integrated)),
        // Maps host memory; runs kernels concurrently; unified addressing; priorities.
        19 | 31 | 41 | 78 => 1,
        // PCI bus.
        33 => index as c_int + 1,
        37 => 128,
        38 => 1 << 20,
        39 => 1024,
        // Copy engines.
        40 => 2,
        75 => driver.setting(|settings| settings.compute.0) as c_int,
        76 => driver.setting(|settings| settings.compute.1) as c_int,
        // Shared memory a block may ask for.
        97 => 65536,
        // Among them managed memory (83) and memory pools (115), which are not there.
        15..=160 => 0,
        _ => return Err(INVALID_VALUE),
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceCanAccessPeer(can: Out<c_int>, ordinal: c_int, peer: c_int) -> Code {
    query(|driver| {
        device(driver, ordinal)?;
        device(driver, peer)?;
        can.set(0)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetDefaultMemPool(_pool: Out<u64>, _ordinal: c_int) -> Code {
    NOT_SUPPORTED
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetMemPool(_pool: Out<u64>, _ordinal: c_int) -> Code {
    NOT_SUPPORTED
}
