//! ONNX's NonMaxSuppression, as its specification says it.
//!
//! Source: ONNX `docs/Operators.md`, NonMaxSuppression (opset 11), and what ONNX Runtime makes of what it leaves open. For each
//! picture and each class, boxes whose score is above the threshold are taken best first (of equals the first) unless
//! they overlap one already taken of that class by more than the threshold (intersection over union), at most so many a
//! class. Boxes are two opposite corners in any order, or centre and size.
//!
//! The library's own operator divides by the box around both instead of by their union, gives each box its best class
//! only, and lets classes suppress each other.

/// What an operator is given besides boxes and scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Settings {
    /// Of each class and picture.
    pub max_boxes_per_class: usize,
    pub iou_threshold: f32,
    /// Scores must be above it; `None` where all count.
    pub score_threshold: Option<f32>,
    /// Boxes are centre and size.
    pub is_centre_and_size: bool,
}

/// A box as two corners, the first one above and to the left.
fn corners(numbers: &[f32], is_centre_and_size: bool) -> [f32; 4] {
    let [a, b, c, d] = [numbers[0], numbers[1], numbers[2], numbers[3]];
    if is_centre_and_size {
        return [a - c / 2.0, b - d / 2.0, a + c / 2.0, b + d / 2.0];
    }
    [a.min(c), b.min(d), a.max(c), b.max(d)]
}

fn area([x1, y1, x2, y2]: [f32; 4]) -> f32 {
    (x2 - x1) * (y2 - y1)
}

fn overlaps(a: [f32; 4], b: [f32; 4], iou_threshold: f32) -> bool {
    let (width, height) = (a[2].min(b[2]) - a[0].max(b[0]), a[3].min(b[3]) - a[1].max(b[1]));
    if width <= 0.0 || height <= 0.0 {
        return false;
    }
    let (common, one, other) = (width * height, area(a), area(b));
    one > 0.0 && other > 0.0 && common / (one + other - common) > iou_threshold
}

/// The rows `picture, class, box` that are selected. `boxes` is `[pictures, box_count, 4]`, `scores` is `[pictures, classes,
/// box_count]`.
pub(crate) fn select(
    boxes: &[f32],
    scores: &[f32],
    (classes, box_count): (usize, usize),
    settings: Settings,
) -> Vec<i32> {
    let mut rows = Vec::new();
    if classes == 0 || box_count == 0 {
        return rows;
    }
    let pictures = boxes.chunks_exact(4 * box_count).zip(scores.chunks_exact(classes * box_count));
    for (picture, (boxes, scores)) in pictures.enumerate() {
        for (class, scores) in scores.chunks_exact(box_count).enumerate() {
            let passes = |&index: &usize| settings.score_threshold.is_none_or(|least| scores[index] > least);
            let mut order: Vec<usize> = (0..box_count).filter(passes).collect();
            // Stable: of equals the first.
            order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
            let mut taken: Vec<[f32; 4]> = Vec::new();
            for index in order {
                if taken.len() == settings.max_boxes_per_class {
                    break;
                }
                let one = corners(&boxes[4 * index..], settings.is_centre_and_size);
                if !taken.iter().any(|&other| overlaps(one, other, settings.iou_threshold)) {
                    taken.push(one);
                    // Sizes of tensors are far below 2^31.
                    rows.extend([picture as i32, class as i32, index as i32]);
                }
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings {
        max_boxes_per_class: 3,
        iou_threshold: 0.5,
        score_threshold: Some(0.0),
        is_centre_and_size: false,
    };

    /// The example that the specification's own tests are made of.
    const BOXES: [f32; 24] = [
        0.0, 0.0, 1.0, 1.0, 0.0, 0.1, 1.0, 1.1, 0.0, -0.1, 1.0, 0.9, 0.0, 10.0, 1.0, 11.0, 0.0, 10.1, 1.0,
        11.1, 0.0, 100.0, 1.0, 101.0,
    ];
    const SCORES: [f32; 6] = [0.9, 0.75, 0.6, 0.95, 0.5, 0.3];

    #[test]
    fn the_specification_s_examples_come_out() {
        assert_eq!(select(&BOXES, &SCORES, (1, 6), SETTINGS), [0, 0, 3, 0, 0, 0, 0, 0, 5]);
        let two = Settings { max_boxes_per_class: 2, ..SETTINGS };
        assert_eq!(select(&BOXES, &SCORES, (1, 6), two), [0, 0, 3, 0, 0, 0]);
        let least = Settings { score_threshold: Some(0.4), ..SETTINGS };
        assert_eq!(select(&BOXES, &SCORES, (1, 6), least), [0, 0, 3, 0, 0, 0]);
        // Two classes do not suppress each other; two pictures neither.
        let both = [SCORES, SCORES].concat();
        assert_eq!(select(&BOXES, &both, (2, 6), two), [0, 0, 3, 0, 0, 0, 0, 1, 3, 0, 1, 0]);
        assert_eq!(
            select(&[BOXES, BOXES].concat(), &both, (1, 6), two),
            [0, 0, 3, 0, 0, 0, 1, 0, 3, 1, 0, 0]
        );
        assert_eq!(select(&BOXES, &SCORES, (1, 6), Settings { max_boxes_per_class: 0, ..SETTINGS }), []);
    }

    #[test]
    fn corners_come_in_any_order_and_centres_with_sizes() {
        let flipped = [1.0, 1.0, 0.0, 0.0, 0.0, 0.1, 1.0, 1.1];
        assert_eq!(select(&flipped, &[0.9, 0.8], (1, 2), SETTINGS), [0, 0, 0]);
        let centres = Settings { is_centre_and_size: true, ..SETTINGS };
        assert_eq!(
            select(&[0.5, 0.5, 1.0, 1.0, 0.5, 0.6, 1.0, 1.0], &[0.9, 0.8], (1, 2), centres),
            [0, 0, 0]
        );
    }

    #[test]
    fn a_box_that_was_suppressed_suppresses_nothing() {
        // Each overlaps its neighbour by 2/3, and the one after by less than a half.
        let chain = [0.0, 0.0, 10.0, 10.0, 2.0, 0.0, 12.0, 10.0, 4.0, 0.0, 14.0, 10.0];
        assert_eq!(select(&chain, &[0.9, 0.8, 0.7], (1, 3), SETTINGS), [0, 0, 0, 0, 0, 2]);
        // Not numbers select nothing that is one less, and nothing panics.
        assert_eq!(select(&[f32::NAN; 12], &[0.9, f32::NAN, 0.7], (1, 3), SETTINGS).len() % 3, 0);
        assert_eq!(select(&[], &[], (0, 0), SETTINGS), []);
    }
}
