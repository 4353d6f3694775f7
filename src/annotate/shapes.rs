//! Lines, discs, plates and polygons with smooth edges.

use super::canvas::{Canvas, Color, OPAQUE, mix};

/// No picture is as large; what lies further away looks the same.
const FAR: f32 = 1e6;

/// A point that can be drawn; `None` for what is no number.
fn near([x, y]: [f32; 2]) -> Option<[f32; 2]> {
    (!x.is_nan() && !y.is_nan()).then(|| [x.clamp(-FAR, FAR), y.clamp(-FAR, FAR)])
}

/// How much of a pixel is covered whose centre lies `distance` inside an edge, of `parts`.
fn smooth(distance: f32, parts: u32) -> u32 {
    ((distance + 0.5).clamp(0.0, 1.0) * parts as f32) as u32
}

impl Canvas {
    /// A line of `width` pixels with round ends.
    pub fn line(&mut self, from: [f32; 2], to: [f32; 2], width: f32, color: Color, parts: u32) {
        let (Some([ax, ay]), Some([bx, by])) = (near(from), near(to)) else { return };
        let (dx, dy) = (bx - ax, by - ay);
        let length = (dx * dx + dy * dy).max(1e-6);
        let half = width / 2.0;
        let reach = half + 1.0;
        let (top, bottom) = (ay.min(by) - reach, ay.max(by) + reach);
        let rows = top.max(0.0) as i64..(bottom.min(self.height as f32).ceil().max(0.0)) as i64;
        for row in rows {
            let y = row as f32 + 0.5;
            // The part of the line that this row can be near to, and so the columns.
            let along = |y: f32| if dy.abs() < 1e-6 { 0.0 } else { ((y - ay) / dy).clamp(0.0, 1.0) };
            let (one, other) =
                if dy.abs() < 1e-6 { (0.0, 1.0) } else { (along(y - reach), along(y + reach)) };
            let (one, other) = (ax + one * dx, ax + other * dx);
            let (left, right) = (one.min(other) - reach, one.max(other) + reach);
            let first = (left.floor() as i64).max(0);
            for (x, pixel) in (first..).zip(self.span(row, first, right.ceil() as i64)) {
                let (px, py) = (x as f32 + 0.5 - ax, y - ay);
                let share = ((px * dx + py * dy) / length).clamp(0.0, 1.0);
                let distance = (px - share * dx).hypot(py - share * dy);
                mix(pixel, color, smooth(half - distance, parts));
            }
        }
    }

    /// A disc.
    pub fn disc(&mut self, center: [f32; 2], radius: f32, color: Color) {
        self.line(center, center, 2.0 * radius, color, OPAQUE);
    }

    /// A closed line through points.
    pub fn outline(&mut self, points: &[[f32; 2]], width: f32, color: Color) {
        for (&from, &to) in points.iter().zip(points.iter().cycle().skip(1)) {
            self.line(from, to, width, color, OPAQUE);
        }
    }

    /// The rectangle from `(x1, y1)` to before `(x2, y2)` with round corners.
    pub fn plate(&mut self, [x1, y1, x2, y2]: [i64; 4], radius: f32, color: Color, parts: u32) {
        let radius = radius.min((x2 - x1).min(y2 - y1) as f32 / 2.0).max(0.0);
        let (half_width, half_height) = ((x2 - x1) as f32 / 2.0, (y2 - y1) as f32 / 2.0);
        let (middle_x, middle_y) = (x1 as f32 + half_width, y1 as f32 + half_height);
        for y in y1.max(0)..y2.min(self.height as i64) {
            let down = ((y as f32 + 0.5 - middle_y).abs() - half_height + radius).max(0.0);
            let first = x1.max(0);
            for (x, pixel) in (first..).zip(self.span(y, first, x2)) {
                let right = ((x as f32 + 0.5 - middle_x).abs() - half_width + radius).max(0.0);
                mix(pixel, color, smooth(radius - right.hypot(down), parts));
            }
        }
    }

    /// The inside of a polygon, `parts` of 256 of its color.
    pub fn polygon(&mut self, points: &[[f32; 2]], color: Color, parts: u32) {
        let within = |side: f32, most: usize| side.clamp(0.0, most as f32) as usize;
        let mut around = [f32::INFINITY, f32::INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY];
        for [x, y] in points.iter().copied().filter_map(near) {
            around = [around[0].min(x), around[1].min(y), around[2].max(x), around[3].max(y)];
        }
        let (left, top) = (within(around[0], self.width), within(around[1], self.height));
        let (right, bottom) = (within(around[2].ceil(), self.width), within(around[3].ceil(), self.height));
        if left >= right || top >= bottom {
            return;
        }
        let mut raster = std::mem::take(&mut self.raster);
        raster.clear(right - left, bottom - top);
        let moved = |[x, y]: [f32; 2]| [x - left as f32, y - top as f32];
        let corners = || points.iter().copied().filter_map(near).map(moved);
        for (a, b) in corners().zip(corners().cycle().skip(1)) {
            raster.edge(a, b);
        }
        raster.rows(|row, covers| {
            for (pixel, cover) in
                self.span((top + row) as i64, left as i64, right as i64).iter_mut().zip(covers)
            {
                mix(pixel, color, cover * parts / OPAQUE);
            }
        });
        self.raster = raster;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHITE: Color = [255; 3];

    #[test]
    fn a_line_is_as_wide_as_it_is_asked_to_be_and_smooth_at_its_edge() {
        let mut canvas = Canvas::new(40, 40);
        canvas.line([5.0, 20.0], [35.0, 20.0], 4.0, WHITE, OPAQUE);
        let column: Vec<u8> = (15..25).map(|y| canvas.get(20, y).unwrap()[0]).collect();
        assert_eq!(column, [0, 0, 0, 255, 255, 255, 255, 0, 0, 0]);
        let mut canvas = Canvas::new(40, 40);
        canvas.line([2.0, 2.0], [38.0, 31.0], 3.0, WHITE, OPAQUE);
        let sum: u32 = canvas.pixels.iter().step_by(3).map(|&value| u32::from(value)).sum();
        let area = 3.0 * 36.0_f32.hypot(29.0) + std::f32::consts::PI * 1.5 * 1.5;
        assert!((sum as f32 / 255.0 - area).abs() < 3.0, "{sum} {area}");
        let between = canvas.pixels.iter().filter(|&&value| (1..255).contains(&value)).count();
        assert!(between > 100, "{between}: the edge has steps");
    }

    #[test]
    fn a_polygon_fills_its_inside_and_no_more() {
        let mut canvas = Canvas::new(40, 30);
        canvas.polygon(&[[10.0, 5.0], [30.0, 5.0], [30.0, 25.0], [10.0, 25.0]], WHITE, 128);
        assert_eq!(canvas.get(10, 5), Some([128; 3]));
        assert_eq!(canvas.get(29, 24), Some([128; 3]));
        for (x, y) in [(9, 10), (30, 10), (20, 4), (20, 25)] {
            assert_eq!(canvas.get(x, y), Some([0; 3]), "{x} {y}");
        }
    }

    #[test]
    fn a_plate_has_round_corners() {
        let mut canvas = Canvas::new(40, 30);
        canvas.plate([5, 5, 35, 25], 6.0, WHITE, OPAQUE);
        assert_eq!((canvas.get(5, 5), canvas.get(34, 24)), (Some([0; 3]), Some([0; 3])));
        assert_eq!((canvas.get(5, 15), canvas.get(20, 5)), (Some(WHITE), Some(WHITE)));
        assert_eq!(canvas.get(35, 15), Some([0; 3]));
    }
}
