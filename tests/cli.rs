//! The command line teaches, and what it prints for programs can be parsed and is true.

mod program;

use std::fs;
use std::time::Duration;

use program::{Running, blind_detector, eventually, next_record, pause, run, shared, watchpost};
use serde_json::Value;
use tempfile::TempDir;

const CAMERAS: &str = "[camera.gate]\nurl = \"test://scene?fps=30\"\nslots = 3\n\
                       [camera.yard]\nurl = \"test://scene?fps=10&seed=7\"\n";

fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let debug = folder.path().join("debug.sock");
    let config = format!(
        "[detector]\nmodel = \"m.onnx\"\n{CAMERAS}[output.console]\ntype = \"stdout\"\n\
         [debug]\nsocket = \"{}\"\n",
        debug.display()
    );
    fs::write(folder.path().join("m.onnx"), blind_detector(2)).expect("written");
    fs::write(folder.path().join("c.toml"), config).expect("written");
    folder
}

#[track_caller]
fn stdout(folder: &TempDir, args: &[&str]) -> String {
    let ended = run(watchpost(folder.path()).args(args));
    assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.stderr);
    ended.stdout
}

#[track_caller]
fn json(folder: &TempDir, args: &[&str]) -> Value {
    let text = stdout(folder, args);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}"))
}

#[test]
fn every_help_shows_an_example_that_names_the_command() {
    let folder = folder();
    let commands = [
        "run",
        "check",
        "detect",
        "probe",
        "devices",
        "model",
        "model add",
        "model list",
        "model show",
        "engine",
        "engine build",
        "engine list",
        "engine inspect",
        "demo",
        "debug",
        "completions",
    ];
    let overview = stdout(&folder, &["--help"]);
    for command in commands {
        let words: Vec<&str> = command.split(' ').collect();
        assert!(overview.contains(words[0]), "{command} is not in the overview");
        let help = stdout(&folder, &[&words[..], &["--help"]].concat());
        let example = format!("watchpost {command}");
        let (usage, rest) = help.split_once("Usage:").expect("a usage");
        assert!(usage.trim().len() > 20, "{command}: says what it is for: {usage}");
        // The usage itself names the command once.
        assert!(
            rest.matches(&example).count() >= 2 || rest.contains(&format!("{example} -")),
            "{command}: {help}"
        );
    }
    for code in ["64", "66", "69", "70", "74", "75", "78"] {
        assert!(overview.contains(code), "exit code {code} is explained");
    }
}

#[test]
fn completions_know_the_commands_and_their_options() {
    let folder = folder();
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(&folder, &["completions", shell]);
        for word in ["detect", "max-frames", "completions", "inspect", "int8-calibration"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    assert!(stdout(&folder, &["--version"]).starts_with("watchpost "));
}

#[test]
fn engine_commands_answer_also_where_no_engine_can_be_built() {
    let folder = folder();
    let end = |args: &[&str]| {
        // Not even where this machine has TensorRT.
        let no_library = ("WATCHPOST_TENSORRT_LIB", "/nowhere/libnvinfer.so.10");
        run(watchpost(folder.path()).arg("engine").args(args).env(no_library.0, no_library.1))
    };
    end(&["build", "demo"]).expect("without TensorRT", 69, &["cannot be built here"]);
    end(&["build", "nowhere.onnx"]).expect("no model", 66, &["nowhere.onnx"]);
    end(&["build", "no-such-name"]).expect("no name", 66, &["no-such-name", "model add"]);
    end(&["build", "c.toml"]).expect("no ONNX", 66, &["c.toml"]);
    end(&["build"]).expect("no argument", 64, &["MODEL"]);
    for wrong in [
        &["--max-batch", "0"][..],
        &["--max-batch", "65"],
        &["--max-batch", "many"],
        &["--precision", "fp8"],
        &["--dla", "9"],
        &["--cache-limit", "4"],
        &["--precision", "int8"],
    ] {
        end(&[&["build", "demo"], wrong].concat()).expect("wrong use", 64, &[wrong[0]]);
    }
    assert!(end(&["list"]).stdout.contains("No engines in"));
    assert!(!folder.path().join("cache").exists(), "looking makes no folder");
    let engines = folder.path().join("cache/engines");
    fs::create_dir_all(&engines).expect("made");
    fs::write(engines.join("old.engine"), "cut off").expect("written");
    let list = json(&folder, &["engine", "list", "--json"]);
    assert_eq!(list["folder"], engines.display().to_string());
    assert!(list["engines"][0]["broken"].as_str().is_some_and(|why| why.contains("truncated")), "{list}");
    assert!(end(&["list"]).stdout.contains("broken"));
    end(&["inspect", "old.engine"]).expect("broken", 66, &["truncated", "never loaded"]);
    end(&["inspect", "abcdef"]).expect("unknown", 66, &["abcdef", "engine list"]);
    end(&["inspect", "/nowhere.engine"]).expect("missing", 66, &["/nowhere.engine"]);
    end(&["inspect", "c.toml"]).expect("no engine", 66, &["c.toml"]);
}

#[test]
fn check_sums_up_what_it_will_take() {
    let folder = folder();
    let report = json(&folder, &["check", "-c", "c.toml", "--json"]);
    let lines = report["memory_budget"]["lines"].as_array().expect("lines");
    let number = |line: &Value, key: &str| line[key].as_u64().unwrap_or_else(|| panic!("{key}: {line}"));
    let mut total = 0;
    for line in lines {
        assert_eq!(number(line, "count") * number(line, "each_bytes"), number(line, "total_bytes"), "{line}");
        assert!(line["owner"].is_string() && line["what"].is_string(), "{line}");
        total += number(line, "total_bytes");
    }
    assert_eq!(report["memory_budget"]["total_bytes"].as_u64(), Some(total));
    // 3 channels of 64x64 floats a slot.
    let slots = |owner: &str| {
        let line =
            lines.iter().find(|line| line["owner"] == owner && line["what"] == "frame slots").expect("slots");
        (number(line, "count"), number(line, "each_bytes"))
    };
    assert_eq!((slots("camera gate"), slots("camera yard")), ((3, 3 * 64 * 64 * 4), (2, 3 * 64 * 64 * 4)));
    assert_eq!(report["backend"]["name"], "builtin");
    assert_eq!((&report["model"]["name"], &report["model"]["labels"][1]), (&"m".into(), &"label1".into()));
    let text = stdout(&folder, &["check", "-c", "c.toml"]);
    let decoders = report["decoders"].as_object().expect("decoders by camera");
    assert_eq!(decoders.keys().collect::<Vec<_>>(), ["gate", "yard"]);
    for words in
        ["c.toml:", "builtin in fp32", "not tensorrt:", "# Decoders", "camera gate: ", "frame slots", "sum"]
    {
        assert!(text.contains(words), "{words} is not in {text}");
    }
}

#[test]
fn devices_say_what_is_there_and_why_the_rest_is_not() {
    let folder = folder();
    let report = json(&folder, &["devices", "--json"]);
    for key in ["cameras", "decoders", "missing", "backends"] {
        assert!(report[key].is_array(), "{key}: {report}");
    }
    let backends = report["backends"].as_array().expect("backends");
    assert!(backends.iter().any(|backend| backend["name"] == "builtin" && backend["available"] == true));
    assert!(
        backends.iter().all(|backend| backend["explanation"].as_str().is_some_and(|text| text.len() > 10))
    );
    let text = stdout(&folder, &["devices"]);
    let decoding = report["decoding"].as_array().expect("what would decode");
    let h264 = decoding.iter().find(|plan| plan["codec"] == "H.264").expect("H.264");
    assert!(
        h264["element"].is_string() && h264["memory"].is_string() && h264["hardware"].is_boolean(),
        "{h264}"
    );
    // Either frames can be on a GPU, or one line says why not.
    let why_not = report["why_not_cuda"].as_str();
    assert!(why_not.is_none_or(|why| why.len() > 10 && !why.contains('\n')), "{why_not:?}");
    for words in ["Cameras", "Decoders", "Decoding", "CUDA memory", "Backends", "GStreamer 1."] {
        assert!(text.contains(words), "{words} is not in {text}");
    }
}

#[test]
fn the_state_of_a_running_daemon_is_complete_and_adds_up() {
    let folder = folder();
    let mut daemon = Running::start(watchpost(folder.path()).args(["run", "-c", "c.toml"]));
    let lines = daemon.lines();
    next_record(&lines, "detections");
    let debug = ["debug", "--json", "--socket", "debug.sock"];
    let is_streaming = |state: &Value| {
        let cameras = state["cameras"].as_array().expect("cameras");
        cameras.iter().all(|camera| camera["state"] == "streaming" && camera["fps"].as_f64() > Some(1.0))
    };
    eventually("both stream", || is_streaming(&json(&folder, &debug)));
    for _ in 0..5 {
        let state = json(&folder, &debug);
        let mut in_flight = 0;
        for camera in state["cameras"].as_array().expect("cameras") {
            assert_eq!(camera["generation"], 1);
            assert!(camera["reason"].is_null() && camera["last_frame_age_ms"].is_u64(), "{camera}");
            let slots =
                |key: &str| camera["slots"][key].as_u64().unwrap_or_else(|| panic!("{key}: {camera}"));
            assert_eq!(slots("capacity"), if camera["name"] == "gate" { 3 } else { 2 });
            in_flight += slots("capacity").checked_sub(slots("free")).expect("no slot is there twice");
        }
        // Counted a moment before, at the last look: it may differ, but not by more than there are.
        assert!(
            in_flight <= 5 && state["handles"]["slot"].as_u64().is_some_and(|count| count <= 5),
            "{state}"
        );
        for (part, keys) in [
            ("memory_bytes", &["rss", "pool", "gpu"][..]),
            ("handles", &["fd", "thread", "pipeline", "slot"]),
            (
                "counters",
                &[
                    "watchpost_frames_total{camera=\"gate\",outcome=\"detected\"}",
                    "watchpost_camera_up{camera=\"yard\"}",
                    "watchpost_records_total{output=\"console\",outcome=\"published\"}",
                ],
            ),
        ] {
            for key in keys {
                assert!(state[part][key].is_u64(), "{part}.{key}: {}", state[part]);
            }
        }
        // Two cameras, 3 and 2 slots of 3x64x64 floats.
        assert_eq!(state["memory_bytes"]["pool"], 5 * 3 * 64 * 64 * 4);
    }
    let table = stdout(&folder, &["debug", "--socket", "debug.sock"]);
    for words in ["gate", "yard", "streaming", "/3", "descriptors", "inferences"] {
        assert!(table.contains(words), "{words} is not in {table}");
    }
    // The configuration names the socket, too.
    assert_eq!(stdout(&folder, &["debug", "-c", "c.toml"]).lines().next(), table.lines().next());
    daemon.signal(rustix::process::Signal::USR1);
    // Signals that wait together are taken in no order; the one that ends must not wait beside this one.
    pause(Duration::from_secs(2));
    let ended = daemon.stop();
    ended.expect("SIGUSR1", 0, &["gate streaming gen 1", "yard streaming gen 1", "descriptors", "threads"]);
}

#[test]
fn a_label_in_any_script_survives_to_the_record() {
    let (Some(models), Some(photos)) = (shared("models"), shared("footage/photos")) else { return };
    let folder = folder();
    // The 80 classes of COCO, of which the first three are named here.
    let labels: Vec<String> = ["人", "自行车 \"β\"", "Автомобиль"]
        .map(str::to_owned)
        .into_iter()
        .chain((3..80).map(|class| format!("類{class}")))
        .collect();
    fs::write(folder.path().join("labels.txt"), labels.join("\n")).expect("written");
    let model = models.join("yolox_nano.onnx").display().to_string();
    let add =
        ["model", "add", &model, "--name", "coco-zh", "--labels", "labels.txt", "--dir", "watchpost/models"];
    assert!(stdout(&folder, &add).contains("coco-zh"));
    assert!(stdout(&folder, &["model", "list"]).contains("coco-zh"));
    let dog = photos.join("dog.jpg").display().to_string();
    let record: Value =
        serde_json::from_str(&stdout(&folder, &["detect", &dog, "-m", "coco-zh"])).expect("one record");
    let found = |label: &str| {
        record["objects"].as_array().expect("a list").iter().any(|object| object["label"] == label)
    };
    assert!(found("自行车 \"β\"") && found("Автомобиль") && found("類16"), "{record}");
    let only = ["detect", &dog, "-m", "coco-zh", "--classes", "類16"];
    let record: Value = serde_json::from_str(&stdout(&folder, &only)).expect("one record");
    assert_eq!(record["objects"].as_array().expect("a list").len(), 1, "{record}");
    assert_eq!(record["model"]["name"], "coco-zh");
}
