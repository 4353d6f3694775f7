//! What the RTSP server plays: encoder and payloader, fed by the filming thread.

use gst::prelude::*;
use gst_rtsp_server::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_rtsp_server as gst_rtsp_server;
use std::sync::Arc;

use crate::feeder;
use crate::packets::Packets;
use crate::{CameraOptions, Codec, TestCameraError};

const INPUT: &str = "picture";
/// The RTSP server looks for payloaders of this name.
const PAYLOADER: &str = "pay0";

/// The launch line of the media, in the form that an RTSP media factory wants.
///
/// Presets are the cheapest that still look like a camera. Scene cuts make no extra keyframes, so that the
/// distance between keyframes is exactly the configured one; parameter sets go out with every keyframe, so
/// that a client can join and a change of resolution needs no new SDP.
pub(crate) fn launch_line(options: &CameraOptions) -> String {
    let CameraOptions { bitrate_kbps, gop, b_frames, codec, .. } = *options;
    let bframes = if b_frames { 2 } else { 0 };
    let encode = match codec {
        Codec::H264 => {
            let latency = if b_frames { "rc-lookahead=4" } else { "tune=zerolatency" };
            format!(
                "x264enc {latency} speed-preset=superfast threads=1 bitrate={bitrate_kbps} key-int-max={gop} \
                 bframes={bframes} option-string=\"scenecut=0\" ! rtph264pay name={PAYLOADER} pt=96 config-interval=-1"
            )
        }
        Codec::H265 => {
            let latency = if b_frames { "" } else { "tune=zerolatency" };
            format!(
                "x265enc {latency} speed-preset=ultrafast bitrate={bitrate_kbps} key-int-max={gop} \
                 option-string=\"bframes={bframes}:scenecut=0:pools=1:frame-threads=1:log-level=none\" \
                 ! rtph265pay name={PAYLOADER} pt=96 config-interval=-1"
            )
        }
        Codec::Mjpeg => format!("jpegenc quality=85 ! rtpjpegpay name={PAYLOADER} pt=26"),
    };
    format!("( appsrc name={INPUT} is-live=true format=time block=false max-bytes=0 ! {encode} )")
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
pub(crate) fn configure(media: &gst_rtsp_server::RTSPMedia, feeder: &Arc<feeder::Shared>, packets: &Packets) {
    let Ok(bin) = media.element().downcast::<gst::Bin>() else { return };
    let input = bin.by_name(INPUT).and_then(|element| element.downcast::<gst_app::AppSrc>().ok());
    let output = bin.by_name(PAYLOADER).and_then(|payloader| payloader.static_pad("src"));
    let (Some(input), Some(output)) = (input, output) else { return };
    packets.watch(&output);
    let id = feeder.attach(input);
    let feeder = Arc::downgrade(feeder);
    media.connect_unprepared(move |_| {
        if let Some(feeder) = feeder.upgrade() {
            feeder.detach(id);
        }
    });
}
