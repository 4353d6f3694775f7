//! Makes a pipeline out of a spec.

use std::path::Path;
use std::sync::Arc;

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use crate::census::{Ticket, count_objects};
use crate::choice::load_nvcodec;
use crate::core::Core;
use crate::explain::{Target, failure, missing_element};
use crate::failure::{Failure, FailureClass, StartError};
use crate::gst_cuda::GpuContext;
use crate::outlet::{Outlet, SourceInfo};
use crate::report::Reporter;
use crate::scrub::SecretGuard;
use crate::spec::{DecoderChoice, SourceKind, Spec};
use crate::table::{CODECS, package_of, templates};
use crate::{keyframes, launch, link, no_display, picture_limit};

/// What frames may look like when they leave: what the letterbox reads without a conversion.
const SINK_CAPS: &str = "video/x-raw, format=(string){ NV12, I420, Y42B, Y444, GRAY8 }";

/// What a single picture may look like besides: as its decoder made it.
const SINK_CAPS_STILL: &str = "video/x-raw, format=(string)RGB";

/// What they may look like on the GPU, before the above: what the letterbox kernel reads.
const SINK_CAPS_CUDA: &str = "video/x-raw(memory:CUDAMemory), format=(string){ NV12, P010_10LE, I420 }";

/// Pictures of its own that a decoder of nvcodec may lend out at a time, where it lets itself be told
/// (GStreamer 1.24). One comes out of the decoder, one waits in the mailbox, one is being read; the fourth is
/// never lent, so that the decoder can always go on: with more held it copies instead.
const OUTPUT_SURFACES: u32 = 4;

/// Decoded frames that wait for whoever pulls.
const PULL_QUEUE_FRAMES: u32 = 2;

/// Why no frame is on a GPU where the spec names none.
pub(crate) const NO_GPU: &str = "the detector does not run on an NVIDIA GPU";

/// What happens to frames that nobody has taken yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// A newer one replaces them.
    NewestWins,
    /// The source waits.
    Lossless,
}

/// Everything up to, and without, the first state change of the whole.
pub(crate) fn build(
    spec: &Spec,
    name: &str,
    delivery: Delivery,
    outlet: Arc<dyn Outlet>,
) -> Result<Core, StartError> {
    crate::init()?;
    let secret = spec.credentials.as_ref().map(SecretGuard::new);
    let target = Target::of(spec);
    look_at_path(spec, &target)?;
    let description = describe_launch(spec)?;
    let pipeline = parse(&description, name)?;
    count_objects(&pipeline);
    let sink = pipeline
        .by_name("sink")
        .and_then(|element| element.downcast::<gst_app::AppSink>().ok())
        .ok_or_else(|| StartError::Template {
            reason: "it has no element `appsink name=sink`, where frames leave".to_owned(),
        })?;
    let gpu = gpu_context(spec);
    let wish = spec.decoder_for_kind();
    let wants_gpu = spec.gpu.is_some() && wish == DecoderChoice::Auto;
    if let Ok(gpu) = &gpu {
        // The pipeline hands it to every element that it has or will have, before they start.
        pipeline.set_context(gpu.gst_context());
        if let Some(none) = no_display::context() {
            pipeline.set_context(none);
        }
    }
    // From here on whatever fails is taken down by the drop of the core.
    let core = Core {
        pipeline,
        sink,
        reporter: Arc::new(Reporter::new(outlet, target, gpu, wants_gpu)),
        name: name.to_owned(),
        _secret: secret,
        _ticket: Ticket::of_pipeline(),
    };
    if let Some(bus) = core.pipeline.bus() {
        core.reporter.listen(&bus);
    }
    set_up_sink(&core, spec, delivery);
    set_up_elements(&core, spec)?;
    if let Some(raw) = core.pipeline.by_name("raw") {
        if let Some(streams) = core.pipeline.by_name("streams") {
            link::streams(&streams, &raw, &core.pipeline, &core.reporter, &wish);
        }
        if let Some(camera) = core.pipeline.by_name("camera") {
            link::camera(&camera, &raw, &core.pipeline, &core.reporter, &wish)?;
        }
    }
    Ok(core)
}

/// The CUDA context that frames may be in, or why they may be in none.
pub(crate) fn gpu_context(spec: &Spec) -> Result<Arc<GpuContext>, String> {
    match &spec.gpu {
        Some(gpu) => GpuContext::of(gpu).inspect(|_| load_nvcodec()),
        None => Err(NO_GPU.to_owned()),
    }
}

/// Says at once what GStreamer would say later and less clearly.
fn look_at_path(spec: &Spec, target: &Target) -> Result<(), Failure> {
    let (path, is_file): (&Path, bool) = match &spec.kind {
        SourceKind::File { path } | SourceKind::Image { path } => (path, true),
        SourceKind::V4l2 { device } => (device, false),
        SourceKind::Rtsp { .. } | SourceKind::Csi { .. } => return Ok(()),
    };
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => failure(FailureClass::NotFound, target),
        std::io::ErrorKind::PermissionDenied => failure(FailureClass::Permission, target),
        _ => Failure::new(FailureClass::Other, format!("{}: {error}", target.label)),
    })?;
    if is_file && metadata.is_dir() {
        return Err(Failure::new(FailureClass::Decode, format!("{} is a folder, not a file", target.label)));
    }
    if is_file && metadata.is_file() && metadata.len() == 0 {
        return Err(Failure::new(FailureClass::Decode, format!("{} is empty", target.label)));
    }
    Ok(())
}

fn describe_launch(spec: &Spec) -> Result<String, StartError> {
    let text = match &spec.template {
        Some(own) => own.as_str(),
        None => {
            let candidates = templates(&spec.kind);
            let installed =
                candidates.iter().find(|template| gst::ElementFactory::find(template.key_element).is_some());
            installed
                .ok_or_else(|| none_installed(&candidates.iter().map(|t| t.key_element).collect::<Vec<_>>()))?
                .text
        }
    };
    launch::expand(text, spec).map_err(|reason| StartError::Template { reason })
}

fn none_installed(elements: &[&str]) -> Failure {
    let ways: Vec<String> =
        elements.iter().map(|element| format!("{element} (package {})", package_of(element))).collect();
    let element = (*elements.last().unwrap_or(&"source")).to_owned();
    let package = package_of(&element).to_owned();
    let message =
        format!("this source needs the GStreamer element {}, which is not installed", ways.join(" or "));
    Failure::new(FailureClass::MissingElement { element, package }, message)
}

fn parse(description: &str, name: &str) -> Result<gst::Pipeline, StartError> {
    let parsed = gst::parse::launch_full(description, None, gst::ParseFlags::FATAL_ERRORS);
    let element = parsed.map_err(|error| parse_error(&error))?;
    let pipeline = element.downcast::<gst::Pipeline>().map_err(|_| StartError::Template {
        reason: "it is a single element; it needs a source and an element `appsink name=sink`".to_owned(),
    })?;
    // Names only show in logs; one that GStreamer refuses is not worth failing for.
    pipeline.set_property("name", name);
    Ok(pipeline)
}

fn parse_error(error: &glib::Error) -> StartError {
    // `no element "foo"`: the quoted name is the only place where it is said.
    let missing = error.message().split('"').nth(1);
    match (error.kind::<gst::ParseError>(), missing) {
        (Some(gst::ParseError::NoSuchElement), Some(element)) => {
            let package = package_of(element).to_owned();
            let message = missing_element(element, &package);
            let class = FailureClass::MissingElement { element: element.to_owned(), package };
            StartError::Failed(Failure::new(class, message))
        }
        _ => StartError::Template { reason: crate::scrub(error.message()) },
    }
}

fn set_up_sink(core: &Core, spec: &Spec, delivery: Delivery) {
    let sink = &core.sink;
    let paced = match spec.kind {
        SourceKind::File { .. } => spec.realtime,
        // One picture has no pace.
        SourceKind::Image { .. } => false,
        // Live pictures are late already; waiting for their time would only make them older.
        SourceKind::Rtsp { .. } | SourceKind::V4l2 { .. } | SourceKind::Csi { .. } => false,
    };
    sink.set_sync(paced);
    sink.set_qos(false);
    sink.set_enable_last_sample(false);
    sink.set_wait_on_eos(delivery == Delivery::Lossless);
    sink.set_drop(delivery == Delivery::NewestWins);
    sink.set_max_buffers(if delivery == Delivery::NewestWins { 1 } else { PULL_QUEUE_FRAMES });
    let caps = match (&core.reporter.gpu, &spec.kind) {
        (_, SourceKind::Image { .. }) => format!("{SINK_CAPS}; {SINK_CAPS_STILL}"),
        (Ok(_), _) => format!("{SINK_CAPS_CUDA}; {SINK_CAPS}"),
        (Err(_), _) => SINK_CAPS.to_owned(),
    };
    sink.set_caps(caps.parse::<gst::Caps>().ok().as_ref());
    accept_video_meta(sink);
    let (of_sample, of_eos) = (core.reporter.clone(), core.reporter.clone());
    sink.set_callbacks(
        gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| of_sample.sample(sink))
            .eos(move |_| of_eos.end())
            .build(),
    );
}

/// Tells decoders that rows may be padded: without it they copy every picture into a tight buffer first.
fn accept_video_meta(sink: &gst_app::AppSink) {
    let Some(pad) = sink.static_pad("sink") else { return };
    pad.add_probe(gst::PadProbeType::QUERY_DOWNSTREAM, |_, info| {
        if let Some(query) = info.query_mut()
            && let gst::QueryViewMut::Allocation(allocation) = query.view_mut()
        {
            allocation.add_allocation_meta::<gst_video::VideoMeta>(None);
            return gst::PadProbeReturn::Handled;
        }
        gst::PadProbeReturn::Ok
    });
}

/// Credentials, authorities and decoder threads, on the elements that are there and on those to come.
fn set_up_elements(core: &Core, spec: &Spec) -> Result<(), Failure> {
    let authorities = match (&spec.kind, &spec.tls_ca_file) {
        (SourceKind::Rtsp { .. }, Some(path)) => Some(gio::TlsFileDatabase::new(path).map_err(|error| {
            let reason = format!("tls_ca_file {} cannot be used: {}", path.display(), error.message());
            Failure::new(FailureClass::Certificate, reason)
        })?),
        _ => None,
    };
    let threads = i32::try_from(spec.decode_threads.max(1)).unwrap_or(i32::MAX);
    for element in core.pipeline.iterate_recurse().into_iter().flatten() {
        set_up_decoder(&element, threads);
        keyframes::guard(&element, spec.kept_bytes_max, &core.reporter);
        picture_limit::guard(&element, &core.reporter);
        if let Some(credentials) = &spec.credentials
            && element.has_property_with_type("user-id", glib::Type::STRING)
            && element.has_property_with_type("user-pw", glib::Type::STRING)
        {
            element.set_property("user-id", &credentials.username);
            element.set_property("user-pw", &credentials.password);
        }
        if let Some(authorities) = &authorities
            && element.has_property("tls-database")
        {
            element.set_property("tls-database", authorities);
        }
    }
    let (reporter, kept_bytes_max) = (core.reporter.clone(), spec.kept_bytes_max);
    core.pipeline.connect_deep_element_added(move |_, _, element| {
        set_up_decoder(element, threads);
        keyframes::guard(element, kept_bytes_max, &reporter);
        picture_limit::guard(element, &reporter);
    });
    Ok(())
}

fn set_up_decoder(element: &gst::Element, threads: i32) {
    if element.has_property_with_type("num-output-surfaces", glib::Type::U32) {
        element.set_property("num-output-surfaces", OUTPUT_SURFACES);
    }
    // Its default is a hair faster and off by up to two levels, which other JPEG decoders are not.
    if element.factory().is_some_and(|factory| factory.name() == "jpegdec") {
        element.set_property_from_str("idct-method", "islow");
    }
    if !element.factory().is_some_and(|factory| factory.name().starts_with("avdec_")) {
        return;
    }
    // 0, the default, would take every core for every camera.
    if element.has_property_with_type("max-threads", glib::Type::I32)
        && element.property::<i32>("max-threads") == 0
    {
        element.set_property("max-threads", threads);
    }
    // Pictures that the decoder itself calls damaged are grey smear; nothing should be detected in them.
    if element.has_property_with_type("output-corrupt", glib::Type::BOOL) {
        element.set_property("output-corrupt", false);
    }
}

/// What the pipeline that ends in `sink` turned out to be.
pub(crate) fn describe(sink: &gst_app::AppSink, sample: &gst::Sample) -> SourceInfo {
    let structure = sample.caps().and_then(|caps| caps.structure(0));
    let fps = structure
        .and_then(|structure| structure.get::<gst::Fraction>("framerate").ok())
        .filter(|rate| rate.numer() > 0 && rate.denom() > 0)
        .map(|rate| f64::from(rate.numer()) / f64::from(rate.denom()));
    let colorimetry = sample
        .caps()
        .and_then(|caps| gst_video::VideoInfo::from_caps(caps).ok())
        .map(|info| info.colorimetry().to_string());
    let decoder =
        root(sink).and_then(|pipeline| pipeline.iterate_recurse().into_iter().flatten().find(is_decoder));
    SourceInfo {
        codec: decoder.as_ref().and_then(codec_name),
        decoder: decoder.and_then(|element| Some(element.factory()?.name().to_string())),
        declared_fps: fps,
        colorimetry,
        ..SourceInfo::default()
    }
}

fn root(sink: &gst_app::AppSink) -> Option<gst::Bin> {
    let mut object = sink.upcast_ref::<gst::Object>().clone();
    while let Some(parent) = object.parent() {
        object = parent;
    }
    object.downcast::<gst::Bin>().ok()
}

fn is_decoder(element: &gst::Element) -> bool {
    let factory = element.factory();
    let class = factory.as_ref().and_then(|factory| factory.metadata("klass"));
    // Bins such as decodebin are "Generic/Bin/Decoder"; the real one is inside.
    class.is_some_and(|class| class.contains("Decoder") && !class.contains("Bin"))
}

fn codec_name(decoder: &gst::Element) -> Option<String> {
    let caps = decoder.static_pad("sink")?.current_caps()?;
    let known = CODECS
        .iter()
        .find(|codec| codec.caps.parse::<gst::Caps>().is_ok_and(|of_codec| of_codec.can_intersect(&caps)));
    match known {
        Some(codec) => Some(codec.name.to_owned()),
        None => caps.structure(0).map(|structure| structure.name().to_string()),
    }
}
