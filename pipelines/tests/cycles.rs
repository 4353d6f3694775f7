//! What is left behind after many openings: nothing.

mod common;

use std::process::Command;

use common::{Recorder, Server, descriptors, settle, shared, thread_names, threads};
use watchpost_pipelines::{
    Pipeline, Pull, SourceKind, Spec, Transport, live_objects, open_frames, open_objects, open_pipelines,
};

/// The tracer that counts GStreamer's objects has to be asked for before GStreamer starts.
const TRACED: (&str, &str) = ("GST_TRACERS", "leaks");
/// Where the traced process finds the server, which stays in this one so that its objects are not counted.
const SERVER: &str = "WATCHPOST_TEST_SERVER";

#[test]
fn sixty_openings_leave_threads_descriptors_and_objects_as_they_were() {
    if let Ok(url) = std::env::var(SERVER) {
        return open_and_count(&url);
    }
    let server = Server::of("H.264");
    let name = "sixty_openings_leave_threads_descriptors_and_objects_as_they_were";
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(TRACED.0, TRACED.1)
        .env(SERVER, server.url(""))
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

fn open_and_count(url: &str) {
    let camera = common::rtsp(&format!("{url}/stream"));
    // The kinds of ends that a camera's life has: stopped while streaming over either transport, while
    // connecting, after a failure, and before it was built to the end.
    let cycle = |round: usize| {
        let transport = if round.is_multiple_of(2) { Transport::Tcp } else { Transport::Udp };
        stream(&Spec { transport, ..camera.clone() }, round.is_multiple_of(3));
        stream(&common::rtsp(&format!("{url}/nothing")), false);
        let template = "rtspsrc ! appsink name=sink {nonsense}".to_owned();
        assert!(
            Pipeline::start(&Spec { template: Some(template), ..camera.clone() }, "x", Recorder::new())
                .is_err()
        );
        assert_eq!(open_pipelines(), 0);
    };
    for round in 0..8 {
        cycle(round);
    }
    let now = || (threads(), descriptors().len(), live_objects().expect("the leaks tracer is active"));
    let baseline = now();
    for round in 0..60 {
        cycle(round);
    }
    let at_baseline = || {
        let now = now();
        now.0 <= baseline.0 && now.1 <= baseline.1 && now.2 <= baseline.2
    };
    let words = || format!("was {baseline:?}, is {:?}: {:?} {:?}", now(), thread_names(), descriptors());
    settle(10, at_baseline, words);
    eprintln!("measured: threads, descriptors, objects: {baseline:?} before 60 openings, {:?} after", now());
    // The same count must be able to see a leak. This pipeline does nothing, so that it can be counted.
    let template = "appsrc ! videoconvert ! appsink name=sink".to_owned();
    let kept =
        Pipeline::start(&Spec { template: Some(template), ..camera }, "kept", Recorder::new()).unwrap();
    assert!(!at_baseline(), "a pipeline that is open must be seen: {:?}", now());
    assert_eq!(open_pipelines(), 1);
    // The pipeline, its three elements and their four pads.
    assert_eq!(open_objects(), 8, "this count needs no tracer");
    kept.stop();
    assert_eq!((open_pipelines(), open_objects(), open_frames()), (0, 0, 0));
    settle(10, at_baseline, words);
}

fn stream(spec: &Spec, hasty: bool) {
    let recorder = Recorder::new();
    let pipeline = Pipeline::start(spec, "cycle", recorder.clone()).unwrap();
    if !hasty {
        drop(recorder.wait("frames or failure", 10, |memory| memory.frames_total >= 2 || memory.over()));
    }
    pipeline.stop();
}

#[test]
fn half_read_files_leave_nothing_open() {
    let Some(shared) = shared() else { return };
    let path = shared.join("footage/car-detection.mp4");
    let spec = Spec { realtime: false, ..Spec::new(SourceKind::File { path: path.clone() }) };
    let open = || descriptors().iter().filter(|link| link.ends_with("car-detection.mp4")).count();
    for _ in 0..30 {
        let pipeline = Pipeline::start_pull(&spec, "half").unwrap();
        assert!(matches!(pipeline.pull(std::time::Duration::from_secs(20)), Pull::Frame(_)));
        assert_eq!(open(), 1);
        drop(pipeline);
        assert_eq!(open(), 0);
    }
}
