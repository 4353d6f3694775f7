//! Whatever a camera's source does, even inside a library, stays with that camera; a broken engine ends the
//! process in order, never half.

mod fakes;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use watchpost::engine::{Engine, EngineError, TensorView};
use watchpost::frame::SlotMemory;
use watchpost::metrics::Outcome;
use watchpost::source::{Fault, Opening, Receiver, Source};
use watchpost::supervisor::{Parts, Supervisor, Verdict};

/// A source that misbehaves when it is opened, or when it is torn down.
enum Trouble {
    PanicsAtOpen,
    HangsAtOpen(Arc<AtomicBool>),
    HangsAtTeardown(Arc<AtomicBool>),
}

struct Hangs(Arc<AtomicBool>);

impl Opening for Hangs {}

impl Drop for Hangs {
    fn drop(&mut self) {
        while !self.0.load(Ordering::Relaxed) {
            fakes::wait(Duration::from_millis(10));
        }
    }
}

impl Source for Trouble {
    fn open(&self, _generation: u64, _receiver: Arc<dyn Receiver>) -> Result<Box<dyn Opening>, Fault> {
        match self {
            Self::PanicsAtOpen => panic!("on purpose"),
            Self::HangsAtOpen(release) => {
                drop(Hangs(Arc::clone(release)));
                panic!("on purpose, late");
            }
            Self::HangsAtTeardown(release) => Ok(Box::new(Hangs(Arc::clone(release)))),
        }
    }
}

/// Fake cameras, the first `troubles.len()` of which are replaced.
fn parts(cameras: usize, troubles: Vec<Trouble>, folder: &Path) -> Parts {
    let engine = fakes::FakeEngine::new(Duration::ZERO, || {});
    let (mut parts, _sent) = fakes::parts(cameras, Duration::from_millis(20), engine, folder);
    for (source, trouble) in parts.sources.iter_mut().zip(troubles) {
        *source = Arc::new(trouble);
    }
    parts.config.supervisor.teardown_timeout = Duration::from_millis(200);
    parts.config.supervisor.backoff_min = Duration::from_millis(100);
    for camera in &mut parts.config.cameras {
        camera.open_timeout = Duration::from_millis(300);
    }
    parts
}

#[test]
fn a_panic_on_a_cameras_thread_costs_that_camera_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let supervisor = Supervisor::start(parts(2, vec![Trouble::PanicsAtOpen], folder.path())).expect("starts");
    let (control, registry) = (supervisor.control(), supervisor.registry());
    let running = std::thread::spawn(move || supervisor.run());
    fakes::wait(Duration::from_millis(1500));
    let state = control.state(Duration::from_secs(1)).expect("the supervisor answers");
    control.stop("the test is over");
    assert_eq!(running.join().expect("no panic"), Verdict::Stopped);
    assert_eq!(state.cameras[0].reason.as_deref(), Some("internal"));
    assert!(state.cameras[0].generation >= 2, "it is tried again");
    assert_eq!(state.cameras[0].slots.free, state.cameras[0].slots.capacity);
    assert_eq!(state.cameras[1].generation, 1, "the neighbour did not notice");
    assert!(registry.cameras()[1].outcome_count(Outcome::Detected) > 30);
}

#[test]
fn a_teardown_that_never_returns_is_left_alone_and_the_others_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let release = Arc::new(AtomicBool::new(false));
    let troubles =
        vec![Trouble::HangsAtTeardown(Arc::clone(&release)), Trouble::HangsAtOpen(Arc::clone(&release))];
    let supervisor = Supervisor::start(parts(3, troubles, folder.path())).expect("starts");
    let (control, registry) = (supervisor.control(), supervisor.registry());
    let running = std::thread::spawn(move || supervisor.run());
    fakes::wait(Duration::from_millis(2500));
    let state = control.state(Duration::from_secs(1)).expect("the supervisor answers");
    for camera in &state.cameras[..2] {
        assert_eq!(camera.state, "wedged", "two wedged cameras are tolerated");
        assert_eq!(camera.slots.free, camera.slots.capacity, "its slots are its own");
    }
    assert!(registry.cameras()[2].outcome_count(Outcome::Detected) > 60);

    // The teardown returns after all: the camera is tried again.
    release.store(true, Ordering::Relaxed);
    fakes::wait(Duration::from_millis(600));
    let state = control.state(Duration::from_secs(1)).expect("the supervisor answers");
    assert!(state.cameras[0].generation >= 2, "{:?}", state.cameras[0]);
    let stopping = fakes::now();
    control.stop("the test is over");
    assert_eq!(running.join().expect("no panic"), Verdict::Stopped);
    assert!(stopping.elapsed() < Duration::from_secs(2));
}

#[test]
fn more_wedged_cameras_than_allowed_end_the_process_for_a_clean_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let release = Arc::new(AtomicBool::new(false));
    let troubles = (0..3).map(|_| Trouble::HangsAtTeardown(Arc::clone(&release))).collect();
    let supervisor = Supervisor::start(parts(4, troubles, folder.path())).expect("starts");
    let verdict = supervisor.run();
    assert!(matches!(&verdict, Verdict::TryAgain(why) if why.contains("max_wedged")), "{verdict:?}");
    release.store(true, Ordering::Relaxed);
}

/// An engine that panics, or fails, from the hundredth frame on.
struct Broken {
    sound: fakes::FakeEngine,
    frames: usize,
    panics: bool,
}

impl Engine for Broken {
    fn backend(&self) -> &'static str {
        "fake"
    }

    fn precision(&self) -> &'static str {
        "fp32"
    }

    fn max_batch(&self) -> usize {
        1
    }

    fn infer(
        &mut self,
        inputs: &[&SlotMemory],
        each: &mut dyn FnMut(usize, &[TensorView<'_>]),
    ) -> Result<(), EngineError> {
        self.frames += 1;
        match (self.frames, self.panics) {
            (100.., true) => panic!("on purpose"),
            (100.., false) => {
                Err(EngineError::Inference { backend: "fake", reason: "on purpose".to_owned() })
            }
            _ => self.sound.infer(inputs, each),
        }
    }
}

#[test]
fn a_broken_engine_ends_the_process_in_order() {
    for panics in [true, false] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut parts = parts(2, Vec::new(), folder.path());
        let sound = fakes::FakeEngine::new(Duration::ZERO, || {});
        parts.detector.engine = Box::new(Broken { sound, frames: 0, panics });
        let supervisor = Supervisor::start(parts).expect("starts");
        let registry = supervisor.registry();
        let verdict = supervisor.run();
        match verdict {
            Verdict::Internal(why) => assert!(panics && why.contains("panicked"), "{why}"),
            Verdict::TryAgain(why) => assert!(!panics && why.contains("on purpose"), "{why}"),
            other => panic!("{other:?}"),
        }
        let detected: u64 = registry.cameras().iter().map(|c| c.outcome_count(Outcome::Detected)).sum();
        assert_eq!(detected, 99, "nothing before the fault was lost");
        assert!(!folder.path().join("records.sock").exists(), "the socket is removed");
    }
}
