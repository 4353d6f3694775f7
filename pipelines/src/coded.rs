//! What a coded picture is good for, read from its first bytes: whether it needs others, whether others need it, and how
//! coarsely it is coded.
//!
//! Sources: ITU-T H.264 (7.4.1: a picture with `nal_ref_idc` 0 is no reference), ITU-T H.265 (table 7-1: the even types
//! below 16 are sub-layer non-reference pictures, which only pictures of higher sub-layers may use).

use gstreamer as gst;

use crate::quantiser::Quantiser;

/// A coded picture, as far as its headers tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodedPicture {
    /// What depends on it.
    pub kind: PictureKind,
    /// Its size.
    pub size_bytes: usize,
    /// The quantiser of its first slice, in the logarithmic steps of H.264 and H.265 (QP, -48 to 51; 6 more double the step);
    /// `None` where it is not known.
    pub qp: Option<i8>,
}

/// What becomes of the others if this one is thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PictureKind {
    /// It needs no other: decoding can begin here.
    Key,
    /// Others need it: without it they cannot be decoded until the next key picture.
    Reference,
    /// No other needs it.
    Disposable,
}

/// How units are told apart in a coded picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// Start codes.
    ByteStream,
    /// Each unit after its length, a big-endian number of so many bytes.
    Lengths(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codec {
    H264,
    H265,
}

/// What a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// A part of the picture; whether the picture is disposable.
    Slice(bool),
    /// It says something of the pictures that follow.
    Parameters,
    Other,
}

/// Reads the pictures of one stream, in order.
#[derive(Debug, Default)]
pub(crate) struct Coded {
    form: Option<(Codec, Framing)>,
    quantiser: Option<Quantiser>,
    /// The highest temporal sub-layer seen: what only higher ones need nobody needs at the top.
    top_layer: u8,
}

impl Coded {
    /// The stream is now of this form. Of forms that it does not know every picture that needs others is a reference.
    pub fn set_caps(&mut self, caps: &gst::CapsRef) {
        *self = Self::default();
        let Some(structure) = caps.structure(0) else { return };
        let codec = match structure.name().as_str() {
            "video/x-h264" => Codec::H264,
            "video/x-h265" => Codec::H265,
            _ => return,
        };
        let mut quantiser = match codec {
            Codec::H264 => Quantiser::h264(),
            Codec::H265 => Quantiser::h265(),
        };
        let framing = match structure.get::<&str>("stream-format").unwrap_or_default() {
            "byte-stream" => Framing::ByteStream,
            _ => {
                let data = structure.get::<gst::Buffer>("codec_data").ok();
                let data = data.as_ref().and_then(|data| data.map_readable().ok());
                let data = data.as_deref().unwrap_or_default();
                configured(codec, data).for_each(|unit| quantiser.saw(unit));
                // ISO/IEC 14496-15: the last two bits of this byte of the configuration record.
                let at = if codec == Codec::H264 { 4 } else { 21 };
                Framing::Lengths(usize::from(data.get(at).copied().unwrap_or(3) & 3) + 1)
            }
        };
        (self.form, self.quantiser) = (Some((codec, framing)), Some(quantiser));
    }

    /// What the picture in this buffer is.
    pub fn look(&mut self, picture: &gst::BufferRef) -> CodedPicture {
        let is_key = !picture.flags().contains(gst::BufferFlags::DELTA_UNIT);
        let (disposable, qp) = match picture.map_readable() {
            Ok(bytes) => self.first_slice(&bytes),
            Err(_) => (false, None),
        };
        let kind = match (is_key, disposable) {
            (true, _) => PictureKind::Key,
            (false, true) => PictureKind::Disposable,
            (false, false) => PictureKind::Reference,
        };
        CodedPicture { kind, size_bytes: picture.size(), qp }
    }

    /// Whether it says that nobody needs the picture, and its quantiser.
    fn first_slice(&mut self, bytes: &[u8]) -> (bool, Option<i8>) {
        let Some((codec, framing)) = self.form else { return (false, None) };
        for unit in units(bytes, framing) {
            match self.unit(codec, unit) {
                Unit::Slice(disposable) => {
                    let qp = self.quantiser.as_ref().and_then(|quantiser| quantiser.of_slice(unit));
                    return (disposable, qp);
                }
                Unit::Parameters => {
                    self.quantiser.iter_mut().for_each(|quantiser| quantiser.saw(unit));
                }
                Unit::Other => {}
            }
        }
        (false, None)
    }

    fn unit(&mut self, codec: Codec, unit: &[u8]) -> Unit {
        match (codec, unit) {
            (Codec::H264, [header, ..]) => match header & 0x1f {
                1..=5 => Unit::Slice(header & 0x60 == 0),
                7 | 8 => Unit::Parameters,
                _ => Unit::Other,
            },
            (Codec::H265, [first, second, ..]) => match (first >> 1) & 0x3f {
                kind @ 0..=31 => {
                    let layer = second & 7;
                    self.top_layer = self.top_layer.max(layer);
                    Unit::Slice(kind < 16 && kind % 2 == 0 && layer == self.top_layer)
                }
                33 | 34 => Unit::Parameters,
                _ => Unit::Other,
            },
            _ => Unit::Other,
        }
    }
}

/// The parameter sets of a configuration record: ISO/IEC 14496-15, 5.3.3.1 and 8.3.3.1. What is broken ends the list.
fn configured(codec: Codec, record: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = record.get(if codec == Codec::H264 { 5.. } else { 22.. }).unwrap_or_default();
    // Of H.264 first so many sequence parameter sets, then so many others; of H.265 so many lists of units of a kind.
    let mut lists = if codec == Codec::H264 { 2 } else { split_number(&mut rest, 1).unwrap_or(0) };
    let (mut left, mut is_first) = (0, codec == Codec::H264);
    std::iter::from_fn(move || {
        while left == 0 {
            lists = usize::checked_sub(lists, 1)?;
            left = match codec {
                Codec::H264 => split_number(&mut rest, 1)? & if is_first { 0x1f } else { 0xff },
                Codec::H265 => split_number(&mut rest, 3)? & 0xffff,
            };
            is_first = false;
        }
        left -= 1;
        let length = split_number(&mut rest, 2)?;
        let (unit, after) = rest.split_at_checked(length)?;
        rest = after;
        Some(unit)
    })
}

/// A big-endian number of so many bytes, taken off.
fn split_number(rest: &mut &[u8], size: usize) -> Option<usize> {
    let (number, after) = rest.split_at_checked(size)?;
    *rest = after;
    Some(number.iter().fold(0_usize, |sum, &byte| sum << 8 | usize::from(byte)))
}

/// The units of a picture, without their framing. What is broken ends the list.
fn units(bytes: &[u8], framing: Framing) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    if framing == Framing::ByteStream {
        rest = after_start_code(rest).unwrap_or_default();
    }
    std::iter::from_fn(move || match framing {
        Framing::ByteStream => {
            if rest.is_empty() {
                return None;
            }
            // Headers are all that is read: where a unit ends matters only for finding the next one.
            let unit = rest;
            rest = after_start_code(rest).unwrap_or_default();
            Some(unit)
        }
        Framing::Lengths(size) => {
            let length = split_number(&mut rest, size)?;
            let (unit, after) = rest.split_at_checked(length)?;
            rest = after;
            Some(unit)
        }
    })
}

fn after_start_code(bytes: &[u8]) -> Option<&[u8]> {
    let at = bytes.windows(3).position(|three| three == [0, 0, 1])?;
    Some(&bytes[at + 3..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coded(codec: Codec, framing: Framing) -> Coded {
        Coded { form: Some((codec, framing)), ..Coded::default() }
    }

    fn is_disposable(stream: &mut Coded, bytes: &[u8]) -> bool {
        stream.first_slice(bytes).0
    }

    fn byte_stream(units: &[&[u8]]) -> Vec<u8> {
        units.iter().flat_map(|unit| [&[0, 0, 0, 1], *unit].concat()).collect()
    }

    #[test]
    fn h264_says_in_two_bits_who_needs_it() {
        let mut stream = coded(Codec::H264, Framing::ByteStream);
        // A delimiter, a message, then the slice.
        let picture = |slice: u8| byte_stream(&[&[9, 0xf0], &[6, 5, 1, 0, 0x80], &[slice, 0x9a]]);
        assert!(is_disposable(&mut stream, &picture(0x01)));
        assert!(!is_disposable(&mut stream, &picture(0x21)) && !is_disposable(&mut stream, &picture(0x61)));
        let mut lengths = coded(Codec::H264, Framing::Lengths(4));
        assert!(is_disposable(&mut lengths, &[0, 0, 0, 2, 9, 0xf0, 0, 0, 0, 2, 0x01, 0x9a]));
        assert!(!is_disposable(&mut lengths, &[0, 0, 0, 2, 9, 0xf0, 0, 0, 0, 2, 0x41, 0x9a]));
    }

    #[test]
    fn h265_pictures_of_lower_layers_may_be_needed_by_higher_ones() {
        let mut stream = coded(Codec::H265, Framing::ByteStream);
        let picture =
            |kind: u8, layer: u8| byte_stream(&[&[35 << 1, 1, 0x50], &[kind << 1, layer + 1, 0xd0]]);
        assert!(is_disposable(&mut stream, &picture(0, 0)), "TRAIL_N of the only layer");
        assert!(!is_disposable(&mut stream, &picture(1, 0)), "TRAIL_R");
        assert!(is_disposable(&mut stream, &picture(8, 0)), "RASL_N");
        assert!(is_disposable(&mut stream, &picture(2, 2)), "TSA_N of a new top layer");
        assert!(!is_disposable(&mut stream, &picture(0, 0)), "which may need this one");
    }

    #[test]
    fn broken_bytes_are_references_and_end() {
        for framing in [Framing::ByteStream, Framing::Lengths(4), Framing::Lengths(1)] {
            for codec in [Codec::H264, Codec::H265] {
                for bytes in [&[][..], &[0, 0], &[0, 0, 1], &[0xff; 40], &[0; 40], &[0, 0, 0, 9, 1]] {
                    assert!(
                        !is_disposable(&mut coded(codec, framing), bytes),
                        "{codec:?} {framing:?} {bytes:?}"
                    );
                }
            }
        }
    }
}
