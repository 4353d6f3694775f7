//! Scenes with known truth, and a detector that sees them imperfectly. Only sums and products of floats are used, so
//! they are the same everywhere.

use watchpost_scene::{Scene, SceneOptions};

use crate::figures::{Named, iou};

/// What a detector says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    pub class_id: u32,
    pub score: f32,
    pub bbox: [f32; 4],
}

/// A frame, its truth, and what a detector makes of it, best first.
#[derive(Debug, Clone, Default)]
pub struct Frame {
    pub ms: u64,
    pub truth: Vec<Named>,
    pub seen: Vec<Seen>,
}

/// Frames of one scene.
#[derive(Debug)]
pub struct Footage {
    pub name: &'static str,
    /// What a tracker that counts frames is told.
    pub nominal_fps: u32,
    pub frames: Vec<Frame>,
}

pub const WIDTH: u32 = 1280;
pub const HEIGHT: u32 = 720;

/// xorshift64*
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// 0..1
    pub fn unit(&mut self) -> f32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40) as f32 / (1u32 << 24) as f32
    }

    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// About normal, of deviation 1.
    pub fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.unit()).sum::<f32>() - 6.0
    }
}

/// How imperfect the detector is.
#[derive(Debug, Clone, Copy)]
pub struct Imperfection {
    /// Deviation of a box's sides, as a share of its size.
    pub jitter: f32,
    /// Share of the objects that are missed although they are in full view.
    pub missed: f32,
    /// Boxes a frame that show nothing.
    pub false_boxes: f32,
}

const USUAL: Imperfection = Imperfection { jitter: 0.03, missed: 0.03, false_boxes: 0.1 };

/// Objects hidden more than this are no truth, and are not detected.
const VISIBLE_MIN: f32 = 0.15;

/// An object on its way.
#[derive(Debug, Clone)]
struct Walker {
    id: u64,
    class_id: u32,
    size: [f32; 2],
    /// The middle of the feet.
    at: [f32; 2],
    /// Pixels a second.
    velocity: [f32; 2],
    /// Deviation of the velocity's change, pixels a second squared.
    waver: f32,
}

impl Walker {
    fn new(id: u64, at: [f32; 2], velocity: [f32; 2], height: f32) -> Self {
        Self { id, class_id: 0, size: [0.4 * height, height], at, velocity, waver: 0.0 }
    }

    fn step(&mut self, seconds: f32, chance: &mut Chance) {
        for axis in 0..2 {
            self.at[axis] += self.velocity[axis] * seconds;
            self.velocity[axis] += self.waver * seconds * chance.normal();
        }
        let limits = [(0.0, WIDTH as f32), (200.0, HEIGHT as f32)];
        for (axis, (low, high)) in limits.into_iter().enumerate() {
            // Whoever wavers stays in the picture.
            let leaves = (self.at[axis] < low && self.velocity[axis] < 0.0)
                || (self.at[axis] > high && self.velocity[axis] > 0.0);
            if self.waver > 0.0 && leaves {
                self.velocity[axis] = -self.velocity[axis];
            }
        }
    }

    fn bbox(&self) -> [f32; 4] {
        let [width, height] = self.size;
        [self.at[0] - width / 2.0, self.at[1] - height, self.at[0] + width / 2.0, self.at[1]]
    }
}

/// What is in the picture, with the share of it that can be seen.
type InView = (Named, u32, f32);

fn in_frame(bbox: [f32; 4]) -> Option<[f32; 4]> {
    let [left, top, right, bottom] = bbox;
    let bbox = [left.max(0.0), top.max(0.0), right.min(WIDTH as f32), bottom.min(HEIGHT as f32)];
    (bbox[2] > bbox[0] + 2.0 && bbox[3] > bbox[1] + 2.0).then_some(bbox)
}

fn hidden_share(bbox: [f32; 4], by: [f32; 4]) -> f32 {
    let side = |low: usize| (bbox[low + 2].min(by[low + 2]) - bbox[low].max(by[low])).max(0.0);
    side(0) * side(1) / ((bbox[2] - bbox[0]) * (bbox[3] - bbox[1]))
}

/// Later walkers, and all obstacles, stand in front.
fn view(walkers: &[Walker], obstacles: &[[f32; 4]]) -> Vec<InView> {
    let mut order: Vec<&Walker> = walkers.iter().collect();
    order.sort_by(|a, b| a.at[1].total_cmp(&b.at[1]));
    let boxes: Vec<[f32; 4]> = order.iter().map(|walker| walker.bbox()).collect();
    let mut seen = Vec::new();
    for (index, walker) in order.iter().enumerate() {
        let Some(bbox) = in_frame(boxes[index]) else { continue };
        let hidden: f32 =
            boxes[index + 1..].iter().chain(obstacles).map(|&front| hidden_share(bbox, front)).sum();
        seen.push((Named { id: walker.id, bbox }, walker.class_id, (1.0 - hidden).max(0.0)));
    }
    seen
}

/// A frame as the detector sees it.
fn frame(ms: u64, view: &[InView], imperfection: Imperfection, chance: &mut Chance) -> Frame {
    let mut frame = Frame { ms, ..Frame::default() };
    for &(named, class_id, visible) in view.iter().filter(|(.., visible)| *visible >= VISIBLE_MIN) {
        frame.truth.push(named);
        // Drawn in any case: what one object does is no other object's chance.
        let (luck, wobble) = (chance.unit(), chance.normal());
        let [left, top, right, bottom] = named.bbox;
        let sides: [f32; 4] = std::array::from_fn(|side| {
            let size = if side % 2 == 0 { right - left } else { bottom - top };
            named.bbox[side] + imperfection.jitter * size * chance.normal()
        });
        let score = (0.12 + 0.75 * visible + 0.06 * wobble).clamp(0.02, 0.97);
        let is_missed = luck < imperfection.missed + 0.3 * (1.0 - visible);
        if let Some(bbox) = in_frame(sides).filter(|_| !is_missed) {
            frame.seen.push(Seen { class_id, score, bbox });
        }
    }
    if chance.unit() < imperfection.false_boxes {
        let (x, y) = (chance.between(0.0, 1100.0), chance.between(0.0, 560.0));
        let bbox = [x, y, x + chance.between(20.0, 120.0), y + chance.between(30.0, 160.0)];
        frame.seen.push(Seen { class_id: 0, score: chance.between(0.1, 0.5), bbox });
    }
    // Rounded as the files for the reference are.
    for seen in &mut frame.seen {
        seen.score = (seen.score * 1000.0).round() / 1000.0;
        seen.bbox = seen.bbox.map(|side| (side * 10.0).round() / 10.0);
    }
    frame.seen.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<Seen> = Vec::new();
    for seen in frame.seen {
        if !kept.iter().any(|k| k.class_id == seen.class_id && iou(k.bbox, seen.bbox) > 0.45) {
            kept.push(seen);
        }
    }
    Frame { seen: kept, ..frame }
}

/// Milliseconds from frame to frame.
type Intervals = fn(&mut Chance) -> u64;

fn walked(
    variation: u64,
    name: &'static str,
    nominal_fps: u32,
    mut walkers: Vec<Walker>,
    obstacles: &[[f32; 4]],
    imperfection: Imperfection,
    (frames, intervals): (usize, Intervals),
) -> Footage {
    let mut chance = Chance::new(name.bytes().map(u64::from).sum::<u64>() + 10_000 * variation);
    let mut ms = 0;
    let frames = (0..frames).map(|_| {
        let seen = frame(ms, &view(&walkers, obstacles), imperfection, &mut chance);
        let interval = intervals(&mut chance);
        ms += interval;
        // In small steps, so that who wavers does so at every rate.
        for _ in 0..interval / 5 {
            walkers.iter_mut().for_each(|walker| walker.step(0.005, &mut chance));
        }
        seen
    });
    let frames = frames.collect();
    Footage { name, nominal_fps, frames }
}

fn crowd(count: u64, waver: f32, seed: u64) -> Vec<Walker> {
    let mut chance = Chance::new(seed);
    let walker = |id| {
        let at = [chance.between(0.0, WIDTH as f32), chance.between(250.0, HEIGHT as f32)];
        let velocity = [chance.between(-120.0, 120.0), chance.between(-30.0, 30.0)];
        let height = 40.0 + at[1] * 0.22;
        Walker { waver, ..Walker::new(id, at, velocity, height) }
    };
    (1..=count).map(walker).collect()
}

fn street(name: &'static str, seed: u64, fps: u32, every: u32) -> Footage {
    let scene = Scene::new(SceneOptions { seed, width: WIDTH, height: HEIGHT, fps });
    let mut chance = Chance::new(seed);
    let frames = (0..200).map(|number| {
        let objects = scene.objects(number * every);
        let view: Vec<InView> = objects
            .iter()
            .map(|(id, t)| (Named { id: id + 1, bbox: t.bbox }, t.class_id, t.visible))
            .collect();
        frame(u64::from(number * every) * 1000 / u64::from(fps), &view, USUAL, &mut chance)
    });
    Footage { name, nominal_fps: fps / every, frames: frames.collect() }
}

/// Two who pass each other, and two who overtake.
fn crossing() -> Vec<Walker> {
    vec![
        Walker::new(1, [100.0, 600.0], [150.0, 0.0], 200.0),
        Walker::new(2, [1100.0, 620.0], [-160.0, 0.0], 210.0),
        Walker::new(3, [50.0, 420.0], [90.0, 2.0], 150.0),
        Walker::new(4, [-100.0, 440.0], [140.0, 0.0], 160.0),
    ]
}

/// Each frame of 15 a second is dropped with a chance of a half.
fn half_dropped(chance: &mut Chance) -> u64 {
    65 * (1 + (0..8).take_while(|_| chance.unit() < 0.5).count() as u64)
}

/// All scenes; `variation`s differ by chance.
pub fn all(variation: u64) -> Vec<Footage> {
    let steady15 = |_: &mut Chance| 65;
    // A column of the arcade hides a walker for about half a second.
    let columns: Vec<[f32; 4]> =
        (0..4).map(|n| [200.0 + 280.0 * n as f32, 0.0, 270.0 + 280.0 * n as f32, 720.0]).collect();
    let misses = Imperfection { missed: 0.3, ..USUAL };
    let ghosts = Imperfection { false_boxes: 0.8, ..USUAL };
    vec![
        walked(variation, "crossing", 15, crossing(), &[], USUAL, (120, steady15)),
        walked(variation, "columns", 15, crossing(), &columns, USUAL, (120, steady15)),
        walked(variation, "misses", 15, crowd(8, 40.0, 4 + 100 * variation), &[], misses, (200, steady15)),
        walked(variation, "ghosts", 15, crowd(8, 40.0, 5 + 100 * variation), &[], ghosts, (200, steady15)),
        walked(variation, "crowd", 15, crowd(30, 60.0, 6 + 100 * variation), &[], USUAL, (200, steady15)),
        walked(
            variation,
            "thirty-a-second",
            30,
            crowd(12, 40.0, 7 + 100 * variation),
            &[],
            USUAL,
            (300, |_| 35),
        ),
        walked(
            variation,
            "irregular",
            10,
            crowd(8, 40.0, 8 + 100 * variation),
            &[],
            USUAL,
            (200, |chance| 5 * (4.0 + 56.0 * chance.unit() * chance.unit()) as u64),
        ),
        walked(
            variation,
            "half-dropped",
            15,
            crowd(8, 40.0, 9 + 100 * variation),
            &[],
            USUAL,
            (200, half_dropped),
        ),
        walked(
            variation,
            "five-a-second",
            5,
            crowd(8, 40.0, 10 + 100 * variation),
            &[],
            USUAL,
            (200, |_| 200),
        ),
        walked(
            variation,
            "two-a-second",
            2,
            crowd(6, 30.0, 11 + 100 * variation),
            &[],
            USUAL,
            (200, |_| 500),
        ),
        walked(
            variation,
            "one-a-second",
            1,
            crowd(5, 20.0, 12 + 100 * variation),
            &[],
            USUAL,
            (200, |_| 1000),
        ),
        street("street", 1 + 100 * variation, 15, 1),
        street("street-five", 2 + 100 * variation, 15, 3),
        street("street-one", 3 + 100 * variation, 15, 15),
    ]
}
