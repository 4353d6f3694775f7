//! Keeps RTP packets that are too short for what they say from the depayloaders.
//!
//! A depayloader trusts the lengths in a packet more than it should: `rtph265depay` up to 1.22 at least reads behind the
//! end of a fragment that ends with its header, which ends the process. So what a packet says of its own layout is checked
//! first. A packet that fails is dropped, as if it had been lost on the way; gaps are what depayloaders are made for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gstreamer as gst;
use gstreamer::prelude::*;

use crate::failure::{Failure, FailureClass};
use crate::report::Reporter;

/// Drops what is not sound of everything that arrives at `pad` from now on, and says so once. `encoding` is the
/// `encoding-name` of the payload.
pub(crate) fn guard(pad: &gst::Pad, encoding: &'static str, reporter: &Arc<Reporter>) {
    let (dropped_count, reporter) = (AtomicU64::new(0), Arc::downgrade(reporter));
    let drops = move |packet: &gst::BufferRef| {
        if packet.map_readable().is_ok_and(|bytes| is_sound(encoding, &bytes)) {
            return false;
        }
        if dropped_count.fetch_add(1, Ordering::Relaxed) == 0
            && let Some(reporter) = reporter.upgrade()
        {
            reporter.warn(Failure::new(
                FailureClass::Protocol,
                format!(
                    "{} sends RTP packets that are cut off or contradict themselves; they are dropped, as if they had \
                     been lost. If it goes on, update the camera's firmware or set it to another codec",
                    reporter.target.label
                ),
            ));
        }
        true
    };
    pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |_, info| {
        match &mut info.data {
            Some(gst::PadProbeData::Buffer(packet)) if drops(packet) => return gst::PadProbeReturn::Drop,
            Some(gst::PadProbeData::BufferList(packets)) if packets.iter().any(&drops) => {
                *packets = packets.iter_owned().filter(|packet| !drops(packet)).collect();
                if packets.is_empty() {
                    return gst::PadProbeReturn::Drop;
                }
            }
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
}

/// Whether a depayloader finds everything in this packet that the packet says it has.
pub(crate) fn is_sound(encoding: &str, packet: &[u8]) -> bool {
    let Some(payload) = payload(packet) else { return false };
    match encoding {
        "H264" => is_sound_h264(payload),
        "H265" => is_sound_h265(payload),
        "JPEG" => is_sound_jpeg(payload),
        _ => !payload.is_empty(),
    }
}

/// What is between the header, with its lists and extension, and the padding (RFC 3550, 5.1).
fn payload(packet: &[u8]) -> Option<&[u8]> {
    let (&first, csrc_count) = (packet.first()?, usize::from(packet.first()? & 0x0f));
    if first >> 6 != 2 {
        return None;
    }
    let mut rest = packet.get(12 + 4 * csrc_count..)?;
    if first & 0x10 != 0 {
        let words = u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]);
        rest = rest.get(4 + 4 * usize::from(words)..)?;
    }
    if first & 0x20 != 0 {
        let padding = usize::from(*rest.last()?);
        // No padding at all is as wrong as more than there is.
        rest = rest.get(..rest.len().checked_sub(padding.max(1))?)?;
    }
    Some(rest)
}

/// RFC 6184, 5.
fn is_sound_h264(payload: &[u8]) -> bool {
    let Some(first) = payload.first() else { return false };
    match first & 0x1f {
        1..=23 => payload.len() >= 2,
        // Aggregates: header, perhaps a decoding order number, then sizes and units.
        24 => has_units(payload.get(1..), 0, 1),
        25 => has_units(payload.get(3..), 0, 1),
        26 => has_units(payload.get(3..), 3, 1),
        27 => has_units(payload.get(3..), 4, 1),
        28 => payload.len() >= 3,
        29 => payload.len() >= 5,
        _ => false,
    }
}

/// RFC 7798, 4.4.
fn is_sound_h265(payload: &[u8]) -> bool {
    let Some(first) = payload.first() else { return false };
    match first >> 1 & 0x3f {
        48 => has_units(payload.get(2..), 0, 2),
        49 => payload.len() >= 4,
        _ => payload.len() >= 3,
    }
}

/// Whether an aggregate is made of whole units: a size of two bytes, `between` bytes, and what the size says.
fn has_units(units: Option<&[u8]>, between: usize, least: usize) -> bool {
    let Some(mut rest) = units else { return false };
    let mut count = 0;
    // One or two bytes more are padding that some cameras leave.
    while let [high, low, after @ ..] = rest {
        let size = usize::from(u16::from_be_bytes([*high, *low])) + between;
        if after.is_empty() && count > 0 {
            break;
        }
        match after.get(size..) {
            Some(next) if size >= least + between => rest = next,
            _ => return false,
        }
        count += 1;
    }
    count > 0
}

/// RFC 2435, 3.1.
fn is_sound_jpeg(payload: &[u8]) -> bool {
    let Some(&[_, offset_high, offset_middle, offset_low, kind, quality, ..]) = payload.first_chunk::<8>()
    else {
        return false;
    };
    let mut header_bytes = 8;
    if (64..=127).contains(&kind) {
        header_bytes += 4;
    }
    if quality >= 128 && [offset_high, offset_middle, offset_low] == [0; 3] {
        let Some(&[high, low]) = payload.get(header_bytes + 2..header_bytes + 4) else { return false };
        header_bytes += 4 + usize::from(u16::from_be_bytes([high, low]));
    }
    payload.len() > header_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![first, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        packet.extend(payload);
        packet
    }

    fn sound(encoding: &str, payload: &[u8]) -> bool {
        is_sound(encoding, &packet(0x80, payload))
    }

    #[test]
    fn headers_lists_extensions_and_padding_are_skipped_or_found_out() {
        assert_eq!(payload(&packet(0x80, &[7, 8])), Some(&[7, 8][..]));
        assert_eq!(payload(&packet(0x81, &[1, 1, 1, 1, 9])), Some(&[9][..]));
        assert_eq!(payload(&packet(0x90, &[0, 0, 0, 1, 5, 5, 5, 5, 9])), Some(&[9][..]));
        assert_eq!(payload(&packet(0xa0, &[9, 0, 2])), Some(&[9][..]));
        for (first, rest) in [
            (0x40, &[9][..]),
            (0xc0, &[9]),
            (0x8f, &[9, 9]),
            (0x90, &[0, 0, 0]),
            (0x90, &[0, 0, 0, 9, 9]),
            (0xa0, &[9, 9, 4]),
            (0xa0, &[9, 0]),
            (0xa0, &[]),
        ] {
            assert_eq!(payload(&packet(first, rest)), None, "{first:x} {rest:?}");
        }
        assert_eq!(payload(&[0x80; 11]), None);
        assert_eq!(payload(&[]), None);
    }

    #[test]
    fn what_cameras_send_is_sound() {
        assert!(sound("H264", &[0x67, 66, 0, 30]) && sound("H264", &[0x7c, 0x85, 1]));
        assert!(sound("H264", &[24, 0, 2, 0x67, 66, 0, 1, 0x68]) && sound("H264", &[24, 0, 1, 0x68, 0]));
        assert!(sound("H265", &[0x40, 1, 12]) && sound("H265", &[49 << 1, 1, 0x93, 7]));
        assert!(sound("H265", &[48 << 1, 1, 0, 3, 0x40, 1, 12, 0, 2, 0x42, 1]));
        assert!(sound("JPEG", &[0, 0, 0, 0, 1, 80, 40, 24, 7]));
        assert!(sound("JPEG", &[0, 0, 0, 0, 65, 255, 40, 24, 0, 0, 0, 0, 0, 0, 0, 2, 9, 9, 7]));
        assert!(sound("JPEG", &[0, 0, 1, 0, 1, 255, 40, 24, 7]), "tables come with the first packet only");
        assert!(sound("MP4V-ES", &[1]));
    }

    #[test]
    fn what_is_too_short_for_what_it_says_is_not() {
        for unsound in [
            &[][..],
            &[0x67],
            &[0],
            &[31, 1, 1],
            &[0x7c, 0x85],
            &[24],
            &[24, 0, 9, 1],
            &[24, 0, 0, 1],
            &[29, 0, 0, 0],
        ] {
            assert!(!sound("H264", unsound), "{unsound:?}");
        }
        // The second is what ended the process.
        for unsound in [
            &[][..],
            &[49 << 1, 1],
            &[49 << 1, 1, 0x80],
            &[0x40, 1],
            &[48 << 1, 1, 0, 9, 1],
            &[48 << 1, 1, 0, 1, 1],
        ] {
            assert!(!sound("H265", unsound), "{unsound:?}");
        }
        for unsound in [
            &[][..],
            &[0; 8],
            &[0, 0, 0, 0, 65, 80, 40, 24, 7, 7, 7, 7],
            &[0, 0, 0, 0, 1, 255, 40, 24, 0, 0, 1, 0, 7],
        ] {
            assert!(!sound("JPEG", unsound), "{unsound:?}");
        }
    }
}
