//! The letterbox, written to be read: the specification that every fast path, on whatever device, is
//! tested against. It is slow on purpose and nothing calls it on the frame path.
//!
//! For each pixel `(x, y)` of the tensor:
//!
//! 1. **Padding.** Outside the [`Placement`] all three samples are `recipe.pad`.
//! 2. **Position.** Inside, with half-pixel centres (OpenCV `INTER_LINEAR`, no antialiasing):
//!    `sx = (x - left + hidden_left + 0.5) * source_width / fitted_width - 0.5`, and `sy` likewise.
//! 3. **Luma** is the bilinear sample of the Y plane at `(sx, sy)`; positions are clamped to
//!    `0..=size - 1` first, which repeats the border.
//! 4. **Chroma** is the bilinear sample of its own plane at the same place in the picture. A chroma
//!    sample is taken to sit in the CENTRE of the luma samples that it covers (the convention of JPEG and
//!    MPEG-1; `chroma-site=jpeg`): `cx = (sx + 0.5) / 2^sub_x - 0.5`, and `cy` likewise, from the position
//!    before clamping, then clamped to the chroma plane. Video that sites chroma at the left is so shifted by
//!    half a source pixel, in colour only: less than the difference between two decoders' upsampling.
//! 5. **Colour.** ITU-R BT.601-7 (`Kr 0.299, Kb 0.114`) or BT.709-6 (`Kr 0.2126, Kb 0.0722`), `Kg = 1 - Kr - Kb`:
//!    `Y = (y - 16) / 219, Pb = (cb - 128) / 224, Pr = (cr - 128) / 224` for the limited range,
//!    `Y = y / 255, Pb = (cb - 128) / 255, Pr = (cr - 128) / 255` for the full one;
//!    `R = Y + 2 (1 - Kr) Pr`, `B = Y + 2 (1 - Kb) Pb`,
//!    `G = Y - 2 Kr (1 - Kr) / Kg * Pr - 2 Kb (1 - Kb) / Kg * Pb`. Each is multiplied by 255 and clamped to
//!    `0..=255`, and NOT rounded to a whole number. A grey picture has `R = G = B = Y`.
//! 6. **Normalisation.** `tensor[c][y][x] = sample * scale[c] + offset[c]`, `c` in the tensor's channel order.
//!
//! The picture is interpolated in Y'CbCr and converted once, at the tensor's resolution. One in red, green and blue is
//! interpolated as it is; the fast path rounds it to whole samples, as the models' own tools do (`letterbox_rgb.rs`).

use super::{Geometry, Layout, LetterboxError, Matrix, Picture, Placement, Plane, Range};
use crate::model::{ChannelOrder, InputRecipe};

/// Writes `picture` into `tensor` (`recipe.len()` values, `[3, height, width]`), every value of it.
///
/// # Errors
/// [`LetterboxError`] for a picture that is not whole or a tensor of another length; nothing is written then.
pub fn letterbox_reference(
    recipe: &InputRecipe,
    picture: &Picture<'_>,
    tensor: &mut [f32],
) -> Result<Geometry, LetterboxError> {
    LetterboxError::check(recipe, picture, tensor.len())?;
    let placement = Placement::new(recipe, picture.width, picture.height);
    for y in 0..recipe.height {
        for x in 0..recipe.width {
            let inside = (placement.left..placement.left + placement.width).contains(&x)
                && (placement.top..placement.top + placement.height).contains(&y);
            let rgb = if inside {
                let (column, row) =
                    (x - placement.left + placement.hidden_left, y - placement.top + placement.hidden_top);
                let sx = position(column, picture.width as usize, placement.fitted_width);
                let sy = position(row, picture.height as usize, placement.fitted_height);
                to_rgb(picture, sample_at(picture, sx, sy))
            } else {
                [f64::from(recipe.pad); 3]
            };
            let samples = match recipe.channels {
                ChannelOrder::Rgb => rgb,
                ChannelOrder::Bgr => [rgb[2], rgb[1], rgb[0]],
            };
            for (channel, sample) in samples.into_iter().enumerate() {
                let value = sample * f64::from(recipe.scale[channel]) + f64::from(recipe.offset[channel]);
                tensor[(channel * recipe.height + y) * recipe.width + x] = value as f32;
            }
        }
    }
    Ok(Geometry::new(recipe, picture.width, picture.height))
}

/// Step 2: the source position whose sample belongs at `index` of `fitted_size`.
fn position(index: usize, source_size: usize, fitted_size: usize) -> f64 {
    (index as f64 + 0.5) * source_size as f64 / fitted_size as f64 - 0.5
}

/// Steps 3 and 4: Y, Cb and Cr at a position of the luma plane, as code values.
fn sample_at(picture: &Picture<'_>, sx: f64, sy: f64) -> [f64; 3] {
    let (width, height) = (picture.width as usize, picture.height as usize);
    let chroma = |sub_x: u8, sub_y: u8| Chroma {
        x: (sx + 0.5) / f64::from(1u32 << sub_x) - 0.5,
        y: (sy + 0.5) / f64::from(1u32 << sub_y) - 0.5,
        columns: width.div_ceil(1 << sub_x),
        rows: height.div_ceil(1 << sub_y),
    };
    match picture.layout {
        Layout::Planar { y, u, v, sub_x, sub_y } => {
            let at = chroma(sub_x, sub_y);
            let luma = bilinear(sx, sy, width, height, |x, row| sample(y, x, row));
            let cb = bilinear(at.x, at.y, at.columns, at.rows, |x, row| sample(u, x, row));
            let cr = bilinear(at.x, at.y, at.columns, at.rows, |x, row| sample(v, x, row));
            [luma, cb, cr]
        }
        Layout::Nv12 { y, uv } => {
            let at = chroma(1, 1);
            let luma = bilinear(sx, sy, width, height, |x, row| sample(y, x, row));
            let cb = bilinear(at.x, at.y, at.columns, at.rows, |x, row| sample(uv, 2 * x, row));
            let cr = bilinear(at.x, at.y, at.columns, at.rows, |x, row| sample(uv, 2 * x + 1, row));
            [luma, cb, cr]
        }
        Layout::Gray { y } => {
            let luma = bilinear(sx, sy, width, height, |x, row| sample(y, x, row));
            [luma, 128.0, 128.0]
        }
        Layout::Rgb { rgb } => std::array::from_fn(|channel| {
            bilinear(sx, sy, width, height, |x, row| sample(rgb, 3 * x + channel, row))
        }),
    }
}

/// A position in a chroma plane and the plane's size.
struct Chroma {
    x: f64,
    y: f64,
    columns: usize,
    rows: usize,
}

fn sample(plane: Plane<'_>, byte: usize, row: usize) -> f64 {
    f64::from(plane.data[row * plane.stride_bytes + byte])
}

/// The bilinear sample of a plane of `columns` by `rows` at `(x, y)`, its border repeated.
fn bilinear(x: f64, y: f64, columns: usize, rows: usize, sample: impl Fn(usize, usize) -> f64) -> f64 {
    let x = x.clamp(0.0, (columns - 1) as f64);
    let y = y.clamp(0.0, (rows - 1) as f64);
    let (x0, y0) = (x.floor() as usize, y.floor() as usize);
    let (x1, y1) = ((x0 + 1).min(columns - 1), (y0 + 1).min(rows - 1));
    let (fx, fy) = (x - x.floor(), y - y.floor());
    let upper = sample(x0, y0) * (1.0 - fx) + sample(x1, y0) * fx;
    let lower = sample(x0, y1) * (1.0 - fx) + sample(x1, y1) * fx;
    upper * (1.0 - fy) + lower * fy
}

/// Step 5: R, G and B, 0..=255.
fn to_rgb(picture: &Picture<'_>, [y, cb, cr]: [f64; 3]) -> [f64; 3] {
    if matches!(picture.layout, Layout::Rgb { .. }) {
        return [y, cb, cr];
    }
    let (kr, kb) = match picture.matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.2126, 0.0722),
    };
    let kg = 1.0 - kr - kb;
    let (luma, pb, pr) = match picture.range {
        Range::Limited => ((y - 16.0) / 219.0, (cb - 128.0) / 224.0, (cr - 128.0) / 224.0),
        Range::Full => (y / 255.0, (cb - 128.0) / 255.0, (cr - 128.0) / 255.0),
    };
    let red = luma + 2.0 * (1.0 - kr) * pr;
    let green = luma - 2.0 * kr * (1.0 - kr) / kg * pr - 2.0 * kb * (1.0 - kb) / kg * pb;
    let blue = luma + 2.0 * (1.0 - kb) * pb;
    [red, green, blue].map(|sample| (sample * 255.0).clamp(0.0, 255.0))
}
