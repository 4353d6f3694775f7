//! Which objects pass, and what is said of labels that are not there.

use super::*;
use crate::config::{Anchor, Locator, ZoneOptions};
use crate::shape::Polygon;
use std::time::Duration;

fn labels() -> Vec<String> {
    ["人", "car", "dog"].map(str::to_owned).to_vec()
}

const SIZE: [u32; 2] = [1000, 500];

fn object(class_id: u32, score: f32) -> Tracked {
    boxed(class_id, score, [100.0, 100.0, 200.0, 300.0])
}

fn boxed(class_id: u32, score: f32, bbox: [f32; 4]) -> Tracked {
    Tracked { class_id, score, bbox, track_id: None }
}

fn camera(change: impl FnOnce(&mut CameraOptions)) -> CameraOptions {
    let mut camera = CameraOptions::new("gate", Locator::Csi { sensor_index: 0 });
    change(&mut camera);
    camera
}

fn zone(name: &str, kind: ZoneKind, anchor: Anchor, [x1, y1, x2, y2]: [f32; 4]) -> ZoneOptions {
    ZoneOptions {
        name: name.to_owned(),
        polygon: Polygon::new(&[[x1, y1], [x2, y1], [x2, y2], [x1, y2]]).expect("a polygon"),
        kind,
        anchor,
        classes: None,
        dwell: None,
        settle: Duration::ZERO,
    }
}

/// Whether a person in this box passes the filter of a camera.
fn passes(camera: &CameraOptions, class_id: u32, bbox: [f32; 4]) -> bool {
    let filter = Filter::of_camera(camera, &labels(), 0.3).expect("known labels");
    filter.passes(&boxed(class_id, 0.9, bbox), SIZE)
}

#[test]
fn only_the_classes_asked_for_pass() {
    let filter = Filter::new(Some(&["人".to_owned()]), &labels(), 0.3).expect("known");
    assert!(filter.passes(&object(0, 0.5), SIZE));
    assert!(!filter.passes(&object(1, 0.9), SIZE));
    assert!(!filter.passes(&object(99, 0.9), SIZE));
}

#[test]
fn scores_below_the_threshold_do_not_pass() {
    let filter = Filter::new(None, &labels(), 0.3).expect("all");
    assert!(filter.passes(&object(2, 0.3), SIZE));
    assert!(!filter.passes(&object(2, 0.299), SIZE));
    assert!(!filter.passes(&object(2, f32::NAN), SIZE));
}

#[test]
fn a_label_may_have_a_threshold_of_its_own() {
    let camera = camera(|camera| {
        camera.score_threshold = Some(0.5);
        camera.score_thresholds = vec![("car".to_owned(), 0.2), ("dog".to_owned(), 0.8)];
    });
    let filter = Filter::of_camera(&camera, &labels(), 0.3).expect("known");
    let passes = |class_id, score| filter.passes(&object(class_id, score), SIZE);
    assert!(passes(0, 0.5) && !passes(0, 0.49));
    assert!(passes(1, 0.2) && !passes(1, 0.19));
    assert!(passes(2, 0.8) && !passes(2, 0.79));
    assert!(passes(99, 0.5) && !passes(99, 0.4));
}

#[test]
fn boxes_have_limits_of_area_in_either_unit_and_of_aspect() {
    // 100 by 200 pixels of 1000 by 500.
    let bbox = [100.0, 100.0, 200.0, 300.0];
    let with = |boxes: BoxLimits| passes(&camera(|camera| camera.boxes = boxes), 0, bbox);
    let none = BoxLimits::default();
    for (limit, expected) in [(0.04, true), (0.041, false)] {
        assert_eq!(with(BoxLimits { min_area: Some(BoxArea::Fraction(limit)), ..none }), expected);
    }
    for (limit, expected) in [(20_000.0, true), (19_999.0, false)] {
        assert_eq!(with(BoxLimits { max_area: Some(BoxArea::Pixels(limit)), ..none }), expected);
    }
    for (limit, expected) in [(0.5, true), (0.51, false)] {
        assert_eq!(with(BoxLimits { min_aspect: Some(limit), ..none }), expected);
    }
    for (limit, expected) in [(0.5, true), (0.49, false)] {
        assert_eq!(with(BoxLimits { max_aspect: Some(limit), ..none }), expected);
    }
    let flat = camera(|camera| camera.boxes.max_aspect = Some(9.0));
    assert!(!passes(&flat, 0, [1.0, 1.0, 9.0, 1.0]), "a box without height");
}

#[test]
fn include_zones_let_in_and_ignore_zones_keep_out() {
    let right_half = [0.5, 0.0, 1.0, 1.0];
    let standing_right = [550.0, 300.0, 650.0, 450.0];
    let standing_left = [300.0, 100.0, 400.0, 450.0];
    let include = camera(|camera| {
        camera.zones = vec![zone("in", ZoneKind::Include, Anchor::Foot, right_half)];
    });
    assert!(passes(&include, 0, standing_right) && !passes(&include, 0, standing_left));
    let ignore = camera(|camera| {
        camera.zones = vec![zone("out", ZoneKind::Ignore, Anchor::Foot, right_half)];
    });
    assert!(!passes(&ignore, 0, standing_right) && passes(&ignore, 0, standing_left));
    // Zones that only watch hide nothing.
    let watch = camera(|camera| {
        camera.zones = vec![zone("eye", ZoneKind::Watch, Anchor::Foot, right_half)];
    });
    assert!(passes(&watch, 0, standing_right) && passes(&watch, 0, standing_left));
    // One of two is enough; ignoring is stronger.
    let both = camera(|camera| {
        camera.zones = vec![
            zone("a", ZoneKind::Include, Anchor::Foot, right_half),
            zone("b", ZoneKind::Include, Anchor::Foot, [0.0, 0.0, 0.5, 1.0]),
            zone("c", ZoneKind::Ignore, Anchor::Foot, [0.0, 0.0, 0.5, 1.0]),
        ];
    });
    assert!(passes(&both, 0, standing_right) && !passes(&both, 0, standing_left));
}

#[test]
fn zones_are_about_their_labels_only() {
    let right_half = [0.5, 0.0, 1.0, 1.0];
    let left = [100.0, 100.0, 200.0, 300.0];
    for (kind, person, car) in [(ZoneKind::Include, false, true), (ZoneKind::Ignore, true, true)] {
        let camera = camera(|camera| {
            let people = Some(vec!["人".to_owned()]);
            camera.zones = vec![ZoneOptions { classes: people, ..zone("a", kind, Anchor::Foot, right_half) }];
        });
        assert_eq!((passes(&camera, 0, left), passes(&camera, 1, left)), (person, car), "{kind:?}");
    }
}

#[test]
fn anchors_say_where_an_object_is() {
    let lower_half = [0.0, 0.5, 1.0, 1.0];
    let with =
        |anchor| camera(|camera| camera.zones = vec![zone("a", ZoneKind::Include, anchor, lower_half)]);
    // Feet at 300 of 500, middle at 200, a quarter of it in the lower half.
    let bbox = [100.0, 100.0, 200.0, 300.0];
    assert!(passes(&with(Anchor::Foot), 0, bbox));
    assert!(!passes(&with(Anchor::Centre), 0, bbox));
    assert!(passes(&with(Anchor::Overlap(0.25)), 0, bbox));
    assert!(!passes(&with(Anchor::Overlap(0.26)), 0, bbox));
    // Cut off by the picture's lower and right edges, and beyond them.
    let whole = camera(|camera| {
        camera.zones = vec![zone("a", ZoneKind::Include, Anchor::Foot, [0.0, 0.0, 1.0, 1.0])];
    });
    assert!(passes(&whole, 0, [100.0, 100.0, 200.0, 500.0]));
    assert!(passes(&whole, 0, [1000.0, 100.0, 1000.0, 500.0]));
}

#[test]
fn labels_the_model_does_not_have_are_named() {
    let unknown = Filter::new(Some(&["cat".to_owned(), "car".to_owned()]), &labels(), 0.3);
    assert_eq!(unknown, Err(vec!["cat".to_owned()]));
    assert_eq!(
        lacks_labels(&["Dog".to_owned(), "zebra".to_owned()], &labels()),
        "has no label \"Dog\" (did you mean \"dog\"?), \"zebra\"; it has: 人, car, dog"
    );
    let many: Vec<String> = (0..80).map(|index| format!("label{index}")).collect();
    assert!(lacks_labels(&["x".to_owned()], &many).ends_with("lists the 80 that it has"));
}

#[test]
fn all_unknown_labels_of_a_camera_are_told_with_their_keys() {
    let cat = || Some(vec!["cat".to_owned()]);
    let camera = camera(|camera| {
        camera.classes = cat();
        camera.score_thresholds = vec![("cow".to_owned(), 0.2), ("hen".to_owned(), 0.2)];
        let area = [0.1, 0.1, 0.2, 0.2];
        camera.zones = vec![
            ZoneOptions { classes: cat(), ..zone("a", ZoneKind::Ignore, Anchor::Foot, area) },
            ZoneOptions { classes: cat(), ..zone("b", ZoneKind::Include, Anchor::Foot, area) },
        ];
    });
    let unknown = Filter::of_camera(&camera, &labels(), 0.3).expect_err("no such labels");
    let keys: Vec<_> = unknown.iter().map(|unknown| (unknown.key.as_str(), unknown.labels.len())).collect();
    assert_eq!(keys, [("classes", 1), ("score_thresholds", 2), ("zone.b.classes", 1), ("zone.a.classes", 1)]);
}
