//! Tests of the metrics.

use proptest::prelude::*;

use super::histogram::{BUCKETS, TOP_BIT, bucket_index, bucket_range};
use super::*;
use crate::clock;

#[test]
fn buckets_are_without_gap_or_overlap() {
    let mut expected_low = 0;
    for index in 0..BUCKETS {
        let (low, width) = bucket_range(index);
        assert_eq!(low, expected_low, "bucket {index}");
        assert_eq!((bucket_index(low), bucket_index(low + width - 1)), (index, index));
        expected_low = low + width;
    }
    assert_eq!(expected_low, 1 << TOP_BIT);
    assert_eq!(bucket_index(u64::MAX), BUCKETS - 1);
}

proptest! {
    #[test]
    fn quantiles_are_within_the_documented_error(
        mut values in proptest::collection::vec(0u64..130_000_000, 1..300),
    ) {
        let histogram = Histogram::default();
        values.iter().for_each(|us| histogram.observe(Duration::from_micros(*us)));
        values.sort_unstable();
        let summary = histogram.summary();
        prop_assert_eq!(summary.count, values.len() as u64);
        prop_assert_eq!(summary.max_seconds, values[values.len() - 1] as f64 / 1e6);
        for (q, found) in [(0.5, summary.p50_seconds), (0.95, summary.p95_seconds), (0.99, summary.p99_seconds)] {
            let rank = (q * values.len() as f64).ceil() as usize;
            let exact = values[rank - 1] as f64 / 1e6;
            prop_assert!((found - exact).abs() <= exact * 0.032 + 1e-9, "{q}: {found} for {exact}");
        }
    }
}

#[test]
fn an_empty_histogram_says_zero_and_a_very_long_duration_does_not_break_it() {
    let histogram = Histogram::default();
    assert_eq!(histogram.summary().p99_seconds, 0.0);
    histogram.observe(Duration::MAX);
    assert_eq!(histogram.summary().count, 1);
}

#[test]
fn a_frame_has_one_outcome_and_the_snapshot_accounts_for_all() {
    let start = clock::now();
    let registry = Registry::new(["gate", "yard"], ["local"], start);
    let gate = registry.camera("gate").expect("configured");
    for _ in 0..5 {
        gate.frame_in(start + Duration::from_millis(700));
    }
    gate.outcome(Outcome::Detected);
    gate.outcomes_add(Outcome::Superseded, 3);
    gate.restart(Reason::Stalled);
    gate.set_up(true);
    gate.set_generation(2);
    gate.frame_age.observe(Duration::from_millis(40));
    registry.engine.runs_on("onnxruntime");
    registry.engine.batch(1, Duration::from_millis(20));
    registry.engine.runs_on("builtin");
    registry.engine.batch(2, Duration::from_millis(8));
    registry.engine.batch(1000, Duration::from_millis(8));
    registry.output("local").expect("configured").record(true);

    let snapshot = registry.snapshot(start + Duration::from_secs(1));
    assert_eq!(snapshot.cameras[0].unaccounted(), 1);
    assert_eq!(snapshot.cameras[0].last_frame_age_ms, Some(300));
    assert_eq!(snapshot.cameras[1].last_frame_age_ms, None);
    let engines: Vec<_> =
        snapshot.engines.iter().map(|e| (e.backend.as_str(), e.batch_sizes.as_slice())).collect();
    let expected: [(&str, &[(usize, u64)]); 2] =
        [("builtin", &[(2, 1), (64, 1)]), ("onnxruntime", &[(1, 1)])];
    assert_eq!(engines, expected, "the current one first");
    assert!(snapshot.memory_bytes.rss > 0 && snapshot.handles.fd > 0 && snapshot.handles.thread > 0);
    assert!(registry.camera("shed").is_none() && registry.output("console").is_none());

    let counters = serde_json::to_value(snapshot.counters()).expect("serialises");
    assert_eq!(counters["watchpost_frames_total{camera=\"gate\",outcome=\"superseded\"}"], 3);
    assert_eq!(counters["watchpost_camera_restarts_total{camera=\"gate\",reason=\"stalled\"}"], 1);
    assert_eq!(counters["watchpost_camera_up{camera=\"gate\"}"], 1);
    assert_eq!(counters["watchpost_camera_up{camera=\"yard\"}"], 0);
    assert_eq!(counters["watchpost_frame_age_seconds_count{camera=\"gate\"}"], 1);
    assert_eq!(counters["watchpost_inference_seconds_count{backend=\"builtin\"}"], 2);
    assert_eq!(counters["watchpost_inference_seconds_count{backend=\"onnxruntime\"}"], 1);
    assert_eq!(counters["watchpost_batch_size_sum"], 67);
    assert_eq!(counters["watchpost_records_total{output=\"local\",outcome=\"published\"}"], 1);
    let whole = serde_json::to_value(&snapshot).expect("serialises");
    assert_eq!(whole["cameras"][0]["outcomes"]["detected"], 1);
}

#[test]
fn outcomes_have_different_names() {
    let mut names: Vec<_> = Outcome::ALL.iter().map(|outcome| outcome.as_str()).collect();
    names.dedup();
    assert_eq!(names.len(), Outcome::ALL.len());
}
