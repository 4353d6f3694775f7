//! What `watchpost detect` finds is what ONNX Runtime finds with plain OpenCV preprocessing; and no frame of a
//! clip is lost, doubled or out of order. `tools/reference/onnx_reference.py` made the reference.

mod program;

use std::collections::BTreeMap;
use std::path::Path;

use program::{Ended, root, run, shared, watchpost};
use serde_json::Value;

/// Reference boxes above this must be found.
const SCORE: f64 = 0.4;
/// Boxes of ours above this must be in the reference, whatever their score; it ends at [`SCORE`].
const SCORE_EXTRA: f64 = 0.45;
const IOU: f64 = 0.9;
const SCORE_TOLERANCE: f64 = 0.03;
/// Share of the boxes that must agree.
const AGREEMENT: f64 = 0.95;

#[derive(Debug, Clone)]
struct Found {
    class_id: u64,
    score: f64,
    bbox: [f64; 4],
}

fn objects(record: &Value) -> Vec<Found> {
    let object = |object: &Value| Found {
        class_id: object["class_id"].as_u64().expect("a class"),
        score: object["score"].as_f64().expect("a score"),
        bbox: std::array::from_fn(|side| object["box"][side].as_f64().expect("a side")),
    };
    record["objects"].as_array().expect("objects").iter().map(object).collect()
}

fn iou(a: &[f64; 4], b: &[f64; 4]) -> f64 {
    let side = |low: usize| (a[low + 2].min(b[low + 2]) - a[low].max(b[low])).max(0.0);
    let common = side(0) * side(1);
    let area = |r: &[f64; 4]| (r[2] - r[0]) * (r[3] - r[1]);
    common / (area(a) + area(b) - common)
}

/// Boxes of `wanted` above `score` that have their counterpart in `found`, and those that have none.
fn matched(wanted: &[Found], found: &[Found], score: f64, tolerance: f64) -> (usize, Vec<Found>) {
    let is_there = |one: &Found| {
        found.iter().any(|other| {
            other.class_id == one.class_id
                && iou(&one.bbox, &other.bbox) >= IOU
                && (one.score - other.score).abs() <= tolerance
        })
    };
    let (there, absent): (Vec<Found>, Vec<Found>) =
        wanted.iter().filter(|one| one.score > score).cloned().partition(is_there);
    (there.len(), absent)
}

fn detect(args: &[&str]) -> Ended {
    let folder = tempfile::tempdir().expect("a folder");
    run(watchpost(folder.path()).arg("detect").args(args))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn compare_photos(model: &str) {
    let (Some(models), Some(photos)) = (shared("models"), shared("footage/photos")) else { return };
    let fixture = root().join(format!("tests/fixtures/reference/photos-{model}.json"));
    let reference: Vec<Value> =
        serde_json::from_str(&std::fs::read_to_string(fixture).expect("the fixture")).expect("JSON");
    let model_file = models.join(format!("{model}.onnx"));
    let ended = detect(&[text(&photos), "-m", text(&model_file)]);
    ended.expect(model, 0, &[]);
    let records = ended.records();
    let cameras: Vec<&str> =
        records.iter().map(|record| record["camera"].as_str().expect("a name")).collect();
    assert!(cameras.is_sorted(), "images come in the order of their names: {cameras:?}");
    assert_eq!(records.len(), reference.len(), "one record an image");
    let (mut there, mut absent, mut ours_there, mut extra) = (0, Vec::new(), 0, Vec::new());
    for (record, wanted) in records.iter().zip(&reference) {
        let image = wanted["image"].as_str().expect("a name");
        assert!(record["camera"].as_str().is_some_and(|camera| camera.ends_with(image)), "{image}");
        let (wanted, found) = (objects(wanted), objects(record));
        let (count, missing) = matched(&wanted, &found, SCORE, SCORE_TOLERANCE);
        there += count;
        absent.extend(missing.into_iter().map(|one| (image, one)));
        let (count, surplus) = matched(&found, &wanted, SCORE_EXTRA, 1.0);
        ours_there += count;
        extra.extend(surplus.into_iter().map(|one| (image, one)));
    }
    println!(
        "{model}: {there} of {} reference boxes found, {ours_there} of {} of ours in the reference",
        there + absent.len(),
        ours_there + extra.len()
    );
    assert!(there >= 10, "the reference has boxes");
    println!("{model}: missing or with another score: {absent:?}");
    assert!(there as f64 / (there + absent.len()) as f64 >= AGREEMENT);
    assert!(extra.is_empty(), "not in the reference: {extra:#?}");
}

#[test]
fn yolox_nano_finds_what_onnx_runtime_finds() {
    compare_photos("yolox_nano");
}

#[test]
fn yolov8n_finds_what_onnx_runtime_finds() {
    compare_photos("yolov8n");
}

/// The clip and how many frames it has.
fn clip() -> Option<(std::path::PathBuf, std::path::PathBuf, u64)> {
    let (models, footage) = (shared("models")?, shared("footage")?);
    Some((models.join("yolox_nano.onnx"), footage.join("car-detection.mp4"), 377))
}

fn numbers(records: &[Value], key: &str) -> Vec<u64> {
    records.iter().map(|record| record[key].as_u64().expect("a number")).collect()
}

#[test]
fn every_tenth_frame_of_a_clip_is_every_tenth_and_the_summary_says_the_same() {
    let Some((model, clip, frames)) = clip() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (summary, output) = (folder.path().join("summary.json"), folder.path().join("out.jsonl"));
    let paths = ["--summary", text(&summary), "-o", text(&output)];
    let ended = detect(&[&[text(&clip), "-m", text(&model), "--every", "10"], &paths[..]].concat());
    ended.expect("--every 10", 0, &[]);
    assert_eq!(ended.stdout, "", "records are in the file and nowhere else");
    let lines = std::fs::read_to_string(&output).expect("the records");
    let records: Vec<Value> = lines.lines().map(program::record).collect();
    let wanted: Vec<u64> = (0..frames.div_ceil(10)).map(|index| 1 + 10 * index).collect();
    assert_eq!(numbers(&records, "seq"), wanted);
    // The record before has `seq - dropped_since_last - 1`.
    let dropped = numbers(&records, "dropped_since_last");
    assert!(dropped[0] == 0 && dropped[1..].iter().all(|count| *count == 9), "{dropped:?}");
    assert!(numbers(&records, "pts_ns").is_sorted());
    check_summary(&summary, &records);
}

fn check_summary(path: &Path, records: &[Value]) {
    let text = std::fs::read_to_string(path).expect("the summary");
    let summary: BTreeMap<String, Value> = serde_json::from_str(&text).expect("JSON");
    let number = |key: &str| summary[key].as_f64().unwrap_or_else(|| panic!("{key} is no number"));
    assert_eq!(number("inputs"), 1.0);
    assert_eq!(number("frames"), records.len() as f64);
    let objects: usize =
        records.iter().map(|record| record["objects"].as_array().expect("a list").len()).sum();
    assert!(objects > 0, "there are cars in the clip");
    assert_eq!(number("objects"), objects as f64);
    assert_eq!((summary["backend"].as_str(), summary["precision"].as_str()), (Some("builtin"), Some("fp32")));
    assert_eq!(number("batch"), 1.0);
    let (seconds, fps) = (number("seconds"), number("fps"));
    assert!((fps * seconds - number("frames")).abs() < 0.05 * number("frames") + 0.5, "{fps} {seconds}");
    assert!(number("cpu_seconds") > 0.0);
    assert!((20.0..2000.0).contains(&number("max_rss_mib")), "{}", number("max_rss_mib"));
    // What the stages take, one after the other, is within what everything took.
    let stages: f64 = ["preprocess_ms", "inference_ms", "postprocess_ms"].map(number).iter().sum();
    assert!(number("decode_ms") >= 0.0 && number("inference_ms") > number("postprocess_ms"));
    assert!(stages * number("frames") / 1e3 < seconds * 2.0, "{stages} ms a frame");
}

#[test]
fn max_frames_ends_each_input_and_numbers_begin_again() {
    let Some((model, clip, _)) = clip() else { return };
    let ended = detect(&[text(&clip), text(&clip), "-m", text(&model), "--max-frames", "3"]);
    ended.expect("--max-frames", 0, &[]);
    let records = ended.records();
    assert_eq!(numbers(&records, "seq"), [1, 2, 3, 1, 2, 3]);
    assert_eq!(numbers(&records, "dropped_since_last"), [0; 6]);
    let ended = detect(&[text(&clip), "-m", text(&model), "--max-frames", "11", "--every", "5"]);
    assert_eq!(numbers(&ended.records(), "seq"), [1, 6, 11]);
}

#[test]
fn inputs_come_in_the_order_they_were_given_and_folders_in_the_order_of_their_names() {
    let (Some(models), Some(photos)) = (shared("models"), shared("footage/photos")) else { return };
    let model = models.join("yolox_nano.onnx");
    let folder = tempfile::tempdir().expect("a folder");
    for (name, photo) in [("c.jpg", "bus.jpg"), ("B.JPG", "dog.jpg"), ("a.jpg", "person.jpg")] {
        std::fs::copy(photos.join(photo), folder.path().join(name)).expect("copied");
    }
    std::fs::write(folder.path().join("notes.txt"), "no image").expect("written");
    let zidane = photos.join("zidane.jpg");
    let ended = run(watchpost(folder.path()).args(["detect", text(&zidane), ".", "-m", text(&model)]));
    ended.expect("order", 0, &[]);
    let names: Vec<String> = ended
        .records()
        .iter()
        .map(|record| {
            record["camera"].as_str().and_then(|name| name.rsplit('/').next()).expect("a name").to_owned()
        })
        .collect();
    assert_eq!(names, ["zidane.jpg", "B.JPG", "a.jpg", "c.jpg"]);
}
