//! A font of five by seven pixels, for boxes without any font: ASCII, and a square for everything else.

use super::canvas::Ink;

/// Width and height of a glyph, without the space between two.
const WIDTH: usize = 5;
/// As [`WIDTH`].
const HEIGHT: usize = 7;

/// Rows of `#` and `.` for the characters from `' '` to `'~'`, sixteen side by side.
const SHEET: &str = include_str!("bitmap.txt");

/// A glyph: seven rows, the leftmost pixel the highest of five bits.
type Glyph = [u8; HEIGHT];

/// What is drawn for characters that the font does not have.
const UNKNOWN: Glyph = [0b11111, 0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b11111];

/// The font, taken from its sheet once.
#[derive(Debug)]
pub(super) struct Font {
    glyphs: Vec<Glyph>,
}

impl Font {
    pub fn new() -> Self {
        let rows: Vec<&str> = SHEET.lines().filter(|line| !line.is_empty()).collect();
        let glyphs = rows
            .chunks(HEIGHT)
            .flat_map(|rows| {
                let columns = rows.first().map_or(0, |row| (row.len() + 1) / (WIDTH + 1));
                (0..columns).map(move |column| {
                    std::array::from_fn(|row| {
                        let start = column * (WIDTH + 1);
                        let pixels =
                            rows.get(row).and_then(|row| row.get(start..start + WIDTH)).unwrap_or("");
                        pixels.bytes().fold(0, |bits, pixel| bits << 1 | u8::from(pixel == b'#'))
                    })
                })
            })
            .collect();
        Self { glyphs }
    }

    /// A text in letters about `size` pixels high, in an ink of `height` rows.
    pub fn write(&self, text: &str, size: f32, height: usize) -> Ink {
        let scale = ((size / 10.0).round() as usize).max(1);
        let top = height.saturating_sub(HEIGHT * scale) / 2;
        let width = text.chars().count() * (WIDTH + 1) * scale;
        let mut cover = vec![0; width * height];
        for (index, character) in text.chars().enumerate() {
            for (row, bits) in self.glyph(character).into_iter().enumerate() {
                for column in (0..WIDTH).filter(|column| bits >> (WIDTH - 1 - column) & 1 == 1) {
                    let left = (index * (WIDTH + 1) + column) * scale;
                    for y in (top + row * scale..top + (row + 1) * scale).take_while(|&y| y < height) {
                        cover[y * width + left..y * width + left + scale].fill(255);
                    }
                }
            }
        }
        Ink { width, advance: width, cover }
    }

    fn glyph(&self, character: char) -> Glyph {
        let index = (character as usize).checked_sub(' ' as usize);
        index.and_then(|index| self.glyphs.get(index)).copied().unwrap_or(UNKNOWN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_printable_character_has_a_glyph_of_its_own() {
        let font = Font::new();
        assert_eq!(font.glyphs.len(), ('~' as usize) - (' ' as usize) + 1);
        assert_eq!(font.glyph(' '), [0; 7]);
        assert_eq!(font.glyph('I'), [0b01110, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110]);
        let mut seen = std::collections::HashSet::new();
        for character in ' '..='~' {
            assert!(seen.insert(font.glyph(character)), "{character:?} looks like another one");
        }
        assert_eq!(font.glyph('人'), UNKNOWN);
    }
}
