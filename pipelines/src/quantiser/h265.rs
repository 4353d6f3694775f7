//! The quantiser of an H.265 slice: ITU-T H.265, 7.3.2.2 (sequence parameter set), 7.3.2.3 (picture parameter set), 7.3.6
//! (slice header), 7.4.8 (which pictures are references). Names of the standard are in comments where ours differ.

use super::Numbered;
use super::h265_sets::{Picture, References, Sequence, picture, references, sequence};
use crate::bits::Bits;

/// The parameter sets of one stream.
#[derive(Debug, Default)]
pub(crate) struct Sets {
    sequences: Numbered<Sequence>,
    pictures: Numbered<Picture>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    B,
    P,
    I,
}

impl Sets {
    pub fn saw(&mut self, unit: &[u8]) -> Option<()> {
        let (header, payload) = unit.split_first_chunk::<2>()?;
        let bits = Bits::new(payload);
        match header[0] >> 1 & 0x3f {
            33 => {
                let (number, set) = sequence(bits)?;
                self.sequences.put(number, set);
            }
            34 => {
                let (number, set) = picture(bits)?;
                self.pictures.put(number, set);
            }
            _ => {}
        }
        Some(())
    }

    pub fn slice_qp(&self, mut bits: Bits<'_>) -> Option<i32> {
        let unit_kind = bits.number(16)? >> 9 & 0x3f;
        // `first_slice_segment_in_pic_flag`
        if unit_kind > 31 || !bits.flag()? {
            return None;
        }
        if (16..24).contains(&unit_kind) {
            bits.skip(1)?;
        }
        let picture = self.pictures.get(bits.unsigned()?)?;
        let sequence = self.sequences.get(picture.sequence)?;
        bits.skip(picture.extra_bits)?;
        let kind = match bits.at_most(2)? {
            0 => Kind::B,
            1 => Kind::P,
            _ => Kind::I,
        };
        bits.skip(u32::from(picture.has_output_flag) + 2 * u32::from(sequence.has_planes_apart))?;
        let is_idr = matches!(unit_kind, 19 | 20);
        let (mut current, mut has_temporal) = (0, false);
        if !is_idr {
            current = skip_order(&mut bits, sequence)?;
            has_temporal = sequence.has_temporal && bits.flag()?;
        }
        if sequence.has_offsets {
            bits.skip(1 + u32::from(sequence.has_chroma))?;
        }
        if kind != Kind::I {
            skip_prediction(&mut bits, sequence, picture, kind, current, has_temporal)?;
        }
        Some(picture.qp.saturating_add(bits.signed()?))
    }
}

/// From `slice_pic_order_cnt_lsb` to the long-term references: how many pictures may be references (`NumPicTotalCurr`).
fn skip_order(bits: &mut Bits<'_>, sequence: &Sequence) -> Option<u32> {
    bits.skip(sequence.order_bits)?;
    let mut current = if bits.flag()? {
        let known = u32::try_from(sequence.references.len()).ok()?;
        let index = bits.number(bits_for(known))?;
        sequence.references.get(index as usize)?.used()
    } else {
        let mut all = sequence.references.clone();
        let set: References = references(bits, &mut all, true)?;
        set.used()
    };
    if let Some(long) = &sequence.long_references {
        let known = u32::try_from(long.len()).ok()?;
        let from_set = if known > 0 { bits.at_most(known.min(16))? } else { 0 };
        let own = bits.at_most(16)?;
        for number in 0..from_set + own {
            let is_used = if number < from_set {
                *long.get(bits.number(bits_for(known))? as usize)?
            } else {
                bits.skip(sequence.order_bits)?;
                bits.flag()?
            };
            current += u32::from(is_used);
            if bits.flag()? {
                bits.unsigned()?;
            }
        }
    }
    Some(current)
}

/// Bits that tell so many apart.
fn bits_for(count: u32) -> u32 {
    count.saturating_sub(1).checked_ilog2().map_or(0, |log| log + 1)
}

/// From `num_ref_idx_active_override_flag` to `five_minus_max_num_merge_cand`.
fn skip_prediction(
    bits: &mut Bits<'_>,
    sequence: &Sequence,
    picture: &Picture,
    kind: Kind,
    current: u32,
    has_temporal: bool,
) -> Option<()> {
    let lists = if kind == Kind::B { 2 } else { 1 };
    let mut counts = picture.references;
    if bits.flag()? {
        for count in &mut counts[..lists] {
            *count = bits.at_most(15)? + 1;
        }
    }
    if picture.modifies_lists && current > 1 {
        for &count in &counts[..lists] {
            if bits.flag()? {
                bits.skip(count * bits_for(current))?;
            }
        }
    }
    if kind == Kind::B {
        bits.skip(1)?;
    }
    if picture.has_cabac_start {
        bits.skip(1)?;
    }
    if has_temporal {
        let from_first = kind != Kind::B || bits.flag()?;
        if counts[usize::from(!from_first)] > 1 {
            bits.unsigned()?;
        }
    }
    let weights = if kind == Kind::B { picture.weights_b } else { picture.weights_p };
    if weights {
        skip_weights(bits, sequence.has_chroma, &counts[..lists])?;
    }
    bits.skip_codes(1)
}

/// `pred_weight_table`, of one layer.
fn skip_weights(bits: &mut Bits<'_>, has_chroma: bool, counts: &[u32]) -> Option<()> {
    bits.skip_codes(1 + u32::from(has_chroma))?;
    for &count in counts {
        let luma = bits.number(count)?;
        let chroma = if has_chroma { bits.number(count)? } else { 0 };
        bits.skip_codes(2 * luma.count_ones() + 4 * chroma.count_ones())?;
    }
    Some(())
}
