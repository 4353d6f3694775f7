//! GStreamer's own CUDA elements run on the stand-ins, get what they should get, and give everything back.

mod device;

use std::sync::{Mutex, MutexGuard, PoisonError};

use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;
use gstreamer_video::prelude::*;
use watchpost_standins::{Cuda, names, picture};

/// One test at a time: the counters are the process's.
static TURN: Mutex<()> = Mutex::new(());

fn begin() -> (Cuda, MutexGuard<'static, ()>) {
    watchpost_standins::enter();
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    gst::init().unwrap();
    let cuda = Cuda::here();
    cuda.reset();
    (cuda, turn)
}

/// Whether GStreamer has all of these; says so where it has not.
fn has(elements: &[&str]) -> bool {
    let missing: Vec<_> = elements.iter().filter(|name| gst::ElementFactory::find(name).is_none()).collect();
    if !missing.is_empty() {
        eprintln!("NOT TESTED: GStreamer has no {missing:?}; run make deps");
    }
    missing.is_empty()
}

/// Everything has been given back, and nothing was done that is never right. A state change that GStreamer goes on with in
/// a thread of its own may hold the pipeline a moment longer than we do.
fn at_baseline(cuda: &Cuda) {
    let mut patience = 5000;
    while !cuda.held().is_empty() && patience > 0 {
        std::thread::park_timeout(std::time::Duration::from_millis(1));
        patience -= 1;
    }
    assert_eq!(cuda.held(), Vec::<String>::new());
    assert_eq!(cuda.counter(names::VIOLATIONS), 0, "{}", cuda.report());
}

/// Runs a pipeline to its end, or until it has given `limit` pictures: caps and bytes of each as the element `name=out` has
/// them. A broken pipeline is an error with the element's words.
fn pictures(description: &str, limit: usize) -> Result<Vec<gst::Sample>, String> {
    let pipeline = gst::parse::launch(description).unwrap().downcast::<gst::Pipeline>().unwrap();
    let sink = pipeline.by_name("out").unwrap().downcast::<gst_app::AppSink>().unwrap();
    sink.set_sync(false);
    pipeline.set_state(gst::State::Playing).unwrap();
    let mut samples = Vec::new();
    while samples.len() < limit {
        match sink.pull_sample() {
            Ok(sample) => samples.push(sample),
            Err(_) => break,
        }
    }
    let failed = pipeline.bus().unwrap().pop_filtered(&[gst::MessageType::Error]);
    pipeline.set_state(gst::State::Null).unwrap();
    match failed.as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Error(error)) => Err(error.error().to_string()),
        _ => Ok(samples),
    }
}

/// The planes of a picture in host memory, without the padding of their rows.
fn planes(sample: &gst::Sample) -> Vec<Vec<u8>> {
    let info = gst_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(sample.buffer().unwrap(), &info).unwrap();
    (0..frame.n_planes())
        .map(|plane| {
            let (rows, stride) =
                (frame.plane_height(plane) as usize, frame.plane_stride()[plane as usize] as usize);
            let row_bytes = frame.comp_width(plane) as usize * frame.comp_pstride(plane) as usize;
            let data = frame.plane_data(plane).unwrap();
            (0..rows).flat_map(|row| data[row * stride..][..row_bytes].to_vec()).collect()
        })
        .collect()
}

/// The numbers in decoded pictures; each picture is wholly the one of its number.
fn numbers(samples: &[gst::Sample]) -> Vec<u32> {
    let number = |sample: &gst::Sample| {
        let info = gst_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
        let (width, height, planes) = (info.width(), info.height(), planes(sample));
        let number = picture::number(&planes[0], width as usize).expect("a stamp");
        let luma = (0..height).flat_map(|y| (0..width).map(move |x| picture::luma(number, x, y)));
        assert!(planes[0].iter().copied().eq(luma), "luma of picture {number}");
        let chroma = (0..height / 2).flat_map(|y| {
            (0..width / 2).flat_map(move |x| {
                let (u, v) = picture::chroma(number, x, y);
                [u, v]
            })
        });
        assert!(planes[1].iter().copied().eq(chroma), "chroma of picture {number}");
        number
    };
    samples.iter().map(number).collect()
}

#[test]
fn what_is_uploaded_can_be_downloaded() {
    let (cuda, _turn) = begin();
    if !has(&["cudaupload", "cudadownload"]) {
        return;
    }
    let source = "videotestsrc num-buffers=5 pattern=ball ! video/x-raw,format=NV12,width=318,height=238";
    let expected = pictures(&format!("{source} ! appsink name=out"), 9).unwrap();
    let device = "cudaupload ! video/x-raw(memory:CUDAMemory) ! cudadownload ! video/x-raw";
    let seen = pictures(&format!("{source} ! {device} ! appsink name=out"), 9).unwrap();
    assert_eq!(seen.len(), 5);
    assert_eq!(seen.iter().map(planes).collect::<Vec<_>>(), expected.iter().map(planes).collect::<Vec<_>>());
    drop((seen, expected));
    let bytes = 5 * 318 * 238 * 3 / 2;
    assert_eq!((cuda.counter(names::H2D_BYTES), cuda.counter(names::D2H_BYTES)), (bytes, bytes));
    at_baseline(&cuda);
}

/// 40 pictures of H.264 with B-frames, which come out of order.
const H264: &str = "videotestsrc num-buffers=40 ! video/x-raw,format=I420,width=320,height=240,framerate=25/1 \
                    ! x264enc bframes=2 b-adapt=false key-int-max=15 ! video/x-h264,profile=main ! h264parse";

#[test]
fn both_h264_decoders_show_the_same_pictures_in_the_same_order() {
    let (cuda, _turn) = begin();
    if !has(&["x264enc", "nvh264dec", "nvh264sldec"]) {
        return;
    }
    let decoded = |decoder: &str| {
        let description = format!(
            "{H264} ! {decoder} ! video/x-raw(memory:CUDAMemory) ! cudadownload ! video/x-raw ! appsink name=out"
        );
        let samples = pictures(&description, 99).unwrap();
        let times: Vec<_> = samples.iter().map(|sample| sample.buffer().unwrap().pts()).collect();
        assert!(times.is_sorted(), "{decoder} shows pictures out of order");
        numbers(&samples)
    };
    // One parses with our parser, the other with GStreamer's.
    let (ours, theirs) = (decoded("nvh264dec"), decoded("nvh264sldec"));
    assert_eq!(ours, theirs);
    let mut all = ours.clone();
    all.sort_unstable();
    assert_eq!(all, (0..40).collect::<Vec<_>>());
    assert_ne!(all, ours, "the test wants a stream whose pictures are decoded out of order");
    assert_eq!(cuda.counter(names::DECODED), 80);
    assert_eq!(cuda.counter(names::MAPPED), 80);
    at_baseline(&cuda);
}

#[test]
fn a_decoder_without_b_frames_and_delay_shows_a_picture_as_soon_as_it_has_it() {
    let (cuda, _turn) = begin();
    if !has(&["x264enc", "nvh264dec"]) {
        return;
    }
    // A live source, one picture at a time: each comes out before the next goes in.
    let description = "appsrc name=in is-live=true format=time ! h264parse ! nvh264dec \
                       ! video/x-raw(memory:CUDAMemory) ! cudadownload ! video/x-raw ! appsink name=out sync=false";
    let encoded = pictures(
        "videotestsrc num-buffers=5 ! video/x-raw,format=I420,width=320,height=240,framerate=25/1 \
         ! x264enc tune=zerolatency ! video/x-h264,stream-format=byte-stream,alignment=au ! appsink name=out",
        9,
    )
    .unwrap();
    let pipeline = gst::parse::launch(description).unwrap().downcast::<gst::Pipeline>().unwrap();
    let source = pipeline.by_name("in").unwrap().downcast::<gst_app::AppSrc>().unwrap();
    let sink = pipeline.by_name("out").unwrap().downcast::<gst_app::AppSink>().unwrap();
    source.set_caps(encoded[0].caps().map(|caps| caps.to_owned()).as_ref());
    pipeline.set_state(gst::State::Playing).unwrap();
    for (index, sample) in encoded.iter().enumerate() {
        source.push_buffer(sample.buffer_owned().unwrap()).unwrap();
        let shown = sink
            .try_pull_sample(gst::ClockTime::from_seconds(20))
            .expect("a picture for the one that went in");
        assert_eq!(numbers(&[shown]), [index as u32]);
    }
    pipeline.set_state(gst::State::Null).unwrap();
    drop((pipeline, source, sink));
    at_baseline(&cuda);
}

#[test]
fn h265_and_jpeg_are_decoded_too() {
    let (cuda, _turn) = begin();
    let raw = "videotestsrc num-buffers=12 ! video/x-raw,format=I420,width=320,height=240,framerate=25/1";
    let to_host = "video/x-raw(memory:CUDAMemory) ! cudadownload ! video/x-raw ! appsink name=out";
    if has(&["x265enc", "nvh265dec", "nvh265sldec"]) {
        let of = |decoder: &str| {
            numbers(&pictures(&format!("{raw} ! x265enc ! h265parse ! {decoder} ! {to_host}"), 99).unwrap())
        };
        let ours = of("nvh265dec");
        assert_eq!(ours, of("nvh265sldec"));
        assert_eq!(ours.len(), 12);
    }
    if has(&["jpegenc", "nvjpegdec"]) {
        let shown = pictures(&format!("{raw} ! jpegenc ! nvjpegdec ! {to_host}"), 99).unwrap();
        assert_eq!(numbers(&shown), (0..12).collect::<Vec<_>>());
        drop(shown);
        let parsed = pictures(&format!("{raw} ! jpegenc ! jpegparse ! nvjpegdec ! {to_host}"), 99).unwrap();
        assert_eq!(numbers(&parsed), (0..12).collect::<Vec<_>>());
    }
    at_baseline(&cuda);
}

#[test]
fn pipelines_that_are_cut_off_give_everything_back() {
    let (cuda, _turn) = begin();
    if !has(&["x264enc", "nvh264dec"]) {
        return;
    }
    for cycle in 0..10 {
        let samples =
            pictures(&format!("{H264} ! nvh264dec ! video/x-raw(memory:CUDAMemory) ! appsink name=out"), 3)
                .unwrap();
        assert_eq!(samples.len(), 3, "cycle {cycle}");
        // Buffers keep their context and their memory.
        assert!(cuda.counter(names::LIVE_BYTES) > 0);
        drop(samples);
        at_baseline(&cuda);
    }
}

#[test]
fn a_decoder_that_fails_shows_nothing_and_keeps_nothing() {
    let (cuda, _turn) = begin();
    if !has(&["x264enc", "nvh264dec", "nvh264sldec"]) {
        return;
    }
    let description =
        |decoder: &str| format!("{H264} ! {decoder} ! video/x-raw(memory:CUDAMemory) ! appsink name=out");
    for decoder in ["nvh264dec", "nvh264sldec"] {
        for order in [names::ORDER_NO_DECODER, names::ORDER_DECODE_FAILS] {
            cuda.set(order, 1000);
            let result = pictures(&description(decoder), 99);
            // GStreamer's own parser only warns of pictures that fail; everything else is an error.
            assert_eq!(result.map_or(0, |samples| samples.len()), 0, "{decoder}, {order}");
            cuda.reset();
            at_baseline(&cuda);
        }
    }
}
