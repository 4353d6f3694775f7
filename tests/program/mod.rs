//! The real binary, run as a user runs it, and what every end of it must look like.
#![allow(dead_code, reason = "each test binary uses its part")]

#[path = "../../engines/builtin/tests/onnx_writer/mod.rs"]
pub mod onnx_writer;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, never};
use rustix::process::{Pid, Signal, kill_process};
use watchpost::clock;

/// Long enough for a loaded machine; a test that needs it all has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A folder of the shared models and footage, or `None` with a loud word on stderr.
pub fn shared(name: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("WATCHPOST_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    let path = shared.join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!(
        "NOT TESTED: {} is not there; set WATCHPOST_SHARED to the folder with models/ and footage/",
        path.display()
    );
    None
}

/// The library of an engine that this machine has: the one that `variable` names, or what `make engines` has fetched; `None`
/// with a loud word on stderr.
pub fn engine_library(variable: &str, stem: &str) -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(variable) {
        return Some(PathBuf::from(named));
    }
    let folders = ["onnxruntime/capi", "openvino/libs"];
    let fetched = fs::read_dir(root().join("target/engines")).into_iter().flatten().flatten();
    let files = fetched
        .flat_map(|wheel| folders.map(|folder| wheel.path().join(folder)))
        .flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    let found = files
        .map(|file| file.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(stem)));
    if found.is_none() {
        eprintln!("NOT TESTED: no {stem} here; `make engines` fetches it, or name one with {variable}");
    }
    found
}

/// `watchpost`, in `folder`, with nothing of this environment that could change what it says. A backtrace is
/// asked for: no message may show one.
pub fn watchpost(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_watchpost"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("WATCHPOST_") {
            command.env_remove(name);
        }
    }
    // Where models are looked for beside the working folder.
    command.current_dir(folder).env("XDG_DATA_HOME", folder).env_remove("STATE_DIRECTORY");
    command.env("CACHE_DIRECTORY", folder.join("cache")).env_remove("VIRTUAL_ENV");
    command.env("RUST_BACKTRACE", "1").env_remove("GST_DEBUG");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A model that is a YOLOv8 detector in everything but its eyes: it takes 64x64, no time, and sees nothing.
pub fn blind_detector(classes: u64) -> Vec<u8> {
    use onnx_writer::{F32, Onnx, dims, node, tensor, weights};
    let shape = [1, 4 + classes, 84];
    let noughts = vec![-20.0; shape.iter().product::<u64>() as usize];
    let names: Vec<String> = (0..classes).map(|class| format!("{class}: 'label{class}'")).collect();
    let onnx = Onnx {
        inputs: vec![tensor("images", F32, &dims(&[1, 3, 64, 64]))],
        outputs: vec![tensor("output", F32, &dims(&shape))],
        nodes: vec![node("Sigmoid", &["w"], &["output"])],
        weights: vec![weights("w", &shape, &noughts)],
        metadata: vec![("task", "detect".to_owned()), ("names", format!("{{{}}}", names.join(", ")))],
    };
    onnx.encode()
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// `None` where a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The lines on stdout, every one of which must be a record.
    pub fn records(&self) -> Vec<serde_json::Value> {
        self.stdout.lines().map(record).collect()
    }

    /// The exit code is `code`, the message has all of `words` (what is wrong and what to do) in plain
    /// language, and stdout holds nothing but records.
    #[track_caller]
    pub fn expect(&self, what: &str, code: i32, words: &[&str]) {
        let Self { stderr, stdout, .. } = self;
        println!("{what}: {} | {}", self.code.unwrap_or(-1), stderr.lines().last().unwrap_or_default());
        assert_eq!(self.code, Some(code), "{what}\n{stderr}");
        for word in words {
            assert!(stderr.contains(word), "{what}: {word:?} is not in:\n{stderr}");
        }
        assert_plain(what, stderr);
        assert!(stdout.is_empty() || stdout.ends_with('\n'), "{what}: the last line is cut off: {stdout:?}");
        self.records();
    }

    /// As [`Self::expect`] for a sub-command whose stdout is for people.
    #[track_caller]
    pub fn expect_text(&self, what: &str, code: i32, words: &[&str]) {
        let stdout = String::new();
        Ended { stdout, stderr: self.stderr.clone(), code: self.code }.expect(what, code, words);
    }
}

/// Nothing that only a programmer understands.
#[track_caller]
pub fn assert_plain(what: &str, text: &str) {
    let marks = [
        "panicked",
        "backtrace",
        "RUST_",
        ".rs:",
        ".rs:",
        "Some(",
        "None,",
        "Err(",
        "Os {",
        "Error {",
        "(os error",
        "unwrap",
        "\\u{",
    ];
    for mark in marks {
        assert!(!text.contains(mark), "{what}: {mark:?} is no word for users:\n{text}");
    }
}

/// One line as a record.
#[track_caller]
pub fn record(line: &str) -> serde_json::Value {
    let value: serde_json::Value =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("not JSON ({error}): {line:?}"));
    assert!(line.starts_with("{\"schema\":\"watchpost/1\",\"type\":\""), "not a record: {line:?}");
    value
}

fn collect(mut stream: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _cut_off = stream.read_to_end(&mut bytes);
        bytes
    })
}

fn text(thread: JoinHandle<Vec<u8>>) -> String {
    String::from_utf8(thread.join().expect("read")).expect("UTF-8")
}

/// Waits until `condition` holds; fails after [`PATIENCE`].
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = clock::now() + PATIENCE;
    while !condition() {
        assert!(clock::now() < deadline, "waited in vain: {what}");
        pause(Duration::from_millis(10));
    }
}

pub fn pause(time: Duration) {
    let _timed_out = never::<()>().recv_timeout(time);
}

/// Runs to the end.
#[track_caller]
pub fn run(command: &mut Command) -> Ended {
    let running = Running::start(command);
    running.end()
}

/// A process that is ended with the test, whatever happens.
pub struct Running {
    child: Child,
    pub stdout: Option<ChildStdout>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("the program starts");
        let stdout = child.stdout.take();
        let stderr = child.stderr.take().map(collect);
        Self { child, stdout, stderr }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, signal).expect("it is ours");
    }

    /// Stdout line by line, from a thread of its own.
    pub fn lines(&mut self) -> Receiver<String> {
        let stdout = self.stdout.take().expect("not taken yet");
        let (tx, rx) = bounded(10_000);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { return };
                if tx.send(line).is_err() {
                    return;
                }
            }
        });
        rx
    }

    /// Waits for its own end.
    #[track_caller]
    pub fn end(mut self) -> Ended {
        let stdout = self.stdout.take().map(collect);
        eventually("the program ends", || !self.is_running());
        let code = self.child.wait().expect("ended").code();
        Ended {
            code,
            stdout: stdout.map(text).unwrap_or_default(),
            stderr: self.stderr.take().map(text).unwrap_or_default(),
        }
    }

    /// SIGTERM, then its end.
    #[track_caller]
    pub fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        self.end()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_running() {
            let _gone = self.child.kill();
        }
        let _reaped = self.child.wait();
        if let Some(stderr) = self.stderr.take().filter(|_| std::thread::panicking()) {
            let stderr = text(stderr);
            let from = stderr.len().saturating_sub(3000);
            eprintln!("its last words: {}", stderr.get(from..).unwrap_or_default());
        }
    }
}

/// The next record of `kind` on a stream of lines.
#[track_caller]
pub fn next_record(lines: &Receiver<String>, kind: &str) -> serde_json::Value {
    let deadline = clock::now() + PATIENCE;
    loop {
        let line = lines.recv_deadline(deadline).unwrap_or_else(|_| panic!("no {kind} record comes"));
        let value = record(&line);
        if value["type"] == kind {
            return value;
        }
    }
}

/// What lies in a folder, with the sizes: to see that nothing is left behind and nothing is touched.
pub fn contents(folder: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).expect("a folder").flatten() {
            let meta = entry.metadata().expect("there");
            if meta.is_dir() {
                folders.push(entry.path());
            }
            found.insert(entry.path(), if meta.is_dir() { 0 } else { meta.len() });
        }
    }
    found
}
