//! How many heaps the C library keeps, and what it keeps in them.
//!
//! Threads come and go with every opening of a source, a dozen each time. glibc gives each of them one of up
//! to eight heaps (arenas) per core, and none of them ever becomes smaller than its fullest moment was: after
//! some hundreds of openings on two cores a process with one camera had grown by 20 % without having lost a
//! byte. With two heaps, and with what is free in them given back when a pipeline is gone, it stays flat; two
//! are enough, because pictures come from pools.
//!
//! What a pipeline has used is not all free when it is gone: GLib keeps its threads for another 15 s, and outputs and
//! the last pictures go later, too. So the heaps are trimmed a few times more.

use std::sync::atomic::{AtomicU32, Ordering};

/// Limits the heaps that are made from now on. To be called before the threads begin.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn limit() {
    set(libc::M_ARENA_MAX, 2, "MALLOC_ARENA_MAX");
}

/// What an operator says about it with `variable` goes first.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn set(option: libc::c_int, value: libc::c_int, variable: &str) {
    if ["GLIBC_TUNABLES", variable].iter().any(|variable| std::env::var_os(variable).is_some()) {
        return;
    }
    // SAFETY: mallopt takes two integers by value and may be called at any time from any thread (it takes
    // the allocator's own lock). A value that it refuses changes nothing.
    let _refused = unsafe { libc::mallopt(option, value) };
}

/// How often [`trim_after_closing`] trims after the last pipeline has gone.
const LATE_TRIMS: u32 = 6;

/// What is still to be trimmed of the pipelines that have gone.
static OWED: Owed = Owed(AtomicU32::new(0));

struct Owed(AtomicU32);

impl Owed {
    fn set(&self) {
        self.0.store(LATE_TRIMS, Ordering::Relaxed);
    }

    fn take(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |owed| owed.checked_sub(1)).is_ok()
    }
}

/// Gives back what became free since the last pipelines went. For whoever looks at memory every few seconds; after
/// half a minute there is nothing left to do, and nothing is done.
pub fn trim_after_closing() {
    if OWED.take() {
        trim();
    }
}

/// Dropped after a pipeline, gives back to the system what the pipeline left free in the heaps: a few
/// milliseconds on the thread that took it down.
#[derive(Debug)]
pub(crate) struct Trim;

impl Drop for Trim {
    fn drop(&mut self) {
        OWED.set();
        trim();
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn trim() {
    // SAFETY: malloc_trim takes an integer by value, may be called at any time from any thread, and touches
    // only memory that is free.
    let _nothing_to_give = unsafe { libc::malloc_trim(0) };
}

/// Other C libraries have no such heaps.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() {}

/// Other C libraries have no such heaps.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn limit() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_is_trimmed_so_often_and_no_more() {
        let owed = Owed(AtomicU32::new(0));
        assert!(!owed.take());
        owed.set();
        assert!((0..LATE_TRIMS - 1).all(|_| owed.take()));
        owed.set();
        assert!((0..LATE_TRIMS).all(|_| owed.take()));
        assert!(!owed.take() && !owed.take());
    }
}
