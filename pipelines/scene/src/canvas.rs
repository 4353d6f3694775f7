//! Filled convex shapes on an I420 picture, scan line by scan line.

/// A colour as Y, U, V in BT.601 limited range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ink {
    pub y: u8,
    pub u: u8,
    pub v: u8,
}

impl Ink {
    /// From full-range RGB, by the integer form of the BT.601 matrix.
    pub fn rgb([r, g, b]: [u8; 3]) -> Self {
        let (r, g, b) = (i32::from(r), i32::from(g), i32::from(b));
        Self {
            y: (16 + ((66 * r + 129 * g + 25 * b + 128) >> 8)) as u8,
            u: (128 + ((-38 * r - 74 * g + 112 * b + 128) >> 8)) as u8,
            v: (128 + ((112 * r - 94 * g - 18 * b + 128) >> 8)) as u8,
        }
    }

    /// The same colour with its luma at `share` of what it was.
    pub fn shaded(self, share: f32) -> Self {
        let y = 16.0 + (f32::from(self.y) - 16.0) * share;
        Self { y: y.clamp(16.0, 235.0) as u8, ..self }
    }
}

/// A convex shape in pixels, y downwards.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    Ellipse { centre: [f32; 2], radii: [f32; 2] },
    Capsule { from: [f32; 2], to: [f32; 2], radius: f32 },
    Quad([[f32; 2]; 4]),
}

impl Shape {
    /// The tight box: x1, y1, x2, y2.
    pub fn bounds(&self) -> [f32; 4] {
        match *self {
            Self::Ellipse { centre: [x, y], radii: [rx, ry] } => [x - rx, y - ry, x + rx, y + ry],
            Self::Capsule { from, to, radius } => [
                from[0].min(to[0]) - radius,
                from[1].min(to[1]) - radius,
                from[0].max(to[0]) + radius,
                from[1].max(to[1]) + radius,
            ],
            Self::Quad(corners) => corners.iter().fold(
                [f32::INFINITY, f32::INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY],
                |[x1, y1, x2, y2], &[x, y]| [x1.min(x), y1.min(y), x2.max(x), y2.max(y)],
            ),
        }
    }

    /// Where the horizontal line at `y` is inside: from x to x. `from > to` when nowhere.
    fn span(&self, y: f32) -> (f32, f32) {
        match *self {
            Self::Ellipse { centre, radii } => ellipse_span(centre, radii, y),
            Self::Quad(corners) => quad_span(corners, y),
            Self::Capsule { from, to, radius } => {
                let (a, b) = (ellipse_span(from, [radius; 2], y), ellipse_span(to, [radius; 2], y));
                let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
                let length = (dx * dx + dy * dy).sqrt().max(1e-6);
                let (nx, ny) = (-dy / length * radius, dx / length * radius);
                let side = [
                    [from[0] + nx, from[1] + ny],
                    [to[0] + nx, to[1] + ny],
                    [to[0] - nx, to[1] - ny],
                    [from[0] - nx, from[1] - ny],
                ];
                let c = quad_span(side, y);
                (a.0.min(b.0).min(c.0), a.1.max(b.1).max(c.1))
            }
        }
    }
}

const NOWHERE: (f32, f32) = (f32::INFINITY, f32::NEG_INFINITY);

fn ellipse_span(centre: [f32; 2], radii: [f32; 2], y: f32) -> (f32, f32) {
    let dy = (y - centre[1]) / radii[1];
    if dy.abs() >= 1.0 {
        return NOWHERE;
    }
    let half = radii[0] * (1.0 - dy * dy).sqrt();
    (centre[0] - half, centre[0] + half)
}

fn quad_span(corners: [[f32; 2]; 4], y: f32) -> (f32, f32) {
    let (mut low, mut high) = NOWHERE;
    for index in 0..4 {
        let (a, b) = (corners[index], corners[(index + 1) % 4]);
        if (a[1] <= y) != (b[1] <= y) {
            let x = a[0] + (b[0] - a[0]) * (y - a[1]) / (b[1] - a[1]);
            low = low.min(x);
            high = high.max(x);
        }
    }
    (low, high)
}

/// A tightly packed I420 picture to draw on.
pub struct Canvas<'a> {
    luma: &'a mut [u8],
    u: &'a mut [u8],
    v: &'a mut [u8],
    width: usize,
    height: usize,
    gain: f32,
}

impl<'a> Canvas<'a> {
    /// Draws on `i420`, every colour's luma times `gain`.
    pub fn new(i420: &'a mut [u8], width: usize, height: usize, gain: f32) -> Self {
        let (luma, chroma) = i420.split_at_mut(width * height);
        let (u, v) = chroma.split_at_mut(width * height / 4);
        Self { luma, u, v, width, height, gain }
    }

    /// Fills a shape. Its left and right edges are smooth: a partly covered sample is mixed.
    pub fn fill(&mut self, shape: &Shape, ink: Ink) {
        let ink = ink.shaded(self.gain);
        let [_, top, _, bottom] = shape.bounds();
        let rows = |scale: f32, limit: usize| {
            let first = (top * scale).floor().clamp(0.0, limit as f32) as usize;
            first..(bottom * scale).ceil().clamp(0.0, limit as f32) as usize
        };
        for row in rows(1.0, self.height) {
            let (from, to) = shape.span(row as f32 + 0.5);
            let line = &mut self.luma[row * self.width..(row + 1) * self.width];
            fill_line(line, from, to, ink.y);
        }
        let half = self.width / 2;
        for row in rows(0.5, self.height / 2) {
            let (from, to) = shape.span(row as f32 * 2.0 + 1.0);
            let line = row * half..(row + 1) * half;
            fill_line(&mut self.u[line.clone()], from / 2.0, to / 2.0, ink.u);
            fill_line(&mut self.v[line], from / 2.0, to / 2.0, ink.v);
        }
    }

    /// Fills an upright box given as x1, y1, x2, y2.
    pub fn fill_box(&mut self, [x1, y1, x2, y2]: [f32; 4], ink: Ink) {
        self.fill(&Shape::Quad([[x1, y1], [x2, y1], [x2, y2], [x1, y2]]), ink);
    }

    /// Takes the colour out of a box (x, y, width, height in pixels).
    pub fn neutral_chroma(&mut self, [x, y, width, height]: [usize; 4]) {
        let half = self.width / 2;
        for row in y / 2..(y + height).div_ceil(2).min(self.height / 2) {
            let line = row * half + x / 2..row * half + (x + width).div_ceil(2).min(half);
            self.u[line.clone()].fill(128);
            self.v[line].fill(128);
        }
    }
}

fn fill_line(line: &mut [u8], from: f32, to: f32, value: u8) {
    let (from, to) = (from.max(0.0), to.min(line.len() as f32));
    if from >= to {
        return;
    }
    let (first, last) = (from.floor() as usize, (to.ceil() as usize - 1).min(line.len() - 1));
    if first == last {
        line[first] = mix(line[first], value, to - from);
        return;
    }
    line[first] = mix(line[first], value, (first + 1) as f32 - from);
    line[first + 1..last].fill(value);
    line[last] = mix(line[last], value, to - last as f32);
}

fn mix(under: u8, over: u8, share: f32) -> u8 {
    (f32::from(under) + (f32::from(over) - f32::from(under)) * share + 0.5) as u8
}
