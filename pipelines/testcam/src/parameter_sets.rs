//! Sequence parameter sets that announce a picture of any size, also one that cannot be.
//!
//! A real one is taken and only its size is written anew, so that the slices that follow can still be read with it.
//! Syntax: H.264 7.3.2.1.1, H.265 7.3.2.2.1.

use crate::Codec;

/// `unit` (a NAL unit without start code), which says that pictures are `width` x `height`; 0 is a picture that is cropped
/// to nothing. `None` for what it does not know: scaling lists, sub-layers, a codec without parameter sets.
pub(crate) fn announcing(codec: Codec, unit: &[u8], width: u32, height: u32) -> Option<Vec<u8>> {
    let header_bytes = match codec {
        Codec::H264 => 1,
        Codec::H265 => 2,
        Codec::Mjpeg => return None,
    };
    let (header, payload) = unit.split_at_checked(header_bytes)?;
    let mut old = Reader { bytes: unescaped(payload), position: 0 };
    let mut new = Bits::default();
    match codec {
        Codec::H264 => h264(&mut old, &mut new, (width, height))?,
        _ => h265(&mut old, &mut new, (width, height))?,
    }
    // The rest, up to and with the stop bit.
    let end = old.bytes.len() as u32 * 8 - old.bytes.last()?.trailing_zeros();
    while old.position < end {
        new.put(old.read(1)?, 1);
    }
    Some(nal(header, &new))
}

fn h264(old: &mut Reader, new: &mut Bits, (width, height): (u32, u32)) -> Option<()> {
    let profile = old.read(8)?;
    new.put(profile, 8);
    copy(old, new, 16)?;
    copy_golomb(old, new)?;
    if [100, 110, 122, 244, 44, 83, 86, 118, 128].contains(&profile) {
        if copy_golomb(old, new)? == 3 {
            copy(old, new, 1)?;
        }
        copy_golomb(old, new)?;
        copy_golomb(old, new)?;
        // Lists of scaling factors would follow the second bit.
        if copy(old, new, 2)? & 1 == 1 {
            return None;
        }
    }
    copy_golomb(old, new)?;
    match copy_golomb(old, new)? {
        0 => drop(copy_golomb(old, new)?),
        2 => {}
        _ => return None,
    }
    copy_golomb(old, new)?;
    copy(old, new, 1)?;
    let ((columns, right), (rows, bottom)) = (blocks(width, 16), blocks(height, 16));
    let _old_size = (old.golomb()?, old.golomb()?);
    new.golomb(columns - 1).golomb(rows - 1);
    if copy(old, new, 1)? == 0 {
        copy(old, new, 1)?;
    }
    copy(old, new, 1)?;
    window(old, new, right, bottom)
}

fn h265(old: &mut Reader, new: &mut Bits, (width, height): (u32, u32)) -> Option<()> {
    copy(old, new, 4)?;
    // Sub-layers would have profiles of their own.
    if copy(old, new, 3)? != 0 {
        return None;
    }
    copy(old, new, 1)?;
    for _ in 0..12 {
        copy(old, new, 8)?;
    }
    copy_golomb(old, new)?;
    if copy_golomb(old, new)? == 3 {
        copy(old, new, 1)?;
    }
    let ((columns, right), (rows, bottom)) = (blocks(width, 16), blocks(height, 16));
    let _old_size = (old.golomb()?, old.golomb()?);
    new.golomb(columns * 16).golomb(rows * 16);
    window(old, new, right, bottom)
}

/// Whole blocks that cover `size`, and what is cropped of them, in units of two pixels.
fn blocks(size: u32, block: u32) -> (u32, u32) {
    let count = size.div_ceil(block).max(1);
    (count, (count * block - size) / 2)
}

/// Reads over the old cropping and writes the new one.
fn window(old: &mut Reader, new: &mut Bits, right: u32, bottom: u32) -> Option<()> {
    if old.read(1)? == 1 {
        for _ in 0..4 {
            old.golomb()?;
        }
    }
    if right == 0 && bottom == 0 {
        new.put(0, 1);
    } else {
        new.put(1, 1).golomb(0).golomb(right).golomb(0).golomb(bottom);
    }
    Some(())
}

fn copy(old: &mut Reader, new: &mut Bits, count: u32) -> Option<u32> {
    let value = old.read(count)?;
    new.put(value, count);
    Some(value)
}

fn copy_golomb(old: &mut Reader, new: &mut Bits) -> Option<u32> {
    let value = old.golomb()?;
    new.golomb(value);
    Some(value)
}

/// Without the bytes that keep start codes out.
fn unescaped(payload: &[u8]) -> Vec<u8> {
    let (mut plain, mut zeros) = (Vec::with_capacity(payload.len()), 0);
    for &byte in payload {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        plain.push(byte);
        zeros = if byte == 0 { zeros + 1 } else { 0 };
    }
    plain
}

/// Header and payload, with the bytes that keep start codes out of it.
fn nal(header: &[u8], bits: &Bits) -> Vec<u8> {
    let mut unit = header.to_vec();
    let mut zeros = 0;
    for &byte in &bits.bytes {
        if zeros == 2 && byte <= 3 {
            unit.push(3);
            zeros = 0;
        }
        unit.push(byte);
        zeros = if byte == 0 { zeros + 1 } else { 0 };
    }
    unit
}

/// Bits, most significant first.
struct Reader {
    bytes: Vec<u8>,
    position: u32,
}

impl Reader {
    fn read(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = *self.bytes.get(self.position as usize / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.position % 8) & 1);
            self.position += 1;
        }
        Some(value)
    }

    /// Exp-Golomb, unsigned.
    fn golomb(&mut self) -> Option<u32> {
        let mut length = 0;
        while self.read(1)? == 0 {
            length += 1;
        }
        (length < 31).then_some(())?;
        Some((1 << length | self.read(length)?) - 1)
    }
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn put(&mut self, value: u32, count: u32) -> &mut Self {
        for shift in (0..count).rev() {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((value >> shift & 1) as u8) << (7 - self.used % 8);
            }
            self.used += 1;
        }
        self
    }

    fn golomb(&mut self, value: u32) -> &mut Self {
        let code = value + 1;
        let length = code.ilog2();
        self.put(0, length).put(code, length + 1)
    }
}

#[cfg(test)]
mod tests {
    use gst::prelude::*;
    use gstreamer as gst;

    use super::*;
    use crate::{CameraOptions, media};

    /// What GStreamer's own parser reads in a stream with this parameter set.
    fn read(codec: Codec, units: &[Vec<u8>]) -> Option<(i32, i32)> {
        let (caps, parser) = match codec {
            Codec::H264 => ("video/x-h264,stream-format=byte-stream,alignment=nal", "h264parse"),
            _ => ("video/x-h265,stream-format=byte-stream,alignment=nal", "h265parse"),
        };
        let line = format!("appsrc name=in caps={caps} format=time ! {parser} ! appsink name=out sync=false");
        let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
        let input = pipeline.by_name("in").unwrap().downcast::<gstreamer_app::AppSrc>().unwrap();
        let output = pipeline.by_name("out").unwrap().downcast::<gstreamer_app::AppSink>().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        for unit in units {
            let _pushed =
                input.push_buffer(gst::Buffer::from_slice([&[0, 0, 0, 1], unit.as_slice()].concat()));
        }
        let _ended = input.end_of_stream();
        let sample = output.try_pull_sample(gst::ClockTime::from_seconds(20));
        let caps = sample.and_then(|sample| sample.caps_owned());
        let size = caps.and_then(|caps| {
            let structure = caps.structure(0)?;
            Some((structure.get("width").ok()?, structure.get("height").ok()?))
        });
        pipeline.set_state(gst::State::Null).unwrap();
        size
    }

    #[test]
    fn a_parser_reads_the_size_that_was_written_and_the_slices_as_before() {
        gst::init().unwrap();
        for codec in [Codec::H264, Codec::H265] {
            let is_sequence = |unit: &[u8]| match codec {
                Codec::H264 => unit[0] & 0x1f == 7,
                _ => unit[0] >> 1 == 33,
            };
            let real = media::payloads(&CameraOptions { codec, ..CameraOptions::default() }).unwrap();
            for (width, height) in [(320, 192), (16384, 16384), (1920, 1080), (2, 2)] {
                let mut units = real.clone();
                for unit in units.iter_mut().filter(|unit| is_sequence(unit)) {
                    *unit = announcing(codec, unit, width, height).unwrap();
                }
                let wanted = Some((width.cast_signed(), height.cast_signed()));
                assert_eq!(read(codec, &units), wanted, "{codec:?} {width}x{height}");
                assert_eq!(
                    (width == 320).then(|| units == real),
                    (width == 320).then_some(true),
                    "{codec:?}"
                );
            }
        }
        assert_eq!(announcing(Codec::Mjpeg, &[0; 9], 16, 16), None);
        assert_eq!(announcing(Codec::H264, &[0x67], 16, 16), None);
    }
}
