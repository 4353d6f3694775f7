//! PURE: how many frames one inference should take, from measurements on the device.
//!
//! Sizes are tried upward, 1, 2, 4, …; the search ends where a larger batch is hardly cheaper per frame, takes too
//! long for a live picture, or does not fit into memory.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A larger batch must make each frame at least this much cheaper.
pub const GAIN_MIN: f64 = 0.05;
/// A batch that takes longer makes every frame in it older than a live picture should be.
pub const LATENCY_MAX_MS: f64 = 100.0;

/// What was measured for one batch size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measurement {
    /// Median time of one inference.
    pub median_ms: f64,
    /// Device memory the engine takes at this size.
    pub bytes: u64,
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ProbeRow {
    /// Frames in one inference.
    pub batch: usize,
    /// Median time of one inference.
    pub median_ms: f64,
    /// The same for each frame.
    pub ms_per_frame: f64,
    /// Device memory the engine takes at this size.
    pub bytes: u64,
}

/// Why no larger batch was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The largest size that was allowed is a good one.
    Limit,
    /// The next size was hardly cheaper per frame.
    Gain,
    /// The next size took too long.
    Latency,
    /// The next size did not fit.
    Memory,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit => f.write_str("this is the largest that was allowed"),
            Self::Gain => write!(f, "a larger one gains less than {:.0} % per frame", GAIN_MIN * 100.0),
            Self::Latency => write!(f, "a larger one takes longer than {LATENCY_MAX_MS:.0} ms"),
            Self::Memory => f.write_str("a larger one does not fit into the device's memory"),
        }
    }
}

/// The measurements and what follows from them.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchTable {
    /// In the order of their batch sizes; the last may be the one that was not worth it.
    pub rows: Vec<ProbeRow>,
    /// The size to use, at least 1.
    pub chosen: usize,
    /// Why it is not larger.
    pub ended: Ended,
}

/// What to do after some measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Measure(usize),
    Done { chosen: usize, ended: Ended },
}

/// The step after `rows`, with `limit` as the largest size.
fn next(rows: &[ProbeRow], limit: usize) -> Next {
    let limit = limit.max(1);
    let Some((last, before)) = rows.split_last() else { return Next::Measure(1) };
    if let Some(best) = before.last() {
        // A measurement that is no number proves no gain.
        let gains = last.ms_per_frame <= best.ms_per_frame * (1.0 - GAIN_MIN);
        if !gains {
            return Next::Done { chosen: best.batch, ended: Ended::Gain };
        }
        if last.median_ms > LATENCY_MAX_MS {
            return Next::Done { chosen: best.batch, ended: Ended::Latency };
        }
    }
    if last.batch >= limit {
        return Next::Done { chosen: last.batch, ended: Ended::Limit };
    }
    Next::Measure((last.batch * 2).min(limit))
}

/// Measures upward until it is known which size to use. `measure` gives `None` for a size that does not fit into
/// memory; one frame is the least there is, so 1 is chosen also where not even that fits.
///
/// # Errors
/// Those of `measure`.
pub fn probe<E>(
    limit: usize,
    mut measure: impl FnMut(usize) -> Result<Option<Measurement>, E>,
) -> Result<BatchTable, E> {
    let mut rows: Vec<ProbeRow> = Vec::new();
    loop {
        let batch = match next(&rows, limit) {
            Next::Measure(batch) => batch,
            Next::Done { chosen, ended } => return Ok(BatchTable { rows, chosen, ended }),
        };
        let Some(Measurement { median_ms, bytes }) = measure(batch)? else {
            let chosen = rows.last().map_or(1, |row| row.batch);
            return Ok(BatchTable { rows, chosen, ended: Ended::Memory });
        };
        rows.push(ProbeRow { batch, median_ms, ms_per_frame: median_ms / batch as f64, bytes });
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// The table for a device that takes `ms(batch)`.
    fn table(limit: usize, ms: impl Fn(usize) -> Option<f64>) -> BatchTable {
        let measure = |batch: usize| -> Result<_, Infallible> {
            Ok(ms(batch).map(|median_ms| Measurement { median_ms, bytes: 1000 * batch as u64 }))
        };
        probe(limit, measure).unwrap_or_else(|never| match never {})
    }

    fn sizes(table: &BatchTable) -> Vec<usize> {
        table.rows.iter().map(|row| row.batch).collect()
    }

    #[test]
    fn a_device_that_gains_nothing_keeps_one_frame() {
        let table = table(64, |batch| Some(10.0 * batch as f64));
        assert_eq!((sizes(&table), table.chosen, table.ended), (vec![1, 2], 1, Ended::Gain));
        assert_eq!(table.rows[1], ProbeRow { batch: 2, median_ms: 20.0, ms_per_frame: 10.0, bytes: 2000 });
    }

    #[test]
    fn the_size_before_the_gain_falls_below_five_percent_is_taken() {
        // Fixed cost 4 ms, 1 ms a frame: 5, 3, 2, 1.5, 1.25, 1.125, 1.0625 ms a frame.
        let per_frame = |batch: usize| Some(4.0 + batch as f64);
        let steps = table(64, per_frame);
        assert_eq!((steps.chosen, steps.ended), (64, Ended::Limit));
        // 0.2 fixed: 1.2, 1.1, 1.05 (4.5 % less).
        let flat = table(64, |batch| Some(0.2 + batch as f64));
        assert_eq!((sizes(&flat), flat.chosen, flat.ended), (vec![1, 2, 4], 2, Ended::Gain));
    }

    #[test]
    fn a_gain_of_exactly_five_percent_counts_and_a_little_less_does_not() {
        let with = |second: f64| table(2, move |batch| Some(if batch == 1 { 100.0 } else { second })).chosen;
        assert_eq!((with(2.0 * 95.0 * 0.5), with(2.0 * 95.0), with(2.0 * 95.01)), (2, 1, 1));
        let with = |second: f64| table(2, move |batch| Some(if batch == 1 { 10.0 } else { second })).chosen;
        assert_eq!((with(19.0), with(19.001)), (2, 1));
    }

    #[test]
    fn memory_latency_and_the_limit_end_the_search() {
        let cheap = |batch: usize| 1.0 + 0.1 * batch as f64;
        let full = table(64, |batch| (batch <= 8).then(|| cheap(batch)));
        assert_eq!((sizes(&full), full.chosen, full.ended), (vec![1, 2, 4, 8], 8, Ended::Memory));
        let slow = table(64, |batch| Some(40.0 + 10.0 * batch as f64));
        assert_eq!((sizes(&slow), slow.chosen, slow.ended), (vec![1, 2, 4, 8], 4, Ended::Latency));
        // One frame may take as long as it takes.
        let very_slow = table(64, |_| Some(500.0));
        assert_eq!((very_slow.chosen, very_slow.ended), (1, Ended::Latency));
        // A limit between two powers of two is itself tried.
        let odd = table(6, |batch| Some(cheap(batch)));
        assert_eq!((sizes(&odd), odd.chosen, odd.ended), (vec![1, 2, 4, 6], 6, Ended::Limit));
        for (limit, chosen) in [(0, 1), (1, 1), (2, 2)] {
            assert_eq!(table(limit, |batch| Some(cheap(batch))).chosen, chosen);
        }
        assert_eq!(table(64, |_| None), BatchTable { rows: Vec::new(), chosen: 1, ended: Ended::Memory });
    }

    #[test]
    fn measurements_that_are_no_numbers_end_the_search() {
        let nan = table(64, |batch| Some(if batch == 1 { 1.0 } else { f64::NAN }));
        assert_eq!((nan.chosen, nan.ended), (1, Ended::Gain));
        let zero = table(64, |_| Some(0.0));
        assert!(zero.chosen <= 64 && zero.rows.len() <= 7);
    }

    #[test]
    fn an_error_of_the_measurement_is_handed_on() {
        let mut calls = 0;
        let result = probe(64, |batch| {
            calls += 1;
            if batch == 4 { Err("lost") } else { Ok(Some(Measurement { median_ms: 1.0, bytes: 1 })) }
        });
        assert_eq!((result, calls), (Err("lost"), 3));
    }
}
