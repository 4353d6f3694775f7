//! Damage to the codec's part of RTP packets: NAL units of H.264 (RFC 6184) and H.265 (RFC 7798), headers and tables of
//! JPEG (RFC 2435). Headers of the packets stay valid, so everything here reaches TCP and UDP clients alike.

use crate::Codec;
use crate::noise::Noise;
use crate::parameter_sets::announcing;

/// What is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Damage {
    /// Bits of parameter sets; for JPEG of the header and the tables.
    Headers,
    /// Bits of slices and of JPEG scans; parameter sets stay whole.
    Slices,
    /// Units lose their ends, fragments are lost, change places or lie about being the first or the last.
    Cuts,
    /// Parameter sets announce this size.
    Size(u32, u32),
}

/// One byte in so many of a slice is hit.
const SLICE_ONE_IN: u64 = 100;
/// Bytes of the main JPEG header (RFC 2435, 3.1).
const JPEG_HEADER_BYTES: usize = 8;
/// Bytes of a JPEG header and tables that are worth hitting.
const JPEG_TABLES_BYTES: usize = JPEG_HEADER_BYTES + 4 + 128;

/// What a payload begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A whole sequence parameter set.
    Sequence,
    /// Another parameter set.
    Parameters,
    /// A fragment; its FU header is at this index.
    Fragment(usize),
    Picture,
}

fn kind(codec: Codec, payload: &[u8]) -> Kind {
    let Some(&first) = payload.first() else { return Kind::Picture };
    match codec {
        Codec::H264 => match first & 0x1f {
            7 => Kind::Sequence,
            8 => Kind::Parameters,
            28 | 29 => Kind::Fragment(1),
            _ => Kind::Picture,
        },
        Codec::H265 => match first >> 1 & 0x3f {
            33 => Kind::Sequence,
            32 | 34 => Kind::Parameters,
            49 => Kind::Fragment(2),
            _ => Kind::Picture,
        },
        // The first packet of a picture has the tables.
        Codec::Mjpeg if payload.get(1..4) == Some(&[0, 0, 0]) => Kind::Parameters,
        Codec::Mjpeg => Kind::Picture,
    }
}

impl Damage {
    /// Damages the payloads of packets that belong together; their number may become less.
    pub(crate) fn inflict(self, codec: Codec, payloads: &mut Vec<Vec<u8>>, noise: &mut Noise) {
        match self {
            Self::Headers => payloads.iter_mut().for_each(|payload| headers(codec, payload, noise)),
            Self::Slices => payloads.iter_mut().for_each(|payload| slices(codec, payload, noise)),
            Self::Cuts => cuts(codec, payloads, noise),
            Self::Size(width, height) => {
                payloads.iter_mut().for_each(|payload| size(codec, payload, (width, height)));
            }
        }
    }
}

fn headers(codec: Codec, payload: &mut [u8], noise: &mut Noise) {
    if !matches!(kind(codec, payload), Kind::Sequence | Kind::Parameters) {
        return;
    }
    // The first byte says what it is: with that changed it would be no broken header.
    let last = if codec == Codec::Mjpeg { payload.len().min(JPEG_TABLES_BYTES) } else { payload.len() };
    for _ in 0..noise.below(5) {
        if last > 1 {
            payload[1 + noise.below(last - 1)] ^= 1 << noise.below(8);
        }
    }
}

fn slices(codec: Codec, payload: &mut [u8], noise: &mut Noise) {
    let from = match (codec, kind(codec, payload)) {
        (_, Kind::Sequence) => return,
        (Codec::H264 | Codec::H265, Kind::Parameters) => return,
        (_, Kind::Fragment(at)) => at + 1,
        (Codec::Mjpeg, Kind::Parameters) => JPEG_TABLES_BYTES,
        (Codec::Mjpeg, Kind::Picture) => JPEG_HEADER_BYTES,
        (Codec::H264, Kind::Picture) => 1,
        (Codec::H265, Kind::Picture) => 2,
    };
    if let Some(data) = payload.get_mut(from..) {
        noise.flip(data, SLICE_ONE_IN);
    }
}

fn cuts(codec: Codec, payloads: &mut Vec<Vec<u8>>, noise: &mut Noise) {
    if payloads.len() > 1 && noise.below(4) == 0 {
        let at = noise.below(payloads.len() - 1);
        payloads.swap(at, at + 1);
    }
    if payloads.len() > 1 && noise.below(4) == 0 {
        payloads.remove(noise.below(payloads.len()));
    }
    for payload in payloads.iter_mut() {
        match noise.below(12) {
            0 | 1 => payload.truncate(noise.below(payload.len() + 1)),
            2 => payload.truncate(2),
            3 => {
                if let Kind::Fragment(at) = kind(codec, payload)
                    && let Some(header) = payload.get_mut(at)
                {
                    *header ^= [0x80, 0x40, 0xc0][noise.below(3)];
                }
            }
            _ => {}
        }
    }
}

fn size(codec: Codec, payload: &mut Vec<u8>, (width, height): (u32, u32)) {
    match codec {
        Codec::H264 | Codec::H265 => {
            if kind(codec, payload) == Kind::Sequence
                && let Some(unit) = announcing(codec, payload, width, height)
            {
                *payload = unit;
            }
        }
        // In units of eight pixels, one byte each.
        Codec::Mjpeg => {
            for (at, side) in [(6, width), (7, height)] {
                if let Some(byte) = payload.get_mut(at) {
                    *byte = u8::try_from(side / 8).unwrap_or(u8::MAX);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Baseline, 320x192.
    const SEQUENCE: [u8; 9] = [0x67, 66, 0xc0, 13, 0xda, 0x05, 0x06, 0x64, 0x80];

    /// A sequence parameter set, a picture parameter set, three fragments of a slice.
    fn units() -> Vec<Vec<u8>> {
        let mut units = vec![SEQUENCE.to_vec(), vec![0x68, 1, 2, 3]];
        for fu in [0x85, 0x05, 0x45] {
            let mut fragment = vec![0x7c, fu];
            fragment.resize(1000, 0x55);
            units.push(fragment);
        }
        units
    }

    fn inflicted(damage: Damage, seed: u64) -> Vec<Vec<Vec<u8>>> {
        let mut noise = Noise::new(seed);
        let rounds = (0..20).map(|_| {
            let mut payloads = units();
            damage.inflict(Codec::H264, &mut payloads, &mut noise);
            payloads
        });
        rounds.collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_damage_and_another_seed_another() {
        for damage in [Damage::Headers, Damage::Slices, Damage::Cuts] {
            assert_eq!(inflicted(damage, 1), inflicted(damage, 1), "{damage:?}");
            assert_ne!(inflicted(damage, 1), inflicted(damage, 2), "{damage:?}");
        }
    }

    #[test]
    fn each_damage_hits_what_it_says() {
        let hit = |damage, index: usize| {
            inflicted(damage, 3).iter().filter(|payloads| payloads.get(index) != units().get(index)).count()
        };
        assert!(hit(Damage::Headers, 0) > 5 && hit(Damage::Headers, 1) > 5);
        assert_eq!((hit(Damage::Headers, 2), hit(Damage::Slices, 0), hit(Damage::Slices, 1)), (0, 0, 0));
        assert_eq!(hit(Damage::Slices, 2), 20);
        assert!(hit(Damage::Cuts, 2) > 5);
        assert_eq!((hit(Damage::Size(16384, 16384), 0), hit(Damage::Size(16384, 16384), 1)), (20, 0));
        assert!(inflicted(Damage::Cuts, 3).iter().any(|payloads| payloads.len() < 5), "none was lost");
    }

    #[test]
    fn jpeg_says_its_size_in_every_packet() {
        let mut payloads = vec![vec![0, 0, 0, 0, 1, 255, 40, 24, 0], vec![0, 0, 1, 0, 1, 255, 40, 24, 0]];
        Damage::Size(0, 2040).inflict(Codec::Mjpeg, &mut payloads, &mut Noise::new(1));
        assert!(payloads.iter().all(|payload| payload[6..8] == [0, 255]), "{payloads:?}");
    }
}
