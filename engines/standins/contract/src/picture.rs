//! What the stand-in decoder "decodes": a picture that is a function of nothing but its number and the place in it.
//!
//! Numbers count the pictures of one decoder in decoding order, from 0. Values are those of limited range. The first
//! [`STAMP_BITS`] columns of the luma's first [`STAMP_ROWS`] rows are the number itself, lowest bit first, each bit
//! [`STAMP_CELL`] pixels wide, so that a reader knows which picture it has before it looks at the rest.

/// Bits of the number in a picture.
pub const STAMP_BITS: u32 = 16;
/// Width of one bit in pixels.
pub const STAMP_CELL: u32 = 4;
/// Height of the stamp in pixels.
pub const STAMP_ROWS: u32 = 4;

const DARK: u8 = 16;
const BRIGHT: u8 = 235;

/// The luma of picture `number` at column `x` and row `y`.
pub fn luma(number: u32, x: u32, y: u32) -> u8 {
    if y < STAMP_ROWS && x < STAMP_BITS * STAMP_CELL {
        return if number >> (x / STAMP_CELL) & 1 == 1 { BRIGHT } else { DARK };
    }
    DARK + ((x + 2 * y + 8 * number) % 220) as u8
}

/// The chroma (U, V) of picture `number` at column `x` and row `y` of the half-size chroma plane.
pub fn chroma(number: u32, x: u32, y: u32) -> (u8, u8) {
    (16 + ((x + 4 * number) % 225) as u8, 16 + ((y + 4 * number) % 225) as u8)
}

/// The number in a picture's luma, whose rows are `stride` bytes apart; `None` where there is no stamp.
pub fn number(luma: &[u8], stride: usize) -> Option<u32> {
    let row = (STAMP_ROWS / 2) as usize * stride;
    (0..STAMP_BITS).try_fold(0, |number, bit| {
        match *luma.get(row + (bit * STAMP_CELL + STAMP_CELL / 2) as usize)? {
            DARK => Some(number),
            BRIGHT => Some(number | 1 << bit),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stamp_can_be_read_back() {
        let stride = 80;
        for n in [0, 1, 2, 77, 65535] {
            let plane: Vec<u8> = (0..8).flat_map(|y| (0..stride).map(move |x| luma(n, x, y))).collect();
            assert_eq!(number(&plane, stride as usize), Some(n));
        }
        assert_eq!(number(&[0x7f; 8 * 80], 80), None);
    }
}
