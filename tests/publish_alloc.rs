//! Publishing allocates nothing once it is warm. The only test here: it counts for the whole process.

mod publish_support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};

use publish_support::{objects, record, registry, start, tcp, unix, wait_for_readers};
use watchpost::publish::{CameraState, State};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, and it is the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System`, through `alloc` or `realloc` here.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the pointer came from `System`, through `alloc` or `realloc` here.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations_of(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    work();
    ALLOCATIONS.load(Ordering::SeqCst) - before
}

#[test]
fn a_warm_publisher_allocates_nothing_for_a_record_or_for_its_readers() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("s.sock");
    let outputs = [unix("local", &path), tcp("net")];
    let metrics = registry(&outputs);
    let (publisher, _closed) = start(&outputs, &metrics);
    let mut reader = UnixStream::connect(&path).expect("listens");
    let never_reads = UnixStream::connect(&path).expect("listens");
    wait_for_readers(&metrics, "local", 2);
    let objects = objects();
    let mut piece = [0; 65_536];
    // Publishes some and waits until the reader has them, so that its thread has been at work.
    let mut round = |seq: u64| {
        for seq in seq..seq + 10 {
            publisher.detections(&record(seq, &objects));
            let (ts, state) = (record(seq, &[]).ts, State::BackingOff);
            let (reason, detail) = (Some("stalled"), Some("no new frame for 5.0 s"));
            let generation = 4;
            let camera = "gate";
            let retry_in_ms = Some(1000);
            publisher.camera_state(&CameraState {
                camera,
                generation,
                ts,
                state,
                reason,
                detail,
                retry_in_ms,
                shed: None,
            });
        }
        let mut lines = 0;
        while lines < 20 {
            let bytes = reader.read(&mut piece).expect("reads");
            lines += piece[..bytes].iter().filter(|byte| **byte == b'\n').count();
        }
    };
    (0..100).for_each(&mut round);
    assert_eq!(allocations_of(|| (100..1000).for_each(&mut round)), 0);
    // The control: this counter does count.
    assert_eq!(allocations_of(|| drop(std::hint::black_box(Box::new(1)))), 1);
    drop(never_reads);
}
