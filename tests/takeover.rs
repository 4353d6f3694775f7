//! Another engine takes over while cameras run: no record is lost, and nothing of the old engine stays.

mod fakes;

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use watchpost::engine::{Engine, EngineError, TensorView};
use watchpost::frame::SlotMemory;
use watchpost::metrics::Outcome;
use watchpost::model::HeadRecipe;
use watchpost::source::{Fault, Opening, Receiver, Source};
use watchpost::supervisor::{Control, Detector, ModelTag, Supervisor, Upgrade, Verdict};

/// Tells when it is dropped, and checks that it only sees slots that were made for it.
struct Witnessed {
    engine: fakes::FakeEngine,
    backend: &'static str,
    input_len: usize,
    gone: Arc<AtomicBool>,
}

impl Drop for Witnessed {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Release);
    }
}

impl Engine for Witnessed {
    fn backend(&self) -> &'static str {
        self.backend
    }

    fn precision(&self) -> &'static str {
        "fp32"
    }

    fn max_batch(&self) -> usize {
        if self.backend == "later" { 4 } else { 1 }
    }

    fn infer(
        &mut self,
        inputs: &[&SlotMemory],
        each: &mut dyn FnMut(usize, &[TensorView<'_>]),
    ) -> Result<(), EngineError> {
        for input in inputs {
            let SlotMemory::Host(tensor) = input else { panic!("a host slot") };
            assert_eq!(tensor.len(), self.input_len, "a slot of another engine");
        }
        self.engine.infer(inputs, each)
    }
}

fn detector(mut like: Detector, backend: &'static str, side: usize, gone: &Arc<AtomicBool>) -> Detector {
    like.input.width = side;
    like.input.height = side;
    let boxes = (side / 32) * (side / 32) * 21;
    let mut engine = fakes::FakeEngine::new(Duration::from_millis(2), || {});
    engine.output.resize(boxes * 8, 0.0);
    like.engine = Box::new(Resized {
        inner: Witnessed { engine, backend, input_len: 3 * side * side, gone: Arc::clone(gone) },
        boxes,
    });
    like.tag = ModelTag { backend, ..like.tag };
    like.head = HeadRecipe::Yolox { strides: vec![8, 16, 32] };
    like
}

/// A fake engine gives boxes for its usual side; this one for another.
struct Resized {
    inner: Witnessed,
    boxes: usize,
}

impl Engine for Resized {
    fn backend(&self) -> &'static str {
        self.inner.backend()
    }

    fn precision(&self) -> &'static str {
        self.inner.precision()
    }

    fn max_batch(&self) -> usize {
        self.inner.max_batch()
    }

    fn infer(
        &mut self,
        inputs: &[&SlotMemory],
        each: &mut dyn FnMut(usize, &[TensorView<'_>]),
    ) -> Result<(), EngineError> {
        let shape = [1, self.boxes, 8];
        self.inner.infer(inputs, &mut |index, outputs| {
            let view = TensorView { name: outputs[0].name, shape: &shape, data: outputs[0].data };
            each(index, &[view]);
        })
    }
}

/// A daemon of four cameras at 50 frames/s, whose engine `upgrade` replaces.
fn start(
    folder: &Path,
    upgrade: impl FnOnce(Detector) -> Result<Detector, EngineError> + Send + 'static,
    prepare: impl FnOnce(&mut watchpost::supervisor::Parts),
) -> (Supervisor, Arc<AtomicBool>) {
    let fake = || fakes::FakeEngine::new(Duration::from_millis(2), || {});
    let (mut parts, _sent) = fakes::parts(4, Duration::from_millis(20), fake(), folder);
    let (spare, _sent) = fakes::parts(0, Duration::from_millis(20), fake(), folder);
    let old_gone = Arc::new(AtomicBool::new(false));
    parts.detector = detector(parts.detector, "earlier", fakes::SIDE, &old_gone);
    let upgrade: Upgrade = Box::new(move || {
        fakes::wait(Duration::from_millis(1000));
        upgrade(spare.detector)
    });
    parts.upgrade = Some(upgrade);
    prepare(&mut parts);
    (Supervisor::start(parts).expect("starts"), old_gone)
}

/// Runs for `time`; the records, and the control while it still runs.
fn run(
    supervisor: Supervisor,
    folder: &Path,
    time: Duration,
    meanwhile: impl FnOnce(&Control),
) -> Vec<serde_json::Value> {
    let control = supervisor.control();
    let stream = UnixStream::connect(folder.join("records.sock")).expect("the socket is there");
    let reader = std::thread::spawn(move || {
        let lines = BufReader::new(stream).lines().map_while(Result::ok);
        lines.map(|line| serde_json::from_str(&line).expect("JSON")).collect::<Vec<serde_json::Value>>()
    });
    let running = std::thread::spawn(move || supervisor.run());
    fakes::wait(time);
    meanwhile(&control);
    control.stop("the test is over");
    assert_eq!(running.join().expect("no panic"), Verdict::Stopped);
    reader.join().expect("records")
}

#[test]
fn no_record_is_lost_and_the_old_engine_goes() {
    let folder = tempfile::tempdir().expect("a folder");
    let new_gone = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&new_gone);
    let (supervisor, old_gone) =
        start(folder.path(), move |spare| Ok(detector(spare, "later", 320, &flag)), |_| {});
    let registry = supervisor.registry();
    let records = run(supervisor, folder.path(), Duration::from_millis(3000), |control| {
        assert!(old_gone.load(Ordering::Acquire), "the old engine is dropped while the new one works");
        assert!(!new_gone.load(Ordering::Acquire));
        let state = control.state(Duration::from_secs(1)).expect("the supervisor answers");
        assert_eq!(state.engine["backend"], "later");
        for camera in &state.cameras {
            assert_eq!(camera.generation, 1, "no camera was touched");
        }
        // Before the end, which makes frames on their way stale.
        for lost in [Outcome::EngineError, Outcome::StaleGeneration, Outcome::DecodeError] {
            let count: u64 = registry.cameras().iter().map(|camera| camera.outcome_count(lost)).sum();
            assert_eq!(count, 0, "the engine's change cost frames: {lost:?}");
        }
        // Four cameras, two slots each, of the new size only.
        assert_eq!(registry.snapshot(fakes::now()).memory_bytes.pool, 4 * 2 * 3 * 320 * 320 * 4);
    });
    for camera in ["cam0", "cam1", "cam2", "cam3"] {
        let of_camera: Vec<_> =
            records.iter().filter(|r| r["type"] == "detections" && r["camera"] == camera).collect();
        let backends: Vec<_> =
            of_camera.iter().map(|r| r["model"]["backend"].as_str().unwrap_or("")).collect();
        let switch = backends.iter().position(|b| *b == "later").expect("the new engine took over");
        assert!(switch > 20 && backends[switch..].iter().all(|b| *b == "later"), "{backends:?}");
        let dropped: u64 = of_camera.iter().map(|r| r["dropped_since_last"].as_u64().unwrap_or(0)).sum();
        // On a busy machine newer frames take older ones' places; what a swap could lose has been counted above.
        assert!(
            2 * dropped <= of_camera.len() as u64,
            "{camera}: {dropped} of {} are missing",
            of_camera.len()
        );
        assert!(of_camera.iter().all(|r| r["objects"].as_array().is_some_and(|o| !o.is_empty())));
    }
    assert!(new_gone.load(Ordering::Acquire), "and the new one goes with the process");
}

#[test]
fn an_engine_that_cannot_be_made_or_used_leaves_the_old_one_in_place() {
    for unknown_class in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let gone = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&gone);
        let upgrade = move |spare: Detector| {
            if unknown_class {
                // A model that has other labels than the cameras ask for.
                let labels = ["boat", "tree", "kite"].map(str::to_owned).to_vec();
                return Ok(Detector { labels, ..detector(spare, "later", 320, &flag) });
            }
            Err(EngineError::Unavailable { backend: "later", reason: "on purpose".to_owned() })
        };
        let (supervisor, old_gone) = start(folder.path(), upgrade, |parts| {
            parts.config.cameras[0].classes = Some(vec!["person".to_owned()]);
        });
        let records = run(supervisor, folder.path(), Duration::from_millis(2000), |control| {
            assert!(!old_gone.load(Ordering::Acquire));
            assert_eq!(gone.load(Ordering::Acquire), unknown_class, "what is not used is dropped");
            let state = control.state(Duration::from_secs(1)).expect("the supervisor answers");
            assert_eq!(state.engine["backend"], "earlier");
        });
        let detections: Vec<_> = records.iter().filter(|r| r["type"] == "detections").collect();
        assert!(detections.len() > 4 * 60);
        assert!(detections.iter().all(|r| r["model"]["backend"] == "earlier"));
    }
}

/// A camera that cannot be opened.
struct Dead;

impl Source for Dead {
    fn open(&self, _generation: u64, _receiver: Arc<dyn Receiver>) -> Result<Box<dyn Opening>, Fault> {
        let detail = "on purpose".to_owned();
        Err(Fault { reason: watchpost::camera::Reason::ConnectFailed, detail })
    }
}

#[test]
fn cameras_without_a_frame_do_not_keep_the_old_engine() {
    let folder = tempfile::tempdir().expect("a folder");
    let new_gone = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&new_gone);
    let (supervisor, old_gone) = start(
        folder.path(),
        move |spare| Ok(detector(spare, "later", 320, &flag)),
        |parts| parts.sources.iter_mut().for_each(|source| *source = Arc::new(Dead)),
    );
    run(supervisor, folder.path(), Duration::from_millis(3500), |_| {
        assert!(old_gone.load(Ordering::Acquire) && !new_gone.load(Ordering::Acquire));
    });
}
