//! What does not move: sky, houses, the lanes' grounds, and things that are no objects (trees, poles, boxes).

use crate::canvas::{Canvas, Ink, Shape};
use crate::random::Random;
use crate::street::{Ground, Lane, Street};
use crate::{SceneOptions, frame_bytes};

/// Draws the picture without objects as tightly packed I420.
pub fn draw(options: &SceneOptions, street: &Street) -> Vec<u8> {
    let (width, height) = (options.width as usize, options.height as usize);
    let mut i420 = vec![128; frame_bytes(options.width, options.height)];
    let mut random = Random::of(options.seed, &[3]);
    let mut canvas = Canvas::new(&mut i420, width, height, 1.0);
    let size = [width as f32, height as f32];
    let horizon = street.lanes[0].baseline - street.lanes[0].height * random.between(0.2, 0.5);
    sky(&mut canvas, size, horizon, &mut random);
    houses(&mut canvas, size[0], horizon, &mut random);
    let mut top = horizon;
    for lane in &street.lanes {
        let bottom = lane.baseline + lane.height * 0.06;
        ground(&mut canvas, lane, [0.0, top, size[0], size[1]], &mut random);
        for _ in 0..2 + random.bits() % 3 {
            // Behind the far lane things may be high; in the others they must end below the next lane's feet, or
            // what passes there would seem to walk in front of what stands nearer.
            let (x, depth) = (random.between(0.0, size[0]), lane.baseline - top);
            let (y, room) = if top == horizon {
                (top + depth * random.between(0.0, 0.25), lane.height)
            } else {
                let share = random.between(0.4, 0.75);
                (top + depth * share, depth * share * 0.72)
            };
            distractor(&mut canvas, [x, y], room, &mut random);
        }
        top = bottom;
    }
    texture(&mut i420[..width * height], width, &mut random);
    i420
}

fn sky(canvas: &mut Canvas<'_>, [width, _]: [f32; 2], horizon: f32, random: &mut Random) {
    let zenith: [u8; 3] = random.pick(&[[90, 140, 210], [150, 170, 190], [190, 195, 200], [120, 110, 140]]);
    let bands = 24;
    for band in 0..bands {
        let share = band as f32 / bands as f32;
        let colour = zenith.map(|channel| (f32::from(channel) + (232.0 - f32::from(channel)) * share) as u8);
        let y = horizon * share;
        canvas.fill_box([0.0, y, width, horizon + 1.0], Ink::rgb(colour));
    }
}

fn houses(canvas: &mut Canvas<'_>, width: f32, horizon: f32, random: &mut Random) {
    let mut x = -width * random.between(0.0, 0.1);
    while x < width {
        let house = [x, horizon * random.between(0.1, 0.7), x + width * random.between(0.06, 0.2), horizon];
        x = house[2] + width * random.between(0.0, 0.12);
        let wall = hazy(random.pick(&[
            [150, 90, 70],
            [180, 170, 150],
            [120, 120, 125],
            [200, 190, 170],
            [95, 105, 120],
            [170, 140, 100],
        ]));
        canvas.fill_box(house, wall);
        let pane = hazy(random.pick(&[[60, 70, 85], [200, 205, 190], [90, 110, 130]]));
        let cell = horizon * random.between(0.12, 0.2);
        let mut y = house[1] + cell * 0.4;
        while y + cell * 0.5 < house[3] {
            let mut left = house[0] + cell * 0.4;
            while left + cell * 0.4 < house[2] {
                canvas.fill_box([left, y, left + cell * 0.35, y + cell * 0.5], pane);
                left += cell;
            }
            y += cell;
        }
    }
}

/// A colour seen from afar: what passes before the houses stands out from them.
fn hazy(colour: [u8; 3]) -> Ink {
    Ink::rgb(colour.map(|channel| (f32::from(channel) * 0.58 + 215.0 * 0.42) as u8))
}

fn ground(canvas: &mut Canvas<'_>, lane: &Lane, [x1, y1, x2, y2]: [f32; 4], random: &mut Random) {
    let colour = match lane.ground {
        Ground::Road => random.pick(&[[85, 85, 88], [105, 103, 100], [70, 72, 78]]),
        Ground::Pavement => random.pick(&[[170, 165, 155], [150, 148, 145], [185, 170, 150]]),
        Ground::Grass => random.pick(&[[90, 130, 60], [110, 140, 80], [130, 135, 75]]),
    };
    let ink = Ink::rgb(colour);
    let depth = lane.baseline - y1;
    for band in 0..8 {
        let share = band as f32 / 8.0;
        canvas.fill_box([x1, y1 + depth * share, x2, y2], ink.shaded(0.92 + 0.14 * share));
    }
    let thin = (lane.height * 0.025).max(1.0);
    match lane.ground {
        Ground::Road => {
            canvas.fill_box([x1, y1, x2, y1 + thin], Ink::rgb([190, 188, 182]));
            let (dash, y) = (lane.height * random.between(0.4, 0.7), lane.baseline - depth * 0.3);
            let mut x = -dash * random.unit();
            while x < x2 {
                canvas.fill_box([x, y, x + dash * 0.5, y + thin * 1.4], Ink::rgb([225, 222, 205]));
                x += dash;
            }
        }
        Ground::Pavement => {
            let mut x = x1 + lane.height * random.unit();
            while x < x2 {
                canvas.fill_box([x, y1, x + thin * 0.6, lane.baseline], ink.shaded(0.8));
                x += lane.height * 0.6;
            }
            canvas.fill_box([x1, y1, x2, y1 + thin], ink.shaded(0.75));
        }
        Ground::Grass => {
            for _ in 0..40 {
                let x = random.between(x1, x2);
                let y = random.between(y1 + thin * 4.0, lane.baseline.max(y1 + thin * 5.0));
                canvas.fill_box([x, y - thin * 3.0, x + thin, y], ink.shaded(random.between(0.75, 1.25)));
            }
        }
    }
}

/// A thing that stands about and is none of the classes; `room` is the lane's height in pixels.
fn distractor(canvas: &mut Canvas<'_>, [x, y]: [f32; 2], room: f32, random: &mut Random) {
    let size = room * random.between(0.5, 1.1);
    let trunk = Ink::rgb([95, 70, 50]);
    let leaves = Ink::rgb(random.pick(&[[60, 110, 50], [90, 130, 60], [120, 120, 50], [50, 90, 60]]));
    let metal = Ink::rgb(random.pick(&[[110, 112, 115], [60, 62, 66], [170, 172, 176]]));
    match random.weighted([0.3, 0.2, 0.2, 0.15, 0.15]) {
        0 => {
            canvas.fill_box([x - size * 0.05, y - size * 0.6, x + size * 0.05, y], trunk);
            for (dx, dy, radius) in [(-0.18, 0.6, 0.24), (0.18, 0.62, 0.24), (0.0, 0.8, 0.28)] {
                let centre = [x + dx * size, y - dy * size];
                let shape = Shape::Ellipse { centre, radii: [radius * size; 2] };
                canvas.fill(&shape, leaves.shaded(random.between(0.85, 1.15)));
            }
        }
        1 => {
            canvas.fill_box([x - size * 0.025, y - size * 1.2, x + size * 0.025, y], metal);
            let lamp = Shape::Ellipse { centre: [x, y - size * 1.2], radii: [size * 0.09, size * 0.05] };
            canvas.fill(&lamp, Ink::rgb([235, 225, 180]));
        }
        2 => {
            let paint = Ink::rgb(random.pick(&[
                [150, 120, 80],
                [170, 60, 50],
                [70, 90, 120],
                [200, 180, 60],
                [90, 120, 90],
            ]));
            let half = size * random.between(0.15, 0.35);
            let top = y - size * random.between(0.3, 0.6);
            canvas.fill_box([x - half, top, x + half, y], paint);
            canvas.fill_box([x - half, top, x + half, top + size * 0.06], paint.shaded(0.7));
        }
        3 => {
            for dx in [-0.2, 0.0, 0.22] {
                let shape = Shape::Ellipse {
                    centre: [x + dx * size, y - size * 0.12],
                    radii: [size * 0.22, size * 0.16],
                };
                canvas.fill(&shape, leaves.shaded(random.between(0.8, 1.1)));
            }
        }
        _ => {
            canvas.fill_box([x - size * 0.02, y - size * 0.9, x + size * 0.02, y], metal);
            let sign =
                Ink::rgb(random.pick(&[[200, 40, 40], [40, 80, 170], [235, 235, 235], [240, 190, 40]]));
            let half = size * random.between(0.10, 0.18);
            canvas.fill_box([x - half, y - size * 0.95, x + half, y - size * 0.65], sign);
        }
    }
}

/// Lays patches of light and shade and fine grain over the luma.
fn texture(luma: &mut [u8], width: usize, random: &mut Random) {
    let height = luma.len() / width;
    let patch = (height / 8).max(8);
    let (columns, rows) = (width / patch + 2, height / patch + 2);
    let lattice: Vec<f32> = (0..columns * rows).map(|_| random.between(-10.0, 10.0)).collect();
    let grain = random.between(1.5, 4.0);
    for (y, line) in luma.chunks_exact_mut(width).enumerate() {
        let (row, down) = (y / patch, (y % patch) as f32 / patch as f32);
        for (x, sample) in line.iter_mut().enumerate() {
            let (column, along) = (x / patch, (x % patch) as f32 / patch as f32);
            let at = |c: usize, r: usize| lattice[r * columns + c];
            let above = at(column, row) * (1.0 - along) + at(column + 1, row) * along;
            let below = at(column, row + 1) * (1.0 - along) + at(column + 1, row + 1) * along;
            let shade = above * (1.0 - down) + below * down + grain * random.between(-1.0, 1.0);
            *sample = (f32::from(*sample) + shade).clamp(16.0, 235.0) as u8;
        }
    }
}
