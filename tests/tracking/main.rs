//! Tracks on scenes with truth and on a real clip, against reference implementations on the same boxes.
//!
//! `tools/reference/tracks.py` made the reference. With `WATCHPOST_TRACKS=DIR` the test writes the boxes that it needs.

mod figures;
mod scenes;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use figures::{Figures, Named, figures};
use scenes::{Footage, Frame, HEIGHT, Seen, WIDTH, all};
use serde_json::Value;
use watchpost::track::{Ids, Moment, Options, Tracked, Tracker, Workspace};

/// Each scene comes in so many variations, and its figures are their means: one realisation is much luck.
const VARIATIONS: u64 = 6;
const MAX_OBJECTS: usize = 100;
/// Boxes from here on tell an object.
const HIGH_SCORE: f32 = 0.35;
/// Clips.
const CLIPS: [&str; 2] = ["people-walking", "people-walking-yolox"];
/// `supervision` with two thresholds, `trackers` over frames and over time stamps.
const REFERENCES: [&str; 4] = ["supervision", "supervision-0.25", "trackers", "trackers-timed"];
/// Where few frames come, references are no measure: IDF1 at least.
const FLOORS: [(&str, f64); 5] = [
    ("five-a-second", 0.87),
    ("two-a-second", 0.84),
    ("one-a-second", 0.60),
    ("street-five", 0.95),
    ("street-one", 0.90),
];

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tracking").join(name);
    std::fs::read_to_string(path).expect("the fixture")
}

fn tracks(frames: &[Frame]) -> Vec<Vec<Named>> {
    let mut tracker = Tracker::new(Options::new(HIGH_SCORE, MAX_OBJECTS), Ids::default());
    let mut workspace = Workspace::new(MAX_OBJECTS);
    let track = |frame: &Frame| {
        let object =
            |s: &Seen| Tracked { class_id: s.class_id, score: s.score, bbox: s.bbox, track_id: None };
        let mut objects: Vec<Tracked> = frame.seen.iter().map(object).collect();
        let at = Duration::from_millis(frame.ms);
        let moment = Moment { at, generation: 1, width: WIDTH, height: HEIGHT };
        tracker.update(&mut workspace, moment, &mut objects);
        let named = |object: &Tracked| object.track_id.map(|id| Named { id, bbox: object.bbox });
        objects.iter().filter_map(named).collect()
    };
    frames.iter().map(track).collect()
}

fn truth(frames: &[Frame]) -> Vec<Vec<Named>> {
    frames.iter().map(|frame| frame.truth.clone()).collect()
}

/// Boxes and truth as the script reads them.
fn as_text(footage: &Footage) -> (String, String) {
    let (mut boxes, mut truth) = (format!("fps {}\n", footage.nominal_fps), String::new());
    for frame in &footage.frames {
        write!(boxes, "{}", frame.ms).expect("text");
        for Seen { class_id, score, bbox: [x1, y1, x2, y2] } in &frame.seen {
            write!(boxes, ";{class_id} {score} {x1} {y1} {x2} {y2}").expect("text");
        }
        write!(truth, "{}", frame.ms).expect("text");
        for Named { id, bbox: [x1, y1, x2, y2] } in &frame.truth {
            write!(truth, ";{id} {x1} {y1} {x2} {y2}").expect("text");
        }
        boxes.push('\n');
        truth.push('\n');
    }
    (boxes, truth)
}

/// FNV-1a
fn hash(text: impl Iterator<Item = u8>) -> String {
    let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", text.fold(0xcbf2_9ce4_8422_2325, step))
}

/// Of all variations of a scene.
#[derive(Default)]
struct Means {
    boxes: Vec<String>,
    mota: f64,
    idf1: f64,
    switches: u64,
}

fn means() -> BTreeMap<&'static str, Means> {
    let mut means: BTreeMap<&str, Means> = BTreeMap::new();
    for variation in 0..VARIATIONS {
        for footage in all(variation) {
            let (boxes, truth_text) = as_text(&footage);
            if let Some(folder) = std::env::var_os("WATCHPOST_TRACKS") {
                let name = |kind| Path::new(&folder).join(format!("{}.{variation}.{kind}", footage.name));
                std::fs::write(name("boxes"), &boxes).expect("written");
                std::fs::write(name("truth"), &truth_text).expect("written");
            }
            let Figures { mota, idf1, switches, .. } =
                figures(&truth(&footage.frames), &tracks(&footage.frames));
            let mean = means.entry(footage.name).or_default();
            mean.boxes.push(hash(boxes.bytes().chain(truth_text.bytes())));
            mean.mota += mota / VARIATIONS as f64;
            mean.idf1 += idf1 / VARIATIONS as f64;
            mean.switches += switches;
        }
    }
    means
}

#[test]
fn on_scenes_with_truth_no_reference_is_better() {
    let ours = means();
    let references: BTreeMap<String, Value> = serde_json::from_str(&fixture("scenes.json")).expect("JSON");
    let number = |value: &Value| value.as_f64().expect("a number");
    let mut worse = Vec::new();
    for (name, ours) in &ours {
        let reference =
            references.get(*name).unwrap_or_else(|| panic!("{name}: run tools/reference/tracks.py"));
        assert_eq!(
            reference["boxes"],
            Value::from(ours.boxes.clone()),
            "{name}: other boxes; run the script"
        );
        println!("{name:16} MOTA {:.3} IDF1 {:.3} {:3} switches", ours.mota, ours.idf1, ours.switches);
        for implementation in REFERENCES {
            let theirs = &reference[implementation];
            let (mota, idf1) = (number(&theirs["mota"]), number(&theirs["idf1"]));
            println!("    {implementation:17} {mota:.3}      {idf1:.3} {:3}", theirs["switches"]);
            if ours.mota < mota || ours.idf1 < idf1 {
                worse.push(format!(
                    "{name}: MOTA {:.4} IDF1 {:.4}, {implementation}: {mota:.4} {idf1:.4}",
                    ours.mota, ours.idf1
                ));
            }
        }
    }
    assert!(worse.is_empty(), "\n{}\n", worse.join("\n"));
    for (name, floor) in FLOORS {
        assert!(ours[name].idf1 >= floor, "{name}: IDF1 {:.4}", ours[name].idf1);
    }
}

#[test]
fn figures_are_those_of_py_motmetrics() {
    let text = fixture("metrics.txt");
    let mut lines = text.lines();
    let expected: Value = serde_json::from_str(lines.next().expect("figures")).expect("JSON");
    let rows = |text: &str| -> Vec<Named> {
        let row = |row: &str| {
            let numbers: Vec<f32> = row.split(' ').map(|number| number.parse().expect("a number")).collect();
            let [id, x1, y1, x2, y2] = numbers[..] else { panic!("{row}") };
            Named { id: id as u64, bbox: [x1, y1, x2, y2] }
        };
        text.split(';').filter(|row| !row.is_empty()).map(row).collect()
    };
    let sides = lines.map(|line| line.split_once('|').expect("truth and tracks"));
    let (truth, tracks): (Vec<_>, Vec<_>) = sides.map(|(truth, tracks)| (rows(truth), rows(tracks))).unzip();
    let found = figures(&truth, &tracks);
    assert!((found.mota - expected["mota"].as_f64().expect("MOTA")).abs() < 1e-6, "{found:?} {expected}");
    assert!((found.idf1 - expected["idf1"].as_f64().expect("IDF1")).abs() < 1e-6, "{found:?} {expected}");
    let counts =
        [("switches", found.switches), ("misses", found.misses), ("false_positives", found.false_positives)];
    for (name, count) in counts {
        assert_eq!(expected[name].as_u64(), Some(count), "{name}");
    }
}

/// A real clip: the tracks that two references agree on at the full frame rate, and the figures of the references where
/// they see only some of the frames.
fn clip(name: &str) -> (Value, Vec<Frame>) {
    let text = fixture(name);
    let mut lines = text.lines();
    let figures = serde_json::from_str(lines.next().expect("figures")).expect("JSON");
    let frame = |line: &str| {
        let mut parts = line.split(';');
        let ms = parts.next().and_then(|ms| ms.parse().ok()).expect("milliseconds");
        let mut frame = Frame { ms, ..Frame::default() };
        for part in parts {
            let numbers: Vec<f32> = part.split(' ').map(|number| number.parse().expect("a number")).collect();
            let [class_id, score, x1, y1, x2, y2, id] = numbers[..] else { panic!("{part}") };
            let bbox = [x1, y1, x2, y2];
            frame.seen.push(Seen { class_id: class_id as u32, score, bbox });
            if id > 0.0 {
                frame.truth.push(Named { id: id as u64, bbox });
            }
        }
        frame
    };
    (figures, lines.map(frame).collect())
}

/// Means over the frames that one may begin with; a count is the sum.
fn clip_means(frames: &[Frame], every: usize) -> Means {
    let mut means = Means::default();
    for first in 0..every {
        let frames: Vec<Frame> = frames.iter().skip(first).step_by(every).cloned().collect();
        let (truth, mut found) = (truth(&frames), tracks(&frames));
        for (found, truth) in found.iter_mut().zip(&truth) {
            // Who tracks more boxes is neither better nor worse for it.
            found.retain(|one| truth.iter().any(|other| other.bbox == one.bbox));
        }
        let Figures { mota, idf1, switches, .. } = figures(&truth, &found);
        means.mota += mota / every as f64;
        means.idf1 += idf1 / every as f64;
        means.switches += switches;
    }
    means
}

#[test]
fn on_real_clips_they_stay_who_they_are() {
    let mut worse = Vec::new();
    for name in CLIPS {
        let (references, frames) = clip(&format!("{name}.clip"));
        for (every, references) in references.as_object().expect("figures") {
            let every = every.parse().expect("a number");
            let ours = clip_means(&frames, every);
            println!("{name} every {every:2}: MOTA {:.4} IDF1 {:.4} {:3} switches", ours.mota, ours.idf1, ours.switches);
            for implementation in REFERENCES {
                let theirs = &references[implementation];
                let number = |name: &str| theirs[name].as_f64().expect("a number");
                let (mota, idf1) = (number("mota"), number("idf1"));
                println!("    {implementation:17} MOTA {mota:.4} IDF1 {idf1:.4} {:3}", theirs["switches"]);
                if ours.mota < mota || ours.idf1 < idf1 {
                    worse.push(format!("{name} every {every}: MOTA {:.4} IDF1 {:.4}, {implementation} {mota:.4} {idf1:.4}", ours.mota, ours.idf1));
                }
            }
        }
    }
    assert!(worse.is_empty(), "\n{}\n", worse.join("\n"));
}
