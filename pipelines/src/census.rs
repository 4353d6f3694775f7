//! Counts what is open, so that tests and the daemon can see a leak.

use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicUsize, Ordering};

use gstreamer::prelude::*;

static OPEN: AtomicUsize = AtomicUsize::new(0);

/// One pipeline that exists.
pub(crate) struct Ticket(());

impl Ticket {
    pub(crate) fn take() -> Self {
        OPEN.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Pipelines that exist in this process.
#[must_use]
pub fn open_pipelines() -> usize {
    OPEN.load(Ordering::Relaxed)
}

/// GStreamer objects (elements, pads, buffers, caps, …) alive in this process. `None` unless the process was
/// started with `GST_TRACERS=leaks`.
///
/// For tests, at rest: the tracer crashes when another thread frees an object that it is listing. Stop every
/// pipeline in the process before, an RTSP server's too.
#[must_use]
pub fn live_objects() -> Option<usize> {
    crate::init().ok()?;
    let leaks =
        gstreamer::active_tracers().into_iter().find(|tracer| tracer.type_().name() == "GstLeaksTracer")?;
    // Never freed: the tracer (seen with 1.22) lists objects without taking a reference, so that freeing
    // the list would take away references that others own.
    let objects =
        ManuallyDrop::new(leaks.emit_by_name::<Option<gstreamer::Structure>>("get-live-objects", &[])?);
    let list = objects.value("live-objects-list").ok()?;
    list.get::<gstreamer::List>().ok().map(|list| list.len())
}
