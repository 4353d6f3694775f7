//! What the stand-in `trtexec` does: build an engine from a file into a file, in the real one's words.

use std::ffi::{CStr, c_char, c_void};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

use crate::builder::{self, Request, TimingCache};
use crate::cuda::Cuda;
use crate::log::{Logger, Severity};
use crate::model::Network;
use crate::plan::Element;
use crate::settings;

/// `BuilderFlag`s of 10.x that have an option.
const FLAGS: [(&str, u32); 3] = [("--fp16", 0), ("--int8", 1), ("--bf16", 17)];
/// Options that are taken and change nothing here.
const QUIET: [&str; 16] = [
    "--calib",
    "--verbose",
    "--skipInference",
    "--buildOnly",
    "--noTF32",
    "--memPoolSize",
    "--sparsity",
    "--allowGPUFallback",
    "--builderOptimizationLevel",
    "--profilingVerbosity",
    "--useCudaGraph",
    "--maxAuxStreams",
    "--tacticSources",
    "--device",
    "--duration",
    "--iterations",
];

#[derive(Default)]
struct Options {
    onnx: Option<PathBuf>,
    save: Option<PathBuf>,
    timing_cache: Option<PathBuf>,
    shapes: [Vec<(String, Vec<i64>)>; 3],
    request: Request,
}

/// `main`
///
/// # Safety
/// As `main` of C.
pub unsafe fn main(count: i32, arguments: *const *const c_char) -> i32 {
    let arguments: Vec<String> = (0..usize::try_from(count).unwrap_or(0))
        // SAFETY: as the caller promises.
        .map(|index| unsafe { CStr::from_ptr(*arguments.add(index)) }.to_string_lossy().into_owned())
        .collect();
    let version = settings::version();
    let title = format!(
        "TensorRT.trtexec [TensorRT v{}] [b{}] # {}",
        version.number(),
        version.build,
        arguments.join(" ")
    );
    println!("&&&& RUNNING {title}");
    match run(arguments.get(1..).unwrap_or_default()) {
        Ok(()) => {
            println!("&&&& PASSED {title}");
            0
        }
        Err(why) => {
            eprintln!("[E] {why}");
            eprintln!("&&&& FAILED {title}");
            1
        }
    }
}

fn run(arguments: &[String]) -> Result<(), String> {
    let options = read(arguments)?;
    let cuda = Cuda::find().map_err(|error| format!("Cuda failure: error {error}"))?;
    let onnx = options.onnx.as_ref().ok_or("Model missing or format not recognized")?;
    let bytes = fs::read(onnx).map_err(|error| format!("Could not open file {}: {error}", onnx.display()))?;
    let network = Network::parse(&bytes).map_err(|why| format!("Failed to parse onnx file: {why}"))?;
    let logger = Logger::new(std::ptr::null_mut(), print);
    let cache =
        options.timing_cache.as_ref().map(|path| TimingCache::read(&fs::read(path).unwrap_or_default()));
    let cache = cache.transpose()?;
    let capability = cuda.compute_capability();
    let plan = builder::build(Some(&network), &options.request, cache.as_ref(), capability, &logger)?;
    if let (Some(path), Some(cache)) = (&options.timing_cache, &cache) {
        fs::write(path, cache.serialize()).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    println!("[I] Engine built.");
    if let Some(path) = &options.save {
        save(path, &plan).map_err(|error| format!("Saving engine to {} failed: {error}", path.display()))?;
    }
    Ok(())
}

/// As the real one: the file has its name from the first byte on.
fn save(path: &PathBuf, plan: &[u8]) -> io::Result<()> {
    let (first, second) = plan.split_at(plan.len() / 2);
    let mut file = File::create(path)?;
    file.write_all(first)?;
    file.flush()?;
    file.write_all(second)
}

extern "C" fn print(_logger: *mut c_void, severity: i32, text: *const c_char) {
    // SAFETY: `Logger` passes C strings.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    match severity {
        0 | 1 => eprintln!("[E] [TRT] {text}"),
        2 => eprintln!("[W] [TRT] {text}"),
        severity if severity == Severity::Info as i32 => println!("[I] [TRT] {text}"),
        _ => {}
    }
}

fn read(arguments: &[String]) -> Result<Options, String> {
    let mut options = Options::default();
    options.request.strongly_typed = settings::major() == 11;
    for argument in arguments {
        let (key, value) = argument.split_once('=').unwrap_or((argument, ""));
        match key {
            "--onnx" => options.onnx = Some(value.into()),
            "--saveEngine" => options.save = Some(value.into()),
            "--timingCacheFile" => options.timing_cache = Some(value.into()),
            "--minShapes" => options.shapes[0] = shapes(value)?,
            "--optShapes" => options.shapes[1] = shapes(value)?,
            "--maxShapes" => options.shapes[2] = shapes(value)?,
            "--stronglyTyped" => options.request.strongly_typed = true,
            "--inputIOFormats" => options.request.input = Some(format(value)?),
            "--outputIOFormats" => options.request.output = Some(format(value)?),
            "--useDLACore" => {
                options.request.device_type = 1;
                options.request.dla_core = value.parse().map_err(|_| format!("Invalid value: {argument}"))?;
            }
            "--hardwareCompatibilityLevel" => {
                options.request.hardware_compatibility = u32::from(value == "ampere+");
            }
            "--versionCompatible" => {
                options.request.flags |= 1 << if settings::major() == 11 { 12 } else { 13 };
            }
            _ => match FLAGS.iter().find(|(name, _)| *name == key && settings::major() == 10) {
                Some((_, flag)) => options.request.flags |= 1 << flag,
                None if QUIET.contains(&key) => {}
                None => return Err(format!("Unknown option: {argument}")),
            },
        }
    }
    options.request.profile = profile(&options.shapes);
    Ok(options)
}

/// `images:1x3x640x640,other:2x2`
fn shapes(text: &str) -> Result<Vec<(String, Vec<i64>)>, String> {
    let one = |entry: &str| {
        let (name, sizes) = entry.rsplit_once(':')?;
        let sizes = sizes.split('x').map(|size| size.parse().ok()).collect::<Option<Vec<i64>>>()?;
        Some((name.trim_matches('\'').to_owned(), sizes))
    };
    text.split(',').map(one).collect::<Option<_>>().ok_or_else(|| format!("Invalid shapes: {text}"))
}

/// What was not given is as what was: the usual shape, or the nearest.
fn profile(given: &[Vec<(String, Vec<i64>)>; 3]) -> Vec<(String, [Vec<i64>; 3])> {
    let names = given.iter().flatten().map(|(name, _)| name.clone());
    let mut profile: Vec<(String, [Vec<i64>; 3])> = Vec::new();
    for name in names {
        if profile.iter().any(|(known, _)| *known == name) {
            continue;
        }
        let of = |select: usize| {
            given[select].iter().find(|(its, _)| *its == name).map(|(_, shape)| shape.clone())
        };
        let first = |order: [usize; 3]| order.into_iter().find_map(of).unwrap_or_default();
        profile.push((name.clone(), [first([0, 1, 2]), first([1, 2, 0]), first([2, 1, 0])]));
    }
    profile
}

/// `fp16:chw`; anything but row-major is not for us.
fn format(text: &str) -> Result<Element, String> {
    match text {
        "fp32:chw" => Ok(Element::F32),
        "fp16:chw" => Ok(Element::F16),
        _ => Err(format!("Invalid I/O format: {text}")),
    }
}
