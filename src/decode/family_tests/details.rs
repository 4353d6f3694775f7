//! What goes with boxes: poses, outlines, angles.

use super::*;

#[test]
fn pose_models_tell_the_points_of_those_that_stay() {
    let head = HeadRecipe::Yolov8 { extra: Extra::Keypoints { count: 2, dims: 3 } };
    // Columns: a person, the same one less surely, another one.
    let rows: [[f32; 3]; 11] = [
        [20.0, 21.0, 70.0],
        [20.0, 20.0, 40.0],
        [10.0, 10.0, 20.0],
        [20.0, 20.0, 30.0],
        [0.9, 0.8, 0.6],
        [18.0, 0.0, 66.0],
        [12.0, 0.0, 33.0],
        [0.75, 0.0, 0.25],
        [22.0, 0.0, 77.0],
        [28.0, 0.0, 44.0],
        [1.5, 0.0, f32::NAN],
    ];
    let mut decoder = decoder(&head, recipe(96, 64), 1);
    let found = run(&mut decoder, &[given("output0", &[1, 11, 3], rows.concat())]);
    assert_found(&found, &[(0, 0.9, [15.0, 10.0, 25.0, 30.0]), (0, 0.6, [60.0, 25.0, 80.0, 55.0])]);
    assert_eq!(decoder.detail(0).keypoints, [[18.0, 12.0, 0.75], [22.0, 28.0, 1.0]]);
    // A point that is no number was not seen.
    assert_eq!(decoder.detail(1).keypoints, [[66.0, 33.0, 0.25], [0.0; 3]]);
    assert_eq!(decoder.detail(2), Detail::default());
    survives_nonsense(&head, recipe(96, 64), 1, &[given("output0", &[1, 11, 3], rows.concat())]);
}

#[test]
fn segmentation_models_tell_the_outline_within_the_box() {
    let extra = Extra::Mask { coefficients: 2 };
    let columns: [[f32; 2]; 7] =
        [[32.0, 90.0], [32.0, 32.0], [48.0, 8.0], [48.0, 8.0], [0.9, 0.8], [1.0, -1.0], [0.5, 0.0]];
    outline_within_the_box(&HeadRecipe::Yolov8 { extra }, given("output0", &[1, 7, 2], columns.concat()));
    // The same in rows, with the objectness.
    let row = |at: usize| {
        let [x, y, width, height, score, rest @ ..] = columns.map(|column| column[at]);
        [&[x, y, width, height, 1.0, score], &rest[..]].concat()
    };
    outline_within_the_box(
        &HeadRecipe::Yolov5 { extra },
        given("output0", &[1, 2, 8], [row(0), row(1)].concat()),
    );
}

fn outline_within_the_box(head: &HeadRecipe, rows: Given) {
    // 24x16 prototypes of a 96x64 input. The first is 1 left of x = 32 and -1 right of it, the second is nothing.
    let prototype: Vec<f32> = (0..24 * 16).map(|at| if at % 24 < 8 { 1.0 } else { -1.0 }).collect();
    let prototypes = given("output1", &[1, 2, 16, 24], [prototype, vec![0.0; 24 * 16]].concat());
    let outputs = [rows, prototypes];
    let mut decoder = decoder(head, recipe(96, 64), 1);
    let found = run(&mut decoder, &outputs);
    assert_found(&found, &[(0, 0.9, [8.0, 8.0, 56.0, 56.0]), (0, 0.8, [86.0, 28.0, 94.0, 36.0])]);
    let outline = decoder.detail(0).outline;
    let (x, y): (Vec<f32>, Vec<f32>) = outline.iter().map(|point| (point[0], point[1])).unzip();
    let least = |values: &[f32]| values.iter().copied().fold(f32::INFINITY, f32::min);
    let most = |values: &[f32]| values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    assert_eq!([least(&x), least(&y), most(&x), most(&y)], [8.0, 8.0, 32.0, 56.0], "{outline:?}");
    // The second is where the sum, of the opposite sign, is positive: its whole box.
    let second = decoder.detail(1).outline;
    assert!(second.len() >= 4 && second.iter().all(|point| (86.0..=94.0).contains(&point[0])), "{second:?}");
    survives_nonsense(head, recipe(96, 64), 1, &outputs);
    let message = decoder_error(head, recipe(96, 64), 1, &outputs[..1]);
    assert!(message.contains("prototypes [1, 2, height, width]"), "{message}");
}

#[test]
fn oriented_boxes_are_enclosed_and_only_the_same_ones_suppress_each_other() {
    let head = HeadRecipe::Yolov8 { extra: Extra::Angle };
    let quarter = std::f32::consts::FRAC_PI_4;
    // A long thin box at 45°, the same a little off, and one that crosses it: their upright enclosures are one square.
    let rows: [[f32; 3]; 6] =
        [[50.0, 51.0, 50.0], [50.0; 3], [40.0; 3], [4.0; 3], [0.9, 0.8, 0.7], [quarter, quarter, -quarter]];
    let mut decoder = decoder(&head, recipe(96, 96), 1);
    let outputs = [given("output0", &[1, 6, 3], rows.concat())];
    let found = run(&mut decoder, &outputs);
    let half = (20.0 + 2.0) * quarter.cos();
    let square = [50.0 - half, 50.0 - half, 50.0 + half, 50.0 + half];
    assert_found(&found, &[(0, 0.9, square), (0, 0.7, square)]);
    let rotated = |index| decoder.detail(index).rotated.expect("an oriented box");
    assert_eq!((rotated(0).angle, rotated(1).angle), (quarter, -quarter));
    assert_eq!((rotated(0).width, rotated(0).height), (40.0, 4.0));
    survives_nonsense(&head, recipe(96, 96), 1, &outputs);
}

/// Squares of side 12, 3 apart: by the formula (`rotated.rs`) neighbours are 0.70 alike, the first and the third 0.44.
#[test]
fn an_oriented_box_goes_for_any_better_one_also_for_one_that_went_itself() {
    let head = HeadRecipe::Yolov8 { extra: Extra::Angle };
    let rows: [[f32; 3]; 6] =
        [[40.0, 43.0, 46.0], [50.0; 3], [12.0; 3], [12.0; 3], [0.9, 0.8, 0.7], [0.0; 3]];
    let found = run(&mut decoder(&head, recipe(96, 96), 1), &[given("output0", &[1, 6, 3], rows.concat())]);
    assert_found(&found, &[(0, 0.9, [34.0, 44.0, 46.0, 56.0])]);
}
