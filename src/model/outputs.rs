//! Whether the shapes of a model's outputs can be those of its head: what can be told before anything is decoded.

use super::{Background, HeadRecipe, InputRecipe, grid_cells};

/// Checks the shapes of one frame's outputs, in the model's order.
pub(super) fn check(
    head: &HeadRecipe,
    input: &InputRecipe,
    labels: usize,
    outputs: &[&[usize]],
) -> Result<(), String> {
    let family = head.family();
    let extra = head.extra().len();
    match head {
        HeadRecipe::Yolox { strides } => {
            let rows = grid_cells(input, strides);
            one(family, outputs, labels, Some(rows), 5, |[rows, numbers]| (rows, numbers))
        }
        HeadRecipe::Yolov5 { .. } => {
            one(family, outputs, labels, None, 5 + extra, |[rows, numbers]| (rows, numbers))
        }
        HeadRecipe::Yolov8 { .. } => {
            one(family, outputs, labels, None, 4 + extra, |[numbers, rows]| (rows, numbers))
        }
        HeadRecipe::Classify { .. } => {
            let count = |shape: &&[usize]| shape.iter().product::<usize>();
            match outputs {
                [shape] if count(shape) != labels => Err(other_count(count(shape), labels)),
                _ if outputs.iter().any(|shape| count(shape) == labels) => Ok(()),
                _ => Err(format!(
                    "the head family {family} has one output of a number per class, and the model has \
                                  {outputs:?}"
                )),
            }
        }
        HeadRecipe::Detr { background, .. } | HeadRecipe::Ssd { background, .. } => {
            let classes = labels + usize::from(*background != Background::None);
            let fits =
                |shape: &&[usize]| shape.iter().skip(1).any(|&dim| dim == classes || dim == classes + 4);
            if outputs.iter().any(fits) { Ok(()) } else { Err(no_room(family, classes, outputs)) }
        }
        HeadRecipe::Nanodet { bins, .. } => {
            let fits = |shape: &&[usize]| shape.iter().any(|&dim| dim == labels || dim == labels + 4 * bins);
            if outputs.iter().any(fits) { Ok(()) } else { Err(no_room(family, labels, outputs)) }
        }
        HeadRecipe::Yolov5Grids { anchors, .. } => {
            let numbers = 5 + labels;
            let fits = |shape: &&[usize]| {
                anchors
                    .iter()
                    .any(|anchors| shape.iter().any(|&dim| dim == numbers || dim == numbers * anchors.len()))
            };
            if outputs.iter().any(fits) { Ok(()) } else { Err(no_room(family, labels, outputs)) }
        }
        // Their class numbers come in the data, and their lengths depend on the picture.
        HeadRecipe::EndToEnd { .. } | HeadRecipe::Listed { .. } | HeadRecipe::Selected { .. } => Ok(()),
    }
}

fn no_room(family: &str, classes: usize, outputs: &[&[usize]]) -> String {
    format!(
        "the head family {family} with {classes} classes fits none of the model's outputs {outputs:?}; give one label per \
         class, or write the manifest anew with `watchpost model add`"
    )
}

fn other_count(classes: usize, labels: usize) -> String {
    format!(
        "the model has {classes} classes and [labels] has {labels} names; give one name per class, in the model's order"
    )
}

/// A head with one output of three dimensions: `split` says which is boxes and which numbers, of which `plain` are no
/// classes.
fn one(
    family: &str,
    outputs: &[&[usize]],
    labels: usize,
    expected_rows: Option<usize>,
    plain: usize,
    split: impl Fn([usize; 2]) -> (usize, usize),
) -> Result<(), String> {
    let of = |shape: &[usize]| match *shape {
        [1, second, third] => Some(split([second, third])),
        _ => None,
    };
    let fits = |(rows, numbers): (usize, usize)| {
        numbers == plain + labels && expected_rows.is_none_or(|expected| rows == expected)
    };
    if outputs.iter().filter_map(|shape| of(shape)).any(fits) {
        return Ok(());
    }
    // The one that is meant, if it can be told which.
    let Some((shape, (rows, numbers))) = outputs.iter().find_map(|shape| Some((shape, of(shape)?))) else {
        return Err(format!(
            "the head family {family} has one output of three dimensions, and the model has {outputs:?}"
        ));
    };
    if numbers <= plain {
        return Err(format!(
            "output {shape:?} has no room for classes: the head family {family} needs more than {plain} channels; check \
             `family` in [head]"
        ));
    }
    match expected_rows {
        Some(expected) if rows != expected => Err(format!(
            "output {shape:?} has {rows} rows, and the strides in [head] give {expected} for the input size; check \
             `strides`, `width` and `height`"
        )),
        _ => Err(other_count(numbers - plain, labels)),
    }
}
