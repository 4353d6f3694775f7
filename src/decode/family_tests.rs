//! Each family with numbers whose boxes were computed by hand from its published formula.

use super::*;
use crate::model::{
    Activation, Background, BoxFormat, BoxOrder, BoxUnit, ChannelOrder, Extra, Fit, ListedOutputs, RowLayout,
};

fn recipe(width: usize, height: usize) -> InputRecipe {
    InputRecipe {
        width,
        height,
        channels: ChannelOrder::Rgb,
        fit: Fit::LetterboxCentre,
        pad: 114,
        scale: [1.0; 3],
        offset: [0.0; 3],
    }
}

fn limits() -> Limits {
    Limits {
        score_threshold: 0.3,
        iou_threshold: 0.5,
        max_objects: 10,
        max_candidates: 100,
        class_agnostic: false,
    }
}

/// An output with its shape.
#[derive(Clone)]
struct Given {
    name: &'static str,
    shape: Vec<usize>,
    data: Vec<f32>,
}

fn given(name: &'static str, shape: &[usize], data: impl Into<Vec<f32>>) -> Given {
    Given { name, shape: shape.to_vec(), data: data.into() }
}

/// Zeroes but for what is set.
fn sparse(name: &'static str, shape: &[usize], rest: f32, set: &[(&[usize], f32)]) -> Given {
    let mut data = vec![rest; shape.iter().product()];
    for (index, value) in set {
        let at = index.iter().zip(shape).fold(0, |at, (index, size)| {
            assert!(index < size, "{index} {size}");
            at * size + index
        });
        data[at] = *value;
    }
    given(name, shape, data)
}

fn decoder(head: &HeadRecipe, input: InputRecipe, labels: usize) -> Decoder {
    Decoder::new(head, &input, labels, limits())
}

/// Decodes twice: the second time must not see what the first left behind, and no buffer may grow.
fn run(decoder: &mut Decoder, outputs: &[Given]) -> Vec<Detection> {
    let views: Vec<_> = outputs
        .iter()
        .map(|given| TensorView { name: given.name, shape: &given.shape, data: &given.data })
        .collect();
    let before = decoder.buffer_bytes();
    let (mut out, mut again) = (Vec::with_capacity(10), Vec::with_capacity(10));
    decoder.decode(&views, &mut out).expect("the head's shapes");
    decoder.decode(&views, &mut again).expect("the head's shapes");
    assert_eq!(out, again);
    assert_eq!((out.capacity(), decoder.buffer_bytes()), (10, before));
    out
}

#[track_caller]
fn assert_found(found: &[Detection], expected: &[(u32, f32, [f32; 4])]) {
    let near = |a: f32, b: f32| (a - b).abs() < 2e-3;
    let same = found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, (class_id, score, bbox))| {
            found.class_id == *class_id
                && near(found.score, *score)
                && found.bbox.iter().zip(bbox).all(|(&a, &b)| near(a, b))
        });
    assert!(same, "found {found:?}\nexpected {expected:?}");
}

/// Each number NaN, infinite, minus infinite or huge: nothing of it may come out, and nothing panic.
fn survives_nonsense(head: &HeadRecipe, input: InputRecipe, labels: usize, outputs: &[Given]) {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -1e30] {
        for at in 0..outputs.len() {
            let mut outputs = outputs.to_vec();
            outputs[at].data.fill(value);
            let mut decoder = decoder(head, input, labels);
            let found = run(&mut decoder, &outputs);
            for (index, found) in found.iter().enumerate() {
                assert!(found.bbox.iter().all(|side| side.is_finite()), "{found:?}");
                assert!(
                    (0.0..=1.0).contains(&found.score) && (found.class_id as usize) < labels,
                    "{found:?}"
                );
                let detail = decoder.detail(index);
                assert!(detail.keypoints.iter().flatten().all(|number| number.is_finite()), "{detail:?}");
                assert!(detail.outline.iter().flatten().all(|number| number.is_finite()), "{detail:?}");
            }
        }
    }
}

fn logit(score: f32) -> f32 {
    (score / (1.0 - score)).ln()
}

const PIXELS: BoxFormat = BoxFormat { order: BoxOrder::Xyxy, unit: BoxUnit::Pixels };

#[test]
fn yolov5_rows_are_decoded_boxes_and_other_outputs_beside_them_are_left_alone() {
    let rows = [
        [20.0, 30.0, 10.0, 20.0, 0.9, 0.1, 0.8],
        // Objectness times class is below the threshold.
        [60.0, 30.0, 10.0, 20.0, 0.5, 0.5, 0.0],
        [21.0, 30.0, 10.0, 20.0, 0.8, 0.0, 0.8],
        // YOLOv6 has no objectness.
        [80.0, 30.0, 8.0, 4.0, 1.0, 0.6, 0.0],
    ];
    let outputs = [given("output", &[1, 4, 7], rows.concat()), given("345", &[1, 3, 2, 2, 7], vec![0.5; 84])];
    let found = run(&mut decoder(&HeadRecipe::YOLOV5, recipe(96, 64), 2), &outputs);
    assert_found(&found, &[(1, 0.72, [15.0, 20.0, 25.0, 40.0]), (0, 0.6, [76.0, 28.0, 84.0, 32.0])]);
    survives_nonsense(&HeadRecipe::YOLOV5, recipe(96, 64), 2, &outputs);
}

/// q = sigmoid(p): x = (2 q - 0.5 + column) * stride, w = (2 q)^2 * anchor.
#[test]
fn yolov5_grids_are_decoded_in_both_layouts() {
    let anchors = vec![vec![[10.0, 20.0], [30.0, 40.0]], vec![[50.0, 60.0], [70.0, 80.0]]];
    let head = HeadRecipe::Yolov5Grids { strides: vec![8, 16], anchors };
    // 32x16: 4x2 cells on stride 8, 2x1 on stride 16; two labels, so 7 numbers.
    let numbers = [0.0, logit(0.25), logit(0.75), 0.0, logit(0.9), -9.0, logit(0.8)];
    let cell = |anchor: usize, row: usize, column: usize| -> Vec<(Vec<usize>, f32)> {
        numbers.iter().enumerate().map(|(k, &number)| (vec![0, anchor, row, column, k], number)).collect()
    };
    let set = cell(1, 1, 2);
    let set: Vec<(&[usize], f32)> = set.iter().map(|(index, value)| (index.as_slice(), *value)).collect();
    let first = sparse("a", &[1, 2, 2, 4, 7], -20.0, &set);
    let second = sparse("b", &[1, 2, 1, 2, 7], -20.0, &[]);
    // Centre: (2 * 0.5 - 0.5 + 2) * 8 = 20, (2 * 0.25 - 0.5 + 1) * 8 = 8; size: 1.5^2 * 30 = 67.5, 1 * 40.
    let expected = [(1, 0.72, [20.0 - 33.75, 8.0 - 20.0, 20.0 + 33.75, 8.0 + 20.0])];
    let outputs = [second.clone(), first.clone()];
    assert_found(&run(&mut decoder(&head, recipe(32, 16), 2), &outputs), &expected);
    survives_nonsense(&head, recipe(32, 16), 2, &outputs);

    // Straight from the convolution: the anchor's 7 numbers are channels.
    let planes = |given: &Given, rows: usize, columns: usize| {
        let mut data = vec![0.0; given.data.len()];
        for anchor in 0..2 {
            for cell in 0..rows * columns {
                for k in 0..7 {
                    data[(anchor * 7 + k) * rows * columns + cell] =
                        given.data[(anchor * rows * columns + cell) * 7 + k];
                }
            }
        }
        Given { name: given.name, shape: vec![1, 14, rows, columns], data }
    };
    let outputs = [planes(&first, 2, 4), planes(&second, 1, 2)];
    assert_found(&run(&mut decoder(&head, recipe(32, 16), 2), &outputs), &expected);
}

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

fn decoder_error(head: &HeadRecipe, input: InputRecipe, labels: usize, outputs: &[Given]) -> String {
    let shapes: Vec<(&str, &[usize])> =
        outputs.iter().map(|given| (given.name, given.shape.as_slice())).collect();
    decoder(head, input, labels).check_outputs(&shapes).expect_err("foreign shapes").to_string()
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

#[test]
fn finished_rows_are_read_in_each_layout_and_never_suppressed() {
    let cases = [
        (RowLayout::BoxScoreClass, vec![1.0, 2.0, 11.0, 22.0, 0.9, 1.0, 2.0, 2.0, 12.0, 22.0, 0.8, 1.0], 6),
        (
            RowLayout::CentreScoreClass,
            [[6.0 / 64.0, 12.0 / 64.0], [7.0 / 64.0, 12.0 / 64.0]]
                .iter()
                .zip([0.9, 0.8])
                .flat_map(|(&[x, y], score)| [x, y, 10.0 / 64.0, 20.0 / 64.0, score, 1.0])
                .collect(),
            6,
        ),
        (RowLayout::ClassScoreBox, vec![1.0, 0.9, 1.0, 2.0, 11.0, 22.0, 1.0, 0.8, 2.0, 2.0, 12.0, 22.0], 6),
        (
            RowLayout::PictureBoxClassScore,
            vec![0.0, 1.0, 2.0, 11.0, 22.0, 1.0, 0.9, 0.0, 2.0, 2.0, 12.0, 22.0, 1.0, 0.8],
            7,
        ),
    ];
    for (layout, mut data, len) in cases {
        let head = HeadRecipe::EndToEnd { layout, extra: Extra::None };
        // What fills the list up, and classes that there are not.
        data.extend(vec![0.0; len]);
        data.extend(vec![-1.0; len]);
        data.extend(vec![7.0; len]);
        for shape in [vec![1, 5, len], vec![5, len]] {
            let found = run(&mut decoder(&head, recipe(64, 64), 2), &[given("o", &shape, data.clone())]);
            assert_found(&found, &[(1, 0.9, [1.0, 2.0, 11.0, 22.0]), (1, 0.8, [2.0, 2.0, 12.0, 22.0])]);
        }
        // Nothing found at all.
        assert_found(&run(&mut decoder(&head, recipe(64, 64), 2), &[given("o", &[0, len], [])]), &[]);
        survives_nonsense(&head, recipe(64, 64), 2, &[given("o", &[5, len], data.clone())]);
    }
}

#[test]
fn finished_rows_may_have_a_pose_behind_them() {
    let head = HeadRecipe::EndToEnd {
        layout: RowLayout::BoxScoreClass,
        extra: Extra::Keypoints { count: 1, dims: 2 },
    };
    let mut decoder = decoder(&head, recipe(64, 64), 1);
    let found = run(&mut decoder, &[given("o", &[1, 1, 8], [1.0, 2.0, 3.0, 4.0, 0.5, 0.0, 2.0, 3.0])]);
    assert_found(&found, &[(0, 0.5, [1.0, 2.0, 3.0, 4.0])]);
    assert_eq!(decoder.detail(0).keypoints, [[2.0, 3.0, 1.0]]);
}

fn listed(scores: Option<&str>, count: Option<&str>, format: BoxFormat, first_class: u32) -> HeadRecipe {
    let outputs = ListedOutputs {
        boxes: "boxes".to_owned(),
        scores: scores.map(str::to_owned),
        classes: "labels".to_owned(),
        count: count.map(str::to_owned),
    };
    HeadRecipe::Listed { outputs, format, first_class }
}

#[test]
fn listed_boxes_come_in_the_ways_of_their_exporters() {
    // EfficientNMS: as many as the count says, whatever lies behind.
    let head = listed(Some("scores"), Some("num"), PIXELS, 0);
    let outputs = [
        given("num", &[1, 1], [2.0]),
        given("boxes", &[1, 3, 4], [1.0, 2.0, 5.0, 6.0, 1.5, 2.0, 5.0, 6.0, 9.0, 9.0, 12.0, 12.0]),
        given("scores", &[1, 3], [0.9, 0.8, 0.7]),
        given("labels", &[1, 3], [0.0, 0.0, 0.0]),
    ];
    let expected = [(0, 0.9, [1.0, 2.0, 5.0, 6.0]), (0, 0.8, [1.5, 2.0, 5.0, 6.0])];
    assert_found(&run(&mut decoder(&head, recipe(64, 32), 2), &outputs), &expected);
    survives_nonsense(&head, recipe(64, 32), 2, &outputs);

    // torchvision: no batch, labels from 1, as many as were found.
    let head = listed(Some("scores"), None, PIXELS, 1);
    let outputs = [
        given("boxes", &[2, 4], [1.0, 2.0, 5.0, 6.0, 0.0, 0.0, 2.0, 2.0]),
        given("labels", &[2], [2.0, 0.0]),
        given("scores", &[2], [0.9, 0.8]),
    ];
    assert_found(
        &run(&mut decoder(&head, recipe(64, 32), 2), &outputs),
        &expected[..1].iter().map(|e| (1, e.1, e.2)).collect::<Vec<_>>(),
    );
    let none = [given("boxes", &[0, 4], []), given("labels", &[0], []), given("scores", &[0], [])];
    assert_found(&run(&mut decoder(&head, recipe(64, 32), 2), &none), &[]);

    // TensorFlow: top, left, bottom, right of 1.
    let head =
        listed(Some("scores"), None, BoxFormat { order: BoxOrder::Yxyx, unit: BoxUnit::Normalised }, 1);
    let outputs = [
        given("boxes", &[1, 1, 4], [0.25, 0.5, 0.75, 1.0]),
        given("labels", &[1, 1], [1.0]),
        given("scores", &[1, 1], [0.9]),
    ];
    assert_found(
        &run(&mut decoder(&head, recipe(64, 32), 2), &outputs),
        &[(0, 0.9, [32.0, 8.0, 64.0, 24.0])],
    );

    // MMDeploy: the score behind the box.
    let head = listed(None, None, PIXELS, 0);
    let outputs = [
        given("boxes", &[1, 2, 5], [1.0, 2.0, 5.0, 6.0, 0.9, 1.5, 2.0, 5.0, 6.0, 0.8]),
        given("labels", &[1, 2], [0.0, 0.0]),
    ];
    assert_found(&run(&mut decoder(&head, recipe(64, 32), 2), &outputs), &expected);
    survives_nonsense(&head, recipe(64, 32), 2, &outputs);
    let message = decoder_error(&head, recipe(64, 32), 2, &outputs[..1]);
    assert!(message.contains("no output \"labels\"") && message.contains("boxes"), "{message}");
}

#[test]
fn selected_indices_point_at_boxes_and_those_that_point_nowhere_are_left_out() {
    let head = HeadRecipe::Selected {
        boxes: "b".to_owned(),
        scores: "s".to_owned(),
        indices: "i".to_owned(),
        format: BoxFormat { order: BoxOrder::Yxyx, unit: BoxUnit::Pixels },
    };
    let outputs = [
        given("b", &[1, 2, 4], [2.0, 1.0, 6.0, 5.0, 3.0, 7.0, 9.0, 8.0]),
        given("s", &[1, 2, 2], [0.1, 0.9, 0.8, 0.2]),
        given("i", &[4, 3], [0.0, 0.0, 1.0, 0.0, 1.0, 0.0, -1.0, -1.0, -1.0, 0.0, 9.0, 9.0]),
    ];
    let expected = [(0, 0.9, [7.0, 3.0, 8.0, 9.0]), (1, 0.8, [1.0, 2.0, 5.0, 6.0])];
    assert_found(&run(&mut decoder(&head, recipe(64, 32), 2), &outputs), &expected);
    survives_nonsense(&head, recipe(64, 32), 2, &outputs);
}

/// Distances 0..3 in strides: softmax over the bins.
#[test]
fn nanodet_distances_are_expectations_in_every_layout() {
    // 16x8 on strides 8 and 16: 2x1 and 1x1 cells; 3 labels, 4 bins.
    let head = |cell_offset, activation| HeadRecipe::Nanodet {
        strides: vec![8, 16],
        bins: 4,
        cell_offset,
        activation,
    };
    // One bin takes all: distances 1, 0, 2, 3; but the last: bins 1 and 2 alike make 1.5.
    let sides = |cell: &mut [f32]| {
        for (side, bin) in [(0, 1), (1, 0), (2, 2)] {
            cell[side * 4 + bin] = 60.0;
        }
        cell[3 * 4 + 1] = 60.0;
        cell[3 * 4 + 2] = 60.0;
    };
    let mut distances = vec![0.0; 2 * 16];
    sides(&mut distances[16..]);
    let scores = [0.1, 0.2, 0.1, 0.0, 0.3, 0.8];
    let outputs = [
        given("cls1", &[1, 3], [0.1, 0.0, 0.2]),
        given("reg0", &[2, 16], distances.clone()),
        given("cls0", &[2, 3], scores),
        given("reg1", &[1, 16], vec![0.0; 16]),
    ];
    // Grid point (1.5 * 8, 0.5 * 8); left 8, up 0, right 16, down 12.
    let expected = [(2, 0.8, [4.0, 4.0, 28.0, 16.0])];
    let found = run(&mut decoder(&head(0.5, Activation::None), recipe(16, 8), 3), &outputs);
    assert_found(&found, &expected);
    survives_nonsense(&head(0.5, Activation::Softmax), recipe(16, 8), 3, &outputs);
    // NanoDet-Plus: corner of the cell; logits.
    let mut logits = outputs.clone();
    for (given, value) in [(0, -9.0), (2, logit(0.8))] {
        logits[given].data = logits[given].data.iter().map(|&s| if s > 0.7 { value } else { -9.0 }).collect();
    }
    let found = run(&mut decoder(&head(0.0, Activation::Sigmoid), recipe(16, 8), 3), &logits);
    assert_found(&found, &[(2, 0.8, [0.0, 0.0, 24.0, 12.0])]);
    // Planes.
    let planes = |given: &Given, numbers: usize, columns: usize| Given {
        name: given.name,
        shape: vec![1, numbers, 1, columns],
        data: (0..numbers * columns).map(|at| given.data[at % columns * numbers + at / columns]).collect(),
    };
    let as_planes = [
        planes(&outputs[0], 3, 1),
        planes(&outputs[1], 16, 2),
        planes(&outputs[2], 3, 2),
        planes(&outputs[3], 16, 1),
    ];
    let found = run(&mut decoder(&head(0.5, Activation::None), recipe(16, 8), 3), &as_planes);
    assert_found(&found, &expected);
    // Joined, row by row, strides in order.
    let row = |classes: &[f32], sides: &[f32]| [classes, sides].concat();
    let joined = [
        row(&scores[..3], &distances[..16]),
        row(&scores[3..], &distances[16..]),
        row(&outputs[0].data, &outputs[3].data),
    ];
    let joined = [given("output", &[1, 3, 19], joined.concat())];
    let found = run(&mut decoder(&head(0.5, Activation::None), recipe(16, 8), 3), &joined);
    assert_found(&found, &expected);
    survives_nonsense(&head(0.5, Activation::None), recipe(16, 8), 3, &joined);
}

#[test]
fn nanodet_with_as_many_classes_as_distances_goes_by_names() {
    let head =
        HeadRecipe::Nanodet { strides: vec![8], bins: 2, cell_offset: 0.5, activation: Activation::None };
    // Eight classes, four sides of two bins.
    let classes = [0.0, 0.0, 0.0, 0.9, 0.0, 0.0, 0.0, 0.0];
    let sides = [0.0, 60.0].repeat(4);
    for outputs in [
        [given("cls_pred", &[1, 8], classes), given("dis_pred", &[1, 8], sides.clone())],
        [given("dis_pred", &[1, 8], sides.clone()), given("cls_pred", &[1, 8], classes)],
    ] {
        let found = run(&mut decoder(&head, recipe(8, 8), 8), &outputs);
        assert_found(&found, &[(3, 0.9, [-4.0, -4.0, 12.0, 12.0])]);
    }
}

#[test]
fn detr_queries_have_any_number_of_labels_with_a_sigmoid_and_one_with_a_softmax() {
    let format = BoxFormat { order: BoxOrder::Cxcywh, unit: BoxUnit::Normalised };
    let head = |scores: &str, activation, background| HeadRecipe::Detr {
        boxes: "boxes".to_owned(),
        scores: scores.to_owned(),
        format,
        activation,
        background,
    };
    let boxes = given("boxes", &[1, 2, 4], [0.5, 0.5, 0.5, 1.0, 0.25, 0.25, 0.5, 0.5]);
    let logits = given("logits", &[1, 2, 2], [logit(0.9), logit(0.6), logit(0.2), logit(0.7)]);
    let (all, corner) = ([25.0, 0.0, 75.0, 40.0], [0.0, 0.0, 50.0, 20.0]);
    let outputs = [logits, boxes.clone()];
    let sigmoid = head("logits", Activation::Sigmoid, Background::None);
    let found = run(&mut decoder(&sigmoid, recipe(100, 40), 2), &outputs);
    assert_found(&found, &[(0, 0.9, all), (1, 0.7, corner), (1, 0.6, all)]);
    survives_nonsense(&sigmoid, recipe(100, 40), 2, &outputs);

    // Two labels and "no object": the second query sees nothing.
    let logits = given("logits", &[1, 2, 3], [2.0f32.ln(), 6.0f32.ln(), 2.0f32.ln(), 0.0, 0.0, 8.0f32.ln()]);
    let softmax = head("logits", Activation::Softmax, Background::Last);
    let outputs = [logits, boxes];
    assert_found(&run(&mut decoder(&softmax, recipe(100, 40), 2), &outputs), &[(1, 0.6, all)]);
    survives_nonsense(&softmax, recipe(100, 40), 2, &outputs);

    // Ultralytics writes both into one output.
    let joined = head("boxes", Activation::None, Background::None);
    let outputs = [given("boxes", &[1, 1, 6], [0.5, 0.5, 0.5, 1.0, 0.1, 0.8])];
    assert_found(&run(&mut decoder(&joined, recipe(100, 40), 2), &outputs), &[(1, 0.8, all)]);
}

#[test]
fn ssd_scores_leave_the_background_out_and_boxes_that_overlap_are_suppressed() {
    let head = |background, activation, unit| HeadRecipe::Ssd {
        boxes: "boxes".to_owned(),
        scores: "scores".to_owned(),
        format: BoxFormat { order: BoxOrder::Xyxy, unit },
        activation,
        background,
    };
    let boxes = given("boxes", &[1, 3, 4], [0.1, 0.1, 0.5, 0.5, 0.11, 0.1, 0.5, 0.5, 0.6, 0.6, 0.9, 0.9]);
    let scores = given("scores", &[1, 3, 3], [0.1, 0.2, 0.7, 0.2, 0.2, 0.6, 0.55, 0.4, 0.05]);
    let outputs = [scores, boxes.clone()];
    let done = head(Background::First, Activation::None, BoxUnit::Normalised);
    let expected = [(1, 0.7, [10.0, 5.0, 50.0, 25.0]), (0, 0.4, [60.0, 30.0, 90.0, 45.0])];
    assert_found(&run(&mut decoder(&done, recipe(100, 50), 2), &outputs), &expected);
    survives_nonsense(&done, recipe(100, 50), 2, &outputs);
    // The same before the softmax: logarithms of probabilities.
    let mut raw = outputs.clone();
    raw[0].data = raw[0].data.iter().map(|score| score.ln() + 3.0).collect();
    let raw_head = head(Background::First, Activation::Softmax, BoxUnit::Normalised);
    assert_found(&run(&mut decoder(&raw_head, recipe(100, 50), 2), &raw), &expected);
    survives_nonsense(&raw_head, recipe(100, 50), 2, &raw);

    // YOLO-NAS and PP-YOLOE: pixels, no background, scores either way round.
    let head = head(Background::None, Activation::None, BoxUnit::Pixels);
    let boxes = given("boxes", &[1, 3, 4], boxes.data.iter().map(|side| side * 100.0).collect::<Vec<_>>());
    let expected = [(1, 0.7, [10.0, 10.0, 50.0, 50.0]), (0, 0.4, [60.0, 60.0, 90.0, 90.0])];
    for scores in [
        given("scores", &[1, 3, 2], [0.2, 0.7, 0.2, 0.6, 0.4, 0.05]),
        given("scores", &[1, 2, 3], [0.2, 0.2, 0.4, 0.7, 0.6, 0.05]),
    ] {
        let found = run(&mut decoder(&head, recipe(100, 100), 2), &[boxes.clone(), scores]);
        assert_found(&found, &expected);
    }
}

#[test]
fn classifiers_tell_their_best_labels_of_the_whole_picture() {
    let whole = [0.0, 0.0, 64.0, 32.0];
    let done = HeadRecipe::Classify { activation: Activation::None };
    let outputs = [given("output0", &[1, 3], [0.35, 0.6, 0.05])];
    assert_found(
        &run(&mut decoder(&done, recipe(64, 32), 3), &outputs),
        &[(1, 0.6, whole), (0, 0.35, whole)],
    );
    let raw = HeadRecipe::Classify { activation: Activation::Softmax };
    let outputs = [given("output0", &[1, 3, 1, 1], [2.0f32.ln(), 6.0f32.ln(), 2.0f32.ln()])];
    assert_found(&run(&mut decoder(&raw, recipe(64, 32), 3), &outputs), &[(1, 0.6, whole)]);
    survives_nonsense(&raw, recipe(64, 32), 3, &outputs);
    // No more than the best few, however low the threshold.
    let mut decoder = Decoder::new(&done, &recipe(64, 32), 100, Limits { score_threshold: 0.0, ..limits() });
    let found = run(&mut decoder, &[given("output0", &[1, 100], vec![0.01; 100])]);
    assert_eq!(found.len(), 5);
}

#[test]
fn impossible_recipes_and_foreign_shapes_are_told_in_words() {
    let shape = |shape: &[usize]| [given("out", shape, [])];
    let nanodet = |bins, strides: &[usize]| HeadRecipe::Nanodet {
        strides: strides.to_vec(),
        bins,
        cell_offset: 0.5,
        activation: Activation::None,
    };
    let grids = |strides: &[usize], anchors| HeadRecipe::Yolov5Grids { strides: strides.to_vec(), anchors };
    let ssd = HeadRecipe::Ssd {
        boxes: "out".to_owned(),
        scores: "out".to_owned(),
        format: PIXELS,
        activation: Activation::None,
        background: Background::None,
    };
    for (head, labels, output, words) in [
        (HeadRecipe::YOLOV5, 0, vec![1, 9, 85], "no labels"),
        (HeadRecipe::YOLOV5, 80, vec![1, 9, 86], "81 labels"),
        (HeadRecipe::YOLOV5, 80, vec![1, 85, 9], "transposed"),
        (nanodet(8, &[]), 80, vec![1, 2125, 112], "strides"),
        (nanodet(1, &[8]), 80, vec![1, 2125, 112], "bins"),
        (nanodet(8, &[8, 16, 32]), 80, vec![1, 2125, 112], "[1, 2100, 112]"),
        (grids(&[8], vec![]), 80, vec![1, 3, 40, 40, 85], "anchors"),
        (grids(&[8], vec![vec![[1.0, 1.0]]]), 80, vec![1, 3, 40, 40, 85], "[1, 1, 40, 40, 85]"),
        (ssd, 80, vec![1, 100, 5], "[1, N, 4]"),
        (
            HeadRecipe::EndToEnd { layout: RowLayout::BoxScoreClass, extra: Extra::None },
            80,
            vec![1, 300, 7],
            "[1, N, 6]",
        ),
        (HeadRecipe::Classify { activation: Activation::None }, 80, vec![1, 1000], "1000 labels"),
        (HeadRecipe::YOLOV8, 80, vec![1, 300, 6], "NMS"),
    ] {
        let message = decoder_error(&head, recipe(320, 320), labels, &shape(&output));
        assert!(message.contains(words), "{words:?} is not in {message:?}");
    }
    let many: Vec<(&str, &[usize])> = vec![("x", &[1, 84, 8400]); 65];
    let message =
        decoder(&HeadRecipe::YOLOV8, recipe(640, 640), 80).check_outputs(&many).expect_err("65").to_string();
    assert!(message.contains("65 outputs"), "{message}");
}
