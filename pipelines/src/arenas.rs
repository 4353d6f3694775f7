//! How many heaps the C library keeps.
//!
//! Threads come and go with every opening of a source, a dozen each time. glibc gives each of them one of up
//! to eight heaps (arenas) per core, and none of them ever becomes smaller than its fullest moment was: after
//! some hundreds of openings on two cores a process with one camera had grown by 20 % without having lost a
//! byte. With two heaps, and with what is free in them given back when a pipeline is gone, it stays flat; two
//! are enough, because pictures come from pools.

/// Limits the heaps that are made from now on. To be called before the threads begin.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn limit() {
    const ARENAS_MAX: libc::c_int = 2;
    // What an operator says about it goes first.
    const VARIABLES: [&str; 2] = ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"];
    if VARIABLES.iter().any(|variable| std::env::var_os(variable).is_some()) {
        return;
    }
    // SAFETY: mallopt takes two integers by value and may be called at any time from any thread (it takes
    // the allocator's own lock). A value that it refuses changes nothing.
    let _refused = unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS_MAX) };
}

/// Dropped after a pipeline, gives back to the system what the pipeline left free in the heaps: a few
/// milliseconds on the thread that took it down.
#[derive(Debug)]
pub(crate) struct Trim;

impl Drop for Trim {
    fn drop(&mut self) {
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
