//! A panic in any thread of the daemon stays with its camera, or ends the process in order with 70; an engine that
//! hangs ends it with 75. Never is half of a daemon left. The threads of the real binary are made to panic from
//! outside: the C library refuses them the time.

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
                "backoff_min = \"200ms\"\nbackoff_max = \"1s\"\ninference_timeout = \"2s\"",
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

    /// The next time that this thread asks, it panics, once.
    fn panic_in(&self, daemon: &Daemon, thread: &str) {
        let names = threads(daemon);
        assert!(names.iter().any(|name| name == thread), "there is no {thread}: {names:?}");
        self.faulty.aim_at(thread);
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
    for (thread, of) in
        [("cam-gate", "gate"), ("cam-drawn", "drawn"), ("scene", "drawn"), ("rtpjitterbuffer", "gate")]
    {
        let mark = daemon.mark();
        two.faulty.set(Faulty::WALL_ONLY, i64::from(thread != "cam-gate" && thread != "cam-drawn"));
        two.panic_in(&daemon, thread);
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
    for thread in ["watchpost", "engine-0", "publish-console", "publish-local", "debug", "reload", "signals"]
    {
        let mut daemon = two.start();
        two.panic_in(&daemon, thread);
        match thread {
            "debug" => drop(UnixStream::connect(two.setup.debug_socket())),
            // The first is heard, the next time it listens it hears nothing.
            "signals" => daemon.signal(Signal::USR1),
            _ => {}
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
    two.faulty.aim_at("engine-0");
    // Anywhere: while it waits, infers, or holds a camera's lock to publish.
    two.faulty.set(Faulty::HANGS, 1);
    let (status, _) = daemon.end(PATIENCE);
    assert_eq!(status.code(), Some(75), "{status} {:#?}", daemon.log());
    daemon.logged("the engine hangs", PATIENCE);
    assert_consistent(&daemon.all_records());
}
