//! The soak's own parts: what judges a run has to be able to say no, and the plot has to show what was measured.

#[path = "soak/main.rs"]
#[allow(dead_code, reason = "the program is run by the test `soak`")]
mod soak;

use std::time::Duration;

use soak::cycles::Cycle;
use soak::form::Form;
use soak::judge::{Check, Evidence, Neighbours, growth, judge, quantile};
use soak::plot::svg;
use soak::series::{Counts, Phase, Sample};
use soak::story::Story;

const MIB: u64 = 1 << 20;

/// The check that has to fail, and what makes it.
type Wrong<T> = (&'static str, fn(&mut T));

fn sample(seconds: f64, rss_bytes: u64) -> Sample {
    Sample {
        seconds,
        phase: Phase::Work,
        rss_bytes,
        pss_bytes: rss_bytes - MIB,
        fds: 60,
        threads: 50,
        objects: 300,
        pipelines: 8,
        frames: 1,
        slots: 18,
        slots_free: 17,
        cameras: 9,
        cameras_up: 8,
        cpu_seconds: seconds,
    }
}

const COUNTS: Counts = Counts {
    fds: 25,
    threads: 19,
    objects: 43,
    pipelines: 1,
    slots: 2,
    slots_away: 0,
    frames: 0,
    cameras_up: 1,
    children: 0,
};

/// Memory at work, and at rest in the middle and at the end.
fn with_rests(work: impl Iterator<Item = u64>, middle: u64, end: u64) -> Vec<Sample> {
    let rest = |phase, rss_bytes| {
        let sample = Sample { phase, cameras_up: 1, pipelines: 1, ..sample(1000.0, rss_bytes) };
        // Those that are still going are not counted.
        [Sample { pipelines: 3, ..sample }, sample, sample, sample, sample]
    };
    let work = work.enumerate().map(|(second, rss_bytes)| sample(second as f64, rss_bytes));
    work.chain(rest(Phase::Middle, middle)).chain(rest(Phase::End, end)).collect()
}

/// A run with nothing wrong.
fn sound(form: &Form) -> Evidence {
    let cycle = |turn: usize| Cycle {
        fault: form.faults[turn % form.faults.len()].name(),
        reason: "stalled".to_owned(),
        noticed_ms: 1010.0,
        recovered_ms: 300.0,
    };
    Evidence {
        samples: with_rests((0..200).map(|i| 90 * MIB + (i % 7) * MIB / 2), 40 * MIB, 40 * MIB),
        baseline: Some(COUNTS),
        end: Some(COUNTS),
        cycles: (0..form.cycles).map(cycle).collect(),
        frames: form.frames,
        neighbours: Neighbours { sent: 1000, arrived: 999, restarts: 0 },
        ended_in_order: true,
        ..Evidence::default()
    }
}

fn failed(checks: &[Check]) -> Vec<&'static str> {
    checks.iter().filter(|check| check.failed()).map(|check| check.name).collect()
}

#[test]
fn a_sound_run_passes_and_one_leak_of_any_kind_fails_under_its_name() {
    let form = Form::full();
    assert_eq!(failed(&judge(&form, &sound(&form))), [""; 0]);
    let leaks: [Wrong<Counts>; 9] = [
        ("descriptors", |counts| counts.fds += 1),
        ("threads", |counts| counts.threads += 1),
        ("GStreamer objects", |counts| counts.objects += 1),
        ("pipelines", |counts| counts.pipelines += 1),
        ("frames", |counts| counts.frames += 1),
        ("slots away", |counts| counts.slots_away += 1),
        ("slots", |counts| counts.slots -= 1),
        ("cameras up", |counts| counts.cameras_up -= 1),
        ("child processes", |counts| counts.children += 1),
    ];
    for (name, leak) in leaks {
        let mut evidence = sound(&form);
        leak(evidence.end.as_mut().expect("it is there"));
        assert_eq!(failed(&judge(&form, &evidence)), [name]);
    }
    // A thread of GLib's pool that was there at the baseline and is gone.
    let mut evidence = sound(&form);
    evidence.end.as_mut().expect("it is there").threads -= 1;
    assert_eq!(failed(&judge(&form, &evidence)), [""; 0]);
}

#[test]
fn memory_that_rises_in_the_second_half_fails_and_what_came_before_does_not_matter() {
    let form = Form::full();
    let with = |form: &Form, samples: Vec<Sample>| failed(&judge(form, &Evidence { samples, ..sound(form) }));
    let at_work = |rss: &dyn Fn(u64) -> u64| with(&form, with_rests((0..400).map(rss), 40 * MIB, 40 * MIB));
    assert_eq!(at_work(&|i| 90 * MIB + i * MIB / 60), ["memory at work"], "2.7 MiB from window to window");
    assert_eq!(at_work(&|i| 90 * MIB + i * MIB / 100), [""; 0], "1.6 MiB");
    assert_eq!(at_work(&|i| 90 * MIB + i.min(200) * MIB), [""; 0], "it rose, and rises no more");
    assert_eq!(at_work(&|i| 90 * MIB + (i % 11) * 4 * MIB), [""; 0], "teeth");
    let at_rest = |form: &Form, end| with(form, with_rests((0..400).map(|_| 90 * MIB), 40 * MIB, end));
    assert_eq!(at_rest(&form, 42 * MIB), [""; 0]);
    assert_eq!(at_rest(&form, 42 * MIB + 1), ["memory at rest"]);
    assert_eq!(at_rest(&Form::short(), 48 * MIB), [""; 0]);
    assert_eq!(at_rest(&Form::short(), 48 * MIB + 1), ["memory at rest"]);
    assert_eq!(with(&form, Vec::new()), ["memory at rest", "memory at work"], "no samples, no verdict");
}

#[test]
fn a_run_that_was_too_short_or_too_slow_or_told_a_wrong_story_fails() {
    let form = Form::full();
    let wrong: [Wrong<Evidence>; 10] = [
        ("cycles", |evidence| drop(evidence.cycles.pop())),
        ("every fault", |evidence| {
            evidence
                .cycles
                .iter_mut()
                .filter(|cycle| cycle.fault == "vanish")
                .for_each(|c| c.fault = "close");
        }),
        ("frames", |evidence| evidence.frames -= 1),
        ("noticed in time", |evidence| {
            evidence.cycles.iter_mut().take(11).for_each(|cycle| cycle.noticed_ms = 1501.0);
        }),
        ("recovered in time", |evidence| {
            evidence.cycles.iter_mut().take(11).for_each(|cycle| cycle.recovered_ms = 3001.0);
        }),
        ("neighbours", |evidence| evidence.neighbours.arrived = 989),
        ("no teardown hangs", |evidence| evidence.wedged = 1),
        ("no contradictions", |evidence| evidence.problems.push("two records at once".to_owned())),
        ("no growth reported by the daemon", |evidence| evidence.alarms.push("rss".to_owned())),
        ("ends in order", |evidence| evidence.ended_in_order = false),
    ];
    for (name, change) in wrong {
        let mut evidence = sound(&form);
        change(&mut evidence);
        assert_eq!(failed(&judge(&form, &evidence)), [name]);
    }
    let mut evidence = sound(&form);
    evidence.end = None;
    assert_eq!(failed(&judge(&form, &evidence)), ["counts at rest"]);
    // One in a hundred may be late.
    let mut evidence = sound(&form);
    evidence.cycles.iter_mut().take(10).for_each(|cycle| cycle.noticed_ms = 9000.0);
    assert_eq!(failed(&judge(&form, &evidence)), [""; 0]);
    // On a busy machine times are only reported.
    let form = Form::short();
    let mut evidence = sound(&form);
    evidence.cycles.iter_mut().for_each(|cycle| cycle.noticed_ms = 9000.0);
    let checks = judge(&form, &evidence);
    assert_eq!(failed(&checks), [""; 0]);
    assert!(checks.iter().any(|check| check.name == "noticed in time" && !check.passed));
}

#[test]
fn quantiles_are_values_that_were_measured() {
    let values: Vec<f64> = (1..=100).map(f64::from).rev().collect();
    assert_eq!(
        [0.5, 0.95, 0.99, 1.0].map(|share| quantile(&values, share)),
        [50.0, 95.0, 99.0, 100.0].map(Some)
    );
    assert_eq!(quantile(&[7.0], 0.99), Some(7.0));
    assert_eq!(quantile(&[], 0.5), None);
    let growth_of = |samples: Vec<Sample>| growth(&samples.iter().collect::<Vec<_>>());
    assert_eq!(
        growth_of((0..14).map(|i| sample(0.0, i * MIB + MIB)).collect()),
        None,
        "too few to say anything"
    );
    assert_eq!(growth_of((0..100).map(|i| sample(0.0, i + MIB)).collect()), Some(67.0));
    // More and more cameras, 3 MiB each, and a byte with every tenth sample.
    let busier = |i: u64| {
        let cameras = 9 + i % 3 + i / 100;
        Sample { cameras, ..sample(0.0, cameras * 3 * MIB + i / 10) }
    };
    let grown = growth_of((0..300).map(busier).collect()).expect("enough of each");
    assert!((18.0..=21.0).contains(&grown), "{grown}");
    let others = |i: u64| Sample { cameras: i, ..sample(0.0, MIB) };
    assert_eq!(growth_of((0..300).map(others).collect()), None, "nothing to compare with");
}

#[test]
fn the_plot_shows_every_series_with_its_scale() {
    let samples: Vec<Sample> = (0..5000).map(|i| sample(f64::from(i), 90 * MIB)).collect();
    let picture = svg("a <title> & more", "subtitle", &samples);
    for words in [
        "a &lt;title> &amp; more",
        "Memory (MiB)",
        "RSS, end: 90",
        "PSS, end: 89",
        "File descriptors",
        "Threads",
        "GStreamer objects",
        "Frame slots",
        "Cameras",
        "minutes since the start",
    ] {
        assert!(picture.contains(words), "{words} is missing");
    }
    assert!(!picture.contains("NaN") && !picture.contains("inf"), "every number is one");
    assert!(picture.len() < 200_000, "{} bytes", picture.len());
    // Nothing measured is no reason to panic.
    assert!(svg("nothing", "", &[]).ends_with("</svg>\n"));
}

fn problems_of(lines: &[&str]) -> Vec<String> {
    let story = Story::default();
    story.listen(lines.join("\n").as_bytes());
    story.problems()
}

#[test]
fn contradictions_are_seen_and_a_true_story_is_not_one() {
    let state = |generation: u64, state: &str, reason: &str| {
        format!(
            "{{\"schema\":\"watchpost/1\",\"type\":\"camera_state\",\"camera\":\"gate\",\"generation\":{generation},\"state\":\"{state}\",\"reason\":\"{reason}\"}}"
        )
    };
    let seen = |generation: u64, seq: u64, dropped: u64| {
        format!(
            "{{\"schema\":\"watchpost/1\",\"type\":\"detections\",\"camera\":\"gate\",\"generation\":{generation},\"seq\":{seq},\"dropped_since_last\":{dropped},\"stamp\":{seq}}}"
        )
    };
    let story = [
        state(1, "opening", ""),
        state(1, "streaming", ""),
        seen(1, 1, 0),
        seen(1, 4, 2),
        state(1, "closing", "stalled"),
        state(1, "backing_off", "stalled"),
        state(2, "opening", ""),
        state(2, "streaming", ""),
        seen(2, 5, 0),
        state(2, "closing", "shutdown"),
        state(2, "stopped", "shutdown"),
        state(1, "opening", ""),
        state(1, "streaming", ""),
        seen(1, 1, 0),
    ];
    let lines: Vec<&str> = story.iter().map(String::as_str).collect();
    assert_eq!(problems_of(&lines), [""; 0]);
    let without = |index: usize| {
        let mut lines = lines.clone();
        lines.remove(index);
        problems_of(&lines)
    };
    assert!(without(3)[0].contains("missing"), "a record is missing");
    assert!(without(7)[0].contains("cannot follow") || without(7)[0].contains("does not stream"));
    assert!(without(6)[0].contains("cannot follow"), "an opening is missing");
    assert!(problems_of(&["not JSON"])[0].contains("not JSON"));

    let heard = Story::default();
    heard.watch_closing("gate");
    heard.watch_picture("gate", 5);
    heard.listen(lines.join("\n").as_bytes());
    assert_eq!(heard.closing("gate", Duration::ZERO).expect("it was closed").1, "stalled");
    assert!(heard.picture("gate", Duration::ZERO).is_some());
    assert_eq!((heard.detections(), heard.faults("gate")), (4, 1));
}
