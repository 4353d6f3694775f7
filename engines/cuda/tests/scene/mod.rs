//! What the tests on the stand-in share: the stand-in itself, a decoder that is late, tensors of known content.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::cell::Cell;
use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};

use watchpost_cuda::{
    Buffer, CudaError, DeviceLayout, DevicePicture, DevicePlane, Element, Event, Gpu, Matrix, Owner, Pinned,
    Placement, Range, Recipe, SlotTensor, Stream, f16_to_f32,
};
use watchpost_standins::{Cuda, names};

/// The stand-in of this process, for one test at a time, as it is at the start.
pub struct Standin {
    cuda: Cuda,
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

impl Standin {
    pub fn enter() -> Self {
        watchpost_standins::enter();
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let cuda = Cuda::here();
        cuda.reset();
        READS.set(0);
        Self { cuda, _alone: alone }
    }

    /// Every `Gpu` has been dropped: so is everything else, and nothing wrong was done on the way.
    pub fn nothing_is_held(&self) {
        assert_eq!(self.held(), Vec::<String>::new());
        assert_eq!(self.counter(names::VIOLATIONS), 0, "{}", self.report());
    }

    /// How often [`tensor_of`] has read a tensor into memory that is not page-locked.
    pub fn reads(&self) -> i64 {
        READS.get()
    }
}

impl Deref for Standin {
    type Target = Cuda;

    fn deref(&self) -> &Cuda {
        &self.cuda
    }
}

thread_local! {
    static READS: Cell<i64> = const { Cell::new(0) };
}

/// 32x32, the picture in the middle; powers of two, so that f16 is exact.
pub const RECIPE: Recipe =
    Recipe { width: 32, height: 32, pad: 114.0, scale: [0.5; 3], offset: [1.0; 3], bgr: false };
pub const LEN: usize = 3 * 32 * 32;
pub const PLACED: Placement = placed(0, 4, 32, 24);
/// Odd on purpose.
const WIDTH: u32 = 65;
const HEIGHT: u32 = 49;
const STRIDE: usize = 256;

pub const fn placed(left: u32, top: u32, width: u32, height: u32) -> Placement {
    Placement { left, top, width, height }
}

/// What a sample of this level becomes.
pub fn grey(level: u8) -> f32 {
    f32::from(level) * 0.5 + 1.0
}

/// The tensor of a grey picture.
pub fn expected(level: u8) -> Vec<f32> {
    let rows = (0..3 * 32).map(|row| if (4..28).contains(&(row % 32)) { level } else { 114 });
    rows.flat_map(|level| [grey(level); 32]).collect()
}

pub fn slot(gpu: &Gpu, element: Element) -> SlotTensor {
    SlotTensor::new(gpu, element, LEN).expect("a slot")
}

pub fn try_slot(gpu: &Gpu) -> Result<SlotTensor, CudaError> {
    SlotTensor::new(gpu, Element::F16, LEN)
}

pub fn tensor_of(slot: &SlotTensor) -> Vec<f32> {
    let gpu = Gpu::open(0).expect("a device");
    let stream = Stream::new(&gpu).expect("a stream");
    READS.set(READS.get() + 1);
    slot.to_host(&stream).expect("a copy")
}

/// Two tensors are the same; says where not.
#[track_caller]
pub fn same(got: &[f32], expected: &[f32], what: &str) {
    let got = rounded(got);
    assert_eq!(got.len(), expected.len(), "{what}");
    let other = got.iter().zip(expected).position(|(a, b)| a != b);
    if let Some(index) = other {
        panic!("{what}: element {index} is {} and should be {}", got[index], expected[index]);
    }
}

/// To a thousandth: grey goes through arithmetic in f32.
fn rounded(values: &[f32]) -> Vec<f32> {
    values.iter().map(|value| (value * 1000.0).round() / 1000.0).collect()
}

/// Elements at an address of the device, in the order of `stream`.
pub fn read(gpu: &Gpu, stream: &Stream, address: u64, element: Element, len: usize) -> Vec<f32> {
    let mut host = Pinned::new(gpu, Owner::Outputs, len * element.bytes()).expect("memory");
    let bytes = host.len_bytes();
    // SAFETY: the test's address has as much; the wait comes before anything goes.
    unsafe { stream.copy_to_host(&mut host, address, bytes) }.expect("a copy");
    stream.wait().expect("a copy");
    match element {
        Element::F32 => host.f32s().to_vec(),
        Element::F16 => host.u16s().iter().map(|&half| f16_to_f32(half)).collect(),
    }
}

/// Gives `stream` so much to do that whoever does not wait for it comes before it: twenty times as many operations as
/// anyone else has, each of which takes [`LATE`]. What it works in is to be dropped when the stream has been waited for.
pub fn keep_busy(gpu: &Gpu, stream: &Stream) -> Buffer {
    let buffer = Buffer::new(gpu, Owner::Weights, 512).expect("memory");
    occupy(stream, &buffer);
    buffer
}

/// The setting for tests in which someone is late.
pub const LATE: &str = "delay_us=500";

fn occupy(stream: &Stream, buffer: &Buffer) {
    for _ in 0..100 {
        // SAFETY: the two halves of the buffer, whose owner waits for the stream before it goes.
        unsafe { stream.copy(buffer.address(), buffer.address() + 256, 256) }.expect("a copy");
    }
}

/// What a decoder is for us: memory that a stream of its own fills, some time later.
pub struct Decoder {
    stream: Stream,
    ready: Event,
    memory: Buffer,
    frame: Pinned,
    busy: Buffer,
    layout: usize,
}

/// Rows of luma and of two planes of chroma.
const ROWS: usize = HEIGHT as usize + 2 * CHROMA_ROWS;
const CHROMA_ROWS: usize = (HEIGHT as usize).div_ceil(2);

impl Decoder {
    /// Of NV12 (0), I420 (1), P010 (2).
    pub fn new(gpu: &Gpu, layout: usize) -> Result<Self, CudaError> {
        Ok(Self {
            stream: Stream::new(gpu)?,
            ready: Event::new(gpu)?,
            memory: Buffer::new(gpu, Owner::Weights, ROWS * STRIDE)?,
            frame: Pinned::new(gpu, Owner::Weights, ROWS * STRIDE)?,
            busy: Buffer::new(gpu, Owner::Weights, 512)?,
            layout,
        })
    }

    /// A grey picture, which is there when this returns.
    pub fn decode(&mut self, level: u8) {
        self.try_decode(level).expect("a picture");
    }

    pub fn try_decode(&mut self, level: u8) -> Result<(), CudaError> {
        self.draw(level);
        self.copy()?;
        self.stream.wait()
    }

    /// A grey picture, which is there after a while.
    pub fn decode_late(&mut self, level: u8) {
        self.draw(level);
        occupy(&self.stream, &self.busy);
        self.copy().expect("a picture");
    }

    /// Whether the picture is there.
    pub fn is_ready(&self) -> bool {
        self.ready.has_happened().expect("a device")
    }

    fn copy(&mut self) -> Result<(), CudaError> {
        // SAFETY: both have as much, and `Drop` waits.
        unsafe { self.stream.copy_to_device(self.memory.address(), &self.frame, ROWS * STRIDE) }?;
        self.ready.record(&self.stream)
    }

    fn draw(&mut self, level: u8) {
        let (luma, chroma) = self.frame.bytes_mut().split_at_mut(HEIGHT as usize * STRIDE);
        if self.layout < 2 {
            luma.fill(level);
            chroma.fill(128);
            return;
        }
        // 1023 = 255 * 341 / 85: exact for multiples of 85.
        let words = [(luma, u16::from(level) * 341 / 85), (chroma, 512)];
        for (plane, code) in words {
            plane.as_chunks_mut().0.fill((code << 6).to_le_bytes());
        }
    }

    pub fn picture(&self) -> DevicePicture<'_> {
        self.picture_of(WIDTH, self.layout_at(0, STRIDE))
    }

    fn layout_at(&self, shift: u64, stride_bytes: usize) -> DeviceLayout {
        let plane = |row: usize| DevicePlane {
            address: self.memory.address() + (row * STRIDE) as u64 + shift,
            stride_bytes,
        };
        let (y, u, v) = (plane(0), plane(HEIGHT as usize), plane(HEIGHT as usize + CHROMA_ROWS));
        match self.layout {
            0 => DeviceLayout::Nv12 { y, uv: u },
            1 => DeviceLayout::I420 { y, u, v },
            _ => DeviceLayout::P010 { y, uv: u },
        }
    }

    fn picture_of(&self, width: u32, layout: DeviceLayout) -> DevicePicture<'_> {
        // SAFETY: the planes lie in `memory`, which the picture borrows; the tests finish before they draw again.
        unsafe {
            DevicePicture::new(width, HEIGHT, layout, Matrix::Bt709, Range::Full, Some(self.stream.raw()))
        }
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        let _ = self.stream.wait();
    }
}

/// Pictures that cannot be, and a word that the refusal says. `decoder` is one of P010.
pub fn bad_pictures(decoder: &Decoder) -> [(DevicePicture<'_>, &'static str); 6] {
    let good = decoder.layout_at(0, STRIDE);
    let nowhere = DevicePlane { address: 0, stride_bytes: STRIDE };
    [
        (decoder.picture_of(0, good), "0x49"),
        (decoder.picture_of(65_536, good), "65535"),
        (decoder.picture_of(WIDTH, decoder.layout_at(0, 128)), "stride"),
        (decoder.picture_of(WIDTH, decoder.layout_at(1, STRIDE)), "odd addresses"),
        (decoder.picture_of(WIDTH, decoder.layout_at(0, 1 << 32)), "4 GiB"),
        (decoder.picture_of(WIDTH, DeviceLayout::P010 { y: nowhere, uv: nowhere }), "not mapped"),
    ]
}
