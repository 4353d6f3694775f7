//! A camera with `decode = "lazy"` over RTSP: asleep only keyframes are decoded, who walks in is seen from the beginning, a camera
//! that goes silent is noticed, and nothing is left of it.

mod support;

use std::path::Path;
use std::time::Duration;

use support::{Body, Daemon, Record, Setup, camera, detector, wait_for};
use watchpost_pipelines::Recording;
use watchpost_scene::{Scene, SceneOptions, frame_bytes};
use watchpost_testcam::{CameraOptions, Fault, Picture, TestCamera};

/// Everything here waits for what has to happen, on however slow a machine.
const LONG: Duration = Duration::from_secs(90);
const WIDTH: u32 = 640;
const HEIGHT: u32 = 360;
/// The nominal rate of a recording, at which the test camera plays it.
const FPS: u32 = 30;
/// Pictures from one keyframe to the next.
const GOP: u32 = FPS;
/// Somebody has to be there for so long to be an event.
const VISIT: u32 = 3 * FPS;

/// A street on a quiet day, and a time at which nobody was there for `empty` pictures before somebody comes.
fn visit(empty: u32) -> (Scene, u32) {
    for seed in 0..50 {
        let scene = Scene::quiet(SceneOptions { seed, width: WIDTH, height: HEIGHT, fps: FPS }, 0.12);
        let near = |number: u32| {
            let objects = scene.truth(number);
            objects.iter().any(|one| one.visible > 0.8 && one.bbox[3] - one.bbox[1] > 70.0)
        };
        let mut quiet = 0;
        for number in 0..4000 {
            if scene.truth(number).is_empty() {
                quiet += 1;
            } else {
                // Whoever comes is near, and stays.
                if quiet >= empty && (number + FPS..number + VISIT).any(near) {
                    return (scene, number);
                }
                quiet = 0;
            }
        }
    }
    panic!("no such street");
}

/// `before` pictures of it, and `after` from the moment on at which somebody comes.
fn film(path: &Path, before: u32, after: u32) {
    let (scene, comes) = visit(before);
    let mut i420 = vec![0; frame_bytes(WIDTH, HEIGHT)];
    let mut recording = Recording::start(path, WIDTH, HEIGHT).expect("an encoder");
    for number in comes - before..comes + after {
        scene.render(number, &mut i420);
        let time = Duration::from_secs_f64(f64::from(number - (comes - before)) / f64::from(FPS));
        let (pts_ns, duration) = (time.as_nanos() as u64, Duration::from_secs_f64(1.0 / f64::from(FPS)));
        recording.push(&rgb(&i420), WIDTH, HEIGHT, pts_ns, duration).expect("it is written");
    }
    recording.finish().expect("it is whole");
}

/// BT.601, limited range.
fn rgb(i420: &[u8]) -> Vec<u8> {
    let (width, height) = (WIDTH as usize, HEIGHT as usize);
    let (luma, chroma) = i420.split_at(width * height);
    let (blue, red) = chroma.split_at(chroma.len() / 2);
    let pixel = |at: usize| {
        let half = at / width / 2 * (width / 2) + at % width / 2;
        let y = 1.164 * (f32::from(luma[at]) - 16.0);
        let (u, v) = (f32::from(blue[half]) - 128.0, f32::from(red[half]) - 128.0);
        [y + 1.596 * v, y - 0.392 * u - 0.813 * v, y + 2.017 * u].map(|value| value.round() as u8)
    };
    (0..width * height).flat_map(pixel).collect()
}

fn play(path: &Path, gop: u32) -> TestCamera {
    camera(CameraOptions {
        picture: Picture::Clip { path: path.to_owned(), repeat: true },
        gop,
        ..CameraOptions::default()
    })
}

fn lazy(url: &str, keys: &str) -> Daemon {
    let keys = format!("decode = \"lazy\"\nmotion_hold = \"1s\"\ndetect_fps = 5\n{keys}");
    start(url, &keys)
}

/// Waits until it streams: the daemon answers then.
fn start(url: &str, keys: &str) -> Daemon {
    let daemon = Setup::new(&detector(), "").camera("gate", url, keys).start();
    daemon.state("gate", "streaming", 0, LONG);
    daemon
}

fn counter(daemon: &Daemon, name: &str) -> u64 {
    daemon.debug().counters[name].as_u64().unwrap_or(0)
}

fn is_asleep(daemon: &Daemon) -> bool {
    counter(daemon, "watchpost_camera_asleep{camera=\"gate\"}") == 1
}

fn wakes(daemon: &Daemon) -> u64 {
    let counters = daemon.debug().counters;
    let map = counters.as_object().expect("counters");
    map.iter()
        .filter(|(name, _)| name.starts_with("watchpost_camera_wakes"))
        .filter_map(|(_, count)| count.as_u64())
        .sum()
}

/// Number of the frame, and whether anything was detected in it.
fn frames(records: &[Record]) -> Vec<(u64, bool)> {
    let frame = |record: &Record| match &record.body {
        Body::Detections { seq, objects, .. } => Some((*seq, !objects.is_empty())),
        _ => None,
    };
    records.iter().filter_map(frame).collect()
}

#[test]
fn asleep_only_keyframes_are_decoded_and_who_walks_in_is_seen_from_the_beginning() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("visit.mp4");
    film(&path, 7 * FPS, VISIT);
    let camera = play(&path, GOP);
    let mut daemon = lazy(camera.url(), "");
    wait_for("two visits", LONG, || (wakes(&daemon) >= 2 && is_asleep(&daemon)).then_some(()));
    let records = daemon.records_since(0);
    assert_eq!(counter(&daemon, "watchpost_camera_restarts_total{camera=\"gate\",reason=\"stalled\"}"), 0);
    daemon.stop();
    let frames = frames(&records);
    assert!(frames.is_sorted_by(|one, other| one.0 < other.0), "in order");
    let gaps: Vec<u64> = frames.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    let is_keyframe_alone = |gap: u64| gap + 2 >= u64::from(GOP);
    let asleep = gaps.iter().filter(|&&gap| is_keyframe_alone(gap)).count();
    assert!(asleep >= 3, "asleep only keyframes are inferred: {gaps:?}");
    // From a keyframe that came alone: either the next does too, or what follows it is seen, from its beginning.
    let began: Vec<u64> = gaps
        .windows(2)
        .filter(|pair| is_keyframe_alone(pair[0]) && !is_keyframe_alone(pair[1]))
        .map(|pair| pair[1])
        .collect();
    assert!(began.len() >= 2, "{gaps:?}");
    assert!(began.iter().all(|&gap| gap < u64::from(GOP) / 2), "pictures after a gap of {began:?}: {gaps:?}");
    assert!(frames.iter().any(|&(_, detects)| detects), "somebody was detected");
}

#[test]
fn a_camera_that_falls_silent_while_it_sleeps_is_noticed_and_nothing_of_it_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("nobody.mp4");
    film(&path, 5 * FPS, 0);
    // Keyframes are further apart than pictures may be: those that are kept are signs of life.
    let camera = play(&path, 4 * FPS);
    let mut daemon = lazy(camera.url(), "stall_timeout = \"3s\"");
    wait_for("it sleeps", LONG, || is_asleep(&daemon).then_some(()));
    wait_for("pictures are kept", LONG, || (daemon.debug().handles["coded"].as_u64()? > 0).then_some(()));
    let mark = daemon.mark();
    wait_for("two keyframes", LONG, || (frames(&daemon.records_since(mark)).len() >= 2).then_some(()));
    let story: Vec<_> = daemon.records_since(mark).into_iter().filter(Record::is_state).collect();
    assert!(story.is_empty(), "{story:?}");
    let mark = daemon.mark();
    camera.inject(Fault::StopSending).expect("known");
    let record = daemon.state("gate", "backing_off", mark, LONG);
    assert_eq!(record.reason(), Some("stalled"), "{record}");
    wait_for("nothing is kept", LONG, || (daemon.debug().handles["coded"] == 0).then_some(()));
    assert!(!is_asleep(&daemon));
    camera.heal();
    let mark = daemon.mark();
    daemon.state("gate", "streaming", mark, LONG);
    wait_for("it sleeps again", LONG, || is_asleep(&daemon).then_some(()));
    daemon.stop();
}

#[test]
fn a_still_scene_is_inferred_now_and_then_with_the_motion_gate() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("visit.mp4");
    film(&path, 6 * FPS, VISIT);
    let camera = play(&path, GOP);
    let keys = "motion_gate = true\nmotion_hold = \"1s\"\nmotion_refresh = \"3s\"\ndetect_fps = 5";
    let mut daemon = start(camera.url(), keys);
    let outcome = |name: &str| {
        counter(&daemon, &format!("watchpost_frames_total{{camera=\"gate\",outcome=\"{name}\"}}"))
    };
    wait_for("frames are left out", LONG, || (outcome("still") >= 40).then_some(()));
    wait_for("somebody is detected", LONG, || {
        frames(&daemon.records_since(0)).iter().any(|&(_, detects)| detects).then_some(())
    });
    let detected = outcome("detected");
    assert!(detected >= 5, "and some are not: {detected}");
    daemon.stop();
}
