//! The CUDA kernels, compiled for the host from the source that the GPU runs, against the letterbox's specification.

use std::ffi::c_void;

use proptest::prelude::*;
use watchpost::frame::{Layout, Picture, Placement, Plane, letterbox_reference};
use watchpost::model::{ChannelOrder, Fit, InputRecipe};
use watchpost_cuda::{
    DeviceLayout, DevicePicture, DevicePlane, Element, LetterboxArgs, Matrix, Range, Recipe, f16_to_f32,
};
use watchpost_cuda_host_kernels::HostKernel;

/// What the kernel promises in f32, in sample values of 0..=255.
const BOUND: f64 = 0.1;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Format {
    Nv12,
    I420,
    P010,
}

/// A picture whose planes start somewhere in a larger memory, each with its own stride.
#[derive(Debug, Clone)]
struct Source {
    width: u32,
    height: u32,
    format: Format,
    matrix: Matrix,
    range: Range,
    /// Ten bits each, 0..=1023; eight bits are their upper ones.
    planes: [Vec<u16>; 3],
    row_padding: usize,
}

impl Source {
    fn new(width: u32, height: u32, format: Format, seed: u32) -> Self {
        let (columns, rows) = (width as usize, height as usize);
        let chroma = columns.div_ceil(2) * rows.div_ceil(2);
        let mut state = seed | 1;
        let mut noise = |len: usize| -> Vec<u16> {
            let mut sample = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let value = (state >> 22) as u16;
                // Edges from black to white show a position that is off.
                if seed.is_multiple_of(3) { if value < 512 { 0 } else { 1023 } } else { value }
            };
            std::iter::repeat_with(&mut sample).take(len).collect()
        };
        let planes = [noise(columns * rows), noise(chroma), noise(chroma)];
        let (matrix, range) = (Matrix::Bt601, Range::Limited);
        Self { width, height, format, matrix, range, planes, row_padding: 0 }
    }

    fn columns(&self, plane: usize) -> usize {
        if plane == 0 { self.width as usize } else { self.width.div_ceil(2) as usize }
    }

    /// The planes as a decoder leaves them: bytes, strides. Interleaved where the format is.
    fn memory(&self) -> Vec<(Vec<u8>, usize)> {
        let spread = |rows: Vec<Vec<u8>>| {
            let stride = rows[0].len() + self.row_padding;
            // What is between the rows must not be read as a sample.
            let padded = rows.into_iter().flat_map(|mut row| {
                row.resize(stride, 0xA5);
                row
            });
            (padded.collect::<Vec<u8>>(), stride)
        };
        let rows = |plane: usize| self.planes[plane].chunks(self.columns(plane));
        let bytes = |row: &[u16]| row.iter().map(|&sample| (sample >> 2) as u8).collect::<Vec<u8>>();
        // The lower six bits are noise: no decoder promises that they are clear.
        let words = |row: &[u16]| {
            row.iter().flat_map(|&sample| (sample << 6 | 0x2A).to_le_bytes()).collect::<Vec<u8>>()
        };
        let pairs = || {
            rows(1)
                .zip(rows(2))
                .map(|(us, vs)| us.iter().zip(vs).flat_map(|(&u, &v)| [u, v]).collect::<Vec<u16>>())
        };
        match self.format {
            Format::I420 => (0..3).map(|plane| spread(rows(plane).map(bytes).collect())).collect(),
            Format::Nv12 => {
                vec![spread(rows(0).map(bytes).collect()), spread(pairs().map(|row| bytes(&row)).collect())]
            }
            Format::P010 => {
                vec![spread(rows(0).map(words).collect()), spread(pairs().map(|row| words(&row)).collect())]
            }
        }
    }

    /// What the specification says.
    fn reference(&self, recipe: &InputRecipe) -> Vec<f32> {
        let mut tensor = vec![f32::NAN; recipe.len()];
        match self.format {
            Format::P010 => ten_bit_reference(self, recipe, &mut tensor),
            Format::Nv12 | Format::I420 => {
                let memory = self.memory();
                let plane = |index: usize| Plane { data: &memory[index].0, stride_bytes: memory[index].1 };
                let layout = match self.format {
                    Format::I420 => {
                        Layout::Planar { y: plane(0), u: plane(1), v: plane(2), sub_x: 1, sub_y: 1 }
                    }
                    _ => Layout::Nv12 { y: plane(0), uv: plane(1) },
                };
                let (width, height) = (self.width, self.height);
                let picture = Picture { width, height, layout, matrix: self.matrix, range: self.range };
                letterbox_reference(recipe, &picture, &mut tensor).expect("a whole picture");
            }
        }
        tensor
    }

    /// What the kernel writes, with what was in the tensor before being no number; after it the memory that follows the
    /// tensor.
    fn kernel(&self, recipe: &InputRecipe, element: Element) -> Vec<f32> {
        let memory = self.memory();
        let plane = |index: usize| DevicePlane {
            address: memory[index].0.as_ptr() as u64,
            stride_bytes: memory[index].1,
        };
        let layout = match self.format {
            Format::Nv12 => DeviceLayout::Nv12 { y: plane(0), uv: plane(1) },
            Format::I420 => DeviceLayout::I420 { y: plane(0), u: plane(1), v: plane(2) },
            Format::P010 => DeviceLayout::P010 { y: plane(0), uv: plane(1) },
        };
        // SAFETY: the planes are in `memory`, which outlives the launch; the kernel runs here.
        let picture =
            unsafe { DevicePicture::new(self.width, self.height, layout, self.matrix, self.range, None) };
        // Not a number in f16 and, two by two, in f32.
        let mut tensor = vec![0x7FFF_u16; (recipe.len() + GUARD) * element.bytes() / 2];
        let args = LetterboxArgs::new(
            &device_recipe(recipe),
            &picture,
            device_placement(recipe, self.width, self.height),
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

fn device_recipe(recipe: &InputRecipe) -> Recipe {
    Recipe {
        width: recipe.width as u32,
        height: recipe.height as u32,
        pad: recipe.pad.into(),
        scale: recipe.scale,
        offset: recipe.offset,
        bgr: recipe.channels == ChannelOrder::Bgr,
    }
}

fn device_placement(recipe: &InputRecipe, width: u32, height: u32) -> watchpost_cuda::Placement {
    let placed = Placement::new(recipe, width, height);
    let [left, top, width, height] =
        [placed.left, placed.top, placed.width, placed.height].map(|number| number as u32);
    watchpost_cuda::Placement { left, top, width, height }
}

/// The specification for ten bits, which the daemon's has no pictures of: the limited codes of ITU-R BT.709-6 table 4
/// (64..=940, 64..=960 about 512), the full ones 0..=1023 about 512.
fn ten_bit_reference(source: &Source, recipe: &InputRecipe, tensor: &mut [f32]) {
    let (kr, kb): (f64, f64) = match source.matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.2126, 0.0722),
    };
    let (black, luma_span, chroma_span) = match source.range {
        Range::Limited => (64.0, 876.0, 896.0),
        Range::Full => (0.0, 1023.0, 1023.0),
    };
    let placed = Placement::new(recipe, source.width, source.height);
    let sample = |plane: usize, x: usize, y: usize| {
        let columns = source.columns(plane);
        let rows = source.planes[plane].len() / columns;
        let halving = if plane == 0 { 1.0 } else { 2.0 };
        let at = |index: usize, size: u32, fitted: usize, count: usize| {
            let position = (index as f64 + 0.5) * f64::from(size) / fitted as f64 / halving - 0.5;
            position.clamp(0.0, (count - 1) as f64)
        };
        let (sx, sy) =
            (at(x, source.width, placed.width, columns), at(y, source.height, placed.height, rows));
        let code = |column: f64, row: f64| {
            let (column, row) = ((column as usize).min(columns - 1), (row as usize).min(rows - 1));
            f64::from(source.planes[plane][row * columns + column])
        };
        let row = |y: f64| code(sx.floor(), y) * (1.0 - sx.fract()) + code(sx.floor() + 1.0, y) * sx.fract();
        row(sy.floor()) * (1.0 - sy.fract()) + row(sy.floor() + 1.0) * sy.fract()
    };
    for y in 0..recipe.height {
        for x in 0..recipe.width {
            let inside = (placed.left..placed.left + placed.width).contains(&x)
                && (placed.top..placed.top + placed.height).contains(&y);
            let mut rgb = [f64::from(recipe.pad); 3];
            if inside {
                let [luma, cb, cr] = [0, 1, 2].map(|plane| sample(plane, x - placed.left, y - placed.top));
                let grey = (luma - black) / luma_span;
                let (pb, pr) = ((cb - 512.0) / chroma_span, (cr - 512.0) / chroma_span);
                let red = grey + 2.0 * (1.0 - kr) * pr;
                let blue = grey + 2.0 * (1.0 - kb) * pb;
                let green = (grey - kr * red - kb * blue) / (1.0 - kr - kb);
                rgb = [red, green, blue].map(|sample| (sample * 255.0).clamp(0.0, 255.0));
            }
            if recipe.channels == ChannelOrder::Bgr {
                rgb.reverse();
            }
            for (channel, sample) in rgb.into_iter().enumerate() {
                let value = sample * f64::from(recipe.scale[channel]) + f64::from(recipe.offset[channel]);
                tensor[(channel * recipe.height + y) * recipe.width + x] = value as f32;
            }
        }
    }
}

fn recipe(width: usize, height: usize, fit: Fit) -> InputRecipe {
    let (scale, offset) = ([1.0; 3], [0.0; 3]);
    InputRecipe { width, height, channels: ChannelOrder::Rgb, fit, pad: 114, scale, offset }
}

/// The greatest difference in sample values; infinite where something is no number.
fn greatest_error(recipe: &InputRecipe, written: &[f32], expected: &[f32]) -> f64 {
    let plane_len = recipe.width * recipe.height;
    let errors = written.iter().zip(expected).enumerate().map(|(index, (&a, &b))| {
        (f64::from(a) - f64::from(b)).abs() / f64::from(recipe.scale[index / plane_len]).abs()
    });
    errors.fold(0.0, |greatest, error| if error.is_nan() { f64::INFINITY } else { error.max(greatest) })
}

/// f32 within the bound; f16 is the f32 value rounded: half a unit of its last place.
fn compare(source: &Source, recipe: &InputRecipe) -> Result<f64, String> {
    let expected = source.reference(recipe);
    let whole = source.kernel(recipe, Element::F32);
    let error = greatest_error(recipe, &whole, &expected);
    if error > BOUND {
        return Err(format!("f32 is off by {error} sample values: {source:?} {recipe:?}"));
    }
    let halves = source.kernel(recipe, Element::F16);
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
        source.kernel(&recipe(4, 4, Fit::Stretch), Element::F32)[0]
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
