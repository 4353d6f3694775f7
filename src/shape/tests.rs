//! Polygons against what can be counted, segments against every way of touching them.

use super::*;
use proptest::prelude::*;

/// A polygon without crossings: corners around a middle, in the order of their angles.
fn star() -> impl Strategy<Value = Polygon> {
    let corner = (0.02f32..1.0, 0.05f32..1.0);
    let middle = (0.3f32..0.7, 0.3f32..0.7);
    (proptest::collection::vec(corner, 3..12), middle).prop_filter_map(
        "crosses itself",
        |(corners, (x, y))| {
            let mut angle = 0.0;
            let whole: f32 = corners.iter().map(|(turn, _)| turn).sum();
            let points: Vec<Point> = corners
                .iter()
                .map(|(turn, radius)| {
                    angle += turn / whole * std::f32::consts::TAU;
                    [x + 0.3 * radius * angle.cos(), y + 0.3 * radius * angle.sin()]
                })
                .collect();
            Polygon::new(&points).ok()
        },
    )
}

/// How often the outline goes round a point, by its angles: another way to the same answer.
fn is_wound_round(polygon: &Polygon, [x, y]: Point) -> bool {
    let angle = |point: Point| (f64::from(point[1]) - f64::from(y)).atan2(f64::from(point[0]) - f64::from(x));
    let turned: f64 = polygon
        .sides()
        .map(|(a, b)| {
            let turn = angle(b) - angle(a);
            turn - (turn / std::f64::consts::TAU).round() * std::f64::consts::TAU
        })
        .sum();
    turned.abs() > std::f64::consts::PI
}

fn is_near_outline(polygon: &Polygon, point: Point) -> bool {
    polygon.sides().any(|(a, b)| {
        let [a, b, point] = [a, b, point].map(|at| at.map(f64::from));
        squared_distance(point, a, b) < 1e-12
    })
}

proptest! {
    #[test]
    fn a_point_is_inside_if_the_outline_goes_round_it(polygon in star(), x in 0.0f32..1.0, y in 0.0f32..1.0) {
        prop_assume!(!is_near_outline(&polygon, [x, y]));
        prop_assert_eq!(polygon.contains([x, y]), is_wound_round(&polygon, [x, y]));
    }

    #[test]
    fn what_a_polygon_covers_of_a_box_is_what_one_counts(
        polygon in star(), x in -0.2f32..0.9, y in -0.2f32..0.9, width in 0.05f32..1.0, height in 0.05f32..1.0,
    ) {
        const SIDE: usize = 60;
        let middle = |index: usize| (index as f32 + 0.5) / SIDE as f32;
        let spots = (0..SIDE * SIDE).map(|spot| [x + middle(spot % SIDE) * width, y + middle(spot / SIDE) * height]);
        let counted = spots.filter(|&spot| polygon.contains(spot)).count() as f32 / (SIDE * SIDE) as f32;
        let covered = polygon.covered([x, y, x + width, y + height]);
        prop_assert!((covered - counted).abs() < 0.02, "{covered} {counted}");
    }

    #[test]
    fn two_polygons_with_a_common_side_never_share_a_point(
        cut in 0.1f32..0.9, slant in -0.1f32..0.1, x in 0.0f32..=1.0, y in 0.0f32..=1.0, on_cut in any::<bool>(),
    ) {
        let (upper, lower) = ([cut, 0.0], [cut + slant, 1.0]);
        let left = Polygon::new(&[[0.0, 0.0], upper, lower, [0.0, 1.0]]).expect("a polygon");
        let right = Polygon::new(&[upper, [1.0, 0.0], [1.0, 1.0], lower]).expect("a polygon");
        let x = if on_cut { cut + slant * y } else { x };
        prop_assert!(!(left.contains([x, y]) && right.contains([x, y])));
        let is_inner = x > 0.0 && x < 1.0 && y > 0.0 && y < 1.0;
        prop_assert!(!is_inner || left.contains([x, y]) || right.contains([x, y]));
    }

    #[test]
    fn any_points_are_judged_alike_from_every_corner_and_without_a_panic(
        points in proptest::collection::vec((-0.2f32..1.2, -0.2f32..1.2), 0..12), turn in 0usize..12,
    ) {
        let mut points: Vec<Point> = points.into_iter().map(|(x, y)| [x, y]).collect();
        let first = Polygon::new(&points).is_ok();
        if !points.is_empty() {
            let turn = turn % points.len();
            points.rotate_left(turn);
            prop_assert_eq!(Polygon::new(&points).is_ok(), first);
            points.reverse();
            prop_assert_eq!(Polygon::new(&points).is_ok(), first);
            points[turn][0] = f32::NAN;
            prop_assert!(Polygon::new(&points).is_err());
        }
    }

    #[test]
    fn a_walk_that_crosses_a_line_comes_out_where_its_crossings_say(
        steps in proptest::collection::vec((0u8..5, 0u8..5), 2..30), from in (0u8..5, 0u8..5), to in (0u8..5, 0u8..5),
    ) {
        // On a coarse grid, so that walks go along the line, touch it and end on it.
        prop_assume!(from != to);
        let point = |(x, y): (u8, u8)| [f32::from(x) / 4.0, f32::from(y) / 4.0];
        let (from, to) = (point(from), point(to));
        // Far beyond both ends, so that nobody gets round it.
        let far = |a: Point, b: Point| [a[0] + 64.0 * (b[0] - a[0]), a[1] + 64.0 * (b[1] - a[1])];
        let wall = Segment { from: far(to, from), to: far(from, to) };
        let walk: Vec<Point> = steps.into_iter().map(point).collect();
        let mut hand = wall.hand(walk[0]);
        for step in walk.windows(2) {
            if let Some(after) = wall.crossed_by(step[0], step[1]) {
                prop_assert_ne!(hand, after);
                hand = after;
            }
        }
        prop_assert_eq!(hand, wall.hand(walk[walk.len() - 1]));
    }
}

#[test]
fn what_is_no_polygon_is_told_with_its_points() {
    let refused = |points: &[Point]| Polygon::new(points).expect_err("no polygon");
    assert_eq!(refused(&[]), ShapeError::TooFew(0));
    assert_eq!(refused(&[[0.1, 0.1], [0.2, 0.1]]), ShapeError::TooFew(2));
    assert_eq!(refused(&[[0.1, 0.1], [0.2, 0.1], [0.1, 0.1]]), ShapeError::TooFew(2), "closed");
    assert_eq!(refused(&[[0.1, 0.1]; POINTS_MAX + 2]), ShapeError::TooMany(POINTS_MAX + 1));
    assert_eq!(refused(&[[0.1, 0.1], [0.2, 1.1], [0.1, 0.2]]), ShapeError::Outside(2));
    assert_eq!(refused(&[[0.1, 0.1], [0.5, 0.1], [0.2, 0.3], [0.5, 0.1]]), ShapeError::Twice(2, 4));
    assert_eq!(refused(&[[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]]), ShapeError::Flat);
    // The bow tie, which has no area either.
    assert_eq!(refused(&[[0.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]), ShapeError::Crossed(1, 3));
    // A spike.
    assert_eq!(refused(&[[0.0, 0.0], [0.8, 0.0], [0.4, 0.0], [0.4, 0.5]]), ShapeError::Crossed(1, 2));
    // A corner on another side.
    let touching = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.5, 0.0], [0.0, 1.0]];
    assert_eq!(refused(&touching), ShapeError::Crossed(1, 3));
}

#[test]
fn a_polygon_may_be_closed_and_hollow() {
    let closed = [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.5, 0.2], [0.1, 0.9], [0.1, 0.1]];
    let polygon = Polygon::new(&closed).expect("a polygon");
    assert_eq!(polygon.points().len(), 5);
    assert!(polygon.contains([0.15, 0.5]) && polygon.contains([0.85, 0.5]) && !polygon.contains([0.5, 0.5]));
    assert!(!polygon.contains([f32::NAN, 0.5]) && !polygon.contains([0.5, f32::INFINITY]));
}

#[test]
fn distances_are_in_pixels() {
    let polygon = Polygon::new(&[[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]]).expect("a square");
    let size = [400.0, 200.0];
    assert!(polygon.contains_within([0.5, 0.5], 0.0, size));
    // 20 pixels to the left of it.
    assert!(
        polygon.contains_within([0.2, 0.5], 20.5, size) && !polygon.contains_within([0.2, 0.5], 19.5, size)
    );
    // 10 pixels above it.
    assert!(
        polygon.contains_within([0.5, 0.2], 10.5, size) && !polygon.contains_within([0.5, 0.2], 9.5, size)
    );
    let line = Segment { from: [0.5, 0.0], to: [0.5, 1.0] };
    assert!((line.distance([0.25, 0.9], size) - 100.0).abs() < 1e-3);
}

#[test]
fn hands_are_those_of_somebody_who_looks_along_the_line() {
    // Looking up in the picture, the left hand is on the left.
    let up = Segment { from: [0.5, 0.9], to: [0.5, 0.1] };
    assert_eq!((up.hand([0.2, 0.5]), up.hand([0.8, 0.5])), (Hand::Left, Hand::Right));
    assert_eq!(up.crossed_by([0.2, 0.5], [0.8, 0.5]), Some(Hand::Right));
    assert_eq!(up.crossed_by([0.8, 0.5], [0.2, 0.5]), Some(Hand::Left));
    // Past its ends.
    assert_eq!(up.crossed_by([0.2, 0.95], [0.8, 0.95]), None);
    assert_eq!(up.crossed_by([0.2, 0.05], [0.8, 0.05]), None);
    // Exactly through an end.
    assert_eq!(up.crossed_by([0.25, 0.9], [0.75, 0.9]), Some(Hand::Right));
}

#[test]
fn touching_a_line_is_not_crossing_it_and_standing_on_it_is_not_doing_so_twice() {
    let up = Segment { from: [0.5, 1.0], to: [0.5, 0.0] };
    // On the line counts as the right hand.
    let paths: [(&[Point], usize); 5] = [
        (&[[0.2, 0.5], [0.5, 0.5], [0.8, 0.5]], 1),
        (&[[0.8, 0.5], [0.5, 0.5], [0.8, 0.6]], 0),
        (&[[0.2, 0.5], [0.5, 0.5], [0.5, 0.2], [0.5, 0.8], [0.8, 0.5]], 1),
        (&[[0.5, 0.2], [0.5, 0.8]], 0),
        (&[[0.2, 0.5], [0.5, 0.5], [0.2, 0.5]], 2),
    ];
    for (path, crossings) in paths {
        let counted = path.windows(2).filter_map(|step| up.crossed_by(step[0], step[1])).count();
        assert_eq!(counted, crossings, "{path:?}");
    }
}
