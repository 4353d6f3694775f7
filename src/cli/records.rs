//! The records of a one-shot: to stdout or into a file, each counted when it is there.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Failure;
use super::common::output_failure;

/// Where records go, and what became of them. Each is written at once: what is counted is in the file.
pub(super) struct Records {
    name: String,
    sink: Sink,
    line: Vec<u8>,
    written: u64,
    written_bytes: u64,
    failure: Option<io::Error>,
}

enum Sink {
    Stdout(io::StdoutLock<'static>),
    File(File),
}

impl Records {
    /// Into a file, or to stdout.
    pub fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let (name, sink) = match path {
            None => ("stdout".to_owned(), Sink::Stdout(io::stdout().lock())),
            Some(path) => {
                let name = path.display().to_string();
                let file = File::create(path).map_err(|error| output_failure(&name, &error))?;
                (name, Sink::File(file))
            }
        };
        Ok(Self { name, sink, line: Vec::with_capacity(4096), written: 0, written_bytes: 0, failure: None })
    }

    /// Whether they go into this file.
    pub fn are_in(&self, path: &Path) -> bool {
        let Sink::File(output) = &self.sink else { return false };
        let (Ok(one), Ok(other)) = (std::fs::metadata(path), output.metadata()) else { return false };
        other.is_file() && (one.dev(), one.ino()) == (other.dev(), other.ino())
    }

    /// Writes one record, as `write_line` says it; false when nothing more can be written.
    pub fn write(&mut self, write_line: impl FnOnce(&mut Vec<u8>)) -> bool {
        if self.failure.is_some() {
            return false;
        }
        self.line.clear();
        write_line(&mut self.line);
        let written = match &mut self.sink {
            Sink::Stdout(stdout) => stdout.write_all(&self.line).and_then(|()| stdout.flush()),
            Sink::File(file) => file.write_all(&self.line),
        };
        match written {
            Ok(()) => {
                self.written += 1;
                self.written_bytes += self.line.len() as u64;
            }
            Err(error) => self.failure = Some(error),
        }
        self.failure.is_none()
    }

    /// Nothing more can be written.
    pub fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Makes sure that a file is on the disk: only then was nothing lost. After a failure its last line is
    /// made whole again.
    pub fn finish(mut self) -> Result<(), Failure> {
        if let Sink::File(file) = &self.sink {
            if self.failure.is_some() && file.metadata().is_ok_and(|metadata| metadata.is_file()) {
                // If not even this works, a reader finds a broken last line, and the message below.
                let _best_effort = file.set_len(self.written_bytes);
            }
            // /dev/null and pipes cannot be synced, and need not be.
            let unsynced = file.sync_all().err().filter(is_full);
            self.failure = self.failure.or(unsynced);
        }
        let Some(error) = self.failure else { return Ok(()) };
        let mut failure = output_failure(&self.name, &error);
        failure.message += &format!("; {} records were written before", self.written);
        Err(failure)
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
