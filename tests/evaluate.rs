//! `watchpost eval` says what pycocotools says, and each model sees here what it sees in plain ONNX Runtime with its own
//! tool's preprocessing. `tools/reference/evaluate.py` and `stages.py` made the numbers.

mod program;

use std::path::{Path, PathBuf};

use program::{Ended, root, run, shared, watchpost};
use serde_json::Value;
use watchpost::evaluate::{Evaluation, Labelled, Scored};

fn reference(name: &str) -> Value {
    let path = root().join("tests/fixtures/reference").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).expect("the fixture")).expect("JSON")
}

#[test]
fn the_figures_are_those_of_pycocotools_to_the_last_digits() {
    let reference = reference("metric.json");
    let list = |key: &str| reference[key].as_array().expect("a list").clone();
    let number = |value: &Value| value.as_f64().expect("a number");
    let bbox = |value: &Value| -> [f64; 4] { std::array::from_fn(|side| number(&value["box"][side])) };
    let class_id = |value: &Value| value["class"].as_u64().expect("a class") as u32;
    let mut evaluation = Evaluation::new(4);
    for image in 1..=7_u64 {
        let of_image = |value: &&Value| value["image"].as_u64() == Some(image);
        let truth: Vec<Labelled> = list("truth")
            .iter()
            .filter(of_image)
            .map(|value| Labelled { class_id: class_id(value), bbox: bbox(value) })
            .collect();
        let found: Vec<Scored> = list("found")
            .iter()
            .filter(of_image)
            .map(|value| Scored {
                class_id: class_id(value),
                score: number(&value["score"]),
                bbox: bbox(value),
            })
            .collect();
        evaluation.add(&truth, &found);
    }
    let labels: Vec<String> = (0..4).map(|class| class.to_string()).collect();
    let report = evaluation.report(&labels);
    let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
    assert!(near(report.map_50_95, number(&reference["map_50_95"])), "{report:?}");
    assert!(near(report.map_50, number(&reference["map_50"])), "{report:?}");
    for (class, expected) in list("per_class").iter().enumerate() {
        assert!(
            near(report.per_class[&class.to_string()].map_50_95, number(expected)),
            "{class}: {report:?}"
        );
    }
    // The fourth class has no truth.
    assert_eq!(report.per_class.len(), 3);
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// The images with truth and the folder of models.
fn coco() -> Option<(PathBuf, PathBuf)> {
    Some((shared("footage/coco-val/images")?, shared("models")?))
}

/// A copy of the images' folder with the first few of them, and their labels.
fn few(images: &Path, count: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(images).expect("images").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    for name in ["images", "labels"] {
        std::fs::create_dir(folder.path().join(name)).expect("made");
    }
    for image in paths.iter().take(count) {
        let name = image.file_name().expect("a name");
        std::fs::copy(image, folder.path().join("images").join(name)).expect("copied");
        let label = Path::new(name).with_extension("txt");
        let from = images.parent().expect("a folder").join("labels").join(&label);
        std::fs::copy(from, folder.path().join("labels").join(&label)).expect("copied");
    }
    folder
}

fn eval(library: Option<&Path>, args: &[&str]) -> Ended {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = watchpost(folder.path());
    if let Some(library) = library {
        command.env("WATCHPOST_ONNXRUNTIME_LIB", library);
    }
    run(command.arg("eval").args(args))
}

fn figures(ended: &Ended, what: &str) -> Value {
    ended.expect_text(what, 0, &[]);
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{what}: {error}: {}", ended.stdout))
}

/// How far the figures may be off.
const TOLERANCE: f64 = 0.002;

fn compare(model: &str, backend: &str, library: Option<&Path>, tolerance: f64) {
    let Some((images, models)) = coco() else { return };
    let file = models.join(format!("{model}.onnx"));
    let args = [text(&file), "--images", text(&images), "--backend", backend, "--json", "-"];
    let report = figures(&eval(library, &args), model);
    let reference = &reference("eval.json")[model];
    for key in ["map_50_95", "map_50"] {
        let (ours, expected) =
            (report[key].as_f64().expect("a number"), reference[key].as_f64().expect("a number"));
        println!("{model} on {backend}: {key} {ours:.4}, reference {expected:.4}");
        assert!(
            (ours - expected).abs() <= tolerance,
            "{model} on {backend}: {key} {ours}, reference {expected}"
        );
    }
    assert_eq!((report["images"].as_u64(), report["backend"].as_str()), (Some(64), Some(backend)));
}

#[test]
fn small_models_see_on_the_builtin_engine_what_they_see_in_their_own_tools() {
    for model in ["yolox_nano", "nanodet", "deimv2-atto", "yolov8n-seg"] {
        compare(model, "builtin", None, TOLERANCE);
    }
}

/// Its NMS is inside, and the built-in engine's library has another one than ONNX.
#[test]
fn a_model_with_nms_inside_sees_on_the_builtin_engine_what_it_sees_elsewhere() {
    compare("yolov8n-nms", "builtin", None, TOLERANCE);
}

/// Quantised models round in the middle: ONNX Runtime itself differs by 0.0045 between two levels of its optimisation.
#[test]
fn a_quantised_model_sees_on_the_builtin_engine_nearly_what_it_sees_elsewhere() {
    compare("yolov8n-int8-qdq", "builtin", None, 0.015);
}

#[test]
fn every_model_sees_on_onnx_runtime_what_it_sees_in_its_own_tool() {
    let Ok(library) = watchpost_onnxruntime::find_library() else {
        eprintln!(
            "NOT TESTED: ONNX Runtime is not installed; name its library with WATCHPOST_ONNXRUNTIME_LIB"
        );
        return;
    };
    for model in [
        "yolox_nano",
        "yolov8n",
        "yolov8n-fp16",
        "yolov8n-int8-qdq",
        "yolov8n-dynamic-batch",
        "yolov8n-nms",
        "yolov8n-pose",
        "yolov8n-seg",
        "yolo11n",
        "nanodet",
        "deimv2-atto",
    ] {
        // Another release than the reference's may round a quantised model elsewhere.
        let tolerance = if model.contains("int8") { 0.006 } else { TOLERANCE };
        compare(model, "onnxruntime", Some(&library), tolerance);
    }
}

#[test]
fn detections_are_written_as_coco_s_tools_read_them_and_give_the_same_figures() {
    let Some((images, models)) = coco() else { return };
    let few = few(&images, 4);
    let (results, json) = (few.path().join("results.json"), few.path().join("report.json"));
    let (images, model) = (few.path().join("images"), models.join("yolox_nano.onnx"));
    let ended = eval(
        None,
        &[
            text(&model),
            "--images",
            text(&images),
            "--backend",
            "builtin",
            "--results",
            text(&results),
            "--json",
            text(&json),
        ],
    );
    ended.expect_text("results", 0, &[]);
    assert!(ended.stdout.contains("mAP 50-95") && ended.stdout.contains("4 images"), "{}", ended.stdout);
    let results: Value =
        serde_json::from_str(&std::fs::read_to_string(results).expect("written")).expect("JSON");
    let results = results.as_array().expect("a list");
    let report: Value = serde_json::from_str(&std::fs::read_to_string(json).expect("written")).expect("JSON");
    assert!(
        results.len() > 100 && results.iter().all(|one| one["bbox"].as_array().is_some_and(|b| b.len() == 4))
    );
    assert!(results.iter().all(|one| (1..=4).contains(&one["image_id"].as_u64().expect("an id"))));
    assert_eq!(report["images"], 4);
    assert!(report["per_class"]["person"]["truths"].as_u64() > Some(0), "{report}");
}

#[test]
fn the_gate_accepts_what_loses_little_and_refuses_what_loses_much_with_69() {
    let Some((images, models)) = coco() else { return };
    let few = few(&images, 6);
    let (images, model) = (few.path().join("images"), models.join("yolox_nano.onnx"));
    let base = few.path().join("base.json");
    let common = [text(&model), "--images", text(&images), "--backend", "builtin"];
    eval(None, &[&common[..], &["--json", text(&base)]].concat()).expect_text("baseline", 0, &[]);
    let gate = ["--baseline", text(&base), "--max-loss", "0.001"];
    let ended = eval(None, &[&common[..], &gate].concat());
    ended.expect_text("the same engine", 0, &[]);
    assert!(ended.stdout.contains("accepted: mAP 50-95 +0.0000"), "{}", ended.stdout);
    // A model that sees nothing, in the place of a bad engine.
    let blind = few.path().join("blind.onnx");
    std::fs::write(&blind, program::blind_detector(80)).expect("written");
    let labels = few.path().join("labels.txt");
    std::fs::copy(root().join("engines/models/coco80.txt"), &labels).expect("copied");
    let folder = tempfile::tempdir().expect("a folder");
    run(watchpost(folder.path()).args(["model", "add", text(&blind), "--labels", text(&labels)]))
        .expect_text("add", 0, &[]);
    let ended =
        eval(None, &[&[text(&blind), "--images", text(&images), "--backend", "builtin"][..], &gate].concat());
    ended.expect_text(
        "a blind one",
        69,
        &["not accepted", "mAP 50-95 fell from", "0.001 are allowed", "most lost"],
    );
    // On other pictures nothing can be said.
    std::fs::remove_file(
        std::fs::read_dir(&images).expect("images").next().expect("one").expect("one").path(),
    )
    .expect("removed");
    let ended = eval(None, &[&common[..], &gate].concat());
    ended.expect_text("other pictures", 69, &["cannot be compared", "6 images", "5 images"]);
}

#[test]
fn what_is_missing_or_wrong_is_said_with_66_or_64() {
    let Some((images, models)) = coco() else { return };
    let few = few(&images, 2);
    let folder = few.path();
    let (images, model) = (folder.join("images"), models.join("yolox_nano.onnx"));
    let with =
        |args: &[&str]| eval(None, &[&[text(&model), "--backend", "builtin", "--images"][..], args].concat());
    with(&[text(&folder.join("absent"))]).expect_text("no folder", 66, &["absent", "No such file"]);
    with(&[text(&folder.join("labels"))]).expect_text("no images", 66, &["holds no images"]);
    with(&[text(&images), "--labels", text(&images)]).expect_text(
        "no labels",
        66,
        &["none of the 2 images", "--labels"],
    );
    let broken = folder.join("broken.json");
    std::fs::write(&broken, "{}").expect("written");
    let gate = ["--baseline", text(&broken), "--max-loss", "0.1"];
    with(&[&[text(&images)][..], &gate].concat()).expect_text("no report", 66, &["broken.json", "--json"]);
    with(&[text(&images), "--max-loss", "0.1"]).expect_text("half a gate", 64, &["--baseline"]);
    let label =
        std::fs::read_dir(folder.join("labels")).expect("labels").next().expect("one").expect("one").path();
    std::fs::write(&label, "0 0.5 0.5 0.1\n").expect("written");
    with(&[text(&images)]).expect_text("a bad line", 66, &[":1:", "class cx cy w h"]);
    std::fs::write(&label, "0 0.5 0.5 0.1 0.1\n").expect("written");
    std::fs::write(images.join("zzz.jpg"), "no picture").expect("written");
    with(&[text(&images)]).expect_text("a bad image", 66, &["1 of 3 images", "zzz.jpg"]);
}

#[test]
fn truth_may_count_its_classes_in_its_own_order() {
    let Some((images, models)) = coco() else { return };
    let few = few(&images, 3);
    let labels = few.path().join("labels");
    let (images, model) = (few.path().join("images"), models.join("yolox_nano.onnx"));
    let args = [text(&model), "--images", text(&images), "--backend", "builtin", "--json", "-"];
    let before = figures(&eval(None, &args), "COCO's order");
    // The other way round, with names.
    let names: Vec<String> = watchpost::model::coco80().into_iter().rev().collect();
    std::fs::write(labels.join("classes.txt"), names.join("\n")).expect("written");
    for entry in std::fs::read_dir(&labels).expect("labels") {
        let path = entry.expect("an entry").path();
        if path.ends_with("classes.txt") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("readable");
        let turned = text.lines().map(|line| {
            let (class, rest) = line.split_once(' ').expect("a class");
            format!("{} {rest}\n", 79 - class.parse::<u32>().expect("a number"))
        });
        std::fs::write(&path, turned.collect::<String>()).expect("written");
    }
    let after = figures(&eval(None, &args), "its own order");
    assert_eq!(before["per_class"], after["per_class"]);
    assert!(before["map_50_95"].as_f64() > Some(0.1), "{before}");
}
