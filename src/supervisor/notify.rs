//! What systemd is told: ready, status, alive, stopping. Without systemd, nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// While an engine is built, a sign of life comes more often than this.
const STARTING_STEP: Duration = Duration::from_secs(30);

/// The service's side of sd_notify(3).
#[derive(Debug)]
pub(super) struct Notify {
    /// systemd expects signs of life (`WatchdogSec=`).
    watched: bool,
    status: String,
}

impl Notify {
    /// Looks at the environment that systemd gave.
    pub fn new() -> Self {
        Self { watched: sd_notify::watchdog_enabled().is_some(), status: String::new() }
    }

    /// Supervision runs. Cameras may still be absent: a service is not its cameras.
    pub fn ready(&self) {
        tell(&[NotifyState::Ready]);
    }

    /// Another configuration is being taken over; [`Self::ready`] ends it.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(_no_clock) => tell(&[NotifyState::Reloading]),
        }
    }

    /// Once a second, after the watchdog has found every worker in order: this is the proof that feeds
    /// systemd's watchdog.
    pub fn healthy(&mut self, cameras_up: usize, cameras: usize, fps: f64) {
        if self.watched {
            tell(&[NotifyState::Watchdog]);
        }
        let status = format!("{cameras_up} of {cameras} cameras up, {fps:.0} frames/s");
        if status != self.status {
            tell(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }

    /// A fault of our own was found: systemd need not wait for its watchdog to run out.
    pub fn broken(&self, why: &str) {
        tell(&[NotifyState::Status(why)]);
        if self.watched {
            tell(&[NotifyState::WatchdogTrigger]);
        }
    }

    /// Coming to rest, within this time.
    pub fn stopping(&self, within: Duration) {
        let usec = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
        tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(usec)]);
    }
}

/// Starting takes longer, and goes on: an engine is being built. systemd waits, and shows the line.
pub fn still_starting(line: &str) {
    let usec = u32::try_from(STARTING_STEP.as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::Status(line), NotifyState::ExtendTimeoutUsec(usec)]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("systemd cannot be told: {error}");
    }
}
