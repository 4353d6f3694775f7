//! Network namespaces without names.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::Unavailable;

/// A network of its own, with a loopback device that is up. It lives as long as this value, the threads and
/// processes in it, and the sockets they have opened.
#[derive(Debug)]
pub struct Namespace {
    door: File,
}

impl Namespace {
    /// A new one.
    ///
    /// # Errors
    /// [`Unavailable`] where this is not allowed.
    pub fn new() -> Result<Self, Unavailable> {
        on_a_thread(|| {
            unshare(UnshareFlags::NEWNET, "a network namespace cannot be made")?;
            ip("link set lo up")?;
            Self::current()
        })
    }

    /// The one that the calling thread is in.
    ///
    /// # Errors
    /// [`Unavailable`] where /proc is not mounted.
    pub fn current() -> Result<Self, Unavailable> {
        let door = File::open("/proc/thread-self/ns/net").map_err(Unavailable::refused("/proc"))?;
        Ok(Self { door })
    }

    /// Does `work` on a thread that lives in this network; so do the threads and processes that it starts.
    ///
    /// # Errors
    /// [`Unavailable`] where entering is not allowed.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Unavailable> {
        on_a_thread(|| {
            move_into_link_name_space(self.door.as_fd(), Some(LinkNameSpaceType::Network)).map_err(
                |error| Unavailable::refused("a network namespace cannot be entered")(error.into()),
            )?;
            Ok(work())
        })
    }
}

/// Does `work` on a thread with a network of its own and with its own view of some files: each `(file, place)`
/// makes `file` appear at `place` for the thread and for the processes that it starts.
///
/// # Errors
/// [`Unavailable`] where this is not allowed; `work` was then not begun.
pub fn stage<T: Send>(files: &[(&Path, &Path)], work: impl FnOnce() -> T + Send) -> Result<T, Unavailable> {
    on_a_thread(|| {
        unshare(UnshareFlags::NEWNET | UnshareFlags::NEWNS, "namespaces cannot be made")?;
        run(Command::new("mount").args(["--make-rprivate", "/"]))?;
        for (file, place) in files {
            run(Command::new("mount").arg("--bind").args([file, place]))?;
        }
        ip("link set lo up")?;
        Ok(work())
    })
}

/// Whether this process may make namespaces. If it may not, it runs the test `name` of this test binary once
/// more as root of a user namespace; if that is not allowed either, it says so.
///
/// # Panics
/// When the test fails there.
pub fn as_root(name: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    let program = std::env::current_exe().expect("this program is somewhere");
    let root = || {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--"]);
        command
    };
    if !root().arg("true").stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        eprintln!("NOT TESTED: {name}: neither root nor allowed to make user namespaces");
        return false;
    }
    let status = root().arg(program).args(["--exact", name, "--nocapture"]).status().expect("it runs");
    assert!(status.success(), "{name}, run as root of a user namespace: {status}");
    false
}

fn unshare(flags: UnshareFlags, what: &str) -> Result<(), Unavailable> {
    // SAFETY: the calling thread is one of our own that has opened nothing yet; the descriptor table is shared on.
    unsafe { unshare_unsafe(flags) }.map_err(|error| Unavailable::refused(what)(error.into()))
}

/// A thread that changes its namespaces cannot go back: it has to be one that ends.
fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let done = std::thread::scope(|scope| scope.spawn(work).join());
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// `ip` of iproute2, in the network of the calling thread.
pub(crate) fn ip(arguments: &str) -> Result<(), Unavailable> {
    run(Command::new("ip").args(arguments.split_whitespace()))
}

fn run(command: &mut Command) -> Result<(), Unavailable> {
    let name = format!("{command:?}");
    let output = command.output().map_err(Unavailable::refused(&format!("{name} (package iproute2)")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Unavailable::Command { command: name, said })
}
