//! Pictures of every kind that decoders make, and what the letterbox's specification says of them. Used by the proof on a
//! GPU and by the tests of the kernel on the host, so that both ask the same.
#![allow(dead_code, reason = "each user takes its part")]

use watchpost::frame::{Layout, Picture, Placement, Plane, letterbox_reference};
use watchpost::model::{ChannelOrder, Fit, InputRecipe};
use watchpost_cuda::{Matrix, Range, Recipe};

/// What the kernel promises in f32, in sample values of 0..=255.
pub const BOUND: f64 = 0.1;

/// How its samples lie in memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Format {
    /// 8 bits, interleaved chroma.
    Nv12,
    /// 8 bits, three planes.
    I420,
    /// 10 bits, interleaved chroma.
    P010,
}

/// A picture whose planes start somewhere in a larger memory, each with its own stride.
#[derive(Debug, Clone)]
pub struct Source {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// How its samples lie in memory.
    pub format: Format,
    /// Of its colours.
    pub matrix: Matrix,
    /// Of its codes.
    pub range: Range,
    /// Ten bits each, 0..=1023; eight bits are their upper ones.
    pub planes: [Vec<u16>; 3],
    /// Bytes between the end of a row and the start of the next.
    pub row_padding: usize,
}

impl Source {
    /// Noise; black and white only where the seed is a multiple of three.
    pub fn new(width: u32, height: u32, format: Format, seed: u32) -> Self {
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

    /// Samples of one row of a plane.
    pub fn columns(&self, plane: usize) -> usize {
        if plane == 0 { self.width as usize } else { self.width.div_ceil(2) as usize }
    }

    /// The planes as a decoder leaves them: bytes, strides. Interleaved where the format is.
    pub fn memory(&self) -> Vec<(Vec<u8>, usize)> {
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
    pub fn reference(&self, recipe: &InputRecipe) -> Vec<f32> {
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
}

/// The same for the kernel.
pub fn device_recipe(recipe: &InputRecipe) -> Recipe {
    Recipe {
        width: recipe.width as u32,
        height: recipe.height as u32,
        pad: recipe.pad.into(),
        scale: recipe.scale,
        offset: recipe.offset,
        bgr: recipe.channels == ChannelOrder::Bgr,
    }
}

/// Where the kernel puts a picture of this size.
pub fn device_placement(recipe: &InputRecipe, width: u32, height: u32) -> watchpost_cuda::Placement {
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

/// Sample values as they are, on grey.
pub fn recipe(width: usize, height: usize, fit: Fit) -> InputRecipe {
    let (scale, offset) = ([1.0; 3], [0.0; 3]);
    InputRecipe { width, height, channels: ChannelOrder::Rgb, fit, pad: 114, scale, offset }
}

/// The greatest difference in sample values; infinite where something is no number.
pub fn greatest_error(recipe: &InputRecipe, written: &[f32], expected: &[f32]) -> f64 {
    let plane_len = recipe.width * recipe.height;
    let errors = written.iter().zip(expected).enumerate().map(|(index, (&a, &b))| {
        (f64::from(a) - f64::from(b)).abs() / f64::from(recipe.scale[index / plane_len]).abs()
    });
    errors.fold(0.0, |greatest, error| if error.is_nan() { f64::INFINITY } else { error.max(greatest) })
}
