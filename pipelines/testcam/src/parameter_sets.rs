//! Sequence parameter sets that announce a picture of any size, also one that cannot be.
//!
//! Syntax: H.264 7.3.2.1.1, H.265 7.3.2.2.1. Everything but the size is what small encoders write.

use crate::Codec;

/// A NAL unit (without start code) that says pictures are `width` x `height`; 0 is a picture that is cropped to nothing.
/// `None` for a codec without parameter sets.
pub(crate) fn announcing(codec: Codec, width: u32, height: u32) -> Option<Vec<u8>> {
    match codec {
        Codec::H264 => Some(h264(width, height)),
        Codec::H265 => Some(h265(width, height)),
        Codec::Mjpeg => None,
    }
}

/// Whole blocks that cover `size`, and what is cropped of them, in units of two pixels.
fn blocks(size: u32, block: u32) -> (u32, u32) {
    let count = size.div_ceil(block).max(1);
    (count, (count * block - size) / 2)
}

fn h264(width: u32, height: u32) -> Vec<u8> {
    let ((columns, crop_right), (rows, crop_bottom)) = (blocks(width, 16), blocks(height, 16));
    let mut bits = Bits::default();
    // Baseline, level 5.2; id 0; 4 bits of frame_num; pic_order_cnt_type 2; 4 reference pictures.
    bits.put(66, 8).put(0, 8).put(52, 8).golomb(0).golomb(0).golomb(2).golomb(4).put(0, 1);
    bits.golomb(columns - 1).golomb(rows - 1).put(1, 1).put(1, 1);
    bits.window(crop_right, crop_bottom).put(0, 1);
    nal(&[0x67], bits)
}

fn h265(width: u32, height: u32) -> Vec<u8> {
    let ((columns, crop_right), (rows, crop_bottom)) = (blocks(width, 8), blocks(height, 8));
    let mut bits = Bits::default();
    bits.put(0, 4).put(0, 3).put(1, 1);
    // Main profile, level 6.2.
    bits.put(1, 8).put(0x6000_0000, 32).put(0b1001, 4).put(0, 32).put(0, 12).put(186, 8);
    bits.golomb(0).golomb(1).golomb(columns * 8).golomb(rows * 8).window(crop_right, crop_bottom);
    bits.golomb(0).golomb(0).golomb(4).put(1, 1).golomb(4).golomb(0).golomb(0);
    // Coding blocks of 8 to 64, transform blocks of 4 to 32.
    bits.golomb(0).golomb(3).golomb(0).golomb(3).golomb(0).golomb(0);
    bits.put(0, 4).golomb(0).put(0, 5);
    nal(&[0x42, 0x01], bits)
}

/// Header, payload with its stop bit, and the bytes that keep start codes out of it.
fn nal(header: &[u8], mut bits: Bits) -> Vec<u8> {
    bits.put(1, 1);
    let mut unit = header.to_vec();
    let mut zeros = 0;
    for byte in bits.bytes {
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

    /// Exp-Golomb, unsigned.
    fn golomb(&mut self, value: u32) -> &mut Self {
        let code = value + 1;
        let length = code.ilog2();
        self.put(0, length).put(code, length + 1)
    }

    fn window(&mut self, right: u32, bottom: u32) -> &mut Self {
        if right == 0 && bottom == 0 {
            return self.put(0, 1);
        }
        self.put(1, 1).golomb(0).golomb(right).golomb(0).golomb(bottom)
    }
}

#[cfg(test)]
mod tests {
    use gst::prelude::*;
    use gstreamer as gst;

    use super::*;

    /// What GStreamer's own parser reads in it.
    fn read(codec: Codec, unit: &[u8]) -> Option<(i32, i32)> {
        let (caps, parser) = match codec {
            Codec::H264 => ("video/x-h264,stream-format=byte-stream,alignment=nal", "h264parse"),
            _ => ("video/x-h265,stream-format=byte-stream,alignment=nal", "h265parse"),
        };
        gst::init().unwrap();
        let line = format!("appsrc name=in caps={caps} format=time ! {parser} ! appsink name=out sync=false");
        let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
        let input = pipeline.by_name("in").unwrap().downcast::<gstreamer_app::AppSrc>().unwrap();
        let output = pipeline.by_name("out").unwrap().downcast::<gstreamer_app::AppSink>().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let mut stream = vec![0, 0, 0, 1];
        stream.extend(unit);
        // A picture parameter set and an IDR slice make it a picture; what is in them does not matter here.
        let rest: &[&[u8]] = match codec {
            Codec::H264 => &[&[0x68, 0xce, 0x38, 0x80], &[0x65, 0x88, 0x84, 0x21, 0xa0]],
            _ => &[&[0x44, 0x01, 0xc0, 0x73, 0xc1, 0x89], &[0x26, 0x01, 0xaf, 0x06, 0xb8, 0x10]],
        };
        for unit in rest {
            stream.extend([0, 0, 0, 1]);
            stream.extend(*unit);
        }
        let _pushed = input.push_buffer(gst::Buffer::from_slice(stream));
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
    fn a_parser_reads_the_size_that_was_written() {
        for (width, height) in [(16384, 16384), (320, 192), (1920, 1080), (2, 2)] {
            for codec in [Codec::H264, Codec::H265] {
                let unit = announcing(codec, width, height).unwrap();
                let wanted = Some((width.cast_signed(), height.cast_signed()));
                assert_eq!(read(codec, &unit), wanted, "{codec:?} {width}x{height}: {unit:02x?}");
            }
        }
        assert_eq!(announcing(Codec::Mjpeg, 16, 16), None);
    }
}
