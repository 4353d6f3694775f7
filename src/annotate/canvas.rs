//! A picture of red, green and blue that is drawn on.

use super::font::{Font, HEIGHT, WIDTH};

/// Red, green, blue.
pub type Color = [u8; 3];

/// Three bytes a pixel, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canvas {
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// `3 * width * height` bytes.
    pub pixels: Vec<u8>,
}

impl Canvas {
    /// A black picture.
    pub fn new(width: usize, height: usize) -> Self {
        Self { width, height, pixels: vec![0; 3 * width * height] }
    }

    /// The color of a pixel; `None` outside.
    pub fn get(&self, x: usize, y: usize) -> Option<Color> {
        let at = (x < self.width && y < self.height).then_some(3 * (y * self.width + x))?;
        self.pixels.get(at..at + 3)?.try_into().ok()
    }

    /// Mixes `color` into a pixel, `parts` of 256; outside nothing happens.
    fn mix(&mut self, x: i64, y: i64, color: Color, parts: u32) {
        let inside = (0..self.width as i64).contains(&x) && (0..self.height as i64).contains(&y);
        if !inside {
            return;
        }
        let at = 3 * (y as usize * self.width + x as usize);
        for (old, new) in self.pixels[at..at + 3].iter_mut().zip(color) {
            *old = ((u32::from(*old) * (256 - parts) + u32::from(new) * parts) / 256) as u8;
        }
    }

    /// Fills the rectangle from `(x1, y1)` to before `(x2, y2)`.
    pub fn fill(&mut self, [x1, y1, x2, y2]: [i64; 4], color: Color) {
        let (x1, x2) = (x1.max(0), x2.min(self.width as i64));
        for y in y1.max(0)..y2.min(self.height as i64) {
            (x1..x2).for_each(|x| self.mix(x, y, color, 256));
        }
    }

    /// The frame of a box, `thickness` pixels inside of it.
    pub fn frame(&mut self, bbox: [f32; 4], thickness: i64, color: Color) {
        // Saturating: a side may be anything.
        let [x1, y1, x2, y2] = bbox.map(|side| side.round().clamp(-1e9, 1e9) as i64);
        self.fill([x1, y1, x2, y1 + thickness], color);
        self.fill([x1, y2 - thickness, x2, y2], color);
        self.fill([x1, y1, x1 + thickness, y2], color);
        self.fill([x2 - thickness, y1, x2, y2], color);
    }

    /// A line; its points are squares of `thickness`.
    pub fn line(&mut self, from: [f32; 2], to: [f32; 2], thickness: i64, color: Color) {
        let clamp = |[x, y]: [f32; 2]| [x.clamp(-1e6, 1e6), y.clamp(-1e6, 1e6)];
        let (from, to) = (clamp(from), clamp(to));
        // Nothing that is drawn is longer than its picture's sides together.
        let longest = (2 * (self.width + self.height)) as f32;
        let steps = (to[0] - from[0]).abs().max((to[1] - from[1]).abs()).ceil().min(longest) as usize;
        for step in 0..=steps {
            let share = if steps == 0 { 0.0 } else { step as f32 / steps as f32 };
            let at =
                |axis: usize| (from[axis] + (to[axis] - from[axis]) * share).round() as i64 - thickness / 2;
            let (x, y) = (at(0), at(1));
            self.fill([x, y, x + thickness, y + thickness], color);
        }
    }

    /// The inside of a polygon, `parts` of 256 of its color (even-odd rule).
    pub fn polygon(&mut self, points: &[[f32; 2]], color: Color, parts: u32) {
        let rows = points.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), point| {
            (low.min(point[1]), high.max(point[1]))
        });
        if !(rows.0.is_finite() && rows.1.is_finite()) {
            return;
        }
        let (first, last) = (rows.0.max(0.0) as i64, rows.1.min(self.height as f32) as i64);
        let mut crossings = Vec::new();
        for y in first..=last {
            let middle = y as f32 + 0.5;
            crossings.clear();
            for (a, b) in points.iter().zip(points.iter().cycle().skip(1)) {
                if (a[1] <= middle) != (b[1] <= middle) {
                    crossings.push(a[0] + (middle - a[1]) / (b[1] - a[1]) * (b[0] - a[0]));
                }
            }
            crossings.sort_by(f32::total_cmp);
            for pair in crossings.chunks_exact(2) {
                let (from, to) = (pair[0].max(0.0) as i64, pair[1].min(self.width as f32) as i64);
                (from..to).for_each(|x| self.mix(x, y, color, parts));
            }
        }
    }

    /// One line of text, its upper left corner at `(x, y)`, each pixel of the font a square of `scale`.
    pub(super) fn text(&mut self, font: &Font, text: &str, [x, y]: [i64; 2], scale: i64, color: Color) {
        for (index, character) in text.chars().enumerate() {
            let left = x + index as i64 * (WIDTH as i64 + 1) * scale;
            for (row, bits) in font.glyph(character).into_iter().enumerate() {
                for column in (0..WIDTH).filter(|column| bits >> (WIDTH - 1 - column) & 1 == 1) {
                    let (x, y) = (left + column as i64 * scale, y + row as i64 * scale);
                    self.fill([x, y, x + scale, y + scale], color);
                }
            }
        }
    }
}

/// Width and height of a text.
pub(super) fn text_size(text: &str, scale: i64) -> (i64, i64) {
    ((text.chars().count() as i64 * (WIDTH as i64 + 1) - 1).max(0) * scale, HEIGHT as i64 * scale)
}
