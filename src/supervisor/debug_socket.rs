//! `watchpost debug` connects here, gets the state as one JSON object, and the connection is closed.
//!
//! One connection at a time, nothing is read, and nothing is kept: a debugger cannot cost memory.

use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::Sender;

use super::alarm::Alarm;
use super::{Control, Message};
use crate::os_words::plain_words;

/// Time for the supervisor to answer and for the asker to read.
const PATIENCE: Duration = Duration::from_secs(1);

/// After a connection could not be accepted.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The socket and its thread. Dropping it removes the file and ends the thread.
#[derive(Debug)]
pub(super) struct DebugSocket {
    path: PathBuf,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl DebugSocket {
    /// Starts to listen. The daemon runs also without: what goes wrong is logged and `None`.
    pub fn start(path: &Path, supervisor: Sender<Message>) -> Option<Self> {
        match Self::listen(path, supervisor) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!(path = %path.display(), "no debug socket, `watchpost debug` will not work: {}", plain_words(&error));
                None
            }
        }
    }

    fn listen(path: &Path, supervisor: Sender<Message>) -> std::io::Result<Self> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        if UnixStream::connect(path).is_ok() {
            return Err(std::io::Error::other("another watchpost answers there"));
        }
        // Left behind by a process that was killed.
        if std::fs::symlink_metadata(path).is_ok_and(|meta| is_socket(&meta)) {
            std::fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        let over = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&over);
        let thread = std::thread::Builder::new().name("debug".to_owned()).spawn(move || {
            let _alarm = Alarm::new(&supervisor, "debug");
            serve(&listener, &Control { supervisor, reload: None }, &flag);
        })?;
        Ok(Self { path: path.to_owned(), over, thread: Some(thread) })
    }
}

fn is_socket(meta: &std::fs::Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_socket(&meta.file_type())
}

fn serve(listener: &UnixListener, control: &Control, over: &AtomicBool) {
    for stream in listener.incoming() {
        if over.load(Ordering::Acquire) {
            return;
        }
        let Ok(mut stream) = stream else {
            // Out of descriptors, most likely: the connection goes on waiting, and so do we.
            let _nobody_sends = crossbeam_channel::never::<()>().recv_timeout(RETRY_AFTER);
            continue;
        };
        let Some(state) = control.state(PATIENCE) else { continue };
        let Ok(mut text) = serde_json::to_vec(&state) else { continue };
        text.push(b'\n');
        // An asker that does not read is left with what it has.
        let _gone = stream.set_write_timeout(Some(PATIENCE)).and_then(|()| stream.write_all(&text));
    }
}

impl Drop for DebugSocket {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        // Wakes the thread out of accept. If that fails the socket is gone and so is the thread's purpose.
        let woken = UnixStream::connect(&self.path).is_ok();
        let _already_gone = std::fs::remove_file(&self.path);
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            // Not joined: it may be answering somebody who does not read, for up to PATIENCE.
            drop(thread);
        }
    }
}
