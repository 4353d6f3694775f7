//! Building with the library's own builder and ONNX parser, call by call.

use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use watchpost_cuda::Gpu;

use crate::abi::{Dims, Kind, Object, Raw, call, constants};
use crate::build::{BuildOptions, keep, read_if_there};
use crate::calibrator::Calibrator;
use crate::error::TensorRtError;
use crate::library::{Library, symbol, words};
use crate::logger::{self, Since};
use crate::plan::Recipe;
use crate::slots::PARSER_DELETE;
use crate::version::{Major, Version};

/// `NV_ONNX_PARSER_VERSION`, 0.1.0 in all headers of 10 and 11.
const PARSER_VERSION: i32 = 100;
/// Complaints of the parser that are told.
const COMPLAINTS_MAX: i32 = 3;

type CreateParser = unsafe extern "C" fn(Raw, Raw, i32) -> Raw;

/// The parsers' libraries stay loaded, like the library itself. One entry a file.
static PARSERS: Mutex<Vec<(PathBuf, libloading::Library)>> = Mutex::new(Vec::new());

/// What goes wrong in a build, with what the library says about it.
struct Blame {
    version: Version,
    since: Since,
}

impl Blame {
    /// The library did not do this.
    fn refused(&self, what: &'static str, advice: &'static str) -> TensorRtError {
        TensorRtError::Refused { version: self.version, what, words: self.since.words(), advice }
    }

    /// An object that the library should have returned. Ours to delete.
    ///
    /// # Safety
    /// As [`Object::adopt`] with `Kind::Ours`.
    unsafe fn adopt(&self, raw: Raw, what: &'static str) -> Result<Object, TensorRtError> {
        // SAFETY: the caller's promise.
        let object = unsafe { Object::adopt(raw, Kind::Ours, self.version) };
        object.ok_or_else(|| self.refused(what, "free memory on the GPU and on the host, then try again"))
    }
}

/// Builds and serializes. Blocks for as long as it takes.
pub(crate) fn build(
    library: &Library,
    gpu: &Gpu,
    parser: &Path,
    onnx: &[u8],
    recipe: &Recipe,
    options: &BuildOptions<'_>,
) -> Result<Vec<u8>, TensorRtError> {
    gpu.make_current()?;
    let blame = Blame { version: library.version(), since: Since::now() };
    // Dropped from the last to the first: the parser owns weights that the network points to, the builder profiles that
    // the configuration points to.
    let builder = library.builder()?;
    check_dla(&builder, options)?;
    let flags = match library.major() {
        Major::Ten => constants::EXPLICIT_BATCH,
        Major::Eleven => constants::STRONGLY_TYPED,
    };
    // SAFETY: a number; a new network, which is the caller's to delete.
    let network = unsafe { blame.adopt(call!(builder, BUILDER_CREATE_NETWORK, flags), "a network") }?;
    let _parser = parse(library, parser, &network, onnx, &blame)?;
    let calibrator = if recipe.calibrate {
        let cache = read_if_there(options.calibration_cache.as_deref());
        let frame_len: i64 = recipe.picture.iter().product();
        let frame_len = usize::try_from(frame_len).unwrap_or(0);
        Some(Calibrator::new(gpu, options.calibration, cache, frame_len, calibration_batch(recipe))?)
    } else {
        None
    };
    // SAFETY: no arguments; a new configuration, which is the caller's to delete.
    let config = unsafe { blame.adopt(call!(builder, BUILDER_CREATE_CONFIG), "a configuration") }?;
    set_flags(&config, library.major(), recipe, options)?;
    if recipe.dynamic {
        let index = add_profile(&builder, &config, recipe, recipe.batch, &blame)?;
        debug_assert_eq!(index, 0);
    }
    if let Some(calibrator) = &calibrator {
        set_calibrator(&builder, &config, recipe, calibrator, &blame)?;
    }
    let timing = timing_cache(&config, options.timing_cache.as_deref(), &blame)?;
    // SAFETY: a network and a configuration of this builder; a new block of bytes, the caller's to delete.
    let plan = unsafe {
        let raw = call!(builder, BUILDER_BUILD, network.raw(), config.raw());
        Object::adopt(raw, Kind::Ours, blame.version)
    };
    if let Some(calibrator) = &calibrator {
        let scales = calibrator.finish().map_err(TensorRtError::Build)?;
        if let (Some(scales), Some(path)) = (scales, &options.calibration_cache) {
            keep(path, &scales);
        }
    }
    let advice = "export the model again with another opset or without the operator it names, or give the build more \
                  memory";
    let plan = plan.ok_or_else(|| blame.refused("the model", advice))?;
    if let (Some(timing), Some(path)) = (timing, &options.timing_cache) {
        // SAFETY: no arguments; a new block of bytes, the caller's to delete.
        let bytes =
            unsafe { Object::adopt(call!(timing, TIMING_CACHE_SERIALIZE), Kind::Ours, blame.version) };
        if let Some(bytes) = bytes {
            keep(path, &copy(&bytes)?);
        }
    }
    copy(&plan)
}

fn check_dla(builder: &Object, options: &BuildOptions<'_>) -> Result<(), TensorRtError> {
    let Some(core) = options.dla_core else { return Ok(()) };
    // SAFETY: no arguments.
    let count = unsafe { call!(builder, BUILDER_DLA_COUNT) };
    if i64::from(core) < i64::from(count) {
        return Ok(());
    }
    let what = if count > 0 { format!("its cores are 0 to {}", count - 1) } else { "it has none".to_owned() };
    Err(TensorRtError::Build(format!(
        "this machine has no DLA core {core}: {what}; build without --dla, or for another"
    )))
}

/// The bytes of an `IHostMemory`.
fn copy(memory: &Object) -> Result<Vec<u8>, TensorRtError> {
    // SAFETY: no arguments.
    let (bytes, length) = unsafe { (call!(memory, HOST_MEMORY_DATA), call!(memory, HOST_MEMORY_SIZE)) };
    if bytes.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: so many bytes, which live as long as the object.
    Ok(unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), length) }.to_vec())
}

/// Fills the network from the model. The parser must outlive the build.
fn parse(
    library: &Library,
    path: &Path,
    network: &Object,
    onnx: &[u8],
    blame: &Blame,
) -> Result<Object, TensorRtError> {
    let create = parser_function(path)?;
    let Some(delete) = PARSER_DELETE.entry.place(library.major()) else {
        return Err(TensorRtError::OldMinor { method: "a parser", since: None, have: blame.version });
    };
    // SAFETY: a network of this version, and the logger in its layout; a new parser, the caller's to delete.
    let parser = unsafe {
        let raw = create(network.raw(), logger::object(library.major()), PARSER_VERSION);
        Object::adopt(raw, Kind::Public { delete: Some(delete.slot) }, blame.version)
    };
    let parser = parser
        .ok_or_else(|| blame.refused("a parser", "install TensorRT again: its libraries do not match"))?;
    // SAFETY: the model's bytes live through the call; a null path is allowed: the model is in one piece (see `plan`).
    let parsed = unsafe { call!(parser, PARSER_PARSE, onnx.as_ptr().cast(), onnx.len(), std::ptr::null()) };
    if !parsed {
        let complaints = complaints(&parser)?;
        let words = if complaints.is_empty() { blame.since.words() } else { complaints.join("; ") };
        return Err(TensorRtError::Refused {
            version: blame.version,
            what: "the model",
            words,
            advice: "export it again with another opset, or without the operator that it names",
        });
    }
    // SAFETY: no arguments.
    let (inputs, outputs) =
        unsafe { (call!(network, NETWORK_INPUT_COUNT), call!(network, NETWORK_OUTPUT_COUNT)) };
    if inputs != 1 || outputs < 1 {
        let words = format!(
            "the parser made a network of {inputs} inputs and {outputs} outputs of it; export it again"
        );
        return Err(TensorRtError::Build(words));
    }
    Ok(parser)
}

fn parser_function(path: &Path) -> Result<CreateParser, TensorRtError> {
    let refuse = |reason: String| TensorRtError::Library { path: path.to_owned(), reason };
    let mut parsers = PARSERS.lock().unwrap_or_else(PoisonError::into_inner);
    let index = match parsers.iter().position(|(known, _)| known == path) {
        Some(index) => index,
        None => {
            // SAFETY: loading runs its initialisers; it lies beside the library that has been loaded already.
            let library = unsafe { libloading::Library::new(path) }.map_err(|error| refuse(words(&error)))?;
            parsers.push((path.to_owned(), library));
            parsers.len() - 1
        }
    };
    // SAFETY: its type in all versions for which the builder's way is taken; the library stays.
    unsafe { symbol::<CreateParser>(&parsers[index].1, "createNvOnnxParser_INTERNAL") }.map_err(refuse)
}

/// What the parser did not like, in words.
fn complaints(parser: &Object) -> Result<Vec<String>, TensorRtError> {
    // SAFETY: no arguments.
    let count = unsafe { call!(parser, PARSER_ERROR_COUNT) };
    let mut complaints = Vec::new();
    for index in 0..count.min(COMPLAINTS_MAX) {
        // SAFETY: an index below the count; the parser owns the error and outlives it.
        let error = unsafe {
            let raw = call!(parser, PARSER_ERROR, index);
            Object::adopt(raw, Kind::Public { delete: None }, parser.version())
        };
        let Some(error) = error else { continue };
        // SAFETY: no arguments; C strings that live as long as the error.
        let (said, node, operator) = unsafe {
            let said = text(call!(error, PARSER_ERROR_WORDS));
            (said, text(call!(error, PARSER_ERROR_NODE)), text(call!(error, PARSER_ERROR_OPERATOR)))
        };
        complaints.push(match (node.is_empty(), operator.is_empty()) {
            (true, true) => said,
            _ => format!("{said} (node {node}, operator {operator})"),
        });
    }
    Ok(complaints)
}

/// # Safety
/// Null, or a C string that lives through the call.
unsafe fn text(text: *const std::ffi::c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().trim().to_owned()
}

fn set_flags(
    config: &Object,
    major: Major,
    recipe: &Recipe,
    options: &BuildOptions<'_>,
) -> Result<(), TensorRtError> {
    let mut flags = vec![(constants::FLAG_TF32, options.tf32), (constants::FLAG_SPARSE, options.sparse)];
    if major == Major::Ten {
        flags.extend([(constants::FLAG_FP16, recipe.allow_half), (constants::FLAG_INT8, recipe.allow_int8)]);
    }
    if options.dla_core.is_some() {
        flags.push((constants::FLAG_GPU_FALLBACK, true));
    }
    for (flag, on) in flags {
        // SAFETY: a number of `BuilderFlag`.
        unsafe {
            if on {
                call!(config, CONFIG_SET_FLAG, flag);
            } else {
                call!(config, CONFIG_CLEAR_FLAG, flag);
            }
        }
    }
    if let Some(core) = options.dla_core.and_then(|core| i32::try_from(core).ok()) {
        // SAFETY: numbers.
        unsafe {
            call!(config, CONFIG_SET_DEVICE_TYPE, constants::DLA);
            call!(config, CONFIG_SET_DLA_CORE, core);
        }
    }
    if let Some(bytes) = options.workspace_bytes {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        // SAFETY: numbers.
        unsafe { call!(config, CONFIG_SET_POOL_LIMIT, constants::WORKSPACE, bytes) };
    }
    Ok(())
}

/// A profile with these batch sizes, filled in; the builder keeps it.
fn profile(
    builder: &Object,
    recipe: &Recipe,
    batch: [usize; 3],
    blame: &Blame,
) -> Result<Object, TensorRtError> {
    // SAFETY: no arguments; a new profile, which the builder owns and outlives.
    let profile = unsafe {
        let raw = call!(builder, BUILDER_CREATE_PROFILE);
        Object::adopt(raw, Kind::Theirs, blame.version)
    };
    let refused = || blame.refused("an optimization profile", "ask for another batch size");
    let profile = profile.ok_or_else(refused)?;
    let name = CString::new(recipe.input.as_str())
        .map_err(|_| TensorRtError::Build("the model's input has a NUL in its name; rename it".to_owned()))?;
    for (select, batch) in constants::PROFILE.into_iter().zip(batch) {
        let dims = Dims::new(&recipe.dims(batch));
        // SAFETY: a C string and dimensions that live through the call.
        let taken = unsafe { call!(profile, PROFILE_SET_DIMENSIONS, name.as_ptr(), select, &raw const dims) };
        if !taken {
            return Err(refused());
        }
    }
    // SAFETY: no arguments.
    if unsafe { call!(profile, PROFILE_IS_VALID) } { Ok(profile) } else { Err(refused()) }
}

fn add_profile(
    builder: &Object,
    config: &Object,
    recipe: &Recipe,
    batch: [usize; 3],
    blame: &Blame,
) -> Result<i32, TensorRtError> {
    let profile = profile(builder, recipe, batch, blame)?;
    // SAFETY: a profile of this builder.
    let index = unsafe { call!(config, CONFIG_ADD_PROFILE, profile.raw()) };
    if index < 0 {
        return Err(blame.refused("an optimization profile", "ask for another batch size"));
    }
    Ok(index)
}

/// How many pictures a calibration is shown at a time.
fn calibration_batch(recipe: &Recipe) -> usize {
    if recipe.dynamic { 1 } else { recipe.batch[2] }
}

fn set_calibrator(
    builder: &Object,
    config: &Object,
    recipe: &Recipe,
    calibrator: &Calibrator<'_>,
    blame: &Blame,
) -> Result<(), TensorRtError> {
    // SAFETY: an `IInt8Calibrator` that lives until the configuration is gone: see `build`.
    unsafe { call!(config, CONFIG_SET_CALIBRATOR, calibrator.raw()) };
    if !recipe.dynamic {
        return Ok(());
    }
    let profile = profile(builder, recipe, [calibration_batch(recipe); 3], blame)?;
    // SAFETY: a profile of this builder.
    if unsafe { call!(config, CONFIG_SET_CALIBRATION_PROFILE, profile.raw()) } {
        return Ok(());
    }
    Err(blame.refused("the calibration's profile", "quantize the model instead (nvidia-modelopt)"))
}

/// The cache of an earlier build, or an empty one; `None` if no cache is wanted. Lives until the build is done.
fn timing_cache(
    config: &Object,
    path: Option<&Path>,
    blame: &Blame,
) -> Result<Option<Object>, TensorRtError> {
    let Some(path) = path else { return Ok(None) };
    let bytes = read_if_there(Some(path));
    // SAFETY: bytes that live through the call; a new cache, the caller's to delete. No bytes: an empty one.
    let create = |bytes: &[u8]| unsafe {
        let raw = call!(config, CONFIG_CREATE_TIMING_CACHE, bytes.as_ptr().cast(), bytes.len());
        Ok::<_, TensorRtError>(Object::adopt(raw, Kind::Ours, blame.version))
    };
    let cache = match create(&bytes)? {
        Some(cache) => Some(cache),
        // Of another version, or damaged: a new one is made.
        None => create(&[])?,
    };
    let Some(cache) = cache else { return Ok(None) };
    // SAFETY: a cache that lives until the build is done; what was measured on another GPU is not taken.
    let taken = unsafe { call!(config, CONFIG_SET_TIMING_CACHE, cache.raw(), false) };
    Ok(taken.then_some(cache))
}
