//! What a coded picture is good for, read from its first bytes: whether it needs others, and whether others need it.
//!
//! Sources: ITU-T H.264 (7.4.1: a picture with `nal_ref_idc` 0 is no reference), ITU-T H.265 (table 7-1: the even types
//! below 16 are sub-layer non-reference pictures, which only pictures of higher sub-layers may use).

use gstreamer as gst;

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

/// Reads the pictures of one stream, in order.
#[derive(Debug, Default)]
pub(crate) struct Coded {
    form: Option<(Codec, Framing)>,
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
        let framing = match structure.get::<&str>("stream-format").unwrap_or_default() {
            "byte-stream" => Framing::ByteStream,
            _ => {
                // ISO/IEC 14496-15: the last two bits of this byte of the configuration record.
                let at = if codec == Codec::H264 { 4 } else { 21 };
                let data = structure.get::<gst::Buffer>("codec_data").ok();
                let data = data.as_ref().and_then(|data| data.map_readable().ok());
                let byte = data.and_then(|data| data.get(at).copied()).unwrap_or(3);
                Framing::Lengths(usize::from(byte & 3) + 1)
            }
        };
        self.form = Some((codec, framing));
    }

    /// What the picture in this buffer is.
    pub fn kind(&mut self, picture: &gst::BufferRef) -> PictureKind {
        if !picture.flags().contains(gst::BufferFlags::DELTA_UNIT) {
            return PictureKind::Key;
        }
        let disposable = match picture.map_readable() {
            Ok(bytes) => self.is_disposable(&bytes),
            Err(_) => false,
        };
        if disposable { PictureKind::Disposable } else { PictureKind::Reference }
    }

    fn is_disposable(&mut self, bytes: &[u8]) -> bool {
        let Some((codec, framing)) = self.form else { return false };
        for unit in units(bytes, framing) {
            match (codec, unit) {
                (Codec::H264, [header, ..]) if (1..=5).contains(&(header & 0x1f)) => {
                    return header & 0x60 == 0;
                }
                (Codec::H265, [first, second, ..]) if (first >> 1) & 0x3f < 32 => {
                    let (kind, layer) = ((first >> 1) & 0x3f, second & 7);
                    self.top_layer = self.top_layer.max(layer);
                    return kind < 16 && kind % 2 == 0 && layer == self.top_layer;
                }
                _ => {}
            }
        }
        false
    }
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
            let (length, after) = rest.split_at_checked(size)?;
            let length = length.iter().fold(0_usize, |sum, &byte| sum << 8 | usize::from(byte));
            let (unit, after) = after.split_at_checked(length)?;
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
        Coded { form: Some((codec, framing)), top_layer: 0 }
    }

    fn byte_stream(units: &[&[u8]]) -> Vec<u8> {
        units.iter().flat_map(|unit| [&[0, 0, 0, 1], *unit].concat()).collect()
    }

    #[test]
    fn h264_says_in_two_bits_who_needs_it() {
        let mut stream = coded(Codec::H264, Framing::ByteStream);
        // A delimiter, a message, then the slice.
        let picture = |slice: u8| byte_stream(&[&[9, 0xf0], &[6, 5, 1, 0, 0x80], &[slice, 0x9a]]);
        assert!(stream.is_disposable(&picture(0x01)));
        assert!(!stream.is_disposable(&picture(0x21)) && !stream.is_disposable(&picture(0x61)));
        let mut lengths = coded(Codec::H264, Framing::Lengths(4));
        assert!(lengths.is_disposable(&[0, 0, 0, 2, 9, 0xf0, 0, 0, 0, 2, 0x01, 0x9a]));
        assert!(!lengths.is_disposable(&[0, 0, 0, 2, 9, 0xf0, 0, 0, 0, 2, 0x41, 0x9a]));
    }

    #[test]
    fn h265_pictures_of_lower_layers_may_be_needed_by_higher_ones() {
        let mut stream = coded(Codec::H265, Framing::ByteStream);
        let picture =
            |kind: u8, layer: u8| byte_stream(&[&[35 << 1, 1, 0x50], &[kind << 1, layer + 1, 0xd0]]);
        assert!(stream.is_disposable(&picture(0, 0)), "TRAIL_N of the only layer");
        assert!(!stream.is_disposable(&picture(1, 0)), "TRAIL_R");
        assert!(stream.is_disposable(&picture(8, 0)), "RASL_N");
        assert!(stream.is_disposable(&picture(2, 2)), "TSA_N of a new top layer");
        assert!(!stream.is_disposable(&picture(0, 0)), "which may need this one");
    }

    #[test]
    fn broken_bytes_are_references_and_end() {
        for framing in [Framing::ByteStream, Framing::Lengths(4), Framing::Lengths(1)] {
            for codec in [Codec::H264, Codec::H265] {
                for bytes in [&[][..], &[0, 0], &[0, 0, 1], &[0xff; 40], &[0; 40], &[0, 0, 0, 9, 1]] {
                    assert!(!coded(codec, framing).is_disposable(bytes), "{codec:?} {framing:?} {bytes:?}");
                }
            }
        }
    }
}
