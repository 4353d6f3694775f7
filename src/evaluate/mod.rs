//! PURE: how well detections agree with a truth: COCO's average precision.
//!
//! Source: T.-Y. Lin and others, "Microsoft COCO: Common Objects in Context", 2014, and the reference implementation's
//! `COCOeval` (pycocotools 2.0.11, `iouType="bbox"`), which this follows to the last rounding, so that the same
//! detections get the same figure (`tests/evaluate.rs` compares):
//!
//! - Per image and class the best [`DETECTIONS_MAX`] detections count. For each of ten IoU thresholds, 0.50 to 0.95, each
//!   detection in the order of its score takes the truth box that it overlaps most among those not yet taken, if it
//!   overlaps it enough; else it is false.
//! - Over all images, in the order of scores, precision is made monotonous from the right and read at the recalls 0, 0.01, …,
//!   1; its mean is the average precision of that class and threshold. The mean over thresholds and classes is mAP
//!   50-95; over classes at 0.50 alone, mAP 50. Classes without truth do not count.
//!
//! Truth here has no crowds and no area limits (`area = all`).

mod gate;
mod truth;

pub use gate::{NotAccepted, accept};
pub use truth::{TruthError, class_names, find_labels, read_labels};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// IoU thresholds.
const THRESHOLDS: usize = 10;
/// Recalls at which precision is read.
const RECALLS: usize = 101;
/// Detections of one image and class that count.
pub const DETECTIONS_MAX: usize = 100;

/// A box in pixels of its image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Labelled {
    /// Index into the labels.
    pub class_id: u32,
    /// Left, top, width, height.
    pub bbox: [f64; 4],
}

/// A detection in pixels of its image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// Index into the labels.
    pub class_id: u32,
    /// 0..=1.
    pub score: f64,
    /// Left, top, width, height.
    pub bbox: [f64; 4],
}

/// What came of one class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassReport {
    /// Average precision, mean over the IoU thresholds.
    pub map_50_95: f64,
    /// Average precision at IoU 0.50.
    pub map_50: f64,
    /// Boxes in the truth.
    pub truths: u64,
    /// Detections that counted.
    pub detections: u64,
}

/// What came of all images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Images looked at.
    pub images: u64,
    /// Mean over classes and IoU thresholds; 0 without any truth.
    pub map_50_95: f64,
    /// Mean over classes at IoU 0.50.
    pub map_50: f64,
    /// By label; classes without truth are left out.
    pub per_class: BTreeMap<String, ClassReport>,
}

/// A detection and for which thresholds it is true.
#[derive(Debug, Clone, Copy)]
struct Judged {
    score: f64,
    /// One bit a threshold.
    is_true: u16,
}

#[derive(Debug, Clone, Default)]
struct Class {
    judged: Vec<Judged>,
    truths: u64,
}

/// Takes image after image. Memory: 16 bytes for each detection that counts.
#[derive(Debug)]
pub struct Evaluation {
    classes: Vec<Class>,
    images: u64,
}

impl Evaluation {
    /// For so many labels.
    pub fn new(label_count: usize) -> Self {
        Self { classes: vec![Class::default(); label_count], images: 0 }
    }

    /// One image. Boxes of classes that there are not count for nothing.
    pub fn add(&mut self, truth: &[Labelled], found: &[Scored]) {
        self.images += 1;
        for (class_id, class) in self.classes.iter_mut().enumerate() {
            let truth: Vec<[f64; 4]> =
                truth.iter().filter(|one| one.class_id as usize == class_id).map(|one| one.bbox).collect();
            let mut found: Vec<&Scored> =
                found.iter().filter(|one| one.class_id as usize == class_id).collect();
            // Stable, as the reference's merge sort.
            found.sort_by(|a, b| b.score.total_cmp(&a.score));
            found.truncate(DETECTIONS_MAX);
            class.truths += truth.len() as u64;
            class.judged.extend(judge(&truth, &found));
        }
    }

    /// The figures of all images so far.
    pub fn report(&self, labels: &[String]) -> Report {
        let (mut per_class, mut sum, mut sum_50, mut count) = (BTreeMap::new(), 0.0, 0.0, 0_u32);
        for (class_id, class) in self.classes.iter().enumerate().filter(|(_, class)| class.truths > 0) {
            let precisions = average_precisions(class);
            let mean = precisions.iter().sum::<f64>() / THRESHOLDS as f64;
            (sum, sum_50, count) = (sum + mean, sum_50 + precisions[0], count + 1);
            let report = ClassReport {
                map_50_95: mean,
                map_50: precisions[0],
                truths: class.truths,
                detections: class.judged.len() as u64,
            };
            let label = labels.get(class_id).cloned().unwrap_or_else(|| format!("class{class_id}"));
            // Two classes may have the same label.
            let label = if per_class.contains_key(&label) { format!("{label} ({class_id})") } else { label };
            per_class.insert(label, report);
        }
        let mean = |sum: f64| if count == 0 { 0.0 } else { sum / f64::from(count) };
        Report { images: self.images, map_50_95: mean(sum), map_50: mean(sum_50), per_class }
    }
}

/// `numpy.linspace(0.5, 0.95, 10)`
fn threshold(index: usize) -> f64 {
    let step = (0.95 - 0.5) / (THRESHOLDS - 1) as f64;
    if index + 1 == THRESHOLDS { 0.95 } else { index as f64 * step + 0.5 }
}

/// Matches the detections of one image and class, best first.
fn judge(truth: &[[f64; 4]], found: &[&Scored]) -> Vec<Judged> {
    let mut judged: Vec<Judged> = found.iter().map(|one| Judged { score: one.score, is_true: 0 }).collect();
    let overlaps: Vec<Vec<f64>> =
        found.iter().map(|one| truth.iter().map(|other| iou(one.bbox, *other)).collect()).collect();
    for index in 0..THRESHOLDS {
        let mut taken = vec![false; truth.len()];
        for (judged, overlaps) in judged.iter_mut().zip(&overlaps) {
            let mut least = threshold(index).min(1.0 - 1e-10);
            let mut best = None;
            for (which, &overlap) in overlaps.iter().enumerate() {
                if !taken[which] && overlap >= least {
                    (best, least) = (Some(which), overlap);
                }
            }
            if let Some(which) = best {
                taken[which] = true;
                judged.is_true |= 1 << index;
            }
        }
    }
    judged
}

/// Intersection over union of `[left, top, width, height]`.
fn iou(a: [f64; 4], b: [f64; 4]) -> f64 {
    let width = (a[0] + a[2]).min(b[0] + b[2]) - a[0].max(b[0]);
    let height = (a[1] + a[3]).min(b[1] + b[3]) - a[1].max(b[1]);
    if width <= 0.0 || height <= 0.0 {
        return 0.0;
    }
    let common = width * height;
    common / (a[2] * a[3] + b[2] * b[3] - common)
}

/// Average precision of one class at each threshold.
fn average_precisions(class: &Class) -> [f64; THRESHOLDS] {
    let mut judged = class.judged.clone();
    judged.sort_by(|a, b| b.score.total_cmp(&a.score));
    std::array::from_fn(|index| {
        let (mut recalls, mut precisions) =
            (Vec::with_capacity(judged.len()), Vec::with_capacity(judged.len()));
        let (mut right, mut wrong) = (0.0, 0.0);
        for one in &judged {
            if one.is_true & (1 << index) != 0 {
                right += 1.0
            } else {
                wrong += 1.0
            }
            recalls.push(right / class.truths as f64);
            precisions.push(right / (right + wrong + f64::EPSILON));
        }
        for at in (1..precisions.len()).rev() {
            precisions[at - 1] = f64::max(precisions[at - 1], precisions[at]);
        }
        let at_recall = |step: usize| {
            let wanted = step as f64 * 0.01;
            let first = recalls.partition_point(|&recall| recall < wanted);
            precisions.get(first).copied().unwrap_or(0.0)
        };
        (0..RECALLS).map(at_recall).sum::<f64>() / RECALLS as f64
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth(bbox: [f64; 4]) -> Labelled {
        Labelled { class_id: 0, bbox }
    }

    fn found(score: f64, bbox: [f64; 4]) -> Scored {
        Scored { class_id: 0, score, bbox }
    }

    fn report(images: &[(Vec<Labelled>, Vec<Scored>)]) -> Report {
        let mut evaluation = Evaluation::new(2);
        images.iter().for_each(|(truth, found)| evaluation.add(truth, found));
        evaluation.report(&["a".to_owned(), "b".to_owned()])
    }

    const SQUARE: [f64; 4] = [10.0, 10.0, 100.0, 100.0];

    #[test]
    fn everything_found_is_one_and_nothing_is_nought() {
        let all = report(&[(vec![truth(SQUARE)], vec![found(0.9, SQUARE)])]);
        assert!((all.map_50_95 - 1.0).abs() < 1e-12 && (all.map_50 - 1.0).abs() < 1e-12, "{all:?}");
        // The other class has no truth and does not count.
        assert_eq!(all.per_class.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(report(&[(vec![truth(SQUARE)], vec![])]).map_50, 0.0);
        assert_eq!(report(&[(vec![], vec![found(0.9, SQUARE)])]).map_50_95, 0.0);
    }

    /// A box shifted by a tenth has IoU 90 / 110 = 0.818: true at 0.50 to 0.80, seven of ten thresholds.
    #[test]
    fn thresholds_divide_by_overlap() {
        let shifted = [20.0, 10.0, 100.0, 100.0];
        let report = report(&[(vec![truth(SQUARE)], vec![found(0.9, shifted)])]);
        assert!((report.map_50 - 1.0).abs() < 1e-12);
        assert!((report.map_50_95 - 0.7).abs() < 1e-12, "{}", report.map_50_95);
    }

    /// True, false, true of two: recall 0.5 at precision 1, then 1 at 2/3: 51 points of 1 and 50 of 2/3.
    #[test]
    fn precision_is_read_at_a_hundred_and_one_recalls() {
        let other = [300.0, 10.0, 50.0, 50.0];
        let images = [(
            vec![truth(SQUARE), truth(other)],
            vec![found(0.9, SQUARE), found(0.8, [500.0, 500.0, 9.0, 9.0]), found(0.7, other)],
        )];
        let expected = (51.0 + 50.0 * 2.0 / 3.0) / 101.0;
        assert!((report(&images).map_50 - expected).abs() < 1e-9, "{}", report(&images).map_50);
    }

    #[test]
    fn a_truth_box_is_taken_once_and_by_the_better_score() {
        let near = [12.0, 10.0, 100.0, 100.0];
        let twice = report(&[(vec![truth(SQUARE)], vec![found(0.6, SQUARE), found(0.9, near)])]);
        assert!((twice.map_50 - 1.0).abs() < 1e-12, "the second comes after all recall is reached");
        // The first detection takes the box that it overlaps most, and leaves the other.
        let images = [(vec![truth(SQUARE), truth(near)], vec![found(0.9, near), found(0.8, SQUARE)])];
        assert!((report(&images).map_50_95 - 1.0).abs() < 1e-12);
    }

    #[test]
    fn no_more_than_a_hundred_detections_of_an_image_and_class_count() {
        let mut many: Vec<Scored> = (0..150).map(|_| found(0.9, [500.0, 500.0, 9.0, 9.0])).collect();
        many.push(found(0.8, SQUARE));
        assert_eq!(report(&[(vec![truth(SQUARE)], many)]).map_50, 0.0);
    }

    #[test]
    fn thresholds_are_those_of_numpy() {
        let printed: Vec<String> = (0..THRESHOLDS).map(|index| format!("{:.2}", threshold(index))).collect();
        assert_eq!(printed.join(" "), "0.50 0.55 0.60 0.65 0.70 0.75 0.80 0.85 0.90 0.95");
    }
}
