//! A real client sees what the camera films.

mod watcher;

use std::path::PathBuf;

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
