//! A camera's name is looked up on a thread that nobody waits for.
//!
//! The system's lookup cannot be interrupted and has no deadline: with a name server that never answers it takes
//! ten seconds, or minutes where the machine is configured so. GLib does lookups and TLS handshakes of the whole
//! process on ten threads, so that a dozen such names would keep every other camera from being opened. Hence a
//! name is looked up here first, by at most one thread a camera, and GLib is asked only for what is known. Where
//! that took long, as with the first of two name servers dead, it would take as long again: then the address is
//! used that was found.

use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Fault;
use crate::camera::Reason;
use crate::clock;
use crate::wake::Wake;

/// Finds the addresses of a name; may take for ever.
type Find = dyn Fn() -> Result<Vec<IpAddr>, Fault> + Send + Sync;

/// A lookup that takes longer is not done twice.
const SLOW: Duration = Duration::from_secs(1);

/// One camera's questions to the name servers: one at a time.
pub struct Lookup {
    thread_name: String,
    find: Arc<Find>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    /// A thread waits for an answer.
    is_asking: bool,
    answer: Option<Result<(), Fault>>,
    /// What was found last, if that took long.
    found_slowly: Vec<IpAddr>,
    /// Who wants to know.
    wake: Option<Wake>,
}

impl std::fmt::Debug for Lookup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lookup").field("thread_name", &self.thread_name).finish_non_exhaustive()
    }
}

impl Lookup {
    /// For one camera.
    pub fn new(camera: &str, find: impl Fn() -> Result<Vec<IpAddr>, Fault> + Send + Sync + 'static) -> Self {
        // Linux cuts thread names at 15 bytes, and a name need not be ASCII.
        let thread_name = format!("dns-{camera}").chars().take(15).collect();
        Self { thread_name, find: Arc::new(find), shared: Arc::default() }
    }

    /// Asks, and rings when [`Self::answer`] has one. Where an earlier question is still open, its answer will do.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn ask(&self, wake: &Wake) -> Result<(), Fault> {
        let mut shared = lock(&self.shared);
        shared.answer = None;
        shared.wake = Some(wake.clone());
        if shared.is_asking {
            return Ok(());
        }
        let (find, answers) = (Arc::clone(&self.find), Arc::clone(&self.shared));
        let ask = move || {
            let began = clock::now();
            let answer = catch_unwind(AssertUnwindSafe(|| find()));
            let answer = answer.unwrap_or_else(|_| Err(internal("looking the camera's name up panicked")));
            let is_slow = began.elapsed() > SLOW;
            let mut shared = lock(&answers);
            shared.found_slowly = answer.as_ref().ok().filter(|_| is_slow).cloned().unwrap_or_default();
            (shared.is_asking, shared.answer) = (false, Some(answer.map(drop)));
            if let Some(wake) = shared.wake.take() {
                wake.ring();
            }
        };
        // Nobody joins it: whoever is not interested any more goes on without.
        std::thread::Builder::new().name(self.thread_name.clone()).spawn(ask).map_err(|error| {
            internal(&format!("no thread could be started to look the camera's name up: {error}"))
        })?;
        shared.is_asking = true;
        Ok(())
    }

    /// The answer to the last question, once.
    pub fn answer(&self) -> Option<Result<(), Fault>> {
        lock(&self.shared).answer.take()
    }

    /// The address to use in place of the name, if looking the name up again would take long. Where there are
    /// several, each opening tries the next.
    pub fn address(&self, generation: u64) -> Option<IpAddr> {
        let shared = lock(&self.shared);
        let count = shared.found_slowly.len() as u64;
        let index = generation.checked_rem(count)?;
        shared.found_slowly.get(usize::try_from(index).ok()?).copied()
    }
}

fn internal(detail: &str) -> Fault {
    Fault { reason: Reason::Internal, detail: detail.to_owned() }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crossbeam_channel::{Sender, bounded};

    use super::*;
    use crate::wake::doorbell;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// A lookup whose answers the test gives; how many were asked for.
    fn lookup() -> (Lookup, Sender<Result<Vec<IpAddr>, Fault>>, Arc<AtomicUsize>) {
        let (tx, rx) = bounded(1);
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let find = move || {
            count.fetch_add(1, Ordering::SeqCst);
            rx.recv().expect("an answer")
        };
        (Lookup::new("a-camera-with-a-long-name", find), tx, asked)
    }

    #[test]
    fn an_answer_rings_and_is_given_once() {
        let (lookup, answers, _) = lookup();
        let (wake, bell) = doorbell();
        lookup.ask(&wake).unwrap();
        assert_eq!(lookup.answer(), None);
        answers.send(Ok(Vec::new())).unwrap();
        assert!(bell.wait(PATIENCE));
        assert_eq!(lookup.answer(), Some(Ok(())));
        assert_eq!(lookup.answer(), None);
    }

    #[test]
    fn while_one_question_is_open_no_other_is_asked() {
        let (lookup, answers, asked) = lookup();
        let (given_up, _) = doorbell();
        let (wake, bell) = doorbell();
        for _ in 0..100 {
            lookup.ask(&given_up).unwrap();
        }
        lookup.ask(&wake).unwrap();
        answers.send(Err(internal("nobody knows"))).unwrap();
        assert!(bell.wait(PATIENCE));
        assert_eq!(lookup.answer(), Some(Err(internal("nobody knows"))));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        // What is asked next is asked anew.
        lookup.ask(&wake).unwrap();
        answers.send(Ok(Vec::new())).unwrap();
        assert!(bell.wait(PATIENCE));
        assert_eq!((lookup.answer(), asked.load(Ordering::SeqCst)), (Some(Ok(())), 2));
    }

    #[test]
    fn an_answer_that_came_too_late_is_not_the_next_one() {
        let (lookup, answers, asked) = lookup();
        let (wake, bell) = doorbell();
        lookup.ask(&wake).unwrap();
        answers.send(Ok(Vec::new())).unwrap();
        assert!(bell.wait(PATIENCE), "and nobody takes it");
        lookup.ask(&wake).unwrap();
        assert_eq!(lookup.answer(), None);
        answers.send(Err(internal("it is gone"))).unwrap();
        assert!(bell.wait(PATIENCE));
        assert_eq!(lookup.answer(), Some(Err(internal("it is gone"))));
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn what_took_long_to_find_is_used_in_turn_and_what_did_not_is_left_to_be_found_again() {
        let (lookup, answers, _) = lookup();
        let (wake, bell) = doorbell();
        let found: Vec<IpAddr> = ["10.0.0.1", "fd00::1"].map(|address| address.parse().unwrap()).to_vec();
        for is_slow in [true, false] {
            lookup.ask(&wake).unwrap();
            if is_slow {
                assert!(!bell.wait(SLOW + Duration::from_millis(100)));
            }
            answers.send(Ok(found.clone())).unwrap();
            assert!(bell.wait(PATIENCE));
            assert_eq!(lookup.answer(), Some(Ok(())));
            let used = [1, 2, 3].map(|generation| lookup.address(generation));
            let expected = [found[1], found[0], found[1]].map(|address| is_slow.then_some(address));
            // On a machine that is busy also what was said at once may have come late.
            assert!(used == expected || !is_slow && used.iter().all(Option::is_some), "{used:?}");
        }
    }

    #[test]
    fn a_panic_is_an_answer() {
        let lookup = Lookup::new("gate", || panic!("as told by the test"));
        let (wake, bell) = doorbell();
        for _ in 0..2 {
            lookup.ask(&wake).unwrap();
            assert!(bell.wait(PATIENCE));
            assert_eq!(lookup.answer().unwrap().unwrap_err().reason, Reason::Internal);
        }
    }
}
