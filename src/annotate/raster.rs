//! Which part of each pixel lies inside an outline, exactly: glyphs and masks have smooth edges.
//!
//! Every edge adds to the cells that it crosses how much more of them, and of everything to their right, is covered. The
//! running sum of a row is then the winding number, averaged over each pixel. Overlaps of the same direction count once.

/// Edges are added, rows are read. Its memory grows to the largest outline, which its users bound by the picture.
#[derive(Debug, Clone, Default)]
pub struct Raster {
    width: usize,
    height: usize,
    /// `width + 2` cells a row: the last ones take what lies right of everything.
    cells: Vec<f32>,
}

impl Raster {
    /// Empties it for outlines inside `width` by `height` pixels.
    pub fn clear(&mut self, width: usize, height: usize) {
        (self.width, self.height) = (width, height);
        self.cells.clear();
        self.cells.resize((width + 2) * height, 0.0);
    }

    /// One edge of a closed outline, from `a` to `b`; parts outside are cut off rightly, ends that are no numbers are left out.
    pub fn edge(&mut self, a: [f32; 2], b: [f32; 2]) {
        if a[1] == b[1] || ![a, b].as_flattened().iter().all(|value| value.is_finite()) {
            return;
        }
        let (direction, upper, lower) = if a[1] < b[1] { (1.0, a, b) } else { (-1.0, b, a) };
        let slope = (lower[0] - upper[0]) / (lower[1] - upper[1]);
        let at = |y: f32| (upper[0] + (y - upper[1]) * slope).clamp(0.0, self.width as f32);
        let first = upper[1].max(0.0) as usize;
        let last = lower[1].ceil().clamp(0.0, self.height as f32) as usize;
        for row in first..last {
            let (top, bottom) = (upper[1].max(row as f32), lower[1].min(row as f32 + 1.0));
            let (from, to) = (at(top), at(bottom));
            let cells = &mut self.cells[row * (self.width + 2)..(row + 1) * (self.width + 2)];
            cross(cells, from.min(to), from.max(to), (bottom - top) * direction);
        }
    }

    /// Shows how much of each pixel is covered, 0..=256, row by row.
    pub fn rows(&self, mut show: impl FnMut(usize, &mut dyn Iterator<Item = u32>)) {
        for (row, cells) in self.cells.chunks_exact(self.width + 2).enumerate() {
            let mut sum = 0.0;
            let mut covers = cells[..self.width].iter().map(|cell| {
                sum += cell;
                (f32::abs(sum).min(1.0) * 256.0 + 0.5) as u32
            });
            show(row, &mut covers);
        }
    }
}

/// An edge inside one row, from column `from` to `to`, that covers `height` of the row.
fn cross(cells: &mut [f32], from: f32, to: f32, height: f32) {
    let (first, last) = (from as usize, to as usize);
    for cell in first..=last {
        let (left, right) = (from.max(cell as f32), to.min(cell as f32 + 1.0));
        let share = if last == first { height } else { height * (right - left) / (to - from) };
        let middle = (left + right) / 2.0 - cell as f32;
        cells[cell] += share * (1.0 - middle);
        cells[cell + 1] += share * middle;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(points: &[[f32; 2]], width: usize, height: usize) -> Vec<Vec<u32>> {
        let mut raster = Raster::default();
        raster.clear(width, height);
        for (&a, &b) in points.iter().zip(points.iter().cycle().skip(1)) {
            raster.edge(a, b);
        }
        let mut rows = Vec::new();
        raster.rows(|_, covers| rows.push(covers.collect()));
        rows
    }

    #[test]
    fn a_square_between_pixels_covers_the_parts_that_it_covers() {
        let rows = covers(&[[0.5, 0.25], [2.5, 0.25], [2.5, 2.0], [0.5, 2.0]], 4, 3);
        assert_eq!(rows, [[96, 192, 96, 0], [128, 256, 128, 0], [0, 0, 0, 0]]);
    }

    #[test]
    fn a_triangle_has_its_area_and_overlaps_count_once() {
        let rows = covers(&[[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]], 12, 12);
        let area: u32 = rows.concat().iter().sum();
        assert!((area as f32 / 256.0 - 50.0).abs() < 0.2, "{area}");
        let twice = [[1.0, 1.0], [3.0, 1.0], [3.0, 3.0], [1.0, 3.0]].repeat(2);
        assert_eq!(covers(&twice, 4, 4)[1], [0, 256, 256, 0]);
    }

    #[test]
    fn what_lies_outside_is_cut_off_rightly() {
        let rows = covers(&[[-50.0, -50.0], [50.0, -50.0], [50.0, 50.0], [-50.0, 50.0]], 3, 2);
        assert_eq!(rows, [[256, 256, 256], [256, 256, 256]]);
        let rows = covers(&[[-3.0, 0.0], [-1.0, 0.0], [-1.0, 2.0], [-3.0, 2.0]], 3, 2);
        assert_eq!(rows.concat(), [0; 6]);
        let _no_panic = covers(&[[f32::NAN, 0.0], [1e30, -1e30], [f32::INFINITY, 3.0], [1e9, 1e9]], 3, 2);
    }
}
