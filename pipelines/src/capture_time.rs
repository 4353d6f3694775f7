//! When a network camera took a picture, by its own clock.
//!
//! RTCP sender reports pair the camera's wall clock (NTP) with its RTP timestamps (RFC 3550, 6.4.1). The jitter
//! buffer knows which RTP timestamp it turned into which stream time. Both together are one constant:
//!
//! ```text
//! unix = pts + offset,   offset = sr_unix - base_time - (sr_rtp - base_rtp) / clock_rate
//! ```
//!
//! rtspsrc could attach the time to the buffers itself, but only from GStreamer 1.24 on.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;

/// Seconds from 1900, where NTP begins, to 1970.
const NTP_TO_UNIX_S: i64 = 2_208_988_800;
/// 2000-01-01 in Unix time. A camera that has never been told the time counts from 1970 or from its start.
const PLAUSIBLE_SINCE_NS: i64 = 946_684_800 * NS;
const NS: i64 = 1_000_000_000;
const UNKNOWN: i64 = i64::MIN;

/// The offset between a stream's time and its camera's clock, once the camera has told.
#[derive(Debug)]
pub(crate) struct CaptureClock(AtomicI64);

impl Default for CaptureClock {
    fn default() -> Self {
        Self(AtomicI64::new(UNKNOWN))
    }
}

impl CaptureClock {
    /// The camera's time for a picture of this stream time, in nanoseconds since 1970.
    pub(crate) fn unix_ns(&self, pts_ns: u64) -> Option<i64> {
        let offset = self.0.load(Ordering::Relaxed);
        if offset == UNKNOWN {
            return None;
        }
        i64::try_from(pts_ns).ok()?.checked_add(offset).filter(|&unix_ns| unix_ns >= PLAUSIBLE_SINCE_NS)
    }

    /// Listens to the sender reports of every stream of `rtspsrc`.
    pub(crate) fn listen(self: &Arc<Self>, rtspsrc: &gst::Element) {
        let clock = Arc::downgrade(self);
        rtspsrc.connect("new-manager", false, move |arguments| {
            let manager = element(arguments, 1)?;
            // UDP and TCP both have an rtpbin; some servers' proprietary transports have another manager.
            glib::subclass::SignalId::lookup("new-jitterbuffer", manager.type_())?;
            let clock = clock.clone();
            manager.connect("new-jitterbuffer", false, move |arguments| {
                let clock = clock.clone();
                element(arguments, 1)?.connect("handle-sync", false, move |arguments| {
                    let structure = arguments.get(1)?.get::<gst::Structure>().ok()?;
                    if let (Some(clock), Some(offset)) = (clock.upgrade(), offset(&structure)) {
                        clock.0.store(offset, Ordering::Relaxed);
                    }
                    None
                });
                None
            });
            None
        });
    }
}

fn element(arguments: &[glib::Value], index: usize) -> Option<gst::Element> {
    arguments.get(index)?.get::<gst::Element>().ok()
}

/// The constant of the module's formula, from what the jitter buffer says at a sender report.
fn offset(sync: &gst::StructureRef) -> Option<i64> {
    let report = sync.get::<gst::Buffer>("sr-buffer").ok()?;
    let sr_unix_ns = sender_report_unix_ns(report.map_readable().ok()?.as_slice())?;
    let number = |name: &str| sync.get::<u64>(name).ok().and_then(|value| i64::try_from(value).ok());
    let clock_rate = i64::from(sync.get::<u32>("clock-rate").ok().filter(|&rate| rate > 0)?);
    let ticks = number("sr-ext-rtptime")?.checked_sub(number("base-rtptime")?)?;
    let since_base_ns = i64::try_from(i128::from(ticks) * i128::from(NS) / i128::from(clock_rate)).ok()?;
    sr_unix_ns.checked_sub(number("base-time")?)?.checked_sub(since_base_ns)
}

/// The NTP time in an RTCP sender report, in nanoseconds since 1970.
///
/// Layout: version and count (1 byte), type 200 (1), length (2), SSRC (4), NTP seconds (4), NTP fraction (4).
pub(crate) fn sender_report_unix_ns(packet: &[u8]) -> Option<i64> {
    if packet.get(1) != Some(&200) {
        return None;
    }
    let word = |at: usize| Some(i64::from(u32::from_be_bytes(packet.get(at..at + 4)?.try_into().ok()?)));
    let seconds = word(8)? - NTP_TO_UNIX_S;
    let fraction_ns = (word(12)? * NS) >> 32;
    seconds.checked_mul(NS)?.checked_add(fraction_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_report_tells_the_time() {
        let mut packet = vec![0x80, 200, 0, 6, 1, 2, 3, 4];
        packet.extend(((1_795_245_121 + NTP_TO_UNIX_S) as u32).to_be_bytes());
        packet.extend((1u32 << 31).to_be_bytes());
        packet.extend([0; 12]);
        assert_eq!(sender_report_unix_ns(&packet), Some(1_795_245_121 * NS + NS / 2));
        packet[1] = 201;
        assert_eq!(sender_report_unix_ns(&packet), None);
        assert_eq!(sender_report_unix_ns(&[0x80, 200, 0]), None);
    }

    #[test]
    fn a_camera_that_was_never_told_the_time_is_not_believed() {
        let clock = CaptureClock::default();
        assert_eq!(clock.unix_ns(5), None);
        clock.0.store(1_000 * NS, Ordering::Relaxed);
        assert_eq!(clock.unix_ns(5), None);
        clock.0.store(1_795_245_121 * NS, Ordering::Relaxed);
        assert_eq!(clock.unix_ns(5), Some(1_795_245_121 * NS + 5));
    }
}
