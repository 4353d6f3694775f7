//! The decoder: which picture is on which surface, and the output surfaces that clients map.

use std::ffi::c_void;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use watchpost_standin_contract::picture;

use crate::abi::{
    CHROMA_420, Code, CreateInfo, H264, HEVC, INVALID_VALUE, JPEG, MAP_FAILED, NOT_SUPPORTED, OUT_OF_MEMORY,
    SUCCESS, SURFACE_NV12, SURFACE_P016, UNKNOWN,
};
use crate::cuda::{cuda, done, setting, take, violation};
use watchpost_standin_contract::names::{ORDER_DECODE_FAILS, ORDER_NO_DECODER};

/// CU_STREAM_NON_BLOCKING, CU_EVENT_DISABLE_TIMING.
const NON_BLOCKING: u32 = 1;
const NO_TIMING: u32 = 2;
/// Nothing was decoded onto this surface.
const EMPTY: i64 = -1;

/// How far [`can_decode`] goes.
pub fn limits() -> (u32, u32) {
    (setting(c"nvcuvid.max_width", 4096) as u32, setting(c"nvcuvid.max_height", 4096) as u32)
}

/// Is this sort of stream decoded?
pub fn can_decode(codec: u32, chroma: u32, bit_depth_minus8: u32) -> bool {
    let depths: &[u32] = match codec {
        H264 | JPEG => &[0],
        HEVC => &[0, 2],
        _ => return false,
    };
    chroma == CHROMA_420 && depths.contains(&bit_depth_minus8)
}

/// An output surface.
#[derive(Debug)]
struct Output {
    address: u64,
    pitch: usize,
    is_mapped: bool,
}

/// A decoder.
#[derive(Debug)]
pub struct Decoder {
    width: u32,
    height: u32,
    is_deep: bool,
    context: u64,
    stream: u64,
    event: u64,
    surfaces: Arc<Vec<AtomicI64>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    outputs: Vec<Output>,
    decoded: u32,
    /// The surface that each output shows.
    shown: Vec<Option<usize>>,
}

/// In its turn on the decoder's stream: the surface holds that picture.
struct Decode {
    surfaces: Arc<Vec<AtomicI64>>,
    surface: usize,
    number: i64,
}

/// In its turn on the client's stream: the output gets the surface's picture.
struct Show {
    surfaces: Arc<Vec<AtomicI64>>,
    surface: usize,
    address: u64,
    pitch: usize,
    width: u32,
    height: u32,
    is_deep: bool,
}

impl Decoder {
    /// Output surfaces, a stream and an event in the current context.
    pub fn new(info: &CreateInfo) -> Result<Decoder, Code> {
        let cuda = cuda()?;
        let (max_width, max_height) = limits();
        let (width, height) = (info.target_width as u32, info.target_height as u32);
        let wanted = if info.bit_depth_minus8 == 0 { SURFACE_NV12 } else { SURFACE_P016 };
        if !can_decode(info.codec, info.chroma, info.bit_depth_minus8 as u32) || info.output_format != wanted
        {
            return Err(NOT_SUPPORTED);
        }
        let sizes = [info.width, info.height, info.target_width, info.target_height];
        if sizes.contains(&0) || info.width > max_width.into() || info.height > max_height.into() {
            return Err(INVALID_VALUE);
        }
        if !(1..=32).contains(&info.decode_surfaces) || !(1..=64).contains(&info.output_surfaces) {
            return Err(INVALID_VALUE);
        }
        if take(ORDER_NO_DECODER) {
            return Err(OUT_OF_MEMORY);
        }
        let state = State { outputs: Vec::new(), decoded: 0, shown: Vec::new() };
        let surfaces = (0..info.decode_surfaces).map(|_| AtomicI64::new(EMPTY)).collect();
        let is_deep = info.bit_depth_minus8 != 0;
        let mut decoder = Decoder {
            width,
            height,
            is_deep,
            context: 0,
            stream: 0,
            event: 0,
            surfaces: Arc::new(surfaces),
            state: Mutex::new(state),
        };
        let made = decoder.make(cuda, info.output_surfaces as usize);
        if let Err(code) = made {
            decoder.give_back();
            return Err(code);
        }
        Ok(decoder)
    }

    fn make(&mut self, cuda: &crate::cuda::Cuda, outputs: usize) -> Result<(), Code> {
        let row_bytes = self.width as usize * if self.is_deep { 2 } else { 1 };
        let rows = self.chroma_row() + self.height.div_ceil(2);
        // SAFETY: places for the results.
        unsafe {
            done((cuda.cuCtxGetCurrent)(&raw mut self.context))?;
            done((cuda.cuStreamCreate)(&raw mut self.stream, NON_BLOCKING))?;
            done((cuda.cuEventCreate)(&raw mut self.event, NO_TIMING))?;
        }
        let mut state = self.lock();
        for _ in 0..outputs {
            let (mut address, mut pitch) = (0, 0);
            // SAFETY: places for the results.
            let code = unsafe {
                (cuda.cuMemAllocPitch_v2)(&raw mut address, &raw mut pitch, row_bytes, rows as usize, 16)
            };
            done(code)?;
            state.outputs.push(Output { address, pitch, is_mapped: false });
            state.shown.push(None);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The row at which the chroma plane begins: an even one.
    fn chroma_row(&self) -> u32 {
        self.height.next_multiple_of(2)
    }

    /// Decodes onto a surface: later, on the decoder's own stream.
    pub fn decode(&self, surface: i32) -> Result<(), Code> {
        let cuda = cuda()?;
        let surface = self.surface(surface)?;
        if take(ORDER_DECODE_FAILS) {
            return Err(UNKNOWN);
        }
        let mut state = self.lock();
        if state.shown.contains(&Some(surface)) {
            violation(&format!("decoded onto surface {surface}, which is mapped"));
        }
        let job = Box::new(Decode { surfaces: self.surfaces.clone(), surface, number: state.decoded.into() });
        state.decoded += 1;
        later(cuda, self.stream, decode_now, job)
    }

    fn surface(&self, surface: i32) -> Result<usize, Code> {
        usize::try_from(surface).ok().filter(|surface| *surface < self.surfaces.len()).ok_or(INVALID_VALUE)
    }

    /// An output surface that holds a picture from the moment at which `stream` has come so far.
    pub fn map(&self, surface: i32, stream: u64) -> Result<(u64, usize), Code> {
        let cuda = cuda()?;
        let surface = self.surface(surface)?;
        let mut state = self.lock();
        let Some(index) = state.outputs.iter().position(|output| !output.is_mapped) else {
            return Err(MAP_FAILED);
        };
        let (address, pitch) = (state.outputs[index].address, state.outputs[index].pitch);
        // SAFETY: live handles.
        unsafe {
            done((cuda.cuEventRecord)(self.event, self.stream))?;
            done((cuda.cuStreamWaitEvent)(stream, self.event, 0))?;
        }
        let surfaces = self.surfaces.clone();
        let (width, height, is_deep) = (self.width, self.height, self.is_deep);
        later(
            cuda,
            stream,
            show_now,
            Box::new(Show { surfaces, surface, address, pitch, width, height, is_deep }),
        )?;
        state.outputs[index].is_mapped = true;
        state.shown[index] = Some(surface);
        Ok((address, pitch))
    }

    /// Takes an output surface back.
    pub fn unmap(&self, address: u64) -> Result<(), Code> {
        let mut state = self.lock();
        let Some(index) =
            state.outputs.iter().position(|output| output.address == address && output.is_mapped)
        else {
            violation(&format!("unmapped what is not mapped: {address:#x}"));
            return Err(INVALID_VALUE);
        };
        state.outputs[index].is_mapped = false;
        state.shown[index] = None;
        Ok(())
    }

    /// Gives everything back; returns how many pictures were still mapped.
    pub fn destroy(&self) -> usize {
        let mapped = self.lock().outputs.iter().filter(|output| output.is_mapped).count();
        if mapped > 0 {
            violation(&format!("a decoder was destroyed with {mapped} mapped pictures"));
        }
        self.give_back();
        mapped
    }

    fn give_back(&self) {
        let Ok(cuda) = cuda() else { return };
        let mut other = 0;
        // SAFETY: what was made is given back once; on a lost device too.
        unsafe {
            (cuda.cuCtxPushCurrent_v2)(self.context);
            for output in self.lock().outputs.drain(..) {
                (cuda.cuMemFree_v2)(output.address);
            }
            if self.event != 0 {
                (cuda.cuEventDestroy_v2)(self.event);
            }
            if self.stream != 0 {
                (cuda.cuStreamDestroy_v2)(self.stream);
            }
            (cuda.cuCtxPopCurrent_v2)(&raw mut other);
        }
    }
}

/// Lets a stream call `run` with `job` in its turn; it does so exactly once.
fn later<T>(
    cuda: &crate::cuda::Cuda,
    stream: u64,
    run: crate::cuda::Callback,
    job: Box<T>,
) -> Result<(), Code> {
    let data = Box::into_raw(job);
    // SAFETY: `run` takes the box back.
    let code = unsafe { (cuda.cuStreamAddCallback)(stream, run, data.cast(), 0) };
    if code != SUCCESS {
        // SAFETY: refused, so nobody else has it.
        drop(unsafe { Box::from_raw(data) });
    }
    done(code)
}

unsafe extern "C" fn decode_now(_stream: u64, status: Code, data: *mut c_void) {
    // SAFETY: from `later`.
    let job = unsafe { Box::from_raw(data.cast::<Decode>()) };
    if status == SUCCESS {
        job.surfaces[job.surface].store(job.number, Ordering::SeqCst);
    }
}

unsafe extern "C" fn show_now(_stream: u64, status: Code, data: *mut c_void) {
    // SAFETY: from `later`.
    let job = unsafe { Box::from_raw(data.cast::<Show>()) };
    let Ok(number) = u32::try_from(job.surfaces[job.surface].load(Ordering::SeqCst)) else { return };
    if status == SUCCESS {
        job.run(number);
    }
}

impl Show {
    fn run(&self, number: u32) {
        let chroma_row = self.height.next_multiple_of(2);
        let bytes = self.pitch * (chroma_row + self.height.div_ceil(2)) as usize;
        // SAFETY: numbers.
        let is_live =
            cuda().is_ok_and(|cuda| unsafe { (cuda.standin_cuda_is_live)(self.address, bytes) != 0 });
        if !is_live {
            violation("a picture was mapped of a decoder that is gone");
            return;
        }
        // SAFETY: live memory of that size; who uses it meanwhile on another stream is what this is about.
        let output = unsafe { std::slice::from_raw_parts_mut(self.address as *mut u8, bytes) };
        let sample = if self.is_deep { 2 } else { 1 };
        let rows = self.width as usize * sample;
        let (luma, chroma) = output.split_at_mut(self.pitch * chroma_row as usize);
        for (y, row) in (0..self.height).zip(luma.chunks_exact_mut(self.pitch)) {
            self.row(&mut row[..rows], |x| picture::luma(number, x, y));
        }
        let columns = self.width.next_multiple_of(2) as usize * sample;
        for (y, row) in (0..self.height.div_ceil(2)).zip(chroma.chunks_exact_mut(self.pitch)) {
            self.row(&mut row[..columns.min(self.pitch)], |x| {
                let (u, v) = picture::chroma(number, x / 2, y);
                if x % 2 == 0 { u } else { v }
            });
        }
    }

    /// A row of samples; 10-bit ones have the same value in their upper byte.
    fn row(&self, row: &mut [u8], sample: impl Fn(u32) -> u8) {
        if self.is_deep {
            row.chunks_exact_mut(2).zip(0..).for_each(|(bytes, x)| bytes.copy_from_slice(&[0, sample(x)]));
        } else {
            row.iter_mut().zip(0..).for_each(|(byte, x)| *byte = sample(x));
        }
    }
}
