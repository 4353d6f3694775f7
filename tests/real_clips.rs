//! Real footage over RTSP, watched by real models: what the records say is what the clips show, and every
//! frame is accounted for.

mod support;

use std::path::Path;
use std::time::Duration;

use support::{Body, Daemon, PATIENCE, Record, Setup, alone, assert_consistent, camera, shared, wait_for};
use watchpost_testcam::{CameraOptions, Picture, TestCamera};

/// A loaded machine may take its time; what is tested is what comes out.
const PATIENT: &str = "open_timeout = \"20s\"\nstall_timeout = \"10s\"\nmax_frame_age = \"3s\"";
/// Frames with detections that are judged, of each clip.
const FRAMES: usize = 24;

fn clip(path: &Path) -> TestCamera {
    assert!(path.is_file(), "{} is not there", path.display());
    camera(CameraOptions {
        picture: Picture::Clip { path: path.to_owned(), repeat: true },
        bitrate_kbps: 3000,
        ..CameraOptions::default()
    })
}

/// The number of objects of this label in each of the camera's frames.
fn counts(records: &[Record], name: &str, wanted: &str) -> Vec<usize> {
    let frames = records.iter().filter(|record| record.camera == name);
    frames
        .filter_map(|record| match &record.body {
            Body::Detections { objects, .. } => {
                Some(objects.iter().filter(|object| object.label == wanted).count())
            }
            _ => None,
        })
        .collect()
}

/// In how many of the frames, 0..=1, there are at least `least` of them.
fn share(counts: &[usize], least: usize) -> f64 {
    counts.iter().filter(|&&count| count >= least).count() as f64 / counts.len() as f64
}

/// When nothing is on its way any more, the frames that came in are those that have met an end, and those
/// that were detected are those that were published.
fn assert_accounted_for(daemon: &mut Daemon, names: &[&str]) {
    for name in names {
        daemon.state(name, "backing_off", 0, PATIENCE);
    }
    let state = wait_for("all slots are home", PATIENCE, || {
        let state = daemon.debug();
        state.cameras.iter().all(|camera| camera.slots.free == camera.slots.capacity).then_some(state)
    });
    daemon.stop();
    let records = daemon.all_records();
    assert_consistent(&records);
    for camera in &state.cameras {
        let outcomes = camera.outcomes.as_object().expect("outcomes by name");
        let settled: u64 = outcomes.values().filter_map(serde_json::Value::as_u64).sum();
        eprintln!("{}: {} frames in: {:?}", camera.name, camera.frames_in, outcomes);
        assert_eq!(camera.frames_in, settled, "{}: {outcomes:?}", camera.name);
        let published = records.iter().filter(|r| r.camera == camera.name && !r.is_state()).count() as u64;
        assert_eq!(outcomes["detected"], published, "{}: what was detected was published", camera.name);
    }
}

/// What a model has to see, and how often it looks.
struct Expected {
    model: &'static str,
    detect_fps: u32,
    /// The clip of the cars shows an empty road most of the time, and from above: the small model misses many.
    frames_with_cars: usize,
}

fn watch(expected: &Expected) {
    let Some(shared) = shared() else { return };
    let _alone = alone();
    let people = clip(&shared.join("footage/people-walking-720p.mp4"));
    let cars = clip(&shared.join("footage/car-detection.mp4"));
    let model = shared.join("models").join(expected.model);
    let mut daemon = Setup::new(&model.display().to_string(), "")
        .section("defaults", &format!("detect_fps = {}\n{PATIENT}", expected.detect_fps))
        .section("supervisor", "backoff_min = \"20s\"\nbackoff_max = \"20s\"")
        .camera("people", people.url(), "")
        .camera("cars", cars.url(), "")
        .start();
    // The clip of the cars is 30 s long.
    wait_for("pedestrians and cars", Duration::from_secs(70), || {
        let records = daemon.records_since(0);
        let with_cars = counts(&records, "cars", "car").iter().filter(|&&count| count > 0).count();
        let enough = counts(&records, "people", "").len() >= FRAMES && with_cars >= expected.frames_with_cars;
        enough.then_some(())
    });
    // The cameras go; what was on its way arrives.
    drop((people, cars));
    assert_accounted_for(&mut daemon, &["people", "cars"]);
    let records = daemon.records_since(0);
    let (persons, vehicles) = (counts(&records, "people", "person"), counts(&records, "cars", "car"));
    eprintln!("persons in each frame: {persons:?}\ncars in each frame: {vehicles:?}");
    assert!(share(&persons, 5) >= 0.8, "the clip shows 11 to 16 pedestrians: {persons:?}");
    // Hardly anything drives in the one, and hardly anybody walks in the other.
    let driving = counts(&records, "people", "car").iter().sum::<usize>();
    assert!(10 * driving <= persons.iter().sum::<usize>(), "{driving} cars among the pedestrians");
    let walking = share(&counts(&records, "cars", "person"), 1);
    assert!(walking <= 0.2, "persons in {walking} of the frames of the road");
}

#[test]
fn yolox_nano_sees_the_pedestrians_and_the_cars_over_rtsp() {
    watch(&Expected { model: "yolox_nano.onnx", detect_fps: 6, frames_with_cars: 1 });
}

#[test]
fn yolov8n_sees_the_pedestrians_and_the_cars_over_rtsp() {
    watch(&Expected { model: "yolov8n.onnx", detect_fps: 3, frames_with_cars: 3 });
}
