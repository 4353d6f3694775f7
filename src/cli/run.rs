//! `watchpost run`: arguments -> config -> model -> supervisor -> exit code.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use super::common::{ConfigArg, LoadedModel, load_config, load_model, load_model_saying, start_gstreamer};
use super::{Failure, exit};
use crate::affinity;
use crate::config::{self, CameraOptions, Config, Demands, DetectorOptions, Locator};
use crate::descriptors;
use crate::model::Manifest;
use crate::publish::PublishError;
use crate::source::{GstSource, SceneSource, Source};
use crate::supervisor::{
    self, Control, Detector, ModelTag, Parts, Reloader, Renewed, StartError, Supervisor, Upgrade, Verdict,
};

/// Beyond the time in which the supervisor promises to come to rest.
const LAST_GRACE: Duration = Duration::from_secs(1);

/// Arguments of `watchpost run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Signals: SIGTERM and SIGINT stop in order, a second one at once; SIGHUP reads the configuration again, as does
a change of its files; SIGUSR1 logs the state.

Examples:
    watchpost run -c ./config.toml | jq 'select(.type == \"detections\") | .objects[].label'
    watchpost --log-format systemd run")]
pub struct RunArgs {
    #[command(flatten)]
    config: ConfigArg,
}

/// Makes what a camera's configuration names.
pub type MakeSource = fn(&CameraOptions) -> Arc<dyn Source>;

pub(super) fn run(args: &RunArgs, source: MakeSource) -> Result<(), Failure> {
    descriptors::raise_limit();
    let config = load_config(&args.config.config, Demands::RUN)?.config;
    // Before any thread is started: all begin with what this one has.
    if let Some(cpus) = &config.supervisor.camera_cpus {
        affinity::tell(cpus);
        affinity::confine(cpus).map_err(|error| Failure::new(exit::CONFIG, error.to_string()))?;
    }
    start_gstreamer()?;
    let model = load_model_saying(&config.detector, exit::CONFIG, &mut supervisor::still_starting)?;
    tracing::info!(
        model = model.tag.name,
        backend = model.tag.backend,
        precision = model.tag.precision,
        cameras = config.cameras.len(),
        "watchpost {} starts",
        env!("CARGO_PKG_VERSION")
    );
    let reloader = ConfigReloader { path: args.config.config.clone(), source };
    // Until here there is nothing to bring to rest. From here on there are sockets, whose files must go.
    let signals = catch_signals()?;
    let supervisor = Supervisor::start(parts(config, model, reloader)).map_err(start_failure)?;
    signals.obey(supervisor.control())?;
    let last_resort = last_resort()?;
    outcome(&supervisor.run_telling(|verdict| {
        let _it_has_room = last_resort.try_send(outcome(verdict));
    }))
}

fn outcome(verdict: &Verdict) -> Result<(), Failure> {
    match verdict {
        Verdict::Stopped | Verdict::Ended | Verdict::OutputsClosed => Ok(()),
        Verdict::TryAgain(why) => Err(Failure::new(exit::TRY_AGAIN, why)),
        Verdict::Internal(why) => Err(Failure::new(exit::INTERNAL, why)),
    }
}

/// A thread that ends the process where coming to rest does not end: whatever hangs may hold what the supervisor
/// needs for it. Is told the outcome when that begins; started before, for then there may be no more threads.
fn last_resort() -> Result<Sender<Result<(), Failure>>, Failure> {
    let (ending, ended) = bounded(1);
    let wait = move || {
        let Ok(outcome) = ended.recv() else { return };
        // The second wait is for a process that was stopped during the first.
        for time in [supervisor::END_WITHIN, LAST_GRACE] {
            if !matches!(ended.recv_timeout(time), Err(RecvTimeoutError::Timeout)) {
                return;
            }
        }
        let (code, why) = match outcome {
            Ok(()) => (0, "it was asked to stop".to_owned()),
            Err(Failure { code, message }) => (code, message),
        };
        tracing::error!(
            "{why}; something hangs and keeps this process from coming to rest, so it ends as it is"
        );
        std::process::exit(i32::from(code));
    };
    let failure =
        |error: std::io::Error| Failure::new(exit::TRY_AGAIN, format!("no thread for the end: {error}"));
    std::thread::Builder::new().name("last-resort".to_owned()).spawn(wait).map_err(failure)?;
    Ok(ending)
}

/// Reads the files that `run` was started with.
struct ConfigReloader {
    path: PathBuf,
    source: MakeSource,
}

impl Reloader for ConfigReloader {
    fn fingerprint(&self) -> u64 {
        config::fingerprint(&self.path)
    }

    fn load(&mut self, running: &Config) -> Result<Renewed, String> {
        let words = |failure: Failure| failure.to_string();
        let config = load_config(&self.path, Demands::RUN).map_err(words)?.config;
        if config.supervisor.camera_cpus != running.supervisor.camera_cpus {
            tracing::warn!("camera_cpus counts from the next start on");
        }
        let another = another_engine(&running.detector, &config.detector);
        let model = another.then(|| load_model(&config.detector, exit::CONFIG)).transpose().map_err(words)?;
        let sources = config.cameras.iter().map(self.source).collect();
        let (detector, upgrade) = model.map(detector).unzip();
        Ok(Renewed { config, sources, detector, upgrade: upgrade.flatten() })
    }
}

/// Whether what differs is more than how results are read.
fn another_engine(old: &DetectorOptions, new: &DetectorOptions) -> bool {
    let engine = |options: &DetectorOptions| {
        let where_it_computes = (options.backend, options.provider, options.device);
        let how = (options.mode, options.streams, options.threads, options.cpus);
        (options.model.clone(), where_it_computes, options.precision, how, options.max_batch_size)
    };
    engine(old) != engine(new)
}

/// A model as the supervisor takes it, and the engine that is to take over.
fn detector(model: LoadedModel) -> (Detector, Option<Upgrade>) {
    let LoadedModel { manifest, engine, tag, later, .. } = model;
    let Manifest { input, head, labels, .. } = manifest;
    let upgrade = later.map(|later| {
        let (tag, head, labels) = (tag.clone(), head.clone(), labels.clone());
        let upgrade = move || {
            let engine = later()?;
            let tag = ModelTag { backend: engine.backend(), precision: engine.precision(), ..tag };
            Ok(Detector { engine, tag, input, head, labels })
        };
        Box::new(upgrade) as Upgrade
    });
    (Detector { engine, tag, input, head, labels }, upgrade)
}

/// What a daemon is made of, from a configuration and a loaded model.
fn parts(config: Config, model: LoadedModel, reloader: ConfigReloader) -> Parts {
    let sources = config.cameras.iter().map(reloader.source).collect();
    let gpu = model.gpu.clone();
    let (detector, upgrade) = detector(model);
    Parts { config, sources, detector, gpu, upgrade, reloader: Some(Box::new(reloader)) }
}

/// What every camera is opened with.
pub fn source(camera: &CameraOptions) -> Arc<dyn Source> {
    if let Some(source) = GstSource::new(camera) {
        return Arc::new(source);
    }
    let Locator::Scene { seed, fps, width, height } = camera.locator else {
        unreachable!("every other kind of camera is GStreamer's");
    };
    Arc::new(SceneSource::new(watchpost_scene::SceneOptions { seed, width, height, fps }))
}

pub(super) fn start_failure(error: StartError) -> Failure {
    let code = match &error {
        StartError::Classes(_) => exit::CONFIG,
        StartError::Publish(
            PublishError::SocketInUse { .. } | PublishError::PortInUse { .. } | PublishError::Setup { .. },
        ) => exit::UNAVAILABLE,
        StartError::Publish(_) => exit::CONFIG,
        StartError::System { .. } | StartError::Slots(_) => exit::TRY_AGAIN,
    };
    Failure::new(code, error.to_string())
}

/// Signals that are caught and wait to be obeyed.
struct Caught(Signals);

/// From here on the first of these signals no longer ends the process as it stands.
fn catch_signals() -> Result<Caught, Failure> {
    // The order matters: a second signal finds the flag that the first one set, and ends the process at once.
    let told_once = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        let status = 128 + signal;
        signal_hook::flag::register_conditional_shutdown(signal, status, Arc::clone(&told_once))
            .map_err(no_signals)?;
        signal_hook::flag::register(signal, Arc::clone(&told_once)).map_err(no_signals)?;
    }
    Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1]).map(Caught).map_err(no_signals)
}

impl Caught {
    /// Passes them on, also those that have come meanwhile.
    fn obey(mut self, control: Control) -> Result<(), Failure> {
        let listen = move || {
            let _alarm = control.alarm("signals");
            for signal in self.0.forever() {
                match signal {
                    SIGTERM => control.stop("SIGTERM"),
                    SIGINT => control.stop("SIGINT"),
                    SIGUSR1 => control.log_state(),
                    _ => control.reload(),
                }
            }
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(listen).map_err(no_signals)?;
        Ok(())
    }
}

fn no_signals(error: std::io::Error) -> Failure {
    Failure::new(exit::INTERNAL, format!("signals cannot be handled: {error}"))
}
