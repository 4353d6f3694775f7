//! Output tensors of any type of number, as f32.

use std::ptr;

use openvino_sys as ov;
use openvino_sys::ov_element_type_e as Element;

use crate::model::RunError;
use crate::owned::{Refusal, Tensor, check};

/// Replaces `to` by the tensor's shape.
pub(crate) fn shape_of(tensor: &Tensor, to: &mut Vec<usize>) -> Result<(), Refusal> {
    let mut shape = ov::ov_shape_t { rank: 0, dims: ptr::null_mut() };
    // SAFETY: the tensor is the library's own, the shape valid for writes.
    check(unsafe { ov::ov_tensor_get_shape(tensor.raw(), &raw mut shape) })?;
    to.clear();
    if !shape.dims.is_null() {
        // SAFETY: the library made an array of `rank` dimensions.
        let dims =
            unsafe { std::slice::from_raw_parts(shape.dims, usize::try_from(shape.rank).unwrap_or(0)) };
        to.extend(dims.iter().map(|&size| usize::try_from(size).unwrap_or(0)));
    }
    // SAFETY: filled by the call above, freed once.
    check(unsafe { ov::ov_shape_free(&raw mut shape) })
}

/// The tensor's values: where they lie if they are f32, converted into `room` if they are not.
#[allow(clippy::cast_precision_loss, reason = "class ids and counts are far below 2^24")]
pub(crate) fn floats<'v>(
    tensor: &'v Tensor,
    name: &str,
    length: usize,
    room: &'v mut Vec<f32>,
) -> Result<&'v [f32], RunError> {
    let (mut element, mut data) = (0_u32, ptr::null_mut());
    // SAFETY: the tensor is the library's own; a C enum is written as the 32-bit number that it is.
    check(unsafe { ov::ov_tensor_get_element_type(tensor.raw(), (&raw mut element).cast()) })?;
    if length == 0 {
        return Ok(&[]);
    }
    // SAFETY: as above, the pointer is valid for writes.
    check(unsafe { ov::ov_tensor_data(tensor.raw(), &raw mut data) })?;
    if data.is_null() {
        return Err(RunError(format!("output {name} has no data")));
    }
    macro_rules! converted {
        ($number:ty, $convert:expr) => {{
            // SAFETY: the tensor holds `length` numbers of this type, its shape's product.
            let numbers = unsafe { std::slice::from_raw_parts(data.cast::<$number>(), length) };
            room.clear();
            room.extend(numbers.iter().map($convert));
            Ok(room.as_slice())
        }};
    }
    match element {
        n if n == Element::F32 as u32 => {
            // SAFETY: as above; the values stay until the next inference, and `tensor` is held until then.
            Ok(unsafe { std::slice::from_raw_parts(data.cast::<f32>(), length) })
        }
        n if n == Element::F16 as u32 => converted!(half::f16, |number| number.to_f32()),
        n if n == Element::F64 as u32 => converted!(f64, |&number| number as f32),
        n if n == Element::I64 as u32 => converted!(i64, |&number| number as f32),
        n if n == Element::I32 as u32 => converted!(i32, |&number| number as f32),
        n if n == Element::I8 as u32 => converted!(i8, |&number| f32::from(number)),
        n if n == Element::U8 as u32 => converted!(u8, |&number| f32::from(number)),
        _ => Err(RunError(format!("output {name} is not of numbers we can read"))),
    }
}
