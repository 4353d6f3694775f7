//! From Y'CbCr samples to what a model's input channels hold.

use super::{Layout, Matrix, Picture, Range};
use crate::model::{ChannelOrder, InputRecipe};

/// Y'CbCr with 20 fraction bits to normalised colour: `gain * sample + summand`, then bounded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Colour {
    pub red: Channel,
    pub green: Channel,
    pub blue: Channel,
}

/// One row of the matrix with the channel's scale and offset folded in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Channel {
    pub y: f32,
    pub u: f32,
    pub v: f32,
    summand: f32,
    least: f32,
    most: f32,
}

impl Colour {
    pub fn new(recipe: &InputRecipe, picture: &Picture<'_>) -> Self {
        let (kr, kb) = match picture.matrix {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.2126, 0.0722),
        };
        let kg = 1.0 - kr - kb;
        let (black, luma, chroma) = match picture.range {
            Range::Limited => (16.0, 255.0 / 219.0, 255.0 / 224.0),
            Range::Full => (0.0, 1.0, 1.0),
        };
        // A grey picture has no chroma: whatever the buffers hold then counts nothing.
        let chroma = if matches!(picture.layout, Layout::Gray { .. }) { 0.0 } else { chroma };
        let (v_red, u_blue) = (2.0 * (1.0 - kr) * chroma, 2.0 * (1.0 - kb) * chroma);
        let (red, blue) = match recipe.channels {
            ChannelOrder::Rgb => (0, 2),
            ChannelOrder::Bgr => (2, 0),
        };
        let channel = |index: usize, u: f64, v: f64| {
            let (scale, offset) = (f64::from(recipe.scale[index]), f64::from(recipe.offset[index]));
            let unit = scale / f64::from(1u32 << 20);
            let ends = (offset as f32, (255.0 * scale + offset) as f32);
            Channel {
                y: (luma * unit) as f32,
                u: (u * unit) as f32,
                v: (v * unit) as f32,
                summand: (offset - scale * (luma * black + (u + v) * 128.0)) as f32,
                least: ends.0.min(ends.1),
                most: ends.0.max(ends.1),
            }
        };
        Self {
            red: channel(red, 0.0, v_red),
            green: channel(1, -u_blue * kb / kg, -v_red * kr / kg),
            blue: channel(blue, u_blue, 0.0),
        }
    }
}

impl Channel {
    /// Comparisons rather than `clamp`, whose rules for NaN cost instructions; there is none here.
    #[inline]
    pub fn bounded(&self, sum: f32) -> f32 {
        let value = sum + self.summand;
        let value = if value < self.least { self.least } else { value };
        if value > self.most { self.most } else { value }
    }
}
