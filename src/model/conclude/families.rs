//! Which family: by the task that the file names, and by the number and shapes of its outputs.

use super::graph::{has, pieces};
use super::labels::ClassCount;
use super::{ConcludeError, Head, Origin, Output, Said, Scene, lists, yolo};
use crate::model::{Activation, HeadRecipe};

/// Looks for one family; `None` when it is another one.
type Try = fn(&Scene<'_>, &mut Said) -> Result<Option<Head>, ConcludeError>;

/// Recognises the head, or says why it is none.
pub(super) fn recognise(scene: &Scene<'_>, say: &mut Said) -> Result<Head, ConcludeError> {
    let not = |reason: String| Err(ConcludeError::NotADetector { reason });
    match scene.task {
        None | Some("detect" | "pose" | "segment" | "obb") => {}
        Some("classify") => return classifier(scene, say),
        Some(other) => return not(format!("its metadata says task {other:?}")),
    }
    if scene.outputs.len() > MAX_OUTPUTS {
        return not(format!("it has {} outputs", scene.outputs.len()));
    }
    let tried: [Try; 7] = [
        lists::finished,
        lists::selected,
        lists::pairs,
        yolo::single,
        yolo::grids,
        yolo::distances,
        yolo::rows_of_any_number,
    ];
    for try_family in tried {
        if let Some(head) = try_family(scene, say)? {
            return Ok(head);
        }
    }
    match scene.outputs.as_slice() {
        [one] if scene.task.is_none() && is_list_of_numbers(one) => classifier(scene, say),
        [one] if one.rank() == 4 => not(format!("its one output {} is a picture", scene.facts.outputs[0])),
        _ => Err(scene.unknown()),
    }
}

/// Outputs of any detector that is known: two for each of eight strides, and a few that were left among them.
const MAX_OUTPUTS: usize = 64;

/// `[1, C]`, or `[1, C, 1, 1]`.
fn is_list_of_numbers(output: &Output<'_>) -> bool {
    let batch = output.dims.first().copied().flatten().is_none_or(|batch| batch == 1);
    let classes = output.dims.get(1).copied().flatten().is_some_and(|classes| classes > 1);
    let rest = output.dims.iter().skip(2).all(|dim| *dim == Some(1));
    batch && classes && rest && !output.is_integer()
}

fn classifier(scene: &Scene<'_>, say: &mut Said) -> Result<Head, ConcludeError> {
    let Some(output) = scene.outputs.iter().find(|output| is_list_of_numbers(output)) else {
        return Err(scene.unknown());
    };
    let Some(classes) = output.dims[1] else { return Err(scene.unknown()) };
    let made = pieces(scene.facts, output.name);
    let (activation, how) = match (made.softmax, made.sigmoid) {
        (0, 0) => (Activation::Softmax, "numbers before the softmax, which is computed here"),
        (0, _) => (Activation::None, "scores from a sigmoid"),
        _ => (Activation::None, "probabilities from a softmax"),
    };
    say.note(format!("task classify: output {} has {classes} {how}", output.name));
    if scene.task.is_none() {
        say.unknown(
            "that this is a classifier: it has a number per class and no boxes; its labels are told of the whole picture",
        );
    }
    let ultralytics = scene.task.is_some();
    if !ultralytics && !has(scene.facts, "Conv") && !has(scene.facts, "MatMul") && !has(scene.facts, "Gemm") {
        return Err(scene.unknown());
    }
    let origin = if ultralytics { Origin::UltralyticsClassifier } else { Origin::Classifier };
    Ok(Head::new(HeadRecipe::Classify { activation }, ClassCount::Known(classes), origin))
}
