//! Counts what is open, so that tests and the daemon can see a leak.

use std::ffi::OsString;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;

static PIPELINES: AtomicUsize = AtomicUsize::new(0);
static OBJECTS: AtomicUsize = AtomicUsize::new(0);
static FRAMES: AtomicUsize = AtomicUsize::new(0);
static CODED: AtomicUsize = AtomicUsize::new(0);

/// One thing that exists.
pub(crate) struct Ticket(&'static AtomicUsize);

impl Ticket {
    pub(crate) fn of_pipeline() -> Self {
        Self::take(&PIPELINES)
    }

    pub(crate) fn of_frame() -> Self {
        Self::take(&FRAMES)
    }

    pub(crate) fn of_coded() -> Self {
        Self::take(&CODED)
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

/// Coded pictures that are kept undecoded in this process.
#[must_use]
pub fn open_coded() -> usize {
    CODED.load(Ordering::Relaxed)
}

/// GStreamer objects (elements, pads, buffers, caps, …) alive in this process. `None` unless the process was
/// started with `GST_TRACERS=leaks`.
///
/// For tests, after every pipeline of the process has been stopped, an RTSP server's too: it waits until no
/// other thread is doing anything, for the tracer (seen with 1.22) lists objects that another thread has just
/// begun to free, and the list then frees them for a second time.
#[must_use]
pub fn live_objects() -> Option<usize> {
    crate::init().ok()?;
    let leaks = gst::active_tracers().into_iter().find(|tracer| tracer.type_().name() == "GstLeaksTracer")?;
    wait_for_quiet();
    // Never freed: the tracer (seen with 1.22) lists objects without taking a reference, so that freeing
    // the list would take away references that others own.
    let objects = ManuallyDrop::new(leaks.emit_by_name::<Option<gst::Structure>>("get-live-objects", &[])?);
    let list = objects.value("live-objects-list").ok()?;
    list.get::<gst::List>().ok().map(|list| list.len())
}

/// Two looks so far apart that find every other thread asleep, and none that has run meanwhile.
const QUIET: Duration = Duration::from_millis(10);
/// Something that never rests is not waited for.
const LOOKS_MAX: u32 = 2000;

fn wait_for_quiet() {
    let (never, nothing) = (Condvar::new(), Mutex::new(()));
    let mut before = None;
    for _ in 0..LOOKS_MAX {
        let now = sleepers();
        if now.is_some() && now == before {
            return;
        }
        before = now;
        let guard = nothing.lock().unwrap_or_else(PoisonError::into_inner);
        let _nobody_wakes = never.wait_timeout(guard, QUIET);
    }
}

/// Each other thread and how often it has run so far; `None` if one of them runs or wants to.
fn sleepers() -> Option<Vec<(OsString, String)>> {
    let own = std::fs::read_link("/proc/thread-self").ok()?;
    let mut found = Vec::new();
    for thread in std::fs::read_dir("/proc/self/task").ok()?.flatten() {
        if own.file_name() == Some(&thread.file_name()) {
            continue;
        }
        // One that ends just now has done something.
        let status = std::fs::read_to_string(thread.path().join("status")).ok()?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if !field("State:")?.starts_with('S') {
            return None;
        }
        let runs =
            format!("{} {}", field("voluntary_ctxt_switches:")?, field("nonvoluntary_ctxt_switches:")?);
        found.push((thread.file_name(), runs));
    }
    found.sort();
    Some(found)
}
