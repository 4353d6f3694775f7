//! Graphs: operations that a capture has recorded, replayed in the order in which they were given.
//!
//! A capture may spread over streams through events; the order in which the calls came respects every dependency that
//! the caller can express, so the recording is one list.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

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
    /// `CU_STREAM_CAPTURE_MODE_RELAXED` lets every call pass.
    pub relaxed: bool,
    nodes: Mutex<Vec<Work>>,
    broken: AtomicBool,
}

impl Capture {
    /// An empty recording.
    pub fn new(origin: u64, relaxed: bool) -> Arc<Capture> {
        Arc::new(Capture { origin, relaxed, nodes: Mutex::default(), broken: AtomicBool::new(false) })
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
