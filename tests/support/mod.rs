//! The daemon as its users run it: a process with a configuration file, whose records arrive on a pipe, and
//! which is told to end by a signal. The cameras are real RTSP servers in the test's own process.
#![allow(dead_code, unused_imports, reason = "every test binary uses its own part")]

mod record;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use watchpost::clock;
use watchpost::supervisor::DebugState;
use watchpost_testcam::{CameraOptions, Picture, TestCamera};

pub use record::{Body, Record, assert_consistent};

/// How long a test waits for what has to happen, unless the time itself is what is tested.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Records that a test keeps; a test that sees more of them has to be shorter.
const RECORDS_MAX: usize = 50_000;
/// Lines of the daemon's log that are kept to be shown when a test fails.
const LOG_LINES_MAX: usize = 400;

/// The one place where these tests wait.
#[allow(clippy::disallowed_methods, reason = "the daemon is another process: real time has to pass")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Looks every 10 ms until there is an answer; panics with `what` when there is none within `patience`.
pub fn wait_for<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = clock::now() + patience;
    loop {
        if let Some(answer) = look() {
            return answer;
        }
        assert!(clock::now() < deadline, "not within {patience:?}: {what}");
        pause(Duration::from_millis(10));
    }
}

/// Two tests of one binary that both measure would measure each other.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A scene of 640x360 at 15 pictures a second.
pub fn scene(seed: u64) -> CameraOptions {
    CameraOptions {
        picture: Picture::Scene { seed, width: 640, height: 360, fps: 15 },
        ..CameraOptions::default()
    }
}

pub fn camera(options: CameraOptions) -> TestCamera {
    TestCamera::start(options).expect("the test camera starts")
}

/// The folder with `models/` and `footage/`, or `None` with a loud word on stderr.
pub fn shared() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = std::env::var_os("WATCHPOST_SHARED").map_or_else(|| root.join("../shared"), PathBuf::from);
    if shared.join("models").is_dir() && shared.join("footage").is_dir() {
        return shared.canonicalize().ok();
    }
    eprintln!(
        "NOT TESTED: {} is not there; set WATCHPOST_SHARED to the folder with models/ and footage/",
        shared.display()
    );
    None
}

/// The model for tests in which it matters that there is a detector, but not which: the project's own, or
/// the small one of the shared folder as long as that is not there.
pub fn detector() -> String {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("engines/models/demo.onnx");
    if own.is_file() {
        return "demo".to_owned();
    }
    let shared = shared().expect("neither engines/models/demo.onnx nor the shared models are there");
    shared.join("models/yolox_nano.onnx").display().to_string()
}

/// A TCP port on loopback where nothing listens.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// A configuration in a folder of its own. A daemon can be started from it again and again.
pub struct Setup {
    /// Also held by the daemons started from it.
    folder: Arc<tempfile::TempDir>,
    text: String,
    environment: Vec<(String, String)>,
}

impl Setup {
    /// Records to stdout and to a Unix socket, a debug socket, and this model. `detector` is more TOML for
    /// `[detector]`.
    pub fn new(model: &str, detector: &str) -> Self {
        let folder = Arc::new(tempfile::tempdir().expect("a folder"));
        let text = format!(
            "[detector]\nmodel = \"{model}\"\n{detector}\n\n[output.console]\ntype = \"stdout\"\n\n\
             [output.local]\ntype = \"unix\"\npath = \"{0}/records.sock\"\n\n\
             [debug]\nsocket = \"{0}/debug.sock\"\n",
            folder.path().display()
        );
        Self { folder, text, environment: Vec::new() }
    }

    /// A camera; `keys` is more TOML for it.
    pub fn camera(self, name: &str, url: &str, keys: &str) -> Self {
        self.section(&format!("camera.{name}"), &format!("url = \"{url}\"\n{keys}"))
    }

    /// Another table.
    pub fn section(mut self, header: &str, keys: &str) -> Self {
        let _infallible = write!(self.text, "\n[{header}]\n{keys}\n");
        self
    }

    /// A variable of the daemon's environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn records_socket(&self) -> PathBuf {
        self.folder.path().join("records.sock")
    }

    pub fn debug_socket(&self) -> PathBuf {
        self.folder.path().join("debug.sock")
    }

    /// The sockets that are there.
    pub fn sockets(&self) -> Vec<PathBuf> {
        [self.records_socket(), self.debug_socket()].into_iter().filter(|path| path.exists()).collect()
    }

    /// Runs the daemon.
    pub fn start(&self) -> Daemon {
        self.run(Command::new(env!("CARGO_BIN_EXE_watchpost")))
    }

    /// Runs the daemon with this soft limit of file descriptors.
    pub fn start_limited(&self, descriptors: u64) -> Daemon {
        let mut command = Command::new("sh");
        let script = format!("ulimit -S -n {descriptors}; exec \"$0\" \"$@\"");
        command.args(["-c", &script]).arg(env!("CARGO_BIN_EXE_watchpost"));
        self.run(command)
    }

    fn run(&self, mut command: Command) -> Daemon {
        let config = self.folder.path().join("config.toml");
        std::fs::write(&config, &self.text).expect("the configuration is written");
        command.args(["run", "-c"]).arg(&config).current_dir(env!("CARGO_MANIFEST_DIR"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("WATCHPOST__") {
                command.env_remove(name);
            }
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Daemon::new(child.expect("the daemon starts"), self.debug_socket(), Arc::clone(&self.folder))
    }
}

/// What the daemon has said so far.
#[derive(Default)]
struct Heard {
    said: Mutex<Said>,
    news: Condvar,
}

#[derive(Default)]
struct Said {
    records: Vec<Record>,
    log: Vec<String>,
    over: bool,
}

impl Heard {
    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_records(&self, stdout: impl Read) {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let at = clock::now();
            let record = Record::parse(&line, at);
            let mut said = self.lock();
            assert!(said.records.len() < RECORDS_MAX, "a test has to do with {RECORDS_MAX} records");
            said.records.push(record);
            self.news.notify_all();
        }
        self.lock().over = true;
        self.news.notify_all();
    }

    fn read_log(&self, stderr: impl Read) {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let mut said = self.lock();
            if said.log.len() == LOG_LINES_MAX {
                said.log.remove(0);
            }
            said.log.push(line);
            self.news.notify_all();
        }
    }
}

/// A running daemon. It is killed when this is dropped; a failing test shows the end of its log.
pub struct Daemon {
    child: Child,
    heard: Arc<Heard>,
    readers: Vec<std::thread::JoinHandle<()>>,
    debug_socket: PathBuf,
    _folder: Arc<tempfile::TempDir>,
}

impl Daemon {
    fn new(mut child: Child, debug_socket: PathBuf, folder: Arc<tempfile::TempDir>) -> Self {
        let heard = Arc::new(Heard::default());
        let stdout = child.stdout.take().expect("piped");
        let stderr = child.stderr.take().expect("piped");
        let (records, log) = (Arc::clone(&heard), Arc::clone(&heard));
        let readers = vec![
            std::thread::spawn(move || records.read_records(stdout)),
            std::thread::spawn(move || log.read_log(stderr)),
        ];
        Self { child, heard, readers, debug_socket, _folder: folder }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A place among the records: what comes from now on.
    pub fn mark(&self) -> usize {
        self.heard.lock().records.len()
    }

    /// All records from a mark on.
    pub fn records_since(&self, mark: usize) -> Vec<Record> {
        self.heard.lock().records[mark..].to_vec()
    }

    /// The end of the log.
    pub fn log(&self) -> Vec<String> {
        self.heard.lock().log.clone()
    }

    /// Waits until the records from a mark on contain what `look` finds; panics when they do not in time.
    pub fn find<T>(
        &self,
        what: &str,
        mark: usize,
        patience: Duration,
        look: impl Fn(&Record) -> Option<T>,
    ) -> T {
        let deadline = clock::now() + patience;
        let mut said = self.heard.lock();
        let mut next = mark;
        loop {
            if let Some(answer) = said.records[next..].iter().find_map(&look) {
                return answer;
            }
            next = said.records.len();
            let left = deadline.saturating_duration_since(clock::now());
            if left.is_zero() || said.over {
                let story: Vec<String> =
                    said.records[mark..].iter().filter(|r| r.is_state()).map(ToString::to_string).collect();
                drop(said);
                panic!("not within {patience:?}: {what}; states since then:\n  {}", story.join("\n  "));
            }
            said = self.heard.news.wait_timeout(said, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for this state of this camera; returns the record.
    pub fn state(&self, camera: &str, state: &str, mark: usize, patience: Duration) -> Record {
        self.find(&format!("{camera} {state}"), mark, patience, |record| {
            (record.camera == camera && record.state() == Some(state)).then(|| record.clone())
        })
    }

    /// Waits until the log has a line with these words.
    pub fn logged(&self, words: &str, patience: Duration) {
        wait_for(&format!("the log says {words:?}"), patience, || {
            self.heard.lock().log.iter().any(|line| line.contains(words)).then_some(())
        });
    }

    /// What `watchpost debug --json` prints.
    pub fn debug(&self) -> DebugState {
        let mut answer = String::new();
        let mut stream = UnixStream::connect(&self.debug_socket).expect("the debug socket answers");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.read_to_string(&mut answer).expect("the state is readable");
        serde_json::from_str(&answer).expect("the state is JSON")
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        rustix::process::kill_process(pid, signal).expect("the daemon is still there");
    }

    /// Waits for its end; how it ended and how long that took.
    pub fn end(&mut self, patience: Duration) -> (ExitStatus, Duration) {
        let since = clock::now();
        let deadline = since + patience;
        while clock::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("the process can be asked") {
                return (status, since.elapsed());
            }
            pause(Duration::from_millis(2));
        }
        panic!("the daemon is still there after {patience:?}");
    }

    /// SIGTERM, and the end in order that has to follow.
    pub fn stop(&mut self) -> Duration {
        self.signal(Signal::TERM);
        let (status, took) = self.end(PATIENCE);
        assert_eq!(status.code(), Some(0), "an end in order; {:?}", self.log());
        took
    }

    /// Everything that was said, once the daemon has ended.
    pub fn all_records(&mut self) -> Vec<Record> {
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader does not panic");
        }
        self.records_since(0)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
        if std::thread::panicking() {
            let said = self.heard.lock();
            eprintln!("--- the daemon's log ends with ---\n{}\n---", said.log.join("\n"));
        }
    }
}

/// What a process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub rss_bytes: u64,
    pub fds: usize,
    pub threads: usize,
}

/// From /proc.
pub fn usage(pid: u32) -> Usage {
    let entries = |what: &str| std::fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, Iterator::count);
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages: u64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    Usage {
        rss_bytes: pages * rustix::param::page_size() as u64,
        fds: entries("fd"),
        threads: entries("task"),
    }
}

/// Processes whose parent this is, also those that have ended and are not waited for.
pub fn children(pid: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").expect("proc").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parent = |child: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    pids.filter(|child| parent(*child) == Some(pid)).collect()
}

/// Seconds with two decimals, for tables.
pub fn seconds(from: Instant, to: Instant) -> String {
    format!("{:.2} s", to.saturating_duration_since(from).as_secs_f64())
}
