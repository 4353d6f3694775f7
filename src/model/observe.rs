//! Concluding from a file, and what one empty picture tells where the file leaves the shapes of its outputs open.
//!
//! Exporters lose shapes: PyTorch's, when nothing simplifies what it wrote, gives an output of YOLO11 as
//! `[Concatoutput0_dim_0, Concatoutput0_dim_1, Concatoutput0_dim_2]`. The built-in engine then infers once.

use std::path::Path;

use watchpost_builtin::{LoadOptions, Model};

use super::conclude::input_size;
use super::{
    ConcludeError, Conclusion, Dim, ModelError, OnnxFacts, Overrides, TensorFacts, conclude, look_into,
};

/// Looks into an ONNX file and concludes what it is.
///
/// # Errors
/// [`ModelError::Unreadable`], [`ModelError::Inspect`], [`ModelError::Conclude`].
pub fn conclude_file(
    path: &Path,
    default_name: &str,
    overrides: &Overrides,
) -> Result<(OnnxFacts, Conclusion), ModelError> {
    let facts = look_into(path)?;
    let refused = |cause| ModelError::Conclude { path: path.display().to_string(), cause };
    let first = conclude(&facts, default_name, overrides);
    let wants_to_see = match &first {
        Ok(conclusion) => conclusion.doubts_shapes,
        Err(ConcludeError::UnknownFamily { .. } | ConcludeError::NotADetector { .. }) => true,
        Err(_) => false,
    };
    if !wants_to_see || !facts.outputs.iter().any(is_open) {
        return first.map(|conclusion| (facts, conclusion)).map_err(refused);
    }
    let seen = match see(path, &facts, overrides) {
        Ok(seen) => seen,
        Err(reason) => {
            let outputs = facts.outputs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let first = first.map_err(|cause| match cause {
                ConcludeError::UnknownFamily { .. } => ConcludeError::OpenShapes { outputs, reason },
                other => other,
            });
            return first.map(|conclusion| (facts, conclusion)).map_err(refused);
        }
    };
    match (conclude(&seen, default_name, overrides), first) {
        (Ok(mut conclusion), _) => {
            let shapes = seen.outputs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            conclusion
                .notes
                .insert(0, format!("the file leaves shapes open: one empty picture gave {shapes}"));
            Ok((facts, conclusion))
        }
        (Err(_), Ok(conclusion)) => Ok((facts, conclusion)),
        (Err(cause), Err(_)) => Err(refused(cause)),
    }
}

/// Whether more is open than the number of pictures.
fn is_open(output: &TensorFacts) -> bool {
    let dims = output.shape.as_deref();
    dims.is_none_or(|dims| dims.iter().skip(1).any(|dim| dim.fixed().is_none()))
}

/// The same facts with the shapes that the outputs have for an empty picture.
fn see(path: &Path, facts: &OnnxFacts, overrides: &Overrides) -> Result<OnnxFacts, String> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    let options = LoadOptions { threads, input_size: input_size(facts, overrides) };
    let model = Model::load(path, options).map_err(|error| format!("it {error}"))?;
    let mut seen = facts.clone();
    for output in seen.outputs.iter_mut().filter(|output| is_open(output)) {
        let Some(found) = model.outputs().iter().find(|found| found.name == output.name) else { continue };
        // Nothing was found in an empty picture: how many there will be is open.
        let dim = |&size: &usize| if size == 0 { Dim::Open(String::new()) } else { Dim::Fixed(size) };
        output.shape = Some(found.shape.iter().map(dim).collect());
    }
    Ok(seen)
}
