//! One opening's mailbox: at most one frame, the newest.
//!
//! A source's threads put frames in and never wait; a newer frame takes the place of the older one, which is
//! counted and freed. The camera's thread takes them out when it may send one on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::feed::Feed;
use super::pacer::Pacer;
use crate::metrics::Outcome;
use crate::source::{Arrived, Fault, Receiver};

/// A frame and its number among all frames of its camera.
#[derive(Debug)]
pub struct Numbered {
    /// Counted from 1 over all openings.
    pub seq: u64,
    /// The frame.
    pub arrived: Arrived,
}

/// The mailbox of one opening.
#[derive(Debug)]
pub struct Mailbox {
    feed: Arc<Feed>,
    generation: u64,
    inside: Mutex<Inside>,
}

#[derive(Debug)]
struct Inside {
    newest: Option<Numbered>,
    last_mark: Option<u64>,
    fault: Option<Fault>,
    pacer: Pacer,
    open: bool,
}

impl Mailbox {
    /// For opening `generation` of this feed.
    pub fn new(feed: Arc<Feed>, generation: u64, pacer: Pacer) -> Arc<Self> {
        let inside = Inside { newest: None, last_mark: None, fault: None, pacer, open: true };
        Arc::new(Self { feed, generation, inside: Mutex::new(inside) })
    }

    /// Whether a frame waits.
    pub fn has_frame(&self) -> bool {
        self.lock().newest.is_some()
    }

    /// When the waiting frame arrived.
    pub fn newest_at(&self) -> Option<Instant> {
        self.lock().newest.as_ref().map(|newest| newest.arrived.at)
    }

    /// The newest frame. Its turn at the camera's detection rate counts as taken.
    pub fn take(&self) -> Option<Numbered> {
        let mut inside = self.lock();
        let newest = inside.newest.take()?;
        inside.pacer.taken(newest.arrived.at);
        Some(newest)
    }

    /// What ended the stream, once, if it is `wanted` now.
    pub fn take_fault_if(&self, wanted: impl FnOnce(&Fault) -> bool) -> Option<Fault> {
        self.lock().fault.take_if(|fault| wanted(fault))
    }

    /// Nothing is accepted any more; the waiting frame goes, for this reason.
    pub fn close(&self, outcome: Outcome) {
        let waiting = {
            let mut inside = self.lock();
            inside.open = false;
            inside.newest.take()
        };
        if waiting.is_some() {
            self.feed.dropped(outcome);
        }
    }

    /// Puts a frame in and says what has to be counted and freed outside the lock.
    fn put(&self, arrived: Arrived) -> Option<(Outcome, Numbered)> {
        let mut inside = self.lock();
        let newest = Numbered { seq: self.feed.number(arrived.at), arrived };
        let arrived = &newest.arrived;
        if !inside.open || !self.feed.is_live(self.generation) {
            return Some((Outcome::StaleGeneration, newest));
        }
        let mark = arrived.frame.progress_mark();
        // A frame without a timestamp, or with the one of its predecessor, is no sign of life.
        if mark.is_some() && mark != inside.last_mark {
            inside.last_mark = mark;
            self.feed.progressed(arrived.at);
        }
        if !inside.pacer.is_due(arrived.at) {
            return Some((Outcome::RateLimited, newest));
        }
        inside.newest.replace(newest).map(|older| (Outcome::Superseded, older))
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Receiver for Mailbox {
    fn frame(&self, arrived: Arrived) {
        if let Some((outcome, _freed_here)) = self.put(arrived) {
            self.feed.dropped(outcome);
        }
        self.feed.wake.ring();
    }

    fn fault(&self, fault: Fault) {
        let mut inside = self.lock();
        // The first word stands: later ones are its echoes.
        if inside.open && inside.fault.is_none() {
            inside.fault = Some(fault);
        }
        drop(inside);
        self.feed.wake.ring();
    }
}
