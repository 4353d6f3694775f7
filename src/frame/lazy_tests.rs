//! The wake rule, in virtual time: a camera of 30 pictures a second whose sizes we choose.

use super::*;

const OPTIONS: LazyOptions =
    LazyOptions { hold: Duration::from_secs(5), buffer_bytes: 200_000, buffer_time: Duration::from_secs(6) };

/// Plays one camera.
struct Play {
    lazy: Lazy,
    start: Instant,
    number: u64,
    gop: u64,
    /// The scene's eyes: what the gate says of pictures that are decoded; `None`: no gate.
    eyes: bool,
    object_at: Option<Instant>,
}

impl Play {
    fn new() -> Self {
        Self {
            lazy: Lazy::new(OPTIONS),
            start: crate::clock::now(),
            number: 0,
            gop: 60,
            eyes: true,
            object_at: None,
        }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_micros(self.number * 33_333)
    }

    /// One picture, `factor` times as large as those of the still scene; the gate sees what is decoded.
    fn picture(&mut self, factor: f64, moves: bool) -> Treatment {
        let at = self.now();
        let kind =
            if self.number.is_multiple_of(self.gop) { PictureKind::Key } else { PictureKind::Reference };
        let wobble = (self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) % 100;
        let size = (factor * (950 + wobble) as f64) as usize;
        let treatment = self.lazy.coded(kind, size, at, self.object_at);
        let is_shown = kind == PictureKind::Key || treatment == Treatment::Decode;
        if self.eyes && is_shown {
            self.lazy.looked(moves, at);
        }
        self.number += 1;
        treatment
    }

    /// So many seconds of it: how many pictures were decoded.
    fn seconds(&mut self, seconds: u64, factor: f64, moves: bool) -> usize {
        let mut decoded = 0;
        for _ in 0..30 * seconds {
            let is_key = self.number.is_multiple_of(self.gop);
            decoded += usize::from(self.picture(factor, moves) == Treatment::Decode || is_key);
        }
        decoded
    }

    fn asleep(mut self) -> Self {
        self.seconds(20, 1.0, false);
        assert!(self.lazy.is_asleep());
        self
    }
}

#[test]
fn a_still_camera_falls_asleep_after_the_hold_time_and_decodes_keyframes() {
    let mut play = Play::new();
    assert_eq!(play.seconds(5, 1.0, false), 150, "awake while it learns");
    let mut play = play.asleep();
    assert_eq!(play.seconds(600, 1.0, false), 300, "one keyframe in two seconds, for ten minutes");
    assert_eq!(play.lazy.take_woken_by(), None);
}

#[test]
fn larger_pictures_wake_it_at_once() {
    let mut play = Play::new().asleep();
    play.picture(1.0, false);
    let pictures = (0..10).position(|_| play.picture(3.0, true) == Treatment::Decode);
    assert!(pictures.is_some_and(|pictures| pictures < 5), "{pictures:?}");
    assert_eq!(play.lazy.take_woken_by(), Some(Wake::Coded));
    assert_eq!(play.lazy.take_woken_by(), None, "said once");
    assert!(play.lazy.is_catching_up(play.now()));
    play.lazy.caught_up();
    assert!(!play.lazy.is_catching_up(play.now()));
}

#[test]
fn it_stays_awake_while_anything_moves_and_for_the_hold_time() {
    let mut play = Play::new().asleep();
    play.seconds(1, 3.0, true);
    play.lazy.caught_up();
    assert_eq!(play.seconds(30, 1.0, true), 900, "it moves, though pictures are small");
    assert_eq!(play.seconds(4, 1.0, false), 120);
    play.seconds(2, 1.0, false);
    assert!(play.lazy.is_asleep());
}

#[test]
fn what_only_a_keyframe_shows_wakes_it_too() {
    let mut play = Play::new().asleep();
    while !play.number.is_multiple_of(play.gop) {
        play.picture(1.0, false);
    }
    play.picture(1.0, true);
    assert_eq!(play.lazy.take_woken_by(), Some(Wake::Picture));
    assert_eq!(play.picture(1.0, true), Treatment::Decode);
}

#[test]
fn an_object_that_moves_wakes_it_and_keeps_it_awake() {
    let mut play = Play::new().asleep();
    play.object_at = Some(play.now());
    play.picture(1.0, false);
    assert_eq!(play.lazy.take_woken_by(), Some(Wake::Object));
    for _ in 0..20 {
        play.object_at = Some(play.now());
        assert_eq!(play.seconds(1, 1.0, false), 30);
        play.lazy.caught_up();
    }
    play.seconds(7, 1.0, false);
    assert!(play.lazy.is_asleep());
}

#[test]
fn an_object_of_before_it_slept_does_not_wake_it() {
    let mut play = Play::new();
    play.object_at = Some(play.start);
    let mut play = play.asleep();
    assert_eq!(play.seconds(60, 1.0, false), 30);
}

#[test]
fn a_camera_whose_keyframes_are_too_far_apart_never_sleeps_and_says_so_once() {
    let mut play = Play { gop: 300, ..Play::new() };
    assert_eq!(play.seconds(60, 1.0, false), 1800);
    assert!(play.lazy.take_complaint() && !play.lazy.take_complaint());
    let mut play = Play::new();
    play.seconds(60, 1.0, false);
    assert!(!play.lazy.take_complaint());
}

#[test]
fn a_camera_that_stops_sending_keyframes_while_it_sleeps_is_decoded_before_the_buffer_is_full() {
    let mut play = Play::new().asleep();
    play.gop = 1_000_000;
    play.seconds(7, 1.0, false);
    assert_eq!(play.lazy.take_woken_by(), Some(Wake::BufferFull));
    play.lazy.caught_up();
    play.seconds(60, 1.0, false);
    assert!(!play.lazy.is_asleep() && play.lazy.take_complaint());
}

#[test]
fn what_is_kept_never_has_more_bytes_or_lasts_longer_than_was_allowed() {
    let mut play = Play::new().asleep();
    let (mut bytes, mut most) = (0, 0);
    for number in 0..30_000_u64 {
        // Sizes creep up, so slowly that nothing wakes it for that.
        let factor = 1.0 + number as f64 / 2000.0;
        let kind =
            if play.number.is_multiple_of(play.gop) { PictureKind::Key } else { PictureKind::Reference };
        let size = (factor * 1000.0) as usize;
        let at = play.now();
        match play.lazy.coded(kind, size, at, None) {
            Treatment::Keep if kind == PictureKind::Key => bytes = 0,
            Treatment::Keep => bytes += size,
            Treatment::Decode => {
                bytes = 0;
                play.lazy.caught_up();
            }
        }
        if kind == PictureKind::Key {
            play.lazy.looked(false, at);
        }
        most = most.max(bytes);
        play.number += 1;
    }
    assert!(most <= OPTIONS.buffer_bytes && most > OPTIONS.buffer_bytes / 2, "{most}");
}

#[test]
fn a_false_alarm_is_learned_from() {
    let mut play = Play::new().asleep();
    // Night falls: noise makes every picture half as large again, and nothing moves.
    let mut alarms = 0;
    for _ in 0..120 {
        play.seconds(1, 1.5, false);
        alarms += usize::from(play.lazy.take_woken_by().is_some());
        play.lazy.caught_up();
    }
    assert!((1..=6).contains(&alarms), "{alarms}");
    assert_eq!(play.seconds(600, 1.5, false), 300);
}

#[test]
fn alarms_for_nothing_make_it_reluctant_and_those_for_something_do_not() {
    let night = |moves: bool| {
        let mut play = Play::new().asleep();
        let mut alarms = 0;
        // Every half minute, for half an hour, pictures are larger for ten of them, as where daylight changes in steps.
        for _ in 0..60 {
            for _ in 0..10 {
                play.picture(3.0, moves);
            }
            alarms += usize::from(play.lazy.take_woken_by().is_some());
            play.lazy.caught_up();
            play.seconds(30, 1.0, false);
            assert!(play.lazy.is_asleep());
        }
        // What is larger for long wakes it all the same.
        let pictures = (0..60).position(|_| play.picture(3.0, true) == Treatment::Decode);
        assert!(pictures.is_some(), "{moves}");
        alarms
    };
    assert_eq!(night(true), 60);
    let for_nothing = night(false);
    assert!((2..=12).contains(&for_nothing), "{for_nothing}");
}

#[test]
fn an_alarm_for_nothing_is_soon_over_and_one_for_something_is_not() {
    for (moves, decoded) in [(false, 60..110), (true, 130..220)] {
        let mut play = Play::new().asleep();
        for _ in 0..20 {
            play.picture(3.0, moves);
        }
        assert!(play.lazy.take_woken_by().is_some() && !play.lazy.is_asleep());
        play.lazy.caught_up();
        let awake = play.seconds(10, 1.0, false);
        assert!(decoded.contains(&awake), "{moves}: {awake}");
    }
}

#[test]
fn without_eyes_coded_pictures_keep_it_awake() {
    let mut play = Play { eyes: false, ..Play::new() }.asleep();
    play.seconds(1, 3.0, false);
    assert_eq!(play.lazy.take_woken_by(), Some(Wake::Coded));
    play.lazy.caught_up();
    play.seconds(60, 1.0, false);
    assert!(play.lazy.is_asleep());
}

proptest::proptest! {
    /// Whatever comes: what is kept is bounded, and a picture that is kept follows one that is not lost.
    #[test]
    fn whatever_comes_the_buffer_is_bounded(
        pictures in proptest::collection::vec((0u8..20, 1usize..40_000, 1u64..400, proptest::bool::ANY), 1..800),
    ) {
        let mut play = Play::new().asleep();
        let (mut bytes, mut since) = (0, None);
        let mut at = play.now();
        for (kind, size, gap_ms, moves) in pictures {
            let kind = match kind { 0 => PictureKind::Key, 1..8 => PictureKind::Disposable, _ => PictureKind::Reference };
            at += Duration::from_millis(gap_ms);
            match play.lazy.coded(kind, size, at, None) {
                Treatment::Keep if kind == PictureKind::Key => { bytes = 0; since = None; }
                Treatment::Keep => { bytes += size; since.get_or_insert(at); }
                Treatment::Decode => { bytes = 0; since = None; play.lazy.caught_up(); }
            }
            // What is looked at wakes it with the next picture.
            if moves && kind == PictureKind::Key { play.lazy.looked(true, at); }
            if !play.lazy.is_asleep() { bytes = 0; since = None; }
            proptest::prop_assert!(bytes <= OPTIONS.buffer_bytes);
            let kept_for = since.map_or(Duration::ZERO, |since| at - since);
            proptest::prop_assert!(kept_for <= OPTIONS.buffer_time);
        }
    }
}
