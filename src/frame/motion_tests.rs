//! The motion gate on drawn pictures, in virtual time.

use std::sync::Arc;

use super::*;
use crate::source::{MemoryFrame, MemoryPicture};

const OPTIONS: GateOptions =
    GateOptions { leaves_out: true, hold: Duration::from_secs(2), refresh: Duration::from_secs(10) };

/// Pseudo-random noise of about +-`amplitude`.
fn noise(seed: u64, i: usize, amplitude: i32) -> i32 {
    let mut x = (seed << 32 | i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^= x >> 29;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((x >> 40) % (2 * amplitude as u64 + 1)) as i32 - amplitude
}

/// 640x360: a texture in this light, with noise, and over it a rectangle `x, y, width, height`.
fn frame(number: u64, light: f32, person: Option<[usize; 4]>) -> MemoryFrame {
    let mut picture = MemoryPicture::new(640, 360);
    for (i, sample) in picture.i420_mut().iter_mut().enumerate().take(640 * 360) {
        let (x, y) = (i % 640, i / 640);
        let texture = 50 + (x / 40 * 37 + y / 30 * 53) % 120;
        let inside = person.is_some_and(|[left, top, width, height]| {
            (left..left + width).contains(&x) && (top..top + height).contains(&y)
        });
        let value = if inside { 200.0 } else { texture as f32 };
        *sample = ((value * light) as i32 + noise(number, i, 4)).clamp(0, 255) as u8;
    }
    MemoryFrame::new(Arc::new(picture), number)
}

/// Five frames a second from frame `from` on: how many are inferred, and how many moved.
fn looks(
    gate: &mut MotionGate,
    start: Instant,
    numbers: std::ops::Range<u64>,
    draw: impl Fn(u64) -> MemoryFrame,
) -> (usize, usize) {
    let mut counts = (0, 0);
    for number in numbers {
        let look = gate.look(&draw(number).picture(), start + Duration::from_millis(200 * number), None);
        counts = (counts.0 + usize::from(look.infer), counts.1 + usize::from(look.moved));
    }
    counts
}

#[test]
fn a_still_scene_is_inferred_once_in_the_refresh_time() {
    let (start, mut gate) = (crate::clock::now(), MotionGate::new(OPTIONS));
    let (inferred, moved) = looks(&mut gate, start, 0..251, |number| frame(number, 1.0, None));
    assert_eq!(
        (inferred, moved),
        (6, 1),
        "at 0, 10, 20, 30, 40 and 50 s; the first has nothing to be compared with"
    );
}

#[test]
fn a_small_person_that_comes_is_seen_at_once_and_for_the_hold_time() {
    let (start, mut gate) = (crate::clock::now(), MotionGate::new(OPTIONS));
    looks(&mut gate, start, 0..21, |number| frame(number, 1.0, None));
    // A twentieth of the picture's height.
    let walks = |number: u64| frame(number, 1.0, Some([100 + 3 * number as usize, 150, 8, 18]));
    let (inferred, _) = looks(&mut gate, start, 21..41, walks);
    assert_eq!(inferred, 20);
    let (inferred, moved) = looks(&mut gate, start, 41..71, |number| frame(number, 1.0, None));
    assert_eq!((inferred, moved), (10, 1), "the frame in which the place is empty, and two seconds");
}

#[test]
fn an_object_that_is_detected_keeps_it_awake_without_motion() {
    let (start, mut gate) = (crate::clock::now(), MotionGate::new(OPTIONS));
    looks(&mut gate, start, 0..21, |number| frame(number, 1.0, None));
    let at = start + Duration::from_secs(5);
    let seen_at = |ago_ms| Some(at - Duration::from_millis(ago_ms));
    assert!(gate.look(&frame(25, 1.0, None).picture(), at, seen_at(1900)).infer);
    assert!(!gate.look(&frame(26, 1.0, None).picture(), at, seen_at(2100)).infer);
}

#[test]
fn daylight_is_no_motion_and_a_lamp_is() {
    let (start, mut gate) = (crate::clock::now(), MotionGate::new(OPTIONS));
    let clouds = |number: u64| frame(number, 1.0 + 0.12 * (number as f32 / 20.0).sin(), None);
    looks(&mut gate, start, 0..2, clouds);
    assert_eq!(looks(&mut gate, start, 2..200, clouds).1, 0);
    assert_eq!(looks(&mut gate, start, 200..201, |number| frame(number, 0.4, None)).1, 1);
}

#[test]
fn what_flickers_all_the_time_is_learned_and_a_person_beside_it_is_still_seen() {
    let (start, mut gate) = (crate::clock::now(), MotionGate::new(OPTIONS));
    // A clock drawn into the picture changes twice a second.
    let clock = |number: u64| frame(number, 1.0, (number / 3).is_multiple_of(2).then_some([10, 10, 24, 5]));
    looks(&mut gate, start, 0..300, clock);
    let (_, moved) = looks(&mut gate, start, 300..400, clock);
    assert!(moved <= 5, "{moved} of 100");
    let (_, moved) = looks(&mut gate, start, 400..401, |number| frame(number, 1.0, Some([300, 150, 20, 50])));
    assert_eq!(moved, 1);
}

#[test]
fn a_gate_that_leaves_nothing_out_says_only_what_moves() {
    let (start, mut gate) =
        (crate::clock::now(), MotionGate::new(GateOptions { leaves_out: false, ..OPTIONS }));
    assert_eq!(looks(&mut gate, start, 0..50, |number| frame(number, 1.0, None)), (50, 1));
    gate.reset();
    assert!(gate.look(&frame(50, 1.0, None).picture(), start, None).moved);
}
