//! Lines to standard output, whatever is behind it: a pipe, a terminal, a file, the journal's socket.
//!
//! The descriptor is shared with whoever started us, so it is never switched to non-blocking. Instead we
//! poll and write at most `PIPE_BUF` bytes, which a pipe that is writable takes without blocking.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use super::outbox::Outbox;
use super::{OnClosed, Output};
use crate::clock;
use crate::os_words::plain_words;

/// Linux: writes up to this size to a pipe are atomic, and do not block when poll says writable.
const PIPE_BUF: usize = 4096;

/// A full disk is tried again after this.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// A second descriptor for our standard output.
pub(super) fn duplicate() -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?)
}

/// Something to poll on beside the output, and the call that rings it.
pub(super) fn bell() -> io::Result<(Arc<OwnedFd>, impl Fn() + Send + Sync)> {
    let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let rung = Arc::clone(&bell);
    let ring = move || {
        // The only failure is a full counter, and then the thread is awake anyway.
        let _ = rustix::io::write(&*rung, &1u64.to_ne_bytes());
    };
    Ok((bell, ring))
}

/// The thread that writes one output's lines to a descriptor.
pub(super) struct Writer {
    output: Arc<Output>,
    fd: OwnedFd,
    bell: Arc<OwnedFd>,
    outbox: Outbox,
    /// The disk was full: nothing is written before this.
    retry_at: Option<Instant>,
    full_was_said: bool,
}

/// What polling found.
struct Ready {
    writable: bool,
    hung_up: bool,
}

impl Writer {
    pub(super) fn new(output: Arc<Output>, fd: OwnedFd, bell: Arc<OwnedFd>) -> Self {
        let outbox = Outbox::new(&output.ring);
        Self { output, fd, bell, outbox, retry_at: None, full_was_said: false }
    }

    /// Writes until the output is told to stop, or nobody reads any more.
    pub(super) fn run(mut self, on_closed: &OnClosed) {
        loop {
            match self.turn() {
                Ok(true) => {}
                Ok(false) => return,
                Err(Errno::PIPE) => {
                    return self.output.close("nobody reads standard output any more", on_closed);
                }
                Err(errno) => {
                    let reason = format!("standard output cannot be written: {}", plain_words(&errno.into()));
                    return self.output.close(&reason, on_closed);
                }
            }
        }
    }

    /// Waits for something to do and does it once. `false`: it is time to end.
    fn turn(&mut self) -> Result<bool, Errno> {
        self.output.ring.begin_turn();
        let now = clock::now();
        let stop_by = self.output.stop_by.get().copied();
        let Output { name, ring, metrics, .. } = &*self.output;
        let idle = self.outbox.pending(name, ring, metrics).is_empty();
        if stop_by.is_some_and(|stop_by| idle || now >= stop_by) {
            return Ok(false);
        }
        self.retry_at = self.retry_at.filter(|at| *at > now);
        let wants_write = !idle && self.retry_at.is_none();
        let until = [stop_by, self.retry_at].into_iter().flatten().min();
        let timeout = until.map(|at| at.saturating_duration_since(now));
        let ready = wait(&self.bell, self.fd.as_fd(), wants_write, timeout)?;
        if ready.hung_up {
            return Err(Errno::PIPE);
        }
        if ready.writable {
            self.write_once(now)?;
        }
        Ok(true)
    }

    fn write_once(&mut self, now: Instant) -> Result<(), Errno> {
        let Output { name, ring, metrics, .. } = &*self.output;
        let pending = self.outbox.pending(name, ring, metrics);
        match rustix::io::write(&self.fd, whole_lines(pending)) {
            Ok(bytes) => {
                self.outbox.wrote(bytes);
                self.full_was_said = false;
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno @ (Errno::NOSPC | Errno::DQUOT)) => {
                if !std::mem::replace(&mut self.full_was_said, true) {
                    let error = plain_words(&errno.into());
                    tracing::warn!(output = %name, "output {name}: {error}; trying again every second, the oldest records are lost meanwhile");
                }
                self.retry_at = Some(now + FULL_RETRY);
            }
            Err(errno) => return Err(errno),
        }
        Ok(())
    }
}

/// At most `PIPE_BUF` bytes, and whole lines where they fit: then they stay whole even if another process
/// writes to the same pipe.
fn whole_lines(pending: &[u8]) -> &[u8] {
    if pending.len() <= PIPE_BUF {
        return pending;
    }
    let piece = &pending[..PIPE_BUF];
    let whole = piece.iter().rposition(|byte| *byte == b'\n').map_or(PIPE_BUF, |newline| newline + 1);
    &piece[..whole]
}

/// Polls for the bell and for the output. Without `wants_write` only the end of the output is noticed.
fn wait(
    bell: &OwnedFd,
    fd: BorrowedFd<'_>,
    wants_write: bool,
    timeout: Option<Duration>,
) -> Result<Ready, Errno> {
    let events = if wants_write { PollFlags::OUT } else { PollFlags::empty() };
    let mut fds = [PollFd::new(bell, PollFlags::IN), PollFd::from_borrowed_fd(fd, events)];
    let timeout = timeout.map(|timeout| Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok(Ready { writable: false, hung_up: false }),
        Err(errno) => return Err(errno),
    }
    if fds[0].revents().contains(PollFlags::IN) {
        let mut count = [0; 8];
        // Empty if another turn has read it; either way the bell is silent now.
        let _ = rustix::io::read(bell, &mut count);
    }
    let found = fds[1].revents();
    Ok(Ready {
        writable: found.contains(PollFlags::OUT),
        hung_up: found.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL),
    })
}

#[cfg(test)]
#[path = "stdout_tests.rs"]
mod tests;
