//! A decoded picture in device memory.

use std::marker::PhantomData;

use watchpost_picture::{Matrix, PictureError, Range};

use crate::error::CudaError;
use crate::stream::RawStream;

/// One plane. Row `y` starts at `address + y * stride_bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DevicePlane {
    /// The device's address of the first sample.
    pub address: u64,
    /// Distance between the starts of two rows, in bytes.
    pub stride_bytes: usize,
}

/// How luma and chroma lie in device memory. Chroma has half the size both ways, rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceLayout {
    /// 8 bits: luma, then U V pairs.
    Nv12 {
        /// Luma.
        y: DevicePlane,
        /// Interleaved U and V.
        uv: DevicePlane,
    },
    /// 8 bits: three planes.
    I420 {
        /// Luma.
        y: DevicePlane,
        /// Blue difference.
        u: DevicePlane,
        /// Red difference.
        v: DevicePlane,
    },
    /// As NV12 in little-endian 16-bit words whose upper 10 bits are the sample.
    P010 {
        /// Luma.
        y: DevicePlane,
        /// Interleaved U and V.
        uv: DevicePlane,
    },
}

/// A picture that someone has mapped for as long as `'a`. Sizes are in pixels and may be odd.
#[derive(Debug, Clone, Copy)]
pub struct DevicePicture<'a> {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) layout: DeviceLayout,
    pub(crate) matrix: Matrix,
    pub(crate) range: Range,
    pub(crate) ready: Option<RawStream>,
    mapped: PhantomData<&'a ()>,
}

/// Largest side of a picture: positions in it are exact in 32 bits up to here.
pub(crate) const SIDE_MAX: u32 = 65_535;

impl DevicePicture<'_> {
    /// A picture of planes that the caller has mapped. Work that `ready` was given before
    /// [`Letterboxer::letterbox`](crate::Letterboxer::letterbox) is called is waited for on the GPU; `None` says that the
    /// picture is complete.
    ///
    /// # Safety
    /// The planes are device memory of the GPU that will read them, in its primary context, with all the rows that the
    /// geometry says. They stay so, and are not written, until [`Letterboxer::finish`](crate::Letterboxer::finish) has
    /// returned, or the letterboxer is dropped. `ready` is a living stream of the same context.
    pub unsafe fn new(
        width: u32,
        height: u32,
        layout: DeviceLayout,
        matrix: Matrix,
        range: Range,
        ready: Option<RawStream>,
    ) -> Self {
        Self { width, height, layout, matrix, range, ready, mapped: PhantomData }
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Where the planes are.
    pub fn layout(&self) -> DeviceLayout {
        self.layout
    }

    /// What can be seen without touching the memory.
    pub(crate) fn check(&self) -> Result<(), CudaError> {
        let (width, height) = (self.width, self.height);
        if width == 0 || height == 0 {
            return Err(PictureError::Empty { width, height }.into());
        }
        if width > SIDE_MAX || height > SIDE_MAX {
            return Err(CudaError::PictureLayout { reason: "it is more than 65535 pixels wide or high" });
        }
        let (columns, chroma_columns) = (width as usize, width.div_ceil(2) as usize);
        let (rows, chroma_rows) = (height, height.div_ceil(2));
        match self.layout {
            DeviceLayout::Nv12 { y, uv } => {
                y.check("Y", columns, rows)?;
                uv.check("UV", 2 * chroma_columns, chroma_rows)
            }
            DeviceLayout::I420 { y, u, v } => {
                y.check("Y", columns, rows)?;
                u.check("U", chroma_columns, chroma_rows)?;
                v.check("V", chroma_columns, chroma_rows)
            }
            DeviceLayout::P010 { y, uv } => {
                y.check("Y", 2 * columns, rows)?;
                uv.check("UV", 4 * chroma_columns, chroma_rows)?;
                let words =
                    [y, uv].iter().all(|p| p.address.is_multiple_of(2) && p.stride_bytes.is_multiple_of(2));
                let reason = "its 16-bit samples lie at odd addresses";
                if words { Ok(()) } else { Err(CudaError::PictureLayout { reason }) }
            }
        }
    }
}

impl DevicePlane {
    /// The same plane, read from some bytes later on.
    pub(crate) fn after(self, bytes: u64) -> Self {
        Self { address: self.address + bytes, ..self }
    }

    fn check(&self, plane: &'static str, row_bytes: usize, rows: u32) -> Result<(), CudaError> {
        let stride_bytes = self.stride_bytes;
        if rows > 1 && stride_bytes < row_bytes {
            return Err(PictureError::Stride { plane, row_bytes, stride_bytes }.into());
        }
        if self.address == 0 {
            return Err(CudaError::PictureLayout { reason: "a plane is not mapped" });
        }
        if u32::try_from(stride_bytes).is_err() {
            return Err(CudaError::PictureLayout { reason: "its rows are more than 4 GiB apart" });
        }
        Ok(())
    }
}
