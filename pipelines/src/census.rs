//! Counts what is open, so that tests and the daemon can see a leak.

use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicUsize, Ordering};

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;

static PIPELINES: AtomicUsize = AtomicUsize::new(0);
static OBJECTS: AtomicUsize = AtomicUsize::new(0);
static FRAMES: AtomicUsize = AtomicUsize::new(0);

/// One thing that exists.
pub(crate) struct Ticket(&'static AtomicUsize);

impl Ticket {
    pub(crate) fn of_pipeline() -> Self {
        Self::take(&PIPELINES)
    }

    pub(crate) fn of_frame() -> Self {
        Self::take(&FRAMES)
    }

    fn take(count: &'static AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts the pipeline, its elements and their pads, those to come as well, until GStreamer frees them: whoever
/// keeps a reference that nobody knows of is seen here, also when the pipeline is long gone.
pub(crate) fn count_objects(pipeline: &gst::Pipeline) {
    count(pipeline.upcast_ref());
    for element in pipeline.iterate_recurse().into_iter().flatten() {
        count_element(&element);
    }
    pipeline.connect_deep_element_added(|_, _, element| count_element(element));
}

fn count_element(element: &gst::Element) {
    count(element.upcast_ref());
    for pad in element.pads() {
        count(pad.upcast_ref());
    }
    element.connect_pad_added(|_, pad| count(pad.upcast_ref()));
}

fn count(object: &glib::Object) {
    let ticket = Ticket::take(&OBJECTS);
    // What is returned could take the notification back; nobody does.
    let _stays = object.add_weak_ref_notify(move || drop(ticket));
}

/// Pipelines that exist in this process.
#[must_use]
pub fn open_pipelines() -> usize {
    PIPELINES.load(Ordering::Relaxed)
}

/// Pipelines, elements and pads that exist in this process. Unlike [`live_objects`] it may be asked at any time.
#[must_use]
pub fn open_objects() -> usize {
    OBJECTS.load(Ordering::Relaxed)
}

/// Decoded frames that somebody holds in this process.
#[must_use]
pub fn open_frames() -> usize {
    FRAMES.load(Ordering::Relaxed)
}

/// GStreamer objects (elements, pads, buffers, caps, …) alive in this process. `None` unless the process was
/// started with `GST_TRACERS=leaks`.
///
/// For tests, at rest: the tracer crashes when another thread frees an object that it is listing. Stop every
/// pipeline in the process before, an RTSP server's too.
#[must_use]
pub fn live_objects() -> Option<usize> {
    crate::init().ok()?;
    let leaks = gst::active_tracers().into_iter().find(|tracer| tracer.type_().name() == "GstLeaksTracer")?;
    // Never freed: the tracer (seen with 1.22) lists objects without taking a reference, so that freeing
    // the list would take away references that others own.
    let objects = ManuallyDrop::new(leaks.emit_by_name::<Option<gst::Structure>>("get-live-objects", &[])?);
    let list = objects.value("live-objects-list").ok()?;
    list.get::<gst::List>().ok().map(|list| list.len())
}
