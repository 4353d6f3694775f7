//! The model's inputs: one picture, and perhaps numbers that say how large it is.

use half::f16;
use half::slice::HalfFloatSliceExt;
use ort::session::{Session, SessionInputValue};
use ort::value::{Outlet, TensorElementType, TensorRef, ValueType};
use watchpost_binding::size_numbers;

use crate::{LoadError, TensorInfo};

/// Numbers in the type that an input takes.
#[derive(Debug)]
enum Numbers {
    I64([i64; 2]),
    I32([i32; 2]),
    F32([f32; 2]),
}

/// An input that is always fed with the same.
#[derive(Debug)]
pub(crate) struct Constant {
    pub name: String,
    numbers: Numbers,
}

impl Constant {
    pub fn value(&self) -> ort::Result<SessionInputValue<'_>> {
        Ok(match &self.numbers {
            Numbers::I64(numbers) => TensorRef::from_array_view(([1_usize, 2], &numbers[..]))?.into(),
            Numbers::I32(numbers) => TensorRef::from_array_view(([1_usize, 2], &numbers[..]))?.into(),
            Numbers::F32(numbers) => TensorRef::from_array_view(([1_usize, 2], &numbers[..]))?.into(),
        })
    }
}

/// How the picture is handed over.
#[derive(Debug)]
pub(crate) enum Picture {
    /// Read where it lies.
    F32,
    /// Converted into this buffer.
    F16(Vec<f16>),
}

impl Picture {
    pub fn value<'v>(
        &'v mut self,
        shape: &'v [usize],
        input: &'v [f32],
    ) -> ort::Result<SessionInputValue<'v>> {
        Ok(match self {
            Self::F32 => TensorRef::from_array_view((shape, input))?.into(),
            Self::F16(buffer) => {
                buffer.resize(input.len(), f16::ZERO);
                buffer.convert_from_f32_slice(input);
                TensorRef::from_array_view((shape, &buffer[..]))?.into()
            }
        })
    }
}

/// Settles the picture's dimensions, with batch 1 and, where the model leaves them open, the size asked for, and every
/// other input.
pub(crate) fn settle(
    session: &Session,
    asked: (usize, usize),
) -> Result<(TensorInfo, Picture, Vec<Constant>), LoadError> {
    let (others, pictures): (Vec<&Outlet>, Vec<&Outlet>) =
        session.inputs().iter().partition(|outlet| size_numbers(outlet.name(), asked).is_some());
    let [outlet] = pictures.as_slice() else {
        return Err(LoadError::Input(format!("is one of {}", pictures.len())));
    };
    let (info, picture) = picture(outlet, asked)?;
    let size = (info.shape[3], info.shape[2]);
    let constants: Result<Vec<_>, _> = others.into_iter().map(|outlet| constant_of(outlet, size)).collect();
    Ok((info, picture, constants?))
}

fn constant_of(outlet: &Outlet, size: (usize, usize)) -> Result<Constant, LoadError> {
    let numbers = size_numbers(outlet.name(), size).unwrap_or_default();
    let refuse =
        || LoadError::Input(format!("{} is {}, not two numbers of a size", outlet.name(), outlet.dtype()));
    let ValueType::Tensor { ty, .. } = outlet.dtype() else { return Err(refuse()) };
    // Sides are at most 8192: exact in each of them.
    let numbers = match ty {
        TensorElementType::Int64 => Numbers::I64(numbers.map(|number| number as i64)),
        TensorElementType::Int32 => Numbers::I32(numbers.map(|number| number as i32)),
        TensorElementType::Float32 => Numbers::F32(numbers.map(|number| number as f32)),
        _ => return Err(refuse()),
    };
    Ok(Constant { name: outlet.name().to_owned(), numbers })
}

fn picture(outlet: &Outlet, (width, height): (usize, usize)) -> Result<(TensorInfo, Picture), LoadError> {
    let (picture, shape) = match outlet.dtype() {
        ValueType::Tensor { ty: TensorElementType::Float32, shape, .. } => (Picture::F32, shape),
        ValueType::Tensor { ty: TensorElementType::Float16, shape, .. } => (Picture::F16(Vec::new()), shape),
        other => return Err(LoadError::Input(format!("{} is {other}", outlet.name()))),
    };
    let &[batch, channels, model_height, model_width] = &shape[..] else {
        return Err(LoadError::Input(format!("{} has {} dimensions", outlet.name(), shape.len())));
    };
    if batch > 1 || channels > 0 && channels != 3 {
        return Err(LoadError::Input(format!("{} has the shape {shape:?}", outlet.name())));
    }
    let size =
        |fixed: i64, asked: usize| usize::try_from(fixed).ok().filter(|&fixed| fixed > 0).unwrap_or(asked);
    let shape = vec![1, 3, size(model_height, height), size(model_width, width)];
    Ok((TensorInfo { name: outlet.name().to_owned(), shape }, picture))
}
