//! How long to wait before the next opening.

use std::time::Duration;

/// Bounds of the wait.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BackoffOptions {
    /// First wait.
    pub min: Duration,
    /// Longest wait.
    pub max: Duration,
}

/// Doubling wait with jitter: `min(max, min * 2^failures)` times a factor drawn from 0.75..=1.
///
/// Jitter keeps cameras that died together (a switch rebooted) from coming back together. It only ever
/// shortens, so `max` is a promise.
#[derive(Debug, Clone)]
pub struct Backoff {
    options: BackoffOptions,
    failures: u32,
    random: u64,
}

impl Backoff {
    /// `seed` makes the jitter differ from camera to camera and repeat in tests.
    pub fn new(options: BackoffOptions, seed: u64) -> Self {
        // xorshift stays at zero for ever when it starts there.
        Self { options, failures: 0, random: seed | 1 }
    }

    /// The wait after one more failure.
    pub fn next_wait(&mut self) -> Duration {
        let factor = 1u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = (self.failures + 1).min(31);
        let full = self.options.min.saturating_mul(factor).min(self.options.max);
        full.mul_f64(0.75 + 0.25 * self.draw())
    }

    /// Forgets past failures.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// A number in 0..1 (Marsaglia's xorshift64).
    fn draw(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_again_after_a_reset() {
        let options = BackoffOptions { min: Duration::from_millis(500), max: Duration::from_secs(30) };
        let mut backoff = Backoff::new(options, 7);
        for expected_ms in [500u64, 1000, 2000, 4000, 8000, 16000, 30000, 30000] {
            let wait = backoff.next_wait().as_millis() as u64;
            assert!((expected_ms * 3 / 4..=expected_ms).contains(&wait), "{wait} of {expected_ms}");
        }
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(500));
    }

    #[test]
    fn two_cameras_do_not_wait_equally_long() {
        let options = BackoffOptions { min: Duration::from_secs(1), max: Duration::from_secs(30) };
        let mut a = Backoff::new(options, 1);
        let mut b = Backoff::new(options, 0x9e37_79b9_7f4a_7c15);
        assert_ne!(a.next_wait(), b.next_wait());
    }
}
