//! What the RTSP server plays: encoder and payloader, fed by the filming thread.

use gst::prelude::*;
use gst_rtsp_server::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_rtsp_server as gst_rtsp_server;
use std::sync::Arc;

use crate::feeder;
use crate::packets::{Packets, split};
use crate::{CameraOptions, Codec, TestCameraError};

const INPUT: &str = "picture";
/// The RTSP server looks for payloaders of this name.
const PAYLOADER: &str = "pay0";
/// Where sequence numbers begin when timestamps are told where to: 100 packets before they wrap.
const FIRST_SEQUENCE_NUMBER: u16 = u16::MAX - 99;

/// The launch line of the media, in the form that an RTSP media factory wants.
///
/// Presets are the cheapest that still look like a camera. Scene cuts make no extra keyframes, so that the
/// distance between keyframes is exactly the configured one; parameter sets go out with every keyframe, so
/// that a client can join and a change of resolution needs no new SDP. (H.265's keyframes would be CRA pictures with open
/// GOPs, with which the payloader sends no parameter sets.)
pub(crate) fn launch_line(options: &CameraOptions) -> String {
    let encode = encode_line(options);
    format!("( appsrc name={INPUT} is-live=true format=time block=false max-bytes=0 ! {encode} )")
}

fn encode_line(options: &CameraOptions) -> String {
    let CameraOptions { bitrate_kbps, gop, b_frames, codec, .. } = *options;
    let bframes = if b_frames { 2 } else { 0 };
    let first = options.first_timestamp.map_or_else(String::new, |first| {
        format!(" timestamp-offset={first} seqnum-offset={FIRST_SEQUENCE_NUMBER}")
    });
    match codec {
        Codec::H264 => {
            let latency = if b_frames { "rc-lookahead=4 b-adapt=false" } else { "tune=zerolatency" };
            // Without a word rtph264pay negotiates Constrained Baseline, which has no B-frames.
            let profile = if options.high_profile || b_frames { " ! video/x-h264,profile=high" } else { "" };
            format!(
                "x264enc {latency} speed-preset=superfast threads=1 bitrate={bitrate_kbps} key-int-max={gop} \
                 bframes={bframes} option-string=\"scenecut=0:b-pyramid=none\"{profile} ! rtph264pay name={PAYLOADER} pt=96 config-interval=-1{first}"
            )
        }
        Codec::H265 => {
            let latency = if b_frames { "" } else { "tune=zerolatency" };
            format!(
                "x265enc {latency} speed-preset=ultrafast bitrate={bitrate_kbps} key-int-max={gop} \
                 option-string=\"bframes={bframes}:scenecut=0:open-gop=0:pools=1:frame-threads=1:log-level=none\" \
                 ! rtph265pay name={PAYLOADER} pt=96 config-interval=-1{first}"
            )
        }
        Codec::Mjpeg => format!("jpegenc quality=85 ! rtpjpegpay name={PAYLOADER} pt=26{first}"),
    }
}

/// RTP payloads of a second of video in the codec of `options`, two seconds at most in the making.
///
/// # Errors
/// `GStreamer` when the video cannot be made.
pub(crate) fn payloads(options: &CameraOptions) -> Result<Vec<Vec<u8>>, TestCameraError> {
    check_elements(options.codec)?;
    let failed =
        |what: &dyn std::fmt::Display| TestCameraError::GStreamer(format!("no foreign video: {what}"));
    let line = format!(
        "videotestsrc num-buffers=15 ! video/x-raw,format=I420,width=320,height=192,framerate=15/1 ! {} \
         ! appsink name=out sync=false",
        encode_line(options)
    );
    let pipeline = gst::parse::launch(&line).map_err(|error| failed(&error))?;
    let bin = pipeline.clone().downcast::<gst::Bin>().map_err(|_| failed(&"no pipeline"))?;
    let sink = bin.by_name("out").and_then(|out| out.downcast::<gst_app::AppSink>().ok());
    let sink = sink.ok_or_else(|| failed(&"no sink"))?;
    let _playing = pipeline.set_state(gst::State::Playing);
    let mut payloads = Vec::new();
    while let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_seconds(10)) {
        let list =
            sample.buffer_list_owned().into_iter().flat_map(|list| list.iter_owned().collect::<Vec<_>>());
        let packets: Vec<gst::Buffer> = list.chain(sample.buffer_owned()).collect();
        payloads.extend(packets.iter().filter_map(|packet| split(packet)).map(|(_, payload)| payload));
    }
    let _stopped = pipeline.set_state(gst::State::Null);
    if payloads.is_empty() { Err(failed(&"the encoder gave nothing")) } else { Ok(payloads) }
}

/// Says which element of [`launch_line`] this machine lacks, and where it comes from.
pub(crate) fn check_elements(codec: Codec) -> Result<(), TestCameraError> {
    const UGLY: &str = "gstreamer1.0-plugins-ugly";
    const BAD: &str = "gstreamer1.0-plugins-bad";
    const GOOD: &str = "gstreamer1.0-plugins-good";
    const BASE: &str = "gstreamer1.0-plugins-base";
    let needed = match codec {
        Codec::H264 => [("appsrc", BASE), ("x264enc", UGLY), ("rtph264pay", GOOD), ("rtpbin", GOOD)],
        Codec::H265 => [("appsrc", BASE), ("x265enc", BAD), ("rtph265pay", GOOD), ("rtpbin", GOOD)],
        Codec::Mjpeg => [("appsrc", BASE), ("jpegenc", GOOD), ("rtpjpegpay", GOOD), ("rtpbin", GOOD)],
    };
    match needed.iter().find(|(element, _)| gst::ElementFactory::find(element).is_none()) {
        None => Ok(()),
        Some((element, package)) => Err(TestCameraError::GStreamer(format!(
            "the element {element} is missing; install {package} (Debian's name)"
        ))),
    }
}

/// Connects new media with the filming thread and the packet stage.
pub(crate) fn configure(
    media: &gst_rtsp_server::RTSPMedia,
    codec: Codec,
    feeder: &Arc<feeder::Shared>,
    packets: &Packets,
) {
    let Ok(bin) = media.element().downcast::<gst::Bin>() else { return };
    let input = bin.by_name(INPUT).and_then(|element| element.downcast::<gst_app::AppSrc>().ok());
    let output = bin.by_name(PAYLOADER).and_then(|payloader| payloader.static_pad("src"));
    let (Some(input), Some(output)) = (input, output) else { return };
    packets.watch(&output, codec);
    let id = feeder.attach(input);
    let feeder = Arc::downgrade(feeder);
    media.connect_unprepared(move |_| {
        if let Some(feeder) = feeder.upgrade() {
            feeder.detach(id);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many packets of H.264 carry slices that no other picture refers to.
    fn disposable_count(b_frames: bool) -> usize {
        gst::init().unwrap();
        let payloads = payloads(&CameraOptions { b_frames, ..CameraOptions::default() }).unwrap();
        assert!(payloads.len() >= 15);
        // RFC 6184: the two bits of nal_ref_idc; 1 is a slice, 28 a fragment.
        let is_disposable = |first: u8| first & 0x60 == 0 && matches!(first & 0x1f, 1 | 28);
        payloads.iter().filter(|payload| payload.first().is_some_and(|&first| is_disposable(first))).count()
    }

    #[test]
    fn b_frames_are_there_when_they_are_asked_for() {
        assert!(disposable_count(true) >= 8);
        assert_eq!(disposable_count(false), 0);
    }
}
