//! Tracks on scenes with truth and on a real clip, against reference implementations on the same boxes.
//!
//! `tools/reference/tracks.py` made the reference. With `WATCHPOST_TRACKS=DIR` the test writes the boxes that it needs.

mod figures;
mod scenes;

use std::time::Duration;

use figures::{Figures, Named, figures};
use scenes::{Footage, Frame, HEIGHT, WIDTH, all};
use watchpost::track::{Ids, Moment, Options, Tracked, Tracker, Workspace};

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

fn write_boxes(folder: &std::path::Path, footage: &Footage) {
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
    std::fs::write(folder.join(format!("{}.boxes", footage.name)), boxes).expect("written");
    std::fs::write(folder.join(format!("{}.truth", footage.name)), truth).expect("written");
}

#[test]
fn tracks_are_no_worse_than_the_references() {
    for footage in all() {
        if let Some(folder) = std::env::var_os("WATCHPOST_TRACKS") {
            write_boxes(std::path::Path::new(&folder), &footage);
        }
        println!("{:16} {:?}", footage.name, ours(&footage));
    }
}
