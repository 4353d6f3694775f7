//! Reload after reload: cameras and outputs come, change and go, and now and then the file is wrong.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::daemon::Daemon;
use super::stage::{Guest, Layout, Stage};
use super::{Dice, Failure, pause};

const GUESTS_MAX: usize = 3;
const OUTPUTS_MAX: usize = 2;

/// Reloads until `over`; how many there were.
pub fn churn(daemon: &Daemon, stage: &Stage, dice: &mut Dice, over: &AtomicBool) -> Result<usize, Failure> {
    let mut layout = Layout { at_work: true, ..Layout::default() };
    let mut reloads = 0;
    let mut next_number = 0;
    while !over.load(Ordering::Relaxed) {
        change(&mut layout, dice, &mut next_number);
        daemon.configure(&stage.config(&layout))?;
        reloads += 1;
        layout.is_wrong = false;
        let mut left = dice.between(1500, 3500);
        while !left.is_zero() && !over.load(Ordering::Relaxed) {
            let step = left.min(Duration::from_millis(100));
            pause(step);
            left -= step;
        }
    }
    Ok(reloads)
}

fn change(layout: &mut Layout, dice: &mut Dice, next_number: &mut usize) {
    match dice.below(6) {
        0 | 1 if layout.guests.len() < GUESTS_MAX => {
            *next_number += 1;
            layout.guests.push(Guest { number: *next_number, latency_ms: 50, detect_fps: 5, slots: 2 });
        }
        2 if !layout.guests.is_empty() => {
            let gone = dice.below(layout.guests.len());
            layout.guests.remove(gone);
        }
        3 if !layout.guests.is_empty() => {
            let changed = dice.below(layout.guests.len());
            let guest = &mut layout.guests[changed];
            match dice.below(3) {
                0 => guest.latency_ms = 30 + 10 * dice.below(5) as u64,
                1 => guest.detect_fps = 1 + dice.below(8) as u64,
                _ => guest.slots = 1 + dice.below(4),
            }
        }
        4 => layout.more_outputs = (layout.more_outputs + 1) % (OUTPUTS_MAX + 1),
        _ => layout.is_wrong = true,
    }
}
