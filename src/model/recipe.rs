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
    /// Aspect kept, centred, what does not fit is cut off (classifiers).
    CentreCrop,
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

/// Where the four numbers of a box lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoxOrder {
    /// Left, top, right, bottom.
    Xyxy,
    /// Top, left, bottom, right (TensorFlow, ONNX).
    Yxyx,
    /// Centre and size.
    Cxcywh,
}

/// What the four numbers of a box count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoxUnit {
    /// Pixels of the input tensor.
    Pixels,
    /// Its width and height are 1.
    Normalised,
}

/// How a tensor of boxes is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoxFormat {
    /// Which number is which.
    pub order: BoxOrder,
    /// What they count.
    pub unit: BoxUnit,
}

/// What makes probabilities of a head's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing: the model did it.
    None,
    /// `1 / (1 + exp(-x))`, class by class.
    Sigmoid,
    /// `exp(x) / sum of exp(x)` over the classes of a box.
    Softmax,
}

/// Whether one of the classes stands for "nothing here".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Background {
    /// None does.
    None,
    /// The first (SSD).
    First,
    /// The last (DETR).
    Last,
}

/// What a head says of an object besides its box and its class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// Nothing.
    None,
    /// The points of a pose, each `x, y` or `x, y, visible`.
    Keypoints {
        /// Points of an object.
        count: usize,
        /// Numbers of a point: 2 or 3.
        dims: usize,
    },
    /// Coefficients of a mask that is put together from the prototypes of a second output.
    Mask {
        /// How many, as many as there are prototypes.
        coefficients: usize,
    },
    /// The angle of an oriented box in radians, clockwise as one sees the picture.
    Angle,
}

impl Extra {
    /// Numbers that an object has for it.
    pub fn len(self) -> usize {
        match self {
            Self::None => 0,
            Self::Keypoints { count, dims } => count * dims,
            Self::Mask { coefficients } => coefficients,
            Self::Angle => 1,
        }
    }

    /// True where there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// How the rows of a list of finished boxes are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowLayout {
    /// `x1 y1 x2 y2 score class` (Ultralytics, YOLOv10, YOLO26).
    BoxScoreClass,
    /// `cx cy w h score class`, width and height of the tensor being 1 (RT-DETR as Ultralytics exports it).
    CentreScoreClass,
    /// `class score x1 y1 x2 y2` (PaddleDetection).
    ClassScoreBox,
    /// `picture x1 y1 x2 y2 class score` (YOLOv6 and v7 with NMS from ONNX).
    PictureBoxClassScore,
}

/// Which family of head the outputs belong to. The formulas are in the files of `decode/`.
#[derive(Debug, Clone, PartialEq)]
pub enum HeadRecipe {
    /// One output `[1, N, 5 + classes]`, not decoded: `xy = (p + grid) * stride`, `wh = exp(p) * stride`,
    /// `score = objectness * class`. N runs over the strides in order, each grid row by row.
    Yolox {
        /// Strides of the grids, for example 8, 16, 32.
        strides: Vec<usize>,
    },
    /// One output `[1, N, 5 + classes + extra]`, decoded: cx cy w h in input pixels, objectness, class scores, then the
    /// extra numbers (YOLOv5, YOLOv6, YOLOv7, YOLOX exported with `--decode_in_inference`).
    Yolov5 {
        /// Nothing for a detector.
        extra: Extra,
    },
    /// One output per stride, `[1, A, H, W, 5 + classes]` or `[1, A * (5 + classes), H, W]`, before the sigmoid (YOLOv5 and
    /// v7 without their grid).
    Yolov5Grids {
        /// Strides of the grids, for example 8, 16, 32.
        strides: Vec<usize>,
        /// Per stride the widths and heights of its A anchors, in input pixels.
        anchors: Vec<Vec<[f32; 2]>>,
    },
    /// One output `[1, 4 + classes + extra, N]`: cx cy w h in input pixels, then class scores, then the extra numbers
    /// (YOLOv8, 9, 11, 12).
    Yolov8 {
        /// Nothing for a detector.
        extra: Extra,
    },
    /// One output `[1, N, 6 + extra]` of finished boxes (YOLOv10, YOLO26, any YOLO with NMS inside).
    EndToEnd {
        /// Which column is what.
        layout: RowLayout,
        /// What further columns hold.
        extra: Extra,
    },
    /// Boxes `[1, N, 4]`, scores `[1, N]` and classes `[1, N]` as outputs of their own (EfficientNMS, exported RT-DETR,
    /// TensorFlow's detectors). Finished: nothing is suppressed.
    Listed {
        /// Names of the outputs.
        outputs: ListedOutputs,
        /// How boxes are written.
        format: BoxFormat,
        /// The number that the first label has.
        first_class: u32,
    },
    /// Boxes, scores and the `[K, 3]` indices that an ONNX NonMaxSuppression chose of them.
    Selected {
        /// Output `[1, N, 4]`.
        boxes: String,
        /// Output `[1, classes, N]`.
        scores: String,
        /// Output `[K, 3]`: picture, class, box.
        indices: String,
        /// How boxes are written.
        format: BoxFormat,
    },
    /// Class scores and a distribution over distances per side, per stride or joined (NanoDet, PicoDet, YOLOv8 cut off
    /// before its head).
    Nanodet {
        /// Strides of the grids, for example 8, 16, 32.
        strides: Vec<usize>,
        /// Numbers of a side's distribution: `reg_max + 1`.
        bins: usize,
        /// Where in its cell a grid point lies: 0.5 for its centre, 0 for its corner.
        cell_offset: f32,
        /// What makes probabilities of the class scores.
        activation: Activation,
    },
    /// Queries with class logits and boxes, no NMS (DETR, RT-DETR, D-FINE, DEIM, RF-DETR).
    Detr {
        /// Output `[1, N, 4]`, or `[1, N, 4 + classes]` for both.
        boxes: String,
        /// Output `[1, N, classes]`.
        scores: String,
        /// How boxes are written.
        format: BoxFormat,
        /// What makes probabilities of the logits.
        activation: Activation,
        /// Whether a class stands for nothing.
        background: Background,
    },
    /// Boxes and class scores before NMS (SSD, YOLO-NAS, PP-YOLOE).
    Ssd {
        /// Output `[1, N, 4]`.
        boxes: String,
        /// Output `[1, N, classes]` or `[1, classes, N]`.
        scores: String,
        /// How boxes are written.
        format: BoxFormat,
        /// What makes probabilities of the scores.
        activation: Activation,
        /// Whether a class stands for nothing.
        background: Background,
    },
    /// One output `[1, classes]`: what the whole picture shows.
    Classify {
        /// What makes probabilities of the scores.
        activation: Activation,
    },
}

/// The names of the outputs that a [`HeadRecipe::Listed`] reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedOutputs {
    /// `[1, N, 4]`, or `[1, N, 5]` with the score in the fifth column.
    pub boxes: String,
    /// `[1, N]`; `None` where the boxes carry it.
    pub scores: Option<String>,
    /// `[1, N]`.
    pub classes: String,
    /// How many of the N count; `None` where all do.
    pub count: Option<String>,
}

impl HeadRecipe {
    /// A YOLOv8 detector.
    pub const YOLOV8: Self = Self::Yolov8 { extra: Extra::None };
    /// A YOLOv5 detector.
    pub const YOLOV5: Self = Self::Yolov5 { extra: Extra::None };

    /// As a manifest spells it.
    pub fn family(&self) -> &'static str {
        match self {
            Self::Yolox { .. } => "yolox",
            Self::Yolov5 { .. } => "yolov5",
            Self::Yolov5Grids { .. } => "yolov5-grids",
            Self::Yolov8 { .. } => "yolov8",
            Self::EndToEnd { .. } => "end-to-end",
            Self::Listed { .. } => "listed",
            Self::Selected { .. } => "selected",
            Self::Nanodet { .. } => "nanodet",
            Self::Detr { .. } => "detr",
            Self::Ssd { .. } => "ssd",
            Self::Classify { .. } => "classify",
        }
    }

    /// What it says of an object besides its box and its class.
    pub fn extra(&self) -> Extra {
        match self {
            Self::Yolov5 { extra } | Self::Yolov8 { extra } | Self::EndToEnd { extra, .. } => *extra,
            _ => Extra::None,
        }
    }

    /// What the model is for: `detect`, `pose`, `segment`, `obb` or `classify`.
    pub fn task(&self) -> &'static str {
        match (self, self.extra()) {
            (Self::Classify { .. }, _) => "classify",
            (_, Extra::None) => "detect",
            (_, Extra::Keypoints { .. }) => "pose",
            (_, Extra::Mask { .. }) => "segment",
            (_, Extra::Angle) => "obb",
        }
    }
}

/// Cells of all grids that `strides` lay over the input. A last cell that is cut off counts: the
/// convolutions round up.
pub fn grid_cells(input: &InputRecipe, strides: &[usize]) -> usize {
    strides.iter().map(|&stride| input.width.div_ceil(stride) * input.height.div_ceil(stride)).sum()
}
