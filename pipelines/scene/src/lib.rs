//! A procedural video scene with known truth, rendered as I420.
//!
//! A street with three lanes, on which people, cars and dogs pass by. Everything (colours, sizes, speeds,
//! background, light) follows from the seed, and any frame can be rendered without the ones before it, so
//! whoever knows the seed and reads the frame number off the picture ([`stamp`]) knows what is to be seen
//! ([`Scene::truth`]) and can say how much of it a detector found ([`score`]).
//!
//! Pixels are BT.601 limited range. Only IEEE-exact arithmetic is used (no libm), so the bytes of a frame are
//! the same on every machine.
//!
//! ```
//! use watchpost_scene::{Scene, SceneOptions, frame_bytes, stamp};
//!
//! let scene = Scene::new(SceneOptions { seed: 1, width: 320, height: 180, fps: 15 });
//! let mut i420 = vec![0; frame_bytes(320, 180)];
//! scene.render(42, &mut i420);
//! assert_eq!(stamp::read(&i420[..320 * 180], 320, 320, 180), Some(42));
//! assert!(scene.truth(42).len() <= 8);
//! ```
#![forbid(unsafe_code)]

mod background;
mod canvas;
mod figure;
mod random;
pub mod score;
pub mod stamp;
mod street;

use canvas::Canvas;
use street::Street;

/// The classes of the scene, by class id.
pub const LABELS: [&str; 3] = ["person", "car", "dog"];

/// The most objects that are in the picture at one time.
pub const OBJECTS_MAX: usize = 8;

/// What makes one scene: two scenes of the same options show the same pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SceneOptions {
    /// Decides everything that is drawn by chance.
    pub seed: u64,
    /// Width of the picture in pixels: even, 96..=8192.
    pub width: u32,
    /// Height of the picture in pixels: even, 96..=8192.
    pub height: u32,
    /// Frames a second, 1..=240: how far things move between two frames.
    pub fps: u32,
}

/// Options no scene can be made of; says which one is wrong and what it may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidOptions(String);

impl std::fmt::Display for InvalidOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidOptions {}

impl SceneOptions {
    /// Says whether [`Scene::new`] accepts these options.
    ///
    /// # Errors
    /// The first option that is out of range, with the range.
    pub fn validate(&self) -> Result<(), InvalidOptions> {
        for (name, value) in [("width", self.width), ("height", self.height)] {
            if !value.is_multiple_of(2) || !(96..=8192).contains(&value) {
                let text =
                    format!("the scene's {name} is {value}, but must be an even number from 96 to 8192");
                return Err(InvalidOptions(text));
            }
        }
        if !(1..=240).contains(&self.fps) {
            let text = format!("the scene's fps is {}, but must be from 1 to 240", self.fps);
            return Err(InvalidOptions(text));
        }
        Ok(())
    }
}

/// One object that is in the picture.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Truth {
    /// Index into [`LABELS`].
    pub class_id: u32,
    /// Name of the class.
    pub label: &'static str,
    /// The object's tight box as x1, y1, x2, y2 in pixels, clipped to the frame.
    pub bbox: [f32; 4],
    /// The part of the object's full box that is inside the frame and not behind a nearer object's box, 0..=1.
    pub visible: f32,
}

/// Bytes of one tightly packed I420 frame: luma, then U, then V at half size both ways. Sizes must be even.
pub const fn frame_bytes(width: u32, height: u32) -> usize {
    let luma = width as usize * height as usize;
    luma + luma / 2
}

/// A scene, ready to render any of its frames.
#[derive(Debug, Clone)]
pub struct Scene {
    options: SceneOptions,
    street: Street,
    /// The picture without objects, in I420: drawn once, copied into every frame.
    background: Vec<u8>,
    has_stamp: bool,
}

impl Scene {
    /// Lays out the street and draws its background (some milliseconds).
    ///
    /// # Panics
    /// When the options are out of range: odd sizes, sizes outside 96..=8192, fps outside 1..=240. Whoever takes
    /// options from outside asks [`SceneOptions::validate`] first.
    pub fn new(options: SceneOptions) -> Self {
        if let Err(wrong) = options.validate() {
            panic!("{wrong}");
        }
        let street = Street::new(&options);
        let background = background::draw(&options, &street);
        Self { options, street, background, has_stamp: true }
    }

    /// The same street on a quiet day: something in `crowd` (0..=1) of the places that pass by, 0.8 in [`Scene::new`], and
    /// no frame number, so that nothing moves while nobody is there. The light still drifts.
    ///
    /// # Panics
    /// As [`Scene::new`].
    pub fn quiet(options: SceneOptions, crowd: f32) -> Self {
        let Self { options, street, background, .. } = Self::new(options);
        Self { options, street: street.with_crowd(crowd), background, has_stamp: false }
    }

    /// The options the scene was made of.
    pub fn options(&self) -> SceneOptions {
        self.options
    }

    /// Draws frame `frame_number` into `i420`, which is tightly packed and of [`frame_bytes`] length. Allocates
    /// nothing.
    ///
    /// # Panics
    /// When `i420` is of another length.
    pub fn render(&self, frame_number: u32, i420: &mut [u8]) {
        let (width, height) = (self.options.width as usize, self.options.height as usize);
        assert_eq!(
            i420.len(),
            self.background.len(),
            "the frame buffer must be width * height * 3 / 2 bytes"
        );
        let seconds = self.seconds(frame_number);
        let gain = self.street.light(seconds);
        self.lay_background(gain, i420);
        let mut canvas = Canvas::new(i420, width, height, gain);
        self.street.actors(seconds, |actor| actor.figure.paint(&mut canvas));
        if self.has_stamp {
            canvas.neutral_chroma(stamp::strip(width, height));
            stamp::draw(&mut i420[..width * height], width, width, height, frame_number);
        }
    }

    /// Copies the background into the frame in the light of the moment.
    fn lay_background(&self, gain: f32, i420: &mut [u8]) {
        let luma_bytes = self.options.width as usize * self.options.height as usize;
        let gain_256 = (gain * 256.0) as u32;
        for (out, &lit) in i420[..luma_bytes].iter_mut().zip(&self.background[..luma_bytes]) {
            *out = (16 + ((u32::from(lit.saturating_sub(16)) * gain_256) >> 8)).min(235) as u8;
        }
        i420[luma_bytes..].copy_from_slice(&self.background[luma_bytes..]);
    }

    /// What is to be seen in frame `frame_number`, from the far lane to the near one; at most [`OBJECTS_MAX`].
    pub fn truth(&self, frame_number: u32) -> Vec<Truth> {
        self.objects(frame_number).into_iter().map(|(_, truth)| truth).collect()
    }

    /// As [`Scene::truth`], each with a number that stays with the object from its entry to its exit: the truth
    /// for a tracker.
    pub fn objects(&self, frame_number: u32) -> Vec<(u64, Truth)> {
        let mut full = Vec::with_capacity(OBJECTS_MAX);
        self.street.actors(self.seconds(frame_number), |actor| {
            full.push((actor.object_id, actor.figure.class_id(), actor.figure.bounds()));
        });
        let frame = [0.0, 0.0, self.options.width as f32, self.options.height as f32];
        let mut seen = Vec::with_capacity(full.len());
        for (index, &(object_id, class_id, bounds)) in full.iter().enumerate() {
            let bbox = score::intersection(bounds, frame);
            if score::area(bbox) < 1.0 {
                continue;
            }
            // Later actors stand nearer. Their boxes overlap one another only slightly: the sum is the union.
            let hidden: f32 = full[index + 1..]
                .iter()
                .map(|&(_, _, near)| score::area(score::intersection(near, bbox)))
                .sum();
            let visible = ((score::area(bbox) - hidden) / score::area(bounds)).clamp(0.0, 1.0);
            seen.push((object_id, Truth { class_id, label: LABELS[class_id as usize], bbox, visible }));
        }
        seen
    }

    fn seconds(&self, frame_number: u32) -> f64 {
        f64::from(frame_number) / f64::from(self.options.fps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the frame differs from its background clearly: the objects.
    fn painted(scene: &Scene, frame_number: u32) -> Vec<bool> {
        let SceneOptions { width, height, .. } = scene.options;
        let (width, height) = (width as usize, height as usize);
        let mut with = vec![0; scene.background.len()];
        let mut without = with.clone();
        scene.render(frame_number, &mut with);
        scene.lay_background(scene.street.light(scene.seconds(frame_number)), &mut without);
        stamp::draw(&mut without[..width * height], width, width, height, frame_number);
        with.iter().zip(&without).take(width * height).map(|(a, b)| a.abs_diff(*b) > 8).collect()
    }

    #[test]
    fn boxes_are_where_the_objects_were_painted_and_nowhere_else() {
        let (width, height) = (640_usize, 360_usize);
        let (mut sides, mut tight_sides) = (0, 0);
        for seed in 0..12 {
            let scene =
                Scene::new(SceneOptions { seed, width: width as u32, height: height as u32, fps: 15 });
            let frame_number = 40 * seed as u32 + 3;
            let (mask, truth) = (painted(&scene, frame_number), scene.truth(frame_number));
            for (index, _) in mask.iter().enumerate().filter(|(_, painted)| **painted) {
                let (x, y) = ((index % width) as f32, (index / width) as f32);
                let inside = |t: &Truth| {
                    x + 2.0 > t.bbox[0] && x - 1.0 < t.bbox[2] && y + 2.0 > t.bbox[1] && y - 1.0 < t.bbox[3]
                };
                assert!(truth.iter().any(inside), "seed {seed}: painted at {x},{y} outside every box");
            }
            for object in truth.iter().filter(|object| object.visible > 0.9) {
                let [x1, y1, x2, y2] = object.bbox;
                let any = |from_x: f32, to_x: f32, from_y: f32, to_y: f32| {
                    let columns = from_x.max(0.0) as usize..(to_x.ceil() as usize).min(width);
                    (from_y.max(0.0) as usize..(to_y.ceil() as usize).min(height))
                        .any(|y| mask[y * width + columns.start..y * width + columns.end].iter().any(|&p| p))
                };
                let slack = 2.5;
                let checks = [
                    any(x1, x1 + slack, y1, y2),
                    any(x2 - slack, x2, y1, y2),
                    any(x1, x2, y1, y1 + slack),
                    any(x1, x2, y2 - slack, y2),
                ];
                sides += checks.len();
                tight_sides += checks.iter().filter(|tight| **tight).count();
            }
        }
        // A dark shoe on a dark road leaves a side without contrast now and then.
        assert!(sides > 100 && tight_sides * 20 > sides * 19, "{tight_sides} of {sides} sides are tight");
    }

    #[test]
    fn every_part_of_every_figure_has_room() {
        // Figures hold a fixed number of parts: the most elaborate ones must fit, whatever their looks.
        for seed in 0..200 {
            let scene = Scene::new(SceneOptions { seed, width: 96, height: 96, fps: 15 });
            assert!(scene.truth(seed as u32).len() <= OBJECTS_MAX);
        }
    }
}
