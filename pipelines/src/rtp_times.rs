//! Do a camera's RTP timestamps run?
//!
//! The jitter buffer makes presentation times out of RTP timestamps and corrects them for the drift between
//! the camera's clock and ours. A camera whose timestamps stand still looks to it like one with a very slow
//! clock: the correction lets the presentation times run on. So the packets themselves are looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gstreamer as gst;
use gstreamer::prelude::*;

/// Where the timestamp lies in an RTP packet, big-endian (RFC 3550, 5.1).
const TIMESTAMP: std::ops::Range<usize> = 4..8;

/// The timestamps of one RTP stream, written by the thread that carries its packets.
#[derive(Debug, Default)]
pub(crate) struct RtpTimes {
    /// The newest timestamp plus one; 0 before the first packet.
    newest: AtomicU64,
    /// How often it has changed.
    changes_count: AtomicU64,
}

impl RtpTimes {
    /// How often the timestamp has changed so far; `None` where no RTP packets were seen.
    pub(crate) fn changes_count(&self) -> Option<u64> {
        Some(self.changes_count.load(Ordering::Relaxed)).filter(|&count| count > 0)
    }

    /// Looks at every packet that arrives at `pad` from now on.
    pub(crate) fn watch(self: &Arc<Self>, pad: &gst::Pad) {
        let times = self.clone();
        pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |_, info| {
            match &info.data {
                Some(gst::PadProbeData::Buffer(packet)) => times.see(packet),
                Some(gst::PadProbeData::BufferList(packets)) => {
                    packets.iter().for_each(|packet| times.see(packet))
                }
                _ => {}
            }
            gst::PadProbeReturn::Ok
        });
    }

    fn see(&self, packet: &gst::BufferRef) {
        let mut bytes = [0; 4];
        if packet.size() < TIMESTAMP.end || packet.copy_to_slice(TIMESTAMP.start, &mut bytes).is_err() {
            return;
        }
        let timestamp = u64::from(u32::from_be_bytes(bytes)) + 1;
        if self.newest.swap(timestamp, Ordering::Relaxed) != timestamp {
            self.changes_count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(timestamp: u32) -> gst::Buffer {
        let mut bytes = vec![0x80, 96, 0, 1];
        bytes.extend(timestamp.to_be_bytes());
        bytes.extend([0; 16]);
        gst::Buffer::from_slice(bytes)
    }

    #[test]
    fn every_change_counts_once_and_what_is_no_packet_does_not() {
        crate::init().unwrap();
        let times = RtpTimes::default();
        times.see(&gst::Buffer::from_slice([0x80, 96, 0]));
        assert_eq!(times.changes_count(), None);
        let seen: Vec<_> = [0, 0, 6000, 6000, 0]
            .map(|timestamp| {
                times.see(&packet(timestamp));
                times.changes_count()
            })
            .to_vec();
        assert_eq!(seen, [Some(1), Some(1), Some(2), Some(2), Some(3)]);
    }
}
