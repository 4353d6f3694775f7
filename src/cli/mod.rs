//! One file per sub-command. A sub-command ends with `Ok(())` (0) or a [`Failure`].

mod annotate;
mod bench;
mod check;
mod common;
mod completions;
mod debug;
mod demo;
mod detect;
mod devices;
mod draft;
pub mod engine;
mod eval;
mod logging;
pub mod model;
mod model_pull;
mod probe;
mod records;
mod run;
mod summary;
mod test_image;

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use logging::LogFormat;
pub use run::{MakeSource, source};

/// Exit codes, after sysexits.h.
pub mod exit {
    /// Wrong use of the command line.
    pub const USAGE: u8 = 64;
    /// An input is missing or cannot be read.
    pub const NO_INPUT: u8 = 66;
    /// A backend or device is unavailable.
    pub const UNAVAILABLE: u8 = 69;
    /// A fault of ours.
    pub const INTERNAL: u8 = 70;
    /// An output could not be written (disk full, file system read-only).
    pub const IO: u8 = 74;
    /// Try again: systemd restarts.
    pub const TRY_AGAIN: u8 = 75;
    /// The configuration is wrong: systemd does not restart.
    pub const CONFIG: u8 = 78;
}

/// Why a sub-command failed: what the user reads, and the exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// One of [`exit`].
    pub code: u8,
    /// What is wrong and what to do; may have several lines.
    pub message: String,
}

impl Failure {
    /// A failure with its exit code.
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

const AFTER_HELP: &str = "\
Begin with `watchpost demo`: it needs no camera. Then write /etc/watchpost/config.toml:

    [detector]
    model = \"yolox-nano\"

    [camera.gate]
    url = \"rtsp://10.0.0.12/stream2\"
    username = \"viewer\"
    password_file = \"/etc/watchpost/gate.password\"

and run `watchpost check`, then `watchpost run | jq`.

Exit codes: 0 fine, 64 usage, 66 input missing, 69 backend or device unavailable, 70 internal,
74 output cannot be written, 75 try again (systemd restarts), 78 configuration (it does not).";

/// Watches cameras, runs one detector over all of them, and publishes what it saw.
#[derive(Debug, Parser)]
#[command(name = "watchpost", version, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Cli {
    /// How the log on stderr is written: for people, as JSON Lines, or with systemd's priority prefixes
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Human)]
    log_format: LogFormat,

    /// Which log lines are written: error, warn, info, debug, trace, or a filter as in `info,watchpost=debug`
    #[arg(long, global = true, env = "WATCHPOST_LOG", value_name = "LEVEL")]
    log_level: Option<String>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The daemon: watch the configured cameras until told to stop (also what systemd starts)
    Run(run::RunArgs),
    /// Validate the configuration; print what it resolves to, the memory budget, and the backend chosen
    Check(check::CheckArgs),
    /// One shot over files, folders of images or URLs: every frame is inferred, JSON Lines out
    Detect(detect::DetectArgs),
    /// Connect to a camera once; print codec, size, rate, decoder, time to the first frame
    Probe(probe::ProbeArgs),
    /// Cameras, decoders and backends of this box, and why the others cannot be used
    Devices(devices::DevicesArgs),
    /// Look into ONNX files, write their manifests, list, show and fetch models
    Model(model::ModelArgs),
    /// Build engines for the GPU, list and explain those that are kept
    Engine(engine::EngineArgs),
    /// COCO's average precision of a model on a folder of images with truth; the gate for engines of lower precision
    Eval(eval::EvalArgs),
    /// How fast a model runs on this box on each backend, and how fast a clip goes through all of it
    Bench(bench::BenchArgs),
    /// A test camera with a scene of known truth, watched by the real daemon: detections and a report
    Demo(demo::DemoArgs),
    /// State of the running daemon: cameras, slots, generations, counters
    Debug(debug::DebugArgs),
    /// Print a completion script for a shell
    #[command(after_help = completions::AFTER_HELP)]
    Completions(completions::CompletionsArgs),
}

/// Parses the arguments, runs the sub-command, says what went wrong.
pub fn main() -> ExitCode {
    main_with(source)
}

/// The same program, whose `run` opens cameras in another way: for tests of what a bad source does to it.
pub fn main_with(source: MakeSource) -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            say(&error);
            // --help and --version are answers, not mistakes.
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { 0 });
        }
    };
    let default_level = match cli.command {
        Command::Run(_) => "info",
        _ => "warn",
    };
    if let Err(failure) = logging::start(cli.log_format, cli.log_level.as_deref(), default_level) {
        return end(Err(failure));
    }
    let ran = catch_unwind(AssertUnwindSafe(|| run(&cli.command, source)));
    end(ran.unwrap_or_else(|_panic| {
        // What the panic said is in the log.
        Err(Failure::new(exit::INTERNAL, "this is a fault of watchpost; please report what it said above"))
    }))
}

/// clap's answer or complaint. A complaint quotes the argument, and that may be a URL with a password.
fn say(error: &clap::Error) {
    if !error.use_stderr() {
        let _nobody_listens = error.print();
        return;
    }
    let text = error.render();
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let text = if is_terminal { text.ansi().to_string() } else { text.to_string() };
    let _nobody_listens = std::io::stderr().write_all(watchpost_pipelines::scrub(&text).as_bytes());
}

fn run(command: &Command, source: MakeSource) -> Result<(), Failure> {
    let stdout = &mut std::io::stdout();
    match command {
        Command::Run(args) => run::run(args, source),
        Command::Check(args) => check::run(args, stdout),
        Command::Detect(args) => detect::run(args),
        Command::Probe(args) => probe::run(args, stdout),
        Command::Devices(args) => devices::run(args, stdout),
        Command::Model(args) => model::run(args, stdout),
        Command::Engine(args) => engine::run(args, stdout),
        Command::Eval(args) => eval::run(args, stdout),
        Command::Bench(args) => bench::run(args, stdout),
        Command::Demo(args) => demo::run(args),
        Command::Debug(args) => debug::run(args, stdout),
        Command::Completions(args) => completions::run(args, stdout),
    }
}

fn end(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, message }) => {
            let message = watchpost_pipelines::scrub(message.trim_end());
            // eprintln! panics where nobody reads stderr any more.
            let _nobody_listens = writeln!(std::io::stderr(), "watchpost: {message}");
            ExitCode::from(code)
        }
    }
}
