//! What is left behind after many openings: nothing.

mod common;

use std::process::Command;

use common::{Recorder, Server, descriptors, settle, shared, thread_names, threads};
use watchpost_pipelines::{Pipeline, Pull, SourceKind, Spec, Transport, live_objects, open_pipelines};

/// The tracer that counts GStreamer's objects has to be asked for before GStreamer starts.
const TRACED: (&str, &str) = ("GST_TRACERS", "leaks");

#[test]
fn sixty_openings_leave_threads_descriptors_and_objects_as_they_were() {
    if std::env::var(TRACED.0).as_deref() != Ok(TRACED.1) {
        let name = "sixty_openings_leave_threads_descriptors_and_objects_as_they_were";
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(TRACED.0, TRACED.1)
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let server = Server::of("H.264");
    // The kinds of ends that a camera's life has: stopped while streaming over either transport, while
    // connecting, after a failure, and before it was built to the end.
    let cycle = |round: usize| {
        let transport = if round.is_multiple_of(2) { Transport::Tcp } else { Transport::Udp };
        stream(&Spec { transport, ..server.spec() }, round.is_multiple_of(3));
        stream(&common::rtsp(&server.url("/nothing")), false);
        let template = "rtspsrc ! appsink name=sink {nonsense}".to_owned();
        assert!(
            Pipeline::start(&Spec { template: Some(template), ..server.spec() }, "x", Recorder::new())
                .is_err()
        );
        assert_eq!(open_pipelines(), 0);
    };
    for round in 0..8 {
        cycle(round);
    }
    let baseline = (threads(), descriptors().len());
    let objects = live_objects().expect("the leaks tracer is active");
    for round in 0..60 {
        cycle(round);
    }
    // The server closes its side of the last sessions in its own time.
    settle(
        20,
        || (threads(), descriptors().len()) <= baseline && live_objects().unwrap() <= objects,
        || {
            format!(
                "threads and descriptors were {baseline:?}, are {:?} {:?}; objects were {objects}, are {:?}; {:?}",
                (threads(), descriptors().len()),
                thread_names(),
                live_objects(),
                descriptors()
            )
        },
    );
    eprintln!(
        "measured: threads and descriptors {baseline:?}, objects {objects}, before and after 60 openings"
    );
    // The same count must be able to see a leak.
    let kept = Pipeline::start(&server.spec(), "kept", Recorder::new()).unwrap();
    assert!(live_objects().unwrap() > objects + 5);
    assert_eq!(open_pipelines(), 1);
    kept.stop();
    assert_eq!(open_pipelines(), 0);
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
