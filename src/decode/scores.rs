//! From a box's class numbers to one score.

use crate::model::Activation;

/// `1 / (1 + exp(-x))`
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// A number that no `x` with `sigmoid(x) >= score` is below: rules candidates out without an exponential.
pub(super) fn logit_floor(score: f32) -> f32 {
    let score = score.clamp(0.0, 1.0);
    let logit = (score / (1.0 - score)).ln();
    // Rounding in the logarithm and in the sigmoid must not cost a candidate.
    if logit.is_finite() { logit - 1e-3 - logit.abs() * 1e-5 } else { f32::NEG_INFINITY }
}

/// Index and value of the greatest score; the first of equals. NaN is never the greatest.
pub(super) fn best_class(scores: &[f32]) -> (u32, f32) {
    let mut best = f32::NEG_INFINITY;
    // Lanes without a dependency between them, so that this vectorises.
    let mut lanes = [f32::NEG_INFINITY; 8];
    let chunks = scores.chunks_exact(8);
    for &score in chunks.remainder() {
        best = if score > best { score } else { best };
    }
    for chunk in chunks {
        for (lane, &score) in lanes.iter_mut().zip(chunk) {
            *lane = if score > *lane { score } else { *lane };
        }
    }
    for lane in lanes {
        best = if lane > best { lane } else { best };
    }
    let class_id = scores.iter().position(|&score| score == best).unwrap_or(0);
    (class_id as u32, best)
}

/// What `activation` makes of `value` among all class numbers of its box.
pub(super) fn activate(activation: Activation, value: f32, all: impl Iterator<Item = f32> + Clone) -> f32 {
    match activation {
        Activation::None => value,
        Activation::Sigmoid => sigmoid(value),
        Activation::Softmax => softmax(value, all),
    }
}

/// `exp(value) / sum(exp(all))`, where `value` is one of `all`.
pub(super) fn softmax(value: f32, all: impl Iterator<Item = f32> + Clone) -> f32 {
    let greatest = all.clone().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = all.map(|x| (x - greatest).exp()).sum();
    (value - greatest).exp() / sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_candidate_is_lost_by_looking_at_the_logit_first() {
        for step in 0..=1000 {
            let score = step as f32 / 1000.0;
            let floor = logit_floor(score);
            for offset in [-0.01f32, -1e-4, 0.0, 1e-4, 0.01] {
                let x = (score / (1.0 - score)).ln() + offset;
                assert!(sigmoid(x) < score || x >= floor || x.is_nan(), "{score} {x}");
            }
        }
        assert!(sigmoid(logit_floor(0.5) - 0.01) < 0.5, "it does rule something out");
        assert_eq!(logit_floor(0.0), f32::NEG_INFINITY);
    }

    #[test]
    fn softmax_survives_large_numbers() {
        let all = [1000.0, 1001.0, 999.0];
        let sum: f32 = all.iter().map(|&value| softmax(value, all.into_iter())).sum();
        assert!((sum - 1.0).abs() < 1e-6);
        assert!((softmax(1001.0, all.into_iter()) - 0.665_241).abs() < 1e-5);
    }
}
