//! `watchpost engine build --precision int8` for the CPU's backends: an INT8 model (QDQ) beside the FP32 one, made in the
//! user's Python, and kept only if it sees nearly as much.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;
use watchpost_tensorrt::CalibrationFrames;

use super::super::common::{EngineArgs, load_model, output_failure, print, print_json, start_gstreamer};
use super::super::{Failure, eval, exit};
use super::BuildArgs;
use crate::engine::calibration::Pictures;
use crate::engine::tensorrt_build::Calibration;
use crate::engine::{onnxruntime, openvino};
use crate::evaluate::{self, Report};
use crate::folders;
use crate::model::{self, Manifest, ModelSource, OnnxFacts};
use crate::os_words::os_words;

/// The tool: `tools/quantize.py`.
const SCRIPT: &str = include_str!("../../../tools/quantize.py");
/// Names the Python that has the packages.
const PYTHON_VARIABLE: &str = "WATCHPOST_PYTHON";
/// With this code the script says that a package is missing, with the next one that the model cannot be quantized.
const PACKAGE_MISSING: i32 = 3;
const MODEL_REFUSED: i32 = 4;
/// So much of what the tool said is looked at.
const WORDS_BYTES: u64 = 16 << 10;

/// Makes, measures and keeps an INT8 model.
///
/// # Errors
/// 64 contradicting options, 66 model, pictures or their truth cannot be read, 69 no Python, package or backend, or it sees too
/// little, 70 the tool failed, 74 it cannot be kept.
pub(super) fn run(
    args: &BuildArgs,
    manifest: &Manifest,
    facts: &OnnxFacts,
    say: &mut dyn FnMut(&str),
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let Some(folder) = &args.int8_calibration else {
        return Err(Failure::new(
            exit::USAGE,
            "an INT8 model for the CPU needs --calibration DIR with some hundred pictures of your cameras and their labels",
        ));
    };
    if facts.nodes.iter().any(|node| node.op == "DequantizeLinear") {
        let words = format!("{} is quantized already: use it with precision = \"int8\"", manifest.name);
        return Err(Failure::new(exit::USAGE, words));
    }
    let target = Target::new(args, manifest)?;
    let calibration = Calibration::read(folder)?;
    let backend = backend()?;
    let python = Python::find()?;
    start_gstreamer()?;
    say("measuring what the model sees in fp32");
    let labels = args.labels.as_deref();
    let baseline = measure(&args.model, backend, "fp32", folder, labels)?;
    let work = Work::begin(&target.onnx)?;
    python.quantize(manifest, facts, &calibration, backend, &work, say)?;
    let quantized = work.describe(manifest, &target)?;
    say("measuring what it sees in int8");
    let candidate = measure(&work.onnx().to_string_lossy(), backend, "int8", folder, labels)?;
    let gained = evaluate::accept(&baseline, &candidate, args.max_loss)
        .map_err(|error| Failure::new(exit::UNAVAILABLE, format!("not accepted and not kept: {error}")))?;
    work.put_in_place(&target)?;
    report(
        args,
        &quantized,
        backend,
        &target,
        [&baseline, &candidate],
        gained,
        calibration.pictures.len(),
        out,
    )
}

#[allow(clippy::too_many_arguments, reason = "each is one line of the report")]
fn report(
    args: &BuildArgs,
    manifest: &Manifest,
    backend: &str,
    target: &Target,
    [baseline, candidate]: [&Report; 2],
    gained: f64,
    pictures: usize,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    if args.json {
        let value = json!({
            "model": manifest.name, "precision": "int8", "origin": "quantized", "pictures": pictures,
            "file": target.onnx, "manifest": target.toml, "sha256": manifest.sha256, "measured_on": backend,
            "map_50_95": {"fp32": baseline.map_50_95, "int8": candidate.map_50_95}, "max_loss": args.max_loss,
        });
        return print_json(out, &value);
    }
    let text = format!(
        "{}: quantized with {pictures} pictures\naccepted     mAP 50-95 {:.4} in int8 on {backend}, {gained:+.4} against fp32, \
         {} may be lost\nfile         {}\nuse it       model = \"{}\" and precision = \"int8\" in [detector]\n",
        manifest.name,
        candidate.map_50_95,
        args.max_loss,
        target.onnx.display(),
        target.onnx.display()
    );
    print(out, &text)
}

/// The backend of this box that computes INT8 on the CPU.
fn backend() -> Result<&'static str, Failure> {
    let found = [(openvino::BACKEND, openvino::look()), (onnxruntime::BACKEND, onnxruntime::look())];
    let usable = found.iter().find(|(_, found)| found.is_ok()).map(|(name, _)| *name);
    usable.ok_or_else(|| {
        let reasons: Vec<&str> =
            found.iter().filter_map(|(_, found)| found.as_ref().err().map(String::as_str)).collect();
        let words = format!("no backend of this box computes INT8 on the CPU: {}", reasons.join("; "));
        Failure::new(exit::UNAVAILABLE, words)
    })
}

fn measure(
    model: &str,
    backend: &str,
    precision: &str,
    folder: &Path,
    labels: Option<&Path>,
) -> Result<Report, Failure> {
    let engine = EngineArgs { backend: backend.to_owned(), precision: precision.to_owned(), threads: None };
    let mut model = load_model(&engine.detector(model), exit::NO_INPUT)?;
    eval::measure(&mut model, engine, folder, labels)
}

/// Where the model and its manifest go.
struct Target {
    onnx: PathBuf,
    toml: PathBuf,
    name: String,
}

impl Target {
    fn new(args: &BuildArgs, manifest: &Manifest) -> Result<Self, Failure> {
        let onnx = args.output.clone().unwrap_or_else(|| format!("{}-int8.onnx", manifest.name).into());
        if onnx.extension().is_none_or(|extension| extension != "onnx") {
            let words = format!("--output {}: the name of an INT8 model ends with .onnx", onnx.display());
            return Err(Failure::new(exit::USAGE, words));
        }
        let name = onnx.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        model::check_name(&name)
            .map_err(|reason| Failure::new(exit::USAGE, format!("--output: {reason}")))?;
        let toml = onnx.with_extension("toml");
        let in_the_way = [&onnx, &toml].into_iter().find(|path| path.exists() && !args.force);
        if let Some(path) = in_the_way {
            let words = format!("{} is already there; --force replaces it", path.display());
            return Err(Failure::new(exit::USAGE, words));
        }
        Ok(Self { onnx, toml, name })
    }
}

/// A folder beside the target, which is gone in the end whatever happens.
struct Work(PathBuf);

impl Work {
    fn begin(target: &Path) -> Result<Self, Failure> {
        let parent = target.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = parent.join(format!(".watchpost-int8.{}", std::process::id()));
        fs::create_dir_all(&folder).map_err(|error| output_failure(&folder.display().to_string(), &error))?;
        Ok(Self(folder))
    }

    fn onnx(&self) -> PathBuf {
        self.0.join("int8.onnx")
    }

    fn toml(&self) -> PathBuf {
        self.0.join("int8.toml")
    }

    /// Writes the manifest of what was made: that of the model it was made of.
    fn describe(&self, of: &Manifest, target: &Target) -> Result<Manifest, Failure> {
        let failed = |error: io::Error| output_failure(&self.0.display().to_string(), &error);
        let source = ModelSource::File(self.onnx());
        let sha256 = model::digest(&source).map_err(failed)?;
        let description = format!("INT8 of {}", of.name);
        // What its author measured, and where to fetch it, is of the other one.
        let quantized = Manifest {
            name: target.name.clone(),
            source,
            sha256,
            description,
            evaluation: toml::Table::new(),
            download: None,
            ..of.clone()
        };
        fs::write(self.toml(), quantized.to_toml("int8.onnx")).map_err(failed)?;
        Ok(quantized)
    }

    fn put_in_place(&self, target: &Target) -> Result<(), Failure> {
        let failed = |error: io::Error| output_failure(&target.onnx.display().to_string(), &error);
        let file_name = target.onnx.file_name().unwrap_or_default().to_string_lossy();
        let toml = fs::read_to_string(self.toml()).map_err(failed)?;
        let toml = toml.replace("\"int8.onnx\"", &json!(file_name).to_string());
        fs::write(self.toml(), toml).map_err(failed)?;
        for (from, to) in [(self.onnx(), &target.onnx), (self.toml(), &target.toml)] {
            File::open(&from).and_then(|file| file.sync_all()).map_err(failed)?;
            fs::rename(&from, to).map_err(failed)?;
        }
        Ok(())
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let _nothing_depends_on_it = fs::remove_dir_all(&self.0);
    }
}

/// The Python that has the tool.
#[derive(Debug)]
struct Python(OsString);

impl Python {
    fn find() -> Result<Self, Failure> {
        let of_environment = || folders::named_by("VIRTUAL_ENV").map(|dir| dir.join("bin/python").into());
        let named = std::env::var_os(PYTHON_VARIABLE).filter(|name| !name.is_empty());
        let python = Self(named.or_else(of_environment).unwrap_or_else(|| "python3".into()));
        // Whether it has the packages is asked before minutes are spent.
        let mut command = Command::new(&python.0);
        command.args(["-c", "import onnx, onnxruntime.quantization"]).stdin(Stdio::null());
        let asked = command.output().map_err(|error| python.unavailable(&os_words(&error)))?;
        if !asked.status.success() {
            let words = String::from_utf8_lossy(&asked.stderr);
            let last = words.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it does not say why");
            return Err(python.unavailable(last));
        }
        Ok(python)
    }

    fn unavailable(&self, why: &str) -> Failure {
        let name = self.0.to_string_lossy();
        let words = format!(
            "INT8 models for the CPU are made in Python with onnxruntime and onnx, which {name} does not have: {why}; \
             make an environment with them (python3 -m venv DIR && DIR/bin/pip install onnxruntime onnx) and name it: \
             {PYTHON_VARIABLE}=DIR/bin/python"
        );
        Failure::new(exit::UNAVAILABLE, words)
    }

    fn quantize(
        &self,
        manifest: &Manifest,
        facts: &OnnxFacts,
        calibration: &Calibration,
        backend: &str,
        work: &Work,
        say: &mut dyn FnMut(&str),
    ) -> Result<(), Failure> {
        let failed = |error: io::Error| output_failure(&work.0.display().to_string(), &error);
        let source = match &manifest.source {
            ModelSource::File(path) => path.clone(),
            ModelSource::Embedded(bytes) => {
                let path = work.0.join("model.onnx");
                fs::write(&path, bytes).map_err(failed)?;
                path
            }
        };
        let input = &manifest.input;
        let name = facts.inputs.first().map_or("images", |input| input.name.as_str());
        // Into a file: a pipe that nobody reads would stop the tool.
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true);
        let mut said = options.open(work.0.join("said")).map_err(failed)?;
        let mut command = Command::new(&self.0);
        command.args(["-c", SCRIPT]).arg(&source).arg(work.onnx());
        command.arg(name).arg(format!("1,3,{},{}", input.height, input.width)).arg(backend);
        command.stdin(Stdio::piped());
        command.stdout(said.try_clone().map_err(failed)?).stderr(said.try_clone().map_err(failed)?);
        let child = command.spawn().map_err(|error| self.unavailable(&os_words(&error)))?;
        let mut tool = Tool(child);
        let fed = feed(&mut tool.0, calibration, manifest, say);
        say("quantizing");
        let status = tool.0.wait().map_err(failed)?;
        // A picture that cannot be read is the reason, whatever the tool made of the end.
        fed?;
        if status.success() && work.onnx().is_file() {
            return Ok(());
        }
        let words = last_words(&mut said);
        Err(match status.code() {
            Some(PACKAGE_MISSING) => self.unavailable(&words),
            Some(MODEL_REFUSED) => {
                Failure::new(exit::NO_INPUT, format!("{} cannot be quantized: {words}", manifest.name))
            }
            _ => Failure::new(exit::INTERNAL, format!("the tool that quantizes failed ({status}): {words}")),
        })
    }
}

/// Ends with us, also when we end early.
struct Tool(Child);

impl Drop for Tool {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _gone = self.0.kill();
            let _reaped = self.0.wait();
        }
    }
}

/// Sends every picture as the model will see it. The end of the stream is the end of the pictures.
fn feed(
    tool: &mut Child,
    calibration: &Calibration,
    manifest: &Manifest,
    say: &mut dyn FnMut(&str),
) -> Result<(), Failure> {
    let Some(mut stdin) = tool.stdin.take() else { return Ok(()) };
    let pictures = Pictures::new(&calibration.pictures, &manifest.input);
    let mut tensor = vec![0.0_f32; manifest.input.len()];
    let mut bytes = Vec::with_capacity(4 * tensor.len());
    for index in 0..calibration.pictures.len() {
        pictures.frame(index, &mut tensor).map_err(|words| Failure::new(exit::NO_INPUT, words))?;
        bytes.clear();
        tensor.iter().for_each(|value| bytes.extend(value.to_ne_bytes()));
        // A tool that has ended says itself why.
        if stdin.write_all(&bytes).is_err() {
            return Ok(());
        }
        say(&format!("calibrating: {} of {} pictures", index + 1, calibration.pictures.len()));
    }
    Ok(())
}

/// The last line that the tool wrote.
fn last_words(said: &mut File) -> String {
    let mut words = Vec::new();
    let length = said.metadata().map_or(0, |found| found.len());
    let from = SeekFrom::Start(length.saturating_sub(WORDS_BYTES));
    let read = said.seek(from).and_then(|_| said.take(WORDS_BYTES).read_to_end(&mut words));
    let words = String::from_utf8_lossy(&words);
    let last = words.lines().rfind(|line| !line.trim().is_empty());
    last.filter(|_| read.is_ok()).unwrap_or("it does not say why").trim().to_owned()
}
