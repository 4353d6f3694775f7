//! Taking time: delays, and hangs that end when they are told to.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::counters;

/// Waits that long.
pub fn wait(duration: Duration) {
    if duration.is_zero() {
        return;
    }
    let own = (Mutex::new(()), Condvar::new());
    let guard = own.0.lock().unwrap_or_else(PoisonError::into_inner);
    // Nobody rings, and a spurious wake-up does not shorten it.
    drop(own.1.wait_timeout_while(guard, duration, |()| true));
}

/// Does not return until the ledger's release order is given, or the process ends.
pub fn hang() {
    while counters::ORDER_RELEASE.get() == 0 {
        wait(Duration::from_millis(2));
    }
}
