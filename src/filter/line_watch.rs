//! One line: who goes over it, and which way.
//!
//! A crossing is told when the anchor has gone through the line and is beyond a margin on the other side, so somebody who
//! stands on the line tells nothing. Whoever goes round an end of the line has not crossed it. Whoever is lost within the
//! margin is taken to have gone on to the side they were on last: that is how people go through a door.

use super::events::{MARGIN, Told};
use super::place::{Classes, Placed};
use crate::config::LineOptions;
use crate::shape::{Hand, Point};

/// A line that tells.
#[derive(Debug, Clone)]
pub(super) struct LineWatch {
    classes: Classes,
    /// Crossings to the right, and to the left.
    counts: [u64; 2],
}

/// What is known of one track at one line.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Way {
    last: Option<Point>,
    /// The side it is known to be on.
    hand: Option<Hand>,
    /// Crossings to the right less those to the left since it was known to be there.
    crossed: i8,
}

impl LineWatch {
    /// # Errors
    /// The labels that the model does not have.
    pub fn new(options: &LineOptions, labels: &[String]) -> Result<Self, Vec<String>> {
        let classes = Classes::new(options.classes.as_deref(), labels)?;
        Ok(Self { classes, counts: [0; 2] })
    }

    /// The track was seen.
    pub fn see(
        &mut self,
        way: &mut Way,
        line: &LineOptions,
        class_id: u32,
        placed: &Placed,
        tell: &mut dyn FnMut(Told, u64),
    ) {
        if !self.classes.has(class_id) {
            return;
        }
        let segment = line.segment;
        let point = placed.anchor(line.anchor);
        let hand = segment.hand(point);
        let Some(last) = way.last.replace(point) else {
            way.hand = Some(hand);
            return;
        };
        match segment.crossed_by(last, point) {
            Some(Hand::Right) => way.crossed = way.crossed.saturating_add(1),
            Some(Hand::Left) => way.crossed = way.crossed.saturating_sub(1),
            None => {}
        }
        if segment.distance(point, placed.size) > MARGIN * placed.shorter_side() {
            self.settle(way, hand, tell);
        }
    }

    /// The track is given up.
    pub fn lose(&mut self, way: &mut Way, line: &LineOptions, tell: &mut dyn FnMut(Told, u64)) {
        if let Some(last) = way.last {
            self.settle(way, line.segment.hand(last), tell);
        }
    }

    /// Goes on with the counts of a line that is the same.
    pub fn inherit(&mut self, other: &Self) {
        self.counts = other.counts;
    }

    fn settle(&mut self, way: &mut Way, hand: Hand, tell: &mut dyn FnMut(Told, u64)) {
        let crossed = std::mem::take(&mut way.crossed);
        if way.hand.replace(hand) == Some(hand) {
            return;
        }
        let direction = match hand {
            Hand::Right if crossed > 0 => 0,
            Hand::Left if crossed < 0 => 1,
            _ => return,
        };
        self.counts[direction] += 1;
        tell(Told::Cross(direction), self.counts[direction]);
    }
}
