//! After warm-up the frame path makes no allocation: camera thread, source thread, engine thread.
//!
//! A counting allocator counts only on threads that have marked themselves: the fake source and the fake
//! engine mark the threads they are called on. The control shows that an allocation there is seen.

mod fakes;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use watchpost::config::{Anchor, BoxArea, CameraOptions, LineOptions, ZoneKind, ZoneOptions};
use watchpost::metrics::{EventKind, Outcome};
use watchpost::shape::{Polygon, Segment};
use watchpost::supervisor::{Supervisor, Verdict};

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

#[test]
fn the_frame_path_allocates_nothing_after_warm_up_and_the_test_would_see_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut engine = fakes::FakeEngine::new(Duration::ZERO, mark);
    engine.sway = 4.0;
    let (mut parts, _sent) = fakes::parts(3, Duration::from_millis(2), engine, folder.path());
    watch_everything(&mut parts.config.cameras[0]);
    let supervisor = Supervisor::start(parts).expect("starts");
    let (control, registry) = (supervisor.control(), supervisor.registry());
    let running = std::thread::spawn(move || supervisor.run());
    let events = || {
        let of_first = registry.cameras()[0].clone();
        [EventKind::Enter, EventKind::Leave, EventKind::Cross, EventKind::Count]
            .map(|kind| of_first.event_count(kind))
    };
    let detected = || registry.cameras().iter().map(|c| c.outcome_count(Outcome::Detected)).sum::<u64>();

    let wait_for = |frames: u64| {
        let goal = detected() + frames;
        for _ in 0..3000 {
            if detected() >= goal {
                return;
            }
            fakes::wait(Duration::from_millis(10));
        }
        panic!("{frames} frames did not come");
    };
    // Lists of waiting threads inside the channels grow once to their largest size, and on a busy machine that
    // may come late. What is allocated per frame can have no window without it.
    wait_for(300);
    let window = || {
        let before = COUNT.load(Ordering::Relaxed);
        wait_for(1000);
        COUNT.load(Ordering::Relaxed) - before
    };
    let windows: Vec<u64> = std::iter::repeat_with(window).take(5).collect();

    LEAKY_ENGINE.store(true, Ordering::Relaxed);
    let before = COUNT.load(Ordering::Relaxed);
    wait_for(100);
    let control_allocations = COUNT.load(Ordering::Relaxed) - before;

    control.stop("the test is over");
    assert_eq!(running.join().expect("no panic"), Verdict::Stopped);
    let told = events();
    assert!(told.iter().all(|&count| count >= 10), "enter, leave, cross, count: {told:?}");
    assert!(windows.contains(&0), "allocations in windows of 1000 frames: {windows:?}");
    assert!(windows.iter().sum::<u64>() <= 20, "allocations in windows of 1000 frames: {windows:?}");
    assert!(control_allocations >= 100, "the control saw {control_allocations} of 100 allocations");
}
