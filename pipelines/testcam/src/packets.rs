//! Faults of the RTP packets, made between the payloader and the RTSP server: they reach TCP and UDP clients
//! alike.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstreamer as gst;

use crate::Codec;
use crate::damage::Damage;
use crate::noise::Noise;
use crate::pace;

/// Bytes of the RTP header without CSRCs and extension, which our payloaders do not write (RFC 3550, 5.1).
const RTP_HEADER_BYTES: usize = 12;
/// Where in it the timestamp is.
const RTP_TIMESTAMP: std::ops::Range<usize> = 4..8;
/// Ticks of an RTP timestamp in a second, for all video (RFC 3551, 5).
const RTP_CLOCK_RATE: i64 = 90_000;
/// `CorruptPayload` flips a bit in one byte of so many.
const CORRUPT_ONE_IN: u64 = 200;

/// What happens to the packets at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Damage that knows the codec.
    Damage { damage: Damage, seed: u64 },
    /// Timestamps are shifted.
    Shift { seconds: i64 },
    /// These payloads, again and again, in place of the real ones.
    Foreign { payloads: Arc<Vec<Vec<u8>>> },
}

/// The packet stage of one camera.
#[derive(Clone)]
pub(crate) struct Packets(Arc<Mutex<State>>);

struct State {
    fault: Option<PacketFault>,
    frozen_timestamp: Option<[u8; 4]>,
    noise: Noise,
    foreign_index: usize,
}

impl State {
    fn new(fault: Option<PacketFault>) -> Self {
        let seed = match fault {
            Some(
                PacketFault::Corrupt { seed }
                | PacketFault::Scramble { seed }
                | PacketFault::Damage { seed, .. },
            ) => seed,
            _ => 0,
        };
        Self { fault, frozen_timestamp: None, noise: Noise::new(seed), foreign_index: 0 }
    }
}

impl Packets {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(State::new(None))))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(crate) fn set(&self, fault: Option<PacketFault>) {
        *self.lock() = State::new(fault);
    }

    /// Watches the source pad of a payloader of this codec.
    pub(crate) fn watch(&self, pad: &gst::Pad, codec: Codec) {
        let packets = self.clone();
        let started = pace::now();
        let first = std::sync::atomic::AtomicBool::new(true);
        let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
        pad.add_probe(kinds, move |_, info| {
            let first = first.swap(false, std::sync::atomic::Ordering::Relaxed);
            let mut state = packets.lock();
            match &state.fault {
                None => return gst::PadProbeReturn::Ok,
                Some(fault) if fault.drops(started) => {
                    return if first { gst::PadProbeReturn::Ok } else { gst::PadProbeReturn::Drop };
                }
                Some(_) => {}
            }
            match &mut info.data {
                Some(gst::PadProbeData::Buffer(buffer)) => {
                    match state.spoil(codec, vec![buffer.clone()]).pop() {
                        Some(spoilt) => *buffer = spoilt,
                        None if first => {}
                        None => return gst::PadProbeReturn::Drop,
                    }
                }
                Some(gst::PadProbeData::BufferList(list)) => {
                    *list = state.spoil(codec, list.iter_owned().collect()).into_iter().collect();
                }
                _ => {}
            }
            gst::PadProbeReturn::Ok
        });
    }
}

impl PacketFault {
    fn drops(&self, media_started: Instant) -> bool {
        match *self {
            Self::Withhold => true,
            Self::SlowStart { delay, since } => {
                media_started >= since && pace::now().saturating_duration_since(media_started) < delay
            }
            _ => false,
        }
    }
}

impl State {
    /// Packets that the payloader sent together, with what the fault makes of them; their number may become less.
    fn spoil(&mut self, codec: Codec, buffers: Vec<gst::Buffer>) -> Vec<gst::Buffer> {
        let Some(fault) = self.fault.clone() else { return buffers };
        let mut packets: Vec<(gst::Buffer, Vec<u8>, Vec<u8>)> = Vec::with_capacity(buffers.len());
        for buffer in buffers {
            let Some((header, payload)) = split(&buffer) else { continue };
            packets.push((buffer, header, payload));
        }
        if let PacketFault::Damage { damage, .. } = fault {
            let mut payloads: Vec<Vec<u8>> =
                packets.iter_mut().map(|packet| std::mem::take(&mut packet.2)).collect();
            damage.inflict(codec, &mut payloads, &mut self.noise);
            packets.truncate(payloads.len());
            for (packet, payload) in packets.iter_mut().zip(payloads) {
                packet.2 = payload;
            }
        } else {
            for (_, header, payload) in &mut packets {
                self.spoil_packet(&fault, header, payload);
            }
        }
        packets.into_iter().map(|(of, header, payload)| joined(&of, header, &payload)).collect()
    }

    fn spoil_packet(&mut self, fault: &PacketFault, header: &mut [u8], payload: &mut Vec<u8>) {
        match fault {
            PacketFault::FreezeTimestamps => {
                let timestamp = &mut header[RTP_TIMESTAMP];
                match self.frozen_timestamp {
                    Some(frozen) => timestamp.copy_from_slice(&frozen),
                    None => self.frozen_timestamp = (&*timestamp).try_into().ok(),
                }
            }
            PacketFault::Corrupt { .. } => self.noise.flip(payload, CORRUPT_ONE_IN),
            PacketFault::Scramble { .. } => self.noise.fill(payload),
            PacketFault::Shift { seconds } => {
                let timestamp = &mut header[RTP_TIMESTAMP];
                let now = u32::from_be_bytes([timestamp[0], timestamp[1], timestamp[2], timestamp[3]]);
                // Timestamps wrap, and so does the sum.
                let shifted = i64::from(now).wrapping_add(seconds.wrapping_mul(RTP_CLOCK_RATE)) as u32;
                timestamp.copy_from_slice(&shifted.to_be_bytes());
            }
            PacketFault::Foreign { payloads } => {
                if let Some(foreign) = payloads.get(self.foreign_index % payloads.len().max(1)) {
                    payload.clone_from(foreign);
                    self.foreign_index += 1;
                }
            }
            _ => {}
        }
    }
}

/// Header and payload of a packet.
pub(crate) fn split(packet: &gst::BufferRef) -> Option<(Vec<u8>, Vec<u8>)> {
    let bytes = packet.map_readable().ok()?;
    let (header, payload) = bytes.split_at_checked(RTP_HEADER_BYTES)?;
    Some((header.to_vec(), payload.to_vec()))
}

/// A packet with the time and flags of `of`.
fn joined(of: &gst::BufferRef, mut header: Vec<u8>, payload: &[u8]) -> gst::Buffer {
    header.extend_from_slice(payload);
    let mut packet = gst::Buffer::from_mut_slice(header);
    if let Some(packet) = packet.get_mut() {
        let what = gst::BufferCopyFlags::FLAGS | gst::BufferCopyFlags::TIMESTAMPS;
        // Only memory could fail to be copied.
        let _copied = of.copy_into(packet, what, ..);
    }
    packet
}
