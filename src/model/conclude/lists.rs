//! Families whose boxes, scores and classes are outputs of their own.

use super::graph::pieces;
use super::labels::ClassCount;
use super::{ConcludeError, Head, Origin, Output, Said, Scene};
use crate::model::{Activation, Background, BoxFormat, BoxOrder, BoxUnit, HeadRecipe, ListedOutputs};

const PIXEL_CORNERS: BoxFormat = BoxFormat { order: BoxOrder::Xyxy, unit: BoxUnit::Pixels };

/// Queries of a DETR at most: SSDs have thousands of boxes.
const QUERIES_MAX: usize = 1000;

fn named<'s, 'a>(scene: &'s Scene<'a>, fits: impl Fn(&Output<'a>) -> bool) -> Option<&'s Output<'a>> {
    scene.outputs.iter().find(|output| fits(output))
}

/// `[1, N]` or `[N]`, beside boxes of this rank.
fn is_list(output: &Output<'_>, boxes: &Output<'_>) -> bool {
    let trimmed: &[Option<usize>] = match output.dims.as_slice() {
        [rest @ .., Some(1)] if rest.len() > 1 => rest,
        dims => dims,
    };
    trimmed.len() + 1 == boxes.rank() && !trimmed.is_empty()
}

/// Boxes, scores and labels as torchvision's detectors give them: without a batch and, where nobody named them, under numbers,
/// which leaves nothing to tell them by but their shapes.
fn unnamed_torchvision<'s, 'a>(scene: &'s Scene<'a>) -> Option<[&'s Output<'a>; 3]> {
    let [boxes, second, third] = scene.outputs.as_slice() else { return None };
    // Faster R-CNN gives labels before scores.
    let (scores, labels) = if second.is_integer() { (third, second) } else { (second, third) };
    let ranks = (boxes.rank(), scores.rank(), labels.rank()) == (2, 1, 1);
    let kinds = !boxes.is_integer() && !scores.is_integer() && labels.is_integer();
    (ranks && kinds && boxes.last() == Some(4)).then_some([boxes, scores, labels])
}

/// Boxes, scores and classes: EfficientNMS, deployed RT-DETR, torchvision, MMDeploy, TensorFlow.
pub(super) fn finished(scene: &Scene<'_>, say: &mut Said) -> Result<Option<Head>, ConcludeError> {
    // The plugin's own names say enough where shapes are lost.
    let is_plugin = scene.facts.nodes.iter().any(|node| node.op == "EfficientNMS_TRT");
    let boxes = named(scene, |output| {
        let is_open = |dim: Option<usize>| dim.is_none() && is_plugin && output.says(&["det_boxes"]);
        output.frame(2).is_some_and(|dims| matches!(dims[1], Some(4 | 5)) || is_open(dims[1]))
            && output.says(&["box", "dets", "detection"])
            && !output.is_integer()
    });
    let unnamed = unnamed_torchvision(scene);
    let Some(boxes) = boxes.or(unnamed.map(|[boxes, ..]| boxes)) else { return Ok(None) };
    let beside = |output: &Output<'_>| output.name != boxes.name && is_list(output, boxes);
    let classes = named(scene, |output| beside(output) && output.says(&["label", "class"]));
    let Some(classes) = classes.or(unnamed.map(|[.., labels]| labels)) else { return Ok(None) };
    let scores = named(scene, |output| {
        beside(output)
            && output.name != classes.name
            && output.says(&["score", "conf"])
            && !output.is_integer()
    });
    let scores = scores.or(unnamed.map(|[_, scores, _]| scores));
    let joined = boxes.last() == Some(5);
    if scores.is_none() && !joined {
        return Ok(None);
    }
    let count = named(scene, |output| output.says(&["num_det", "num_detections", "num_dets"]));
    let tensorflow = boxes.says(&["detection_boxes"]);
    let targets = scene.facts.inputs.iter().any(super::is_size_input);
    let efficient = count.is_some() && boxes.says(&["det_boxes"]);
    let mut class_count = ClassCount::Open;
    let (format, first_class, origin, what) = if tensorflow {
        let format = BoxFormat { order: BoxOrder::Yxyx, unit: BoxUnit::Normalised };
        class_count = ClassCount::OpenFromOne;
        (format, 1, Origin::Ssd, "TensorFlow's detectors")
    } else if efficient {
        (PIXEL_CORNERS, 0, Origin::Ultralytics, "TensorRT's EfficientNMS")
    } else if targets {
        (PIXEL_CORNERS, 0, Origin::RtDetr, "RT-DETR and its like, deployed")
    } else if joined {
        (PIXEL_CORNERS, 0, Origin::MmDetection, "MMDeploy")
    } else {
        say.unknown(
            "boxes: corners in pixels of the input and labels from 1 were assumed, as torchvision writes them; edit \
             `box_unit` and `first_class` in the manifest otherwise",
        );
        // Only torchvision's have no batch, and only they scale and normalise inside.
        if boxes.rank() == 2 {
            class_count = ClassCount::OpenFromOne;
            (PIXEL_CORNERS, 1, Origin::Torchvision, "torchvision's detectors")
        } else {
            (PIXEL_CORNERS, 1, Origin::Ssd, "ONNX's SSD")
        }
    };
    say.note(format!(
        "family listed: boxes, scores and classes are finished and come in outputs of their own ({what})"
    ));
    let outputs = ListedOutputs {
        boxes: boxes.name.to_owned(),
        scores: if joined { None } else { scores.map(|output| output.name.to_owned()) },
        classes: classes.name.to_owned(),
        count: count.map(|output| output.name.to_owned()),
    };
    let recipe = HeadRecipe::Listed { outputs, format, first_class };
    Ok(Some(Head::new(recipe, class_count, origin)))
}

/// Boxes and scores, and what an ONNX NonMaxSuppression chose of them.
pub(super) fn selected(scene: &Scene<'_>, say: &mut Said) -> Result<Option<Head>, ConcludeError> {
    let indices =
        named(scene, |output| output.rank() == 2 && output.last() == Some(3) && output.is_integer());
    let boxes = named(scene, |output| output.rank() == 3 && output.last() == Some(4));
    let (Some(indices), Some(boxes)) = (indices, boxes) else { return Ok(None) };
    let scores = named(scene, |output| output.rank() == 3 && output.name != boxes.name);
    let Some((scores, classes)) = scores.and_then(|scores| Some((scores, scores.dims[1]?))) else {
        return Ok(None);
    };
    say.note(
        "family selected: an ONNX NonMaxSuppression inside chose among boxes and scores that come out, too",
    );
    say.unknown(
        "boxes: corners in pixels were assumed; edit `box_order` and `box_unit` in the manifest otherwise",
    );
    let recipe = HeadRecipe::Selected {
        boxes: boxes.name.to_owned(),
        scores: scores.name.to_owned(),
        indices: indices.name.to_owned(),
        format: PIXEL_CORNERS,
    };
    Ok(Some(Head::new(recipe, ClassCount::Known(classes), Origin::Ultralytics)))
}

/// Boxes and class scores: DETR and its like, SSD and its like.
pub(super) fn pairs(scene: &Scene<'_>, say: &mut Said) -> Result<Option<Head>, ConcludeError> {
    let float =
        |output: &&Output<'_>| output.frame(2).is_some() && !output.is_integer() && output.rank() == 3;
    // Auxiliary outputs may lie beside: the names that are known come first.
    let boxes = scene
        .outputs
        .iter()
        .filter(float)
        .filter(|output| output.last() == Some(4))
        .max_by_key(|output| output.says(&["pred_boxes", "boxes", "dets"]));
    let Some(boxes) = boxes else { return Ok(None) };
    let rows = boxes.dims[1];
    let scores = scene
        .outputs
        .iter()
        .filter(float)
        .filter(|output| output.name != boxes.name)
        .filter(|output| output.dims[1] == rows || output.dims[2] == rows)
        .max_by_key(|output| output.says(&["logits", "scores", "labels", "conf", "cls"]));
    let Some(scores) = scores else { return Ok(None) };
    let by_box = scores.dims[1] == rows;
    let Some(numbers) = (if by_box { scores.dims[2] } else { scores.dims[1] }) else { return Ok(None) };
    let query_names = scores.says(&["logits", "labels"]) || boxes.says(&["pred_boxes"]);
    let is_detr = by_box && (query_names || rows.is_some_and(|rows| rows <= QUERIES_MAX));
    let names = (boxes.name.to_owned(), scores.name.to_owned());
    Ok(Some(if is_detr { detr(scene, names, (rows, numbers), say) } else { ssd(scene, names, numbers, say) }))
}

fn detr(
    scene: &Scene<'_>,
    (boxes, scores): (String, String),
    (queries, numbers): (Option<usize>, usize),
    say: &mut Said,
) -> Head {
    let made = pieces(scene.facts, &scores);
    // DETR has 100 queries and one class more than labels; those that came after it have 300 and the sigmoid.
    let nothing_last = queries == Some(100) || numbers == 92;
    let (activation, background) = match (made.sigmoid, made.softmax, nothing_last) {
        (1.., _, _) => (Activation::None, Background::None),
        (_, 1.., _) => (Activation::None, Background::Last),
        (_, _, true) => (Activation::Softmax, Background::Last),
        _ => (Activation::Sigmoid, Background::None),
    };
    let labels = numbers - usize::from(background != Background::None).min(numbers - 1);
    let how = match activation {
        Activation::None => "probabilities already",
        Activation::Sigmoid => "through a sigmoid here",
        Activation::Softmax => "through a softmax here, the last class being none",
    };
    say.note(format!(
        "family detr: {} queries with boxes in {boxes} and {numbers} class numbers in {scores}, {how}; no NMS",
        queries.map_or_else(|| "some".to_owned(), |queries| queries.to_string())
    ));
    let format = BoxFormat { order: BoxOrder::Cxcywh, unit: BoxUnit::Normalised };
    // RF-DETR calls them dets and labels; Deformable DETR and Conditional DETR count COCO's 91 numbers. Of the others RT-DETR
    // and D-FINE, which most are, take 0..1.
    let of_detr = nothing_last || boxes == "dets" || numbers == 91;
    let origin = if of_detr { Origin::Detr } else { Origin::RtDetr };
    let recipe = HeadRecipe::Detr { boxes, scores, format, activation, background };
    Head::new(recipe, ClassCount::Known(labels), origin)
}

fn ssd(scene: &Scene<'_>, (boxes, scores): (String, String), numbers: usize, say: &mut Said) -> Head {
    let made = pieces(scene.facts, &scores);
    let sigmoid = made.sigmoid > 0;
    let (activation, background, unit) = match (made.softmax > 0, sigmoid) {
        (false, true) => (Activation::None, Background::None, BoxUnit::Pixels),
        (true, _) => (Activation::None, Background::First, BoxUnit::Normalised),
        (false, false) => (Activation::Softmax, Background::First, BoxUnit::Normalised),
    };
    let labels = numbers - usize::from(background != Background::None).min(numbers - 1);
    let how = match (activation, background) {
        (Activation::None, Background::None) => "from a sigmoid, boxes in pixels",
        (Activation::None, _) => "from a softmax, the first being the background, boxes 0..1",
        _ => "through a softmax here, the first being the background, boxes 0..1",
    };
    say.note(format!("family ssd: boxes in {boxes}, {numbers} class numbers in {scores} {how}; NMS here"));
    say.unknown(
        "boxes: corners were assumed, and their unit from the kind of scores; edit `box_order` and `box_unit` in the \
         manifest otherwise",
    );
    let origin = match (sigmoid, scene.is_paddle()) {
        (true, true) => Origin::Paddle,
        (true, false) => Origin::Ultralytics,
        (false, _) => Origin::Ssd,
    };
    let format = BoxFormat { order: BoxOrder::Xyxy, unit };
    let recipe = HeadRecipe::Ssd { boxes, scores, format, activation, background };
    Head::new(recipe, ClassCount::Known(labels), origin)
}
