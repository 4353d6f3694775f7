//! ONNX Runtime and OpenVINO, where their libraries are: the same detections as the built-in engine, clear words where they are
//! not, and `auto` takes what it measured to be the fastest.

mod program;

use std::path::{Path, PathBuf};

use program::{Ended, engine_library, run, shared, watchpost};
use serde_json::Value;

struct Library {
    backend: &'static str,
    variable: &'static str,
    stem: &'static str,
}

const ONNXRUNTIME: Library =
    Library { backend: "onnxruntime", variable: "WATCHPOST_ONNXRUNTIME_LIB", stem: "libonnxruntime.so" };
const OPENVINO: Library =
    Library { backend: "openvino", variable: "WATCHPOST_OPENVINO_LIB", stem: "libopenvino_c.so" };

fn detect(folder: &Path, model: &Path, arguments: &[&str], libraries: &[(&str, &Path)]) -> Ended {
    let mut command = watchpost(folder);
    command
        .args(["--log-level", "info", "detect", "--score-threshold", "0.4", "-m"])
        .arg(model)
        .args(arguments);
    command.arg(shared("footage/photos").expect("looked for already"));
    for (variable, library) in libraries {
        command.env(variable, library);
    }
    run(&mut command)
}

fn objects(ended: &Ended) -> Vec<Value> {
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.records().iter().flat_map(|record| record["objects"].as_array().expect("objects").clone()).collect()
}

fn precision(ended: &Ended) -> String {
    ended.records()[0]["model"]["precision"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_library_that_is_none_is_refused_and_auto_goes_on_without_it() {
    let Some(model) = shared("models/yolox_nano.onnx") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let junk = folder.path().join("junk.so");
    std::fs::write(&junk, b"\x7fELF and nothing of it").expect("written");
    let absent = folder.path().join("absent.so");
    for library in [ONNXRUNTIME, OPENVINO] {
        for file in [&junk, &absent] {
            let named = [(library.variable, file.as_path())];
            let refused = detect(folder.path(), &model, &["--backend", library.backend], &named);
            let words = format!("{} is unavailable", library.backend);
            refused.expect(library.backend, 69, &[&words, &file.to_string_lossy()]);
            let auto = detect(folder.path(), &model, &[], &named);
            assert_eq!(auto.records()[0]["model"]["backend"], "builtin", "{}", auto.stderr);
        }
    }
}

#[test]
fn they_see_what_the_builtin_engine_sees() {
    let models = ["yolox_nano", "yolov8n", "yolov8n-fp16", "yolov8n-nms", "deimv2-atto"];
    for library in [ONNXRUNTIME, OPENVINO] {
        let Some(file) = engine_library(library.variable, library.stem) else { continue };
        for name in models {
            let Some(model) = shared(&format!("models/{name}.onnx")) else { return };
            let folder = tempfile::tempdir().expect("a folder");
            let arguments = ["--backend", library.backend, "--precision", "fp32"];
            let theirs = objects(&detect(folder.path(), &model, &arguments, &[(library.variable, &file)]));
            let ours = objects(&detect(folder.path(), &model, &["--backend", "builtin"], &[]));
            assert_eq!(ours.len(), theirs.len(), "{name} on {}", library.backend);
            let mut worst = 0.0_f64;
            for (a, b) in ours.iter().zip(&theirs) {
                assert_eq!(a["class_id"], b["class_id"], "{name}");
                let score = |one: &Value| one["score"].as_f64().unwrap_or(f64::NAN);
                worst = worst.max((score(a) - score(b)).abs());
            }
            assert!(worst <= 0.002, "{name} on {}: scores differ by {worst}", library.backend);
            eprintln!(
                "{name}: {} and builtin agree on {} objects within {worst:.4}",
                library.backend,
                ours.len()
            );
        }
    }
}

#[test]
fn quantised_models_are_int8_and_others_cannot_be() {
    let Some(file) = engine_library(OPENVINO.variable, OPENVINO.stem) else { return };
    let Some(quantised) = shared("models/yolov8n-int8-qdq.onnx") else { return };
    let Some(plain) = shared("models/yolov8n.onnx") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let named = [(OPENVINO.variable, file.as_path())];
    let int8 = ["--backend", "openvino", "--precision", "int8"];
    let ended = detect(folder.path(), &quantised, &int8, &named);
    assert_eq!(precision(&ended), "int8");
    assert!(objects(&ended).len() > 10);
    detect(folder.path(), &plain, &int8, &named).expect(
        "int8 of a plain model",
        69,
        &["int8", "not quantised"],
    );
    if let Some(file) = engine_library(ONNXRUNTIME.variable, ONNXRUNTIME.stem) {
        let int8 = ["--backend", "onnxruntime", "--precision", "int8"];
        let ended = detect(folder.path(), &quantised, &int8, &[(ONNXRUNTIME.variable, &file)]);
        assert_eq!(precision(&ended), "int8");
    }
    let fp16 = detect(folder.path(), &plain, &["--backend", "builtin", "--precision", "fp16"], &[]);
    fp16.expect("fp16 on builtin", 69, &["fp16", "fp32 only"]);
}

#[test]
fn auto_measures_once_says_so_and_takes_the_fastest() {
    let Some(model) = shared("models/yolox_nano.onnx") else { return };
    let found: Vec<(&str, PathBuf)> = [ONNXRUNTIME, OPENVINO]
        .iter()
        .filter_map(|one| engine_library(one.variable, one.stem).map(|file| (one.variable, file)))
        .collect();
    if found.is_empty() {
        return;
    }
    let libraries: Vec<(&str, &Path)> =
        found.iter().map(|(variable, file)| (*variable, file.as_path())).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let first = detect(folder.path(), &model, &[], &libraries);
    let taken = first.records()[0]["model"]["backend"].clone();
    assert!(first.stderr.contains("measuring once which backend is the fastest here"), "{}", first.stderr);
    let kept = std::fs::read(folder.path().join("cache/backends.json")).expect("kept");
    let kept: Value = serde_json::from_slice(&kept).expect("JSON");
    let timings = kept[0]["timings"].as_array().expect("timings");
    assert_eq!(timings.len(), libraries.len() + 1, "{kept}");
    let quickest = timings.iter().min_by(|a, b| {
        a["median_ms"].as_f64().unwrap_or(f64::MAX).total_cmp(&b["median_ms"].as_f64().unwrap_or(f64::MAX))
    });
    assert_eq!(quickest.expect("some")["backend"], taken);
    let second = detect(folder.path(), &model, &[], &libraries);
    assert_eq!(second.records()[0]["model"]["backend"], taken);
    assert!(
        !second.stderr.contains("measuring once") && second.stderr.contains("measured on this box before")
    );
    // What is broken is measured again; another number of threads is another question.
    std::fs::write(folder.path().join("cache/backends.json"), "[{").expect("written");
    for arguments in [&[][..], &["--threads", "1"]] {
        let again = detect(folder.path(), &model, arguments, &libraries);
        assert!(again.stderr.contains("measuring once"), "{}", again.stderr);
    }
}

/// Files of compiled models that are kept.
fn compiled(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("cache/openvino")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

#[test]
fn a_compiled_model_is_kept_for_the_next_start_and_a_damaged_one_is_compiled_again() {
    let Some(file) = engine_library(OPENVINO.variable, OPENVINO.stem) else { return };
    let Some(model) = shared("models/yolox_nano.onnx") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let start = |words: &str| {
        let named = [(OPENVINO.variable, file.as_path())];
        let ended = detect(folder.path(), &model, &["--backend", "openvino", "--threads", "1"], &named);
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
        let found = objects(&ended);
        assert!(!found.is_empty());
        found
    };
    let (new, kept) = ("compiled model is kept in", "was kept from an earlier start");
    let first = start(new);
    let files = compiled(folder.path());
    let [blob] = files.as_slice() else { panic!("{files:?}") };
    assert_eq!(start(kept), first);
    // One bit of the weights.
    let whole = std::fs::read(blob).expect("there");
    let mut bytes = whole.clone();
    bytes[whole.len() / 2] ^= 1;
    for damaged in [&bytes[..], &whole[..whole.len() / 2], b""] {
        std::fs::write(blob, damaged).expect("written");
        assert_eq!(start("is damaged"), first);
        assert_eq!(compiled(folder.path()).len(), 1);
        start(kept);
    }
    // Where nothing can be kept the model is compiled each time.
    let dir = folder.path().join("cache/openvino");
    std::fs::remove_dir_all(&dir).expect("removed");
    std::fs::write(&dir, "in the way").expect("written");
    assert_eq!(start("is not kept, the next start compiles again"), first);
}
