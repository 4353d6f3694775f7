//! What the GPU route costs the host, without the device's work: microseconds a frame, for 1, 8 and 64 cameras, on the
//! stand-in libraries. The tensors are tiny, so that what the stand-in emulates is next to nothing, and its device stands
//! still while is measured what only queues work.
//!
//! - `letterbox`: a picture in device memory to its slot: the calls that queue it.
//! - `upload`: the same for a tensor that the CPU has letterboxed, without the letterbox.
//! - `driver alone`: the driver's calls of `letterbox` and nothing else; the difference is ours.
//! - `submit`: one batch of all cameras: gather, enqueue, outputs back. `collect`: once the device has done it, what is
//!   left of waiting for it, and lending the outputs.

#[path = "../engines/builtin/tests/onnx_writer/mod.rs"]
mod onnx_writer;

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::hint::black_box;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use libloading::Library as Driver;
use onnx_writer::{Dim, Onnx};
use watchpost::clock;
use watchpost_cuda::{
    Buffer, DeviceLayout, DevicePicture, DevicePlane, Element, Gpu, LetterboxArgs, Letterboxer, Matrix,
    Owner, Placement, Range, RawStream, Recipe, SlotTensor, Stream,
};
use watchpost_standins::names;
use watchpost_tensorrt::{BuildOptions, Library, LoadOptions, Runner, build};

const CAMERAS: [usize; 3] = [1, 8, 64];
const WIDTH: u32 = 8;
const HEIGHT: u32 = 4;
const RECIPE: Recipe =
    Recipe { width: WIDTH, height: HEIGHT, pad: 114.0, scale: [1.0; 3], offset: [0.0; 3], bgr: false };
const PLACED: Placement = Placement { left: 0, top: 0, width: WIDTH, height: HEIGHT };
const PTX: &str = include_str!("../engines/cuda/kernels/letterbox.compute_75.ptx");

/// The stand-ins have to be on the linker's path when the process begins.
fn enter() {
    const ENTERED: &str = "WATCHPOST_BENCH_ENTERED";
    if std::env::var_os(ENTERED).is_some() {
        return;
    }
    let mut again = Command::new(std::env::current_exe().expect("a process knows its program"));
    let private = std::env::temp_dir();
    watchpost_standins::environment(again.args(std::env::args_os().skip(1)), &private).env(ENTERED, "1");
    let error = again.exec();
    panic!("the benchmark cannot be started anew: {error}");
}

/// What one camera has.
struct Camera {
    letterboxer: Letterboxer,
    slot: SlotTensor,
    planes: Buffer,
}

impl Camera {
    fn new(gpu: &Gpu, element: Element) -> Self {
        let slot = SlotTensor::new(gpu, element, RECIPE.len()).expect("memory");
        let planes = Buffer::new(gpu, Owner::Staging, (WIDTH * HEIGHT * 3 / 2) as usize).expect("memory");
        let mut letterboxer = Letterboxer::new(gpu, RECIPE).expect("a stream");
        letterboxer.staging().expect("memory").fill(0.5);
        Self { letterboxer, slot, planes }
    }

    fn picture(planes: &Buffer) -> DevicePicture<'_> {
        let stride_bytes = WIDTH as usize;
        let y = DevicePlane { address: planes.address(), stride_bytes };
        let uv = DevicePlane { address: planes.address() + u64::from(WIDTH * HEIGHT), stride_bytes };
        // SAFETY: both planes lie in `planes`, which nobody writes and which goes after its letterboxer has waited.
        unsafe {
            DevicePicture::new(
                WIDTH,
                HEIGHT,
                DeviceLayout::Nv12 { y, uv },
                Matrix::Bt709,
                Range::Limited,
                None,
            )
        }
    }

    fn letterbox(&mut self) {
        let picture = Self::picture(&self.planes);
        self.letterboxer.letterbox(&picture, PLACED, &mut self.slot).expect("it is queued");
    }

    fn upload(&mut self) {
        self.letterboxer.upload(&mut self.slot).expect("it is queued");
    }

    fn finish(&mut self) {
        self.letterboxer.finish().expect("it has run");
        self.slot.filled().wait().expect("it has run");
    }
}

fn cameras(gpu: &Gpu, count: usize, element: Element) -> Vec<Camera> {
    (0..count).map(|_| Camera::new(gpu, element)).collect()
}

/// Rounds that are queued on a device that stands still. Its queues hold some hundred frames each.
const HELD: u64 = 50;

/// The time that `queue` takes for one frame of a round of `frames`. The device stands still, and every stream has work
/// waiting before the measurement begins: else the threads that emulate it would be woken, which costs more than everything
/// else, and take turns with ours on the processor.
fn queueing(rounds: u64, frames: usize, mut queue: impl FnMut(), mut finish: impl FnMut()) -> Duration {
    let cuda = watchpost_standins::Cuda::here();
    let mut total = Duration::ZERO;
    let mut left = rounds;
    while left > 0 {
        let held = left.min(HELD);
        cuda.set(names::ORDER_HANG, 1);
        queue();
        let _all_have_seen_it = crossbeam_channel::never::<()>().recv_timeout(Duration::from_millis(5));
        let began = clock::now();
        (0..held).for_each(|_| queue());
        total += since(began);
        cuda.set(names::ORDER_HANG, 0);
        finish();
        left -= held;
    }
    total / u32::try_from(frames).expect("a few frames")
}

fn since(began: Instant) -> Duration {
    clock::now().saturating_duration_since(began)
}

fn frames(criterion: &mut Criterion) {
    let gpu = Gpu::open(0).expect("the stand-in");
    for (name, step) in [("letterbox", Camera::letterbox as fn(&mut Camera)), ("upload", Camera::upload)] {
        let mut group = criterion.benchmark_group(format!("gpu route/{name}, per frame"));
        for count in CAMERAS {
            let mut cameras = cameras(&gpu, count, Element::F16);
            let cameras = std::cell::RefCell::new(&mut cameras);
            group.bench_function(BenchmarkId::from_parameter(format!("{count} cameras")), |bencher| {
                bencher.iter_custom(|rounds| {
                    let work = || cameras.borrow_mut().iter_mut().for_each(step);
                    let between = || cameras.borrow_mut().iter_mut().for_each(Camera::finish);
                    queueing(rounds, count, work, between)
                });
            });
        }
    }
}

type Wait = unsafe extern "C" fn(*mut c_void, *mut c_void, c_uint) -> c_uint;
type Record = unsafe extern "C" fn(*mut c_void, *mut c_void) -> c_uint;
type EventCreate = unsafe extern "C" fn(*mut *mut c_void, c_uint) -> c_uint;
type Load = unsafe extern "C" fn(*mut *mut c_void, *const c_void) -> c_uint;
type Find = unsafe extern "C" fn(*mut *mut c_void, *mut c_void, *const c_char) -> c_uint;
type Current = unsafe extern "C" fn(*mut c_void) -> c_int;
type Launch = unsafe extern "C" fn(
    *mut c_void,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    *mut c_void,
    *mut *mut c_void,
    *mut *mut c_void,
) -> c_uint;

/// The driver's calls that one frame takes, made directly.
struct Bare {
    wait: Wait,
    record: Record,
    launch: Launch,
    kernel: *mut c_void,
    events: [*mut c_void; 3],
    driver: Driver,
}

impl Bare {
    fn new(gpu: &Gpu) -> Self {
        // SAFETY: loading the stand-in runs none of its code; the functions of these names have these types; the text ends
        // with a zero, and the results are looked at.
        unsafe {
            let driver = Driver::new("libcuda.so.1").expect("the stand-in");
            let current: Current = *driver.get(b"cuCtxSetCurrent\0").expect("a symbol");
            let load: Load = *driver.get(b"cuModuleLoadData\0").expect("a symbol");
            let find: Find = *driver.get(b"cuModuleGetFunction\0").expect("a symbol");
            let create: EventCreate = *driver.get(b"cuEventCreate\0").expect("a symbol");
            assert_eq!(current(gpu.context().0), 0);
            let text = std::ffi::CString::new(PTX).expect("no zero");
            let (mut module, mut kernel) = (std::ptr::null_mut(), std::ptr::null_mut());
            assert_eq!(load(&raw mut module, text.as_ptr().cast()), 0);
            assert_eq!(find(&raw mut kernel, module, c"letterbox".as_ptr()), 0);
            let events = [0; 3].map(|_| {
                let mut event = std::ptr::null_mut();
                // Blocking, without timing: as ours.
                assert_eq!(create(&raw mut event, 3), 0);
                event
            });
            let wait = *driver.get(b"cuStreamWaitEvent\0").expect("a symbol");
            let record = *driver.get(b"cuEventRecord\0").expect("a symbol");
            let launch = *driver.get(b"cuLaunchKernel\0").expect("a symbol");
            Self { wait, record, launch, kernel, events, driver }
        }
    }

    fn frame(&self, stream: RawStream, args: &mut LetterboxArgs) {
        let [read, filled, source] = self.events;
        let mut parameters = [(&raw mut *args).cast::<c_void>()];
        let ([gx, gy, gz], [bx, by, bz]) = (args.grid(), LetterboxArgs::BLOCK);
        let none = std::ptr::null_mut();
        // SAFETY: handles that live; the kernel's one parameter, whose addresses live until the stream has been waited for.
        let codes = unsafe {
            [
                (self.wait)(stream.0, read, 0),
                (self.wait)(stream.0, filled, 0),
                (self.launch)(
                    self.kernel,
                    gx,
                    gy,
                    gz,
                    bx,
                    by,
                    bz,
                    0,
                    stream.0,
                    parameters.as_mut_ptr(),
                    none,
                ),
                (self.record)(source, stream.0),
                (self.record)(filled, stream.0),
            ]
        };
        assert_eq!(codes, [0; 5]);
    }
}

fn driver_alone(criterion: &mut Criterion) {
    let gpu = Gpu::open(0).expect("the stand-in");
    let bare = Bare::new(&gpu);
    let mut group = criterion.benchmark_group("gpu route/driver alone, per frame");
    for count in CAMERAS {
        let cameras = cameras(&gpu, count, Element::F16);
        let streams: Vec<Stream> = (0..count).map(|_| Stream::new(&gpu).expect("a stream")).collect();
        let args = |camera: &Camera| {
            let (picture, address) = (Camera::picture(&camera.planes), camera.slot.address());
            LetterboxArgs::new(&RECIPE, &picture, PLACED, address, Element::F16).expect("it fits")
        };
        let mut args: Vec<LetterboxArgs> = cameras.iter().map(args).collect();
        group.bench_function(BenchmarkId::from_parameter(format!("{count} cameras")), |bencher| {
            bencher.iter_custom(|rounds| {
                let work = || {
                    streams.iter().zip(&mut args).for_each(|(stream, args)| bare.frame(stream.raw(), args));
                };
                let between = || streams.iter().for_each(|stream| stream.wait().expect("it has run"));
                queueing(rounds, count, work, between)
            });
        });
    }
    // Its code is in use by the GPU's context.
    black_box(&bare.driver);
}

/// An engine that does next to nothing, for up to 64 frames.
fn runner(gpu: &Gpu) -> Runner {
    let path = watchpost_standins::tensorrt(10).join("libnvinfer.so.10");
    let library = Library::open(&path).expect("the stand-in passes the gate");
    let sizes = [Dim::Open("batch"), Dim::N(3), Dim::N(HEIGHT.into()), Dim::N(WIDTH.into())];
    let options = BuildOptions { max_batch: Some(64), ..BuildOptions::default() };
    let onnx = Onnx::doubling(&sizes).encode();
    let built = build(&library, gpu, &onnx, &options, &mut |_| {}).expect("it is built");
    Runner::load(&library, gpu, &built.plan, LoadOptions::default()).expect("it is loaded")
}

fn batches(criterion: &mut Criterion) {
    let gpu = Gpu::open(0).expect("the stand-in");
    let mut runner = runner(&gpu);
    let element = runner.slot_element();
    let cuda = watchpost_standins::Cuda::here();
    let mut group = criterion.benchmark_group("gpu route/batch of all cameras, per frame");
    for count in CAMERAS {
        let mut cameras = cameras(&gpu, count, element);
        cameras.iter_mut().for_each(|camera| {
            camera.upload();
            camera.finish();
        });
        let slots: Vec<&SlotTensor> = cameras.iter().map(|camera| &camera.slot).collect();
        let runner = std::cell::RefCell::new(&mut runner);
        let submit = || runner.borrow_mut().submit(&slots).expect("it is queued");
        let collect = || {
            let frames = runner.borrow_mut().collect(&mut |_, outputs| {
                black_box(outputs[0].data[0]);
            });
            assert_eq!(frames.expect("it has run"), count);
        };
        group.bench_function(BenchmarkId::new("submit", format!("{count} cameras")), |bencher| {
            bencher.iter_custom(|rounds| {
                let mut total = Duration::ZERO;
                for _ in 0..rounds {
                    let began = clock::now();
                    submit();
                    total += since(began);
                    collect();
                }
                total / u32::try_from(count).expect("a few frames")
            });
        });
        group.bench_function(BenchmarkId::new("collect", format!("{count} cameras")), |bencher| {
            bencher.iter_custom(|rounds| {
                let mut total = Duration::ZERO;
                for _ in 0..rounds {
                    let copied = cuda.counter(names::D2H_COPIES);
                    submit();
                    // The outputs' copy is the last that a batch waits for.
                    while cuda.counter(names::D2H_COPIES) == copied {
                        std::thread::yield_now();
                    }
                    let began = clock::now();
                    collect();
                    total += since(began);
                }
                total / u32::try_from(count).expect("a few frames")
            });
        });
    }
}

criterion_group! {
    name = route;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    targets = frames, driver_alone, batches
}

fn all() {
    enter();
    route();
}

criterion_main!(all);
