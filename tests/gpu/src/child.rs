//! Other programs: started in a group of their own, and ended with all that they started.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use watchpost::clock;

/// How often an ending program is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Waits.
pub fn pause(time: Duration) {
    let _timed_out = crossbeam_channel::never::<()>().recv_timeout(time);
}

/// A program that is ended with this value.
#[derive(Debug)]
pub struct Running(pub Child);

impl Running {
    /// Starts it, in a group of its own.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(command: &mut Command) -> std::io::Result<Self> {
        command.process_group(0).spawn().map(Self)
    }

    fn pid(&self) -> Option<Pid> {
        i32::try_from(self.0.id()).ok().and_then(Pid::from_raw)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            let _already_gone = kill_process(pid, signal);
        }
    }

    /// Its end, if it comes in time.
    pub fn wait(&mut self, within: Duration) -> Option<ExitStatus> {
        let deadline = clock::now() + within;
        loop {
            if let Ok(Some(status)) = self.0.try_wait() {
                return Some(status);
            }
            if clock::now() >= deadline {
                return None;
            }
            pause(LOOK);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            if let Some(pid) = self.pid() {
                let _already_gone = kill_process_group(pid, Signal::KILL);
            }
            let _reaped = self.0.wait();
        }
    }
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// `None`: it was killed because its time was over.
    pub status: Option<ExitStatus>,
    /// All that it wrote.
    pub stdout: String,
    /// All that it wrote.
    pub stderr: String,
}

impl Ended {
    /// True where it ended well.
    pub fn is_success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// Why a program cannot start on this machine, if that is it: the dynamic linker's complaint.
    pub fn missing_library(&self) -> Option<String> {
        let line = self.stderr.lines().find(|line| line.contains("error while loading shared libraries"))?;
        if line.contains("libgst") || line.contains("libglib") || line.contains("libgobject") {
            return Some("GStreamer is not installed".to_owned());
        }
        Some(line.to_owned())
    }

    /// Its last line on stderr.
    pub fn last_words(&self) -> &str {
        self.stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing")
    }
}

/// Runs a program to its end.
///
/// # Errors
/// It cannot be started.
pub fn run(command: &mut Command, within: Duration) -> std::io::Result<Ended> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::start(command)?;
    let stdout = running.0.stdout.take().map(collect);
    let stderr = running.0.stderr.take().map(collect);
    let status = running.wait(within);
    drop(running);
    let text = |thread: Option<JoinHandle<Vec<u8>>>| {
        let bytes = thread.and_then(|thread| thread.join().ok()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Ok(Ended { status, stdout: text(stdout), stderr: text(stderr) })
}

fn collect(mut stream: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _cut_off = stream.read_to_end(&mut bytes);
        bytes
    })
}

#[cfg(test)]
mod tests {
    use super::Ended;

    #[test]
    fn what_a_machine_lacks_is_told_in_words() {
        let said = |line: &str| {
            let stderr = format!("{line}\n");
            Ended { status: None, stdout: String::new(), stderr }.missing_library()
        };
        let missing = |name| {
            format!(
                "./watchpost: error while loading shared libraries: {name}: cannot open shared object file: \
                 No such file or directory"
            )
        };
        for name in ["libgstvideo-1.0.so.0", "libglib-2.0.so.0"] {
            assert_eq!(said(&missing(name)).as_deref(), Some("GStreamer is not installed"));
        }
        assert!(said(&missing("libz.so.1")).is_some_and(|words| words.contains("libz.so.1")));
        assert_eq!(said("watchpost: libgst cannot"), None);
    }
}
