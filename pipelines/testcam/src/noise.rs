//! Seeded random bytes: SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number
//! generators").

/// A sequence of random numbers that its seed decides.
#[derive(Debug, Clone)]
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is at least 1.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// Overwrites all of `bytes`.
    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }

    /// Flips one bit in about one byte of `one_in`; where depends only on the seed.
    pub(crate) fn flip(&mut self, bytes: &mut [u8], one_in: u64) {
        for byte in bytes {
            let random = self.next();
            if (random >> 8).is_multiple_of(one_in) {
                *byte ^= 1 << (random & 7);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_damage_and_another_seed_another() {
        let damaged = |seed| {
            let mut bytes = vec![0_u8; 10_000];
            Noise::new(seed).flip(&mut bytes, 200);
            bytes
        };
        assert_eq!(damaged(1), damaged(1));
        assert_ne!(damaged(1), damaged(2));
        let hit = damaged(1).iter().filter(|&&byte| byte != 0).count();
        assert!((20..100).contains(&hit), "{hit} of 10000 bytes were hit, expected about 50");
    }
}
