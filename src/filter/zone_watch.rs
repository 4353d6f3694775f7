//! One zone: who is in it, who comes and goes, who stays.
//!
//! A box trembles, so neither one frame nor one pixel decides. Somebody enters who has been in the zone for `settle`, and
//! leaves who has been out of it for as long; and who is in it is out only beyond a margin. So a box whose edge trembles
//! on the outline, and one that jumps away for a frame, tell nothing.

use std::time::Duration;

use super::events::{MARGIN, Parting, Told};
use super::place::{Area, Placed};
use crate::config::ZoneOptions;

/// A zone that tells.
#[derive(Debug, Clone)]
pub(super) struct ZoneWatch {
    area: Area,
    dwell: Option<Duration>,
    settle: Duration,
    /// Objects in it.
    pub count: u64,
}

/// What is known of one track in one zone.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stay {
    is_in: bool,
    dwell_told: bool,
    /// Since when it has been on the other side than `is_in` says.
    changed_at: Option<Duration>,
    entered_at: Duration,
}

impl Stay {
    /// Whether the track is in the zone.
    pub fn is_in(&self) -> bool {
        self.is_in
    }
}

impl ZoneWatch {
    /// # Errors
    /// The labels that the model does not have.
    pub fn new(options: &ZoneOptions, labels: &[String]) -> Result<Self, Vec<String>> {
        let area = Area::new(options, labels)?;
        Ok(Self { area, dwell: options.dwell, settle: options.settle, count: 0 })
    }

    /// The track was seen.
    pub fn see(
        &mut self,
        stay: &mut Stay,
        class_id: u32,
        placed: &Placed,
        at: Duration,
        tell: &mut dyn FnMut(Told, u64),
    ) {
        if !self.area.classes.has(class_id) {
            return;
        }
        let is_in = match stay.is_in {
            true => self.area.keeps(placed, MARGIN * placed.shorter_side()),
            false => self.area.holds(placed),
        };
        if is_in == stay.is_in {
            stay.changed_at = None;
        } else {
            let since = *stay.changed_at.get_or_insert(at);
            if at.saturating_sub(since) >= self.settle {
                stay.changed_at = None;
                match is_in {
                    true => self.enter(stay, since, tell),
                    false => self.leave(stay, since, Parting::Seen, tell),
                }
            }
        }
        let stayed = at.saturating_sub(stay.entered_at);
        if stay.is_in && is_in && !stay.dwell_told && self.dwell.is_some_and(|dwell| stayed >= dwell) {
            stay.dwell_told = true;
            tell(Told::Dwell(stayed), self.count);
        }
    }

    /// The track is given up for this reason; it was seen last at `seen_at`.
    pub fn lose(
        &mut self,
        stay: &mut Stay,
        seen_at: Duration,
        why: Parting,
        tell: &mut dyn FnMut(Told, u64),
    ) {
        if stay.is_in {
            let left_at = stay.changed_at.unwrap_or(seen_at);
            self.leave(stay, left_at, why, tell);
        }
    }

    fn enter(&mut self, stay: &mut Stay, at: Duration, tell: &mut dyn FnMut(Told, u64)) {
        (stay.is_in, stay.dwell_told, stay.entered_at) = (true, false, at);
        self.count += 1;
        tell(Told::Enter, self.count);
    }

    fn leave(&mut self, stay: &mut Stay, at: Duration, why: Parting, tell: &mut dyn FnMut(Told, u64)) {
        stay.is_in = false;
        // Each of those who are in it was counted once.
        self.count = self.count.saturating_sub(1);
        tell(Told::Leave { stayed: at.saturating_sub(stay.entered_at), why }, self.count);
    }
}
