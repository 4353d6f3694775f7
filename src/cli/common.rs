//! What several sub-commands do alike: read the configuration, load the model, write to stdout.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use serde_json::json;
use watchpost_cuda::Gpu;
use watchpost_pipelines::{CodecPlan, DecoderPlan};

use super::{Failure, exit};
use crate::config::{self, Auto, Backend, Demands, DetectorOptions, Loaded, Precision};
use crate::engine::{self, Choice, Engine, EngineError, Later};
use crate::model::{self, Manifest};
use crate::os_words::os_words;
use crate::supervisor::ModelTag;

/// `-c FILE`
#[derive(Debug, clap::Args)]
pub struct ConfigArg {
    /// Configuration file; `conf.d/*.toml` beside it and WATCHPOST__… variables are read after it
    #[arg(short, long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    pub config: PathBuf,
}

/// Which engine, for the sub-commands that have no configuration.
#[derive(Debug, clap::Args)]
pub struct EngineArgs {
    /// Which engine: the fastest that this box has, or the one named (`watchpost devices` lists them)
    #[arg(long, default_value = "auto", value_parser = names(&Backend::NAMES))]
    pub backend: String,

    /// In which arithmetic
    #[arg(long, default_value = "auto", value_parser = names(&Precision::NAMES))]
    pub precision: String,

    /// Threads of one inference; one a core by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=64))]
    pub threads: Option<u64>,
}

fn names<T>(table: &[(&'static str, T)]) -> PossibleValuesParser {
    table.iter().map(|(name, _)| *name).collect::<Vec<_>>().into()
}

impl EngineArgs {
    /// A detector with this engine.
    pub fn detector(&self, model: &str) -> DetectorOptions {
        let mut options = DetectorOptions::new(model);
        self.apply(&mut options);
        options
    }

    /// What was asked for, over what a configuration says.
    pub fn apply(&self, options: &mut DetectorOptions) {
        let asked = |text: &str| text != "auto";
        if asked(&self.backend) {
            options.backend = named(&Backend::NAMES, &self.backend).unwrap_or(options.backend);
        }
        if asked(&self.precision) {
            options.precision = named(&Precision::NAMES, &self.precision).unwrap_or(options.precision);
        }
        if let Some(threads) = self.threads {
            options.threads = Auto::Fixed(usize::try_from(threads).unwrap_or(1));
        }
    }
}

fn named<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    table.iter().find(|(one, _)| *one == name).map(|&(_, value)| value)
}

/// Reads the configuration; warnings go to the log.
pub fn load_config(path: &Path, demands: Demands) -> Result<Loaded, Failure> {
    let loaded = config::load_with(path, config::process_environment(), demands)
        .map_err(|errors| Failure::new(exit::CONFIG, errors.to_string()))?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    Ok(loaded)
}

/// Starts GStreamer.
pub fn start_gstreamer() -> Result<(), Failure> {
    watchpost_pipelines::init().map_err(|error| Failure::new(exit::UNAVAILABLE, error.to_string()))
}

/// The decoders of a plan, as reports show them.
pub fn decoders_json(plan: &DecoderPlan) -> serde_json::Value {
    let decoder = |plan: &CodecPlan| {
        json!({
            "codec": plan.codec, "element": plan.element, "hardware": plan.hardware,
            "memory": plan.memory.name(), "why": plan.why,
        })
    };
    plan.codecs.iter().map(decoder).collect()
}

/// A model that is found and verified, and its engine.
pub struct LoadedModel {
    /// Its manifest.
    pub manifest: Manifest,
    /// Loaded once.
    pub engine: Box<dyn Engine>,
    /// As records name it.
    pub tag: ModelTag,
    /// Makes the engine that `auto` would rather have.
    pub later: Option<Later>,
    /// What that engine will run on.
    pub gpu: Option<Gpu>,
}

/// Finds the model's manifest. In a configuration a wrong model is a wrong configuration: `code` says which.
pub fn find_model(name: &str, code: u8) -> Result<Manifest, Failure> {
    let manifest =
        model::find(name, &model::search_dirs()).map_err(|error| Failure::new(code, error.to_string()))?;
    if !manifest.notes.is_empty() {
        let model = &manifest.name;
        tracing::warn!(
            model,
            "no manifest: its recipe was concluded from the file; `watchpost model add` shows and keeps it"
        );
    }
    for note in &manifest.notes {
        tracing::info!(model = manifest.name, "{note}");
    }
    Ok(manifest)
}

/// Finds and loads the model on the backend that was asked for.
pub fn load_model(options: &DetectorOptions, code: u8) -> Result<LoadedModel, Failure> {
    let mut last = String::new();
    load_model_saying(options, code, &mut |line| {
        if line != last {
            tracing::info!("{line}");
            line.clone_into(&mut last);
        }
    })
}

/// As [`load_model`]; `say` is told about every five seconds what takes long.
pub fn load_model_saying(
    options: &DetectorOptions,
    code: u8,
    say: &mut dyn FnMut(&str),
) -> Result<LoadedModel, Failure> {
    let manifest = find_model(&options.model, code)?;
    let Choice { engine, later, gpu } = engine::load(options, &manifest, say).map_err(|error| {
        let unavailable = matches!(error, EngineError::Unavailable { .. } | EngineError::Precision { .. });
        let code = match error {
            EngineError::Affinity(_) => exit::CONFIG,
            _ if unavailable => exit::UNAVAILABLE,
            _ => code,
        };
        Failure::new(code, error.to_string())
    })?;
    let tag = ModelTag {
        name: manifest.name.clone(),
        sha256: manifest.short_sha256().to_owned(),
        backend: engine.backend(),
        precision: engine.precision(),
    };
    Ok(LoadedModel { manifest, engine, tag, later, gpu })
}

/// An input that cannot be opened, in words.
pub fn input_failure(name: &str, error: &io::Error) -> Failure {
    Failure::new(exit::NO_INPUT, format!("{name}: {}", os_words(error)))
}

/// An output that cannot be written, in words. A closed pipe has code 0: its reader has seen enough.
pub fn output_failure(name: &str, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::new(0, "the reader of the output has gone"),
        io::ErrorKind::StorageFull => Failure::new(
            exit::IO,
            format!("{name} cannot be written: the disk is full; make room and try again"),
        ),
        io::ErrorKind::NotFound => Failure::new(
            exit::IO,
            format!(
                "{name} cannot be written: its folder does not exist; create it, or choose another place"
            ),
        ),
        _ => Failure::new(exit::IO, format!("{name} cannot be written: {}", os_words(error))),
    }
}

/// `watchpost … | head` ends without a complaint.
pub fn quiet_if_closed(failure: Failure) -> Result<(), Failure> {
    if failure.code == 0 { Ok(()) } else { Err(failure) }
}

/// Writes a text to stdout.
pub fn print(out: &mut dyn Write, text: &str) -> Result<(), Failure> {
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| output_failure("stdout", &error)).or_else(quiet_if_closed)
}

/// Writes a JSON value, indented, to stdout.
pub fn print_json(out: &mut dyn Write, value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| {
        Failure::new(exit::INTERNAL, format!("the report cannot be written as JSON: {error}"))
    })?;
    print(out, &format!("{text}\n"))
}
