//! How much of the truth a detector found: one-to-one matching of boxes, recall and precision.

use crate::Truth;

/// Truth less visible than this is ignored: to miss it is no fault, to find it neither.
pub const VISIBLE_MIN: f32 = 0.6;

/// What a detector claims.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// Index into [`crate::LABELS`].
    pub class_id: u32,
    /// How sure the detector is: higher matches first.
    pub score: f32,
    /// x1, y1, x2, y2 in pixels of the rendered frame.
    pub bbox: [f32; 4],
}

/// Counts over any number of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Score {
    /// Objects that were found.
    pub true_positives: u64,
    /// Detections of nothing, of the wrong class, or of an object that was found already.
    pub false_positives: u64,
    /// Objects that were missed.
    pub false_negatives: u64,
    /// Detections of objects that are too little visible to count.
    pub ignored: u64,
}

impl Score {
    /// Adds the counts of another frame.
    pub fn add(&mut self, other: Self) {
        self.true_positives += other.true_positives;
        self.false_positives += other.false_positives;
        self.false_negatives += other.false_negatives;
        self.ignored += other.ignored;
    }

    /// Share of the objects that was found, 0..=1; `None` when there was none.
    pub fn recall(&self) -> Option<f64> {
        share(self.true_positives, self.false_negatives)
    }

    /// Share of the detections that was right, 0..=1; `None` when there was none.
    pub fn precision(&self) -> Option<f64> {
        share(self.true_positives, self.false_positives)
    }
}

fn share(right: u64, wrong: u64) -> Option<f64> {
    (right + wrong > 0).then(|| right as f64 / (right + wrong) as f64)
}

/// Matches one frame: in the order of falling score every detection takes, of the free objects of its class, the
/// one with the highest IoU, which must be `iou_min` or more. What finds none but lies on an object that is too
/// little visible ([`VISIBLE_MIN`]) is ignored: there it is enough that `iou_min` of the DETECTION's area is
/// inside, because the object's true box may reach beyond what can be seen.
pub fn match_frame(detections: &[Detection], truth: &[Truth], iou_min: f32) -> Score {
    let mut order: Vec<&Detection> = detections.iter().collect();
    order.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut taken = vec![false; truth.len()];
    let mut score = Score::default();
    for detection in order {
        let best = |counts: bool, taken: &[bool]| {
            let free = truth.iter().enumerate().filter(|(index, object)| {
                !taken[*index]
                    && object.class_id == detection.class_id
                    && counts == (object.visible >= VISIBLE_MIN)
            });
            free.map(|(index, object)| {
                let overlap = if counts {
                    iou(detection.bbox, object.bbox)
                } else {
                    area(intersection(detection.bbox, object.bbox))
                        / area(detection.bbox).max(f32::MIN_POSITIVE)
                };
                (index, overlap)
            })
            .filter(|&(_, overlap)| overlap >= iou_min)
            .max_by(|a, b| a.1.total_cmp(&b.1))
        };
        if let Some((index, _)) = best(true, &taken) {
            taken[index] = true;
            score.true_positives += 1;
        } else if let Some((index, _)) = best(false, &taken) {
            taken[index] = true;
            score.ignored += 1;
        } else {
            score.false_positives += 1;
        }
    }
    let missed = truth.iter().zip(&taken).filter(|(object, taken)| object.visible >= VISIBLE_MIN && !**taken);
    score.false_negatives = missed.count() as u64;
    score
}

/// Intersection over union of two boxes (x1, y1, x2, y2), 0..=1.
pub fn iou(a: [f32; 4], b: [f32; 4]) -> f32 {
    let shared = area(intersection(a, b));
    let union = area(a) + area(b) - shared;
    if union > 0.0 { shared / union } else { 0.0 }
}

/// The box that two boxes share; of no area when they share none.
pub fn intersection(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
    [a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])]
}

/// The area of a box, 0 for one that is inside out.
pub fn area([x1, y1, x2, y2]: [f32; 4]) -> f32 {
    (x2 - x1).max(0.0) * (y2 - y1).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(class_id: u32, bbox: [f32; 4], visible: f32) -> Truth {
        Truth { class_id, label: crate::LABELS[class_id as usize], bbox, visible }
    }

    fn claim(class_id: u32, score: f32, bbox: [f32; 4]) -> Detection {
        Detection { class_id, score, bbox }
    }

    const HERE: [f32; 4] = [10.0, 10.0, 30.0, 50.0];
    const THERE: [f32; 4] = [100.0, 10.0, 120.0, 50.0];

    #[test]
    fn iou_of_known_boxes() {
        assert_eq!(iou(HERE, HERE), 1.0);
        assert_eq!(iou(HERE, THERE), 0.0);
        assert_eq!(iou([0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0]), 2.0 / 6.0);
        assert_eq!(iou([0.0; 4], [0.0; 4]), 0.0);
    }

    #[test]
    fn each_object_is_found_once() {
        let truth = [object(0, HERE, 1.0), object(1, THERE, 1.0)];
        let twice = [claim(0, 0.9, HERE), claim(0, 0.8, HERE)];
        let score = match_frame(&twice, &truth, 0.5);
        assert_eq!(score, Score { true_positives: 1, false_positives: 1, false_negatives: 1, ignored: 0 });
        assert_eq!((score.recall(), score.precision()), (Some(0.5), Some(0.5)));
    }

    #[test]
    fn the_surer_detection_chooses_first() {
        // Both fit the object; only the second fits well, but the first is surer.
        let truth = [object(0, [0.0, 0.0, 10.0, 10.0], 1.0), object(0, [4.0, 0.0, 14.0, 10.0], 1.0)];
        let claims = [claim(0, 0.5, [0.0, 0.0, 10.0, 10.0]), claim(0, 0.9, [1.0, 0.0, 11.0, 10.0])];
        let score = match_frame(&claims, &truth, 0.5);
        assert_eq!((score.true_positives, score.false_positives, score.false_negatives), (1, 1, 1));
    }

    #[test]
    fn another_class_or_a_poor_box_is_wrong_and_leaves_the_object_missed() {
        for detection in [claim(1, 0.9, HERE), claim(0, 0.9, [10.0, 10.0, 30.0, 29.0])] {
            let score = match_frame(&[detection], &[object(0, HERE, 1.0)], 0.5);
            assert_eq!(
                score,
                Score { true_positives: 0, false_positives: 1, false_negatives: 1, ignored: 0 }
            );
        }
    }

    #[test]
    fn a_hardly_visible_object_counts_neither_way_once() {
        let truth = [object(0, HERE, 0.59)];
        assert_eq!(match_frame(&[], &truth, 0.5), Score::default());
        let claims = [claim(0, 0.9, HERE), claim(0, 0.8, HERE)];
        let score = match_frame(&claims, &truth, 0.5);
        assert_eq!(score, Score { true_positives: 0, false_positives: 1, false_negatives: 0, ignored: 1 });
        assert_eq!(match_frame(&claims[..1], &[object(0, HERE, 0.6)], 0.5).true_positives, 1);
    }

    #[test]
    fn a_counting_object_is_preferred_to_an_ignored_one() {
        let truth = [object(0, HERE, 0.3), object(0, HERE, 1.0)];
        let score = match_frame(&[claim(0, 0.9, HERE)], &truth, 0.5);
        assert_eq!(score, Score { true_positives: 1, ..Score::default() });
    }

    #[test]
    fn counts_add_up_over_frames() {
        let mut sum = Score::default();
        assert_eq!((sum.recall(), sum.precision()), (None, None));
        sum.add(match_frame(&[claim(0, 0.9, HERE)], &[object(0, HERE, 1.0)], 0.5));
        sum.add(match_frame(&[], &[object(0, HERE, 1.0), object(2, THERE, 1.0)], 0.5));
        sum.add(match_frame(&[claim(2, 0.4, THERE)], &[], 0.5));
        assert_eq!(sum, Score { true_positives: 1, false_positives: 1, false_negatives: 2, ignored: 0 });
        assert_eq!((sum.recall(), sum.precision()), (Some(1.0 / 3.0), Some(0.5)));
    }
}
