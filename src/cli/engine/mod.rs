//! `watchpost engine build | list | inspect`: engines for the GPU, built once and kept.

mod build;
mod quantize;
mod show;

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Failure, exit};
use crate::config::{Auto, ENGINE_CACHE_LIMIT_BYTES, parse_size};
use crate::engine::cache::{Cache, CacheError, PlanPrecision};
use crate::engine::tensorrt_build::{self, BuildError};

/// Build, list and explain engines.
#[derive(Debug, Args)]
#[command(after_help = "\
TensorRT runs engines, which are built from a model for one GPU and one version of the library. Building
takes minutes, so engines are kept in $CACHE_DIRECTORY, or ~/.cache/watchpost, below engines/. The daemon
builds what it misses by itself; to have it ready before:

    watchpost engine build yolox-nano
    watchpost engine list
    watchpost engine inspect 5f1c")]
pub struct EngineArgs {
    #[command(subcommand)]
    command: EngineCommand,
}

#[derive(Debug, Subcommand)]
enum EngineCommand {
    /// Build an engine from a model, unless it is in the cache
    Build(BuildArgs),
    /// List the engines in the cache, the one used last in front
    #[command(after_help = "\
Example:
    watchpost engine list --json | jq '.engines[] | {key, model, bytes}'")]
    List {
        /// Print a JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Verify one engine and explain it: what it was built from, for what, and what was measured
    #[command(after_help = "\
Examples:
    watchpost engine inspect 5f1c0a37
    watchpost engine inspect /var/cache/watchpost/engines/NAME.engine --json | jq '.probe'")]
    Inspect {
        /// An engine's file, or the beginning of its key as `engine list` shows it
        #[arg(value_name = "FILE|KEY")]
        engine: PathBuf,
        /// Print a JSON object instead of text
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
    watchpost engine build yolox-nano
    watchpost engine build yolov8n.onnx --max-batch 16 --timing-cache /var/tmp/timing.cache
    # INT8, with some hundred pictures of your own cameras
    watchpost engine build yolov8n.onnx --precision int8 --int8-calibration pictures/
    # An INT8 model for the CPU, by the tool of the Python packages onnxruntime and onnx, kept if it sees nearly as much:
    # the pictures need labels, as for `watchpost eval`
    WATCHPOST_PYTHON=venv/bin/python watchpost engine build yolov8n.onnx --backend cpu \\
        --precision int8 --calibration pictures/images
    # On the first accelerator of a Jetson
    watchpost engine build yolov8n.onnx --dla 0

Exit codes: 64 contradicting options, 66 model, pictures or labels cannot be read, 69 no TensorRT, no GPU, or one that
cannot compute like this, no Python with the packages, or an INT8 model that sees too little, 70 the builder failed,
74 the engine cannot be kept.")]
pub(super) struct BuildArgs {
    /// An ONNX file, or a name from `model list`
    #[arg(value_name = "MODEL")]
    model: String,
    /// Arithmetic: auto is fp16, or what the library takes as it is
    #[arg(long, default_value = "auto", value_parser = ["auto", "fp16", "fp32", "bf16", "int8"])]
    precision: String,
    /// Most frames in one inference, or auto: measured on this GPU
    #[arg(long, default_value = "auto", value_name = "N|auto", value_parser = parse_batch)]
    max_batch: AutoBatch,
    /// What is built for: TensorRT makes an engine; for the CPU's backends an INT8 model is made; auto is TensorRT where it is
    #[arg(long, default_value = "auto", value_parser = ["auto", "tensorrt", "cpu"])]
    backend: String,
    /// Folder of pictures that an INT8 engine or model takes its ranges from
    #[arg(long, visible_alias = "calibration", value_name = "DIR")]
    int8_calibration: Option<PathBuf>,
    /// For the CPU: folder of the pictures' truth, as `watchpost eval` reads it [default: as `eval` looks for it]
    #[arg(long, value_name = "DIR")]
    labels: Option<PathBuf>,
    /// For the CPU: how much mAP 50-95 INT8 may lose against FP32 on these pictures
    #[arg(long, value_name = "0..1", default_value_t = 0.01, value_parser = super::eval::part)]
    max_loss: f64,
    /// For the CPU: the INT8 model's file [default: NAME-int8.onnx in this folder]; its manifest goes beside it
    #[arg(long, value_name = "FILE.onnx")]
    output: Option<PathBuf>,
    /// Use 2:4 structured sparsity where the weights have it
    #[arg(long)]
    sparse: bool,
    /// Run on this deep learning accelerator what can run there (Jetson)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=7))]
    dla: Option<u32>,
    /// File with measurements of earlier builds, which make this one faster; made where it is missing
    #[arg(long, value_name = "FILE")]
    timing_cache: Option<PathBuf>,
    /// What all kept engines may take; those used longest ago go first
    #[arg(long, value_name = "SIZE", default_value = "4GiB", value_parser = parse_size)]
    cache_limit: u64,
    /// Build also where there is one, and replace it
    #[arg(long)]
    force: bool,
    /// Print a JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Work for a daemon: gently, and not longer than it lives
    #[arg(long, hide = true)]
    background: bool,
}

/// clap keeps parsed values, and [`Auto`] is all it needs to be.
type AutoBatch = Auto<usize>;

fn parse_batch(text: &str) -> Result<AutoBatch, String> {
    if text == "auto" {
        return Ok(Auto::Auto);
    }
    let count = text.parse().ok().filter(|count| (1..=crate::engine::BATCH_MAX).contains(count));
    count.map(Auto::Fixed).ok_or_else(|| {
        format!("{text:?} is neither a number from 1 to {} nor auto", crate::engine::BATCH_MAX)
    })
}

impl BuildArgs {
    /// `None` leaves it to the builder.
    fn asked_precision(&self) -> Option<PlanPrecision> {
        match self.precision.as_str() {
            "fp16" => Some(PlanPrecision::Fp16),
            "fp32" => Some(PlanPrecision::Fp32),
            "bf16" => Some(PlanPrecision::Bf16),
            "int8" => Some(PlanPrecision::Int8),
            _ if self.int8_calibration.is_some() => Some(PlanPrecision::Int8),
            _ => None,
        }
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        let code = match error {
            BuildError::Request(_) => exit::USAGE,
            BuildError::Input(_) => exit::NO_INPUT,
            BuildError::Unavailable(_) | BuildError::OutOfMemory(_) => exit::UNAVAILABLE,
            BuildError::Failed(_) => exit::INTERNAL,
        };
        Self::new(code, error.to_string())
    }
}

/// The cache cannot be looked at.
fn cache_failure(error: &CacheError) -> Failure {
    Failure::new(exit::NO_INPUT, format!("the engine cache: {error}"))
}

/// Runs the sub-command; what the user asked for goes to `out`.
///
/// # Errors
/// [`Failure`] with the codes that the help of `engine build` lists.
pub fn run(args: &EngineArgs, out: &mut dyn Write) -> Result<(), Failure> {
    match &args.command {
        EngineCommand::Build(args) => {
            let mut cache = || Cache::open(args.cache_limit);
            build::run(args, &mut tensorrt_build::look, &mut cache, out)
        }
        EngineCommand::List { json } => show::list(&Cache::open(ENGINE_CACHE_LIMIT_BYTES), *json, out),
        EngineCommand::Inspect { engine, json } => {
            show::inspect(&Cache::open(ENGINE_CACHE_LIMIT_BYTES), engine, *json, out)
        }
    }
}
