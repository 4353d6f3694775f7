//! Output tensors of any type of number, as f32.

use std::borrow::Cow;

use half::f16;
use ort::value::{TensorElementType, ValueRef, ValueType};

use crate::RunError;

/// The shape and the values of an output: borrowed where they are f32, converted where they are not.
#[allow(clippy::cast_precision_loss, reason = "class ids and counts are far below 2^24")]
pub(crate) fn floats<'v>(
    name: &str,
    value: &'v ValueRef<'_>,
) -> Result<(Vec<usize>, Cow<'v, [f32]>), RunError> {
    let fail = |error: ort::Error| RunError(error.to_string());
    let ValueType::Tensor { ty, .. } = value.dtype() else {
        return Err(RunError(format!("output {name} is no tensor")));
    };
    macro_rules! converted {
        ($number:ty, $convert:expr) => {{
            let (shape, data) = value.try_extract_tensor::<$number>().map_err(fail)?;
            (shape, data.iter().map($convert).collect::<Vec<f32>>().into())
        }};
    }
    let (shape, data): (_, Cow<'v, [f32]>) = match ty {
        TensorElementType::Float32 => {
            let (shape, data) = value.try_extract_tensor::<f32>().map_err(fail)?;
            (shape, data.into())
        }
        TensorElementType::Float16 => converted!(f16, |number| number.to_f32()),
        TensorElementType::Float64 => converted!(f64, |&number| number as f32),
        TensorElementType::Int64 => converted!(i64, |&number| number as f32),
        TensorElementType::Int32 => converted!(i32, |&number| number as f32),
        TensorElementType::Uint8 => converted!(u8, |&number| f32::from(number)),
        TensorElementType::Int8 => converted!(i8, |&number| f32::from(number)),
        other => return Err(RunError(format!("output {name} is of {other}, not of numbers we can read"))),
    };
    let shape = shape.iter().map(|&size| usize::try_from(size).unwrap_or(0)).collect();
    Ok((shape, data))
}
