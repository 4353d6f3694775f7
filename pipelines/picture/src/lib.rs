//! A decoded picture in system memory: borrowed planes, geometry and colour.
//!
//! The words that the decoders' side, the letterbox and the GPU's kernel share. No pixel is touched here.

/// One plane of 8-bit samples. Row `y` starts at `data[y * stride_bytes]`; a row may be padded.
#[derive(Debug, Clone, Copy)]
pub struct Plane<'a> {
    /// The samples; at least `(rows - 1) * stride_bytes + row_bytes` long.
    pub data: &'a [u8],
    /// Distance between the starts of two rows, in bytes.
    pub stride_bytes: usize,
}

/// How luma and chroma lie in memory.
#[derive(Debug, Clone, Copy)]
pub enum Layout<'a> {
    /// Three planes. Chroma is subsampled by `1 << sub_x` and `1 << sub_y`:
    /// I420 is (1, 1), Y42B is (1, 0), Y444 is (0, 0). Chroma planes have `ceil(size / subsampling)` samples.
    Planar {
        /// Luma, full size.
        y: Plane<'a>,
        /// Blue difference.
        u: Plane<'a>,
        /// Red difference.
        v: Plane<'a>,
        /// log2 of the horizontal subsampling.
        sub_x: u8,
        /// log2 of the vertical subsampling.
        sub_y: u8,
    },
    /// Luma, then one plane of U V pairs at half size both ways.
    Nv12 {
        /// Luma, full size.
        y: Plane<'a>,
        /// Interleaved U and V.
        uv: Plane<'a>,
    },
    /// Luma only (infrared cameras): grey.
    Gray {
        /// Luma, full size.
        y: Plane<'a>,
    },
    /// Red, green and blue of a pixel behind each other (single pictures). Matrix and range mean nothing.
    Rgb {
        /// Three bytes a pixel.
        rgb: Plane<'a>,
    },
}

/// The matrix between Y'CbCr and R'G'B'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Matrix {
    /// ITU-R BT.601: SD video and JPEG.
    Bt601,
    /// ITU-R BT.709: HD video.
    Bt709,
}

/// Which code values are black and white.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Range {
    /// Luma 16..=235, chroma 16..=240 ("TV", "MPEG").
    Limited,
    /// 0..=255 ("PC", "JPEG").
    Full,
}

/// A borrowed picture. Sizes are in pixels and may be odd.
#[derive(Debug, Clone, Copy)]
pub struct Picture<'a> {
    /// Width in pixels, at least 1.
    pub width: u32,
    /// Height in pixels, at least 1.
    pub height: u32,
    /// The planes.
    pub layout: Layout<'a>,
    /// Colour matrix, from the caps.
    pub matrix: Matrix,
    /// Code range, from the caps.
    pub range: Range,
}

/// Why a picture cannot be read: its planes do not hold what its geometry says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PictureError {
    /// A picture without pixels.
    #[error("the picture is {width}x{height}: both must be at least 1; the frame's caps are wrong")]
    Empty {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// A chroma subsampling that no format has.
    #[error("chroma subsampled by 2^{sub_x} and 2^{sub_y} is not supported: at most 2^2 each way")]
    Subsampling {
        /// log2 of the horizontal subsampling.
        sub_x: u8,
        /// log2 of the vertical subsampling.
        sub_y: u8,
    },
    /// Rows would overlap.
    #[error(
        "plane {plane} has {row_bytes} bytes a row but a stride of {stride_bytes}: the frame's caps are wrong"
    )]
    Stride {
        /// `"Y"`, `"U"`, `"V"`, `"UV"` or `"RGB"`.
        plane: &'static str,
        /// Bytes of samples in a row.
        row_bytes: usize,
        /// Distance between two rows.
        stride_bytes: usize,
    },
    /// The buffer ends before the last row does.
    #[error(
        "plane {plane} is truncated: {rows} rows of {row_bytes} bytes, {stride_bytes} apart, do not fit into {got_bytes} bytes"
    )]
    Truncated {
        /// `"Y"`, `"U"`, `"V"`, `"UV"` or `"RGB"`.
        plane: &'static str,
        /// Rows of the plane.
        rows: usize,
        /// Bytes of samples in a row.
        row_bytes: usize,
        /// Distance between two rows.
        stride_bytes: usize,
        /// Length of the plane's data.
        got_bytes: usize,
    },
}

impl Picture<'_> {
    /// Sees that every plane holds all the rows that the geometry says, in constant time.
    /// After it nobody who keeps to the geometry reads past the end of a plane.
    ///
    /// # Errors
    /// [`PictureError`], naming the plane.
    pub fn check(&self) -> Result<(), PictureError> {
        if self.width == 0 || self.height == 0 {
            return Err(PictureError::Empty { width: self.width, height: self.height });
        }
        let (width, height) = (self.width as usize, self.height as usize);
        match self.layout {
            Layout::Planar { y, u, v, sub_x, sub_y } => {
                if sub_x > 2 || sub_y > 2 {
                    return Err(PictureError::Subsampling { sub_x, sub_y });
                }
                let (columns, rows) = (width.div_ceil(1 << sub_x), height.div_ceil(1 << sub_y));
                y.check("Y", width, height)?;
                u.check("U", columns, rows)?;
                v.check("V", columns, rows)
            }
            Layout::Nv12 { y, uv } => {
                y.check("Y", width, height)?;
                uv.check("UV", width.div_ceil(2).saturating_mul(2), height.div_ceil(2))
            }
            Layout::Gray { y } => y.check("Y", width, height),
            Layout::Rgb { rgb } => rgb.check("RGB", width.saturating_mul(3), height),
        }
    }
}

impl<'a> Plane<'a> {
    /// The first `row_bytes` of row `row`.
    ///
    /// # Panics
    /// Where [`Picture::check`] would have failed.
    pub fn row(&self, row: usize, row_bytes: usize) -> &'a [u8] {
        let start = row * self.stride_bytes;
        &self.data[start..start + row_bytes]
    }

    fn check(&self, plane: &'static str, row_bytes: usize, rows: usize) -> Result<(), PictureError> {
        let (stride_bytes, got_bytes) = (self.stride_bytes, self.data.len());
        if rows > 1 && stride_bytes < row_bytes {
            return Err(PictureError::Stride { plane, row_bytes, stride_bytes });
        }
        let end = (rows - 1).checked_mul(stride_bytes).and_then(|start| start.checked_add(row_bytes));
        match end {
            Some(end) if end <= got_bytes => Ok(()),
            _ => Err(PictureError::Truncated { plane, rows, row_bytes, stride_bytes, got_bytes }),
        }
    }
}
