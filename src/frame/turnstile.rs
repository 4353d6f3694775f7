//! Who may send the next frame to the engine, and when.
//!
//! Free slots alone would let a frame be letterboxed at once and then wait in a queue while it grows old.
//! The turnstile admits late instead: it lets in what the engine can begin with now, plus one batch in
//! reserve, and the reserve only shortly before the running inference is expected to end. So the engine
//! is never idle while there is work, and a frame's age when it is published stays near one inference time
//! whatever the number of cameras. Those who wait are served in turn: a fast camera cannot starve a slow one.
//!
//! [`Line`] is the PURE rule; [`Turnstile`] puts a lock and doorbells around it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::wake::Wake;

/// Time that a camera needs from its admission to a filled slot; the reserve is let in this long before the
/// running inference is expected to end, plus a tenth of it for the spread of inference times.
const LEAD: Duration = Duration::from_millis(3);

/// What a camera that asks is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Come in: fill a slot with the newest frame and send it.
    Admitted,
    /// Ask again when woken, or at this time if there is one.
    Wait(Option<Instant>),
}

/// The rule, without threads and clock. Cameras are `0..camera_count`.
#[derive(Debug)]
pub struct Line {
    batch: usize,
    admitted: usize,
    waiting: VecDeque<usize>,
    expected: Option<Duration>,
    started_at: Option<Instant>,
}

impl Line {
    /// For an engine that takes `batch` frames at a time and `camera_count` cameras.
    pub fn new(batch: usize, camera_count: usize) -> Self {
        Self {
            batch,
            admitted: 0,
            waiting: VecDeque::with_capacity(camera_count),
            expected: None,
            started_at: None,
        }
    }

    /// Another engine takes over, which takes `batch` frames at a time. How long it needs is not known yet.
    pub fn set_batch(&mut self, batch: usize) {
        self.batch = batch;
        self.expected = None;
    }

    /// Cameras are `0..camera_count` from now on: their waiting allocates nothing.
    pub fn make_room(&mut self, camera_count: usize) {
        self.waiting.reserve(camera_count.saturating_sub(self.waiting.len()));
    }

    /// Camera `index` has a frame and a free slot.
    pub fn ask(&mut self, index: usize, now: Instant) -> Answer {
        let place = match self.waiting.iter().position(|&w| w == index) {
            Some(place) => place,
            None => {
                self.waiting.push_back(index);
                self.waiting.len() - 1
            }
        };
        let reserve_at = self.reserve_opens_at();
        let limit = if reserve_at.is_some_and(|at| now >= at) { 2 * self.batch } else { self.batch };
        if place < limit.saturating_sub(self.admitted) {
            self.waiting.remove(place);
            self.admitted += 1;
            return Answer::Admitted;
        }
        let next_limit_admits = place < (2 * self.batch).saturating_sub(self.admitted);
        Answer::Wait(reserve_at.filter(|&at| next_limit_admits && now < at))
    }

    /// Camera `index` no longer has a frame to send.
    pub fn leave(&mut self, index: usize) {
        self.waiting.retain(|&w| w != index);
    }

    /// An admitted frame is done with.
    pub fn returned(&mut self) {
        self.admitted -= 1;
    }

    /// The engine begins.
    pub fn inference_started(&mut self, now: Instant) {
        self.started_at = Some(now);
    }

    /// The engine is done.
    pub fn inference_finished(&mut self, now: Instant) {
        if let Some(started_at) = self.started_at.take() {
            let took = now.saturating_duration_since(started_at);
            // Exponential mean over about eight inferences: follows a throttling box within a second.
            self.expected = Some(self.expected.map_or(took, |mean| (mean * 7 + took) / 8));
        }
    }

    /// Frames admitted and not yet returned.
    pub fn admitted(&self) -> usize {
        self.admitted
    }

    /// Those who may come in next, now or when the reserve opens, oldest first.
    pub fn next_in_line(&self) -> impl Iterator<Item = usize> + '_ {
        self.waiting.iter().copied().take((2 * self.batch).saturating_sub(self.admitted))
    }

    /// `None` while nothing runs, or while nobody knows yet how long an inference takes: what is admitted
    /// then beyond a batch would only wait.
    fn reserve_opens_at(&self) -> Option<Instant> {
        let expected = self.expected?;
        let lead = LEAD + expected / 10;
        Some(self.started_at? + expected.saturating_sub(lead))
    }
}

/// The line, shared by all cameras and the engine.
#[derive(Debug)]
pub struct Turnstile {
    inside: Mutex<Inside>,
}

#[derive(Debug)]
struct Inside {
    line: Line,
    /// By the index of the camera; `None` where there is none now.
    wakes: Vec<Option<Wake>>,
}

impl Turnstile {
    /// One doorbell per camera.
    pub fn new(batch: usize, wakes: Vec<Wake>) -> Arc<Self> {
        let line = Line::new(batch, wakes.len());
        Arc::new(Self { inside: Mutex::new(Inside { line, wakes: wakes.into_iter().map(Some).collect() }) })
    }

    /// A camera comes: the lowest free place is its index.
    pub fn join(&self, wake: Wake) -> usize {
        let mut inside = self.lock();
        let index = inside.wakes.iter().position(Option::is_none).unwrap_or_else(|| {
            inside.wakes.push(None);
            inside.wakes.len() - 1
        });
        inside.wakes[index] = Some(wake);
        inside.line.make_room(index + 1);
        index
    }

    /// A camera has gone; nothing of it asks any more.
    pub fn part(&self, index: usize) {
        let mut inside = self.lock();
        inside.line.leave(index);
        inside.wakes[index] = None;
        inside.wake_next();
    }

    /// Another engine takes over; those who wait learn what it lets in.
    pub fn set_batch(&self, batch: usize) {
        let mut inside = self.lock();
        inside.line.set_batch(batch);
        inside.wake_next();
    }

    /// Asks for camera `index`; the ticket is the admission.
    pub fn ask(self: &Arc<Self>, index: usize, now: Instant) -> Result<Ticket, Option<Instant>> {
        match self.lock().line.ask(index, now) {
            Answer::Admitted => Ok(Ticket(Arc::clone(self))),
            Answer::Wait(until) => Err(until),
        }
    }

    /// Camera `index` gives up its place.
    pub fn leave(&self, index: usize) {
        let mut inside = self.lock();
        inside.line.leave(index);
        inside.wake_next();
    }

    /// The engine begins: those who wait learn when the reserve opens.
    pub fn inference_started(&self, now: Instant) {
        let mut inside = self.lock();
        inside.line.inference_started(now);
        inside.wake_next();
    }

    /// The engine is done.
    pub fn inference_finished(&self, now: Instant) {
        let mut inside = self.lock();
        inside.line.inference_finished(now);
        inside.wake_next();
    }

    /// Frames on their way to or in the engine.
    pub fn admitted(&self) -> usize {
        self.lock().line.admitted()
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        // The rule cannot panic half-way; a poisoned lock only means that some thread died elsewhere.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn wake_next(&self) {
        for index in self.line.next_in_line() {
            if let Some(Some(wake)) = self.wakes.get(index) {
                wake.ring();
            }
        }
    }
}

/// An admission; dropping it lets the next one in.
#[derive(Debug)]
pub struct Ticket(Arc<Turnstile>);

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut inside = self.0.lock();
        inside.line.returned();
        inside.wake_next();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Duration = Duration::from_millis(100);

    fn learned(batch: usize, cameras: usize, now: Instant) -> Line {
        let mut line = Line::new(batch, cameras);
        line.inference_started(now - T);
        line.inference_finished(now);
        line
    }

    #[test]
    fn an_idle_engine_admits_at_once() {
        let now = crate::clock::now();
        let mut line = learned(1, 4, now);
        assert_eq!(line.ask(2, now), Answer::Admitted);
    }

    #[test]
    fn the_reserve_opens_shortly_before_the_running_inference_ends() {
        let now = crate::clock::now();
        let mut line = learned(1, 4, now);
        assert_eq!(line.ask(0, now), Answer::Admitted);
        line.inference_started(now);
        let opens = now + T - LEAD - T / 10;
        assert_eq!(line.ask(1, now), Answer::Wait(Some(opens)));
        assert_eq!(line.ask(1, opens - Duration::from_nanos(1)), Answer::Wait(Some(opens)));
        assert_eq!(line.ask(1, opens), Answer::Admitted);
        assert_eq!(line.ask(2, opens), Answer::Wait(None), "one batch in reserve, not two");
    }

    #[test]
    fn those_who_wait_are_served_in_turn() {
        let now = crate::clock::now();
        let mut line = learned(1, 3, now);
        assert_eq!(line.ask(0, now), Answer::Admitted);
        assert_eq!(line.ask(0, now), Answer::Wait(None), "nothing runs yet: there is no reserve");
        line.leave(0);
        assert!(matches!(line.ask(1, now), Answer::Wait(_)));
        assert!(matches!(line.ask(2, now), Answer::Wait(_)));
        line.returned();
        assert!(matches!(line.ask(0, now), Answer::Wait(_)), "the newcomer queues behind");
        assert!(matches!(line.ask(2, now), Answer::Wait(_)));
        assert_eq!(line.ask(1, now), Answer::Admitted);
    }

    #[test]
    fn a_place_given_up_goes_to_the_next() {
        let now = crate::clock::now();
        let mut line = learned(1, 4, now);
        line.ask(0, now);
        line.ask(1, now);
        line.ask(2, now);
        line.leave(1);
        line.returned();
        assert_eq!(line.next_in_line().collect::<Vec<_>>(), [2]);
        assert_eq!(line.ask(2, now), Answer::Admitted);
    }

    #[test]
    fn a_batch_is_let_in_whole() {
        let now = crate::clock::now();
        let mut line = learned(4, 8, now);
        for camera in 0..4 {
            assert_eq!(line.ask(camera, now), Answer::Admitted);
        }
        assert_eq!(line.ask(4, now), Answer::Wait(None));
        line.inference_started(now);
        for camera in 4..8 {
            assert_eq!(line.ask(camera, now + T), Answer::Admitted, "a whole batch in reserve");
        }
        assert_eq!(line.ask(0, now + T), Answer::Wait(None));
    }

    proptest::proptest! {
        /// Never more than two batches inside, and nobody who keeps asking waits for ever.
        #[test]
        fn never_too_many_and_never_starved(
            batch in 1usize..5,
            asks in proptest::collection::vec((0usize..6, proptest::bool::ANY), 1..300),
        ) {
            let now = crate::clock::now();
            let mut line = Line::new(batch, 6);
            for (camera, finish) in asks {
                if finish && line.admitted() > 0 {
                    line.returned();
                }
                line.ask(camera, now);
                proptest::prop_assert!(line.admitted() <= 2 * batch);
                let unique: std::collections::BTreeSet<_> = line.waiting.iter().collect();
                proptest::prop_assert_eq!(unique.len(), line.waiting.len());
            }
            // Drain: as inferences end, everyone in line gets in, each in at most one round.
            for _ in 0..6 {
                while line.admitted() > 0 {
                    line.returned();
                }
                let next: Vec<_> = line.next_in_line().take(batch).collect();
                for camera in next {
                    proptest::prop_assert_eq!(line.ask(camera, now), Answer::Admitted);
                }
            }
            proptest::prop_assert!(line.waiting.is_empty());
        }
    }
}
