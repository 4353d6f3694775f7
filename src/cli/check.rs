//! `watchpost check`: what the configuration resolves to, and every byte that the process will ever hold.

use std::fmt::Write as _;
use std::io::Write;

use serde_json::json;

use watchpost_pipelines::DecoderPlan;

use super::common::{ConfigArg, LoadedModel, decoders_json, load_config, load_model, print, print_json};
use super::{Failure, exit};
use crate::budget::{Basis, Budget, show_bytes};
use crate::config::report::{render, to_json};
use crate::config::{CameraOptions, Config, Demands, Loaded};
use crate::decode::{Decoder, Limits};
use crate::engine;
use crate::metrics::process_usage;
use crate::source::{GstSource, Source as _};
use crate::supervisor::{CANDIDATES_MAX, Wish, lacking};

/// Arguments of `watchpost check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Opens no camera and no socket. Exit code 78 if something is wrong; every mistake is listed.

Example:
    watchpost check -c ./config.toml")]
pub struct CheckArgs {
    #[command(flatten)]
    config: ConfigArg,

    /// Print a JSON object instead of text
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &CheckArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let loaded = load_config(&args.config.config, Demands::CHECK)?;
    let before_bytes = process_usage().rss_bytes;
    let model = load_model(&loaded.config.detector, exit::CONFIG)?;
    let model_bytes = process_usage().rss_bytes.saturating_sub(before_bytes);
    check_classes(&loaded.config, &model)?;
    let budget = budget(&loaded.config, &model, before_bytes, model_bytes);
    let plans = decoder_plans(&loaded.config, &model)?;
    if args.json {
        return print_json(out, &report_json(&loaded, &model, &budget, &plans));
    }
    print(out, &report_text(&loaded, &model, &budget, &plans))
}

/// What will decode a camera, by its name.
struct CameraPlan<'a> {
    camera: &'a str,
    /// `None`: watchpost draws the pictures itself.
    decoders: Option<DecoderPlan>,
}

fn decoder_plans<'a>(config: &'a Config, model: &LoadedModel) -> Result<Vec<CameraPlan<'a>>, Failure> {
    let gpu = model.engine.place().gpu().or_else(|| model.gpu.clone());
    let plan_of = |camera: &'a CameraOptions| {
        let decoders = GstSource::new(camera).map(|source| {
            source.use_gpu(gpu.as_ref());
            watchpost_pipelines::plan(&source.next_spec())
        });
        let decoders =
            decoders.transpose().map_err(|error| Failure::new(exit::UNAVAILABLE, error.to_string()))?;
        Ok(CameraPlan { camera: &camera.name, decoders })
    };
    config.cameras.iter().map(plan_of).collect()
}

fn check_classes(config: &Config, model: &LoadedModel) -> Result<(), Failure> {
    let labels = &model.manifest.labels;
    let mut mistakes = String::new();
    for camera in &config.cameras {
        if let Err(unknown) = Wish::new(camera, &config.detector, labels) {
            mistakes += &lacking(camera, &unknown, &model.tag.name, labels);
        }
    }
    if mistakes.is_empty() { Ok(()) } else { Err(Failure::new(exit::CONFIG, mistakes)) }
}

fn budget(config: &Config, model: &LoadedModel, program_bytes: u64, model_bytes: u64) -> Budget {
    let limits = Limits {
        max_objects: config.detector.max_objects,
        max_candidates: CANDIDATES_MAX.max(config.detector.max_objects),
        ..Limits::default()
    };
    let manifest = &model.manifest;
    let decoder = Decoder::new(&manifest.head, &manifest.input, manifest.labels.len(), limits);
    let place = model.engine.place();
    let mut budget = Budget::new(config, manifest, &decoder, &place);
    if let Some(gpu) = place.gpu() {
        budget.gpu(&gpu.ledger());
    }
    let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    budget.add("engine", "weights and activations", 1, bytes(model_bytes), Basis::Measured);
    budget.add("process", "program and libraries", 1, bytes(program_bytes), Basis::Measured);
    budget
}

fn report_text(loaded: &Loaded, model: &LoadedModel, budget: &Budget, plans: &[CameraPlan<'_>]) -> String {
    let mut text = render(loaded);
    let manifest = &model.manifest;
    // Writing into a String cannot fail.
    let _ = writeln!(
        text,
        "\n# Model\n{} (sha256 {}), input {}x{}, {} labels",
        manifest.name,
        model.tag.sha256,
        manifest.input.width,
        manifest.input.height,
        manifest.labels.len()
    );
    let _ = writeln!(
        text,
        "\n# Backend\n{} in {}, {} threads, batches of at most {}",
        model.tag.backend,
        model.tag.precision,
        engine::threads(&loaded.config.detector),
        model.engine.max_batch()
    );
    if model.later.is_some()
        && let Some(expectation) = engine::expectation(&loaded.config.detector, manifest)
    {
        let _ = writeln!(text, "then tensorrt: {expectation}");
    }
    for backend in engine::backends().iter().filter(|backend| !backend.available) {
        let _ = writeln!(text, "not {}: {}", backend.name, backend.explanation);
    }
    text += "\n# Decoders\n";
    for CameraPlan { camera, decoders } in plans {
        let plan = decoders.as_ref().map_or("none: watchpost draws it".to_owned(), ToString::to_string);
        for line in plan.lines() {
            let _ = writeln!(text, "camera {camera}: {line}");
        }
        let options = loaded.config.cameras.iter().find(|options| options.name == *camera);
        let masks = options.map_or(0, |options| options.privacy_masks.len());
        if masks > 0 {
            let _ = writeln!(
                text,
                "camera {camera}: privacy masks ({masks}) are laid on by the CPU, also over what a GPU decodes"
            );
        }
    }
    let _ = writeln!(text, "\n# Memory\n{}", budget.render());
    let memory = loaded.config.memory;
    for (name, limit) in [("soft_limit", memory.soft_limit_bytes), ("hard_limit", memory.hard_limit_bytes)] {
        if let Some(limit) = limit.filter(|&limit| limit < budget.total_bytes()) {
            let _ = writeln!(
                text,
                "note: memory.{name} = {} is below the sum: raise it, or use fewer cameras or slots",
                show_bytes(limit)
            );
        }
    }
    text
}

fn report_json(
    loaded: &Loaded,
    model: &LoadedModel,
    budget: &Budget,
    plans: &[CameraPlan<'_>],
) -> serde_json::Value {
    let mut report = to_json(loaded);
    report["model"] = json!({
        "name": model.tag.name,
        "sha256": model.manifest.sha256,
        "input": { "width": model.manifest.input.width, "height": model.manifest.input.height },
        "labels": model.manifest.labels,
    });
    report["backend"] = json!({
        "name": model.tag.backend,
        "precision": model.tag.precision,
        "threads": engine::threads(&loaded.config.detector),
        "max_batch_size": model.engine.max_batch(),
    });
    report["decoders"] = plans
        .iter()
        .map(|plan| (plan.camera.to_owned(), plan.decoders.as_ref().map_or(json!([]), decoders_json)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    report["memory_budget"] = json!({ "lines": budget.lines, "total_bytes": budget.total_bytes() });
    report
}
