//! The model's inputs: one picture, and perhaps numbers that say how large it is.

use half::f16;
use half::slice::HalfFloatSliceExt;
use ort::session::{Session, SessionInputValue};
use ort::value::{Outlet, TensorElementType, TensorRef, ValueType};
use watchpost_binding::{Frame, Number, PictureInput, size_numbers};

use crate::LoadError;

/// Numbers in the type that an input takes.
#[derive(Debug)]
enum Numbers {
    I64(Vec<i64>),
    I32(Vec<i32>),
    F32(Vec<f32>),
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
            Numbers::I64(numbers) => {
                TensorRef::from_array_view(([numbers.len() / 2, 2], &numbers[..]))?.into()
            }
            Numbers::I32(numbers) => {
                TensorRef::from_array_view(([numbers.len() / 2, 2], &numbers[..]))?.into()
            }
            Numbers::F32(numbers) => {
                TensorRef::from_array_view(([numbers.len() / 2, 2], &numbers[..]))?.into()
            }
        })
    }
}

/// How the picture is handed over.
#[derive(Debug)]
pub(crate) enum Picture {
    /// Read where it lies.
    AsItIs,
    /// Floats, converted into this buffer.
    F16(Vec<f16>),
}

impl Picture {
    pub fn value<'v>(
        &'v mut self,
        shape: [usize; 4],
        input: Frame<'v>,
    ) -> ort::Result<SessionInputValue<'v>> {
        Ok(match (self, input) {
            (Self::AsItIs, Frame::F32(input)) => TensorRef::from_array_view((shape, input))?.into(),
            (Self::F16(buffer), Frame::F32(input)) => {
                buffer.resize(input.len(), f16::ZERO);
                buffer.convert_from_f32_slice(input);
                TensorRef::from_array_view((shape, &buffer[..]))?.into()
            }
            (_, Frame::U8(input)) => TensorRef::from_array_view((shape, input))?.into(),
        })
    }
}

/// What goes into a model.
pub(crate) struct Settled {
    /// Name of the picture's input.
    pub name: String,
    pub input: PictureInput,
    pub picture: Picture,
    /// What the others are fed with.
    pub constants: Vec<Constant>,
}

/// Settles the picture's dimensions, an open batch as 1 and, where the model leaves them open, the size asked for, and
/// every other input.
pub(crate) fn settle(session: &Session, asked: (usize, usize)) -> Result<Settled, LoadError> {
    let (others, pictures): (Vec<&Outlet>, Vec<&Outlet>) =
        session.inputs().iter().partition(|outlet| size_numbers(outlet.name(), asked).is_some());
    let [outlet] = pictures.as_slice() else {
        return Err(LoadError::Input(format!("is one of {}", pictures.len())));
    };
    let (input, picture) = picture(outlet, asked)?;
    let constants = others.into_iter().map(|outlet| constant_of(outlet, &input)).collect::<Result<_, _>>()?;
    Ok(Settled { name: outlet.name().to_owned(), input, picture, constants })
}

fn constant_of(outlet: &Outlet, input: &PictureInput) -> Result<Constant, LoadError> {
    // The same for each picture of a batch.
    let numbers =
        size_numbers(outlet.name(), (input.width, input.height)).unwrap_or_default().repeat(input.batch);
    let refuse =
        || LoadError::Input(format!("{} is {}, not two numbers of a size", outlet.name(), outlet.dtype()));
    let ValueType::Tensor { ty, .. } = outlet.dtype() else { return Err(refuse()) };
    // Sides are at most 8192: exact in each of them.
    let numbers = match ty {
        TensorElementType::Int64 => Numbers::I64(numbers.iter().map(|&number| number as i64).collect()),
        TensorElementType::Int32 => Numbers::I32(numbers.iter().map(|&number| number as i32).collect()),
        TensorElementType::Float32 => Numbers::F32(numbers.iter().map(|&number| number as f32).collect()),
        _ => return Err(refuse()),
    };
    Ok(Constant { name: outlet.name().to_owned(), numbers })
}

fn picture(outlet: &Outlet, asked: (usize, usize)) -> Result<(PictureInput, Picture), LoadError> {
    let (picture, number, shape) = match outlet.dtype() {
        ValueType::Tensor { ty: TensorElementType::Float32, shape, .. } => {
            (Picture::AsItIs, Number::F32, shape)
        }
        ValueType::Tensor { ty: TensorElementType::Float16, shape, .. } => {
            (Picture::F16(Vec::new()), Number::F32, shape)
        }
        ValueType::Tensor { ty: TensorElementType::Uint8, shape, .. } => (Picture::AsItIs, Number::U8, shape),
        other => return Err(LoadError::Input(format!("{} is {other}", outlet.name()))),
    };
    // What is open is negative.
    let dims: Vec<Option<usize>> = shape.iter().map(|&dim| usize::try_from(dim).ok()).collect();
    let input = PictureInput::settle(&dims, number, Some(asked))
        .map_err(|error| LoadError::Input(format!("{} {error}", outlet.name())))?;
    Ok((input, picture))
}
