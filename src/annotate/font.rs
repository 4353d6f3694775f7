//! A font of five by seven pixels: ASCII, and a box for everything else.

/// Width and height of a glyph, without the space between two.
pub(super) const WIDTH: usize = 5;
/// As [`WIDTH`].
pub(super) const HEIGHT: usize = 7;

/// Rows of `#` and `.` for the characters from `' '` to `'~'`, sixteen side by side.
const SHEET: &str = include_str!("font.txt");

/// A glyph: seven rows, the leftmost pixel the highest of five bits.
pub(super) type Glyph = [u8; HEIGHT];

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

    pub fn glyph(&self, character: char) -> Glyph {
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
