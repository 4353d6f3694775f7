//! Hand-made tensors with known answers, and a naive decoder to compare with.

use super::*;
use crate::model::{ChannelOrder, Fit};
use proptest::prelude::*;

pub(super) fn recipe(width: usize, height: usize) -> InputRecipe {
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

fn yolox() -> HeadRecipe {
    HeadRecipe::Yolox { strides: vec![8, 16, 32] }
}

fn limits() -> Limits {
    Limits {
        score_threshold: 0.5,
        iou_threshold: 0.5,
        max_objects: 10,
        max_candidates: 100,
        class_agnostic: false,
    }
}

fn decode(decoder: &mut Decoder, shape: &[usize], data: &[f32]) -> Vec<Detection> {
    let mut out = Vec::new();
    let view = TensorView { name: "output", shape, data };
    decoder.decode(&[view], &mut out).expect("the head's shape");
    out
}

/// A 32x32 input has 16 + 4 + 1 boxes; two labels.
const YOLOX_SHAPE: [usize; 3] = [1, 21, 7];

fn yolox_decode(rows: &[(usize, [f32; 7])], limits: Limits) -> Vec<Detection> {
    let mut data = vec![0.0; 21 * 7];
    for (anchor, row) in rows {
        data[anchor * 7..][..7].copy_from_slice(row);
    }
    decode(&mut Decoder::new(&yolox(), &recipe(32, 32), 2, limits), &YOLOX_SHAPE, &data)
}

/// `[1, 4 + labels, N]` from boxes `cx cy w h` and their scores.
fn yolov8_data(label_count: usize, boxes: &[([f32; 4], Vec<f32>)]) -> (Vec<usize>, Vec<f32>) {
    let mut data = vec![0.0; (4 + label_count) * boxes.len()];
    for (column, (bbox, scores)) in boxes.iter().enumerate() {
        for (row, &value) in bbox.iter().chain(scores).enumerate() {
            data[row * boxes.len() + column] = value;
        }
    }
    (vec![1, 4 + label_count, boxes.len()], data)
}

fn yolov8_decode(label_count: usize, boxes: &[([f32; 4], Vec<f32>)], limits: Limits) -> Vec<Detection> {
    let (shape, data) = yolov8_data(label_count, boxes);
    let mut decoder = Decoder::new(&HeadRecipe::YOLOV8, &recipe(64, 64), label_count, limits);
    decode(&mut decoder, &shape, &data)
}

fn near(got: [f32; 4], expected: [f32; 4]) -> bool {
    got.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 1e-4)
}

#[test]
fn yolox_boxes_lie_on_their_grids() {
    let found = yolox_decode(
        &[
            // Stride 8, column 1, row 1: centre (12, 10), 16 by 24.
            (5, [0.5, 0.25, 2f32.ln(), 3f32.ln(), 0.9, 0.1, 0.8]),
            // Stride 16, column 0, row 1: centre (4, 24), 16 by 16.
            (18, [0.25, 0.5, 0.0, 0.0, 1.0, 0.9, 0.3]),
            // Stride 32, the only one: centre (16, 16), 64 by 32.
            (20, [0.5, 0.5, 2f32.ln(), 0.0, 1.0, 0.6, 0.2]),
        ],
        limits(),
    );
    assert_eq!(found.len(), 3);
    assert_eq!([found[0].class_id, found[1].class_id, found[2].class_id], [0, 1, 0]);
    assert!((found[0].score - 0.9).abs() < 1e-6 && (found[1].score - 0.72).abs() < 1e-6);
    assert!(near(found[0].bbox, [-4.0, 16.0, 12.0, 32.0]), "{:?}", found[0]);
    assert!(near(found[1].bbox, [4.0, -2.0, 20.0, 22.0]), "{:?}", found[1]);
    assert!(near(found[2].bbox, [-16.0, 0.0, 48.0, 32.0]), "{:?}", found[2]);
}

#[test]
fn yolox_grids_of_an_oblong_input_go_row_by_row() {
    let mut decoder = Decoder::new(&yolox(), &recipe(64, 32), 1, limits());
    let mut data = vec![0.0; 42 * 6];
    // Stride 16 begins at 32 and has 4 columns: 32 + 4 + 3 is column 3, row 1.
    data[39 * 6..][..6].copy_from_slice(&[0.0, 0.0, 0.0, 0.0, 1.0, 1.0]);
    let found = decode(&mut decoder, &[1, 42, 6], &data);
    assert_eq!(found.len(), 1);
    assert!(near(found[0].bbox, [40.0, 8.0, 56.0, 24.0]), "{:?}", found[0]);
}

#[test]
fn yolov8_boxes_are_centre_and_size() {
    let found = yolov8_decode(
        3,
        &[([10.0, 20.0, 4.0, 6.0], vec![0.1, 0.2, 0.7]), ([50.0, 50.0, 10.0, 10.0], vec![0.95, 0.2, 0.7])],
        limits(),
    );
    let expected = [
        Detection { class_id: 0, score: 0.95, bbox: [45.0, 45.0, 55.0, 55.0] },
        Detection { class_id: 2, score: 0.7, bbox: [8.0, 17.0, 12.0, 23.0] },
    ];
    assert_eq!(found, expected);
}

#[test]
fn scores_at_the_threshold_pass_and_those_above_one_count_as_one() {
    let bbox = |x: f32| [x, 10.0, 4.0, 4.0];
    let boxes = [(bbox(5.0), vec![0.5]), (bbox(15.0), vec![0.499_999]), (bbox(25.0), vec![1.001])];
    let scores: Vec<_> = yolov8_decode(1, &boxes, limits()).iter().map(|found| found.score).collect();
    assert_eq!(scores, [1.0, 0.5]);
    // Objectness and class together decide.
    let rows = [(0, [0.0, 0.0, 0.0, 0.0, 0.7, 0.7, 0.0]), (3, [0.0, 0.0, 0.0, 0.0, 0.8, 0.7, 0.0])];
    let found = yolox_decode(&rows, limits());
    assert_eq!(found.len(), 1);
    assert!(near(found[0].bbox, [20.0, -4.0, 28.0, 4.0]));
}

#[test]
fn overlapping_boxes_of_one_class_are_one_object() {
    // IoU of the first two is 8 / 12; of the first and third 0.
    let boxes = [
        ([10.0, 10.0, 10.0, 10.0], vec![0.8, 0.0]),
        ([12.0, 10.0, 10.0, 10.0], vec![0.9, 0.0]),
        ([30.0, 10.0, 10.0, 10.0], vec![0.7, 0.0]),
        ([10.0, 10.0, 10.0, 10.0], vec![0.0, 0.6]),
    ];
    let scores =
        |limits| -> Vec<f32> { yolov8_decode(2, &boxes, limits).iter().map(|found| found.score).collect() };
    assert_eq!(scores(limits()), [0.9, 0.7, 0.6]);
    assert_eq!(scores(Limits { class_agnostic: true, ..limits() }), [0.9, 0.7]);
    // Not above the threshold: both stay.
    assert_eq!(scores(Limits { iou_threshold: 0.667, ..limits() }), [0.9, 0.8, 0.7, 0.6]);
    assert_eq!(scores(Limits { max_objects: 2, ..limits() }), [0.9, 0.7]);
}

#[test]
fn what_is_not_a_number_or_not_a_box_is_no_detection() {
    let good = ([10.0, 10.0, 4.0, 4.0], vec![0.9, 0.1]);
    let strange = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -f32::NAN];
    let mut boxes = vec![good.clone()];
    for value in strange {
        boxes.extend((0..4).map(|index| {
            let mut bbox = good.0;
            bbox[index] = value;
            (bbox, vec![0.9, 0.1])
        }));
        if value != f32::NEG_INFINITY && !value.is_nan() {
            boxes.push(([50.0, 50.0, 4.0, 4.0], vec![value, 0.1]));
        }
        boxes.push(([50.0, 50.0, 4.0, 4.0], vec![value, value]));
    }
    boxes.extend(
        [[20.0, 20.0, 0.0, 5.0], [20.0, 20.0, 5.0, -1.0], [f32::MAX; 4]].map(|bbox| (bbox, vec![0.9, 0.0])),
    );
    let found = yolov8_decode(2, &boxes, limits());
    assert_eq!(found, [Detection { class_id: 0, score: 0.9, bbox: [8.0, 8.0, 12.0, 12.0] }]);
    // One label that is not a number does not hide another that is.
    let half = yolov8_decode(2, &[(good.0, vec![f32::NAN, 0.9])], limits());
    assert_eq!((half.len(), half[0].class_id), (1, 1));

    for value in strange {
        for index in 0..7 {
            let mut row = [0.0, 0.0, 0.0, 0.0, 0.9, 0.9, 0.9];
            row[index] = value;
            let found = yolox_decode(&[(2, row)], limits());
            assert!(found.iter().all(|found| found.bbox.iter().all(|value| value.is_finite())), "{found:?}");
            assert!(found.iter().all(|found| found.score <= 1.0));
            assert!(index > 4 || found.is_empty(), "{index} {value}: {found:?}");
        }
    }
    // exp overflows.
    assert_eq!(yolox_decode(&[(2, [0.0, 0.0, 200.0, 0.0, 0.9, 0.9, 0.9])], limits()), []);
}

#[test]
fn limits_of_nothing_and_of_everything_are_fine() {
    let boxes = [([10.0, 10.0, 4.0, 4.0], vec![0.9])];
    for limits in [Limits { max_objects: 0, ..limits() }, Limits { max_candidates: 0, ..limits() }] {
        assert_eq!(yolov8_decode(1, &boxes, limits), []);
    }
    let all = Limits { max_objects: usize::MAX, max_candidates: usize::MAX, ..limits() };
    assert_eq!(yolov8_decode(1, &boxes, all).len(), 1);
    assert_eq!(yolov8_decode(1, &boxes, Limits { score_threshold: f32::NAN, ..limits() }), []);
}

#[test]
fn a_million_candidates_cost_no_more_memory_than_none() {
    let box_count = 1_000_000;
    let mut data = vec![4.0; 5 * box_count];
    for column in 0..box_count {
        // 997 is prime to a million: every score once, in disorder. Boxes apart from each other.
        data[column] = 5.0 * column as f32;
        data[4 * box_count + column] = 0.5 + (column * 997 % box_count) as f32 / (2 * box_count) as f32;
    }
    let limits = Limits { score_threshold: 0.25, max_objects: 50, max_candidates: 80, ..limits() };
    let mut decoder = Decoder::new(&HeadRecipe::YOLOV8, &recipe(64, 64), 1, limits);
    let before = decoder.buffer_bytes();
    let mut out = Vec::with_capacity(limits.max_objects);
    let shape = [1, 5, box_count];
    let view = TensorView { name: "output", shape: &shape, data: &data };
    decoder.decode(&[view], &mut out).expect("the head's shape");
    assert_eq!((out.len(), out.capacity(), decoder.buffer_bytes()), (50, 50, before));
    let mut scores = data[4 * box_count..].to_vec();
    scores.sort_unstable_by(|a, b| b.total_cmp(a));
    let found: Vec<_> = out.iter().map(|found| found.score).collect();
    assert_eq!(found, scores[..50]);
}

#[test]
fn foreign_shapes_are_told_in_words() {
    let yolox = Decoder::new(&yolox(), &recipe(416, 416), 80, limits());
    let yolov8 = Decoder::new(&HeadRecipe::YOLOV8, &recipe(640, 640), 80, limits());
    assert_eq!(yolox.check_outputs(&[("output", &[1, 3549, 85])]), Ok(()));
    assert_eq!(yolov8.check_outputs(&[("output0", &[1, 84, 8400])]), Ok(()));
    let told = |decoder: &Decoder, shape: &[usize]| {
        decoder.check_outputs(&[("out", shape)]).expect_err("a foreign shape").to_string()
    };
    let cases = [
        (told(&yolox, &[1, 8400, 85]), vec!["8400", "3549", "416x416", "[8, 16, 32]"]),
        (told(&yolox, &[1, 3549, 6]), vec!["[1, 3549, 85]", "[1, 3549, 6]", "1 labels", "80"]),
        (told(&yolox, &[85]), vec!["[1, 3549, 85]", "[85]"]),
        (told(&yolov8, &[1, 8400, 84]), vec!["[1, 84, N]", "transposed"]),
        (told(&yolov8, &[1, 300, 6]), vec!["NMS", "nms=False"]),
        (told(&yolov8, &[1, 56, 8400]), vec!["[1, 84, N]", "52 labels", "pose"]),
        (told(&yolov8, &[4, 84, 8400]), vec!["batch size 1"]),
        (told(&yolov8, &[1, 84, 0]), vec!["[1, 84, 0]"]),
    ];
    for (message, parts) in cases {
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
    }
    // What some exporters leave beside the output does no harm; two that could be it do.
    assert_eq!(yolov8.check_outputs(&[("a", &[1, 84, 8400]), ("b", &[1])]), Ok(()));
    for second in [&[1, 84, 2100][..], &[1]] {
        let first: &[usize] = if second.len() == 1 { &[1, 83, 8400] } else { &[1, 84, 8400] };
        let message =
            yolov8.check_outputs(&[("a", first), ("b", second)]).expect_err("two outputs").to_string();
        assert!(message.contains("2 outputs (a, b)"), "{message}");
    }
    assert!(yolox.check_outputs(&[]).is_err());
}

#[test]
fn manifests_that_cannot_be_are_told() {
    let told = |strides: &[usize], size: usize, label_count: usize| {
        let head = HeadRecipe::Yolox { strides: strides.to_vec() };
        let decoder = Decoder::new(&head, &recipe(size, size), label_count, limits());
        decoder.check_outputs(&[("out", &[1, 0, 5])]).expect_err("an impossible manifest").to_string()
    };
    assert!(told(&[8, 16, 32], 415, 80).contains("stride 8 does not divide the 415x415 input"));
    assert!(told(&[8, 0], 416, 80).contains("stride 0"));
    assert!(told(&[], 416, 80).contains("no strides"));
    assert!(told(&[8], 416, 0).contains("no labels"));
    let decoder = Decoder::new(&HeadRecipe::YOLOV8, &recipe(64, 64), 0, limits());
    assert!(decoder.check_outputs(&[("out", &[1, 4, 9])]).is_err());
}

#[test]
fn an_output_shorter_than_its_shape_is_an_error() {
    let mut decoder = Decoder::new(&yolox(), &recipe(32, 32), 2, limits());
    let mut out = vec![Detection { class_id: 0, score: 1.0, bbox: [0.0; 4] }];
    let view = TensorView { name: "out", shape: &YOLOX_SHAPE, data: &[0.0; 146] };
    let message = decoder.decode(&[view], &mut out).expect_err("146 of 147 values").to_string();
    assert!(message.contains("146") && message.contains("147"), "{message}");
    assert_eq!(out, []);
    assert!(decoder.decode(&[], &mut out).is_err());
    assert!(decoder.decode(&[view, view], &mut out).is_err());
}

#[test]
fn heads_longer_than_a_block_decode_as_the_naive_decoder() {
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    for (label_count, box_count) in [(1, 2047), (3, 2048), (4, 2049), (6, 5000), (80, 4100)] {
        let boxes: Vec<_> = std::iter::repeat_with(|| {
            let bbox = [random() * 600.0, random() * 600.0, 5.0 + random() * 50.0, 5.0 + random() * 50.0];
            (bbox, std::iter::repeat_with(&mut random).take(label_count).collect())
        })
        .take(box_count)
        .collect();
        let limits = Limits { max_objects: 300, max_candidates: 1000, ..limits() };
        assert_eq!(yolov8_decode(label_count, &boxes, limits), naive(label_count, &boxes, &limits));
    }
}

fn iou(a: [f32; 4], b: [f32; 4]) -> f64 {
    let [a, b] = [a, b].map(|bbox| bbox.map(f64::from));
    let area = |bbox: [f64; 4]| (bbox[2] - bbox[0]) * (bbox[3] - bbox[1]);
    let width = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
    let height = (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
    width * height / (area(a) + area(b) - width * height)
}

/// The same answer the long way: everything sorted, every pair compared.
fn naive(label_count: usize, boxes: &[([f32; 4], Vec<f32>)], limits: &Limits) -> Vec<Detection> {
    let mut candidates = Vec::new();
    for &([x, y, width, height], ref scores) in boxes {
        let numbers = scores.iter().enumerate().take(label_count).filter(|(_, score)| !score.is_nan());
        let best = numbers.fold(None, |best: Option<(usize, f32)>, (class, &score)| match best {
            Some((_, best_score)) if best_score >= score => best,
            _ => Some((class, score)),
        });
        let Some((class, score)) = best else { continue };
        if score.is_finite() && score >= limits.score_threshold {
            let bbox = [x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0];
            // -0.0 and 0.0 are the same score; `total_cmp` below would tell them apart.
            candidates.push(Detection { class_id: class as u32, score: score.min(1.0) + 0.0, bbox });
        }
    }
    // Stable: equals stay in the order of their anchors.
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
    candidates.truncate(limits.max_candidates);
    let mut kept: Vec<Detection> = Vec::new();
    for candidate in candidates {
        let [x1, y1, x2, y2] = candidate.bbox;
        let is_box = candidate.bbox.iter().all(|value| value.is_finite()) && x2 > x1 && y2 > y1;
        let covered = kept.iter().any(|other| {
            (limits.class_agnostic || other.class_id == candidate.class_id)
                && iou(other.bbox, candidate.bbox) > f64::from(limits.iou_threshold)
        });
        if is_box && !covered && kept.len() < limits.max_objects {
            kept.push(candidate);
        }
    }
    kept
}

/// Whole numbers below 64, so that single and double precision agree about every IoU.
fn any_box() -> impl Strategy<Value = [f32; 4]> {
    let side = || prop_oneof![20 => (1u8..20).prop_map(f32::from), 1 => Just(0.0), 1 => Just(f32::NAN)];
    let place = || prop_oneof![30 => (0u8..64).prop_map(f32::from), 1 => Just(f32::INFINITY)];
    (place(), place(), side(), side()).prop_map(|(x, y, width, height)| [x, y, width, height])
}

/// Few different values, so that there are ties.
fn any_score() -> impl Strategy<Value = f32> {
    prop_oneof![
        30 => (0u8..17).prop_map(|score| f32::from(score) / 16.0),
        1 => Just(f32::NAN),
        1 => Just(f32::INFINITY),
        1 => Just(-0.0),
    ]
}

fn any_limits() -> impl Strategy<Value = Limits> {
    // Thresholds that no IoU of small whole numbers hits exactly.
    let iou_threshold = prop::sample::select(vec![0.0, 0.301, 0.4503, 0.7007, 1.0]);
    (0u8..16, iou_threshold, 0usize..40, 0usize..60, any::<bool>()).prop_map(
        |(score, iou_threshold, max_objects, max_candidates, class_agnostic)| Limits {
            score_threshold: f32::from(score) / 16.0,
            iou_threshold,
            max_objects,
            max_candidates,
            class_agnostic,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn yolov8_decodes_as_the_naive_decoder(
        label_count in 1usize..7,
        boxes in prop::collection::vec((any_box(), prop::collection::vec(any_score(), 7)), 1..200),
        limits in any_limits(),
    ) {
        let boxes: Vec<_> = boxes.into_iter().map(|(bbox, scores)| (bbox, scores[..label_count].to_vec())).collect();
        let (shape, data) = yolov8_data(label_count, &boxes);
        let mut decoder = Decoder::new(&HeadRecipe::YOLOV8, &recipe(64, 64), label_count, limits);
        let before = decoder.buffer_bytes();
        let expected = naive(label_count, &boxes, &limits);
        // Twice: the second time must not see what the first left behind.
        for _ in 0..2 {
            prop_assert_eq!(&decode(&mut decoder, &shape, &data), &expected);
        }
        prop_assert_eq!(decoder.buffer_bytes(), before);
    }

    /// Whatever the numbers are, also for the grids of YOLOX.
    #[test]
    fn detections_are_sorted_bounded_apart_and_finite(
        data in prop::collection::vec(prop_oneof![9 => -2f32..2.0, 1 => any::<f32>()], 21 * 7),
        limits in any_limits(),
    ) {
        let mut decoder = Decoder::new(&yolox(), &recipe(32, 32), 2, limits);
        let found = decode(&mut decoder, &YOLOX_SHAPE, &data);
        prop_assert!(found.len() <= limits.max_objects.min(limits.max_candidates));
        prop_assert!(found.windows(2).all(|pair| pair[0].score >= pair[1].score));
        for (index, one) in found.iter().enumerate() {
            prop_assert!((0.0..=1.0).contains(&one.score) && one.score >= limits.score_threshold);
            prop_assert!(one.class_id < 2);
            prop_assert!(one.bbox.iter().all(|value| value.is_finite()));
            prop_assert!(one.bbox[2] > one.bbox[0] && one.bbox[3] > one.bbox[1]);
            for other in &found[..index] {
                let compared = limits.class_agnostic || other.class_id == one.class_id;
                // Single precision in the decoder.
                prop_assert!(!compared || iou(one.bbox, other.bbox) <= f64::from(limits.iou_threshold) + 1e-5);
            }
        }
    }
}
