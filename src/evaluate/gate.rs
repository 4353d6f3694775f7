//! Whether an engine of lower precision sees as much as the one it is to take the place of.

use super::Report;

/// Why an engine is not accepted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NotAccepted {
    /// It sees too little.
    #[error(
        "mAP 50-95 fell from {baseline:.4} to {candidate:.4}, by {loss:.4}, and {max_loss} are allowed; {worst}; use a \
         higher precision, calibrate with more pictures of your cameras, or allow more with --max-loss"
    )]
    Loss {
        /// mAP 50-95 of the baseline.
        baseline: f64,
        /// mAP 50-95 of the one that was looked at.
        candidate: f64,
        /// What is lost.
        loss: f64,
        /// What may be lost.
        max_loss: f64,
        /// The label that lost most, in words.
        worst: String,
    },
    /// The two were measured on different pictures.
    #[error(
        "the baseline cannot be compared with: it has {baseline} and this run {candidate}; measure both on the same folder"
    )]
    NotComparable {
        /// What the baseline was measured on.
        baseline: String,
        /// What this one was.
        candidate: String,
    },
    /// Nothing to lose.
    #[error("the baseline itself sees nothing (mAP 0): check the labels and the model first")]
    BlindBaseline,
}

/// What reading a written figure may cost.
const ROUNDING: f64 = 1e-9;

/// Accepts `candidate` if its mAP 50-95 is at most `max_loss` below the baseline's; says what it gains (below 0: loses).
///
/// # Errors
/// [`NotAccepted`].
pub fn accept(baseline: &Report, candidate: &Report, max_loss: f64) -> Result<f64, NotAccepted> {
    let measured_on = |report: &Report| {
        let truths: u64 = report.per_class.values().map(|class| class.truths).sum();
        format!("{} images with {truths} boxes of {} classes", report.images, report.per_class.len())
    };
    let truths = |report: &Report| -> Vec<(String, u64)> {
        report.per_class.iter().map(|(label, class)| (label.clone(), class.truths)).collect()
    };
    if baseline.images != candidate.images || truths(baseline) != truths(candidate) {
        let (baseline, candidate) = (measured_on(baseline), measured_on(candidate));
        return Err(NotAccepted::NotComparable { baseline, candidate });
    }
    if baseline.map_50_95.is_nan() || baseline.map_50_95 <= 0.0 {
        return Err(NotAccepted::BlindBaseline);
    }
    let loss = baseline.map_50_95 - candidate.map_50_95;
    // Written so that a loss that is no number is none that is allowed. A report that was read from a file is off by its
    // last digit.
    if loss <= max_loss + ROUNDING {
        return Ok(if loss.abs() <= ROUNDING { 0.0 } else { -loss });
    }
    let (baseline_map, candidate_map) = (baseline.map_50_95, candidate.map_50_95);
    let worst = worst(baseline, candidate);
    Err(NotAccepted::Loss { baseline: baseline_map, candidate: candidate_map, loss, max_loss, worst })
}

fn worst(baseline: &Report, candidate: &Report) -> String {
    let lost = baseline.per_class.iter().filter_map(|(label, class)| {
        Some((label, class.map_50_95, candidate.per_class.get(label)?.map_50_95))
    });
    let most = lost.max_by(|a, b| (a.1 - a.2).total_cmp(&(b.1 - b.2)));
    most.map_or_else(String::new, |(label, before, now)| {
        format!("most lost {label:?}, {before:.4} to {now:.4}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::ClassReport;

    fn report(images: u64, maps: &[(&str, f64)]) -> Report {
        let class = |map: f64| ClassReport { map_50_95: map, map_50: map, truths: 5, detections: 7 };
        let map = maps.iter().map(|(_, map)| map).sum::<f64>() / maps.len() as f64;
        let per_class = maps.iter().map(|(label, map)| ((*label).to_owned(), class(*map))).collect();
        Report { images, map_50_95: map, map_50: map, per_class }
    }

    #[test]
    fn a_loss_within_the_limit_is_accepted_and_a_greater_one_is_told_with_its_label() {
        let baseline = report(10, &[("人", 0.5), ("car", 0.7)]);
        let gained = accept(&baseline, &report(10, &[("人", 0.5), ("car", 0.72)]), 0.0).unwrap();
        assert!((gained - 0.01).abs() < 1e-12);
        assert!(accept(&baseline, &baseline, 0.0).is_ok());
        assert!(accept(&baseline, &report(10, &[("人", 0.49), ("car", 0.7)]), 0.01).is_ok());
        let error =
            accept(&baseline, &report(10, &[("人", 0.4), ("car", 0.7)]), 0.01).unwrap_err().to_string();
        for words in ["0.6000 to 0.5500", "0.0500", "0.01 are allowed", "\"人\", 0.5000 to 0.4000"] {
            assert!(error.contains(words), "{words:?} is not in {error:?}");
        }
        assert!(accept(&baseline, &report(10, &[("人", f64::NAN), ("car", 0.7)]), 1.0).is_err());
    }

    #[test]
    fn what_was_measured_elsewhere_is_not_compared() {
        let baseline = report(10, &[("a", 0.5)]);
        for other in
            [report(9, &[("a", 0.5)]), report(10, &[("b", 0.5)]), report(10, &[("a", 0.5), ("b", 0.5)])]
        {
            assert!(
                matches!(accept(&baseline, &other, 0.1), Err(NotAccepted::NotComparable { .. })),
                "{other:?}"
            );
        }
        let blind = report(10, &[("a", 0.0)]);
        assert_eq!(accept(&blind, &blind, 0.1), Err(NotAccepted::BlindBaseline));
    }
}
