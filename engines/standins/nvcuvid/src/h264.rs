//! H.264: sequence parameter sets, and where pictures begin.

use crate::abi::{CHROMA_420, H264};
use crate::bits::{Bits, units};
use crate::format::{Format, Part, Sizes, UNSPECIFIED};

/// The parts of one access unit.
pub fn parts(unit: &[u8]) -> Vec<Part> {
    let part = |unit: &[u8]| match unit.first()? & 0x1f {
        7 => sequence(&unit[1..]).map(Part::Header),
        // A slice whose first macroblock is number 0: ue(v) 0 is a single 1.
        kind @ (1 | 5) if unit.get(1)? & 0x80 != 0 => Some(Part::Picture { is_intra: kind == 5 }),
        _ => None,
    };
    units(unit).into_iter().filter_map(part).collect()
}

/// seq_parameter_set_data.
fn sequence(payload: &[u8]) -> Option<Format> {
    let mut bits = Bits::new(payload);
    let profile = bits.bits(8)?;
    bits.skip(16)?;
    bits.unsigned()?;
    let (mut chroma, mut luma_depth, mut chroma_depth) = (CHROMA_420, 8, 8);
    if [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135].contains(&profile) {
        chroma = bits.unsigned()?;
        if chroma == 3 {
            bits.bit()?;
        }
        luma_depth = 8 + bits.unsigned()?;
        chroma_depth = 8 + bits.unsigned()?;
        bits.bit()?;
        if bits.flag()? {
            skip_scaling_lists(&mut bits, if chroma == 3 { 12 } else { 8 })?;
        }
    }
    bits.unsigned()?;
    let order_type = bits.unsigned()?;
    skip_order_count(&mut bits, order_type)?;
    let references = bits.unsigned()?;
    bits.bit()?;
    let (width, map_height) = (bits.unsigned()? + 1, bits.unsigned()? + 1);
    let is_progressive = bits.flag()?;
    if !is_progressive {
        bits.bit()?;
    }
    bits.bit()?;
    let mut crop = [0; 4];
    if bits.flag()? {
        // In units of chroma samples, of both fields where there are two.
        let rows = if is_progressive { 1 } else { 2 } * if chroma == CHROMA_420 { 2 } else { 1 };
        let columns = if chroma == CHROMA_420 || chroma == 2 { 2 } else { 1 };
        for (side, unit) in crop.iter_mut().zip([columns, columns, rows, rows]) {
            *side = bits.unsigned()?.checked_mul(unit)?;
        }
    }
    let usability = if bits.flag()? { usability(&mut bits)? } else { Usability::default() };
    // Without a word about it: no picture comes early when the order is that of decoding, or there is one reference.
    let reorder = usability.reorder.unwrap_or(if order_type == 2 || profile == 66 || references <= 1 {
        0
    } else {
        references
    });
    let height = map_height.checked_mul(if is_progressive { 16 } else { 32 })?;
    let coded = (width.checked_mul(16)?, height);
    let sizes =
        Sizes { codec: H264, coded, crop, chroma, luma_depth, chroma_depth, references, is_progressive };
    sizes.format(reorder, usability.signal.unwrap_or(UNSPECIFIED))
}

fn skip_scaling_lists(bits: &mut Bits, count: usize) -> Option<()> {
    for list in 0..count {
        if !bits.flag()? {
            continue;
        }
        let (mut last, mut next) = (8, 8);
        for _ in 0..if list < 6 { 16 } else { 64 } {
            if next != 0 {
                next = (last + bits.signed()? + 256) % 256;
            }
            last = if next == 0 { last } else { next };
        }
    }
    Some(())
}

fn skip_order_count(bits: &mut Bits, order_type: u32) -> Option<()> {
    match order_type {
        0 => bits.unsigned().map(drop),
        1 => {
            bits.bit()?;
            bits.signed()?;
            bits.signed()?;
            for _ in 0..bits.unsigned()?.min(255) {
                bits.signed()?;
            }
            Some(())
        }
        _ => Some(()),
    }
}

/// What vui_parameters say that matters here.
#[derive(Clone, Copy, Debug, Default)]
struct Usability {
    reorder: Option<u32>,
    signal: Option<[u8; 4]>,
}

fn usability(bits: &mut Bits) -> Option<Usability> {
    let mut found = Usability::default();
    if bits.flag()? && bits.bits(8)? == 255 {
        bits.skip(32)?;
    }
    if bits.flag()? {
        bits.bit()?;
    }
    if bits.flag()? {
        let (format, full_range) = (bits.bits(3)?, bits.bit()?);
        let mut signal = [(format | full_range << 3) as u8, 2, 2, 2];
        if bits.flag()? {
            for byte in &mut signal[1..] {
                *byte = bits.bits(8)? as u8;
            }
        }
        found.signal = Some(signal);
    }
    if bits.flag()? {
        bits.unsigned()?;
        bits.unsigned()?;
    }
    if bits.flag()? {
        bits.skip(65)?;
    }
    let network = bits.flag()?;
    if network {
        skip_reference_decoder(bits)?;
    }
    let video = bits.flag()?;
    if video {
        skip_reference_decoder(bits)?;
    }
    if network || video {
        bits.bit()?;
    }
    bits.bit()?;
    if bits.flag()? {
        bits.bit()?;
        for _ in 0..4 {
            bits.unsigned()?;
        }
        found.reorder = bits.unsigned();
    }
    Some(found)
}

fn skip_reference_decoder(bits: &mut Bits) -> Option<()> {
    let count = bits.unsigned()?.min(31) + 1;
    bits.skip(8)?;
    for _ in 0..count {
        bits.unsigned()?;
        bits.unsigned()?;
        bits.bit()?;
    }
    bits.skip(20)
}
