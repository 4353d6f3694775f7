//! PURE: does this process hold more and more of anything?
//!
//! ```text
//!   a sample every 5 s ─► least of 15 s ─► least of 2 min ─► least of 16 min ─► least of 2 h
//!                          100 of them      100 of them       100 of them        100 of them
//!                          (25 min)         (3 h 20 min)      (27 h)             (9 days)
//!                             └───────────────┴──── is it a steady rise? ───────────┘
//!                                                   │ for the first time            │ for 20 points no more
//!                                                   ▼                               ▼
//!                                            Report::Grows                    Report::Steady
//! ```
//!
//! The least of each stretch is kept, not the mean: what comes and goes (an opening, a burst, the teeth of an
//! allocator) lies above it, what is lost lies in it. Steady means what [`trend::Scratch::rise`] demands, and a
//! rise of at least so much over a full row of 100 points:
//!
//! | row | bytes | that is | descriptors | threads | pipelines, slots |
//! |---|---|---|---|---|---|
//! | 25 min | 8 MiB | 19 MiB an hour | 12 | 8 | 4 |
//! | 3 h 20 min | 10 MiB | 3 MiB an hour | 12 | 8 | 4 |
//! | 27 h | 16 MiB | 14 MiB a day | 12 | 8 | 4 |
//! | 9 days | 32 MiB | 3.6 MiB a day | 12 | 8 | 4 |
//!
//! Also the newest 20, 40, 60 and 80 points are looked at, so that a fast leak is found soon (in 5 minutes on
//! the first row); being shorter they have to show 5, 2.5, 1.7 and 1.25 times as much.
//!
//! **False alarms.** Against noise without memory, however loud, seven standard errors are demanded, which are
//! still six where the noise was underestimated by as much as it can be from 100 points. Chance does that with
//! a probability of 1e-9 at each look, of which the shortest row has ten million in a year (five lengths every
//! 15 s), neighbours being nearly the same: less than one in a hundred years for each holding. Noise with a memory (what an allocator keeps wanders) is held off by the least rise. A sawtooth
//! of period P is not reported as long as its teeth are lower than two thirds of 8 MiB times 25 min / P, nor of
//! any height if P is less than 4 minutes; a step of any height is not. Of the ways to grow that
//! are in order, three look like a leak: the first minutes, which are not looked at; cameras that come up one
//! after another, for which [`Sample::expected`] begins a new warm-up; and readers that connect, whose
//! descriptors are not counted.
//!
//! Everything is allocated by [`Sentinel::new`]; memory does not depend on how long the process runs.

mod trend;
mod words;

use std::time::{Duration, Instant};

use crate::metrics::Holding;
use trend::{Demand, POINTS_MAX, POINTS_MIN, Scratch};

/// How time is divided up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// A sample is wanted this often.
    pub sample_every: Duration,
    /// Nothing is looked at for this long after the start, and after a change that explains growth.
    pub warm_up: Duration,
    /// The samples of so long make one point of the shortest row.
    pub point: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            sample_every: Duration::from_secs(5),
            warm_up: Duration::from_secs(300),
            point: Duration::from_secs(15),
        }
    }
}

/// So many points of a row make one of the next.
const POINTS_PER_POINT: usize = 8;
const ROWS: usize = 4;
/// Least rise in bytes over a full row.
const LEAST_BYTES: [f64; ROWS] =
    [8.0 * 1_048_576.0, 10.0 * 1_048_576.0, 16.0 * 1_048_576.0, 32.0 * 1_048_576.0];
/// The rise in standard errors, to be reported.
const ERRORS: f64 = 7.0;
/// To stay reported, half of everything will do.
const HYSTERESIS: f64 = 0.5;
/// A reported growth is withdrawn after so many points without one.
const CALM_POINTS: u32 = POINTS_MIN as u32;
/// A sample that is so many points late comes after a pause of the whole process.
const PAUSE_POINTS: u32 = 4;
/// So many openings make it worth saying how much each of them cost.
const OPENINGS_MIN: f64 = 5.0;

const HOLDINGS: usize = Holding::ALL.len();
/// After the holdings: openings so far.
const OPENINGS: usize = HOLDINGS;
const SERIES: usize = HOLDINGS + 1;

/// Least rise over a full row.
fn least_rise(holding: Holding, row: usize) -> f64 {
    match holding {
        Holding::Rss | Holding::Pss | Holding::Gpu => LEAST_BYTES[row],
        Holding::Fd => 12.0,
        Holding::Thread => 8.0,
        Holding::Pipeline | Holding::Slot => 4.0,
    }
}

/// What the process holds at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sample {
    /// By [`Holding`]. Descriptors without those of readers: they may come one by one and stay.
    pub held: [u64; HOLDINGS],
    /// Openings of cameras since the start.
    pub openings: u64,
    /// Whatever explains growth when it is higher than ever: cameras that stream at one time.
    pub expected: u64,
}

/// Who seems to hold what is held more and more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Owner {
    /// This grows along, and may explain it.
    With(Holding),
    /// It is shared with other processes, or mapped from files.
    Shared,
    /// Nothing else grows, but cameras were opened: so much for each opening.
    Openings {
        /// So many.
        count: u64,
        /// Bytes or pieces for each.
        each: f64,
    },
    /// Nothing that is counted grows along.
    Unknown,
}

/// A growth that has become certain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Growth {
    /// Of what.
    pub holding: Holding,
    /// How much there is now.
    pub held: u64,
    /// By how much it has grown.
    pub rise: f64,
    /// In which time.
    pub over: Duration,
    /// Who seems to have it.
    pub owner: Owner,
}

impl Growth {
    /// Bytes or pieces an hour.
    pub fn per_hour(&self) -> f64 {
        self.rise * 3600.0 / self.over.as_secs_f64()
    }
}

impl Report {
    /// Of what.
    pub fn holding(&self) -> Holding {
        match self {
            Self::Grows(growth) => growth.holding,
            Self::Steady { holding, .. } => *holding,
        }
    }

    /// How much there is.
    pub fn held(&self) -> u64 {
        match self {
            Self::Grows(growth) => growth.held,
            Self::Steady { held, .. } => *held,
        }
    }
}

/// Something to tell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Report {
    /// An episode of growth has begun.
    Grows(Growth),
    /// It is over.
    Steady {
        /// Of what.
        holding: Holding,
        /// How much there is now.
        held: u64,
    },
}

/// One row of points, the oldest first, for all series.
#[derive(Debug)]
struct Row {
    points: [[f64; POINTS_MAX]; SERIES],
    len: usize,
    /// So many of the newest count: what a withdrawn growth has left behind does not.
    counting: [usize; SERIES],
    /// The least so far in the point that is being made.
    least: [f64; SERIES],
    parts: usize,
}

impl Row {
    fn new() -> Self {
        Self {
            points: [[0.0; POINTS_MAX]; SERIES],
            len: 0,
            counting: [0; SERIES],
            least: [f64::INFINITY; SERIES],
            parts: 0,
        }
    }

    fn clear(&mut self) {
        self.len = 0;
        self.counting = [0; SERIES];
        self.drop_part();
    }

    fn forget(&mut self, series: usize) {
        self.counting[series] = 0;
        // A part that is taken before the point is closed follows.
        self.least[series] = f64::INFINITY;
    }

    fn drop_part(&mut self) {
        self.least = [f64::INFINITY; SERIES];
        self.parts = 0;
    }

    fn take_part(&mut self, values: &[f64; SERIES]) {
        for (least, value) in self.least.iter_mut().zip(values) {
            *least = least.min(*value);
        }
        self.parts += 1;
    }

    /// Makes a point of the parts so far, and returns it for the next row.
    fn close_point(&mut self) -> [f64; SERIES] {
        if self.len == POINTS_MAX {
            self.points.iter_mut().for_each(|series| series.copy_within(1.., 0));
            self.len -= 1;
        }
        for (series, least) in self.points.iter_mut().zip(self.least) {
            series[self.len] = least;
        }
        self.len += 1;
        self.counting.iter_mut().for_each(|count| *count = (*count + 1).min(self.len));
        let point = self.least;
        self.drop_part();
        point
    }

    fn newest(&self, series: usize, count: usize) -> &[f64] {
        &self.points[series][self.len - count..self.len]
    }

    fn counting(&self, series: usize) -> &[f64] {
        self.newest(series, self.counting[series])
    }
}

impl Pace {
    /// How long one point of a row is.
    fn point_of(&self, row: usize) -> Duration {
        self.point * u32::try_from(POINTS_PER_POINT.pow(row as u32)).unwrap_or(u32::MAX)
    }

    /// The time that so many points of a row cover.
    fn span(&self, row: usize, count: usize) -> Duration {
        self.point_of(row) * u32::try_from(count).unwrap_or(u32::MAX)
    }
}

/// An episode that was reported.
#[derive(Debug, Clone, Copy)]
struct Episode {
    /// The row that showed it.
    row: usize,
    /// Points of that row since it was last seen to grow.
    calm_points: u32,
    per_hour: f64,
}

/// Watches all holdings.
#[derive(Debug)]
pub struct Sentinel {
    pace: Pace,
    rows: Box<[Row; ROWS]>,
    scratch: Scratch,
    episodes: [Option<Episode>; HOLDINGS],
    reports: [Option<Report>; HOLDINGS],
    most_expected: u64,
    warm_at: Instant,
    next_sample_at: Instant,
    /// When the point in the making is complete.
    point_ends_at: Instant,
    newest: Sample,
}

impl Sentinel {
    /// Allocates everything it will ever need.
    pub fn new(pace: Pace, now: Instant) -> Self {
        Self {
            pace,
            rows: Box::new(std::array::from_fn(|_| Row::new())),
            scratch: Scratch::default(),
            episodes: [None; HOLDINGS],
            reports: [None; HOLDINGS],
            most_expected: 0,
            warm_at: now + pace.warm_up,
            next_sample_at: now,
            point_ends_at: now + pace.warm_up + pace.point,
            newest: Sample::default(),
        }
    }

    /// Whether it is time for the next [`Self::observe`].
    pub fn is_due(&self, now: Instant) -> bool {
        now >= self.next_sample_at
    }

    /// Takes a sample. Drain [`Self::next_report`] afterwards.
    pub fn observe(&mut self, sample: Sample, now: Instant) {
        let late = now.saturating_duration_since(self.next_sample_at);
        self.next_sample_at = now + self.pace.sample_every;
        self.newest = sample;
        if sample.expected > self.most_expected {
            self.most_expected = sample.expected;
            self.begin_anew(now);
        }
        if now < self.warm_at {
            return;
        }
        self.forget_before_pause(late, now);
        let mut values = [0.0; SERIES];
        for (value, held) in values.iter_mut().zip(sample.held.iter().chain([&sample.openings])) {
            *value = *held as f64;
        }
        self.rows[0].take_part(&values);
        if now >= self.point_ends_at {
            let point = self.pace.point;
            self.point_ends_at = now + point - now.saturating_duration_since(self.point_ends_at).min(point);
            self.close_points();
        }
    }

    /// The next thing to tell.
    pub fn next_report(&mut self) -> Option<Report> {
        self.reports.iter_mut().find_map(Option::take)
    }

    /// Bytes or pieces an hour over the shortest row, or as reported; 0 as long as nothing is known.
    pub fn per_hour(&mut self, holding: Holding) -> f64 {
        if let Some(episode) = self.episodes[holding as usize] {
            return episode.per_hour;
        }
        let row = self.rows[0].counting(holding as usize);
        if row.len() < POINTS_MIN {
            return 0.0;
        }
        self.scratch.slope(row) * 3600.0 / self.pace.point.as_secs_f64()
    }

    /// Whether an episode of this is reported and not withdrawn.
    pub fn is_growing(&self, holding: Holding) -> bool {
        self.episodes[holding as usize].is_some()
    }

    /// There is a reason for more: what comes after it is not compared with what was before.
    fn begin_anew(&mut self, now: Instant) {
        self.rows.iter_mut().for_each(Row::clear);
        self.warm_at = now + self.pace.warm_up;
        self.point_ends_at = self.warm_at + self.pace.point;
    }

    /// While the process was stopped nothing could grow: points on both sides of a pause are no neighbours,
    /// unless they are much longer than it.
    fn forget_before_pause(&mut self, late: Duration, now: Instant) {
        if late < PAUSE_POINTS * self.pace.point {
            return;
        }
        self.point_ends_at = now + self.pace.point;
        for (index, row) in self.rows.iter_mut().enumerate() {
            if late >= PAUSE_POINTS * self.pace.point_of(index) {
                row.clear();
            } else if index == 0 {
                row.drop_part();
            }
        }
    }

    /// A point of the shortest row is complete, and with it perhaps one of the next, and so on.
    fn close_points(&mut self) {
        for index in 0..ROWS {
            let point = self.rows[index].close_point();
            self.examine(index);
            match self.rows.get_mut(index + 1) {
                Some(next) => {
                    next.take_part(&point);
                    if next.parts < POINTS_PER_POINT {
                        return;
                    }
                }
                None => return,
            }
        }
    }

    /// Looks at a row that has a new point.
    fn examine(&mut self, row: usize) {
        for &holding in Holding::ALL {
            // It explains the resident memory, and is not reported beside it.
            if holding == Holding::Pss {
                continue;
            }
            match self.episodes[holding as usize] {
                None => {
                    if let Some((rise, count)) = self.rise(holding, row, 1.0) {
                        self.begin_episode(holding, row, rise, count);
                    }
                }
                Some(mut episode) if episode.row == row => {
                    match self.rise(holding, row, HYSTERESIS) {
                        Some((rise, count)) => {
                            episode.calm_points = 0;
                            episode.per_hour = rise * 3600.0 / self.pace.span(row, count).as_secs_f64();
                        }
                        None => episode.calm_points += 1,
                    }
                    self.episodes[holding as usize] = Some(episode);
                    if episode.calm_points >= CALM_POINTS {
                        self.end_episode(holding);
                    }
                }
                Some(_) => {}
            }
        }
    }

    /// The rise over the shortest stretch of the row that shows one, and that stretch.
    fn rise(&mut self, holding: Holding, row: usize, part: f64) -> Option<(f64, usize)> {
        let history = self.rows[row].counting(holding as usize);
        (1..=POINTS_MAX / POINTS_MIN).map(|n| n * POINTS_MIN).take_while(|&n| n <= history.len()).find_map(
            |count| {
                let demand = Demand {
                    rise: part * least_rise(holding, row) * POINTS_MAX as f64 / count as f64,
                    errors: part * ERRORS,
                };
                let rise = self.scratch.rise(&history[history.len() - count..], history, demand)?;
                Some((rise, count))
            },
        )
    }

    fn begin_episode(&mut self, holding: Holding, row: usize, rise: f64, count: usize) {
        let growth = Growth {
            holding,
            held: self.newest.held[holding as usize],
            rise,
            over: self.pace.span(row, count),
            owner: self.owner(holding, row, rise, count),
        };
        let episode = Episode { row, calm_points: 0, per_hour: growth.per_hour() };
        self.episodes[holding as usize] = Some(episode);
        self.reports[holding as usize] = Some(Report::Grows(growth));
    }

    /// What it left in longer rows is known, and would be reported again.
    fn end_episode(&mut self, holding: Holding) {
        self.rows.iter_mut().for_each(|row| row.forget(holding as usize));
        self.episodes[holding as usize] = None;
        let held = self.newest.held[holding as usize];
        self.reports[holding as usize] = Some(Report::Steady { holding, held });
    }

    /// What grows in the same stretch, the more telling first.
    fn owner(&mut self, holding: Holding, row: usize, rise: f64, count: usize) -> Owner {
        let points = &self.rows[row];
        let telling = [Holding::Pipeline, Holding::Slot, Holding::Thread, Holding::Fd];
        // What is itself telling is explained only by what is more so.
        for other in telling.into_iter().take_while(|&other| other != holding) {
            let demand = Demand { rise: HYSTERESIS * least_rise(other, row), errors: HYSTERESIS * ERRORS };
            let stretch = points.newest(other as usize, count);
            if self.scratch.rise(stretch, stretch, demand).is_some() {
                return Owner::With(other);
            }
        }
        if holding == Holding::Rss {
            let private = self.scratch.slope(points.newest(Holding::Pss as usize, count)) * count as f64;
            if private < rise / 4.0 {
                return Owner::Shared;
            }
        }
        let openings = points.newest(OPENINGS, count);
        let opened = openings.last().zip(openings.first()).map_or(0.0, |(last, first)| last - first);
        match opened >= OPENINGS_MIN {
            true => Owner::Openings { count: opened as u64, each: rise / opened },
            false => Owner::Unknown,
        }
    }
}

#[cfg(test)]
#[path = "sentinel_tests.rs"]
mod tests;
