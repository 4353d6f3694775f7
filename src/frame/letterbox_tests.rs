//! The reference against known answers, the fast path against the reference.

use super::*;
use crate::model::{ChannelOrder, Fit, InputRecipe};
use proptest::prelude::*;
use watchpost_binding::{AxisOrder, Frame, Number, TensorForm};

/// What the fast path promises, in sample values of 0..=255.
const BOUND: f64 = 0.1;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Format {
    I420,
    Y42b,
    Y444,
    /// 4:1:0, which old cameras send.
    Yvu9,
    Nv12,
    Gray8,
}

/// A picture that owns its planes: each exactly as long as it must be, cut out of something larger.
#[derive(Debug, Clone)]
pub(super) struct OwnedPicture {
    pub width: u32,
    pub height: u32,
    pub format: Format,
    matrix: Matrix,
    range: Range,
    pub planes: Vec<(Vec<u8>, usize)>,
}

impl OwnedPicture {
    /// `row_padding` bytes after each row but the last; samples from `seed`, flat or noisy or extreme.
    fn new(width: u32, height: u32, format: Format, row_padding: usize, seed: u32) -> Self {
        let (columns, rows) = (width as usize, height as usize);
        let chroma = |sub_x: usize, sub_y: usize| (columns.div_ceil(1 << sub_x), rows.div_ceil(1 << sub_y));
        let sizes = match format {
            Format::I420 => vec![(columns, rows), chroma(1, 1), chroma(1, 1)],
            Format::Y42b => vec![(columns, rows), chroma(1, 0), chroma(1, 0)],
            Format::Y444 => vec![(columns, rows), chroma(0, 0), chroma(0, 0)],
            Format::Yvu9 => vec![(columns, rows), chroma(2, 2), chroma(2, 2)],
            Format::Nv12 => vec![(columns, rows), (2 * chroma(1, 1).0, chroma(1, 1).1)],
            Format::Gray8 => vec![(columns, rows)],
        };
        let mut state = seed;
        let mut sample = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let value = (state >> 24) as u8;
            if seed.is_multiple_of(3) { if value < 128 { 0 } else { 255 } } else { value }
        };
        let planes = sizes
            .into_iter()
            .map(|(row_bytes, rows)| {
                let stride_bytes = row_bytes + row_padding;
                let len = (rows - 1) * stride_bytes + row_bytes;
                (std::iter::repeat_with(&mut sample).take(len).collect(), stride_bytes)
            })
            .collect();
        Self { width, height, format, matrix: Matrix::Bt601, range: Range::Limited, planes }
    }

    /// Every plane the same value throughout.
    fn flat(format: Format, values: [u8; 3], matrix: Matrix, range: Range) -> Self {
        let mut picture = Self { matrix, range, ..Self::new(6, 4, format, 0, 0) };
        for (index, (data, _)) in picture.planes.iter_mut().enumerate() {
            if format == Format::Nv12 && index == 1 {
                data.chunks_exact_mut(2).for_each(|pair| pair.copy_from_slice(&values[1..]));
            } else {
                data.fill(values[index]);
            }
        }
        picture
    }

    pub fn borrow(&self) -> Picture<'_> {
        let plane = |index: usize| Plane { data: &self.planes[index].0, stride_bytes: self.planes[index].1 };
        let planar = |sub_x, sub_y| Layout::Planar { y: plane(0), u: plane(1), v: plane(2), sub_x, sub_y };
        let layout = match self.format {
            Format::I420 => planar(1, 1),
            Format::Y42b => planar(1, 0),
            Format::Y444 => planar(0, 0),
            Format::Yvu9 => planar(2, 2),
            Format::Nv12 => Layout::Nv12 { y: plane(0), uv: plane(1) },
            Format::Gray8 => Layout::Gray { y: plane(0) },
        };
        let (width, height) = (self.width, self.height);
        Picture { width, height, layout, matrix: self.matrix, range: self.range }
    }
}

fn recipe(width: usize, height: usize, fit: Fit) -> InputRecipe {
    InputRecipe {
        width,
        height,
        channels: ChannelOrder::Rgb,
        fit,
        pad: 114,
        scale: [1.0; 3],
        offset: [0.0; 3],
    }
}

fn reference(recipe: &InputRecipe, picture: &Picture<'_>) -> Vec<f32> {
    let mut tensor = vec![f32::NAN; recipe.len()];
    letterbox_reference(recipe, picture, &mut tensor).expect("a whole picture");
    tensor
}

/// The greatest difference in sample values; not a number where something was not written.
fn greatest_error(recipe: &InputRecipe, fast: &[f32], slow: &[f32]) -> f64 {
    let plane_len = recipe.width * recipe.height;
    let errors = fast.iter().zip(slow).enumerate().map(|(index, (&a, &b))| {
        (f64::from(a) - f64::from(b)).abs() / f64::from(recipe.scale[index / plane_len]).abs()
    });
    errors.fold(0.0, |greatest, error| if error <= greatest { greatest } else { error })
}

fn any_format() -> impl Strategy<Value = Format> {
    use Format::*;
    prop::sample::select(vec![I420, Y42b, Y444, Yvu9, Nv12, Gray8])
}

pub(super) fn any_picture() -> impl Strategy<Value = OwnedPicture> {
    let small = (1u32..70, 1u32..70);
    let thin = (1u32..4, 1u32..700);
    let flat = (1u32..700, 1u32..4);
    let colour = (
        prop::sample::select(vec![Matrix::Bt601, Matrix::Bt709]),
        prop::sample::select(vec![Range::Limited, Range::Full]),
    );
    let size = prop_oneof![4 => small, 1 => thin, 1 => flat];
    (size, any_format(), 0usize..20, any::<u32>(), colour).prop_map(
        |((width, height), format, row_padding, seed, (matrix, range))| OwnedPicture {
            matrix,
            range,
            ..OwnedPicture::new(width, height, format, row_padding, seed)
        },
    )
}

pub(super) fn any_recipe() -> impl Strategy<Value = InputRecipe> {
    let fit = prop::sample::select(vec![
        Fit::LetterboxCentre,
        Fit::LetterboxTopLeft,
        Fit::Stretch,
        Fit::CentreCrop,
    ]);
    let channels = prop::sample::select(vec![ChannelOrder::Rgb, ChannelOrder::Bgr]);
    let normalisation = prop::sample::select(vec![
        ([1.0; 3], [0.0; 3]),
        ([1.0 / 255.0; 3], [0.0; 3]),
        ([0.017, 0.0175, 0.0174], [-2.1, -2.0, -1.8]),
        ([-1.0, 0.5, 2.0], [255.0, 1.0, -3.0]),
    ]);
    (1usize..80, 1usize..80, fit, channels, any::<u8>(), normalisation).prop_map(
        |(width, height, fit, channels, pad, (scale, offset))| InputRecipe {
            width,
            height,
            channels,
            fit,
            pad,
            scale,
            offset,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Two pictures through one letterbox, so that what the first left behind is found out.
    #[test]
    fn the_fast_path_keeps_within_its_bound_of_the_reference(
        recipe in any_recipe(),
        pictures in prop::collection::vec(any_picture(), 2),
    ) {
        let mut letterbox = Letterbox::new(&recipe);
        for picture in &pictures {
            let picture = picture.borrow();
            let mut tensor = vec![f32::NAN; recipe.len()];
            let geometry = letterbox.run(&picture, &mut tensor).expect("a whole picture");
            let error = greatest_error(&recipe, &tensor, &reference(&recipe, &picture));
            prop_assert!(error <= BOUND, "off by {error} sample values");
            prop_assert_eq!(geometry, Geometry::new(&recipe, picture.width, picture.height));
        }
        let widest = pictures.iter().map(|picture| picture.width).max().unwrap_or(0);
        prop_assert!(letterbox.scratch_bytes() <= Letterbox::scratch_bytes_for(&recipe, widest));
    }

    /// A tensor of another form holds the same numbers in another place, bytes rounded.
    #[test]
    fn another_form_is_the_same_picture(recipe in any_recipe(), picture in any_picture()) {
        let mut planar = vec![f32::NAN; recipe.len()];
        let mut letterbox = Letterbox::new(&recipe);
        letterbox.run(&picture.borrow(), &mut planar).expect("a whole picture");
        let plane_len = recipe.width * recipe.height;
        for order in [AxisOrder::Nchw, AxisOrder::Nhwc] {
            for number in [Number::F32, Number::U8] {
                let mut formed = FormedTensor::new(TensorForm { order, number }, recipe.len());
                letterbox.run_formed(&picture.borrow(), &mut formed).expect("a whole picture");
                for (index, &value) in planar.iter().enumerate() {
                    let (channel, pixel) = (index / plane_len, index % plane_len);
                    let at = match order {
                        AxisOrder::Nchw => index,
                        AxisOrder::Nhwc => 3 * pixel + channel,
                    };
                    match formed.frame() {
                        Frame::F32(values) => prop_assert_eq!(values[at], value),
                        Frame::U8(bytes) => {
                            prop_assert!((f32::from(bytes[at]) - value.clamp(0.0, 255.0)).abs() <= 0.5);
                        }
                    }
                }
            }
        }
    }

    /// A plane that lost its last bytes is an error that names it, and the tensor stays as it was.
    #[test]
    fn a_truncated_plane_is_an_error(
        recipe in any_recipe(),
        mut picture in any_picture(),
        which in any::<prop::sample::Index>(),
        lost in 1usize..50,
    ) {
        let index = which.index(picture.planes.len());
        let data = &mut picture.planes[index].0;
        data.truncate(data.len().saturating_sub(lost));
        let name = if picture.format == Format::Nv12 { ["Y", "UV", ""] } else { ["Y", "U", "V"] }[index];
        let mut tensor = vec![7.0; recipe.len()];
        let outcome = Letterbox::new(&recipe).run(&picture.borrow(), &mut tensor);
        let told = matches!(
            outcome,
            Err(LetterboxError::Picture(PictureError::Truncated { plane, .. })) if plane == name
        );
        prop_assert!(told, "{outcome:?}");
        prop_assert!(tensor.iter().all(|&value| value == 7.0));
    }

    /// Any geometry over any buffer: an error or a letterboxed picture, never a panic.
    #[test]
    fn no_geometry_panics(
        (width, height) in (any::<u32>(), any::<u32>()),
        (stride_bytes, len) in (any::<usize>(), 0usize..300),
        (small, format, sub) in (any::<bool>(), any_format(), any::<u8>()),
    ) {
        let data = vec![0; len];
        let stride_bytes = if small { stride_bytes % 40 } else { stride_bytes };
        let (width, height) = if small { (width % 20, height % 20) } else { (width, height) };
        let plane = Plane { data: &data, stride_bytes };
        let layout = match format {
            Format::Nv12 => Layout::Nv12 { y: plane, uv: plane },
            Format::Gray8 => Layout::Gray { y: plane },
            _ => Layout::Planar { y: plane, u: plane, v: plane, sub_x: sub % 4, sub_y: sub / 64 },
        };
        let picture = Picture { width, height, layout, matrix: Matrix::Bt601, range: Range::Full };
        let recipe = recipe(8, 8, Fit::LetterboxCentre);
        let mut tensor = vec![f32::NAN; recipe.len()];
        if Letterbox::new(&recipe).run(&picture, &mut tensor).is_ok() {
            prop_assert!(tensor.iter().all(|value| value.is_finite()));
        }
    }

    /// Boxes go to the tensor and come back.
    #[test]
    fn boxes_come_back_to_the_source(
        recipe in any_recipe(),
        (width, height) in (1u32..5000, 1u32..5000),
        fractions in prop::array::uniform4(0f32..1.0),
    ) {
        let geometry = Geometry::new(&recipe, width, height);
        let [a, b, c, d] = fractions;
        let source = [a * width as f32, b * height as f32, c * width as f32, d * height as f32];
        let x = |value: f32| value * geometry.scale_x + geometry.offset_x;
        let y = |value: f32| value * geometry.scale_y + geometry.offset_y;
        let back = geometry.to_source([x(source[0]), y(source[1]), x(source[2]), y(source[3])]);
        for (back, source) in back.into_iter().zip(source) {
            // Half an eps of the tensor's coordinate, seen through the scale.
            prop_assert!((back - source).abs() <= 1e-4 * (width.max(height) as f32), "{back} {source}");
        }
    }
}

#[test]
fn real_sizes_keep_within_the_bound() {
    let cases = [
        (1920, 1080, Format::Nv12, recipe(640, 640, Fit::LetterboxCentre)),
        (1280, 720, Format::I420, recipe(416, 416, Fit::LetterboxTopLeft)),
        (639, 481, Format::Y42b, recipe(320, 256, Fit::Stretch)),
    ];
    for (width, height, format, recipe) in cases {
        let owned = OwnedPicture {
            matrix: Matrix::Bt709,
            range: Range::Limited,
            ..OwnedPicture::new(width, height, format, 32, 5)
        };
        let mut tensor = vec![f32::NAN; recipe.len()];
        Letterbox::new(&recipe).run(&owned.borrow(), &mut tensor).expect("a whole picture");
        let error = greatest_error(&recipe, &tensor, &reference(&recipe, &owned.borrow()));
        assert!(error <= BOUND, "{width}x{height} {format:?}: off by {error}");
    }
}

#[test]
fn code_values_become_the_colours_of_the_standards() {
    use Matrix::*;
    use Range::*;
    // Black, white and the primaries as BT.601 and BT.709 encode them, rounded to whole code values.
    let cases = [
        (Bt601, Limited, [16, 128, 128], [0.0, 0.0, 0.0]),
        (Bt709, Limited, [235, 128, 128], [255.0, 255.0, 255.0]),
        (Bt601, Full, [255, 128, 128], [255.0, 255.0, 255.0]),
        (Bt601, Limited, [81, 90, 240], [255.0, 0.0, 0.0]),
        (Bt601, Limited, [145, 54, 34], [0.0, 255.0, 0.0]),
        (Bt601, Limited, [41, 240, 110], [0.0, 0.0, 255.0]),
        (Bt709, Limited, [63, 102, 240], [255.0, 0.0, 0.0]),
        (Bt709, Limited, [173, 42, 26], [0.0, 255.0, 0.0]),
        (Bt709, Limited, [32, 240, 118], [0.0, 0.0, 255.0]),
        (Bt601, Full, [76, 85, 255], [255.0, 0.0, 0.0]),
        (Bt601, Full, [150, 44, 21], [0.0, 255.0, 0.0]),
        (Bt709, Full, [54, 99, 255], [255.0, 0.0, 0.0]),
    ];
    for (matrix, range, code, rgb) in cases {
        for format in [Format::I420, Format::Nv12, Format::Y444] {
            let picture = OwnedPicture::flat(format, code, matrix, range);
            let tensor = reference(&recipe(6, 4, Fit::Stretch), &picture.borrow());
            for (channel, expected) in rgb.into_iter().enumerate() {
                let got = tensor[channel * 24 + 7];
                assert!((got - expected).abs() < 1.6, "{matrix:?} {range:?} {code:?}: {channel} is {got}");
            }
        }
    }
    let grey = OwnedPicture::flat(Format::Gray8, [100, 0, 0], Bt709, Full);
    assert!(reference(&recipe(6, 4, Fit::Stretch), &grey.borrow()).iter().all(|&value| value == 100.0));
}

#[test]
fn interpolation_has_half_pixel_centres_and_repeats_the_border() {
    let mut picture = OwnedPicture::flat(Format::Gray8, [0; 3], Matrix::Bt601, Range::Full);
    (picture.width, picture.height) = (2, 1);
    picture.planes = vec![(vec![0, 100], 2)];
    let tensor = reference(&recipe(4, 1, Fit::Stretch), &picture.borrow());
    assert_eq!(tensor[..4], [0.0, 25.0, 75.0, 100.0]);
}

#[test]
fn chroma_sits_in_the_centre_of_the_pixels_it_covers() {
    let y = vec![128; 4];
    let (u, v) = (vec![128; 2], vec![100, 156]);
    let plane = |data| Plane { data, stride_bytes: 4 };
    let layout = Layout::Planar { y: plane(&y), u: plane(&u), v: plane(&v), sub_x: 1, sub_y: 1 };
    let picture = Picture { width: 4, height: 1, layout, matrix: Matrix::Bt601, range: Range::Full };
    let tensor = reference(&recipe(4, 1, Fit::Stretch), &picture);
    // Cr is 100, 114, 142, 156 at the four pixels; red is Y + 1.402 (Cr - 128).
    for (got, cr) in tensor[..4].iter().zip([100.0, 114.0, 142.0, 156.0]) {
        assert!((got - (128.0 + 1.402 * (cr - 128.0))).abs() < 1e-3, "{got}");
    }
}

#[test]
fn channels_padding_and_normalisation_follow_the_recipe() {
    let picture = OwnedPicture::flat(Format::I420, [81, 90, 240], Matrix::Bt601, Range::Limited);
    let recipe = InputRecipe {
        channels: ChannelOrder::Bgr,
        scale: [1.0, 2.0, 0.5],
        offset: [0.0, 10.0, -1.0],
        ..recipe(6, 6, Fit::LetterboxCentre)
    };
    let mut tensor = vec![f32::NAN; recipe.len()];
    Letterbox::new(&recipe).run(&picture.borrow(), &mut tensor).expect("a whole picture");
    // 6x4 in 6x6: one row of padding above and one below.
    assert_eq!([tensor[0], tensor[36], tensor[72]], [114.0, 238.0, 56.0]);
    assert_eq!([tensor[35], tensor[71], tensor[107]], [114.0, 238.0, 56.0]);
    let inside = [tensor[14], tensor[50], tensor[86]];
    for (got, expected) in inside.into_iter().zip([0.0, 10.0, 126.0]) {
        assert!((got - expected).abs() < 2.5, "{inside:?}");
    }
}

#[test]
fn pictures_lie_where_the_models_were_trained_to_find_them() {
    let placed = |fit, tensor, width, height| {
        let Placement { left, top, width, height, .. } =
            Placement::new(&recipe(tensor, tensor, fit), width, height);
        [left, top, width, height]
    };
    use Fit::*;
    assert_eq!(placed(LetterboxCentre, 640, 1920, 1080), [0, 140, 640, 360]);
    assert_eq!(placed(LetterboxCentre, 640, 810, 1080), [80, 0, 480, 640]);
    // 640x427: 213 rows of padding, of which the smaller half is above.
    assert_eq!(placed(LetterboxCentre, 640, 640, 427), [0, 106, 640, 427]);
    // 4 * 640 / 1024 = 2.5 and 12 * 640 / 1024 = 7.5: halves go to the even number.
    assert_eq!(placed(LetterboxCentre, 640, 1024, 4), [0, 319, 640, 2]);
    assert_eq!(placed(LetterboxCentre, 640, 1024, 12), [0, 316, 640, 8]);
    assert_eq!(placed(LetterboxTopLeft, 416, 810, 1080), [0, 0, 312, 416]);
    // 427 * 416 / 640 = 277.55 is cut, not rounded.
    assert_eq!(placed(LetterboxTopLeft, 416, 640, 427), [0, 0, 416, 277]);
    // Not 234: 432 * (416 / 768) is a hair less in double precision.
    assert_eq!(placed(LetterboxTopLeft, 416, 768, 432), [0, 0, 416, 233]);
    assert_eq!(placed(LetterboxTopLeft, 416, 1, 5000), [0, 0, 1, 416]);
    assert_eq!(placed(Stretch, 320, 7, 5), [0, 0, 320, 320]);
}

#[test]
fn boxes_are_clipped_to_the_source() {
    let geometry = Geometry::new(&recipe(640, 640, Fit::LetterboxCentre), 1920, 1080);
    assert_eq!(geometry.to_source([0.0, 140.0, 640.0, 500.0]), [0.0, 0.0, 1920.0, 1080.0]);
    assert_eq!(geometry.to_source([-5.0, 100.0, 700.0, 320.0]), [0.0, 0.0, 1920.0, 540.0]);
    let in_padding = geometry.to_source([10.0, 0.0, 20.0, 100.0]);
    assert_eq!(in_padding[3] - in_padding[1], 0.0);
}

#[test]
fn impossible_pictures_and_foreign_tensors_are_told() {
    let recipe = recipe(8, 8, Fit::LetterboxCentre);
    let mut letterbox = Letterbox::new(&recipe);
    let whole = OwnedPicture::new(5, 5, Format::I420, 0, 1);
    let mut tensor = vec![0.0; recipe.len()];
    let empty = Picture { width: 0, ..whole.borrow() };
    assert_eq!(letterbox.run(&empty, &mut tensor), Err(PictureError::Empty { width: 0, height: 5 }.into()));
    let mut narrow = whole.clone();
    narrow.planes[2].1 = 2;
    assert_eq!(
        letterbox.run(&narrow.borrow(), &mut tensor),
        Err(PictureError::Stride { plane: "V", row_bytes: 3, stride_bytes: 2 }.into())
    );
    assert_eq!(
        letterbox.run(&whole.borrow(), &mut tensor[1..]),
        Err(LetterboxError::TensorLength { expected: 192, got: 191 })
    );
    assert!(letterbox.run(&whole.borrow(), &mut tensor).is_ok());
}

#[test]
fn scratch_is_bounded_by_the_widest_source() {
    let recipe = recipe(64, 64, Fit::LetterboxCentre);
    let mut letterbox = Letterbox::new(&recipe);
    let mut tensor = vec![0.0; recipe.len()];
    let mut run = |width, format| {
        let picture = OwnedPicture::new(width, 20, format, 0, 1);
        letterbox.run(&picture.borrow(), &mut tensor).expect("a whole picture");
        letterbox.scratch_bytes()
    };
    let widest = run(300, Format::Y444);
    assert_eq!(widest, Letterbox::scratch_bytes_for(&recipe, 300));
    for (width, format) in [(17, Format::Gray8), (299, Format::Nv12), (300, Format::I420), (1, Format::Y42b)]
    {
        assert_eq!(run(width, format), widest);
    }
}

/// What a slot remembers of its padding must not show: whatever was in it before, it is filled as a new tensor is.
#[test]
fn a_slot_is_padded_anew_when_the_picture_lies_elsewhere_or_somebody_wrote_into_it() {
    let recipe = recipe(32, 32, Fit::LetterboxCentre);
    let mut letterbox = Letterbox::new(&recipe);
    let mut slot = HostTensor::new(recipe.len());
    for (turn, (width, height)) in
        [(64, 32), (64, 32), (32, 64), (64, 32), (64, 32), (40, 40), (64, 32)].into_iter().enumerate()
    {
        let picture = OwnedPicture::new(width, height, Format::I420, 0, turn as u32);
        let mut fresh = vec![f32::NAN; recipe.len()];
        let expected = letterbox.run(&picture.borrow(), &mut fresh);
        if turn == 4 {
            // As a privacy mask does.
            slot.fill(7.0);
        }
        assert_eq!(letterbox.run_in_slot(&picture.borrow(), &mut slot), expected);
        assert_eq!(&slot[..], &fresh[..], "turn {turn}");
    }
}
