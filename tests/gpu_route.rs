//! The whole GPU route of the real binary, on stand-in libraries: engine built and cached, taken over, batches, faults.
//! What no stand-in can show is shown by `tests/gpu/prove` on a real GPU.

mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crossbeam_channel::Receiver;
use program::{Ended, PATIENCE, Running, eventually, pause, record, watchpost};
use serde_json::Value;
use watchpost::clock;
use watchpost_standins::{Ledger, names};

const MAJORS: [u32; 2] = [10, 11];

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

#[test]
fn auto_serves_on_the_cpu_until_its_engine_is_built_and_the_swap_loses_no_record() {
    for major in MAJORS {
        let machine = Machine::new(major, "nvinfer.build_ms=1500");
        machine.configure("backend = \"auto\"", 3);
        let (daemon, lines) = machine.start();
        let mut records = until(&lines, "the engine takes over", |record| is_on(record, "tensorrt"));
        records.extend(until(&lines, "frames of all cameras", {
            let mut count = 0;
            move |_| {
                count += 1;
                count == 30
            }
        }));
        let ended = daemon.stop();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        for camera in ["cam0", "cam1", "cam2"] {
            let of_camera: Vec<_> = records.iter().filter(|r| r["camera"] == camera).collect();
            let switch = of_camera.iter().position(|r| is_on(r, "tensorrt")).expect("it took over");
            assert!(switch > 5, "the CPU served meanwhile");
            assert!(of_camera[switch..].iter().all(|r| is_on(r, "tensorrt")));
            let story: Vec<_> = of_camera
                .iter()
                .map(|r| {
                    format!(
                        "{}{}-{}",
                        r["seq"],
                        &r["model"]["backend"].as_str().unwrap_or("")[..1],
                        r["latency_ms"]
                    )
                })
                .collect();
            assert!(of_camera.iter().all(|r| r["dropped_since_last"] == 0), "a frame was lost: {story:?}");
            assert!(of_camera.iter().all(|r| r["generation"] == 1));
            let seen =
                of_camera[switch..].iter().filter(|r| r["objects"].as_array().is_some_and(|o| !o.is_empty()));
            assert!(seen.count() > 5, "the engine sees");
        }
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
