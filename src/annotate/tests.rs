//! Pixels at known places.

use super::fonts::{Fonts, Language};
use super::*;
use crate::config::ZoneKind;
use crate::publish::Mask;
use crate::shape::Segment;

/// A painter that draws the same on every machine: with the built-in font.
fn painter() -> Painter {
    Painter::with(Typesetter::new(Fonts::of_folders(&[], Language::default())))
}

fn draw(canvas: &mut Canvas, objects: &[Object<'_>]) {
    painter().draw(canvas, &Surroundings::default(), objects);
}

#[test]
fn a_box_is_where_it_is_and_its_label_above_it() {
    let mut canvas = Canvas::new(200, 120);
    draw(&mut canvas, &[Object::new("car", 3, 0.5, [40.0, 50.0, 100.0, 90.0])]);
    let drawn = color(3);
    for (x, y) in [(40, 50), (99, 50), (40, 89), (99, 89), (70, 50), (40, 70)] {
        assert_eq!(canvas.get(x, y), Some(drawn), "{x} {y}");
    }
    for (x, y) in [(70, 70), (39, 70), (100, 70), (70, 90)] {
        assert_eq!(canvas.get(x, y), Some([0; 3]), "{x} {y}");
    }
    // The label's ground, and its ink on it.
    let ground = canvas.get(60, 35).unwrap();
    assert!(ground[0] > 200 && ground[1] > 190, "{ground:?}");
    assert!((40..100).any(|x| (35..50).any(|y| canvas.get(x, y) == Some([0; 3]))));
}

#[test]
fn nothing_that_lies_outside_makes_it_panic() {
    let mut canvas = Canvas::new(60, 40);
    let far = [[-1e9, 5.0, 1.0], [1e9, 1e9, 1.0], [f32::NAN, 0.0, 1.0], [f32::INFINITY, 1.0, 1.0]];
    let polygon =
        [[-50.0, -50.0], [200.0, 10.0], [30.0, 900.0], [f32::NAN, 3.0], [f32::INFINITY, f32::NEG_INFINITY]];
    let all: Vec<[f32; 3]> = far.iter().cycle().take(17).copied().collect();
    let boxes =
        [[-100.0, -100.0, 500.0, 500.0], [59.0, 39.0, 59.0, 39.0], [f32::NAN; 4], [9.0, 9.0, 1.0, 1.0]];
    let surroundings = Surroundings {
        zones: vec![("z".to_owned(), ZoneKind::Include, polygon.to_vec())],
        lines: vec![("l".to_owned(), Segment { from: [f32::NAN; 2], to: [1e30, -1e30] })],
        masks: vec![polygon.to_vec()],
    };
    let mut painter = painter();
    for bbox in boxes {
        let object = Object {
            keypoints: &all,
            mask: Some(Mask { polygon: &polygon }),
            corners: Some([[f32::INFINITY, 1.0]; 4]),
            track_id: Some(u64::MAX),
            ..Object::new("名前 \u{1b} long long long long long long long long long", u32::MAX, 0.5, bbox)
        };
        painter.draw(&mut canvas, &surroundings, &[object]);
    }
    draw(&mut Canvas::new(1, 1), &[Object::new("x", 0, 1.0, [0.0, 0.0, 1.0, 1.0])]);
    draw(&mut Canvas::new(0, 0), &[Object::new("x", 0, 1.0, [0.0, 0.0, 1.0, 1.0])]);
}

#[test]
fn masks_are_filled_and_let_the_picture_through() {
    let mut canvas = Canvas::new(200, 200);
    canvas.pixels.fill(100);
    let polygon = [[50.0, 50.0], [150.0, 50.0], [150.0, 150.0], [50.0, 150.0]];
    let bbox = [50.0, 50.0, 150.0, 150.0];
    let object = Object { mask: Some(Mask { polygon: &polygon }), ..Object::new("m", 0, 0.9, bbox) };
    draw(&mut canvas, &[object]);
    let inside = canvas.get(100, 100).unwrap();
    assert!(inside != [100; 3] && inside != color(0), "{inside:?}");
    assert_eq!(canvas.get(170, 100), Some([100; 3]));
}

#[test]
fn an_oriented_box_and_a_pose_are_drawn_where_they_are() {
    let mut canvas = Canvas::new(400, 400);
    let corners = [[200.0, 100.0], [300.0, 200.0], [200.0, 300.0], [100.0, 200.0]];
    let object =
        Object { corners: Some(corners), ..Object::new("ship", 1, 0.9, [100.0, 100.0, 300.0, 300.0]) };
    draw(&mut canvas, &[object]);
    // On its sides, and not on those of the upright box.
    assert_eq!(canvas.get(250, 150), Some(color(1)));
    assert_eq!(canvas.get(100, 300), Some([0; 3]));

    let mut canvas = Canvas::new(640, 480);
    let mut points = [[0.0, 0.0, 0.0]; 17];
    (points[5], points[7], points[6]) = ([100.5, 200.5, 0.9], [100.5, 300.5, 0.9], [200.5, 200.5, 0.1]);
    let object = Object { keypoints: &points, ..Object::new("person", 0, 0.9, [300.0, 300.0, 400.0, 400.0]) };
    draw(&mut canvas, &[object]);
    assert_eq!(canvas.get(100, 250), Some(Side::Left.color()), "left upper arm");
    assert_eq!(canvas.get(100, 200), Some([255; 3]), "left shoulder");
    assert_eq!(canvas.get(150, 200), Some([0; 3]), "the right shoulder is not certain");
    assert_eq!(canvas.get(1, 1), Some([0; 3]), "no point at the origin");
}

#[test]
fn sizes_follow_the_picture() {
    let widths = [(320, 240), (1280, 720), (3840, 2160)].map(|(width, height)| {
        let mut canvas = Canvas::new(width, height);
        let (w, h) = (width as f32, height as f32);
        draw(&mut canvas, &[Object::new("a", 0, 0.9, [w * 0.2, h * 0.2, w * 0.8, h * 0.8])]);
        (0..height).filter(|&y| canvas.get(width / 2, y) == Some(color(0))).count() / 2
    });
    assert_eq!(widths, [1, 3, 8]);
}

#[test]
fn a_trail_follows_its_track_and_ends_with_its_input() {
    let (mut painter, nothing) = (painter(), Surroundings::default());
    let at = |x: f32| Object { track_id: Some(7), ..Object::new("p", 0, 0.9, [x, 20.0, x + 20.0, 100.0]) };
    let mut canvas = Canvas::new(400, 200);
    for step in 0..20 {
        canvas.pixels.fill(0);
        painter.draw(&mut canvas, &nothing, &[at(step as f32 * 15.0)]);
    }
    // Behind the box, at its feet; what is long ago is fainter.
    let brightness = |x| u32::from(canvas.get(x, 99).unwrap()[2]);
    assert!(brightness(250) > 150, "{}", brightness(250));
    assert!(brightness(250) > brightness(60) && brightness(60) > 0);
    painter.begin_input();
    canvas.pixels.fill(0);
    painter.draw(&mut canvas, &nothing, &[at(300.0)]);
    assert_eq!(canvas.get(250, 99), Some([0; 3]));
}

#[test]
fn zones_are_shown_and_private_ones_are_black() {
    let mut canvas = Canvas::new(300, 200);
    canvas.pixels.fill(200);
    let square = |x: f32| {
        let (left, right) = (x / 300.0, (x + 50.0) / 300.0);
        vec![[left, 0.25], [right, 0.25], [right, 0.75], [left, 0.75]]
    };
    let zone = |kind, x| (String::new(), kind, square(x));
    let line = Segment { from: [250.5 / 300.0, 20.5 / 200.0], to: [250.5 / 300.0, 180.5 / 200.0] };
    let surroundings = Surroundings {
        zones: vec![zone(ZoneKind::Include, 10.0), zone(ZoneKind::Ignore, 80.0)],
        lines: vec![(String::new(), line)],
        masks: vec![square(150.0)],
    };
    painter().draw(&mut canvas, &surroundings, &[]);
    let at = |x, y| canvas.get(x, y).unwrap();
    assert_eq!((at(150, 50), at(175, 100), at(199, 149)), ([0; 3], [0; 3], [0; 3]));
    assert_eq!(at(205, 100), [200; 3]);
    assert!(at(100, 100)[0] < 170 && at(100, 100)[0] > 90);
    assert!(at(35, 100)[0] < 190 && at(35, 100)[1] > 190);
    assert_eq!(at(250, 60), [255; 3], "the line");
    // Downwards, its right is the picture's left: there is the arrow.
    assert!(at(243, 100)[0] > 250 && at(257, 100)[0] < 250, "{:?} {:?}", at(243, 100), at(257, 100));
}
