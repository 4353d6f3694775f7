//! `watchpost detect`: one shot over files, folders of images or URLs.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use watchpost_pipelines::SourceKind;

use super::common::{
    EngineArgs, LoadedModel, input_failure, load_model, output_failure, quiet_if_closed, start_gstreamer,
};
use super::{Failure, exit};
use crate::camera::Reason;
use crate::clock;
use crate::config::{CameraOptions, DetectorOptions, Locator, parse_url};
use crate::decode::{Decoder, Limits};
use crate::filter::{Filter, lacks_labels};
use crate::metrics::process_usage;
use crate::model::Manifest;
use crate::offline::{self, Choice, Input, Ready, Totals};
use crate::publish::{Detections, FrameSize, ObjectReader};
use crate::source::{Fault, GstSource, TsSource};
use crate::supervisor::CANDIDATES_MAX;

/// Arguments of `watchpost detect`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Every frame is inferred, none is dropped, unless --realtime is given. One JSON object a line,
as the daemon writes them; \"camera\" is the input.

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
    #[arg(long, value_name = "N", value_parser = count)]
    max_frames: Option<u64>,

    /// Infer only every N-th frame
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count)]
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

    #[command(flatten)]
    engine: EngineArgs,
}

fn count(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|&count| count > 0).ok_or_else(|| "must be a whole number from 1".to_owned())
}

fn score(text: &str) -> Result<f32, String> {
    let score: f32 = text.parse().map_err(|_| "must be a number between 0 and 1".to_owned())?;
    if (0.0..=1.0).contains(&score) { Ok(score) } else { Err("must be a number between 0 and 1".to_owned()) }
}

pub(super) fn run(args: &DetectArgs) -> Result<(), Failure> {
    let started = clock::now();
    let (inputs, missing) = inputs(args)?;
    start_gstreamer()?;
    let mut detector = args.engine.detector(&args.model);
    detector.score_threshold = args.score_threshold;
    let mut model = load_model(&detector, exit::NO_INPUT)?;
    let filter = Filter::new(args.classes.as_deref(), &model.manifest.labels, args.score_threshold).map_err(
        |unknown| {
            let lacks = lacks_labels(&unknown, &model.manifest.labels);
            Failure::new(exit::USAGE, format!("--classes: the model {} {lacks}", model.tag.name))
        },
    )?;
    spare_inputs(args, &inputs, &model.manifest)?;
    let mut records = Records::open(args.output.as_deref())?;
    // Opened before the work: hours of it should not end with a summary that has no place.
    let summary =
        args.summary.as_deref().map(|path| open(path, &records).map(|file| (path, file))).transpose()?;
    let mut stages = Stages::default();
    let totals = detect(args, &inputs, &detector, &filter, &mut model, &mut records, &mut stages);
    let written = records.finish();
    let totals = totals?;
    let summed_up = summary.map_or(Ok(()), |(path, file)| {
        let seconds = clock::now().saturating_duration_since(started).as_secs_f64();
        let text = summary_text(inputs.len(), &totals, seconds, &model, &stages)?;
        write_over(&file, &text).map_err(|error| output_failure(&path.display().to_string(), &error))
    });
    written.or_else(quiet_if_closed)?;
    summed_up?;
    faults(&missing, &totals)
}

/// Faults that are told one by one.
const FAULTS_TOLD: usize = 20;

/// What became of the inputs that could not be read to their end; the others have been.
fn faults(missing: &[Failure], totals: &Totals) -> Result<(), Failure> {
    let count = missing.len() + totals.faults.len();
    if count == 0 {
        return Ok(());
    }
    let tell = |(input, fault): &(String, Fault)| {
        // Most sentences begin with the input.
        if fault.detail.starts_with(input.as_str()) {
            fault.detail.clone()
        } else {
            format!("{input}: {}", fault.detail)
        }
    };
    let told = missing.iter().map(Failure::to_string).chain(totals.faults.iter().map(tell));
    let mut lines: Vec<String> = told.take(FAULTS_TOLD).collect();
    if count > FAULTS_TOLD {
        lines.push(format!("and {} more inputs that could not be read", count - FAULTS_TOLD));
    }
    let unsupported =
        missing.is_empty() && totals.faults.iter().all(|(_, fault)| fault.reason == Reason::Unsupported);
    Err(Failure::new(if unsupported { exit::UNAVAILABLE } else { exit::NO_INPUT }, lines.join("\n")))
}

/// Refuses to write over what is read.
fn spare_inputs(args: &DetectArgs, inputs: &[Input], model: &Manifest) -> Result<(), Failure> {
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    let files = inputs.iter().filter_map(|input| match &input.spec.kind {
        SourceKind::File { path } | SourceKind::Image { path } => Some(path),
        _ => None,
    });
    let taken: Vec<(u64, u64)> = files.chain(model.file()).filter_map(|path| identity(path)).collect();
    for (option, path) in [("--output", &args.output), ("--summary", &args.summary)] {
        let Some(path) = path else { continue };
        let Some(id) = identity(path) else { continue };
        if taken.contains(&id) {
            return Err(taken_already(option, path));
        }
    }
    Ok(())
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
    let LoadedModel { manifest, engine, tag, .. } = model;
    let limits = Limits {
        score_threshold: detector.score_threshold,
        iou_threshold: detector.iou_threshold,
        max_objects: detector.max_objects,
        max_candidates: CANDIDATES_MAX,
        ..Limits::default()
    };
    let decoder = Decoder::new(&manifest.head, &manifest.input, manifest.labels.len(), limits);
    let mut reader = ObjectReader::new(manifest.labels.as_slice().into(), decoder, detector.max_objects);
    let choice = Choice { every: args.every, max_frames: args.max_frames, realtime: args.realtime };
    let mut last = (usize::MAX, 0);
    let mut undecodable = None;
    let totals =
        offline::run(inputs, &manifest.input, choice, engine.as_mut(), &mut |ready, outputs, took| {
            let began = clock::now();
            let previous = if last.0 == ready.input_index { last.1 } else { 0 };
            last = (ready.input_index, ready.seq);
            let written = reader.read(outputs, &ready.geometry, filter, |objects| {
                stages.objects += objects.len() as u64;
                records.write(&Detections {
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
                })
            });
            let go_on = written.unwrap_or_else(|error| {
                undecodable = Some(Failure::new(exit::NO_INPUT, error.to_string()));
                false
            });
            stages.add(ready, took, began);
            go_on
        });
    match undecodable {
        Some(failure) => Err(failure),
        None => totals.map_err(|error| Failure::new(exit::INTERNAL, error.to_string())),
    }
}

fn taken_already(option: &str, path: &Path) -> Failure {
    let path = path.display();
    Failure::new(
        exit::USAGE,
        format!("{option} {path}: this file is in use by this command; choose another one"),
    )
}

/// The inputs that are there, and what is to be said of the others, which do not keep them from being read.
fn inputs(args: &DetectArgs) -> Result<(Vec<Input>, Vec<Failure>), Failure> {
    let (mut inputs, mut missing) = (Vec::new(), Vec::new());
    for text in &args.inputs {
        if text.contains("://") {
            inputs.push(url_input(text, args.realtime)?);
            continue;
        }
        match path_inputs(Path::new(text), args.realtime) {
            Ok(found) => inputs.extend(found),
            Err(failure) => missing.push(failure),
        }
    }
    if inputs.is_empty() {
        faults(&missing, &Totals::default())?;
    }
    Ok((inputs, missing))
}

/// A file, or the images of a folder.
fn path_inputs(path: &Path, realtime: bool) -> Result<Vec<Input>, Failure> {
    let name = path.display().to_string();
    let missing = |error: io::Error| input_failure(&name, &error);
    if !std::fs::metadata(path).map_err(missing)?.is_dir() {
        return Ok(vec![path_input(path, realtime)]);
    }
    let images = offline::images_in(path).map_err(missing)?;
    if images.is_empty() {
        let known = offline::IMAGE_EXTENSIONS.join(", ");
        return Err(Failure::new(exit::NO_INPUT, format!("{name}: the folder holds no images ({known})")));
    }
    Ok(images.iter().map(|image| path_input(image, realtime)).collect())
}

fn path_input(path: &Path, realtime: bool) -> Input {
    let path = path.to_owned();
    let name = path.display().to_string();
    let kind = if offline::is_image(&path) { SourceKind::Image { path } } else { SourceKind::File { path } };
    let mut spec = watchpost_pipelines::Spec::new(kind);
    spec.realtime = realtime;
    Input { name, spec }
}

fn url_input(text: &str, realtime: bool) -> Result<Input, Failure> {
    let url = parse_url(text).map_err(|error| {
        // What is no URL may still hold a password: only its scheme is shown.
        let scheme = text.split("://").next().unwrap_or_default();
        Failure::new(exit::USAGE, format!("the input {scheme}://… {error}"))
    })?;
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

/// Opens the summary. It is not truncated: until there is something better, an old one stays as it is.
fn open(path: &Path, records: &Records) -> Result<File, Failure> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
    let file = file.map_err(|error| output_failure(&path.display().to_string(), &error))?;
    if let Sink::File(output) = &records.sink
        && let (Ok(one), Ok(other)) = (file.metadata(), output.metadata())
        && one.is_file()
        && (one.dev(), one.ino()) == (other.dev(), other.ino())
    {
        return Err(taken_already("--summary", path));
    }
    Ok(file)
}

/// Replaces what is in a file. Devices and pipes have nothing to cut off.
fn write_over(mut file: &File, text: &str) -> io::Result<()> {
    if file.metadata()?.is_file() {
        file.set_len(0)?;
    }
    file.write_all(text.as_bytes())
}

/// Where records go, and what became of them. Each is written at once: what is counted is in the file.
struct Records {
    name: String,
    sink: Sink,
    line: Vec<u8>,
    written: u64,
    written_bytes: u64,
    failure: Option<io::Error>,
}

enum Sink {
    Stdout(io::StdoutLock<'static>),
    File(File),
}

impl Records {
    fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let (name, sink) = match path {
            None => ("stdout".to_owned(), Sink::Stdout(io::stdout().lock())),
            Some(path) => {
                let name = path.display().to_string();
                let file = File::create(path).map_err(|error| output_failure(&name, &error))?;
                (name, Sink::File(file))
            }
        };
        Ok(Self { name, sink, line: Vec::with_capacity(4096), written: 0, written_bytes: 0, failure: None })
    }

    /// Writes one record; false when nothing more can be written.
    fn write(&mut self, record: &Detections<'_>) -> bool {
        self.line.clear();
        record.write_line(&mut self.line);
        let written = match &mut self.sink {
            Sink::Stdout(stdout) => stdout.write_all(&self.line).and_then(|()| stdout.flush()),
            Sink::File(file) => file.write_all(&self.line),
        };
        match written {
            Ok(()) => {
                self.written += 1;
                self.written_bytes += self.line.len() as u64;
            }
            Err(error) => self.failure = Some(error),
        }
        self.failure.is_none()
    }

    /// Makes sure that a file is on the disk: only then was nothing lost. After a failure its last line is
    /// made whole again.
    fn finish(mut self) -> Result<(), Failure> {
        if let Sink::File(file) = &self.sink {
            if self.failure.is_some() && file.metadata().is_ok_and(|metadata| metadata.is_file()) {
                // If not even this works, a reader finds a broken last line, and the message below.
                let _best_effort = file.set_len(self.written_bytes);
            }
            // /dev/null and pipes cannot be synced, and need not be.
            let unsynced = file.sync_all().err().filter(is_full);
            self.failure = self.failure.or(unsynced);
        }
        let Some(error) = self.failure else { return Ok(()) };
        let mut failure = output_failure(&self.name, &error);
        failure.message += &format!("; {} records were written before", self.written);
        Err(failure)
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

fn summary_text(
    inputs: usize,
    totals: &Totals,
    seconds: f64,
    model: &LoadedModel,
    stages: &Stages,
) -> Result<String, Failure> {
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
    Ok(text + "\n")
}
