//! The only caller of `Instant::now` and `SystemTime::now`.
//!
//! Everything that decides takes time as an argument, so that tests run on virtual time. Only threads
//! that really wait ask this clock.

use std::time::{Instant, SystemTime};

/// The monotonic time that deadlines are made of; a wall-clock step cannot move it.
#[allow(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> Instant {
    Instant::now()
}

/// The wall-clock time that records carry. Never used for a deadline.
#[allow(clippy::disallowed_methods, reason = "this is the one place")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// The wall-clock time in nanoseconds since 1970.
pub fn unix_ns() -> u64 {
    let since = wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
