//! Whoever has entered a zone leaves it, also where nobody looks any more.

use std::collections::BTreeSet;
use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use crate::daemon::{Watched, of, write};
use crate::program::blind_detector;

/// Who is in which zone of a camera by what was told; that nobody is forgotten is what is tested.
fn inside(records: &[Value], camera: &str) -> BTreeSet<u64> {
    let mut inside = BTreeSet::new();
    for event in of(records, "event", camera) {
        let whom = event["track_id"].as_u64();
        match (event["event"].as_str(), whom) {
            (Some("enter"), Some(whom)) => assert!(inside.insert(whom), "{event}"),
            (Some("leave"), Some(whom)) => assert!(inside.remove(&whom), "{event}"),
            (Some("count"), None) => assert_eq!(event["count"], inside.len(), "{event}"),
            other => panic!("{other:?}: {event}"),
        }
    }
    inside
}

/// Events with `end`.
fn ends(records: &[Value], camera: &str) -> usize {
    of(records, "event", camera).iter().filter(|event| event["end"] == true).count()
}

fn head(model: &str) -> String {
    format!(
        "[detector]\nmodel = \"{model}\"\nbackend = \"builtin\"\nthreads = 1\n[defaults]\nmax_frame_age = \"10s\"\n"
    )
}

/// A camera with one zone, which ends so far down; nobody is forgotten.
fn camera(name: &str, bottom: f32) -> String {
    format!(
        "[camera.{name}]\nurl = \"test://scene?seed=3&fps=10&width=320&height=192\"\ntrack_keep = \"60s\"\n\
         [camera.{name}.zone.all]\npolygon = [[0, 0], [1, 0], [1, {bottom}], [0, {bottom}]]\nsettle = \"100ms\"\n"
    )
}

#[test]
fn whoever_is_there_when_a_camera_is_watched_no_longer_leaves() {
    let camera = |name| camera(name, 1.0);
    let head = &head("demo");
    let watched = Watched::start(&[head, camera("one").as_str(), &camera("other")].concat());
    let mut records = watched.read_until("both see somebody", |records| {
        ["one", "other"].iter().all(|camera| !inside(records, camera).is_empty())
    });
    let stopped = |records: &[Value], camera: &str| {
        of(records, "camera_state", camera).iter().any(|record| record["state"] == "stopped")
    };
    // One is taken out of the configuration.
    write(&watched.folder, &[head, camera("other").as_str()].concat());
    watched.daemon.signal(Signal::HUP);
    records.extend(watched.read_until("the camera has stopped", |records| stopped(records, "one")));
    assert_eq!(inside(&records, "one"), BTreeSet::new(), "they are there for ever");
    assert!(ends(&records, "one") > 0 && ends(&records, "other") == 0);
    // The other ends with the process.
    records.extend(
        watched.read_until("somebody is there", |new| !inside(&[&records, new].concat(), "other").is_empty()),
    );
    watched.daemon.signal(Signal::TERM);
    records.extend(watched.read_until("the camera has stopped", |records| stopped(records, "other")));
    assert_eq!(inside(&records, "other"), BTreeSet::new(), "they are there for ever");
    assert!(ends(&records, "other") > 0);
    // Nothing of a camera comes after the word that it has stopped.
    let last = records.iter().rfind(|record| record["camera"] == "other").expect("many");
    assert_eq!((&last["type"], &last["state"]), (&Value::from("camera_state"), &Value::from("stopped")));
}

/// What was told before is not told again, and whoever is told to be there is seen there.
#[test]
fn whoever_is_there_when_another_zone_or_model_takes_over_leaves() {
    let watched = Watched::start(&[head("demo"), camera("one", 1.0), camera("other", 1.0)].concat());
    fs::write(watched.folder.path().join("blind.onnx"), blind_detector(3)).expect("written");
    let both = |records: &[Value]| ["one", "other"].iter().all(|camera| !inside(records, camera).is_empty());
    let mut records = watched.read_until("both see somebody", both);
    // One camera's zone is another, of the same name.
    write(&watched.folder, &[head("demo"), camera("one", 0.99), camera("other", 1.0)].concat());
    watched.daemon.signal(Signal::HUP);
    records.extend(watched.read_until("somebody has left", |new| ends(new, "one") > 0));
    records.extend(watched.read_until("both see somebody", |new| both(&[&records, new].concat())));
    assert_eq!(ends(&records, "other"), 0, "nothing of it was changed");
    // A model that sees nobody.
    write(&watched.folder, &[head("./blind.onnx"), camera("one", 0.99), camera("other", 1.0)].concat());
    watched.daemon.signal(Signal::HUP);
    let is_blind = |new: &[Value], camera: &str| {
        of(new, "detections", camera).iter().any(|record| record["model"]["name"] == "blind")
    };
    records
        .extend(watched.read_until("the other model", |new| is_blind(new, "one") && is_blind(new, "other")));
    for camera in ["one", "other"] {
        assert_eq!(inside(&records, camera), BTreeSet::new(), "{camera}: they are there for ever");
        assert!(ends(&records, camera) > 0);
    }
    assert_eq!(watched.daemon.stop().code, Some(0));
}
