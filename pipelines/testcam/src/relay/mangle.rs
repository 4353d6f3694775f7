//! RTP and RTCP packets that break RFC 3550, made on the way to the client where no RTP stack of ours can put them right.

use crate::noise::Noise;

/// One RTP packet of so many is broken.
const BROKEN_ONE_IN: usize = 8;
/// After so many RTP packets there is a false sender report.
const REPORT_EVERY: u64 = 20;
/// `$`, channel, length.
const FRAME_BYTES: usize = 4;
/// RTP header without CSRCs and extension.
const HEADER_BYTES: usize = 12;
/// Largest packet that an interleaved frame can hold.
const OVERSIZED_BYTES: usize = 65_535;

/// Seeded damage to the packets of one connection.
pub(super) struct Mangler {
    noise: Noise,
    rtp_count: u64,
}

impl Mangler {
    pub fn new(seed: u64) -> Self {
        Self { noise: Noise::new(seed), rtp_count: 0 }
    }

    /// Breaks one interleaved RTP frame, or leaves it; `frame` may become none or several frames.
    pub fn break_packet(&mut self, frame: &mut Vec<u8>) {
        if self.noise.below(BROKEN_ONE_IN) != 0 || frame.len() < FRAME_BYTES + HEADER_BYTES {
            return;
        }
        let (channel, mut packet) = (frame[1], frame.split_off(FRAME_BYTES));
        let mut twice = false;
        let mut new_channel = channel;
        match self.noise.below(16) {
            0 => packet[0] = packet[0] & 0x3f | [0x00, 0x40, 0xc0][self.noise.below(3)],
            // Padding, with a count that may be longer than the packet.
            1 => {
                packet[0] |= 0x20;
                let last = packet.len() - 1;
                packet[last] = self.noise.next() as u8;
            }
            // An extension, whose length is whatever the payload says.
            2 => packet[0] |= 0x10,
            3 => packet[0] |= 0x0f,
            4 => packet[1] = packet[1] & 0x80 | self.noise.next() as u8 & 0x7f,
            5 => self.noise.fill(&mut packet[2..4]),
            6 => self.noise.fill(&mut packet[8..12]),
            7 => self.noise.fill(&mut packet[4..8]),
            8 => packet.clear(),
            9 => packet.truncate(1 + self.noise.below(HEADER_BYTES - 1)),
            10 => packet.truncate(HEADER_BYTES),
            11 => {
                let whole = packet.len();
                packet.resize(OVERSIZED_BYTES, 0);
                self.noise.fill(&mut packet[whole..]);
            }
            12 => twice = true,
            13 => new_channel = 200,
            14 => self.noise.fill(&mut packet),
            _ => packet[1] ^= 0x80,
        }
        frame.clear();
        push_frame(new_channel, &packet, frame);
        if twice {
            push_frame(new_channel, &packet, frame);
        }
    }

    /// Puts false sender reports behind some of the RTP frames. `frame` is one RTP frame.
    pub fn add_report(&mut self, frame: &mut Vec<u8>) {
        let Some(ssrc) = frame.get(FRAME_BYTES + 8..FRAME_BYTES + 12) else { return };
        let ssrc = [ssrc[0], ssrc[1], ssrc[2], ssrc[3]];
        self.rtp_count += 1;
        if self.rtp_count.is_multiple_of(REPORT_EVERY) {
            let report = self.report(ssrc);
            push_frame(frame[1] + 1, &report, frame);
        }
    }

    /// Makes a real report lie: another wall clock and another RTP time.
    pub fn falsify_report(&mut self, frame: &mut [u8]) {
        if frame.len() >= FRAME_BYTES + 20 && frame[FRAME_BYTES + 1] == 200 {
            let times = self.times();
            frame[FRAME_BYTES + 8..FRAME_BYTES + 20].copy_from_slice(&times);
        }
    }

    /// NTP seconds and fraction, RTP time.
    fn times(&mut self) -> [u8; 12] {
        let mut times = [0; 12];
        self.noise.fill(&mut times);
        match self.noise.below(4) {
            0 => times[..8].fill(0),
            1 => times[..8].fill(0xff),
            // 1970.
            2 => times[..4].copy_from_slice(&2_208_988_800_u32.to_be_bytes()),
            _ => {}
        }
        times
    }

    fn report(&mut self, ssrc: [u8; 4]) -> Vec<u8> {
        let mut report = vec![0x80, 200, 0, 6];
        report.extend(ssrc);
        report.extend(self.times());
        report.extend([0; 8]);
        match self.noise.below(6) {
            // More reception reports than there are bytes.
            0 => report[0] |= 0x1f,
            // A length that is not the packet's.
            1 => report[2..4].fill(0xff),
            2 => report.truncate(FRAME_BYTES + self.noise.below(16)),
            _ => {}
        }
        report
    }
}

fn push_frame(channel: u8, packet: &[u8], out: &mut Vec<u8>) {
    let length = u16::try_from(packet.len()).unwrap_or(u16::MAX);
    out.extend([b'$', channel]);
    out.extend(length.to_be_bytes());
    out.extend(&packet[..usize::from(length)]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::framing::{Framing, Unit};

    fn frame() -> Vec<u8> {
        let mut packet = vec![0x80, 96, 0, 1, 0, 0, 0, 9, 1, 2, 3, 4];
        packet.resize(100, 0x55);
        let mut frame = Vec::new();
        push_frame(0, &packet, &mut frame);
        frame
    }

    fn stream(seed: u64, mangle: fn(&mut Mangler, &mut Vec<u8>)) -> Vec<u8> {
        let mut mangler = Mangler::new(seed);
        let frames = (0..2000).map(|_| {
            let mut frame = frame();
            mangle(&mut mangler, &mut frame);
            frame
        });
        frames.flatten().collect()
    }

    #[test]
    fn whatever_is_broken_the_framing_is_not() {
        for mangle in [Mangler::break_packet, Mangler::add_report] {
            let stream = stream(5, mangle);
            let mut framing = Framing::new(stream.as_slice(), false);
            let (mut unit, mut whole, mut other) = (Vec::new(), 0, 0);
            while let Some(kind) = framing.next(&mut unit).unwrap() {
                assert!(matches!(kind, Unit::Interleaved { .. }), "{kind:?}");
                if unit == frame() { whole += 1 } else { other += 1 }
            }
            assert!(whole > 1000 && other >= 100, "{whole} whole, {other} other");
        }
        assert_eq!(stream(1, Mangler::break_packet), stream(1, Mangler::break_packet));
        assert_ne!(stream(1, Mangler::break_packet), stream(2, Mangler::break_packet));
    }

    #[test]
    fn a_sender_report_lies_about_time_only() {
        let mut report = Vec::new();
        push_frame(1, &[&[0x80, 200, 0, 6][..], &[7; 24]].concat(), &mut report);
        let before = report.clone();
        Mangler::new(1).falsify_report(&mut report);
        assert_eq!((&report[..12], &report[24..]), (&before[..12], &before[24..]));
        assert_ne!(report[12..24], before[12..24]);
    }
}
