//! A one-place doorbell: many may ring, one thread waits; rings while nobody listens are remembered once.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

/// The button. Ringing never waits.
#[derive(Debug, Clone)]
pub struct Wake(Sender<()>);

/// The bell. One thread listens at a time.
#[derive(Debug, Clone)]
pub struct Bell(Receiver<()>);

/// A doorbell.
pub fn doorbell() -> (Wake, Bell) {
    let (tx, rx) = bounded(1);
    (Wake(tx), Bell(rx))
}

impl Wake {
    /// Wakes the listener; a ring that nobody has heard yet is enough.
    pub fn ring(&self) {
        let _full_means_already_rung = self.0.try_send(());
    }
}

impl Bell {
    /// Waits for a ring, at most until `deadline`. True if it rang.
    pub fn wait_until(&self, deadline: Instant) -> bool {
        self.0.recv_deadline(deadline).is_ok()
    }

    /// Waits for a ring, at most `timeout`. True if it rang.
    pub fn wait(&self, timeout: Duration) -> bool {
        self.0.recv_timeout(timeout).is_ok()
    }
}
