//! `watchpost engine build` of the real binary through both TensorRT bindings, on stand-in libraries: built once,
//! found by those who may use it, never by others.

mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use program::onnx_writer::{Dim, F32, Onnx, bytes, dims, node, number, tensor, weights};
use program::{Ended, Running, eventually, watchpost};
use serde_json::Value;
use watchpost_standins::{Ledger, names};

const MAJORS: [u32; 2] = [10, 11];

/// A machine with a GPU, and two models.
struct Machine {
    folder: tempfile::TempDir,
    major: u32,
    ledger: Ledger,
}

impl Machine {
    fn new(major: u32) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let ledger = Ledger::create(&folder.path().join("ledger")).expect("a ledger");
        fs::write(folder.path().join("open.onnx"), open_batch(2)).expect("written");
        fs::write(folder.path().join("one.onnx"), program::blind_detector(2)).expect("written");
        Self { folder, major, ledger }
    }

    fn engines(&self) -> PathBuf {
        self.folder.path().join("cache/engines")
    }

    fn files(&self) -> Vec<String> {
        let entries: Vec<_> =
            fs::read_dir(self.engines()).map(|entries| entries.flatten().collect()).unwrap_or_default();
        entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    fn engine(&self, settings: &str, args: &[&str]) -> Command {
        let mut command = watchpost(self.folder.path());
        watchpost_standins::environment(&mut command, self.folder.path())
            .env("WATCHPOST_TENSORRT_LIB", watchpost_standins::tensorrt(self.major))
            .env("WATCHPOST_STANDIN", settings)
            .env("WATCHPOST_STANDIN_LEDGER", self.folder.path().join("ledger"))
            .env("CACHE_DIRECTORY", self.folder.path().join("cache"))
            .arg("engine")
            .args(args);
        command
    }

    #[track_caller]
    fn run(&self, settings: &str, args: &[&str]) -> Ended {
        let ended = program::run(&mut self.engine(settings, args));
        assert_eq!(self.ledger.held(), Vec::<String>::new(), "{args:?}: {}", self.ledger.text());
        assert_eq!(self.ledger.get(names::VIOLATIONS), 0, "{args:?}: {}", self.ledger.text());
        ended
    }

    #[track_caller]
    fn json(&self, settings: &str, args: &[&str]) -> Value {
        let ended = self.run(settings, args);
        assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.stderr);
        serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {}", ended.stdout))
    }

    fn builds(&self) -> i64 {
        self.ledger.get("nvinfer.builds")
    }
}

/// A YOLOv8 head over the mean of each channel, for any number of frames.
fn open_batch(classes: u64) -> Vec<u8> {
    let channels = 4 + classes;
    let shape: Vec<u8> = [0_i64, 6, 1].iter().flat_map(|value| value.to_le_bytes()).collect();
    let shape = [number(1, 3), number(2, 7), bytes(8, b"shape"), bytes(9, &shape)].concat();
    let names: Vec<String> = (0..classes).map(|class| format!("{class}: 'label{class}'")).collect();
    let with_batch = |rest: &[u64]| [vec![Dim::Open("batch")], dims(rest)].concat();
    let onnx = Onnx {
        inputs: vec![tensor("images", F32, &with_batch(&[3, 64, 64]))],
        outputs: vec![tensor("output", F32, &with_batch(&[channels, 84]))],
        nodes: vec![
            program::onnx_writer::node_with(
                "Concat",
                &["images", "images"],
                &["six"],
                &[program::onnx_writer::int_attribute("axis", 1)],
            ),
            node("GlobalAveragePool", &["six"], &["means"]),
            node("Reshape", &["means", "shape"], &["rows"]),
            node("Mul", &["rows", "noughts"], &["output"]),
        ],
        weights: vec![shape, weights("noughts", &[1, 1, 84], &[0.0; 84])],
        metadata: vec![("task", "detect".to_owned()), ("names", format!("{{{}}}", names.join(", ")))],
    };
    onnx.encode()
}

#[test]
fn auto_batch_is_measured_once_and_the_engine_is_found_listed_and_explained() {
    for major in MAJORS {
        let machine = Machine::new(major);
        let first = machine.run("", &["build", "open.onnx"]);
        assert_eq!(first.code, Some(0), "{}", first.stderr);
        for words in ["batch auto", "batch 1:", "ms per frame"] {
            assert!(first.stderr.contains(words), "{words} is not in {}", first.stderr);
        }
        for words in ["MS PER FRAME", "<- chosen", "none was built", "stand-in GPU"] {
            assert!(first.stdout.contains(words), "{words} is not in {}", first.stdout);
        }
        let builds = machine.builds();
        assert!((1..=2).contains(&builds), "{builds}");
        let hit = machine.json("", &["build", "open.onnx", "--json"]);
        assert_eq!((&hit["origin"], &hit["model"]), (&"hit".into(), &"open".into()));
        assert_eq!(
            hit["library_version"].as_str().and_then(|v| v.split('.').next()),
            Some(&*major.to_string())
        );
        assert_eq!((machine.builds(), machine.files().len()), (builds, 1));
        let list = machine.json("", &["list", "--json"]);
        assert_eq!(list["engines"][0]["key"], hit["key"]);
        let explained = machine.json("", &["inspect", &hit["key"].as_str().expect("a key")[..8], "--json"]);
        assert_eq!((&explained["here"], &explained["probe"]), (&"can be used".into(), &hit["probe"]));
        assert!(explained["probe"].as_array().is_some_and(|rows| rows.len() >= 2), "{explained}");
        // Another version of the library: another engine, and the old one cannot be used.
        let newer = format!("nvinfer.version={major}.99.0");
        let explained = machine.json(&newer, &["inspect", hit["file"].as_str().expect("a file"), "--json"]);
        assert!(explained["here"].as_str().is_some_and(|here| here.contains("version")), "{explained}");
        let other = machine.json(&newer, &["build", "open.onnx", "--max-batch", "2", "--json"]);
        assert_eq!(
            (&other["origin"], &other["max_batch"], machine.files().len()),
            (&"built".into(), &2.into(), 2)
        );
        assert!(other["reason"].as_str().is_some_and(|reason| reason.contains("the nearest")), "{other}");
    }
}

#[test]
fn damaged_engines_are_replaced_and_options_reach_the_builder() {
    for major in MAJORS {
        let machine = Machine::new(major);
        let timing = machine.folder.path().join("timing.cache");
        let args = ["build", "one.onnx", "--json", "--timing-cache", timing.to_str().expect("UTF-8")];
        let built = machine.json("", &args);
        assert_eq!((&built["max_batch"], &built["reason"]), (&1.into(), &"none was built".into()));
        assert!(timing.is_file());
        let file = Path::new(built["file"].as_str().expect("a file"));
        let mut bytes = fs::read(file).expect("read");
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(file, bytes).expect("written");
        machine.run("", &["inspect", file.to_str().expect("UTF-8")]).expect(
            "damaged",
            66,
            &["plan is damaged"],
        );
        let replaced = machine.json("", &args);
        assert!(
            replaced["reason"].as_str().is_some_and(|reason| reason.contains("plan is damaged")),
            "{replaced}"
        );
        assert!(machine.ledger.get("nvinfer.timing_cache_hits") > 0, "{}", machine.ledger.text());
        assert_eq!(machine.json("", &args)["origin"], "hit");
        machine.run("", &["build", "one.onnx", "--max-batch", "4"]).expect(
            "one frame",
            64,
            &["dynamic batch"],
        );
        machine.run("nvinfer.build_fails=all", &["build", "one.onnx", "--force"]).expect(
            "fails",
            66,
            &["export the model again"],
        );
        assert_eq!(machine.json("", &args)["origin"], "hit", "what was there stays");
    }
}

#[test]
fn int8_is_calibrated_with_pictures_or_refused_with_what_to_do() {
    let ten = Machine::new(10);
    let pictures = ten.folder.path().join("pictures");
    fs::create_dir(&pictures).expect("made");
    // One pixel, as BMP.
    for index in 0..5_u8 {
        let mut bmp = b"BM".to_vec();
        for value in [58_u32, 0, 54, 40, 1, 1, 0x0018_0001, 0, 4, 2835, 2835, 0, 0] {
            bmp.extend(value.to_le_bytes());
        }
        bmp.extend([index * 50, 0, 255, 0]);
        fs::write(pictures.join(format!("{index}.bmp")), bmp).expect("written");
    }
    let folder = pictures.to_str().expect("UTF-8");
    let int8 = ["build", "one.onnx", "--json", "--int8-calibration", folder];
    let built = ten.json("", &int8);
    assert_eq!(built["precision"], "int8");
    assert!(built["calibration_sha256"].is_string() && ten.ledger.get("nvinfer.calibration_batches") > 0);
    assert_eq!(ten.json("", &int8)["origin"], "hit");
    // Other pictures are another engine; a broken one is named and nothing is kept.
    fs::write(pictures.join("4.bmp"), "no picture").expect("written");
    ten.run("", &int8).expect("a broken picture", 66, &["4.bmp is damaged", "take it out"]);
    assert_eq!(ten.files().len(), 1);
    fs::remove_file(pictures.join("4.bmp")).expect("removed");
    assert_eq!(ten.json("", &int8)["origin"], "built");
    // In 11 the model has to say it.
    let eleven = Machine::new(11);
    eleven.run("", &int8).expect("11 has no calibrator", 69, &["modelopt"]);
}

#[test]
fn of_two_processes_one_builds_and_a_killed_one_leaves_nothing() {
    for major in MAJORS {
        let machine = Machine::new(major);
        let slow = "nvinfer.build_ms=1500";
        let mut first = Running::start(&mut machine.engine(slow, &["build", "one.onnx"]));
        eventually("the first has the lock", || machine.files().iter().any(|name| name.ends_with(".lock")));
        let second = Running::start(&mut machine.engine(slow, &["build", "one.onnx", "--json"]));
        assert!(first.is_running(), "1.5 s were not enough to start a second");
        let (first, second) = (first.end(), second.end());
        assert_eq!((first.code, second.code), (Some(0), Some(0)), "{}{}", first.stderr, second.stderr);
        assert!(second.stdout.contains("\"waited\""), "{}", second.stdout);
        assert!(
            second.stderr.contains("another process") && second.stderr.contains("waiting"),
            "{}",
            second.stderr
        );
        assert_eq!((machine.builds(), machine.files().len()), (1, 1));
        // Killed while it builds.
        let force = ["build", "one.onnx", "--force", "--max-batch", "1"];
        let killed = Running::start(&mut machine.engine("nvinfer.build_ms=60000", &force));
        eventually("it builds", || machine.files().iter().any(|name| name.ends_with(".lock")));
        killed.signal(rustix::process::Signal::KILL);
        assert_eq!(killed.end().code, None);
        let listed = program::run(&mut machine.engine("", &["list"]));
        assert_eq!((listed.code, machine.files().len()), (Some(0), 1), "the lock was swept");
        let hit = program::run(&mut machine.engine("", &["build", "one.onnx", "--json"]));
        assert!(hit.stdout.contains("\"hit\""), "{}{}", hit.stdout, hit.stderr);
    }
}
