//! A detector that is five times too slow: frames are dropped, not queued, so what is published is fresh
//! and memory stays where it is.

mod fakes;

use std::time::Duration;

use watchpost::metrics::{Outcome, process_usage};
use watchpost::supervisor::{Supervisor, Verdict};

const INFERENCE: Duration = Duration::from_millis(50);

/// Runs `cameras`, each of which alone sends five times as many frames as the engine takes.
fn run(cameras: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = fakes::FakeEngine::new(INFERENCE, || {});
    let (parts, _sent) = fakes::parts(cameras, INFERENCE / 5, engine, folder.path());
    let supervisor = Supervisor::start(parts).expect("starts");
    let (control, registry) = (supervisor.control(), supervisor.registry());
    let running = std::thread::spawn(move || supervisor.run());

    fakes::wait(Duration::from_secs(2));
    let warm_bytes = process_usage().rss_bytes;
    fakes::wait(Duration::from_secs(8));
    let grown_bytes = process_usage().rss_bytes.saturating_sub(warm_bytes);
    let state = control.state(Duration::from_secs(1)).expect("the supervisor answers");
    control.stop("the test is over");
    assert_eq!(running.join().expect("no panic"), Verdict::Stopped);

    // On a busy machine a thread wakes late: what counts is how long inferences really took.
    let inference = registry.snapshot(watchpost::clock::now()).engines[0].inference;
    let slowest = inference.max_seconds.max(INFERENCE.as_secs_f64());
    let mut detected_min = u64::MAX;
    let mut detected_max = 0;
    for (camera, debug) in registry.cameras().iter().zip(&state.cameras) {
        let detected = camera.outcome_count(Outcome::Detected);
        let age = camera.frame_age.summary();
        eprintln!(
            "{}: {} in, {detected} detected, {} superseded, age p50 {:.1} ms, p99 {:.1} ms",
            camera.name(),
            camera.frames_in(),
            camera.outcome_count(Outcome::Superseded),
            age.p50_seconds * 1e3,
            age.p99_seconds * 1e3,
        );
        assert!(
            age.p99_seconds < 2.0 * slowest,
            "{}: p99 {}, the slowest inference {slowest}",
            camera.name(),
            age.p99_seconds
        );
        assert!(camera.frames_in() > 4 * detected, "the detector is too slow by five");
        let in_slots = (debug.slots.capacity - debug.slots.free) as u64;
        assert!(in_slots <= debug.slots.capacity as u64);
        let outcomes: u64 = Outcome::ALL.iter().map(|&outcome| camera.outcome_count(outcome)).sum();
        // All slots are home again and the mailboxes are empty: every frame has met its end.
        assert_eq!(camera.frames_in(), outcomes, "every frame has exactly one outcome");
        detected_min = detected_min.min(detected);
        detected_max = detected_max.max(detected);
    }
    // In turn: the shares of equal cameras are equal.
    assert!(detected_max - detected_min <= 2 + detected_max / 20, "{detected_min}..{detected_max}");
    let total: u64 = registry.cameras().iter().map(|c| c.outcome_count(Outcome::Detected)).sum();
    assert!(inference.sum_seconds > 7.5, "the engine was kept busy: {total} inferences in {inference:?}");
    assert!(grown_bytes < 1 << 20, "memory grew by {grown_bytes} bytes");
}

#[test]
fn what_is_published_is_fresh_and_memory_is_flat_when_the_detector_is_too_slow() {
    run(1);
    run(4);
}
