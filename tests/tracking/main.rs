//! Tracks on scenes with truth and on a real clip, against reference implementations on the same boxes.
//!
//! `tools/reference/tracks.py` made the reference. With `WATCHPOST_TRACKS=DIR` the test writes the boxes that it needs.

mod figures;
mod scenes;

use std::time::Duration;

use figures::{Figures, Named, figures};
use scenes::{Footage, Frame, HEIGHT, Seen, WIDTH, all};
use watchpost::track::{Ids, Moment, Options, Tracked, Tracker, Workspace};

/// Each scene comes in so many variations, and its figures are their means: one realisation is much luck.
const VARIATIONS: u64 = 6;
const MAX_OBJECTS: usize = 100;
/// Boxes from here on tell an object.
const HIGH_SCORE: f32 = 0.35;

fn tracks(frames: &[Frame], options: Options) -> Vec<Vec<Named>> {
    let mut tracker = Tracker::new(options, Ids::default());
    let mut workspace = Workspace::new(options.max_objects);
    let track = |frame: &Frame| {
        let seen = frame.seen.iter();
        let mut objects: Vec<Tracked> = seen
            .map(|s| Tracked { class_id: s.class_id, score: s.score, bbox: s.bbox, track_id: None })
            .collect();
        let at = Duration::from_millis(frame.ms);
        let moment = Moment { at, generation: 1, width: WIDTH, height: HEIGHT };
        tracker.update(&mut workspace, moment, &mut objects);
        let named = |object: &Tracked| object.track_id.map(|id| Named { id, bbox: object.bbox });
        objects.iter().filter_map(named).collect()
    };
    frames.iter().map(track).collect()
}

fn ours(footage: &Footage) -> Figures {
    let truth: Vec<Vec<Named>> = footage.frames.iter().map(|frame| frame.truth.clone()).collect();
    figures(&truth, &tracks(&footage.frames, Options::new(HIGH_SCORE, MAX_OBJECTS)))
}

fn write_boxes(folder: &std::path::Path, variation: u64, footage: &Footage) {
    use std::fmt::Write as _;
    let (mut boxes, mut truth) = (format!("fps {}\n", footage.nominal_fps), String::new());
    for frame in &footage.frames {
        write!(boxes, "{}", frame.ms).expect("text");
        for s in &frame.seen {
            let [x1, y1, x2, y2] = s.bbox;
            write!(boxes, ";{} {} {x1} {y1} {x2} {y2}", s.class_id, s.score).expect("text");
        }
        write!(truth, "{}", frame.ms).expect("text");
        for Named { id, bbox: [x1, y1, x2, y2] } in &frame.truth {
            write!(truth, ";{id} {x1} {y1} {x2} {y2}").expect("text");
        }
        boxes.push('\n');
        truth.push('\n');
    }
    std::fs::write(folder.join(format!("{}.{variation}.boxes", footage.name)), boxes).expect("written");
    std::fs::write(folder.join(format!("{}.{variation}.truth", footage.name)), truth).expect("written");
}

#[test]
fn tracks_are_no_worse_than_the_references() {
    for (variation, footage) in (0..VARIATIONS).flat_map(|v| all(v).into_iter().map(move |f| (v, f))) {
        if let Some(folder) = std::env::var_os("WATCHPOST_TRACKS") {
            write_boxes(std::path::Path::new(&folder), variation, &footage);
        }
        println!("{:16} {:?}", footage.name, ours(&footage));
    }
}

#[test]
fn tune() {
    let variations: u64 = std::env::var("VARIATIONS").ok().and_then(|v| v.parse().ok()).unwrap_or(1);
    let mut sums: std::collections::BTreeMap<&str, [f64; 3]> = Default::default();
    for variation in 0..variations {
        for footage in all(variation) {
            let f = ours(&footage);
            let sum = sums.entry(footage.name).or_default();
            *sum = [sum[0] + f.mota, sum[1] + f.idf1, sum[2] + f.switches as f64];
        }
    }
    let n = variations as f64;
    let mut line = String::new();
    let mut total = 0.0;
    for (name, s) in &sums {
        total += s[1] / n;
        line += &format!("{}={:.3}/{:.3}/{:.1} ", &name[..name.len().min(9)], s[0] / n, s[1] / n, s[2] / n);
    }
    println!("TUNE {:.4} {line}", total / sums.len() as f64);
}

/// A real clip: what the reference made of it at the full frame rate, and the figures of the references where they see
/// only some of the frames.
fn clip(name: &str) -> (serde_json::Value, Vec<Frame>) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tracking").join(name);
    let text = std::fs::read_to_string(path).expect("the fixture");
    let mut lines = text.lines();
    let figures = serde_json::from_str(lines.next().expect("figures")).expect("JSON");
    let frame = |line: &str| {
        let mut parts = line.split(';');
        let mut frame =
            Frame { ms: parts.next().and_then(|ms| ms.parse().ok()).expect("ms"), ..Frame::default() };
        for part in parts {
            let numbers: Vec<f32> = part.split(' ').map(|n| n.parse().expect("a number")).collect();
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

#[test]
fn clips() {
    let (_figures, frames) = clip("people-walking.clip");
    for every in [1usize, 3, 6, 10] {
        let frames: Vec<Frame> = frames.iter().step_by(every).cloned().collect();
        let truth: Vec<Vec<Named>> = frames.iter().map(|frame| frame.truth.clone()).collect();
        let mut found = tracks(&frames, Options::new(HIGH_SCORE, MAX_OBJECTS));
        for (found, truth) in found.iter_mut().zip(&truth) {
            found.retain(|one| truth.iter().any(|other| other.bbox == one.bbox));
        }
        let f = figures::figures(&truth, &found);
        println!(
            "CLIP {every} {:.3}/{:.3}/{} fp {} miss {}",
            f.mota, f.idf1, f.switches, f.false_positives, f.misses
        );
    }
}
