//! What a pipeline has to say: bus messages and our own findings, put into words and sent out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gstreamer as gst;
use gstreamer_app as gst_app;

use crate::capture_time::CaptureClock;
use crate::explain::{self, Target, explain};
use crate::failure::{Failure, FailureClass};
use crate::outlet::{Event, Outlet, Times};
use crate::rtp_times::RtpTimes;
use crate::spec::SourceKind;

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
    pub(crate) fn new(outlet: Arc<dyn Outlet>, target: Target) -> Self {
        Self {
            outlet,
            target,
            heard: Mutex::default(),
            delivered: AtomicBool::new(false),
            other_stream: AtomicBool::new(false),
            rtp_times: Arc::default(),
            capture_clock: Arc::default(),
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
        self.delivered.store(true, Ordering::Relaxed);
        let rtp_changes_count = self.rtp_times.changes_count();
        self.outlet.sample(sink, Times { rtp_changes_count, capture_clock: &self.capture_clock })
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
            // Usually the sink has said it already; not where nothing was ever linked to it.
            gst::MessageView::Eos(_) => self.end(),
            _ => {}
        }
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
