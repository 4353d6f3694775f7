//! PURE: what becomes of a packet, and when it arrives.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// As many packets wait in one direction at most; more are lost.
const QUEUE_PACKETS: usize = 1000;

/// A slow wire's queue holds what it sends in this time; more is lost.
const QUEUE_TIME: Duration = Duration::from_secs(1);

/// How a wire treats packets, in each of its two directions. The default carries all of them at once.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Conditions {
    /// Part that is lost, 0 to 1.
    pub loss: f64,
    /// Part that arrives twice.
    pub duplicate: f64,
    /// Part that overtakes those before it: it is not delayed. Without a delay there is nothing to overtake.
    pub reorder: f64,
    /// How long a packet is on its way.
    pub delay: Duration,
    /// By how much that varies, up or down. Packets overtake each other.
    pub jitter: Duration,
    /// Bytes a second, or as many as come.
    pub bytes_per_s: Option<u64>,
}

impl Conditions {
    /// The cable is pulled: nothing arrives.
    pub const PARTED: Self = Self {
        loss: 1.0,
        duplicate: 0.0,
        reorder: 0.0,
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        bytes_per_s: None,
    };
}

/// What happened to packets, both directions together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Delivered, repeated ones included.
    pub carried: u64,
    /// Lost by chance, by a full queue, or because nothing is plugged in.
    pub lost: u64,
    /// Delivered twice.
    pub repeated: u64,
    /// Sent on without the delay of their predecessors.
    pub reordered: u64,
    /// Lost because they belong to a connection that was forgotten.
    pub forgotten: u64,
}

/// One direction.
pub(crate) struct Lane {
    conditions: Conditions,
    /// State of the random numbers.
    seed: u64,
    waiting: BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>>,
    number: u64,
    /// When the wire has sent what it was given so far, at its rate.
    free_at: Option<Instant>,
}

impl Lane {
    pub(crate) fn new(seed: u64) -> Self {
        let conditions = Conditions::default();
        Self { conditions, seed, waiting: BinaryHeap::new(), number: 0, free_at: None }
    }

    /// Other conditions from now on. What was on its way arrives now.
    pub(crate) fn set(&mut self, conditions: Conditions, now: Instant) {
        self.conditions = conditions;
        self.free_at = None;
        let waiting = std::mem::take(&mut self.waiting).into_sorted_vec();
        for (at, Reverse((_, _, packet))) in waiting.into_iter().rev().enumerate() {
            self.waiting.push(Reverse((now, at as u64, packet)));
        }
    }

    /// Takes a packet at `now`.
    pub(crate) fn take(&mut self, packet: Vec<u8>, now: Instant, counts: &mut Counts) {
        let Conditions { loss, duplicate, reorder, delay, bytes_per_s, .. } = self.conditions;
        if self.happens(loss) || self.waiting.len() >= QUEUE_PACKETS {
            counts.lost += 1;
            return;
        }
        let sent_at = match bytes_per_s {
            Some(rate) => {
                let takes = Duration::from_secs_f64(packet.len() as f64 / rate as f64);
                let sent_at = self.free_at.map_or(now, |free_at| free_at.max(now)) + takes;
                if sent_at > now + QUEUE_TIME {
                    counts.lost += 1;
                    return;
                }
                self.free_at = Some(sent_at);
                sent_at
            }
            None => now,
        };
        let overtakes = delay > Duration::ZERO && self.happens(reorder);
        let due = if overtakes { sent_at } else { sent_at + self.time_on_the_way() };
        counts.reordered += u64::from(overtakes);
        if self.happens(duplicate) {
            counts.repeated += 1;
            self.enqueue(due, packet.clone());
        }
        self.enqueue(due, packet);
    }

    fn enqueue(&mut self, due: Instant, packet: Vec<u8>) {
        self.number += 1;
        self.waiting.push(Reverse((due, self.number, packet)));
    }

    /// The next packet that has arrived.
    pub(crate) fn arrived(&mut self, now: Instant) -> Option<Vec<u8>> {
        let due = self.next_at()?;
        if due > now {
            return None;
        }
        self.waiting.pop().map(|Reverse((_, _, packet))| packet)
    }

    /// When the next one arrives.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.waiting.peek().map(|Reverse((due, ..))| *due)
    }

    fn time_on_the_way(&mut self) -> Duration {
        let Conditions { delay, jitter, .. } = self.conditions;
        if jitter.is_zero() {
            return delay;
        }
        let earliest = delay.saturating_sub(jitter);
        earliest + (delay + jitter - earliest).mul_f64(self.random())
    }

    fn happens(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.random() < probability
    }

    /// 0 to 1, by SplitMix64.
    fn random(&mut self) -> f64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Sends packets 0, 1, … one a millisecond; what arrives, with when.
    fn send(conditions: Conditions, count: u16) -> (Vec<(u16, Duration)>, Counts) {
        let mut lane = Lane { conditions, ..Lane::new(1) };
        let (start, mut counts, mut arrived) = (crate::now(), Counts::default(), Vec::new());
        for step in 0..u32::from(count) + 2000 {
            let now = start + MS * step;
            if let Ok(number) = u16::try_from(step)
                && number < count
            {
                lane.take(number.to_be_bytes().to_vec(), now, &mut counts);
            }
            while let Some(packet) = lane.arrived(now) {
                arrived.push((u16::from_be_bytes([packet[0], packet[1]]), MS * step));
            }
        }
        assert_eq!(lane.next_at(), None);
        (arrived, counts)
    }

    #[test]
    fn a_good_wire_carries_all_in_order_and_at_once() {
        let (arrived, counts) = send(Conditions::default(), 500);
        assert!(
            arrived
                .iter()
                .enumerate()
                .all(|(at, (number, when))| at == usize::from(*number) && *when == MS * at as u32)
        );
        assert_eq!((arrived.len(), counts), (500, Counts::default()));
    }

    #[test]
    fn loss_and_repetition_are_as_frequent_as_told() {
        let (arrived, counts) =
            send(Conditions { loss: 0.1, duplicate: 0.05, ..Conditions::default() }, 10_000);
        assert!((900..1100).contains(&counts.lost), "{counts:?}");
        assert!((400..500).contains(&counts.repeated), "{counts:?}");
        assert_eq!(arrived.len() as u64, 10_000 - counts.lost + counts.repeated);
        assert!(send(Conditions::PARTED, 100).0.is_empty());
    }

    #[test]
    fn delay_jitter_and_overtaking() {
        let delayed = Conditions { delay: MS * 100, ..Conditions::default() };
        assert!(send(delayed, 200).0.iter().all(|(number, when)| *when == MS * (u32::from(*number) + 100)));
        let (jittery, _) = send(Conditions { jitter: MS * 30, ..delayed }, 1000);
        assert!(jittery.iter().all(|(number, when)| {
            (MS * (u32::from(*number) + 70)..=MS * (u32::from(*number) + 131)).contains(when)
        }));
        assert!(!jittery.is_sorted_by_key(|(number, _)| *number));
        let (overtaken, counts) = send(Conditions { reorder: 0.25, ..delayed }, 1000);
        assert!((200..300).contains(&counts.reordered), "{counts:?}");
        assert!(!overtaken.is_sorted_by_key(|(number, _)| *number));
    }

    #[test]
    fn a_slow_wire_queues_for_a_second_and_then_loses() {
        // Two bytes a packet, one a millisecond, and half of them a second.
        let (arrived, counts) = send(Conditions { bytes_per_s: Some(1000), ..Conditions::default() }, 4000);
        assert_eq!(arrived.len() as u64 + counts.lost, 4000);
        assert!((1480..1510).contains(&counts.lost), "{counts:?}");
        assert!(arrived.iter().all(|(number, when)| *when <= MS * (u32::from(*number) + 1000)));
        let mut lane = Lane::new(1);
        let (now, mut counts) = (crate::now(), Counts::default());
        lane.set(Conditions { delay: MS * 100, ..Conditions::default() }, now);
        for number in 0..QUEUE_PACKETS + 10 {
            lane.take(number.to_be_bytes().to_vec(), now, &mut counts);
        }
        assert_eq!((lane.waiting.len(), counts.lost), (QUEUE_PACKETS, 10));
        assert_eq!(lane.arrived(now), None);
        lane.set(Conditions::default(), now);
        for number in 0..QUEUE_PACKETS {
            assert_eq!(lane.arrived(now), Some(number.to_be_bytes().to_vec()), "healed, in order");
        }
    }
}
