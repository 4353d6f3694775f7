//! A picture of red, green and blue that is drawn on: pixels, rectangles, inks.

use super::raster::Raster;

/// Red, green, blue.
pub type Color = [u8; 3];

/// All of a color, in [`Canvas`]'s parts.
pub const OPAQUE: u32 = 256;

/// Three bytes a pixel, row by row. Its memory grows to the largest picture that it held, never beyond.
#[derive(Debug, Clone, Default)]
pub struct Canvas {
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// `3 * width * height` bytes.
    pub pixels: Vec<u8>,
    /// What polygons are summed up in.
    pub(super) raster: Raster,
}

impl Canvas {
    /// A black picture.
    pub fn new(width: usize, height: usize) -> Self {
        let mut canvas = Self::default();
        canvas.resize(width, height);
        canvas
    }

    /// Makes it another size. What it shows afterwards is undefined where it was not black before.
    pub fn resize(&mut self, width: usize, height: usize) {
        (self.width, self.height) = (width, height);
        self.pixels.resize(3 * width * height, 0);
    }

    /// The color of a pixel; `None` outside.
    pub fn get(&self, x: usize, y: usize) -> Option<Color> {
        let at = (x < self.width && y < self.height).then_some(3 * (y * self.width + x))?;
        self.pixels.get(at..at + 3)?.try_into().ok()
    }

    /// The pixels of row `y` from `from` to before `to`, cut to the picture.
    pub(super) fn span(&mut self, y: i64, from: i64, to: i64) -> &mut [[u8; 3]] {
        let (from, to) = (from.clamp(0, self.width as i64), to.clamp(0, self.width as i64));
        if !(0..self.height as i64).contains(&y) || from >= to {
            return &mut [];
        }
        let row = y as usize * self.width;
        let span = &mut self.pixels[3 * (row + from as usize)..3 * (row + to as usize)];
        span.as_chunks_mut::<3>().0
    }

    /// Fills the rectangle from `(x1, y1)` to before `(x2, y2)`.
    pub fn fill(&mut self, rectangle: [i64; 4], color: Color) {
        self.tint(rectangle, color, OPAQUE);
    }

    /// Mixes `parts` of 256 of a color into a rectangle.
    pub fn tint(&mut self, [x1, y1, x2, y2]: [i64; 4], color: Color, parts: u32) {
        for y in y1.max(0)..y2.min(self.height as i64) {
            self.span(y, x1, x2).iter_mut().for_each(|pixel| mix(pixel, color, parts));
        }
    }

    /// The frame of a box, `thickness` pixels inside of it.
    pub fn frame(&mut self, bbox: [f32; 4], thickness: i64, color: Color, parts: u32) {
        let [x1, y1, x2, y2] = bbox.map(whole);
        let (upper, lower) = ((y1 + thickness).min(y2), (y2 - thickness).max(y1 + thickness));
        self.tint([x1, y1, x2, upper], color, parts);
        self.tint([x1, lower, x2, y2], color, parts);
        self.tint([x1, upper, (x1 + thickness).min(x2), lower], color, parts);
        self.tint([(x2 - thickness).max(x1 + thickness), upper, x2, lower], color, parts);
    }

    /// Lays an ink on the picture, its upper left corner at `(x, y)`, and of it at most `width` columns.
    pub(super) fn ink(&mut self, ink: &Ink, [x, y]: [i64; 2], width: i64, color: Color) {
        let columns = (ink.width as i64).min(width);
        if columns <= 0 {
            return;
        }
        // Columns left of the picture.
        let hidden = (-x).clamp(0, columns) as usize;
        for (row, cover) in ink.cover.chunks_exact(ink.width).enumerate() {
            let pixels = self.span(y + row as i64, x, x + columns);
            for (pixel, &cover) in pixels.iter_mut().zip(&cover[hidden..]) {
                mix(pixel, color, u32::from(cover) + u32::from(cover >> 7));
            }
        }
    }
}

/// How much of each pixel is covered, 0..=255, row by row: a drawn text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ink {
    pub width: usize,
    /// Columns from where it begins to where what follows does.
    pub advance: usize,
    pub cover: Vec<u8>,
}

/// Mixes `parts` of 256 of a color into a pixel.
pub(super) fn mix(pixel: &mut [u8; 3], color: Color, parts: u32) {
    for (old, new) in pixel.iter_mut().zip(color) {
        *old = ((u32::from(*old) * (OPAQUE - parts) + u32::from(new) * parts + 128) / OPAQUE) as u8;
    }
}

/// A side, whatever it is, on whole pixels.
pub(super) fn whole(side: f32) -> i64 {
    side.round().clamp(-1e9, 1e9) as i64
}
