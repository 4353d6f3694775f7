//! How many heaps the C library keeps.
//!
//! Threads come and go with every opening of a source, a dozen each time. glibc gives each of them one of up
//! to eight heaps (arenas) per core, and none of them ever becomes smaller than its fullest moment was: after
//! some hundreds of openings on two cores a process with one camera had grown by 20 % without having lost a
//! byte. With two heaps it stays flat, and two are enough: pictures come from pools.

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

/// Other C libraries have no such heaps.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn limit() {}
