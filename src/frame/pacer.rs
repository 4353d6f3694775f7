//! PURE: at most so many frames a second go on to detection.

use std::time::{Duration, Instant};

/// Lets frames through at a steady rate.
///
/// Due times form a grid of `1 / fps`. A frame up to a tenth of an interval early still counts as due, so that
/// a camera's jitter does not turn "every second frame" into "now and then a third".
#[derive(Debug, Clone)]
pub struct Pacer {
    interval: Option<Duration>,
    due: Option<Instant>,
}

impl Pacer {
    /// `None` lets every frame through.
    pub fn new(fps: Option<f64>) -> Self {
        Self { interval: fps.map(|fps| Duration::from_secs_f64(1.0 / fps)), due: None }
    }

    /// `None` lets every frame through.
    pub fn every(interval: Option<Duration>) -> Self {
        Self { interval, due: None }
    }

    /// From one frame to the next; `None`: every frame.
    pub fn interval(&self) -> Option<Duration> {
        self.interval
    }

    /// Whether a frame that arrived at `at` is due. Does not take the turn: see [`Self::taken`].
    pub fn is_due(&self, at: Instant) -> bool {
        match (self.interval, self.due) {
            (Some(interval), Some(due)) => at + interval / 10 >= due,
            _ => true,
        }
    }

    /// The frame that arrived at `at` goes on to detection.
    pub fn taken(&mut self, at: Instant) {
        let Some(interval) = self.interval else { return };
        // On time, the grid stands; late, it starts anew: missed turns are not made up for in a burst.
        let next = self.due.map_or(at, |due| due.max(at.checked_sub(interval / 10).unwrap_or(at)));
        self.due = Some(next + interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken_in(fps: Option<f64>, camera_fps: f64, seconds: f64) -> usize {
        let start = crate::clock::now();
        let mut pacer = Pacer::new(fps);
        (0..(camera_fps * seconds) as u32)
            .filter(|i| {
                let at = start + Duration::from_secs_f64(f64::from(*i) / camera_fps);
                let due = pacer.is_due(at);
                if due {
                    pacer.taken(at);
                }
                due
            })
            .count()
    }

    #[test]
    fn without_a_rate_every_frame_passes() {
        assert_eq!(taken_in(None, 30.0, 10.0), 300);
    }

    #[test]
    fn the_rate_is_met_for_rates_that_divide_and_rates_that_do_not() {
        assert_eq!(taken_in(Some(5.0), 30.0, 10.0), 50);
        assert_eq!(taken_in(Some(15.0), 15.0, 10.0), 150);
        let uneven = taken_in(Some(7.0), 30.0, 100.0);
        assert!((690..=710).contains(&uneven), "{uneven}");
    }

    #[test]
    fn a_pause_is_not_made_up_for() {
        let start = crate::clock::now();
        let mut pacer = Pacer::new(Some(10.0));
        pacer.taken(start);
        let late = start + Duration::from_secs(5);
        assert!(pacer.is_due(late));
        pacer.taken(late);
        assert!(!pacer.is_due(late + Duration::from_millis(50)));
    }
}
