//! After warm-up the frame path makes no allocation: camera thread, source thread, engine thread.
//!
//! A counting allocator counts only on threads that have marked themselves: the fake source and the fake
//! engine mark the threads they are called on. The control shows that an allocation there is seen.

mod fakes;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use watchpost::config::{
    Anchor, BoxArea, CameraOptions, LINES_MAX, LineOptions, MASKS_MAX, ZONES_MAX, ZoneKind, ZoneOptions,
};
use watchpost::frame::Place;
use watchpost::metrics::{EventKind, Outcome, Registry};
use watchpost::shape::{Polygon, Segment};
use watchpost::source::Source;
use watchpost::supervisor::{Control, Parts, Supervisor, Verdict};
use watchpost_binding::{AxisOrder, Number, TensorForm};

const MAX_OBJECTS: usize = 1000;

struct Counting;

static COUNT: AtomicU64 = AtomicU64::new(0);
static LEAKY_ENGINE: AtomicBool = AtomicBool::new(false);

thread_local! {
    static MARKED: Cell<bool> = const { Cell::new(false) };
}

fn mark() {
    MARKED.with(|marked| marked.set(true));
    if LEAKY_ENGINE.load(Ordering::Relaxed) {
        drop(std::hint::black_box(Box::new([0u8; 64])));
    }
}

fn count() {
    // A thread that is ending has no thread-local values any more; it is not on the frame path.
    if MARKED.try_with(Cell::get).unwrap_or(false) {
        COUNT.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The fake pictures move and stand still by turns; both have to come.
fn gate_motion(camera: &mut CameraOptions) {
    camera.motion_gate = true;
    (camera.motion_hold, camera.motion_refresh) = (Duration::from_millis(50), Duration::from_millis(50));
}

/// Every filter, masks, and zones and a line that the swaying objects cross again and again.
fn watch_everything(camera: &mut CameraOptions) {
    let polygon = |points: &[[f32; 2]]| Polygon::new(points).expect("a polygon");
    let zone = |index: usize, kind, x: f32| ZoneOptions {
        name: format!("zone{index}"),
        polygon: polygon(&[[0.0, 0.0], [x, 0.0], [x, 1.0], [0.0, 1.0]]),
        kind,
        anchor: [Anchor::Foot, Anchor::Centre, Anchor::Overlap(0.5)][index % 3],
        classes: None,
        dwell: Some(Duration::from_millis(200)),
        settle: Duration::ZERO,
    };
    camera.track = true;
    camera.score_thresholds = vec![("car".to_owned(), 0.2)];
    camera.boxes.min_area = Some(BoxArea::Pixels(4.0));
    camera.privacy_masks = vec![polygon(&[[0.0, 0.0], [0.2, 0.0], [0.1, 0.3]]); 3];
    // The object of class 0 sways about x = 0.47.
    camera.zones = (0..6).map(|index| zone(index, ZoneKind::Watch, 0.47)).collect();
    camera.zones.push(zone(6, ZoneKind::Include, 0.97));
    camera.zones.push(zone(7, ZoneKind::Ignore, 0.01));
    camera.lines = vec![LineOptions {
        name: "line".to_owned(),
        segment: Segment { from: [0.47, 1.0], to: [0.47, 0.0] },
        anchor: Anchor::Centre,
        classes: None,
        directions: ["in".to_owned(), "out".to_owned()],
    }];
}

/// A camera in which something moves for 40 frames, and nothing for as many.
fn moving(interval: Duration, sent: Arc<AtomicU64>) -> Arc<dyn Source> {
    Arc::new(fakes::FakeSource { interval, moves_for: 40, on_thread: mark, sent })
}

/// A daemon of fake parts that runs on a thread of its own.
struct Running {
    control: Control,
    registry: Arc<Registry>,
    thread: JoinHandle<Verdict>,
}

impl Running {
    fn start(parts: Parts) -> Self {
        let supervisor = Supervisor::start(parts).expect("starts");
        let (control, registry) = (supervisor.control(), supervisor.registry());
        Self { control, registry, thread: std::thread::spawn(move || supervisor.run()) }
    }

    fn wait_for(&self, frames: u64) {
        let detected =
            || self.registry.cameras().iter().map(|c| c.outcome_count(Outcome::Detected)).sum::<u64>();
        let goal = detected() + frames;
        for _ in 0..6000 {
            if detected() >= goal {
                return;
            }
            fakes::wait(Duration::from_millis(10));
        }
        panic!("{frames} frames did not come");
    }

    /// Allocations in windows of so many frames.
    fn windows(&self, frames: u64) -> Vec<u64> {
        // Lists of waiting threads inside the channels grow once to their largest size, and on a busy machine that
        // may come late. What is allocated per frame can have no window without it.
        self.wait_for(300);
        let window = || {
            let before = COUNT.load(Ordering::Relaxed);
            self.wait_for(frames);
            COUNT.load(Ordering::Relaxed) - before
        };
        std::iter::repeat_with(window).take(5).collect()
    }

    fn stop(self) {
        self.control.stop("the test is over");
        assert_eq!(self.thread.join().expect("no panic"), Verdict::Stopped);
    }
}

#[test]
fn the_frame_path_allocates_nothing_after_warm_up_and_the_test_would_see_it() {
    // Both count with the same counters: one after the other.
    let folder = tempfile::tempdir().expect("a folder");
    let engine = fakes::FakeEngine::new(Duration::ZERO, mark);
    let interval = Duration::from_millis(2);
    let (mut parts, sent) = fakes::parts(3, interval, engine, folder.path());
    gate_motion(&mut parts.config.cameras[0]);
    // Whom it sees would keep it awake for a minute.
    parts.config.cameras[0].boxes.min_area = Some(BoxArea::Pixels(1e9));
    parts.sources[0] = moving(interval, sent);
    let running = Running::start(parts);
    let windows = running.windows(1000);
    let gated = Arc::clone(&running.registry.cameras()[0]);
    let (seen, left_out) = (gated.outcome_count(Outcome::Detected), gated.outcome_count(Outcome::Still));
    LEAKY_ENGINE.store(true, Ordering::Relaxed);
    let before = COUNT.load(Ordering::Relaxed);
    running.wait_for(100);
    let control_allocations = COUNT.load(Ordering::Relaxed) - before;
    LEAKY_ENGINE.store(false, Ordering::Relaxed);
    running.stop();
    assert!(windows.contains(&0), "allocations in windows of 1000 frames: {windows:?}");
    assert!(windows.iter().sum::<u64>() <= 20, "allocations in windows of 1000 frames: {windows:?}");
    assert!(seen > 100 && left_out > 100, "the gate let {seen} pass and left {left_out} out");
    assert!(control_allocations >= 100, "the control saw {control_allocations} of 100 allocations");

    zones_lines_masks_and_their_events_cost_no_allocation();
    slots_of_another_form_cost_no_allocation();
    as_many_objects_as_configured_are_tracked_without_an_allocation();
}

fn zones_lines_masks_and_their_events_cost_no_allocation() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut engine = fakes::FakeEngine::new(Duration::ZERO, mark);
    engine.sway = 4.0;
    let (mut parts, _sent) = fakes::parts(2, Duration::from_millis(2), engine, folder.path());
    watch_everything(&mut parts.config.cameras[0]);
    let running = Running::start(parts);
    let windows = running.windows(1000);
    let camera = Arc::clone(&running.registry.cameras()[0]);
    running.stop();
    for kind in [EventKind::Enter, EventKind::Leave, EventKind::Cross, EventKind::Count] {
        assert!(camera.event_count(kind) >= 10, "{}: {}", kind.as_str(), camera.event_count(kind));
    }
    assert!(windows.contains(&0), "allocations in windows of 1000 frames: {windows:?}");
    assert!(windows.iter().sum::<u64>() <= 20, "allocations in windows of 1000 frames: {windows:?}");
}

/// Channels last and bytes, and masks in them.
fn slots_of_another_form_cost_no_allocation() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut engine = fakes::FakeEngine::new(Duration::ZERO, mark);
    engine.place = Place::HostFormed(TensorForm { order: AxisOrder::Nhwc, number: Number::U8 });
    let (mut parts, _sent) = fakes::parts(2, Duration::from_millis(2), engine, folder.path());
    watch_everything(&mut parts.config.cameras[0]);
    let running = Running::start(parts);
    let windows = running.windows(300);
    running.stop();
    assert!(windows.contains(&0), "allocations in windows of 300 frames: {windows:?}");
    assert!(windows.iter().sum::<u64>() <= 20, "allocations in windows of 300 frames: {windows:?}");
}

/// All that a configuration may ask of a camera, and more people in its zones than are remembered.
fn watch_the_most(camera: &mut CameraOptions) {
    watch_everything(camera);
    gate_motion(camera);
    camera.track_keep = Duration::from_secs(60);
    for index in camera.zones.len()..ZONES_MAX {
        let zone = camera.zones[index % 6].clone();
        camera.zones.push(ZoneOptions { name: format!("zone{index}"), ..zone });
    }
    for index in camera.lines.len()..LINES_MAX {
        let x = index as f32 / LINES_MAX as f32;
        let segment = Segment { from: [x, 1.0], to: [x, 0.0] };
        camera.lines.push(LineOptions { name: format!("line{index}"), segment, ..camera.lines[0].clone() });
    }
    camera.privacy_masks.resize(MASKS_MAX, camera.privacy_masks[0].clone());
}

fn as_many_objects_as_configured_are_tracked_without_an_allocation() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut engine = fakes::FakeEngine::crowded(mark);
    // More come than are remembered: twice as many as a frame may have.
    engine.parade = Some((2500, 8));
    let interval = Duration::from_millis(5);
    let (mut parts, sent) = fakes::parts(2, interval, engine, folder.path());
    parts.config.detector.max_objects = MAX_OBJECTS;
    parts.config.cameras.iter_mut().for_each(|camera| camera.track = true);
    watch_the_most(&mut parts.config.cameras[0]);
    parts.sources[0] = moving(interval, sent);
    let running = Running::start(parts);
    let windows = running.windows(100);
    let camera = Arc::clone(&running.registry.cameras()[0]);
    let full = full_record(&folder.path().join("records.sock"));
    running.stop();
    let tracked = full.matches("\"track_id\"").count();
    assert!(tracked > 400, "{tracked} of {MAX_OBJECTS} objects have an identity");
    let (entered, left) = (camera.event_count(EventKind::Enter), camera.event_count(EventKind::Leave));
    // Who left has given up the place in the tables, long before the memory of 60 s was over.
    assert!(entered > 2 * MAX_OBJECTS as u64 && left > 0, "{entered} came and {left} went");
    assert!(windows.contains(&0), "allocations in windows of 100 frames: {windows:?}");
    assert!(windows.iter().sum::<u64>() <= 20, "allocations in windows of 100 frames: {windows:?}");
}

/// The first whole detections record that comes with as many objects as there may be.
fn full_record(socket: &Path) -> String {
    let stream = UnixStream::connect(socket).expect("a socket");
    let mut lines = BufReader::new(stream).lines().map(|line| line.expect("a line"));
    let is_full = |line: &String| line.matches("\"class_id\"").count() == MAX_OBJECTS;
    lines.find(|line| line.contains("\"detections\"") && is_full(line)).expect("a record")
}
