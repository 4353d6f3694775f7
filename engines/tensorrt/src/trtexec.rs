//! Building with NVIDIA's `trtexec`, a child process: where the builder's interface is not known, and on old TensorRT 10.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use crate::build::BuildOptions;
use crate::error::TensorRtError;
use crate::plan::Recipe;
use crate::version::{Major, Version};

/// Where JetPack and Debian put it.
const FOLDER: &str = "/usr/src/tensorrt/bin";
/// Lines that wait to be shown.
const LINES_MAX: usize = 64;
/// Bytes of a line that are looked at.
const LINE_BYTES_MAX: u64 = 4096;
/// Errors that are told.
const ERRORS_MAX: usize = 4;

/// The program, if this box has it.
pub(crate) fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from(FOLDER)]);
    folders.map(|folder| folder.join("trtexec")).find(|path| path.is_file())
}

/// A folder of our own, gone when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(parent: &Path) -> Result<Self, TensorRtError> {
        let path = parent.join(format!("watchpost-trtexec-{}", std::process::id()));
        fs::create_dir_all(&path).map(|()| Self(path.clone())).map_err(|error| unwritable(&path, &error))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> TensorRtError {
    TensorRtError::Build(format!("{} cannot be written: {error}; make room there", path.display()))
}

/// The arguments that say the same as the builder's calls.
fn arguments(
    major: Major,
    recipe: &Recipe,
    options: &BuildOptions<'_>,
    onnx: &Path,
    plan: &Path,
) -> Result<Vec<OsString>, TensorRtError> {
    let with = |name: &str, path: &Path| {
        let mut argument = OsString::from(name);
        argument.push(path);
        argument
    };
    let mut arguments = vec![with("--onnx=", onnx), with("--saveEngine=", plan), "--skipInference".into()];
    if recipe.dynamic {
        if recipe.input.contains(['\'', '"', ',', ' ']) {
            let reason =
                format!("trtexec cannot be told of an input that is called {:?}; rename it", recipe.input);
            return Err(TensorRtError::Build(reason));
        }
        let [_, height, width] = recipe.picture;
        // Quoted where it has a colon, which would end it.
        let quote = if recipe.input.contains(':') { "'" } else { "" };
        for (name, batch) in ["minShapes", "optShapes", "maxShapes"].into_iter().zip(recipe.batch) {
            let input = &recipe.input;
            arguments.push(format!("--{name}={quote}{input}{quote}:{batch}x3x{height}x{width}").into());
        }
    }
    if major == Major::Ten && recipe.allow_half {
        arguments.push("--fp16".into());
    }
    if major == Major::Ten && recipe.allow_int8 {
        arguments.push("--int8".into());
    }
    if recipe.calibrate {
        let cache = options.calibration_cache.as_deref().filter(|path| path.is_file());
        let Some(cache) = cache else {
            return Err(TensorRtError::Build(
                "trtexec finds no scales from pictures; give the scales of an earlier calibration, or quantize the model \
                 (nvidia-modelopt)"
                    .to_owned(),
            ));
        };
        arguments.push(with("--calib=", cache));
    }
    if let Some(bytes) = options.workspace_bytes {
        arguments.push(format!("--memPoolSize=workspace:{}", (bytes >> 20).max(1)).into());
    }
    if let Some(cache) = &options.timing_cache {
        arguments.push(with("--timingCacheFile=", cache));
    }
    if options.sparse {
        arguments.push("--sparsity=enable".into());
    }
    if let Some(core) = options.dla_core {
        arguments.extend([format!("--useDLACore={core}").into(), "--allowGPUFallback".into()]);
    }
    if !options.tf32 {
        arguments.push("--noTF32".into());
    }
    Ok(arguments)
}

/// Builds. Blocks until the child is done; `progress` gets its lines.
pub(crate) fn build(
    program: &Path,
    version: Version,
    major: Major,
    onnx: &[u8],
    recipe: &Recipe,
    options: &BuildOptions<'_>,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<u8>, TensorRtError> {
    let parent = options.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let scratch = Scratch::new(&parent)?;
    let (model, plan) = (scratch.0.join("model.onnx"), scratch.0.join("model.plan"));
    fs::write(&model, onnx).map_err(|error| unwritable(&model, &error))?;
    let arguments = arguments(major, recipe, options, &model, &plan)?;
    let mut lines = Lines { version, errors: Vec::new(), last: String::new() };
    let child = start(program, &arguments)?;
    let well = follow(child, &mut lines, progress)?;
    let plan = fs::read(&plan).ok().filter(|plan| well && !plan.is_empty());
    plan.ok_or_else(|| {
        let said = if lines.errors.is_empty() { lines.last } else { lines.errors.join("; ") };
        TensorRtError::Refused {
            version,
            what: "the model",
            words: format!("trtexec: {said}"),
            advice: "export it again with another opset, or for another precision",
        }
    })
}

fn start(program: &Path, arguments: &[OsString]) -> Result<Child, TensorRtError> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // SAFETY: one system call, which may be made between fork and exec.
    unsafe {
        command.pre_exec(|| {
            // Who waits for the engine is gone, so nobody wants it any more.
            let signal = Some(rustix::process::Signal::TERM);
            rustix::process::set_parent_process_death_signal(signal).map_err(Into::into)
        });
    }
    let name = OsStr::to_string_lossy(program.as_os_str()).into_owned();
    command
        .spawn()
        .map_err(|error| TensorRtError::Build(format!("{name} does not start: {error}; install it again")))
}

/// What its output has said so far.
struct Lines {
    version: Version,
    errors: Vec<String>,
    last: String,
}

impl Lines {
    /// False when it makes no sense to go on.
    fn see(&mut self, line: &str) -> bool {
        // `[TensorRT v101303]`, in its first line.
        let number = line.split_once("[TensorRT v").and_then(|(_, rest)| rest.split_once(']'));
        if let Some(theirs) = number.and_then(|(number, _)| number.parse().ok()).map(Version::decode)
            && (theirs.major, theirs.minor, theirs.patch)
                != (self.version.major, self.version.minor, self.version.patch)
        {
            let ours = self.version;
            self.errors = vec![format!(
                "it is of TensorRT {theirs} and the library of {ours}: an engine of it would not load here"
            )];
            return false;
        }
        if line.contains("[E]") && self.errors.len() < ERRORS_MAX {
            self.errors.push(plain(line).to_owned());
        }
        line.clone_into(&mut self.last);
        true
    }
}

/// Without `[01/02/2026-10:11:12] [I] [TRT] `.
fn plain(line: &str) -> &str {
    let mut text = line.trim();
    while let Some((_, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        text = rest;
    }
    text
}

/// Shows its lines until it ends; whether it ended well.
fn follow(
    mut child: Child,
    lines: &mut Lines,
    progress: &mut dyn FnMut(&str),
) -> Result<bool, TensorRtError> {
    let (sender, receiver) = sync_channel(LINES_MAX);
    let readers = [
        child.stdout.take().map(|pipe| read(pipe, sender.clone())),
        child.stderr.take().map(|pipe| read(pipe, sender)),
    ];
    let mut stopped = false;
    for line in receiver {
        if !lines.see(&line) {
            stopped = true;
            let _ = child.kill();
        }
        progress(plain(&line));
    }
    readers.into_iter().flatten().for_each(|reader| drop(reader.join()));
    let status =
        child.wait().map_err(|error| TensorRtError::Build(format!("trtexec is lost: {error}; try again")))?;
    if lines.last.is_empty() {
        lines.last = format!("{status}, without a word");
    }
    Ok(status.success() && !stopped)
}

fn read(pipe: impl Read + Send + 'static, sender: SyncSender<String>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while let Ok(1..) = (&mut pipe).take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            let text = String::from_utf8_lossy(&line);
            if !text.trim().is_empty() && sender.send(text.trim().to_owned()).is_err() {
                return;
            }
            line.clear();
        }
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::plan::Precision;

    fn recipe() -> Recipe {
        Recipe {
            input: "images".to_owned(),
            picture: [3, 320, 640],
            batch: [1, 4, 8],
            dynamic: true,
            precision: Precision::Fp16,
            allow_half: true,
            allow_int8: false,
            calibrate: false,
            notes: Vec::new(),
        }
    }

    /// A `trtexec` that is a few lines of shell: what counts here is what we say to it and hear from it.
    fn program(folder: &Path, script: &str) -> PathBuf {
        let path = folder.join("trtexec");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn run(script: &str) -> (Result<Vec<u8>, TensorRtError>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let program = program(folder.path(), script);
        let options = BuildOptions { scratch: Some(folder.path().to_owned()), ..BuildOptions::default() };
        let mut heard = Vec::new();
        let version = Version::new(10, 3, 0);
        let mut progress = |line: &str| heard.push(line.to_owned());
        let built = build(&program, version, Major::Ten, b"onnx", &recipe(), &options, &mut progress);
        let left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["trtexec"], "nothing is left behind");
        (built, heard)
    }

    #[test]
    fn the_plan_is_what_it_wrote_and_its_lines_are_progress() {
        let (built, heard) = run("echo '&&&& RUNNING TensorRT.trtexec [TensorRT v100300] # trtexec'\n\
             echo '[01/02/2026-10:11:12] [I] building' >&2\n\
             for a in \"$@\"; do case $a in --saveEngine=*) printf plan > \"${a#--saveEngine=}\";; \
             --onnx=*) grep -q onnx \"${a#--onnx=}\" || exit 3;; esac; done");
        assert_eq!(built.unwrap(), b"plan");
        assert!(heard.contains(&"building".to_owned()), "{heard:?}");
    }

    #[test]
    fn its_errors_are_our_words() {
        let (built, _) =
            run("echo '[01/02/2026-10:11:12] [E] [TRT] UNSUPPORTED_NODE: no plugin Foo'; exit 1");
        let words = built.unwrap_err().to_string();
        assert!(words.contains("UNSUPPORTED_NODE: no plugin Foo") && !words.contains("["), "{words}");
        let (built, _) = run("exit 1");
        assert!(built.unwrap_err().to_string().contains("without a word"));
        let (built, _) = run("exit 0");
        assert!(built.is_err(), "it ended well and wrote nothing");
    }

    #[test]
    fn one_of_another_version_is_stopped() {
        let (built, _) = run("echo '&&&& RUNNING TensorRT.trtexec [TensorRT v8601] # trtexec'\n\
             for a in \"$@\"; do case $a in --saveEngine=*) printf plan > \"${a#--saveEngine=}\";; esac; done");
        let words = built.unwrap_err().to_string();
        assert!(words.contains("8.6.1") && words.contains("10.3.0"), "{words}");
    }

    #[test]
    fn arguments_say_what_the_options_say() {
        let options = BuildOptions {
            workspace_bytes: Some(1 << 30),
            sparse: true,
            dla_core: Some(1),
            tf32: false,
            timing_cache: Some("/var/cache/timing".into()),
            ..BuildOptions::default()
        };
        let say = |major, recipe: &Recipe| {
            let arguments =
                arguments(major, recipe, &options, Path::new("/a.onnx"), Path::new("/a.plan")).unwrap();
            arguments
                .iter()
                .map(|argument| argument.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(
            say(Major::Ten, &recipe()),
            "--onnx=/a.onnx --saveEngine=/a.plan --skipInference --minShapes=images:1x3x320x640 \
             --optShapes=images:4x3x320x640 --maxShapes=images:8x3x320x640 --fp16 --memPoolSize=workspace:1024 \
             --timingCacheFile=/var/cache/timing --sparsity=enable --useDLACore=1 --allowGPUFallback --noTF32"
        );
        let colon = say(Major::Ten, &Recipe { input: "images:0".to_owned(), ..recipe() });
        assert!(colon.contains("--maxShapes='images:0':8x3x320x640"), "{colon}");
        let fixed = Recipe { dynamic: false, ..recipe() };
        let words = say(Major::Eleven, &fixed);
        assert!(!words.contains("fp16") && !words.contains("Shapes"), "{words}");
        let calibrate = Recipe { calibrate: true, ..recipe() };
        let error = arguments(Major::Ten, &calibrate, &options, Path::new("a"), Path::new("b")).unwrap_err();
        assert!(error.to_string().contains("scales"), "{error}");
    }
}
