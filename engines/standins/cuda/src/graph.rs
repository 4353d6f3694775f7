//! Graphs: operations that a capture has recorded, replayed in the order in which they were given.
//!
//! A capture may spread over streams through events; the order in which the calls came respects every dependency that
//! the caller can express, so the recording is one list.

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use crate::driver::lock;
use crate::work::Work;

/// A graph, executable or not.
#[derive(Debug)]
pub struct Graph {
    pub nodes: Arc<Vec<Work>>,
}

/// A recording under way.
#[derive(Debug)]
pub struct Capture {
    /// Handle of the stream in which it began and must end.
    pub origin: u64,
    mode: c_int,
    /// Who began it.
    thread: ThreadId,
    nodes: Mutex<Vec<Work>>,
    broken: AtomicBool,
}

impl Capture {
    /// An empty recording in a mode of `CUstreamCaptureMode`.
    pub fn new(origin: u64, mode: c_int) -> Arc<Capture> {
        Arc::new(Capture {
            origin,
            mode,
            thread: thread::current().id(),
            nodes: Mutex::default(),
            broken: AtomicBool::new(false),
        })
    }

    /// Whether this thread may not synchronise meanwhile: global recordings forbid it to all threads, thread-local ones to
    /// the one that began them, relaxed ones to none.
    pub fn forbids_here(&self) -> bool {
        match self.mode {
            0 => true,
            1 => self.thread == thread::current().id(),
            _ => false,
        }
    }

    /// One more operation.
    pub fn add(&self, work: Work) {
        lock(&self.nodes).push(work);
    }

    /// A call that no capture survives.
    pub fn invalidate(&self) {
        self.broken.store(true, Ordering::SeqCst);
    }

    /// Such a call has been made.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::SeqCst)
    }

    /// What has been recorded.
    pub fn take(&self) -> Vec<Work> {
        std::mem::take(&mut lock(&self.nodes))
    }
}
