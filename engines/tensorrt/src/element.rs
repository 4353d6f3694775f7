//! Types of numbers in tensors, and how they become the f32 that heads read.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// `DataType` of TensorRT, by its names there. The same numbers in both majors.
#[cfg(test)]
pub(crate) const KNOWN: &[(&str, i32)] = &[
    ("kFLOAT", TensorElement::F32 as i32),
    ("kHALF", TensorElement::F16 as i32),
    ("kINT8", TensorElement::I8 as i32),
    ("kINT32", TensorElement::I32 as i32),
    ("kBOOL", TensorElement::Bool as i32),
    ("kUINT8", TensorElement::U8 as i32),
    ("kBF16", TensorElement::Bf16 as i32),
    ("kINT64", TensorElement::I64 as i32),
];

/// The type of a tensor's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorElement {
    /// 32-bit float.
    F32 = 0,
    /// 16-bit float.
    F16 = 1,
    /// 8-bit integer.
    I8 = 2,
    /// 32-bit integer.
    I32 = 3,
    /// One byte, 0 or 1.
    Bool = 4,
    /// 8-bit integer without sign.
    U8 = 5,
    /// 16-bit float with the range of 32-bit ones.
    Bf16 = 7,
    /// 64-bit integer.
    I64 = 8,
}

impl TensorElement {
    /// From `DataType`; `None` for types narrower than a byte and for those we do not know.
    pub(crate) fn from_code(code: i32) -> Option<Self> {
        const ALL: [TensorElement; 8] = [
            TensorElement::F32,
            TensorElement::F16,
            TensorElement::I8,
            TensorElement::I32,
            TensorElement::Bool,
            TensorElement::U8,
            TensorElement::Bf16,
            TensorElement::I64,
        ];
        ALL.into_iter().find(|element| *element as i32 == code)
    }

    /// Bytes of one value.
    pub fn bytes(self) -> usize {
        match self {
            Self::Bool | Self::I8 | Self::U8 => 1,
            Self::F16 | Self::Bf16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::I64 => 8,
        }
    }

    /// As manifests spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::I8 => "i8",
            Self::I32 => "i32",
            Self::Bool => "bool",
            Self::U8 => "u8",
            Self::Bf16 => "bf16",
            Self::I64 => "i64",
        }
    }
}

/// `bytes` as values, `None` if they are not whole values in a place where such values may lie.
///
/// # Safety
/// Every pattern of bits is a `T`.
unsafe fn cast<T>(bytes: &[u8]) -> Option<&[T]> {
    // SAFETY: as the caller promises.
    let (before, values, after) = unsafe { bytes.align_to::<T>() };
    (before.is_empty() && after.is_empty()).then_some(values)
}

/// 32-bit floats where they lie.
pub(crate) fn as_f32(bytes: &[u8]) -> Option<&[f32]> {
    // SAFETY: every pattern of bits is an f32.
    unsafe { cast(bytes) }
}

/// Values of any type into 32-bit floats; false if the lengths do not match.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "class ids and counts are far below 2^24")]
pub(crate) fn widen(element: TensorElement, bytes: &[u8], to: &mut [f32]) -> bool {
    fn each<T: Copy>(values: Option<&[T]>, to: &mut [f32], convert: impl Fn(T) -> f32) -> bool {
        let Some(values) = values.filter(|values| values.len() == to.len()) else { return false };
        for (to, from) in to.iter_mut().zip(values) {
            *to = convert(*from);
        }
        true
    }
    // SAFETY: every pattern of bits is a value of each of these types.
    unsafe {
        match element {
            TensorElement::F32 => each(cast::<f32>(bytes), to, |value| value),
            TensorElement::F16 => match cast::<f16>(bytes).filter(|values| values.len() == to.len()) {
                Some(values) => {
                    values.convert_to_f32_slice(to);
                    true
                }
                None => false,
            },
            TensorElement::Bf16 => each(cast::<bf16>(bytes), to, bf16::to_f32),
            TensorElement::I8 => each(cast::<i8>(bytes), to, f32::from),
            TensorElement::U8 | TensorElement::Bool => each(cast::<u8>(bytes), to, f32::from),
            TensorElement::I32 => each(cast::<i32>(bytes), to, |value| value as f32),
            TensorElement::I64 => each(cast::<i64>(bytes), to, |value| value as f32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn widened(element: TensorElement, bytes: &[u8]) -> Vec<f32> {
        // Pinned memory is aligned; a vector of bytes need not be.
        let mut aligned = vec![0_u64; bytes.len().div_ceil(8)];
        // SAFETY: bytes of integers may be written as bytes.
        let place = unsafe { std::slice::from_raw_parts_mut(aligned.as_mut_ptr().cast::<u8>(), bytes.len()) };
        place.copy_from_slice(bytes);
        let mut to = vec![9.0; bytes.len() / element.bytes()];
        assert!(widen(element, place, &mut to));
        assert!(!widen(element, place, &mut vec![0.0; to.len() + 1]), "one value too few");
        to
    }

    #[test]
    fn every_type_becomes_f32() {
        let f16s: Vec<u8> =
            [1.5_f32, -0.25, 65504.0, 6e-8].iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
        assert_eq!(widened(TensorElement::F16, &f16s), [1.5, -0.25, 65504.0, 5.960_464_5e-8]);
        let bf16s: Vec<u8> = [1.5_f32, -3e30].iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect();
        assert_eq!(widened(TensorElement::Bf16, &bf16s)[0], 1.5);
        assert_eq!(widened(TensorElement::F32, &2.5_f32.to_le_bytes()), [2.5]);
        assert_eq!(widened(TensorElement::I8, &[0xff, 1]), [-1.0, 1.0]);
        assert_eq!(widened(TensorElement::U8, &[0xff, 1]), [255.0, 1.0]);
        assert_eq!(widened(TensorElement::Bool, &[0, 1]), [0.0, 1.0]);
        assert_eq!(widened(TensorElement::I32, &(-7_i32).to_le_bytes()), [-7.0]);
        assert_eq!(widened(TensorElement::I64, &79_i64.to_le_bytes()), [79.0]);
    }
}
