//! Things that happen at the same time: restarts, reloads, another engine's taking over, the end. In every order that
//! chance makes of them the process comes to rest, and nothing of it stays. `RACES_SEED` repeats a run.

mod fakes;
mod program;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use program::{Running, contents, eventually, next_record, pause, watchpost};
use rustix::process::Signal;
use watchpost::camera::Reason;
use watchpost::config::{Config, OutputKind, OutputOptions};
use watchpost::source::{Fault, Opening, Receiver, Source};
use watchpost::supervisor::{Detector, Parts, Reloader, Renewed, Supervisor, Verdict};

/// In-process lives, each with its own seed.
const LIVES: u64 = 300;
/// Lives at one time: most of them wait.
const AT_ONCE: usize = 12;
/// Starts of the real binary that are ended at some moment.
const STARTS: u64 = 24;
/// Reloads of the real binary that are ended at some moment.
const RELOADS: u64 = 16;
const PERIOD: Duration = Duration::from_millis(3);

/// Numbers that look like chance, the same for one seed.
struct Chance(u64);

impl Chance {
    fn new(seed: u64) -> Self {
        // Neighbouring seeds must not begin alike.
        let mut chance = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..4 {
            chance.below(2);
        }
        chance
    }

    /// Below `limit`.
    fn below(&mut self, limit: u64) -> u64 {
        // xorshift64* (Vigna 2016).
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn up_to_ms(&mut self, limit: u64) -> Duration {
        Duration::from_micros(self.below(1000 * limit))
    }
}

fn seed(default: u64) -> u64 {
    std::env::var("RACES_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(default)
}

/// A camera that is well, fails at once, fails after a while, takes its time to open or to close, or panics.
struct Moody {
    well: Arc<dyn Source>,
    chance: AtomicU64,
}

/// Tells its fault after a while, and takes a while to be torn down.
struct Sick {
    _well: Box<dyn Opening>,
    thread: Option<std::thread::JoinHandle<()>>,
    teardown: Duration,
}

impl Opening for Sick {}

impl Drop for Sick {
    fn drop(&mut self) {
        fakes::wait(self.teardown);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it does not panic");
        }
    }
}

impl Source for Moody {
    fn open(&self, generation: u64, receiver: Arc<dyn Receiver>) -> Result<Box<dyn Opening>, Fault> {
        let mut chance = Chance::new(self.chance.fetch_add(1, Ordering::Relaxed));
        let fault = || Fault { reason: Reason::SourceError, detail: "by chance".to_owned() };
        fakes::wait(chance.up_to_ms(4));
        match chance.below(8) {
            0 => return Err(fault()),
            1 => panic!("by chance"),
            _ => {}
        }
        let well = self.well.open(generation, Arc::clone(&receiver))?;
        if chance.one_in(2) {
            return Ok(well);
        }
        let (after, teardown) = (chance.up_to_ms(12), chance.up_to_ms(6));
        let thread = std::thread::spawn(move || {
            fakes::wait(after);
            receiver.fault(fault());
        });
        Ok(Box::new(Sick { _well: well, thread: Some(thread), teardown }))
    }
}

/// What this seed makes of a configuration.
fn parts(chance: &mut Chance, folder: &Path) -> Parts {
    let cameras = 1 + chance.below(4) as usize;
    let engine = fakes::FakeEngine::new(chance.up_to_ms(3), || {});
    let (mut parts, _sent) = fakes::parts(cameras, PERIOD, engine, folder);
    parts.sources = parts
        .sources
        .into_iter()
        .map(|well| {
            Arc::new(Moody { well, chance: AtomicU64::new(chance.below(1 << 30)) }) as Arc<dyn Source>
        })
        .collect();
    for camera in &mut parts.config.cameras {
        camera.open_timeout = Duration::from_millis(5 + chance.below(40));
        camera.stall_timeout = Duration::from_millis(20 + chance.below(40));
        camera.slots = 1 + chance.below(3) as usize;
    }
    parts.config.supervisor.backoff_min = Duration::from_millis(1);
    parts.config.supervisor.backoff_max = Duration::from_millis(8);
    // A panic of chance is no reason for the process to leave.
    parts.config.supervisor.max_wedged = 64;
    if chance.one_in(2) {
        let path = folder.join("other.sock");
        parts
            .config
            .outputs
            .push(OutputOptions::new("other", OutputKind::Unix { path, mode: 0o600, group: None }));
    }
    parts.config.debug_socket = chance.one_in(2).then(|| folder.join("debug.sock"));
    parts
}

/// Another engine for the same model: of another size, with other labels that no camera asks for.
fn another(mut detector: Detector, side: usize) -> Detector {
    detector.input.width = side;
    detector.input.height = side;
    detector
}

/// Names and slots of the cameras in the newest configuration that could be read.
type Newest = Arc<Mutex<BTreeMap<String, usize>>>;

fn cameras_of(config: &Config) -> BTreeMap<String, usize> {
    config.cameras.iter().map(|camera| (camera.name.clone(), camera.slots)).collect()
}

struct ByChance {
    chance: Chance,
    folder: std::path::PathBuf,
    newest: Newest,
}

impl Reloader for ByChance {
    fn fingerprint(&self) -> u64 {
        0
    }

    fn load(&mut self, _running: &Config) -> Result<Renewed, String> {
        let chance = &mut self.chance;
        fakes::wait(chance.up_to_ms(8));
        match chance.below(10) {
            0 => return Err("by chance".to_owned()),
            1 => panic!("by chance"),
            _ => {}
        }
        let Parts { config, sources, detector, .. } = parts(chance, &self.folder);
        *self.newest.lock().expect("no panic") = cameras_of(&config);
        let detector = chance.one_in(4).then_some(detector);
        let (spare, wait) = (parts(chance, &self.folder).detector, chance.up_to_ms(20));
        let upgrade = detector.is_some().then(|| {
            Box::new(move || {
                fakes::wait(wait);
                Ok(another(spare, fakes::SIDE))
            }) as watchpost::supervisor::Upgrade
        });
        Ok(Renewed { config, sources, detector, upgrade })
    }
}

/// Opens nothing, takes its time to close, and says which configuration it was made for.
struct Numbered {
    number: u64,
    opened: Arc<Mutex<Vec<u64>>>,
}

struct Slow;

impl Opening for Slow {}

impl Drop for Slow {
    fn drop(&mut self) {
        fakes::wait(Duration::from_millis(300));
    }
}

impl Source for Numbered {
    fn open(&self, _generation: u64, _receiver: Arc<dyn Receiver>) -> Result<Box<dyn Opening>, Fault> {
        self.opened.lock().expect("no panic").push(self.number);
        Ok(Box::new(Slow))
    }
}

/// Configurations one after the other: with or without the camera, whose deadline tells them apart.
struct InTurn {
    script: std::vec::IntoIter<Option<u64>>,
    number: u64,
    opened: Arc<Mutex<Vec<u64>>>,
}

impl Reloader for InTurn {
    fn fingerprint(&self) -> u64 {
        0
    }

    fn load(&mut self, running: &Config) -> Result<Renewed, String> {
        self.number += 1;
        let mut config = running.clone();
        let step = self.script.next().ok_or("the script is over")?;
        let scene = watchpost::config::Locator::Scene { seed: 1, fps: 1, width: 640, height: 360 };
        config.cameras = step
            .map(|seconds| {
                let mut camera = watchpost::config::CameraOptions::new("cam0".to_owned(), scene);
                camera.open_timeout = Duration::from_secs(seconds);
                camera
            })
            .into_iter()
            .collect();
        let source = Numbered { number: self.number, opened: Arc::clone(&self.opened) };
        let sources: Vec<Arc<dyn Source>> =
            config.cameras.iter().zip([source]).map(|(_, source)| Arc::new(source) as _).collect();
        Ok(Renewed { config, sources, detector: None, upgrade: None })
    }
}

/// While the camera is still being closed for the first reload, the next ones come.
#[test]
fn the_last_of_several_reloads_holds_also_for_a_camera_that_is_still_being_closed() {
    for (what, script) in [
        ("changed and changed back", [Some(200), Some(100)]),
        ("removed and added again", [None, Some(100)]),
        ("changed and removed", [Some(200), None]),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let engine = fakes::FakeEngine::new(Duration::ZERO, || {});
        let (mut parts, _sent) = fakes::parts(1, PERIOD, engine, folder.path());
        let opened = Arc::new(Mutex::new(Vec::new()));
        parts.config.cameras[0].open_timeout = Duration::from_secs(100);
        parts.sources = vec![Arc::new(Numbered { number: 0, opened: Arc::clone(&opened) })];
        let script_len = script.len() as u64;
        let ends_with_camera = script[1].is_some();
        let reloader =
            InTurn { script: Vec::from(script).into_iter(), number: 0, opened: Arc::clone(&opened) };
        parts.reloader = Some(Box::new(reloader));
        let supervisor = Supervisor::start(parts).expect("starts");
        let control = supervisor.control();
        let running = std::thread::spawn(move || supervisor.run());
        let state = || control.state(Duration::from_secs(10)).expect("it answers");
        eventually("it is opened", || !opened.lock().expect("no panic").is_empty());
        control.reload();
        eventually("it is being closed", || state().cameras.iter().all(|camera| camera.state == "closing"));
        control.reload();
        match ends_with_camera {
            true => {
                eventually(what, || opened.lock().expect("no panic").last() == Some(&script_len));
                assert_eq!(state().cameras.len(), 1, "{what}");
            }
            false => {
                eventually(what, || state().cameras.is_empty());
                assert_eq!(*opened.lock().expect("no panic"), [0], "{what}");
            }
        }
        control.stop("the test is over");
        assert_eq!(running.join().expect("no panic"), Verdict::Stopped, "{what}");
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    threads: usize,
    descriptors: usize,
}

fn held() -> Held {
    let count = |what: &str| fs::read_dir(format!("/proc/self/{what}")).map_or(0, Iterator::count);
    Held { threads: count("task"), descriptors: count("fd") }
}

fn live(seed: u64) -> Verdict {
    let mut chance = Chance::new(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let mut parts = parts(&mut chance, folder.path());
    let newest = Newest::new(Mutex::new(cameras_of(&parts.config)));
    let reloader = ByChance {
        chance: Chance::new(chance.below(1 << 30)),
        folder: folder.path().to_owned(),
        newest: Arc::clone(&newest),
    };
    parts.reloader = Some(Box::new(reloader));
    if chance.one_in(2) {
        let (wait, fails) = (chance.up_to_ms(30), chance.below(6));
        let (spare, _sent) =
            fakes::parts(0, PERIOD, fakes::FakeEngine::new(Duration::ZERO, || {}), folder.path());
        parts.upgrade = Some(Box::new(move || {
            fakes::wait(wait);
            assert_ne!(fails, 0, "by chance");
            Ok(another(spare.detector, fakes::SIDE))
        }));
    }
    let supervisor = Supervisor::start(parts).expect("starts");
    let (control, registry) = (supervisor.control(), supervisor.registry());
    let running = std::thread::spawn(move || supervisor.run());
    for _ in 0..chance.below(8) {
        fakes::wait(chance.up_to_ms(10));
        match chance.below(5) {
            0 => (0..3).for_each(|_| control.reload()),
            1 => drop(control.state(Duration::from_secs(10))),
            _ => control.reload(),
        }
    }
    fakes::wait(chance.up_to_ms(10));
    if chance.one_in(3) {
        eventually(&format!("the cameras of seed {seed} are those of the newest configuration"), || {
            let state = control.state(Duration::from_secs(10)).expect("it answers");
            let running = state.cameras.into_iter().map(|camera| (camera.name, camera.slots.capacity));
            running.collect::<BTreeMap<_, _>>() == *newest.lock().expect("no panic")
        });
    }
    control.stop("the life is over");
    eventually(&format!("the life of seed {seed} ends"), || running.is_finished());
    let verdict = running.join().expect("run does not panic");
    drop(control);
    eventually(&format!("nobody holds anything of seed {seed}"), || Arc::strong_count(&registry) == 1);
    for camera in registry.snapshot(fakes::now()).cameras {
        assert_eq!(camera.unaccounted(), 0, "seed {seed}: a frame or a slot is still on its way: {camera:?}");
    }
    eventually(&format!("the sockets of seed {seed} go"), || contents(folder.path()).is_empty());
    verdict
}

#[test]
fn restarts_reloads_takeovers_and_the_end_in_any_order_leave_nothing() {
    let seed = seed(20_261_121);
    // The panics are on purpose, and there are hundreds.
    std::panic::set_hook(Box::new(|info| {
        let by_chance = info.payload_as_str().is_some_and(|text| text.contains("by chance"));
        if !by_chance {
            eprintln!("{info}");
        }
    }));
    live(seed);
    let baseline = held();
    for first in (0..LIVES).step_by(AT_ONCE) {
        std::thread::scope(|scope| {
            for life in first..first + AT_ONCE as u64 {
                let seed = seed.wrapping_add(life);
                scope.spawn(move || assert_eq!(live(seed), Verdict::Stopped, "seed {seed}"));
            }
        });
        eventually(&format!("all is as before seeds {seed} + {first}..: {baseline:?}"), || {
            let now = held();
            now.threads <= baseline.threads && now.descriptors <= baseline.descriptors
        });
    }
    println!("{LIVES} lives from seed {seed} on; {baseline:?} before, {:?} after", held());
}

/// A box with one drawn camera and sockets in a folder of their own.
struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("m.onnx"), program::blind_detector(2)).expect("written");
        fs::create_dir(folder.path().join("run")).expect("made");
        fs::create_dir(folder.path().join("cache")).expect("made");
        let scene = Self { folder };
        scene.configure(1);
        scene
    }

    fn configure(&self, seed: u64) {
        let run = self.folder.path().join("run").display().to_string();
        let more = if seed.is_multiple_of(2) { "" } else { "[camera.b]\nurl = \"test://scene\"\n" };
        let text = format!(
            "[detector]\nmodel = \"m.onnx\"\nbackend = \"builtin\"\nthreads = 1\n\
             [camera.a]\nurl = \"test://scene?fps=30&seed={seed}\"\n{more}\
             [output.console]\ntype = \"stdout\"\n\
             [output.local]\ntype = \"unix\"\npath = \"{run}/records{}.sock\"\n\
             [debug]\nsocket = \"{run}/debug.sock\"\n",
            seed % 3
        );
        fs::write(self.folder.path().join("new"), text).expect("written");
        fs::rename(self.folder.path().join("new"), self.folder.path().join("c.toml")).expect("renamed");
    }

    fn start(&self) -> Running {
        Running::start(watchpost(self.folder.path()).args(["run", "-c", "c.toml"]))
    }

    /// How it ended, in a word; nothing is left, and nobody complained.
    fn expect_nothing_left(&self, what: &str, ended: program::Ended) -> &'static str {
        for word in ["ERROR", "panicked"] {
            assert!(!ended.stderr.contains(word), "{what}: {}", ended.stderr);
        }
        let left: BTreeSet<_> = ["run", "cache"]
            .iter()
            .flat_map(|name| contents(&self.folder.path().join(name)).into_keys())
            .collect();
        assert!(left.is_empty(), "{what}: {left:?}\n{}", ended.stderr);
        match ended.code {
            Some(0) => "in order",
            None => "at once",
            other => panic!("{what}: {other:?} {}", ended.stderr),
        }
    }
}

#[test]
fn a_start_that_is_ended_at_any_moment_leaves_nothing() {
    let seed = seed(1);
    let scene = Scene::new();
    let mut chance = Chance::new(seed);
    let mut ends = Vec::new();
    for round in 0..STARTS {
        let daemon = scene.start();
        // Most of the start takes a quarter of a second.
        let wait = if round % 4 == 3 { chance.up_to_ms(2000) } else { chance.up_to_ms(300) };
        pause(wait);
        daemon.signal(if chance.one_in(3) { Signal::INT } else { Signal::TERM });
        ends.push(scene.expect_nothing_left(&format!("seed {seed}, {wait:?}"), daemon.end()));
    }
    let of = |end: &str| ends.iter().filter(|one| **one == end).count();
    println!(
        "{STARTS} starts from seed {seed}: {} ended in order, {} at once",
        of("in order"),
        of("at once")
    );
    assert!(of("in order") > 0);
}

#[test]
fn a_reload_that_is_ended_at_any_moment_leaves_nothing() {
    let seed = seed(2);
    let scene = Scene::new();
    let mut chance = Chance::new(seed);
    for round in 0..RELOADS {
        let mut daemon = scene.start();
        let lines = daemon.lines();
        next_record(&lines, "detections");
        for _ in 0..=chance.below(3) {
            scene.configure(chance.below(1000));
            daemon.signal(Signal::HUP);
            pause(chance.up_to_ms(30));
        }
        daemon.signal(Signal::TERM);
        let end = scene.expect_nothing_left(&format!("seed {seed}, round {round}"), daemon.end());
        assert_eq!(end, "in order", "round {round}");
    }
    println!("{RELOADS} reloads from seed {seed}, all ended in order");
}
