//! How long and how hard: the full form, the short one, and the controls.

use std::time::Duration;

use watchpost_testcam::Fault;

use super::leak::Leak;

/// One run's plan. Every form is judged by the same checks.
#[derive(Debug, Clone)]
pub struct Form {
    pub name: String,
    pub leak: Leak,
    /// Cameras that misbehave, each in a thread of its own.
    pub victims: usize,
    /// Cameras that do not, the one of the resting daemon not counted.
    pub neighbours: usize,
    /// What the cameras suffer, in turn.
    pub faults: Vec<Fault>,
    /// Before anything is counted, each victim goes through so many faults.
    pub warm_cycles_per_victim: usize,
    /// The run goes on until both numbers are reached.
    pub cycles: usize,
    pub frames: u64,
    /// Or until so much time is over, which is a failure.
    pub give_up_after: Duration,
    /// Cameras and outputs come, go and change; readers of all kinds.
    pub disturbed: bool,
    /// Between two samples.
    pub sample_every: Duration,
    /// Counts at rest have to stand still for this long.
    pub stable_for: Duration,
    /// A line of progress this often.
    pub progress_every: Duration,
    pub limits: Limits,
}

/// What a run may show at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Resident memory over the second half of the work.
    pub rss_growth_bytes: i64,
    /// How long noticing and recovering may take at the 99th percentile; `None`: it is only reported.
    pub times: Option<Times>,
}

#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// From the beginning of the fault to `closing`.
    pub noticed: Duration,
    /// From its end to the record of a picture taken after it.
    pub recovered: Duration,
    /// Frames received of frames sent by cameras that did nothing wrong.
    pub neighbours: f64,
}

/// Both timeouts are as long as the shortest that `freeze_timeout` takes.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(1);
/// So much beyond it may noticing take.
const NOTICE_WITHIN: Duration = Duration::from_millis(500);
const RECOVER_WITHIN: Duration = Duration::from_secs(3);
const NEIGHBOURS_LEAST: f64 = 0.99;
pub const FPS: u32 = 10;

/// Every fault that is noticed at one moment. What makes a stream hostile and lets it go on has a test of its own
/// (`tests/hostile_streams.rs`).
fn faults() -> Vec<Fault> {
    let small = |fault| match fault {
        // Smaller than the pictures of these cameras.
        Fault::ResolutionChange { .. } => Fault::ResolutionChange { width: 256, height: 144 },
        Fault::SlowStart { .. } => Fault::SlowStart { delay: Duration::from_secs(3) },
        other => other,
    };
    Fault::all().into_iter().filter(|fault| !fault.is_hostile()).map(small).collect()
}

impl Form {
    /// 86,400 frames and 1,000 cycles over every fault, in about twenty minutes.
    pub fn full() -> Self {
        Self {
            name: "full".to_owned(),
            leak: Leak::Nothing,
            victims: 8,
            neighbours: 4,
            faults: faults(),
            warm_cycles_per_victim: 12,
            cycles: 1000,
            frames: 86_400,
            give_up_after: Duration::from_secs(60 * 60),
            disturbed: true,
            sample_every: Duration::from_secs(1),
            // GLib's pool lets a thread go that had nothing to do for 15 s.
            stable_for: Duration::from_secs(18),
            progress_every: Duration::from_secs(30),
            limits: Limits {
                rss_growth_bytes: 2 << 20,
                times: Some(Times {
                    noticed: STALL_TIMEOUT + NOTICE_WITHIN,
                    recovered: RECOVER_WITHIN,
                    neighbours: NEIGHBOURS_LEAST,
                }),
            },
        }
    }

    /// The same in about a minute: 60 cycles, each fault five times.
    pub fn short() -> Self {
        Self {
            name: "short".to_owned(),
            victims: 6,
            neighbours: 1,
            warm_cycles_per_victim: 2,
            cycles: 60,
            frames: 1500,
            give_up_after: Duration::from_secs(300),
            sample_every: Duration::from_millis(250),
            // What counts is the last third, and the daemon trims its heaps every 5 s.
            stable_for: Duration::from_secs(8),
            progress_every: Duration::from_secs(10),
            limits: Self::short_limits(),
            ..Self::full()
        }
    }

    /// A daemon that leaks in every opening, on its way through the quickest faults.
    pub fn control(leak: Leak) -> Self {
        Self {
            name: format!("control-{}", leak.name()),
            leak,
            victims: 4,
            neighbours: 0,
            faults: vec![Fault::Close, Fault::AcceptSilent],
            warm_cycles_per_victim: 2,
            // Memory is allowed some slack, so it takes more of them.
            cycles: if leak == Leak::Memory { 56 } else { 24 },
            frames: 0,
            disturbed: false,
            stable_for: Duration::from_secs(2),
            ..Self::short()
        }
    }

    /// In a minute the heaps have not found their size yet: 3.5 MiB were seen, and 23 with the leak.
    fn short_limits() -> Limits {
        Limits { rss_growth_bytes: 8 << 20, times: None }
    }
}
