//! Reading the headers of H.264 and H.265: bits, exp-Golomb numbers, NAL units.

/// Bits of a NAL unit's payload.
#[derive(Debug)]
pub struct Bits {
    bytes: Vec<u8>,
    at: usize,
}

impl Bits {
    /// Without the bytes that keep start codes from appearing.
    pub fn new(payload: &[u8]) -> Bits {
        let mut bytes = Vec::with_capacity(payload.len());
        let mut zeros = 0;
        for byte in payload {
            if zeros >= 2 && *byte == 3 {
                zeros = 0;
                continue;
            }
            zeros = if *byte == 0 { zeros + 1 } else { 0 };
            bytes.push(*byte);
        }
        Bits { bytes, at: 0 }
    }

    /// One bit; `None` at the end.
    pub fn bit(&mut self) -> Option<u32> {
        let byte = *self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit.into())
    }

    /// `true` for 1.
    pub fn flag(&mut self) -> Option<bool> {
        self.bit().map(|bit| bit == 1)
    }

    /// Up to 32 bits, highest first.
    pub fn bits(&mut self, count: u32) -> Option<u32> {
        (0..count).try_fold(0u32, |value, _| Some(value << 1 | self.bit()?))
    }

    /// Any number of bits, unread.
    pub fn skip(&mut self, count: usize) -> Option<()> {
        self.at += count;
        (self.at <= self.bytes.len() * 8).then_some(())
    }

    /// ue(v).
    pub fn unsigned(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.bit()? == 0 {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.bits(zeros)?)
    }

    /// se(v).
    pub fn signed(&mut self) -> Option<i32> {
        let code = i64::from(self.unsigned()?);
        let value = if code % 2 == 1 { (code + 1) / 2 } else { -code / 2 };
        i32::try_from(value).ok()
    }
}

/// The NAL units of a byte stream, without their start codes.
pub fn units(stream: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> =
        stream.windows(3).enumerate().filter(|(_, window)| *window == [0, 0, 1]).map(|(at, _)| at).collect();
    let ends = starts.iter().skip(1).copied().chain([stream.len()]);
    starts.iter().zip(ends).filter_map(|(start, end)| stream.get(start + 3..end)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read() {
        // 1, 010, 011, 00100, and se: 010 = 1, 011 = -1.
        let mut bits = Bits::new(&[0b1010_0110, 0b0100_0100, 0b1100_0000]);
        assert_eq!(
            (bits.unsigned(), bits.unsigned(), bits.unsigned(), bits.unsigned()),
            (Some(0), Some(1), Some(2), Some(3))
        );
        assert_eq!((bits.signed(), bits.signed()), (Some(1), Some(-1)));
        assert_eq!(Bits::new(&[0, 0, 3, 1]).bits(24), Some(1));
        assert_eq!(Bits::new(&[1]).bits(9), None);
    }

    #[test]
    fn units_lie_between_start_codes() {
        assert_eq!(units(&[9, 0, 0, 1, 7, 8, 0, 0, 0, 1, 5]), [&[7, 8, 0][..], &[5][..]]);
        assert_eq!(units(&[1, 2]), Vec::<&[u8]>::new());
    }
}
