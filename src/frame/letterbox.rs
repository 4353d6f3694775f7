//! The letterbox on the frame path: what [`letterbox_reference`](super::letterbox_reference()) specifies, fast.
//!
//! Row by row of the tensor, per plane: [`blend`] two source rows into one (whole rows, 8 samples an
//! instruction), [`pick`] the two neighbours that each column needs (the only part that stays scalar), and
//! [`convert`] the picked pairs to normalised red, green and blue (4 or 8 columns an instruction). The loops
//! are plain ones that LLVM vectorises; every row stays in the first cache between the steps.
//!
//! **Numbers.** A blended sample is an `i16` with 6 fraction bits; row weights have 15 bits, column weights 14; the sum
//! of a pair is an exact `i32` with 20 fraction bits; colour is `f32`. So a sample of a plane is off by at most
//! `1/64 + 255 / 2^16 + 255 / 2^15 < 0.028`, and a colour, with gains of at most 1.17 + 2.12 (BT.709 blue,
//! limited range), by less than **0.1 sample values** of 0..=255 from the reference.
//!
//! **Memory.** Tables have the tensor's size and are allocated in [`Letterbox::new`]. Three row buffers have the
//! source's width and grow to the widest source seen, never beyond: [`Letterbox::scratch_bytes_for`] says
//! how much that is. A frame of a size seen last time allocates nothing and computes no table.

use super::colour::Colour;
use super::formed::{Formed, FormedTensor, Planar, Rows};
use super::letterbox_rgb::RgbResize;
use super::{Geometry, HostTensor, Layout, Picture, PictureError, Placement, Plane};
use crate::model::{ChannelOrder, InputRecipe};

/// Why a picture did not reach the tensor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LetterboxError {
    /// The picture is not whole.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// The tensor is not the recipe's.
    #[error(
        "the slot holds {got} values but the model's input has {expected}: the slot belongs to another model"
    )]
    TensorLength {
        /// `recipe.len()`.
        expected: usize,
        /// Length of the slice that was given.
        got: usize,
    },
}

impl LetterboxError {
    pub(super) fn check(
        recipe: &InputRecipe,
        picture: &Picture<'_>,
        tensor_len: usize,
    ) -> Result<(), LetterboxError> {
        picture.check()?;
        if tensor_len != recipe.len() {
            return Err(LetterboxError::TensorLength { expected: recipe.len(), got: tensor_len });
        }
        Ok(())
    }
}

/// Writes pictures into tensors of one recipe. One per camera.
#[derive(Debug)]
pub struct Letterbox {
    recipe: InputRecipe,
    /// What the tables were made for.
    source: Option<Source>,
    placement: Placement,
    luma: Taps,
    chroma: Taps,
    /// One blended source row of Y, U and V, and one value more, which the last column reads in vain.
    blended: [Vec<i16>; 3],
    /// The neighbours that each column of the tensor lies between, of Y, U and V.
    picked: [Vec<[i16; 2]>; 3],
    /// For single pictures.
    rgb: RgbResize,
    /// One row of each channel, for tensors that are not planes of floats; empty until the first of those.
    scratch: [Vec<f32>; 3],
}

/// What of a picture the tables depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Source {
    width: u32,
    height: u32,
    sub_x: u8,
    sub_y: u8,
}

impl Source {
    fn new(picture: &Picture<'_>) -> Self {
        let (sub_x, sub_y) = match picture.layout {
            Layout::Planar { sub_x, sub_y, .. } => (sub_x, sub_y),
            Layout::Nv12 { .. } => (1, 1),
            Layout::Gray { .. } | Layout::Rgb { .. } => (0, 0),
        };
        Self { width: picture.width, height: picture.height, sub_x, sub_y }
    }

    fn luma_columns(&self) -> usize {
        self.width as usize
    }

    fn chroma_columns(&self) -> usize {
        self.luma_columns().div_ceil(1 << self.sub_x)
    }
}

impl Letterbox {
    /// For one model's input.
    pub fn new(recipe: &InputRecipe) -> Self {
        Self {
            recipe: *recipe,
            source: None,
            placement: Placement::default(),
            luma: Taps::new(recipe),
            chroma: Taps::new(recipe),
            blended: [const { Vec::new() }; 3],
            picked: std::array::from_fn(|_| vec![[0; 2]; recipe.width]),
            rgb: RgbResize::default(),
            scratch: [const { Vec::new() }; 3],
        }
    }

    /// Writes `picture` into `tensor` (`recipe.len()` values), every value of it, padding included.
    ///
    /// # Errors
    /// [`LetterboxError`] for a picture that is not whole or a tensor of another length; nothing is written then.
    pub fn run(&mut self, picture: &Picture<'_>, tensor: &mut [f32]) -> Result<Geometry, LetterboxError> {
        LetterboxError::check(&self.recipe, picture, tensor.len())?;
        let plane_len = self.recipe.width * self.recipe.height;
        self.write(picture, &mut Planar::new(tensor, plane_len), false);
        Ok(Geometry::new(&self.recipe, picture.width, picture.height))
    }

    /// As [`run`](Self::run), into a tensor that remembers its padding.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_in_slot(
        &mut self,
        picture: &Picture<'_>,
        tensor: &mut HostTensor,
    ) -> Result<Geometry, LetterboxError> {
        LetterboxError::check(&self.recipe, picture, tensor.len())?;
        let plane_len = self.recipe.width * self.recipe.height;
        let placement = Placement::new(&self.recipe, picture.width, picture.height);
        tensor.write(placement, |tensor, is_padded| {
            self.write(picture, &mut Planar::new(tensor, plane_len), is_padded);
        });
        Ok(Geometry::new(&self.recipe, picture.width, picture.height))
    }

    /// As [`run`](Self::run), into a tensor of another form.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_formed(
        &mut self,
        picture: &Picture<'_>,
        tensor: &mut FormedTensor,
    ) -> Result<Geometry, LetterboxError> {
        LetterboxError::check(&self.recipe, picture, tensor.len())?;
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.iter_mut().for_each(|row| row.resize(self.recipe.width, 0.0));
        self.write(picture, &mut Formed { tensor, scratch: &mut scratch }, false);
        self.scratch = scratch;
        Ok(Geometry::new(&self.recipe, picture.width, picture.height))
    }

    fn write(&mut self, picture: &Picture<'_>, rows: &mut impl Rows, is_padded: bool) {
        let source = Source::new(picture);
        if self.source != Some(source) {
            self.prepare(source);
        }
        if !is_padded {
            self.write_padding(rows);
        }
        match picture.layout {
            Layout::Rgb { rgb } => {
                let size = (picture.width, picture.height);
                self.rgb.run(rgb, size, &self.placement, &self.recipe, rows);
            }
            _ => self.write_picture(picture, &source, rows),
        }
    }

    /// Bytes of tables and row buffers held now.
    pub fn scratch_bytes(&self) -> usize {
        let blended: usize = self.blended.iter().map(Vec::capacity).sum();
        let picked: usize = self.picked.iter().map(Vec::capacity).sum();
        let taps = self.luma.bytes() + self.chroma.bytes();
        let scratch: usize = self.scratch.iter().map(Vec::capacity).sum();
        let (picked, scratch) = (picked * size_of::<[i16; 2]>(), scratch * size_of::<f32>());
        taps + blended * size_of::<i16>() + picked + self.rgb.bytes() + scratch
    }

    /// Bytes held at most by video, as long as no picture is wider than `source_width` pixels: the line for the memory
    /// budget.
    pub fn scratch_bytes_for(recipe: &InputRecipe, source_width: u32) -> usize {
        let taps = Taps::bytes_for(recipe.width, recipe.height);
        let blended = (source_width as usize + 1) * size_of::<i16>();
        2 * taps + 3 * (blended + recipe.width * size_of::<[i16; 2]>())
    }

    /// Makes the tables for pictures of another size or layout.
    fn prepare(&mut self, source: Source) {
        self.placement = Placement::new(&self.recipe, source.width, source.height);
        self.luma.prepare(&self.placement, &source, 0, 0);
        self.chroma.prepare(&self.placement, &source, source.sub_x, source.sub_y);
        let columns = [source.luma_columns(), source.chroma_columns(), source.chroma_columns()];
        for (blended, columns) in self.blended.iter_mut().zip(columns) {
            blended.clear();
            blended.reserve_exact(columns + 1);
            blended.resize(columns + 1, 0);
        }
        self.source = Some(source);
    }

    fn write_padding(&self, rows: &mut impl Rows) {
        let (InputRecipe { width, height, pad, scale, offset, .. }, at) = (self.recipe, self.placement);
        let values = std::array::from_fn(|channel| f32::from(pad) * scale[channel] + offset[channel]);
        rows.fill(0, at.top * width, values);
        let below = at.top + at.height;
        rows.fill(below * width, (height - below) * width, values);
        if at.width < width {
            for row in at.top..below {
                rows.fill(row * width, at.left, values);
                let right = at.left + at.width;
                rows.fill(row * width + right, width - right, values);
            }
        }
    }

    fn write_picture(&mut self, picture: &Picture<'_>, source: &Source, rows: &mut impl Rows) {
        let columns = self.placement.width;
        let colour = Colour::new(&self.recipe, picture);
        for row in 0..self.placement.height {
            self.pick_row(picture, source, row);
            let start = (self.placement.top + row) * self.recipe.width + self.placement.left;
            let [y, u, v] = &self.picked;
            let samples = PickedRow {
                y: &y[..columns],
                u: &u[..columns],
                v: &v[..columns],
                luma_weights: &self.luma.weights,
                chroma_weights: &self.chroma.weights,
            };
            let [first, green, third] = rows.row(start, columns);
            let (red, blue) = match self.recipe.channels {
                ChannelOrder::Rgb => (first, third),
                ChannelOrder::Bgr => (third, first),
            };
            convert(&colour, &samples, red, green, blue);
            rows.done(start, columns);
        }
    }

    /// Fills `picked` for one row of the picture in the tensor.
    fn pick_row(&mut self, picture: &Picture<'_>, source: &Source, row: usize) {
        let (luma, chroma) = (self.luma.rows[row], self.chroma.rows[row]);
        let (luma_len, chroma_len) = (source.luma_columns(), source.chroma_columns());
        let [y_row, u_row, v_row] = &mut self.blended;
        let (Layout::Planar { y, .. } | Layout::Nv12 { y, .. } | Layout::Gray { y }) = picture.layout else {
            return;
        };
        blend(y, luma, luma_len, y_row);
        match picture.layout {
            Layout::Planar { u, v, .. } => {
                blend(u, chroma, chroma_len, u_row);
                blend(v, chroma, chroma_len, v_row);
            }
            Layout::Nv12 { uv, .. } => blend_pairs(uv, chroma, chroma_len, u_row, v_row),
            Layout::Gray { .. } | Layout::Rgb { .. } => {}
        }
        let [y_picked, u_picked, v_picked] = &mut self.picked;
        pick(y_row, &self.luma.columns, y_picked);
        if !matches!(picture.layout, Layout::Gray { .. }) {
            pick(u_row, &self.chroma.columns, u_picked);
            pick(v_row, &self.chroma.columns, v_picked);
        }
    }
}

/// From where in a plane the rows and columns of the tensor come.
#[derive(Debug)]
struct Taps {
    /// Per column of the picture in the tensor: the plane's column to its left.
    columns: Vec<u32>,
    /// Per column: the weights of that column and of the next, of [`COLUMN_ONE`] in all.
    weights: Vec<[i16; 2]>,
    rows: Vec<RowTap>,
}

/// From which two rows of a plane one row comes.
#[derive(Debug, Clone, Copy)]
struct RowTap {
    upper: u32,
    lower: u32,
    /// Of the lower row, of 2^15.
    weight: i16,
}

/// The weight 1 of a column: 14 bits, so that an `i16` holds it.
const COLUMN_ONE: i16 = 1 << 14;

impl Taps {
    fn new(recipe: &InputRecipe) -> Self {
        Self {
            columns: Vec::with_capacity(recipe.width),
            weights: Vec::with_capacity(recipe.width),
            rows: Vec::with_capacity(recipe.height),
        }
    }

    fn bytes(&self) -> usize {
        let columns = self.columns.capacity() * size_of::<u32>();
        columns + self.weights.capacity() * size_of::<[i16; 2]>() + self.rows.capacity() * size_of::<RowTap>()
    }

    fn bytes_for(width: usize, height: usize) -> usize {
        width * (size_of::<u32>() + size_of::<[i16; 2]>()) + height * size_of::<RowTap>()
    }

    fn prepare(&mut self, placement: &Placement, source: &Source, sub_x: u8, sub_y: u8) {
        self.columns.clear();
        self.weights.clear();
        self.rows.clear();
        for index in 0..placement.width {
            let position = index + placement.hidden_left;
            let (column, fraction) = tap(position, placement.fitted_width, source.width, sub_x);
            let weight = (fraction * f64::from(COLUMN_ONE)).round() as i16;
            self.columns.push(column);
            self.weights.push([COLUMN_ONE - weight, weight]);
        }
        let last = source.height.div_ceil(1 << sub_y) - 1;
        for index in 0..placement.height {
            let position = index + placement.hidden_top;
            let (upper, fraction) = tap(position, placement.fitted_height, source.height, sub_y);
            // 1 itself would not fit; 2^-15 short of it is within the bound above.
            let weight = (fraction * 32_768.0).round().min(f64::from(i16::MAX)) as i16;
            self.rows.push(RowTap { upper, lower: (upper + 1).min(last), weight });
        }
    }
}

/// The sample before position `index` of `fitted_size`, and how far behind it the position lies, 0..1.
fn tap(index: usize, fitted_size: usize, source_size: u32, sub: u8) -> (u32, f64) {
    let edge = (index as f64 + 0.5) * f64::from(source_size) / fitted_size as f64;
    let last = source_size.div_ceil(1 << sub) - 1;
    let position = (edge / f64::from(1u32 << sub) - 0.5).clamp(0.0, f64::from(last));
    (position.floor() as u32, position - position.floor())
}

/// Columns whose row weight is laid out in memory.
const RUN: usize = 256;

/// Two samples with 6 fraction bits; `weight` is `b`'s, of 2^15.
fn mix(a: i16, b: i16, weight: i16) -> i16 {
    let difference = (b - a) << 7;
    (a << 6) + ((i32::from(difference) * i32::from(weight)) >> 16) as i16
}

/// Writes the `len` samples between two rows of a plane.
fn blend(plane: Plane<'_>, tap: RowTap, len: usize, blended: &mut [i16]) {
    let upper = plane.row(tap.upper as usize, len);
    if tap.weight == 0 {
        // Every row of 1080 on 360, for one.
        for (out, &a) in blended.iter_mut().zip(upper) {
            *out = i16::from(a) << 6;
        }
    } else {
        blend_rows(upper, plane.row(tap.lower as usize, len), &[tap.weight; RUN], blended);
    }
}

/// The weights are all the same, but read from memory: a scalar would be widened outside the loop, and LLVM no
/// longer see that the product of two `i16` is one instruction.
// Not inlined, or it could see through the array.
#[inline(never)]
fn blend_rows(upper: &[u8], lower: &[u8], weights: &[i16; RUN], blended: &mut [i16]) {
    for ((out, upper), lower) in blended.chunks_mut(RUN).zip(upper.chunks(RUN)).zip(lower.chunks(RUN)) {
        for (((out, &a), &b), &weight) in out.iter_mut().zip(upper).zip(lower).zip(weights) {
            *out = mix(i16::from(a), i16::from(b), weight);
        }
    }
}

/// As [`blend`] for `len` pairs of U and V, which it takes apart.
fn blend_pairs(plane: Plane<'_>, tap: RowTap, len: usize, us: &mut [i16], vs: &mut [i16]) {
    let (upper, _) = plane.row(tap.upper as usize, 2 * len).as_chunks::<2>();
    if tap.weight == 0 {
        for ((u, v), &pair) in us.iter_mut().zip(vs).zip(upper) {
            let pair = u16::from_le_bytes(pair);
            *u = ((pair & 0xff) << 6) as i16;
            *v = ((pair >> 8) << 6) as i16;
        }
    } else {
        let (lower, _) = plane.row(tap.lower as usize, 2 * len).as_chunks::<2>();
        blend_pair_rows(upper, lower, &[tap.weight; RUN], us, vs);
    }
}

/// As [`blend_rows`] for pairs.
#[inline(never)]
fn blend_pair_rows(
    upper: &[[u8; 2]],
    lower: &[[u8; 2]],
    weights: &[i16; RUN],
    us: &mut [i16],
    vs: &mut [i16],
) {
    let rows = upper.chunks(RUN).zip(lower.chunks(RUN));
    for ((us, vs), (upper, lower)) in us.chunks_mut(RUN).zip(vs.chunks_mut(RUN)).zip(rows) {
        let samples = upper.iter().zip(lower).zip(weights);
        for ((u, v), ((&a, &b), &weight)) in us.iter_mut().zip(vs).zip(samples) {
            // One 16-bit lane a pair, so that taking it apart is a mask and a shift.
            let (a, b) = (u16::from_le_bytes(a), u16::from_le_bytes(b));
            *u = mix((a & 0xff) as i16, (b & 0xff) as i16, weight);
            *v = mix((a >> 8) as i16, (b >> 8) as i16, weight);
        }
    }
}

/// Copies the two neighbours of each column. Both `i16` travel as one word.
fn pick(row: &[i16], columns: &[u32], picked: &mut [[i16; 2]]) {
    for (out, &column) in picked.iter_mut().zip(columns) {
        let column = column as usize;
        // Always there: `prepare` made the row one longer than the last column.
        if let Some(&[a, b]) = row.get(column..column + 2) {
            *out = [a, b];
        }
    }
}

/// One row of neighbours and the columns' weights.
struct PickedRow<'a> {
    y: &'a [[i16; 2]],
    u: &'a [[i16; 2]],
    v: &'a [[i16; 2]],
    luma_weights: &'a [[i16; 2]],
    chroma_weights: &'a [[i16; 2]],
}

/// Interpolates between the neighbours and converts to colour, one row.
// Not inlined: only as arguments are the outputs known not to overlap, which vectorising needs.
#[inline(never)]
fn convert(colour: &Colour, row: &PickedRow<'_>, red: &mut [f32], green: &mut [f32], blue: &mut [f32]) {
    let len = row.y.len();
    let (y, u, v) = (row.y, &row.u[..len], &row.v[..len]);
    let (luma_weights, chroma_weights) = (&row.luma_weights[..len], &row.chroma_weights[..len]);
    let (red, green, blue) = (&mut red[..len], &mut green[..len], &mut blue[..len]);
    let Colour { red: to_red, green: to_green, blue: to_blue } = *colour;
    for index in 0..len {
        let y = between(y[index], luma_weights[index]);
        let u = between(u[index], chroma_weights[index]);
        let v = between(v[index], chroma_weights[index]);
        red[index] = to_red.bounded(y * to_red.y + v * to_red.v);
        green[index] = to_green.bounded(y * to_green.y + u * to_green.u + v * to_green.v);
        blue[index] = to_blue.bounded(y * to_blue.y + u * to_blue.u);
    }
}

/// The value between two neighbours, with 20 fraction bits.
fn between(pair: [i16; 2], weights: [i16; 2]) -> f32 {
    (i32::from(pair[0]) * i32::from(weights[0]) + i32::from(pair[1]) * i32::from(weights[1])) as f32
}
