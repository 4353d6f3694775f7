//! A decoded picture as the letterbox reads it: borrowed planes, geometry and colour.

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
