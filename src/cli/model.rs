//! `watchpost model add | list | show | pull`: describe a detector once, then use it by name.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::common::{input_failure, output_failure, print};
use super::draft::replace;
use super::{Failure, exit};
use crate::model::{
    self, ChannelOrder, Conclusion, Fit, Listed, Manifest, ModelError, ModelSource, OnnxFacts, Overrides,
    Values,
};

/// Describe detectors, list them, look at one, fetch one.
#[derive(Debug, Args)]
#[command(after_help = "\
A model is an ONNX file and a manifest (TOML) that says what its input wants and what its outputs mean.
`add` writes the manifest by looking into the file and says what it could not tell:

    watchpost model add yolov8n.onnx
    watchpost model show ./yolov8n.onnx
    watchpost detect street.jpg -m ./yolov8n.onnx

`list` also shows models that `pull` fetches, each with a permissive licence:

    watchpost model pull yolox-nano")]
pub struct ModelArgs {
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Debug, Subcommand)]
enum ModelCommand {
    /// Look into an ONNX file and write its manifest.
    Add(AddArgs),
    /// Show which models there are and where they were found.
    #[command(after_help = "\
Example:
    watchpost model list --json | jq '.[] | {name, state, file}'")]
    List {
        /// One JSON array instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Verify one model and show everything known about it.
    #[command(after_help = "\
Example:
    watchpost model show yolox-nano
    watchpost model show ./yolov8n.onnx --json | jq '.labels'")]
    Show {
        /// A name from `model list`, or the path of a manifest or an ONNX file.
        #[arg(value_name = "MODEL")]
        model: String,
        /// One JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Fetch a model of the catalogue: resumable, verified, with its manifest.
    Pull(super::model_pull::PullArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
    # Beside the file; its path then names the model: model = \"/opt/models/yolov8n.onnx\"
    watchpost model add /opt/models/yolov8n.onnx
    # By name, for every config on this box, with labels of your own (one a line, any language)
    watchpost model add gate.onnx --name gate --labels labels.txt --copy --dir /var/lib/watchpost/models
    # Only look, and see whether the recipe is right: what it finds is drawn into a copy of the picture
    watchpost model add gate.onnx --dry-run --test-image street.jpg -o street.png

Families that are recognised: YOLOX; YOLOv5, v6, v7; YOLOv8, 9, 11, 12 (detect, pose, segment, oriented boxes);
YOLOv10, YOLO26 and exports with NMS inside (Ultralytics, EfficientNMS, ONNX NonMaxSuppression); NanoDet,
PicoDet, PP-YOLOE; DETR, RT-DETR, D-FINE, DEIM, RF-DETR; SSD, YOLO-NAS; MMDeploy; classifiers.")]
struct AddArgs {
    /// The ONNX file.
    #[arg(value_name = "FILE.onnx")]
    file: PathBuf,
    /// Name of the model in configs and records [default: the file's name].
    #[arg(long)]
    name: Option<String>,
    /// Text file with one label per class, in the model's order.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Order of the colour channels the model was trained on: rgb or bgr.
    #[arg(long, value_parser = ChannelOrder::parse)]
    channels: Option<ChannelOrder>,
    /// How pictures are fitted in: letterbox-center, letterbox-topleft, stretch or center-crop.
    #[arg(long, value_parser = Fit::parse)]
    fit: Option<Fit>,
    /// What the samples 0..255 of a picture are made: 0..255, 0..1, -1..1, imagenet or imagenet-255.
    #[arg(long, value_parser = Values::parse, allow_hyphen_values = true)]
    values: Option<Values>,
    /// Width and height for a model that leaves them open, for example 640x384.
    #[arg(long, value_name = "WxH", value_parser = parse_size)]
    size: Option<(usize, usize)>,
    /// Folder for the manifest [default: the file's own folder].
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Copy the ONNX file into the folder, too.
    #[arg(long, requires = "dir")]
    copy: bool,
    /// Replace a manifest that is already there.
    #[arg(long)]
    force: bool,
    /// Print the manifest and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Detect in this picture with the recipe that was concluded, and draw what was found into a copy of it.
    #[arg(long, value_name = "PICTURE")]
    test_image: Option<PathBuf>,
    /// Where that copy goes, a PNG file [default: the model's name with .png, in this folder].
    #[arg(short, long, value_name = "FILE.png", requires = "test_image")]
    output: Option<PathBuf>,
}

fn parse_size(text: &str) -> Result<(usize, usize), String> {
    let sides = text.split_once(['x', 'X', '×']).and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    sides.ok_or_else(|| format!("{text:?} is not WIDTHxHEIGHT, for example 640x384"))
}

impl From<ModelError> for Failure {
    /// A model that is missing, broken or not the described one is an input that cannot be read.
    fn from(error: ModelError) -> Self {
        Self::new(exit::NO_INPUT, error.to_string())
    }
}

/// Runs the sub-command; what the user asked for goes to `out`.
///
/// # Errors
/// [`Failure`] with 66 for a model that cannot be read or understood, 64 for a manifest that is in the way,
/// 74 when writing fails.
pub fn run(args: &ModelArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let text = match &args.command {
        ModelCommand::Add(add) => add_model(add)?,
        ModelCommand::List { json } => {
            let dirs = model::search_dirs();
            let listed = model::list(&dirs);
            if *json { list_json(&listed, &dirs) } else { list_table(&listed, &dirs) }
        }
        ModelCommand::Show { model, json } => {
            let manifest = model::find(model, &model::search_dirs())?;
            let facts = model::verify(&manifest)?;
            if *json { show_json(&manifest, &facts) } else { show_text(&manifest, &facts) }
        }
        ModelCommand::Pull(pull) => return super::model_pull::run(pull, out),
    };
    print(out, &text)
}

fn add_model(add: &AddArgs) -> Result<String, Failure> {
    let path = add.file.display().to_string();
    let (facts, mut conclusion) =
        model::conclude_file(&add.file, &default_name(&add.file), &overrides(add)?)?;
    let source = ModelSource::File(add.file.clone());
    conclusion.manifest.sha256 = model::digest(&source).map_err(|error| input_failure(&path, &error))?;
    conclusion.manifest.source = source;
    let (target, file) = target(add, &conclusion.manifest.name)?;
    let toml = conclusion.manifest.to_toml(&file);
    let mut report = format!("{path}\n");
    report_facts(&mut report, &facts);
    report_conclusion(&mut report, &conclusion);
    if let Some(picture) = &add.test_image {
        let output = add.output.clone().unwrap_or_else(|| format!("{}.png", conclusion.manifest.name).into());
        report += &super::test_image::run(&conclusion.manifest, picture, &output)?;
    }
    if add.dry_run {
        let _ =
            write!(report, "\nNothing was written. The manifest would be {}:\n\n{toml}", target.display());
        return Ok(report);
    }
    if target.exists() && !add.force {
        return Err(Failure::new(
            exit::USAGE,
            format!("{} is already there; --force replaces it, --dry-run only shows", target.display()),
        ));
    }
    write_model(add, &target, &toml)?;
    let _ = writeln!(report, "\nWritten: {}", target.display());
    let _ = writeln!(report, "Use it:  {}", how_to_use(add, &target, &conclusion.manifest.name));
    Ok(report)
}

fn default_name(file: &Path) -> String {
    let stem = file.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let legal = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    let name: String = stem.chars().map(legal).take(64).collect();
    let name = name.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    if name.is_empty() { "model".to_owned() } else { name.to_owned() }
}

fn overrides(add: &AddArgs) -> Result<Overrides, Failure> {
    if let Some(name) = &add.name {
        model::check_name(name).map_err(|reason| Failure::new(exit::USAGE, reason))?;
    }
    let labels = match &add.labels {
        None => None,
        Some(path) => Some(model::load_labels(path)?),
    };
    Ok(Overrides {
        name: add.name.clone(),
        labels,
        channels: add.channels,
        fit: add.fit,
        values: add.values,
        size: add.size,
    })
}

/// The manifest's path, and the ONNX file as the manifest should name it.
fn target(add: &AddArgs, name: &str) -> Result<(PathBuf, String), Failure> {
    let unreadable = |error: io::Error| input_failure(&add.file.display().to_string(), &error);
    let file_name = add.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match &add.dir {
        None => Ok((add.file.with_extension("toml"), file_name)),
        Some(dir) if add.copy => Ok((dir.join(format!("{name}.toml")), file_name)),
        Some(dir) => {
            let absolute = fs::canonicalize(&add.file).map_err(unreadable)?;
            let same = fs::canonicalize(dir).is_ok_and(|dir| absolute.parent() == Some(dir.as_path()));
            let file = if same { file_name } else { absolute.to_string_lossy().into_owned() };
            Ok((dir.join(format!("{name}.toml")), file))
        }
    }
}

fn write_model(add: &AddArgs, target: &Path, toml: &str) -> Result<(), Failure> {
    let dir = target.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |what: &Path| {
        let what = what.display().to_string();
        move |error: io::Error| output_failure(&what, &error)
    };
    fs::create_dir_all(dir).map_err(failed(dir))?;
    if add.copy {
        let copy = dir.join(add.file.file_name().unwrap_or_default());
        let same = fs::canonicalize(&copy).ok() == fs::canonicalize(&add.file).ok() && copy.exists();
        if !same {
            let mut source = File::open(&add.file).map_err(failed(&add.file))?;
            replace(&copy, |draft| io::copy(&mut source, draft).map(drop)).map_err(failed(&copy))?;
        }
    }
    replace(target, |draft| draft.write_all(toml.as_bytes())).map_err(|error| {
        let mut failure = output_failure(&target.display().to_string(), &error);
        if add.dir.is_none() {
            failure.message += "; --dir DIR writes it somewhere else";
        }
        failure
    })
}

fn how_to_use(add: &AddArgs, target: &Path, name: &str) -> String {
    let dir = target.parent().and_then(|dir| fs::canonicalize(dir).ok());
    let found =
        dir.is_some() && model::search_dirs().iter().any(|searched| fs::canonicalize(searched).ok() == dir);
    if found {
        return format!("model = \"{name}\" in [detector], or -m {name}");
    }
    let by_path = if add.dir.is_some() { target } else { &add.file };
    let by_path = fs::canonicalize(by_path).unwrap_or_else(|_| by_path.to_owned());
    format!("model = \"{0}\" in [detector], or -m {0}", by_path.display())
}

fn report_facts(text: &mut String, facts: &OnnxFacts) {
    let opset = facts.opsets.get("").map_or_else(|| "?".to_owned(), u64::to_string);
    let producer = if facts.producer.is_empty() { "unknown" } else { &facts.producer };
    let mebibytes = facts.initializer_bytes as f64 / f64::from(1 << 20);
    let _ = writeln!(
        text,
        "  {} operators, {mebibytes:.1} MiB of weights, opset {opset}, written by {producer}",
        facts.nodes.len()
    );
    for tensor in &facts.inputs {
        let _ = writeln!(text, "  input   {tensor}");
    }
    for tensor in &facts.outputs {
        let _ = writeln!(text, "  output  {tensor}");
    }
}

fn report_conclusion(text: &mut String, conclusion: &Conclusion) {
    text.push_str("\nConcluded:\n");
    for note in &conclusion.notes {
        let _ = writeln!(text, "  - {note}");
    }
    if conclusion.unknown.is_empty() {
        text.push_str("\nNothing had to be assumed.\n");
        return;
    }
    text.push_str("\nCould not be told from the file; please check:\n");
    for unknown in &conclusion.unknown {
        let _ = writeln!(text, "  - {unknown}");
    }
}

/// `ready`, `missing` (the weights are not there), `not pulled` (they can be fetched), `compiled in` or `broken` (the
/// manifest).
fn state(listed: &Listed, dirs: &[PathBuf]) -> &'static str {
    match &listed.manifest {
        Err(_) => "broken",
        Ok(manifest) => match (model::locate(manifest, dirs), &manifest.download) {
            (Some(ModelSource::Embedded(_)), _) => "compiled in",
            (Some(ModelSource::File(_)), _) => "ready",
            (None, Some(_)) => "not pulled",
            (None, None) => "missing",
        },
    }
}

fn place(listed: &Listed, state: &str) -> String {
    match (&listed.path, &listed.manifest) {
        (_, Ok(manifest)) if state == "not pulled" => format!("watchpost model pull {}", manifest.name),
        (Some(path), _) => path.display().to_string(),
        (None, _) => "(in this binary)".to_owned(),
    }
}

fn list_table(listed: &[Listed], dirs: &[PathBuf]) -> String {
    let mut text = String::new();
    if listed.is_empty() {
        text.push_str("No manifests found in:\n");
        for dir in dirs {
            let _ = writeln!(text, "  {}", dir.display());
        }
        text.push_str("`watchpost model add FILE.onnx` writes one.\n");
        return text;
    }
    let _ = writeln!(
        text,
        "{:<20} {:<12} {:<8} {:<10} {:>7}  MANIFEST",
        "NAME", "STATE", "FAMILY", "INPUT", "CLASSES"
    );
    for entry in listed {
        let state = state(entry, dirs);
        match &entry.manifest {
            Ok(manifest) => {
                let input = format!("{}x{}", manifest.input.width, manifest.input.height);
                let _ = writeln!(
                    text,
                    "{:<20} {:<12} {:<8} {:<10} {:>7}  {}",
                    manifest.name,
                    state,
                    manifest.head.family(),
                    input,
                    manifest.labels.len(),
                    place(entry, state)
                );
            }
            Err(error) => {
                let _ = writeln!(text, "{:<20} {:<12} {error}", "-", state);
            }
        }
    }
    text
}

fn list_json(listed: &[Listed], dirs: &[PathBuf]) -> String {
    let entries: Vec<serde_json::Value> = listed
        .iter()
        .map(|entry| match &entry.manifest {
            Ok(manifest) => {
                let mut value = manifest_json(manifest);
                value["state"] = json!(state(entry, dirs));
                value
            }
            Err(error) => json!({
                "state": "broken", "manifest": entry.path.as_ref().map(|p| p.display().to_string()),
                "error": error.to_string(),
            }),
        })
        .collect();
    format!("{}\n", serde_json::Value::Array(entries))
}

fn manifest_json(manifest: &Manifest) -> serde_json::Value {
    let input = &manifest.input;
    let strides = match &manifest.head {
        model::HeadRecipe::Yolox { strides }
        | model::HeadRecipe::Yolov5Grids { strides, .. }
        | model::HeadRecipe::Nanodet { strides, .. } => json!(strides),
        _ => serde_json::Value::Null,
    };
    json!({
        "name": manifest.name,
        "manifest": manifest.path.as_ref().map(|path| path.display().to_string()),
        "file": manifest.file().map(|path| path.display().to_string()),
        "sha256": manifest.sha256,
        "description": manifest.description,
        "license": manifest.license,
        "input": {
            "width": input.width, "height": input.height, "channels": input.channels.as_str(),
            "fit": input.fit.as_str(), "pad": input.pad, "scale": input.scale, "offset": input.offset,
        },
        "head": {"family": manifest.head.family(), "task": manifest.head.task(), "strides": strides},
        "labels": manifest.labels,
        "evaluation": manifest.evaluation,
        "download": manifest.download.as_ref().map(|download| json!({
            "url": download.url, "bytes": download.size_bytes, "project": download.project,
        })),
        "notes": manifest.notes,
    })
}

fn show_json(manifest: &Manifest, facts: &OnnxFacts) -> String {
    let mut value = manifest_json(manifest);
    let tensors = |tensors: &[model::TensorFacts]| {
        tensors.iter().map(|t| json!({"name": t.name, "tensor": t.to_string()})).collect::<Vec<_>>()
    };
    value["onnx"] = json!({
        "producer": facts.producer, "ir_version": facts.ir_version, "opsets": facts.opsets,
        "inputs": tensors(&facts.inputs), "outputs": tensors(&facts.outputs),
        "operators": facts.op_histogram(), "weight_bytes": facts.initializer_bytes,
        "file_bytes": facts.file_bytes,
    });
    format!("{value}\n")
}

fn show_text(manifest: &Manifest, facts: &OnnxFacts) -> String {
    let mut text = format!("{}: {}\n", manifest.name, manifest.source);
    report_facts(&mut text, facts);
    text.push('\n');
    if manifest.path.is_none() && !manifest.notes.is_empty() {
        text.push_str("There is no manifest; this was concluded (`watchpost model add` writes it down):\n");
        for note in &manifest.notes {
            let _ = writeln!(text, "  - {note}");
        }
        text.push('\n');
    }
    let file = manifest.file().map_or_else(|| "(compiled in)".to_owned(), |path| path.display().to_string());
    text.push_str(&manifest.to_toml(&file));
    text
}
