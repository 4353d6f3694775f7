//! The two processes of the demo, as RAII values: whatever happens, they end with it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use super::super::common::output_failure;
use super::super::{Failure, exit};
use super::{DemoArgs, HEIGHT, START_WITHIN, WIDTH, lines};
use crate::clock;

/// Records on their way from the daemon; the daemon's own ring buffers what does not fit.
const LINES_MAX: usize = 256;
/// The daemon promises to be gone after 2 s.
const STOP_WITHIN: Duration = Duration::from_secs(4);
/// How often an ending child is looked at.
const LOOK: Duration = Duration::from_millis(20);

fn unavailable(message: String) -> Failure {
    Failure::new(exit::UNAVAILABLE, message)
}

/// A folder for the demo's files, removed at the end.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("watchpost-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path)
            .map_err(|error| output_failure(&path.display().to_string(), &error))?;
        Ok(Self(path))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _nothing_depends_on_it = std::fs::remove_dir_all(&self.0);
    }
}

/// Ends its process when dropped.
struct Process(Child);

impl Process {
    fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }

    /// True if it ended by itself before the deadline.
    fn wait_until(&mut self, deadline: Instant) -> bool {
        let (_wake, bell) = crate::wake::doorbell();
        while !self.has_ended() {
            if clock::now() >= deadline {
                return false;
            }
            bell.wait(LOOK);
        }
        true
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.has_ended() {
            let _gone = self.0.kill();
            let _reaped = self.0.wait();
        }
    }
}

fn spawn_lines(stream: impl std::io::Read + Send + 'static) -> Result<Receiver<String>, Failure> {
    let (tx, rx) = bounded(LINES_MAX);
    let read = move || lines(stream).try_for_each(|line| tx.send(line).map_err(drop));
    let thread = std::thread::Builder::new().name("records".to_owned());
    thread.spawn(read).map_err(|error| unavailable(format!("no thread for reading: {error}")))?;
    Ok(rx)
}

/// The program `name` beside this one.
fn program(name: &str) -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().map_err(|error| unavailable(format!("where am I? {error}")))?;
    let path = own.with_file_name(name);
    if path.is_file() {
        return Ok(path);
    }
    let message = format!("{}: the test camera is not there; `make demo` builds it", path.display());
    Err(unavailable(message))
}

/// The test camera.
pub(super) struct Camera {
    process: Process,
    pub url: String,
}

impl Camera {
    pub fn start(folder: &Folder, args: &DemoArgs) -> Result<Self, Failure> {
        let scene = format!("seed={},width={WIDTH},height={HEIGHT},fps={}", args.seed, args.fps);
        let mut child = Command::new(program("watchpost-testcam")?)
            .args([
                "serve",
                "--codec",
                &args.codec,
                "--scene",
                &scene,
                "--bitrate-kbps",
                "1500",
                "--frame-log",
            ])
            .arg(folder.path("frames.log"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| unavailable(format!("the test camera does not start: {error}")))?;
        let stdout = child.stdout.take();
        let process = Process(child);
        let events =
            spawn_lines(stdout.ok_or_else(|| unavailable("the test camera has no stdout".to_owned()))?)?;
        let ready = events
            .recv_deadline(clock::now() + START_WITHIN)
            .map_err(|_| unavailable("the test camera does not come up; it has said why above".to_owned()))?;
        let ready: serde_json::Value = serde_json::from_str(&ready).unwrap_or_default();
        let url =
            ready["url"].as_str().ok_or_else(|| unavailable("the test camera names no URL".to_owned()))?;
        Ok(Self { url: url.to_owned(), process })
    }

    /// The end of its stdin ends it in order, and its frame log is complete.
    pub fn stop(mut self) {
        drop(self.process.0.stdin.take());
        self.process.wait_until(clock::now() + STOP_WITHIN);
    }
}

/// The daemon.
pub(super) struct Daemon {
    process: Process,
    records: Receiver<String>,
    pub debug_socket: PathBuf,
}

impl Daemon {
    pub fn start(folder: &Folder, url: &str) -> Result<Self, Failure> {
        let debug_socket = folder.path("debug.sock");
        let config = folder.path("config.toml");
        write_config(&config, url, &debug_socket)?;
        let own = std::env::current_exe().map_err(|error| unavailable(format!("where am I? {error}")))?;
        let mut command = Command::new(own);
        command
            .args(["--log-level", "warn", "run", "-c"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        // The demo is the same whatever configuration its environment carries.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("WATCHPOST__") {
                command.env_remove(name);
            }
        }
        let mut child =
            command.spawn().map_err(|error| unavailable(format!("the daemon does not start: {error}")))?;
        let stdout = child.stdout.take();
        let process = Process(child);
        let records = spawn_lines(stdout.ok_or_else(|| unavailable("the daemon has no stdout".to_owned()))?)?;
        Ok(Self { process, records, debug_socket })
    }

    /// The next record, `None` if none comes in time.
    pub fn line_before(&self, deadline: Instant) -> Result<Option<String>, Failure> {
        match self.records.recv_deadline(deadline) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                Err(Failure::new(exit::INTERNAL, "the daemon ended early; it has said why above"))
            }
        }
    }

    /// Resident memory of the daemon's process.
    pub fn rss_bytes(&self) -> u64 {
        let statm =
            std::fs::read_to_string(format!("/proc/{}/statm", self.process.0.id())).unwrap_or_default();
        let pages: u64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
        pages * rustix::param::page_size() as u64
    }

    /// SIGTERM, and in time.
    pub fn stop(mut self) -> Result<(), Failure> {
        let pid = i32::try_from(self.process.0.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _already_gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        if self.process.wait_until(clock::now() + STOP_WITHIN) {
            return Ok(());
        }
        Err(Failure::new(exit::INTERNAL, "the daemon did not stop in time and was killed"))
    }
}

fn write_config(path: &Path, url: &str, debug_socket: &Path) -> Result<(), Failure> {
    let text = format!(
        "[detector]\nmodel = \"demo\"\n\n[camera.demo]\nurl = \"{url}\"\nread_stamp = true\n\n\
         [output.console]\ntype = \"stdout\"\n\n[debug]\nsocket = \"{}\"\n",
        debug_socket.display()
    );
    let mut file =
        std::fs::File::create(path).map_err(|error| output_failure(&path.display().to_string(), &error))?;
    file.write_all(text.as_bytes()).map_err(|error| output_failure(&path.display().to_string(), &error))
}
