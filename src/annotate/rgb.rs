//! From a decoded picture of any layout to the red, green and blue of a canvas, at full size; and from there to PNG.

use std::fs::File;
use std::io::{self, BufWriter};

use super::canvas::Canvas;
use crate::frame::{Layout, Matrix, Picture, PictureError, Range};

/// Fraction bits of the factors.
const BITS: u32 = 14;

/// Factors from luma and chroma to red, green and blue; ITU-R BT.601 and BT.709.
struct Factors {
    luma_offset: i32,
    luma: i32,
    red_v: i32,
    green_u: i32,
    green_v: i32,
    blue_u: i32,
}

impl Factors {
    fn new(matrix: Matrix, range: Range) -> Self {
        let (red, blue) = match matrix {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.2126, 0.0722),
        };
        let green = 1.0 - red - blue;
        let (luma_offset, luma, chroma) = match range {
            Range::Limited => (16, 255.0 / 219.0, 255.0 / 224.0),
            Range::Full => (0, 1.0, 1.0),
        };
        let fixed = |factor: f64| (factor * f64::from(1 << BITS)).round() as i32;
        Self {
            luma_offset,
            luma: fixed(luma),
            red_v: fixed(chroma * 2.0 * (1.0 - red)),
            green_u: fixed(-chroma * 2.0 * (1.0 - blue) * blue / green),
            green_v: fixed(-chroma * 2.0 * (1.0 - red) * red / green),
            blue_u: fixed(chroma * 2.0 * (1.0 - blue)),
        }
    }

    fn pixel(&self, y: u8, u: u8, v: u8) -> [u8; 3] {
        let luma = (i32::from(y) - self.luma_offset) * self.luma + (1 << (BITS - 1));
        let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
        let part = |sum: i32| (sum >> BITS).clamp(0, 255) as u8;
        [
            part(luma + self.red_v * v),
            part(luma + self.green_u * u + self.green_v * v),
            part(luma + self.blue_u * u),
        ]
    }
}

impl Canvas {
    /// Writes it into a file as PNG.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_png(&self, file: File) -> io::Result<()> {
        let (Ok(width), Ok(height)) = (u32::try_from(self.width), u32::try_from(self.height)) else {
            return Err(io::Error::other("the picture is too large for PNG"));
        };
        let mut encoder = png::Encoder::new(BufWriter::new(file), width, height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::Fast);
        let written = encoder.write_header().and_then(|mut writer| {
            writer.write_image_data(&self.pixels)?;
            writer.finish()
        });
        written.map_err(|error| match error {
            png::EncodingError::IoError(error) => error,
            error => io::Error::other(error.to_string()),
        })
    }

    /// Takes a picture over, and its size. A canvas that has held one as large allocates nothing.
    ///
    /// # Errors
    /// The picture is not whole; the canvas stays as it was.
    pub fn show(&mut self, picture: &Picture<'_>) -> Result<(), PictureError> {
        picture.check()?;
        let (width, height) = (picture.width as usize, picture.height as usize);
        self.resize(width, height);
        let factors = Factors::new(picture.matrix, picture.range);
        for (row, out) in self.pixels.chunks_exact_mut(3 * width).enumerate() {
            let out = out.as_chunks_mut::<3>().0;
            match picture.layout {
                Layout::Rgb { rgb } => out.as_flattened_mut().copy_from_slice(rgb.row(row, 3 * width)),
                Layout::Gray { y } => {
                    let luma = y.row(row, width).iter();
                    out.iter_mut().zip(luma).for_each(|(out, &y)| *out = factors.pixel(y, 128, 128));
                }
                Layout::Nv12 { y, uv } => {
                    let pairs = uv.row(row / 2, width.div_ceil(2) * 2).as_chunks::<2>().0;
                    for (column, (out, &y)) in out.iter_mut().zip(y.row(row, width)).enumerate() {
                        let [u, v] = pairs[column / 2];
                        *out = factors.pixel(y, u, v);
                    }
                }
                Layout::Planar { y, u, v, sub_x, sub_y } => {
                    let (chroma_row, columns) = (row >> sub_y, width.div_ceil(1 << sub_x));
                    let (u, v) = (u.row(chroma_row, columns), v.row(chroma_row, columns));
                    for (column, (out, &y)) in out.iter_mut().zip(y.row(row, width)).enumerate() {
                        *out = factors.pixel(y, u[column >> sub_x], v[column >> sub_x]);
                    }
                }
            }
        }
        Ok(())
    }
}
