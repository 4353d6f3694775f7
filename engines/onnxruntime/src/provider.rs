//! ONNX Runtime's providers for NVIDIA GPUs: libraries of their own, loaded when a session asks for one.

use std::ffi::c_void;
use std::fmt;
use std::path::{Path, PathBuf};

use ort::ep::{self, ArbitrarilyConfigurableExecutionProvider, ExecutionProvider, ExecutionProviderDispatch};
use ort::session::builder::SessionBuilder;

use crate::model::{LoadError, TensorInfo, builder, library};

/// What computes on the GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provider {
    /// cuDNN and kernels of ONNX Runtime.
    Cuda,
    /// TensorRT through ONNX Runtime, and CUDA for the operators that it does not take.
    TensorRt {
        /// Computes in 16-bit floats where the model has 32.
        is_fp16: bool,
        /// Where ONNX Runtime keeps the engines that TensorRT builds; building takes minutes.
        cache: Option<PathBuf>,
    },
}

impl Provider {
    /// The name for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cuda => "CUDA",
            Self::TensorRt { .. } => "TensorRT",
        }
    }

    fn refuse(&self, reason: &dyn fmt::Display) -> LoadError {
        LoadError::Provider { provider: self.name(), reason: plain(&reason.to_string()) }
    }
}

/// The library's words begin with a place in its source and a code, have colours, and go over several lines.
fn plain(words: &str) -> String {
    let line = words.lines().next().unwrap_or_default();
    let message = match line.split_once("[ONNXRuntimeError]") {
        // ` : 1 : FAIL : what is wrong`
        Some((_, coded)) => coded.splitn(4, " : ").nth(3).unwrap_or(coded),
        None => line,
    };
    let mut plain = String::new();
    let mut parts = message.split("\u{1b}[");
    plain += parts.next().unwrap_or_default();
    for coloured in parts {
        plain += coloured.split_once('m').map_or(coloured, |(_, text)| text);
    }
    plain.trim().trim_end_matches('.').to_owned()
}

/// Where a provider computes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) device_index: u32,
    /// Null: the provider's own stream. Else it must outlive the session.
    pub(crate) stream: *mut c_void,
    pub(crate) memory_limit_bytes: Option<usize>,
}

/// Whether the library has the provider and everything that it needs can be loaded. Whether there is a GPU, only a
/// session shows.
///
/// # Errors
/// [`LoadError::Library`], [`LoadError::Provider`].
pub fn check_provider(library: &Path, provider: &Provider) -> Result<(), LoadError> {
    let environment = self::library(library)?;
    let builder = builder(environment, 1).map_err(LoadError::Refused)?;
    let target = Target { device_index: 0, stream: std::ptr::null_mut(), memory_limit_bytes: None };
    register(builder, provider, target, None).map(drop)
}

/// Puts the provider into a session's options. One that does not load is an error: without that, the session would
/// compute on the CPU and not say so. `batches` are the input and the largest batch.
pub(crate) fn register(
    builder: SessionBuilder,
    provider: &Provider,
    target: Target,
    batches: Option<(&TensorInfo, usize)>,
) -> Result<SessionBuilder, LoadError> {
    let cuda = cuda(target);
    let providers = match provider {
        Provider::Cuda => {
            is_in_library::<ep::CUDA>(provider)?;
            vec![cuda]
        }
        Provider::TensorRt { is_fp16, cache } => {
            is_in_library::<ep::TensorRT>(provider)?;
            vec![tensorrt(target, *is_fp16, cache.as_deref(), batches), cuda]
        }
    };
    builder.with_execution_providers(providers).map_err(|error| provider.refuse(&error))
}

/// A library that was built without the provider has other words for that in each version.
fn is_in_library<P: ExecutionProvider>(provider: &Provider) -> Result<(), LoadError> {
    match P::is_available() {
        Ok(true) => Ok(()),
        Ok(false) => Err(provider.refuse(&"this library was built without it")),
        Err(error) => Err(provider.refuse(&error)),
    }
}

fn index(target: Target) -> i32 {
    i32::try_from(target.device_index).unwrap_or(i32::MAX)
}

fn cuda(target: Target) -> ExecutionProviderDispatch {
    let mut cuda = ep::CUDA::default()
        .with_device_id(index(target))
        // The exhaustive search runs again for every batch size, in the middle of the stream.
        .with_conv_algorithm_search(ep::cuda::ConvAlgorithmSearch::Heuristic)
        // Doubling the arena each time takes memory that slots and decoders may need.
        .with_arena_extend_strategy(ep::ArenaExtendStrategy::SameAsRequested);
    if let Some(bytes) = target.memory_limit_bytes {
        cuda = cuda.with_memory_limit(bytes);
    }
    if !target.stream.is_null() {
        // SAFETY: the stream outlives the session (`Target::stream`).
        cuda = unsafe { cuda.with_compute_stream(target.stream.cast()) };
    }
    cuda.build().error_on_failure()
}

fn tensorrt(
    target: Target,
    is_fp16: bool,
    cache: Option<&Path>,
    batches: Option<(&TensorInfo, usize)>,
) -> ExecutionProviderDispatch {
    let mut tensorrt = ep::TensorRT::default().with_device_id(index(target)).with_fp16(is_fp16);
    if let Some(folder) = cache {
        let folder = folder.display();
        tensorrt = tensorrt.with_engine_cache(true).with_engine_cache_path(&folder);
        tensorrt = tensorrt.with_timing_cache(true).with_timing_cache_path(folder);
    }
    // Without it an engine is built anew, for minutes, whenever a batch of another size comes.
    if let Some((input, max_batch)) = batches.filter(|(_, max_batch)| *max_batch > 1) {
        let shape = |batch: usize| profile(input, batch);
        tensorrt = tensorrt
            .with_profile_min_shapes(shape(1))
            .with_profile_opt_shapes(shape(max_batch))
            .with_profile_max_shapes(shape(max_batch));
    }
    if let Some(bytes) = target.memory_limit_bytes {
        tensorrt = tensorrt.with_arbitrary_config("trt_max_workspace_size", bytes);
    }
    if !target.stream.is_null() {
        // SAFETY: the stream outlives the session (`Target::stream`).
        tensorrt = unsafe { tensorrt.with_compute_stream(target.stream.cast()) };
    }
    tensorrt.build().error_on_failure()
}

/// `images:8x3x640x640`
fn profile(input: &TensorInfo, batch: usize) -> String {
    let rest = input.shape.get(1..).unwrap_or_default();
    let sizes: Vec<String> = std::iter::once(&batch).chain(rest).map(usize::to_string).collect();
    format!("{}:{}", input.name, sizes.join("x"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_written_as_the_provider_reads_it() {
        let input = TensorInfo { name: "images".to_owned(), shape: vec![1, 3, 384, 640] };
        assert_eq!(profile(&input, 8), "images:8x3x384x640");
    }

    #[test]
    fn a_session_never_goes_on_without_a_provider_that_did_not_load() {
        let library = match crate::find_library().map(|path| library(&path)) {
            Ok(library) => library.expect("it loads"),
            Err(error) => return eprintln!("NOT TESTED: a provider that does not load: {error}"),
        };
        // Past the question whether the library was built with it, which most libraries answer.
        let nowhere =
            Target { device_index: 4000, stream: std::ptr::null_mut(), memory_limit_bytes: Some(1 << 20) };
        for provider in [cuda(nowhere), tensorrt(nowhere, true, None, None)] {
            let name = provider.name();
            let builder = builder(library, 1).expect("a builder");
            assert!(builder.with_execution_providers([provider]).is_err(), "{name} was passed over silently");
        }
    }

    #[test]
    fn the_words_of_a_provider_become_one_plain_line() {
        let words =
            "Failed to load library libonnxruntime_providers_cuda.so: \u{1b}[0;93mlibcublas\u{1b}[m.\nmore";
        let LoadError::Provider { provider, reason } = Provider::Cuda.refuse(&words) else {
            panic!("provider")
        };
        assert_eq!(provider, "CUDA");
        assert_eq!(reason, "Failed to load library libonnxruntime_providers_cuda.so: libcublas");
        assert_eq!(plain("no code"), "no code");
        assert_eq!(plain("[ONNXRuntimeError] : 1"), ": 1");
    }
}
