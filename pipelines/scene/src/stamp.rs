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

/// All 48 cells, the first as the most significant bit. The checksum begins with 0xFF so that zeros do not pass.
fn bits_of(number: u32) -> u64 {
    u64::from(PATTERN) << 40 | u64::from(number) << 8 | u64::from(crc8(0xFF, &number.to_be_bytes()))
}

/// CRC-8 with the polynomial x^8 + x^2 + x + 1 (0x07), most significant bit first.
fn crc8(start: u8, bytes: &[u8]) -> u8 {
    bytes.iter().fold(start, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc, _| if crc & 0x80 != 0 { crc << 1 ^ 0x07 } else { crc << 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    const SIZES: [(usize, usize); 9] = [
        (160, 120),
        (120, 160),
        (96, 96),
        (176, 144),
        (320, 180),
        (640, 360),
        (854, 480),
        (1280, 720),
        (3840, 2160),
    ];

    fn noise(luma: &mut [u8], strength: f32, random: &mut Random) {
        for sample in luma {
            *sample = (f32::from(*sample) + strength * random.between(-1.0, 1.0)).clamp(0.0, 255.0) as u8;
        }
    }

    /// Every sample becomes the mean of the 3x3 around it: what a starved encoder leaves of an edge.
    fn blur(luma: &[u8], width: usize) -> Vec<u8> {
        let height = luma.len() / width;
        let mean = |index: usize| {
            let (x, y) = (index % width, index / width);
            let (columns, rows) =
                (x.saturating_sub(1)..(x + 2).min(width), y.saturating_sub(1)..(y + 2).min(height));
            let count = columns.len() * rows.len();
            let sum: usize =
                rows.map(|r| columns.clone().map(|c| usize::from(luma[r * width + c])).sum::<usize>()).sum();
            (sum / count) as u8
        };
        (0..luma.len()).map(mean).collect()
    }

    #[test]
    fn what_was_drawn_is_read_at_every_size_and_stride() {
        for (width, height) in SIZES {
            let stride = width + 13;
            let mut luma = vec![90; stride * height];
            for number in [0, 1, 255, 0x5555_5555, 0xAAAA_AAAA, 123_456_789, u32::MAX] {
                draw(&mut luma, stride, width, height, number);
                assert_eq!(read(&luma, stride, width, height), Some(number), "{width}x{height}");
            }
        }
    }

    #[test]
    fn it_survives_blur_noise_and_a_change_of_range() {
        let mut random = Random::of(1, &[]);
        for (width, height) in SIZES.into_iter().filter(|size| size.0 <= 1280) {
            for round in 0..6 {
                let number = random.bits() as u32;
                let mut luma = vec![128; width * height];
                noise(&mut luma, 100.0, &mut random);
                draw(&mut luma, width, width, height, number);
                luma = blur(&luma, width);
                noise(&mut luma, 40.0, &mut random);
                if round % 2 == 0 {
                    // Darker and flatter, as a wrong colour range or a dim transcoder would have it.
                    luma.iter_mut().for_each(|sample| *sample = (f32::from(*sample) * 0.6 + 10.0) as u8);
                }
                assert_eq!(
                    read(&luma, width, width, height),
                    Some(number),
                    "{width}x{height}, round {round}"
                );
            }
        }
    }

    #[test]
    fn a_wrong_cell_is_noticed() {
        let (width, height) = (640, 360);
        let cell = cell_pixels(width, height);
        let [left, top, _, _] = strip(width, height);
        for index in 0..CELLS {
            let mut luma = vec![0; width * height];
            draw(&mut luma, width, width, height, 4711);
            for y in 0..cell {
                let start = (top + index / COLUMNS * cell + y) * width + left + index % COLUMNS * cell;
                luma[start..start + cell].iter_mut().for_each(|sample| *sample = 251 - *sample);
            }
            assert_eq!(read(&luma, width, width, height), None, "cell {index} was turned round");
        }
    }

    #[test]
    fn pictures_without_a_stamp_read_as_none() {
        let mut random = Random::of(2, &[]);
        let (width, height) = (160, 120);
        let mut luma = vec![0; width * height];
        for shade in 0..=255 {
            luma.fill(shade);
            assert_eq!(read(&luma, width, width, height), None);
        }
        for _ in 0..200 {
            luma.iter_mut().for_each(|sample| *sample = random.bits() as u8);
            assert_eq!(read(&luma, width, width, height), None);
        }
        // The hardest case: black and white cells by chance. Pattern and checksum let 1 of 65536 pass.
        let cell = cell_pixels(width, height);
        let [_, top, strip_width, strip_height] = strip(width, height);
        let mut passed = 0;
        for _ in 0..20_000 {
            let bits = random.bits();
            for y in 0..strip_height {
                for x in 0..strip_width {
                    let index = y / cell * COLUMNS + x / cell;
                    luma[(top + y) * width + x] = if bits >> index & 1 == 1 { WHITE } else { BLACK };
                }
            }
            passed += u32::from(read(&luma, width, width, height).is_some());
        }
        assert!(passed <= 4, "{passed} of 20000 chance patterns passed");
    }

    #[test]
    fn a_picture_too_small_for_a_stamp_is_left_alone() {
        let mut luma = vec![7; 80 * 40];
        draw(&mut luma, 80, 80, 40, 1);
        assert!(luma.iter().all(|&sample| sample == 7));
        assert_eq!(read(&luma, 80, 80, 40), None);
        assert!(!fits(80, 40) && fits(96, 8));
    }

    #[test]
    fn crc8_agrees_with_the_published_check_value() {
        // CRC-8/SMBUS in Greg Cook's catalogue.
        assert_eq!(crc8(0, b"123456789"), 0xF4);
    }
}
