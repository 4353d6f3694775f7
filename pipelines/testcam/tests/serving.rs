//! A real client sees what the camera films.

mod watcher;

use std::io::ErrorKind;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use watcher::*;
use watchpost_testcam::{CameraOptions, Codec, Credentials, Picture, TestCamera, TestCameraError, Tls};

/// The stamps are read, go up by one, and the timestamps go up by one frame time.
fn assert_consecutive(seen: &[Seen]) {
    for pair in seen.windows(2) {
        let (Some(a), Some(b)) = (pair[0].stamp, pair[1].stamp) else { panic!("a stamp is lost: {pair:?}") };
        assert_eq!(b, a + 1, "{seen:?}");
        let (a, b) = (pair[0].pts.unwrap(), pair[1].pts.unwrap());
        assert!(b > a, "{seen:?}");
    }
}

fn plays(codec: Codec, access: Access) {
    let camera = start(small(codec));
    let watcher = Watcher::connect(camera.url(), codec, access);
    assert_consecutive(&watcher.pictures(20));
    assert_eq!(camera.clients(), 1);
    assert!(camera.frames_sent() >= 20);
}

#[test]
fn h264_over_tcp() {
    plays(Codec::H264, TCP);
}

#[test]
fn h265_over_tcp() {
    plays(Codec::H265, TCP);
}

#[test]
fn mjpeg_over_tcp() {
    plays(Codec::Mjpeg, TCP);
}

#[test]
fn h264_over_udp() {
    plays(Codec::H264, UDP);
}

#[test]
fn b_frames_arrive_in_presentation_order() {
    for codec in [Codec::H264, Codec::H265] {
        let camera = start(CameraOptions { b_frames: true, ..small(codec) });
        let watcher = Watcher::connect(camera.url(), codec, TCP);
        let stamps: Vec<_> = watcher.pictures(20).iter().map(|seen| seen.stamp).collect();
        // Timestamps are another matter: rtspsrc's jitter buffer bends those of reordered packets.
        assert!(stamps.windows(2).all(|pair| pair[0].map(|number| number + 1) == pair[1]), "{stamps:?}");
    }
}

#[test]
fn rtsps_with_the_built_in_certificate() {
    let camera = start(CameraOptions { tls: Some(Tls::SelfSigned), ..small(Codec::H264) });
    assert!(camera.url().starts_with("rtsps://"));
    assert_consecutive(&Watcher::of(&camera).pictures(10));
}

#[test]
fn three_clients_share_one_encoder() {
    let camera = start(small(Codec::H264));
    let watchers =
        [Watcher::of(&camera), Watcher::of(&camera), Watcher::connect(camera.url(), Codec::H264, UDP)];
    let seen = watchers.each_ref().map(|watcher| watcher.pictures(15));
    seen.iter().for_each(|seen| assert_consecutive(seen));
    assert_eq!(camera.clients(), 3);
    // Everybody sees the same pictures, so nobody has an encoder of their own.
    let stats = camera.stats();
    assert_eq!(stats.frames_sent, u64::from(stats.next_frame_number));
    let last = seen.iter().filter_map(|seen| seen[14].stamp).max().unwrap();
    assert!(stats.next_frame_number - last < 15, "{stats:?}, last seen {last}");
    drop(watchers);
}

#[test]
fn the_right_password_is_let_in_and_a_wrong_one_is_not() {
    let credentials = Credentials { user: "viewer".into(), password: "s3cret:@/".into() };
    assert!(!format!("{credentials:?}").contains("s3cret"));
    let camera = start(CameraOptions { credentials: Some(credentials), ..small(Codec::H264) });
    assert!(!format!("{camera:?} {}", camera.url()).contains("s3cret"));
    for (user, password, enters) in [
        ("viewer", "s3cret:@/", true),
        ("viewer", "wrong", false),
        ("other", "s3cret:@/", false),
        ("", "", false),
    ] {
        let access = Access { transport: "tcp", user, password };
        let watcher = Watcher::connect(camera.url(), Codec::H264, access);
        match watcher.next(PATIENCE) {
            Next::Picture(_) => assert!(enters, "{user} {password} was let in"),
            Next::Over(words) => {
                assert!(!enters && words.contains("nauthorized"), "{user} {password}: {words}")
            }
            Next::Nothing => panic!("{user} {password}: no answer"),
        }
    }
}

#[test]
fn frame_numbers_go_on_over_sessions_and_are_logged() {
    let directory = tempfile::tempdir().unwrap();
    let log_path = directory.path().join("frames");
    let before_ns = watchpost_testcam::unix_ns();
    let camera = start(CameraOptions { frame_log: Some(log_path.clone()), ..small(Codec::H264) });
    let first = Watcher::of(&camera).pictures(5);
    assert_eq!(first[0].stamp, Some(0));
    assert!(wait_until(|| camera.clients() == 0));
    let second = Watcher::of(&camera).pictures(5);
    assert_consecutive(&second);
    assert!(second[0].stamp > first[4].stamp, "numbers are unique over sessions");
    assert!(second[0].pts.unwrap() < gst_seconds(2), "timestamps start again");
    let seen = second[4].stamp.unwrap() as usize;
    let log = std::fs::read_to_string(&log_path).unwrap();
    let mut last_ns = before_ns;
    for (index, line) in log.lines().enumerate().take(seen + 1) {
        let (number, unix_ns) = line.split_once(' ').unwrap();
        assert_eq!(number.parse::<usize>().unwrap(), index);
        let unix_ns = unix_ns.parse().unwrap();
        assert!((last_ns..=watchpost_testcam::unix_ns()).contains(&unix_ns));
        last_ns = unix_ns;
    }
    assert!(log.lines().count() > seen, "every picture seen was logged");
}

fn gst_seconds(seconds: u64) -> gstreamer::ClockTime {
    gstreamer::ClockTime::from_seconds(seconds)
}

#[test]
fn a_booting_camera_refuses_connections_first() {
    let camera = start(CameraOptions { startup_delay: Duration::from_millis(1500), ..small(Codec::H264) });
    let address = camera.url().trim_start_matches("rtsp://").trim_end_matches("/stream").to_owned();
    assert_eq!(TcpStream::connect(&address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert!(wait_until(|| TcpStream::connect(&address).is_ok()), "it never opened");
    Watcher::of(&camera).pictures(2);
}

#[test]
fn wrong_options_say_what_is_wrong() {
    let scene = |width, height, fps| Picture::Scene { seed: 1, width, height, fps };
    let with = |picture| CameraOptions { picture, ..CameraOptions::default() };
    let not_a_clip = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    for (options, named) in [
        (with(scene(641, 360, 15)), "641x360"),
        (with(scene(640, 361, 15)), "640x361"),
        (with(scene(640, 360, 0)), "fps is 0"),
        (CameraOptions { codec: Codec::Mjpeg, ..with(scene(2048, 1152, 15)) }, "MJPEG"),
        (CameraOptions { gop: 0, ..CameraOptions::default() }, "gop is 0"),
        (CameraOptions { bitrate_kbps: 1, ..CameraOptions::default() }, "bitrate_kbps is 1"),
        (with(Picture::Clip { path: "/nowhere.mp4".into(), repeat: true }), "/nowhere.mp4"),
        (with(Picture::Clip { path: not_a_clip, repeat: true }), "Cargo.toml"),
        (
            CameraOptions { frame_log: Some("/nowhere/log".into()), ..CameraOptions::default() },
            "/nowhere/log",
        ),
        (CameraOptions { port: 1, ..CameraOptions::default() }, "port 1"),
    ] {
        // The lowest ports are open to root: there the start may succeed.
        let Err(error) = TestCamera::start(options) else {
            assert_eq!(named, "port 1");
            continue;
        };
        assert!(error.to_string().contains(named), "{error}");
    }
    let first = start(small(Codec::H264));
    let port = first.url().rsplit(':').next().unwrap().trim_end_matches("/stream").parse().unwrap();
    let second = TestCamera::start(CameraOptions { port, ..small(Codec::H264) });
    assert!(matches!(second, Err(TestCameraError::Port { .. })), "{second:?}");
}

/// A clip of real footage, or `None` and a loud word when this machine has none.
fn footage() -> Option<PathBuf> {
    let shared = std::env::var_os("WATCHPOST_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let clip = shared.join("footage/people-walking-720p.mp4");
    if clip.is_file() {
        return Some(clip);
    }
    eprintln!("NOT RUN: {} is not there; set WATCHPOST_SHARED to the folder with footage", clip.display());
    None
}

#[test]
fn a_clip_is_served_at_its_size_and_rate() {
    let Some(path) = footage() else { return };
    let picture = Picture::Clip { path, repeat: true };
    let camera = start(CameraOptions { picture, bitrate_kbps: 3000, ..CameraOptions::default() });
    assert_eq!(camera.resolution(), (1280, 720));
    let watcher = Watcher::of(&camera);
    let seen = watcher.pictures(20);
    assert!(seen.iter().all(|seen| seen.size == (1280, 720)));
    let times: Vec<_> = seen.iter().map(|seen| seen.pts.unwrap().mseconds()).collect();
    let frame_ms = (times[19] - times[9]) as f64 / 10.0;
    assert!((15.0..70.0).contains(&frame_ms), "{frame_ms} ms from picture to picture");
    camera.set_resolution(640, 360).unwrap();
    watcher.until(|seen| seen.size == (640, 360));
}

/// A clip of 20 small frames, encoded here: no footage is needed.
fn short_clip(directory: &Path) -> PathBuf {
    use gstreamer::prelude::*;
    gstreamer::init().unwrap();
    let path = directory.join("clip.mkv");
    let line = "videotestsrc num-buffers=20 pattern=ball ! video/x-raw,width=196,height=146,framerate=20/1 \
                ! jpegenc ! matroskamux ! filesink name=file";
    let pipeline = gstreamer::parse::launch(line).unwrap().downcast::<gstreamer::Pipeline>().unwrap();
    pipeline.by_name("file").unwrap().set_property("location", &path);
    pipeline.set_state(gstreamer::State::Playing).unwrap();
    let ends = [gstreamer::MessageType::Eos, gstreamer::MessageType::Error];
    let end = pipeline.bus().unwrap().timed_pop_filtered(gst_seconds(20), &ends).unwrap();
    assert_eq!(end.type_(), gstreamer::MessageType::Eos);
    pipeline.set_state(gstreamer::State::Null).unwrap();
    path
}

#[test]
fn a_clip_repeats_or_ends_as_told_and_odd_sizes_are_fitted() {
    let directory = tempfile::tempdir().unwrap();
    let path = short_clip(directory.path());
    let options = |repeat, codec| CameraOptions {
        picture: Picture::Clip { path: path.clone(), repeat },
        ..small(codec)
    };
    let camera = start(options(true, Codec::H264));
    assert_eq!(camera.resolution(), (192, 146));
    Watcher::of(&camera).pictures(50);
    drop(camera);
    let camera = start(options(true, Codec::Mjpeg));
    assert_eq!(camera.resolution(), (192, 144));
    Watcher::connect(camera.url(), Codec::Mjpeg, TCP).pictures(25);
    drop(camera);
    let camera = start(options(false, Codec::H264));
    for _session in 0..2 {
        let watcher = Watcher::of(&camera);
        watcher.pictures(15);
        watcher.end();
    }
    assert_eq!(camera.frames_sent(), 40);
}
