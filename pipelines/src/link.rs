//! Puts the decoder in place once the codec is known.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;

use crate::choice::{self, Chosen};
use crate::explain::{failure, missing_element};
use crate::failure::{Failure, FailureClass};
use crate::report::Reporter;
use crate::spec::{DecoderChoice, SourceKind};
use crate::table::{CODECS, Codec, Route, STILL_JPEG, package_of};
use crate::{rtp_check, v4l2};

/// A hardware decoder that has taken so many pictures from a keyframe on and given none gives none. No codec
/// holds back more than 16 for reordering.
const SILENT_PICTURES: u32 = 32;

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
    wish: &DecoderChoice,
) {
    let taken = Arc::new(AtomicBool::new(false));
    if streams.find_property("protocols").is_some() && streams.type_().name() == "GstRTSPSrc" {
        select_video(streams, reporter, wish);
        reporter.capture_clock.listen(streams);
        reporter.rtp_times.listen(streams, &reporter.sockets);
    }
    let (weak_pipeline, weak_raw) = (pipeline.downgrade(), raw.downgrade());
    let (pad_taken, pad_reporter, wish) = (taken.clone(), reporter.clone(), wish.clone());
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
        let target = Target { raw: &raw, pipeline: &pipeline, reporter: &pad_reporter, wish: &wish };
        if let Err(failure) = decode(pad, structure, &caps, target) {
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
    reporter: &Arc<Reporter>,
    wish: &DecoderChoice,
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
    let target = Target { raw, pipeline, reporter, wish };
    let mut chain = vec![filter];
    if let Some(codec) = choice.codec {
        chain.extend(elements(codec, Entry::Bytes, target)?);
    }
    join(&pad, &chain, target)
}

/// What a stream is decoded into, and how.
#[derive(Clone, Copy)]
struct Target<'a> {
    raw: &'a gst::Element,
    pipeline: &'a gst::Pipeline,
    reporter: &'a Arc<Reporter>,
    wish: &'a DecoderChoice,
}

/// Has rtspsrc set up the first video stream that can be decoded and nothing else: audio that nobody
/// listens to would still be sent.
fn select_video(rtspsrc: &gst::Element, reporter: &Arc<Reporter>, wish: &DecoderChoice) {
    let selected = AtomicBool::new(false);
    let (reporter, wish) = (reporter.clone(), wish.clone());
    rtspsrc.connect("select-stream", false, move |arguments| {
        let caps = arguments.get(2).and_then(|value| value.get::<gst::Caps>().ok());
        let structure = caps.as_ref().and_then(|caps| caps.structure(0));
        let wanted = structure.is_some_and(is_video) && !selected.swap(true, Ordering::AcqRel);
        if wanted
            && let Some(structure) = structure
            && let Err(failure) = rtp_codec(structure, &reporter)
                .and_then(|codec| find_chain(codec, Entry::Rtp, &reporter, &wish))
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
    target: Target<'_>,
) -> Result<(), Failure> {
    if structure.name() == "application/x-rtp" {
        let codec = rtp_codec(structure, target.reporter)?;
        let chain = elements(codec, Entry::Rtp, target)?;
        rtp_check::guard(pad, codec.rtp_encoding, target.reporter);
        target.reporter.rtp_times.watch(pad);
        return join(pad, &chain, target);
    }
    if structure.name() == "video/x-raw" {
        return join(pad, &[], target);
    }
    let known = CODECS
        .iter()
        .find(|codec| codec.caps.parse::<gst::Caps>().is_ok_and(|of_codec| of_codec.can_intersect(caps)));
    let is_still = matches!(target.reporter.target.kind, SourceKind::Image { .. });
    let known =
        known.map(|codec| if is_still && codec.caps == STILL_JPEG.caps { &STILL_JPEG } else { codec });
    match known {
        Some(codec) => join(pad, &elements(codec, Entry::Parsed, target)?, target),
        None => decode_by_search(pad, target),
    }
}

/// Leaves a codec of which the table knows nothing to GStreamer's own search.
fn decode_by_search(pad: &gst::Pad, target: Target<'_>) -> Result<(), Failure> {
    let pipeline = target.pipeline;
    let decodebin = element("decodebin")?;
    // Without our context a GPU's decoder would make one of its own.
    let gpu_may = target.reporter.gpu.is_ok() && *target.wish != DecoderChoice::Software;
    if decodebin.has_property_with_type("force-sw-decoders", glib::Type::BOOL) {
        decodebin.set_property("force-sw-decoders", !gpu_may);
    }
    let weak_raw = target.raw.downgrade();
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
fn elements(codec: &Codec, entry: Entry, target: Target<'_>) -> Result<Vec<gst::Element>, Failure> {
    let (chain, chosen) = find_chain(codec, entry, target.reporter, target.wish)?;
    if let Some(decoder) = chain.iter().find(|element| is_made_by(element, &chosen.element)) {
        target.reporter.decodes(decoder, codec, chosen.clone());
        if chosen.route.is_hardware() {
            watch_for_silence(decoder, target.reporter);
        }
    }
    Ok(chain)
}

/// The elements of a codec's chain from `entry` on, and which of them decodes.
fn find_chain(
    codec: &Codec,
    entry: Entry,
    reporter: &Reporter,
    wish: &DecoderChoice,
) -> Result<(Vec<gst::Element>, Chosen), Failure> {
    let chosen = decoder(codec, reporter, wish)?;
    let depayloader = codec.depayloader.filter(|_| entry == Entry::Rtp);
    // What comes out of a file may be packed in a way that only decoders of the CPU take; and older parsebins leave a
    // single JPEG as it is, which avdec_mjpeg does not take.
    let strict = chosen.route.is_hardware() || chosen.element == "avdec_mjpeg";
    let parser = codec.parser.filter(|_| entry != Entry::Parsed || strict);
    let mut chain = Vec::with_capacity(5);
    for name in [depayloader, parser].into_iter().flatten() {
        chain.push(element(name)?);
    }
    if chosen.element == "gdkpixbufdec" && codec.caps == STILL_JPEG.caps {
        // It knows a format by its first bytes, but leaves JPEG out of its list because jpegdec is there.
        let renamed = element("capssetter")?;
        renamed.set_property("replace", true);
        renamed.set_property("join", false);
        renamed.set_property_from_str("caps", "image/png");
        chain.push(renamed);
    }
    chain.push(element(&chosen.element)?);
    if let Some((converter, caps)) = choice::converter(chosen.route) {
        chain.push(element(converter)?);
        let filter = element("capsfilter")?;
        filter.set_property_from_str("caps", caps);
        chain.push(filter);
    }
    Ok((chain, chosen))
}

fn decoder(codec: &Codec, reporter: &Reporter, wish: &DecoderChoice) -> Result<Chosen, Failure> {
    let gpu = reporter.gpu.as_deref().map_err(String::as_str);
    let no_decoder = match choice::with_offer(wish, gpu, |offer| choice::choose(codec, wish, offer)) {
        Ok(chosen) => return Ok(chosen),
        Err(no_decoder) => no_decoder,
    };
    let label = &reporter.target.label;
    if matches!(wish, DecoderChoice::Auto | DecoderChoice::Software) {
        let software = codec.decoders.iter().find(|decoder| decoder.route == Route::Software);
        let element = software.map_or("decoder", |decoder| decoder.element).to_owned();
        let package = package_of(&element).to_owned();
        let message = format!(
            "{label} is {}, for which no decoder is installed: install the package {package}",
            codec.name
        );
        return Err(Failure::new(FailureClass::MissingElement { element, package }, message));
    }
    let reasons = match no_decoder.reasons.as_slice() {
        [] => "no hardware decoder is known for it".to_owned(),
        reasons => reasons.join("; "),
    };
    let wanted = match wish {
        DecoderChoice::Element(name) => format!("the decoder {name}"),
        _ => "a hardware decoder".to_owned(),
    };
    let message =
        format!("{label} is {}, and {wanted} is asked for: {reasons}; or let the CPU decode", codec.name);
    Err(Failure::new(FailureClass::HardwareDecoder, message))
}

fn is_made_by(element: &gst::Element, factory: &str) -> bool {
    element.factory().is_some_and(|made_by| made_by.name() == factory)
}

/// Reports a hardware decoder that takes pictures and gives none: it would be closed and opened for ever.
fn watch_for_silence(decoder: &gst::Element, reporter: &Arc<Reporter>) {
    let Some(pad) = decoder.static_pad("sink") else { return };
    let (taken_count, reporter) = (AtomicU32::new(0), Arc::downgrade(reporter));
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let Some(reporter) = reporter.upgrade().filter(|reporter| !reporter.has_delivered()) else {
            return gst::PadProbeReturn::Remove;
        };
        // Those before the first keyframe, and those that are thrown away next, are nothing to decode.
        let is_unneeded = (taken_count.load(Ordering::Relaxed) == 0 || reporter.outlet.leaves_out())
            && info.buffer().is_some_and(|picture| picture.flags().contains(gst::BufferFlags::DELTA_UNIT));
        if !is_unneeded && taken_count.fetch_add(1, Ordering::Relaxed) + 1 > SILENT_PICTURES {
            let what = format!("it took {SILENT_PICTURES} pictures and gave none");
            if let Some(failure) = reporter.hardware_failure(&what) {
                reporter.fail(failure);
            }
            return gst::PadProbeReturn::Remove;
        }
        gst::PadProbeReturn::Ok
    });
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
fn join(pad: &gst::Pad, chain: &[gst::Element], target: Target<'_>) -> Result<(), Failure> {
    // A hardware decoder that does not fit in is no reason to give the camera up.
    let of_hardware =
        |failure: Failure| target.reporter.hardware_failure(&failure.message).unwrap_or(failure);
    put_in_place(pad, chain, target).map_err(of_hardware)
}

fn put_in_place(pad: &gst::Pad, chain: &[gst::Element], target: Target<'_>) -> Result<(), Failure> {
    for element in chain {
        target.pipeline.add(element).map_err(|error| unexpected(&error))?;
    }
    let all: Vec<&gst::Element> = chain.iter().chain([target.raw]).collect();
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
