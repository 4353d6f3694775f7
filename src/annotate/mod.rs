//! Draws what was detected into a picture: boxes with labels, poses, masks, oriented boxes.

mod canvas;
mod font;

pub use canvas::{Canvas, Color};

use canvas::text_size;
use font::Font;

use crate::publish::Object;

/// Which of the 17 points of a COCO pose are joined, in their order in that data set.
const LIMBS: [(usize, usize); 16] = [
    (0, 1),
    (0, 2),
    (1, 3),
    (2, 4),
    (5, 6),
    (5, 7),
    (7, 9),
    (6, 8),
    (8, 10),
    (5, 11),
    (6, 12),
    (11, 12),
    (11, 13),
    (13, 15),
    (12, 14),
    (14, 16),
];
/// Points that are less certain are not drawn.
const POINT_SCORE: f32 = 0.3;
/// Of 256: masks let the picture through.
const MASK_PARTS: u32 = 96;
/// Characters of a label that are drawn.
const LABEL_MAX: usize = 40;

/// A color for each class, far from its neighbours': hues a golden angle apart.
pub fn color(class_id: u32) -> Color {
    let hue = f64::from(class_id) * 0.618_033_988_75 % 1.0 * 6.0;
    let ramp = |shift: f64| {
        let distance = ((hue + shift) % 6.0 - 3.0).abs() - 1.0;
        (distance.clamp(0.0, 1.0) * 255.0) as u8
    };
    [ramp(0.0), ramp(4.0), ramp(2.0)]
}

/// Black or white, whichever is read better on `background`.
fn ink(background: Color) -> Color {
    let [red, green, blue] = background.map(u32::from);
    if 299 * red + 587 * green + 114 * blue > 128_000 { [0; 3] } else { [255; 3] }
}

/// Draws objects, in pixels of the picture, the least certain first.
pub fn draw(canvas: &mut Canvas, objects: &[Object<'_>]) {
    let font = Font::new();
    let thickness = (canvas.width.min(canvas.height) as i64 / 240).clamp(1, 8);
    for object in objects.iter().rev() {
        let color = color(object.class_id);
        if let Some(mask) = object.mask {
            canvas.polygon(mask.polygon, color, MASK_PARTS);
            outline(canvas, mask.polygon, 1, color);
        }
        match object.corners {
            Some(corners) => outline(canvas, &corners, thickness, color),
            None => canvas.frame(object.bbox, thickness, color),
        }
        pose(canvas, object.keypoints, thickness, color);
    }
    // Over everything, so that they can be read.
    let (mut line, whole) = (0, [0.0, 0.0, canvas.width as f32, canvas.height as f32]);
    for object in objects.iter().rev() {
        // What is said of the whole picture is listed below each other.
        let is_whole = object.bbox == whole;
        label(canvas, &font, object, thickness, if is_whole { line } else { 0 });
        line += i64::from(is_whole);
    }
}

fn outline(canvas: &mut Canvas, points: &[[f32; 2]], thickness: i64, color: Color) {
    for (&from, &to) in points.iter().zip(points.iter().cycle().skip(1)) {
        canvas.line(from, to, thickness, color);
    }
}

fn pose(canvas: &mut Canvas, keypoints: &[[f32; 3]], thickness: i64, color: Color) {
    let seen = |index: usize| keypoints.get(index).filter(|point| point[2] >= POINT_SCORE);
    if keypoints.len() == 17 {
        for (from, to) in LIMBS {
            if let (Some(from), Some(to)) = (seen(from), seen(to)) {
                canvas.line([from[0], from[1]], [to[0], to[1]], thickness, color);
            }
        }
    }
    let radius = thickness + 1;
    for [x, y, _] in (0..keypoints.len()).filter_map(seen) {
        let [x, y] = [x, y].map(|side| side.round().clamp(-1e9, 1e9) as i64);
        canvas.fill([x - radius, y - radius, x + radius, y + radius], [255; 3]);
        canvas.fill([x - radius + 1, y - radius + 1, x + radius - 1, y + radius - 1], color);
    }
}

/// `person 0.91` above the box, or in it where there is no room.
fn label(canvas: &mut Canvas, font: &Font, object: &Object<'_>, scale: i64, row: i64) {
    let label: String = object.label.chars().take(LABEL_MAX).collect();
    let text = format!("{label} {:.2}", object.score);
    let (width, height) = text_size(&text, scale);
    let (width, height) = (width + 2 * scale, height + 2 * scale);
    let [left, top] = [object.bbox[0], object.bbox[1]].map(|side| side.round().clamp(-1e9, 1e9) as i64);
    let left = left.min(canvas.width as i64 - width).max(0);
    let top = if top >= height { top - height } else { top + row * height };
    let color = color(object.class_id);
    canvas.fill([left, top, left + width, top + height], color);
    canvas.text(font, &text, [left + scale, top + scale], scale, ink(color));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::Mask;

    #[test]
    fn a_box_is_where_it_is_and_its_label_above_it() {
        let mut canvas = Canvas::new(200, 120);
        draw(&mut canvas, &[Object::new("car", 3, 0.5, [40.0, 50.0, 100.0, 90.0])]);
        let drawn = color(3);
        for (x, y) in [(40, 50), (99, 50), (40, 89), (99, 89), (70, 50), (40, 70)] {
            assert_eq!(canvas.get(x, y), Some(drawn), "{x} {y}");
        }
        for (x, y) in [(70, 70), (39, 70), (100, 70), (70, 90)] {
            assert_eq!(canvas.get(x, y), Some([0; 3]), "{x} {y}");
        }
        // The label's ground and its ink.
        assert_eq!(canvas.get(40, 42), Some(drawn));
        assert!((40..100).any(|x| canvas.get(x, 45) == Some(ink(drawn))));
    }

    #[test]
    fn nothing_that_lies_outside_makes_it_panic() {
        let mut canvas = Canvas::new(60, 40);
        let far = [[-1e9, 5.0, 1.0], [1e9, 1e9, 1.0], [f32::NAN, 0.0, 1.0], [f32::INFINITY, 1.0, 1.0]];
        let polygon = [[-50.0, -50.0], [200.0, 10.0], [30.0, 900.0], [f32::NAN, 3.0]];
        let all: Vec<[f32; 3]> = far.iter().cycle().take(17).copied().collect();
        let boxes =
            [[-100.0, -100.0, 500.0, 500.0], [59.0, 39.0, 59.0, 39.0], [f32::NAN; 4], [9.0, 9.0, 1.0, 1.0]];
        for bbox in boxes {
            let object = Object {
                keypoints: &all,
                mask: Some(Mask { polygon: &polygon }),
                corners: Some([[f32::INFINITY, 1.0]; 4]),
                ..Object::new("名前 \u{1b} long long long long long long long long long", u32::MAX, 0.5, bbox)
            };
            draw(&mut canvas, &[object]);
        }
        draw(&mut Canvas::new(1, 1), &[Object::new("x", 0, 1.0, [0.0, 0.0, 1.0, 1.0])]);
    }

    #[test]
    fn masks_are_filled_and_let_the_picture_through() {
        let mut canvas = Canvas::new(200, 200);
        canvas.pixels.fill(100);
        let polygon = [[50.0, 50.0], [150.0, 50.0], [150.0, 150.0], [50.0, 150.0]];
        let bbox = [50.0, 50.0, 150.0, 150.0];
        let object = Object { mask: Some(Mask { polygon: &polygon }), ..Object::new("m", 0, 0.9, bbox) };
        draw(&mut canvas, &[object]);
        let inside = canvas.get(100, 100).unwrap();
        assert!(inside != [100; 3] && inside != color(0), "{inside:?}");
        assert_eq!(canvas.get(170, 100), Some([100; 3]));
    }

    #[test]
    fn neighbouring_classes_have_other_colors() {
        for class in 0..80_u32 {
            let (a, b) = (color(class), color(class + 1));
            let apart: i32 = a.iter().zip(b).map(|(&a, b)| (i32::from(a) - i32::from(b)).abs()).sum();
            assert!(apart > 150, "{class}: {a:?} {b:?}");
        }
    }
}
