//! PURE: does anything move, judged by the sizes of coded pictures alone?
//!
//! A picture that is predicted from others is as large as what the others do not explain. Its size is compared with those of
//! its like while the scene was still: of the same kind, and as far behind the keyframe, because encoders spend the first
//! pictures on what the keyframe left undone. Robust measures, so that nothing that passes by moves them: median and median
//! absolute deviation (MAD), of the logarithm, because sizes vary in proportion. What exceeds [`DRIFT`] deviations adds up (the
//! CUSUM of Page, 1954), what stays below takes away, and [`ALARM`] is an alarm. One picture alone is never one. Each alarm for
//! nothing (daylight that changes in steps, rain) has the next one wait for twice as much, up to [`RELUCTANCE_MAX`] times.

use crate::source::PictureKind;

/// Sizes that are remembered of each like.
const WINDOW: usize = 48;
/// Sizes before any is judged.
const WINDOW_MIN: usize = 8;
/// How far behind the keyframe: 1, 2, 3 to 4, 5 to 8, 9 to 16, more.
const PLACES: usize = 6;
/// Sizes are as if all had so much more: headers of empty pictures differ by half and mean nothing.
const HEADER_BYTES: f32 = 150.0;
/// No encoder is steadier than this, in the logarithm.
const DEVIATION_MIN: f32 = 0.08;
/// Deviations that explain themselves.
const DRIFT: f32 = 1.0;
/// One picture counts no more than so many.
const EXCESS_MAX: f32 = 5.0;
/// Deviations that are an alarm together.
const ALARM: f32 = 12.0;
/// An alarm never takes more than so many times as much.
const RELUCTANCE_MAX: f32 = 4.0;
/// Sizes of the commonest like before the whole can be relied on.
const LEARNED: usize = 32;

/// Sizes of the still scene, and what has come together against them.
#[derive(Debug)]
pub struct Activity {
    likes: Box<[[Sizes; PLACES]; 2]>,
    place: u32,
    sum: f32,
    /// How many times [`ALARM`] an alarm takes.
    reluctance: f32,
}

#[derive(Debug, Clone, Copy)]
struct Sizes {
    logs: [f32; WINDOW],
    count: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { logs: [0.0; WINDOW], count: 0 }
    }
}

impl Sizes {
    fn learn(&mut self, log: f32) {
        self.logs[self.count % WINDOW] = log;
        self.count += 1;
    }

    /// How many deviations above the median; `None` as long as too little is known.
    fn deviations(&self, log: f32) -> Option<f32> {
        let known = self.count.min(WINDOW);
        if known < WINDOW_MIN {
            return None;
        }
        let mut sorted = self.logs;
        let sorted = &mut sorted[..known];
        let median = median(sorted);
        sorted.iter_mut().for_each(|log| *log = (*log - median).abs());
        // Of a normal distribution 1.4826 MAD are a standard deviation.
        let deviation = (1.4826 * self::median(sorted)).max(DEVIATION_MIN);
        Some((log - median) / deviation)
    }
}

fn median(values: &mut [f32]) -> f32 {
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f32::total_cmp).1
}

impl Default for Activity {
    fn default() -> Self {
        Self { likes: Box::new([[Sizes::default(); PLACES]; 2]), place: 0, sum: 0.0, reluctance: 1.0 }
    }
}

impl Activity {
    /// Looks at the next picture. `learns`: the scene is still, as far as others know. True is an alarm.
    pub fn saw(&mut self, kind: PictureKind, size_bytes: usize, learns: bool) -> bool {
        let like = match kind {
            PictureKind::Key => {
                self.place = 0;
                return false;
            }
            PictureKind::Reference => 0,
            PictureKind::Disposable => 1,
        };
        self.place = self.place.saturating_add(1);
        let place = (self.place - 1).checked_ilog2().map_or(0, |log| log as usize + 1).min(PLACES - 1);
        let sizes = &mut self.likes[like][place];
        let log = (size_bytes as f32 + HEADER_BYTES).ln();
        let deviations = sizes.deviations(log);
        if let Some(deviations) = deviations {
            self.sum = (self.sum + deviations.min(EXCESS_MAX) - DRIFT).max(0.0);
        }
        if learns {
            sizes.learn(log);
        }
        self.sum >= self.reluctance * ALARM
    }

    /// Enough still pictures were seen to tell when one is not.
    pub fn has_learned(&self) -> bool {
        self.likes.iter().flatten().any(|sizes| sizes.count >= LEARNED)
    }

    /// What has come together does not count any more.
    pub fn calm(&mut self) {
        self.sum = 0.0;
    }

    /// The last alarm was for nothing.
    pub fn was_false(&mut self) {
        self.reluctance = (2.0 * self.reluctance).min(RELUCTANCE_MAX);
    }

    /// The last alarm was for something, or there has been none for long.
    pub fn relents(&mut self) {
        self.reluctance = (self.reluctance / 2.0).max(1.0);
    }

    /// Less than an eighth of an alarm has come together.
    pub fn is_calm(&self) -> bool {
        self.sum < ALARM / 8.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes about `mean`, a tenth up and down, by chance.
    fn size(mean: f64, number: u64) -> usize {
        let chance = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) % 1000;
        (mean * (0.9 + 0.0002 * chance as f64)) as usize
    }

    /// GOPs of 30, the first pictures larger; `factor` on all. The number of the first alarm.
    fn alarm(
        activity: &mut Activity,
        numbers: std::ops::Range<u64>,
        learns: bool,
        factor: f64,
    ) -> Option<u64> {
        numbers.clone().find(|&number| {
            let (kind, mean) = match number % 30 {
                0 => (PictureKind::Key, 50_000.0),
                1 => (PictureKind::Reference, 9_000.0),
                2 | 3 => (PictureKind::Reference, 4_000.0),
                other if other % 3 == 0 => (PictureKind::Disposable, 400.0),
                _ => (PictureKind::Reference, 2_000.0),
            };
            activity.saw(kind, size(mean * factor, number), learns)
        })
    }

    #[test]
    fn a_still_scene_gives_no_alarm_whatever_its_gops_look_like() {
        let mut activity = Activity::default();
        assert_eq!(alarm(&mut activity, 0..300, true, 1.0), None);
        assert!(activity.has_learned());
        assert_eq!(alarm(&mut activity, 300..30_000, true, 1.0), None);
    }

    #[test]
    fn pictures_that_are_a_quarter_larger_give_one_within_a_gop_and_much_larger_ones_at_once() {
        for (factor, within) in [(1.25, 30), (2.0, 5)] {
            let mut activity = Activity::default();
            assert_eq!(alarm(&mut activity, 0..900, true, 1.0), None);
            let at = alarm(&mut activity, 910..1000, false, factor).expect("an alarm");
            assert!(at - 910 < within, "{factor}: after {} pictures", at - 910);
        }
    }

    #[test]
    fn one_huge_picture_is_no_alarm_and_is_forgotten() {
        let mut activity = Activity::default();
        assert_eq!(alarm(&mut activity, 0..915, true, 1.0), None);
        assert!(!activity.saw(PictureKind::Reference, 500_000, true));
        assert!(!activity.is_calm());
        assert_eq!(alarm(&mut activity, 916..960, true, 1.0), None);
        assert!(activity.is_calm());
    }

    #[test]
    fn what_stays_larger_is_learned() {
        let mut activity = Activity::default();
        assert_eq!(alarm(&mut activity, 0..900, true, 1.0), None);
        assert!(alarm(&mut activity, 900..1000, true, 1.5).is_some());
        // Told that the scene is still all the same.
        while alarm(&mut activity, 1001..1030, true, 1.5).is_some() {}
        for gop in 34..100 {
            activity.calm();
            alarm(&mut activity, 30 * gop..30 * gop + 30, true, 1.5);
        }
        activity.calm();
        assert_eq!(alarm(&mut activity, 3000..6000, true, 1.5), None);
    }
}
