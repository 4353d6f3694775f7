//! ONNX Runtime, where this box has its library: the same detections as the built-in engine.
//!
//! One test, because the library is looked for in the environment and loaded once in a process.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

fn detect(backend: &str, library: Option<&str>) -> Output {
    let shared = std::env::var_os("WATCHPOST_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_watchpost"));
    command.args(["--log-level", "error", "detect", "--backend", backend, "--score-threshold", "0.4", "-m"]);
    command.arg(shared.join("models/yolox_nano.onnx")).arg(shared.join("footage/photos"));
    if let Some(library) = library {
        command.env("WATCHPOST_ONNXRUNTIME_LIB", library);
    }
    command.output().expect("it runs")
}

fn objects(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    records.flat_map(|record| record["objects"].as_array().expect("objects").clone()).collect()
}

#[test]
fn a_named_library_is_used_or_refused_and_sees_what_the_builtin_engine_sees() {
    // A library that is none is refused with a reason, and `auto` goes on without it.
    let junk = tempfile::NamedTempFile::new().expect("a file");
    let junk_path = junk.path().to_str().expect("UTF-8");
    let refused = detect("onnxruntime", Some(junk_path));
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(69), "{message}");
    assert!(message.contains("onnxruntime is unavailable") && message.contains(junk_path), "{message}");
    let missing = detect("onnxruntime", Some("/nowhere/libonnxruntime.so"));
    assert_eq!(missing.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nowhere/libonnxruntime.so"));

    let probe = detect("onnxruntime", None);
    if probe.status.code() != Some(0) {
        eprintln!(
            "NOT TESTED: inference on ONNX Runtime: {}",
            String::from_utf8_lossy(&probe.stderr).trim_end()
        );
        return;
    }
    let (ours, theirs) = (objects(&detect("builtin", None)), objects(&probe));
    assert!(ours.len() >= 15, "{}", ours.len());
    assert_eq!(ours.len(), theirs.len());
    for (a, b) in ours.iter().zip(&theirs) {
        assert_eq!(a["class_id"], b["class_id"]);
        let difference = (a["score"].as_f64().unwrap_or(0.0) - b["score"].as_f64().unwrap_or(1.0)).abs();
        assert!(difference <= 0.002, "{a} {b}");
    }
    eprintln!("ONNX Runtime and the built-in engine agree on {} objects", ours.len());
}
