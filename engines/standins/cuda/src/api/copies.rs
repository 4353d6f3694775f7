//! Copies and fills.

use std::ffi::{c_int, c_uint};

use crate::api::{do_now, give};
use crate::codes::{Code, INVALID_VALUE, NOT_SUPPORTED, Outcome};
use crate::context::current;
use crate::driver::{Driver, call};
use crate::foreign::In;
use crate::stream;
use crate::work::{Copy, Fill, Place, Side, Work};

/// `CUDA_MEMCPY2D`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Memcpy2d {
    source_x_bytes: usize,
    source_y: usize,
    source_type: c_uint,
    source_host: u64,
    source_device: u64,
    source_array: u64,
    source_pitch: usize,
    destination_x_bytes: usize,
    destination_y: usize,
    destination_type: c_uint,
    destination_host: u64,
    destination_device: u64,
    destination_array: u64,
    destination_pitch: usize,
    row_bytes: usize,
    rows: usize,
}

/// One end of a [`Memcpy2d`]. Arrays are not there.
fn side(
    driver: &Driver,
    kind: c_uint,
    host: u64,
    device: u64,
    pitch: usize,
    at: (usize, usize),
    row_bytes: usize,
) -> Outcome<Side> {
    // Without a pitch there is nothing between the rows.
    let pitch_bytes = if pitch == 0 { row_bytes } else { pitch } as u64;
    let offset = at.1 as u64 * pitch_bytes + at.0 as u64;
    match kind {
        1 => Ok(Side::anywhere(driver, host + offset, pitch_bytes)),
        2 => Ok(Side::device(device + offset, pitch_bytes)),
        4 => Ok(Side::anywhere(driver, device + offset, pitch_bytes)),
        3 => Err(NOT_SUPPORTED),
        _ => Err(INVALID_VALUE),
    }
}

impl Memcpy2d {
    fn copy(self, driver: &Driver) -> Outcome<Copy> {
        let from = side(
            driver,
            self.source_type,
            self.source_host,
            self.source_device,
            self.source_pitch,
            (self.source_x_bytes, self.source_y),
            self.row_bytes,
        )?;
        let to = side(
            driver,
            self.destination_type,
            self.destination_host,
            self.destination_device,
            self.destination_pitch,
            (self.destination_x_bytes, self.destination_y),
            self.row_bytes,
        )?;
        Ok(Copy { from, to, row_bytes: self.row_bytes as u64, rows: self.rows as u64 })
    }
}

fn line(from: Side, to: Side, bytes: usize) -> Copy {
    Copy { from, to, row_bytes: bytes as u64, rows: 1 }
}

fn copy_now(driver: &Driver, copy: Copy) -> Outcome {
    let context = current()?;
    copy.check(driver)?;
    if copy.row_bytes == 0 || copy.rows == 0 {
        return Ok(());
    }
    do_now(driver, &context, Work::Copy(copy))
}

/// In its turn on a stream. Host memory that is not page-locked makes it what it is on a GPU: the source is read before
/// the call returns, a destination is written before the call returns.
fn copy_later(driver: &Driver, mut copy: Copy, stream: u64) -> Outcome {
    let stream = stream::find(driver, stream)?;
    copy.check(driver)?;
    if copy.row_bytes == 0 || copy.rows == 0 {
        return Ok(());
    }
    let captured = stream.capture().is_some();
    let (reads_pageable, writes_pageable) =
        (matches!(copy.from.place, Place::Pageable), matches!(copy.to.place, Place::Pageable));
    if reads_pageable || writes_pageable {
        driver.counters.pageable_copies.change(1);
    }
    if reads_pageable && !captured {
        copy.snapshot();
    }
    let mark = give(driver, &stream, Work::Copy(copy))?;
    if let Some(mark) = mark
        && writes_pageable
    {
        mark.wait();
        driver.lost()?;
    }
    Ok(())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpy(to: u64, from: u64, bytes: usize) -> Code {
    call(|driver| {
        copy_now(driver, line(Side::anywhere(driver, from, 0), Side::anywhere(driver, to, 0), bytes))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyAsync(to: u64, from: u64, bytes: usize, stream: u64) -> Code {
    call(|driver| {
        let copy = line(Side::anywhere(driver, from, 0), Side::anywhere(driver, to, 0), bytes);
        copy_later(driver, copy, stream)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyHtoD_v2(to: u64, from: u64, bytes: usize) -> Code {
    call(|driver| copy_now(driver, line(Side::anywhere(driver, from, 0), Side::device(to, 0), bytes)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoH_v2(to: u64, from: u64, bytes: usize) -> Code {
    call(|driver| copy_now(driver, line(Side::device(from, 0), Side::anywhere(driver, to, 0), bytes)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoD_v2(to: u64, from: u64, bytes: usize) -> Code {
    call(|driver| copy_now(driver, line(Side::device(from, 0), Side::device(to, 0), bytes)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyHtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: u64) -> Code {
    call(|driver| {
        copy_later(driver, line(Side::anywhere(driver, from, 0), Side::device(to, 0), bytes), stream)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoHAsync_v2(to: u64, from: u64, bytes: usize, stream: u64) -> Code {
    call(|driver| {
        copy_later(driver, line(Side::device(from, 0), Side::anywhere(driver, to, 0), bytes), stream)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: u64) -> Code {
    call(|driver| copy_later(driver, line(Side::device(from, 0), Side::device(to, 0), bytes), stream))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyPeerAsync(
    to: u64,
    _to_context: u64,
    from: u64,
    _from_context: u64,
    bytes: usize,
    stream: u64,
) -> Code {
    cuMemcpyDtoDAsync_v2(to, from, bytes, stream)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpy2D_v2(what: In<Memcpy2d>) -> Code {
    call(|driver| copy_now(driver, what.get()?.copy(driver)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpy2DUnaligned_v2(what: In<Memcpy2d>) -> Code {
    cuMemcpy2D_v2(what)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpy2DAsync_v2(what: In<Memcpy2d>, stream: u64) -> Code {
    call(|driver| copy_later(driver, what.get()?.copy(driver)?, stream))
}

fn fill_now(driver: &Driver, fill: Fill) -> Outcome {
    let context = current()?;
    fill.check(driver)?;
    do_now(driver, &context, Work::Fill(fill))
}

fn fill_later(driver: &Driver, fill: Fill, stream: u64) -> Outcome {
    let stream = stream::find(driver, stream)?;
    fill.check(driver)?;
    give(driver, &stream, Work::Fill(fill)).map(drop)
}

fn row(address: u64, element_bytes: u64, value: u32, count: usize) -> Outcome<Fill> {
    if !address.is_multiple_of(element_bytes) {
        return Err(INVALID_VALUE);
    }
    Ok(Fill { address, pitch_bytes: 0, element_bytes, value, row_elements: count as u64, rows: 1 })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD8_v2(address: u64, value: u8, count: usize) -> Code {
    call(|driver| fill_now(driver, row(address, 1, value.into(), count)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD16_v2(address: u64, value: u16, count: usize) -> Code {
    call(|driver| fill_now(driver, row(address, 2, value.into(), count)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD32_v2(address: u64, value: c_uint, count: usize) -> Code {
    call(|driver| fill_now(driver, row(address, 4, value, count)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD8Async(address: u64, value: u8, count: usize, stream: u64) -> Code {
    call(|driver| fill_later(driver, row(address, 1, value.into(), count)?, stream))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD16Async(address: u64, value: u16, count: usize, stream: u64) -> Code {
    call(|driver| fill_later(driver, row(address, 2, value.into(), count)?, stream))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD32Async(address: u64, value: c_uint, count: usize, stream: u64) -> Code {
    call(|driver| fill_later(driver, row(address, 4, value, count)?, stream))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD2D8_v2(address: u64, pitch: usize, value: u8, width: usize, rows: usize) -> Code {
    call(|driver| {
        let fill =
            Fill { pitch_bytes: pitch as u64, rows: rows as u64, ..row(address, 1, value.into(), width)? };
        fill_now(driver, fill)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD2D8Async(
    address: u64,
    pitch: usize,
    value: u8,
    width: usize,
    rows: usize,
    stream: u64,
) -> Code {
    call(|driver| {
        let fill =
            Fill { pitch_bytes: pitch as u64, rows: rows as u64, ..row(address, 1, value.into(), width)? };
        fill_later(driver, fill, stream)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAdvise_v2(_address: u64, _bytes: usize, _advice: c_int, _location: u64) -> Code {
    NOT_SUPPORTED
}
