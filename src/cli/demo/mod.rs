//! `watchpost demo`: the real daemon over real RTSP, and a truth to hold it against.
//!
//! ```text
//!   watchpost-testcam ──RTSP──► watchpost run ──stdout──► here: match with the scene's truth, report
//!        └── frame log: when picture N was handed to its encoder ──► here: latency from picture to record
//! ```

mod children;
mod report;

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::common::{output_failure, quiet_if_closed};
use super::draft::Draft;
use super::{Failure, debug, exit};
use crate::clock;
use crate::config::parse_duration;
use crate::supervisor::DebugState;
use children::{Camera, Daemon, Folder};
use report::{Report, Witness};

/// The scene that is watched. The demo model was trained on others (its manifest names them).
const SEED: u64 = 20_261_121;
const WIDTH: u32 = 640;
const HEIGHT: u32 = 360;
/// A child that has not come up by then will not.
const START_WITHIN: Duration = Duration::from_secs(15);

/// Arguments of `watchpost demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Starts a test camera on loopback, watches it with the daemon, prints the daemon's records on
stdout and a report on stderr. Needs no camera and no network.

Examples:
    watchpost demo
    watchpost demo --duration 60s --report report.json > records.jsonl")]
pub struct DemoArgs {
    /// How long to watch
    #[arg(long, default_value = "20s", value_name = "DURATION")]
    duration: String,

    /// Write the report as JSON to this file
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// Frames a second of the test camera
    #[arg(long, default_value_t = 15, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=60))]
    fps: u32,

    /// How the test camera encodes
    #[arg(long, default_value = "h264", value_parser = ["h264", "h265", "mjpeg"])]
    codec: String,

    /// Which scene is watched
    #[arg(long, default_value_t = SEED)]
    seed: u64,
}

pub(super) fn run(args: &DemoArgs) -> Result<(), Failure> {
    let duration: Duration = parse_duration(&args.duration)
        .map_err(|error| Failure::new(exit::USAGE, format!("--duration: {error}")))?;
    // Begun before the work: it should not end with a report that has no place.
    let draft =
        args.report.as_deref().map(|path| Draft::begin(path).map_err(unwritable(path))).transpose()?;
    let folder = Folder::new()?;
    let camera = Camera::start(&folder, args)?;
    let daemon = Daemon::start(&folder, &camera.url)?;
    let scene =
        watchpost_scene::SceneOptions { seed: args.seed, width: WIDTH, height: HEIGHT, fps: args.fps };
    let mut witness = Witness::new(scene);
    let state = watch(&daemon, &mut witness, duration)?;
    daemon.stop()?;
    let frame_log = folder.path("frames.log");
    camera.stop();
    let log = std::fs::read_to_string(&frame_log).unwrap_or_default();
    let report = Report::new(&witness, &log, &state, duration);
    eprint!("{}", report.table());
    if let Some((path, mut draft)) = args.report.as_deref().zip(draft) {
        let text = serde_json::to_string_pretty(&report).map_err(|error| {
            Failure::new(exit::INTERNAL, format!("the report cannot be written: {error}"))
        })?;
        let written = draft.write_all((text + "\n").as_bytes()).and_then(|()| draft.finish());
        written.map_err(unwritable(path))?;
    }
    if witness.frames() == 0 {
        let message = "no frame was detected; run with --log-level info to see the daemon's story";
        return Err(Failure::new(exit::INTERNAL, message));
    }
    Ok(())
}

fn unwritable(path: &Path) -> impl Fn(std::io::Error) -> Failure {
    move |error| output_failure(&path.display().to_string(), &error)
}

/// Passes the daemon's records on and takes note of them; asks for its state at the end.
fn watch(daemon: &Daemon, witness: &mut Witness, duration: Duration) -> Result<DebugState, Failure> {
    let mut out = std::io::stdout().lock();
    let mut deadline = clock::now() + START_WITHIN;
    let mut watching_since: Option<Instant> = None;
    loop {
        let now = clock::now();
        if now >= deadline {
            break;
        }
        if let Some(line) = daemon.line_before(deadline.min(now + Duration::from_millis(250)))? {
            let read_unix_ns = clock::unix_ns();
            if let Err(error) = out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
                quiet_if_closed(output_failure("stdout", &error))?;
            }
            let is_frame = witness.read(&line, read_unix_ns);
            if is_frame && watching_since.is_none() {
                watching_since = Some(clock::now());
                deadline = clock::now() + duration;
            }
        }
        let warm = watching_since.is_some_and(|since| now.saturating_duration_since(since) >= duration / 4);
        witness.rss(daemon.rss_bytes(), warm);
    }
    let answer = debug::ask(&daemon.debug_socket)?;
    serde_json::from_str(&answer)
        .map_err(|error| Failure::new(exit::INTERNAL, format!("the daemon's state cannot be read: {error}")))
}

/// Reads lines until the stream ends, each with its newline; longer ones than a record can be are cut.
fn lines(stream: impl std::io::Read) -> impl Iterator<Item = String> {
    let mut reader = std::io::BufReader::new(stream);
    std::iter::from_fn(move || {
        let mut line = String::new();
        match reader.read_line(&mut line) {
            Ok(1..) => Some(line),
            _ => None,
        }
    })
}
