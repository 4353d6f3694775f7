//! File descriptors: how many there may be, who may take more, and how many stay free.
//!
//! GLib ends the whole process when it is refused a descriptor that it cannot do without, and a thread that
//! waits for a network camera takes one for every wait. So what we decide to open (a camera, a connection)
//! is only opened where [`kept_free`] stay free for what we do not decide.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A pipeline has been seen to open a dozen.
const PER_CAMERA: u64 = 20;
/// Threads that open something in passing: a file, a pipe, a connection that is refused.
const IN_PASSING: u64 = 16;
/// What the unit asks for, and more than anybody needs.
const ENOUGH: u64 = 65_536;

/// Cameras that are being opened and may not have taken theirs yet.
static OPENING: AtomicU64 = AtomicU64::new(0);

/// Takes what the system allows: shells and services usually begin with a soft limit of 1024, which was made
/// for select(2).
pub fn raise_limit() {
    let Rlimit { current: Some(soft), maximum } = getrlimit(Resource::Nofile) else { return };
    let wanted = maximum.unwrap_or(ENOUGH).min(ENOUGH);
    if wanted <= soft {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }) {
        tracing::debug!("the limit of {soft} file descriptors stays: {error}");
    }
}

/// So many stay free: one for each pipeline's next wait, and some.
pub fn kept_free() -> u64 {
    IN_PASSING + watchpost_pipelines::open_pipelines() as u64
}

/// Descriptors of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// In use.
    pub used: u64,
    /// The soft limit.
    pub limit: u64,
}

impl Count {
    /// Counts. `None` without a limit.
    pub fn now() -> Option<Self> {
        let limit = getrlimit(Resource::Nofile).current?;
        // One of them reads the directory. If that is refused, all are taken.
        let used = std::fs::read_dir("/proc/self/fd").map_or(limit, |entries| entries.count() as u64 - 1);
        Some(Self { used, limit })
    }

    /// More that could be opened.
    pub fn left(self) -> u64 {
        self.limit.saturating_sub(self.used)
    }
}

/// True where a connection has to be refused.
pub fn are_scarce() -> bool {
    Count::now().is_some_and(|count| count.left() < kept_free())
}

/// The promise of enough descriptors for a camera's opening, until it has taken them.
#[derive(Debug)]
pub struct Room {
    is_waiting: AtomicBool,
}

/// There is not enough for another camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} of {} file descriptors are in use, {promised} are promised to cameras that are being opened, and a camera \
     may need {PER_CAMERA} beside {kept} that are kept free: raise LimitNOFILE= in the unit (ulimit -n in a shell), \
     or find out who holds them", count.used, count.limit
)]
pub struct Shortage {
    count: Count,
    promised: u64,
    kept: u64,
}

impl Room {
    /// Room for one more camera.
    ///
    /// # Errors
    /// [`Shortage`]: it must not be opened now.
    pub fn for_camera() -> Result<Self, Shortage> {
        // Promised before it is counted: of two that come at the same time each sees the other.
        let before = OPENING.fetch_add(1, Ordering::AcqRel);
        let room = Self { is_waiting: AtomicBool::new(true) };
        let (promised, kept) = (before * PER_CAMERA, kept_free());
        match Count::now() {
            Some(count) if count.left() < promised + PER_CAMERA + kept => {
                Err(Shortage { count, promised, kept })
            }
            // Without a limit nobody counts.
            _ => Ok(room),
        }
    }

    /// The camera has everything that it will take: from here on it is counted as in use.
    pub fn is_taken(&self) {
        if self.is_waiting.load(Ordering::Relaxed) && self.is_waiting.swap(false, Ordering::AcqRel) {
            OPENING.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.is_taken();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, because the limit is the process's.
    #[test]
    fn what_is_promised_counts_until_it_is_taken_or_given_up() {
        raise_limit();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let room_for_two = || {
            let used = Count::now().unwrap().used;
            let current = Some(used + kept_free() + 2 * PER_CAMERA + PER_CAMERA / 2);
            setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
        };
        room_for_two();
        let first = Room::for_camera().unwrap();
        let second = Room::for_camera().unwrap();
        let shortage = Room::for_camera().unwrap_err();
        assert_eq!(shortage.promised, 2 * PER_CAMERA);
        assert!(shortage.to_string().contains("file descriptors are in use"), "{shortage}");
        assert!(!are_scarce());
        first.is_taken();
        first.is_taken();
        let third = Room::for_camera().unwrap();
        drop((first, second));
        let fourth = Room::for_camera().unwrap();
        Room::for_camera().unwrap_err();
        drop((third, fourth));
        assert_eq!(OPENING.load(Ordering::Relaxed), 0);
        setrlimit(Resource::Nofile, Rlimit { current: Some(Count::now().unwrap().used + 8), maximum })
            .unwrap();
        assert!(are_scarce());
        setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
    }
}
