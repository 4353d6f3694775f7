//! A real RTSP client: rtspsrc, depayloader, decoder, and what was seen.
#![allow(dead_code, reason = "every test binary uses its own part")]

use std::time::Duration;

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use watchpost_scene::stamp;
use watchpost_testcam::{CameraOptions, Codec, Picture, TestCamera};

/// How long a test waits for anything that must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A decoded picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The number that the scene drew into it.
    pub stamp: Option<u32>,
    pub pts: Option<gst::ClockTime>,
    pub size: (u32, u32),
    /// Sum of all luma samples: tells pictures apart.
    pub sum: u64,
}

/// What came next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Picture(Seen),
    /// The stream ended or failed, with GStreamer's words.
    Over(String),
    Nothing,
}

/// An rtspsrc that decodes everything.
pub struct Watcher {
    pipeline: gst::Pipeline,
    pictures: gst_app::AppSink,
}

/// How to connect.
#[derive(Clone, Copy)]
pub struct Access<'a> {
    pub transport: &'a str,
    pub user: &'a str,
    pub password: &'a str,
}

pub const TCP: Access<'static> = Access { transport: "tcp", user: "", password: "" };
pub const UDP: Access<'static> = Access { transport: "udp", user: "", password: "" };

impl Watcher {
    pub fn connect(url: &str, codec: Codec, access: Access) -> Self {
        gst::init().unwrap();
        let decode = match codec {
            Codec::H264 => "rtph264depay ! h264parse ! avdec_h264 max-threads=1",
            Codec::H265 => "rtph265depay ! h265parse ! avdec_h265 max-threads=1",
            Codec::Mjpeg => "rtpjpegdepay ! jpegdec",
        };
        let line = format!(
            "rtspsrc name=camera latency=0 tls-validation-flags=0 protocols={} \
             ! {decode} ! videoconvert ! video/x-raw,format=I420 \
             ! appsink name=pictures sync=false max-buffers=1000",
            access.transport
        );
        let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
        let camera = pipeline.by_name("camera").unwrap();
        camera.set_property("location", url);
        camera.set_property("user-id", access.user);
        camera.set_property("user-pw", access.password);
        let pictures = pipeline.by_name("pictures").unwrap().downcast().unwrap();
        let _ = pipeline.set_state(gst::State::Playing);
        Self { pipeline, pictures }
    }

    pub fn of(camera: &TestCamera) -> Self {
        Self::connect(camera.url(), Codec::H264, TCP)
    }

    /// The next picture, the end, or nothing within `patience`.
    pub fn next(&self, patience: Duration) -> Next {
        let step = Duration::from_millis(20);
        let bus = self.pipeline.bus().unwrap();
        for _ in 0..=patience.as_millis() / step.as_millis() {
            if let Some(sample) = self.pictures.try_pull_sample(gst::ClockTime::try_from(step).unwrap()) {
                return Next::Picture(look(&sample));
            }
            let kinds = [gst::MessageType::Error, gst::MessageType::Eos];
            if let Some(message) = bus.pop_filtered(&kinds) {
                return Next::Over(match message.view() {
                    gst::MessageView::Error(error) => error.error().to_string(),
                    _ => "end of stream".into(),
                });
            }
        }
        Next::Nothing
    }

    pub fn picture(&self) -> Seen {
        match self.next(PATIENCE) {
            Next::Picture(seen) => seen,
            other => panic!("expected a picture, got {other:?}"),
        }
    }

    pub fn pictures(&self, count: usize) -> Vec<Seen> {
        (0..count).map(|_| self.picture()).collect()
    }

    /// Takes what has already arrived, so that what comes next is new.
    pub fn drain(&self) {
        while let Next::Picture(_) = self.next(Duration::from_millis(150)) {}
    }

    /// The first picture that fulfils `wanted`, among the next 200.
    pub fn until(&self, wanted: impl Fn(&Seen) -> bool) -> Seen {
        (0..200).map(|_| self.picture()).find(wanted).expect("no such picture among 200")
    }

    /// Waits for the end of the stream and returns GStreamer's words.
    pub fn end(&self) -> String {
        loop {
            match self.next(PATIENCE) {
                Next::Picture(_) => {}
                Next::Over(words) => return words,
                Next::Nothing => panic!("the stream did not end"),
            }
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn look(sample: &gst::Sample) -> Seen {
    let structure = sample.caps().unwrap().structure(0).unwrap();
    let width = structure.get::<i32>("width").unwrap() as usize;
    let height = structure.get::<i32>("height").unwrap() as usize;
    let buffer = sample.buffer().unwrap();
    let map = buffer.map_readable().unwrap();
    let stride = width.next_multiple_of(4);
    Seen {
        stamp: stamp::read(&map[..stride * height], stride, width, height),
        pts: buffer.pts(),
        size: (width as u32, height as u32),
        sum: map[..stride * height].iter().map(|&luma| u64::from(luma)).sum(),
    }
}

/// A small scene, cheap to encode.
pub fn small(codec: Codec) -> CameraOptions {
    CameraOptions {
        picture: Picture::Scene { seed: 7, width: 320, height: 192, fps: 15 },
        codec,
        bitrate_kbps: 800,
        gop: 10,
        ..CameraOptions::default()
    }
}

pub fn start(options: CameraOptions) -> TestCamera {
    TestCamera::start(options).unwrap()
}
