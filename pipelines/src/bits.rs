//! Reads the bits of a unit of H.264 or H.265.
//!
//! Sources: ITU-T H.264 7.3.1 and 9.1, ITU-T H.265 7.3.1.1 and 9.2: a byte 3 after two zeros is there to break up what would
//! look like a start code, and is not read; numbers are Exp-Golomb codes.

/// The bits of a unit, from its first byte on. Every read is `None` behind the end.
#[derive(Debug, Clone)]
pub(crate) struct Bits<'a> {
    rest: &'a [u8],
    /// Zero bytes just read.
    zeros: u32,
    byte: u8,
    left: u32,
}

impl<'a> Bits<'a> {
    pub fn new(unit: &'a [u8]) -> Self {
        Self { rest: unit, zeros: 0, byte: 0, left: 0 }
    }

    fn bit(&mut self) -> Option<u32> {
        if self.left == 0 {
            let (mut byte, mut rest) = self.rest.split_first()?;
            if self.zeros >= 2 && *byte == 3 {
                (byte, rest) = rest.split_first()?;
                self.zeros = 0;
            }
            self.zeros = if *byte == 0 { self.zeros + 1 } else { 0 };
            (self.byte, self.rest, self.left) = (*byte, rest, 8);
        }
        self.left -= 1;
        Some(u32::from(self.byte >> self.left & 1))
    }

    pub fn flag(&mut self) -> Option<bool> {
        self.bit().map(|bit| bit == 1)
    }

    /// `u(count)`, of at most 32 bits.
    pub fn number(&mut self, count: u32) -> Option<u32> {
        (0..count.min(32)).try_fold(0_u32, |number, _| Some(number << 1 | self.bit()?))
    }

    pub fn skip(&mut self, count: u32) -> Option<()> {
        (0..count).try_for_each(|_| self.bit().map(|_| ()))
    }

    /// `ue(v)`. One that does not fit into 31 bits is no number of a header.
    pub fn unsigned(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.bit()? == 0 {
            zeros += 1;
            if zeros > 30 {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.number(zeros)?)
    }

    /// `ue(v)` that is `most` at the most.
    pub fn at_most(&mut self, most: u32) -> Option<u32> {
        self.unsigned().filter(|&number| number <= most)
    }

    /// `se(v)`.
    pub fn signed(&mut self) -> Option<i32> {
        let code = self.unsigned()?;
        let half = i32::try_from(code.div_ceil(2)).ok()?;
        Some(if code % 2 == 1 { half } else { -half })
    }

    /// So many numbers that mean nothing here.
    pub fn skip_codes(&mut self, count: u32) -> Option<()> {
        (0..count).try_for_each(|_| self.unsigned().map(|_| ()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_the_standards_table_has_them() {
        // 1, 010, 011, 00100, 00111, then 00000001 0000 0000
        let mut bits = Bits::new(&[0b1010_0110, 0b0100_0011, 0b1000_0000]);
        let read: Vec<_> = (0..5).map(|_| bits.unsigned()).collect();
        assert_eq!(read, [Some(0), Some(1), Some(2), Some(3), Some(6)]);
        assert_eq!(bits.unsigned(), None, "behind the end");
        let mut bits = Bits::new(&[0b1010_0110, 0b0100_0010, 0b1000_0000]);
        let read: Vec<_> = (0..5).map(|_| bits.signed()).collect();
        assert_eq!(read, [Some(0), Some(1), Some(-1), Some(2), Some(-2)]);
        assert_eq!(Bits::new(&[0xa5, 0x5a]).number(12), Some(0xa55));
        assert_eq!(Bits::new(&[0; 40]).unsigned(), None);
    }

    #[test]
    fn bytes_that_break_up_start_codes_are_not_read() {
        let mut bits = Bits::new(&[1, 0, 0, 3, 1, 0, 0, 3, 0, 3, 0, 0, 3]);
        let read: Vec<_> = std::iter::from_fn(|| bits.number(8)).collect();
        assert_eq!(read, [1, 0, 0, 1, 0, 0, 0, 3, 0, 0]);
    }
}
