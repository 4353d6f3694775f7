//! Tracks on scenes with truth and on real clips, against reference implementations on the same boxes.
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

/// Each scene comes in so many variations, and its figures are means: one realisation is much luck. The first of them is
/// what the tracker's figures were found on, with others from 36 on; the rest has been looked at only by this test.
const VARIATIONS: u64 = 36;
const TUNED_ON: usize = 6;
const MAX_OBJECTS: usize = 100;
/// Boxes from here on tell an object.
const HIGH_SCORE: f32 = 0.35;
/// `supervision` 0.26.1 with two thresholds, `trackers` 2.6.1 over frames and over time stamps.
const REFERENCES: [&str; 4] = ["supervision", "supervision-0.25", "trackers", "trackers-timed"];
/// Where few frames come, references are no measure: IDF1 at least.
const FLOORS: [(&str, f64); 5] = [
    ("five-a-second", 0.92),
    ("two-a-second", 0.80),
    ("one-a-second", 0.60),
    ("street-five", 0.95),
    ("street-one", 0.90),
];
/// Real clips. One exchanged pair of the few dozens who walk there is 0.02 or more.
const CLIPS: [&str; 3] = ["people-walking", "people-walking-yolox", "one-by-one"];
/// Figures are stored with six digits.
const ROUNDED: f64 = 1e-6;

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

/// Of several runs; switches are summed.
#[derive(Debug, Default, Clone, Copy)]
struct Means {
    mota: f64,
    idf1: f64,
    switches: u64,
}

impl Means {
    fn of(runs: &[Self]) -> Self {
        let mean = |value: fn(&Self) -> f64| runs.iter().map(value).sum::<f64>() / runs.len() as f64;
        let switches = runs.iter().map(|run| run.switches).sum();
        Self { mota: mean(|run| run.mota), idf1: mean(|run| run.idf1), switches }
    }

    fn is_below(&self, other: &Self) -> bool {
        self.mota < other.mota - ROUNDED || self.idf1 < other.idf1 - ROUNDED
    }
}

impl From<Figures> for Means {
    fn from(Figures { mota, idf1, switches, .. }: Figures) -> Self {
        Self { mota, idf1, switches }
    }
}

impl std::fmt::Display for Means {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MOTA {:.4} IDF1 {:.4} {:3} switches", self.mota, self.idf1, self.switches)
    }
}

/// By scene, hashes of the boxes and our figures, a variation each.
fn runs() -> BTreeMap<&'static str, (Vec<String>, Vec<Means>)> {
    let mut runs: BTreeMap<&str, (Vec<String>, Vec<Means>)> = BTreeMap::new();
    for variation in 0..VARIATIONS {
        for footage in all(variation) {
            let (boxes, truth_text) = as_text(&footage);
            if let Some(folder) = std::env::var_os("WATCHPOST_TRACKS") {
                let name = |kind| Path::new(&folder).join(format!("{}.{variation}.{kind}", footage.name));
                std::fs::write(name("boxes"), &boxes).expect("written");
                std::fs::write(name("truth"), &truth_text).expect("written");
            }
            let (hashes, ours) = runs.entry(footage.name).or_default();
            hashes.push(hash(boxes.bytes().chain(truth_text.bytes())));
            ours.push(figures(&truth(&footage.frames), &tracks(&footage.frames)).into());
        }
    }
    runs
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

#[test]
fn on_scenes_with_truth_no_reference_is_better() {
    let references: BTreeMap<String, Value> = serde_json::from_str(&fixture("scenes.json")).expect("JSON");
    let mut worse = Vec::new();
    for (name, (hashes, ours)) in &runs() {
        let reference =
            references.get(*name).unwrap_or_else(|| panic!("{name}: run tools/reference/tracks.py"));
        assert_eq!(reference["boxes"], Value::from(hashes.clone()), "{name}: other boxes; run the script");
        for (part, variations) in [("tuned on", 0..TUNED_ON), ("unseen", TUNED_ON..VARIATIONS as usize)] {
            let ours = Means::of(&ours[variations.clone()]);
            println!("{name:16} {part:9} {ours}");
            for implementation in REFERENCES {
                let run = |row: &Value| Means {
                    mota: number(&row[0]),
                    idf1: number(&row[1]),
                    switches: row[2].as_u64().expect("a count"),
                };
                let rows = reference[implementation].as_array().expect("a row a variation");
                let theirs = Means::of(&rows[variations.clone()].iter().map(run).collect::<Vec<_>>());
                println!("    {implementation:22} {theirs}");
                if ours.is_below(&theirs) {
                    worse.push(format!("{name}, {part}: {ours}; {implementation}: {theirs}"));
                }
            }
            let floor = FLOORS.iter().find(|floor| floor.0 == *name).map_or(0.0, |floor| floor.1);
            if ours.idf1 < floor {
                worse.push(format!("{name}, {part}: {ours}; at least {floor}"));
            }
        }
    }
    assert!(worse.is_empty(), "\n{}\n", worse.join("\n"));
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

/// A real clip: the tracks that two references agree on at the full frame rate, as far as a look at the pictures found them
/// right, and the figures of the references where they see only some of the frames.
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

/// Every n-th frame of a clip, begun with each of the first n: where one begins is luck.
fn clip_means(frames: &[Frame], every: usize) -> Means {
    let run = |first: usize| {
        let frames: Vec<Frame> = frames.iter().skip(first).step_by(every).cloned().collect();
        let (truth, mut found) = (truth(&frames), tracks(&frames));
        for (found, truth) in found.iter_mut().zip(&truth) {
            // Who tracks more boxes is neither better nor worse for it.
            found.retain(|one| truth.iter().any(|other| other.bbox == one.bbox));
        }
        figures(&truth, &found).into()
    };
    Means::of(&(0..every).map(run).collect::<Vec<_>>())
}

#[test]
fn on_real_clips_people_stay_who_they_are() {
    let mut worse = Vec::new();
    for name in CLIPS {
        let (references, frames) = clip(&format!("{name}.clip"));
        for (every, references) in references.as_object().expect("figures") {
            let every = every.parse().expect("a number");
            let ours = clip_means(&frames, every);
            println!("{name}, every {every}: {ours}");
            // What references agree on at the full rate is what they are measured by there.
            if every == 1 && (ours.mota < 0.99 || ours.idf1 < 0.99) {
                worse.push(format!("{name}: {ours}; the references agree, and we do not"));
            }
            for implementation in REFERENCES {
                let theirs = &references[implementation];
                let theirs = Means {
                    mota: number(&theirs["mota"]),
                    idf1: number(&theirs["idf1"]),
                    switches: theirs["switches"].as_u64().expect("a count"),
                };
                println!("    {implementation:22} {theirs}");
                if every > 1 && ours.is_below(&theirs) {
                    worse.push(format!("{name}, every {every}: {ours}; {implementation}: {theirs}"));
                }
            }
        }
    }
    assert!(worse.is_empty(), "\n{}\n", worse.join("\n"));
}
