//! PURE: polygons and line segments in a picture, and the questions that zones, lines and masks ask them.
//!
//! Coordinates are fractions of the picture, `[x, y]` with `[0, 0]` the upper left and `[1, 1]` the lower right corner:
//! they mean the same whatever resolution a camera sends. Nothing here allocates but [`Polygon::new`].

/// A point, as fractions of the picture's width and height.
pub type Point = [f32; 2];

/// Most points of one polygon.
pub const POINTS_MAX: usize = 64;
/// Less than this of the picture is no area: a thousandth of a pixel of a 4K picture.
const AREA_MIN: f64 = 1e-10;

/// Why points are no polygon; the end of a sentence that begins with its name.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ShapeError {
    /// Fewer than three corners.
    #[error("has {0} points, but a polygon has at least 3")]
    TooFew(usize),
    /// More than are looked at for every object of every frame.
    #[error(
        "has {0} points, more than the {POINTS_MAX} that a polygon may have: leave out what is nearly straight"
    )]
    TooMany(usize),
    /// Not in the picture.
    #[error("has a point outside the picture: point {0} of the list")]
    Outside(usize),
    /// Two corners in one place.
    #[error("has the same point twice: points {0} and {1} of the list")]
    Twice(usize, usize),
    /// Two sides meet where they should not.
    #[error(
        "crosses itself: the side that begins at point {0} meets the one that begins at point {1}; list the corners in \
         their order along the outline"
    )]
    Crossed(usize, usize),
    /// All corners on one line.
    #[error("has no area: its points lie on one line")]
    Flat,
}

/// A polygon that does not cross itself, of 3 to [`POINTS_MAX`] corners.
#[derive(Debug, Clone, PartialEq)]
pub struct Polygon {
    points: Box<[Point]>,
    /// `[x1, y1, x2, y2]`
    bounds: [f32; 4],
}

impl Polygon {
    /// The polygon with these corners, in either direction. A last point that repeats the first is left out.
    ///
    /// # Errors
    /// [`ShapeError`], with the first thing that is wrong; points are counted from 1.
    pub fn new(points: &[Point]) -> Result<Self, ShapeError> {
        let points = match points {
            [first, corners @ .., last] if first == last && !corners.is_empty() => {
                &points[..points.len() - 1]
            }
            all => all,
        };
        match points.len() {
            few @ ..3 => return Err(ShapeError::TooFew(few)),
            many if many > POINTS_MAX => return Err(ShapeError::TooMany(many)),
            _ => {}
        }
        let inside = |point: &Point| point.iter().all(|side| (0.0..=1.0).contains(side));
        if let Some(index) = points.iter().position(|point| !inside(point)) {
            return Err(ShapeError::Outside(index + 1));
        }
        for (index, point) in points.iter().enumerate() {
            if let Some(same) = points[..index].iter().position(|earlier| earlier == point) {
                return Err(ShapeError::Twice(same + 1, index + 1));
            }
        }
        if signed_area(points).abs() < AREA_MIN && points.iter().all(|&point| is_flat(points, point)) {
            return Err(ShapeError::Flat);
        }
        if let Some((first, second)) = first_crossing(points) {
            return Err(ShapeError::Crossed(first + 1, second + 1));
        }
        if signed_area(points).abs() < AREA_MIN {
            return Err(ShapeError::Flat);
        }
        let bounds = points.iter().fold([f32::MAX, f32::MAX, f32::MIN, f32::MIN], |bounds, point| {
            let [x, y] = *point;
            [bounds[0].min(x), bounds[1].min(y), bounds[2].max(x), bounds[3].max(y)]
        });
        Ok(Self { points: points.into(), bounds })
    }

    /// Its corners, in order.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// Its sides.
    pub fn sides(&self) -> impl Iterator<Item = (Point, Point)> + '_ {
        let next = self.points.iter().cycle().skip(1);
        self.points.iter().copied().zip(next.copied())
    }

    /// Whether a point is inside. Of a point on the outline either may be said, but of two polygons that share a side
    /// never both.
    pub fn contains(&self, [x, y]: Point) -> bool {
        let [x1, y1, x2, y2] = self.bounds;
        // Written so that what is not a number is outside.
        if !(x >= x1 && x <= x2 && y >= y1 && y <= y2) {
            return false;
        }
        let crossed = self.sides().filter(|&([ax, ay], [bx, by])| {
            (ay > y) != (by > y) && {
                let along = (f64::from(y) - f64::from(ay)) / (f64::from(by) - f64::from(ay));
                f64::from(x) < f64::from(ax) + along * (f64::from(bx) - f64::from(ax))
            }
        });
        crossed.count() % 2 == 1
    }

    /// Whether a point is inside or at most `distance` pixels from the outline, in a picture of `size` pixels.
    pub fn contains_within(&self, point: Point, distance: f32, size: [f32; 2]) -> bool {
        self.contains(point)
            || self.sides().any(|(a, b)| {
                let [a, b, point] = [a, b, point].map(|at| scaled(at, size));
                squared_distance(point, a, b) <= f64::from(distance) * f64::from(distance)
            })
    }

    /// How much of a box is inside, 0..=1. A box without area counts as its middle.
    pub fn covered(&self, [x1, y1, x2, y2]: [f32; 4]) -> f32 {
        let area = (f64::from(x2) - f64::from(x1)) * (f64::from(y2) - f64::from(y1));
        if area.is_nan() || area <= 0.0 {
            return if self.contains([(x1 + x2) / 2.0, (y1 + y2) / 2.0]) { 1.0 } else { 0.0 };
        }
        let [left, top, right, bottom] = self.bounds;
        if x1 >= right || x2 <= left || y1 >= bottom || y2 <= top {
            return 0.0;
        }
        let bbox = [x1, y1, x2, y2].map(f64::from);
        // Above every x of the box lies a stretch of the polygon from one side to the next: what of it is in the box is
        // the difference of the sides' heights, held within the box. Added up along the outline, with the direction of
        // each side as its sign, that is the area in common.
        let common: f64 = self.sides().map(|(a, b)| below(a.map(f64::from), b.map(f64::from), &bbox)).sum();
        (common.abs() / area).clamp(0.0, 1.0) as f32
    }
}

/// The area between a side and the upper edge of the box, within the box; negative for a side that goes left.
fn below([ax, ay]: [f64; 2], [bx, by]: [f64; 2], [x1, y1, x2, y2]: &[f64; 4]) -> f64 {
    let (from, to) = (ax.min(bx).max(*x1), ax.max(bx).min(*x2));
    if from >= to {
        return 0.0;
    }
    let slope = (by - ay) / (bx - ax);
    let (from_y, to_y) = (ay + (from - ax) * slope, ay + (to - ax) * slope);
    let height = y2 - y1;
    // The integral of the height held within the box, over the height.
    let integral = |y: f64| match y - y1 {
        under if under <= 0.0 => 0.0,
        within if within <= height => within * within / 2.0,
        over => height * height / 2.0 + height * (over - height),
    };
    let rise = to_y - from_y;
    let mean = if rise.abs() < 1e-12 {
        ((from_y + to_y) / 2.0 - y1).clamp(0.0, height)
    } else {
        (integral(to_y) - integral(from_y)) / rise
    };
    mean * (to - from) * (bx - ax).signum()
}

/// A directed segment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Segment {
    /// Where it begins.
    pub from: Point,
    /// Where it ends.
    pub to: Point,
}

/// On which hand a point lies for somebody who stands at the beginning of a segment and looks at its end, in the picture
/// as one sees it (y grows downwards).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hand {
    /// On the left.
    Left,
    /// On the right, or on the line itself.
    Right,
}

impl Segment {
    /// On which hand a point lies of the line through the segment. Every point has one, so a path changes hands an odd
    /// number of times exactly if it ends on another than it began.
    pub fn hand(&self, point: Point) -> Hand {
        if cross(self.from, self.to, point) < 0.0 { Hand::Left } else { Hand::Right }
    }

    /// The hand on which a step from `a` to `b` ends, if it goes through the segment, its ends included. A step that
    /// only touches the line from the right does not go through it.
    pub fn crossed_by(&self, a: Point, b: Point) -> Option<Hand> {
        let (before, after) = (self.hand(a), self.hand(b));
        if before == after {
            return None;
        }
        let (at_a, at_b) = (cross(self.from, self.to, a), cross(self.from, self.to, b));
        let share = at_a / (at_a - at_b);
        let [dx, dy] = difference(self.from, self.to);
        let at = |axis: usize| f64::from(a[axis]) + share * (f64::from(b[axis]) - f64::from(a[axis]));
        let [from_x, from_y] = self.from.map(f64::from);
        let along = ((at(0) - from_x) * dx + (at(1) - from_y) * dy) / (dx * dx + dy * dy);
        (0.0..=1.0).contains(&along).then_some(after)
    }

    /// How far a point is from the line through the segment, in pixels of a picture of `size` pixels.
    pub fn distance(&self, point: Point, size: [f32; 2]) -> f32 {
        let [from, to, point] = [self.from, self.to, point].map(|at| scaled(at, size));
        let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
        let twice_area = dx * (point[1] - from[1]) - dy * (point[0] - from[0]);
        (twice_area.abs() / dx.hypot(dy)) as f32
    }
}

fn scaled(point: Point, size: [f32; 2]) -> [f64; 2] {
    [f64::from(point[0]) * f64::from(size[0]), f64::from(point[1]) * f64::from(size[1])]
}

fn difference(from: Point, to: Point) -> [f64; 2] {
    [f64::from(to[0]) - f64::from(from[0]), f64::from(to[1]) - f64::from(from[1])]
}

/// Twice the area of the triangle; its sign says on which side of `a` to `b` the point `c` lies.
fn cross(a: Point, b: Point, c: Point) -> f64 {
    let ([bx, by], [cx, cy]) = (difference(a, b), difference(a, c));
    bx * cy - by * cx
}

fn signed_area(points: &[Point]) -> f64 {
    let next = points.iter().cycle().skip(1);
    points.iter().zip(next).map(|(&a, &b)| cross([0.0; 2], a, b)).sum::<f64>() / 2.0
}

/// Whether a point lies on the line through the first two.
fn is_flat(points: &[Point], point: Point) -> bool {
    cross(points[0], points[1], point).abs() < AREA_MIN
}

/// The first two sides that meet elsewhere than in the corner they share.
fn first_crossing(points: &[Point]) -> Option<(usize, usize)> {
    let count = points.len();
    let side = |index: usize| (points[index], points[(index + 1) % count]);
    let pairs = (0..count).flat_map(|first| (first + 1..count).map(move |second| (first, second)));
    pairs.into_iter().find(|&(first, second)| {
        let ((a, b), (c, d)) = (side(first), side(second));
        if second == first + 1 {
            folds_back(a, b, d)
        } else if (second + 1) % count == first {
            folds_back(c, a, b)
        } else {
            meet((a, b), (c, d))
        }
    })
}

/// Whether the way from `a` to `b` and on to `c` turns round on itself.
fn folds_back(a: Point, b: Point, c: Point) -> bool {
    let ([x1, y1], [x2, y2]) = (difference(b, a), difference(b, c));
    cross(b, a, c) == 0.0 && x1 * x2 + y1 * y2 > 0.0
}

/// Whether two segments have a point in common.
fn meet((a, b): (Point, Point), (c, d): (Point, Point)) -> bool {
    let turn = |a, b, c| {
        let turn = cross(a, b, c);
        if turn == 0.0 { 0 } else { turn.signum() as i32 }
    };
    let (c_of, d_of, a_of, b_of) = (turn(a, b, c), turn(a, b, d), turn(c, d, a), turn(c, d, b));
    let within = |from: Point, to: Point, at: Point| {
        (0..2).all(|axis| from[axis].min(to[axis]) <= at[axis] && at[axis] <= from[axis].max(to[axis]))
    };
    (c_of * d_of < 0 && a_of * b_of < 0)
        || (c_of == 0 && within(a, b, c))
        || (d_of == 0 && within(a, b, d))
        || (a_of == 0 && within(c, d, a))
        || (b_of == 0 && within(c, d, b))
}

fn squared_distance([x, y]: [f64; 2], [ax, ay]: [f64; 2], [bx, by]: [f64; 2]) -> f64 {
    let (dx, dy) = (bx - ax, by - ay);
    let along = ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy);
    let along = along.clamp(0.0, 1.0);
    let (off_x, off_y) = (x - ax - along * dx, y - ay - along * dy);
    off_x * off_x + off_y * off_y
}

#[cfg(test)]
mod tests;
