//! The daemon ends when it is told to, whatever its cameras are doing, and starts again whatever was left.

mod support;

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::process::Signal;
use support::{
    Daemon, PATIENCE, Setup, alone, assert_consistent, camera, detector, free_port, pause, scene, seconds,
};
use watchpost::clock;
use watchpost_testcam::{CameraOptions, Fault, Picture, TestCamera};

/// From the signal to the end of the process.
const END_WITHIN: Duration = Duration::from_secs(2);
const ROUNDS: u32 = 10;

/// A small picture: what matters is that there is one.
fn small(seed: u64) -> CameraOptions {
    CameraOptions { picture: Picture::Scene { seed, width: 320, height: 192, fps: 15 }, ..scene(seed) }
}

fn nowhere() -> String {
    format!("rtsp://127.0.0.1:{}/stream", free_port())
}

/// Four cameras that will be in four different states.
struct Four {
    setup: Setup,
    _streaming: TestCamera,
    vanishing: TestCamera,
    _silent: TestCamera,
}

impl Four {
    fn new() -> Self {
        let [streaming, vanishing, silent] = [1, 2, 3].map(|seed| camera(small(seed)));
        silent.inject(Fault::AcceptSilent).expect("known");
        let setup = Setup::new(&detector(), "")
            .section("defaults", "detect_fps = 5\nopen_timeout = \"20s\"\nstall_timeout = \"500ms\"")
            .section("supervisor", "backoff_min = \"20s\"\nbackoff_max = \"20s\"")
            .camera("streaming", streaming.url(), "")
            .camera("vanishing", vanishing.url(), "")
            .camera("opening", silent.url(), "")
            .camera("refused", &nowhere(), "");
        Self { setup, _streaming: streaming, vanishing, _silent: silent }
    }

    /// Starts the daemon and waits until every camera is where it should be.
    fn start(&self) -> Daemon {
        self.vanishing.heal();
        let daemon = self.setup.start();
        daemon.state("refused", "backing_off", 0, PATIENCE);
        daemon.state("opening", "opening", 0, PATIENCE);
        daemon.state("streaming", "streaming", 0, PATIENCE);
        daemon.state("vanishing", "streaming", 0, PATIENCE);
        daemon
    }
}

fn states(daemon: &Daemon) -> String {
    let cameras = daemon.debug().cameras;
    cameras.iter().map(|c| format!("{} {}", c.name, c.state)).collect::<Vec<_>>().join(", ")
}

#[test]
fn a_first_sigterm_ends_in_order_within_two_seconds_whatever_the_cameras_do() {
    let _alone = alone();
    let four = Four::new();
    for round in 0..ROUNDS {
        let mut daemon = four.start();
        four.vanishing.inject(Fault::Vanish).expect("known");
        // Before, around and after the moment at which the silence is noticed and the teardown begins.
        pause(Duration::from_millis(u64::from(round) * 80));
        let then = states(&daemon);
        // The debug answer comes before the signal, so a state can have changed by then.
        daemon.signal(if round % 3 == 2 { Signal::INT } else { Signal::TERM });
        let (status, took) = daemon.end(PATIENCE);
        eprintln!("{:>4} ms after {then}", took.as_millis());
        assert_eq!(status.code(), Some(0), "{:?}", daemon.log());
        assert!(took < END_WITHIN, "took {took:?}");
        assert!(four.setup.sockets().is_empty(), "left behind: {:?}", four.setup.sockets());
        let records = daemon.all_records();
        assert_consistent(&records);
        for name in ["streaming", "vanishing", "opening", "refused"] {
            let last = records.iter().rfind(|record| record.camera == name && record.is_state());
            let last = last.unwrap_or_else(|| panic!("{name} has no story"));
            assert_eq!(last.state(), Some("stopped"), "{last}");
        }
    }
}

#[test]
fn a_second_sigterm_ends_at_once() {
    let _alone = alone();
    let four = Four::new();
    let mut daemon = four.start();
    daemon.signal(Signal::TERM);
    daemon.logged("stopping: SIGTERM", PATIENCE);
    let since = clock::now();
    daemon.signal(Signal::TERM);
    let (status, _) = daemon.end(PATIENCE);
    eprintln!("{} after the second signal: {status}", seconds(since, clock::now()));
    // In order when that was quicker, else with the code of a process that a signal has ended.
    assert!(matches!(status.code(), Some(0 | 143)), "{status}");
    assert!(since.elapsed() < Duration::from_millis(500), "took {:?}", since.elapsed());
}

#[test]
fn the_daemon_starts_without_any_camera_and_sees_one_as_soon_as_it_is_there() {
    let _alone = alone();
    let port = free_port();
    let mut setup = Setup::new(&detector(), "")
        .section("supervisor", "backoff_min = \"200ms\"\nbackoff_max = \"1s\"")
        .camera("late", &format!("rtsp://127.0.0.1:{port}/stream"), "read_stamp = true");
    for name in ["never1", "never2", "never3"] {
        setup = setup.camera(name, &nowhere(), "");
    }
    let mut daemon = setup.start();
    for name in ["late", "never1", "never2", "never3"] {
        let closing = daemon.state(name, "closing", 0, PATIENCE);
        assert_eq!(closing.reason(), Some("connect_failed"), "{closing}");
    }
    pause(Duration::from_secs(2));
    let (mark, since) = (daemon.mark(), clock::now());
    let _late = camera(CameraOptions { port, ..small(1) });
    let seen = daemon.find("late: detections", mark, PATIENCE, |record| record.stamp().map(|_| record.at));
    eprintln!("seen {} after it was there", seconds(since, seen));
    assert!(seen.duration_since(since) < Duration::from_secs(4), "backoff_max and 3 s");
    daemon.stop();
    assert_consistent(&daemon.all_records());
}

#[test]
fn what_a_killed_daemon_leaves_behind_does_not_keep_the_next_one_from_starting() {
    let _alone = alone();
    let there = camera(small(1));
    let setup = Setup::new(&detector(), "").camera("gate", there.url(), "");
    let killed = setup.start();
    killed.state("gate", "streaming", 0, PATIENCE);
    drop(killed);
    assert_eq!(setup.sockets().len(), 2, "a killed process removes nothing");
    let mut next = setup.start();
    next.state("gate", "streaming", 0, PATIENCE);
    let reader = UnixStream::connect(setup.records_socket()).expect("the socket is there");
    reader.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let line = BufReader::new(reader).lines().next().expect("a record").expect("it is text");
    assert!(line.starts_with("{\"schema\":\"watchpost/1\""), "{line}");
    assert_eq!(next.debug().cameras[0].state, "streaming");
    next.stop();
    assert!(setup.sockets().is_empty());
}
