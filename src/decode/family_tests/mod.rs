//! Each family with numbers whose boxes were computed by hand from its published formula.

mod details;
mod finished;
mod grids;

use super::tests::recipe;
use super::*;
use crate::model::{Activation, Background, BoxFormat, BoxOrder, BoxUnit, Extra, ListedOutputs, RowLayout};

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

fn decoder_error(head: &HeadRecipe, input: InputRecipe, labels: usize, outputs: &[Given]) -> String {
    let shapes: Vec<(&str, &[usize])> =
        outputs.iter().map(|given| (given.name, given.shape.as_slice())).collect();
    decoder(head, input, labels).check_outputs(&shapes).expect_err("foreign shapes").to_string()
}

fn logit(score: f32) -> f32 {
    (score / (1.0 - score)).ln()
}

const PIXELS: BoxFormat = BoxFormat { order: BoxOrder::Xyxy, unit: BoxUnit::Pixels };

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
