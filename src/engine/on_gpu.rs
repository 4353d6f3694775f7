//! From a configuration to an engine on the GPU: out of the cache, or built by a child process.
//!
//! Building runs the vendor's compiler for minutes, takes gigabytes, and may crash on a model. All of that stays in a
//! process of its own, `watchpost engine build`, which puts the engine into the cache and ends.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use watchpost_cuda::Gpu;

use super::cache::{BatchRequest, Cache, EngineKey, PlanPrecision};
use super::tensorrt::{BACKEND, TensorRt, TensorRtEngine};
use super::tensorrt_build::{self, BuildError, BuildRequest};
use super::{Engine, EngineError};
use crate::config::{Auto, DetectorOptions, Precision};
use crate::model::{self, Manifest};
use crate::os_words::os_words;

/// Somebody waits for a sign of life: a line is repeated this often.
const SAY_EVERY: Duration = Duration::from_secs(5);
/// What a compiler needs of our environment begins like this. Passwords of cameras may be in any other variable, and
/// every process of our user can read a child's environment for minutes.
const PASSED_ON: [&str; 20] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_",
    "TZ",
    "TMPDIR",
    "XDG_",
    "LD_",
    "CUDA",
    "NVIDIA",
    "NV_",
    "TRT",
    "TENSORRT",
    "STATE_DIRECTORY",
    "CACHE_DIRECTORY",
    "RUST_",
    "LLVM_PROFILE_",
    "WATCHPOST_",
];
/// Settings, which may be URLs with passwords in them.
const SETTINGS: &str = "WATCHPOST__";
/// Lines of the child that are kept for the error that it may end with.
const LAST_LINES: usize = 20;

/// What there is now.
pub(super) enum OnGpu {
    /// It was in the cache.
    Ready(Box<TensorRtEngine>),
    /// It has to be built.
    ToBuild(Box<ToBuild>),
}

/// An engine that is not there yet.
pub(super) struct ToBuild {
    tensorrt: TensorRt,
    cache: Cache,
    key: EngineKey,
    options: DetectorOptions,
    manifest: Manifest,
}

/// Looks for the engine in the cache.
///
/// # Errors
/// [`EngineError::Unavailable`] without TensorRT or a GPU, [`EngineError::Precision`], [`EngineError::Model`].
pub(super) fn load(options: &DetectorOptions, manifest: &Manifest) -> Result<OnGpu, EngineError> {
    let tensorrt = TensorRt::open()?;
    let key = key(&tensorrt, options, manifest)?;
    let cache = Cache::open(options.engine_cache_limit_bytes);
    match cache.get_fitting(&key) {
        Ok((key, cached)) => {
            tracing::info!(engine = key.stem(), "the engine is in the cache");
            Ok(OnGpu::Ready(Box::new(tensorrt.load(manifest, cached, &key)?)))
        }
        Err(miss) => {
            tracing::info!(engine = key.stem(), "no engine in the cache: {miss}");
            let (options, manifest) = (options.clone(), manifest.clone());
            Ok(OnGpu::ToBuild(Box::new(ToBuild { tensorrt, cache, key, options, manifest })))
        }
    }
}

/// One line on what `backend = "tensorrt"` or `auto` would do now with this model, for `check`; `None` without TensorRT.
pub fn expectation(options: &DetectorOptions, manifest: &Manifest) -> Option<String> {
    let tensorrt = TensorRt::open().ok()?;
    let line = match key(&tensorrt, options, manifest) {
        Err(error) => error.to_string(),
        Ok(key) => match Cache::open(options.engine_cache_limit_bytes).get_fitting(&key) {
            Ok((key, cached)) => {
                format!(
                    "engine {} is in the cache, batches of at most {}",
                    key.stem(),
                    cached.facts.max_batch
                )
            }
            Err(miss) => format!(
                "engine {} has to be built at the start, which takes minutes ({miss}); `watchpost engine build {}` \
                 does it now",
                key.stem(),
                options.model
            ),
        },
    };
    Some(line)
}

fn key(
    tensorrt: &TensorRt,
    options: &DetectorOptions,
    manifest: &Manifest,
) -> Result<EngineKey, EngineError> {
    let refuse = |error: BuildError| match error {
        BuildError::Unavailable(reason) => {
            EngineError::Precision { backend: BACKEND, precision: options.precision.as_str(), reason }
        }
        other => EngineError::Model { path: manifest.source.to_string(), reason: other.to_string() },
    };
    let facts = model::verify(manifest).map_err(|error| EngineError::Model {
        path: manifest.source.to_string(),
        reason: error.to_string(),
    })?;
    let batch = match tensorrt_build::batch_for(&facts, options.max_batch_size) {
        Ok(batch) => batch,
        // More than the model takes was asked for: here that is a limit, not a demand.
        Err(BuildError::Request(_)) => BatchRequest::Upto(1),
        Err(error) => return Err(refuse(error)),
    };
    let precision = match options.precision {
        Precision::Auto => None,
        Precision::Fp32 => Some(PlanPrecision::Fp32),
        Precision::Fp16 => Some(PlanPrecision::Fp16),
        Precision::Bf16 => Some(PlanPrecision::Bf16),
        Precision::Int8 => Some(PlanPrecision::Int8),
    };
    let request = BuildRequest {
        precision,
        batch,
        sparse: false,
        dla_core: None,
        timing_cache: None,
        calibration: None,
    };
    tensorrt_build::key(tensorrt, manifest, &request).map_err(refuse)
}

impl ToBuild {
    /// What it will run on.
    pub(super) fn gpu(&self) -> &Gpu {
        self.tensorrt.gpu()
    }

    /// Has it built, and loads it.
    ///
    /// # Errors
    /// [`EngineError`] with the builder's words.
    pub(super) fn run(self: Box<Self>, say: &mut dyn FnMut(&str)) -> Result<TensorRtEngine, EngineError> {
        let Self { tensorrt, cache, key, options, manifest } = *self;
        tracing::info!(engine = key.stem(), "building the engine; this takes minutes");
        let refuse = |reason: String| EngineError::Unavailable { backend: BACKEND, reason };
        let child = command(&options, key.batch).spawn();
        let child =
            child.map_err(|error| refuse(format!("no engine could be built: {}", os_words(&error))))?;
        watch(Builder(child), say).map_err(|words| refuse(format!("no engine could be built: {words}")))?;
        let cached = cache
            .get(&key)
            .map_err(|miss| refuse(format!("the engine was built and is not in the cache: {miss}")))?;
        let engine = tensorrt.load(&manifest, cached, &key)?;
        tracing::info!(engine = key.stem(), max_batch = engine.max_batch(), "the engine is built");
        Ok(engine)
    }
}

fn command(options: &DetectorOptions, batch: BatchRequest) -> Command {
    let executable = std::env::current_exe().unwrap_or_else(|_| "watchpost".into());
    let mut command = Command::new(executable);
    command.args(["engine", "build", "--background", "--precision", options.precision.as_str()]);
    let batch = match batch {
        BatchRequest::Upto(most) => most.to_string(),
        BatchRequest::Auto { .. } => Auto::<usize>::Auto.to_string(),
    };
    command.args(["--max-batch", &batch]);
    command.args(["--cache-limit", &format!("{}B", options.engine_cache_limit_bytes), "--", &options.model]);
    let is_passed_on = |name: &OsStr| {
        let name = name.to_string_lossy();
        PASSED_ON.iter().any(|begin| name.starts_with(begin)) && !name.starts_with(SETTINGS)
    };
    command.env_clear().envs(std::env::vars_os().filter(|(name, _)| is_passed_on(name)));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// The builder's process. It ends with this value: nobody else would wait for it.
struct Builder(Child);

impl Drop for Builder {
    fn drop(&mut self) {
        let _already_ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Waits for the child's end and passes its lines on.
fn watch(mut builder: Builder, say: &mut dyn FnMut(&str)) -> Result<(), String> {
    let lines = lines(&mut builder.0)?;
    let mut last: Vec<String> = Vec::with_capacity(LAST_LINES);
    loop {
        match lines.recv_timeout(SAY_EVERY) {
            Ok(line) => {
                say(&line);
                if last.len() == LAST_LINES {
                    last.remove(0);
                }
                last.push(line);
            }
            Err(RecvTimeoutError::Timeout) => say(last.last().map_or("building", String::as_str)),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let status = builder.0.wait().map_err(|error| os_words(&error))?;
    if status.success() {
        return Ok(());
    }
    let words = last.iter().rev().find(|line| !line.trim().is_empty());
    Err(words
        .map_or_else(|| format!("the builder ended with {status}"), |words| format!("{words} ({status})")))
}

fn lines(child: &mut Child) -> Result<Receiver<String>, String> {
    let stderr = child.stderr.take().ok_or("the builder's messages cannot be read")?;
    let (sender, lines) = bounded(64);
    let read = move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    };
    match std::thread::Builder::new().name("engine-words".to_owned()).spawn(read) {
        Ok(_reads_until_the_child_ends) => Ok(lines),
        Err(error) => Err(os_words(&error)),
    }
}
