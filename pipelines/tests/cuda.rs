//! Frames in CUDA memory, on a stand-in driver: whose context they are in, what they show, and what stays behind.

mod common;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::{Recorder, settle};
use gstreamer as gst;
use gstreamer::prelude::*;
use watchpost_cuda::{Owner, Pinned, Stream};
use watchpost_pipelines::{
    DeviceLayout, DevicePicture, DevicePlane, Frame, Gpu, Pipeline, Pixels, Pull, SourceKind, Spec,
};
use watchpost_standins::{Cuda, enter, names};

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
        let recorder = Recorder::new();
        let pipeline = Pipeline::start(&spec(template, Some(&gpu)), "cycle", recorder.clone()).unwrap();
        if !round.is_multiple_of(3) {
            drop(recorder.wait("frames", 20, |memory| memory.frames_total >= 2 || memory.over()));
        }
        pipeline.stop();
        assert!(recorder.memory().failure().is_none(), "{:?}", recorder.memory().events);
    };
    cycle(1);
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
