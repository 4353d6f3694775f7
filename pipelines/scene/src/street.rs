//! Who is where at which moment: three lanes, each an endless conveyor of objects.
//!
//! Lane positions are slots at a fixed spacing which all move at the lane's speed, so nobody overtakes anybody;
//! what stands in a slot follows from the seed and the slot's number alone, so any moment can be asked for.
//! A lane is as high as its tallest figure, so the lanes' pictures overlap only slightly.

use crate::SceneOptions;
use crate::figure::{ASPECT_MAX, Figure, Pose};
use crate::random::{Random, sine};
use crate::stamp;

/// What a lane's ground is, which decides who is likely to use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    Road,
    Pavement,
    Grass,
}

/// One lane. Lengths in pixels.
#[derive(Debug, Clone, Copy)]
pub struct Lane {
    pub ground: Ground,
    /// Where feet and wheels touch the ground, as y.
    pub baseline: f32,
    /// The height of the tallest figure.
    pub height: f32,
    width_max: f32,
    spacing: f64,
    /// Pixels a second; negative to the left.
    speed: f64,
    offset: f64,
}

/// An object at one moment.
pub struct Actor {
    /// Stays with the object for as long as it exists.
    pub object_id: u64,
    pub figure: Figure,
}

/// The lanes of a scene, from the far one to the near one, and its light.
#[derive(Debug, Clone)]
pub struct Street {
    seed: u64,
    width: f64,
    pub lanes: [Lane; 3],
    light_base: f32,
    light_phases: [f64; 2],
    crowd: f32,
}

/// How one lane is laid out, as shares of the picture's height (heights) or width (the others). With these no more
/// than 3, 3 and 2 figures of the greatest width can reach into the picture.
struct Layout {
    height: (f32, f32),
    width_max: f32,
    spacing: f64,
    speed: (f32, f32),
}

const LAYOUTS: [Layout; 3] = [
    Layout { height: (0.14, 0.17), width_max: 0.16, spacing: 0.45, speed: (0.03, 0.08) },
    Layout { height: (0.20, 0.25), width_max: 0.24, spacing: 0.47, speed: (0.05, 0.12) },
    Layout { height: (0.32, 0.38), width_max: 0.34, spacing: 0.75, speed: (0.08, 0.17) },
];
/// How far a figure may be from the middle of its slot, as a share of the picture's width.
const STRAY_MAX: f64 = 0.05;
/// The share of slots in which something stands.
const CROWD: f32 = 0.8;

impl Street {
    /// Lays out the lanes of the scene.
    pub fn new(options: &SceneOptions) -> Self {
        let mut random = Random::of(options.seed, &[1]);
        let (width, height) = (options.width as f32, options.height as f32);
        let [_, strip_top, _, _] = stamp::strip(options.width as usize, options.height as usize);
        let mut baseline = strip_top as f32 - 2.0;
        let mut lanes = [None; 3];
        for (lane, layout) in lanes.iter_mut().zip(&LAYOUTS).rev() {
            let lane_height = height * random.between(layout.height.0, layout.height.1);
            let direction = random.pick(&[-1.0, 1.0]);
            let speed = direction * width * random.between(layout.speed.0, layout.speed.1);
            *lane = Some(Lane {
                ground: random.pick(&[
                    Ground::Road,
                    Ground::Road,
                    Ground::Pavement,
                    Ground::Pavement,
                    Ground::Grass,
                ]),
                baseline,
                height: lane_height,
                width_max: width * layout.width_max,
                spacing: f64::from(width) * layout.spacing,
                speed: f64::from(speed),
                offset: f64::from(random.unit() * width),
            });
            baseline -= lane_height * random.between(0.95, 1.0);
        }
        Self {
            seed: options.seed,
            width: f64::from(width),
            lanes: lanes.map(|lane| lane.expect("every lane was laid out")),
            light_base: random.between(0.86, 1.04),
            light_phases: [f64::from(random.unit()), f64::from(random.unit())],
            crowd: CROWD,
        }
    }

    /// The same street with something in this share of its places.
    pub fn with_crowd(self, crowd: f32) -> Self {
        Self { crowd, ..self }
    }

    /// The factor on all luma at a moment: a slow drift.
    pub fn light(&self, seconds: f64) -> f32 {
        let [slow, quick] = self.light_phases;
        self.light_base * (1.0 + 0.09 * sine(seconds / 41.0 + slow) + 0.03 * sine(seconds / 13.0 + quick))
    }

    /// Hands every object that is in the picture to `each`, from the far lane to the near one.
    pub fn actors(&self, seconds: f64, mut each: impl FnMut(Actor)) {
        for (lane_index, lane) in self.lanes.iter().enumerate() {
            let start = lane.offset + lane.speed * seconds;
            let reach = f64::from(lane.width_max) / 2.0 + STRAY_MAX * self.width;
            let first = ((-reach - start) / lane.spacing).ceil() as i64;
            let last = ((self.width + reach - start) / lane.spacing).floor() as i64;
            for slot in first..=last {
                if let Some(actor) = self.actor(lane_index, slot, start, seconds) {
                    each(actor);
                }
            }
        }
    }

    fn actor(&self, lane_index: usize, slot: i64, start: f64, seconds: f64) -> Option<Actor> {
        let lane = &self.lanes[lane_index];
        let mut random = Random::of(self.seed, &[2, lane_index as u64, slot as u64]);
        if !random.chance(self.crowd) {
            return None;
        }
        let class = random.weighted(match lane.ground {
            Ground::Road => [0.22, 0.60, 0.18],
            Ground::Pavement => [0.50, 0.08, 0.42],
            Ground::Grass => [0.38, 0.14, 0.48],
        });
        let share = match class {
            0 => random.between(0.84, 1.0),
            1 => random.between(0.58, 0.70),
            _ => random.between(0.56, 0.68),
        };
        let height = (lane.height * share).min(lane.width_max / ASPECT_MAX[class]);
        let stray = STRAY_MAX * self.width;
        let still = stray * 0.6 * f64::from(random.between(-1.0, 1.0));
        let phase = f64::from(random.unit());
        let period = f64::from(random.between(5.0, 11.0));
        let x = start
            + lane.spacing * slot as f64
            + still
            + stray * 0.4 * f64::from(sine(seconds / period + phase));
        let ground = lane.baseline - lane.height * random.between(0.0, 0.03);
        let facing = if lane.speed < 0.0 { -1.0 } else { 1.0 };
        let pose = Pose {
            foot: [x as f32, ground],
            height,
            facing,
            way: phase + x * f64::from(facing) / f64::from(height),
        };
        let figure = Figure::new(class as u32, pose, &mut random);
        let [x1, _, x2, _] = figure.bounds();
        if x2 <= 0.0 || x1 >= self.width as f32 {
            return None;
        }
        // Lane and slot, both small beside these: the number is unique in the scene.
        let object_id = ((lane_index as u64) << 48) | ((slot + (1 << 47)) as u64);
        Some(Actor { object_id, figure })
    }
}
