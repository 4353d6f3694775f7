//! USB cameras: which of their formats to take, and who holds a device.

use std::path::Path;

use gstreamer as gst;

use crate::table::{CODECS, Codec};

/// The picture size that is aimed for: what detectors see is smaller still.
const WANTED_WIDTH: i32 = 1280;
const WANTED_HEIGHT: i32 = 720;
/// Raw pictures over USB 2 get slow as they get large; below this rate a compressed format is better.
const WANTED_FPS: i32 = 15;

/// A format that a camera offers, narrowed to one size and rate.
pub(crate) struct Choice {
    pub(crate) caps: gst::Caps,
    /// `None`: raw pictures.
    pub(crate) codec: Option<&'static Codec>,
}

/// Chooses from `offered`: the size nearest to 1280x720; raw pictures if the camera sends at least 15 of
/// them a second, else JPEG, else H.264 or H.265, else whatever there is.
pub(crate) fn choose(offered: &gst::Caps) -> Option<Choice> {
    offered
        .iter_with_features()
        .filter(|(_, features)| {
            !features.is_any() && features.contains(gst::CAPS_FEATURE_MEMORY_SYSTEM_MEMORY)
        })
        .filter_map(|(structure, _)| candidate(structure))
        .min_by_key(|candidate| candidate.badness)
        .map(|candidate| Choice { caps: candidate.caps, codec: candidate.codec })
}

struct Candidate {
    caps: gst::Caps,
    codec: Option<&'static Codec>,
    /// Slow before large or small, then the order of the formats.
    badness: (bool, i64, usize),
}

fn candidate(structure: &gst::StructureRef) -> Option<Candidate> {
    let raw = structure.name() == "video/x-raw";
    let codec = if raw { None } else { Some(codec_of(structure)?) };
    let mut caps = gst::Caps::builder_full().structure(structure.to_owned()).build();
    {
        let narrowed = caps.make_mut().structure_mut(0)?;
        if narrowed.has_field("width") && narrowed.has_field("height") {
            narrowed.fixate_field_nearest_int("width", WANTED_WIDTH);
            narrowed.fixate_field_nearest_int("height", WANTED_HEIGHT);
        }
        if narrowed.has_field("framerate") {
            narrowed.fixate_field_nearest_fraction("framerate", gst::Fraction::new(30, 1));
        }
    }
    let (width, height, fps) = {
        let narrowed = caps.structure(0)?;
        (
            narrowed.get::<i32>("width").unwrap_or(WANTED_WIDTH),
            narrowed.get::<i32>("height").unwrap_or(WANTED_HEIGHT),
            narrowed
                .get::<gst::Fraction>("framerate")
                .map_or(WANTED_FPS, |rate| rate.numer() / rate.denom().max(1)),
        )
    };
    let wanted = i64::from(WANTED_WIDTH) * i64::from(WANTED_HEIGHT);
    let preference = match codec.map(|codec| codec.name) {
        None => 0,
        Some("JPEG") => 1,
        Some(_) => 2,
    };
    let badness = (fps < WANTED_FPS, (i64::from(width) * i64::from(height) - wanted).abs(), preference);
    Some(Candidate { caps, codec, badness })
}

fn codec_of(structure: &gst::StructureRef) -> Option<&'static Codec> {
    CODECS.iter().find(|codec| codec.caps.split(',').next() == Some(structure.name().as_str()))
}

/// Name and id of a process that has `device` open, as far as /proc lets us see.
pub(crate) fn holder(device: &Path) -> Option<(String, u32)> {
    let device = device.canonicalize().ok()?;
    let processes = std::fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = pids.find(|pid| {
        std::fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|descriptors| {
            descriptors
                .filter_map(Result::ok)
                .any(|descriptor| std::fs::read_link(descriptor.path()).is_ok_and(|link| link == device))
        })
    })?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some((name.trim().to_owned(), pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(offered: &str) -> (String, Option<&'static str>) {
        crate::init().unwrap();
        let choice = choose(&offered.parse().unwrap()).unwrap();
        (choice.caps.to_string(), choice.codec.map(|codec| codec.name))
    }

    #[test]
    fn jpeg_is_taken_where_raw_is_too_slow() {
        let (caps, codec) = chosen(
            "video/x-raw, format=YUY2, width=1280, height=720, framerate=10/1; \
             video/x-raw, format=YUY2, width=640, height=480, framerate=30/1; \
             image/jpeg, width=1280, height=720, framerate={30/1, 25/1}",
        );
        assert_eq!(codec, Some("JPEG"));
        assert!(caps.contains("width=(int)1280") && caps.contains("30/1"), "{caps}");
    }

    #[test]
    fn raw_is_taken_where_it_is_fast_enough() {
        let (caps, codec) = chosen(
            "image/jpeg, width=1280, height=720, framerate=30/1; \
             video/x-raw, format=NV12, width=1280, height=720, framerate=30/1",
        );
        assert_eq!(codec, None);
        assert!(caps.contains("NV12"), "{caps}");
    }

    #[test]
    fn ranges_are_narrowed() {
        let (caps, codec) =
            chosen("video/x-h264, width=[16, 4096], height=[16, 4096], framerate=[1/1, 120/1]");
        assert_eq!(codec, Some("H.264"));
        assert!(caps.contains("width=(int)1280") && caps.contains("height=(int)720"), "{caps}");
    }

    #[test]
    fn nothing_usable_is_none() {
        crate::init().unwrap();
        assert!(choose(&"video/x-bayer, width=640, height=480".parse().unwrap()).is_none());
    }

    #[test]
    fn the_holder_of_an_open_file_is_found() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (_, pid) = holder(file.path()).unwrap();
        assert_eq!(pid, std::process::id());
    }
}
