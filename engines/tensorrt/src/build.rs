//! Building an engine from an ONNX model. Takes seconds to many minutes, and runs the vendor's code over somebody's model:
//! it is meant to be called in a child process, so that a crash of it cannot take the daemon along.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use watchpost_cuda::Gpu;

use crate::builder;
use crate::calibrator::CalibrationFrames;
use crate::error::TensorRtError;
use crate::library::{self, Library};
use crate::logger::Listening;
use crate::onnx;
use crate::plan::{self, BuildWay, Precision, Recipe, Tools, Wanted};
use crate::trtexec;

/// Lines that wait to be shown: what a slow listener misses is not worth waiting for.
const LINES_MAX: usize = 256;

/// What is to be built.
#[derive(Clone)]
pub struct BuildOptions<'a> {
    /// What to compute in.
    pub precision: Precision,
    /// Frames of one inference at most; `None`: what the model fixes, else 1.
    pub max_batch: Option<usize>,
    /// The batch size that the engine is made fastest for; `None`: the largest.
    pub best_batch: Option<usize>,
    /// Width and height of the input, for models that leave them open; checked where the model fixes them.
    pub size: Option<(usize, usize)>,
    /// Device memory that kernels may use while they work; `None`: the library's limit.
    pub workspace_bytes: Option<u64>,
    /// A file that remembers how fast kernels were: read if it is there, written afterwards.
    pub timing_cache: Option<PathBuf>,
    /// Use the sparse tensor cores, where weights have been pruned for them.
    pub sparse: bool,
    /// Compute 32-bit floats in TF32 where the GPU has it.
    pub tf32: bool,
    /// The DLA core to build for; what it cannot do runs on the GPU.
    pub dla_core: Option<u32>,
    /// Pictures for INT8 on TensorRT 10.
    pub calibration: Option<&'a dyn CalibrationFrames>,
    /// A file with the scales of INT8: read if it is there, written after a calibration.
    pub calibration_cache: Option<PathBuf>,
    /// A folder that `trtexec` may use for a while; `None`: the system's.
    pub scratch: Option<PathBuf>,
}

impl Default for BuildOptions<'_> {
    fn default() -> Self {
        Self {
            precision: Precision::Auto,
            max_batch: None,
            best_batch: None,
            size: None,
            workspace_bytes: None,
            timing_cache: None,
            sparse: false,
            tf32: true,
            dla_core: None,
            calibration: None,
            calibration_cache: None,
            scratch: None,
        }
    }
}

/// An engine as bytes, and what it is.
#[derive(Debug, Clone)]
pub struct Built {
    /// For [`Runner::load`](crate::Runner::load), with this TensorRT on this kind of GPU.
    pub plan: Vec<u8>,
    /// What it really computes in.
    pub precision: Precision,
    /// Fewest and most frames of one inference.
    pub batch: (usize, usize),
    /// How it was built.
    pub way: BuildWay,
}

/// How an engine would be built on this box.
///
/// # Errors
/// [`TensorRtError::Build`] if it cannot, with what to install.
pub fn build_way(library: &Library) -> Result<BuildWay, TensorRtError> {
    let tools = Tools {
        version: library.version(),
        lean: library.is_lean(),
        parser: library::parser_beside(library),
        trtexec: trtexec::find(),
    };
    tools.way()
}

/// Builds an engine for this GPU and this TensorRT. Blocks; `progress` is called on this thread with a line now and then.
///
/// # Errors
/// [`TensorRtError::Build`] for what cannot be had, with what to do instead; [`TensorRtError::Refused`] with the library's
/// words; and others. Nothing is left on the GPU.
pub fn build(
    library: &Library,
    gpu: &Gpu,
    onnx: &[u8],
    options: &BuildOptions<'_>,
    progress: &mut dyn FnMut(&str),
) -> Result<Built, TensorRtError> {
    let recipe = recipe(library, onnx, options)?;
    let way = build_way(library)?;
    recipe.notes.iter().for_each(|note| progress(note));
    let plan = match &way {
        BuildWay::Builder { parser } => {
            progress(&format!("building with TensorRT {} ({})", library.version(), recipe.precision.name()));
            in_a_thread(progress, || builder::build(library, gpu, parser, onnx, &recipe, options))?
        }
        BuildWay::Trtexec { program, because } => {
            progress(&format!("building with {}: {because}", program.display()));
            trtexec::build(program, library.version(), library.major(), onnx, &recipe, options, progress)?
        }
    };
    let batch =
        if recipe.dynamic { (recipe.batch[0], recipe.batch[2]) } else { (recipe.batch[2], recipe.batch[2]) };
    Ok(Built { plan, precision: recipe.precision, batch, way })
}

/// What would be built, without building it: the precision and the batch are part of an engine's name in a cache.
///
/// # Errors
/// [`TensorRtError::Build`] for what cannot be had, with what to do instead.
pub fn build_preview(
    library: &Library,
    onnx: &[u8],
    options: &BuildOptions<'_>,
) -> Result<(Precision, (usize, usize)), TensorRtError> {
    let recipe = recipe(library, onnx, options)?;
    Ok((recipe.precision, (recipe.batch[0], recipe.batch[2])))
}

fn recipe(library: &Library, onnx: &[u8], options: &BuildOptions<'_>) -> Result<Recipe, TensorRtError> {
    let damaged =
        |_| TensorRtError::Build("the model is damaged, or is not ONNX; copy or export it again".to_owned());
    let summary = onnx::summarize(onnx).map_err(damaged)?;
    let has_cache = options.calibration_cache.as_deref().is_some_and(Path::is_file);
    let wanted = Wanted {
        precision: options.precision,
        max_batch: options.max_batch,
        best_batch: options.best_batch,
        size: options.size,
        dla: options.dla_core.is_some(),
        can_calibrate: has_cache || options.calibration.is_some_and(|frames| frames.count() > 0),
    };
    plan::recipe(library.major(), &summary, wanted)
}

/// Runs the build on a thread, so that what the library says can be shown meanwhile on this one.
fn in_a_thread(
    progress: &mut dyn FnMut(&str),
    work: impl FnOnce() -> Result<Vec<u8>, TensorRtError> + Send,
) -> Result<Vec<u8>, TensorRtError> {
    let (sender, lines) = sync_channel(LINES_MAX);
    thread::scope(|scope| {
        let listen = |sender: SyncSender<String>| {
            let _listening = Listening::start(sender);
            work()
        };
        let worker = scope.spawn(move || listen(sender));
        lines.iter().for_each(|line| progress(&line));
        let failed =
            || TensorRtError::Build("the build failed inside watchpost; please report the model".to_owned());
        worker.join().map_err(|_| failed())?
    })
}

/// A file's bytes, or none if it is not there.
pub(crate) fn read_if_there(path: Option<&Path>) -> Vec<u8> {
    path.and_then(|path| fs::read(path).ok()).unwrap_or_default()
}

/// Writes a cache in one piece, or not at all. A cache that cannot be kept is a pity, not an error.
pub(crate) fn keep(path: &Path, bytes: &[u8]) {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let kept = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = kept {
        let _ = fs::remove_file(&temporary);
        tracing::warn!("{} was not written: {error}", path.display());
    }
}
