//! What lies behind a mask changes nothing that an engine sees; what does not is as it was.

use std::sync::Arc;

use proptest::prelude::*;
use watchpost_binding::{AxisOrder, Number, TensorForm};

use super::super::letterbox_tests::{Format, OwnedPicture, any_picture, any_recipe};
use super::super::{Geometry, Letterbox, Picture, Plane};
use super::*;
use crate::model::{ChannelOrder, Fit};

fn any_polygon() -> impl Strategy<Value = Polygon> {
    // Coarse corners lie on the picture's edge and on each other's heights.
    let coarse = (0u8..=8).prop_map(|eighths| f32::from(eighths) / 8.0);
    let side = prop_oneof![coarse, 0.0f32..=1.0];
    let points = prop::collection::vec((side.clone(), side), 3..8);
    points.prop_filter_map("no polygon", |points| {
        let points: Vec<Point> = points.into_iter().map(|(x, y)| [x, y]).collect();
        Polygon::new(&points).ok()
    })
}

fn letterboxed(recipe: &InputRecipe, picture: &Picture<'_>) -> Vec<f32> {
    let mut tensor = vec![f32::NAN; recipe.len()];
    Letterbox::new(recipe).run(picture, &mut tensor).expect("a whole picture");
    tensor
}

fn masked(mask: &mut PrivacyMask, recipe: &InputRecipe, picture: &Picture<'_>) -> Vec<f32> {
    let mut tensor = letterboxed(recipe, picture);
    let source = Source::new(picture.width, picture.height, &picture.layout);
    mask.cover(recipe, source, &mut tensor);
    // A tensor of another form is covered in the same pixels.
    let form = TensorForm { order: AxisOrder::Nhwc, number: Number::F32 };
    let mut formed = FormedTensor::new(form, recipe.len());
    Letterbox::new(recipe).run_formed(picture, &mut formed).expect("a whole picture");
    mask.cover_formed(recipe, source, &mut formed);
    let plane_len = recipe.width * recipe.height;
    for (index, &value) in tensor.iter().enumerate() {
        assert_eq!(formed.value(index / plane_len, index % plane_len), value, "at {index}");
    }
    tensor
}

/// Another sample wherever one has any part in a mask. Samples of a plane with `1 << sub` pixels each way.
fn scramble(
    plane: &mut (Vec<u8>, usize),
    bytes: usize,
    picture: (u32, u32),
    sub: (u8, u8),
    masks: &[Polygon],
) {
    let (width, height) = (f64::from(picture.0), f64::from(picture.1));
    let (columns, rows) = (picture.0.div_ceil(1 << sub.0), picture.1.div_ceil(1 << sub.1));
    for row in 0..rows {
        for column in 0..columns {
            let edge = |index: u32, sub: u8, size: f64| (f64::from(index << sub) / size).min(1.0) as f32;
            let cell = [
                edge(column, sub.0, width),
                edge(row, sub.1, height),
                edge(column + 1, sub.0, width),
                edge(row + 1, sub.1, height),
            ];
            if masks.iter().any(|mask| mask.covered(cell) > 1e-6) {
                let start = row as usize * plane.1 + column as usize * bytes;
                plane.0[start..start + bytes].iter_mut().for_each(|sample| *sample = !*sample);
            }
        }
    }
}

fn scrambled(picture: &OwnedPicture, masks: &[Polygon]) -> OwnedPicture {
    let mut other = picture.clone();
    let size = (picture.width, picture.height);
    let (sub, bytes) = match picture.format {
        Format::I420 => ((1, 1), 1),
        Format::Y42b => ((1, 0), 1),
        Format::Yvu9 => ((2, 2), 1),
        Format::Nv12 => ((1, 1), 2),
        Format::Y444 | Format::Gray8 => ((0, 0), 1),
    };
    for (index, plane) in other.planes.iter_mut().enumerate() {
        match index {
            0 => scramble(plane, 1, size, (0, 0), masks),
            _ => scramble(plane, bytes, size, sub, masks),
        }
    }
    other
}

/// The tensor's pixel in pixels of the picture, where it is the picture's.
fn source_of(recipe: &InputRecipe, picture: &Picture<'_>, pixel: usize) -> Option<[f32; 2]> {
    let (column, row) = (pixel % recipe.width, pixel / recipe.width);
    let at = Placement::new(recipe, picture.width, picture.height);
    let inside =
        (at.left..at.left + at.width).contains(&column) && (at.top..at.top + at.height).contains(&row);
    let geometry = Geometry::new(recipe, picture.width, picture.height);
    inside.then(|| geometry.point_to_source([column as f32 + 0.5, row as f32 + 0.5]))
}

/// Black where it must be, untouched where it may not be black.
fn check(
    recipe: &InputRecipe,
    picture: &Picture<'_>,
    masks: &[Polygon],
    tensor: &[f32],
) -> Result<(), TestCaseError> {
    let plain = letterboxed(recipe, picture);
    let plane_len = recipe.width * recipe.height;
    let size = [picture.width as f32, picture.height as f32];
    let at = Placement::new(recipe, picture.width, picture.height);
    let pixel_width = size[0] / at.fitted_width as f32;
    let pixel_height = size[1] / at.fitted_height as f32;
    // Chroma at a quarter reaches 6 pixels; each of the two axes, and the pixel itself.
    let far = 1.5 * (6.0f32.max(pixel_width) + 6.0f32.max(pixel_height));
    for pixel in 0..plane_len {
        let values = [0, 1, 2].map(|channel| tensor[channel * plane_len + pixel]);
        let before = [0, 1, 2].map(|channel| plain[channel * plane_len + pixel]);
        let Some([x, y]) = source_of(recipe, picture, pixel) else {
            prop_assert_eq!(values, before, "padding changed at {}", pixel);
            continue;
        };
        let point = [x / size[0], y / size[1]];
        if masks.iter().any(|mask| mask.contains(point)) {
            prop_assert_eq!(values, recipe.offset, "not black at {}", pixel);
        } else if !masks.iter().any(|mask| mask.contains_within(point, far, size)) {
            prop_assert_eq!(values, before, "changed far from every mask, at {}", pixel);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Several pictures through one mask: another resolution or layout is a mask of other rows.
    #[test]
    fn what_happens_behind_a_mask_changes_no_value(
        recipe in any_recipe(),
        pictures in prop::collection::vec(any_picture(), 1..4),
        masks in prop::collection::vec(any_polygon(), 1..4),
    ) {
        let mut mask = PrivacyMask::new(masks.clone().into());
        for picture in &pictures {
            let tensor = masked(&mut mask, &recipe, &picture.borrow());
            let other = scrambled(picture, &masks);
            prop_assert_eq!(&tensor, &masked(&mut mask, &recipe, &other.borrow()));
            check(&recipe, &picture.borrow(), &masks, &tensor)?;
            prop_assert!(size_of_val(mask.spans.as_slice()) <= PrivacyMask::bytes_for(&masks, &recipe));
        }
    }

    /// Single pictures have a letterbox of their own.
    #[test]
    fn nor_in_a_single_picture(
        recipe in any_recipe(), size in (1u32..60, 1u32..60), masks in prop::collection::vec(any_polygon(), 1..4),
    ) {
        let (width, height) = size;
        let stride = 3 * width as usize + 5;
        let mut plane = ((0..stride * height as usize).map(|at| (at * 37 % 251) as u8).collect::<Vec<u8>>(), stride);
        let tensor_of = |plane: &(Vec<u8>, usize)| {
            let rgb = Plane { data: &plane.0, stride_bytes: stride };
            let picture = Picture {
                width,
                height,
                layout: Layout::Rgb { rgb },
                matrix: super::super::Matrix::Bt601,
                range: super::super::Range::Full,
            };
            let tensor = masked(&mut PrivacyMask::new(masks.clone().into()), &recipe, &picture);
            check(&recipe, &picture, &masks, &tensor).map(|()| tensor)
        };
        let before = tensor_of(&plane)?;
        scramble(&mut plane, 3, size, (0, 0), &masks);
        prop_assert_eq!(before, tensor_of(&plane)?);
    }

    #[test]
    fn pictures_for_people_are_black_where_they_are_masked(
        size in (1usize..60, 1usize..60), masks in prop::collection::vec(any_polygon(), 0..4),
    ) {
        let (width, height) = size;
        let mut rgb = vec![200; 3 * width * height];
        black_out(&masks, &mut rgb, width, height);
        let whole = [width as f32, height as f32];
        for (pixel, colour) in rgb.as_chunks::<3>().0.iter().enumerate() {
            let point = [(pixel % width) as f32 + 0.5, (pixel / width) as f32 + 0.5];
            let point = [point[0] / whole[0], point[1] / whole[1]];
            if masks.iter().any(|mask| mask.contains(point)) {
                prop_assert_eq!(*colour, [0; 3]);
            } else if !masks.iter().any(|mask| mask.contains_within(point, 6.0, whole)) {
                prop_assert_eq!(*colour, [200; 3]);
            }
        }
        // A buffer that is too short is filled as far as it goes.
        black_out(&masks, &mut rgb[..3 * width * height / 2], width, height);
    }
}

#[test]
fn a_mask_hugs_its_shape_at_usual_sizes() {
    let recipe = InputRecipe {
        width: 640,
        height: 640,
        channels: ChannelOrder::Rgb,
        fit: Fit::LetterboxCentre,
        pad: 114,
        scale: [1.0 / 255.0; 3],
        offset: [0.0; 3],
    };
    let polygon = Polygon::new(&[[0.25, 0.25], [0.5, 0.25], [0.5, 0.5], [0.25, 0.5]]).expect("a polygon");
    let mut mask = PrivacyMask::new(Arc::from([polygon]));
    let mut tensor = vec![1.0; recipe.len()];
    mask.cover(&recipe, Source::on_device(1920, 1080), &mut tensor);
    let black = tensor[..640 * 640].iter().filter(|&&value| value == 0.0).count();
    // 160 by 90 pixels, and a rim of one: 3 pixels of the source are one of the tensor.
    assert!((160 * 90..=163 * 93).contains(&black), "{black}");
}
