//! People, cars and dogs: stylised figures of convex parts, as seen from the side.

use crate::canvas::{Canvas, Ink, Shape};
use crate::random::{Random, cosine, sine};

const PARTS_MAX: usize = 32;

/// Where a figure stands and how it moves at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Pose {
    /// The middle of its foot line, in pixels.
    pub foot: [f32; 2],
    /// Its height in pixels.
    pub height: f32,
    /// 1 when it looks to the right, -1 to the left.
    pub facing: f32,
    /// The way it has come since the scene began, in its own heights: drives limbs and wheels.
    pub way: f64,
}

/// An object that is ready to be painted. Parts lie in painting order.
#[derive(Debug, Clone)]
pub struct Figure {
    class_id: u32,
    pose: Pose,
    parts: [(Shape, Ink); PARTS_MAX],
    part_count: usize,
    bounds: [f32; 4],
}

/// Width over height of the widest figure of each class.
pub const ASPECT_MAX: [f32; 3] = [0.62, 2.6, 1.62];

impl Figure {
    /// A figure of class `class_id`; `looks` decides its colours and proportions.
    pub fn new(class_id: u32, pose: Pose, looks: &mut Random) -> Self {
        let nothing = (Shape::Ellipse { centre: [0.0; 2], radii: [0.0; 2] }, Ink::default());
        let bounds = [f32::INFINITY, f32::INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY];
        let mut figure = Self { class_id, pose, parts: [nothing; PARTS_MAX], part_count: 0, bounds };
        match class_id {
            0 => figure.person(looks),
            1 => figure.car(looks),
            _ => figure.dog(looks),
        }
        figure
    }

    /// Index into [`crate::LABELS`].
    pub fn class_id(&self) -> u32 {
        self.class_id
    }

    /// The tight box of all parts, not clipped: x1, y1, x2, y2 in pixels.
    pub fn bounds(&self) -> [f32; 4] {
        self.bounds
    }

    /// Draws the figure.
    pub fn paint(&self, canvas: &mut Canvas<'_>) {
        for (shape, ink) in &self.parts[..self.part_count] {
            canvas.fill(shape, *ink);
        }
    }

    /// From figure units (one height, x forward, y up from the ground) to pixels.
    fn pixel(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        let Pose { foot, height, facing, .. } = self.pose;
        [foot[0] + x * facing * height, foot[1] - y * height]
    }

    fn add(&mut self, shape: Shape, ink: Ink) {
        let [x1, y1, x2, y2] = shape.bounds();
        let all = self.bounds;
        self.bounds = [all[0].min(x1), all[1].min(y1), all[2].max(x2), all[3].max(y2)];
        self.parts[self.part_count] = (shape, ink);
        self.part_count += 1;
    }

    fn ellipse(&mut self, centre: [f32; 2], radii: [f32; 2], ink: Ink) {
        let radii = radii.map(|radius| radius * self.pose.height);
        self.add(Shape::Ellipse { centre: self.pixel(centre), radii }, ink);
    }

    fn limb(&mut self, from: [f32; 2], to: [f32; 2], radius: f32, ink: Ink) {
        let radius = radius * self.pose.height;
        self.add(Shape::Capsule { from: self.pixel(from), to: self.pixel(to), radius }, ink);
    }

    fn quad(&mut self, corners: [[f32; 2]; 4], ink: Ink) {
        self.add(Shape::Quad(corners.map(|corner| self.pixel(corner))), ink);
    }

    fn person(&mut self, looks: &mut Random) {
        let skin = Ink::rgb(looks.pick(&[[236, 200, 170], [214, 164, 124], [156, 104, 70], [98, 62, 44]]));
        let hair = Ink::rgb(looks.pick(&[
            [40, 28, 20],
            [90, 56, 30],
            [200, 160, 80],
            [150, 150, 150],
            [120, 40, 20],
        ]));
        let shirt = Ink::rgb(looks.pick(&SHIRTS));
        let trousers = Ink::rgb(looks.pick(&TROUSERS));
        let shoes = Ink::rgb(looks.pick(&[[20, 20, 20], [240, 240, 240], [110, 50, 30]]));
        let build = looks.between(0.85, 1.15);
        let backpack = looks.chance(0.3).then(|| Ink::rgb(looks.pick(&SHIRTS)));

        let stride = sine(self.pose.way * 0.9);
        let (near_leg, far_leg) = (0.15 * stride, -0.15 * stride);
        self.leg(far_leg, build, trousers.shaded(0.75), shoes);
        self.limb([0.0, 0.76], [0.14 * stride, 0.46], 0.036, shirt.shaded(0.75));
        self.leg(near_leg, build, trousers, shoes);
        if let Some(ink) = backpack {
            self.ellipse([-0.12 * build, 0.66], [0.075, 0.13], ink);
        }
        let (shoulder, hip) = (0.115 * build, 0.095 * build);
        self.ellipse([0.0, 0.775], [shoulder, 0.05], shirt);
        self.quad([[-shoulder, 0.775], [shoulder, 0.775], [hip, 0.45], [-hip, 0.45]], shirt);
        self.limb([0.0, 0.84], [0.0, 0.80], 0.035, skin.shaded(0.9));
        self.ellipse([-0.012, 0.915], [0.078, 0.083], hair);
        self.ellipse([0.018, 0.895], [0.066, 0.078], skin);
        let hand = [-0.15 * stride, 0.46 + 0.03 * stride.abs()];
        self.limb([0.0, 0.76], hand, 0.038, shirt.shaded(0.88));
        self.ellipse(hand, [0.036, 0.036], skin);
    }

    fn leg(&mut self, reach: f32, build: f32, trousers: Ink, shoes: Ink) {
        self.limb([0.0, 0.46], [reach, 0.07], 0.056 * build, trousers);
        self.ellipse([reach + 0.03, 0.03], [0.07, 0.03], shoes);
    }

    fn car(&mut self, looks: &mut Random) {
        let paint = Ink::rgb(looks.pick(&PAINTS));
        let glass = Ink::rgb(looks.pick(&[[60, 80, 100], [150, 190, 215], [35, 40, 50]]));
        let half = looks.between(1.02, 1.28);
        // The cabin's corners: back below, back above, front above, front below.
        let cabin = match looks.weighted([0.5, 0.3, 0.2]) {
            0 => [-0.70, -0.45, 0.22, 0.58],
            1 => [-0.93, -0.82, 0.18, 0.55],
            _ => [-0.96, -0.93, 0.42, 0.78],
        }
        .map(|x: f32| x * half);
        let [back, roof_back, roof_front, front] = cabin;
        self.quad([[back, 0.6], [roof_back, 1.0], [roof_front, 1.0], [front, 0.6]], paint);
        let pane = |share: f32, y: f32| {
            let low = back + (front - back) * share;
            let high = roof_back + (roof_front - roof_back) * share;
            [low + (high - low) * (y - 0.6) / 0.4, y]
        };
        for (from, to) in [(0.10, 0.46), (0.53, 0.90)] {
            self.quad([pane(from, 0.64), pane(from, 0.92), pane(to, 0.92), pane(to, 0.64)], glass);
        }
        self.quad([[-half, 0.26], [-half, 0.55], [half, 0.50], [half, 0.26]], paint);
        self.quad([[-half, 0.54], [-half * 0.96, 0.64], [half * 0.86, 0.60], [half, 0.49]], paint);
        self.quad([[-half, 0.18], [-half, 0.27], [half, 0.27], [half, 0.18]], paint.shaded(0.5));
        self.limb([-0.02, 0.60], [-0.02, 0.30], 0.01, paint.shaded(0.6));
        self.ellipse([half - 0.07, 0.46], [0.07, 0.06], Ink::rgb([255, 250, 210]));
        self.ellipse([-half + 0.06, 0.50], [0.06, 0.06], Ink::rgb([200, 20, 20]));
        // A wheel's circumference is 2 pi r.
        let turn = self.pose.way / (std::f64::consts::TAU * 0.2);
        for axle in [-0.6 * half, 0.6 * half] {
            self.ellipse([axle, 0.2], [0.2, 0.2], Ink::rgb([25, 25, 28]));
            self.ellipse([axle, 0.2], [0.11, 0.11], Ink::rgb([190, 190, 195]));
            for spoke in [0.0, 0.25] {
                let (x, y) = (0.09 * cosine(turn + spoke), -0.09 * sine(turn + spoke));
                self.limb([axle - x, 0.2 - y], [axle + x, 0.2 + y], 0.018, Ink::rgb([70, 70, 75]));
            }
        }
    }

    fn dog(&mut self, looks: &mut Random) {
        let coat = Ink::rgb(looks.pick(&COATS));
        let ears = coat.shaded(looks.pick(&[0.6, 0.85, 1.2]));
        let collar = Ink::rgb(looks.pick(&[[200, 30, 30], [30, 60, 200], [240, 200, 30]]));
        let stout = looks.between(0.9, 1.15);
        let long = looks.between(0.92, 1.12);
        let (rump, chest) = (-0.40 * long, 0.30 * long);
        let trot = self.pose.way * 0.8;
        let step = |offset: f64| 0.13 * sine(trot + offset);
        for (joint, offset) in [(rump, 0.5), (chest, 0.0)] {
            self.limb([joint, 0.5], [joint + step(offset), 0.05], 0.05, coat.shaded(0.7));
        }
        let wag = 0.1 * sine(trot * 1.7);
        self.limb([rump - 0.08, 0.62], [rump - 0.26, 0.84 + wag], 0.035, coat);
        self.limb([rump, 0.56], [chest, 0.58], 0.155 * stout, coat);
        for (joint, offset) in [(rump - 0.03, 0.0), (chest + 0.02, 0.5)] {
            self.limb([joint, 0.5], [joint + step(offset), 0.05], 0.055, coat);
        }
        self.limb([chest + 0.02, 0.62], [chest + 0.17, 0.80], 0.10, coat);
        self.limb([chest + 0.07, 0.76], [chest + 0.18, 0.66], 0.025, collar);
        self.limb([chest + 0.28, 0.80], [chest + 0.45, 0.765], 0.06, coat);
        self.ellipse([chest + 0.23, 0.845], [0.15, 0.135], coat);
        self.ellipse([chest + 0.12, 0.82], [0.055, 0.14], ears);
        self.ellipse([chest + 0.48, 0.79], [0.035, 0.03], Ink::rgb([15, 15, 15]));
        self.ellipse([chest + 0.29, 0.87], [0.022, 0.022], Ink::rgb([10, 10, 10]));
    }
}

const SHIRTS: [[u8; 3]; 10] = [
    [200, 40, 40],
    [40, 90, 200],
    [240, 240, 240],
    [30, 30, 34],
    [250, 200, 40],
    [40, 150, 80],
    [230, 120, 30],
    [130, 60, 160],
    [240, 150, 180],
    [90, 190, 210],
];
const TROUSERS: [[u8; 3]; 6] =
    [[30, 40, 80], [25, 25, 28], [120, 100, 70], [70, 90, 130], [190, 180, 160], [80, 85, 60]];
const PAINTS: [[u8; 3]; 10] = [
    [190, 25, 30],
    [25, 70, 170],
    [235, 235, 238],
    [20, 20, 24],
    [150, 155, 160],
    [240, 190, 30],
    [30, 110, 60],
    [220, 100, 30],
    [90, 160, 200],
    [110, 40, 60],
];
// No greys: a grey dog on a road would be there for nobody.
const COATS: [[u8; 3]; 6] =
    [[120, 74, 40], [35, 30, 28], [250, 247, 242], [190, 140, 80], [150, 60, 30], [236, 190, 110]];
