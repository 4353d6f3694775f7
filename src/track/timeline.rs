//! A camera's own time, made of what its frames say.

use std::time::{Duration, Instant};

/// How far the intervals of presentation times and of arrivals may be apart: what jitter buffers and bursts do.
const BELIEVED: Duration = Duration::from_secs(2);

/// Time that never goes back, also where the camera's does, and goes on from opening to opening.
///
/// Presentation times are steadier than arrivals, so they are used between frames of one opening as long as both tell
/// the same story; else arrivals are.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    at: Duration,
    last: Option<Last>,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    generation: u64,
    pts_ns: Option<u64>,
    arrived_at: Instant,
}

impl Timeline {
    /// The time of the next frame; the first one's is zero.
    pub fn advance(&mut self, generation: u64, pts_ns: Option<u64>, arrived_at: Instant) -> Duration {
        let last = self.last.replace(Last { generation, pts_ns, arrived_at });
        let Some(last) = last else { return self.at };
        let by_arrival = arrived_at.saturating_duration_since(last.arrived_at);
        let by_pts = match (last.pts_ns, pts_ns) {
            (Some(before), Some(now)) if generation == last.generation && now > before => {
                Some(Duration::from_nanos(now - before)).filter(|step| step.abs_diff(by_arrival) <= BELIEVED)
            }
            _ => None,
        };
        self.at += by_pts.unwrap_or(by_arrival);
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn time_follows_the_stream_and_never_goes_back() {
        let (mut timeline, start) = (Timeline::default(), clock::now());
        let mut at = |generation, pts_ms: Option<u64>, arrived_ms| {
            let arrived_at = start + Duration::from_millis(arrived_ms);
            timeline.advance(generation, pts_ms.map(|ms| ms * 1_000_000), arrived_at).as_millis()
        };
        assert_eq!(at(1, Some(500), 1000), 0);
        assert_eq!(at(1, Some(600), 1170), 100, "arrivals jitter, presentation times do not");
        assert_eq!(at(1, Some(700), 1180), 200);
        assert_eq!(at(1, Some(9700), 1280), 300, "a presentation time that jumps is not believed");
        assert_eq!(at(1, Some(20), 1380), 400, "nor one that goes back");
        assert_eq!(at(1, None, 1480), 500);
        assert_eq!(at(2, Some(40), 4480), 3500, "another opening counts anew, time does not");
        assert_eq!(at(2, Some(140), 4480), 3600);
        assert_eq!(at(2, Some(240), 4000), 3700, "arrivals are never earlier, but if they were");
    }
}
