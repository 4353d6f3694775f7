//! Families with one output of boxes, or one per stride: the YOLOs, NanoDet, PicoDet.

use super::graph::{has, pieces};
use super::labels::ClassCount;
use super::{ConcludeError, Head, Origin, Output, STRIDE_SETS, Said, Scene};
use crate::model::{Activation, Background, BoxFormat, BoxOrder, BoxUnit, Extra, HeadRecipe, RowLayout};

type Tried = Result<Option<Head>, ConcludeError>;

/// A list of finished boxes is no longer than this, and grids are.
const LIST_MAX: usize = 1000;

/// Anchors of YOLOv5 as trained on COCO, in pixels of the input, for the strides 8, 16, 32.
const YOLOV5_ANCHORS: [[[f32; 2]; 3]; 3] = [
    [[10.0, 13.0], [16.0, 30.0], [33.0, 23.0]],
    [[30.0, 61.0], [62.0, 45.0], [59.0, 119.0]],
    [[116.0, 90.0], [156.0, 198.0], [373.0, 326.0]],
];

/// The one output of three dimensions that holds everything. Older exporters leave others beside it.
pub(super) fn single(scene: &Scene<'_>, say: &mut Said) -> Tried {
    let candidates: Vec<&Output<'_>> = scene
        .outputs
        .iter()
        .filter(|output| output.rank() == 3 && matches!(output.dtype, "f32" | "f16" | "?"))
        .filter(|output| output.dims[0].is_none_or(|batch| batch == 1))
        .collect();
    let one = match candidates.as_slice() {
        [] => return Ok(None),
        // Several of the same rank: per-stride outputs, unless one of them holds all cells.
        several => several.iter().find_map(|output| {
            let all = |dim: Option<usize>| {
                dim.is_none_or(|cells| {
                    scene.strides_of(cells).is_some() || cells == 3 * scene.cells(STRIDE_SETS[0])
                })
            };
            (several.len() == 1 || all(output.dims[1]) || all(output.dims[2])).then_some(*output)
        }),
    };
    let Some(output) = one else { return Ok(None) };
    match (output.dims[1], output.dims[2]) {
        (Some(channels), boxes)
            if channels > 4 && boxes.is_none_or(|boxes| scene.strides_of(boxes).is_some()) =>
        {
            columns(scene, output, channels, say).map(Some)
        }
        (Some(rows), Some(numbers)) => rows_of(scene, output, rows, numbers, say),
        (None, Some(numbers)) => rows_left_open(scene, output, numbers, say),
        _ => Ok(None),
    }
}

/// `[1, ?, n]`
fn rows_left_open(scene: &Scene<'_>, output: &Output<'_>, numbers: usize, say: &mut Said) -> Tried {
    let finished = matches!(numbers, 6 | 7) && scene.label_count.is_none_or(|labels| labels + 5 != numbers);
    if finished || matches!(scene.task, Some("pose" | "segment" | "obb")) && numbers > 6 {
        return end_to_end(scene, output, numbers, say).map(Some);
    }
    if numbers <= 5 || scene.label_count.is_some_and(|labels| labels + 5 != numbers) {
        return Ok(None);
    }
    if scene.label_count.is_none() {
        say.doubt_shapes();
    }
    yolov5(scene, output, numbers, "rows of boxes", say)
}

/// `[1, 4 + classes + extra, N]`
fn columns(
    scene: &Scene<'_>,
    output: &Output<'_>,
    channels: usize,
    say: &mut Said,
) -> Result<Head, ConcludeError> {
    let extra = extra(scene, channels - 4, say);
    let Some(classes) = (channels - 4).checked_sub(extra.len()).filter(|&classes| classes > 0) else {
        return Err(scene.unknown());
    };
    if output.dims[2].is_none() && scene.task.is_none() {
        say.doubt_shapes();
    }
    let tail = match extra {
        Extra::None => String::new(),
        Extra::Keypoints { count, dims } => format!(" + {count} keypoints of {dims} numbers"),
        Extra::Mask { coefficients } => format!(" + {coefficients} mask coefficients"),
        Extra::Angle => " + 1 angle".to_owned(),
    };
    let shown = shown(scene, output);
    say.note(format!(
        "family yolov8 (YOLOv8, 9, 11, 12): output {shown} is 4 + {classes} classes{tail} channels by boxes"
    ));
    if pieces(scene.facts, output.name).sigmoid == 0 {
        say.unknown("class scores: 0..1 was assumed, but no Sigmoid makes them; check them with `detect`");
    }
    Ok(Head::new(HeadRecipe::Yolov8 { extra }, ClassCount::Known(classes), Origin::Ultralytics))
}

fn shown(scene: &Scene<'_>, output: &Output<'_>) -> String {
    let facts = scene.facts.outputs.iter().find(|facts| facts.name == output.name);
    facts.map_or_else(String::new, ToString::to_string)
}

/// What follows the classes; `numbers` is how many there are after the box.
fn extra(scene: &Scene<'_>, numbers: usize, say: &mut Said) -> Extra {
    let keypoints = scene.facts.metadata.get("kpt_shape").and_then(|text| two_numbers(text));
    let prototypes = scene.outputs.iter().find(|output| output.rank() == 4).and_then(|output| output.dims[1]);
    match (scene.task, keypoints, prototypes) {
        (Some("pose"), Some((count, dims)), _) if (2..=3).contains(&dims) => Extra::Keypoints { count, dims },
        (Some("pose"), _, _) => Extra::Keypoints { count: 17, dims: 3 },
        (Some("obb"), _, _) => Extra::Angle,
        (Some("segment") | None, _, Some(coefficients)) if coefficients < numbers => {
            Extra::Mask { coefficients }
        }
        (None, _, None) if numbers == 52 && scene.label_count.is_none_or(|count| count == 1) => {
            say.unknown(
                "that this is a pose model: its 56 channels are 4 + 1 person + 17 keypoints of 3 numbers, but could be \
                 52 classes, too; --labels FILE with 52 labels says otherwise",
            );
            Extra::Keypoints { count: 17, dims: 3 }
        }
        _ => Extra::None,
    }
}

/// `[17, 3]`
fn two_numbers(text: &str) -> Option<(usize, usize)> {
    let (a, b) = text.trim().trim_matches(['[', ']', '(', ')']).split_once(',')?;
    let (count, dims) = (a.trim().parse().ok()?, b.trim().parse().ok()?);
    (1..=1024).contains(&count).then_some((count, dims))
}

/// `[1, N, n]`
fn rows_of(scene: &Scene<'_>, output: &Output<'_>, rows: usize, numbers: usize, say: &mut Said) -> Tried {
    if rows == 3 * scene.cells(STRIDE_SETS[0]) || rows == 3 * scene.cells(STRIDE_SETS[1]) {
        return yolov5(scene, output, numbers, "three anchors per cell: YOLOv5, YOLOv7", say);
    }
    if let Some(strides) = scene.strides_of(rows) {
        return per_cell(scene, output, strides, numbers, say);
    }
    if rows > LIST_MAX {
        return Ok(None);
    }
    let is_query = scene.label_count.is_some_and(|labels| labels + 4 == numbers)
        || scene.label_count.is_none()
            && numbers > 7
            && scene.task.is_none()
            // Attention: queries come from a transformer.
            && has(scene.facts, "Softmax")
            && has(scene.facts, "MatMul");
    if is_query && numbers > 4 && !matches!(scene.task, Some("pose" | "segment" | "obb")) {
        say.note(format!(
            "family detr: output {} is rows of a box and {} class scores",
            output.name,
            numbers - 4
        ));
        let format = BoxFormat { order: BoxOrder::Cxcywh, unit: BoxUnit::Normalised };
        let (boxes, scores) = (output.name.to_owned(), output.name.to_owned());
        let (activation, background) = (Activation::None, Background::None);
        let recipe = HeadRecipe::Detr { boxes, scores, format, activation, background };
        return Ok(Some(Head::new(recipe, ClassCount::Known(numbers - 4), Origin::RtDetr)));
    }
    if matches!(numbers, 6 | 7) || scene.task.is_some_and(|task| task != "detect") && numbers > 6 {
        return end_to_end(scene, output, numbers, say).map(Some);
    }
    Ok(None)
}

/// Rows of cx cy w h, objectness and classes, decoded.
fn yolov5(scene: &Scene<'_>, output: &Output<'_>, numbers: usize, what: &str, say: &mut Said) -> Tried {
    let mut classes = numbers.saturating_sub(5);
    let (mut extra, mut tail) = (Extra::None, String::new());
    // YOLOv5's segmentation: prototypes beside the rows, and a coefficient for each of them in every row.
    let prototypes = scene.outputs.iter().find(|other| other.rank() == 4).and_then(|other| other.dims[1]);
    if let Some(coefficients) = prototypes.filter(|&coefficients| coefficients < classes)
        && scene.label_count.is_none_or(|labels| labels + coefficients == classes)
    {
        classes -= coefficients;
        (extra, tail) = (Extra::Mask { coefficients }, format!(", {coefficients} mask coefficients"));
    }
    if classes == 0 {
        return Err(scene.unknown());
    }
    say.note(format!(
        "family yolov5 ({what}): output {} is rows of a decoded box, objectness and {classes} class scores{tail}",
        shown(scene, output)
    ));
    Ok(Some(Head::new(HeadRecipe::Yolov5 { extra }, ClassCount::Known(classes), Origin::Ultralytics)))
}

/// One row per cell: YOLOX, YOLOv6, or NanoDet with its outputs joined.
fn per_cell(
    scene: &Scene<'_>,
    output: &Output<'_>,
    strides: &'static [usize],
    numbers: usize,
    say: &mut Said,
) -> Tried {
    let made = pieces(scene.facts, output.name);
    let distances = 4 * NANODET_BINS;
    let is_nanodet = made.arithmetic == 0
        && made.sigmoid == made.convolution
        && numbers > distances
        && scene.label_count.is_none_or(|labels| labels + distances == numbers);
    if is_nanodet && made.sigmoid > 0 {
        let plus = strides.len() == 4;
        return Ok(Some(joined_nanodet(scene, output, strides, (numbers - distances, plus), say)));
    }
    if numbers <= 5 {
        return Ok(None);
    }
    let classes = numbers - 5;
    if made.arithmetic > 0 || has(scene.facts, "Exp") {
        // YOLOX exported with its decoding keeps its own custom of preparing pictures.
        let is_yolox = has(scene.facts, "Exp");
        let what = if is_yolox { "YOLOX with its boxes decoded inside" } else { "one box per cell: YOLOv6" };
        let head = yolov5(scene, output, numbers, what, say)?;
        return Ok(head.map(|head| if is_yolox { Head { origin: Origin::Yolox, ..head } } else { head }));
    }
    say.note(format!(
        "family yolox: output {} has one row per cell of the grids {strides:?} and 5 + {classes} channels",
        shown(scene, output)
    ));
    if made.sigmoid == 0 {
        return Err(ConcludeError::UnsupportedFamily {
            family: "YOLOX without the sigmoid at its end",
            advice: "export it with the script of the YOLOX project, which keeps it",
        });
    }
    say.note(format!(
        "objectness and class scores are 0..1: {} of the {} pieces of the output come from a Sigmoid",
        made.sigmoid,
        made.total()
    ));
    let recipe = HeadRecipe::Yolox { strides: strides.to_vec() };
    Ok(Some(Head::new(recipe, ClassCount::Known(classes), Origin::Yolox)))
}

/// Bins of NanoDet and PicoDet, whose `reg_max` is 7.
const NANODET_BINS: usize = 8;

fn joined_nanodet(
    scene: &Scene<'_>,
    output: &Output<'_>,
    strides: &[usize],
    (classes, plus): (usize, bool),
    say: &mut Said,
) -> Head {
    let which = if plus { "NanoDet-Plus" } else { "NanoDet" };
    say.note(format!(
        "family nanodet ({which}): output {} has one row per cell of the grids {strides:?}: {classes} class scores and \
         4 x {NANODET_BINS} bins",
        shown(scene, output)
    ));
    let recipe = HeadRecipe::Nanodet {
        strides: strides.to_vec(),
        bins: NANODET_BINS,
        cell_offset: if plus { 0.0 } else { 0.5 },
        activation: Activation::None,
    };
    Head::new(recipe, ClassCount::Known(classes), Origin::Nanodet)
}

/// `[K, 6]` or `[K, 7]` with as many rows as were found.
pub(super) fn rows_of_any_number(scene: &Scene<'_>, say: &mut Said) -> Tried {
    let rows = scene.outputs.iter().find(|output| {
        output.rank() == 2
            && matches!(output.last(), Some(6 | 7))
            && output.dims[0] != Some(1)
            && !output.is_integer()
    });
    match rows {
        Some(output)
            if has(scene.facts, "NonMaxSuppression") || has(scene.facts, "TopK") || scene.is_paddle() =>
        {
            end_to_end(scene, output, output.last().unwrap_or(6), say).map(Some)
        }
        _ => Ok(None),
    }
}

/// Rows of finished boxes.
fn end_to_end(
    scene: &Scene<'_>,
    output: &Output<'_>,
    numbers: usize,
    say: &mut Said,
) -> Result<Head, ConcludeError> {
    let layout = match numbers {
        6 if scene.is_paddle() => RowLayout::ClassScoreBox,
        // Only a DETR samples its features at points of its own choice.
        6 if scene.task.is_some() && has(scene.facts, "GridSample") => RowLayout::CentreScoreClass,
        7 if scene.task.is_none() => RowLayout::PictureBoxClassScore,
        _ => RowLayout::BoxScoreClass,
    };
    let extra = match numbers {
        6 => Extra::None,
        7 if scene.task.is_none() => Extra::None,
        numbers => extra(scene, numbers - 6 + 1, say),
    };
    if 6 + extra.len() != numbers && layout == RowLayout::BoxScoreClass {
        return Err(scene.unknown());
    }
    let (columns, origin) = match layout {
        RowLayout::BoxScoreClass => ("x1 y1 x2 y2 score class", Origin::Ultralytics),
        RowLayout::CentreScoreClass => ("cx cy w h score class, 0..1", Origin::RtDetr),
        RowLayout::ClassScoreBox => ("class score x1 y1 x2 y2", Origin::Paddle),
        RowLayout::PictureBoxClassScore => ("picture x1 y1 x2 y2 class score", Origin::Ultralytics),
    };
    say.note(format!(
        "family end-to-end: output {} is rows of finished boxes ({columns}); the model chooses them itself",
        shown(scene, output)
    ));
    Ok(Head::new(HeadRecipe::EndToEnd { layout, extra }, ClassCount::Open, origin))
}

/// One output per stride of anchors before their decoding.
pub(super) fn grids(scene: &Scene<'_>, say: &mut Said) -> Tried {
    let strides = STRIDE_SETS[0];
    let mut numbers = None;
    for stride in strides {
        let (columns, rows) = (scene.width / stride, scene.height / stride);
        let found = scene.outputs.iter().find_map(|output| match output.dims.as_slice() {
            [_, Some(3), Some(h), Some(w), Some(n)] if (*h, *w) == (rows, columns) => Some(*n),
            [_, Some(n), Some(h), Some(w)] if (*h, *w) == (rows, columns) && n % 3 == 0 => Some(n / 3),
            _ => None,
        });
        match (found, numbers) {
            (Some(found), None) => numbers = Some(found),
            (Some(found), Some(before)) if found == before => {}
            _ => return Ok(None),
        }
    }
    // Two outputs per stride are a head of another kind.
    let planes = scene.outputs.iter().filter(|output| matches!(output.rank(), 4 | 5)).count();
    let Some(classes) = numbers.and_then(|numbers| numbers.checked_sub(5)).filter(|&n| n > 0 && planes == 3)
    else {
        return Ok(None);
    };
    say.note(format!(
        "family yolov5-grids: three anchors per cell of the grids {strides:?}, not decoded, {classes} classes"
    ));
    say.unknown(
        "anchors: those of YOLOv5 on COCO were assumed; write those of your model (YOLOv7 has others) into the manifest, \
         or export it with its grid (YOLOv7: --grid)",
    );
    let anchors = YOLOV5_ANCHORS.iter().map(|anchors| anchors.to_vec()).collect();
    let recipe = HeadRecipe::Yolov5Grids { strides: strides.to_vec(), anchors };
    Ok(Some(Head::new(recipe, ClassCount::Known(classes), Origin::Ultralytics)))
}

/// Numbers per cell of an output, if it has one row or one pixel for each cell of a grid.
fn numbers_per_cell(output: &Output<'_>, columns: usize, rows: usize) -> Option<usize> {
    match output.dims.as_slice() {
        [_, Some(n), Some(h), Some(w)] if (*h, *w) == (rows, columns) => Some(*n),
        [Some(cells), Some(n)] | [_, Some(cells), Some(n)] if *cells == rows * columns => Some(*n),
        _ => None,
    }
}

/// Classes and distances per stride: NanoDet, PicoDet, YOLOv8 without its head.
pub(super) fn distances(scene: &Scene<'_>, say: &mut Said) -> Tried {
    // The longest sets first: a shorter one is part of them.
    let sets = [STRIDE_SETS[1], STRIDE_SETS[2], STRIDE_SETS[0], STRIDE_SETS[3]];
    let found = sets.into_iter().find_map(|strides| two_per_stride(scene, strides));
    let Some((strides, first, second)) = found else { return Ok(None) };
    let says_box = |numbers: usize| {
        let of = |output: &&Output<'_>| {
            output.last() == Some(numbers) || output.dims.get(1) == Some(&Some(numbers))
        };
        scene.outputs.iter().filter(of).any(|output| output.says(&["bbox", "reg", "dis_", "box"]))
    };
    // Classes can be any number; distances are four times the bins, of which there are 8 or 16.
    let is_distance = |numbers: usize| numbers.is_multiple_of(4) && numbers >= 8;
    let (classes, sides) = match (is_distance(first), is_distance(second)) {
        (false, true) => (first, second),
        (true, false) => (second, first),
        (true, true) if says_box(first) && !says_box(second) => (second, first),
        (true, true) if says_box(second) && !says_box(first) => (first, second),
        (true, true) if matches!(first, 32 | 64) => (second, first),
        (true, true) if matches!(second, 32 | 64) => (first, second),
        _ => return Ok(None),
    };
    let bins = sides / 4;
    let scores = scene.outputs.iter().find(|output| {
        output.last() == Some(classes) || output.dims.get(1) == Some(&Some(classes)) && output.rank() == 4
    });
    let activated = scores.is_some_and(|output| pieces(scene.facts, output.name).sigmoid > 0);
    let activation = if activated { Activation::None } else { Activation::Sigmoid };
    let (which, origin) = match (scene.is_paddle(), bins) {
        (true, _) => ("PicoDet", Origin::Paddle),
        (false, 16) => ("YOLOv8 cut off before its head", Origin::Ultralytics),
        (false, _) => ("NanoDet, PicoDet", Origin::Nanodet),
    };
    say.note(format!(
        "family nanodet ({which}): {classes} class scores and 4 x {bins} bins for each cell of the grids {strides:?}; scores \
         {}",
        if activated { "come from a Sigmoid" } else { "go through a sigmoid here" }
    ));
    let recipe = HeadRecipe::Nanodet { strides: strides.to_vec(), bins, cell_offset: 0.5, activation };
    Ok(Some(Head::new(recipe, ClassCount::Known(classes), origin)))
}

/// The strides, if each of them has two outputs with the same two numbers per cell.
fn two_per_stride(scene: &Scene<'_>, strides: &'static [usize]) -> Option<(&'static [usize], usize, usize)> {
    let mut pair: Option<(usize, usize)> = None;
    for stride in strides {
        let (columns, rows) = (scene.width.div_ceil(*stride), scene.height.div_ceil(*stride));
        let mut found: Vec<usize> =
            scene.outputs.iter().filter_map(|output| numbers_per_cell(output, columns, rows)).collect();
        found.sort_unstable();
        let &[first, second] = found.as_slice() else { return None };
        if pair.is_some_and(|pair| pair != (first, second)) {
            return None;
        }
        pair = Some((first, second));
    }
    pair.map(|(first, second)| (strides, first, second))
}
