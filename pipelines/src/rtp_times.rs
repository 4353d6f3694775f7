//! Do a camera's RTP timestamps run, and when did a picture's first packet arrive?
//!
//! The jitter buffer makes presentation times out of RTP timestamps and corrects them for the drift between
//! the camera's clock and ours. A camera whose timestamps stand still looks to it like one with a very slow
//! clock: the correction lets the presentation times run on. And a picture that takes longer than others to get here, as
//! keyframes do, has the presentation time of one as fast as the fastest. So the packets themselves are looked at: in front of
//! the jitter buffer for when they arrive, behind it for which presentation time that became.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;

use crate::sockets::Sockets;

/// Where the timestamp lies in an RTP packet, big-endian (RFC 3550, 5.1).
const TIMESTAMP: std::ops::Range<usize> = 4..8;

/// Pictures whose arrival is remembered: two seconds in the jitter buffer, and 16 that a decoder may hold back.
const ARRIVALS: usize = 80;

/// The timestamps of one RTP stream, written by the threads that carry its packets.
#[derive(Debug, Default)]
pub(crate) struct RtpTimes {
    /// The newest timestamp plus one; 0 before the first packet.
    newest: AtomicU64,
    /// How often it has changed.
    changes_count: AtomicU64,
    arrivals: Mutex<Arrivals>,
}

/// The pictures that arrived last.
#[derive(Debug)]
struct Arrivals {
    ring: [Option<Arrival>; ARRIVALS],
    next: usize,
    /// The timestamp of the newest packet.
    newest: Option<u32>,
}

/// A picture's first packet.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    timestamp: u32,
    /// When it arrived, as running time.
    at: gst::ClockTime,
    /// The presentation time that the jitter buffer made of its timestamp, once it has come out.
    pts: Option<gst::ClockTime>,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self { ring: [None; ARRIVALS], next: 0, newest: None }
    }
}

impl Arrivals {
    fn known(&mut self) -> impl Iterator<Item = &mut Arrival> {
        self.ring.iter_mut().flatten()
    }

    /// Whether a packet with this timestamp is the first of a picture.
    fn arrives(&mut self, timestamp: u32, now: impl FnOnce() -> Option<gst::ClockTime>) -> bool {
        // Most packets follow one of the same picture.
        if self.newest.replace(timestamp) == Some(timestamp)
            || self.known().any(|arrival| arrival.timestamp == timestamp)
        {
            return false;
        }
        self.ring[self.next] = now().map(|at| Arrival { timestamp, at, pts: None });
        self.next = (self.next + 1) % ARRIVALS;
        true
    }

    /// The jitter buffer gives the first packet of a picture out.
    fn leaves(&mut self, timestamp: u32, pts: gst::ClockTime) {
        if let Some(arrival) = self.known().find(|arrival| arrival.timestamp == timestamp) {
            arrival.pts = Some(pts);
        }
    }
}

impl RtpTimes {
    /// How often the timestamp has changed so far; `None` where no RTP packets were seen.
    pub(crate) fn changes_count(&self) -> Option<u64> {
        Some(self.changes_count.load(Ordering::Relaxed)).filter(|&count| count > 0)
    }

    /// When the first packet of the picture with this presentation time arrived, as running time; `None` for pictures that
    /// are forgotten, or whose presentation time is not their packets'.
    pub(crate) fn arrived_at(&self, pts: gst::ClockTime) -> Option<gst::ClockTime> {
        self.arrivals().known().find(|arrival| arrival.pts == Some(pts)).map(|arrival| arrival.at)
    }

    /// Looks at every packet that comes out of the jitter buffer, at `pad`, from now on.
    pub(crate) fn watch(self: &Arc<Self>, pad: &gst::Pad) {
        let times = self.clone();
        for_each_packet(pad, move |packet| times.see(packet));
    }

    /// Looks at every packet that arrives at `rtspsrc` from now on, and has pictures acknowledged when they begin.
    pub(crate) fn listen(self: &Arc<Self>, rtspsrc: &gst::Element, sockets: &Arc<Sockets>) {
        let (times, sockets) = (Arc::downgrade(self), Arc::downgrade(sockets));
        rtspsrc.connect("new-manager", false, move |arguments| {
            let manager = arguments.get(1)?.get::<gst::Element>().ok()?;
            let (times, sockets) = (times.clone(), sockets.clone());
            manager.connect_pad_added(move |manager, pad| {
                if pad.name().starts_with("recv_rtp_sink_") {
                    arrivals_at(pad, manager.downgrade(), times.clone(), sockets.clone());
                }
            });
            None
        });
    }

    fn see(&self, packet: &gst::BufferRef) {
        let Some(timestamp) = timestamp(packet) else { return };
        let counted = u64::from(timestamp) + 1;
        if self.newest.swap(counted, Ordering::Relaxed) == counted {
            return;
        }
        self.changes_count.fetch_add(1, Ordering::Relaxed);
        if let Some(pts) = packet.pts() {
            self.arrivals().leaves(timestamp, pts);
        }
    }

    fn arrivals(&self) -> MutexGuard<'_, Arrivals> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn arrivals_at(
    pad: &gst::Pad,
    manager: glib::WeakRef<gst::Element>,
    times: Weak<RtpTimes>,
    sockets: Weak<Sockets>,
) {
    for_each_packet(pad, move |packet| {
        let (Some(timestamp), Some(times)) = (timestamp(packet), times.upgrade()) else { return };
        let now = || manager.upgrade()?.current_running_time();
        if times.arrivals().arrives(timestamp, now)
            && let Some(sockets) = sockets.upgrade()
        {
            sockets.acknowledge_at_once();
        }
    });
}

fn for_each_packet(pad: &gst::Pad, look: impl Fn(&gst::BufferRef) + Send + Sync + 'static) {
    pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |_, info| {
        match &info.data {
            Some(gst::PadProbeData::Buffer(packet)) => look(packet),
            Some(gst::PadProbeData::BufferList(packets)) => packets.iter().for_each(&look),
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
}

fn timestamp(packet: &gst::BufferRef) -> Option<u32> {
    let mut bytes = [0; 4];
    if packet.size() < TIMESTAMP.end {
        return None;
    }
    packet.copy_to_slice(TIMESTAMP.start, &mut bytes).ok()?;
    Some(u32::from_be_bytes(bytes))
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

    #[test]
    fn a_picture_arrives_with_its_first_packet_and_is_forgotten_in_time() {
        crate::init().unwrap();
        let times = RtpTimes::default();
        let at = gst::ClockTime::from_mseconds;
        let arrives =
            |timestamp: u32, arrived_ms: u64| times.arrivals().arrives(timestamp, || Some(at(arrived_ms)));
        let leaves = |timestamp: u32, pts_ms: u64| {
            let mut packet = packet(timestamp);
            packet.get_mut().unwrap().set_pts(at(pts_ms));
            times.see(&packet);
        };
        assert!(arrives(0, 1003) && !arrives(0, 1009) && arrives(3000, 1032));
        assert!(!arrives(0, 1040), "a packet that was overtaken");
        assert_eq!(times.arrived_at(at(1000)), None, "it is in the jitter buffer");
        leaves(0, 1000);
        leaves(0, 1001);
        leaves(3000, 1033);
        leaves(6000, 1066);
        let known = [1000, 1001, 1033, 1066].map(|pts_ms| times.arrived_at(at(pts_ms)));
        assert_eq!(known, [Some(at(1003)), None, Some(at(1032)), None]);
        for timestamp in 0..ARRIVALS as u32 {
            assert!(arrives(9000 + timestamp, 2000));
        }
        assert_eq!(times.arrived_at(at(1033)), None);
    }
}
