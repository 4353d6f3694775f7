//! The little that a build has to know of an ONNX model: its inputs, and in what numbers its weights are.
//!
//! Field numbers are those of onnx.proto. Weights are skipped, not read; lengths are checked against what is there, so a
//! damaged file is an error here and not a crash in the parser of a library.

use std::cmp::Ordering;
use std::collections::HashSet;

/// A dimension may be fixed or open.
pub(crate) type Dim = Option<i64>;

/// An input of the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Input {
    pub(crate) name: String,
    /// `TensorProto.DataType`.
    pub(crate) element: u64,
    pub(crate) dims: Vec<Dim>,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Inputs without those that are weights.
    pub(crate) inputs: Vec<Input>,
    /// Tensors of weights in 32-bit floats.
    pub(crate) single_count: usize,
    /// Tensors of weights in 16-bit floats.
    pub(crate) half_count: usize,
    /// Whether scales for 8-bit integers are in the graph.
    pub(crate) quantized: bool,
    /// Whether weights are in another file.
    pub(crate) external: bool,
}

impl Summary {
    /// Whether the model computes in 16-bit floats: most of its weights are, or, where it has as many of both (or none),
    /// its input is.
    pub(crate) fn is_half(&self) -> bool {
        match self.half_count.cmp(&self.single_count) {
            Ordering::Greater => true,
            Ordering::Equal => self.inputs.iter().any(|input| input.element == FLOAT16),
            Ordering::Less => false,
        }
    }
}

/// `TensorProto.DataType`.
pub(crate) const FLOAT: u64 = 1;
pub(crate) const FLOAT16: u64 = 10;
const BFLOAT16: u64 = 16;
/// `TensorProto.DataLocation.EXTERNAL`.
const EXTERNAL: u64 = 1;

/// One field of a message.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, count: u64) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(usize::try_from(count).ok()?)?;
        self.0 = rest;
        Some(bytes)
    }

    /// The next field; `Err` where the bytes make no sense, `Ok(None)` at the end.
    fn next(&mut self) -> Result<Option<(u64, Field<'a>)>, Damaged> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint().ok_or(Damaged)?;
        let field = match tag & 7 {
            0 => self.varint().map(Field::Number),
            1 => self.take(8).map(Field::Bytes),
            2 => self.varint().and_then(|length| self.take(length)).map(Field::Bytes),
            5 => self.take(4).map(Field::Bytes),
            _ => None,
        };
        Ok(Some((tag >> 3, field.ok_or(Damaged)?)))
    }

    fn each(mut self, mut see: impl FnMut(u64, Field<'a>) -> Result<(), Damaged>) -> Result<(), Damaged> {
        while let Some((number, field)) = self.next()? {
            see(number, field)?;
        }
        Ok(())
    }
}

/// The bytes are not an ONNX model, or not all of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Damaged;

/// Looks into a model.
pub(crate) fn summarize(model: &[u8]) -> Result<Summary, Damaged> {
    let mut graphs = Vec::new();
    Fields(model).each(|number, field| {
        if let (7, Field::Bytes(bytes)) = (number, field) {
            graphs.push(bytes);
        }
        Ok(())
    })?;
    let [graph] = graphs[..] else { return Err(Damaged) };
    let mut summary = Summary::default();
    let mut weights = HashSet::new();
    Fields(graph).each(|number, field| {
        match (number, field) {
            (1, Field::Bytes(node)) => summary.quantized |= is_quantize(node)?,
            (5, Field::Bytes(tensor)) => {
                weights.insert(weight(tensor, &mut summary)?);
            }
            (11, Field::Bytes(value)) => summary.inputs.push(input(value)?),
            _ => {}
        }
        Ok(())
    })?;
    // Old files list their weights as inputs, too.
    summary.inputs.retain(|input| !weights.contains(input.name.as_bytes()));
    Ok(summary)
}

fn is_quantize(node: &[u8]) -> Result<bool, Damaged> {
    let mut is = false;
    Fields(node).each(|number, field| {
        if let (4, Field::Bytes(operator)) = (number, field) {
            is = matches!(operator, b"QuantizeLinear" | b"DequantizeLinear");
        }
        Ok(())
    })?;
    Ok(is)
}

fn weight<'a>(tensor: &'a [u8], summary: &mut Summary) -> Result<&'a [u8], Damaged> {
    let mut name: &[u8] = &[];
    Fields(tensor).each(|number, field| {
        match (number, field) {
            (2, Field::Number(FLOAT)) => summary.single_count += 1,
            (2, Field::Number(FLOAT16 | BFLOAT16)) => summary.half_count += 1,
            (8, Field::Bytes(bytes)) => name = bytes,
            (14, Field::Number(EXTERNAL)) => summary.external = true,
            _ => {}
        }
        Ok(())
    })?;
    Ok(name)
}

/// `ValueInfoProto { name = 1, type = 2 { tensor_type = 1 { elem_type = 1, shape = 2 { dim = 1 } } } }`
fn input(value: &[u8]) -> Result<Input, Damaged> {
    let mut input = Input { name: String::new(), element: 0, dims: Vec::new() };
    let mut kind: &[u8] = &[];
    Fields(value).each(|number, field| {
        match (number, field) {
            (1, Field::Bytes(name)) => input.name = String::from_utf8_lossy(name).into_owned(),
            (2, Field::Bytes(bytes)) => kind = bytes,
            _ => {}
        }
        Ok(())
    })?;
    let mut shape: &[u8] = &[];
    let tensor = sole(kind, 1)?;
    Fields(tensor).each(|number, field| {
        match (number, field) {
            (1, Field::Number(element)) => input.element = element,
            (2, Field::Bytes(bytes)) => shape = bytes,
            _ => {}
        }
        Ok(())
    })?;
    Fields(shape).each(|number, field| {
        if let (1, Field::Bytes(dim)) = (number, field) {
            input.dims.push(dimension(dim)?);
        }
        Ok(())
    })?;
    Ok(input)
}

fn dimension(dim: &[u8]) -> Result<Dim, Damaged> {
    let mut size = None;
    Fields(dim).each(|number, field| {
        if let (1, Field::Number(value)) = (number, field) {
            size = i64::try_from(value).ok().filter(|&size| size > 0);
        }
        Ok(())
    })?;
    Ok(size)
}

/// The message in this field, or an empty one.
fn sole(bytes: &[u8], wanted: u64) -> Result<&[u8], Damaged> {
    let mut found: &[u8] = &[];
    Fields(bytes).each(|number, field| {
        if let (true, Field::Bytes(bytes)) = (number == wanted, field) {
            found = bytes;
        }
        Ok(())
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(name: &str) -> Option<Vec<u8>> {
        let folder = std::env::var_os("WATCHPOST_SHARED").map_or_else(
            || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
            std::path::PathBuf::from,
        );
        let bytes = std::fs::read(folder.join(name)).ok();
        if bytes.is_none() {
            eprintln!("NOT TESTED: {} is not there; set WATCHPOST_SHARED", folder.join(name).display());
        }
        bytes
    }

    #[test]
    fn real_models_say_what_they_are() {
        let demo = include_bytes!("../../models/demo.onnx");
        let summary = summarize(demo).unwrap();
        assert_eq!((summary.inputs.len(), summary.inputs[0].dims.len()), (1, 4));
        assert!(
            summary.single_count > 0 && summary.half_count == 0 && !summary.quantized && !summary.external
        );

        let Some(half) = shared("models/yolov8n-fp16.onnx") else { return };
        let half = summarize(&half).unwrap();
        assert!(half.half_count > 100 && half.is_half(), "{half:?}");
        let quantized = summarize(&shared("models/yolov8n-int8-qdq.onnx").unwrap()).unwrap();
        assert!(quantized.quantized);
        let open = summarize(&shared("models/yolov8n-dynamic-batch.onnx").unwrap()).unwrap();
        assert_eq!(open.inputs[0].dims, [None, Some(3), None, None]);
        assert_eq!((open.inputs[0].name.as_str(), open.inputs[0].element), ("images", FLOAT));
        let two = summarize(&shared("models/deimv2-atto.onnx").unwrap()).unwrap();
        assert_eq!(two.inputs.len(), 2);
    }

    #[test]
    fn damaged_models_are_errors() {
        let demo = include_bytes!("../../models/demo.onnx");
        assert_eq!(summarize(b""), Err(Damaged));
        assert_eq!(summarize(b"hello, this is not a model at all"), Err(Damaged));
        for length in (1..demo.len()).step_by(demo.len() / 300 + 1) {
            // A cut may fall between two fields; what must not happen is a panic or endless work.
            let _ = summarize(&demo[..length]);
        }
        assert_eq!(summarize(&demo[..demo.len() / 2]), Err(Damaged));
    }
}
