//! PURE: is there a steady rise in a row of figures, and how steep is it?

/// Figures that one look needs at most.
pub const POINTS_MAX: usize = 100;
/// Fewer say nothing.
pub const POINTS_MIN: usize = 20;
/// Parts of a row, each of which has to lie above the one before it.
const PARTS: usize = 5;
/// Of the rise that each part would have if all were alike, every one must have at least this.
const LEAST_SHARE: f64 = 1.0 / 3.0;
/// From the median absolute deviation to the standard deviation of a normal distribution.
const MAD_TO_SIGMA: f64 = 1.4826;
const PAIRS_MAX: usize = POINTS_MAX * (POINTS_MAX - 1) / 2;

/// What counts as a rise.
#[derive(Debug, Clone, Copy)]
pub struct Demand {
    /// The rise over the whole row, at least.
    pub rise: f64,
    /// The rise in standard errors of its own estimate, at least.
    pub errors: f64,
}

/// Room to sort in, allocated once.
#[derive(Debug)]
pub struct Scratch {
    slopes: Box<[f64]>,
    values: [f64; POINTS_MAX],
}

impl Default for Scratch {
    fn default() -> Self {
        Self { slopes: vec![0.0; PAIRS_MAX].into_boxed_slice(), values: [0.0; POINTS_MAX] }
    }
}

impl Scratch {
    /// The steady rise over all of `row` if it meets the demand.
    ///
    /// 1. The medians of five parts lie one above the other, each by at least a third of an equal share. A step
    ///    has one part above another, not four, however high it is; a sawtooth comes down somewhere.
    /// 2. The slope of Theil and Sen (the median over all pairs) makes at least the demanded rise. It does not
    ///    move as long as less than 29 % of the figures are outliers.
    /// 3. That rise is more than chance makes of noise: the slope's standard error is `sigma * sqrt(12 / n^3)`.
    ///    `sigma` is estimated twice, from the deviations of `row` from its line and from the differences of
    ///    neighbours in all of `history`, and the larger counts: a short row that happens to lie on a line
    ///    says little about its noise. An estimate from few points is trusted less.
    ///
    /// `row` is the newest part of `history`.
    pub fn rise(&mut self, row: &[f64], history: &[f64], demand: Demand) -> Option<f64> {
        if row.len() < POINTS_MIN || !self.rises_in_every_part(row, demand.rise) {
            return None;
        }
        let slope = self.slope(row);
        let rise = slope * row.len() as f64;
        if rise < demand.rise {
            return None;
        }
        let sigma = self.deviation(row, slope).max(self.unrest(history));
        let error = sigma * (12.0 / row.len() as f64).sqrt();
        let distrust = 1.0 + 10.0 / history.len() as f64;
        (rise >= demand.errors * distrust * error).then_some(rise)
    }

    fn rises_in_every_part(&mut self, row: &[f64], rise: f64) -> bool {
        let mut median_of_part = |part: usize| {
            let (from, to) = (part * row.len() / PARTS, (part + 1) * row.len() / PARTS);
            self.median(&row[from..to])
        };
        let (first, last) = (median_of_part(0), median_of_part(PARTS - 1));
        // The middles of the first and the last part are four fifths of the row apart.
        let steps = (PARTS - 1) as f64;
        if last - first < rise * steps / PARTS as f64 * 0.75 {
            return false;
        }
        let least = (last - first) / steps * LEAST_SHARE;
        let mut before = first;
        (1..PARTS - 1).map(median_of_part).chain([last]).all(|median| {
            let rises = median - before >= least;
            before = median;
            rises
        })
    }

    /// The slope of Theil and Sen, a point being one wide.
    pub fn slope(&mut self, row: &[f64]) -> f64 {
        let mut pairs = 0;
        for (i, early) in row.iter().enumerate() {
            for (j, late) in row.iter().enumerate().skip(i + 1) {
                self.slopes[pairs] = (late - early) / (j - i) as f64;
                pairs += 1;
            }
        }
        median_of(&mut self.slopes[..pairs])
    }

    /// The standard deviation of noise without memory that makes neighbours differ as they do.
    fn unrest(&mut self, history: &[f64]) -> f64 {
        for (slot, pair) in self.values.iter_mut().zip(history.windows(2)) {
            *slot = (pair[1] - pair[0]).abs();
        }
        MAD_TO_SIGMA * median_of(&mut self.values[..history.len() - 1]) / std::f64::consts::SQRT_2
    }

    fn deviation(&mut self, row: &[f64], slope: f64) -> f64 {
        let residual = |(index, value): (usize, &f64)| value - slope * index as f64;
        for (slot, point) in self.values.iter_mut().zip(row.iter().enumerate()) {
            *slot = residual(point);
        }
        let middle = median_of(&mut self.values[..row.len()]);
        for (slot, point) in self.values.iter_mut().zip(row.iter().enumerate()) {
            *slot = (residual(point) - middle).abs();
        }
        MAD_TO_SIGMA * median_of(&mut self.values[..row.len()])
    }

    fn median(&mut self, row: &[f64]) -> f64 {
        self.values[..row.len()].copy_from_slice(row);
        median_of(&mut self.values[..row.len()])
    }
}

/// The upper median, exact for odd counts; 0 for nothing.
fn median_of(values: &mut [f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEMAND: Demand = Demand { rise: 10.0, errors: 5.0 };

    fn row(value: impl Fn(f64) -> f64) -> Vec<f64> {
        (0..POINTS_MAX).map(|i| value(i as f64)).collect()
    }

    fn found(row: &[f64]) -> Option<f64> {
        Scratch::default().rise(row, row, DEMAND)
    }

    #[test]
    fn a_line_is_found_with_its_slope() {
        let rise = found(&row(|x| 1000.0 + 0.5 * x)).expect("a rise");
        assert!((rise - 50.0).abs() < 1e-9, "{rise}");
        assert_eq!(found(&row(|x| 1000.0 - 0.5 * x)), None);
        assert_eq!(found(&row(|x| 1000.0 + 0.05 * x)), None, "too little");
    }

    #[test]
    fn outliers_do_not_make_a_rise_and_do_not_hide_one() {
        let outlier = |x: f64| if x % 5.0 == 0.0 { 1e6 } else { 0.0 };
        assert_eq!(found(&row(|x| outlier(x) * x)), None);
        let rise = found(&row(|x| 0.5 * x + outlier(x))).expect("a rise");
        assert!((45.0..=56.0).contains(&rise), "{rise}");
    }

    #[test]
    fn too_few_points_say_nothing() {
        let line = row(|x| 100.0 * x);
        assert_eq!(found(&line[..POINTS_MIN - 1]), None);
        assert!(found(&line[..POINTS_MIN]).is_some());
    }

    proptest! {
        /// One, two or three steps of any height at any place are no steady rise.
        #[test]
        fn a_few_steps_are_no_rise(
            steps in proptest::collection::vec((0usize..POINTS_MAX, 0.0f64..1e4), 1..=3),
            noise in proptest::collection::vec(-1.0f64..1.0, POINTS_MAX),
        ) {
            let mut row = noise;
            for (at, height) in steps {
                row[at..].iter_mut().for_each(|value| *value += height);
            }
            prop_assert_eq!(found(&row), None);
        }

        /// A line with as much noise as a tenth of its rise is always found, and its slope is right.
        #[test]
        fn a_noisy_line_is_a_rise(
            slope in 0.2f64..100.0,
            noise in proptest::collection::vec(-1.0f64..1.0, POINTS_MAX),
        ) {
            let row: Vec<f64> =
                noise.iter().enumerate().map(|(x, e)| slope * x as f64 + 10.0 * slope * e).collect();
            let rise = found(&row);
            prop_assert!(rise.is_some_and(|rise| (rise / (100.0 * slope) - 1.0).abs() < 0.25), "{rise:?}");
        }
    }
}
