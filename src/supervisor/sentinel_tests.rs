//! Virtual days: what must be reported, how soon, and what must not.

use std::f64::consts::TAU;

use super::*;

const MIB: f64 = 1_048_576.0;
const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;

/// A process whose holdings are functions of the time, and a clock that nobody waits for.
struct Life {
    sentinel: Sentinel,
    start: Instant,
    seconds: f64,
    reports: Vec<(f64, Report)>,
}

impl Life {
    fn new() -> Self {
        let start = crate::clock::now();
        Self { sentinel: Sentinel::new(Pace::default(), start), start, seconds: 0.0, reports: Vec::new() }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_secs_f64(self.seconds)
    }

    /// Looks every 5 s until `until`.
    fn live(&mut self, until: f64, mut sample: impl FnMut(f64) -> Sample) -> &mut Self {
        while self.seconds < until {
            self.seconds += 5.0;
            let now = self.now();
            assert!(self.sentinel.is_due(now));
            self.sentinel.observe(sample(self.seconds), now);
            while let Some(report) = self.sentinel.next_report() {
                self.reports.push((self.seconds, report));
            }
        }
        self
    }

    /// The first report: when, and what.
    fn first(&self) -> Option<(f64, Growth)> {
        self.reports.iter().find_map(|(at, report)| match report {
            Report::Grows(growth) => Some((*at, *growth)),
            Report::Steady { .. } => None,
        })
    }

    #[track_caller]
    fn assert_silent(&self, what: &str) {
        let told: Vec<String> =
            self.reports.iter().map(|(at, report)| format!("{:.1} h: {report}", at / HOUR)).collect();
        assert!(told.is_empty(), "{what}: {told:?}");
    }
}

/// 60 MiB that stand still, and so much more.
fn memory(more: f64) -> Sample {
    let mut sample = Sample { expected: 1, ..Sample::default() };
    sample.held[Holding::Rss as usize] = (60.0 * MIB + more).max(0.0) as u64;
    sample.held[Holding::Pss as usize] = (50.0 * MIB + more).max(0.0) as u64;
    sample.held[Holding::Fd as usize] = 48;
    sample.held[Holding::Thread as usize] = 34;
    sample.held[Holding::Pipeline as usize] = 4;
    sample.held[Holding::Slot as usize] = 1;
    sample
}

/// Numbers that look like chance, the same in every run.
struct Noise(u64);

impl Noise {
    fn uniform(&mut self) -> f64 {
        // xorshift64* (Vigna 2016).
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Normal, by Box and Muller.
    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().max(f64::MIN_POSITIVE).ln()).sqrt() * (TAU * self.uniform()).cos()
    }
}

#[test]
fn what_stands_still_is_not_reported() {
    let mut life = Life::new();
    life.live(10.0 * DAY, |_| memory(0.0)).assert_silent("nothing happens");
    assert_eq!(life.sentinel.per_hour(Holding::Rss), 0.0);
}

/// Every opening of a camera loses 200 KiB, as the leaky control of the cycle test does.
#[test]
fn two_hundred_kib_in_every_cycle_are_reported_and_put_down_to_the_openings() {
    for (cycle_s, within_min) in [(1.0, 12.0), (5.0, 18.0), (10.0, 22.0), (30.0, 32.0), (60.0, 150.0)] {
        let mut life = Life::new();
        life.live(6.0 * HOUR, |t| Sample {
            openings: (t / cycle_s) as u64,
            ..memory((t / cycle_s).floor() * 200.0 * 1024.0)
        });
        let (at, growth) = life.first().unwrap_or_else(|| panic!("a cycle of {cycle_s} s is not found"));
        println!("200 KiB every {cycle_s} s: reported {:.0} min after the start: {growth}", at / 60.0);
        assert!(at <= within_min * 60.0, "{cycle_s} s: {at} s");
        assert_eq!(growth.holding, Holding::Rss);
        let rate = 200.0 * 1024.0 / cycle_s * HOUR;
        assert!((growth.per_hour() / rate - 1.0).abs() < 0.15, "{} for {rate}", growth.per_hour());
        let Owner::Openings { each, .. } = growth.owner else { panic!("{:?}", growth.owner) };
        assert!((each / 204_800.0 - 1.0).abs() < 0.15, "{each}");
        assert_eq!(life.reports.len(), 1, "once for each episode: {:?}", life.reports);
        assert!(life.sentinel.is_growing(Holding::Rss));
        assert!(life.sentinel.per_hour(Holding::Rss) > 0.8 * rate);
    }
}

/// After a quiet day, with the noise of a real process: how long until a leak is reported.
#[test]
fn a_leak_is_reported_the_sooner_the_faster_it_is() {
    let table = [
        (1024.0, 6.0),
        (256.0, 12.0),
        (64.0, 25.0),
        (16.0, 120.0),
        (4.0, 4.0 * 60.0),
        (1.0, 27.0 * 60.0),
        (0.25, 9.0 * 1440.0),
    ];
    for (mib_an_hour, within_min) in table {
        let mut life = Life::new();
        let mut noise = Noise(7);
        let mut wander = 0.0;
        life.live(10.0 * DAY, |t| {
            wander = 0.99 * wander + 0.03 * MIB * noise.normal();
            memory((t - DAY).max(0.0) / HOUR * mib_an_hour * MIB + wander)
        });
        let (at, growth) = life.first().unwrap_or_else(|| panic!("{mib_an_hour} MiB/h is not found"));
        let minutes = (at - DAY) / 60.0;
        println!("{mib_an_hour} MiB/h after a quiet day: reported after {minutes:.0} min: {growth}");
        assert!((0.0..=within_min).contains(&minutes), "{mib_an_hour} MiB/h: {minutes} min");
    }
}

#[test]
fn a_step_of_any_height_is_not_reported() {
    for mib in [9.0, 60.0, 4096.0] {
        for at in [400.0, 2000.0, DAY] {
            let mut life = Life::new();
            let mut noise = Noise(3);
            life.live(5.0 * DAY, |t| {
                memory(if t > at { mib * MIB } else { 0.0 } + 0.3 * MIB * noise.normal())
            });
            life.assert_silent(&format!("a step of {mib} MiB after {at} s"));
        }
    }
}

/// Eight cameras come up one after another, five minutes apart.
fn cameras_one_by_one(t: f64) -> Sample {
    let cameras = (t / 300.0).floor().min(8.0);
    Sample { expected: cameras as u64, openings: cameras as u64, ..memory(cameras * 12.0 * MIB) }
}

#[test]
fn cameras_that_come_up_one_after_another_are_no_leak() {
    Life::new().live(3.0 * DAY, cameras_one_by_one).assert_silent("cameras come up");
    // What is held off is real: without the word that explains it, it is a leak.
    let mut life = Life::new();
    life.live(3.0 * DAY, |t| Sample { expected: 1, ..cameras_one_by_one(t) });
    assert!(life.first().is_some());
    // The same cameras again and again explain nothing.
    let mut life = Life::new();
    life.live(6.0 * HOUR, |t| Sample {
        expected: (t / 30.0) as u64 % 2,
        ..memory((t / 60.0).floor() * 500.0 * 1024.0)
    });
    assert!(life.first().is_some());
}

#[test]
fn the_first_minutes_are_not_looked_at() {
    Life::new().live(5.0 * DAY, |t| memory(t.min(290.0) * MIB)).assert_silent("a start");
}

/// Forty days of each: noise that is as loud as the process is large, and noise that wanders.
#[test]
fn noise_is_not_reported() {
    for seed in 1..=4 {
        let mut noise = Noise(seed);
        Life::new()
            .live(10.0 * DAY, |_| memory(20.0 * MIB * noise.normal()))
            .assert_silent("white noise of 20 MiB");
        let (mut noise, mut wander) = (Noise(seed), 0.0);
        Life::new()
            .live(10.0 * DAY, |_| {
                // A wandering of 1 MiB that forgets itself in 20 min.
                wander = 0.996 * wander + 0.09 * MIB * noise.normal();
                memory(wander)
            })
            .assert_silent("a wandering of 1 MiB");
    }
}

#[test]
fn a_sawtooth_is_not_reported() {
    let tooth = |t: f64, period: f64| (t % period) / period;
    // Low teeth of any length, up to 25 min; the longer the lower.
    for period_s in [20.0, 60.0, 290.0, 600.0, 900.0, 1500.0] {
        let height = 5.3 * MIB * (1500.0 / period_s);
        Life::new()
            .live(3.0 * DAY, |t| memory(height * tooth(t, period_s)))
            .assert_silent(&format!("teeth of {:.0} MiB every {period_s} s", height / MIB));
    }
    for period_s in [0.5 * HOUR, 2.0 * HOUR, 7.0 * HOUR, DAY] {
        Life::new()
            .live(20.0 * DAY, |t| memory(7.5 * MIB * tooth(t, period_s)))
            .assert_silent(&format!("teeth of 7.5 MiB every {period_s} s"));
    }
    // High teeth that are short.
    for period_s in [30.0, 120.0, 240.0] {
        Life::new()
            .live(3.0 * DAY, |t| memory(500.0 * MIB * tooth(t, period_s)))
            .assert_silent(&format!("teeth of 500 MiB every {period_s} s"));
    }
}

#[test]
fn a_growth_is_withdrawn_when_it_stops_and_reported_again_when_it_begins_anew() {
    let mut life = Life::new();
    let grow = |t: f64| {
        let first = (t - HOUR).clamp(0.0, HOUR);
        let second = (t - 6.0 * HOUR).clamp(0.0, HOUR);
        memory((first + second) / HOUR * 120.0 * MIB)
    };
    life.live(12.0 * HOUR, grow);
    let kinds: Vec<bool> = life.reports.iter().map(|(_, r)| matches!(r, Report::Grows(_))).collect();
    assert_eq!(kinds, [true, false, true, false], "{:?}", life.reports);
    for (begin, reports) in [(HOUR, &life.reports[..2]), (6.0 * HOUR, &life.reports[2..])] {
        let (told, withdrawn) = (reports[0].0 - begin, reports[1].0 - begin - HOUR);
        println!("told after {:.0} min, withdrawn {:.0} min after its end", told / 60.0, withdrawn / 60.0);
        assert!((0.0..1500.0).contains(&told) && (0.0..1800.0).contains(&withdrawn));
    }
    assert!(!life.sentinel.is_growing(Holding::Rss));
    let text = life.reports[1].1.to_string();
    assert_eq!(text, "resident memory no longer grows and is 180.0 MiB now");
}

/// The samples of a process that loses one of something every 20 s, and 200 KiB with it.
fn losing(holding: Holding) -> impl Fn(f64) -> Sample {
    move |t| {
        let lost = (t / 20.0).floor();
        let mut sample = Sample { openings: lost as u64, ..memory(lost * 200.0 * 1024.0) };
        sample.held[holding as usize] += lost as u64;
        sample
    }
}

#[test]
fn a_growth_is_put_down_to_what_grows_with_it() {
    for holding in [Holding::Pipeline, Holding::Thread, Holding::Fd] {
        let mut life = Life::new();
        life.live(2.0 * HOUR, losing(holding));
        let growths: Vec<Growth> = life
            .reports
            .iter()
            .filter_map(|(_, report)| if let Report::Grows(growth) = report { Some(*growth) } else { None })
            .collect();
        let of = |wanted| growths.iter().find(|growth| growth.holding == wanted).expect("reported");
        assert_eq!(growths.len(), 2, "{growths:?}");
        println!("{}", of(holding));
        assert!(matches!(of(holding).owner, Owner::Openings { .. }), "{growths:?}");
        assert_eq!(of(Holding::Rss).owner, Owner::With(holding), "{growths:?}");
    }
}

#[test]
fn memory_of_others_and_memory_of_nobody_are_told_apart() {
    for (own, owner) in [(0.0, Owner::Shared), (1.0, Owner::Unknown)] {
        let mut life = Life::new();
        life.live(2.0 * HOUR, |t| {
            let more = t / HOUR * 100.0 * MIB;
            let mut sample = memory(more);
            sample.held[Holding::Pss as usize] = (50.0 * MIB + own * more) as u64;
            sample
        });
        let (_, growth) = life.first().expect("reported");
        assert_eq!(growth.owner, owner);
        println!("{growth}");
    }
}

#[test]
fn a_single_slot_that_never_comes_home_is_no_growth_but_four_are() {
    let lost = |slots: f64| {
        move |t: f64| {
            let mut sample = memory(0.0);
            sample.held[Holding::Slot as usize] += ((t - HOUR) / 300.0).clamp(0.0, slots) as u64;
            sample
        }
    };
    Life::new().live(2.0 * DAY, lost(1.0)).assert_silent("one slot");
    let mut life = Life::new();
    life.live(2.0 * DAY, lost(5.0));
    assert_eq!(life.first().expect("reported").1.holding, Holding::Slot);
}

#[test]
fn a_pause_of_the_process_is_no_time_to_grow_in() {
    let mut life = Life::new();
    let mut noise = Noise(5);
    let mut quiet = |_: f64| memory(0.3 * MIB * noise.normal());
    life.live(2.0 * HOUR, &mut quiet);
    for hour in 0..6 {
        // Stopped for an hour, or for 80 s, then alive for ten minutes.
        life.seconds += if hour % 2 == 0 { HOUR } else { 80.0 };
        let until = life.seconds + 600.0;
        life.live(until, &mut quiet);
    }
    life.assert_silent("pauses");
    // And what grows between pauses is found.
    let begin = life.seconds;
    life.live(begin + HOUR, |t| memory((t - begin) / HOUR * 200.0 * MIB));
    assert!(life.first().is_some());
}
