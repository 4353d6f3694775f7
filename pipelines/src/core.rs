//! Owner of one GStreamer pipeline: what is built is taken down here, whatever happened in between.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use crate::census::Ticket;
use crate::failure::StartError;
use crate::frame::Origin;
use crate::report::Reporter;
use crate::scrub::SecretGuard;
use crate::spec::SourceKind;

/// A camera that answers has taken its TEARDOWN by then. `teardown-timeout` in the launch template is shorter.
const CUT_AFTER: gst::ClockTime = gst::ClockTime::from_mseconds(250);

/// A pipeline and everything that hangs on it. Dropping it brings it to NULL on the calling thread.
pub(crate) struct Core {
    pub(crate) pipeline: gst::Pipeline,
    pub(crate) sink: gst_app::AppSink,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) name: String,
    /// The password stays known to the scrubber until the pipeline has said its last word.
    pub(crate) _secret: Option<SecretGuard>,
    pub(crate) _ticket: Ticket,
}

impl Core {
    pub(crate) fn play(&self) -> Result<(), StartError> {
        if self.pipeline.set_state(gst::State::Playing).is_ok() {
            return Ok(());
        }
        Err(StartError::Failed(self.reporter.first_failure()))
    }

    /// Says that the source is damaged when nothing came out of it and no thread works on it any more:
    /// parsebin (and decodebin) up to 1.22 at least swallow the error of a demuxer that fails while it is
    /// being plugged in, and then nothing more happens, not even the end. Files only: a camera that is still
    /// connecting has no such thread either.
    ///
    /// True once is no proof: between finding the type and reading on no thread runs either, on a busy machine for half
    /// a second and more.
    pub(crate) fn seems_dead(&self) -> bool {
        let kind = &self.reporter.target.kind;
        if !matches!(kind, SourceKind::File { .. } | SourceKind::Image { .. }) {
            return false;
        }
        let elements = self.pipeline.iterate_recurse().into_iter().flatten();
        let mut pads = elements.flat_map(|element| element.pads());
        let runs = pads.any(|pad| pad.task_state() == gst::TaskState::Started);
        // Asked last: what was delivered before the last thread ended is seen.
        !runs && !self.reporter.has_delivered()
    }

    pub(crate) fn fail_as_unreadable(&self) {
        self.reporter.fail_as_unreadable();
    }

    pub(crate) fn duration(&self) -> Option<std::time::Duration> {
        self.pipeline.query_duration::<gst::ClockTime>().map(Into::into)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What frames that are pulled need to know.
    pub(crate) fn origin(&self) -> Origin<'_> {
        self.reporter.origin(None)
    }

    pub(crate) fn sink(&self) -> &gst_app::AppSink {
        &self.sink
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // First the way out, so that no callback can follow; then the sink, whose full queue may hold the
        // streaming thread; then the state change, which joins every thread.
        self.reporter.outlet.close();
        if let Some(bus) = self.pipeline.bus() {
            bus.set_sync_handler(|_, _| gst::BusSyncReply::Drop);
            bus.set_flushing(true);
        }
        let cut = self.reporter.sockets.cut_after(CUT_AFTER);
        if self.pipeline.set_state(gst::State::Null).is_err() {
            tracing::warn!(pipeline = %self.name, "the pipeline refused to go to NULL");
        }
        drop(cut);
        // An element that a streaming thread added while the pipeline went down may have been missed.
        for element in self.pipeline.children() {
            let _ = element.set_state(gst::State::Null);
        }
        // No thread is left that could keep more, or decode it.
        let kept_count = self.reporter.kept_count.swap(0, Ordering::Relaxed);
        (0..kept_count).for_each(|_| self.reporter.outlet.skipped(None));
        self.reporter.outlet.finish();
        self.sink.set_callbacks(gst_app::AppSinkCallbacks::builder().build());
        if let Some(bus) = self.pipeline.bus() {
            bus.unset_sync_handler();
        }
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("name", &self.name).finish_non_exhaustive()
    }
}
