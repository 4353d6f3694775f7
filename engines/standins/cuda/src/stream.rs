//! Streams: each a bounded queue and a thread that carries its operations out, one after the other.
//!
//! Nothing is done when it is asked for and everything is done in its turn: a consumer that forgets to wait sees what
//! was there before.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::codes::{CAPTURE_IMPLICIT, INVALID_HANDLE, NOT_SUPPORTED, OPERATING_SYSTEM, Outcome};
use crate::context::{Context, current};
use crate::driver::{Driver, driver, lock};
use crate::graph::Capture;
use crate::work::Work;

/// `CU_STREAM_NON_BLOCKING`: no order with the legacy default stream.
pub const NON_BLOCKING: u32 = 1;

/// How far a stream is.
#[derive(Debug, Default)]
struct Progress {
    done: Mutex<u64>,
    changed: Condvar,
}

/// A place in a stream's work.
#[derive(Clone, Debug)]
pub struct Mark {
    progress: Arc<Progress>,
    number: u64,
}

impl Mark {
    /// Everything up to here is done.
    pub fn is_reached(&self) -> bool {
        *lock(&self.progress.done) >= self.number
    }

    /// Sleeps until everything up to here is done.
    pub fn wait(&self) {
        let done = lock(&self.progress.done);
        let reached = self.progress.changed.wait_while(done, |done| *done < self.number);
        drop(reached.unwrap_or_else(PoisonError::into_inner));
    }
}

#[derive(Debug)]
struct Item {
    number: u64,
    after: Vec<Mark>,
    work: Work,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Item>,
    given: u64,
    closing: bool,
}

/// What a stream shares with its thread.
#[derive(Debug, Default)]
struct Line {
    queue: Mutex<Queue>,
    changed: Condvar,
    progress: Arc<Progress>,
}

/// A stream.
#[derive(Debug)]
pub struct Stream {
    /// 0 for the legacy default stream.
    pub handle: u64,
    pub context: u64,
    pub flags: u32,
    pub priority: i32,
    line: Arc<Line>,
    thread: Mutex<Option<JoinHandle<()>>>,
    capture: Mutex<Option<Arc<Capture>>>,
}

impl Stream {
    /// A stream of the caller's.
    pub fn create(driver: &Driver, context: u64, flags: u32, priority: i32) -> Outcome<u64> {
        let handle = driver.new_handle();
        let stream = Stream::new(handle, context, flags, priority);
        if lock(&stream.thread).is_none() {
            return Err(OPERATING_SYSTEM);
        }
        driver.streams.insert(handle, stream);
        driver.counters.live_streams.change(1);
        Ok(handle)
    }

    /// The legacy default stream of a context.
    pub fn legacy(context: u64) -> Stream {
        Stream::new(0, context, 0, 0)
    }

    fn new(handle: u64, context: u64, flags: u32, priority: i32) -> Stream {
        let line = Arc::new(Line::default());
        let threads = line.clone();
        let thread = thread::Builder::new().name("cuda-stream".to_owned()).spawn(move || threads.run());
        let (thread, capture) = (Mutex::new(thread.ok()), Mutex::default());
        Stream { handle, context, flags, priority, line, thread, capture }
    }

    fn is_legacy(&self) -> bool {
        self.handle == 0
    }

    fn keeps_order_with_legacy(&self) -> bool {
        self.flags & NON_BLOCKING == 0
    }

    /// The capture that this stream is part of.
    pub fn capture(&self) -> Option<Arc<Capture>> {
        lock(&self.capture).clone()
    }

    /// Begins or ends to be part of a capture.
    pub fn set_capture(&self, capture: Option<Arc<Capture>>) {
        *lock(&self.capture) = capture;
    }

    /// The end of what has been given to this stream so far.
    pub fn tail(&self) -> Mark {
        Mark { progress: self.line.progress.clone(), number: lock(&self.line.queue).given }
    }

    /// Gives work to the stream, or to the capture it is part of: then there is no mark. Waits while the queue is full.
    pub fn give(&self, driver: &Driver, work: Work, mut after: Vec<Mark>) -> Outcome<Option<Mark>> {
        if let Some(capture) = self.capture() {
            capture.add(work);
            return Ok(None);
        }
        after.extend(self.order_with_legacy(driver)?);
        let room = driver.setting(|settings| settings.queue);
        let mut queue = lock(&self.line.queue);
        while queue.items.len() >= room && !queue.closing {
            queue = self.line.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.given += 1;
        let number = queue.given;
        queue.items.push_back(Item { number, after, work });
        drop(queue);
        self.line.changed.notify_all();
        Ok(Some(Mark { progress: self.line.progress.clone(), number }))
    }

    /// What the next operation must come after, because of the default stream's old meaning.
    fn order_with_legacy(&self, driver: &Driver) -> Outcome<Vec<Mark>> {
        let context = driver.contexts().get(self.context)?;
        let marks: Vec<Mark> = if self.is_legacy() {
            let others =
                driver.streams.all(|one| one.context == self.context && one.keeps_order_with_legacy());
            if others.iter().any(|one| one.capture().is_some()) {
                return Err(CAPTURE_IMPLICIT);
            }
            others.iter().map(|one| one.tail()).collect()
        } else if self.keeps_order_with_legacy() {
            context.legacy_if_used().map(|legacy| legacy.tail()).into_iter().collect()
        } else {
            Vec::new()
        };
        Ok(marks.into_iter().filter(|mark| !mark.is_reached()).collect())
    }

    /// No more work comes. What is in the queue is still done; with `wait`, before this returns. An idle stream's
    /// thread has ended when this returns, a busy one's ends later.
    pub fn close(&self, wait: bool) {
        let tail = self.tail();
        if wait {
            tail.wait();
        }
        lock(&self.line.queue).closing = true;
        self.line.changed.notify_all();
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread
            && tail.is_reached()
        {
            drop(thread.join());
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        lock(&self.line.queue).closing = true;
        self.line.changed.notify_all();
    }
}

impl Line {
    fn run(&self) {
        while let Some(item) = self.next() {
            item.after.iter().for_each(Mark::wait);
            item.work.perform(driver());
            *lock(&self.progress.done) = item.number;
            self.progress.changed.notify_all();
        }
    }

    fn next(&self) -> Option<Item> {
        let mut queue = lock(&self.queue);
        loop {
            if let Some(item) = queue.items.pop_front() {
                self.changed.notify_all();
                return Some(item);
            }
            if queue.closing {
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The stream with this handle; 0 and 1 are the current context's default stream.
pub fn find(driver: &Driver, handle: u64) -> Outcome<Arc<Stream>> {
    match handle {
        0 | 1 => Ok(current()?.legacy()),
        // A default stream for each thread; nothing here uses it, so it says so instead of being almost right.
        2 => Err(NOT_SUPPORTED),
        _ => driver.streams.get(handle),
    }
}

/// The same, for an operation that the driver does only in the stream's own context.
pub fn find_here(driver: &Driver, handle: u64) -> Outcome<(Arc<Stream>, Arc<Context>)> {
    let (stream, context) = (find(driver, handle)?, current()?);
    if stream.context == context.handle { Ok((stream, context)) } else { Err(INVALID_HANDLE) }
}
