//! `make soak`, and its short form among the tests: the real daemon, real cameras with every fault they know,
//! reloads, bad readers, all at once. It has to come out of it with what it went in with, and the same check has
//! to find every leak in daemons that leak on purpose.
//!
//! Without arguments: the short form, then the controls. `full`: the full form; `controls`, `short`: one half of
//! the short form. Reports are written into `$SOAK_REPORT`, or `target/soak`.

pub(crate) mod churn;
pub(crate) mod cycles;
pub(crate) mod daemon;
pub(crate) mod form;
pub(crate) mod judge;
pub(crate) mod leak;
pub(crate) mod plot;
pub(crate) mod readers;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod series;
pub(crate) mod stage;
pub(crate) mod story;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use form::Form;
use leak::Leak;

/// What stopped a run before there was a verdict.
#[derive(Debug)]
pub(crate) struct Failure(pub String);

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// The one place where this program waits for nothing in particular.
pub(crate) fn pause(time: Duration) {
    let _timed_out = crossbeam_channel::never::<()>().recv_timeout(time);
}

/// Numbers that are the same in every run (Marsaglia's xorshift64).
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        dice.below(2);
        dice
    }

    /// 0 to `count` - 1.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % count.max(1) as u64) as usize
    }

    /// Milliseconds from `least` to `most`.
    pub(crate) fn between(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.below((most - least + 1) as usize) as u64)
    }
}

fn main() -> ExitCode {
    // As the daemon under test, with a leak.
    if std::env::var_os(leak::VARIABLE).is_some() {
        return watchpost::cli::main_with(leak::source);
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--list") {
        return ExitCode::SUCCESS;
    }
    let word = words.iter().find(|word| !word.starts_with('-')).map_or("all", String::as_str);
    let result = match word {
        "full" => healthy(&Form::full()),
        "short" => healthy(&Form::short()),
        "controls" => controls(),
        // `cargo test NAME` calls every test program.
        other if other != "all" && !"soak".contains(other) => return ExitCode::SUCCESS,
        _ => healthy(&Form::short()).and_then(|()| controls()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(words)) => {
            eprintln!("soak: {words}");
            ExitCode::FAILURE
        }
    }
}

fn report_folder() -> PathBuf {
    let target = || PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("soak");
    std::env::var_os("SOAK_REPORT").map_or_else(target, PathBuf::from)
}

/// The daemon as it is shipped has to pass.
fn healthy(form: &Form) -> Result<(), Failure> {
    println!("soak, {} form: {} cycles, {} frames", form.name, form.cycles, form.frames);
    let outcome = run::run(form)?;
    outcome.write(&report_folder())?;
    println!("{}\n{}", outcome.times_table(), outcome.table());
    println!("report and plot: {}/{}.json, .svg", report_folder().display(), form.name);
    match outcome.passed() {
        true => Ok(()),
        false => Err(Failure(format!(
            "the {} form failed: {}; the daemon's log ends with\n{}",
            form.name,
            outcome.failures().join(", "),
            outcome.log.join("\n")
        ))),
    }
}

/// Every leak has to be found by the same check, and called by its name.
fn controls() -> Result<(), Failure> {
    let outcomes = std::thread::scope(|scope| {
        let runs = Leak::ALL.map(|leak| (leak, scope.spawn(move || run::run(&Form::control(leak)))));
        runs.map(|(leak, run)| (leak, run.join().unwrap_or_else(|_| Err(Failure("it panicked".to_owned())))))
    });
    for (leak, outcome) in outcomes {
        let outcome = outcome?;
        outcome.write(&report_folder())?;
        let found = outcome.failures();
        println!(
            "control: a {} leaked in every opening: the check fails for {}",
            leak.name(),
            found.join(", ")
        );
        if !found.contains(&leak.found_as()) {
            let words = format!("a leaked {} was not found\n{}", leak.name(), outcome.table());
            return Err(Failure(words));
        }
    }
    Ok(())
}
