//! `prove`: runs the checks, each in a process of its own, and writes the report.

mod checks;
mod report;

use std::fs;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use watchpost::clock;
use watchpost_prove::child::{self, Ended};
use watchpost_prove::outcome::{Outcome, Verdict};
use watchpost_prove::settings::Settings;

/// Exit code of a wrong command line, as in sysexits.h.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let settings = match Settings::read() {
        Ok(settings) => settings,
        Err(words) => {
            let is_wrong = words.use_stderr();
            let _nobody_listens = words.print();
            return ExitCode::from(if is_wrong { USAGE } else { 0 });
        }
    };
    if let Some(name) = &settings.child {
        return run_here(name, &settings);
    }
    let unknown = settings.only.iter().find(|name| !checks::ALL.contains(&name.as_str()));
    if let Some(unknown) = unknown {
        eprintln!("prove: there is no check {unknown}; there are {}", checks::ALL.join(", "));
        return ExitCode::from(USAGE);
    }
    match prove(&settings) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("prove: {}: {error}", settings.out.display());
            ExitCode::from(73)
        }
    }
}

/// One check, whose outcome is the last line of stdout.
fn run_here(name: &str, settings: &Settings) -> ExitCode {
    let outcome = Outcome::of(name, |figures| checks::run(name, settings, figures));
    match serde_json::to_string(&outcome) {
        Ok(line) => println!("{line}"),
        Err(error) => eprintln!("prove: {error}"),
    }
    // A context that is lost may hang whoever tidies up.
    ExitCode::SUCCESS
}

/// False where a check failed.
fn prove(settings: &Settings) -> std::io::Result<bool> {
    fs::create_dir_all(&settings.out)?;
    let deadline = clock::now() + settings.time_left();
    let mut outcomes = Vec::new();
    for name in checks::ALL {
        if !settings.only.is_empty() && !settings.only.iter().any(|only| only == name) {
            continue;
        }
        eprintln!("{name} …");
        let outcome = in_child(name, settings, deadline);
        let reason = outcome.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        eprintln!("{name}: {}{reason}", report::word(outcome.result));
        // For the checks after it, and for whoever looks while they run.
        fs::write(settings.out.join(format!("{name}.json")), serde_json::to_string_pretty(&outcome)?)?;
        outcomes.push(outcome);
    }
    let failed = outcomes.iter().any(|outcome| outcome.result == Verdict::Failed);
    report::write(settings, &outcomes)?;
    Ok(!failed)
}

fn in_child(name: &str, settings: &Settings, deadline: Instant) -> Outcome {
    let left = deadline.saturating_duration_since(clock::now());
    if left < Duration::from_secs(1) {
        return Outcome::silent(name, Verdict::Skipped, "no time was left: give more --minutes");
    }
    let program = match name {
        "nvdec" => Ok(settings.program("prove-nvdec")),
        _ => std::env::current_exe(),
    };
    let program = match program {
        Ok(program) if program.is_file() => program,
        Ok(program) => {
            return Outcome::silent(name, Verdict::Skipped, format!("{} is not there", program.display()));
        }
        Err(error) => return Outcome::silent(name, Verdict::Failed, error.to_string()),
    };
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1)).args(["--child", name]);
    command.args(["--seconds-left", &left.as_secs().to_string()]);
    match child::run(&mut command, left) {
        Err(error) => Outcome::silent(name, Verdict::Failed, format!("it does not start: {error}")),
        Ok(ended) => outcome_of(name, &ended),
    }
}

fn outcome_of(name: &str, ended: &Ended) -> Outcome {
    if let Some(missing) = ended.missing_library() {
        return Outcome::silent(name, Verdict::Skipped, missing);
    }
    let said = ended.stdout.lines().last().and_then(|line| serde_json::from_str::<Outcome>(line).ok());
    match (said, ended.status) {
        (Some(outcome), Some(status)) if status.success() => outcome,
        // What it found is worth keeping; that it could not end in order is a failure all the same.
        (Some(outcome), status) => {
            let how = status.map_or("it hung at its end".to_owned(), |status| status.to_string());
            Outcome { result: Verdict::Failed, reason: Some(how), ..outcome }
        }
        (None, None) => Outcome::silent(name, Verdict::Failed, "it did not end in time: give more --minutes"),
        (None, Some(status)) => {
            Outcome::silent(name, Verdict::Failed, format!("{status}: {}", ended.last_words()))
        }
    }
}
