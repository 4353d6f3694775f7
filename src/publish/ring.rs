//! One ring of lines per output, shared by all its readers.
//!
//! ```text
//!      first                         next
//!        ▼                             ▼
//!   … │ line │ line │ line │ line │ line │          a full ring gives up its oldest lines;
//!        ▲                    ▲                     the writer never waits for a reader
//!      cursor of a slow     cursor of a
//!      reader               quick one
//! ```
//!
//! Bytes and line entries are allocated once. The mutex is held for one copy, never for a wait.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// No record is shorter than this, so that there are line entries enough for a ring full of records.
const SHORTEST_LINE_BYTES: usize = 96;

/// Where a reader is in a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Index of the line to read next, counted from the first line ever pushed.
    next: u64,
}

/// What a read gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOutcome {
    /// The reader has everything.
    Nothing,
    /// So many lines had gone before they were read. The next read gives the lines after them.
    Lost(u64),
    /// So many whole lines were appended.
    Lines(usize),
}

/// A bounded ring of whole lines: one or more writers, any number of readers.
pub struct Ring {
    lines: Mutex<Lines>,
    /// Set while a wake-up is under way, so that a burst of lines wakes the reading thread once.
    signalled: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

struct Lines {
    bytes: Box<[u8]>,
    /// Start of line `i`, counted in bytes since the first push, at `i % starts.len()`.
    starts: Box<[u64]>,
    first: u64,
    next: u64,
    /// End of the newest line, counted like `starts`.
    end: u64,
}

impl Ring {
    /// A ring for `capacity_bytes` of lines. `wake` is called after a push, from the pushing thread, and
    /// must not block; it is not called again before the reading thread has said [`Ring::begin_turn`].
    pub fn new(capacity_bytes: usize, wake: impl Fn() + Send + Sync + 'static) -> Self {
        let capacity_bytes = capacity_bytes.max(1);
        let lines = Lines {
            bytes: vec![0; capacity_bytes].into_boxed_slice(),
            starts: vec![0; entry_count(capacity_bytes)].into_boxed_slice(),
            first: 0,
            next: 0,
            end: 0,
        };
        Self { lines: Mutex::new(lines), signalled: AtomicBool::new(false), wake: Box::new(wake) }
    }

    /// What a ring of this capacity occupies, in bytes, for the memory budget.
    pub fn footprint_bytes(capacity_bytes: usize) -> usize {
        capacity_bytes.max(1) + entry_count(capacity_bytes.max(1)) * size_of::<u64>()
    }

    /// Appends one line (its `'\n'` included), over the oldest ones where there is no room. Never waits
    /// for a reader. A line longer than the whole ring is not kept: readers are told that one is lost.
    /// `false` if so.
    pub fn push(&self, line: &[u8]) -> bool {
        let kept = self.lock().push(line);
        if !self.signalled.swap(true, Ordering::AcqRel) {
            (self.wake)();
        }
        kept
    }

    /// Wakes the reading thread, whether or not there is anything to read.
    pub fn wake(&self) {
        self.signalled.store(true, Ordering::Release);
        (self.wake)();
    }

    /// The reading thread says this before it reads: lines pushed from now on wake it again.
    pub fn begin_turn(&self) {
        // A swap, not a store: it orders what the waking push has written before our reads.
        self.signalled.swap(false, Ordering::AcqRel);
    }

    /// A cursor behind the newest line: its reader gets what is pushed from now on.
    pub fn cursor(&self) -> Cursor {
        Cursor { next: self.lock().next }
    }

    /// Appends whole lines to `out` while its length stays within `max_bytes`; the first line is taken
    /// whatever its length. An outcome is either lines or a loss, so that the reader can be told of a
    /// loss between whole lines.
    pub fn read(&self, cursor: &mut Cursor, out: &mut Vec<u8>, max_bytes: usize) -> ReadOutcome {
        self.lock().read(cursor, out, max_bytes)
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        // Nothing under this lock can panic half-way through a change; a poisoned ring is a whole ring.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn entry_count(capacity_bytes: usize) -> usize {
    capacity_bytes / SHORTEST_LINE_BYTES + 16
}

impl Lines {
    fn start_of(&self, index: u64) -> u64 {
        if index == self.next { self.end } else { self.starts[self.entry(index)] }
    }

    fn entry(&self, index: u64) -> usize {
        (index % self.starts.len() as u64) as usize
    }

    fn len_of(&self, index: u64) -> usize {
        (self.start_of(index + 1) - self.start_of(index)) as usize
    }

    fn push(&mut self, line: &[u8]) -> bool {
        let fits = line.len() <= self.bytes.len();
        // What does not fit leaves an empty entry: readers pass it as a loss, at its place in the order.
        let line = if fits { line } else { &[] };
        while self.next - self.first == self.starts.len() as u64
            || (self.end - self.start_of(self.first)) as usize + line.len() > self.bytes.len()
        {
            self.first += 1;
        }
        let at = (self.end % self.bytes.len() as u64) as usize;
        let until_wrap = line.len().min(self.bytes.len() - at);
        self.bytes[at..at + until_wrap].copy_from_slice(&line[..until_wrap]);
        self.bytes[..line.len() - until_wrap].copy_from_slice(&line[until_wrap..]);
        let entry = self.entry(self.next);
        self.starts[entry] = self.end;
        self.end += line.len() as u64;
        self.next += 1;
        fits
    }

    fn read(&self, cursor: &mut Cursor, out: &mut Vec<u8>, max_bytes: usize) -> ReadOutcome {
        let asked = cursor.next;
        cursor.next = cursor.next.max(self.first);
        while cursor.next < self.next && self.len_of(cursor.next) == 0 {
            cursor.next += 1;
        }
        if cursor.next > asked {
            return ReadOutcome::Lost(cursor.next - asked);
        }
        let mut line_count = 0;
        while cursor.next < self.next {
            let len = self.len_of(cursor.next);
            if len == 0 || (line_count > 0 && out.len() + len > max_bytes) {
                break;
            }
            let at = (self.start_of(cursor.next) % self.bytes.len() as u64) as usize;
            let until_wrap = len.min(self.bytes.len() - at);
            out.extend_from_slice(&self.bytes[at..at + until_wrap]);
            out.extend_from_slice(&self.bytes[..len - until_wrap]);
            cursor.next += 1;
            line_count += 1;
        }
        if line_count == 0 { ReadOutcome::Nothing } else { ReadOutcome::Lines(line_count) }
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines = self.lock();
        f.debug_struct("Ring")
            .field("capacity_bytes", &lines.bytes.len())
            .field("lines", &(lines.next - lines.first))
            .field("pushed", &lines.next)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
