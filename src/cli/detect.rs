//! `watchpost detect`: one shot over files, folders of images or URLs.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use super::common::{LoadedModel, load_model, output_failure, quiet_if_closed, start_gstreamer};
use super::{Failure, exit};
use crate::clock;
use crate::config::{Auto, CameraOptions, DetectorOptions, Locator, parse_url};
use crate::decode::{Decoder, Limits};
use crate::filter::Filter;
use crate::metrics::process_usage;
use crate::offline::{self, Choice, Input, Ready, Totals};
use crate::publish::{Detections, FrameSize, ObjectReader};
use crate::source::{GstSource, TsSource};
use crate::supervisor::CANDIDATES_MAX;

/// Arguments of `watchpost detect`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Every frame is inferred, none is dropped, unless --realtime is given. One JSON object a line, as the daemon
writes them; \"camera\" is the input.

Examples:
    watchpost detect clip.mp4 -m yolox-nano | jq '.objects | length'
    watchpost detect photos/ -m ./yolov8n.onnx -o boxes.jsonl --summary summary.json
    watchpost detect rtsp://10.0.0.12/stream2 --max-frames 100")]
pub struct DetectArgs {
    /// Video files, images, folders of images, or URLs (rtsp://, v4l2://, file://)
    #[arg(required = true)]
    inputs: Vec<String>,

    /// A manifest's name or the path of an .onnx file
    #[arg(short, long, default_value = "yolox-nano")]
    model: String,

    /// Write the records to this file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Write a summary to this file: frames, frames/s, CPU time, memory, milliseconds per stage
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,

    /// Read at most so many frames of each input
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_frames: Option<u64>,

    /// Infer only every N-th frame
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,

    /// Play at the input's own pace and drop frames that the detector has no time for
    #[arg(long)]
    realtime: bool,

    /// Objects below this score are left out
    #[arg(long, value_name = "0..1", default_value_t = 0.35, value_parser = score)]
    score_threshold: f32,

    /// Only these labels, separated by commas
    #[arg(long, value_name = "LABEL,…", value_delimiter = ',')]
    classes: Option<Vec<String>>,

    /// Threads of one inference; one a core by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=64))]
    threads: Option<u64>,
}

fn score(text: &str) -> Result<f32, String> {
    let score: f32 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=1.0).contains(&score) { Ok(score) } else { Err("must be between 0 and 1".to_owned()) }
}

pub(super) fn run(args: &DetectArgs) -> Result<(), Failure> {
    let started = clock::now();
    let inputs = inputs(args)?;
    start_gstreamer()?;
    let mut detector = DetectorOptions::new(&args.model);
    detector.score_threshold = args.score_threshold;
    if let Some(threads) = args.threads {
        detector.threads = Auto::Fixed(usize::try_from(threads).unwrap_or(1));
    }
    let mut model = load_model(&detector, exit::NO_INPUT)?;
    let filter = Filter::new(args.classes.as_deref(), &model.manifest.labels, args.score_threshold).map_err(
        |unknown| {
            let labels = model.manifest.labels.join(", ");
            Failure::new(
                exit::USAGE,
                format!("--classes: no label {}; the model has: {labels}", unknown.join(", ")),
            )
        },
    )?;
    let (name, sink) = open_output(args.output.as_deref())?;
    let mut records = Records { name, sink, line: Vec::with_capacity(4096), written: 0, failure: None };
    let mut stages = Stages::default();
    let totals = detect(args, &inputs, &detector, &filter, &mut model, &mut records, &mut stages)?;
    let written = records.finish(args.output.as_deref());
    if let Some(path) = &args.summary {
        let seconds = clock::now().saturating_duration_since(started).as_secs_f64();
        write_summary(path, inputs.len(), &totals, seconds, &model, &stages)?;
    }
    written.or_else(quiet_if_closed)?;
    if totals.faults.is_empty() {
        return Ok(());
    }
    let faults: Vec<String> =
        totals.faults.iter().map(|(input, fault)| format!("{input}: {}", fault.detail)).collect();
    Err(Failure::new(exit::NO_INPUT, faults.join("\n")))
}

fn detect(
    args: &DetectArgs,
    inputs: &[Input],
    detector: &DetectorOptions,
    filter: &Filter,
    model: &mut LoadedModel,
    records: &mut Records,
    stages: &mut Stages,
) -> Result<Totals, Failure> {
    let LoadedModel { manifest, engine, tag } = model;
    let limits = Limits {
        score_threshold: detector.score_threshold,
        iou_threshold: detector.iou_threshold,
        max_objects: detector.max_objects,
        max_candidates: CANDIDATES_MAX,
        ..Limits::default()
    };
    let decoder = Decoder::new(&manifest.head, &manifest.input, manifest.labels.len(), limits);
    let mut reader = ObjectReader::new(&manifest.labels, decoder, detector.max_objects);
    let choice = Choice { every: args.every, max_frames: args.max_frames, realtime: args.realtime };
    let mut last = (usize::MAX, 0);
    let mut undecodable = None;
    let totals =
        offline::run(inputs, &manifest.input, choice, engine.as_mut(), &mut |ready, outputs, took| {
            let began = clock::now();
            let objects = match reader.read(outputs, &ready.geometry, filter) {
                Ok(objects) => objects,
                Err(error) => {
                    undecodable = Some(Failure::new(exit::NO_INPUT, error.to_string()));
                    return false;
                }
            };
            let previous = if last.0 == ready.input_index { last.1 } else { 0 };
            last = (ready.input_index, ready.seq);
            stages.objects += objects.len() as u64;
            let record = Detections {
                camera: &inputs[ready.input_index].name,
                generation: 1,
                seq: ready.seq,
                ts: clock::wall(),
                ts_source: TsSource::File,
                pts_ns: ready.pts_ns,
                stamp: None,
                latency_ms: clock::now().saturating_duration_since(ready.at).as_secs_f64() * 1e3,
                frame: FrameSize { width: ready.width, height: ready.height },
                model: tag.part(),
                dropped_since_last: ready.seq - previous - 1,
                objects,
            };
            let go_on = records.write(&record);
            stages.add(ready, took, began);
            go_on
        });
    match undecodable {
        Some(failure) => Err(failure),
        None => totals.map_err(|error| Failure::new(exit::INTERNAL, error.to_string())),
    }
}

fn inputs(args: &DetectArgs) -> Result<Vec<Input>, Failure> {
    let mut inputs = Vec::new();
    for text in &args.inputs {
        if text.contains("://") {
            inputs.push(url_input(text, args.realtime)?);
            continue;
        }
        let path = Path::new(text);
        let missing = |error: io::Error| Failure::new(exit::NO_INPUT, format!("{text}: {error}"));
        if std::fs::metadata(path).map_err(missing)?.is_dir() {
            let images = offline::images_in(path).map_err(missing)?;
            if images.is_empty() {
                return Err(Failure::new(exit::NO_INPUT, format!("{text}: the folder holds no images")));
            }
            inputs.extend(images.iter().map(|image| path_input(image, args.realtime)));
        } else {
            inputs.push(path_input(path, args.realtime));
        }
    }
    Ok(inputs)
}

fn path_input(path: &Path, realtime: bool) -> Input {
    let path = path.to_owned();
    let name = path.display().to_string();
    let kind = if offline::is_image(&path) {
        watchpost_pipelines::SourceKind::Image { path }
    } else {
        watchpost_pipelines::SourceKind::File { path }
    };
    let mut spec = watchpost_pipelines::Spec::new(kind);
    spec.realtime = realtime;
    Input { name, spec }
}

fn url_input(text: &str, realtime: bool) -> Result<Input, Failure> {
    let url = parse_url(text)
        .map_err(|error| Failure::new(exit::USAGE, format!("an input cannot be used: {error}")))?;
    if let Locator::File { path } = &url.locator {
        return Ok(path_input(path, realtime));
    }
    let name = url.locator.to_string();
    let mut camera = CameraOptions::new("detect", url.locator);
    camera.username = url.username;
    camera.password = url.password;
    let source = GstSource::new(&camera).ok_or_else(|| {
        Failure::new(
            exit::USAGE,
            "test://scene never ends; watch it with `watchpost run` or `watchpost demo`",
        )
    })?;
    let mut spec = source.spec().clone();
    spec.realtime = realtime;
    Ok(Input { name, spec })
}

fn open_output(path: Option<&Path>) -> Result<(String, Box<dyn Write>), Failure> {
    let Some(path) = path else {
        return Ok(("stdout".to_owned(), Box::new(io::stdout().lock())));
    };
    let name = path.display().to_string();
    let file = File::create(path).map_err(|error| output_failure(&name, &error))?;
    Ok((name, Box::new(BufWriter::new(file))))
}

/// Where records go, and what became of them.
struct Records {
    name: String,
    sink: Box<dyn Write>,
    line: Vec<u8>,
    written: u64,
    failure: Option<io::Error>,
}

impl Records {
    /// Writes one record; false when nothing more can be written.
    fn write(&mut self, record: &Detections<'_>) -> bool {
        self.line.clear();
        record.write_line(&mut self.line);
        match self.sink.write_all(&self.line) {
            Ok(()) => self.written += 1,
            Err(error) => self.failure = Some(error),
        }
        self.failure.is_none()
    }

    /// Flushes, and for a file makes sure that it is on the disk: only then was nothing lost.
    fn finish(&mut self, path: Option<&Path>) -> Result<(), Failure> {
        let mut failure = self.failure.take();
        if failure.is_none() {
            failure = self.sink.flush().err();
        }
        if failure.is_none()
            && let Some(path) = path
        {
            // /dev/null and pipes cannot be synced, and need not be.
            failure = File::open(path).and_then(|file| file.sync_all()).err().filter(is_full);
        }
        match failure {
            None => Ok(()),
            Some(error) => {
                let mut failure = output_failure(&self.name, &error);
                failure.message += &format!("; up to {} records were written before", self.written);
                Err(failure)
            }
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Milliseconds per frame of each stage. Bounded: a long run is sampled.
#[derive(Default)]
struct Stages {
    samples: [Vec<f32>; 4],
    seen: u64,
    objects: u64,
}

/// Frames whose times are kept; of more, every n-th.
const SAMPLES_MAX: u64 = 100_000;

impl Stages {
    fn add(&mut self, ready: &Ready, inference: Duration, postprocess_began: Instant) {
        self.seen += 1;
        if self.seen > SAMPLES_MAX {
            return;
        }
        let postprocess = clock::now().saturating_duration_since(postprocess_began);
        let times = [ready.decode, ready.preprocess, inference, postprocess];
        for (samples, time) in self.samples.iter_mut().zip(times) {
            samples.push(time.as_secs_f32() * 1e3);
        }
    }

    fn median(&self, stage: usize) -> f64 {
        let mut sorted = self.samples[stage].clone();
        sorted.sort_unstable_by(f32::total_cmp);
        let middle = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
        (f64::from(middle) * 1000.0).round() / 1000.0
    }
}

fn write_summary(
    path: &Path,
    inputs: usize,
    totals: &Totals,
    seconds: f64,
    model: &LoadedModel,
    stages: &Stages,
) -> Result<(), Failure> {
    let usage = process_usage();
    let round = |value: f64| (value * 1000.0).round() / 1000.0;
    let summary = json!({
        "inputs": inputs,
        "frames": totals.frames,
        "dropped": totals.dropped,
        "objects": stages.objects,
        "seconds": round(seconds),
        "fps": round(totals.frames as f64 / seconds.max(1e-9)),
        "cpu_seconds": round(usage.cpu_seconds),
        "max_rss_mib": round(usage.max_rss_bytes as f64 / 1_048_576.0),
        "backend": model.tag.backend,
        "precision": model.tag.precision,
        "batch": 1,
        "decode_ms": stages.median(0),
        "preprocess_ms": stages.median(1),
        "inference_ms": stages.median(2),
        "postprocess_ms": stages.median(3),
    });
    let text = serde_json::to_string_pretty(&summary)
        .map_err(|error| Failure::new(exit::INTERNAL, format!("the summary cannot be written: {error}")))?;
    std::fs::write(path, text + "\n").map_err(|error| output_failure(&path.display().to_string(), &error))
}
