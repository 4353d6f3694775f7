//! What can happen to the process itself: it is stopped and goes on, its clock is set, it runs out of
//! descriptors or of threads, a hundred readers come, it may not write. What need not notice does not.

mod preload;
mod program;
mod support;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use preload::Faulty;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use support::{
    Daemon, PATIENCE, Record, Setup, alone, assert_consistent, camera, detector, pause, scene, usage,
    wait_for,
};
use watchpost_testcam::{CameraOptions, Fault, Picture, TestCamera};

const FPS: usize = 15;

fn small(seed: u64) -> CameraOptions {
    CameraOptions {
        picture: Picture::Scene { seed, width: 320, height: 192, fps: FPS as u32 },
        ..scene(seed)
    }
}

/// Two network cameras and a drawn one.
struct Three {
    setup: Setup,
    gate: TestCamera,
    _yard: TestCamera,
}

impl Three {
    fn new() -> Self {
        let [gate, yard] = [1, 2].map(|seed| camera(small(seed)));
        let setup = Setup::new(&detector(), "")
            .section("defaults", "stall_timeout = \"2s\"\nopen_timeout = \"3s\"")
            .section("supervisor", "backoff_min = \"200ms\"\nbackoff_max = \"1s\"")
            .camera("gate", gate.url(), "")
            .camera("yard", yard.url(), "")
            .camera("drawn", "test://scene?fps=15&width=320&height=192", "");
        Self { setup, gate, _yard: yard }
    }

    /// Started, and every camera streams.
    fn start(&self) -> Daemon {
        let daemon = self.setup.start();
        for name in ["gate", "yard", "drawn"] {
            daemon.state(name, "streaming", 0, PATIENCE);
        }
        pause(Duration::from_secs(1));
        daemon
    }
}

/// Detections of a camera among records.
fn detections<'a>(records: &'a [Record], camera: &str) -> Vec<&'a Record> {
    records.iter().filter(|record| record.camera == camera && !record.is_state()).collect()
}

/// So many detections have come since the mark, or come yet.
fn goes_on(daemon: &Daemon, camera: &str, mark: usize, count: usize) {
    wait_for(&format!("{camera} goes on"), PATIENCE, || {
        (detections(&daemon.records_since(mark), camera).len() >= count).then_some(())
    });
}

fn latency_ms(record: &Record) -> f64 {
    match record.body {
        support::Body::Detections { latency_ms, .. } => latency_ms,
        _ => 0.0,
    }
}

fn generations(daemon: &Daemon) -> Vec<(String, u64)> {
    daemon.debug().cameras.into_iter().map(|camera| (camera.name, camera.generation)).collect()
}

#[test]
fn a_daemon_that_was_stopped_goes_on_without_restarts_and_without_a_burst_of_old_pictures() {
    let _alone = alone();
    let three = Three::new();
    let mut daemon = three.start();
    let before = generations(&daemon);
    for seconds in [1, 6] {
        let pid = daemon.pid();
        daemon.signal(Signal::STOP);
        wait_for("it is stopped", PATIENCE, || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it is there");
            stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" T")).then_some(())
        });
        // What was said before and lies in the pipe is read first.
        pause(Duration::from_secs(seconds));
        let mark = daemon.mark();
        let since = watchpost::clock::now();
        daemon.signal(Signal::CONT);
        pause(Duration::from_secs(1));
        let first = daemon.records_since(mark);
        let allowed = (since.elapsed().as_secs_f64() * FPS as f64) as usize + 8;
        for name in ["gate", "yard", "drawn"] {
            let of_first = detections(&first, name).len();
            eprintln!("stopped for {seconds} s: {name} has {of_first} records in the first second");
            assert!(of_first <= allowed, "{name}: a burst of {of_first}");
            goes_on(&daemon, name, mark, 2 * FPS);
        }
        let records = daemon.records_since(mark);
        // One inference may have been under way; what waited longer than max_frame_age is not published.
        let old = records.iter().filter(|record| latency_ms(record) > 1200.0).count();
        assert!(old <= 1, "{old} old pictures");
        let states: Vec<String> = records.iter().filter(|r| r.is_state()).map(ToString::to_string).collect();
        assert!(states.is_empty(), "stopped for {seconds} s: {states:?}");
    }
    daemon.logged("stood still for", PATIENCE);
    assert_eq!(generations(&daemon), before);
    daemon.stop();
    assert_consistent(&daemon.all_records());
}

/// Hours from now at which a line of the records says that it was taken.
fn hours_ahead(line: &str) -> f64 {
    let record: serde_json::Value = serde_json::from_str(line).expect("JSON");
    let ts: jiff::Timestamp = record["ts"].as_str().expect("a time").parse().expect("RFC 3339");
    let now = jiff::Timestamp::try_from(SystemTime::UNIX_EPOCH + unix_now()).expect("now");
    ts.duration_since(now).as_secs_f64() / 3600.0
}

fn unix_now() -> Duration {
    Duration::from_nanos(watchpost::clock::unix_ns())
}

#[test]
fn a_clock_that_is_set_by_an_hour_either_way_restarts_nothing_and_records_follow_it() {
    let _alone = alone();
    let Some(faulty) = Faulty::new() else { return };
    let three = Three::new();
    let three = Three { setup: faulty.before(three.setup), ..three };
    let mut daemon = three.start();
    let before = generations(&daemon);
    let reader = UnixStream::connect(three.setup.records_socket()).expect("the socket is there");
    reader.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut lines = BufReader::new(reader).lines().map(|line| line.expect("a line"));
    for hours in [1, -1, 0] {
        let mark = daemon.mark();
        faulty.set(Faulty::CLOCK, hours * 3600);
        let follows =
            |line: &String| line.contains("\"drawn\"") && (hours_ahead(line) - hours as f64).abs() < 0.01;
        assert!(lines.any(|line| follows(&line)), "the records tell the new time");
        // Longer than any deadline of theirs.
        pause(Duration::from_secs(4));
        ["gate", "yard", "drawn"].iter().for_each(|name| goes_on(&daemon, name, mark, 3 * FPS));
        let records = daemon.records_since(mark);
        let states: Vec<String> = records.iter().filter(|r| r.is_state()).map(ToString::to_string).collect();
        assert!(states.is_empty(), "set by {hours} h: {states:?}");
        for name in ["gate", "yard", "drawn"] {
            let seen = detections(&records, name);
            let slow = seen.iter().filter(|record| !(0.0..1200.0).contains(&latency_ms(record))).count();
            assert_eq!(slow, 0, "{name}: latencies are of the monotonic clock");
        }
    }
    assert_eq!(generations(&daemon), before);
    daemon.stop();
    assert_consistent(&daemon.all_records());
}

fn limit_descriptors(daemon: &Daemon, soft: u64) {
    let pid = Pid::from_raw(i32::try_from(daemon.pid()).expect("a pid")).expect("not 0");
    let maximum = getrlimit(Resource::Nofile).maximum;
    prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(soft), maximum }).expect("it is ours");
}

/// The camera at the gate has to be opened anew while `scarce` holds: it says `words`, the others go on, and it is
/// back when there is plenty again.
fn one_camera_waits_for_better_times(
    three: &Three,
    daemon: &mut Daemon,
    scarce: impl Fn(&Daemon),
    plenty: impl Fn(&Daemon),
    words: &str,
) {
    let mark = daemon.mark();
    scarce(daemon);
    three.gate.inject(Fault::Close).expect("known");
    pause(Duration::from_millis(300));
    three.gate.heal();
    daemon.find("the camera says what is scarce", mark, PATIENCE, |record| {
        (record.camera == "gate" && record.reason() == Some("internal") && record.detail().contains(words))
            .then_some(())
    });
    for name in ["yard", "drawn"] {
        goes_on(daemon, name, mark, 3 * FPS);
        let meanwhile = daemon.records_since(mark);
        assert!(
            !meanwhile.iter().any(|record| record.camera == name && record.is_state()),
            "{name} notices nothing"
        );
    }
    plenty(daemon);
    let mark = daemon.mark();
    daemon.state("gate", "streaming", mark, PATIENCE);
    daemon.find("detections again", mark, PATIENCE, |r| (r.camera == "gate" && !r.is_state()).then_some(()));
    daemon.stop();
    assert_consistent(&daemon.all_records());
}

/// What it keeps free beside what two pipelines need, so that none of its libraries has to go without.
const KEPT_FREE: usize = 16 + 2;

#[test]
fn a_camera_for_which_there_is_no_descriptor_says_so_and_comes_back_the_others_go_on() {
    let _alone = alone();
    let three = Three::new();
    let mut daemon = three.start();
    let plenty = getrlimit(Resource::Nofile).current.unwrap_or(1024);
    let scarce = |daemon: &Daemon| limit_descriptors(daemon, (usage(daemon.pid()).fds + KEPT_FREE) as u64);
    let words = "file descriptors are in use";
    let back = |daemon: &Daemon| limit_descriptors(daemon, plenty);
    one_camera_waits_for_better_times(&three, &mut daemon, scarce, back, words);
}

/// As many as there can be: the last descriptors stay for those who cannot do without.
#[test]
fn readers_are_refused_before_they_take_the_descriptors_that_the_cameras_need() {
    let _alone = alone();
    let three = Three::new();
    let mut daemon = three.start();
    limit_descriptors(&daemon, (usage(daemon.pid()).fds + KEPT_FREE + 20) as u64);
    let mark = daemon.mark();
    let connect = || UnixStream::connect(three.setup.records_socket()).expect("it listens");
    let readers: Vec<UnixStream> = (0..40).map(|_| connect()).collect();
    let (mut served, mut refused) = (0, 0);
    for reader in &readers {
        reader.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let line = BufReader::new(reader).lines().next().expect("a line").expect("in time");
        match line.contains("short of file descriptors") {
            true => refused += 1,
            false => served += 1,
        }
    }
    eprintln!("{served} readers are served, {refused} refused");
    assert!((5..=25).contains(&served) && refused >= 15, "{served} served, {refused} refused");
    // Still there, and a camera that has to be opened says why it is not.
    three.gate.inject(Fault::Close).expect("known");
    pause(Duration::from_millis(300));
    three.gate.heal();
    let words = "file descriptors are in use";
    daemon.find("the camera says what is scarce", mark, PATIENCE, |record| {
        (record.camera == "gate" && record.detail().contains(words)).then_some(())
    });
    drop(readers);
    let mark = daemon.mark();
    daemon.find("detections again", mark, PATIENCE, |r| (r.camera == "gate" && !r.is_state()).then_some(()));
    for name in ["yard", "drawn"] {
        let all = daemon.records_since(0);
        let openings = all.iter().filter(|r| r.camera == name && r.state() == Some("opening")).count();
        assert_eq!(openings, 1, "{name} notices nothing");
    }
    daemon.stop();
    assert_consistent(&daemon.all_records());
}

#[test]
fn a_process_without_descriptors_leaves_in_order_before_a_library_ends_it() {
    let _alone = alone();
    let three = Three::new();
    let mut daemon = three.start();
    // As when something leaks them: our own openings would have left more.
    limit_descriptors(&daemon, usage(daemon.pid()).fds as u64 + 5);
    let (status, _) = daemon.end(PATIENCE);
    assert_eq!(status.code(), Some(75), "{:?}", daemon.log());
    daemon.logged("something leaks them, or LimitNOFILE=", PATIENCE);
    assert!(three.setup.sockets().is_empty(), "left behind: {:?}", three.setup.sockets());
    assert_consistent(&daemon.all_records());
}

/// The limit that shells begin with is raised to the one that the system allows.
#[test]
fn a_low_soft_limit_is_raised_at_the_start() {
    let _alone = alone();
    let gate = camera(small(1));
    let setup = Setup::new(&detector(), "").camera("gate", gate.url(), "");
    let daemon = setup.start_limited(48);
    daemon.state("gate", "streaming", 0, PATIENCE);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).expect("it is there");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("it is limited");
    let soft: u64 = line.split_whitespace().nth(3).and_then(|soft| soft.parse().ok()).expect("a number");
    assert!(soft > 48, "{line}");
}

#[test]
fn a_camera_for_which_there_is_no_thread_says_so_and_comes_back_the_others_go_on() {
    let _alone = alone();
    let Some(faulty) = Faulty::new() else { return };
    let three = Three::new();
    let three = Three { setup: faulty.before(three.setup), ..three };
    let mut daemon = three.start();
    let scarce = |_: &Daemon| faulty.set(Faulty::REFUSE_THREADS, 1);
    let plenty = |_: &Daemon| faulty.set(Faulty::REFUSE_THREADS, 0);
    one_camera_waits_for_better_times(&three, &mut daemon, scarce, plenty, "no thread could be started");
    assert!(faulty.get(Faulty::REFUSED) > 0, "threads were really refused");
}

#[test]
fn a_hundred_readers_get_every_record_and_leave_nothing_behind() {
    let _alone = alone();
    let gate = camera(small(1));
    let text = "type = \"unix\"\nmax_readers = 120\npath = ";
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("many.sock");
    let setup = Setup::new(&detector(), "")
        .camera("gate", gate.url(), "")
        .section("output.many", &format!("{text}\"{}\"", socket.display()));
    let mut daemon = setup.start();
    daemon.state("gate", "streaming", 0, PATIENCE);
    pause(Duration::from_secs(1));
    let before = usage(daemon.pid());
    let gaps = Arc::new(AtomicUsize::new(0));
    let readers: Vec<_> = (0..100)
        .map(|_| {
            let stream = UnixStream::connect(&socket).expect("room for all");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            let gaps = Arc::clone(&gaps);
            std::thread::spawn(move || {
                let mut last = None;
                for line in BufReader::new(stream).lines().take(60) {
                    let record: serde_json::Value =
                        serde_json::from_str(&line.expect("a line")).expect("JSON");
                    assert_eq!(record["type"], "detections", "{record}");
                    let (seq, dropped) = (record["seq"].as_u64(), record["dropped_since_last"].as_u64());
                    if last.is_some()
                        && seq != last.zip(dropped).map(|(last, dropped): (u64, u64)| last + dropped + 1)
                    {
                        gaps.fetch_add(1, Ordering::Relaxed);
                    }
                    last = seq;
                }
            })
        })
        .collect();
    // And some that never read, and some that only talk.
    let idle: Vec<UnixStream> = (0..15).map(|_| UnixStream::connect(&socket).expect("room")).collect();
    let mut talkers: Vec<UnixStream> = (0..5).map(|_| UnixStream::connect(&socket).expect("room")).collect();
    talkers.iter_mut().for_each(|talker| talker.write_all(&[b'x'; 4096]).expect("taken"));
    let with_all = wait_for("all are accepted", PATIENCE, || {
        Some(usage(daemon.pid())).filter(|usage| usage.fds >= before.fds + 120)
    });
    readers.into_iter().for_each(|reader| reader.join().expect("no panic"));
    assert_eq!(gaps.load(Ordering::Relaxed), 0, "whole and in order, for everybody");
    drop((idle, talkers));
    let after = wait_for("all are gone", PATIENCE, || {
        Some(usage(daemon.pid())).filter(|usage| usage.fds <= before.fds)
    });
    eprintln!("before {before:?}\nwith 120 {with_all:?}\nafter {after:?}");
    assert_eq!(after.threads, before.threads);
    assert_eq!(daemon.debug().cameras[0].generation, 1);
    daemon.stop();
    assert_consistent(&daemon.all_records());
}

#[test]
fn five_hundred_openings_leave_no_process_behind_and_none_is_there_meanwhile() {
    let _alone = alone();
    let there = camera(small(1));
    let mut setup = Setup::new(&detector(), "")
        .section("supervisor", "backoff_min = \"10ms\"\nbackoff_max = \"10ms\"")
        .camera("there", there.url(), "");
    for index in 0..6 {
        let nowhere = format!("rtsp://127.0.0.1:{}/stream", support::free_port());
        setup = setup.camera(&format!("absent{index}"), &nowhere, "");
    }
    let mut daemon = setup.start();
    daemon.state("there", "streaming", 0, PATIENCE);
    let mut looks = 0;
    // On a busy machine an opening takes its time.
    wait_for("five hundred openings", 10 * PATIENCE, || {
        looks += 1;
        assert_eq!(support::children(daemon.pid()), Vec::<u32>::new());
        let openings: u64 = daemon.debug().cameras.iter().map(|camera| camera.generation).sum();
        if openings.is_multiple_of(7) {
            there.inject(Fault::Close).expect("known");
            there.heal();
        }
        (openings >= 500).then_some(())
    });
    eprintln!("{looks} looks, no child process in any of them");
    assert_eq!(support::children(daemon.pid()), Vec::<u32>::new());
    daemon.stop();
}

#[test]
fn a_state_directory_that_is_read_only_does_not_keep_it_from_watching() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["state", "cache", "config", "run"] {
        std::fs::create_dir(folder.path().join(name)).expect("made");
    }
    let at = |name: &str| folder.path().join(name).display().to_string();
    let config = format!(
        "[detector]\nmodel = \"demo\"\n[camera.scene]\nurl = \"test://scene\"\n[output.console]\ntype = \"stdout\"\n\
         [output.local]\ntype = \"unix\"\npath = \"{0}/records.sock\"\n[debug]\nsocket = \"{0}/debug.sock\"\n",
        at("run")
    );
    std::fs::write(folder.path().join("config/config.toml"), config).expect("written");
    // A bind mount of the folder onto itself, so that it can be made read-only alone.
    let script = "set -e; mount --make-rprivate /; mount --bind \"$0\" \"$0\"; mount --bind \"$0/run\" \"$0/run\"; \
                  mount -o remount,bind,ro \"$0\"; ! touch \"$0/state/x\" 2>/dev/null; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(folder.path()).arg(env!("CARGO_BIN_EXE_watchpost"));
    command.args(["run", "-c"]).arg(folder.path().join("config/config.toml"));
    command.env("STATE_DIRECTORY", at("state")).env("CACHE_DIRECTORY", at("cache")).env("HOME", at("state"));
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let allowed = Command::new("unshare").args(["--mount", "true"]).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        eprintln!("NOT TESTED: mounting something read-only needs root");
        return;
    }
    let mut daemon = program::Running::start(&mut command);
    let lines = daemon.lines();
    assert_eq!(program::next_record(&lines, "detections")["camera"], "scene");
    let ended = daemon.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("ERROR"), "{}", ended.stderr);
    program::assert_plain("a read-only state directory", &ended.stderr);
}
