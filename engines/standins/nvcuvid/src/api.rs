//! The exported functions, and everything that has a handle.

use std::collections::HashMap;
use std::ffi::{c_int, c_uint, c_void};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use watchpost_standin_contract::names;

use crate::abi::{
    Caps, Code, CreateInfo, DecodeStatus, INVALID_HANDLE, INVALID_VALUE, NOT_SUPPORTED, Packet,
    ParserParameters, PictureParameters, ProcessParameters, SUCCESS, SURFACE_NV12, SURFACE_P016,
};
use crate::cuda::{count, cuda, done, violation};
use crate::decoder::{Decoder, can_decode, limits};
use crate::parser::Parser;

/// Everything of one sort.
struct Table<T> {
    what: &'static str,
    all: Mutex<HashMap<u64, Arc<T>>>,
}

static DECODERS: LazyLock<Table<Decoder>> = LazyLock::new(|| Table::new("decoder"));
static PARSERS: LazyLock<Table<Mutex<Parser>>> = LazyLock::new(|| Table::new("parser"));
static LOCKS: LazyLock<Table<u64>> = LazyLock::new(|| Table::new("lock"));

impl<T> Table<T> {
    fn new(what: &'static str) -> Table<T> {
        Table { what, all: Mutex::default() }
    }

    /// Handles are never given out twice. They look like addresses, but are none.
    fn insert(&self, one: T) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let handle = 0x5743_0000_0000 + 64 * NEXT.fetch_add(1, Ordering::SeqCst);
        self.all.lock().unwrap_or_else(PoisonError::into_inner).insert(handle, Arc::new(one));
        handle
    }

    fn get(&self, handle: u64) -> Result<Arc<T>, Code> {
        let found = self.all.lock().unwrap_or_else(PoisonError::into_inner).get(&handle).cloned();
        found.ok_or_else(|| {
            violation(&format!("no {} has the handle {handle:#x}", self.what));
            INVALID_HANDLE
        })
    }

    fn remove(&self, handle: u64) -> Result<Arc<T>, Code> {
        let found = self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&handle);
        found.ok_or_else(|| {
            violation(&format!("destroyed twice: {} {handle:#x}", self.what));
            INVALID_HANDLE
        })
    }
}

fn code(run: impl FnOnce() -> Result<(), Code>) -> Code {
    run().err().unwrap_or(SUCCESS)
}

/// What a pointer of the client's points to.
fn read<T: Copy>(pointer: *const T) -> Result<T, Code> {
    if pointer.is_null() {
        return Err(INVALID_VALUE);
    }
    // SAFETY: a client passes NULL or the address of one T.
    Ok(unsafe { pointer.read_unaligned() })
}

fn write<T>(pointer: *mut T, value: T) -> Result<(), Code> {
    if pointer.is_null() {
        return Err(INVALID_VALUE);
    }
    // SAFETY: a client passes NULL or a place for one T.
    unsafe { pointer.write_unaligned(value) };
    Ok(())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuvidGetDecoderCaps(caps: *mut Caps) -> Code {
    code(|| {
        cuda()?;
        // SAFETY: a client passes NULL or the address of its structure.
        let caps = unsafe { caps.as_mut() }.ok_or(INVALID_VALUE)?;
        let is_supported = can_decode(caps.codec, caps.chroma, caps.bit_depth_minus8);
        let (max_width, max_height) = if is_supported { limits() } else { (0, 0) };
        caps.is_supported = is_supported.into();
        caps.decoders = is_supported.into();
        caps.output_formats = if is_supported {
            1 << SURFACE_NV12 | u16::from(caps.bit_depth_minus8 > 0) << SURFACE_P016
        } else {
            0
        };
        caps.max_width = max_width;
        caps.max_height = max_height;
        caps.max_macroblocks = max_width * max_height / 256;
        (caps.min_width, caps.min_height) = if is_supported { (48, 16) } else { (0, 0) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuvidCreateDecoder(handle: *mut u64, info: *const CreateInfo) -> Code {
    code(|| {
        let decoder = Decoder::new(&read(info)?)?;
        write(handle, DECODERS.insert(decoder))?;
        count(names::LIVE_DECODERS, 1);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuvidDestroyDecoder(handle: u64) -> Code {
    code(|| {
        let mapped = DECODERS.remove(handle)?.destroy();
        count(names::LIVE_MAPPED, -(mapped as i64));
        count(names::LIVE_DECODERS, -1);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuvidDecodePicture(handle: u64, parameters: *const PictureParameters) -> Code {
    code(|| {
        // SAFETY: a client passes NULL or the address of its structure.
        let parameters = unsafe { parameters.as_ref() }.ok_or(INVALID_VALUE)?;
        DECODERS.get(handle)?.decode(parameters.surface)?;
        count(names::DECODED, 1);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuvidGetDecodeStatus(handle: u64, _surface: c_int, status: *mut DecodeStatus) -> Code {
    code(|| {
        DECODERS.get(handle)?;
        // SAFETY: a client passes NULL or the address of its structure.
        let status = unsafe { status.as_mut() }.ok_or(INVALID_VALUE)?;
        // cuvidDecodeStatus_Success.
        status.status = 2;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuvidReconfigureDecoder(_handle: u64, _info: *mut c_void) -> Code {
    NOT_SUPPORTED
}

#[unsafe(no_mangle)]
pub extern "C" fn cuvidMapVideoFrame64(
    handle: u64,
    surface: c_int,
    address: *mut u64,
    pitch: *mut c_uint,
    parameters: *const ProcessParameters,
) -> Code {
    code(|| {
        if address.is_null() || pitch.is_null() {
            return Err(INVALID_VALUE);
        }
        let mapped = DECODERS.get(handle)?.map(surface, read(parameters)?.output_stream)?;
        write(address, mapped.0)?;
        write(pitch, mapped.1 as c_uint)?;
        count(names::LIVE_MAPPED, 1);
        count(names::MAPPED, 1);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuvidMapVideoFrame(
    handle: u64,
    surface: c_int,
    address: *mut u64,
    pitch: *mut c_uint,
    parameters: *const ProcessParameters,
) -> Code {
    cuvidMapVideoFrame64(handle, surface, address, pitch, parameters)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuvidUnmapVideoFrame64(handle: u64, address: u64) -> Code {
    code(|| {
        DECODERS.get(handle)?.unmap(address)?;
        count(names::LIVE_MAPPED, -1);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuvidUnmapVideoFrame(handle: u64, address: u64) -> Code {
    cuvidUnmapVideoFrame64(handle, address)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuvidCreateVideoParser(handle: *mut u64, parameters: *const ParserParameters) -> Code {
    code(|| {
        cuda()?;
        let parser = Parser::new(read(parameters)?)?;
        write(handle, PARSERS.insert(Mutex::new(parser)))?;
        count(names::LIVE_PARSERS, 1);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuvidParseVideoData(handle: u64, packet: *const Packet) -> Code {
    code(|| {
        let parser = PARSERS.get(handle)?;
        let mut parser = parser.lock().unwrap_or_else(PoisonError::into_inner);
        parser.parse(read(packet)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuvidDestroyVideoParser(handle: u64) -> Code {
    code(|| {
        PARSERS.remove(handle)?;
        count(names::LIVE_PARSERS, -1);
        Ok(())
    })
}

/// A lock is a context here; nobody who uses it needs to be kept from another.
#[unsafe(no_mangle)]
pub extern "C" fn cuvidCtxLockCreate(handle: *mut u64, context: u64) -> Code {
    code(|| {
        write(handle, LOCKS.insert(context))?;
        count(names::LIVE_LOCKS, 1);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuvidCtxLockDestroy(handle: u64) -> Code {
    code(|| {
        LOCKS.remove(handle)?;
        count(names::LIVE_LOCKS, -1);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuvidCtxLock(handle: u64, _flags: c_uint) -> Code {
    code(|| {
        let context = *LOCKS.get(handle)?;
        // SAFETY: a number.
        done(unsafe { (cuda()?.cuCtxPushCurrent_v2)(context) })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuvidCtxUnlock(handle: u64, _flags: c_uint) -> Code {
    code(|| {
        LOCKS.get(handle)?;
        // SAFETY: nothing is asked for.
        done(unsafe { (cuda()?.cuCtxPopCurrent_v2)(std::ptr::null_mut()) })
    })
}
