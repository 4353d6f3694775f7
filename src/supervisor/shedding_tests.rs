//! One named test for every arrow of the diagram, the order of the steps, and properties over random lives.

use proptest::prelude::*;

use super::*;

const LIMIT: u64 = 100 << 20;
const ABOVE: u64 = LIMIT + 1;
const AT: u64 = LIMIT;
const LOW: u64 = 89 << 20;
const PACE: Pace = Pace {
    confirm: Duration::from_secs(3),
    settle: Duration::from_secs(5),
    patience: Duration::from_secs(30),
    patience_max: Duration::from_secs(240),
    relapse: Duration::from_secs(60),
};

fn camera(priority: i32) -> Candidate {
    Candidate { priority, has_keyframes: true, level: Level::Full }
}

/// Shedding and its virtual clock.
struct Life {
    shedding: Shedding,
    now: Instant,
    changes: Vec<Change>,
}

impl Life {
    fn new(cameras: Vec<Candidate>) -> Self {
        let mut shedding = Shedding::new(PACE);
        shedding.follow(cameras.into_iter());
        Self { shedding, now: crate::clock::now(), changes: Vec::new() }
    }

    /// So much memory, now.
    fn rss(&mut self, bytes: u64) -> &mut Self {
        self.shedding.observe(bytes, LIMIT, self.now);
        self.changes.clear();
        while let Some(change) = self.shedding.next_change() {
            self.changes.push(change);
        }
        self
    }

    /// So much memory for so many seconds; the number of steps.
    fn hold(&mut self, bytes: u64, seconds: u64) -> usize {
        (0..seconds)
            .filter(|_| {
                self.now += Duration::from_secs(1);
                self.rss(bytes);
                !self.changes.is_empty()
            })
            .count()
    }

    fn levels(&self) -> Vec<Level> {
        self.shedding.cameras.iter().map(|camera| camera.level).collect()
    }

    fn state(&self) -> &'static str {
        match self.shedding.state() {
            State::Idle => "idle",
            State::Pressed { .. } => "pressed",
            State::Held => "held",
            State::Easing { .. } => "easing",
        }
    }
}

/// Pressed until the first step down.
fn one_step_down(cameras: Vec<Candidate>) -> Life {
    let mut life = Life::new(cameras);
    life.rss(ABOVE);
    life.now += PACE.confirm;
    life.rss(ABOVE);
    assert_eq!((life.state(), life.levels()[0]), ("pressed", Level::Half));
    life
}

#[test]
fn idle_stays_idle_up_to_the_limit() {
    let mut life = Life::new(vec![camera(0)]);
    assert_eq!(life.hold(AT, 1000), 0);
    assert_eq!(life.state(), "idle");
}

#[test]
fn idle_is_pressed_above_the_limit_and_gives_up_nothing_yet() {
    let mut life = Life::new(vec![camera(0)]);
    life.rss(ABOVE);
    assert_eq!((life.state(), life.changes.len()), ("pressed", 0));
    assert_eq!(life.shedding.state(), State::Pressed { step_at: life.now + PACE.confirm });
}

#[test]
fn pressed_is_idle_again_after_a_blip() {
    let mut life = Life::new(vec![camera(0)]);
    for _ in 0..100 {
        assert_eq!(life.hold(ABOVE, 3) + life.hold(AT, 1), 0);
        assert_eq!(life.state(), "idle");
    }
}

#[test]
fn pressed_steps_down_when_the_pressure_is_confirmed_and_not_before() {
    let mut life = Life::new(vec![camera(0)]);
    life.rss(ABOVE);
    life.now += PACE.confirm - Duration::from_nanos(1);
    assert!(life.rss(ABOVE).changes.is_empty());
    life.now += Duration::from_nanos(1);
    life.rss(ABOVE);
    assert_eq!(life.changes, [Change { camera_index: 0, from: Level::Full, to: Level::Half }]);
}

#[test]
fn pressed_takes_the_next_step_when_the_last_one_has_settled() {
    let mut life = one_step_down(vec![camera(0)]);
    life.now += PACE.settle - Duration::from_nanos(1);
    assert!(life.rss(ABOVE).changes.is_empty());
    life.now += Duration::from_nanos(1);
    life.rss(ABOVE);
    assert_eq!(life.levels(), [Level::Slow]);
}

#[test]
fn pressed_holds_what_it_has_when_that_is_enough() {
    let mut life = one_step_down(vec![camera(0)]);
    life.rss(AT);
    assert_eq!((life.state(), life.levels()[0]), ("held", Level::Half));
}

#[test]
fn pressed_eases_when_that_is_more_than_enough() {
    let mut life = one_step_down(vec![camera(0)]);
    life.rss(LOW);
    assert_eq!((life.state(), life.levels()[0]), ("easing", Level::Half));
}

#[test]
fn held_is_pressed_above_the_limit_and_has_to_be_confirmed_again() {
    let mut life = one_step_down(vec![camera(0)]);
    life.rss(AT).rss(ABOVE);
    assert_eq!(life.shedding.state(), State::Pressed { step_at: life.now + PACE.confirm });
}

#[test]
fn held_stays_held_between_the_lines() {
    let mut life = one_step_down(vec![camera(0)]);
    assert_eq!(life.hold(AT, 10_000), 0);
    assert_eq!(life.state(), "held");
}

#[test]
fn held_eases_below_nine_tenths() {
    let mut life = one_step_down(vec![camera(0)]);
    life.rss(AT).rss(LOW);
    assert_eq!(life.shedding.state(), State::Easing { step_at: life.now + PACE.patience });
}

#[test]
fn easing_holds_above_nine_tenths() {
    let mut life = one_step_down(vec![camera(0)]);
    for _ in 0..100 {
        assert_eq!(life.hold(LOW, 30) + life.hold(AT, 1), 0);
        assert_eq!(life.state(), "held");
    }
}

#[test]
fn easing_is_pressed_above_the_limit() {
    let mut life = one_step_down(vec![camera(0)]);
    life.rss(LOW).rss(ABOVE);
    assert_eq!(life.state(), "pressed");
}

#[test]
fn easing_takes_a_step_back_when_its_patience_is_over_and_not_before() {
    let mut life = one_step_down(vec![camera(0)]);
    life.hold(ABOVE, 5);
    assert_eq!(life.levels(), [Level::Slow]);
    life.rss(LOW);
    life.now += PACE.patience - Duration::from_nanos(1);
    assert!(life.rss(LOW).changes.is_empty());
    life.now += Duration::from_nanos(1);
    life.rss(LOW);
    assert_eq!(life.changes, [Change { camera_index: 0, from: Level::Slow, to: Level::Half }]);
    assert_eq!(life.state(), "easing");
}

#[test]
fn easing_is_idle_after_the_last_step_back() {
    let mut life = one_step_down(vec![camera(0)]);
    life.hold(LOW, 31);
    assert_eq!((life.state(), life.levels()[0]), ("idle", Level::Full));
}

#[test]
fn the_lowest_priority_gives_up_everything_before_the_next_one_gives_up_anything() {
    use Level::{Full, Half, Keyframes, Paused, Slow};
    // Two of the lowest priority, of which one has no keyframes; one above; one above that.
    let lowest = |has_keyframes| Candidate { has_keyframes, ..camera(-1) };
    let mut life = Life::new(vec![lowest(true), camera(5), lowest(false), camera(0)]);
    let expected = [
        [Half, Full, Half, Full],
        [Slow, Full, Slow, Full],
        [Keyframes, Full, Slow, Full],
        [Keyframes, Full, Paused, Full],
        [Paused, Full, Paused, Full],
        [Paused, Full, Paused, Half],
        [Paused, Full, Paused, Slow],
        [Paused, Full, Paused, Keyframes],
        [Paused, Full, Paused, Paused],
        [Paused, Half, Paused, Paused],
        [Paused, Slow, Paused, Paused],
        // The last camera is not paused.
        [Paused, Keyframes, Paused, Paused],
    ];
    assert_eq!(life.hold(ABOVE, 4), 1);
    for (index, levels) in expected.iter().enumerate() {
        assert_eq!(life.levels(), levels, "step {index}");
        assert_eq!(life.shedding.is_spent(), index == expected.len() - 1);
        life.hold(ABOVE, 5);
    }
    assert_eq!(life.hold(ABOVE, 1000), 0, "there is no more");
    for levels in expected.iter().rev() {
        assert_eq!(life.levels(), levels, "and back the same way");
        life.hold(LOW, if life.state() == "pressed" { 31 } else { 30 });
    }
    assert_eq!((life.state(), life.levels()), ("idle", vec![Full; 4]));
}

#[test]
fn only_one_camera_is_never_paused_and_none_at_all_is_spent_at_once() {
    let mut life = Life::new(vec![camera(0)]);
    life.hold(ABOVE, 1000);
    assert_eq!(life.levels(), [Level::Keyframes]);
    assert!(life.shedding.is_spent());
    let mut none = Life::new(Vec::new());
    assert_eq!(none.hold(ABOVE, 100), 0);
    assert!(none.shedding.is_spent());
    none.hold(LOW, 1);
    assert_eq!(none.state(), "idle");
}

#[test]
fn whoever_relapses_waits_twice_as_long_and_whoever_does_not_begins_anew() {
    let mut life = one_step_down(vec![camera(0)]);
    let mut waits = Vec::new();
    for _ in 0..6 {
        let from = life.now;
        while life.state() != "idle" {
            life.hold(LOW, 1);
        }
        waits.push((life.now - from).as_secs());
        // Short again at once.
        life.hold(ABOVE, 4);
        assert_eq!(life.levels(), [Level::Half]);
    }
    assert_eq!(waits, [31, 61, 121, 241, 241, 241], "the second of each is the one that sees it");
    // Back, and no relapse for longer than that counts as one.
    life.hold(LOW, 300);
    assert_eq!(life.state(), "idle");
    life.hold(ABOVE, 4);
    let from = life.now;
    while life.state() != "idle" {
        life.hold(LOW, 1);
    }
    assert_eq!((life.now - from).as_secs(), 31);
}

#[test]
fn a_camera_that_comes_under_pressure_catches_up_first_and_one_that_goes_is_forgotten() {
    use Level::{Full, Half, Slow};
    let mut life = one_step_down(vec![camera(0), camera(0)]);
    life.hold(ABOVE, 5);
    assert_eq!(life.levels(), [Slow, Slow]);
    let mut cameras = life.shedding.cameras.clone();
    cameras.insert(1, camera(0));
    life.shedding.follow(cameras.into_iter());
    life.hold(ABOVE, 5);
    assert_eq!(life.levels(), [Slow, Half, Slow]);
    life.hold(ABOVE, 5);
    assert_eq!(life.levels(), [Slow, Slow, Slow]);
    let left = life.shedding.cameras[1];
    life.shedding.follow(std::iter::once(left));
    life.hold(LOW, 62);
    assert_eq!((life.state(), life.levels()), ("idle", vec![Full]));
}

#[test]
fn a_limit_that_is_raised_gives_everything_back() {
    let mut life = one_step_down(vec![camera(0)]);
    for _ in 0..=PACE.patience.as_secs() {
        life.shedding.observe(ABOVE, u64::MAX, life.now);
        life.now += Duration::from_secs(1);
    }
    assert_eq!((life.state(), life.levels()[0]), ("idle", Level::Full));
}

/// A balloon is blown up and let down: the figures for the documentation.
#[test]
fn how_long_a_camera_of_eight_takes_to_be_paused_and_to_be_back() {
    let cameras: Vec<Candidate> = (0..8).map(|index| camera(if index < 4 { 0 } else { 10 })).collect();
    let mut life = Life::new(cameras);
    life.shedding.pace = Pace::default();
    life.shedding.patience = Pace::default().patience;
    let begin = life.now;
    let paused = |life: &Life| life.levels().iter().filter(|level| **level == Level::Paused).count();
    let mut times = Vec::new();
    for wanted in 1..=7 {
        while paused(&life) < wanted {
            life.hold(ABOVE, 1);
        }
        times.push((life.now - begin).as_secs());
    }
    println!("paused after {times:?} s");
    assert_eq!(times, [19, 24, 29, 34, 54, 59, 64]);
    let begin = life.now;
    while life.state() != "idle" {
        life.hold(LOW, 1);
    }
    println!("all back {} s after memory was low again", (life.now - begin).as_secs());
    assert!(life.now - begin < Duration::from_secs(13 * 30 + 10));
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let one = (-2i32..2, any::<bool>());
    proptest::collection::vec(one, 0..8).prop_map(|list| {
        list.into_iter()
            .map(|(priority, has_keyframes)| Candidate { has_keyframes, ..camera(priority) })
            .collect()
    })
}

/// So much memory for so many seconds.
fn spells() -> impl Strategy<Value = Vec<(u64, u64)>> {
    let bytes = prop_oneof![Just(ABOVE), Just(AT), Just(LOW), 0..2 * LIMIT];
    proptest::collection::vec((bytes, 1u64..60), 1..60)
}

/// What every moment of every life must look like.
fn check(life: &Life) -> Result<(), TestCaseError> {
    let cameras = &life.shedding.cameras;
    for (camera, other) in cameras.iter().flat_map(|a| cameras.iter().map(move |b| (a, b))) {
        let untouched = other.level == Level::Full || other.priority <= camera.priority;
        prop_assert!(camera.level == Level::Paused || untouched, "{cameras:?}");
    }
    let awake = cameras.iter().filter(|camera| camera.level != Level::Paused).count();
    prop_assert!(cameras.is_empty() || awake > 0, "a daemon that sees nothing");
    let without = cameras.iter().filter(|camera| !camera.has_keyframes);
    prop_assert!(without.into_iter().all(|camera| camera.level != Level::Keyframes));
    let sheds = awake < cameras.len() || cameras.iter().any(|camera| camera.level != Level::Full);
    prop_assert!(life.state() != "idle" || !sheds);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever memory does: priorities hold, steps come one at a time and are taken back the same way, and
    /// all is well again some time after memory is.
    #[test]
    fn every_life_is_orderly(cameras in candidates(), spells in spells()) {
        let mut life = Life::new(cameras);
        let mut way = vec![life.levels()];
        let mut last_step: Option<Instant> = None;
        let quiet = std::iter::once((LOW, 40 * 240));
        for (bytes, seconds) in spells.into_iter().chain(quiet) {
            for _ in 0..seconds {
                if life.hold(bytes, 1) == 0 {
                    continue;
                }
                prop_assert!(!(LIMIT - LIMIT / 10..=LIMIT).contains(&bytes), "no step between the lines");
                let gap = last_step.map(|at| life.now - at);
                if bytes > LIMIT {
                    prop_assert!(gap.is_none_or(|gap| gap >= PACE.confirm));
                    way.push(life.levels());
                } else {
                    prop_assert!(gap.is_none_or(|gap| gap >= PACE.patience));
                    way.pop();
                    prop_assert_eq!(Some(&life.levels()), way.last());
                }
                last_step = Some(life.now);
                check(&life)?;
            }
        }
        prop_assert_eq!(life.state(), "idle");
        prop_assert!(life.levels().iter().all(|level| *level == Level::Full));
    }
}
