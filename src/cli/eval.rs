//! `watchpost eval`: COCO's average precision of a model on a folder of images with truth, and the gate that an engine of
//! lower precision has to pass.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::json;
use watchpost_pipelines::SourceKind;

use super::common::{
    EngineArgs, LoadedModel, input_failure, load_model, output_failure, print, print_json, start_gstreamer,
};
use super::draft::Draft;
use super::{Failure, exit};
use crate::clock;
use crate::decode::{Decoder, Detection, Limits};
use crate::evaluate::{self, Evaluation, Labelled, Report, Scored};
use crate::frame::{Geometry, PrivacyMask};
use crate::offline::{self, Choice, Input};

/// Arguments of `watchpost eval`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Truth is one text file an image with the image's name: a line `class cx cy w h` a box, in parts of the
image (the format of YOLO). A classes.txt in their folder names the classes by line; without it their
numbers are the model's. Boxes of classes that the model does not have are left out.

The figures are COCO's: mAP 50-95 is the mean over IoU 0.50 to 0.95 and all classes with truth.

Examples:
    watchpost eval yolox-nano --images val/images
    # An INT8 engine may lose no more than a hundredth against FP32
    watchpost eval gate --images val/images --backend tensorrt --precision fp32 --json fp32.json
    watchpost eval gate --images val/images --backend tensorrt --precision int8 \\
        --baseline fp32.json --max-loss 0.01

Exit codes: 0 fine, 66 images, labels or baseline cannot be read, 69 the loss is more than allowed (the
engine is not to be used) or the backend is not there.")]
pub struct EvalArgs {
    /// A manifest's name or the path of an .onnx file
    #[arg(value_name = "MODEL")]
    model: String,

    /// Folder of images
    #[arg(long, value_name = "DIR")]
    images: PathBuf,

    /// Folder of their truth [default: `labels` beside a folder `images`, else the images' folder]
    #[arg(long, value_name = "DIR")]
    labels: Option<PathBuf>,

    #[command(flatten)]
    engine: EngineArgs,

    /// Write the report to this file as JSON; `-` is stdout
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write every detection to this file in COCO's results format, for other tools
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,

    /// A report of an earlier run that this one is compared with
    #[arg(long, value_name = "FILE", requires = "max_loss")]
    baseline: Option<PathBuf>,

    /// How much mAP 50-95 may be below the baseline's, for example 0.01
    #[arg(long, value_name = "0..1", requires = "baseline", value_parser = part)]
    max_loss: Option<f64>,

    /// Of two boxes of one class that overlap by more than this only the better one counts
    #[arg(long, value_name = "0..1", default_value_t = IOU_THRESHOLD, value_parser = part)]
    iou_threshold: f64,

    /// Look at no more than so many images
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_images: Option<u64>,
}

pub(super) fn part(text: &str) -> Result<f64, String> {
    let part: f64 = text.parse().map_err(|_| "must be a number between 0 and 1".to_owned())?;
    if (0.0..=1.0).contains(&part) { Ok(part) } else { Err("must be a number between 0 and 1".to_owned()) }
}

/// What NMS in an evaluation takes for one object unless it is told.
const IOU_THRESHOLD: f64 = 0.65;
/// Detections below this change nothing: COCO's custom.
const SCORE_THRESHOLD: f32 = 0.001;
/// Detections of one image, before the hundred best of each class are taken.
const OBJECTS_MAX: usize = 1000;
/// Boxes that NMS looks at: with so low a threshold all of them are candidates.
const CANDIDATES_MAX: usize = 30_000;

pub(super) fn run(args: &EvalArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let baseline = args.baseline.as_deref().map(read_report).transpose()?;
    let images = images(args)?;
    let labels_dir = args.labels.clone().unwrap_or_else(|| evaluate::find_labels(&args.images));
    start_gstreamer()?;
    let mut model = load_model(&args.engine.detector(&args.model), exit::NO_INPUT)?;
    let task = model.manifest.head.task();
    if task == "classify" {
        let name = &model.manifest.name;
        return Err(Failure::new(
            exit::USAGE,
            format!("{name} is a classifier: it has no boxes to evaluate; use a detection model"),
        ));
    }
    let mut truth = Truth::open(labels_dir, &model.manifest.labels)?;
    // Opened before the work: minutes of it should not end with a file that has no place.
    let mut results = args.results.as_deref().map(Results::create).transpose()?;
    let json = args.json.as_deref().filter(|path| *path != Path::new("-"));
    let json = json.map(|path| begin(path).map(|draft| (path, draft))).transpose()?;
    let report = evaluate_images(args, &images, &mut model, &mut truth, results.as_mut())?;
    truth.tell()?;
    if let Some(results) = results {
        results.finish()?;
    }
    let value = report_json(&report, &model);
    if let Some((path, mut draft)) = json {
        let text = format!("{value:#}\n");
        let written = draft.write_all(text.as_bytes()).and_then(|()| draft.finish());
        written.map_err(|error| output_failure(&path.display().to_string(), &error))?;
    }
    match args.json.as_deref() {
        Some(path) if path == Path::new("-") => print_json(out, &value)?,
        _ => print(out, &report_text(&report, &model))?,
    }
    match (baseline, args.max_loss) {
        (Some(baseline), Some(max_loss)) => gate(&baseline, &report, max_loss, out, args.json.as_deref()),
        _ => Ok(()),
    }
}

/// The figures of a loaded model on a folder of pictures with truth.
pub(super) fn measure(
    model: &mut LoadedModel,
    engine: EngineArgs,
    folder: &Path,
    labels: Option<&Path>,
) -> Result<Report, Failure> {
    let args = EvalArgs {
        model: String::new(),
        images: folder.to_owned(),
        labels: labels.map(Path::to_owned),
        engine,
        json: None,
        results: None,
        baseline: None,
        max_loss: None,
        iou_threshold: IOU_THRESHOLD,
        max_images: None,
    };
    let images = images(&args)?;
    let labels = args.labels.clone().unwrap_or_else(|| evaluate::find_labels(folder));
    let mut truth = Truth::open(labels, &model.manifest.labels)?;
    let report = evaluate_images(&args, &images, model, &mut truth, None)?;
    truth.tell()?;
    Ok(report)
}

fn gate(
    baseline: &Report,
    report: &Report,
    max_loss: f64,
    out: &mut dyn Write,
    json: Option<&Path>,
) -> Result<(), Failure> {
    let gained = evaluate::accept(baseline, report, max_loss)
        .map_err(|error| Failure::new(exit::UNAVAILABLE, format!("not accepted: {error}")))?;
    if json == Some(Path::new("-")) {
        return Ok(());
    }
    print(out, &format!("accepted: mAP 50-95 {gained:+.4} against the baseline, {max_loss} may be lost\n"))
}

fn images(args: &EvalArgs) -> Result<Vec<Input>, Failure> {
    let folder = args.images.display().to_string();
    let paths = offline::images_in(&args.images).map_err(|error| input_failure(&folder, &error))?;
    if paths.is_empty() {
        let known = offline::IMAGE_EXTENSIONS.join(", ");
        return Err(Failure::new(exit::NO_INPUT, format!("{folder}: the folder holds no images ({known})")));
    }
    let most = args.max_images.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
    let input = |path: PathBuf| Input {
        name: path.display().to_string(),
        spec: watchpost_pipelines::Spec::new(SourceKind::Image { path }),
    };
    Ok(paths.into_iter().take(most).map(input).collect())
}

fn evaluate_images(
    args: &EvalArgs,
    images: &[Input],
    model: &mut LoadedModel,
    truth: &mut Truth,
    mut results: Option<&mut Results>,
) -> Result<Report, Failure> {
    let LoadedModel { manifest, engine, .. } = model;
    let limits = Limits {
        score_threshold: SCORE_THRESHOLD,
        iou_threshold: args.iou_threshold as f32,
        max_objects: OBJECTS_MAX,
        max_candidates: CANDIDATES_MAX,
        class_agnostic: false,
    };
    let mut decoder = Decoder::new(&manifest.head, &manifest.input, manifest.labels.len(), limits);
    let mut evaluation = Evaluation::new(manifest.labels.len());
    let mut detections: Vec<Detection> = Vec::with_capacity(OBJECTS_MAX);
    let mut progress = Progress::start(images.len());
    let choice = Choice { every: 1, max_frames: Some(1), realtime: false, keep_pictures: false, stop: None };
    let mut failure = None;
    let ran = offline::run(
        images,
        &manifest.input,
        choice,
        PrivacyMask::default(),
        engine.as_mut(),
        &mut |ready, outputs, _took| {
            progress.step();
            let mut one = || -> Result<(), Failure> {
                let undecodable =
                    |error: crate::decode::DecodeError| Failure::new(exit::NO_INPUT, error.to_string());
                decoder.decode(outputs, &mut detections).map_err(undecodable)?;
                let found: Vec<Scored> =
                    detections.iter().map(|detection| scored(detection, &ready.geometry)).collect();
                let path = Path::new(&images[ready.input_index].name);
                let labelled = truth.of(path, (ready.width, ready.height))?;
                evaluation.add(&labelled, &found);
                results.as_mut().map_or(Ok(()), |results| results.write(ready.input_index, path, &found))
            };
            failure = one().err();
            failure.is_none()
        },
    );
    progress.end();
    if let Some(failure) = failure {
        return Err(failure);
    }
    let totals = ran.map_err(|error| Failure::new(exit::INTERNAL, error.to_string()))?;
    // A figure over fewer images than there are would be another figure.
    if let Some((name, fault)) = totals.faults.first() {
        let (count, detail) = (totals.faults.len(), &fault.detail);
        return Err(Failure::new(
            exit::NO_INPUT,
            format!("{count} of {} images cannot be read, the first is {name}: {detail}", images.len()),
        ));
    }
    Ok(evaluation.report(&manifest.labels))
}

fn scored(detection: &Detection, geometry: &Geometry) -> Scored {
    let [x1, y1, x2, y2] = geometry.to_source(detection.bbox).map(f64::from);
    Scored {
        class_id: detection.class_id,
        score: f64::from(detection.score),
        bbox: [x1, y1, x2 - x1, y2 - y1],
    }
}

/// The truth of the images, in the numbers of the model's labels.
struct Truth {
    folder: PathBuf,
    /// By the truth's number: the model's; `None` where classes count as the model's do.
    numbers: Option<Vec<Option<u32>>>,
    label_count: u32,
    images: u64,
    without_file: u64,
    foreign_boxes: u64,
}

impl Truth {
    fn open(folder: PathBuf, labels: &[String]) -> Result<Self, Failure> {
        let names = evaluate::class_names(&folder)
            .map_err(|error| Failure::new(exit::NO_INPUT, error.to_string()))?;
        let number = |name: &String| labels.iter().position(|label| label == name).map(|index| index as u32);
        let numbers = names.map(|names| names.iter().map(number).collect());
        let label_count = u32::try_from(labels.len()).unwrap_or(u32::MAX);
        Ok(Self { folder, numbers, label_count, images: 0, without_file: 0, foreign_boxes: 0 })
    }

    fn of(&mut self, image: &Path, size: (u32, u32)) -> Result<Vec<Labelled>, Failure> {
        let read = evaluate::read_labels(&self.folder, image, size);
        let boxes = read.map_err(|error| Failure::new(exit::NO_INPUT, error.to_string()))?;
        self.images += 1;
        self.without_file += u64::from(boxes.is_none());
        let mut boxes = boxes.unwrap_or_default();
        let before = boxes.len();
        boxes.retain_mut(|one| {
            let number = match &self.numbers {
                None => Some(one.class_id).filter(|&number| number < self.label_count),
                Some(numbers) => numbers.get(one.class_id as usize).copied().flatten(),
            };
            one.class_id = number.unwrap_or(one.class_id);
            number.is_some()
        });
        self.foreign_boxes += (before - boxes.len()) as u64;
        Ok(boxes)
    }

    /// Says what was left out, and refuses where nothing was there.
    fn tell(&self) -> Result<(), Failure> {
        let folder = self.folder.display();
        if self.without_file == self.images {
            return Err(Failure::new(
                exit::NO_INPUT,
                format!(
                    "{folder}: none of the {} images has a labels file there (one .txt with the image's name); name \
                     their folder with --labels",
                    self.images
                ),
            ));
        }
        if self.without_file > 0 {
            tracing::warn!(
                "{} images have no labels file in {folder}: they count as empty",
                self.without_file
            );
        }
        if self.foreign_boxes > 0 {
            tracing::warn!(
                "{} boxes are of classes that the model does not have: left out",
                self.foreign_boxes
            );
        }
        Ok(())
    }
}

fn read_report(path: &Path) -> Result<Report, Failure> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| input_failure(&name, &error))?;
    serde_json::from_str(&text).map_err(|error| {
        Failure::new(
            exit::NO_INPUT,
            format!("{name}: is not a report of `watchpost eval --json`: {error}; write one with --json"),
        )
    })
}

fn begin(path: &Path) -> Result<Draft, Failure> {
    Draft::begin(path).map_err(|error| output_failure(&path.display().to_string(), &error))
}

/// Every detection as COCO's tools read them: a list, one a line.
struct Results {
    name: String,
    file: BufWriter<Draft>,
    count: u64,
}

impl Results {
    fn create(path: &Path) -> Result<Self, Failure> {
        Ok(Self { name: path.display().to_string(), file: BufWriter::new(begin(path)?), count: 0 })
    }

    fn write(&mut self, index: usize, image: &Path, found: &[Scored]) -> Result<(), Failure> {
        let file_name = image.file_name().unwrap_or_default().to_string_lossy();
        for one in found {
            let line = json!({
                "image_id": index + 1, "file_name": file_name, "category_id": one.class_id,
                "bbox": one.bbox, "score": one.score,
            });
            let comma = if self.count == 0 { "[\n" } else { ",\n" };
            write!(self.file, "{comma}{line}").map_err(|error| output_failure(&self.name, &error))?;
            self.count += 1;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), Failure> {
        let end = if self.count == 0 { "[]\n" } else { "\n]\n" };
        let written = self.file.write_all(end.as_bytes());
        let complete = written.and_then(|()| self.file.into_inner().map_err(io::IntoInnerError::into_error));
        let finished = complete.and_then(Draft::finish);
        finished.map_err(|error| output_failure(&self.name, &error))
    }
}

fn report_json(report: &Report, model: &LoadedModel) -> serde_json::Value {
    json!({
        "images": report.images,
        "map_50_95": report.map_50_95,
        "map_50": report.map_50,
        "per_class": report.per_class,
        "backend": model.tag.backend,
        "precision": model.tag.precision,
        "model": {"name": model.tag.name, "sha256": model.tag.sha256},
    })
}

fn report_text(report: &Report, model: &LoadedModel) -> String {
    let width = report.per_class.keys().map(|label| label.chars().count()).max().unwrap_or(5).max(5);
    let mut text = format!(
        "{:width$}  {:>9}  {:>6}  {:>6}  {:>10}\n",
        "label", "mAP 50-95", "mAP 50", "truth", "detections"
    );
    for (label, class) in &report.per_class {
        text += &format!(
            "{label:width$}  {:>9.4}  {:>6.4}  {:>6}  {:>10}\n",
            class.map_50_95, class.map_50, class.truths, class.detections
        );
    }
    let (tag, images) = (&model.tag, report.images);
    text += &format!(
        "{:width$}  {:>9.4}  {:>6.4}\n{} on {} ({}), {images} images\n",
        "all", report.map_50_95, report.map_50, tag.name, tag.backend, tag.precision
    );
    text
}

/// How far it is, on stderr: on a terminal one line that is written over, else a line every few seconds.
struct Progress {
    is_terminal: bool,
    said: Instant,
    done: usize,
    total: usize,
}

impl Progress {
    /// Seconds between two lines where they cannot be written over.
    const PLAIN_EVERY_S: u64 = 10;

    fn start(total: usize) -> Self {
        Self { is_terminal: io::stderr().is_terminal(), said: clock::now(), done: 0, total }
    }

    fn step(&mut self) {
        self.done += 1;
        let (done, total) = (self.done, self.total);
        let now = clock::now();
        let seconds = now.saturating_duration_since(self.said).as_secs();
        let _nobody_listens = match self.is_terminal {
            true => write!(io::stderr(), "\r\x1b[K{done} of {total} images"),
            false if seconds >= Self::PLAIN_EVERY_S => {
                self.said = now;
                writeln!(io::stderr(), "{done} of {total} images")
            }
            false => Ok(()),
        };
    }

    fn end(&self) {
        if self.is_terminal {
            let _nobody_listens = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
