//! What goes into a model: one picture, and perhaps numbers that say how large it is.

use watchpost_binding::{AxisOrder, Number, PictureInput, TensorForm};

use super::{ConcludeError, Overrides, Said, join};
use crate::model::manifest_text::MAX_SIDE;
use crate::model::{Dim, OnnxFacts, TensorFacts};

/// Inputs besides the picture that exporters of finished detectors ask for. Engines feed them with constants: sizes are
/// those of the input tensor, so that boxes come out in its pixels.
///
/// `orig_target_sizes` (RT-DETR and its like: width, height), `im_shape` (PaddleDetection: height, width), `scale_factor`
/// (PaddleDetection: 1, 1).
const SIZE_INPUTS: [&str; 3] = ["orig_target_sizes", "im_shape", "scale_factor"];

/// Whether an input is one of those that say how large the picture is: two numbers a picture.
pub(in crate::model) fn is_size_input(input: &TensorFacts) -> bool {
    let two = input
        .shape
        .as_deref()
        .is_some_and(|shape| matches!(shape, [_, last] if last.fixed().is_none_or(|last| last == 2)));
    SIZE_INPUTS.contains(&input.name.as_str()) && two && matches!(input.dtype, "f32" | "i64" | "i32")
}

/// The picture among the inputs.
pub(in crate::model) fn picture_input(facts: &OnnxFacts) -> Result<&TensorFacts, String> {
    let mut pictures = facts.inputs.iter().filter(|input| !is_size_input(input));
    match (pictures.next(), pictures.next()) {
        (Some(picture), None) => Ok(picture),
        _ => Err(format!(
            "it has {} inputs ({}) and we have one picture",
            facts.inputs.len(),
            join(&facts.inputs)
        )),
    }
}

/// The form of the picture's input, with what is open as `asked`.
pub(crate) fn settle(facts: &OnnxFacts, asked: Option<(usize, usize)>) -> Result<PictureInput, String> {
    let input = picture_input(facts)?;
    let number = match input.dtype {
        "f32" | "f16" => Number::F32,
        "u8" => Number::U8,
        other => return Err(format!("{input} takes {other}, not f32")),
    };
    let dims: Vec<Option<usize>> = input.shape.iter().flatten().map(Dim::fixed).collect();
    match *dims.as_slice() {
        [_, Some(1), _, last] if last != Some(3) => {
            return Err(format!("{input} takes grey pictures; three channels are supported"));
        }
        [_, Some(count), _, last] if last != Some(3) && count != 3 => {
            return Err(format!("{input} takes {count} channels; three are supported"));
        }
        _ => {}
    }
    PictureInput::settle(&dims, number, asked).map_err(|error| format!("{input} {error}"))
}

/// The picture's input: its width and height, and how many pictures go in at once.
pub(super) fn picture(
    facts: &OnnxFacts,
    overrides: &Overrides,
    say: &mut Said,
) -> Result<PictureInput, ConcludeError> {
    let refuse = |reason: String| Err(ConcludeError::Input { reason });
    // Any size, until it is known which.
    let (input, form) = match picture_input(facts)
        .and_then(|input| Ok((input, settle(facts, Some((MAX_SIDE, MAX_SIDE)))?)))
    {
        Ok(found) => found,
        Err(reason) => return refuse(reason),
    };
    if input.dtype == "f16" {
        say.note(format!("{} takes f16: engines convert for it", input.name));
    }
    let TensorForm { order, number } = form.form;
    if order == AxisOrder::Nhwc {
        say.note(format!("{} has channels last: pictures are laid out so", input.name));
    }
    if number == Number::U8 {
        say.note(format!("{} takes bytes", input.name));
    }
    if form.batch > 1 {
        let batch = form.batch;
        say.note(format!(
            "{} takes {batch} pictures at once, no fewer: one inference costs as much as {batch} however many cameras there \
             are; an export for one picture is better on a CPU",
            input.name
        ));
    }
    let Some([_, second, third, last]) = input.shape.as_deref() else {
        return refuse(format!("{input} is not [1, 3, height, width]"));
    };
    let (height, width) = match order {
        AxisOrder::Nchw => (third, last),
        AxisOrder::Nhwc => (second, third),
    };
    let (width, height) = size(facts, input, (width, height), overrides, say)?;
    Ok(PictureInput { width, height, ..form })
}

/// Width and height of the input, from the file or the user.
fn size(
    facts: &OnnxFacts,
    input: &TensorFacts,
    (width, height): (&Dim, &Dim),
    overrides: &Overrides,
    say: &mut Said,
) -> Result<(usize, usize), ConcludeError> {
    let refuse = |reason: String| Err(ConcludeError::Input { reason });
    let named = facts.metadata.get("imgsz").and_then(|text| image_size(text));
    let size = match (width.fixed(), height.fixed(), overrides.size, named) {
        (Some(width), Some(height), asked, _) => {
            if let Some(asked) = asked.filter(|&asked| asked != (width, height)) {
                let reason =
                    format!("is fixed to {width}x{height}, and {}x{} was asked for", asked.0, asked.1);
                return Err(ConcludeError::Contradiction { reason });
            }
            say.note(format!("input {width}x{height}: the shape of {}", input.name));
            (width, height)
        }
        (_, _, Some(size), _) => {
            say.note(format!("input {}x{}: as you said; the model leaves it open", size.0, size.1));
            size
        }
        (_, _, None, Some(size)) => {
            say.note(format!("input {}x{}: imgsz in the metadata; the model leaves it open", size.0, size.1));
            size
        }
        _ => {
            return refuse(format!("{input} leaves width and height open; say them with --size 640x640"));
        }
    };
    if size.0.max(size.1) > MAX_SIDE || size.0.min(size.1) < 32 {
        return refuse(format!("{}x{} is outside 32..={MAX_SIDE}", size.0, size.1));
    }
    Ok(size)
}

/// `[640, 640]` is height and width.
fn image_size(text: &str) -> Option<(usize, usize)> {
    let sides: Vec<usize> = text
        .trim()
        .trim_matches(['[', ']', '(', ')'])
        .split(',')
        .map(|side| side.trim().parse().ok())
        .collect::<Option<_>>()?;
    match *sides.as_slice() {
        [side] => Some((side, side)),
        [height, width] => Some((width, height)),
        _ => None,
    }
}
