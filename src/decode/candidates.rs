//! The best boxes of one picture, in bounded memory.
//!
//! Candidates pile up to twice the limit; then the better half is selected (linear time) and whatever is not
//! better than its last is refused from then on. What is kept does not depend on the order in which
//! candidates come: they are ordered by score, then by anchor.

use super::Limits;

/// A box that passed the score threshold and is not decoded yet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    /// Finite, 0..=1.
    pub score: f32,
    /// Index into the labels.
    pub class_id: u32,
    /// Index of the box in the head's output.
    pub anchor: u32,
}

impl Candidate {
    /// Best first; ties by anchor, so that the order is total.
    fn order(&self, other: &Self) -> std::cmp::Ordering {
        other.score.total_cmp(&self.score).then(self.anchor.cmp(&other.anchor))
    }
}

/// At most `max_candidates` of the best.
#[derive(Debug)]
pub(super) struct Candidates {
    pile: Vec<Candidate>,
    max_candidates: usize,
    score_threshold: f32,
    /// What a score must reach now.
    least_score: f32,
}

impl Candidates {
    pub fn new(limits: &Limits) -> Self {
        let max_candidates = limits.max_candidates.min(Limits::MOST);
        // Scores below 0 are nobody's probability; NaN lets nothing pass.
        let score_threshold = if limits.score_threshold < 0.0 { 0.0 } else { limits.score_threshold };
        Self {
            pile: Vec::with_capacity(max_candidates * 2),
            max_candidates,
            score_threshold,
            least_score: score_threshold,
        }
    }

    pub fn clear(&mut self) {
        self.pile.clear();
        self.least_score = self.score_threshold;
    }

    /// The score below which [`Candidates::offer`] refuses.
    pub fn least_score(&self) -> f32 {
        self.least_score
    }

    /// Takes a candidate if its score is finite and good enough. Scores above 1 (rounding in half precision)
    /// count as 1.
    pub fn offer(&mut self, score: f32, class_id: u32, anchor: u32) {
        if !(score >= self.least_score && score.is_finite()) || self.max_candidates == 0 {
            return;
        }
        // Adding 0.0 makes -0.0 positive: `total_cmp` tells them apart.
        self.pile.push(Candidate { score: score.min(1.0) + 0.0, class_id, anchor });
        if self.pile.len() >= self.max_candidates * 2 {
            self.halve();
        }
    }

    /// What was kept, best first.
    pub fn best_first(&mut self) -> &[Candidate] {
        self.halve();
        self.pile.sort_unstable_by(Candidate::order);
        &self.pile
    }

    pub fn buffer_bytes(&self) -> usize {
        self.pile.capacity() * size_of::<Candidate>()
    }

    fn halve(&mut self) {
        if self.pile.len() <= self.max_candidates || self.max_candidates == 0 {
            return;
        }
        let (_, last, _) = self.pile.select_nth_unstable_by(self.max_candidates - 1, Candidate::order);
        // An equal score may still win by its anchor: only a worse one is refused.
        self.least_score = last.score;
        self.pile.truncate(self.max_candidates);
    }
}
