//! The decoder's surfaces have owners too, and are filled in their turn.

mod device;

use std::ffi::{c_int, c_uint, c_void};

use cudarc::driver::sys;
use device::{Device, Gate, download, free_stream, ok, poison};
use libloading::Library;
use watchpost_standins::{names, picture};

/// The words of CUVIDDECODECREATEINFO, 8 bytes each: sizes, surfaces, and what is decoded.
type CreateInfo = [u64; 22];

/// H.264, 4:2:0, 8 bits, 64x48, four surfaces; `outputs` can be mapped at a time.
fn info(outputs: u64) -> CreateInfo {
    let mut info = [0; 22];
    info[..3].copy_from_slice(&[64, 48, 4]);
    // Codec (low half) and chroma (high half).
    info[3] = 4 | 1 << 32;
    // Target size, output surfaces.
    info[12..15].copy_from_slice(&[64, 48, outputs]);
    info
}

struct Decode {
    create: unsafe extern "C" fn(*mut u64, *const CreateInfo) -> c_int,
    destroy: unsafe extern "C" fn(u64) -> c_int,
    decode: unsafe extern "C" fn(u64, *const c_void) -> c_int,
    map: unsafe extern "C" fn(u64, c_int, *mut u64, *mut c_uint, *const c_void) -> c_int,
    unmap: unsafe extern "C" fn(u64, u64) -> c_int,
}

impl Decode {
    fn new() -> Decode {
        // SAFETY: the stand-in's functions of these names have these types; it is never unloaded.
        unsafe {
            let library = Library::new("libnvcuvid.so.1").unwrap();
            Decode {
                create: *library.get("cuvidCreateDecoder").unwrap(),
                destroy: *library.get("cuvidDestroyDecoder").unwrap(),
                decode: *library.get("cuvidDecodePicture").unwrap(),
                map: *library.get("cuvidMapVideoFrame64").unwrap(),
                unmap: *library.get("cuvidUnmapVideoFrame64").unwrap(),
            }
        }
    }

    fn decoder(&self, outputs: u64) -> Result<u64, c_int> {
        let mut handle = 0;
        // SAFETY: a place and a structure.
        match unsafe { (self.create)(&raw mut handle, &info(outputs)) } {
            0 => Ok(handle),
            code => Err(code),
        }
    }

    fn decode(&self, decoder: u64, surface: i32) -> c_int {
        let mut parameters = [0i32; 1070];
        parameters[2] = surface;
        // SAFETY: a structure.
        unsafe { (self.decode)(decoder, parameters.as_ptr().cast()) }
    }

    fn map(&self, decoder: u64, surface: i32, stream: sys::CUstream) -> Result<u64, c_int> {
        let (mut address, mut pitch) = (0, 0);
        let mut parameters = [0u64; 33];
        parameters[7] = stream as u64;
        // SAFETY: places and a structure.
        match unsafe {
            (self.map)(decoder, surface, &raw mut address, &raw mut pitch, parameters.as_ptr().cast())
        } {
            0 => Ok(address),
            code => Err(code),
        }
    }
}

#[test]
fn a_mapped_picture_is_there_when_its_stream_has_come_so_far() {
    let gpu = Device::new("");
    let cuvid = Decode::new();
    let decoder = cuvid.decoder(1).unwrap();
    let stream = free_stream();
    let gate = Gate::in_the_way_of(stream);
    assert_eq!(cuvid.decode(decoder, 3), 0);
    assert_eq!(cuvid.decode(decoder, 2), 0);
    let address = cuvid.map(decoder, 2, stream).unwrap();
    // `download` uses the default stream, which has no order with this one.
    assert_eq!(download(address, 64), poison(64));
    gate.open();
    // SAFETY: a live handle.
    ok(unsafe { sys::cuStreamSynchronize(stream) });
    let row: Vec<u8> = (0..64).map(|x| picture::luma(1, x, 7)).collect();
    assert_eq!(download(address + 7 * 512, 64), row);
    let chroma: Vec<u8> = (0..32).flat_map(|x| <[u8; 2]>::from(picture::chroma(1, x, 5))).collect();
    assert_eq!(download(address + (48 + 5) * 512, 64), chroma);
    // SAFETY: live handles.
    unsafe {
        assert_eq!((cuvid.unmap)(decoder, address), 0);
        assert_eq!((cuvid.destroy)(decoder), 0);
        ok(sys::cuStreamDestroy_v2(stream));
    }
    assert_eq!((gpu.get(names::DECODED), gpu.get(names::MAPPED)), (2, 1));
    gpu.finish();
}

#[test]
fn pictures_and_decoders_are_given_back_once() {
    let gpu = Device::new("");
    let cuvid = Decode::new();
    let decoder = cuvid.decoder(1).unwrap();
    let stream = free_stream();
    assert_eq!(cuvid.decode(decoder, 0), 0);
    assert_ne!(cuvid.decode(decoder, 4), 0, "there are four surfaces");
    let address = cuvid.map(decoder, 0, stream).unwrap();
    assert_eq!(gpu.get(names::LIVE_MAPPED), 1);
    assert_eq!(cuvid.map(decoder, 1, stream), Err(205), "one picture at a time was asked for");
    assert_eq!(cuvid.decode(decoder, 0), 0);
    assert_eq!(gpu.get(names::VIOLATIONS), 1, "a mapped surface was decoded onto");
    // SAFETY: what is wrong is refused.
    unsafe {
        assert_eq!((cuvid.unmap)(decoder, address), 0);
        assert_ne!((cuvid.unmap)(decoder, address), 0);
        assert_eq!(gpu.get(names::VIOLATIONS), 2);
        let _still_mapped = cuvid.map(decoder, 0, stream).unwrap();
        assert_eq!((cuvid.destroy)(decoder), 0);
        assert_eq!(gpu.get(names::VIOLATIONS), 3);
        assert_ne!((cuvid.destroy)(decoder), 0);
        assert_eq!(gpu.get(names::VIOLATIONS), 4);
        ok(sys::cuStreamDestroy_v2(stream));
    }
    assert_eq!(gpu.cuda.held(), ["cuda.live_contexts=1"], "{}", gpu.cuda.report());
    gpu.abandon();
}

#[test]
fn decoders_are_refused_for_want_of_memory_and_keep_nothing() {
    let gpu = Device::new("oom_at=2");
    let cuvid = Decode::new();
    assert_eq!(cuvid.decoder(2), Err(2));
    assert_eq!(gpu.cuda.held(), ["cuda.live_contexts=1"]);
    gpu.cuda.set(names::ORDER_NO_DECODER, 1);
    assert_eq!(cuvid.decoder(1), Err(2));
    let decoder = cuvid.decoder(1).unwrap();
    // SAFETY: a live handle.
    assert_eq!(unsafe { (cuvid.destroy)(decoder) }, 0);
    gpu.finish();
}
