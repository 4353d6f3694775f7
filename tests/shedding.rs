//! Above `memory.soft_limit` load is shed by priority, and taken up again; whoever has a higher priority does
//! not notice. First with a daemon whose memory is a number, then with a real one that is given a balloon.

mod fakes;
mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::Receiver;
use support::{PATIENCE, alone, camera, pause, usage, wait_for};
use watchpost::config::{CameraOptions, Config, Locator, MemoryOptions, OutputKind, OutputOptions};
use watchpost::metrics::{Outcome, ProcessUsage, process_usage};
use watchpost::source::{GstSource, Source};
use watchpost::supervisor::{Control, MemoryWatch, Reloader, Renewed, SheddingPace, Supervisor, Verdict};
use watchpost_testcam::Picture;

const ROLE: &str = "SHEDDING_ROLE";
const URLS: &str = "SHEDDING_URLS";
const MIB: u64 = 1 << 20;

/// In a hurry: what takes minutes takes seconds.
const PACE: SheddingPace = SheddingPace {
    confirm: Duration::from_millis(300),
    settle: Duration::from_millis(600),
    patience: Duration::from_millis(900),
    patience_max: Duration::from_secs(4),
    relapse: Duration::from_secs(1),
};

fn watch(usage: impl FnMut() -> ProcessUsage + Send + 'static) -> MemoryWatch {
    MemoryWatch {
        look_every: Duration::from_millis(100),
        usage: Box::new(usage),
        shedding: PACE,
        ..MemoryWatch::default()
    }
}

/// The level of each camera.
fn levels(control: &Control) -> Vec<String> {
    let state = control.state(Duration::from_secs(2)).expect("the supervisor answers");
    state.cameras.iter().map(|camera| camera.shed.clone().unwrap_or_else(|| "full".to_owned())).collect()
}

/// What the records tell of one camera.
fn story<'a>(records: &'a [serde_json::Value], camera: &str) -> Vec<(&'a str, &'a str, &'a str)> {
    let text = |record: &'a serde_json::Value, key: &str| record[key].as_str().unwrap_or("");
    let of_camera = |record: &&serde_json::Value| {
        record["type"] == "camera_state" && record["camera"].as_str() == Some(camera)
    };
    let tell = |record| (text(record, "state"), text(record, "reason"), text(record, "shed"));
    records.iter().filter(of_camera).map(tell).collect()
}

/// Down to a pause and back.
fn assert_whole_story(story: &[(&str, &str, &str)]) {
    // Readers that come later do not hear of the beginning.
    let begin = story.iter().position(|(.., shed)| *shed == "half").expect("shed");
    assert_eq!(
        story[begin..],
        [
            ("streaming", "shed", "half"),
            ("streaming", "shed", "slow"),
            ("streaming", "shed", "keyframes"),
            ("closing", "shed", "paused"),
            ("stopped", "shed", "paused"),
            ("opening", "", "keyframes"),
            ("streaming", "", "keyframes"),
            ("streaming", "shed", "slow"),
            ("streaming", "shed", "half"),
            ("streaming", "restored", ""),
            ("closing", "shutdown", ""),
            ("stopped", "shutdown", ""),
        ]
    );
}

#[test]
fn the_lowest_priority_is_shed_step_by_step_and_comes_back_the_same_way() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a folder");
    let engine = fakes::FakeEngine::new(Duration::ZERO, || {});
    let (mut parts, _sent) = fakes::parts(3, Duration::from_millis(20), engine, folder.path());
    for (options, priority) in parts.config.cameras.iter_mut().zip([0, 10, 0]) {
        options.priority = priority;
        options.detect_fps = (priority == 0).then_some(20.0);
        // A fake source sends pictures whatever the locator says; this one has keyframes.
        options.locator = Locator::Rtsp { url: "rtsp://nowhere".to_owned() };
    }
    parts.config.memory =
        MemoryOptions { soft_limit_bytes: Some(100 * MIB), hard_limit_bytes: Some(200 * MIB) };
    let rss = Arc::new(AtomicU64::new(80 * MIB));
    let balloon = Arc::clone(&rss);
    let read = move || ProcessUsage { rss_bytes: balloon.load(Ordering::Relaxed), ..process_usage() };
    let supervisor = Supervisor::start(parts).expect("starts").watch_memory_with(watch(read));
    let (control, registry) = (supervisor.control(), supervisor.registry());
    let reader = std::os::unix::net::UnixStream::connect(folder.path().join("records.sock")).expect("there");
    let reader = std::thread::spawn(move || {
        let lines = BufReader::new(reader).lines().map_while(Result::ok);
        lines.map(|line| serde_json::from_str(&line).expect("JSON")).collect::<Vec<serde_json::Value>>()
    });
    let running = std::thread::spawn(move || supervisor.run());

    fakes::wait(Duration::from_secs(1));
    assert_eq!(levels(&control), ["full", "full", "full"]);
    let begun = fakes::now();
    rss.store(101 * MIB, Ordering::Relaxed);
    for expected in [
        ["half", "full", "half"],
        ["slow", "full", "slow"],
        ["keyframes", "full", "keyframes"],
        ["keyframes", "full", "paused"],
        ["paused", "full", "paused"],
    ] {
        wait_for(&format!("{expected:?}"), PATIENCE, || (levels(&control) == expected).then_some(()));
        eprintln!("{expected:?} after {:.1} s", begun.elapsed().as_secs_f64());
    }
    rss.store(80 * MIB, Ordering::Relaxed);
    wait_for("all is taken up again", PATIENCE, || (levels(&control) == ["full"; 3]).then_some(()));
    eprintln!("all back after {:.1} s", begun.elapsed().as_secs_f64());
    fakes::wait(Duration::from_millis(500));
    control.stop("the test is over");
    assert_eq!(running.join().expect("no panic"), Verdict::Stopped);

    let records = reader.join().expect("records");
    assert_whole_story(&story(&records, "cam2"));
    assert!(story(&records, "cam1").iter().all(|(_, reason, _)| matches!(*reason, "" | "shutdown")));
    for index in [0, 2] {
        let metrics = &registry.cameras()[index];
        assert!(metrics.outcome_count(Outcome::Shed) > 10, "frames that were given up are counted");
        assert_eq!(metrics.restarts(), 0, "a pause is no restart");
        assert_eq!(metrics.snapshot(fakes::now()).unaccounted(), 0);
    }
    let neighbour = &registry.cameras()[1];
    let (detected, frames) = (neighbour.outcome_count(Outcome::Detected), neighbour.frames_in());
    assert_eq!(neighbour.outcome_count(Outcome::Shed), 0);
    assert!(detected * 100 >= frames * 95, "{detected} of {frames}");
}

#[test]
fn a_limit_that_cannot_be_met_leaves_one_camera_and_the_process_running() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a folder");
    let engine = fakes::FakeEngine::new(Duration::ZERO, || {});
    let (mut parts, _sent) = fakes::parts(3, Duration::from_millis(20), engine, folder.path());
    parts.config.memory.soft_limit_bytes = Some(MIB);
    let supervisor = Supervisor::start(parts).expect("starts").watch_memory_with(watch(process_usage));
    let control = supervisor.control();
    let running = std::thread::spawn(move || supervisor.run());
    let expected = ["slow", "paused", "paused"];
    wait_for("all but one are paused", PATIENCE, || (levels(&control) == expected).then_some(()));
    fakes::wait(Duration::from_secs(2));
    assert_eq!(levels(&control), expected, "and it stays so");
    // What is paused stops in time as well.
    let stopping = fakes::now();
    control.stop("the test is over");
    assert_eq!(running.join().expect("no panic"), Verdict::Stopped);
    assert!(stopping.elapsed() < Duration::from_secs(2));
}

/// Reads what the test has put there.
struct Next {
    config: Arc<Mutex<Config>>,
    source: Arc<dyn Source>,
}

impl Reloader for Next {
    fn fingerprint(&self) -> u64 {
        0
    }

    fn load(&mut self, _running: &Config) -> Result<Renewed, String> {
        let config = self.config.lock().expect("no panic").clone();
        let sources = config.cameras.iter().map(|_| Arc::clone(&self.source)).collect();
        Ok(Renewed { config, sources, detector: None, upgrade: None })
    }
}

#[test]
fn a_reload_does_not_wake_a_camera_that_is_paused_and_a_limit_that_is_lifted_does() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a folder");
    let engine = fakes::FakeEngine::new(Duration::ZERO, || {});
    let (mut parts, _sent) = fakes::parts(2, Duration::from_millis(20), engine, folder.path());
    parts.config.cameras[1].priority = -1;
    parts.config.memory.soft_limit_bytes = Some(100 * MIB);
    let config = Arc::new(Mutex::new(parts.config.clone()));
    let source = Arc::clone(&parts.sources[0]);
    parts.reloader = Some(Box::new(Next { config: Arc::clone(&config), source }));
    let rss = Arc::new(AtomicU64::new(101 * MIB));
    let balloon = Arc::clone(&rss);
    let read = move || ProcessUsage { rss_bytes: balloon.load(Ordering::Relaxed), ..process_usage() };
    let supervisor = Supervisor::start(parts).expect("starts").watch_memory_with(watch(read));
    let control = supervisor.control();
    let running = std::thread::spawn(move || supervisor.run());
    let cameras = || control.state(Duration::from_secs(2)).expect("the supervisor answers").cameras;
    wait_for("the camera is paused", PATIENCE, || (cameras()[1].state == "stopped").then_some(()));
    rss.store(95 * MIB, Ordering::Relaxed);

    // Something of it changes for which a running camera would be opened again.
    config.lock().expect("no panic").cameras[1].max_frame_age = Duration::from_secs(2);
    control.reload();
    pause(Duration::from_secs(1));
    let paused = &cameras()[1];
    assert_eq!((paused.state.as_str(), paused.generation), ("stopped", 1), "{paused:?}");
    assert_eq!(paused.shed.as_deref(), Some("paused"));

    // A camera that comes while memory is short is like the others of its priority.
    let mut third = config.lock().expect("no panic").cameras[1].clone();
    third.name = "cam2".to_owned();
    config.lock().expect("no panic").cameras.push(third);
    control.reload();
    wait_for("it is there", PATIENCE, || (cameras().len() == 3).then_some(()));
    rss.store(101 * MIB, Ordering::Relaxed);
    wait_for("it is paused as well", PATIENCE, || {
        let levels = levels(&control);
        (levels[1] == "paused" && levels[2] == "paused").then_some(())
    });

    config.lock().expect("no panic").memory.soft_limit_bytes = None;
    control.reload();
    wait_for("all stream", PATIENCE, || {
        let all = cameras().iter().all(|camera| camera.state == "streaming" && camera.shed.is_none());
        all.then_some(())
    });
    control.stop("the test is over");
    assert_eq!(running.join().expect("no panic"), Verdict::Stopped);
}

/// The daemon of the test below, in a process of its own: orders come on stdin, records go to stdout.
fn be_the_daemon(urls: &str) {
    watchpost_pipelines::init().expect("GStreamer");
    let folder = tempfile::tempdir().expect("a folder");
    let engine = fakes::FakeEngine::new(Duration::from_millis(2), || {});
    let (mut parts, _sent) = fakes::parts(0, Duration::from_millis(20), engine, folder.path());
    for (index, url) in urls.split(' ').enumerate() {
        let locator = Locator::Rtsp { url: url.to_owned() };
        let mut options = CameraOptions::new(["high", "low"][index], locator);
        options.priority = if index == 0 { 1 } else { -1 };
        options.detect_fps = Some(10.0);
        // Less than the distance of two keyframes: what is skipped has to count as life.
        options.stall_timeout = Duration::from_millis(1500);
        parts.sources.push(Arc::new(GstSource::new(&options).expect("RTSP")) as Arc<dyn Source>);
        parts.config.cameras.push(options);
    }
    parts.config.outputs = vec![OutputOptions::new("console", OutputKind::Stdout)];
    // The limit is set by an order, when the process is warm.
    let limit = Arc::new(AtomicU64::new(u64::MAX));
    parts.config.memory.soft_limit_bytes = Some(100 * MIB);
    let of_watch = Arc::clone(&limit);
    let read = move || {
        let usage = process_usage();
        // As far above 100 MiB as it is above the limit.
        let rss =
            (100 * MIB).saturating_add(usage.rss_bytes).saturating_sub(of_watch.load(Ordering::Relaxed));
        ProcessUsage { rss_bytes: rss, ..usage }
    };
    let supervisor = Supervisor::start(parts).expect("starts").watch_memory_with(watch(read));
    let control = supervisor.control();
    let orders = std::thread::spawn(move || {
        let mut balloon = Vec::new();
        for order in std::io::stdin().lines().map_while(Result::ok) {
            match order.split_once(' ') {
                Some(("limit", mib)) => {
                    let above: u64 = mib.parse().expect("MiB");
                    limit.store(process_usage().rss_bytes + above * MIB, Ordering::Relaxed);
                }
                Some(("balloon", mib)) => {
                    let bytes = mib.parse::<usize>().expect("MiB") << 20;
                    balloon = vec![1u8; bytes];
                }
                _ => panic!("no such order: {order}"),
            }
        }
        drop(balloon);
        control.stop("the orders are over");
    });
    assert_eq!(supervisor.run(), Verdict::Stopped);
    orders.join().expect("no panic");
}

struct Ballooned {
    child: Child,
    orders: Option<ChildStdin>,
    lines: Receiver<String>,
    records: Vec<serde_json::Value>,
}

impl Ballooned {
    fn start(test: &str, urls: &[&str]) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new(program)
            .args([test, "--exact", "--nocapture", "--quiet"])
            .env(ROLE, "daemon")
            .env(URLS, urls.join(" "))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the daemon starts");
        let stdout = child.stdout.take().expect("piped");
        let (tx, lines) = crossbeam_channel::bounded(100_000);
        std::thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            lines.filter(|line| line.starts_with('{')).for_each(|line| tx.send(line).expect("room"));
        });
        let orders = child.stdin.take();
        Self { child, orders, lines, records: Vec::new() }
    }

    fn order(&mut self, order: &str) {
        writeln!(self.orders.as_mut().expect("not over"), "{order}").expect("the daemon listens");
    }

    /// Waits for the next record of `camera` that says this.
    fn told(&mut self, camera: &str, key: &str, value: &str) {
        let deadline = watchpost::clock::now() + PATIENCE;
        loop {
            let line = self.lines.recv_deadline(deadline).unwrap_or_else(|_| {
                panic!("{camera}: {key} = {value} does not come; {:?}", story(&self.records, camera))
            });
            let record: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            let found = record["camera"] == camera && record[key] == value;
            self.records.push(record);
            if found {
                return;
            }
        }
    }

    /// How many frames of `camera` were detected between two records.
    fn detected(&self, camera: &str) -> usize {
        let is = |record: &&serde_json::Value| record["type"] == "detections" && record["camera"] == camera;
        self.records.iter().filter(is).count()
    }

    fn stop(mut self) -> Vec<serde_json::Value> {
        drop(self.orders.take());
        assert!(self.child.wait().expect("ended").success());
        self.records.extend(self.lines.iter().map(|line| serde_json::from_str(&line).expect("JSON")));
        std::mem::take(&mut self.records)
    }
}

impl Drop for Ballooned {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Real cameras, real memory: a process of its own whose soft limit lies a little above what it takes when it
/// is warm is given 60 MiB more, and they are taken away again.
#[test]
fn a_balloon_in_a_real_process_sheds_the_camera_of_low_priority_only() {
    if std::env::var(ROLE).is_ok() {
        return be_the_daemon(&std::env::var(URLS).expect("cameras"));
    }
    let _alone = alone();
    // A keyframe every 3 s, which is longer than the stall timeout.
    let options = |seed| watchpost_testcam::CameraOptions {
        picture: Picture::Scene { seed, width: 640, height: 360, fps: 15 },
        gop: 45,
        ..Default::default()
    };
    let cameras = [camera(options(1)), camera(options(2))];
    let urls = [cameras[0].url(), cameras[1].url()];
    let test = "a_balloon_in_a_real_process_sheds_the_camera_of_low_priority_only";
    let mut daemon = Ballooned::start(test, &urls);
    daemon.told("low", "state", "streaming");
    daemon.told("high", "type", "detections");
    pause(Duration::from_secs(3));
    let warm = usage(daemon.child.id()).rss_bytes;
    daemon.order("limit 20");
    daemon.order("balloon 60");
    let since = watchpost::clock::now();
    for level in ["half", "slow", "keyframes", "paused"] {
        daemon.told("low", "shed", level);
        let rss = usage(daemon.child.id()).rss_bytes;
        eprintln!("{level} after {:.1} s, {} MiB", since.elapsed().as_secs_f64(), rss / MIB);
    }
    daemon.told("low", "state", "stopped");
    let (at_rest, high) = (daemon.detected("low"), daemon.detected("high"));
    // Before the next priority would have to give up something.
    daemon.order("balloon 0");
    daemon.told("low", "state", "opening");
    assert_eq!(daemon.detected("low"), at_rest, "a camera that is paused detects nothing");
    assert!(daemon.detected("high") > high + 4, "its neighbour does");
    daemon.told("low", "state", "streaming");
    daemon.told("low", "reason", "restored");
    eprintln!("restored after {:.1} s; warm it took {} MiB", since.elapsed().as_secs_f64(), warm / MIB);
    let back = daemon.detected("low");
    pause(Duration::from_secs(4));
    daemon.order("balloon 0");
    let records = daemon.stop();
    let low = |r: &&serde_json::Value| r["type"] == "detections" && r["camera"] == "low";
    assert!(records.iter().filter(low).count() > back + 20, "ten frames a second are detected again");

    let mut expected = vec![("opening", "", ""), ("streaming", "", "")];
    expected.extend(["half", "slow", "keyframes"].map(|level| ("streaming", "shed", level)));
    expected.extend([("closing", "shed", "paused"), ("stopped", "shed", "paused")]);
    expected.extend([("opening", "", "keyframes"), ("streaming", "", "keyframes")]);
    expected.extend([
        ("streaming", "shed", "slow"),
        ("streaming", "shed", "half"),
        ("streaming", "restored", ""),
    ]);
    expected.extend([("closing", "shutdown", ""), ("stopped", "shutdown", "")]);
    assert_eq!(story(&records, "low"), expected, "and no stall while only keyframes are decoded");
    let high = story(&records, "high");
    assert!(high.iter().all(|(_, reason, _)| matches!(*reason, "" | "shutdown")), "{high:?}");
}
