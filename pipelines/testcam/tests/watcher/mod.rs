//! A real RTSP client: rtspsrc, depayloader, decoder, and what was seen.
#![allow(dead_code, reason = "every test binary uses its own part")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use watchpost_scene::stamp;
use watchpost_testcam::{CameraOptions, Codec, Picture, TestCamera};

/// How long a test waits for anything that must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Lets the other threads work for `time`.
pub fn pause(time: Duration) {
    let (_open, nothing) = std::sync::mpsc::sync_channel::<()>(1);
    let _ = nothing.recv_timeout(time);
}

/// Waits until `done`; false when it takes longer than [`PATIENCE`].
pub fn wait_until(done: impl Fn() -> bool) -> bool {
    let step = Duration::from_millis(20);
    (0..PATIENCE.as_millis() / step.as_millis()).any(|_| {
        pause(step);
        done()
    })
}

/// A decoded picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The number that the scene drew into it.
    pub stamp: Option<u32>,
    pub pts: Option<gst::ClockTime>,
    pub size: (u32, u32),
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
    rtp_timestamps: Arc<Mutex<Vec<u32>>>,
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
            Codec::H264 => {
                "rtph264depay name=packets ! h264parse ! avdec_h264 max-threads=1 output-corrupt=false"
            }
            Codec::H265 => {
                "rtph265depay name=packets ! h265parse ! avdec_h265 max-threads=1 output-corrupt=false"
            }
            Codec::Mjpeg => "rtpjpegdepay name=packets ! jpegdec",
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
        let rtp_timestamps = Arc::new(Mutex::new(Vec::new()));
        let seen = rtp_timestamps.clone();
        let packets = pipeline.by_name("packets").unwrap().static_pad("sink").unwrap();
        packets.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let packet = info.buffer().unwrap().map_readable().unwrap();
            seen.lock().unwrap().push(u32::from_be_bytes(packet[4..8].try_into().unwrap()));
            gst::PadProbeReturn::Ok
        });
        let _ = pipeline.set_state(gst::State::Playing);
        Self { pipeline, pictures, rtp_timestamps }
    }

    /// The RTP timestamps of all packets since the last call, repeated ones once.
    pub fn rtp_timestamps(&self) -> Vec<u32> {
        let mut timestamps = std::mem::take(&mut *self.rtp_timestamps.lock().unwrap());
        timestamps.dedup();
        timestamps
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
            if let Some(message) = bus.pop_filtered(&[gst::MessageType::Error]) {
                let gst::MessageView::Error(error) = message.view() else { unreachable!() };
                return Next::Over(error.error().to_string());
            }
            // The bus tells the end of the stream later, or never when the pipeline was still starting.
            if self.pictures.is_eos() {
                return Next::Over("end of stream".into());
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

    /// Takes what was on its way, so that what comes next is new: all that has arrived and four more.
    pub fn drain(&self) {
        while self.pictures.try_pull_sample(gst::ClockTime::ZERO).is_some() {}
        for _ in 0..4 {
            let Next::Picture(_) = self.next(Duration::from_millis(150)) else { return };
        }
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
