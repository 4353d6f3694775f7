//! Chance that can be asked again: numbers that follow from a seed, and trigonometry without libm.

/// A stream of numbers from one seed (SplitMix64, Steele et al. 2014).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The stream of `seed` for one purpose: other `keys`, other numbers.
    pub fn of(seed: u64, keys: &[u64]) -> Self {
        let mut random = Self(seed);
        for &key in keys {
            random.0 = random.bits() ^ key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        }
        random
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Even over 0..1.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Even over `low..high`.
    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// True in `share` of the cases.
    pub fn chance(&mut self, share: f32) -> bool {
        self.unit() < share
    }

    /// One of `choices`, each as likely.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[(self.bits() % choices.len() as u64) as usize]
    }

    /// An index, as likely as its weight says.
    pub fn weighted<const N: usize>(&mut self, weights: [f32; N]) -> usize {
        let mut rest = self.unit() * weights.iter().sum::<f32>();
        for (index, weight) in weights.iter().enumerate() {
            rest -= weight;
            if rest < 0.0 {
                return index;
            }
        }
        N - 1
    }
}

/// The sine of an angle in turns, within 0.002 (Bhaskara's approximation). Unlike libm's it is the same
/// everywhere.
pub fn sine(turns: f64) -> f32 {
    let turn = (turns - turns.floor()) as f32;
    let (half, sign) = if turn < 0.5 { (turn * 2.0, 1.0) } else { (turn * 2.0 - 1.0, -1.0) };
    let bow = half * (1.0 - half);
    sign * 16.0 * bow / (5.0 - 4.0 * bow)
}

/// The cosine of an angle in turns.
pub fn cosine(turns: f64) -> f32 {
    sine(turns + 0.25)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sine_follows_the_real_one() {
        for step in -200..200 {
            let turns = f64::from(step) / 73.0;
            let real = (turns * std::f64::consts::TAU).sin() as f32;
            assert!(
                (sine(turns) - real).abs() < 0.002,
                "at {turns} turns: {} instead of {real}",
                sine(turns)
            );
        }
    }

    #[test]
    fn other_keys_give_other_streams() {
        let first = Random::of(1, &[1, 2]).bits();
        assert_eq!(first, Random::of(1, &[1, 2]).bits());
        assert_ne!(first, Random::of(1, &[2, 1]).bits());
        assert_ne!(first, Random::of(2, &[1, 2]).bits());
    }
}
