//! What the motion gate and `decode = "lazy"` miss, how late they are and what they save:
//! `cargo bench --bench lazy [-- quiet|scenes|clips]`; LAZY_SECONDS sets the length of the scenes.
//!
//! Streams are encoded (x264, through gst-launch-1.0), played as fast as they decode through the daemon's own mailbox, wake rule
//! and gate, in the streams' own time, and compared with their truth: of scenes what was drawn, of clips what the detector says of
//! every frame. An event is an object that comes; it is missed when no inferred frame shows it.
//!
//! Clips need the shared footage (WATCHPOST_SHARED, default `../shared`); the bench says so when it is not there.

mod play;
mod stream;

use std::path::Path;
use std::time::Duration;

use play::{Mode, Outcome, play};
use stream::{Encoding, Stream};

/// Detections a second that are asked for.
const DETECT_FPS: f64 = 5.0;

/// `motion_hold` as it is delivered.
const HOLD: Duration = Duration::from_secs(10);

fn main() {
    let asked: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    // `cargo test --benches` only asks whether it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let wants = |part: &str| asked.is_empty() || asked.iter().any(|one| one == part);
    let folder = tempfile::tempdir().expect("a folder");
    println!(
        "| stream | mode | events | missed | late p50 / p95 / max | beginning lost p95 | decoded | inferred | woken (false) | CPU |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    if wants("quiet") {
        quiet(folder.path());
    }
    if wants("scenes") {
        scenes(folder.path());
    }
    if wants("clips") {
        clips(folder.path());
    }
}

fn scenes(folder: &Path) {
    let seconds = std::env::var("LAZY_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(150);
    for encoding in Encoding::ALL {
        let mut sums: Vec<(Mode, Outcome)> = Vec::new();
        for (seed, noise) in [(11, 0), (12, 2), (13, 2), (14, 4), (15, 4), (16, 2)] {
            let stream = Stream::of_scene(folder, seed, noise, encoding, seconds);
            measure(&stream, HOLD, &mut sums);
            std::fs::remove_file(&stream.path).expect("the stream is removed");
        }
        print(&format!("scenes, {}", encoding.name), &sums);
    }
}

fn clips(folder: &Path) {
    for clip in ["one-by-one-person-detection", "car-detection"] {
        let mut known = None;
        for encoding in Encoding::ALL {
            let Some(stream) = Stream::of_clip(folder, clip, encoding, known.take()) else { break };
            let mut sums = Vec::new();
            // Somebody comes every few seconds.
            measure(&stream, Duration::from_secs(1), &mut sums);
            known = Some(stream.seen);
            print(&format!("{clip}, {}", encoding.name), &sums);
        }
    }
}

fn measure(stream: &Stream, hold: Duration, sums: &mut Vec<(Mode, Outcome)>) {
    for mode in Mode::ALL {
        let outcome = play(stream, mode, DETECT_FPS, hold);
        match sums.iter_mut().find(|(known, _)| *known == mode) {
            Some((_, sum)) => sum.add(outcome),
            None => sums.push((mode, outcome)),
        }
    }
}

fn print(name: &str, sums: &[(Mode, Outcome)]) {
    for (mode, outcome) in sums {
        println!("| {name} | {} | {outcome} |", mode.name());
    }
}

/// Nobody comes: what a camera costs.
fn quiet(folder: &Path) {
    for encoding in Encoding::ALL {
        let stream = Stream::empty(folder, encoding, 40);
        let mut sums = Vec::new();
        measure(&stream, HOLD, &mut sums);
        print(&format!("nobody, 1080p30, {}", encoding.name), &sums);
        std::fs::remove_file(&stream.path).expect("the stream is removed");
    }
}
