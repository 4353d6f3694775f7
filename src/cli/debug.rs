//! `watchpost debug`: the state of the running daemon.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::common::{ConfigArg, load_config, print};
use super::{Failure, exit};
use crate::budget::show_bytes;
use crate::config::Demands;
use crate::os_words::plain_words;
use crate::supervisor::{CameraDebug, DebugState};

/// The daemon answers within a second or not at all.
const PATIENCE: Duration = Duration::from_secs(3);
/// A state is far smaller; more than this is not a state.
const STATE_BYTES_MAX: u64 = 4 << 20;

/// Arguments of `watchpost debug`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
    watchpost debug --json | jq '.cameras[] | {name, state, fps}'")]
pub struct DebugArgs {
    /// The daemon's debug socket; without it, the one that the configuration names
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,

    #[command(flatten)]
    config: ConfigArg,

    /// Print the JSON object as it comes
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &DebugArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let socket = socket(args)?;
    let answer = ask(&socket)?;
    if args.json {
        return print(out, &answer);
    }
    let state: DebugState = serde_json::from_str(&answer).map_err(|error| {
        let message =
            format!("{}: what answers there is not this version of watchpost: {error}", socket.display());
        Failure::new(exit::UNAVAILABLE, message)
    })?;
    print(out, &table(&state))
}

/// The socket that was named; else the one that the configuration names; else, of the places where a daemon
/// puts it by itself, the first where there is one: a service's is not in its administrator's environment.
fn socket(args: &DebugArgs) -> Result<PathBuf, Failure> {
    if let Some(socket) = &args.socket {
        return Ok(socket.clone());
    }
    let configured = load_config(&args.config.config, Demands::LOOK).ok();
    let configured = configured.and_then(|loaded| loaded.config.debug_socket);
    let usual = PathBuf::from("/run/watchpost/debug.sock");
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("watchpost/debug.sock"));
    configured.into_iter().chain([usual]).chain(own).find(|path| path.exists()).ok_or_else(|| {
        let message = "no debug socket was found; is watchpost running? --socket PATH names one";
        Failure::new(exit::UNAVAILABLE, message)
    })
}

/// The answer of the daemon behind `socket`.
pub(super) fn ask(socket: &Path) -> Result<String, Failure> {
    let failure = |error: std::io::Error| {
        let message = format!(
            "{}: no running watchpost answers there ({}); start it with `watchpost run`, or name its socket with --socket",
            socket.display(),
            plain_words(&error)
        );
        Failure::new(exit::UNAVAILABLE, message)
    };
    let stream = UnixStream::connect(socket).map_err(failure)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failure)?;
    let mut answer = String::new();
    stream.take(STATE_BYTES_MAX).read_to_string(&mut answer).map_err(failure)?;
    if answer.is_empty() {
        return Err(failure(std::io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(answer)
}

/// Why the camera is where it is, or what is given up of it.
fn reason(camera: &CameraDebug) -> String {
    match (&camera.reason, &camera.shed) {
        (None, Some(level)) => format!("shed: {level}"),
        (reason, _) => reason.clone().unwrap_or_default(),
    }
}

fn table(state: &DebugState) -> String {
    let width = state.cameras.iter().map(|camera| camera.name.len()).max().unwrap_or(6).max(6);
    let mut text = format!(
        "{:width$}  {:12}  {:>4}  {:>6}  {:>10}  {:>6}  reason\n",
        "camera", "state", "gen", "fps", "last frame", "slots"
    );
    for camera in &state.cameras {
        let age = camera.last_frame_age_ms.map_or("never".to_owned(), |ms| format!("{ms} ms"));
        text += &format!(
            "{:width$}  {:12}  {:>4}  {:>6.1}  {age:>10}  {:>2}/{:<3}  {}\n",
            camera.name,
            camera.state,
            camera.generation,
            camera.fps,
            camera.slots.free,
            camera.slots.capacity,
            reason(camera),
        );
    }
    let number = |value: &serde_json::Value, key: &str| value[key].as_u64().unwrap_or(0);
    text += &format!(
        "\nmemory  rss {}, frame pool {}\nhandles {} descriptors, {} threads, {} pipelines, {} slots in flight\n",
        show_bytes(number(&state.memory_bytes, "rss")),
        show_bytes(number(&state.memory_bytes, "pool")),
        number(&state.handles, "fd"),
        number(&state.handles, "thread"),
        number(&state.handles, "pipeline"),
        number(&state.handles, "slot"),
    );
    for growth in state.growth.as_array().into_iter().flatten().filter(|growth| growth["growing"] == true) {
        let (kind, per_hour) =
            (growth["kind"].as_str().unwrap_or(""), growth["per_hour"].as_f64().unwrap_or(0.0));
        let amount = match kind {
            "rss" | "pss" | "gpu" => show_bytes(per_hour.max(0.0) as u64),
            _ => format!("{per_hour:.0}"),
        };
        text += &format!("grows   {kind}: {amount} an hour\n");
    }
    let inference = &state.engine["inference"];
    text += &format!(
        "engine  {} inferences, p50 {:.1} ms, p99 {:.1} ms\n",
        inference["count"],
        inference["p50_seconds"].as_f64().unwrap_or(0.0) * 1e3,
        inference["p99_seconds"].as_f64().unwrap_or(0.0) * 1e3,
    );
    text
}
