//! Puts the decoder in place once the codec is known.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gstreamer as gst;
use gstreamer::prelude::*;

use crate::explain::{failure, missing_element};
use crate::failure::{Failure, FailureClass};
use crate::report::Reporter;
use crate::table::{CODECS, Codec, package_of};
use crate::v4l2;

/// Where in its chain a codec is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    /// RTP packets: depayloader, parser, decoder.
    Rtp,
    /// Bytes of a device: parser, decoder.
    Bytes,
    /// Pictures that a parser has cut out already: decoder.
    Parsed,
}

/// Decodes the first video pad of `streams` into `raw`.
pub(crate) fn streams(
    streams: &gst::Element,
    raw: &gst::Element,
    pipeline: &gst::Pipeline,
    reporter: &Arc<Reporter>,
) {
    let taken = Arc::new(AtomicBool::new(false));
    if streams.find_property("protocols").is_some() && streams.type_().name() == "GstRTSPSrc" {
        select_video(streams, reporter);
        reporter.capture_clock.listen(streams);
    }
    let (weak_pipeline, weak_raw) = (pipeline.downgrade(), raw.downgrade());
    let (pad_taken, pad_reporter) = (taken.clone(), reporter.clone());
    streams.connect_pad_added(move |_, pad| {
        let (Some(pipeline), Some(raw)) = (weak_pipeline.upgrade(), weak_raw.upgrade()) else { return };
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let Some(structure) = caps.structure(0).filter(|structure| is_video(structure)) else {
            pad_reporter.note_other_stream();
            return;
        };
        if pad_taken.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Err(failure) = decode(pad, structure, &caps, &raw, &pipeline, &pad_reporter) {
            pad_reporter.fail(failure);
        }
    });
    let reporter = reporter.clone();
    streams.connect_no_more_pads(move |_| {
        if !taken.load(Ordering::Acquire) {
            reporter.fail(failure(FailureClass::NoVideo, &reporter.target));
        }
    });
}

/// Decodes what the device behind `camera` sends best into `raw`. The device is opened for it.
pub(crate) fn camera(
    camera: &gst::Element,
    raw: &gst::Element,
    pipeline: &gst::Pipeline,
    reporter: &Reporter,
) -> Result<(), Failure> {
    let Some(pad) = camera.static_pad("src").filter(|pad| !pad.is_linked()) else { return Ok(()) };
    if camera.set_state(gst::State::Ready).is_err() {
        return Err(reporter.first_failure());
    }
    let offered = pad.query_caps(None);
    let Some(choice) = v4l2::choose(&offered) else {
        return Err(Failure::new(
            FailureClass::UnsupportedCodec,
            format!("{} offers no format that can be decoded here ({offered})", reporter.target.label),
        ));
    };
    let filter = element("capsfilter")?;
    filter.set_property("caps", &choice.caps);
    let mut chain = vec![filter];
    if let Some(codec) = choice.codec {
        chain.extend(elements(codec, Entry::Bytes, reporter)?);
    }
    join(&pad, &chain, raw, pipeline)
}

/// Has rtspsrc set up the first video stream that can be decoded and nothing else: audio that nobody
/// listens to would still be sent.
fn select_video(rtspsrc: &gst::Element, reporter: &Arc<Reporter>) {
    let selected = AtomicBool::new(false);
    let reporter = reporter.clone();
    rtspsrc.connect("select-stream", false, move |arguments| {
        let caps = arguments.get(2).and_then(|value| value.get::<gst::Caps>().ok());
        let structure = caps.as_ref().and_then(|caps| caps.structure(0));
        let wanted = structure.is_some_and(is_video) && !selected.swap(true, Ordering::AcqRel);
        if wanted
            && let Some(structure) = structure
            && let Err(failure) =
                rtp_codec(structure, &reporter).and_then(|codec| elements(codec, Entry::Rtp, &reporter))
        {
            // Said now, before the camera has been asked to send.
            reporter.fail(failure);
            return Some(false.to_value());
        }
        Some(wanted.to_value())
    });
}

fn is_video(structure: &gst::StructureRef) -> bool {
    match structure.name().as_str() {
        // In `select-stream` they are called x-unknown: rtspsrc has not looked at them yet.
        "application/x-rtp" | "application/x-unknown" => structure.get::<&str>("media") == Ok("video"),
        name => name.starts_with("video/") || name.starts_with("image/"),
    }
}

fn rtp_codec(structure: &gst::StructureRef, reporter: &Reporter) -> Result<&'static Codec, Failure> {
    let encoding = structure.get::<&str>("encoding-name").unwrap_or("nothing that it names");
    CODECS.iter().find(|codec| codec.rtp_encoding == encoding.to_ascii_uppercase()).ok_or_else(|| {
        Failure::new(
            FailureClass::UnsupportedCodec,
            format!(
                "{} sends {encoding}, which is not supported: set the camera to H.264, H.265 or MJPEG",
                reporter.target.label
            ),
        )
    })
}

/// Links `pad` to `raw` through what its codec takes.
fn decode(
    pad: &gst::Pad,
    structure: &gst::StructureRef,
    caps: &gst::Caps,
    raw: &gst::Element,
    pipeline: &gst::Pipeline,
    reporter: &Arc<Reporter>,
) -> Result<(), Failure> {
    if structure.name() == "application/x-rtp" {
        let chain = elements(rtp_codec(structure, reporter)?, Entry::Rtp, reporter)?;
        reporter.rtp_times.watch(pad);
        return join(pad, &chain, raw, pipeline);
    }
    if structure.name() == "video/x-raw" {
        return join(pad, &[], raw, pipeline);
    }
    let known = CODECS
        .iter()
        .find(|codec| codec.caps.parse::<gst::Caps>().is_ok_and(|of_codec| of_codec.can_intersect(caps)));
    match known {
        Some(codec) => join(pad, &elements(codec, Entry::Parsed, reporter)?, raw, pipeline),
        None => decode_by_search(pad, raw, pipeline),
    }
}

/// Leaves a codec of which the table knows nothing to GStreamer's own search.
fn decode_by_search(pad: &gst::Pad, raw: &gst::Element, pipeline: &gst::Pipeline) -> Result<(), Failure> {
    let decodebin = element("decodebin")?;
    let weak_raw = raw.downgrade();
    decodebin.connect_pad_added(move |_, pad| {
        let raw_pad = weak_raw.upgrade().and_then(|raw| raw.static_pad("sink"));
        if let Some(raw_pad) = raw_pad.filter(|raw_pad| !raw_pad.is_linked()) {
            // A pad of another kind does not fit; decodebin reports that it is not linked.
            let _ = pad.link(&raw_pad);
        }
    });
    pipeline.add(&decodebin).map_err(|error| unexpected(&error))?;
    decodebin.sync_state_with_parent().map_err(|error| unexpected(&error))?;
    let entry = decodebin.static_pad("sink").ok_or_else(|| unexpected(&"decodebin has no sink pad"))?;
    pad.link(&entry).map_err(|error| unexpected(&error))?;
    Ok(())
}

/// The elements of a codec's chain from `entry` on.
fn elements(codec: &Codec, entry: Entry, reporter: &Reporter) -> Result<Vec<gst::Element>, Failure> {
    let depayloader = codec.depayloader.filter(|_| entry == Entry::Rtp);
    let parser = codec.parser.filter(|_| entry != Entry::Parsed);
    let mut chain = Vec::with_capacity(3);
    for name in [depayloader, parser].into_iter().flatten() {
        chain.push(element(name)?);
    }
    chain.push(decoder(codec, reporter)?);
    Ok(chain)
}

/// The first decoder of `codec` that is installed. Hardware ones are passed over: their pictures stay in
/// device memory, which nothing here reads yet.
fn decoder(codec: &Codec, reporter: &Reporter) -> Result<gst::Element, Failure> {
    let mut software = codec.decoders.iter().filter(|decoder| !decoder.hardware);
    software.clone().find_map(|decoder| gst::ElementFactory::make(decoder.element).build().ok()).ok_or_else(
        || {
            let element = software.next().map_or("decoder", |decoder| decoder.element).to_owned();
            let package = package_of(&element).to_owned();
            let message = format!(
                "{} is {}, for which no decoder is installed: install the package {package}",
                reporter.target.label, codec.name
            );
            Failure::new(FailureClass::MissingElement { element, package }, message)
        },
    )
}

/// An element by its factory's name.
pub(crate) fn element(name: &str) -> Result<gst::Element, Failure> {
    gst::ElementFactory::make(name).build().map_err(|_| {
        let class =
            FailureClass::MissingElement { element: name.to_owned(), package: package_of(name).to_owned() };
        Failure::new(class, missing_element(name, package_of(name)))
    })
}

/// `pad -> chain -> raw`, in the pipeline's state.
fn join(
    pad: &gst::Pad,
    chain: &[gst::Element],
    raw: &gst::Element,
    pipeline: &gst::Pipeline,
) -> Result<(), Failure> {
    for element in chain {
        pipeline.add(element).map_err(|error| unexpected(&error))?;
    }
    let all: Vec<&gst::Element> = chain.iter().chain([raw]).collect();
    gst::Element::link_many(&all).map_err(|error| unexpected(&error))?;
    for element in chain.iter().rev() {
        element.sync_state_with_parent().map_err(|error| unexpected(&error))?;
    }
    let entry = all[0].static_pad("sink").ok_or_else(|| unexpected(&"an element has no sink pad"))?;
    pad.link(&entry).map_err(|error| unexpected(&error))?;
    Ok(())
}

fn unexpected(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(FailureClass::Other, format!("the decoder could not be put in place: {error}"))
}
