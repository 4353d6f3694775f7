//! A recording holds every picture that was pushed, at its time, in its colors.

mod common;

use std::path::Path;
use std::time::Duration;

use common::{Seen, seen};
use watchpost_pipelines::{Pipeline, Pull, Recording, RecordingError, SourceKind, Spec};

const PATIENCE: Duration = Duration::from_secs(60);

/// Left half one color, right half the other.
fn picture(width: u32, height: u32, colors: [[u8; 3]; 2]) -> Vec<u8> {
    let row: Vec<u8> = (0..width).flat_map(|x| colors[usize::from(x >= width / 2)]).collect();
    row.repeat(height as usize)
}

/// What is decoded: size, time, and the luma at a quarter and at three quarters of the middle row.
fn decoded(path: &Path) -> Vec<(Seen, [u8; 2])> {
    let spec = Spec { realtime: false, ..Spec::new(SourceKind::File { path: path.to_owned() }) };
    let pipeline = Pipeline::start_pull(&spec, "recording").expect("a file that can be read");
    let mut frames = Vec::new();
    loop {
        match pipeline.pull(PATIENCE) {
            Pull::Frame(frame) => {
                let picture = frame.picture().expect("in system memory");
                let (width, height) = (picture.width as usize, picture.height as usize);
                let watchpost_pipelines::Layout::Planar { y, .. } = picture.layout else {
                    panic!("{:?}", picture.layout)
                };
                let row = y.row(height / 2, width);
                frames.push((seen(&frame), [row[width / 4], row[3 * width / 4]]));
            }
            Pull::Eos => return frames,
            other => panic!("{other:?} after {} frames", frames.len()),
        }
    }
}

#[test]
fn every_picture_is_in_the_file_at_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a 'quoted' name!.mp4");
    // Intervals of a camera that has no rate.
    let times_ms: Vec<u64> =
        (0..50).scan(0, |at, n| Some(std::mem::replace(at, *at + 20 + n % 7 * 15))).collect();
    let mut recording = Recording::start(&path, 320, 240).unwrap();
    for (index, &at) in times_ms.iter().enumerate() {
        let level = (40 + 3 * index) as u8;
        let picture = picture(320, 240, [[level; 3], [255; 3]]);
        recording.push(&picture, 320, 240, at * 1_000_000, Duration::from_millis(40)).unwrap();
    }
    recording.finish().unwrap();
    let frames = decoded(&path);
    assert_eq!(frames.len(), times_ms.len());
    for (index, ((seen, [left, right]), at)) in frames.iter().zip(&times_ms).enumerate() {
        assert_eq!(seen.size, (320, 240));
        let pts_us = seen.pts_ns.expect("a time") / 1000;
        assert!(pts_us.abs_diff(at * 1000) < 50, "{index}: {pts_us} µs, not {at} ms");
        let expected = 16.0 + (40.0 + 3.0 * index as f32) * 219.0 / 255.0;
        assert!((f32::from(*left) - expected).abs() < 4.0, "{index}: {left}, not {expected}");
        assert!(*right > 230, "{index}: {right}");
    }
}

#[test]
fn odd_sides_and_pictures_of_other_sizes_fit_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sizes.mp4");
    let mut recording = Recording::start(&path, 321, 241).unwrap();
    for (index, (width, height)) in [(321, 241), (640, 200), (33, 77), (321, 241)].into_iter().enumerate() {
        let picture = picture(width, height, [[200; 3]; 2]);
        recording
            .push(&picture, width, height, index as u64 * 1_000_000_000, Duration::from_secs(1))
            .unwrap();
    }
    recording.finish().unwrap();
    let frames = decoded(&path);
    assert_eq!(frames.len(), 4);
    for (seen, _) in &frames {
        assert_eq!(seen.size, (322, 242));
    }
    // The narrow one has borders at its sides, the others have none there.
    assert!(
        frames[2].1[0] < 30 && frames[1].1[0] > 150,
        "{:?}",
        frames.iter().map(|f| f.1).collect::<Vec<_>>()
    );
}

#[test]
fn times_that_do_not_rise_are_moved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("times.mp4");
    let mut recording = Recording::start(&path, 64, 64).unwrap();
    for at in [5, 5, 3, 9] {
        recording.push(&picture(64, 64, [[9; 3]; 2]), 64, 64, at * 1_000_000, Duration::ZERO).unwrap();
    }
    recording.finish().unwrap();
    assert_eq!(decoded(&path).len(), 4);
}

#[test]
fn what_cannot_be_written_is_said_and_nobody_waits_for_ever() {
    let refused = |path: &str| {
        let mut outcome = Ok(());
        match Recording::start(Path::new(path), 320, 240) {
            Err(error) => outcome = Err(error),
            Ok(mut recording) => {
                // Noise, which no encoder makes small.
                let mut state = 1_u32;
                let noise: Vec<u8> = (0..3 * 320 * 240)
                    .map(|_| {
                        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        (state >> 24) as u8
                    })
                    .collect();
                for index in 0..200 {
                    outcome = recording.push(&noise, 320, 240, index * 40_000_000, Duration::from_millis(40));
                    if outcome.is_err() {
                        break;
                    }
                }
                outcome = outcome.and_then(|()| recording.finish());
            }
        }
        outcome.unwrap_err()
    };
    assert_eq!(refused("/dev/full"), RecordingError::DiskFull);
    assert!(matches!(refused("/nowhere/at/all.mp4"), RecordingError::Failed(_)));
    let mut recording = Recording::start(Path::new("/dev/null"), 64, 64).unwrap();
    let size = RecordingError::Size { width: 64, height: 64 };
    assert_eq!(recording.push(&[0; 10], 64, 64, 0, Duration::ZERO), Err(size));
    assert!(Recording::start(Path::new("/dev/null"), 0, 64).is_err());
}
