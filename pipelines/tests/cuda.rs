//! Frames in CUDA memory, on a stand-in driver: whose context they are in, what they show, and what stays behind.

mod common;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::{Recorder, Server, settle, shared, thread_names};
use gstreamer as gst;
use gstreamer::prelude::*;
use watchpost_cuda::{Owner, Pinned, Stream};
use watchpost_pipelines::{
    DecoderChoice, DeviceLayout, DevicePicture, DevicePlane, Event, Failure, FailureClass, Frame, Gpu,
    Memory, Pipeline, Pixels, Pull, Range, SourceKind, Spec, StartError, plan,
};
use watchpost_standins::{Cuda, enter, names, picture};

const PATIENCE: Duration = Duration::from_secs(20);

/// The counters are the process's: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    enter();
    watchpost_pipelines::init().unwrap();
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A source that needs nothing: the template says everything.
fn spec(template: String, gpu: Option<&Gpu>) -> Spec {
    let kind = SourceKind::Rtsp { url: "rtsp://none/".to_owned() };
    Spec { template: Some(template), gpu: gpu.cloned(), ..Spec::new(kind) }
}

fn pictures(format: &str, width: u32, height: u32) -> String {
    format!(
        "videotestsrc num-buffers=30 pattern=smpte ! video/x-raw,format={format},width={width},height={height}"
    )
}

fn uploaded(format: &str, width: u32, height: u32) -> String {
    format!(
        "{} ! cudaupload ! video/x-raw(memory:CUDAMemory) ! appsink name=sink",
        pictures(format, width, height)
    )
}

fn first(spec: &Spec) -> Frame {
    let pipeline = Pipeline::start_pull(spec, "cuda").unwrap();
    match pipeline.pull(PATIENCE) {
        Pull::Frame(frame) => frame,
        other => panic!("{other:?}"),
    }
}

/// The rows of a plane, copied back.
fn rows(gpu: &Gpu, plane: DevicePlane, row_bytes: usize, rows_count: usize) -> Vec<u8> {
    let stream = Stream::new(gpu).unwrap();
    let mut row = Pinned::new(gpu, Owner::Staging, row_bytes).unwrap();
    let mut all = Vec::with_capacity(row_bytes * rows_count);
    for index in 0..rows_count {
        let address = plane.address + (index * plane.stride_bytes) as u64;
        // SAFETY: the caller's frame keeps the row mapped, and the copy is waited for before `row` is read.
        unsafe { stream.copy_to_host(&mut row, address, row_bytes) }.unwrap();
        stream.wait().unwrap();
        all.extend_from_slice(row.bytes());
    }
    all
}

/// The planes of a picture without padding, one after the other.
fn tight(gpu: &Gpu, picture: &DevicePicture<'_>) -> Vec<u8> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
    match picture.layout() {
        DeviceLayout::Nv12 { y, uv } => {
            [rows(gpu, y, width, height), rows(gpu, uv, 2 * half_width, half_height)].concat()
        }
        DeviceLayout::P010 { y, uv } => {
            [rows(gpu, y, 2 * width, height), rows(gpu, uv, 4 * half_width, half_height)].concat()
        }
        DeviceLayout::I420 { y, u, v } => [
            rows(gpu, y, width, height),
            rows(gpu, u, half_width, half_height),
            rows(gpu, v, half_width, half_height),
        ]
        .concat(),
    }
}

/// What the source drew, without padding: GStreamer's own answer.
fn drawn(format: &str, width: u32, height: u32) -> Vec<u8> {
    let line = format!("{} ! appsink name=sink sync=false", pictures(format, width, height));
    let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
    let sink = pipeline.by_name("sink").unwrap().downcast::<gstreamer_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let sample = sink.pull_sample().unwrap();
    pipeline.set_state(gst::State::Null).unwrap();
    let info = gstreamer_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
    let map = sample.buffer().unwrap().map_readable().unwrap();
    let (strides, offsets) = (info.stride(), info.offset());
    let mut all = Vec::new();
    for plane in 0..info.n_planes() as usize {
        let component = (0..info.n_components() as usize)
            .find(|&c| info.format_info().plane()[c] as usize == plane)
            .unwrap();
        let pixel_bytes = info.comp_pstride(component as u8) as usize;
        let row_bytes = info.comp_width(component as u8) as usize * pixel_bytes;
        for row in 0..info.comp_height(component as u8) as usize {
            let start = offsets[plane] + row * strides[plane] as usize;
            all.extend_from_slice(&map[start..start + row_bytes]);
        }
    }
    all
}

#[test]
fn frames_on_the_gpu_are_what_was_drawn_in_every_format_and_in_odd_sizes() {
    let _alone = alone();
    let gpu = Gpu::open(0).unwrap();
    for (format, width, height) in
        [("NV12", 320, 240), ("NV12", 321, 241), ("P010_10LE", 320, 240), ("I420", 322, 242)]
    {
        let frame = first(&spec(uploaded(format, width, height), Some(&gpu)));
        assert_eq!((frame.width(), frame.height()), (width, height));
        assert!(frame.picture().is_none(), "{frame:?}");
        let Pixels::Device(picture) = frame.pixels() else { panic!("{format}: {frame:?}") };
        assert!(tight(&gpu, &picture) == drawn(format, width, height), "{format} {width}x{height}");
        assert!(frame.pts_ns().is_some());
    }
}

#[test]
fn elements_work_in_our_context_and_in_no_other() {
    let _alone = alone();
    let (cuda, gpu) = (Cuda::here(), Gpu::open(0).unwrap());
    // Loading the plug-in makes a context for a moment, which is its own affair.
    drop(first(&spec(uploaded("NV12", 64, 64), Some(&gpu))));
    let before = cuda.counter(names::LIVE_CONTEXTS);
    let template = uploaded("NV12", 64, 64).replace("num-buffers=30", "is-live=true");
    let pipeline = Pipeline::start_pull(&spec(template, Some(&gpu)), "ours").unwrap();
    let Pull::Frame(frame) = pipeline.pull(PATIENCE) else { panic!("no frame") };
    let Pixels::Device(picture) = frame.pixels() else { panic!("{frame:?}") };
    let DeviceLayout::Nv12 { y, .. } = picture.layout() else { panic!("{picture:?}") };
    assert!(cuda.is_live(y.address, 64 * y.stride_bytes));
    assert_eq!(cuda.counter(names::LIVE_CONTEXTS), before, "{}", cuda.report());
    // The count can see another context: without ours the element makes one.
    let template = format!(
        "{} ! cudaupload ! cudadownload ! video/x-raw ! appsink name=sink",
        pictures("NV12", 64, 64).replace("num-buffers=30", "is-live=true")
    );
    let foreign = Pipeline::start_pull(&spec(template, None), "foreign").unwrap();
    assert!(matches!(foreign.pull(PATIENCE), Pull::Frame(_)));
    assert_eq!(cuda.counter(names::LIVE_CONTEXTS), before + 1, "{}", cuda.report());
}

#[test]
fn a_frame_outlives_its_pipeline_and_gives_everything_back() {
    let _alone = alone();
    let cuda = Cuda::here();
    let gpu = Gpu::open(0).unwrap();
    let before = cuda.held();
    let frame = first(&spec(uploaded("NV12", 320, 240), Some(&gpu)));
    let Pixels::Device(picture) = frame.pixels() else { panic!("{frame:?}") };
    assert!(tight(&gpu, &picture) == drawn("NV12", 320, 240));
    // The last that knows of the context may be the frame.
    drop(gpu);
    let DeviceLayout::Nv12 { y, .. } = picture.layout() else { panic!("{picture:?}") };
    assert!(cuda.is_live(y.address, 240 * y.stride_bytes));
    drop(frame);
    assert_eq!(cuda.counter(names::LIVE_BYTES), 0, "{}", cuda.report());
    assert_eq!(cuda.counter(names::LIVE_CONTEXTS), 0, "{}", cuda.report());
    assert_eq!(cuda.counter(names::VIOLATIONS), 0, "{}", cuda.report());
    drop(before);
}

#[test]
fn fifty_openings_leave_nothing_on_the_gpu() {
    let _alone = alone();
    let (cuda, gpu) = (Cuda::here(), Gpu::open(0).unwrap());
    let cycle = |round: usize| {
        let template = uploaded("NV12", 160, 120).replace("num-buffers=30", "is-live=true");
        // In turn an upload and a decoder.
        let upload = spec(template, Some(&gpu));
        let spec = clip(&gpu).filter(|_| round.is_multiple_of(2)).unwrap_or(upload);
        let recorder = Recorder::new();
        let pipeline = Pipeline::start(&spec, "cycle", recorder.clone()).unwrap();
        if !round.is_multiple_of(3) {
            drop(recorder.wait("frames", 20, |memory| memory.frames_total >= 2 || memory.over()));
        }
        pipeline.stop();
        assert!(recorder.memory().failure().is_none(), "{:?}", recorder.memory().events);
    };
    cycle(1);
    cycle(2);
    let before = cuda.held();
    for round in 0..50 {
        cycle(round);
    }
    settle(5, || cuda.held() == before, || format!("was {before:?}, is {:?}", cuda.held()));
    assert_eq!(cuda.counter(names::VIOLATIONS), 0, "{}", cuda.report());
    // The same count sees a frame that is kept.
    let kept = first(&spec(uploaded("NV12", 160, 120), Some(&gpu)));
    assert_ne!(cuda.held(), before);
    drop(kept);
    assert_eq!(cuda.held(), before);
}

/// A clip of H.264 with what its decoder is to be.
fn clip(gpu: &Gpu) -> Option<Spec> {
    let kind = SourceKind::File { path: shared()?.join("footage/car-detection.mp4") };
    Some(Spec { realtime: false, gpu: Some(gpu.clone()), ..Spec::new(kind) })
}

/// Frames in the clip.
const CLIP_FRAMES: usize = 377;

fn all(spec: &Spec, each: &mut dyn FnMut(&Frame)) -> Result<usize, Failure> {
    let pipeline = Pipeline::start_pull(spec, "clip").map_err(StartError::into_failure)?;
    let mut count = 0;
    loop {
        match pipeline.pull(PATIENCE) {
            Pull::Frame(frame) => each(&frame),
            Pull::Eos => return Ok(count),
            Pull::Error(failure) => return Err(failure),
            Pull::TimedOut => panic!("nothing for {PATIENCE:?} after {count} frames"),
        }
        count += 1;
    }
}

#[test]
fn a_clip_is_decoded_on_the_gpu_and_never_visits_the_host() {
    let _alone = alone();
    let (cuda, gpu) = (Cuda::here(), Gpu::open(0).unwrap());
    let Some(spec) = clip(&gpu) else { return };
    let before = cuda.held();
    let d2h_bytes = cuda.counter(names::D2H_BYTES);
    let on_gpu = |frame: &Frame| matches!(frame.pixels(), Pixels::Device(_));
    let count = all(&spec, &mut |frame| assert!(on_gpu(frame), "{frame:?}")).unwrap();
    assert_eq!(count, CLIP_FRAMES);
    assert_eq!(cuda.counter(names::D2H_BYTES), d2h_bytes, "{}", cuda.report());
    settle(5, || cuda.held() == before, || format!("was {before:?}, is {:?}", cuda.held()));
    assert_eq!(cuda.counter(names::VIOLATIONS), 0, "{}", cuda.report());
}

#[test]
fn every_picture_of_the_decoder_arrives_whole_and_once() {
    let _alone = alone();
    let gpu = Gpu::open(0).unwrap();
    let Some(spec) = clip(&gpu) else { return };
    let mut numbers = Vec::new();
    all(&spec, &mut |frame| {
        let Pixels::Device(shown) = frame.pixels() else { panic!("{frame:?}") };
        let DeviceLayout::Nv12 { y, uv } = shown.layout() else { panic!("{shown:?}") };
        let (width, height) = (shown.width(), shown.height());
        let luma = rows(&gpu, y, width as usize, picture::STAMP_ROWS as usize);
        let number = picture::number(&luma, width as usize).expect("a stamp");
        if number.is_multiple_of(50) {
            let drawn: Vec<u8> =
                (0..height).flat_map(|y| (0..width).map(move |x| picture::luma(number, x, y))).collect();
            assert!(rows(&gpu, y, width as usize, height as usize) == drawn, "luma of picture {number}");
            let half = |y| (0..width / 2).flat_map(move |x| <[u8; 2]>::from(picture::chroma(number, x, y)));
            let drawn: Vec<u8> = (0..height / 2).flat_map(half).collect();
            assert!(
                rows(&gpu, uv, width as usize, height as usize / 2) == drawn,
                "chroma of picture {number}"
            );
        }
        numbers.push(number);
    })
    .unwrap();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..CLIP_FRAMES as u32).collect::<Vec<_>>());
}

#[test]
fn a_camera_is_decoded_on_the_gpu_with_its_own_times() {
    let _alone = alone();
    let (cuda, gpu) = (Cuda::here(), Gpu::open(0).unwrap());
    let before = cuda.held();
    for (codec, element) in [("H.264", "nvh264dec"), ("H.265", "nvh265dec"), ("JPEG", "nvjpegdec")] {
        let server = Server::of(codec);
        let spec = Spec { gpu: Some(gpu.clone()), ..server.spec() };
        let recorder = Recorder::new();
        let pipeline = Pipeline::start(&spec, "camera", recorder.clone()).unwrap();
        let memory = recorder.wait("frames", 20, |memory| memory.frames_total >= 10 || memory.over());
        assert!(memory.failure().is_none(), "{:?}", memory.events);
        let info = memory.events.iter().find_map(|event| match event {
            Event::SourceInfo(info) => Some(info.clone()),
            _ => None,
        });
        let info = info.unwrap();
        assert_eq!((info.decoder.as_deref(), info.memory), (Some(element), Memory::Cuda));
        assert!(memory.frames.iter().all(|frame| frame.pts_ns.is_some() && frame.age.is_some()));
        let range = if codec == "JPEG" { Range::Full } else { Range::Limited };
        assert!(memory.frames.iter().all(|frame| frame.range == range), "{codec}");
        drop(memory);
        pipeline.stop();
    }
    settle(5, || cuda.held() == before, || format!("was {before:?}, is {:?}", cuda.held()));
}

#[test]
fn a_gpu_without_a_free_decoder_is_said_and_the_cpu_serves() {
    let _alone = alone();
    let (cuda, gpu) = (Cuda::here(), Gpu::open(0).unwrap());
    let Some(spec) = clip(&gpu) else { return };
    let before = cuda.held();
    for order in [names::ORDER_NO_DECODER, names::ORDER_DECODE_FAILS] {
        cuda.set(order, 1000);
        let failure = all(&spec, &mut |_| {}).unwrap_err();
        cuda.set(order, 0);
        assert_eq!(failure.class, FailureClass::HardwareDecoder, "{order}: {failure}");
        assert!(failure.message.contains("nvh264dec"), "{failure}");
    }
    let on_cpu = Spec { decoder: DecoderChoice::Software, ..spec };
    let count = all(&on_cpu, &mut |frame| assert!(frame.picture().is_some())).unwrap();
    assert_eq!(count, CLIP_FRAMES);
    settle(5, || cuda.held() == before, || format!("was {before:?}, is {:?}", cuda.held()));
}

#[test]
fn the_plan_says_cuda_memory_where_the_gpu_decodes() {
    let _alone = alone();
    let gpu = Gpu::open(0).unwrap();
    let camera = Spec { gpu: Some(gpu), ..Spec::new(SourceKind::Rtsp { url: "rtsp://x/".to_owned() }) };
    let text = plan(&camera).unwrap().to_string();
    assert!(text.contains("H.264 nvh264dec") && text.contains("hardware, CUDA memory"), "{text}");
    let of_cpu = plan(&Spec { decoder: DecoderChoice::Software, ..camera }).unwrap().to_string();
    assert!(!of_cpu.contains("CUDA"), "{of_cpu}");
}

#[test]
fn decoders_look_for_no_display() {
    let _alone = alone();
    let gpu = Gpu::open(0).unwrap();
    let Some(spec) = clip(&gpu) else { return };
    let open = |name: &str| {
        let pipeline = Pipeline::start_pull(&spec, name).unwrap();
        assert!(matches!(pipeline.pull(PATIENCE), Pull::Frame(_)));
        pipeline
    };
    let _open = [open("one"), open("two")];
    // Each display has a thread; there is one that all decoders share.
    let displays = thread_names().iter().filter(|name| *name == "gldisplay-event").count();
    assert!(displays <= 1, "{:?}", thread_names());
}

#[test]
fn single_pictures_are_left_to_the_cpu() {
    let _alone = alone();
    let gpu = Gpu::open(0).unwrap();
    let Some(shared) = shared() else { return };
    let kind = SourceKind::Image { path: shared.join("footage/photos/dog.jpg") };
    let photo = Spec { realtime: false, gpu: Some(gpu), ..Spec::new(kind) };
    assert!(first(&photo).picture().is_some());
    assert!(!plan(&photo).unwrap().to_string().contains("CUDA"));
}
