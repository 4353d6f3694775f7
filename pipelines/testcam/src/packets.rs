//! Faults of the RTP packets, made between the payloader and the RTSP server: they reach TCP and UDP clients
//! alike.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstreamer as gst;

use crate::noise::Noise;
use crate::pace;

/// Bytes of the RTP header without CSRCs and extension, which our payloaders do not write (RFC 3550, 5.1).
const RTP_HEADER_BYTES: usize = 12;
/// Where in it the timestamp is.
const RTP_TIMESTAMP: std::ops::Range<usize> = 4..8;
/// `CorruptPayload` flips a bit in one byte of so many.
const CORRUPT_ONE_IN: u64 = 200;

/// What happens to the packets at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PacketFault {
    /// They are dropped; only the very first of new media pass, without which there would be no SDP.
    Withhold,
    /// Those of media that are newer than `since` are dropped for `delay`, except the very first.
    SlowStart { delay: Duration, since: Instant },
    /// All carry the timestamp of the first one.
    FreezeTimestamps,
    /// Flipped bits in the payload.
    Corrupt { seed: u64 },
    /// Random payload.
    Scramble { seed: u64 },
}

/// The packet stage of one camera.
#[derive(Clone)]
pub(crate) struct Packets(Arc<Mutex<State>>);

struct State {
    fault: Option<PacketFault>,
    frozen_timestamp: Option<[u8; 4]>,
    noise: Noise,
}

impl Packets {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(State { fault: None, frozen_timestamp: None, noise: Noise::new(0) })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(crate) fn set(&self, fault: Option<PacketFault>) {
        let seed = match fault {
            Some(PacketFault::Corrupt { seed } | PacketFault::Scramble { seed }) => seed,
            _ => 0,
        };
        *self.lock() = State { fault, frozen_timestamp: None, noise: Noise::new(seed) };
    }

    /// Watches the source pad of a payloader.
    pub(crate) fn watch(&self, pad: &gst::Pad) {
        let packets = self.clone();
        let started = pace::now();
        let first = std::sync::atomic::AtomicBool::new(true);
        let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
        pad.add_probe(kinds, move |_, info| {
            let first = first.swap(false, std::sync::atomic::Ordering::Relaxed);
            let mut state = packets.lock();
            match state.fault {
                None => gst::PadProbeReturn::Ok,
                Some(fault) if fault.drops(started) => {
                    if first {
                        gst::PadProbeReturn::Ok
                    } else {
                        gst::PadProbeReturn::Drop
                    }
                }
                Some(_) => {
                    match &mut info.data {
                        Some(gst::PadProbeData::Buffer(buffer)) => state.spoil(buffer),
                        Some(gst::PadProbeData::BufferList(list)) => *list = state.spoil_list(list),
                        _ => {}
                    }
                    gst::PadProbeReturn::Ok
                }
            }
        });
    }
}

impl PacketFault {
    fn drops(self, media_started: Instant) -> bool {
        match self {
            Self::Withhold => true,
            Self::SlowStart { delay, since } => {
                media_started >= since && pace::now().saturating_duration_since(media_started) < delay
            }
            _ => false,
        }
    }
}

impl State {
    fn spoil_list(&mut self, list: &gst::BufferListRef) -> gst::BufferList {
        let mut spoilt = gst::BufferList::new_sized(list.len());
        if let Some(spoilt) = spoilt.get_mut() {
            for buffer in list.iter_owned() {
                let mut buffer = buffer;
                self.spoil(&mut buffer);
                spoilt.add(buffer);
            }
        }
        spoilt
    }

    fn spoil(&mut self, buffer: &mut gst::Buffer) {
        let Ok(mut packet) = buffer.make_mut().map_writable() else { return };
        if packet.len() < RTP_HEADER_BYTES {
            return;
        }
        self.spoil_packet(&mut packet);
    }

    fn spoil_packet(&mut self, packet: &mut [u8]) {
        let (header, payload) = packet.split_at_mut(RTP_HEADER_BYTES);
        match self.fault {
            Some(PacketFault::FreezeTimestamps) => {
                let timestamp = &mut header[RTP_TIMESTAMP];
                match self.frozen_timestamp {
                    Some(frozen) => timestamp.copy_from_slice(&frozen),
                    None => self.frozen_timestamp = timestamp.try_into().ok(),
                }
            }
            Some(PacketFault::Corrupt { .. }) => self.noise.flip(payload, CORRUPT_ONE_IN),
            Some(PacketFault::Scramble { .. }) => self.noise.fill(payload),
            _ => {}
        }
    }
}
