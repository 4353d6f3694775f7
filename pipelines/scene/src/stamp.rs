//! A frame number in the picture, which survives encoding.
//!
//! Two rows of 24 square cells in the bottom-left corner, black or white: 8 cells of a fixed pattern, 32 of the
//! number (most significant first), 8 of its CRC-8. A cell's size depends on the picture's size alone, so
//! [`read`] finds it where [`draw`] put it, as long as the picture was not resized in between.

const COLUMNS: usize = 24;
const ROWS: usize = 2;
const CELLS: usize = COLUMNS * ROWS;
/// The first eight cells, from the most significant bit: both colours occur four times, so they calibrate.
const PATTERN: u8 = 0b1011_0010;
const BLACK: u8 = 16;
const WHITE: u8 = 235;
/// Between the pattern's black and its white must be this much of the 219 steps there were.
const CONTRAST_MIN: f32 = 80.0;
/// A cell this far from both colours (as a share of the contrast) is neither.
const DOUBT_MAX: f32 = 0.36;

/// Width and height of one cell in pixels: 8 at 640x360, 4 at the least.
fn cell_pixels(width: usize, height: usize) -> usize {
    ((width / 64).min(height / 44)).max(4)
}

/// The box the stamp covers: x, y, width, height in pixels.
pub fn strip(width: usize, height: usize) -> [usize; 4] {
    let cell = cell_pixels(width, height);
    [0, height.saturating_sub(ROWS * cell), COLUMNS * cell, ROWS * cell]
}

/// Whether a picture of this size has room for a stamp: 96 pixels wide, 8 high.
pub fn fits(width: usize, height: usize) -> bool {
    let [_, _, strip_width, strip_height] = strip(width, height);
    width >= strip_width && height >= strip_height
}

/// Puts `number` into the picture. A picture too small for it ([`fits`]) stays as it is.
///
/// # Panics
/// When `luma` is shorter than `height` lines of `stride` bytes, or a line than `width`.
pub fn draw(luma: &mut [u8], stride: usize, width: usize, height: usize, number: u32) {
    if !fits(width, height) {
        return;
    }
    let bits = bits_of(number);
    let [left, top, strip_width, strip_height] = strip(width, height);
    let cell = cell_pixels(width, height);
    for y in 0..strip_height {
        let line = &mut luma[(top + y) * stride + left..][..strip_width];
        for (column, pixels) in line.chunks_exact_mut(cell).enumerate() {
            let white = bits >> (CELLS - 1 - (y / cell * COLUMNS + column)) & 1 == 1;
            pixels.fill(if white { WHITE } else { BLACK });
        }
    }
}

/// Reads the number off a picture; `None` when it carries none, or one that cannot be read with certainty.
///
/// # Panics
/// When `luma` is shorter than `height` lines of `stride` bytes, or a line than `width`.
pub fn read(luma: &[u8], stride: usize, width: usize, height: usize) -> Option<u32> {
    if !fits(width, height) {
        return None;
    }
    let [left, top, _, _] = strip(width, height);
    let cell = cell_pixels(width, height);
    // The rim of a cell is where encoders blur.
    let rim = cell / 4;
    let inner = cell - 2 * rim;
    let mut means = [0.0_f32; CELLS];
    for (index, mean) in means.iter_mut().enumerate() {
        let x = left + index % COLUMNS * cell + rim;
        let y = top + index / COLUMNS * cell + rim;
        let lines = (y..y + inner).map(|line| &luma[line * stride + x..][..inner]);
        let sum: u32 = lines.flatten().map(|&sample| u32::from(sample)).sum();
        *mean = sum as f32 / (inner * inner) as f32;
    }
    let (mut black, mut white) = (0.0, 0.0);
    for (index, mean) in means[..8].iter().enumerate() {
        *(if PATTERN >> (7 - index) & 1 == 1 { &mut white } else { &mut black }) += mean / 4.0;
    }
    if white - black < CONTRAST_MIN {
        return None;
    }
    let mut bits = 0_u64;
    for mean in means {
        let level = (mean - black) / (white - black);
        if level.abs().min((level - 1.0).abs()) > DOUBT_MAX {
            return None;
        }
        bits = bits << 1 | u64::from(level > 0.5);
    }
    let number = (bits >> 8) as u32;
    (bits == bits_of(number)).then_some(number)
}

fn bits_of(number: u32) -> u64 {
    u64::from(PATTERN) << 40 | u64::from(number) << 8 | u64::from(crc8(number.to_be_bytes()))
}

/// CRC-8 with the polynomial x^8 + x^2 + x + 1 (0x07), begun with 0xFF so that zeros do not pass.
fn crc8(bytes: [u8; 4]) -> u8 {
    bytes.iter().fold(0xFF, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc, _| if crc & 0x80 != 0 { crc << 1 ^ 0x07 } else { crc << 1 })
    })
}
