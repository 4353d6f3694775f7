//! `watchpost bench`: how fast a model runs on this box, on each backend, and how fast a clip goes through all of it.

use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use watchpost_pipelines::SourceKind;

use super::common::{EngineArgs, LoadedModel, input_failure, load_model, print, print_json, start_gstreamer};
use super::{Failure, exit};
use crate::clock;
use crate::config::DetectorOptions;
use crate::decode::{Decoder, Limits};
use crate::engine::{self, stopwatch::Timing};
use crate::frame::PrivacyMask;
use crate::offline::{self, Choice, Input};

/// Arguments of `watchpost bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without --backend (or with `auto`) every backend of this box is measured, each in a process of its own. A quiet box gives
quiet figures; `per_second` is of one inference at a time.

Examples:
    watchpost bench -m yolox-nano
    watchpost bench -m yolox-nano clip.mp4 --json
    watchpost bench -m gate.onnx --backend openvino --precision fp32 --threads 1

Exit codes: 0 fine, 66 the model or the clip cannot be read, 69 the backend is not there.")]
pub struct BenchArgs {
    /// A clip: every frame of it is decoded, letterboxed and inferred
    #[arg(value_name = "INPUT")]
    input: Option<PathBuf>,

    /// A manifest's name or the path of an .onnx file
    #[arg(short, long, value_name = "MODEL", default_value = "demo")]
    model: String,

    #[command(flatten)]
    engine: EngineArgs,

    /// How long each is measured
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,

    /// Print a JSON list instead of text
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &BenchArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let timings = match args.engine.backend.as_str() {
        "auto" => measure_all(args)?,
        _ => measure(args)?,
    };
    if args.json {
        let value = serde_json::to_value(&timings).unwrap_or_default();
        return print_json(out, &value);
    }
    print(out, &text(&timings))
}

/// Every backend that is there, each in a process of its own: what one library leaves behind is not the next one's.
fn measure_all(args: &BenchArgs) -> Result<Vec<Timing>, Failure> {
    let executable = std::env::current_exe().unwrap_or_else(|_| "watchpost".into());
    let mut timings = Vec::new();
    let mut last = None;
    for backend in engine::backends().iter().filter(|backend| backend.available) {
        let mut command = Command::new(&executable);
        command.args(["--log-level", "error", "bench", "--json", "--backend", backend.name]);
        command.args(["--precision", &args.engine.precision, "--seconds", &args.seconds.to_string()]);
        command.args(["--model", &args.model]);
        command.args(args.engine.threads.map(|threads| format!("--threads={threads}")));
        command.arg("--").args(&args.input);
        let output = command.stdin(Stdio::null()).stderr(Stdio::piped()).output();
        let output = output.map_err(|error| {
            Failure::new(exit::INTERNAL, format!("no process for measuring {}: {error}", backend.name))
        })?;
        if output.status.success() {
            let found: Vec<Timing> = serde_json::from_slice(&output.stdout).unwrap_or_default();
            timings.extend(found);
            continue;
        }
        let words =
            String::from_utf8_lossy(&output.stderr).trim().trim_start_matches("watchpost: ").to_owned();
        tracing::warn!("{}: {words}", backend.name);
        let code = output.status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(exit::INTERNAL);
        last = Some(Failure::new(code, words));
    }
    match last {
        Some(failure) if timings.is_empty() => Err(failure),
        _ => Ok(timings),
    }
}

fn measure(args: &BenchArgs) -> Result<Vec<Timing>, Failure> {
    start_gstreamer()?;
    let options = args.engine.detector(&args.model);
    let mut model = load_model(&options, exit::NO_INPUT)?;
    let threads = engine::threads(&options);
    let duration = Duration::from_secs(args.seconds);
    let failed = |error: engine::EngineError| Failure::new(exit::UNAVAILABLE, error.to_string());
    let mut timings =
        engine::stopwatch::time(model.engine.as_mut(), &model.manifest.input, threads, duration)
            .map_err(failed)?;
    if let Some(path) = &args.input {
        let name = path.display().to_string();
        std::fs::metadata(path).map_err(|error| input_failure(&name, &error))?;
        let spec = watchpost_pipelines::Spec::new(SourceKind::File { path: path.clone() });
        let input = Input { name, spec };
        timings.push(through_all(&input, &options, &mut model, threads, duration)?);
    }
    Ok(timings)
}

/// Every frame of the clip for as long as asked: decoded, letterboxed, inferred, boxes read.
fn through_all(
    input: &Input,
    options: &DetectorOptions,
    model: &mut LoadedModel,
    threads: usize,
    duration: Duration,
) -> Result<Timing, Failure> {
    let manifest = &model.manifest;
    let limits = Limits { score_threshold: options.score_threshold, ..Limits::default() };
    let mut decoder = Decoder::new(&manifest.head, &manifest.input, manifest.labels.len(), limits);
    let choice = Choice { every: 1, max_frames: None, realtime: false, keep_pictures: false, stop: None };
    let mut found = Vec::new();
    let mut times = Vec::new();
    let mut began = None;
    let mut last = clock::now();
    let totals = offline::run(
        std::slice::from_ref(input),
        &manifest.input,
        choice,
        PrivacyMask::default(),
        model.engine.as_mut(),
        &mut |_, outputs, _| {
            let _what_they_are = decoder.decode(outputs, &mut found);
            let now = clock::now();
            // The first frame also pays for opening the clip.
            let began = *began.get_or_insert(now);
            if now > began {
                times.push(now - last);
            }
            last = now;
            now - began < duration
        },
    );
    let totals = totals.map_err(|error| Failure::new(exit::UNAVAILABLE, error.to_string()))?;
    if let Some((name, fault)) = totals.faults.first() {
        return Err(Failure::new(exit::NO_INPUT, format!("{name}: {}", fault.detail)));
    }
    let total = began.map_or(Duration::ZERO, |began| last - began);
    Ok(Timing::new("detect", model.engine.as_ref(), 1, threads, &mut times, total))
}

fn text(timings: &[Timing]) -> String {
    let mut text = format!(
        "{:<10} {:<12} {:<9} {:>5} {:>7} {:>10} {:>8} {:>10} {:>9}\n",
        "WHAT", "BACKEND", "PRECISION", "BATCH", "THREADS", "MEDIAN ms", "P95 ms", "FRAMES/s", "RSS MiB"
    );
    for one in timings {
        // Writing into a String cannot fail.
        let _ = writeln!(
            text,
            "{:<10} {:<12} {:<9} {:>5} {:>7} {:>10.2} {:>8.2} {:>10.1} {:>9.0}",
            one.what,
            one.backend,
            one.precision,
            one.batch,
            one.threads,
            one.median_ms,
            one.p95_ms,
            one.per_second,
            one.max_rss_mib
        );
    }
    text
}
