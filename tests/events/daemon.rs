//! Events in the records of the whole program.

use std::collections::BTreeSet;
use std::fs;

use rustix::process::Signal;
use serde_json::Value;
use watchpost::clock;

use crate::program::{self, PATIENCE, Running, record, shared, watchpost};

/// The program with a configuration that can be edited.
pub struct Watched {
    pub folder: tempfile::TempDir,
    pub daemon: Running,
    lines: crossbeam_channel::Receiver<String>,
}

fn config(open: &str, masked: &str) -> String {
    let scene = |seed: u32| format!("url = \"test://scene?seed={seed}&fps=10&width=320&height=192\"\n");
    format!(
        "[detector]\nmodel = \"demo\"\nbackend = \"builtin\"\nthreads = 1\n\n[debug]\nsocket = \"FOLDER/debug.sock\"\n\n\
         [defaults]\nmax_frame_age = \"10s\"\n\n\
         [camera.open]\n{}{open}\n[camera.masked]\n{}{masked}\n[camera.half]\n{}\
         privacy_masks = [[[0, 0], [0.5, 0], [0.5, 1], [0, 1]]]\n",
        scene(3),
        scene(3),
        scene(3),
    )
}

impl Watched {
    pub fn start(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        write(&folder, text);
        let mut daemon = Running::start(watchpost(folder.path()).args(["run", "-c", "config.toml"]));
        let lines = daemon.lines();
        Self { folder, daemon, lines }
    }

    /// Records until `enough` says so.
    #[track_caller]
    pub fn read_until(&self, what: &str, mut enough: impl FnMut(&[Value]) -> bool) -> Vec<Value> {
        let mut records = Vec::new();
        let deadline = clock::now() + PATIENCE;
        while !enough(&records) {
            let line = self.lines.recv_deadline(deadline);
            records.push(record(&line.unwrap_or_else(|_| panic!("waited in vain: {what}"))));
        }
        records
    }

    fn debug(&self) -> Value {
        let mut command = watchpost(self.folder.path());
        let ended = program::run(command.args(["debug", "--json", "--socket", "./debug.sock"]));
        serde_json::from_str(&ended.stdout).unwrap_or_default()
    }
}

pub fn write(folder: &tempfile::TempDir, text: &str) {
    let new = folder.path().join("config.toml.new");
    fs::write(&new, text.replace("FOLDER", &folder.path().to_string_lossy())).expect("written");
    fs::rename(new, folder.path().join("config.toml")).expect("renamed");
}

pub fn of<'a>(records: &'a [Value], kind: &str, camera: &str) -> Vec<&'a Value> {
    records.iter().filter(|r| r["type"] == kind && r["camera"] == camera).collect()
}

fn objects(detections: &Value) -> &[Value] {
    detections["objects"].as_array().map_or(&[], Vec::as_slice)
}

/// Each event follows the detections of its frame, and its object is one that was seen.
#[track_caller]
fn assert_events_belong_to_frames(records: &[Value], camera: &str) {
    let mut known = BTreeSet::new();
    let mut last_seq = 0;
    let mut inside = BTreeSet::new();
    for record in records.iter().filter(|r| r["camera"] == camera) {
        if record["type"] == "detections" {
            last_seq = record["seq"].as_u64().expect("a number");
            known.extend(objects(record).iter().filter_map(|object| object["track_id"].as_u64()));
        }
        if record["type"] != "event" {
            continue;
        }
        assert_eq!(record["seq"], last_seq, "{record}");
        let whom = record["track_id"].as_u64();
        assert!(whom.is_none_or(|whom| known.contains(&whom)), "nobody has seen them: {record}");
        match (record["event"].as_str().expect("a kind"), whom) {
            ("enter", Some(whom)) => assert!(inside.insert(whom), "twice: {record}"),
            ("leave", Some(whom)) => assert!(inside.remove(&whom), "never came: {record}"),
            ("count", None) => assert_eq!(record["count"], inside.len(), "{record}"),
            ("dwell" | "cross", Some(_)) => {}
            other => panic!("{other:?}: {record}"),
        }
    }
}

#[test]
fn the_daemon_tells_of_zones_and_lines_and_shows_nothing_behind_masks() {
    let everything = "[[[0, 0], [1, 0], [1, 1], [0, 1]]]";
    let zone = "[camera.open.zone.all]\npolygon = [[0, 0], [1, 0], [1, 1], [0, 1]]\nsettle = \"100ms\"\n\
                [camera.open.line.middle]\nfrom = [0.5, 1]\nto = [0.5, 0]\n";
    let watched = Watched::start(&config(zone, &format!("privacy_masks = {everything}\n")));
    let told =
        |records: &[Value], kind: &str| of(records, "event", "open").iter().any(|r| r["event"] == kind);
    let records = watched.read_until("somebody comes and goes", |records| {
        told(records, "enter") && told(records, "leave") && of(records, "detections", "half").len() > 50
    });
    assert_events_belong_to_frames(&records, "open");
    let masked = of(&records, "detections", "masked");
    assert!(masked.len() > 20);
    assert!(masked.iter().all(|r| objects(r).is_empty()), "something was seen behind the mask");
    let (mut right, mut left) = (0, 0);
    for object in of(&records, "detections", "half").iter().flat_map(|r| objects(r)) {
        let side = |index: usize| object["box"][index].as_f64().expect("a number");
        // Who sticks out behind the mask may be guessed at whole.
        if side(2) < 158.0 { left += 1 } else { right += 1 }
    }
    assert!(right > 20 && left == 0, "{left} objects were seen behind the mask, {right} beside it");

    // Other zones and masks are other readings of the same streams.
    let zone = "[camera.open.zone.another]\npolygon = [[0, 0], [1, 0], [1, 1], [0, 1]]\n";
    write(&watched.folder, &config(zone, ""));
    watched.daemon.signal(Signal::HUP);
    let records = watched.read_until("the new zone tells, and the mask is gone", |records| {
        of(records, "event", "open").iter().any(|r| r["zone"] == "another" && r["event"] == "enter")
            && of(records, "detections", "masked").iter().any(|r| !objects(r).is_empty())
    });
    assert!(records.iter().all(|r| r["generation"] == 1), "a camera was opened again");
    let first =
        of(&records, "event", "open").into_iter().find(|r| r["zone"] == "another").expect("there is one");
    assert_eq!((&first["event"], &first["count"]), (&Value::from("count"), &Value::from(0)));

    write(&watched.folder, &config("", &format!("privacy_masks = {everything}\n")));
    watched.daemon.signal(Signal::HUP);
    watched.read_until("the mask is back", |records| {
        let masked = of(records, "detections", "masked");
        masked.len() > 20 && masked[masked.len() - 20..].iter().all(|r| objects(r).is_empty())
    });
    let counters = watched.debug()["counters"].clone();
    let entered = counters["watchpost_events_total{camera=\"open\",event=\"enter\"}"].as_u64();
    assert!(entered.is_some_and(|count| count >= 2), "{entered:?}");
    let ended = watched.daemon.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

/// In the first 48 seconds of the clip two people come from below, stop in front of the table on the right, and go out of
/// the picture on the right, one after the other: that is what pictures of every half second show.
#[test]
fn on_a_real_clip_two_people_come_and_go() {
    let (Some(model), Some(clip)) =
        (shared("models/yolox_nano.onnx"), shared("footage/one-by-one-person-detection.mp4"))
    else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!(
        "[detector]\nmodel = \"{}\"\nbackend = \"builtin\"\n[camera.hall]\nurl = \"csi://0\"\nclasses = [\"person\"]\n\
         [camera.hall.line.middle]\nfrom = [0.5, 1]\nto = [0.5, 0]\n\
         [camera.hall.zone.all]\npolygon = [[0, 0], [1, 0], [1, 1], [0, 1]]\ndwell = \"5s\"\n",
        model.display()
    );
    fs::write(folder.path().join("config.toml"), text).expect("written");
    let clip = clip.to_string_lossy();
    let ended = program::run(watchpost(folder.path()).args([
        "detect",
        &clip,
        "--as",
        "hall",
        "-c",
        "config.toml",
        "--every",
        "2",
        "--max-frames",
        "500",
        "--summary",
        "sum",
    ]));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let records = ended.records();
    let told: Vec<&Value> = records.iter().filter(|r| r["type"] == "event").collect();
    let kinds = |kind: &str| told.iter().filter(|r| r["event"] == kind).copied().collect::<Vec<_>>();
    let names = [kinds("enter"), kinds("dwell"), kinds("leave"), kinds("cross")].map(|events| events.len());
    assert_eq!(names, [2, 2, 2, 2], "{told:#?}");
    assert!(
        kinds("cross")
            .iter()
            .all(|r| r["direction"] == "in" && r["line"] == "middle" && r["label"] == "person")
    );
    for (leave, (shortest, longest)) in kinds("leave").iter().zip([(11.0, 14.5), (20.0, 23.5)]) {
        let seconds = leave["seconds"].as_f64().expect("how long");
        assert!((shortest..longest).contains(&seconds) && leave["lost"] == true, "{leave}");
    }
    assert_eq!(kinds("count").last().map(|r| &r["count"]), Some(&Value::from(0)));
    let summary: Value =
        serde_json::from_slice(&fs::read(folder.path().join("sum")).expect("there")).expect("JSON");
    assert_eq!(summary["events"], told.len());
}

/// The same clip, as far as the first of them stands before the table; and once more.
#[test]
fn whoever_is_there_at_the_end_of_an_input_leaves_with_it() {
    let (Some(model), Some(clip)) =
        (shared("models/yolox_nano.onnx"), shared("footage/one-by-one-person-detection.mp4"))
    else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!(
        "[detector]\nmodel = \"{}\"\nbackend = \"builtin\"\n[camera.hall]\nurl = \"csi://0\"\nclasses = [\"person\"]\n\
         [camera.hall.zone.all]\npolygon = [[0, 0], [1, 0], [1, 1], [0, 1]]\n",
        model.display()
    );
    fs::write(folder.path().join("config.toml"), text).expect("written");
    let clip = clip.to_string_lossy();
    let args =
        ["detect", &clip, &clip, "--as", "hall", "-c", "config.toml", "--every", "6", "--max-frames", "140"];
    let ended = program::run(watchpost(folder.path()).args(args));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let records = ended.records();
    let told: Vec<&Value> = records.iter().filter(|r| r["type"] == "event").collect();
    let kinds: Vec<&str> = told.iter().filter_map(|event| event["event"].as_str()).collect();
    let once = ["count", "enter", "count", "leave", "count"];
    assert_eq!(kinds, [once, once].concat(), "{told:#?}");
    for events in told.chunks(once.len()) {
        let leave = events[3];
        assert_eq!((&leave["end"], leave.get("lost")), (&Value::Bool(true), None), "{leave}");
        // Of the last frame that was looked at.
        assert_eq!((&leave["seq"], &leave["generation"]), (&Value::from(139), &Value::from(1)), "{leave}");
        assert_eq!(events[4]["count"], 0);
    }
}

#[test]
fn check_says_what_zones_bring_with_them_and_what_the_model_lacks() {
    let folder = tempfile::tempdir().expect("a folder");
    let zone = "[camera.open.zone.all]\npolygon = [[0, 0], [1, 0], [1, 1], [0, 1]]\n";
    write(&folder, &config(zone, ""));
    let ended = program::run(watchpost(folder.path()).args(["check", "-c", "config.toml"]));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for words in
        ["track = true", "needed by zone.all", "camera half: privacy masks (1)", "rows of privacy masks"]
    {
        assert!(ended.stdout.contains(words), "{words:?} is not in:\n{}", ended.stdout);
    }
    let unknown = "[camera.open.zone.all]\npolygon = [[0, 0], [1, 0], [1, 1], [0, 1]]\nclasses = [\"carr\"]\n\
                   [camera.open.line.l]\nfrom = [0, 0]\nto = [1, 1]\nclasses = [\"unicorn\"]\n";
    write(&folder, &config(unknown, "score_thresholds = { dogg = 0.5 }\n"));
    for command in ["check", "run"] {
        let ended = program::run(watchpost(folder.path()).args([command, "-c", "config.toml"]));
        ended.expect(
            command,
            78,
            &[
                "camera.open.zone.all.classes",
                "did you mean \"car\"?",
                "camera.open.line.l.classes",
                "unicorn",
                "camera.masked.score_thresholds",
                "did you mean \"dog\"?",
            ],
        );
    }
    let ended =
        program::run(watchpost(folder.path()).args(["detect", "x.mp4", "--as", "gate", "-c", "config.toml"]));
    assert_ne!(ended.code, Some(0));
}
