//! Frames in this process's own memory.

use std::sync::Arc;

use super::{Layout, Matrix, Picture, Plane, Range};

/// A tightly packed I420 picture, BT.601 limited range.
#[derive(Debug, Clone)]
pub struct MemoryPicture {
    width: u32,
    height: u32,
    i420: Vec<u8>,
}

impl MemoryPicture {
    /// A grey picture; `width` and `height` must be even.
    pub fn new(width: u32, height: u32) -> Self {
        assert!(width >= 2 && height >= 2 && width.is_multiple_of(2) && height.is_multiple_of(2));
        Self { width, height, i420: vec![128; (width * height * 3 / 2) as usize] }
    }

    /// The samples, to draw into.
    pub fn i420_mut(&mut self) -> &mut [u8] {
        &mut self.i420
    }
}

/// A shared picture with its time; sending it on copies nothing.
#[derive(Debug, Clone)]
pub struct MemoryFrame {
    picture: Arc<MemoryPicture>,
    pts_ns: u64,
}

impl MemoryFrame {
    /// A frame that shows `picture`.
    pub fn new(picture: Arc<MemoryPicture>, pts_ns: u64) -> Self {
        Self { picture, pts_ns }
    }

    /// Presentation time in nanoseconds.
    pub fn pts_ns(&self) -> u64 {
        self.pts_ns
    }

    /// The picture, borrowed.
    pub fn picture(&self) -> Picture<'_> {
        let MemoryPicture { width, height, ref i420 } = *self.picture;
        let (luma, chroma) = i420.split_at((width * height) as usize);
        let (u, v) = chroma.split_at(chroma.len() / 2);
        let half = (width / 2) as usize;
        Picture {
            width,
            height,
            layout: Layout::Planar {
                y: Plane { data: luma, stride_bytes: width as usize },
                u: Plane { data: u, stride_bytes: half },
                v: Plane { data: v, stride_bytes: half },
                sub_x: 1,
                sub_y: 1,
            },
            matrix: Matrix::Bt601,
            range: Range::Limited,
        }
    }
}
