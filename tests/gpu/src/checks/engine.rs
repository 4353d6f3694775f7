//! Engines of TensorRT: built, compared with the built-in engine, and measured alone.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use watchpost::clock;
use watchpost::config::Auto;
use watchpost::engine::cache::BatchRequest;
use watchpost::engine::tensorrt_build::batch_for;
use watchpost::model::{self, Manifest, ModelSource};
use watchpost_cuda::{Element, Gpu, Letterboxer, SlotTensor};
use watchpost_prove::child;
use watchpost_prove::outcome::{Figures, Stop, demand, percentiles, rounded};
use watchpost_prove::pictures::{Format, Source, device_recipe};
use watchpost_prove::settings::Settings;
use watchpost_tensorrt::{BuildOptions, Library, LoadOptions, Precision, Runner, build, find};

/// Frames of one inference at most, for models that leave it open.
const BATCH_MAX: usize = 32;
/// Of an output's largest value: what f16 may be off by.
const HALF_TOLERANCE: f64 = 0.02;
const WHOLE_TOLERANCE: f64 = 0.002;

pub fn run(settings: &Settings, figures: &mut Figures) -> Result<(), Stop> {
    let library = find().map_err(|why| Stop::skipped(why.to_string()))?;
    let gpu = super::gpu()?;
    figures.insert("tensorrt".to_owned(), library.version().to_string().into());
    let mut wrong = Vec::new();
    for name in settings.all_models().map_err(Stop::Failed)? {
        let mut found = Figures::new();
        match prove(&library, &gpu, &name, settings, &mut found) {
            Ok(()) => {}
            Err(Stop::Skipped(why)) => drop(found.insert("skipped".to_owned(), why.into())),
            Err(Stop::Failed(why)) => {
                wrong.push(format!("{name}: {why}"));
                found.insert("failed".to_owned(), why.into());
            }
        }
        let short =
            Path::new(&name).file_stem().map_or(name.clone(), |stem| stem.to_string_lossy().into_owned());
        figures.insert(short, found.into());
    }
    demand(wrong.is_empty(), || wrong.join("; "))?;
    demand(gpu.ledger().is_empty(), || format!("after the engines the ledger has {:?}", gpu.ledger()))
}

fn prove(
    library: &Library,
    gpu: &Gpu,
    name: &str,
    settings: &Settings,
    found: &mut Figures,
) -> Result<(), Stop> {
    let manifest = model::find(name, &[]).map_err(|error| Stop::skipped(error.to_string()))?;
    found.insert("watchpost_engine_build".to_owned(), by_program(name, settings));
    let plan = plan(library, gpu, &manifest, found)?;
    let mut runner =
        Runner::load(library, gpu, &plan, LoadOptions { contexts: 2, ..LoadOptions::default() })?;
    let input = picture(&manifest);
    let slots = (0..runner.max_batch()).map(|_| slot(gpu, &runner, &manifest, &input));
    let slots = slots.collect::<Result<Vec<_>, _>>()?;
    let compared = compare(&mut runner, &slots, &manifest, &input, settings, found);
    measure(&mut runner, &slots, settings, found)?;
    compared
}

/// What `watchpost engine build` makes of it; the daemon of the check from end to end finds it in its cache.
fn by_program(name: &str, settings: &Settings) -> Value {
    let mut command = Command::new(settings.program("watchpost"));
    command
        .args(["engine", "build", "--json", "--", name])
        .env("CACHE_DIRECTORY", settings.out.join("cache"));
    match child::run(&mut command, settings.time_left()) {
        Err(error) => format!("does not start: {error}").into(),
        Ok(ended) => match (ended.missing_library(), serde_json::from_str::<Value>(&ended.stdout)) {
            (Some(missing), _) => format!("does not start: {missing}").into(),
            (None, Ok(mut said)) => {
                // Where it lies is nobody's business.
                said.as_object_mut().map(|said| said.remove("file"));
                said
            }
            (None, Err(_)) => format!("failed: {}", ended.last_words()).into(),
        },
    }
}

fn plan(library: &Library, gpu: &Gpu, manifest: &Manifest, found: &mut Figures) -> Result<Vec<u8>, Stop> {
    let onnx = match &manifest.source {
        ModelSource::File(path) => std::fs::read(path)?,
        ModelSource::Embedded(bytes) => bytes.to_vec(),
    };
    let facts = model::verify(manifest).map_err(|error| Stop::failed(error.to_string()))?;
    let batch = batch_for(&facts, Auto::Auto).map_err(|error| Stop::skipped(error.to_string()))?;
    let options = BuildOptions {
        precision: Precision::Auto,
        max_batch: matches!(batch, BatchRequest::Auto { .. }).then_some(BATCH_MAX),
        size: Some((manifest.input.width, manifest.input.height)),
        ..BuildOptions::default()
    };
    let began = clock::now();
    let built = build(library, gpu, &onnx, &options, &mut |_| {})?;
    let seconds = clock::now().saturating_duration_since(began).as_secs_f64();
    found.insert("build_seconds".to_owned(), rounded(seconds));
    found.insert("precision".to_owned(), built.precision.name().into());
    found.insert("plan_bytes".to_owned(), built.plan.len().into());
    Ok(built.plan)
}

/// A picture with edges and noise, as the model's input wants it.
fn picture(manifest: &Manifest) -> Vec<f32> {
    Source::new(640, 360, Format::Nv12, 5).reference(&manifest.input)
}

fn slot(gpu: &Gpu, runner: &Runner, manifest: &Manifest, input: &[f32]) -> Result<SlotTensor, Stop> {
    let mut letterboxer = Letterboxer::new(gpu, device_recipe(&manifest.input))?;
    let mut slot = SlotTensor::new(gpu, runner.slot_element(), input.len())?;
    letterboxer.staging()?.copy_from_slice(input);
    letterboxer.upload(&mut slot)?;
    Ok(slot)
}

/// The same input through both engines.
fn compare(
    runner: &mut Runner,
    slots: &[SlotTensor],
    manifest: &Manifest,
    input: &[f32],
    settings: &Settings,
    found: &mut Figures,
) -> Result<(), Stop> {
    let options = watchpost_builtin::LoadOptions { threads: 1, input_size: None };
    let loaded = match &manifest.source {
        ModelSource::File(path) => watchpost_builtin::Model::load(path, options),
        ModelSource::Embedded(bytes) => watchpost_builtin::Model::from_bytes(bytes, options),
    };
    let mut builtin = match loaded {
        Ok(model) => model,
        Err(error) => {
            found.insert("compared".to_owned(), format!("no: the built-in engine says {error}").into());
            return Ok(());
        }
    };
    let mut expected: Vec<Vec<f32>> = Vec::new();
    builtin
        .run(input, &mut |outputs| expected = outputs.iter().map(|output| output.data.to_vec()).collect())
        .map_err(|error| Stop::failed(format!("the built-in engine: {error}")))?;
    if settings.control {
        expected.iter_mut().flatten().for_each(|value| *value = *value * 1.1 + 1.0);
    }
    let is_half = runner.slot_element() == Element::F16 || found["precision"] == "fp16";
    let tolerance = if is_half { HALF_TOLERANCE } else { WHOLE_TOLERANCE };
    let all: Vec<&SlotTensor> = slots.iter().collect();
    let (mut frames, mut worst) = (0, (0.0_f64, 0.0_f64));
    runner.infer(&all, &mut |_, outputs| {
        frames += 1;
        for (output, expected) in outputs.iter().zip(&expected) {
            let largest = expected.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
            let error = output.data.iter().zip(expected).map(|(a, b)| f64::from((a - b).abs()));
            let error = error.fold(0.0, |most: f64, e| if e.is_nan() { f64::INFINITY } else { most.max(e) });
            let length = output.data.len() == expected.len();
            let error = if length { error } else { f64::INFINITY };
            worst.0 = worst.0.max(error);
            worst.1 = worst.1.max(error / f64::from(largest.max(f32::MIN_POSITIVE)));
        }
        if outputs.len() != expected.len() {
            worst.1 = f64::INFINITY;
        }
    })?;
    found.insert("greatest_output_error".to_owned(), json!(worst.0));
    found.insert("greatest_error_of_the_largest_output".to_owned(), json!(worst.1));
    demand(frames == slots.len(), || format!("{frames} results of {} frames", slots.len()))?;
    demand(worst.1 <= tolerance, || {
        format!("outputs are off by {:.4} of the largest value, allowed {tolerance}", worst.1)
    })
}

/// Frames a second and milliseconds of the engine alone, batch by batch; then with the next batch queued before the last
/// has ended.
fn measure(
    runner: &mut Runner,
    slots: &[SlotTensor],
    settings: &Settings,
    found: &mut Figures,
) -> Result<(), Stop> {
    let most = runner.max_batch();
    let sizes = (0..).map(|power| 1_usize << power).take_while(|&size| size < most).chain([most]);
    let (mut table, mut best) = (Vec::new(), 0.0_f64);
    for size in sizes.filter(|&size| size >= runner.min_batch()).collect::<Vec<_>>() {
        let batch: Vec<&SlotTensor> = slots.iter().take(size).collect();
        let mut times_ms = Vec::new();
        let began = clock::now();
        while clock::now().saturating_duration_since(began) < settings.measure() && times_ms.len() < 100_000 {
            let before = clock::now();
            runner.infer(&batch, &mut |_, _| {})?;
            times_ms.push(clock::now().saturating_duration_since(before).as_secs_f64() * 1e3);
        }
        let alone = rate(times_ms.len() * size, began);
        let [p50, p95, p99] = percentiles(&mut times_ms).unwrap_or_default();
        let queued = queued(runner, &batch, settings)?;
        best = best.max(alone);
        table.push(json!({ "batch": size, "frames_per_second": rounded(alone), "p50_ms": rounded(p50),
            "p95_ms": rounded(p95), "p99_ms": rounded(p99), "frames_per_second_queued": rounded(queued) }));
    }
    found.insert("batches".to_owned(), table.into());
    found.insert("best_frames_per_second".to_owned(), rounded(best));
    Ok(())
}

fn rate(frames: usize, began: std::time::Instant) -> f64 {
    frames as f64 / clock::now().saturating_duration_since(began).as_secs_f64()
}

fn queued(runner: &mut Runner, batch: &[&SlotTensor], settings: &Settings) -> Result<f64, Stop> {
    let began = clock::now();
    let mut frames = 0;
    runner.submit(batch)?;
    while clock::now().saturating_duration_since(began) < settings.measure() {
        if runner.contexts() > 1 {
            runner.submit(batch)?;
            frames += runner.collect(&mut |_, _| {})?;
        } else {
            frames += runner.collect(&mut |_, _| {})?;
            runner.submit(batch)?;
        }
    }
    frames += runner.collect(&mut |_, _| {})?;
    Ok(rate(frames, began))
}
