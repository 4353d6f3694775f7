//! The CUDA kernels, compiled for the host from the source that the GPU runs, against the letterbox's specification.

// The proof on a real GPU asks the same of the same pictures.
#[path = "gpu/src/pictures.rs"]
mod pictures;

use std::ffi::c_void;

use pictures::{BOUND, Format, Source, device_placement, device_recipe, greatest_error, recipe};
use proptest::prelude::*;
use watchpost::model::{ChannelOrder, Fit, InputRecipe};
use watchpost_cuda::{
    DeviceLayout, DevicePicture, DevicePlane, Element, LetterboxArgs, Matrix, Range, f16_to_f32,
};
use watchpost_cuda_host_kernels::HostKernel;

/// What the kernel writes, with what was in the tensor before being no number; after it the memory that follows the
/// tensor.
fn kernel(source: &Source, recipe: &InputRecipe, element: Element) -> Vec<f32> {
    let memory = source.memory();
    let plane = |index: usize| DevicePlane {
        address: memory[index].0.as_ptr() as u64,
        stride_bytes: memory[index].1,
    };
    let layout = match source.format {
        Format::Nv12 => DeviceLayout::Nv12 { y: plane(0), uv: plane(1) },
        Format::I420 => DeviceLayout::I420 { y: plane(0), u: plane(1), v: plane(2) },
        Format::P010 => DeviceLayout::P010 { y: plane(0), uv: plane(1) },
    };
    // SAFETY: the planes are in `memory`, which outlives the launch; the kernel runs here.
    let picture =
        unsafe { DevicePicture::new(source.width, source.height, layout, source.matrix, source.range, None) };
    // Not a number in f16 and, two by two, in f32.
    let mut tensor = vec![0x7FFF_u16; (recipe.len() + GUARD) * element.bytes() / 2];
    let args = LetterboxArgs::new(
        &device_recipe(recipe),
        &picture,
        device_placement(recipe, source.width, source.height),
        tensor.as_mut_ptr() as u64,
        element,
    );
    let mut args = args.expect("a picture that the kernel takes");
    let (grid, mut parameters) = (args.grid(), [(&raw mut args).cast::<c_void>()]);
    let kernel = HostKernel::find("letterbox").expect("the kernel");
    // SAFETY: one parameter of the kernel's type; the tensor has the recipe's length and more.
    unsafe { kernel.launch(grid, LetterboxArgs::BLOCK, parameters.as_mut_ptr()) };
    let mut written = values(&tensor, element);
    let guard = written.split_off(recipe.len());
    assert!(guard.iter().all(|value| value.is_nan()), "the kernel wrote behind the tensor");
    written
}

/// Elements behind the tensor that must stay as they are.
const GUARD: usize = 64;

fn values(words: &[u16], element: Element) -> Vec<f32> {
    match element {
        Element::F16 => words.iter().map(|&word| f16_to_f32(word)).collect(),
        Element::F32 => {
            let pairs = words.as_chunks::<2>().0;
            pairs.iter().map(|&[low, high]| f32::from_bits(u32::from(high) << 16 | u32::from(low))).collect()
        }
    }
}

/// f32 within the bound; f16 is the f32 value rounded: half a unit of its last place.
fn compare(source: &Source, recipe: &InputRecipe) -> Result<f64, String> {
    let expected = source.reference(recipe);
    let whole = kernel(source, recipe, Element::F32);
    let error = greatest_error(recipe, &whole, &expected);
    if error > BOUND {
        return Err(format!("f32 is off by {error} sample values: {source:?} {recipe:?}"));
    }
    let halves = kernel(source, recipe, Element::F16);
    for (index, (&half, &whole)) in halves.iter().zip(&whole).enumerate() {
        // 11 bits of precision; 2^-24 is the smallest number.
        let unit = (whole.abs() * 2.0_f32.powi(-11)).max(2.0_f32.powi(-25));
        let error = (half - whole).abs();
        if error.is_nan() || error > unit {
            return Err(format!("element {index}: {whole} became {half} in f16: {recipe:?}"));
        }
    }
    Ok(error)
}

const FORMATS: [Format; 3] = [Format::Nv12, Format::I420, Format::P010];
const FITS: [Fit; 3] = [Fit::LetterboxCentre, Fit::LetterboxTopLeft, Fit::Stretch];

fn any_source() -> impl Strategy<Value = Source> {
    let small = (1u32..70, 1u32..70);
    let thin = (1u32..4, 1u32..700);
    let flat = (1u32..700, 1u32..4);
    let size = prop_oneof![4 => small, 1 => thin, 1 => flat];
    let colour = (
        prop::sample::select(vec![Matrix::Bt601, Matrix::Bt709]),
        prop::sample::select(vec![Range::Limited, Range::Full]),
    );
    let format = prop::sample::select(FORMATS.to_vec());
    (size, format, 0usize..20, any::<u32>(), colour).prop_map(
        |((width, height), format, row_padding, seed, (matrix, range))| {
            // 16-bit samples lie at even addresses.
            let row_padding = if format == Format::P010 { row_padding * 2 } else { row_padding };
            Source { matrix, range, row_padding, ..Source::new(width, height, format, seed) }
        },
    )
}

fn any_recipe() -> impl Strategy<Value = InputRecipe> {
    let fit = prop::sample::select(FITS.to_vec());
    let channels = prop::sample::select(vec![ChannelOrder::Rgb, ChannelOrder::Bgr]);
    let normalised = prop::sample::select(vec![
        ([1.0; 3], [0.0; 3]),
        ([1.0 / 255.0; 3], [0.0; 3]),
        ([0.0171, 0.0175, 0.0174], [-2.118, -2.036, -1.804]),
        ([-0.5, 2.0, 0.25], [3.0, -1.0, 0.0]),
    ]);
    (1usize..80, 1usize..80, fit, channels, any::<u8>(), normalised).prop_map(
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
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_picture_in_any_tensor_is_what_the_specification_says(source in any_source(), recipe in any_recipe()) {
        prop_assert_eq!(compare(&source, &recipe).err(), None);
    }
}

#[test]
fn every_format_matrix_and_range_at_the_sizes_of_cameras() {
    let mut greatest: f64 = 0.0;
    for format in FORMATS {
        for (matrix, range) in [
            (Matrix::Bt601, Range::Limited),
            (Matrix::Bt601, Range::Full),
            (Matrix::Bt709, Range::Limited),
            (Matrix::Bt709, Range::Full),
        ] {
            for (width, height) in [(1920, 1080), (641, 479), (320, 240), (33, 57)] {
                // A third of the seeds makes edges.
                let source =
                    Source { matrix, range, row_padding: 64, ..Source::new(width, height, format, 3) };
                let error = compare(&source, &recipe(320, 320, Fit::LetterboxCentre));
                greatest = greatest.max(error.unwrap_or_else(|error| panic!("{error}")));
            }
        }
    }
    eprintln!("greatest error {greatest} sample values");
}

#[test]
fn positions_are_exact_at_the_widest_picture() {
    // One column of black and white a pixel: a position that is off by a thousandth is off by a quarter of a code.
    for format in FORMATS {
        let source = Source { range: Range::Full, ..Source::new(65_535, 2, format, 3) };
        let stretched = recipe(8192, 2, Fit::Stretch);
        assert_eq!(compare(&source, &stretched).err(), None);
    }
}

#[test]
fn ten_bits_are_ten_bits() {
    // One step of the lower two bits is a quarter of a sample value.
    let grey = |code: u16| {
        let mut source = Source { range: Range::Limited, ..Source::new(4, 4, Format::P010, 1) };
        source.planes[0].fill(code);
        source.planes[1].fill(512);
        source.planes[2].fill(512);
        kernel(&source, &recipe(4, 4, Fit::Stretch), Element::F32)[0]
    };
    assert_eq!(grey(64), 0.0);
    assert_eq!(grey(940), 255.0);
    assert!((grey(501) - grey(500) - 255.0 / 876.0).abs() < 1e-4);
}

/// `to_half` over these values.
fn to_half(values: &[f32]) -> Vec<u16> {
    let mut halves = vec![0x5555_u16; values.len() + GUARD];
    let (mut from, mut to, mut count) = (values.as_ptr(), halves.as_mut_ptr(), values.len() as u32);
    let mut parameters: [*mut c_void; 3] =
        [(&raw mut from).cast(), (&raw mut to).cast(), (&raw mut count).cast()];
    let kernel = HostKernel::find("to_half").expect("the kernel");
    // SAFETY: the kernel's three parameters; both arrays have `count` elements.
    unsafe { kernel.launch([count.div_ceil(256), 1, 1], [256, 1, 1], parameters.as_mut_ptr()) };
    assert!(halves[values.len()..].iter().all(|&half| half == 0x5555), "written behind the tensor");
    halves.truncate(values.len());
    halves
}

#[test]
fn every_f16_survives_the_way_to_f32_and_back() {
    let all: Vec<u16> = (0..=u16::MAX).filter(|&half| !f16_to_f32(half).is_nan()).collect();
    let wide: Vec<f32> = all.iter().map(|&half| f16_to_f32(half)).collect();
    assert_eq!(to_half(&wide), all);
    assert_eq!(to_half(&[f32::NAN, -f32::NAN]), [0x7FFF; 2]);
}

#[test]
fn between_two_f16_the_nearer_is_taken_and_of_equals_the_even_one() {
    // All neighbours that are finite and not negative; the largest number's neighbour is 65536, which is infinite.
    for low in 0..0x7C00_u16 {
        let (below, above) = (f16_to_f32(low), if low == 0x7BFF { 65536.0 } else { f16_to_f32(low + 1) });
        let middle = (below + above) / 2.0;
        let even = if low.is_multiple_of(2) { low } else { low + 1 };
        let values = [middle.next_down(), middle, middle.next_up()];
        assert_eq!(to_half(&values), [low, even, low + 1], "between {below} and {above}");
        let negative = values.map(|value| -value);
        assert_eq!(to_half(&negative), [low, even, low + 1].map(|half| half | 0x8000));
    }
    assert_eq!(to_half(&[f32::MAX, f32::INFINITY, f32::MIN_POSITIVE]), [0x7C00, 0x7C00, 0]);
}
