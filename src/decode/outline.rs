//! From the prototypes of a segmentation model to the outline of one object.
//!
//! Source: YOLACT (D. Bolya and others, 2019), section 3: the mask is `sigmoid(sum of coefficient_k * prototype_k)`,
//! cropped to the object's box, and what is above 0.5 belongs to it: so the sum's zero line is its border. The border
//! is followed around the pixels of the prototypes that are inside, and each of its points is put where the sum,
//! interpolated between the inner and the outer pixel, is zero. That is the line one gets by enlarging the prototypes to
//! the picture first, without the work. Of several pieces the largest is kept; holes are not told.

use super::details::OUTLINE_MAX;
use crate::engine::TensorView;

/// Points of a border before it is simplified: more only where a mask is noise.
const BORDER_MAX: usize = 4096;
/// Distance in prototype pixels by which the simplified outline may be off. It grows until the points suffice.
const TOLERANCE: f32 = 0.2;

/// Where a neighbour lies: above, right, below, left. The next one is clockwise.
const STEPS: [(isize, isize); 4] = [(0, -1), (1, 0), (0, 1), (-1, 0)];

/// The part of the prototypes that one object covers.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    left: usize,
    top: usize,
    columns: usize,
    rows: usize,
}

/// Finds outlines. Buffers are made once.
#[derive(Debug)]
pub(super) struct Outliner {
    /// The sum over the window.
    field: Vec<f32>,
    /// Pixels whose upper border has been walked.
    walked: Vec<bool>,
    border: Vec<[f32; 2]>,
    kept: Vec<bool>,
    spans: Vec<(u32, u32)>,
    window: Window,
}

/// A pixel inside and the side on which its neighbour is outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Side {
    x: isize,
    y: isize,
    out: usize,
}

impl Outliner {
    /// For prototypes of at most `pixels` in all.
    pub fn new(pixels: usize) -> Self {
        Self {
            field: Vec::with_capacity(pixels),
            walked: Vec::with_capacity(pixels),
            border: Vec::with_capacity(BORDER_MAX),
            kept: Vec::with_capacity(BORDER_MAX),
            spans: Vec::with_capacity(BORDER_MAX),
            window: Window::default(),
        }
    }

    pub fn buffer_bytes(&self) -> usize {
        self.field.capacity() * size_of::<f32>()
            + self.walked.capacity()
            + self.border.capacity() * size_of::<[f32; 2]>()
            + self.kept.capacity()
            + self.spans.capacity() * size_of::<(u32, u32)>()
    }

    /// Appends the outline of the mask within `bbox` to `out`, at most [`OUTLINE_MAX`] points. `scale` is tensor pixels
    /// per prototype pixel; the box and the outline are in tensor pixels.
    pub fn outline(
        &mut self,
        prototypes: &TensorView<'_>,
        coefficient: impl Fn(usize) -> f32,
        bbox: [f32; 4],
        scale: [f32; 2],
        out: &mut Vec<[f32; 2]>,
    ) {
        if !self.sum(prototypes, coefficient, bbox, scale) {
            return;
        }
        let Some(start) = self.largest() else { return };
        self.border.clear();
        let mut side = start;
        loop {
            self.border.push(self.crossing(side));
            side = self.next(side);
            if side == start || self.border.len() == BORDER_MAX {
                break;
            }
        }
        self.simplify();
        let (left, top) = (self.window.left as f32, self.window.top as f32);
        let points = self.border.iter().zip(&self.kept).filter(|(_, kept)| **kept);
        out.extend(points.take(OUTLINE_MAX).map(|(&[x, y], _)| {
            [((x + left) * scale[0]).clamp(bbox[0], bbox[2]), ((y + top) * scale[1]).clamp(bbox[1], bbox[3])]
        }));
    }

    /// Sums the prototypes over the window around the box; false where there is none.
    fn sum(
        &mut self,
        prototypes: &TensorView<'_>,
        coefficient: impl Fn(usize) -> f32,
        bbox: [f32; 4],
        scale: [f32; 2],
    ) -> bool {
        let &[_, count, height, width] = prototypes.shape else { return false };
        // One pixel more on each side: the border may run between the last pixel inside and the next.
        let span = |low: f32, high: f32, scale: f32, size: usize| {
            let first = (low / scale - 1.0).floor().max(0.0) as usize;
            let end = ((high / scale + 1.0).ceil().max(0.0) as usize).min(size);
            (first.min(end), end)
        };
        let ((left, right), (top, bottom)) =
            (span(bbox[0], bbox[2], scale[0], width), span(bbox[1], bbox[3], scale[1], height));
        self.window = Window { left, top, columns: right - left, rows: bottom - top };
        let pixels = self.window.columns * self.window.rows;
        if pixels == 0 || pixels > self.field.capacity() {
            return false;
        }
        self.field.clear();
        self.field.resize(pixels, 0.0);
        for k in 0..count {
            let factor = coefficient(k);
            let plane = &prototypes.data[k * height * width..][..height * width];
            for (row, sums) in self.field.chunks_exact_mut(self.window.columns).enumerate() {
                let values = &plane[(top + row) * width + left..][..sums.len()];
                for (sum, &value) in sums.iter_mut().zip(values) {
                    *sum += factor * value;
                }
            }
        }
        true
    }

    fn value(&self, x: isize, y: isize) -> Option<f32> {
        let (columns, rows) = (self.window.columns as isize, self.window.rows as isize);
        let there = (0..columns).contains(&x) && (0..rows).contains(&y);
        there.then(|| self.field[(y * columns + x) as usize])
    }

    fn inside(&self, x: isize, y: isize) -> bool {
        self.value(x, y).is_some_and(|value| value > 0.0)
    }

    /// Where between a pixel and its outer neighbour the sum is zero; halfway at the end of the window.
    fn crossing(&self, side: Side) -> [f32; 2] {
        let (step_x, step_y) = STEPS[side.out];
        let inner = self.value(side.x, side.y).unwrap_or(0.0);
        let outer = self.value(side.x + step_x, side.y + step_y);
        let share = outer.map(|outer| inner / (inner - outer)).filter(|share| (0.0..=1.0).contains(share));
        let share = share.unwrap_or(0.5);
        // The value of a pixel sits at its centre.
        let at = |pixel: isize, step: isize| pixel as f32 + 0.5 + step as f32 * share;
        [at(side.x, step_x), at(side.y, step_y)]
    }

    /// The next side clockwise along the border.
    fn next(&self, side: Side) -> Side {
        let (out_x, out_y) = STEPS[side.out];
        let (on_x, on_y) = STEPS[(side.out + 1) % 4];
        let (x, y) = (side.x + on_x, side.y + on_y);
        if !self.inside(x, y) {
            return Side { out: (side.out + 1) % 4, ..side };
        }
        if self.inside(x + out_x, y + out_y) {
            return Side { x: x + out_x, y: y + out_y, out: (side.out + 3) % 4 };
        }
        Side { x, y, out: side.out }
    }

    /// A side on the border of the largest piece. Every border has an upper side; that of a hole turns the other way, so
    /// that its area is negative.
    fn largest(&mut self) -> Option<Side> {
        let (columns, rows) = (self.window.columns as isize, self.window.rows as isize);
        self.walked.clear();
        self.walked.resize(self.field.len(), false);
        let mut best: Option<(f32, Side)> = None;
        for y in 0..rows {
            for x in 0..columns {
                let start = Side { x, y, out: 0 };
                if !self.inside(x, y) || self.inside(x, y - 1) || self.walked[(y * columns + x) as usize] {
                    continue;
                }
                let area = self.walk(start);
                if best.is_none_or(|(most, _)| area > most) && area > 0.0 {
                    best = Some((area, start));
                }
            }
        }
        best.map(|(_, side)| side)
    }

    /// Walks one border and returns twice the area that it encloses.
    fn walk(&mut self, start: Side) -> f32 {
        let columns = self.window.columns as isize;
        let (mut side, mut area) = (start, 0.0);
        let mut from = self.crossing(start);
        loop {
            if side.out == 0 {
                self.walked[(side.y * columns + side.x) as usize] = true;
            }
            side = self.next(side);
            let to = self.crossing(side);
            area += from[0] * to[1] - to[0] * from[1];
            from = to;
            if side == start {
                return area;
            }
        }
    }

    /// Douglas and Peucker's simplification: marks in `kept` the points that have to stay.
    fn simplify(&mut self) {
        let len = self.border.len();
        let mut tolerance = TOLERANCE;
        loop {
            self.kept.clear();
            self.kept.resize(len, false);
            self.kept[0] = true;
            // The border is closed: it is split at its first point and the one farthest from it.
            let far = (0..len).max_by(|&a, &b| self.apart(0, a).total_cmp(&self.apart(0, b))).unwrap_or(0);
            self.kept[far] = true;
            self.spans.clear();
            self.spans.push((0, far as u32));
            self.spans.push((far as u32, len as u32));
            while let Some((first, end)) = self.spans.pop() {
                let (first, end) = (first as usize, end as usize);
                let distance = |index: usize| self.off(first, end % len, index);
                let worst = (first + 1..end).max_by(|&a, &b| distance(a).total_cmp(&distance(b)));
                if let Some(worst) = worst.filter(|&worst| distance(worst) > tolerance) {
                    self.kept[worst] = true;
                    self.spans.push((first as u32, worst as u32));
                    self.spans.push((worst as u32, end as u32));
                }
            }
            if self.kept.iter().filter(|kept| **kept).count() <= OUTLINE_MAX {
                return;
            }
            tolerance *= 1.5;
        }
    }

    fn apart(&self, a: usize, b: usize) -> f32 {
        let ([ax, ay], [bx, by]) = (self.border[a], self.border[b]);
        (ax - bx).hypot(ay - by)
    }

    /// Distance of a point from the line between two others.
    fn off(&self, first: usize, last: usize, index: usize) -> f32 {
        let length = self.apart(first, last);
        if length < 1e-6 {
            return self.apart(first, index);
        }
        let ([ax, ay], [bx, by], [x, y]) = (self.border[first], self.border[last], self.border[index]);
        ((bx - ax) * (ay - y) - (ax - x) * (by - ay)).abs() / length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One prototype of 20x20 pixels that is positive where `inside` says so.
    fn outline_of(inside: impl Fn(f32, f32) -> f32, bbox: [f32; 4], scale: f32) -> Vec<[f32; 2]> {
        let data: Vec<f32> =
            (0..400).map(|at| inside((at % 20) as f32 + 0.5, (at / 20) as f32 + 0.5)).collect();
        let prototypes = TensorView { name: "p", shape: &[1, 1, 20, 20], data: &data };
        let mut outliner = Outliner::new(400);
        let before = outliner.buffer_bytes();
        let mut out = Vec::new();
        outliner.outline(&prototypes, |_| 1.0, bbox, [scale; 2], &mut out);
        assert_eq!(outliner.buffer_bytes(), before);
        out
    }

    fn area(points: &[[f32; 2]]) -> f32 {
        let next = points.iter().cycle().skip(1);
        points.iter().zip(next).map(|(a, b)| a[0] * b[1] - b[0] * a[1]).sum::<f32>() / 2.0
    }

    #[test]
    fn a_disc_is_a_disc_in_tensor_pixels() {
        let points = outline_of(|x, y| 6.0 - (x - 9.0).hypot(y - 10.0), [0.0, 0.0, 80.0, 80.0], 4.0);
        assert!((8..=OUTLINE_MAX).contains(&points.len()), "{}", points.len());
        for [x, y] in &points {
            let radius = (x - 36.0).hypot(y - 40.0);
            assert!((radius - 24.0).abs() < 1.0, "{radius}");
        }
        let expected = std::f32::consts::PI * 24.0 * 24.0;
        assert!((area(&points) / expected - 1.0).abs() < 0.03, "{} {expected}", area(&points));
    }

    #[test]
    fn the_mask_ends_at_the_box_and_at_the_picture() {
        let all = outline_of(|_, _| 1.0, [8.0, 12.0, 40.0, 32.0], 4.0);
        assert!((area(&all) - 32.0 * 20.0).abs() < 1.0, "{all:?}");
        let edge = outline_of(|_, _| 1.0, [0.0, 0.0, 80.0, 80.0], 4.0);
        assert!((area(&edge) - 6400.0).abs() < 40.0, "{edge:?}");
    }

    #[test]
    fn the_largest_piece_is_kept_without_its_hole() {
        let pieces = |x: f32, y: f32| {
            let ring = (5.0 - (x - 12.0).hypot(y - 12.0)).min((x - 12.0).hypot(y - 12.0) - 2.0);
            ring.max(1.5 - (x - 3.0).hypot(y - 3.0))
        };
        let points = outline_of(pieces, [0.0, 0.0, 20.0, 20.0], 1.0);
        let expected = std::f32::consts::PI * 25.0;
        assert!((area(&points) / expected - 1.0).abs() < 0.06, "{}", area(&points));
    }

    #[test]
    fn nothing_noise_and_nonsense_are_survived() {
        let whole = [0.0, 0.0, 20.0, 20.0];
        assert_eq!(outline_of(|_, _| -1.0, whole, 1.0), [[0.0; 2]; 0]);
        assert_eq!(outline_of(|_, _| f32::NAN, whole, 1.0), [[0.0; 2]; 0]);
        assert_eq!(outline_of(|_, _| 1.0, [50.0, 50.0, 60.0, 60.0], 1.0), [[0.0; 2]; 0]);
        let one = outline_of(|x, y| if (x, y) == (4.5, 4.5) { 1.0 } else { -1.0 }, whole, 1.0);
        assert_eq!(one.len(), 4, "{one:?}");
        let noise = outline_of(|x, y| (x * 12.9898 + y * 78.233).sin() * 43.5, whole, 1.0);
        assert!(noise.len() <= OUTLINE_MAX && noise.iter().flatten().all(|v| v.is_finite()));
        // Every second pixel: the longest border there can be.
        let comb = outline_of(|x, y| if y > 18.0 || x as i32 % 2 == 0 { 1.0 } else { -1.0 }, whole, 1.0);
        assert!((1..=OUTLINE_MAX).contains(&comb.len()), "{}", comb.len());
        let infinite = outline_of(|_, _| f32::INFINITY, whole, 1.0);
        assert!(infinite.iter().flatten().all(|v| v.is_finite()), "{infinite:?}");
    }
}
