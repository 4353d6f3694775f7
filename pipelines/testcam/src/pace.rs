//! The time at which the camera films.

use std::time::{Duration, Instant, SystemTime};

/// Monotonic time, for pacing and delays.
#[allow(clippy::disallowed_methods, reason = "a camera films in real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Wall-clock time as nanoseconds since 1970, for logs that another process compares with its own clock.
#[allow(clippy::disallowed_methods, reason = "frame logs are compared with the clock of another process")]
pub fn unix_ns() -> u64 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}
