//! The `[head]` table of a manifest: which family, and what it needs to know.

use std::fmt::Write as _;

use toml::de::DeValue;

use super::manifest_text::{Mistake, Section, float_of, integer_of, unknown};
use super::{
    Activation, Background, BoxFormat, BoxOrder, BoxUnit, Extra, HeadRecipe, ListedOutputs, RowLayout,
};

/// Keypoints and coefficients beyond this are a mistake.
const MAX_EXTRA: i64 = 1024;

const FAMILIES: [&str; 11] = [
    "yolox",
    "yolov5",
    "yolov5-grids",
    "yolov8",
    "end-to-end",
    "listed",
    "selected",
    "nanodet",
    "detr",
    "ssd",
    "classify",
];

const ORDERS: [(&str, BoxOrder); 3] =
    [("xyxy", BoxOrder::Xyxy), ("yxyx", BoxOrder::Yxyx), ("cxcywh", BoxOrder::Cxcywh)];
const UNITS: [(&str, BoxUnit); 2] = [("pixels", BoxUnit::Pixels), ("normalised", BoxUnit::Normalised)];
const ACTIVATIONS: [(&str, Activation); 3] =
    [("none", Activation::None), ("sigmoid", Activation::Sigmoid), ("softmax", Activation::Softmax)];
const BACKGROUNDS: [(&str, Background); 3] =
    [("none", Background::None), ("first", Background::First), ("last", Background::Last)];
const LAYOUTS: [(&str, RowLayout); 4] = [
    ("box-score-class", RowLayout::BoxScoreClass),
    ("centre-score-class", RowLayout::CentreScoreClass),
    ("class-score-box", RowLayout::ClassScoreBox),
    ("picture-box-class-score", RowLayout::PictureBoxClassScore),
];

fn word<T: Copy + PartialEq>(value: T, choices: &[(&'static str, T)]) -> &'static str {
    choices.iter().find(|(_, choice)| *choice == value).map_or("", |(word, _)| word)
}

/// Reads the table.
pub(super) fn read(section: &Section<'_>) -> Result<HeadRecipe, Mistake> {
    let (family, span) = section.text("family")?;
    match family {
        "yolox" => {
            section.only(&["family", "strides"])?;
            Ok(HeadRecipe::Yolox { strides: strides(section)? })
        }
        "yolov5" => {
            section.only(&["family", "strides", "keypoints", "keypoint_dims", "mask_coefficients"])?;
            Ok(HeadRecipe::Yolov5 { extra: extra(section)? })
        }
        "yolov5-grids" => grids(section),
        "yolov8" => {
            // Its boxes are in pixels already: strides may be said and change nothing.
            section.only(&[
                "family",
                "strides",
                "keypoints",
                "keypoint_dims",
                "mask_coefficients",
                "angle",
            ])?;
            Ok(HeadRecipe::Yolov8 { extra: extra(section)? })
        }
        "end-to-end" => {
            section.only(&[
                "family",
                "layout",
                "keypoints",
                "keypoint_dims",
                "mask_coefficients",
                "angle",
            ])?;
            let layout = section.choice("layout", &LAYOUTS)?;
            Ok(HeadRecipe::EndToEnd { layout, extra: extra(section)? })
        }
        "listed" => listed(section),
        "selected" => {
            section.only(&["family", "boxes", "scores", "indices", "box_order", "box_unit"])?;
            let name = |key| section.text(key).map(|(text, _)| text.to_owned());
            let (boxes, scores, indices) = (name("boxes")?, name("scores")?, name("indices")?);
            Ok(HeadRecipe::Selected { boxes, scores, indices, format: format(section)? })
        }
        "nanodet" => nanodet(section),
        "detr" | "ssd" => pairs(section, family == "detr"),
        "classify" => {
            section.only(&["family", "activation"])?;
            Ok(HeadRecipe::Classify { activation: section.choice("activation", &ACTIVATIONS)? })
        }
        other => Err((unknown("family", other, &FAMILIES), span)),
    }
}

fn grids(section: &Section<'_>) -> Result<HeadRecipe, Mistake> {
    section.only(&["family", "strides", "anchors"])?;
    let (strides, anchors) = (strides(section)?, anchors(section)?);
    if strides.len() != anchors.len() {
        let (_, span) = section.array("anchors")?;
        return Err((format!("anchors needs a list per stride: {} of them", strides.len()), span));
    }
    Ok(HeadRecipe::Yolov5Grids { strides, anchors })
}

fn pairs(section: &Section<'_>, is_detr: bool) -> Result<HeadRecipe, Mistake> {
    section.only(&["family", "boxes", "scores", "box_order", "box_unit", "activation", "background"])?;
    let name = |key| section.text(key).map(|(text, _)| text.to_owned());
    let (boxes, scores, format) = (name("boxes")?, name("scores")?, format(section)?);
    let activation = section.choice("activation", &ACTIVATIONS)?;
    let background = section.choice("background", &BACKGROUNDS)?;
    Ok(if is_detr {
        HeadRecipe::Detr { boxes, scores, format, activation, background }
    } else {
        HeadRecipe::Ssd { boxes, scores, format, activation, background }
    })
}

fn strides(section: &Section<'_>) -> Result<Vec<usize>, Mistake> {
    let (strides, span) = section.array("strides")?;
    let strides: Option<Vec<usize>> = strides
        .iter()
        .map(|value| integer_of(value.get_ref()).and_then(|v| usize::try_from(v).ok()))
        .filter(|stride| stride.is_none_or(|stride| (1..=512).contains(&stride)))
        .collect();
    match strides {
        Some(strides) if (1..=8).contains(&strides.len()) => Ok(strides),
        _ => Err(("strides must be 1 to 8 whole numbers, each 1..=512".to_owned(), span)),
    }
}

fn anchors(section: &Section<'_>) -> Result<Vec<Vec<[f32; 2]>>, Mistake> {
    let (levels, span) = section.array("anchors")?;
    let pair = |value: &DeValue<'_>| match value {
        DeValue::Array(pair) => match &pair[..] {
            [width, height] => Some([float_of(width.get_ref())?, float_of(height.get_ref())?]),
            _ => None,
        },
        _ => None,
    };
    let level = |value: &DeValue<'_>| match value {
        DeValue::Array(pairs) => pairs.iter().map(|value| pair(value.get_ref())).collect::<Option<Vec<_>>>(),
        _ => None,
    };
    let read: Option<Vec<_>> = levels.iter().map(|value| level(value.get_ref())).collect();
    let sound = |level: &Vec<[f32; 2]>| {
        (1..=16).contains(&level.len()) && level.iter().flatten().all(|side| *side > 0.0 && side.is_finite())
    };
    read.filter(|levels| levels.iter().all(sound)).ok_or_else(|| {
        let reason = "anchors must be lists of [width, height] in pixels, one list per stride";
        (reason.to_owned(), span)
    })
}

fn extra(section: &Section<'_>) -> Result<Extra, Mistake> {
    let number = |key: &str| match section.integer(key)? {
        (value, _) if (1..=MAX_EXTRA).contains(&value) => Ok(value as usize),
        (value, span) => Err((format!("{key} = {value} is outside 1..={MAX_EXTRA}"), span)),
    };
    let has = |key: &str| section.table.contains_key(key);
    match (has("keypoints"), has("mask_coefficients"), has("angle")) {
        (false, false, false) => Ok(Extra::None),
        (true, false, false) => {
            let (count, dims) = (number("keypoints")?, number("keypoint_dims")?);
            if !(2..=3).contains(&dims) {
                let (_, span) = section.integer("keypoint_dims")?;
                return Err(("keypoint_dims must be 2 (x, y) or 3 (x, y, visible)".to_owned(), span));
            }
            Ok(Extra::Keypoints { count, dims })
        }
        (false, true, false) => Ok(Extra::Mask { coefficients: number("mask_coefficients")? }),
        (false, false, true) => match section.get("angle")?.get_ref() {
            DeValue::Boolean(true) => Ok(Extra::Angle),
            DeValue::Boolean(false) => Ok(Extra::None),
            _ => Err(("angle must be true or false".to_owned(), section.get("angle")?.span())),
        },
        _ => {
            let span = section.get("family")?.span();
            Err(("a head has keypoints, mask_coefficients or angle, and only one of them".to_owned(), span))
        }
    }
}

fn format(section: &Section<'_>) -> Result<BoxFormat, Mistake> {
    Ok(BoxFormat { order: section.choice("box_order", &ORDERS)?, unit: section.choice("box_unit", &UNITS)? })
}

fn listed(section: &Section<'_>) -> Result<HeadRecipe, Mistake> {
    section.only(&[
        "family",
        "boxes",
        "scores",
        "classes",
        "count",
        "box_order",
        "box_unit",
        "first_class",
    ])?;
    let name = |key: &str| section.text(key).map(|(text, _)| text.to_owned());
    let optional = |key: &str| section.table.contains_key(key).then(|| name(key)).transpose();
    let outputs = ListedOutputs {
        boxes: name("boxes")?,
        scores: optional("scores")?,
        classes: name("classes")?,
        count: optional("count")?,
    };
    let (first_class, span) = section.integer("first_class")?;
    let first_class = u32::try_from(first_class).ok().filter(|&first| first <= 1000);
    let first_class = first_class.ok_or_else(|| ("first_class is outside 0..=1000".to_owned(), span))?;
    Ok(HeadRecipe::Listed { outputs, format: format(section)?, first_class })
}

fn nanodet(section: &Section<'_>) -> Result<HeadRecipe, Mistake> {
    section.only(&["family", "strides", "bins", "cell_offset", "activation"])?;
    let strides = strides(section)?;
    let bins = match section.integer("bins")? {
        (bins, _) if (2..=64).contains(&bins) => bins as usize,
        (bins, span) => return Err((format!("bins = {bins} is outside 2..=64"), span)),
    };
    let offset = section.get("cell_offset")?;
    let cell_offset = float_of(offset.get_ref()).filter(|offset| (0.0..=1.0).contains(offset));
    let cell_offset = cell_offset.ok_or_else(|| {
        ("cell_offset must be 0.0 (corner of the cell) to 1.0; usually 0.5".to_owned(), offset.span())
    })?;
    let activation = section.choice("activation", &ACTIVATIONS)?;
    Ok(HeadRecipe::Nanodet { strides, bins, cell_offset, activation })
}

/// Appends the table.
pub(super) fn write(text: &mut String, head: &HeadRecipe) {
    let quote = |value: &str| toml::Value::String(value.to_owned()).to_string();
    let mut lines: Vec<(&str, String)> = vec![("family", quote(head.family()))];
    match head {
        HeadRecipe::Yolox { strides } => lines.push(("strides", format!("{strides:?}"))),
        HeadRecipe::Yolov5Grids { strides, anchors } => {
            lines.push(("strides", format!("{strides:?}")));
            lines.push(("anchors", format!("{anchors:?}")));
        }
        HeadRecipe::Yolov5 { extra } | HeadRecipe::Yolov8 { extra } => write_extra(&mut lines, *extra),
        HeadRecipe::EndToEnd { layout, extra } => {
            lines.push(("layout", quote(word(*layout, &LAYOUTS))));
            write_extra(&mut lines, *extra);
        }
        HeadRecipe::Listed { outputs, format, first_class } => {
            lines.push(("boxes", quote(&outputs.boxes)));
            lines.extend(outputs.scores.as_ref().map(|name| ("scores", quote(name))));
            lines.push(("classes", quote(&outputs.classes)));
            lines.extend(outputs.count.as_ref().map(|name| ("count", quote(name))));
            write_format(&mut lines, *format);
            lines.push(("first_class", first_class.to_string()));
        }
        HeadRecipe::Selected { boxes, scores, indices, format } => {
            lines.extend([("boxes", quote(boxes)), ("scores", quote(scores)), ("indices", quote(indices))]);
            write_format(&mut lines, *format);
        }
        HeadRecipe::Nanodet { strides, bins, cell_offset, activation } => {
            lines.push(("strides", format!("{strides:?}")));
            lines.push(("bins", bins.to_string()));
            lines.push(("cell_offset", format!("{cell_offset:?}")));
            lines.push(("activation", quote(word(*activation, &ACTIVATIONS))));
        }
        HeadRecipe::Detr { boxes, scores, format, activation, background }
        | HeadRecipe::Ssd { boxes, scores, format, activation, background } => {
            lines.extend([("boxes", quote(boxes)), ("scores", quote(scores))]);
            write_format(&mut lines, *format);
            lines.push(("activation", quote(word(*activation, &ACTIVATIONS))));
            lines.push(("background", quote(word(*background, &BACKGROUNDS))));
        }
        HeadRecipe::Classify { activation } => {
            lines.push(("activation", quote(word(*activation, &ACTIVATIONS))));
        }
    }
    text.push_str("[head]\n");
    for (key, value) in lines {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{key} = {value}");
    }
}

fn write_extra(lines: &mut Vec<(&'static str, String)>, extra: Extra) {
    match extra {
        Extra::None => {}
        Extra::Keypoints { count, dims } => {
            lines.push(("keypoints", count.to_string()));
            lines.push(("keypoint_dims", dims.to_string()));
        }
        Extra::Mask { coefficients } => lines.push(("mask_coefficients", coefficients.to_string())),
        Extra::Angle => lines.push(("angle", "true".to_owned())),
    }
}

fn write_format(lines: &mut Vec<(&'static str, String)>, format: BoxFormat) {
    lines.push(("box_order", format!("\"{}\"", word(format.order, &ORDERS))));
    lines.push(("box_unit", format!("\"{}\"", word(format.unit, &UNITS))));
}
