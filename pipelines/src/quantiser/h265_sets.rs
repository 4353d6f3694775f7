//! The parameter sets of H.265, as far as slices depend on them: ITU-T H.265, 7.3.2.2, 7.3.2.3, 7.3.3, 7.3.4, 7.3.7.

use crate::bits::Bits;

/// Pictures in a set of references.
const REFERENCES_MAX: u32 = 16;

/// A sequence parameter set.
#[derive(Debug)]
pub(super) struct Sequence {
    pub has_planes_apart: bool,
    pub has_chroma: bool,
    /// Of `slice_pic_order_cnt_lsb`.
    pub order_bits: u32,
    /// `sample_adaptive_offset_enabled_flag`
    pub has_offsets: bool,
    pub references: Vec<References>,
    /// Whether each long-term reference is used, where there are any.
    pub long_references: Option<Vec<bool>>,
    pub has_temporal: bool,
}

/// A picture parameter set.
#[derive(Debug)]
pub(super) struct Picture {
    pub sequence: u32,
    pub has_output_flag: bool,
    pub extra_bits: u32,
    pub has_cabac_start: bool,
    pub references: [u32; 2],
    pub qp: i32,
    pub weights_p: bool,
    pub weights_b: bool,
    pub modifies_lists: bool,
}

/// A set of short-term references: how far away in showing order, nearest first, those before first; and whether used.
#[derive(Debug, Clone, Default)]
pub(super) struct References(Vec<(i32, bool)>);

impl References {
    pub fn used(&self) -> u32 {
        self.0.iter().map(|(_, is_used)| u32::from(*is_used)).sum()
    }
}

/// `st_ref_pic_set`, the next after those of `known`; `in_slice`: it may be predicted from any of them.
pub(super) fn references(
    bits: &mut Bits<'_>,
    known: &mut [References],
    in_slice: bool,
) -> Option<References> {
    if !known.is_empty() && bits.flag()? {
        let back = if in_slice { bits.at_most(63)? + 1 } else { 1 };
        let base = known.len().checked_sub(back as usize).and_then(|at| known.get(at))?;
        return predicted(bits, base);
    }
    let counts = [bits.at_most(REFERENCES_MAX)?, bits.at_most(REFERENCES_MAX)?];
    if counts[0] + counts[1] > REFERENCES_MAX {
        return None;
    }
    let mut set = References::default();
    for (count, sign) in counts.into_iter().zip([-1, 1]) {
        let mut away = 0_i32;
        for _ in 0..count {
            away += sign * i32::try_from(bits.at_most(0x7fff)? + 1).ok()?;
            set.0.push((away, bits.flag()?));
        }
    }
    Some(set)
}

/// Another set, moved: each of its pictures, and the one it belongs to, may be left out.
fn predicted(bits: &mut Bits<'_>, base: &References) -> Option<References> {
    let is_negative = bits.flag()?;
    let move_by = i32::try_from(bits.at_most(0x7fff)? + 1).ok()?;
    let move_by = if is_negative { -move_by } else { move_by };
    let mut set = References::default();
    for away in base.0.iter().map(|(away, _)| *away).chain([0]) {
        let is_used = bits.flag()?;
        let stays = is_used || bits.flag()?;
        if stays && away + move_by != 0 {
            set.0.push((away + move_by, is_used));
        }
    }
    if set.0.len() > REFERENCES_MAX as usize {
        return None;
    }
    set.0.sort_by_key(|&(away, _)| (away > 0, away.abs()));
    Some(set)
}

pub(super) fn sequence(mut bits: Bits<'_>) -> Option<(u32, Sequence)> {
    bits.skip(4)?;
    let sub_layers = bits.number(3)?;
    bits.skip(1)?;
    skip_levels(&mut bits, sub_layers)?;
    let number = bits.at_most(15)?;
    let chroma = bits.at_most(3)?;
    let has_planes_apart = chroma == 3 && bits.flag()?;
    bits.skip_codes(2)?;
    if bits.flag()? {
        bits.skip_codes(4)?;
    }
    // Bit depths.
    bits.skip_codes(2)?;
    let order_bits = bits.at_most(12)? + 4;
    let layers = if bits.flag()? { sub_layers + 1 } else { 1 };
    // And block sizes.
    bits.skip_codes(3 * layers + 6)?;
    if bits.flag()? && bits.flag()? {
        skip_scaling(&mut bits)?;
    }
    bits.skip(1)?;
    let has_offsets = bits.flag()?;
    if bits.flag()? {
        bits.skip(8)?;
        bits.skip_codes(2)?;
        bits.skip(1)?;
    }
    let mut sets = Vec::new();
    for _ in 0..bits.at_most(64)? {
        let next = references(&mut bits, &mut sets, false)?;
        sets.push(next);
    }
    let mut long_references = None;
    if bits.flag()? {
        let mut used = Vec::new();
        for _ in 0..bits.at_most(32)? {
            bits.skip(order_bits)?;
            used.push(bits.flag()?);
        }
        long_references = Some(used);
    }
    let set = Sequence {
        has_planes_apart,
        has_chroma: chroma != 0 && !has_planes_apart,
        order_bits,
        has_offsets,
        references: sets,
        long_references,
        has_temporal: bits.flag()?,
    };
    Some((number, set))
}

/// `profile_tier_level`.
fn skip_levels(bits: &mut Bits<'_>, sub_layers: u32) -> Option<()> {
    bits.skip(96)?;
    if sub_layers == 0 {
        return Some(());
    }
    let mut present = 0;
    for _ in 0..sub_layers {
        present += 88 * bits.number(1)? + 8 * bits.number(1)?;
    }
    bits.skip(2 * (8 - sub_layers.min(8)) + present)
}

/// `scaling_list_data`.
fn skip_scaling(bits: &mut Bits<'_>) -> Option<()> {
    for size in 0..4_u32 {
        for _ in 0..if size == 3 { 2 } else { 6 } {
            if !bits.flag()? {
                bits.unsigned()?;
                continue;
            }
            let coefficients = 64.min(1 << (4 + 2 * size));
            bits.skip_codes(coefficients + u32::from(size > 1))?;
        }
    }
    Some(())
}

pub(super) fn picture(mut bits: Bits<'_>) -> Option<(u32, Picture)> {
    let (number, sequence) = (bits.at_most(63)?, bits.at_most(15)?);
    bits.skip(1)?;
    let has_output_flag = bits.flag()?;
    let extra_bits = bits.number(3)?;
    bits.skip(1)?;
    let has_cabac_start = bits.flag()?;
    let references = [bits.at_most(14)? + 1, bits.at_most(14)? + 1];
    let qp = 26 + bits.signed()?;
    bits.skip(2)?;
    if bits.flag()? {
        bits.unsigned()?;
    }
    bits.skip_codes(2)?;
    bits.skip(1)?;
    let (weights_p, weights_b) = (bits.flag()?, bits.flag()?);
    bits.skip(1)?;
    let has_tiles = bits.flag()?;
    bits.skip(1)?;
    if has_tiles {
        let (columns, rows) = (bits.at_most(63)?, bits.at_most(63)?);
        if !bits.flag()? {
            bits.skip_codes(columns + rows)?;
        }
        bits.skip(1)?;
    }
    bits.skip(1)?;
    // `deblocking_filter_control_present_flag`
    if bits.flag()? {
        bits.skip(1)?;
        if !bits.flag()? {
            bits.skip_codes(2)?;
        }
    }
    if bits.flag()? {
        skip_scaling(&mut bits)?;
    }
    let modifies_lists = bits.flag()?;
    let set = Picture {
        sequence,
        has_output_flag,
        extra_bits,
        has_cabac_start,
        references,
        qp,
        weights_p,
        weights_b,
        modifies_lists,
    };
    Some((number, set))
}
