//! PURE: when is this process no longer worth running? Then it leaves with 75 and systemd starts it clean.

use std::time::Duration;

use crate::descriptors::Count;

/// Whatever we open leaves more than these: who took the others does not ask, and GLib ends a process that it
/// cannot have one of them in. Leaving in order comes first.
const DESCRIPTORS_MIN: u64 = 8;

/// What the watchdog looks at, once a second.
#[derive(Debug, Clone)]
pub struct Vitals {
    /// How long an inference has been running, or the engine's thread has done nothing although it should;
    /// `None`: it waits for work, which is healthy.
    pub engine_silent_for: Option<Duration>,
    /// Openings whose teardown has not returned.
    pub wedged_count: usize,
    /// Resident memory of the process.
    pub rss_bytes: u64,
    /// What the GPU's driver said when it gave up this process, if it did.
    pub gpu_lost: Option<String>,
    /// File descriptors, where they are limited.
    pub descriptors: Option<Count>,
}

/// What the watchdog tolerates.
#[derive(Debug, Clone, Copy)]
pub struct Tolerances {
    /// An engine that is silent for longer hangs.
    pub inference_timeout: Duration,
    /// More wedged openings than this are a broken process.
    pub max_wedged: usize,
    /// `hard_limit`.
    pub hard_limit_bytes: Option<u64>,
}

/// Why the process has to leave.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// The engine hangs.
    #[error("no sign of life from the engine for {} s: the engine hangs", .0.as_secs())]
    EngineHangs(Duration),
    /// Nothing of this process can compute on the GPU any more.
    #[error("{0}")]
    GpuLost(String),
    /// Too many wedged teardowns.
    #[error("{count} camera teardowns do not return, more than max_wedged = {max} allows")]
    TooManyWedged {
        /// So many.
        count: usize,
        /// Allowed.
        max: usize,
    },
    /// Next to no file descriptors left.
    #[error(
        "{} of {} file descriptors are in use, and a library would soon end the process for want of one: something \
         leaks them, or LimitNOFILE= in the unit (ulimit -n in a shell) is too low", .0.used, .0.limit
    )]
    NoDescriptors(Count),
    /// Memory above the hard limit.
    #[error("resident memory is {rss_mib} MiB, above memory.hard_limit = {limit_mib} MiB")]
    HardLimit {
        /// Measured.
        rss_mib: u64,
        /// Allowed.
        limit_mib: u64,
    },
}

/// Looks once.
pub fn examine(vitals: &Vitals, tolerances: Tolerances) -> Option<Finding> {
    if let Some(words) = &vitals.gpu_lost {
        return Some(Finding::GpuLost(words.clone()));
    }
    if let Some(time) = vitals.engine_silent_for
        && time > tolerances.inference_timeout
    {
        return Some(Finding::EngineHangs(time));
    }
    if vitals.wedged_count > tolerances.max_wedged {
        return Some(Finding::TooManyWedged { count: vitals.wedged_count, max: tolerances.max_wedged });
    }
    if let Some(count) = vitals.descriptors.filter(|count| count.left() < DESCRIPTORS_MIN) {
        return Some(Finding::NoDescriptors(count));
    }
    match tolerances.hard_limit_bytes {
        Some(limit) if vitals.rss_bytes > limit => {
            Some(Finding::HardLimit { rss_mib: vitals.rss_bytes >> 20, limit_mib: limit >> 20 })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCES: Tolerances = Tolerances {
        inference_timeout: Duration::from_secs(30),
        max_wedged: 2,
        hard_limit_bytes: Some(800 << 20),
    };
    const HEALTHY: Vitals = Vitals {
        engine_silent_for: None,
        wedged_count: 0,
        rss_bytes: 100 << 20,
        gpu_lost: None,
        descriptors: Some(Count { used: 1016, limit: 1024 }),
    };

    #[test]
    fn an_idle_engine_and_tolerated_figures_are_healthy() {
        assert_eq!(examine(&HEALTHY, TOLERANCES), None);
        let busy = Vitals { engine_silent_for: Some(Duration::from_secs(30)), wedged_count: 2, ..HEALTHY };
        assert_eq!(examine(&busy, TOLERANCES), None);
        let unlimited = Tolerances { hard_limit_bytes: None, ..TOLERANCES };
        assert_eq!(examine(&Vitals { rss_bytes: u64::MAX, ..HEALTHY }, unlimited), None);
    }

    #[test]
    fn a_hung_engine_too_many_wedged_cameras_and_the_hard_limit_are_found() {
        let hung = Vitals { engine_silent_for: Some(Duration::from_secs(31)), ..HEALTHY };
        assert!(matches!(examine(&hung, TOLERANCES), Some(Finding::EngineHangs(_))));
        let wedged = Vitals { wedged_count: 3, ..HEALTHY };
        assert_eq!(examine(&wedged, TOLERANCES), Some(Finding::TooManyWedged { count: 3, max: 2 }));
        let lost = Vitals { gpu_lost: Some("error 700".to_owned()), ..HEALTHY };
        assert_eq!(examine(&lost, TOLERANCES), Some(Finding::GpuLost("error 700".to_owned())));
        let count = Count { used: 1017, limit: 1024 };
        let full = Vitals { descriptors: Some(count), ..HEALTHY };
        assert_eq!(examine(&full, TOLERANCES), Some(Finding::NoDescriptors(count)));
        let over = Vitals { descriptors: Some(Count { used: 2000, limit: 1024 }), ..HEALTHY };
        assert!(matches!(examine(&over, TOLERANCES), Some(Finding::NoDescriptors(_))));
        let fat = Vitals { rss_bytes: 801 << 20, ..HEALTHY };
        assert_eq!(examine(&fat, TOLERANCES), Some(Finding::HardLimit { rss_mib: 801, limit_mib: 800 }));
    }
}
