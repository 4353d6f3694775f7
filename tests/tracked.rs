//! Tracking as a user sees it: numbers that stay with objects, over a reload and from `detect`.

mod program;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use crossbeam_channel::Receiver;
use program::{PATIENCE, Running, next_record, run, shared, watchpost};
use rustix::process::Signal;
use serde_json::Value;
use watchpost::clock;
use watchpost_scene::{Scene, SceneOptions, score};
use watchpost_testcam::{CameraOptions, Fault, TestCamera};

const SEED: u64 = 1;

fn config(more: &str) -> String {
    format!(
        "[detector]\nmodel = \"demo\"\nbackend = \"builtin\"\nthreads = 1\n\n\
         [camera.gate]\nurl = \"test://scene?seed={SEED}&fps=10&width=640&height=360\"\nread_stamp = true\n{more}\n"
    )
}

fn scene() -> Scene {
    Scene::new(SceneOptions { seed: SEED, width: 640, height: 360, fps: 10 })
}

/// Which object of the scene each number was given to, and how often.
type Bearers = BTreeMap<u64, BTreeMap<u64, usize>>;

/// Tells the bearers of one record; returns how many objects it has with a number, and without.
fn note(record: &Value, scene: &Scene, bearers: &mut Bearers) -> (usize, usize) {
    let Some(stamp) = record["stamp"].as_u64() else { return (0, 0) };
    let truth = scene.objects(u32::try_from(stamp).expect("a frame number"));
    let (mut numbered, mut others) = (0, 0);
    for object in record["objects"].as_array().expect("objects") {
        let Some(id) = object["track_id"].as_u64() else {
            others += 1;
            continue;
        };
        numbered += 1;
        let bbox: [f32; 4] = std::array::from_fn(|side| object["box"][side].as_f64().expect("a side") as f32);
        let nearest =
            truth.iter().max_by(|a, b| score::iou(a.1.bbox, bbox).total_cmp(&score::iou(b.1.bbox, bbox)));
        if let Some((object_id, _)) = nearest.filter(|(_, truth)| score::iou(truth.bbox, bbox) > 0.5) {
            *bearers.entry(id).or_default().entry(*object_id).or_default() += 1;
        }
    }
    (numbered, others)
}

/// The next record of detections that is wanted.
fn next(lines: &Receiver<String>, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut records = std::iter::repeat_with(|| next_record(lines, "detections")).take(600);
    records.find(|record| wanted(record)).expect("within 600 records")
}

/// The numbers of a record's objects.
fn numbers(record: &Value) -> Vec<u64> {
    let objects = record["objects"].as_array().expect("objects").iter();
    objects.filter_map(|object| object["track_id"].as_u64()).collect()
}

fn write_config(folder: &Path, more: &str) {
    let new = folder.join("config.toml.new");
    fs::write(&new, config(more)).expect("written");
    fs::rename(new, folder.join("config.toml")).expect("renamed");
}

#[test]
fn numbers_stay_with_objects_and_a_reload_turns_them_on_and_off() {
    let folder = tempfile::tempdir().expect("a folder");
    write_config(folder.path(), "track = true");
    let mut daemon = Running::start(watchpost(folder.path()).args(["run", "-c", "config.toml"]));
    let lines = daemon.lines();
    let scene = scene();
    let (mut bearers, mut numbered) = (Bearers::new(), 0);
    while numbered < 150 {
        numbered += note(&next(&lines, |_| true), &scene, &mut bearers).0;
    }
    // A number that changes its bearer once or twice may have been hidden; most never do.
    let constant = bearers.values().filter(|objects| objects.len() == 1).count();
    assert!(5 * constant >= 4 * bearers.len(), "{bearers:?}");
    let right: usize = bearers.values().filter_map(|objects| objects.values().max()).sum();
    let all: usize = bearers.values().flat_map(|objects| objects.values()).sum();
    assert!(20 * right >= 19 * all, "{right} of {all}: {bearers:?}");
    let highest = bearers.keys().max().copied().unwrap_or(0);

    // Another threshold and another memory: the camera is not opened again, and who is there keeps the number.
    write_config(folder.path(), "track = true\ntrack_keep = \"9s\"\nscore_threshold = 0.3");
    daemon.signal(Signal::HUP);
    let mut known: BTreeSet<u64> = BTreeSet::new();
    for _ in 0..25 {
        let record = next(&lines, |_| true);
        assert_eq!(record["generation"], 1);
        known.extend(numbers(&record));
    }
    assert!(known.iter().any(|id| *id <= highest), "{known:?} after {highest}");

    write_config(folder.path(), "");
    daemon.signal(Signal::HUP);
    // Records with objects and no numbers.
    let bare = |record: &Value| {
        record["objects"].as_array().is_some_and(|objects| !objects.is_empty()) && numbers(record).is_empty()
    };
    for _ in 0..5 {
        assert_eq!(next(&lines, bare)["generation"], 1);
    }
    write_config(folder.path(), "track = true");
    daemon.signal(Signal::HUP);
    let record = next(&lines, |record| !numbers(record).is_empty());
    let ids = numbers(&record);
    assert_eq!(record["generation"], 1);
    assert!(ids.iter().all(|id| *id > highest), "{ids:?} have been used: {highest}");
}

/// A camera that shows one and the same picture for ever, to every client and after every start.
fn still(port: u16) -> TestCamera {
    let options = CameraOptions { port, ..CameraOptions::default() };
    let camera = TestCamera::start(options).expect("the test camera starts");
    // Nobody watches yet: the first picture is the one that is repeated.
    camera.inject(Fault::FrozenPicture).expect("it can");
    camera
}

/// Those who have a number in each of some records of a camera, one after the other; all numbers that were given.
fn who_is_there(
    lines: &Receiver<String>,
    camera: &str,
    later_than: u64,
) -> (BTreeSet<u64>, BTreeSet<u64>, u64) {
    let is_of = |record: &Value| {
        record["camera"] == camera && record["generation"].as_u64().is_some_and(|now| now > later_than)
    };
    let first = next(lines, |record| is_of(record) && numbers(record).len() >= 2);
    let (mut always, mut ever): (BTreeSet<u64>, BTreeSet<u64>) =
        (numbers(&first).into_iter().collect(), BTreeSet::new());
    for _ in 0..5 {
        let now = numbers(&next(lines, is_of));
        always.retain(|id| now.contains(id));
        ever.extend(now);
    }
    (always, ever, first["generation"].as_u64().expect("a number"))
}

#[test]
fn who_is_there_is_known_again_when_the_camera_is_back_if_that_is_asked_for_and_in_time() {
    const CAMERAS: [(&str, &str); 3] =
        [("kept", "track_across_restart = \"60s\""), ("anew", ""), ("late", "track_across_restart = \"1s\"")];
    let first = still(0);
    let port: u16 = first.url().split([':', '/']).find_map(|part| part.parse().ok()).expect("a port");
    let mut text = "[detector]\nmodel = \"demo\"\nbackend = \"builtin\"\nthreads = 1\n\
                    [supervisor]\nbackoff_min = \"200ms\"\nbackoff_max = \"500ms\"\n"
        .to_owned();
    for (name, keys) in CAMERAS {
        let url = first.url();
        text += &format!("[camera.{name}]\nurl = \"{url}\"\ndetect_fps = 5\ntrack = true\n{keys}\n");
    }
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("config.toml"), text).expect("written");
    let mut daemon = Running::start(watchpost(folder.path()).args(["run", "-c", "config.toml"]));
    let lines = daemon.lines();
    let before = CAMERAS.map(|(name, _)| who_is_there(&lines, name, 0));
    assert!(before.iter().all(|(always, ..)| !always.is_empty()), "{before:?}");
    drop(first);
    // Longer than one of them remembers, from the last picture on.
    let gone = |line: &str| {
        let record = program::record(line);
        record["type"] == "camera_state" && record["state"] == "backing_off"
    };
    let deadline = clock::now() + PATIENCE;
    while !gone(&lines.recv_deadline(deadline).expect("the camera is missed")) {}
    program::pause(Duration::from_millis(1500));
    let _second = still(port);
    for ((name, _), (known, _, generation)) in CAMERAS.into_iter().zip(before) {
        let (always, ever, _) = who_is_there(&lines, name, generation);
        assert!(!always.is_empty(), "{name}: nobody is seen any more");
        match name {
            "kept" => assert!(known.iter().all(|id| ever.contains(id)), "{name}: {known:?} are {ever:?}"),
            _ => assert!(known.is_disjoint(&ever), "{name}: {known:?} are {ever:?}"),
        }
    }
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn detect_plays_a_clip_at_its_own_pace_where_that_is_asked_for() {
    let Some(clip) = shared("footage/car-detection.mp4") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = watchpost(folder.path());
    command.args(["detect", "-m", "demo", "--backend", "builtin", "--realtime", "--max-frames", "41"]);
    let started = clock::now();
    let ended = run(command.arg(clip));
    // 40 gaps of 80 ms.
    assert!(clock::now() - started >= Duration::from_millis(3200), "it was over too soon");
    ended.expect("detect", 0, &[]);
    let records = ended.records();
    let number = |record: &Value, key: &str| record[key].as_u64().expect("a number");
    for record in &records {
        assert_eq!(number(record, "pts_ns"), (number(record, "seq") - 1) * 80_000_000);
    }
    // What was detected and what was left out, up to the last one, is all.
    let all: u64 = records.iter().map(|record| 1 + number(record, "dropped_since_last")).sum();
    assert_eq!(Some(all), records.last().map(|record| number(record, "seq")));
}

#[test]
fn detect_follows_objects_through_a_clip() {
    let Some(clips) = shared("footage") else { return };
    let Some(models) = shared("models") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let clip = clips.join("people-walking-720p.mp4");
    let model = models.join("yolox_nano.onnx");
    let (clip, model) = (clip.to_str().expect("UTF-8"), model.to_str().expect("UTF-8"));
    let detect = |track: &[&str]| {
        let args = ["detect", clip, clip, "-m", model, "--backend", "builtin", "--max-frames", "30"];
        let ended = run(watchpost(folder.path()).args(args).args(track));
        ended.expect("detect", 0, &[]);
        ended.records()
    };
    let (plain, tracked) = (detect(&[]), detect(&["--track"]));
    assert_eq!((plain.len(), tracked.len()), (60, 60));
    let mut seen: BTreeMap<u64, BTreeSet<usize>> = BTreeMap::new();
    for (frame, (plain, tracked)) in plain.iter().zip(&tracked).enumerate() {
        let mut objects = tracked["objects"].clone();
        for object in objects.as_array_mut().expect("objects") {
            if let Some(id) = object.as_object_mut().and_then(|object| object.remove("track_id")) {
                seen.entry(id.as_u64().expect("a number")).or_default().insert(frame);
            }
        }
        assert_eq!(plain["objects"], objects, "what is published is the same but for the numbers");
    }
    let long = seen.values().filter(|frames| frames.len() >= 20).count();
    assert!(long >= 4, "{seen:?}");
    let in_both =
        |frames: &BTreeSet<usize>| frames.iter().any(|f| *f < 30) && frames.iter().any(|f| *f >= 30);
    assert!(!seen.values().any(in_both), "each input by itself: {seen:?}");
}
