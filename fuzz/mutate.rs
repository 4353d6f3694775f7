//! Seeded damage to bytes, for tests that run on every machine; libFuzzer has its own.

/// Numbers that length fields are often not prepared for.
const NUMBERS: [u32; 8] = [0, 1, 2, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff];

/// A sequence of random numbers that its seed decides: SplitMix64 (Steele, Lea, Flood 2014).
pub struct Mutator(u64);

impl Mutator {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is at least 1.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// A range of at most `most` bytes in `length` bytes, which are at least 1.
    fn range(&mut self, length: usize, most: usize) -> std::ops::Range<usize> {
        let start = self.below(length);
        let count = 1 + self.below(most.min(length - start));
        start..start + count
    }

    /// Damages `bytes` in one to eight places; what comes first is hit more often, since that is where headers are.
    pub fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..1 + self.below(8) {
            if bytes.is_empty() {
                return;
            }
            let length = if self.below(2) == 0 { bytes.len().min(512) } else { bytes.len() };
            let at = self.below(length);
            match self.below(12) {
                0..=3 => bytes[at] ^= 1 << self.below(8),
                4 => bytes[at] = self.next() as u8,
                5 | 6 => {
                    let number = NUMBERS[self.below(NUMBERS.len())];
                    let number = if self.below(2) == 0 { number.to_be_bytes() } else { number.to_le_bytes() };
                    for (byte, new) in bytes[at..].iter_mut().zip(number) {
                        *byte = new;
                    }
                }
                7 => {
                    let range = self.range(length, 64);
                    for byte in &mut bytes[range] {
                        *byte = self.next() as u8;
                    }
                }
                8 => drop(bytes.drain(self.range(length, 256))),
                9 => {
                    let range = self.range(length, 256);
                    let copy = bytes[range].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, copy);
                }
                10 => {
                    let (range, value) = (self.range(length, 64), [0, 0xff][self.below(2)]);
                    bytes[range].fill(value);
                }
                _ if self.below(3) == 0 => bytes.truncate(at),
                _ => {}
            }
        }
    }
}
