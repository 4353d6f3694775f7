//! What a stream's headers say about its pictures.

use crate::abi::{Rectangle, VideoFormat};

/// A format, and how far pictures are out of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    pub video: VideoFormat,
    /// How many pictures may come before one that is shown before them.
    pub reorder: u32,
}

/// What part of a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A sequence header.
    Header(Format),
    /// The first slice of a picture.
    Picture { is_intra: bool },
}

/// Sizes and depths, in the words of all codecs.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub codec: u32,
    pub coded: (u32, u32),
    /// Left, right, top, bottom: pixels that are not shown.
    pub crop: [u32; 4],
    pub chroma: u32,
    pub luma_depth: u32,
    pub chroma_depth: u32,
    pub references: u32,
    pub is_progressive: bool,
}

impl Sizes {
    /// `None` when nothing of the picture would be left.
    pub fn format(self, reorder: u32, signal: [u8; 4]) -> Option<Format> {
        let (width, height) = self.coded;
        let [left, right, top, bottom] = self.crop;
        let display_area = Rectangle {
            left: left as i32,
            top: top as i32,
            right: width.checked_sub(right)? as i32,
            bottom: height.checked_sub(bottom)? as i32,
        };
        if display_area.right <= display_area.left
            || display_area.bottom <= display_area.top
            || width > 16384
            || height > 16384
        {
            return None;
        }
        let video = VideoFormat {
            codec: self.codec,
            is_progressive: self.is_progressive.into(),
            luma_depth_minus8: self.luma_depth.checked_sub(8)? as u8,
            chroma_depth_minus8: self.chroma_depth.checked_sub(8)? as u8,
            min_surfaces: (self.references.max(reorder) + 4).min(32) as u8,
            coded_width: width,
            coded_height: height,
            display_area,
            chroma: self.chroma,
            aspect_ratio: [display_area.right - display_area.left, display_area.bottom - display_area.top],
            signal,
            ..VideoFormat::default()
        };
        Some(Format { video, reorder: reorder.min(16) })
    }
}

/// Nothing is said about the signal: unspecified format, primaries, transfer, matrix; limited range.
pub const UNSPECIFIED: [u8; 4] = [5, 2, 2, 2];
