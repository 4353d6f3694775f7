//! What each family's own tool does to a picture before the model sees it.

use watchpost_binding::Number;

use super::{Overrides, Said, Values};
use crate::model::{ChannelOrder, Fit, InputRecipe, OnnxFacts};

/// Whose tool trained and exported the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Ultralytics, and the YOLOs that took its letterbox over.
    Ultralytics,
    /// The YOLOX project.
    Yolox,
    /// NanoDet.
    Nanodet,
    /// PaddleDetection.
    Paddle,
    /// RT-DETR, D-FINE, DEIM.
    RtDetr,
    /// DETR, RF-DETR and their like, which see what ImageNet's models see.
    Detr,
    /// SSD.
    Ssd,
    /// Detectors of torchvision, which normalise inside.
    Torchvision,
    /// MMDetection.
    MmDetection,
    /// Classifiers of torchvision and timm.
    Classifier,
    /// Classifiers of Ultralytics.
    UltralyticsClassifier,
}

/// Name, channels, fit, values.
type Custom = (&'static str, ChannelOrder, Fit, Values);

impl Origin {
    fn custom(self) -> Custom {
        use ChannelOrder::{Bgr, Rgb};
        use Fit::{CentreCrop, LetterboxCentre, LetterboxTopLeft, Stretch};
        match self {
            Self::Ultralytics => ("Ultralytics'", Rgb, LetterboxCentre, Values::Unit),
            Self::Yolox => ("the YOLOX project's", Bgr, LetterboxTopLeft, Values::Bytes),
            Self::Nanodet => ("NanoDet's", Bgr, Stretch, Values::ImagenetBytes),
            Self::Paddle => ("PaddleDetection's", Rgb, Stretch, Values::Imagenet),
            Self::RtDetr => ("RT-DETR's", Rgb, Stretch, Values::Unit),
            Self::Detr => ("DETR's", Rgb, Stretch, Values::Imagenet),
            Self::Ssd => ("SSD's", Rgb, Stretch, Values::Signed),
            Self::Torchvision => ("torchvision's", Rgb, Stretch, Values::Unit),
            Self::MmDetection => ("MMDetection's", Bgr, LetterboxTopLeft, Values::ImagenetBytes),
            Self::Classifier => ("torchvision's", Rgb, CentreCrop, Values::Imagenet),
            Self::UltralyticsClassifier => ("Ultralytics'", Rgb, CentreCrop, Values::Unit),
        }
    }
}

impl Values {
    /// Scale and offset per channel of samples 0..=255, in the order of `channels`.
    pub(super) fn normalisation(self, channels: ChannelOrder) -> ([f32; 3], [f32; 3]) {
        let from = |mean: [f64; 3], std: [f64; 3]| {
            let scale = std.map(|std| (1.0 / std) as f32);
            let offset = std::array::from_fn(|channel| (-mean[channel] / std[channel]) as f32);
            (scale, offset)
        };
        let (scale, offset): ([f32; 3], [f32; 3]) = match self {
            Self::Bytes => ([1.0; 3], [0.0; 3]),
            Self::Unit => ([1.0 / 255.0; 3], [0.0; 3]),
            Self::Signed => from([127.0; 3], [128.0; 3]),
            // Of red, green and blue, for values 0..1.
            Self::Imagenet => {
                let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
                from(mean.map(|mean| mean * 255.0), std.map(|std: f64| std * 255.0))
            }
            // As OpenMMLab and NanoDet write them, for values 0..255.
            Self::ImagenetBytes => from([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),
        };
        let reversed = |[a, b, c]: [f32; 3]| [c, b, a];
        match channels {
            ChannelOrder::Rgb => (scale, offset),
            ChannelOrder::Bgr => (reversed(scale), reversed(offset)),
        }
    }
}

pub(super) fn input_recipe(
    origin: Origin,
    (width, height): (usize, usize),
    overrides: &Overrides,
    facts: &OnnxFacts,
    say: &mut Said,
) -> InputRecipe {
    let (name, default_channels, default_fit, default_values) = origin.custom();
    let channels = overrides.channels.unwrap_or(default_channels);
    let fit = overrides.fit.unwrap_or(default_fit);
    // Who takes bytes makes of them inside what he wants.
    let takes_bytes =
        super::settle(facts, Some((width, height))).is_ok_and(|picture| picture.form.number == Number::U8);
    let default_values = if takes_bytes { Values::Bytes } else { default_values };
    let values = overrides.values.unwrap_or(default_values);
    let padding = if matches!(fit, Fit::Stretch | Fit::CentreCrop) { "" } else { ", padding 114" };
    say.note(format!("{}, {}, values {}{padding}", channels.as_str(), fit.as_str(), values.as_str()));
    // Ultralytics' tools have one custom, and say in the file that they wrote it.
    let certain = matches!(origin, Origin::Ultralytics | Origin::UltralyticsClassifier)
        && facts.metadata.contains_key("names");
    if !certain && overrides.channels.is_none() {
        say.unknown(format!(
            "order of the channels: {name} {} was assumed; --channels rgb or --channels bgr says otherwise",
            default_channels.as_str()
        ));
    }
    if !certain && overrides.fit.is_none() {
        say.unknown(format!(
            "how pictures are fitted in: {name} {} was assumed; --fit says otherwise",
            default_fit.as_str()
        ));
    }
    if !certain && !takes_bytes && overrides.values.is_none() {
        let history = match origin {
            Origin::Yolox => " (YOLOX models of before 2021-08 want imagenet)",
            Origin::RtDetr => " (DEIMv2 with a DINOv3 backbone wants imagenet)",
            Origin::Paddle => " (PP-YOLOE+ wants 0..1)",
            _ => "",
        };
        say.unknown(format!(
            "scale of the values: {name} {} was assumed{history}; --values says otherwise",
            default_values.as_str()
        ));
    }
    let (scale, offset) = values.normalisation(channels);
    InputRecipe { width, height, channels, fit, pad: 114, scale, offset }
}
