//! A panic in any thread of the daemon stays with its camera, or ends the process in order with 70; an engine that
//! hangs ends it with 75. Never is half of a daemon left. The threads of the real binary are made to panic from
//! outside: the C library refuses them the time. The camera's own thread and the engine's panic in
//! `tests/containment.rs`.

mod preload;
mod program;
mod support;

use std::os::unix::net::UnixStream;

use preload::Faulty;
use rustix::process::Signal;
use support::{Daemon, PATIENCE, Setup, alone, assert_consistent, camera, detector, scene};
use watchpost_testcam::{CameraOptions, Picture, TestCamera};

/// A network camera, and a drawn one.
struct Two {
    setup: Setup,
    faulty: Faulty,
    _gate: TestCamera,
}

impl Two {
    fn new() -> Option<Self> {
        let faulty = Faulty::new()?;
        let picture = Picture::Scene { seed: 1, width: 320, height: 192, fps: 15 };
        let gate = camera(CameraOptions { picture, ..scene(1) });
        let setup = Setup::new(&detector(), "backend = \"builtin\"\nthreads = 1")
            .section(
                "supervisor",
                "backoff_min = \"200ms\"\nbackoff_max = \"1s\"\ninference_timeout = \"5s\"",
            )
            .camera("gate", gate.url(), "")
            .camera("drawn", "test://scene?fps=15&width=320&height=192", "");
        Some(Self { setup: faulty.before(setup), faulty, _gate: gate })
    }

    /// Started, and both cameras stream.
    fn start(&self) -> Daemon {
        self.faulty.set(Faulty::PANICS, 0);
        self.faulty.set(Faulty::HANGS, 0);
        let daemon = self.setup.start();
        for name in ["gate", "drawn"] {
            daemon.find(&format!("{name} is seen"), 0, PATIENCE, |record| {
                (record.camera == name && !record.is_state()).then_some(())
            });
        }
        daemon
    }

    /// The next time that this thread asks for the time (or only for that of day, because channels, which ask for
    /// the other, do not expect to panic), it panics, once.
    fn panic_in(&self, daemon: &Daemon, thread: &str, wall_only: bool) {
        let names = threads(daemon);
        assert!(names.iter().any(|name| name == thread), "there is no {thread}: {names:?}");
        self.faulty.aim_at(thread);
        self.faulty.set(Faulty::WALL_ONLY, i64::from(wall_only));
        self.faulty.set(Faulty::PANICS, 1);
    }
}

fn threads(daemon: &Daemon) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("it runs");
    let name = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
    };
    tasks.filter_map(name).map(|name| name.trim_end().to_owned()).collect()
}

#[test]
fn a_panic_in_a_thread_of_a_camera_costs_that_camera_one_restart() {
    let _alone = alone();
    let Some(two) = Two::new() else { return };
    let mut daemon = two.start();
    eprintln!("{:?}", threads(&daemon));
    let mut openings = [("gate", 1), ("drawn", 1)];
    for (thread, of) in [("scene", "drawn"), ("rtpjitterbuffer", "gate")] {
        let mark = daemon.mark();
        two.panic_in(&daemon, thread, true);
        let closing = daemon.state(of, "closing", mark, PATIENCE);
        eprintln!("{thread}: {closing}");
        assert!(matches!(closing.reason(), Some("internal" | "source_error")), "{thread}: {closing}");
        assert_eq!(two.faulty.get(Faulty::PANICS), 0);
        daemon.state(of, "streaming", mark, PATIENCE);
        for (name, expected) in &mut openings {
            *expected += u64::from(*name == of);
        }
        let is = daemon.debug();
        for (name, generation) in openings {
            let camera = is.cameras.iter().find(|camera| camera.name == name).expect("configured");
            assert_eq!(camera.generation, generation, "{name} after a panic in {thread}");
        }
    }
    daemon.stop();
    assert_consistent(&daemon.all_records());
}

#[test]
fn a_panic_in_a_thread_that_serves_all_ends_the_process_with_70_in_order() {
    let _alone = alone();
    let Some(two) = Two::new() else { return };
    for (thread, wall_only, signal) in [
        ("watchpost", true, Some(Signal::USR1)),
        ("publish-console", false, None),
        ("publish-local", false, None),
        ("debug", false, None),
        ("reload", true, Some(Signal::HUP)),
        // This one is heard; the next time that it listens it hears an error.
        ("signals", false, Some(Signal::USR1)),
    ] {
        let mut daemon = two.start();
        two.panic_in(&daemon, thread, wall_only);
        if let Some(signal) = signal {
            daemon.signal(signal);
        }
        if thread == "debug" {
            drop(UnixStream::connect(two.setup.debug_socket()));
        }
        let (status, _) = daemon.end(PATIENCE);
        let log = daemon.log();
        assert_eq!(status.code(), Some(70), "{thread}: {status} {log:#?}");
        assert_eq!(
            log.iter().filter(|line| line.contains("a thread panicked")).count(),
            1,
            "{thread}: {log:#?}"
        );
        assert!(log.last().is_some_and(|line| line.contains("panicked")), "{thread}: {log:#?}");
        assert!(two.setup.sockets().is_empty(), "{thread}: left behind: {:?}", two.setup.sockets());
        let records = daemon.all_records();
        assert_consistent(&records);
        if thread != "publish-console" {
            for name in ["gate", "drawn"] {
                let last = records.iter().rfind(|record| record.camera == name && record.is_state());
                assert_eq!(last.and_then(|last| last.state()), Some("stopped"), "{thread}: {name}");
            }
        }
        eprintln!("{thread}: {status}");
    }
}

#[test]
fn an_engine_that_hangs_ends_the_process_with_75_whatever_it_holds() {
    let _alone = alone();
    let Some(two) = Two::new() else { return };
    let mut daemon = two.start();
    two.faulty.set(Faulty::WALL_ONLY, 0);
    two.faulty.aim_at("engine-0");
    // Anywhere: while it waits, infers, or holds a camera's lock to publish.
    two.faulty.set(Faulty::HANGS, 1);
    let (status, _) = daemon.end(PATIENCE);
    assert_eq!(status.code(), Some(75), "{status} {:#?}", daemon.log());
    daemon.logged("the engine hangs", PATIENCE);
    assert_consistent(&daemon.all_records());
}

/// It panics when it tells that the engine is built.
#[test]
fn a_panic_in_the_thread_that_has_an_engine_built_leaves_the_one_in_use() {
    let _alone = alone();
    let Some(faulty) = Faulty::new() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = folder.path().join("ledger");
    let _ledger = watchpost_standins::Ledger::create(&ledger).expect("a ledger");
    let config = "[detector]\nmodel = \"demo\"\nbackend = \"auto\"\nthreads = 1\n[camera.a]\nurl = \
                  \"test://scene?fps=10&width=320&height=192\"\n[debug]\nsocket = \"off\"\n";
    std::fs::write(folder.path().join("c.toml"), config).expect("written");
    let mut command = program::watchpost(folder.path());
    watchpost_standins::environment(&mut command, folder.path())
        .env("WATCHPOST_TENSORRT_LIB", watchpost_standins::tensorrt(10))
        .env("WATCHPOST_STANDIN", "nvinfer.build_ms=3000")
        .env("WATCHPOST_STANDIN_LEDGER", ledger)
        .envs(faulty.environment());
    let mut daemon = program::Running::start(command.args(["run", "-c", "c.toml"]));
    let lines = daemon.lines();
    program::next_record(&lines, "detections");
    program::eventually("an engine is being built", || !support::children(daemon.pid()).is_empty());
    faulty.aim_at("engine-build");
    faulty.set(Faulty::WALL_ONLY, 1);
    faulty.set(Faulty::PANICS, 1);
    program::eventually("it has panicked", || faulty.get(Faulty::PANICS) == 0);
    program::eventually("no zombie is left", || support::children(daemon.pid()).is_empty());
    lines.try_iter().for_each(drop);
    let record = program::next_record(&lines, "detections");
    assert_eq!(record["model"]["backend"], "builtin");
    let ended = daemon.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("a thread panicked").count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("thread=\"engine-build\""), "{}", ended.stderr);
}

/// TensorRT is in use, with its engine, its slots and its stream on the GPU.
#[test]
fn a_panic_in_the_thread_that_infers_with_tensorrt_ends_the_process_with_70_in_order() {
    let _alone = alone();
    let Some(faulty) = Faulty::new() else { return };
    for major in [10, 11] {
        faulty.set(Faulty::PANICS, 0);
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ledger");
        let ledger = watchpost_standins::Ledger::create(&path).expect("a ledger");
        let socket = folder.path().join("out.sock");
        let config = format!(
            "[detector]\nmodel = \"demo\"\nbackend = \"tensorrt\"\n[camera.a]\nurl = \
             \"test://scene?fps=10&width=320&height=192\"\n[debug]\nsocket = \"off\"\n[output.console]\ntype = \
             \"stdout\"\n[output.local]\ntype = \"unix\"\npath = \"{}\"\n",
            socket.display()
        );
        std::fs::write(folder.path().join("c.toml"), config).expect("written");
        let mut command = program::watchpost(folder.path());
        watchpost_standins::environment(&mut command, folder.path())
            .env("WATCHPOST_TENSORRT_LIB", watchpost_standins::tensorrt(major))
            .env("WATCHPOST_STANDIN_LEDGER", path)
            .envs(faulty.environment());
        let mut daemon = program::Running::start(command.args(["run", "-c", "c.toml"]));
        let lines = daemon.lines();
        let record = program::next_record(&lines, "detections");
        assert_eq!(record["model"]["backend"], "tensorrt");
        assert!(socket.exists() && !ledger.held().is_empty());
        // From now on nearly all of its time is inference: it is there that the next look at the clock fails.
        ledger.set(watchpost_standins::names::ORDER_DELAY_US, 20_000);
        program::next_record(&lines, "detections");
        faulty.aim_at("engine-0");
        faulty.set(Faulty::WALL_ONLY, 0);
        faulty.set(Faulty::PANICS, 1);
        let ended = daemon.end();
        assert_eq!(ended.code, Some(70), "{major}: {}", ended.stderr);
        assert_eq!(ended.stderr.matches("a thread panicked").count(), 1, "{}", ended.stderr);
        assert!(ended.stderr.contains("thread=\"engine-0\""), "{}", ended.stderr);
        assert!(!socket.exists(), "the socket is left behind");
        let last = lines.try_iter().map(|line| program::record(&line)).last().expect("records");
        assert_eq!((last["type"].as_str(), last["state"].as_str()), (Some("camera_state"), Some("stopped")));
        // The engine was taken down; what cameras hold on the GPU, and the context, end with the process.
        let of_tensorrt: Vec<String> =
            ledger.held().into_iter().filter(|one| !one.starts_with("cuda.")).collect();
        assert_eq!(of_tensorrt, Vec::<String>::new(), "{major}: {}", ledger.text());
        assert_eq!(ledger.get(watchpost_standins::names::VIOLATIONS), 0, "{}", ledger.text());
    }
}
