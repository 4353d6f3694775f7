//! A camera with `decode = "lazy"` over RTSP: asleep only keyframes are decoded, who walks in is seen from the beginning, a camera
//! that goes silent is noticed, and nothing is left of it.

mod support;

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use support::{Body, Daemon, Record, Setup, camera, detector, usage, wait_for};
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
    film_in_rain(path, before, after, 0);
}

/// The same; it rains as long as somebody is there: samples are up to `rain` brighter or darker.
fn film_in_rain(path: &Path, before: u32, after: u32, rain: u32) {
    let (scene, comes) = visit(before);
    let mut i420 = vec![0; frame_bytes(WIDTH, HEIGHT)];
    let mut recording = Recording::start(path, WIDTH, HEIGHT).expect("an encoder");
    for number in comes - before..comes + after {
        scene.render(number, &mut i420);
        if number >= comes && rain > 0 {
            for (at, sample) in i420[..(WIDTH * HEIGHT) as usize].iter_mut().enumerate() {
                let chance = (at as u32 ^ number << 20).wrapping_mul(0x9e37_79b1) >> 16;
                *sample = sample.saturating_add_signed((chance % (2 * rain + 1)) as i8 - rain as i8);
            }
        }
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
    camera(options(path, gop))
}

fn options(path: &Path, gop: u32) -> CameraOptions {
    CameraOptions {
        picture: Picture::Clip { path: path.to_owned(), repeat: true },
        gop,
        ..CameraOptions::default()
    }
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

fn outcomes(daemon: &Daemon, name: &str) -> u64 {
    counter(daemon, &format!("watchpost_frames_total{{camera=\"gate\",outcome=\"{name}\"}}"))
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
    look_at_two_visits(&records, GOP);
}

/// Asleep keyframes alone, then all that there was from the beginning of a visit on, in order.
fn look_at_two_visits(records: &[Record], gop: u32) {
    let frames = frames(records);
    assert!(frames.is_sorted_by(|one, other| one.0 < other.0), "in order");
    let gaps: Vec<u64> = frames.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    let is_keyframe_alone = |gap: u64| gap + 2 >= u64::from(gop);
    let asleep = gaps.iter().filter(|&&gap| is_keyframe_alone(gap)).count();
    assert!(asleep >= 3, "asleep only keyframes are inferred: {gaps:?}");
    // From a keyframe that came alone: either the next does too, or what follows it is seen, from its beginning.
    let began: Vec<u64> = gaps
        .windows(2)
        .filter(|pair| is_keyframe_alone(pair[0]) && !is_keyframe_alone(pair[1]))
        .map(|pair| pair[1])
        .collect();
    assert!(began.len() >= 2, "{gaps:?}");
    assert!(began.iter().all(|&gap| gap < u64::from(gop) / 2), "pictures after a gap of {began:?}: {gaps:?}");
    assert!(frames.iter().any(|&(_, detects)| detects), "somebody was detected");
}

/// A decoder shows these only when it has been given what follows; and what is kept is decoded in the order in which it came.
#[test]
fn pictures_that_come_out_of_order_are_shown_in_order_and_with_their_own_times() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("visit.mp4");
    // Who comes does so in the middle between two keyframes, and nobody has to wait for the second to notice.
    film_in_rain(&path, 7 * FPS, VISIT, 4);
    // An encoder short of bits would spend the same on both.
    let options = CameraOptions { b_frames: true, bitrate_kbps: 8000, ..options(&path, 2 * GOP) };
    let camera = camera(options);
    let mut daemon = lazy(camera.url(), "");
    wait_for("two visits", LONG, || (wakes(&daemon) >= 2 && is_asleep(&daemon)).then_some(()));
    let records = daemon.records_since(0);
    assert!(counter(&daemon, "watchpost_camera_wakes_total{camera=\"gate\",reason=\"coded\"}") > 0);
    daemon.stop();
    look_at_two_visits(&records, 2 * GOP);
    let times = records.iter().filter_map(|record| match &record.body {
        Body::Detections { ts_ms, ts_source, pts_ns, latency_ms, .. } => {
            Some((ts_source.clone(), *ts_ms, pts_ns.expect("a time") / 1_000_000, *latency_ms))
        }
        _ => None,
    });
    let times: Vec<_> = times.collect();
    assert!(times.is_sorted_by(|one, other| one.2 < other.2), "{times:?}");
    // However late it is decoded, a picture keeps the time at which it was taken.
    let late = times.iter().filter(|(.., latency_ms)| *latency_ms > 300.0).count();
    assert!(late >= 2, "what was kept is late: {times:?}");
    for source in ["rtcp-sr", "arrival"] {
        let apart = times.iter().filter(|one| one.0 == source).map(|one| one.1 as i64 - one.2 as i64);
        let (least, most) = (apart.clone().min().unwrap_or(0), apart.max().unwrap_or(0));
        // The two clocks are corrected for each other's drift, and midnight is a day.
        let is_steady = most - least < 250 || most - least > 80_000_000;
        assert!(is_steady, "{source}: {least} to {most} ms: {times:?}");
    }
}

/// What a daemon of cameras that sleep holds for good: pipelines and their objects, and memory.
fn at_rest(daemon: &Daemon, cameras: &[&str]) -> (Value, u64) {
    // Those of a stream that is asleep hold what came since the keyframe, and no decoded frame.
    wait_for("all sleep and hold nothing", LONG, || {
        let debug = daemon.debug();
        let asleep = cameras
            .iter()
            .all(|name| debug.counters[format!("watchpost_camera_asleep{{camera=\"{name}\"}}")] == 1);
        let coded = debug.handles["coded"].as_u64()?;
        let free = debug.cameras.iter().all(|camera| camera.slots.free == camera.slots.capacity);
        (asleep && free && coded < u64::from(CYCLE_GOP) * cameras.len() as u64).then(|| {
            let mut handles = debug.handles.clone();
            // They come and go with every picture.
            for moving in ["coded", "frame", "slot", "thread"] {
                handles.as_object_mut().expect("an object").remove(moving);
            }
            // And the connection that asks.
            handles["fd"] = 0.into();
            (handles, usage(daemon.pid()).rss_bytes)
        })
    })
}

const CYCLE_GOP: u32 = FPS / 2;
/// What the allocators keep, once everything has happened twice.
const RSS_SLACK_BYTES: u64 = 6 << 20;

#[test]
fn twenty_times_awake_and_asleep_leave_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("visit.mp4");
    film(&path, 5 * FPS / 2, FPS);
    let camera = play(&path, CYCLE_GOP);
    // Four cameras that see the same: five visits are twenty cycles.
    let names = ["gate", "yard", "door", "hall"];
    let keys = "decode = \"lazy\"\nmotion_hold = \"1s\"\ndetect_fps = 3";
    let setup =
        names.iter().fold(Setup::new(&detector(), ""), |setup, name| setup.camera(name, camera.url(), keys));
    let mut daemon = setup.start();
    names.iter().for_each(|name| {
        daemon.state(name, "streaming", 0, LONG);
    });
    wait_for("two visits seen by all", LONG, || (wakes(&daemon) >= 8).then_some(()));
    let (handles, rss_bytes) = at_rest(&daemon, &names);
    let before = usage(daemon.pid());
    let woken = wakes(&daemon);
    wait_for("twenty cycles", LONG, || (wakes(&daemon) >= woken + 20).then_some(()));
    let (handles_after, rss_bytes_after) = at_rest(&daemon, &names);
    let after = usage(daemon.pid());
    daemon.stop();
    assert_eq!(handles_after, handles);
    // Threads of a pool, and the connection that asks, come and go.
    assert!(after.fds <= before.fds + 2 && after.threads <= before.threads + 2, "{before:?}, then {after:?}");
    assert!(rss_bytes_after < rss_bytes + RSS_SLACK_BYTES, "{rss_bytes} bytes, then {rss_bytes_after}");
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
    wait_for("pictures are kept", LONG, || {
        let coded = daemon.debug().handles["coded"].as_u64()?;
        (8..u64::from(3 * FPS)).contains(&coded).then_some(())
    });
    let (mark, lost) = (daemon.mark(), outcomes(&daemon, "stale_generation"));
    camera.inject(Fault::StopSending).expect("known");
    let record = daemon.state("gate", "backing_off", mark, LONG);
    assert_eq!(record.reason(), Some("stalled"), "{record}");
    wait_for("nothing is kept", LONG, || (daemon.debug().handles["coded"] == 0).then_some(()));
    assert!(!is_asleep(&daemon));
    assert!(outcomes(&daemon, "stale_generation") >= lost + 8, "what was kept is counted as lost");
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
    wait_for("frames are left out", LONG, || (outcomes(&daemon, "still") >= 40).then_some(()));
    wait_for("somebody is detected", LONG, || {
        frames(&daemon.records_since(0)).iter().any(|&(_, detects)| detects).then_some(())
    });
    let detected = outcomes(&daemon, "detected");
    assert!(detected >= 5, "and some are not: {detected}");
    daemon.stop();
}
