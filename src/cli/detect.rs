//! `watchpost detect`: one shot over files, folders of images or URLs.

use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use watchpost_pipelines::SourceKind;

use super::annotate::{Pictures, stop_on_signal};
use super::common::{
    EngineArgs, LoadedModel, input_failure, load_config, load_model, output_failure, quiet_if_closed,
    start_gstreamer,
};
use super::draft::Draft;
use super::records::Records;
use super::summary::{Stages, summary_text};
use super::{Failure, exit};
use crate::annotate::Surroundings;
use crate::camera::Reason;
use crate::clock;
use crate::config::{CameraOptions, DEFAULT_PATH, Demands, DetectorOptions, Locator, parse_url};
use crate::decode::{Decoder, Limits};
use crate::filter::{Event, lacks_labels};
use crate::frame::PrivacyMask;
use crate::model::Manifest;
use crate::offline::{self, Choice, Follower, Input, Ready, Totals};
use crate::publish::{Detections, EventRecord, FrameSize, Object, ObjectReader};
use crate::source::{Fault, GstSource, TsSource};
use crate::supervisor::{CANDIDATES_MAX, ModelTag, Wish, lacking, lowest_shown};
use crate::track::{LOW_SCORE, Tracked};

/// Arguments of `watchpost detect`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Every frame is inferred, none is dropped, unless --realtime is given. One JSON object a line,
as the daemon writes them; \"camera\" is the input.

Examples:
    watchpost detect clip.mp4 -m yolox-nano | jq '.objects | length'
    watchpost detect photos/ -m ./yolov8n.onnx -o boxes.jsonl --summary summary.json
    watchpost detect rtsp://10.0.0.12/stream2 --max-frames 100
    watchpost detect yesterday.mp4 --as gate -c ./config.toml | jq 'select(.type == \"event\")'
    watchpost detect clip.mp4 --track --annotate seen.mp4 -o seen.jsonl")]
pub struct DetectArgs {
    /// Video files, images, folders of images, or URLs (rtsp://, v4l2://, file://)
    #[arg(required = true)]
    inputs: Vec<String>,

    /// A manifest's name or the path of an .onnx file [default: yolox-nano, or that of the configuration with --as]
    #[arg(short, long)]
    model: Option<String>,

    /// Look as this camera of the configuration does: its classes, thresholds, privacy masks, zones and lines, with events
    #[arg(long = "as", value_name = "CAMERA")]
    camera: Option<String>,

    /// The configuration that --as refers to [default: /etc/watchpost/config.toml]
    #[arg(short, long, value_name = "FILE", requires = "camera")]
    config: Option<PathBuf>,

    /// Write the records to this file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Write a summary to this file: frames, frames/s, CPU time, memory, milliseconds per stage
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,

    /// Draw what was detected: into a new or empty folder, a PNG file a frame, or into an MP4 file
    #[arg(long, value_name = "DIR|FILE.mp4")]
    annotate: Option<PathBuf>,

    /// Read at most so many frames of each input
    #[arg(long, value_name = "N", value_parser = count)]
    max_frames: Option<u64>,

    /// Infer only every N-th frame
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count)]
    every: u64,

    /// Play at the input's own pace and drop frames that the detector has no time for
    #[arg(long)]
    realtime: bool,

    /// Objects below this score are left out [default: 0.35]
    #[arg(long, value_name = "0..1", value_parser = score, conflicts_with = "camera")]
    score_threshold: Option<f32>,

    /// Give objects a number that stays with them ("track_id"); each input is tracked by itself
    #[arg(long, conflicts_with = "camera")]
    track: bool,

    /// Only these labels, separated by commas
    #[arg(long, value_name = "LABEL,…", value_delimiter = ',', conflicts_with = "camera")]
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
    let (detector, camera) = plan(args)?;
    let mut model = load_model(&detector, exit::NO_INPUT)?;
    let wish =
        Wish::new(&camera, &detector, &model.manifest.labels).map_err(|unknown| match args.camera {
            Some(_) => {
                let lines = lacking(&camera, &unknown, &model.tag.name, &model.manifest.labels);
                Failure::new(exit::CONFIG, lines.trim_end())
            }
            None => {
                let unknown =
                    unknown.iter().flat_map(|unknown| unknown.labels.iter().cloned()).collect::<Vec<_>>();
                let lacks = lacks_labels(&unknown, &model.manifest.labels);
                Failure::new(exit::USAGE, format!("--classes: the model {} {lacks}", model.tag.name))
            }
        })?;
    spare_inputs(args, &inputs, &model.manifest)?;
    let pictures = pictures(args, &model.manifest, &camera)?;
    let records = Records::open(args.output.as_deref())?;
    // Opened before the work: hours of it should not end with a summary that has no place.
    let summary =
        args.summary.as_deref().map(|path| begin(path, &records).map(|draft| (path, draft))).transpose()?;
    // Without pictures there is nothing to be ended in order.
    let stop = pictures.is_some().then(stop_on_signal).transpose()?;
    let mut results = Results { records, pictures, stages: Stages::default(), stop };
    let totals = detect(args, &inputs, (&detector, &camera), wish, &mut model, &mut results);
    let Results { records, pictures, stages, stop } = results;
    let stopped = stop.is_some_and(|stop| stop.load(Ordering::Acquire));
    let drawn = pictures.map_or(Ok(()), |pictures| pictures.finish(stopped));
    let written = records.finish();
    let totals = totals?;
    let summed_up = summary.map_or(Ok(()), |(path, mut draft)| {
        let seconds = clock::now().saturating_duration_since(started).as_secs_f64();
        let text = summary_text(inputs.len(), &totals, seconds, &model, &stages)?;
        let written = draft.write_all(text.as_bytes()).and_then(|()| draft.finish());
        written.map_err(|error| output_failure(&path.display().to_string(), &error))
    });
    written.or_else(quiet_if_closed)?;
    drawn?;
    summed_up?;
    faults(&missing, &totals)
}

/// Where what is detected is drawn.
fn pictures(
    args: &DetectArgs,
    manifest: &Manifest,
    camera: &CameraOptions,
) -> Result<Option<Pictures>, Failure> {
    let open = |path: &Path| Pictures::open(path, &manifest.labels, Surroundings::of(camera));
    args.annotate.as_deref().map(open).transpose()
}

/// The detector, and the camera as which the inputs are looked at.
fn plan(args: &DetectArgs) -> Result<(DetectorOptions, CameraOptions), Failure> {
    let (mut detector, camera) = match &args.camera {
        Some(name) => configured(name, args.config.as_deref().unwrap_or(Path::new(DEFAULT_PATH)))?,
        None => {
            let mut detector = DetectorOptions::new("yolox-nano");
            detector.score_threshold = args.score_threshold.unwrap_or(detector.score_threshold);
            let anywhere = Locator::File { path: PathBuf::new() };
            let (classes, track) = (args.classes.clone(), args.track);
            (detector, CameraOptions { classes, track, ..CameraOptions::new("detect", anywhere) })
        }
    };
    if let Some(model) = &args.model {
        detector.model.clone_from(model);
    }
    args.engine.apply(&mut detector);
    Ok((detector, camera))
}

/// What a configuration says of one camera.
fn configured(name: &str, path: &Path) -> Result<(DetectorOptions, CameraOptions), Failure> {
    let config = load_config(path, Demands::LOOK)?.config;
    let names = || config.cameras.iter().map(|camera| camera.name.as_str());
    let Some(camera) = config.cameras.iter().find(|camera| camera.name == name) else {
        let known = names().collect::<Vec<_>>().join(", ");
        let message = format!("--as: {} has no camera `{name}`; it has: {known}", path.display());
        return Err(Failure::new(exit::USAGE, message));
    };
    Ok((config.detector, camera.clone()))
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

/// Device and number of a file that is there.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// Refuses to write over what is read.
fn spare_inputs(args: &DetectArgs, inputs: &[Input], model: &Manifest) -> Result<(), Failure> {
    let files = inputs.iter().filter_map(|input| match &input.spec.kind {
        SourceKind::File { path } | SourceKind::Image { path } => Some(path),
        _ => None,
    });
    if let Some(path) = args.annotate.as_deref().filter(|_| {
        [&args.output, &args.summary].into_iter().any(|other| other.is_some() && *other == args.annotate)
    }) {
        return Err(taken_already("--annotate", path));
    }
    let taken: Vec<(u64, u64)> = files.chain(model.file()).filter_map(|path| identity(path)).collect();
    for (option, path) in
        [("--output", &args.output), ("--summary", &args.summary), ("--annotate", &args.annotate)]
    {
        let Some(path) = path else { continue };
        let Some(id) = identity(path) else { continue };
        if taken.contains(&id) {
            return Err(taken_already(option, path));
        }
    }
    Ok(())
}

/// Where everything goes that comes of a frame.
struct Results {
    records: Records,
    pictures: Option<Pictures>,
    stages: Stages,
    /// Set when the user has seen enough.
    stop: Option<Arc<AtomicBool>>,
}

fn detect(
    args: &DetectArgs,
    inputs: &[Input],
    (detector, camera): (&DetectorOptions, &CameraOptions),
    wish: Wish,
    model: &mut LoadedModel,
    results: &mut Results,
) -> Result<Totals, Failure> {
    let LoadedModel { manifest, engine, tag, .. } = model;
    let Wish { filter, tracking, events } = wish;
    let shown = lowest_shown(camera, detector);
    let limits = Limits {
        score_threshold: if tracking.is_some() { shown.min(LOW_SCORE) } else { shown },
        iou_threshold: detector.iou_threshold,
        max_objects: detector.max_objects,
        max_candidates: CANDIDATES_MAX,
        ..Limits::default()
    };
    let decoder = Decoder::new(&manifest.head, &manifest.input, manifest.labels.len(), limits);
    let mut reader = ObjectReader::new(manifest.labels.as_slice().into(), decoder, detector.max_objects);
    let Results { records, pictures, stages, stop } = results;
    let choice = Choice {
        every: args.every,
        max_frames: args.max_frames,
        realtime: args.realtime,
        keep_pictures: pictures.is_some(),
        stop: stop.as_deref(),
    };
    let mut last = (usize::MAX, 0);
    let mut undecodable = None;
    let mut published = Vec::with_capacity(detector.max_objects);
    let mut story = tracking.map(|tracking| Story { follower: Follower::new(tracking, events), last: None });
    let mask = PrivacyMask::new(camera.privacy_masks.as_slice().into());
    let totals =
        offline::run(inputs, &manifest.input, choice, mask, engine.as_mut(), &mut |ready, outputs, took| {
            let (began, mut drawing) = (clock::now(), Duration::ZERO);
            let previous = if last.0 == ready.input_index { last.1 } else { 0 };
            if let Some(story) = story.as_mut().filter(|_| last.0 != ready.input_index) {
                story.end(&manifest.labels, records, stages);
            }
            last = (ready.input_index, ready.seq);
            let input = &inputs[ready.input_index];
            let identify = |objects: &mut [_]| {
                if let Some(story) = &mut story {
                    story.follower.follow(ready, objects);
                }
            };
            let read = reader.read(outputs, &ready.geometry, &filter, identify, |objects| {
                stages.objects += objects.len() as u64;
                published.clear();
                published.extend(objects.iter().map(Object::tracked));
                let dropped = ready.seq - previous - 1;
                let written =
                    records.write(|line| detections(input, ready, dropped, objects, tag).write_line(line));
                let began = clock::now();
                let drawn = pictures.as_mut().is_none_or(|pictures| pictures.add(inputs, ready, objects));
                drawing = clock::now().saturating_duration_since(began);
                written && drawn
            });
            if let (Ok(true), Some(story)) = (&read, &mut story) {
                story.tell(of_frame(input, ready), &published, &manifest.labels, records, stages);
            }
            let go_on = read.map(|written| written && !records.has_failed()).unwrap_or_else(|error| {
                undecodable = Some(Failure::new(exit::NO_INPUT, error.to_string()));
                false
            });
            stages.add(ready, took, began + drawing);
            go_on
        });
    if let Some(story) = story.as_mut().filter(|_| totals.is_ok() && !records.has_failed()) {
        story.end(&manifest.labels, records, stages);
    }
    match undecodable {
        Some(failure) => Err(failure),
        None => totals.map_err(|error| Failure::new(exit::INTERNAL, error.to_string())),
    }
}

/// Who is followed through an input, and what happens to them.
struct Story<'a> {
    follower: Follower,
    /// The frame of which was told last.
    last: Option<EventRecord<'a>>,
}

impl<'a> Story<'a> {
    /// Tells what has happened in this frame.
    fn tell(
        &mut self,
        of_frame: EventRecord<'a>,
        objects: &[Tracked],
        labels: &[String],
        records: &mut Records,
        stages: &mut Stages,
    ) {
        self.last = Some(of_frame);
        self.follower.tell(objects, &mut |event| write_event(event, of_frame, labels, records, stages));
    }

    /// The input of the last frame has ended.
    fn end(&mut self, labels: &[String], records: &mut Records, stages: &mut Stages) {
        let Some(of_frame) = self.last.take() else { return };
        self.follower.end(&mut |event| write_event(event, of_frame, labels, records, stages));
    }
}

fn write_event(
    event: &Event<'_>,
    of_frame: EventRecord<'_>,
    labels: &[String],
    records: &mut Records,
    stages: &mut Stages,
) {
    stages.events += 1;
    let record = EventRecord::new(event, labels, of_frame);
    records.write(|line| record.write_line(line));
}

fn detections<'a>(
    input: &'a Input,
    ready: &Ready,
    dropped_since_last: u64,
    objects: &'a [Object<'a>],
    tag: &'a ModelTag,
) -> Detections<'a> {
    Detections {
        camera: &input.name,
        generation: 1,
        seq: ready.seq,
        ts: clock::wall(),
        ts_source: TsSource::File,
        pts_ns: ready.pts_ns,
        stamp: None,
        latency_ms: clock::now().saturating_duration_since(ready.at).as_secs_f64() * 1e3,
        frame: FrameSize { width: ready.width, height: ready.height },
        model: tag.part(),
        dropped_since_last,
        objects,
    }
}

fn of_frame<'a>(input: &'a Input, ready: &Ready) -> EventRecord<'a> {
    let frame = FrameSize { width: ready.width, height: ready.height };
    EventRecord::of_frame(&input.name, (1, ready.seq), (clock::wall(), TsSource::File, ready.pts_ns), frame)
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

/// Begins the summary.
fn begin(path: &Path, records: &Records) -> Result<Draft, Failure> {
    if records.are_in(path) {
        return Err(taken_already("--summary", path));
    }
    Draft::begin(path).map_err(|error| output_failure(&path.display().to_string(), &error))
}
