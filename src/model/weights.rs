//! Do the weights of an ONNX file have the bytes that their shapes ask for, and do its parts lie in each other no deeper
//! than a reader can follow?
//!
//! Engines believe a file: they take memory for a shape before they look for its values, and follow graphs in graphs on
//! their own stack. So both are checked before any engine sees the file, also in nodes, functions and graphs inside nodes.
//! Field numbers are those of onnx.proto.

use std::collections::BTreeMap;
use std::io::{Read, Seek};
use std::path::{Component, Path};

use super::InspectError;
use super::onnx::{NodeFacts, Walk};
use super::wire::FieldValue;

/// Graphs in nodes in graphs, and types in types.
const MAX_DEPTH: usize = 16;
/// Values of a tensor that an operator makes of a shape the file holds: 1 GiB as floats.
const MAX_MADE_VALUES: u64 = 1 << 28;
/// A shape has no more dimensions.
const MAX_SHAPE_VALUES: usize = 32;

/// Weights in a file of their own.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct External {
    name: String,
    location: String,
    offset: u64,
    /// What the shape asks for.
    bytes: u64,
}

/// What is collected about tensors on the way.
#[derive(Debug, Default)]
pub(super) struct Tensors {
    pub external: Vec<External>,
    /// Whole numbers of short tensors, which may be shapes.
    shapes: BTreeMap<String, Vec<i64>>,
}

/// One tensor, as far as it was read.
#[derive(Default)]
struct Declared {
    name: String,
    dims: Vec<i64>,
    dtype: u64,
    raw_bytes: Option<u64>,
    /// Values that the typed fields hold at most.
    values_most: u64,
    numbers: Vec<i64>,
    is_external: bool,
    external: BTreeMap<String, String>,
}

impl<R: Read + Seek> Walk<R> {
    /// A TensorProto; returns its name.
    pub(super) fn weights(&mut self, end: u64) -> Result<String, InspectError> {
        let mut tensor = Declared::default();
        self.fields(end, |walk, number, value| walk.weights_field(&mut tensor, number, value))?;
        let declared = tensor.bytes()?;
        if tensor.is_external {
            let number = |key: &str| tensor.external.get(key).and_then(|text| text.parse::<u64>().ok());
            let length = number("length").unwrap_or(declared);
            tensor.compare(declared, length)?;
            self.tensors.external.push(External {
                name: tensor.name.clone(),
                location: tensor.external.get("location").cloned().unwrap_or_default(),
                offset: number("offset").unwrap_or(0),
                bytes: declared,
            });
        } else if let Some(raw) = tensor.raw_bytes {
            tensor.compare(declared, raw)?;
        } else if tensor.values()? > tensor.values_most {
            return Err(tensor.lie(Some(declared), tensor.held()));
        }
        // Tensors of nodes often share a name.
        if tensor.numbers.is_empty() {
            self.tensors.shapes.remove(&tensor.name);
        } else {
            self.tensors.shapes.insert(tensor.name.clone(), tensor.numbers);
        }
        Ok(tensor.name)
    }

    fn weights_field(
        &mut self,
        tensor: &mut Declared,
        number: u32,
        value: FieldValue,
    ) -> Result<(), InspectError> {
        match (number, value) {
            (1, FieldValue::Number(dim)) => tensor.dim(dim)?,
            (1, FieldValue::Bytes { end }) => {
                while self.wire.position() < end {
                    let dim = self.wire.varint(end)?;
                    tensor.dim(dim)?;
                }
            }
            (2, FieldValue::Number(dtype)) => tensor.dtype = dtype,
            // floats, doubles; then numbers of at least one byte each
            (4, FieldValue::Bytes { end }) => tensor.values_most += (end - self.wire.position()) / 4,
            (10, FieldValue::Bytes { end }) => tensor.values_most += (end - self.wire.position()) / 8,
            (7, FieldValue::Bytes { end }) => {
                tensor.values_most += end - self.wire.position();
                while self.wire.position() < end && tensor.numbers.len() < MAX_SHAPE_VALUES {
                    tensor.numbers.push(self.wire.varint(end)?.cast_signed());
                }
            }
            (5 | 11, FieldValue::Bytes { end }) => tensor.values_most += end - self.wire.position(),
            (6, FieldValue::Bytes { .. }) | (4 | 5 | 7 | 10 | 11, FieldValue::Number(_)) => {
                tensor.values_most += 1;
            }
            (8, FieldValue::Bytes { end }) => tensor.name = self.name(end)?,
            (9, FieldValue::Bytes { end }) => {
                let bytes = end - self.wire.position();
                tensor.raw_bytes = Some(bytes);
                if tensor.dtype == 7 && bytes <= 8 * MAX_SHAPE_VALUES as u64 {
                    while self.wire.position() + 8 <= end {
                        tensor.numbers.push(self.wire.fixed::<8>(end)?.cast_signed());
                    }
                }
            }
            (13, FieldValue::Bytes { end }) => {
                let (key, value) = self.entry(end)?;
                tensor.external.insert(key, value);
            }
            (14, FieldValue::Number(location)) => tensor.is_external = location == 1,
            _ => {}
        }
        Ok(())
    }

    /// An AttributeProto: tensors, graphs and types are looked into.
    pub(super) fn attribute(&mut self, end: u64, depth: usize) -> Result<Option<String>, InspectError> {
        let mut tensor = None;
        self.fields(end, |walk, number, value| match (number, value) {
            (5 | 10, FieldValue::Bytes { end }) => walk.weights(end).map(|name| tensor = Some(name)),
            (6 | 11, FieldValue::Bytes { end }) => walk.nested_graph(end, depth + 1),
            (14 | 15, FieldValue::Bytes { end }) => walk.nested_type(end, depth + 1),
            (22 | 23, FieldValue::Bytes { end }) => walk.sparse(end),
            _ => Ok(()),
        })?;
        Ok(tensor)
    }

    /// A GraphProto inside something: nothing of it is kept.
    fn nested_graph(&mut self, end: u64, depth: usize) -> Result<(), InspectError> {
        check_depth(depth)?;
        self.fields(end, |walk, number, value| match (number, value) {
            (1, FieldValue::Bytes { end }) => walk.nested_node(end, depth),
            (5, FieldValue::Bytes { end }) => walk.weights(end).map(drop),
            (11..=13, FieldValue::Bytes { end }) => walk.value_info(end, depth),
            (15, FieldValue::Bytes { end }) => walk.sparse(end),
            _ => Ok(()),
        })
    }

    /// A NodeProto.
    pub(super) fn nested_node(&mut self, end: u64, depth: usize) -> Result<(), InspectError> {
        self.keep()?;
        self.fields(end, |walk, number, value| match (number, value) {
            (5, FieldValue::Bytes { end }) => walk.attribute(end, depth).map(drop),
            _ => Ok(()),
        })
    }

    /// A FunctionProto.
    pub(super) fn function(&mut self, end: u64) -> Result<(), InspectError> {
        self.fields(end, |walk, number, value| match (number, value) {
            (7, FieldValue::Bytes { end }) => walk.nested_node(end, 1),
            (11, FieldValue::Bytes { end }) => walk.attribute(end, 1).map(drop),
            _ => Ok(()),
        })
    }

    /// A TrainingInfoProto.
    pub(super) fn training(&mut self, end: u64) -> Result<(), InspectError> {
        self.fields(end, |walk, number, value| match (number, value) {
            (1 | 2, FieldValue::Bytes { end }) => walk.nested_graph(end, 1),
            _ => Ok(()),
        })
    }

    /// A SparseTensorProto.
    pub(super) fn sparse(&mut self, end: u64) -> Result<(), InspectError> {
        self.fields(end, |walk, number, value| match (number, value) {
            (1 | 2, FieldValue::Bytes { end }) => walk.weights(end).map(drop),
            _ => Ok(()),
        })
    }

    /// A ValueInfoProto of which nothing is kept.
    pub(super) fn value_info(&mut self, end: u64, depth: usize) -> Result<(), InspectError> {
        self.fields(end, |walk, number, value| match (number, value) {
            (2, FieldValue::Bytes { end }) => walk.nested_type(end, depth),
            _ => Ok(()),
        })
    }

    /// A TypeProto: sequences, maps and optionals hold types in turn.
    pub(super) fn nested_type(&mut self, end: u64, depth: usize) -> Result<(), InspectError> {
        check_depth(depth)?;
        self.fields(end, |walk, number, value| match (number, value) {
            (4 | 5 | 9, FieldValue::Bytes { end }) => {
                walk.fields(end, |walk, number, value| match (number, value) {
                    (1 | 2, FieldValue::Bytes { end }) => walk.nested_type(end, depth + 1),
                    _ => Ok(()),
                })
            }
            _ => Ok(()),
        })
    }
}

fn check_depth(depth: usize) -> Result<(), InspectError> {
    if depth > MAX_DEPTH {
        return Err(InspectError::TooMuch { what: "graphs inside graphs", limit: MAX_DEPTH as u64 });
    }
    Ok(())
}

impl Declared {
    fn dim(&mut self, dim: u64) -> Result<(), InspectError> {
        if self.dims.len() >= MAX_SHAPE_VALUES {
            return Err(InspectError::TooMuch { what: "dimensions", limit: MAX_SHAPE_VALUES as u64 });
        }
        self.dims.push(dim.cast_signed());
        Ok(())
    }

    /// Values that the shape asks for.
    fn values(&self) -> Result<u64, InspectError> {
        product(&self.dims).ok_or_else(|| self.lie(None, self.held()))
    }

    /// Bytes that the shape asks for.
    fn bytes(&self) -> Result<u64, InspectError> {
        let bits: u64 = match self.dtype {
            2 | 3 | 9 | 17..=20 | 24 => 8,
            4 | 5 | 10 | 16 => 16,
            7 | 11 | 13 | 14 => 64,
            15 => 128,
            21 | 22 | 23 => 4,
            _ => 32,
        };
        let values = self.values()?;
        values.checked_mul(bits).map(|bits| bits.div_ceil(8)).ok_or_else(|| self.lie(None, self.held()))
    }

    fn compare(&self, declared: u64, found: u64) -> Result<(), InspectError> {
        // Types of numbers that are not known here are left to the engine.
        let is_known = (1..=24).contains(&self.dtype) && self.dtype != 8;
        if declared == found || (!is_known && declared <= found.saturating_mul(8)) {
            return Ok(());
        }
        Err(self.lie(Some(declared), format!("{found} bytes")))
    }

    fn lie(&self, declared_bytes: Option<u64>, found: String) -> InspectError {
        let needed = declared_bytes.map_or("no size at all".to_owned(), |bytes| format!("{bytes} bytes"));
        InspectError::Weights { name: self.name.clone(), dims: self.dims.clone(), needed, found }
    }

    fn held(&self) -> String {
        match self.raw_bytes {
            Some(bytes) => format!("{bytes} bytes"),
            None => format!("{} values at most", self.values_most),
        }
    }
}

/// `None` for what is negative or beyond all numbers.
fn product(dims: &[i64]) -> Option<u64> {
    dims.iter().try_fold(1_u64, |product, &dim| product.checked_mul(u64::try_from(dim).ok()?))
}

impl Tensors {
    /// A node's own tensor is known by the name of what the node makes.
    pub fn rename(&mut self, tensor: &str, output: &str) {
        if let Some(numbers) = self.shapes.get(tensor).cloned() {
            self.shapes.insert(output.to_owned(), numbers);
        }
    }

    /// Operators that make a tensor of a shape that the file holds: a few bytes can ask for all memory there is.
    pub fn check_made(&self, nodes: &[NodeFacts]) -> Result<(), InspectError> {
        for node in nodes {
            let shape = match node.op.as_str() {
                "ConstantOfShape" => node.inputs.first(),
                "Expand" | "Tile" => node.inputs.get(1),
                "Range" | "OneHot" => node.inputs.get(1),
                _ => None,
            };
            let Some(numbers) = shape.and_then(|name| self.shapes.get(name)) else { continue };
            // -1 is "as it was".
            let numbers: Vec<i64> = numbers.iter().map(|&number| number.max(1)).collect();
            if product(&numbers).is_none_or(|values| values > MAX_MADE_VALUES) {
                return Err(InspectError::Made { op: node.op.clone(), shape: numbers });
            }
        }
        Ok(())
    }

    /// Files beside the model have to be there and to be long enough.
    pub fn check_external(&self, folder: Option<&Path>) -> Result<(), InspectError> {
        for External { name, location, offset, bytes } in &self.external {
            let refuse = |reason: String| InspectError::External { name: name.clone(), reason };
            let path = Path::new(location);
            let is_beside = !location.is_empty()
                && path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
            if !is_beside {
                return Err(refuse(format!("{location:?}, which is not in the model's folder")));
            }
            let Some(folder) = folder else {
                return Err(refuse(format!("{location:?}, and the model has no folder")));
            };
            let there =
                std::fs::metadata(folder.join(path)).map(|meta| if meta.is_file() { meta.len() } else { 0 });
            let there = there
                .map_err(|_| refuse(format!("{location:?}, which is not there; copy it beside the model")))?;
            if offset.checked_add(*bytes).is_none_or(|end| end > there) {
                return Err(refuse(format!(
                    "{location:?}, which has {there} bytes and should have {bytes} from byte {offset} on; copy it again"
                )));
            }
        }
        Ok(())
    }
}
