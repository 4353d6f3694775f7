//! H.265: sequence parameter sets, and where pictures begin.

use crate::abi::{CHROMA_420, CHROMA_422, HEVC};
use crate::bits::{Bits, units};
use crate::format::{Format, Part, Sizes, UNSPECIFIED};

/// The parts of one access unit.
pub fn parts(unit: &[u8]) -> Vec<Part> {
    let part = |unit: &[u8]| match unit.first()? >> 1 & 0x3f {
        33 => sequence(unit.get(2..)?).map(Part::Header),
        // first_slice_segment_in_pic_flag; 16 to 23 are random access points.
        kind @ 0..=31 if unit.get(2)? & 0x80 != 0 => {
            Some(Part::Picture { is_intra: (16..=23).contains(&kind) })
        }
        _ => None,
    };
    units(unit).into_iter().filter_map(part).collect()
}

/// seq_parameter_set_rbsp, up to the depths and the order.
fn sequence(payload: &[u8]) -> Option<Format> {
    let mut bits = Bits::new(payload);
    bits.skip(4)?;
    let layers = bits.bits(3)?;
    bits.bit()?;
    skip_profile(&mut bits, layers)?;
    bits.unsigned()?;
    let chroma = bits.unsigned()?;
    if chroma == 3 {
        bits.bit()?;
    }
    let coded = (bits.unsigned()?, bits.unsigned()?);
    let mut crop = [0; 4];
    if bits.flag()? {
        let columns = if chroma == CHROMA_420 || chroma == CHROMA_422 { 2 } else { 1 };
        let rows = if chroma == CHROMA_420 { 2 } else { 1 };
        for (side, unit) in crop.iter_mut().zip([columns, columns, rows, rows]) {
            *side = bits.unsigned()?.checked_mul(unit)?;
        }
    }
    let (luma_depth, chroma_depth) = (8 + bits.unsigned()?, 8 + bits.unsigned()?);
    bits.unsigned()?;
    let first = if bits.flag()? { 0 } else { layers };
    let (mut references, mut reorder) = (0, 0);
    for _ in first..=layers {
        references = bits.unsigned()?;
        reorder = bits.unsigned()?;
        bits.unsigned()?;
    }
    let sizes = Sizes {
        codec: HEVC,
        coded,
        crop,
        chroma,
        luma_depth,
        chroma_depth,
        references,
        is_progressive: true,
    };
    sizes.format(reorder, UNSPECIFIED)
}

/// profile_tier_level.
fn skip_profile(bits: &mut Bits, layers: u32) -> Option<()> {
    bits.skip(96)?;
    let mut present = Vec::new();
    for _ in 0..layers {
        present.push((bits.flag()?, bits.flag()?));
    }
    if layers > 0 {
        bits.skip(2 * (8 - layers as usize))?;
    }
    for (profile, level) in present {
        bits.skip(if profile { 88 } else { 0 } + if level { 8 } else { 0 })?;
    }
    Some(())
}
