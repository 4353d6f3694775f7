//! Two hundred lives of a camera leave nothing behind: started, stopped, stalled. And the control: the same
//! check, in a process that leaks on purpose, finds every kind of leak.
//!
//! The counts must be clean, so everything happens in processes of their own, which are this program again:
//! one that is checked, and one that is the camera.

mod fakes;
mod support;

use std::io::{BufRead, BufReader, Write};
use std::os::fd::IntoRawFd;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::{PATIENCE, Usage, pause, usage, wait_for};
use watchpost::config::{CameraOptions, Locator, OutputOptions, SupervisorOptions};
use watchpost::metrics::Registry;
use watchpost::source::{Fault, GstSource, Opening, Receiver, Source};
use watchpost::supervisor::{Control, Supervisor, Verdict};
use watchpost_pipelines::{live_objects, open_pipelines};
use watchpost_testcam::Picture;

const ROLE: &str = "CYCLES_ROLE";
const LEAK: &str = "CYCLES_LEAK";
/// The tracer that counts GStreamer's objects has to be asked for before GStreamer starts.
const TRACED: (&str, &str) = ("GST_TRACERS", "leaks");
/// Memory may move by this much once everything has happened a few times: what the allocators keep.
const RSS_SLACK_BYTES: u64 = 5 << 20;
/// What one leak of memory amounts to. It is touched.
const LEAK_BYTES: usize = 200 << 10;

/// So many cycles of each kind, first to warm up, then between the two counts.
#[derive(Clone, Copy)]
struct Plan {
    warm_stops: usize,
    warm_stalls: usize,
    stops: usize,
    stalls: usize,
}

const FULL: Plan = Plan { warm_stops: 30, warm_stalls: 10, stops: 140, stalls: 60 };
/// Enough for a leak in each cycle to show.
const CONTROL: Plan = Plan { warm_stops: 12, warm_stalls: 2, stops: 20, stalls: 2 };
/// Memory is allowed some slack, so it takes more of them.
const CONTROL_MEMORY: Plan = Plan { warm_stops: 12, warm_stalls: 2, stops: 50, stalls: 2 };

/// What stalls take turns in: pictures missing, answers missing, everything missing, everything wrong.
const FAULTS: [&str; 6] = ["keepalive-only", "stop-sending", "close", "garbage", "accept-silent", "vanish"];

/// What leaks on purpose.
#[derive(Clone, Copy, PartialEq)]
enum Leak {
    Nothing,
    Pipeline,
    Descriptor,
    Thread,
    Memory,
}

impl Leak {
    fn from_environment() -> Self {
        match std::env::var(LEAK).as_deref() {
            Ok("pipeline") => Self::Pipeline,
            Ok("descriptor") => Self::Descriptor,
            Ok("thread") => Self::Thread,
            Ok("memory") => Self::Memory,
            _ => Self::Nothing,
        }
    }

    /// Leaves one of it behind.
    fn spring(self) {
        match self {
            Self::Nothing | Self::Pipeline => {}
            Self::Descriptor => {
                let file = std::fs::File::open("/dev/null").expect("it is always there");
                let _nobody_closes_it = file.into_raw_fd();
            }
            Self::Thread => drop(std::thread::spawn(|| {
                loop {
                    std::thread::park();
                }
            })),
            Self::Memory => {
                Box::leak(vec![1u8; LEAK_BYTES].into_boxed_slice());
            }
        }
    }
}

/// The camera's own source, with a hole in it.
struct LeakySource {
    inner: GstSource,
    leak: Leak,
}

struct LeakyOpening {
    inner: Option<Box<dyn Opening>>,
    leak: Leak,
}

impl Opening for LeakyOpening {}

impl Source for LeakySource {
    fn open(&self, generation: u64, receiver: Arc<dyn Receiver>) -> Result<Box<dyn Opening>, Fault> {
        let inner = Some(self.inner.open(generation, receiver)?);
        Ok(Box::new(LeakyOpening { inner, leak: self.leak }))
    }
}

impl Drop for LeakyOpening {
    fn drop(&mut self) {
        self.leak.spring();
        if self.leak == Leak::Pipeline
            && let Some(inner) = self.inner.take()
        {
            Box::leak(inner);
        }
    }
}

/// This program again, in another role.
fn again(test: &str, role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env_remove("RUST_TEST_THREADS");
    command
}

fn in_role(role: &str) -> bool {
    std::env::var(ROLE).as_deref() == Ok(role)
}

/// The process that is the camera. It ends with its stdin.
struct Camera {
    process: Child,
    orders: ChildStdin,
    url: String,
}

impl Camera {
    fn start() -> Self {
        let mut command = again("the_camera_of_the_other_tests", "camera");
        command.env_remove(TRACED.0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("the camera's process starts");
        let orders = process.stdin.take().expect("piped");
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let url = lines.find_map(|line| line.split_once("url=").map(|(_, url)| url.to_owned()));
        Self { process, orders, url: url.expect("the camera tells its URL") }
    }

    fn order(&mut self, order: &str) {
        writeln!(self.orders, "{order}").expect("the camera listens");
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}

#[test]
fn the_camera_of_the_other_tests() {
    if !in_role("camera") {
        return;
    }
    let mut options = support::scene(1);
    options.picture = Picture::Scene { seed: 1, width: 320, height: 192, fps: 15 };
    // Every picture can be the first one, so that an opening takes no longer than it must.
    options.gop = 1;
    let camera = support::camera(options);
    println!("url={}", camera.url());
    for order in std::io::stdin().lines().map_while(Result::ok) {
        match order.parse() {
            Ok(fault) => camera.inject(fault).expect("a known fault"),
            Err(_) => camera.heal(),
        }
    }
}

/// Everything that could be left behind.
#[derive(Debug, Clone, Copy)]
struct Held {
    usage: Usage,
    pipelines: usize,
    /// GStreamer's objects, where no pipeline is open: its tracer crashes now and then when it is asked
    /// while other threads make and free objects.
    objects: Option<usize>,
}

fn held() -> Held {
    let pipelines = open_pipelines();
    let objects = (pipelines == 0).then(|| live_objects().expect("the leaks tracer is active"));
    Held { usage: usage(std::process::id()), pipelines, objects }
}

/// Hears only that its pipeline has failed.
#[derive(Default)]
struct Deaf {
    failed: AtomicBool,
}

impl watchpost_pipelines::Receiver for Deaf {
    fn frame(&self, _frame: watchpost_pipelines::Frame) {}

    fn event(&self, _event: watchpost_pipelines::Event) {
        self.failed.store(true, Ordering::Relaxed);
    }
}

/// Objects while one pipeline exists, in which nothing happens any more: nobody answered it.
fn objects_of_one_pipeline() -> usize {
    let url = format!("rtsp://127.0.0.1:{}/nothing", support::free_port());
    let spec = watchpost_pipelines::Spec::new(watchpost_pipelines::SourceKind::Rtsp { url });
    let deaf = Arc::new(Deaf::default());
    let pipeline = watchpost_pipelines::Pipeline::start(&spec, "failed", deaf.clone()).expect("it is built");
    wait_for("its failure", PATIENCE, || deaf.failed.load(Ordering::Relaxed).then_some(()));
    pause(Duration::from_millis(200));
    let objects = live_objects().expect("the leaks tracer is active");
    pipeline.stop();
    objects
}

impl Held {
    /// What has become more since `then`.
    fn beyond(&self, then: &Held) -> Vec<&'static str> {
        [
            ("descriptors", self.usage.fds > then.usage.fds),
            ("threads", self.usage.threads > then.usage.threads),
            ("memory", self.usage.rss_bytes > then.usage.rss_bytes + RSS_SLACK_BYTES),
            ("pipelines", self.pipelines > 0),
            ("objects", self.objects.zip(then.objects).is_none_or(|(now, then)| now > then)),
        ]
        .into_iter()
        .filter_map(|(what, grown)| grown.then_some(what))
        .collect()
    }
}

/// A supervisor with one camera, in its thread.
struct Life {
    control: Control,
    registry: Arc<Registry>,
    thread: std::thread::JoinHandle<Verdict>,
    _folder: tempfile::TempDir,
}

impl Life {
    fn begin(url: &str, leak: Leak) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let engine = fakes::FakeEngine::new(Duration::ZERO, || {});
        let (mut parts, _sent) = fakes::parts(0, Duration::from_secs(1), engine, folder.path());
        let locator = Locator::Rtsp { url: url.to_owned() };
        let camera = CameraOptions {
            stall_timeout: Duration::from_millis(300),
            open_timeout: Duration::from_millis(700),
            latency: Duration::from_millis(20),
            ..CameraOptions::new("cam", locator)
        };
        let inner = GstSource::new(&camera).expect("GStreamer opens rtsp");
        parts.sources = vec![Arc::new(LeakySource { inner, leak })];
        parts.config.cameras = vec![camera];
        let outputs: Vec<OutputOptions> = parts.config.outputs.drain(..).take(1).collect();
        parts.config.outputs = outputs;
        parts.config.supervisor = SupervisorOptions {
            backoff_min: Duration::from_millis(20),
            backoff_max: Duration::from_millis(50),
            ..SupervisorOptions::default()
        };
        let supervisor = Supervisor::start(parts).expect("the supervisor starts");
        let (control, registry) = (supervisor.control(), supervisor.registry());
        let thread = std::thread::spawn(move || supervisor.run());
        Self { control, registry, thread, _folder: folder }
    }

    /// Waits for this state in this generation or a later one; returns which.
    fn in_state(&self, state: &str, generation: u64) -> u64 {
        wait_for(&format!("{state} in generation {generation}"), PATIENCE, || {
            let debug = self.control.state(Duration::from_secs(1))?;
            let camera = &debug.cameras[0];
            (camera.state == state && camera.generation >= generation).then_some(camera.generation)
        })
    }

    fn end(self) {
        self.control.stop("the cycle is over");
        assert_eq!(self.thread.join().expect("the supervisor does not panic"), Verdict::Stopped);
        let snapshot = self.registry.snapshot(watchpost::clock::now());
        assert_eq!(snapshot.cameras[0].unaccounted(), 0, "every frame met its end");
        assert_eq!(Arc::strong_count(&self.registry), 1, "the house is empty");
    }
}

fn start_and_stop(url: &str, leak: Leak, count: usize) {
    for round in 0..count {
        let life = Life::begin(url, leak);
        // Some are stopped before they have seen anything.
        if !round.is_multiple_of(4) {
            life.in_state("streaming", 1);
        }
        life.end();
    }
}

fn stall_and_heal(camera: &mut Camera, leak: Leak, count: usize) {
    let life = Life::begin(&camera.url, leak);
    let mut generation = 0;
    for fault in FAULTS.iter().cycle().take(count) {
        generation = life.in_state("streaming", generation + 1);
        camera.order(fault);
        generation = life.in_state("opening", generation + 1);
        let state = life.control.state(PATIENCE).expect("the supervisor answers");
        assert_eq!(state.cameras[0].slots.free, state.cameras[0].slots.capacity, "the slots are home");
        camera.order("heal");
        // The opening that met the fault may still fail.
        generation -= 1;
    }
    life.in_state("streaming", generation + 1);
    life.end();
}

/// Runs the plan; ends in a panic that names what was left behind.
fn check(plan: Plan, leak: Leak) {
    watchpost_pipelines::init().expect("GStreamer starts");
    assert!(objects_of_one_pipeline() > 0, "the tracer counts");
    let mut camera = Camera::start();
    start_and_stop(&camera.url, Leak::Nothing, plan.warm_stops);
    stall_and_heal(&mut camera, Leak::Nothing, plan.warm_stalls);
    // GLib's pool lets a thread go that had nothing to do for 15 s; half a second is for our own.
    pause(Duration::from_millis(500));
    let baseline = held();
    start_and_stop(&camera.url, leak, plan.stops);
    stall_and_heal(&mut camera, leak, plan.stalls);
    let deadline = watchpost::clock::now() + Duration::from_secs(if leak == Leak::Nothing { 20 } else { 1 });
    let mut end = held();
    while !end.beyond(&baseline).is_empty() && watchpost::clock::now() < deadline {
        pause(Duration::from_millis(100));
        end = held();
    }
    println!("\nbefore: {baseline:?}\nafter:  {end:?}");
    let left_behind = end.beyond(&baseline);
    assert!(left_behind.is_empty(), "left behind: {}", left_behind.join(", "));
}

fn run_check(test: &str, plan: &str, leak: &str) -> Output {
    let mut command = again(test, plan);
    let output = command.env(LEAK, leak).env(TRACED.0, TRACED.1).stdin(Stdio::null()).output();
    output.expect("the checked process runs")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn two_hundred_cycles_leave_nothing_behind() {
    if in_role("full") {
        return check(FULL, Leak::from_environment());
    }
    let since = watchpost::clock::now();
    let output = run_check("two_hundred_cycles_leave_nothing_behind", "full", "nothing");
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    for line in text.lines().filter(|line| line.starts_with("before:") || line.starts_with("after:")) {
        eprintln!("{line}");
    }
    eprintln!("240 cycles in {:.0} s", since.elapsed().as_secs_f64());
}

#[test]
fn the_same_check_fails_when_something_leaks() {
    if in_role("control") {
        return check(CONTROL, Leak::from_environment());
    }
    if in_role("control-memory") {
        return check(CONTROL_MEMORY, Leak::from_environment());
    }
    let kinds = [
        ("control", "pipeline", "pipelines"),
        ("control", "descriptor", "descriptors"),
        ("control", "thread", "threads"),
        ("control-memory", "memory", "memory"),
    ];
    for (plan, leak, found) in kinds {
        let output = run_check("the_same_check_fails_when_something_leaks", plan, leak);
        let text = text(&output);
        assert!(!output.status.success(), "a leaked {leak} was not found:\n{text}");
        let verdict = text.lines().find_map(|line| line.split_once("left behind: ")).map(|(_, list)| list);
        let verdict = verdict.unwrap_or_else(|| panic!("the check failed for another reason:\n{text}"));
        assert!(verdict.contains(found), "a leaked {leak} was taken for {verdict}");
        eprintln!("leaking a {leak} in every cycle: left behind {verdict}");
    }
}
