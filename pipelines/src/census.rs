//! Counts what is open, so that tests and the daemon can see a leak.

use std::ffi::OsString;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

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
/// For tests, after every pipeline of the process has been stopped, an RTSP server's too: it waits until no
/// other thread is doing anything, for the tracer (seen with 1.22) lists objects that another thread has just
/// begun to free, and the list then frees them for a second time.
#[must_use]
pub fn live_objects() -> Option<usize> {
    crate::init().ok()?;
    let leaks =
        gstreamer::active_tracers().into_iter().find(|tracer| tracer.type_().name() == "GstLeaksTracer")?;
    wait_for_quiet();
    // Never freed: the tracer (seen with 1.22) lists objects without taking a reference, so that freeing
    // the list would take away references that others own.
    let objects =
        ManuallyDrop::new(leaks.emit_by_name::<Option<gstreamer::Structure>>("get-live-objects", &[])?);
    let list = objects.value("live-objects-list").ok()?;
    list.get::<gstreamer::List>().ok().map(|list| list.len())
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
