//! Non-maximum suppression of oriented boxes.
//!
//! Two boxes are compared as two-dimensional normal distributions (probabilistic IoU, J. Llerena and others, "Gaussian
//! Bounding Boxes and Probabilistic Intersection-over-Union for Object Detection", 2021), as the tools that train such
//! models do. A box of width `w`, height `h` and angle `r` has the covariance
//! `a = w²/12 cos²r + h²/12 sin²r`, `b = w²/12 sin²r + h²/12 cos²r`, `c = (w² - h²)/12 cos r sin r`. With
//! `A, B, C` the sums of both boxes' and `D = A B - C²`, the Bhattacharyya distance is
//! `d = (A dy² + B dx²)/(4 D) + C dx' dy/(2 D) + ln(D / (4 sqrt((ab - c²)(a'b' - c'²)))) / 2` with `dx = x - x'`,
//! `dy = y - y'`, `dx' = -dx`, and `IoU = 1 - sqrt(1 - exp(-d))`.

use super::details::Rotated;

const EPSILON: f32 = 1e-7;

/// How much two oriented boxes are the same, 0..=1.
pub(super) fn probabilistic_iou(one: &Rotated, other: &Rotated) -> f32 {
    let ((a1, b1, c1), (a2, b2, c2)) = (covariance(one), covariance(other));
    let (a, b, c) = (a1 + a2, b1 + b2, c1 + c2);
    let (dx, dy) = (one.x - other.x, one.y - other.y);
    let determinant = a * b - c * c;
    let apart = (a * dy * dy + b * dx * dx) / (determinant + EPSILON) / 4.0;
    let across = c * -dx * dy / (determinant + EPSILON) / 2.0;
    let spread = ((a1 * b1 - c1 * c1).max(0.0) * (a2 * b2 - c2 * c2).max(0.0)).sqrt();
    let shape = (determinant / (4.0 * spread + EPSILON) + EPSILON).ln() / 2.0;
    let distance = (apart + across + shape).clamp(EPSILON, 100.0);
    1.0 - (1.0 - (-distance).exp() + EPSILON).sqrt()
}

fn covariance(rotated: &Rotated) -> (f32, f32, f32) {
    let (along, across) = (rotated.width * rotated.width / 12.0, rotated.height * rotated.height / 12.0);
    let (sin, cos) = rotated.angle.sin_cos();
    let (sin2, cos2) = (sin * sin, cos * cos);
    (along * cos2 + across * sin2, along * sin2 + across * cos2, (along - across) * cos * sin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f32::consts::{FRAC_PI_2, FRAC_PI_4, PI};

    fn rotated(x: f32, y: f32, width: f32, height: f32, angle: f32) -> Rotated {
        Rotated { x, y, width, height, angle }
    }

    #[test]
    fn equal_boxes_are_equal_however_they_are_written() {
        let one = rotated(50.0, 40.0, 30.0, 10.0, 0.3);
        for other in
            [one, rotated(50.0, 40.0, 10.0, 30.0, 0.3 + FRAC_PI_2), rotated(50.0, 40.0, 30.0, 10.0, 0.3 + PI)]
        {
            assert!(probabilistic_iou(&one, &other) > 0.99, "{other:?}");
        }
    }

    #[test]
    fn boxes_that_cross_or_lie_apart_are_not() {
        let one = rotated(50.0, 50.0, 60.0, 4.0, FRAC_PI_4);
        // Their upright enclosures are the same square.
        assert!(probabilistic_iou(&one, &rotated(50.0, 50.0, 60.0, 4.0, -FRAC_PI_4)) < 0.2);
        assert!(probabilistic_iou(&one, &rotated(250.0, 50.0, 60.0, 4.0, FRAC_PI_4)) < 1e-3);
    }

    /// By hand: two upright squares of side 12, so a = b = 12, c = 0, 6 apart: d = 24 * 36 / 576 / 4 = 0.375.
    #[test]
    fn the_formula_gives_what_it_gives_by_hand() {
        let iou = probabilistic_iou(&rotated(0.0, 0.0, 12.0, 12.0, 0.0), &rotated(6.0, 0.0, 12.0, 12.0, 0.0));
        let expected = 1.0 - (1.0 - (-0.375f32).exp()).sqrt();
        assert!((iou - expected).abs() < 1e-4, "{iou} {expected}");
    }

    #[test]
    fn an_enclosure_holds_all_corners_and_touches_each_side() {
        for step in 0..16 {
            let one = rotated(10.0, 20.0, 30.0, 8.0, step as f32 * 0.4 - 3.0);
            let (corners, [x1, y1, x2, y2]) = (one.corners(), one.enclosing());
            let least = |axis: usize| corners.iter().map(|c| c[axis]).fold(f32::INFINITY, f32::min);
            let most = |axis: usize| corners.iter().map(|c| c[axis]).fold(f32::NEG_INFINITY, f32::max);
            for (got, expected) in [(x1, least(0)), (y1, least(1)), (x2, most(0)), (y2, most(1))] {
                assert!((got - expected).abs() < 1e-4, "{one:?}");
            }
        }
        let upright = rotated(10.0, 20.0, 4.0, 2.0, 0.0);
        assert_eq!(upright.corners(), [[8.0, 19.0], [12.0, 19.0], [12.0, 21.0], [8.0, 21.0]]);
        let quarter = rotated(0.0, 0.0, 4.0, 2.0, FRAC_PI_2);
        // Clockwise on the screen: what pointed right points down.
        assert!((quarter.corners()[1][0] - 1.0).abs() < 1e-5 && (quarter.corners()[1][1] - 2.0).abs() < 1e-5);
    }
}
