//! Tests of the tracker.

use super::assignment::{Assignment, PAIRS_MAX};
use super::*;
use proptest::prelude::*;

/// The least cost by trying everything.
fn least_cost(costs: &[Vec<Option<f32>>], limit: f32, row: usize, taken: &mut Vec<bool>) -> f32 {
    let Some(row_costs) = costs.get(row) else { return 0.0 };
    let mut least = limit + least_cost(costs, limit, row + 1, taken);
    for (column, cost) in row_costs.iter().enumerate() {
        let Some(cost) = cost.filter(|cost| *cost < limit) else { continue };
        if !taken[column] {
            taken[column] = true;
            least = least.min(cost + least_cost(costs, limit, row + 1, taken));
            taken[column] = false;
        }
    }
    least
}

/// Few pairs of many rows and columns, some of them of equal cost.
fn pairs() -> impl Strategy<Value = Vec<Vec<Option<f32>>>> {
    let cost = prop_oneof![0.0f32..1.0, Just(0.25), Just(0.5)];
    (1usize..=6).prop_flat_map(move |columns| {
        let row = proptest::collection::vec(proptest::option::weighted(0.7, cost.clone()), columns);
        proptest::collection::vec(row, 0..=7)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_assignment_costs_less(costs in pairs(), limit in 0.1f32..1.0) {
        let columns = costs.first().map_or(1, Vec::len);
        let mut assignment = Assignment::new(7, 6);
        // The second time nothing of the first may be left.
        for _ in 0..2 {
            assignment.begin(columns, limit);
            for row in &costs {
                for (column, cost) in row.iter().enumerate() {
                    if let Some(cost) = cost {
                        assignment.pair(column, *cost);
                    }
                }
                assignment.end_row();
            }
            assignment.solve();
            let (mut total, mut taken) = (0.0, vec![false; columns]);
            for (row, row_costs) in costs.iter().enumerate() {
                match assignment.column_of(row) {
                    None => total += limit,
                    Some(column) => {
                        prop_assert!(!std::mem::replace(&mut taken[column], true), "column {column} twice");
                        total += row_costs[column].expect("a pair that was given");
                    }
                }
            }
            let least = least_cost(&costs, limit, 0, &mut vec![false; columns]);
            prop_assert!((total - least).abs() < 1e-4, "{total} instead of {least}");
        }
    }

    #[test]
    fn two_half_steps_are_one(
        steps in proptest::collection::vec((0.01f32..0.3, -20.0f32..20.0), 1..20),
        seconds in 0.01f32..1.5,
    ) {
        let mut whole = Motion::new([100.0, 100.0, 150.0, 250.0]);
        for (interval, drift) in steps {
            whole.predict(interval, false);
            let [x1, y1, ..] = whole.bbox();
            whole.correct([x1 + drift, y1, x1 + drift + 50.0, y1 + 150.0]);
        }
        let mut halves = whole;
        // The noise follows the height; that of who is lost does not change on the way.
        whole.predict(seconds, true);
        halves.predict(seconds / 2.0, true);
        halves.predict(seconds / 2.0, true);
        for (one, other) in whole.bbox().into_iter().zip(halves.bbox()) {
            prop_assert!((one - other).abs() < 0.01 + 1e-4 * one.abs(), "{one} {other}");
        }
        prop_assert!((whole.deviation() - halves.deviation()).abs() < 1e-3 * whole.deviation());
    }

    /// Whatever comes: no panic, no number twice in a frame, no more tracks than there is room for.
    #[test]
    fn nonsense_is_survived(
        frames in proptest::collection::vec(
            (0u64..3000, 0u64..3, proptest::collection::vec(
                (0u32..3, any::<f32>(), prop::array::uniform4(prop_oneof![any::<f32>(), -50.0f32..700.0])), 0..12)), 1..40),
    ) {
        let options = Options { across_restart: Some(Duration::from_secs(1)), ..Options::new(0.35, 8) };
        let mut tracker = Tracker::new(options, Ids::default());
        let mut workspace = Workspace::new(8);
        let (room, mut ms, mut generation) = (tracker.tracks.capacity(), 0, 1);
        for (interval, more, boxes) in frames {
            ms += interval;
            generation += u64::from(more == 0);
            let object = |(class_id, score, bbox)| Tracked { class_id, score, bbox, track_id: Some(99) };
            let mut objects: Vec<Tracked> = boxes.into_iter().map(object).collect();
            let (width, height) = (640 + 100 * more as u32, 360);
            let moment = Moment { at: Duration::from_millis(ms), generation, width, height };
            tracker.update(&mut workspace, moment, &mut objects);
            let mut ids: Vec<u64> = objects.iter().filter_map(|object| object.track_id).collect();
            ids.sort_unstable();
            prop_assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "{ids:?}");
            prop_assert!(!ids.contains(&0));
            prop_assert!(tracker.len() <= 16 && tracker.tracks.capacity() == room);
        }
    }
}

#[test]
fn of_many_pairs_the_cheapest_are_kept() {
    let columns = PAIRS_MAX + 20;
    let mut assignment = Assignment::new(1, columns);
    assignment.begin(columns, 1.0);
    (0..columns).for_each(|column| assignment.pair(column, 1.0 - (column + 1) as f32 / 100.0));
    assignment.end_row();
    assignment.solve();
    assert_eq!(assignment.column_of(0), Some(columns - 1));
}

/// The filter of the paper with its 8 x 8 matrices, in frames of 1/30 s.
mod paper {
    type Matrix = [[f64; 8]; 8];

    pub struct Filter {
        pub mean: [f64; 8],
        covariance: Matrix,
    }

    fn diagonal(deviations: [f64; 8]) -> Matrix {
        std::array::from_fn(|row| {
            std::array::from_fn(|column| if row == column { deviations[row].powi(2) } else { 0.0 })
        })
    }

    fn product(a: &Matrix, b: &Matrix) -> Matrix {
        std::array::from_fn(|row| {
            std::array::from_fn(|column| (0..8).map(|inner| a[row][inner] * b[inner][column]).sum())
        })
    }

    impl Filter {
        pub fn new([x, y, a, h]: [f64; 4]) -> Self {
            let (p, v) = (2.0 * h / 20.0, 10.0 * h / 160.0);
            Self {
                mean: [x, y, a, h, 0.0, 0.0, 0.0, 0.0],
                covariance: diagonal([p, p, 1e-2, p, v, v, 1e-5, v]),
            }
        }

        pub fn predict(&mut self) {
            let h = self.mean[3];
            let (p, v) = (h / 20.0, h / 160.0);
            let step: Matrix = std::array::from_fn(|row| {
                std::array::from_fn(|column| if row == column || row + 4 == column { 1.0 } else { 0.0 })
            });
            let turned: Matrix = std::array::from_fn(|row| std::array::from_fn(|column| step[column][row]));
            self.mean =
                std::array::from_fn(|row| (0..8).map(|inner| step[row][inner] * self.mean[inner]).sum());
            self.covariance = product(&product(&step, &self.covariance), &turned);
            let noise = diagonal([p, p, 1e-2, p, v, v, 1e-5, v]);
            (0..8).for_each(|row| self.covariance[row][row] += noise[row][row]);
        }

        /// One measurement at a time, which is the same where their noises are independent.
        pub fn correct(&mut self, measured: [f64; 4]) {
            let h = self.mean[3];
            let deviations = [h / 20.0, h / 20.0, 1e-1, h / 20.0];
            for (row, (value, deviation)) in measured.into_iter().zip(deviations).enumerate() {
                let innovation = self.covariance[row][row] + deviation * deviation;
                let gains: [f64; 8] = std::array::from_fn(|inner| self.covariance[inner][row] / innovation);
                let residual = value - self.mean[row];
                let observed = self.covariance[row];
                for (inner, gain) in gains.into_iter().enumerate() {
                    self.mean[inner] += gain * residual;
                    (0..8).for_each(|column| self.covariance[inner][column] -= gain * observed[column]);
                }
            }
        }
    }
}

#[test]
fn at_thirty_frames_a_second_the_filter_is_the_papers() {
    let mut theirs = paper::Filter::new([200.0, 300.0, 0.4, 100.0]);
    let bbox = |[x, y, a, h]: [f64; 4]| {
        [x - a * h / 2.0, y - h / 2.0, x + a * h / 2.0, y + h / 2.0].map(|side| side as f32)
    };
    let mut ours = Motion::new(bbox([200.0, 300.0, 0.4, 100.0]));
    for frame in 1..60 {
        let n = f64::from(frame);
        let measured = [200.0 + 3.0 * n, 300.0 + 0.05 * n * n, 0.4 + 0.001 * n, 100.0 + 0.4 * n];
        theirs.predict();
        ours.predict(1.0 / 30.0, false);
        let [x, y, a, h, ..] = theirs.mean;
        for (one, other) in ours.bbox().into_iter().zip(bbox([x, y, a, h])) {
            assert!((one - other).abs() < 0.3, "frame {frame}: {:?} {:?}", ours.bbox(), theirs.mean);
        }
        theirs.correct(measured);
        ours.correct(bbox(measured));
    }
}

/// One camera, and what it has seen.
struct Camera {
    tracker: Tracker,
    workspace: Workspace,
    ms: u64,
    generation: u64,
    size: (u32, u32),
}

impl Camera {
    fn new(options: Options) -> Self {
        let (tracker, workspace) =
            (Tracker::new(options, Ids::default()), Workspace::new(options.max_objects));
        Self { tracker, workspace, ms: 0, generation: 1, size: (1280, 720) }
    }

    /// The identities of boxes (class, score, left side; 50 x 100) in a frame so much later.
    fn sees(&mut self, after_ms: u64, boxes: &[(u32, f32, f32)]) -> Vec<Option<u64>> {
        let scale = self.size.0 as f32 / 1280.0;
        let object = |&(class_id, score, left): &(u32, f32, f32)| {
            let bbox = [left, 200.0, left + 50.0, 300.0].map(|side| side * scale);
            Tracked { class_id, score, bbox, track_id: None }
        };
        self.sees_objects(after_ms, boxes.iter().map(object).collect())
    }

    fn sees_objects(&mut self, after_ms: u64, mut objects: Vec<Tracked>) -> Vec<Option<u64>> {
        self.ms += after_ms;
        let (at, generation) = (Duration::from_millis(self.ms), self.generation);
        let moment = Moment { at, generation, width: self.size.0, height: self.size.1 };
        self.tracker.update(&mut self.workspace, moment, &mut objects);
        objects.iter().map(|object| object.track_id).collect()
    }
}

fn options() -> Options {
    Options::new(0.35, 20)
}

#[test]
fn an_object_gets_its_number_when_it_is_seen_again() {
    let mut camera = Camera::new(options());
    assert_eq!(camera.sees(0, &[(0, 0.9, 100.0)]), [Some(1)], "the first frame is believed");
    assert_eq!(camera.sees(66, &[(0, 0.9, 102.0), (0, 0.9, 500.0)]), [Some(1), None]);
    assert_eq!(camera.sees(66, &[(0, 0.9, 104.0), (0, 0.9, 502.0)]), [Some(1), Some(2)]);
    // Seen once and gone: that was nothing, and no number is lost for it.
    assert_eq!(camera.sees(66, &[(0, 0.9, 106.0), (0, 0.9, 504.0), (0, 0.9, 900.0)])[2], None);
    assert_eq!(camera.sees(66, &[(0, 0.9, 106.0), (0, 0.9, 504.0)]), [Some(1), Some(2)]);
    assert_eq!(camera.sees(66, &[(0, 0.9, 900.0)]), [None]);
    assert_eq!(camera.sees(66, &[(0, 0.9, 900.0)]), [Some(3)]);
}

#[test]
fn a_low_score_keeps_an_identity_and_makes_none() {
    let mut camera = Camera::new(options());
    camera.sees(0, &[(0, 0.9, 100.0)]);
    assert_eq!(camera.sees(66, &[(0, 0.2, 102.0), (0, 0.2, 700.0)]), [Some(1), None]);
    assert_eq!(camera.sees(66, &[(0, 0.15, 104.0), (0, 0.2, 700.0)]), [Some(1), None]);
    assert_eq!(camera.sees(66, &[(0, 0.05, 106.0), (0, 0.2, 700.0)]), [None, None]);
    assert_eq!(camera.sees(66, &[(0, 0.9, 108.0)]), [Some(1)]);
}

#[test]
fn a_second_sighting_may_be_of_low_score_and_comes_before_who_is_lost() {
    let mut camera = Camera::new(options());
    camera.sees(0, &[(0, 0.9, 100.0), (0, 0.9, 500.0)]);
    assert_eq!(camera.sees(66, &[(0, 0.9, 100.0), (0, 0.9, 500.0), (0, 0.9, 800.0)])[2], None);
    assert_eq!(camera.sees(66, &[(0, 0.9, 100.0), (0, 0.9, 500.0), (0, 0.2, 801.0)])[2], Some(3));
    // The second has gone, and somebody else comes near the place: both boxes of the newcomer are of one.
    camera.sees(66, &[(0, 0.9, 100.0)]);
    assert_eq!(camera.sees(66, &[(0, 0.9, 100.0), (0, 0.9, 545.0)])[1], None);
    let ids = camera.sees(66, &[(0, 0.9, 100.0), (0, 0.9, 535.0)]);
    assert_eq!(ids, [Some(1), Some(4)], "not the second, whose box this one touches too");
}

#[test]
fn who_is_lost_is_not_found_in_a_box_of_low_score_that_fits_badly() {
    // Half a width beside where it was: overlaps by a third.
    for (unseen, found) in [(0, Some(1)), (3, None)] {
        let mut camera = Camera::new(options());
        (0..5).for_each(|_| drop(camera.sees(66, &[(0, 0.9, 100.0)])));
        (0..unseen).for_each(|_| drop(camera.sees(66, &[])));
        assert_eq!(camera.sees(66, &[(0, 0.2, 125.0)]), [found], "after {unseen} frames");
    }
    let mut camera = Camera::new(options());
    (0..5).for_each(|_| drop(camera.sees(66, &[(0, 0.9, 100.0)])));
    (0..3).for_each(|_| drop(camera.sees(66, &[])));
    assert_eq!(camera.sees(66, &[(0, 0.2, 105.0)]), [Some(1)], "one that fits well is believed");
}

#[test]
fn who_was_seen_a_moment_ago_has_the_better_claim_to_a_box() {
    // The box lies nearer to the guess where the first is than to the second; both may have it.
    for (lost_ms, found) in [(66, Some(1)), (1500, Some(2))] {
        let mut camera = Camera::new(options());
        (0..20).for_each(|_| drop(camera.sees(66, &[(0, 0.9, 100.0), (0, 0.9, 135.0)])));
        (0..lost_ms / 66).for_each(|_| drop(camera.sees(66, &[(0, 0.9, 135.0)])));
        assert_eq!(camera.sees(66, &[(0, 0.9, 115.0)]), [found], "after {lost_ms} ms");
    }
}

#[test]
fn a_new_track_has_the_weaker_claim_to_a_box() {
    for (age, found) in [(2, Some(1)), (40, Some(2))] {
        let mut camera = Camera::new(options());
        (0..20).for_each(|_| drop(camera.sees(66, &[(0, 0.9, 100.0)])));
        (0..age).for_each(|_| drop(camera.sees(66, &[(0, 0.9, 100.0), (0, 0.9, 131.0)])));
        // A little nearer to the second.
        assert_eq!(camera.sees(66, &[(0, 0.9, 117.0)]), [found], "seen {age} times");
    }
}

#[test]
fn who_comes_where_somebody_has_just_left_is_told_by_the_height() {
    let object = |left: f32, height: f32| Tracked {
        class_id: 0,
        score: 0.9,
        bbox: [left, 300.0 - height, left + 50.0, 300.0],
        track_id: None,
    };
    for (height, found) in [(95.0, Some(1)), (60.0, None)] {
        let mut camera = Camera::new(options());
        (0..5).for_each(|_| drop(camera.sees_objects(500, vec![object(100.0, 100.0)])));
        camera.sees(500, &[]);
        assert_eq!(camera.sees_objects(500, vec![object(155.0, height)]), [found], "{height} high");
    }
}

#[test]
fn what_is_lost_is_forgotten_after_a_time_and_not_after_frames() {
    for interval_ms in [20, 100, 500] {
        let mut camera = Camera::new(options());
        camera.sees(0, &[(0, 0.9, 100.0)]);
        camera.sees(interval_ms, &[(0, 0.9, 100.0)]);
        for _ in 0..1900 / interval_ms {
            assert_eq!(camera.sees(interval_ms, &[]), []);
        }
        assert_eq!(camera.tracker.len(), 1, "every {interval_ms} ms");
        assert_eq!(camera.sees(10, &[(0, 0.9, 100.0)]), [Some(1)], "every {interval_ms} ms");
        for _ in 0..2500 / interval_ms {
            camera.sees(interval_ms, &[]);
        }
        assert!(camera.tracker.is_empty(), "every {interval_ms} ms");
        camera.sees(10, &[(0, 0.9, 100.0)]);
        assert_eq!(camera.sees(10, &[(0, 0.9, 100.0)]), [Some(2)], "every {interval_ms} ms");
    }
}

#[test]
fn frames_further_apart_than_tracks_are_kept_are_still_neighbours() {
    let mut camera = Camera::new(options());
    camera.sees(0, &[(0, 0.9, 100.0)]);
    for _ in 0..5 {
        assert_eq!(camera.sees(10_000, &[(0, 0.9, 100.0)]), [Some(1)]);
    }
}

#[test]
fn walkers_are_followed_at_one_frame_a_second_where_no_boxes_overlap() {
    let mut camera = Camera::new(options());
    for second in 0..8 {
        let x = 60.0 * second as f32;
        assert_eq!(camera.sees(1000, &[(0, 0.9, 100.0 + x), (0, 0.9, 1000.0 - x)]), [Some(1), Some(2)]);
    }
}

#[test]
fn a_class_has_its_own_tracks_unless_nothing_else_explains_the_box() {
    let mut camera = Camera::new(options());
    camera.sees(0, &[(0, 0.9, 100.0), (1, 0.9, 115.0)]);
    // The bicycle is seen, its rider is not: it is not the rider.
    assert_eq!(camera.sees(66, &[(1, 0.9, 115.0)]), [Some(2)]);
    assert_eq!(camera.sees(66, &[(0, 0.9, 100.0), (1, 0.9, 115.0)]), [Some(1), Some(2)]);
    // A van is called a truck for a moment.
    camera.sees(66, &[(0, 0.9, 100.0), (1, 0.9, 115.0), (2, 0.8, 600.0)]);
    assert_eq!(camera.sees(66, &[(2, 0.8, 600.0)]), [Some(3)]);
    assert_eq!(camera.sees(66, &[(3, 0.8, 601.0)]), [Some(3)]);
    assert_eq!(camera.sees(66, &[(2, 0.8, 602.0)]), [Some(3)]);
}

#[test]
fn identities_survive_an_interruption_only_where_that_is_asked_for() {
    for (across, gap_ms, survives) in [(None, 500, false), (Some(5), 4500, true), (Some(5), 5500, false)] {
        let across_restart = across.map(Duration::from_secs);
        let mut camera = Camera::new(Options { across_restart, ..options() });
        for _ in 0..5 {
            camera.sees(66, &[(0, 0.9, 100.0), (0, 0.9, 600.0)]);
        }
        // The interruption is no reason to forget, although it is longer than tracks are kept.
        camera.sees(66, &[(0, 0.9, 100.0)]);
        camera.generation = 2;
        camera.sees(gap_ms, &[(0, 0.9, 100.0)]);
        let ids = camera.sees(66, &[(0, 0.9, 100.0), (0, 0.9, 600.0)]);
        assert_eq!(ids[0] == Some(1), survives, "{across:?} after {gap_ms} ms: {ids:?}");
        assert_eq!(ids[1] == Some(2), survives, "{across:?} after {gap_ms} ms: {ids:?}");
    }
}

#[test]
fn a_stream_that_changes_its_size_goes_on() {
    let mut camera = Camera::new(options());
    camera.sees(0, &[(0, 0.9, 100.0)]);
    assert_eq!(camera.sees(66, &[(0, 0.9, 110.0)]), [Some(1)]);
    camera.size = (640, 360);
    assert_eq!(camera.sees(66, &[(0, 0.9, 120.0)]), [Some(1)]);
    assert_eq!(camera.sees(66, &[(0, 0.9, 130.0)]), [Some(1)]);
}

#[test]
fn a_full_memory_gives_up_who_was_lost_longest() {
    let mut camera = Camera::new(Options { keep: Duration::from_secs(60), ..Options::new(0.35, 2) });
    for place in 0..6 {
        let left = 150.0 * place as f32;
        camera.sees(66, &[(0, 0.9, left)]);
        assert!(camera.sees(66, &[(0, 0.9, left)])[0].is_some());
    }
    assert_eq!(camera.tracker.len(), 4);
    assert_eq!(camera.sees(66, &[(0, 0.9, 300.0)]), [Some(3)], "the third is remembered");
    assert_eq!(camera.sees(66, &[(0, 0.9, 0.0)]), [None], "the first is not");
}

#[test]
fn numbers_are_used_once_by_all_trackers() {
    let ids = Ids::default();
    let (mut one, mut other) = (Camera::new(options()), Camera::new(options()));
    one.tracker = Tracker::new(options(), ids.clone());
    other.tracker = Tracker::new(options(), ids);
    assert_eq!(one.sees(0, &[(0, 0.9, 100.0)]), [Some(1)]);
    assert_eq!(other.sees(0, &[(0, 0.9, 100.0)]), [Some(2)]);
    // Another tracker of the same camera, with other options, goes on.
    let mut heir =
        Tracker::new(Options { keep: Duration::from_secs(9), ..options() }, one.tracker.ids.clone());
    heir.inherit(&one.tracker);
    one.tracker = heir;
    assert_eq!(one.sees(66, &[(0, 0.9, 100.0)]), [Some(1)]);
}
