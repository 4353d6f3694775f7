//! The report: which machine, what was found, and whether it proves anything.

use std::fmt::Write as _;
use std::fs;
use std::io;

use serde_json::{Value, json};
use watchpost_prove::outcome::{Outcome, Verdict};
use watchpost_prove::settings::Settings;

/// How the stand-in's device is called, whatever its settings say.
const STANDIN: &str = "watchpost stand-in";

/// A verdict as the report spells it.
pub fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Failed => "FAILED",
        Verdict::Skipped => "skipped",
    }
}

/// Why these outcomes prove nothing, if they do not.
fn doubt(settings: &Settings, outcomes: &[Outcome], gpu: &str) -> Option<String> {
    if gpu.contains(STANDIN) || std::env::vars_os().any(|(name, _)| name == "WATCHPOST_STANDIN") {
        return Some("it was made on the stand-in libraries, and no GPU took part".to_owned());
    }
    if gpu.is_empty() {
        return Some("the machine check found no GPU, or was left out".to_owned());
    }
    if settings.control {
        return Some("each check was broken on purpose (--control)".to_owned());
    }
    if outcomes.iter().any(|outcome| outcome.result == Verdict::Failed) {
        return Some("a check failed".to_owned());
    }
    let passed = |outcome: &Outcome| outcome.check != "machine" && outcome.result == Verdict::Passed;
    (!outcomes.iter().any(passed)).then(|| "no check passed".to_owned())
}

/// Writes `report.json` and `report.md`.
///
/// # Errors
/// What the system says.
pub fn write(settings: &Settings, outcomes: &[Outcome]) -> io::Result<()> {
    let machine = outcomes.iter().find(|outcome| outcome.check == "machine");
    let machine = machine.map(|outcome| Value::from(outcome.figures.clone())).unwrap_or_default();
    let gpu = machine["gpu"].as_str().unwrap_or_default().to_owned();
    let doubt = doubt(settings, outcomes, &gpu);
    let commit = option_env!("WATCHPOST_COMMIT")
        .filter(|id| !id.is_empty())
        .or(settings.commit.as_deref())
        .unwrap_or("unknown");
    let date = jiff::Timestamp::try_from(watchpost::clock::wall()).unwrap_or_default();
    let report = json!({
        "schema": "watchpost/prove/1",
        "proves": doubt.is_none(),
        "why_not": doubt,
        "gpu": gpu,
        "driver": machine["driver"],
        "commit": commit,
        "version": env!("CARGO_PKG_VERSION"),
        "build": if cfg!(debug_assertions) { "debug" } else { "release" },
        "date": format!("{date:.0}"),
        "quick": settings.quick,
        "checks": outcomes,
    });
    fs::write(settings.out.join("report.json"), format!("{report:#}\n"))?;
    fs::write(settings.out.join("report.md"), text(&report, outcomes))?;
    if let Some(doubt) = &doubt {
        eprintln!("THIS REPORT PROVES NOTHING: {doubt}.");
    }
    eprintln!("the report is in {}", settings.out.display());
    Ok(())
}

fn text(report: &Value, outcomes: &[Outcome]) -> String {
    let said = |key: &str| report[key].as_str().unwrap_or("unknown").to_owned();
    let mut text = String::from("# What a GPU proved\n\n");
    if let Some(doubt) = report["why_not"].as_str() {
        let _ = write!(text, "**THIS REPORT PROVES NOTHING: {doubt}.**\n\n");
    }
    let _ = write!(
        text,
        "GPU: {}. Driver: {}. Commit: {} ({} build). Date: {}.\n\n| check | result | |\n|---|---|---|\n",
        said("gpu"),
        said("driver"),
        said("commit"),
        said("build"),
        said("date"),
    );
    for outcome in outcomes {
        let reason = outcome.reason.as_deref().unwrap_or_default().replace('|', "\\|").replace('\n', " ");
        let _ = writeln!(text, "| {} | {} | {reason} |", outcome.check, word(outcome.result));
    }
    for outcome in outcomes.iter().filter(|outcome| !outcome.figures.is_empty()) {
        let _ = write!(text, "\n## {}\n\n| figure | value |\n|---|---|\n", outcome.check);
        for (name, value) in &outcome.figures {
            rows(&mut text, name, value);
        }
    }
    text
}

/// One row a value; what is nested gets a dotted name.
fn rows(text: &mut String, name: &str, value: &Value) {
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(key, value)| rows(text, &format!("{name}.{key}"), value));
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            items.iter().enumerate().for_each(|(index, value)| rows(text, &format!("{name}.{index}"), value));
        }
        other => {
            let shown = other.as_str().map_or_else(|| other.to_string(), str::to_owned);
            let _ = writeln!(text, "| {name} | {} |", shown.replace('|', "\\|").replace('\n', " "));
        }
    }
}
