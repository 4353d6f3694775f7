//! What a pipeline has to say: bus messages and our own findings, put into words and sent out.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use crate::capture_time::CaptureClock;
use crate::choice::Chosen;
use crate::explain::{self, Target, explain};
use crate::failure::{Failure, FailureClass};
use crate::frame::Origin;
use crate::gst_cuda::GpuContext;
use crate::outlet::{Event, Outlet, Stage, Times};
use crate::rtp_times::RtpTimes;
use crate::sockets::Sockets;
use crate::spec::SourceKind;
use crate::table::Codec;

/// Speaks for one pipeline, on any thread.
pub(crate) struct Reporter {
    pub(crate) outlet: Arc<dyn Outlet>,
    pub(crate) target: Target,
    heard: Mutex<Heard>,
    /// A frame came out.
    delivered: AtomicBool,
    /// A stream that is not video was seen.
    other_stream: AtomicBool,
    /// The timestamps of the camera's packets.
    pub(crate) rtp_times: Arc<RtpTimes>,
    /// The camera's clock.
    pub(crate) capture_clock: Arc<CaptureClock>,
    /// The context that frames on the GPU are in.
    pub(crate) gpu: Result<Arc<GpuContext>, String>,
    /// The GPU was to decode if it can.
    wants_gpu: bool,
    /// Who decodes, once that is known.
    decoding: OnceLock<Decoding>,
    /// Connections to the camera.
    pub(crate) sockets: Arc<Sockets>,
    /// Coded pictures that are kept in front of its decoder.
    pub(crate) kept_count: Arc<AtomicUsize>,
}

/// Who decodes.
#[derive(Debug)]
struct Decoding {
    chosen: Chosen,
    /// Name of the element in its pipeline.
    name: glib::GString,
    is_jpeg: bool,
}

/// What was said so far.
#[derive(Default)]
struct Heard {
    /// Later failures are echoes of this one.
    first_failure: Option<Failure>,
    /// GStreamer's name of a decoder that it looked for and did not find, said before the error itself.
    missing_plugin: Option<String>,
}

impl Reporter {
    pub(crate) fn new(
        outlet: Arc<dyn Outlet>,
        target: Target,
        gpu: Result<Arc<GpuContext>, String>,
        wants_gpu: bool,
    ) -> Self {
        Self {
            outlet,
            target,
            heard: Mutex::default(),
            delivered: AtomicBool::new(false),
            other_stream: AtomicBool::new(false),
            rtp_times: Arc::default(),
            capture_clock: Arc::default(),
            gpu,
            wants_gpu,
            decoding: OnceLock::new(),
            sockets: Arc::default(),
            kept_count: Arc::default(),
        }
    }

    /// Something is wrong that the stream survives.
    pub(crate) fn warn(&self, failure: Failure) {
        self.outlet.event(Event::Warning(failure));
    }

    /// `decoder` is going to decode `codec`. Said before it is put in place.
    pub(crate) fn decodes(&self, decoder: &gst::Element, codec: &Codec, chosen: Chosen) {
        let is_jpeg = codec.name == "JPEG";
        // A pipeline decodes one stream, so the first answer is the only one.
        let _known = self.decoding.set(Decoding { chosen, name: decoder.name(), is_jpeg });
    }

    /// The hardware decoder, while it has not given a picture yet.
    fn hardware_on_trial(&self) -> Option<&Decoding> {
        self.decoding.get().filter(|decoding| decoding.chosen.route.is_hardware() && !self.has_delivered())
    }

    /// `what` went wrong with the hardware decoder; `None` if there is none, or it has worked.
    pub(crate) fn hardware_failure(&self, what: &str) -> Option<Failure> {
        let decoding = self.hardware_on_trial()?;
        Some(explain::hardware_failure(&decoding.chosen.element, what, &self.target))
    }

    /// What a frame needs to know of this pipeline.
    pub(crate) fn origin<'a>(&'a self, times: Option<Times<'a>>) -> Origin<'a> {
        let decoding = self.decoding.get();
        Origin {
            times,
            gpu: self.gpu.as_ref().ok(),
            // Those of the CPU say it.
            is_jfif: decoding.is_some_and(|d| d.is_jpeg && d.chosen.route.is_hardware()),
            is_hardware: decoding.is_some_and(|decoding| decoding.chosen.route.is_hardware()),
            why_not_hardware: decoding
                .filter(|decoding| self.wants_gpu || decoding.chosen.unit_is_broken)
                .and_then(|decoding| decoding.chosen.why_not_hardware.as_deref()),
        }
    }

    pub(crate) fn fail(&self, failure: Failure) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.first_failure.is_some() {
            return;
        }
        heard.first_failure = Some(failure.clone());
        drop(heard);
        self.outlet.event(Event::Error(failure));
    }

    /// A decoded sample waits in `sink`.
    pub(crate) fn sample(&self, sink: &gst_app::AppSink) -> Result<gst::FlowSuccess, gst::FlowError> {
        let times = Times { rtp_times: &self.rtp_times, capture_clock: &self.capture_clock };
        match self.outlet.sample(sink, self.origin(Some(times))) {
            Ok(()) => self.delivered.store(true, Ordering::Relaxed),
            Err(reason) => match self.hardware_failure(&reason) {
                Some(failure) => self.fail(failure),
                None => self.outlet.event(Event::Warning(Failure::new(FailureClass::Decode, reason))),
            },
        }
        Ok(gst::FlowSuccess::Ok)
    }

    /// At least one frame came out.
    pub(crate) fn has_delivered(&self) -> bool {
        self.delivered.load(Ordering::Relaxed)
    }

    /// There is sound, or something else that is no video.
    pub(crate) fn note_other_stream(&self) {
        self.other_stream.store(true, Ordering::Relaxed);
    }

    /// Nothing comes out of the source, and nothing said why.
    pub(crate) fn fail_as_unreadable(&self) {
        let has_other = self.other_stream.load(Ordering::Relaxed);
        let class = if has_other { FailureClass::NoVideo } else { FailureClass::Decode };
        self.fail(explain::failure(class, &self.target));
    }

    /// The stream is over. A file that ends before it began was not one that can be decoded.
    pub(crate) fn end(&self) {
        let is_file = matches!(self.target.kind, SourceKind::File { .. } | SourceKind::Image { .. });
        if is_file && !self.has_delivered() {
            self.fail_as_unreadable();
        } else {
            self.outlet.event(Event::Eos);
        }
    }

    pub(crate) fn first_failure(&self) -> Failure {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.first_failure.clone().unwrap_or_else(|| {
            Failure::new(
                FailureClass::Other,
                format!("{} cannot be opened, and GStreamer does not say why", self.target.label),
            )
        })
    }

    /// Everything on the bus is dealt with on the thread that posts it; nothing is queued.
    pub(crate) fn listen(self: &Arc<Self>, bus: &gst::Bus) {
        let reporter = self.clone();
        bus.set_sync_handler(move |_, message| {
            reporter.message(message);
            gst::BusSyncReply::Drop
        });
    }

    fn message(&self, message: &gst::Message) {
        match message.view() {
            gst::MessageView::Error(error) => {
                let missing = {
                    let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
                    heard.missing_plugin.clone()
                };
                let debug = error.debug();
                if let Some(failure) = self.blame_hardware(message, &error.error(), debug.as_deref()) {
                    return self.fail(failure);
                }
                self.fail(explain(&error.error(), debug.as_deref(), &self.target, missing.as_deref()));
            }
            gst::MessageView::Warning(warning) => {
                let debug = warning.debug();
                let failure = explain(&warning.error(), debug.as_deref(), &self.target, None);
                self.outlet.event(Event::Warning(failure));
            }
            gst::MessageView::Element(element) => {
                if let Some(structure) = element.structure() {
                    self.element_message(structure);
                }
            }
            gst::MessageView::Progress(progress) => {
                // Comes before it connects, on the thread that does.
                Sockets::claim_thread(Arc::downgrade(&self.sockets));
                if let Some(stage) = stage(progress) {
                    self.outlet.stage(stage);
                }
            }
            // Usually the sink has said it already; not where nothing was ever linked to it.
            gst::MessageView::Eos(_) => self.end(),
            _ => {}
        }
    }

    /// An error before the first picture of a hardware decoder is put down to it if it says so itself, or if
    /// the stream stops flowing: whoever pushes into a decoder that refuses says only that. What the network
    /// or a device reports stays what it is.
    fn blame_hardware(
        &self,
        message: &gst::Message,
        error: &glib::Error,
        debug: Option<&str>,
    ) -> Option<Failure> {
        let decoding = self.hardware_on_trial()?;
        let by_itself = message.src().is_some_and(|source| source.name() == decoding.name);
        if !by_itself && !error.is::<gst::StreamError>() {
            return None;
        }
        self.hardware_failure(&explain::words_of(error, debug))
    }

    fn element_message(&self, structure: &gst::StructureRef) {
        match structure.name().as_str() {
            "GstRTSPSrcTimeout" => self.outlet.event(Event::Warning(Failure::new(
                FailureClass::Timeout,
                format!("{} has stopped sending", self.target.label),
            ))),
            "missing-plugin" => {
                let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
                heard.missing_plugin = structure.get::<String>("name").ok();
            }
            _ => {}
        }
    }
}

/// What rtspsrc says that it is doing. Its texts are for people; the codes are those of its source.
fn stage(progress: &gst::message::Progress) -> Option<Stage> {
    // From the structure: `Progress::get` of gstreamer-rs (0.25 at least) leaks both strings at each call.
    let structure = progress.structure()?;
    let kind = structure.get::<gst::ProgressType>("type").ok()?;
    let code = structure.get::<&str>("code").ok()?;
    match (kind, code) {
        (gst::ProgressType::Continue, "connect") => Some(Stage::Connecting),
        // "Retrieving server options", which it does once it is connected.
        (gst::ProgressType::Continue, "open") => Some(Stage::Asking),
        // "Sent PLAY request". What comes before it is a beginning only.
        (gst::ProgressType::Complete, "request") => Some(Stage::Awaiting),
        _ => None,
    }
}
