//! Heads over grids: YOLOv5 with its anchors, NanoDet with its distances.

use super::*;

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
