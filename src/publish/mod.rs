//! Records to stdout and to sockets. Publishing never waits for a reader.
//!
//! ```text
//!   detections() ─┐  one line,      ┌─► ring ─► publish-console ─► stdout
//!                 ├─ written once ──┤
//!   camera_state()┘                 └─► ring ─► publish-local ──► reader, reader, reader …
//! ```
//!
//! Every output has one ring and one thread. A ring that is full gives up its oldest lines; a reader that
//! was overtaken is told so by a `lost` record between two whole lines, and the loss is counted.

mod error;
mod event;
mod objects;
mod outbox;
mod record;
mod ring;
mod socket;
mod stdout;
mod unix;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use crate::clock;
use crate::config::{OutputKind, OutputOptions};
use crate::metrics::{OutputMetrics, Registry};

pub use error::PublishError;
pub use event::EventRecord;
pub use objects::ObjectReader;
pub use outbox::STAGING_BYTES;
pub use record::{
    CameraState, Detections, FrameSize, Growth, Lost, Mask, ModelPart, Object, Refused, SCHEMA, State,
    TsSource,
};
pub use ring::{Cursor, ReadOutcome, Ring};

/// Room for a line of some forty objects before the shared buffer grows the first time.
const LINE_BYTES: usize = 4096;

/// How long a shutdown whose deadline has passed still waits for threads that are about to end.
const JOIN_GRACE: Duration = Duration::from_millis(100);

/// Linux cuts thread names at this length.
const THREAD_NAME_BYTES: usize = 15;

/// Called from an output's thread with the output's name and a sentence saying why it is closed.
type OnClosed = Box<dyn Fn(&str, &str) + Send + Sync>;

/// What an output may occupy in our memory, in bytes, for the budget: its ring and the staging of all its
/// readers. Only a reader of a line longer than [`STAGING_BYTES`] (some 650 objects in one frame) takes
/// more, as much as the line is long, until it has it.
pub fn footprint_bytes(options: &OutputOptions) -> usize {
    let readers = match options.kind {
        OutputKind::Stdout => 1,
        OutputKind::Unix { .. } | OutputKind::Tcp { .. } => options.max_readers,
    };
    Ring::footprint_bytes(options.buffer_bytes) + readers * (STAGING_BYTES + socket::READER_BYTES)
}

/// What the publishing side and the thread of one output share.
struct Output {
    name: String,
    ring: Ring,
    metrics: Arc<OutputMetrics>,
    /// Set when nothing can be written any more: lines are no longer put into the ring.
    closed: AtomicBool,
    /// Set when its thread has panicked.
    panicked: AtomicBool,
    /// Set once: when the output's thread has to end, written out or not.
    stop_by: OnceLock<Instant>,
    is_stdout: bool,
}

impl Output {
    /// Marks the output closed; says so once.
    fn close(&self, reason: &str, on_closed: &OnClosed) {
        if !self.closed.swap(true, Ordering::AcqRel) {
            tracing::info!(output = %self.name, "output {} is closed: {reason}; the others go on", self.name);
            on_closed(&self.name, reason);
        }
    }
}

struct OutputThread {
    output: Arc<Output>,
    local_addr: Option<SocketAddr>,
    /// Disconnects when the thread ends.
    ended: Receiver<()>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// All outputs. Methods take `&self` and may be called from several threads; records of all threads have
/// one order, the same on every output.
pub struct Publisher {
    /// The line being written, kept so that a record allocates nothing.
    line: Mutex<Vec<u8>>,
    outputs: RwLock<Vec<OutputThread>>,
    /// Set with the outputs locked: none is added any more.
    is_over: AtomicBool,
    on_closed: Arc<OnClosed>,
}

/// An output that is open and has no thread yet.
enum Opened {
    Stdout(stdout::Writer),
    Socket(socket::Server),
}

impl Publisher {
    /// Opens all outputs, then starts one thread for each. Nothing is left behind if one cannot be opened.
    ///
    /// `on_closed(output, reason)` is called at most once for each output, from its own thread, when it
    /// ends by itself (nobody reads stdout any more). It must not call [`Publisher::shutdown`].
    ///
    /// # Errors
    /// [`PublishError`], one sentence that says what the user can do.
    pub fn start(
        outputs: &[OutputOptions],
        metrics: &Registry,
        on_closed: impl Fn(&str, &str) + Send + Sync + 'static,
    ) -> Result<Self, PublishError> {
        Self::start_on(stdout::duplicate, outputs, metrics, on_closed)
    }

    /// [`Publisher::start`] with something else for stdout: called once for each output of kind stdout.
    ///
    /// # Errors
    /// As [`Publisher::start`].
    pub fn start_on(
        stdout: impl Fn() -> std::io::Result<OwnedFd>,
        outputs: &[OutputOptions],
        metrics: &Registry,
        on_closed: impl Fn(&str, &str) + Send + Sync + 'static,
    ) -> Result<Self, PublishError> {
        let on_closed: Arc<OnClosed> = Arc::new(Box::new(on_closed));
        let mut opened = Vec::with_capacity(outputs.len());
        for options in outputs {
            let counted = metrics.output(&options.name);
            let counted = counted.unwrap_or_else(|| Arc::new(OutputMetrics::new(&options.name)));
            opened.push(open(options, counted, &stdout)?);
        }
        let line = Mutex::new(Vec::with_capacity(LINE_BYTES));
        let publisher = Self { line, outputs: RwLock::default(), is_over: AtomicBool::new(false), on_closed };
        for (output, local_addr, opened) in opened {
            // On an error the outputs already started are ended by `Drop`.
            let thread = spawn(output, local_addr, opened, Arc::clone(&publisher.on_closed))?;
            publisher.write().push(thread);
        }
        Ok(publisher)
    }

    /// Opens one more output, with its counters. The others go on.
    ///
    /// # Errors
    /// [`PublishError`]; everything is as it was. So it is after [`Publisher::shutdown`]: nobody would remove the
    /// socket's file.
    pub fn add(&self, options: &OutputOptions, metrics: &Registry) -> Result<(), PublishError> {
        let mut outputs = self.write();
        if self.is_over() {
            let source = std::io::Error::other("the process is stopping");
            return Err(PublishError::Setup { output: options.name.clone(), source });
        }
        let counted = metrics.add_output(&options.name);
        let added = open(options, counted, &stdout::duplicate).and_then(|(output, local_addr, opened)| {
            let thread = spawn(output, local_addr, opened, Arc::clone(&self.on_closed))?;
            outputs.push(thread);
            Ok(())
        });
        if added.is_err() {
            metrics.remove_output(&options.name);
        }
        added
    }

    /// Ends one output as [`Publisher::shutdown`] ends all. The others go on.
    pub fn remove(&self, name: &str, metrics: &Registry, deadline: Instant) {
        let removed = {
            let mut outputs = self.write();
            let index = outputs.iter().position(|thread| thread.output.name == name);
            index.map(|index| outputs.remove(index))
        };
        if let Some(thread) = removed {
            thread.end(deadline);
            thread.join(deadline.max(clock::now()) + JOIN_GRACE);
            metrics.remove_output(name);
        }
    }

    /// Publishes one frame's detections. Never waits for a reader.
    pub fn detections(&self, record: &Detections<'_>) {
        self.publish(|line| record.write_line(line));
    }

    /// Publishes what has happened in a zone or at a line. Never waits for a reader.
    pub fn event(&self, record: &EventRecord<'_>) {
        self.publish(|line| record.write_line(line));
    }

    /// Publishes that a camera has entered a state. Never waits for a reader.
    pub fn camera_state(&self, record: &CameraState<'_>) {
        self.publish(|line| record.write_line(line));
    }

    /// Publishes that the process holds steadily more of something. Never waits for a reader.
    pub fn growth(&self, record: &Growth<'_>) {
        self.publish(|line| record.write_line(line));
    }

    /// Whether there were outputs on stdout and all of them are closed.
    pub fn closed_stdout(&self) -> bool {
        let outputs = self.read();
        let mut stdouts = outputs.iter().filter(|o| o.output.is_stdout).peekable();
        stdouts.peek().is_some() && stdouts.all(|o| o.output.closed.load(Ordering::Acquire))
    }

    /// Whether every output is closed: nobody can get a record any more. `false` without outputs.
    pub fn closed_all(&self) -> bool {
        let outputs = self.read();
        !outputs.is_empty() && outputs.iter().all(|o| o.output.closed.load(Ordering::Acquire))
    }

    /// An output whose thread has panicked. Its lines reach nobody.
    pub fn panicked(&self) -> Option<String> {
        let outputs = self.read();
        let panicked = outputs.iter().find(|o| o.output.panicked.load(Ordering::Acquire))?;
        Some(panicked.output.name.clone())
    }

    /// Where a TCP output really listens (its port may have been configured as 0).
    pub fn local_addr(&self, output: &str) -> Option<SocketAddr> {
        self.read().iter().find(|o| o.output.name == output)?.local_addr
    }

    /// What readers have not got yet is written out until `deadline`; then everything is closed, socket
    /// files are removed and the threads have ended. Returns soon after `deadline` whatever the readers
    /// do: `false` if a thread had to be left behind in a write that does not return.
    pub fn shutdown(&self, deadline: Instant) -> bool {
        {
            let _nobody_adds_just_now = self.write();
            self.is_over.store(true, Ordering::Release);
        }
        let outputs = self.read();
        for thread in outputs.iter() {
            thread.end(deadline);
        }
        let last_call = deadline.max(clock::now()) + JOIN_GRACE;
        // Counted, not asked with `all`: every thread is joined, also after one that is left behind.
        outputs.iter().filter(|thread| !thread.join(last_call)).count() == 0
    }

    /// Whether [`Publisher::shutdown`] has begun.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    fn publish(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        line.clear();
        write(&mut line);
        for OutputThread { output, .. } in self.read().iter() {
            if !output.closed.load(Ordering::Acquire) {
                output.metrics.record(output.ring.push(&line));
            }
        }
    }
}

impl Publisher {
    fn read(&self) -> RwLockReadGuard<'_, Vec<OutputThread>> {
        self.outputs.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<OutputThread>> {
        self.outputs.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.shutdown(clock::now());
    }
}

impl OutputThread {
    fn end(&self, deadline: Instant) {
        // A second shutdown cannot move the first one's deadline: `Drop` follows `shutdown`.
        let _ = self.output.stop_by.set(deadline);
        self.output.ring.wake();
    }

    fn join(&self, deadline: Instant) -> bool {
        // Nothing is ever sent: this waits until the thread has dropped its end.
        if self.ended.recv_deadline(deadline) == Err(crossbeam_channel::RecvTimeoutError::Timeout) {
            tracing::warn!(output = %self.output.name, "output {} is blocked in a write and is left behind", self.output.name);
            return false;
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Its panics end in it; the others end in order all the same.
        thread.is_none_or(|thread| thread.join().is_ok())
    }
}

type OpenedOutput = (Arc<Output>, Option<SocketAddr>, Opened);

fn open(
    options: &OutputOptions,
    metrics: Arc<OutputMetrics>,
    stdout: &dyn Fn() -> std::io::Result<OwnedFd>,
) -> Result<OpenedOutput, PublishError> {
    let name = options.name.as_str();
    let shared = |ring, is_stdout| {
        Arc::new(Output {
            name: name.to_owned(),
            ring,
            metrics: Arc::clone(&metrics),
            closed: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            stop_by: OnceLock::new(),
            is_stdout,
        })
    };
    let setup = |source| PublishError::Setup { output: name.to_owned(), source };
    let listener = match &options.kind {
        OutputKind::Stdout => {
            let fd = stdout().map_err(setup)?;
            let (wake, call) = stdout::bell().map_err(setup)?;
            let output = shared(Ring::new(options.buffer_bytes, call), true);
            let writer = stdout::Writer::new(Arc::clone(&output), fd, wake);
            return Ok((output, None, Opened::Stdout(writer)));
        }
        OutputKind::Unix { path, mode, group } => socket::Listener::unix(name, path, *mode, group.as_ref())?,
        OutputKind::Tcp { listen } => socket::Listener::tcp(name, *listen)?,
    };
    let local_addr = listener.local_addr();
    let (poll, waker) = socket::poll().map_err(setup)?;
    let call = move || {
        // The only failure is a full counter, and then the thread is awake anyway.
        let _ = waker.wake();
    };
    let output = shared(Ring::new(options.buffer_bytes, call), false);
    let server =
        socket::Server::new(Arc::clone(&output), poll, listener, options.max_readers).map_err(setup)?;
    Ok((output, local_addr, Opened::Socket(server)))
}

fn spawn(
    output: Arc<Output>,
    local_addr: Option<SocketAddr>,
    opened: Opened,
    on_closed: Arc<OnClosed>,
) -> Result<OutputThread, PublishError> {
    let (alive, ended) = crossbeam_channel::bounded::<()>(1);
    let shared = Arc::clone(&output);
    let mut thread_name = format!("publish-{}", output.name);
    // Names are ASCII; a longer one is cut at the front of a character in any case.
    thread_name.truncate(thread_name.floor_char_boundary(THREAD_NAME_BYTES));
    let thread = std::thread::Builder::new()
        .name(thread_name)
        .spawn(move || {
            let _alive = alive;
            let serve = || match opened {
                Opened::Stdout(writer) => writer.run(&on_closed),
                Opened::Socket(server) => server.run(&on_closed),
            };
            if catch_unwind(AssertUnwindSafe(serve)).is_err() {
                shared.panicked.store(true, Ordering::Release);
                shared.close("its thread panicked", &on_closed);
            }
        })
        .map_err(|source| PublishError::Setup { output: output.name.clone(), source })?;
    Ok(OutputThread { output, local_addr, ended, thread: Mutex::new(Some(thread)) })
}
