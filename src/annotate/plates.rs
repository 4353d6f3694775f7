//! Labels: where each has room, inside the picture and beside the labels of better objects.

use super::canvas::Canvas;

/// Labels that others are kept clear of; of more, the rest lies where it lies.
const PLACED_MAX: usize = 256;

/// Where labels lie already.
#[derive(Debug, Default)]
pub(super) struct Plates {
    placed: Vec<[i64; 4]>,
}

impl Plates {
    pub fn clear(&mut self) {
        self.placed.clear();
    }

    /// The place of a label of this size for a box: above it, in it, below it, wherever it covers no other label; inside
    /// the picture in any case.
    pub fn place(
        &mut self,
        canvas: &Canvas,
        [x1, y1, x2, y2]: [i64; 4],
        [width, height]: [i64; 2],
    ) -> [i64; 4] {
        let (right, bottom) = ((canvas.width as i64 - width).max(0), (canvas.height as i64 - height).max(0));
        let at = |x: i64, y: i64| {
            let (x, y) = (x.clamp(0, right), y.clamp(0, bottom));
            [x, y, x + width, y + height]
        };
        let wanted = if y1 >= height { at(x1, y1 - height) } else { at(x1, y1) };
        let choices = [
            wanted,
            at(x1, y1),
            at(x2 - width, y1 - height),
            at(x1, y2),
            at(x2 - width, y2 - height),
            at(x1, y1 + height),
        ];
        let is_free = |place: &&[i64; 4]| !self.placed.iter().any(|other| overlap(place, other));
        let place = choices.iter().find(is_free).copied().unwrap_or(wanted);
        if self.placed.len() < PLACED_MAX {
            self.placed.push(place);
        }
        place
    }
}

fn overlap(a: &[i64; 4], b: &[i64; 4]) -> bool {
    a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_stay_inside_and_clear_of_each_other() {
        let canvas = Canvas::new(400, 300);
        let mut plates = Plates::default();
        assert_eq!(plates.place(&canvas, [50, 60, 150, 200], [80, 20]), [50, 40, 130, 60]);
        let second = plates.place(&canvas, [52, 61, 150, 200], [80, 20]);
        assert!(!overlap(&second, &[50, 40, 130, 60]), "{second:?}");
        for bbox in
            [[390, 5, 400, 20], [-40, -40, 500, 500], [0, 290, 400, 300], [i64::MIN / 4, 0, i64::MAX / 4, 9]]
        {
            let [x1, y1, x2, y2] = plates.place(&canvas, bbox, [80, 20]);
            assert!(x1 >= 0 && y1 >= 0 && x2 <= 400 && y2 <= 300, "{bbox:?}");
        }
        // A label larger than the picture begins at its left.
        assert_eq!(plates.place(&Canvas::new(30, 10), [5, 5, 9, 9], [80, 20])[..2], [0, 0]);
    }
}
