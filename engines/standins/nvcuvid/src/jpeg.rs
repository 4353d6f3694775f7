//! JPEG: the frame header, and where a picture ends.

use crate::abi::{CHROMA_420, CHROMA_422, CHROMA_444, JPEG};
use crate::format::{Part, Sizes, UNSPECIFIED};

/// Bytes from the beginning of `stream` to the end of its first picture.
pub fn first_picture_bytes(stream: &[u8]) -> Option<usize> {
    stream.windows(2).position(|window| window == [0xff, 0xd9]).map(|at| at + 2)
}

/// The parts of one picture.
pub fn parts(picture: &[u8]) -> Vec<Part> {
    header(picture).map_or_else(Vec::new, |header| vec![header, Part::Picture { is_intra: true }])
}

fn header(picture: &[u8]) -> Option<Part> {
    let word = |at: usize| Some(usize::from(*picture.get(at)?) << 8 | usize::from(*picture.get(at + 1)?));
    let mut at = 2;
    loop {
        let marker = word(at)?;
        // Start of frame: baseline, extended, progressive.
        if (0xffc0..=0xffc2).contains(&marker) {
            let (depth, height, width) =
                (u32::from(*picture.get(at + 4)?), word(at + 5)? as u32, word(at + 7)? as u32);
            let chroma = match picture.get(at + 11)? {
                0x22 => CHROMA_420,
                0x21 => CHROMA_422,
                _ => CHROMA_444,
            };
            let sizes = Sizes {
                codec: JPEG,
                coded: (width, height),
                crop: [0; 4],
                chroma,
                luma_depth: depth,
                chroma_depth: depth,
                references: 0,
                is_progressive: true,
            };
            return sizes.format(0, UNSPECIFIED).map(Part::Header);
        }
        if marker >> 8 != 0xff || marker == 0xffda {
            return None;
        }
        at += 2 + word(at + 2)?;
    }
}
