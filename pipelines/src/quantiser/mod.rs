//! How coarsely a picture is coded, read from the header of its first slice.
//!
//! An encoder that is told to keep to a bit rate makes a picture with much in it coarser, not larger: its size alone hides what
//! moves. The quantiser says what the size means. Units that do not say what they should give none.

mod h264;
mod h265;
mod h265_sets;

use crate::bits::Bits;

/// A slice's header lies within so many bytes.
const HEADER_BYTES_MAX: usize = 256;
/// Parameter sets that are known at a time; cameras have one or two.
const SETS_MAX: usize = 8;

/// Reads the units of one stream, in order.
#[derive(Debug)]
pub(crate) enum Quantiser {
    H264(h264::Sets),
    H265(h265::Sets),
}

impl Quantiser {
    pub fn h264() -> Self {
        Self::H264(h264::Sets::default())
    }

    pub fn h265() -> Self {
        Self::H265(h265::Sets::default())
    }

    /// Remembers what a unit that is no slice says.
    pub fn saw(&mut self, unit: &[u8]) {
        // One that is cut off or says what this does not know is as good as none.
        let _known = match self {
            Self::H264(sets) => sets.saw(unit),
            Self::H265(sets) => sets.saw(unit),
        };
    }

    /// The quantiser (QP) of a picture whose first slice begins so.
    pub fn of_slice(&self, unit: &[u8]) -> Option<i8> {
        let bits = Bits::new(unit.get(..HEADER_BYTES_MAX).unwrap_or(unit));
        let qp = match self {
            Self::H264(sets) => sets.slice_qp(bits),
            Self::H265(sets) => sets.slice_qp(bits),
        }?;
        // 14 bits a sample have the lowest.
        i8::try_from(qp).ok().filter(|qp| (-48..=51).contains(qp))
    }
}

/// The newest parameter sets by their number.
#[derive(Debug)]
struct Numbered<T>(Vec<(u32, T)>);

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Numbered<T> {
    fn put(&mut self, number: u32, set: T) {
        self.0.retain(|(known, _)| *known != number);
        if self.0.len() >= SETS_MAX {
            self.0.remove(0);
        }
        self.0.push((number, set));
    }

    fn get(&self, number: u32) -> Option<&T> {
        self.0.iter().find(|(known, _)| *known == number).map(|(_, set)| set)
    }
}
