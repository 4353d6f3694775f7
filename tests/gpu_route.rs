//! The whole GPU route of the real binary, on stand-in libraries: engine built and cached, taken over, batches, faults.
//! What no stand-in can show is shown by `tests/gpu/prove` on a real GPU.

mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crossbeam_channel::Receiver;
use program::{Ended, PATIENCE, Running, record, watchpost};
use serde_json::Value;
use watchpost::clock;
use watchpost_standins::{Ledger, names};

const MAJORS: [u32; 2] = [10, 11];

/// More allocations than any test makes: all of them are refused until the order is taken back.
const REFUSALS: i64 = 1_000_000;

/// A folder, and everything in it that a machine with a GPU would have.
struct Machine {
    folder: tempfile::TempDir,
    major: u32,
    settings: String,
    ledger: Ledger,
}

impl Machine {
    fn new(major: u32, settings: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let ledger = Ledger::create(&folder.path().join("ledger")).expect("a ledger");
        Self { folder, major, settings: settings.to_owned(), ledger }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn cache(&self) -> PathBuf {
        self.path().join("cache")
    }

    /// The program on this machine.
    fn watchpost(&self) -> Command {
        let mut command = watchpost(self.path());
        watchpost_standins::environment(&mut command, self.path())
            .env("WATCHPOST_TENSORRT_LIB", watchpost_standins::tensorrt(self.major))
            .env("WATCHPOST_STANDIN", &self.settings)
            .env("WATCHPOST_STANDIN_LEDGER", self.path().join("ledger"))
            .env("CACHE_DIRECTORY", self.cache());
        command
    }

    fn run(&self, args: &[&str]) -> Ended {
        program::run(self.watchpost().args(args))
    }

    fn configure(&self, detector: &str, cameras: usize) {
        let mut text = format!(
            "[detector]\nmodel = \"demo\"\nthreads = 1\n{detector}\n\n[debug]\nsocket = \"{}\"\n\n\
             [output.console]\ntype = \"stdout\"\n\n",
            self.path().join("debug.sock").display()
        );
        for index in 0..cameras {
            let url = format!("test://scene?seed={index}&fps=10&width=320&height=192");
            text += &format!("[camera.cam{index}]\nurl = \"{url}\"\n");
        }
        fs::write(self.path().join("config.toml"), text).expect("written");
    }

    fn start(&self) -> (Running, Receiver<String>) {
        let mut running = Running::start(self.watchpost().args(["run", "-c", "config.toml"]));
        let lines = running.lines();
        (running, lines)
    }

    /// Everything that was taken from the GPU and its libraries has come back, and nothing forbidden was done.
    #[track_caller]
    fn assert_clean(&self) {
        assert_eq!(self.ledger.held(), Vec::<String>::new(), "{}", self.ledger.text());
        assert_eq!(self.ledger.get(names::VIOLATIONS), 0, "{}", self.ledger.text());
        assert_eq!(self.ledger.get("nvinfer.violations"), 0, "{}", self.ledger.text());
    }
}

/// Records of detections until one satisfies `enough`.
#[track_caller]
fn until(lines: &Receiver<String>, what: &str, mut enough: impl FnMut(&Value) -> bool) -> Vec<Value> {
    let deadline = clock::now() + PATIENCE;
    let mut records = Vec::new();
    loop {
        let line = lines.recv_deadline(deadline).unwrap_or_else(|_| panic!("waited in vain: {what}"));
        let record = record(&line);
        if record["type"] == "detections" {
            let done = enough(&record);
            records.push(record);
            if done {
                return records;
            }
        }
    }
}

fn is_on(record: &Value, backend: &str) -> bool {
    record["model"]["backend"] == backend
}

/// The state of the daemon, as `watchpost debug` shows it.
fn debug(machine: &Machine) -> Value {
    let socket = machine.path().join("debug.sock");
    let ended = machine.run(&["debug", "--json", "--socket", &socket.to_string_lossy()]);
    serde_json::from_str(&ended.stdout).unwrap_or_default()
}

#[test]
fn auto_serves_on_the_cpu_until_its_engine_is_built_and_the_swap_loses_no_record() {
    for major in MAJORS {
        let machine = Machine::new(major, "nvinfer.build_ms=1500");
        machine.configure("backend = \"auto\"", 3);
        let (daemon, lines) = machine.start();
        let mut records = until(&lines, "the engine takes over", |record| is_on(record, "tensorrt"));
        let mut more = 0;
        records.extend(until(&lines, "frames of all cameras", |_| {
            more += 1;
            more == 30
        }));
        let state = debug(&machine);
        let ended = daemon.stop();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        for camera in ["cam0", "cam1", "cam2"] {
            let of_camera: Vec<_> = records.iter().filter(|r| r["camera"] == camera).collect();
            let switch = of_camera.iter().position(|r| is_on(r, "tensorrt")).expect("it took over");
            assert!(switch > 3, "the CPU served meanwhile");
            assert!(of_camera[switch..].iter().all(|r| is_on(r, "tensorrt")));
            assert!(of_camera.iter().all(|r| r["generation"] == 1), "no camera was touched");
            let sees = |r: &&&Value| r["objects"].as_array().is_some_and(|objects| !objects.is_empty());
            assert!(of_camera[switch..].iter().filter(sees).count() > 3, "the engine sees");
        }
        // On a busy machine a newer frame may take an older one's place; the swap itself costs none.
        for camera in state["cameras"].as_array().expect("cameras") {
            let outcomes = &camera["outcomes"];
            for lost in ["engine_error", "stale_generation", "decode_error"] {
                assert_eq!(outcomes[lost], 0, "{outcomes}");
            }
        }
        assert_eq!(state["engine"]["backend"], "tensorrt");
        assert!(state["memory_bytes"]["gpu"].as_u64().is_some_and(|bytes| bytes > 0), "{state}");
        machine.assert_clean();
        // The second start finds it.
        let (daemon, lines) = machine.start();
        let first = until(&lines, "a record", |_| true);
        assert!(is_on(&first[0], "tensorrt"), "{}", first[0]);
        let ended = daemon.stop();
        assert!(ended.stderr.contains("the engine is in the cache"), "{}", ended.stderr);
        assert_eq!(machine.ledger.get("nvinfer.builds"), 1, "built once");
        machine.assert_clean();
    }
}

#[test]
fn what_the_gpu_sees_is_what_the_cpu_sees() {
    let Some(footage) = program::shared("footage") else { return };
    let clip = footage.join("people-walking-720p.mp4");
    let machine = Machine::new(10, "");
    let detect = |backend: &str| {
        let clip = clip.to_string_lossy();
        let args = ["detect", &clip, "-m", "demo", "--backend", backend, "--max-frames", "10"];
        let ended = machine.run(&args);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.records()
    };
    let (cpu, gpu) = (detect("builtin"), detect("tensorrt"));
    assert_eq!((cpu.len(), gpu.len()), (10, 10));
    for (cpu, gpu) in cpu.iter().zip(&gpu) {
        assert!(is_on(gpu, "tensorrt") && gpu["model"]["precision"] == "fp16");
        let objects = |record: &Value| record["objects"].as_array().expect("objects").clone();
        let (cpu, gpu) = (objects(cpu), objects(gpu));
        assert_eq!(cpu.len(), gpu.len());
        for (cpu, gpu) in cpu.iter().zip(&gpu) {
            assert_eq!(cpu["label"], gpu["label"]);
            let number = |value: &Value| value.as_f64().expect("a number");
            assert!((number(&cpu["score"]) - number(&gpu["score"])).abs() < 0.02, "{cpu} {gpu}");
            for side in 0..4 {
                assert!((number(&cpu["box"][side]) - number(&gpu["box"][side])).abs() < 3.0, "{cpu} {gpu}");
            }
        }
    }
    machine.assert_clean();
}

#[test]
fn frames_decoded_on_the_gpu_never_visit_the_host() {
    let Some(footage) = program::shared("footage") else { return };
    let machine = Machine::new(10, "");
    machine.configure("backend = \"tensorrt\"", 0);
    let clip = footage.join("car-detection.mp4");
    let camera = format!("[camera.clip]\nurl = \"file://{}\"\nrepeat = true\n", clip.display());
    let path = machine.path().join("config.toml");
    fs::write(&path, fs::read_to_string(&path).expect("read") + &camera).expect("written");
    let (daemon, lines) = machine.start();
    let mut count = 0;
    let records = until(&lines, "twenty records", |_| {
        count += 1;
        count == 20
    });
    assert!(records.iter().all(|record| is_on(record, "tensorrt")));
    let decoded = machine.ledger.get(names::DECODED);
    let ended = daemon.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    if decoded == 0 {
        eprintln!("NOT TESTED: this GStreamer has no nvh264dec on the stand-in: {}", ended.stderr);
        return;
    }
    // What came down are outputs, a few KiB a frame; what went up would be pictures from the CPU's letterbox.
    let (up, frames) = (machine.ledger.get(names::H2D_BYTES), machine.ledger.get("nvinfer.frames"));
    assert!(frames >= 20 && up < 20 * 320 * 192 * 3 * 4, "{up} bytes went up for {frames} frames");
    machine.assert_clean();
}

/// A fault of the GPU while cameras run: the process leaves in order with 75, and nothing is left.
#[test]
fn a_gpu_that_is_lost_or_hangs_ends_the_process_with_75() {
    for code in [700, 719, 999] {
        let machine = Machine::new(10, "");
        machine.configure("backend = \"tensorrt\"", 2);
        let (daemon, lines) = machine.start();
        until(&lines, "a record", |record| is_on(record, "tensorrt"));
        machine.ledger.set(names::ORDER_LOST, code);
        let ended = daemon.end();
        assert_eq!(ended.code, Some(75), "{code}: {}", ended.stderr);
        assert!(ended.stderr.contains(&format!("({code})")), "{code}: {}", ended.stderr);
        assert!(ended.stderr.contains("has to start again"), "{code}: {}", ended.stderr);
        program::assert_plain("a lost GPU", &ended.stderr);
        // The next process begins anew.
        machine.ledger.set(names::ORDER_LOST, 0);
        let (daemon, lines) = machine.start();
        until(&lines, "a record", |record| is_on(record, "tensorrt"));
        assert_eq!(daemon.stop().code, Some(0));
    }
}

#[test]
fn what_is_missing_or_refused_is_told_and_auto_runs_on_the_cpu() {
    // Settings of the machine, and words of what is said where `tensorrt` is asked for.
    let cases: [(&str, &[&str]); 10] = [
        ("devices=0", &["no GPU"]),
        ("init_error=999", &["999"]),
        ("oom_at=1", &["OutOfMemory"]),
        ("nvinfer.deserialize_fails=all", &["refuses the engine"]),
        ("nvinfer.enqueue_fails=all", &["does not run the engine"]),
        ("nvinfer.parse_fails=all", &["no engine could be built"]),
        ("nvinfer.version=8.6.1", &["TensorRT 8.6.1", "10.3"]),
        ("nvinfer.version=12.0.0", &["TensorRT 12.0.0"]),
        ("nvinfer.no_gpu=all", &["does not start"]),
        ("nvinfer.build_fails=all", &["no engine could be built"]),
    ];
    for (settings, words) in cases {
        let machine = Machine::new(10, settings);
        machine.configure("backend = \"tensorrt\"", 1);
        let ended = machine.run(&["run", "-c", "config.toml"]);
        let code = ended.code.unwrap_or(-1);
        assert!(
            code == 69 || (code == 78 && settings.contains("build")),
            "{settings}: {code} {}",
            ended.stderr
        );
        for word in words {
            assert!(ended.stderr.contains(word), "{settings}: {word:?} is not in:\n{}", ended.stderr);
        }
        program::assert_plain(settings, &ended.stderr);
        machine.assert_clean();
        machine.configure("backend = \"auto\"", 1);
        let (daemon, lines) = machine.start();
        let mut count = 0;
        let records = until(&lines, "ten records", |_| {
            count += 1;
            count == 10
        });
        assert!(records.iter().all(|record| is_on(record, "builtin")), "{settings}");
        let ended = daemon.stop();
        assert_eq!(ended.code, Some(0), "{settings}: {}", ended.stderr);
        machine.assert_clean();
    }
}

#[test]
fn no_allocation_that_is_refused_leaks_or_crashes() {
    // Every allocation of a start, one after the other, until a start needs no more of them.
    for refused in 1..60 {
        let machine = Machine::new(11, "");
        machine.configure("backend = \"tensorrt\"", 1);
        let built = machine.run(&["engine", "build", "demo"]);
        assert_eq!(built.code, Some(0), "{}", built.stderr);
        let refusing = Machine { settings: format!("oom_at={refused}"), ..machine };
        let (daemon, lines) = refusing.start();
        let first = lines.recv_timeout(PATIENCE);
        if first.is_ok() {
            // This one was not needed for a start; frames flow.
            until(&lines, "a record", |record| is_on(record, "tensorrt"));
            assert_eq!(daemon.stop().code, Some(0));
            refusing.assert_clean();
            assert!(refused > 5, "a start allocates more than {refused} times");
            return;
        }
        let ended = daemon.end();
        assert!(matches!(ended.code, Some(69 | 75)), "{refused}: {:?} {}", ended.code, ended.stderr);
        program::assert_plain("out of memory", &ended.stderr);
        refusing.assert_clean();
    }
    panic!("a start needs sixty allocations");
}

#[test]
fn an_engine_that_hangs_ends_the_process_with_75_and_nonsense_is_no_detection() {
    let machine = Machine::new(10, "");
    machine.configure("backend = \"tensorrt\"\n[supervisor]\ninference_timeout = \"1s\"", 2);
    let (daemon, lines) = machine.start();
    until(&lines, "a record", |record| is_on(record, "tensorrt"));
    machine.ledger.set(names::ORDER_HANG, 1);
    let ended = daemon.end();
    assert_eq!(ended.code, Some(75), "{}", ended.stderr);
    assert!(ended.stderr.contains("the engine hangs"), "{}", ended.stderr);
    program::assert_plain("an engine that hangs", &ended.stderr);
    // Numbers that are none: no objects, and no harm.
    let machine = Machine::new(10, "nvinfer.outputs_nan=all");
    machine.configure("backend = \"tensorrt\"", 1);
    let (daemon, lines) = machine.start();
    let mut count = 0;
    let records = until(&lines, "ten records", |_| {
        count += 1;
        count == 10
    });
    assert!(records.iter().all(|record| record["objects"].as_array().is_some_and(Vec::is_empty)));
    assert_eq!(daemon.stop().code, Some(0));
    machine.assert_clean();
}

/// Libraries that lack a function, as a driver that is too old or an installation that is broken has them.
#[test]
fn a_library_that_lacks_a_function_is_told_by_name() {
    let machine = Machine::new(10, "");
    machine.configure("backend = \"tensorrt\"", 1);
    let lacking = machine.path().join("lacking");
    fs::create_dir(&lacking).expect("a folder");
    watchpost_standins::without("libcuda.so.1", "cuStreamWaitEvent", &lacking).expect("it had it");
    let mut command = machine.watchpost();
    watchpost_standins::environment_of(&mut command, &lacking, machine.path());
    let ended = program::run(command.args(["run", "-c", "config.toml"]));
    ended.expect("libcuda lacks a function", 69, &["cuStreamWaitEvent"]);
    machine.assert_clean();
}

#[test]
fn a_machine_without_a_gpu_says_why_once_and_works() {
    if watchpost_cuda::devices().is_ok_and(|devices| !devices.is_empty()) {
        eprintln!("NOT TESTED: what a machine without a GPU says: this one has one");
        return;
    }
    let machine = Machine::new(10, "");
    let plain = || watchpost(machine.path());
    let devices = program::run(plain().arg("devices"));
    assert_eq!(devices.code, Some(0), "{}", devices.stderr);
    for line in ["  tensorrt ", "  CUDA memory: "] {
        let found: Vec<_> = devices.stdout.lines().filter(|l| l.starts_with(line)).collect();
        assert_eq!(found.len(), 1, "{line}: {}", devices.stdout);
        assert!(found[0].contains("not here") && found[0].contains("NVIDIA driver"), "{}", found[0]);
    }
    machine.configure("backend = \"tensorrt\"", 1);
    let ended = program::run(plain().args(["run", "-c", "config.toml"]));
    ended.expect("tensorrt without a GPU", 69, &["backend tensorrt is unavailable", "NVIDIA driver"]);
    let ended = program::run(plain().args(["engine", "build", "demo"]));
    ended.expect("a build without a GPU", 69, &["engines cannot be built here", "NVIDIA driver"]);
    machine.configure("backend = \"auto\"", 1);
    let mut running = Running::start(plain().args(["run", "-c", "config.toml"]));
    let lines = running.lines();
    until(&lines, "a record", |record| !is_on(record, "tensorrt"));
    let ended = running.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("backend auto runs on the CPU").count(), 1, "{}", ended.stderr);
}

#[test]
fn a_camera_for_which_the_gpu_has_no_room_is_refused_and_the_others_live() {
    let machine = Machine::new(10, "");
    machine.configure("backend = \"tensorrt\"", 2);
    let path = machine.path().join("config.toml");
    let text = fs::read_to_string(&path).expect("read");
    let (daemon, lines) = machine.start();
    let both = |lines: &Receiver<String>| {
        let mut counts = [0, 0];
        until(lines, "records of both cameras", |record| {
            counts[usize::from(record["camera"] == "cam1")] += 1;
            counts.iter().all(|&count| count > 5)
        })
    };
    both(&lines);
    let held = machine.ledger.get(names::LIVE_BYTES);
    let more = "[camera.more]\nurl = \"test://scene?seed=9&fps=10&width=320&height=192\"\n";
    // Twice, as somebody would try it; then there is room. Whoever reads the file again meanwhile is refused too.
    fs::write(&path, format!("{text}{more}")).expect("written");
    for _ in 0..2 {
        machine.ledger.set(names::ORDER_OOM, REFUSALS);
        daemon.signal(rustix::process::Signal::HUP);
        let refused = || machine.ledger.get(names::ORDER_OOM) < REFUSALS;
        program::eventually("the allocation is refused", refused);
        let records = both(&lines);
        assert!(records.iter().all(|r| r["camera"] != "more" && r["generation"] == 1));
    }
    machine.ledger.set(names::ORDER_OOM, 0);
    daemon.signal(rustix::process::Signal::HUP);
    until(&lines, "the new camera", |record| record["camera"] == "more");
    assert!(machine.ledger.get(names::LIVE_BYTES) > held);
    fs::write(&path, &text).expect("written");
    daemon.signal(rustix::process::Signal::HUP);
    program::eventually("its memory comes back", || machine.ledger.get(names::LIVE_BYTES) == held);
    let ended = daemon.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("the GPU has no"), "{}", ended.stderr);
    machine.assert_clean();
}
