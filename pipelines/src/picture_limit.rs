//! Pictures larger than any camera's are refused before a decoder takes memory for them.
//!
//! How large a picture is, a stream says in a few bytes, and a decoder believes it: a camera of 320x192 whose parameter sets
//! announce 16000x16000 costs `avdec_h264` 900 MB after one keyframe. So the caps in front of every decoder are looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gstreamer as gst;
use gstreamer::prelude::*;

use crate::failure::{Failure, FailureClass};
use crate::report::Reporter;
use crate::spec::SourceKind;

/// Pixels of the largest picture of any level of H.264 (Table A-1) and H.265 (Table A.8): 8192x4352, 53 MB as 4:2:0.
const VIDEO_PIXELS_MAX: u64 = 35_651_584;
/// Longest side that these levels allow: the root of eight times as many.
const VIDEO_SIDE_MAX: u64 = 16_888;
/// A single picture is decoded once, and photographs are larger than video: 400 MB as red, green and blue.
const STILL_PIXELS_MAX: u64 = 1 << 27;

fn is_too_large(width: u64, height: u64, is_still: bool) -> bool {
    let pixels = width.saturating_mul(height);
    match is_still {
        true => pixels > STILL_PIXELS_MAX,
        false => pixels > VIDEO_PIXELS_MAX || width.max(height) > VIDEO_SIDE_MAX,
    }
}

/// Refuses what is too large in front of `element` if it is a decoder, and behind it if it is a decoder or a parser.
pub(crate) fn guard(element: &gst::Element, reporter: &Arc<Reporter>) {
    let factory = element.factory();
    let class = factory.as_ref().and_then(|factory| factory.metadata("klass")).unwrap_or_default();
    if class.contains("Bin") || !(class.contains("Decoder") || class.contains("Parser")) {
        return;
    }
    for name in ["sink", "src"] {
        if let Some(pad) = element.static_pad(name) {
            watch(&pad, reporter);
        }
    }
}

fn watch(pad: &gst::Pad, reporter: &Arc<Reporter>) {
    let (refuses, reporter) = (AtomicBool::new(false), Arc::downgrade(reporter));
    let kinds =
        gst::PadProbeType::EVENT_DOWNSTREAM | gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
    pad.add_probe(kinds, move |_, info| {
        if let Some(event) = info.event()
            && let gst::EventView::Caps(caps) = event.view()
            && let Some(reporter) = reporter.upgrade()
        {
            let failure = refusal(caps.caps(), &reporter);
            refuses.store(failure.is_some(), Ordering::Relaxed);
            if let Some(failure) = failure {
                reporter.fail(failure);
                return gst::PadProbeReturn::Drop;
            }
        }
        // What is too large is in the bytes, too: a decoder would find it there.
        if info.event().is_none() && refuses.load(Ordering::Relaxed) {
            return gst::PadProbeReturn::Drop;
        }
        gst::PadProbeReturn::Ok
    });
}

fn refusal(caps: &gst::CapsRef, reporter: &Reporter) -> Option<Failure> {
    let structure = caps.structure(0)?;
    let side = |name: &str| structure.get::<i32>(name).ok().and_then(|side| u64::try_from(side).ok());
    let (width, height) = (side("width")?, side("height")?);
    let is_still = matches!(reporter.target.kind, SourceKind::Image { .. });
    is_too_large(width, height, is_still).then(|| {
        let (label, most) = (&reporter.target.label, if is_still { STILL_PIXELS_MAX } else { VIDEO_PIXELS_MAX });
        let what_to_do = match reporter.target.kind {
            SourceKind::Image { .. } => "scale it down",
            SourceKind::File { .. } => "convert it to a smaller size, or copy it again if it should be smaller",
            _ => "set the camera to a smaller size, or look whether its stream is damaged",
        };
        Failure::new(
            FailureClass::PictureTooLarge,
            format!(
                "{label} says its pictures are {width}x{height}, more than the {} million pixels that are decoded here: \
                 {what_to_do}",
                most / 1_000_000
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_camera_and_photograph_fits_and_what_no_one_makes_does_not() {
        for (width, height) in
            [(2, 2), (1920, 1080), (7680, 4320), (4320, 7680), (8192, 4352), (16_888, 2000)]
        {
            assert!(!is_too_large(width, height, false), "{width}x{height}");
        }
        for (width, height) in [(16384, 16384), (8192, 8192), (16_889, 16), (u64::MAX, u64::MAX)] {
            assert!(is_too_large(width, height, false), "{width}x{height}");
        }
        assert!(!is_too_large(12_032, 9_024, true) && is_too_large(65_535, 65_535, true));
    }
}
