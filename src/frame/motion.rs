//! PURE: does anything move, and is a frame worth an inference?
//!
//! A picture is made small: 256 x 144 luma cells, each the mean of four samples. Blocks of 8 x 8 cells are compared with those
//! of the last inferred frame, by the mean of absolute differences. What light does to the whole picture is taken out first
//! (one gain and one offset, fitted to the blocks' means, twice, the second time without those that fit worst). How much a
//! block differs while nothing happens is its noise; what changes again and again although nothing is detected is its nuisance: a
//! tree, a flickering lamp, a clock drawn into the picture. A block has changed when it differs by more than [`FLOOR`] and by more
//! than [`NOISES`] times the larger of the two; something moves when [`BLOCKS_MIN`] blocks have changed, or one has changed by
//! three times as much, or the light is another.
//!
//! ```text
//!              moved, or an object that moves              still for `hold`
//!   still ────────────────────────────────────► awake ────────────────────────► still
//!     │  one frame in `refresh`, no more                 every frame
//! ```

use std::time::{Duration, Instant};

use super::{Layout, Picture};
use crate::config::{CameraOptions, Decode};

const COLUMNS: usize = 32;
const ROWS: usize = 18;
const BLOCKS: usize = COLUMNS * ROWS;
/// Cells in a row and in a column of a block.
const SIDE: usize = 8;
const WIDTH: usize = COLUMNS * SIDE;
const HEIGHT: usize = ROWS * SIDE;

/// Smallest mean difference that is a change, in code values. Sensor noise of 4 code values makes 2.3 of it, coding less.
const FLOOR: f32 = 3.5;
/// How many times its noise a block has to differ.
const NOISES: f32 = 2.5;
/// A block that changes in more than one of twelve frames for nothing is learned to be a nuisance, half a minute after it began.
const NUISANCE_UP: f32 = 0.25;
const NUISANCE_DOWN: f32 = 0.02;
/// No block becomes blind.
const NUISANCE_MAX: f32 = 16.0;
/// Blocks that have to change.
const BLOCKS_MIN: usize = 2;
/// Mean change of the whole picture that is no drift of daylight: a lamp, a shutter.
const LIGHT: f32 = 30.0;

/// How a camera's gate is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateOptions {
    /// Still pictures are left out. Without it they are only looked at.
    pub leaves_out: bool,
    /// So long after the last motion every frame counts as in motion.
    pub hold: Duration,
    /// One frame in so long is inferred, whatever it shows.
    pub refresh: Duration,
}

impl GateOptions {
    /// Those of a camera with `motion_gate` or `decode = "lazy"`.
    pub fn of(camera: &CameraOptions) -> Option<Self> {
        (camera.motion_gate || camera.decode == Decode::Lazy).then_some(Self {
            leaves_out: camera.motion_gate,
            hold: camera.motion_hold,
            refresh: camera.motion_refresh,
        })
    }
}

/// What a look at a frame gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// It differs from the last inferred frame.
    pub moved: bool,
    /// It is to be inferred.
    pub infer: bool,
}

/// Compares one camera's frames. Allocates when it is made and never again.
#[derive(Debug)]
pub struct MotionGate {
    options: GateOptions,
    now: Box<Small>,
    then: Box<Small>,
    blocks: Box<[Block]>,
    inferred_at: Option<Instant>,
    moved_at: Option<Instant>,
}

/// What a block does while nothing happens, in code values.
#[derive(Debug, Clone, Copy, Default)]
struct Block {
    noise: f32,
    nuisance: f32,
}

/// A picture made small.
#[derive(Debug)]
struct Small {
    cells: [u8; WIDTH * HEIGHT],
    means: [f32; BLOCKS],
}

impl Default for Small {
    fn default() -> Self {
        Self { cells: [0; WIDTH * HEIGHT], means: [0.0; BLOCKS] }
    }
}

impl MotionGate {
    /// A gate that has seen nothing.
    pub fn new(options: GateOptions) -> Self {
        Self {
            options,
            now: Box::default(),
            then: Box::default(),
            blocks: vec![Block::default(); BLOCKS].into_boxed_slice(),
            inferred_at: None,
            moved_at: None,
        }
    }

    /// Bytes that one gate takes.
    pub const fn bytes() -> usize {
        2 * size_of::<Small>() + BLOCKS * size_of::<Block>() + size_of::<Self>()
    }

    /// Forgets what it saw: another opening begins.
    pub fn reset(&mut self) {
        self.blocks.fill(Block::default());
        self.inferred_at = None;
        self.moved_at = None;
    }

    /// Looks at the frame that arrived at `at`. `object_at`: when an object that is not at rest was last detected.
    pub fn look(&mut self, picture: &Picture<'_>, at: Instant, object_at: Option<Instant>) -> Look {
        self.now.fill_from(picture);
        let Some(inferred_at) = self.inferred_at else {
            self.remember(at);
            return Look { moved: true, infer: true };
        };
        let since = |then: Instant| at.saturating_duration_since(then);
        let hold = self.options.hold;
        let is_recent = |then: Option<Instant>| then.is_some_and(|then| since(then) < hold);
        let moved = self.differs(!is_recent(object_at));
        if moved {
            self.moved_at = Some(at);
        }
        let is_held = is_recent(self.moved_at) || is_recent(object_at);
        let infer = !self.options.leaves_out || is_held || since(inferred_at) >= self.options.refresh;
        if infer {
            self.remember(at);
        }
        Look { moved, infer }
    }

    fn remember(&mut self, at: Instant) {
        std::mem::swap(&mut self.now, &mut self.then);
        self.inferred_at = Some(at);
    }

    /// Compares, and learns from it what is noise.
    fn differs(&mut self, for_nothing: bool) -> bool {
        let (now, then) = (&*self.now, &*self.then);
        let (gain, offset, shift) = light(&then.means, &now.means);
        if shift.abs() > LIGHT {
            return true;
        }
        // What each value of then would be in the light of now.
        let lit: [u8; 256] = std::array::from_fn(|value| (gain * value as f32 + offset).round() as u8);
        let (mut changed, mut stands_out) = (0, false);
        for (index, Block { noise, nuisance }) in self.blocks.iter_mut().enumerate() {
            let score = score(now, then, &lit, index);
            let limit = FLOOR.max(NOISES * noise.max(*nuisance));
            if score > limit {
                changed += 1;
                stands_out |= score > 3.0 * limit;
                // Who walks by and is detected must not teach the block to look away.
                *nuisance = (*nuisance + if for_nothing { NUISANCE_UP } else { 0.0 }).min(NUISANCE_MAX);
            } else {
                *noise += (score.min(FLOOR) - *noise) / 16.0;
                *nuisance = (*nuisance - NUISANCE_DOWN).max(0.0);
            }
        }
        changed >= BLOCKS_MIN || stands_out
    }
}

/// The gain and offset that make one set of means most like another, and how far apart they are.
fn light(then: &[f32; BLOCKS], now: &[f32; BLOCKS]) -> (f32, f32, f32) {
    let shift = now.iter().zip(then).map(|(now, then)| now - then).sum::<f32>() / BLOCKS as f32;
    let (mut gain, mut offset, mut tolerance) = (1.0, shift, f32::INFINITY);
    for _ in 0..2 {
        let fits = |&(&x, &y): &(&f32, &f32)| (y - (gain * x + offset)).abs() <= tolerance;
        let (mut count, mut sums, mut squares, mut products) = (0.0, (0.0, 0.0), 0.0, 0.0);
        for (&x, &y) in then.iter().zip(now).filter(fits) {
            count += 1.0;
            sums = (sums.0 + x, sums.1 + y);
            squares += x * x;
            products += x * y;
        }
        let spread = squares - sums.0 * sums.0 / count;
        // A picture of one brightness tells no gain from an offset.
        gain = if spread > count {
            ((products - sums.0 * sums.1 / count) / spread).clamp(0.5, 2.0)
        } else {
            1.0
        };
        offset = (sums.1 - gain * sums.0) / count;
        let residual = |(x, y): (&f32, &f32)| (y - (gain * x + offset)).abs();
        let mean = then.iter().zip(now).map(residual).sum::<f32>() / BLOCKS as f32;
        tolerance = (2.0 * mean).max(1.0);
    }
    (gain, offset, shift)
}

/// Mean absolute difference of a block.
fn score(now: &Small, then: &Small, lit: &[u8; 256], block: usize) -> f32 {
    let first = block / COLUMNS * SIDE * WIDTH + block % COLUMNS * SIDE;
    let mut sum = 0_u32;
    for row in 0..SIDE {
        let cells = first + row * WIDTH..first + row * WIDTH + SIDE;
        let pairs = now.cells[cells.clone()].iter().zip(&then.cells[cells]);
        sum += pairs.map(|(&now, &then)| u32::from(now.abs_diff(lit[usize::from(then)]))).sum::<u32>();
    }
    sum as f32 / (SIDE * SIDE) as f32
}

impl Small {
    fn fill_from(&mut self, picture: &Picture<'_>) {
        let (y, step, first) = match picture.layout {
            Layout::Planar { y, .. } | Layout::Nv12 { y, .. } | Layout::Gray { y } => (y, 1, 0),
            // Green is most of what luma is.
            Layout::Rgb { rgb } => (rgb, 3, 1),
        };
        let (width, height) = (picture.width as usize, picture.height as usize);
        // At a quarter and at three quarters of a cell.
        let place = |half: usize, halves: usize, size: usize| (2 * half + 1) * size / (2 * halves);
        let columns: [usize; 2 * WIDTH] =
            std::array::from_fn(|half| place(half, 2 * WIDTH, width) * step + first);
        for (row, cells) in self.cells.chunks_exact_mut(WIDTH).enumerate() {
            let start = |half| place(2 * row + half, 2 * HEIGHT, height) * y.stride_bytes;
            let (upper, lower) = (y.data.get(start(0)..), y.data.get(start(1)..));
            let (upper, lower) = (upper.unwrap_or_default(), lower.unwrap_or_default());
            for (cell, pair) in cells.iter_mut().zip(columns.chunks_exact(2)) {
                let at = |line: &[u8], column: usize| u16::from(line.get(column).copied().unwrap_or(0));
                let sum = at(upper, pair[0]) + at(upper, pair[1]) + at(lower, pair[0]) + at(lower, pair[1]);
                *cell = ((sum + 2) / 4) as u8;
            }
        }
        for (block, mean) in self.means.iter_mut().enumerate() {
            let first = block / COLUMNS * SIDE * WIDTH + block % COLUMNS * SIDE;
            let rows = (0..SIDE).map(|row| &self.cells[first + row * WIDTH..][..SIDE]);
            let sum: u32 = rows.flatten().map(|&cell| u32::from(cell)).sum();
            *mean = sum as f32 / (SIDE * SIDE) as f32;
        }
    }
}

#[cfg(test)]
#[path = "motion_tests.rs"]
mod tests;
