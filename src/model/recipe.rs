//! The recipe of a model: how a picture becomes its input tensor and which head its outputs have.

/// Order of the three channel planes of the input tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelOrder {
    /// Red first.
    Rgb,
    /// Blue first (models trained on what OpenCV reads).
    Bgr,
}

/// How a picture of any shape is fitted into the input tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Aspect kept, centred, the rest padded (Ultralytics).
    LetterboxCentre,
    /// Aspect kept, top left, the rest padded (YOLOX).
    LetterboxTopLeft,
    /// Aspect ignored.
    Stretch,
}

/// From picture to input tensor: `[3, height, width]` planar f32, `value = sample * scale[c] + offset[c]`
/// with samples 0..=255 and `c` counted in the tensor's channel order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InputRecipe {
    /// Tensor width in elements.
    pub width: usize,
    /// Tensor height in elements.
    pub height: usize,
    /// Which channel comes first.
    pub channels: ChannelOrder,
    /// How the picture is fitted in.
    pub fit: Fit,
    /// Sample value of the padding, before scale and offset; 114 by custom.
    pub pad: u8,
    /// Factor per channel.
    pub scale: [f32; 3],
    /// Summand per channel.
    pub offset: [f32; 3],
}

impl InputRecipe {
    /// Elements of one frame's tensor.
    pub fn len(&self) -> usize {
        3 * self.width * self.height
    }

    /// True for a tensor without elements, which no manifest may name.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Which family of detection head the outputs belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadRecipe {
    /// One output `[1, N, 5 + classes]`, not decoded: `xy = (p + grid) * stride`, `wh = exp(p) * stride`,
    /// `score = objectness * class`. N runs over the strides in order, each grid row by row.
    Yolox {
        /// Strides of the grids, for example 8, 16, 32.
        strides: Vec<usize>,
    },
    /// One output `[1, 4 + classes, N]`: cx cy w h in input pixels, then class scores (YOLOv8, 9, 11, 12).
    Yolov8,
}

impl HeadRecipe {
    /// As a manifest spells it.
    pub fn family(&self) -> &'static str {
        match self {
            Self::Yolox { .. } => "yolox",
            Self::Yolov8 => "yolov8",
        }
    }
}

/// Cells of all grids that `strides` lay over the input. A last cell that is cut off counts: the
/// convolutions round up.
pub fn grid_cells(input: &InputRecipe, strides: &[usize]) -> usize {
    strides.iter().map(|&stride| input.width.div_ceil(stride) * input.height.div_ceil(stride)).sum()
}
