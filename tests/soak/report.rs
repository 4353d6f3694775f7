//! What a run found, for people and as JSON.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::Failure;
use super::cycles::Cycle;
use super::form::Form;
use super::judge::{Check, Evidence, quantile};
use super::plot::svg;
use super::readers::Seen;

/// A run and what came of it.
#[derive(Debug)]
pub struct Outcome {
    pub form: Form,
    pub evidence: Evidence,
    pub checks: Vec<Check>,
    pub seconds: f64,
    pub reloads: usize,
    pub readers: Seen,
    /// Of the machine, at the start and at the end: its load average over a minute.
    pub load: (String, String),
    /// The end of the daemon's log.
    pub log: Vec<String>,
}

impl Outcome {
    /// Names of the checks that failed.
    pub fn failures(&self) -> Vec<&'static str> {
        self.checks.iter().filter(|check| check.failed()).map(|check| check.name).collect()
    }

    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| !check.failed())
    }

    /// Every check in one line.
    pub fn table(&self) -> String {
        let mut text =
            format!("{}: {} cycles in {:.0} s\n", self.form.name, self.evidence.cycles.len(), self.seconds);
        for check in &self.checks {
            let word = match (check.passed, check.counts) {
                (true, _) => "ok",
                (false, true) => "FAILED",
                (false, false) => "missed (does not count here)",
            };
            let _infallible = writeln!(text, "  {word:6}  {}: {}", check.name, check.words);
        }
        text
    }

    /// How long noticing and recovering took, by fault.
    pub fn times_table(&self) -> String {
        let mut text = format!(
            "| {:18} | {:>6} | {:>22} | {:>22} |\n| {:18} | {:>6} | {:>6}  {:>6}  {:>6} | {:>6}  {:>6}  {:>6} |\n",
            "fault",
            "cycles",
            "noticed after (s)",
            "recovered after (s)",
            "",
            "",
            "p50",
            "p95",
            "p99",
            "p50",
            "p95",
            "p99"
        );
        for row in self.rows() {
            let seconds = |ms: f64| format!("{:6.2}", ms / 1e3);
            let _infallible = writeln!(
                text,
                "| {:18} | {:>6} | {}  {}  {} | {}  {}  {} |",
                row.fault,
                row.cycles,
                seconds(row.noticed_ms.p50),
                seconds(row.noticed_ms.p95),
                seconds(row.noticed_ms.p99),
                seconds(row.recovered_ms.p50),
                seconds(row.recovered_ms.p95),
                seconds(row.recovered_ms.p99),
            );
        }
        text
    }

    fn rows(&self) -> Vec<Row> {
        let cycles = &self.evidence.cycles;
        let of_faults = self.form.faults.iter().filter_map(|fault| {
            Row::new(fault.name(), cycles.iter().filter(|cycle| cycle.fault == fault.name()))
        });
        of_faults.chain(Row::new("all", cycles.iter())).collect()
    }

    fn json(&self) -> Value {
        let Evidence { samples, baseline, end, frames, neighbours, problems, alarms, .. } = &self.evidence;
        let Seen { connections, lines, lost, .. } = &self.readers;
        let cpu_seconds = samples.last().map_or(0.0, |sample| sample.cpu_seconds);
        json!({
            "form": self.form.name, "passed": self.passed(), "seconds": self.seconds.round(),
            "machine": {
                "cpus": std::thread::available_parallelism().map_or(0, usize::from),
                "load_at_start": self.load.0, "load_at_end": self.load.1,
            },
            "checks": self.checks, "times": self.rows(),
            "at_rest": { "baseline": baseline, "end": end },
            "frames": frames, "cpu_seconds": cpu_seconds, "neighbours": neighbours, "reloads": self.reloads,
            "readers": { "connections": connections, "lines": lines, "lost": lost },
            "problems": problems, "alarms": alarms, "series": samples,
        })
    }

    /// `NAME.json` and `NAME.svg` into `folder`.
    pub fn write(&self, folder: &Path) -> Result<(), Failure> {
        std::fs::create_dir_all(folder)?;
        let name = &self.form.name;
        let json = serde_json::to_string(&self.json()).map_err(|error| Failure(error.to_string()))?;
        std::fs::write(folder.join(format!("{name}.json")), json)?;
        let title =
            format!("watchpost soak, {name} form: {}", if self.passed() { "passed" } else { "FAILED" });
        let subtitle = format!(
            "{} stall/restart cycles, {} frames, {} reloads, {} clients in {:.0} min; grey: everything at once, white: one camera, at rest",
            self.evidence.cycles.len(),
            self.evidence.frames,
            self.reloads,
            self.readers.connections,
            self.seconds / 60.0
        );
        Ok(std::fs::write(
            folder.join(format!("{name}.svg")),
            svg(&title, &subtitle, &self.evidence.samples),
        )?)
    }
}

#[derive(Debug, Serialize)]
struct Quantiles {
    p50: f64,
    p95: f64,
    p99: f64,
    max: f64,
}

#[derive(Debug, Serialize)]
struct Row {
    fault: &'static str,
    cycles: usize,
    noticed_ms: Quantiles,
    recovered_ms: Quantiles,
}

impl Row {
    fn new<'a>(fault: &'static str, cycles: impl Iterator<Item = &'a Cycle>) -> Option<Self> {
        let (noticed, recovered): (Vec<f64>, Vec<f64>) =
            cycles.map(|cycle| (cycle.noticed_ms, cycle.recovered_ms)).unzip();
        let quantiles = |values: &[f64]| {
            let at = |share| quantile(values, share).map(|ms| ms.round());
            Some(Quantiles { p50: at(0.5)?, p95: at(0.95)?, p99: at(0.99)?, max: at(1.0)? })
        };
        let cycles = noticed.len();
        Some(Self { fault, cycles, noticed_ms: quantiles(&noticed)?, recovered_ms: quantiles(&recovered)? })
    }
}

/// The machine's load average over a minute.
pub fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}

/// Minutes and seconds.
pub fn clock_face(time: Duration) -> String {
    format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}
