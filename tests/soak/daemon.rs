//! The daemon as its users run it, watched from outside: `/proc`, its debug socket, its records, its log.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use watchpost::clock;
use watchpost::supervisor::DebugState;

use super::leak::{self, Leak};
use super::story::Story;
use super::{Failure, pause};

/// Lines of the log's end that are kept for whoever asks what went wrong.
const LOG_LINES_MAX: usize = 60;
/// Words that must never be in the log.
const BAD_WORDS: [&str; 3] = ["panicked", "GStreamer-CRITICAL", "GLib-CRITICAL"];
const ASK_WITHIN: Duration = Duration::from_secs(5);

/// What the kernel says of the process.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    pub rss_bytes: u64,
    pub pss_bytes: u64,
    pub fds: u64,
    pub threads: u64,
    pub cpu_seconds: f64,
    pub children: u64,
}

/// What stderr said.
#[derive(Debug, Default)]
struct Log {
    end: Vec<String>,
    bad: Vec<String>,
}

/// A running daemon; killed when dropped.
pub struct Daemon {
    child: Child,
    pub story: Arc<Story>,
    log: Arc<Mutex<Log>>,
    readers: Vec<std::thread::JoinHandle<()>>,
    folder: PathBuf,
}

impl Daemon {
    /// Runs it on `folder/config.toml`.
    pub fn start(folder: &Path, leak: Leak, environment: (&str, &str)) -> Result<Self, Failure> {
        let program = match leak {
            Leak::Nothing => PathBuf::from(env!("CARGO_BIN_EXE_watchpost")),
            _ => std::env::current_exe()?,
        };
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("WATCHPOST_") {
                command.env_remove(name);
            }
        }
        command.args(["run", "-c"]).arg(folder.join("config.toml")).current_dir(folder);
        command.env(environment.0, environment.1).env_remove("GST_DEBUG").env_remove("GST_TRACERS");
        if leak != Leak::Nothing {
            command.env(leak::VARIABLE, leak.name());
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (stdout, stderr) = child.stdout.take().zip(child.stderr.take()).expect("both are piped");
        let (story, log) = (Arc::new(Story::default()), Arc::new(Mutex::new(Log::default())));
        let (of_records, of_log) = (Arc::clone(&story), Arc::clone(&log));
        let readers = vec![
            std::thread::spawn(move || of_records.listen(stdout)),
            std::thread::spawn(move || listen_to_log(stderr, &of_log)),
        ];
        Ok(Self { child, story, log, readers, folder: folder.to_owned() })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The end of its log.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).end.clone()
    }

    /// Lines of the log that should not be there.
    pub fn bad_lines(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).bad.clone()
    }

    /// Writes the configuration as editors do, and says so.
    pub fn configure(&self, text: &str) -> Result<(), Failure> {
        write_config(&self.folder, text)?;
        self.signal(Signal::HUP)
    }

    fn signal(&self, signal: Signal) -> Result<(), Failure> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        rustix::process::kill_process(pid, signal)
            .map_err(|error| Failure(format!("the daemon cannot be signalled: {error}")))
    }

    /// SIGTERM, and how it ended.
    pub fn stop(mut self) -> Result<ExitStatus, Failure> {
        self.signal(Signal::TERM)?;
        let deadline = clock::now() + Duration::from_secs(30);
        while clock::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                for reader in self.readers.drain(..) {
                    let _panicked = reader.join();
                }
                return Ok(status);
            }
            pause(Duration::from_millis(10));
        }
        Err(Failure("the daemon has not ended 30 s after SIGTERM".to_owned()))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn listen_to_log(stderr: impl Read, log: &Mutex<Log>) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        if BAD_WORDS.iter().any(|word| line.contains(word)) && log.bad.len() < LOG_LINES_MAX {
            log.bad.push(line.clone());
        }
        if log.end.len() == LOG_LINES_MAX {
            log.end.remove(0);
        }
        log.end.push(line);
    }
}

pub fn write_config(folder: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(folder.join("config.toml.new"), text)?;
    Ok(std::fs::rename(folder.join("config.toml.new"), folder.join("config.toml"))?)
}

/// What `watchpost debug --json` prints; `None` where nobody answers in time.
pub fn debug(folder: &Path) -> Option<DebugState> {
    let mut answer = String::new();
    let mut stream = UnixStream::connect(folder.join("debug.sock")).ok()?;
    stream.set_read_timeout(Some(ASK_WITHIN)).ok()?;
    stream.read_to_string(&mut answer).ok()?;
    serde_json::from_str(&answer).ok()
}

/// From `/proc`.
pub fn usage(pid: u32) -> Usage {
    let entries = |what: &str| std::fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, Iterator::count);
    let file = |what: &str| std::fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap_or_default();
    let kib = |text: &str, name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    let stat = file("stat");
    // Fields 14 and 15 of proc(5), in hundredths of a second; the name before them may hold anything.
    let ticks = stat.rsplit_once(')').map_or(0, |(_, fields)| {
        fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
    });
    Usage {
        rss_bytes: kib(&file("status"), "VmRSS:") * 1024,
        pss_bytes: kib(&file("smaps_rollup"), "Pss:") * 1024,
        fds: entries("fd") as u64,
        threads: entries("task") as u64,
        cpu_seconds: ticks as f64 / 100.0,
        children: file(&format!("task/{pid}/children")).split_whitespace().count() as u64,
    }
}
