//! One thread per socket output: accepts readers, and sends each of them the ring's lines.
//!
//! Nothing here blocks but `poll`. A reader's lines pass through a bounded staging; what a reader has not
//! taken stays in the ring until newer lines push it out. What readers send us is read and thrown away.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use mio::{Events, Interest, Poll, Token, Waker};
use rustix::net::sockopt;

use super::outbox::Outbox;
use super::record::Refused;
use super::unix::{self, SocketFile};
use super::{OnClosed, Output, PublishError};
use crate::clock;
use crate::config::Group;
use crate::descriptors;

const WAKE: Token = Token(0);
const LISTENER: Token = Token(1);
const FIRST_READER: usize = 2;

/// Events taken from the kernel at once; what is left comes with the next poll.
const EVENTS_PER_POLL: usize = 256;
/// Writes to, or reads from, one reader before the others have their turn.
const PIECES_PER_TURN: usize = 4;
/// Connections accepted before readers have their turn.
const ACCEPTS_PER_TURN: usize = 32;
/// What a reader sends is thrown away in pieces of this size.
const DISCARD_BYTES: usize = 4096;
/// Out of descriptors: accepting is tried again after this.
const ACCEPT_RETRY: Duration = Duration::from_secs(1);
/// The kernel's send buffer of one TCP reader: left alone it would grow to megabytes for a reader that
/// does not read.
const TCP_SEND_BUFFER_BYTES: usize = 128 * 1024;

pub(super) fn poll() -> io::Result<(Poll, Waker)> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKE)?;
    Ok((poll, waker))
}

/// A listening socket, not yet served.
pub(super) enum Listener {
    Unix {
        listener: UnixListener,
        /// Removes the socket's file when the listener goes.
        _file: SocketFile,
    },
    Tcp(TcpListener),
}

impl Listener {
    pub(super) fn unix(
        output: &str,
        path: &Path,
        mode: u32,
        group: Option<&Group>,
    ) -> Result<Self, PublishError> {
        let (fd, file) = unix::listen(output, path, mode, group)?;
        Ok(Self::Unix { listener: UnixListener::from_std(fd.into()), _file: file })
    }

    pub(super) fn tcp(output: &str, listen: SocketAddr) -> Result<Self, PublishError> {
        TcpListener::bind(listen).map(Self::Tcp).map_err(|source| {
            let output = output.to_owned();
            let advice = match source.kind() {
                io::ErrorKind::AddrInUse => return PublishError::PortInUse { output, listen },
                io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE",
                io::ErrorKind::AddrNotAvailable => "the address must be one of this machine's own",
                _ => "choose another address",
            };
            PublishError::Listen { output, address: listen.to_string(), source, advice }
        })
    }

    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Unix { .. } => None,
            Self::Tcp(listener) => listener.local_addr().ok(),
        }
    }

    fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Unix { listener, .. } => Ok(Stream::Unix(listener.accept()?.0)),
            Self::Tcp(listener) => {
                let stream = listener.accept()?.0;
                // Without these a reader is served all the same, only less well.
                let _ = tune_tcp(&stream);
                Ok(Stream::Tcp(stream))
            }
        }
    }

    fn source(&mut self) -> &mut dyn mio::event::Source {
        match self {
            Self::Unix { listener, .. } => listener,
            Self::Tcp(listener) => listener,
        }
    }
}

/// Records leave at once, the kernel buffers little, and a reader whose machine has vanished without a
/// word gives its place back after about two minutes.
fn tune_tcp(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_send_buffer_size(stream, TCP_SEND_BUFFER_BYTES)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(60))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(10))?;
    sockopt::set_tcp_keepcnt(stream, 6)?;
    Ok(())
}

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
        }
    }

    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(bytes),
            Self::Tcp(stream) => stream.read(bytes),
        }
    }

    fn end(&self) {
        // The reader may have gone first.
        let _ = match self {
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    fn source(&mut self) -> &mut dyn mio::event::Source {
        match self {
            Self::Unix(stream) => stream,
            Self::Tcp(stream) => stream,
        }
    }
}

struct Reader {
    stream: Stream,
    outbox: Outbox,
    /// The kernel has not said otherwise since it last said so: events come once per change.
    writable: bool,
    /// As `writable`, for what the reader sends us.
    readable: bool,
    /// Both directions are shut, or the connection is broken.
    gone: bool,
}

/// One place in the table of readers, without the staging.
pub(super) const READER_BYTES: usize = size_of::<Option<Reader>>();

/// What there is left to do for a reader, in order of urgency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Left {
    /// It has everything.
    Nothing,
    /// It has to read first.
    Blocked,
    /// More could be done at once.
    More,
}

impl Reader {
    /// Writes what can be written without waiting. An error means that the reader is gone.
    fn pump(&mut self, output: &Output) -> io::Result<Left> {
        if self.gone {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let discarded = self.discard()?;
        for _ in 0..PIECES_PER_TURN {
            let pending = self.outbox.pending(&output.name, &output.ring, &output.metrics);
            if pending.is_empty() {
                return Ok(discarded);
            }
            if !self.writable {
                return Ok(discarded.max(Left::Blocked));
            }
            match self.stream.write(pending) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => self.outbox.wrote(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Left::More)
    }

    /// Throws away some of what the reader has sent. A reader that has ended its side is still served.
    fn discard(&mut self) -> io::Result<Left> {
        let mut piece = [0; DISCARD_BYTES];
        for _ in 0..PIECES_PER_TURN {
            if !self.readable {
                return Ok(Left::Nothing);
            }
            match self.stream.read(&mut piece) {
                Ok(0) => self.readable = false,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(if self.readable { Left::More } else { Left::Nothing })
    }
}

/// The thread that serves one socket.
pub(super) struct Server {
    output: Arc<Output>,
    poll: Poll,
    events: Events,
    listener: Listener,
    /// One place for each of `max_readers`, allocated once.
    readers: Vec<Option<Reader>>,
    connected: usize,
    /// Connections may be waiting.
    acceptable: bool,
    accept_retry_at: Option<Instant>,
}

impl Server {
    pub(super) fn new(
        output: Arc<Output>,
        poll: Poll,
        mut listener: Listener,
        max_readers: usize,
    ) -> io::Result<Self> {
        poll.registry().register(listener.source(), LISTENER, Interest::READABLE)?;
        let readers = std::iter::repeat_with(|| None).take(max_readers).collect();
        let events = Events::with_capacity(EVENTS_PER_POLL);
        let (connected, acceptable, accept_retry_at) = (0, false, None);
        Ok(Self { output, poll, events, listener, readers, connected, acceptable, accept_retry_at })
    }

    /// Serves readers until the output is told to stop.
    pub(super) fn run(mut self, on_closed: &OnClosed) {
        loop {
            match self.turn() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.output.close(&format!("its socket cannot be polled: {error}"), on_closed);
                    break;
                }
            }
        }
        for reader in self.readers.iter().flatten() {
            reader.stream.end();
        }
        self.output.metrics.set_readers(0);
    }

    /// Does what can be done, then waits for more to do. `false`: it is time to end.
    fn turn(&mut self) -> io::Result<bool> {
        let now = clock::now();
        let stop_by = self.output.stop_by.get().copied();
        if stop_by.is_none() {
            self.accept(now);
        } else {
            // Nobody is let in any more, so nothing may wake us for it.
            (self.acceptable, self.accept_retry_at) = (false, None);
        }
        self.output.ring.begin_turn();
        let left = self.pump();
        if stop_by.is_some_and(|stop_by| left == Left::Nothing || now >= stop_by) {
            return Ok(false);
        }
        let timeout = if left == Left::More || (self.acceptable && self.accept_retry_at.is_none()) {
            Some(Duration::ZERO)
        } else {
            let until = [stop_by, self.accept_retry_at].into_iter().flatten().min();
            until.map(|at| at.saturating_duration_since(now))
        };
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => self.note_events(),
        }
        Ok(true)
    }

    fn note_events(&mut self) {
        for event in &self.events {
            match event.token() {
                WAKE => {}
                LISTENER => self.acceptable = true,
                Token(token) => {
                    let place = self.readers.get_mut(token - FIRST_READER);
                    let Some(Some(reader)) = place else { continue };
                    note_event(reader, event);
                }
            }
        }
    }

    /// Serves every reader once; tells what is left for the neediest.
    fn pump(&mut self) -> Left {
        let mut left = Left::Nothing;
        for place in &mut self.readers {
            let Some(reader) = place else { continue };
            match reader.pump(&self.output) {
                Ok(of_reader) => left = left.max(of_reader),
                Err(error) => {
                    tracing::debug!(output = %self.output.name, "a reader has gone: {error}");
                    // Closing its descriptor takes it out of the poll.
                    *place = None;
                    self.connected -= 1;
                    self.output.metrics.set_readers(self.connected);
                }
            }
        }
        left
    }

    fn accept(&mut self, now: Instant) {
        if !self.acceptable || self.accept_retry_at.is_some_and(|at| now < at) {
            return;
        }
        self.accept_retry_at = None;
        for _ in 0..ACCEPTS_PER_TURN {
            match self.listener.accept() {
                Ok(stream) => self.admit(stream),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        self.acceptable = false;
                        return;
                    }
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    _ => {
                        let name = &self.output.name;
                        tracing::warn!(output = %name, "output {name} cannot accept readers for now: {error}");
                        self.accept_retry_at = Some(now + ACCEPT_RETRY);
                        return;
                    }
                },
            }
        }
    }

    fn admit(&mut self, mut stream: Stream) {
        let Some(index) = self.readers.iter().position(Option::is_none) else {
            let detail = "this output has all the readers that max_readers allows; try again later";
            return self.refuse(&mut stream, detail);
        };
        if descriptors::are_scarce() {
            let detail = "watchpost is short of file descriptors, and keeps the last for its cameras; try again later, \
                          or raise LimitNOFILE= in its unit";
            tracing::warn!(output = %self.output.name, "a reader is refused: {detail}");
            return self.refuse(&mut stream, detail);
        }
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = Token(FIRST_READER + index);
        if let Err(error) = self.poll.registry().register(stream.source(), token, interest) {
            tracing::warn!(output = %self.output.name, "a reader cannot be served: {error}");
            return;
        }
        let outbox = Outbox::new(&self.output.ring);
        self.readers[index] = Some(Reader { stream, outbox, writable: true, readable: true, gone: false });
        self.connected += 1;
        self.output.metrics.set_readers(self.connected);
        tracing::debug!(output = %self.output.name, readers = self.connected, "a reader has come");
    }

    fn refuse(&self, stream: &mut Stream, detail: &str) {
        let max_readers = self.readers.len();
        let mut line = Vec::new();
        Refused { output: &self.output.name, detail, max_readers }.write_line(&mut line);
        // A fresh socket takes one short line; if this one does not, the reader only sees the end.
        let _ = stream.write(&line);
        stream.end();
        self.output.metrics.refused();
    }
}

fn note_event(reader: &mut Reader, event: &Event) {
    reader.writable |= event.is_writable();
    // The end of what the reader sends is read too: it says nothing about what it wants to receive.
    reader.readable |= event.is_readable() || event.is_read_closed();
    reader.gone |= event.is_write_closed() || event.is_error();
}

#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;
