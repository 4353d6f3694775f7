//! Draws what was detected into a picture: boxes with labels, trails, poses, masks, oriented boxes, zones.
//!
//! For people who look at pictures, not for the daemon: nothing here is on the way of a frame, and fonts are read by
//! whoever makes a [`Painter`], when it is made.

mod bitmap;
mod canvas;
mod fonts;
mod palette;
mod plates;
mod raster;
mod rgb;
mod scene;
mod shapes;
mod text;
#[cfg(test)]
mod text_tests;
mod trails;

pub use canvas::{Canvas, Color, OPAQUE};
pub use palette::color;
pub use scene::Surroundings;
pub use text::Missing;

use std::fmt::Write as _;

use canvas::whole;
use palette::ink;
use plates::Plates;
use text::Typesetter;
use trails::Trails;

use crate::publish::Object;

/// Which of the 17 points of a COCO pose are joined, in their order in that data set, and their side.
const LIMBS: [(usize, usize, Side); 16] = [
    (0, 1, Side::Left),
    (0, 2, Side::Right),
    (1, 3, Side::Left),
    (2, 4, Side::Right),
    (5, 6, Side::Middle),
    (5, 7, Side::Left),
    (7, 9, Side::Left),
    (6, 8, Side::Right),
    (8, 10, Side::Right),
    (5, 11, Side::Left),
    (6, 12, Side::Right),
    (11, 12, Side::Middle),
    (11, 13, Side::Left),
    (13, 15, Side::Left),
    (12, 14, Side::Right),
    (14, 16, Side::Right),
];

/// Of the person, not of the picture.
#[derive(Clone, Copy)]
enum Side {
    Left,
    Right,
    Middle,
}

impl Side {
    fn color(self) -> Color {
        match self {
            Self::Left => [86, 180, 233],
            Self::Right => [230, 159, 0],
            Self::Middle => [240, 240, 240],
        }
    }
}

/// Points that are less certain are not drawn.
const POINT_SCORE: f32 = 0.3;
/// Of 256: masks let the picture through.
const MASK_PARTS: u32 = 104;
/// Of 256: the dark line around a box, by which it is seen on a ground of its own color.
const HALO_PARTS: u32 = 110;

/// Sizes of what is drawn, from the picture's: what is read on a small one is read on a large one.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// Of a box.
    line: i64,
    /// Of letters.
    text: f32,
}

impl Sizes {
    fn of(canvas: &Canvas) -> Self {
        let side = canvas.width.min(canvas.height) as f32;
        let text = (side / 42.0).clamp(11.0, 64.0).round();
        Self { line: ((side / 260.0).round() as i64).clamp(1, 10), text }
    }
}

/// Draws. One for all pictures of a run: it keeps fonts, written labels and trails, all of bounded size.
#[derive(Debug)]
pub struct Painter {
    typesetter: Typesetter,
    plates: Plates,
    trails: Trails,
    /// Being put together.
    numbers: String,
    points: Vec<[f32; 2]>,
}

impl Painter {
    /// For texts that will be drawn, most of all a model's labels. Reads fonts of this box.
    pub fn new<'a>(texts: impl Iterator<Item = &'a str> + Clone) -> Self {
        Self::with(Typesetter::for_texts(texts))
    }

    fn with(typesetter: Typesetter) -> Self {
        Self {
            typesetter,
            plates: Plates::default(),
            trails: Trails::default(),
            numbers: String::new(),
            points: Vec::new(),
        }
    }

    /// Which characters of some texts no font of this box draws.
    pub fn missing<'a>(&mut self, texts: impl Iterator<Item = &'a str>) -> Option<Missing> {
        self.typesetter.missing(texts)
    }

    /// Pictures of another input follow: trails end.
    pub fn begin_input(&mut self) {
        self.trails.clear();
    }

    /// Draws zones, lines and objects, in pixels of the picture, the least certain first.
    pub fn draw(&mut self, canvas: &mut Canvas, surroundings: &Surroundings, objects: &[Object<'_>]) {
        let sizes = Sizes::of(canvas);
        self.typesetter.set_size(sizes.text);
        self.plates.clear();
        scene::draw(canvas, surroundings, sizes.line, &mut self.points);
        self.draw_trails(canvas, objects, sizes);
        for object in objects.iter().rev() {
            shape(canvas, object, sizes);
        }
        for object in objects.iter().rev() {
            pose(canvas, object.keypoints, sizes);
        }
        // Over everything, so that they can be read; the most certain has the best place.
        objects.iter().for_each(|object| self.label(canvas, object));
        let size = [canvas.width as f32, canvas.height as f32];
        scene::names(surroundings, size, |name, at, color| self.name(canvas, name, at, color));
    }

    fn draw_trails(&mut self, canvas: &mut Canvas, objects: &[Object<'_>], sizes: Sizes) {
        self.trails.begin();
        for object in objects {
            let [x1, _, x2, y2] = object.bbox;
            if let Some(id) = object.track_id {
                self.trails.add(id, object.class_id, [(x1 + x2) / 2.0, y2]);
            }
        }
        for trail in self.trails.iter() {
            let (color, count) = (color(trail.class_id), trail.points.len());
            for (index, pair) in trail.points.windows(2).enumerate() {
                // What is long ago fades.
                let parts = OPAQUE * (index as u32 + 1) / count as u32;
                canvas.line(pair[0], pair[1], sizes.line as f32 * 1.2, color, parts);
            }
        }
    }

    /// `person 0.91 #7` on a plate of the class's color.
    fn label(&mut self, canvas: &mut Canvas, object: &Object<'_>) {
        self.numbers.clear();
        let _never_fails = write!(self.numbers, "{:.2}", object.score);
        if let Some(id) = object.track_id {
            let _never_fails = write!(self.numbers, " #{id}");
        }
        let numbers = std::mem::take(&mut self.numbers);
        let ground = color(object.class_id);
        self.plate(canvas, object.label, &numbers, object.bbox.map(whole), ground);
        self.numbers = numbers;
    }

    fn name(&mut self, canvas: &mut Canvas, name: &str, [x, y]: [f32; 2], color: Color) {
        let (x, y) = (whole(x), whole(y));
        self.plate(canvas, name, "", [x, y, x, y], color);
    }

    /// A name and numbers on a plate for a box. The numbers are whole also where the name has no room.
    fn plate(&mut self, canvas: &mut Canvas, name: &str, numbers: &str, bbox: [i64; 4], ground: Color) {
        let height = self.typesetter.line_height() as i64;
        let margin = (height / 5).max(2);
        let name = self.typesetter.ink(name);
        let digit =
            |typesetter: &mut Typesetter, character: char| typesetter.ink(character.encode_utf8(&mut [0; 4]));
        let numbers_width: i64 =
            numbers.chars().map(|character| digit(&mut self.typesetter, character).advance as i64).sum();
        let between = if numbers.is_empty() || name.width == 0 { 0 } else { margin };
        let room = (canvas.width as i64 - numbers_width - between - 2 * margin).max(0);
        let name_width = (name.width as i64).min(room);
        let width = name_width + between + numbers_width + 2 * margin;
        let [left, top, right, bottom] = self.plates.place(canvas, bbox, [width, height]);
        canvas.plate([left, top, right, bottom], margin as f32, ground, 232);
        let ink = ink(ground);
        canvas.ink(&name, [left + margin, top], name_width, ink);
        let mut x = left + margin + name_width + between;
        for character in numbers.chars() {
            let digit = digit(&mut self.typesetter, character);
            canvas.ink(&digit, [x, top], digit.width as i64, ink);
            x += digit.advance as i64;
        }
    }
}

/// Mask, box or oriented box.
fn shape(canvas: &mut Canvas, object: &Object<'_>, sizes: Sizes) {
    let color = color(object.class_id);
    if let Some(mask) = object.mask {
        canvas.polygon(mask.polygon, color, MASK_PARTS);
        canvas.outline(mask.polygon, (sizes.line as f32 * 0.75).max(1.0), color);
    }
    match object.corners {
        Some(corners) => canvas.outline(&corners, sizes.line as f32, color),
        None => {
            let [x1, y1, x2, y2] = object.bbox;
            canvas.frame([x1 - 1.0, y1 - 1.0, x2 + 1.0, y2 + 1.0], 1, [0; 3], HALO_PARTS);
            canvas.frame(object.bbox, sizes.line, color, OPAQUE);
        }
    }
}

fn pose(canvas: &mut Canvas, keypoints: &[[f32; 3]], sizes: Sizes) {
    let seen = |index: usize| keypoints.get(index).filter(|point| point[2] >= POINT_SCORE);
    let width = sizes.line as f32;
    if keypoints.len() == 17 {
        for (from, to, side) in LIMBS {
            if let (Some(from), Some(to)) = (seen(from), seen(to)) {
                canvas.line([from[0], from[1]], [to[0], to[1]], width, side.color(), OPAQUE);
            }
        }
    }
    for &[x, y, _] in (0..keypoints.len()).filter_map(seen) {
        canvas.disc([x, y], width + 1.0, [0; 3]);
        canvas.disc([x, y], width * 0.8 + 0.4, [255; 3]);
    }
}

#[cfg(test)]
mod tests;
