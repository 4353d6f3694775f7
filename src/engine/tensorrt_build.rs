//! From a model to an engine in the cache: what the builder is asked for, and whether it is asked at all.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::batch_probe::{BatchTable, Measurement, probe};
use super::cache::{BatchRequest, Cache, Cached, EngineFacts, EngineKey, PlanPrecision, hexadecimal};
use crate::clock;
use crate::config::Auto;
use watchpost_binding::TensorForm;

use crate::model::{self, Manifest, ModelSource, OnnxFacts};
use crate::os_words::os_words;

/// Largest batch that `auto` tries.
pub const AUTO_BATCH_MAX: usize = 64;
/// The engine that is measured to find a batch is tuned for this size: a small one suffers least from being run at
/// other sizes.
const PROBE_OPT_BATCH: usize = 8;
/// Pictures to calibrate with: some hundreds are usual.
const CALIBRATION_PICTURES_MAX: usize = 5000;
const CALIBRATION_EXTENSIONS: [&str; 6] = ["jpg", "jpeg", "png", "bmp", "webp", "pnm"];

/// Why there is no engine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// What was asked for contradicts itself or the model.
    #[error("{0}")]
    Request(String),
    /// A file is missing, cannot be read, or the builder does not understand the model.
    #[error("{0}")]
    Input(String),
    /// The library, the GPU, or a capability of theirs is missing.
    #[error("{0}")]
    Unavailable(String),
    /// The device's memory is too small for it.
    #[error("the device has not enough memory: {0}")]
    OutOfMemory(String),
    /// The builder failed.
    #[error("the engine was not built: {0}")]
    Failed(String),
}

/// What is asked of the builder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildRequest {
    /// `None`: what the builder does best without losing accuracy worth speaking of.
    pub precision: Option<PlanPrecision>,
    /// Frames in one inference.
    pub batch: BatchRequest,
    /// Weights with 2:4 structured sparsity may use it.
    pub sparse: bool,
    /// The deep learning accelerator to use, on Jetson.
    pub dla_core: Option<u32>,
    /// Measurements of earlier builds, which make this one faster; written back.
    pub timing_cache: Option<PathBuf>,
    /// Pictures for INT8.
    pub calibration: Option<Calibration>,
}

/// Pictures from which the ranges of an INT8 engine are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calibration {
    /// Sorted by name.
    pub pictures: Vec<PathBuf>,
    /// Digest of them all.
    pub sha256: String,
}

impl Calibration {
    /// The pictures of a folder.
    ///
    /// # Errors
    /// [`BuildError::Input`] when there are none, too many, or one cannot be read.
    pub fn read(folder: &Path) -> Result<Self, BuildError> {
        let refuse =
            |reason: String| BuildError::Input(format!("--int8-calibration {}: {reason}", folder.display()));
        let unreadable = |error: io::Error| refuse(os_words(&error));
        let is_picture = |path: &PathBuf| {
            let extension = path.extension().and_then(|extension| extension.to_str());
            extension.is_some_and(|e| CALIBRATION_EXTENSIONS.contains(&e.to_ascii_lowercase().as_str()))
        };
        let mut pictures = Vec::new();
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            pictures.extend(Some(entry.map_err(unreadable)?.path()).filter(is_picture));
            if pictures.len() > CALIBRATION_PICTURES_MAX {
                return Err(refuse(format!(
                    "more than {CALIBRATION_PICTURES_MAX} pictures; some hundreds are enough"
                )));
            }
        }
        if pictures.is_empty() {
            let known = CALIBRATION_EXTENSIONS.join(", ");
            return Err(refuse(format!("no pictures ({known}); put some hundreds of your cameras' there")));
        }
        pictures.sort();
        let mut whole = Sha256::new();
        for picture in &pictures {
            let read = file_digest(picture);
            whole.update(
                read.map_err(|error| refuse(format!("{}: {}", picture.display(), os_words(&error))))?,
            );
        }
        Ok(Self { pictures, sha256: hexadecimal(&whole.finalize()) })
    }
}

fn file_digest(path: &Path) -> io::Result<[u8; 32]> {
    let (mut file, mut hasher, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; 64 << 10]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().into()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// Batch sizes that one plan is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// Smallest.
    pub min: usize,
    /// The one it is tuned for.
    pub opt: usize,
    /// Largest.
    pub max: usize,
}

/// One plan to build.
#[derive(Debug, Clone, Copy)]
pub struct PlanOrder<'a> {
    /// The model file's contents.
    pub onnx: &'a [u8],
    /// What its input takes.
    pub manifest: &'a Manifest,
    /// Batch sizes.
    pub profile: Profile,
    /// What else was asked for.
    pub request: &'a BuildRequest,
}

/// The GPU an engine is built on and for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildDevice {
    /// As its driver calls it.
    pub name: String,
    /// Major and minor.
    pub compute_capability: (u32, u32),
}

/// A library that builds engines, with the GPU it builds them on.
pub trait PlanBuilder {
    /// `"tensorrt"`, and its full version.
    fn library(&self) -> (&'static str, String);

    /// The GPU.
    fn device(&self) -> BuildDevice;

    /// The arithmetic that it would use; building nothing.
    ///
    /// # Errors
    /// [`BuildError::Unavailable`] with what to do, where it cannot compute like this, and others.
    fn precision(&self, order: &PlanOrder<'_>) -> Result<PlanPrecision, BuildError>;

    /// Builds one plan. `progress` is told what goes on, a line at a time.
    ///
    /// # Errors
    /// [`BuildError`].
    fn build(&mut self, order: &PlanOrder<'_>, progress: &mut dyn FnMut(&str))
    -> Result<Vec<u8>, BuildError>;

    /// Loads the plan that came of an order, to be measured.
    ///
    /// # Errors
    /// [`BuildError::OutOfMemory`] when it does not fit, and others.
    fn measuring<'a>(&'a mut self, plan: &[u8], order: &PlanOrder<'_>) -> Result<Measure<'a>, BuildError>;
}

/// Runs a loaded plan with batches of a size until their time is known; [`BuildError::OutOfMemory`] when they do not fit.
pub type Measure<'a> = Box<dyn FnMut(usize) -> Result<Measurement, BuildError> + 'a>;

/// The builder of this box.
///
/// # Errors
/// [`BuildError::Unavailable`] with what is missing and what to do.
pub fn look() -> Result<Box<dyn PlanBuilder>, BuildError> {
    match super::tensorrt::TensorRt::open() {
        Ok(tensorrt) => Ok(Box::new(tensorrt)),
        Err(error) => Err(BuildError::Unavailable(format!("engines cannot be built here: {error}"))),
    }
}

/// The batch sizes that this model can be built for.
///
/// # Errors
/// [`BuildError::Request`] when the model takes one frame and more were asked for, [`BuildError::Input`] when it takes
/// several and nothing else, or pictures in another form than planes of floats.
pub fn batch_for(facts: &OnnxFacts, asked: Auto<usize>) -> Result<BatchRequest, BuildError> {
    if model::picture(facts, Some((64, 64))).is_ok_and(|picture| picture.form != TensorForm::default()) {
        return Err(BuildError::Input(
            "the model takes bytes, or has its channels last, and TensorRT is fed with f32 or f16 [batch, 3, height, width] \
             only: export it so (tf2onnx: --inputs-as-nchw), or use a backend that computes on the CPU"
                .to_owned(),
        ));
    }
    let fixed = facts.inputs.first().and_then(|input| input.shape.as_ref()?.first()?.fixed());
    match (fixed, asked) {
        (None, Auto::Auto) => Ok(BatchRequest::Auto { limit: AUTO_BATCH_MAX }),
        (None, Auto::Fixed(most)) => Ok(BatchRequest::Upto(most.max(1))),
        (Some(1), Auto::Auto | Auto::Fixed(0 | 1)) => Ok(BatchRequest::Upto(1)),
        (Some(1), Auto::Fixed(most)) => Err(BuildError::Request(format!(
            "--max-batch {most}: the model takes one frame at a time; export it with a dynamic batch dimension, or \
             leave --max-batch out"
        ))),
        (Some(fixed), _) => Err(BuildError::Input(format!(
            "the model takes exactly {fixed} frames at a time; export it for one frame, or with a dynamic batch \
             dimension"
        ))),
    }
}

/// What the engine will be kept under.
///
/// # Errors
/// [`BuildError::Unavailable`] for an arithmetic that the builder does not have.
pub fn key(
    builder: &dyn PlanBuilder,
    manifest: &Manifest,
    request: &BuildRequest,
) -> Result<EngineKey, BuildError> {
    let onnx = read_model(manifest)?;
    key_of(builder, &PlanOrder { onnx: &onnx, manifest, profile: profile(request.batch.most()), request })
}

fn key_of(builder: &dyn PlanBuilder, order: &PlanOrder<'_>) -> Result<EngineKey, BuildError> {
    let (library, library_version) = builder.library();
    let (manifest, request) = (order.manifest, order.request);
    Ok(EngineKey {
        model_sha256: manifest.sha256.clone(),
        library: library.to_owned(),
        library_version,
        compute_capability: builder.device().compute_capability,
        precision: builder.precision(order)?,
        input_width: manifest.input.width,
        input_height: manifest.input.height,
        batch: request.batch,
        sparse: request.sparse,
        dla_core: request.dla_core,
        calibration_sha256: request.calibration.as_ref().map(|calibration| calibration.sha256.clone()),
    })
}

/// The engine for a model, and its key: from the cache, else built. `is_fresh`: built in any case. `say` is told what
/// goes on.
///
/// # Errors
/// [`BuildError`].
pub fn obtain(
    cache: &Cache,
    builder: &mut dyn PlanBuilder,
    manifest: &Manifest,
    request: &BuildRequest,
    is_fresh: bool,
    say: &mut dyn FnMut(&str),
) -> Result<(EngineKey, Cached), BuildError> {
    let onnx = read_model(manifest)?;
    let order = PlanOrder { onnx: &onnx, manifest, profile: profile(request.batch.most()), request };
    let key = key_of(builder, &order)?;
    // Waiting and building come one after the other, and both are told through `say`.
    let say = std::cell::RefCell::new(say);
    let mut waiting = |line: &str| (say.borrow_mut())(line);
    let build = || build(builder, order, &mut |line| (say.borrow_mut())(line));
    let cached = match is_fresh {
        true => cache.rebuild(&key, &mut waiting, build),
        false => cache.get_or_build(&key, &mut waiting, build),
    };
    Ok((key, cached?))
}

fn profile(most: usize) -> Profile {
    Profile { min: 1, opt: most, max: most }
}

/// The model file, which must still be the one the manifest was made for.
fn read_model(manifest: &Manifest) -> Result<Vec<u8>, BuildError> {
    let refuse = |reason: String| BuildError::Input(format!("{}: {reason}", manifest.source));
    let bytes = match &manifest.source {
        ModelSource::Embedded(bytes) => bytes.to_vec(),
        ModelSource::File(path) => fs::read(path).map_err(|error| refuse(os_words(&error)))?,
    };
    match hexadecimal(&Sha256::digest(&bytes)) == manifest.sha256 {
        true => Ok(bytes),
        false => Err(refuse("has been changed since it was looked into; try again".to_owned())),
    }
}

fn build(
    builder: &mut dyn PlanBuilder,
    mut order: PlanOrder<'_>,
    say: &mut dyn FnMut(&str),
) -> Result<(Vec<u8>, EngineFacts), BuildError> {
    let began = clock::now();
    let mut facts = EngineFacts {
        model_name: order.manifest.name.clone(),
        gpu_name: builder.device().name,
        built_by: concat!("watchpost ", env!("CARGO_PKG_VERSION")).to_owned(),
        ..EngineFacts::default()
    };
    let plan = match order.request.batch {
        BatchRequest::Upto(most) => {
            order.profile = profile(most);
            builder.build(&order, say)?
        }
        BatchRequest::Auto { limit } => {
            let (plan, table) = auto_batch(builder, &mut order, limit, say)?;
            facts.probe = table.rows;
            facts.probe_ended = table.ended.to_string();
            plan
        }
    };
    if plan.is_empty() {
        return Err(BuildError::Failed("the builder gave an empty engine".to_owned()));
    }
    facts.max_batch = order.profile.max;
    facts.opt_batch = order.profile.opt;
    facts.built_unix_s = clock::unix_ns() / 1_000_000_000;
    facts.build_seconds = clock::now().saturating_duration_since(began).as_secs_f64();
    Ok((plan, facts))
}

/// Measures one engine that takes any batch up to `limit`, then builds one for the batch that is worth it: two builds
/// instead of one for each size that is tried.
fn auto_batch(
    builder: &mut dyn PlanBuilder,
    order: &mut PlanOrder<'_>,
    limit: usize,
    say: &mut dyn FnMut(&str),
) -> Result<(Vec<u8>, BatchTable), BuildError> {
    let mut limit = limit.max(1);
    let (probed, table) = loop {
        order.profile = Profile { min: 1, opt: PROBE_OPT_BATCH.min(limit), max: limit };
        say(&format!("batch auto: building an engine for 1 to {limit} frames to measure with"));
        match built_and_measured(builder, order, say) {
            Err(BuildError::OutOfMemory(_)) if limit > 1 => limit /= 2,
            measured => break measured?,
        }
    };
    say(&format!("batch auto: {} frames; {}", table.chosen, table.ended));
    let chosen = profile(table.chosen);
    if order.profile == chosen {
        return Ok((probed, table));
    }
    drop(probed);
    order.profile = chosen;
    let plan = builder.build(order, say)?;
    Ok((plan, table))
}

/// An engine may fit while it is built and not when it is loaded: both are [`BuildError::OutOfMemory`].
fn built_and_measured(
    builder: &mut dyn PlanBuilder,
    order: &PlanOrder<'_>,
    say: &mut dyn FnMut(&str),
) -> Result<(Vec<u8>, BatchTable), BuildError> {
    let plan = builder.build(order, say)?;
    let mut measure = builder.measuring(&plan, order)?;
    let table = probe(order.profile.max, |batch| {
        let measured = match measure(batch) {
            Ok(measured) => measured,
            Err(BuildError::OutOfMemory(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let (ms, mebibytes) = (measured.median_ms, measured.bytes >> 20);
        say(&format!("batch {batch}: {ms:.2} ms, {:.3} ms per frame, {mebibytes} MiB", ms / batch as f64));
        Ok(Some(measured))
    })?;
    drop(measure);
    Ok((plan, table))
}

#[cfg(test)]
#[path = "tensorrt_build_tests.rs"]
pub(crate) mod tests;
