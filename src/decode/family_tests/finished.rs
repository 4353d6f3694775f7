//! Boxes that are finished in the model, or nearly: end-to-end rows, lists, indices, queries, SSD.

use super::*;

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
