//! What an engine takes and gives, and whether we can feed and read it.
//!
//! TensorRT says little and checks little: a missing address, a wrong name or a buffer that is too short is a crash on the
//! GPU or garbage in the results. So everything is looked at here, once, when the engine is loaded.

use std::ffi::{CStr, CString};

use watchpost_cuda::Element;

use crate::abi::constants;
use crate::element::TensorElement;
use crate::engine::Engine;
use crate::error::TensorRtError;

/// Frames of one inference, whatever the engine would take: one batch is on the stack of the worker.
pub const BATCH_MAX: usize = 64;
/// Outputs of a detector.
pub(crate) const OUTPUTS_MAX: usize = 32;
/// Values of one tensor: beyond this its bytes would not fit into an address.
const VALUES_MAX: usize = 1 << 40;

/// An input or output of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name in the model.
    pub name: String,
    /// Row-major shape for ONE frame.
    pub shape: Vec<usize>,
    /// What it is made of on the device. Outputs are lent as f32, whatever they are there.
    pub element: TensorElement,
}

impl TensorInfo {
    /// Values of one frame.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// True for a tensor without values, which no detector has.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of one frame.
    pub(crate) fn frame_bytes(&self) -> usize {
        self.len() * self.element.bytes()
    }
}

/// The picture that goes in.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    pub(crate) name: CString,
    pub(crate) info: TensorInfo,
    /// What the slots are made of.
    pub(crate) element: Element,
    /// Fewest and most frames of an inference.
    pub(crate) batch: (usize, usize),
}

impl Input {
    /// The shape for so many frames.
    pub(crate) fn dims(&self, batch: usize) -> [i64; 4] {
        let size = |axis: usize| i64::try_from(self.info.shape[axis]).unwrap_or(0);
        [i64::try_from(batch).unwrap_or(0), size(1), size(2), size(3)]
    }
}

/// One thing that comes out.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub(crate) name: CString,
    pub(crate) info: TensorInfo,
}

fn refuse<T>(kind: &str, name: &CStr, reason: impl Into<String>) -> Result<T, TensorRtError> {
    let tensor = format!("{kind} {}", name.to_string_lossy());
    Err(TensorRtError::Tensor { tensor, reason: reason.into() })
}

/// The engine's one input and its outputs' names.
pub(crate) fn input(engine: &Engine) -> Result<(Input, Vec<CString>), TensorRtError> {
    let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
    for name in engine.tensor_names()? {
        match engine.io_mode(&name)? {
            constants::INPUT => inputs.push(name),
            constants::OUTPUT => outputs.push(name),
            other => {
                return refuse(
                    "tensor",
                    &name,
                    format!("is neither input nor output ({other}); build it again"),
                );
            }
        }
    }
    let [name] = inputs.as_slice() else {
        let names: Vec<_> = inputs.iter().map(|name| name.to_string_lossy()).collect();
        let reason = format!(
            "are {}: [{}], and we have one picture to give; export the model with one image input",
            inputs.len(),
            names.join(", ")
        );
        return Err(TensorRtError::Tensor { tensor: "inputs".to_owned(), reason });
    };
    if outputs.is_empty() || outputs.len() > OUTPUTS_MAX {
        let reason = format!("are {}; a detector has 1 to {OUTPUTS_MAX}", outputs.len());
        return Err(TensorRtError::Tensor { tensor: "outputs".to_owned(), reason });
    }
    Ok((picture(engine, name)?, outputs))
}

fn picture(engine: &Engine, name: &CStr) -> Result<Input, TensorRtError> {
    const WANTED: &str = "f32 or f16 [batch, 3, height, width]";
    if let Err(reason) = engine.check_plain(name)? {
        return refuse("input", name, reason);
    }
    let code = engine.tensor_type(name)?;
    let (kind, element) = match TensorElement::from_code(code) {
        Some(kind @ TensorElement::F32) => (kind, Element::F32),
        Some(kind @ TensorElement::F16) => (kind, Element::F16),
        Some(other) => return refuse("input", name, format!("is of {}; {WANTED} is needed", other.name())),
        None => return refuse("input", name, format!("is of the type {code}; {WANTED} is needed")),
    };
    let (least, most) = match bounds(engine, name)? {
        Ok(bounds) => bounds,
        Err(reason) => return refuse("input", name, reason),
    };
    let (&[fewest, 3, height, width], &[largest, ..]) = (&least[..], &most[..]) else {
        return refuse("input", name, format!("has the shape {most:?}; {WANTED} is needed"));
    };
    if least[1..] != most[1..] {
        let reason =
            format!("allows pictures from {least:?} to {most:?}; build the engine for one picture size");
        return refuse("input", name, reason);
    }
    let count = |size: i64| usize::try_from(size).ok().filter(|&size| size > 0);
    let (Some(fewest), Some(largest), Some(height), Some(width)) =
        (count(fewest), count(largest), count(height), count(width))
    else {
        return refuse("input", name, format!("has the shape {most:?}; {WANTED} is needed"));
    };
    if fewest > BATCH_MAX || fewest > largest {
        return refuse(
            "input",
            name,
            format!("takes {fewest} frames at least; build the engine for 1 to {BATCH_MAX}"),
        );
    }
    let shape = vec![1, 3, height, width];
    if volume(&shape).is_none() {
        return refuse("input", name, format!("has the shape {most:?}; {WANTED} is needed"));
    }
    let info = TensorInfo { name: name.to_string_lossy().into_owned(), shape, element: kind };
    Ok(Input { name: name.to_owned(), info, element, batch: (fewest, largest.min(BATCH_MAX)) })
}

/// The smallest and the largest shape of the first profile, which is the one that a new context has.
#[allow(
    clippy::type_complexity,
    reason = "two kinds of failure: the library's, and a shape that does not serve"
)]
fn bounds(engine: &Engine, name: &CStr) -> Result<Result<(Vec<i64>, Vec<i64>), String>, TensorRtError> {
    let shape = match engine.tensor_shape(name)? {
        Ok(shape) => shape,
        Err(reason) => return Ok(Err(reason)),
    };
    if shape.iter().all(|&size| size >= 0) || engine.profile_count()? < 1 {
        return Ok(Ok((shape.clone(), shape)));
    }
    let least = engine.profile_shape(name, constants::PROFILE[0])?;
    let most = engine.profile_shape(name, constants::PROFILE[2])?;
    Ok(least.and_then(|least| most.map(|most| (least, most))))
}

/// What an output is for one frame, by what a context says of it with the largest batch.
pub(crate) fn output(
    engine: &Engine,
    input: &Input,
    name: CString,
    shape: Result<Vec<i64>, String>,
) -> Result<Output, TensorRtError> {
    if let Err(reason) = engine.check_plain(&name)? {
        return refuse("output", &name, reason);
    }
    let code = engine.tensor_type(&name)?;
    let Some(element) = TensorElement::from_code(code) else {
        return refuse(
            "output",
            &name,
            format!("is of the type {code}; export the model with f32 or f16 outputs"),
        );
    };
    let shape = match shape {
        Ok(shape) => shape,
        Err(reason) => return refuse("output", &name, reason),
    };
    let sizes: Option<Vec<usize>> = shape.iter().map(|&size| usize::try_from(size).ok()).collect();
    let Some(mut sizes) = sizes.filter(|sizes| volume(sizes).is_some_and(|values| values > 0)) else {
        let reason = format!(
            "has the shape {shape:?}, which depends on what is in the picture; export the model without NMS inside, or \
             with an NMS of fixed size"
        );
        return refuse("output", &name, reason);
    };
    let (_, most) = input.batch;
    // One frame at a time: whatever comes out is that frame's, whether it has a batch dimension or not.
    if most > 1 {
        if sizes.first() != Some(&most) {
            let reason = format!(
                "has the shape {shape:?} for a batch of {most}: its frames cannot be told apart; build the engine with \
                 a batch of 1"
            );
            return refuse("output", &name, reason);
        }
        sizes[0] = 1;
    }
    let info = TensorInfo { name: name.to_string_lossy().into_owned(), shape: sizes, element };
    Ok(Output { name, info })
}

/// Values of a shape, if their number makes sense.
fn volume(shape: &[usize]) -> Option<usize> {
    let values = shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size))?;
    (values <= VALUES_MAX).then_some(values)
}
