//! PURE: what a run has to show. Controls are judged by the same checks as the daemon that is shipped.

use std::collections::BTreeSet;

use serde::Serialize;

use super::cycles::Cycle;
use super::form::{Form, Times};
use super::series::{Counts, Phase, Sample};

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub passed: bool,
    /// Whether a failure of it is a failure of the run.
    pub counts: bool,
    /// What was found.
    pub words: String,
}

impl Check {
    fn new(name: &'static str, passed: bool, words: String) -> Self {
        Self { name, passed, counts: true, words }
    }

    pub fn failed(&self) -> bool {
        self.counts && !self.passed
    }
}

/// What the run brought to light.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    pub samples: Vec<Sample>,
    pub baseline: Option<Counts>,
    pub end: Option<Counts>,
    pub cycles: Vec<Cycle>,
    /// Records of detections.
    pub frames: u64,
    pub neighbours: Neighbours,
    /// Teardowns that did not return in time.
    pub wedged: u64,
    /// What the daemon said that cannot be true, what of its log should not be there, what readers could not read.
    pub problems: Vec<String>,
    /// Growth that the daemon itself reported.
    pub alarms: Vec<String>,
    /// How it ended.
    pub ended_in_order: bool,
}

/// Cameras that did nothing wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Neighbours {
    pub sent: u64,
    pub arrived: u64,
    pub restarts: u64,
}

impl Neighbours {
    pub fn share(&self) -> f64 {
        if self.sent == 0 { 1.0 } else { self.arrived as f64 / self.sent as f64 }
    }
}

pub fn judge(form: &Form, evidence: &Evidence) -> Vec<Check> {
    let mut checks = held(evidence.baseline.as_ref(), evidence.end.as_ref());
    checks.extend(memory(&evidence.samples, form));
    checks.extend(done(form, evidence));
    checks.extend(times(evidence, form.limits.times));
    checks.push(none("no contradictions", &evidence.problems));
    checks.push(none("no growth reported by the daemon", &evidence.alarms));
    checks.push(Check::new("ends in order", evidence.ended_in_order, "SIGTERM".to_owned()));
    checks
}

/// The daemon at rest holds what it held at rest before. Less of what comes and goes by itself (GLib's pool lets
/// threads go) is no leak; cameras and slots have to be the same.
fn held(baseline: Option<&Counts>, end: Option<&Counts>) -> Vec<Check> {
    let (Some(then), Some(now)) = (baseline, end) else {
        return vec![Check::new("counts at rest", false, "the daemon did not answer".to_owned())];
    };
    Counts::NAMES
        .into_iter()
        .zip(then.values().into_iter().zip(now.values()))
        .map(|(name, (then, now))| {
            let passed = if Counts::is_fixed(name) { now == then } else { now <= then };
            Check::new(name, passed, format!("{then} at the baseline, {now} at the end"))
        })
        .collect()
}

/// Resident memory does not grow over the second half of the work. At rest that is seen sharply, because the daemon
/// does the same before and after, and has given back what it does not need; at work only a long run has enough samples of
/// each number of cameras.
fn memory(samples: &[Sample], form: &Form) -> [Check; 2] {
    let of = |phase| samples.iter().filter(move |sample| sample.phase == phase);
    let rss = |sample: &Sample| sample.rss_bytes as f64;
    let at_rest = |phase| {
        let alone = of(phase).filter(|sample| (sample.cameras_up, sample.pipelines) == (1, 1));
        let alone: Vec<f64> = alone.map(rss).collect();
        quantile(&alone[alone.len() * 2 / 3..], 0.5)
    };
    let work: Vec<&Sample> = of(Phase::Work).collect();
    let rest = at_rest(Phase::Middle).zip(at_rest(Phase::End)).map(|(then, now)| now - then);
    let check = |name, growth: Option<f64>| {
        let Some(growth) = growth else {
            return Check::new(name, false, "there are too few samples".to_owned());
        };
        let limit = form.limits.rss_growth_bytes as f64;
        let mib = f64::from(1 << 20);
        let words =
            format!("{:+.2} MiB over the second half, at most {:.1} are allowed", growth / mib, limit / mib);
        Check::new(name, growth <= limit, words)
    };
    let at_work = Check {
        counts: form.limits.times.is_some(),
        ..check("memory at work", growth(&work[work.len() / 2..]))
    };
    [check("memory at rest", rest), at_work]
}

/// From the first third to the last, each time at the same number of cameras, because those that reloads bring and take
/// weigh more than what is looked for: the differences of the medians, weighted by the samples behind them.
pub fn growth(samples: &[&Sample]) -> Option<f64> {
    const SAMPLES_LEAST: usize = 5;
    let third = samples.len() / 3;
    let (first, last) = (&samples[..third], &samples[samples.len() - third..]);
    let rss = |part: &[&Sample], cameras| -> Vec<f64> {
        part.iter().filter(|sample| sample.cameras == cameras).map(|sample| sample.rss_bytes as f64).collect()
    };
    let (mut sum, mut weight) = (0.0, 0.0);
    for cameras in first.iter().map(|sample| sample.cameras).collect::<BTreeSet<_>>() {
        let (then, now) = (rss(first, cameras), rss(last, cameras));
        let both = then.len().min(now.len());
        if both >= SAMPLES_LEAST {
            sum += both as f64 * (quantile(&now, 0.5)? - quantile(&then, 0.5)?);
            weight += both as f64;
        }
    }
    (weight > 0.0).then(|| sum / weight)
}

/// The value that a share of all values does not exceed (nearest rank).
pub fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

/// The run was long enough, and met everything.
fn done(form: &Form, evidence: &Evidence) -> Vec<Check> {
    let least = (form.cycles / form.faults.len() / 2).max(1);
    let rare: Vec<String> = form
        .faults
        .iter()
        .map(|fault| {
            let count = evidence.cycles.iter().filter(|cycle| cycle.fault == fault.name()).count();
            (fault.name(), count)
        })
        .filter(|(_, count)| *count < least)
        .map(|(name, count)| format!("{name} only {count} times"))
        .collect();
    let cycles = evidence.cycles.len();
    vec![
        Check::new("cycles", cycles >= form.cycles, format!("{cycles} of {}", form.cycles)),
        Check::new(
            "every fault",
            rare.is_empty(),
            if rare.is_empty() {
                format!("{} faults, each at least {least} times", form.faults.len())
            } else {
                rare.join(", ")
            },
        ),
        Check::new(
            "frames",
            evidence.frames >= form.frames,
            format!("{} of {} detected and published", evidence.frames, form.frames),
        ),
    ]
}

/// On a machine that has no time for it nothing is in time: there all of this is only reported.
fn times(evidence: &Evidence, limits: Option<Times>) -> Vec<Check> {
    let Evidence { cycles, neighbours, wedged, .. } = evidence;
    let counts = limits.is_some();
    let limits = limits.or(super::form::Form::full().limits.times).expect("the full form has them");
    let p99 = |of: fn(&Cycle) -> f64| {
        quantile(&cycles.iter().map(of).collect::<Vec<_>>(), 0.99).unwrap_or(f64::INFINITY) / 1e3
    };
    let within = |name, p99: f64, limit: std::time::Duration| Check {
        name,
        passed: p99 <= limit.as_secs_f64(),
        counts,
        words: format!("p99 {p99:.2} s of {} cycles, at most {:.2} s", cycles.len(), limit.as_secs_f64()),
    };
    let Neighbours { sent, arrived, restarts } = *neighbours;
    vec![
        within("noticed in time", p99(|cycle| cycle.noticed_ms), limits.noticed),
        within("recovered in time", p99(|cycle| cycle.recovered_ms), limits.recovered),
        Check {
            name: "neighbours",
            passed: neighbours.share() >= limits.neighbours,
            counts,
            words: format!(
                "{arrived} of {sent} frames ({:.2} %), {restarts} restarts",
                100.0 * neighbours.share()
            ),
        },
        Check { name: "no teardown hangs", passed: *wedged == 0, counts, words: format!("{wedged} did") },
    ]
}

fn none(name: &'static str, found: &[String]) -> Check {
    let words = if found.is_empty() { "none".to_owned() } else { found.join("; ") };
    Check::new(name, found.is_empty(), words)
}
