//! The quantiser of an H.264 slice: ITU-T H.264, 7.3.2.1.1 (sequence parameter set), 7.3.2.2 (picture parameter set), 7.3.3
//! (slice header). Names of the standard are in comments where ours differ.

use super::Numbered;
use crate::bits::Bits;

/// Profiles whose parameter sets say how chroma is coded.
const WITH_CHROMA: [u32; 13] = [44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244];
/// References in a list.
const REFERENCES_MAX: u32 = 32;

/// The parameter sets of one stream.
#[derive(Debug, Default)]
pub(crate) struct Sets {
    sequences: Numbered<Sequence>,
    pictures: Numbered<Picture>,
}

/// A sequence parameter set.
#[derive(Debug)]
struct Sequence {
    has_planes_apart: bool,
    is_monochrome: bool,
    frame_number_bits: u32,
    order: Order,
    is_progressive: bool,
}

/// How pictures say where they are shown: `pic_order_cnt_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Bits(u32),
    Deltas,
    None,
}

/// A picture parameter set.
#[derive(Debug)]
struct Picture {
    sequence: u32,
    has_cabac: bool,
    has_bottom_order: bool,
    references: [u32; 2],
    weights_p: bool,
    weights_b: bool,
    qp: i32,
    has_redundant: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    P,
    B,
    I,
}

impl Sets {
    pub fn saw(&mut self, unit: &[u8]) -> Option<()> {
        let (header, payload) = unit.split_first()?;
        let bits = Bits::new(payload);
        match header & 0x1f {
            7 => {
                let (number, set) = sequence(bits)?;
                self.sequences.put(number, set);
            }
            8 => {
                let (number, set) = picture(bits)?;
                self.pictures.put(number, set);
            }
            _ => {}
        }
        Some(())
    }

    pub fn slice_qp(&self, mut bits: Bits<'_>) -> Option<i32> {
        let header = bits.number(8)?;
        let (is_reference, unit_kind) = (header & 0x60 != 0, header & 0x1f);
        // Partitions B and C have no header of their own, and come later.
        if !matches!(unit_kind, 1 | 2 | 5) {
            return None;
        }
        let is_idr = unit_kind == 5;
        let _first_macroblock = bits.unsigned()?;
        let kind = match bits.at_most(9)? % 5 {
            0 | 3 => Kind::P,
            1 => Kind::B,
            _ => Kind::I,
        };
        let picture = self.pictures.get(bits.unsigned()?)?;
        let sequence = self.sequences.get(picture.sequence)?;
        skip_order(&mut bits, sequence, picture, is_idr)?;
        if picture.has_redundant {
            bits.unsigned()?;
        }
        skip_references(&mut bits, sequence, picture, kind)?;
        if is_reference {
            skip_marking(&mut bits, is_idr)?;
        }
        if picture.has_cabac && kind != Kind::I {
            bits.unsigned()?;
        }
        Some(picture.qp.saturating_add(bits.signed()?))
    }
}

fn skip_order(bits: &mut Bits<'_>, sequence: &Sequence, picture: &Picture, is_idr: bool) -> Option<()> {
    if sequence.has_planes_apart {
        bits.skip(2)?;
    }
    bits.skip(sequence.frame_number_bits)?;
    let is_field = !sequence.is_progressive && bits.flag()?;
    if is_field {
        bits.skip(1)?;
    }
    if is_idr {
        bits.unsigned()?;
    }
    let says_bottom = picture.has_bottom_order && !is_field;
    match sequence.order {
        Order::Bits(count) => {
            bits.skip(count)?;
            bits.skip_codes(u32::from(says_bottom))
        }
        Order::Deltas => bits.skip_codes(1 + u32::from(says_bottom)),
        Order::None => Some(()),
    }
}

/// From `direct_spatial_mv_pred_flag` to the end of `pred_weight_table`.
fn skip_references(bits: &mut Bits<'_>, sequence: &Sequence, picture: &Picture, kind: Kind) -> Option<()> {
    if kind == Kind::I {
        return Some(());
    }
    let lists = if kind == Kind::B { 2 } else { 1 };
    if kind == Kind::B {
        bits.skip(1)?;
    }
    let mut counts = picture.references;
    if bits.flag()? {
        for count in &mut counts[..lists] {
            *count = bits.at_most(REFERENCES_MAX - 1)? + 1;
        }
    }
    for _ in 0..lists {
        // `ref_pic_list_modification`; 3 ends it.
        if bits.flag()? {
            while bits.at_most(5)? != 3 {
                bits.unsigned()?;
            }
        }
    }
    let weights = if kind == Kind::B { picture.weights_b } else { picture.weights_p };
    if !weights {
        return Some(());
    }
    // `ChromaArrayType` is 0 also where planes are coded apart.
    let has_chroma = !sequence.is_monochrome && !sequence.has_planes_apart;
    bits.skip_codes(1 + u32::from(has_chroma))?;
    for &count in &counts[..lists] {
        for _ in 0..count {
            if bits.flag()? {
                bits.skip_codes(2)?;
            }
            if has_chroma && bits.flag()? {
                bits.skip_codes(4)?;
            }
        }
    }
    Some(())
}

/// `dec_ref_pic_marking`.
fn skip_marking(bits: &mut Bits<'_>, is_idr: bool) -> Option<()> {
    if is_idr {
        return bits.skip(2);
    }
    if !bits.flag()? {
        return Some(());
    }
    loop {
        match bits.at_most(6)? {
            0 => return Some(()),
            5 => {}
            3 => bits.skip_codes(2)?,
            _ => bits.skip_codes(1)?,
        }
    }
}

fn sequence(mut bits: Bits<'_>) -> Option<(u32, Sequence)> {
    let profile = bits.number(8)?;
    // Constraints and level.
    bits.skip(16)?;
    let number = bits.at_most(31)?;
    let (mut chroma, mut has_planes_apart) = (1, false);
    if WITH_CHROMA.contains(&profile) {
        chroma = bits.at_most(3)?;
        has_planes_apart = chroma == 3 && bits.flag()?;
        bits.skip_codes(2)?;
        bits.skip(1)?;
        if bits.flag()? {
            let lists = if chroma == 3 { 12 } else { 8 };
            (0..lists).try_for_each(|list| skip_scaling(&mut bits, if list < 6 { 16 } else { 64 }))?;
        }
    }
    let frame_number_bits = bits.at_most(12)? + 4;
    let order = match bits.at_most(2)? {
        0 => Order::Bits(bits.at_most(12)? + 4),
        1 => {
            let never = bits.flag()?;
            bits.skip_codes(2)?;
            let count = bits.at_most(255)?;
            bits.skip_codes(count)?;
            if never { Order::None } else { Order::Deltas }
        }
        _ => Order::None,
    };
    // References, gaps, width, height.
    bits.skip_codes(1)?;
    bits.skip(1)?;
    bits.skip_codes(2)?;
    let is_progressive = bits.flag()?;
    let set =
        Sequence { has_planes_apart, is_monochrome: chroma == 0, frame_number_bits, order, is_progressive };
    Some((number, set))
}

/// A scaling list, if there is one: it ends early where the next scale would be 0.
fn skip_scaling(bits: &mut Bits<'_>, size: u32) -> Option<()> {
    if !bits.flag()? {
        return Some(());
    }
    let mut scale = 8_i32;
    for _ in 0..size {
        scale = scale.wrapping_add(bits.signed()?).rem_euclid(256);
        if scale == 0 {
            break;
        }
    }
    Some(())
}

fn picture(mut bits: Bits<'_>) -> Option<(u32, Picture)> {
    let (number, sequence) = (bits.at_most(255)?, bits.at_most(31)?);
    let (has_cabac, has_bottom_order) = (bits.flag()?, bits.flag()?);
    // Several slice groups: of the Baseline profile, in nobody's camera.
    bits.at_most(0)?;
    let references = [bits.at_most(REFERENCES_MAX - 1)? + 1, bits.at_most(REFERENCES_MAX - 1)? + 1];
    let (weights_p, weights_b) = (bits.flag()?, bits.number(2)? == 1);
    let qp = 26 + bits.signed()?;
    bits.skip_codes(2)?;
    bits.skip(2)?;
    let has_redundant = bits.flag()?;
    let set = Picture {
        sequence,
        has_cabac,
        has_bottom_order,
        references,
        weights_p,
        weights_b,
        qp,
        has_redundant,
    };
    Some((number, set))
}
