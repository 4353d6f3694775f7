//! What an ONNX file says about itself, read without loading its weights.
//!
//! Field numbers are those of onnx.proto (<https://github.com/onnx/onnx/blob/main/onnx/onnx.proto>). The
//! weights are skipped, so the memory this takes depends on the number of operators, not on the file.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{Cursor, Read, Seek};
use std::path::Path;

use super::weights::Tensors;
use super::wire::{FieldValue, Wire};
use super::{InspectError, ModelSource};

/// A detector for an edge box has megabytes of weights, not gigabytes.
const MAX_FILE_BYTES: u64 = 2 << 30;
/// Operators, tensors and strings that are kept, all together.
const MAX_KEPT: usize = 400_000;
/// Longest name of a node or tensor.
const MAX_NAME_BYTES: u64 = 4096;
/// Longest value in the metadata: the labels of large models are tens of kilobytes.
const MAX_METADATA_BYTES: u64 = 1 << 20;
/// All strings together.
const MAX_STRING_BYTES: u64 = 64 << 20;
/// Versions of the file format that exist (13 in 2026) or may soon.
const IR_VERSIONS: std::ops::RangeInclusive<u64> = 1..=40;
/// Dimensions of one tensor.
const MAX_RANK: usize = 32;

/// One dimension of a shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dim {
    /// Fixed when the model was exported.
    Fixed(usize),
    /// Left open; with its name, or an empty one.
    Open(String),
}

impl Dim {
    /// The size where it is fixed.
    pub fn fixed(&self) -> Option<usize> {
        match self {
            Self::Fixed(size) => Some(*size),
            Self::Open(_) => None,
        }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => write!(f, "{size}"),
            Self::Open(name) if name.is_empty() => f.write_str("?"),
            Self::Open(name) => f.write_str(name),
        }
    }
}

/// An input or output of the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorFacts {
    /// Its name.
    pub name: String,
    /// `"f32"`, `"f16"`, `"u8"`, `"i64"`, …; `"?"` for what has no name here.
    pub dtype: &'static str,
    /// Its shape; `None` where the model does not say.
    pub shape: Option<Vec<Dim>>,
}

impl fmt::Display for TensorFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims = self.shape.as_ref().map(|shape| shape.iter().map(Dim::to_string).collect::<Vec<_>>());
        write!(f, "{} {} [{}]", self.name, self.dtype, dims.map_or("?".to_owned(), |dims| dims.join(", ")))
    }
}

/// One operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// `"Conv"`, `"Concat"`, …
    pub op: String,
    /// Names of the tensors it reads.
    pub inputs: Vec<String>,
    /// Names of the tensors it makes.
    pub outputs: Vec<String>,
}

/// What an ONNX file says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OnnxFacts {
    /// Program that wrote it, with its version.
    pub producer: String,
    /// Version of the file format.
    pub ir_version: u64,
    /// Version of each operator set; the standard one is `""`.
    pub opsets: BTreeMap<String, u64>,
    /// What the exporter wrote beside the graph (Ultralytics: names, task, imgsz, …).
    pub metadata: BTreeMap<String, String>,
    /// What has to be fed: the graph's inputs without those that are weights.
    pub inputs: Vec<TensorFacts>,
    /// What comes out.
    pub outputs: Vec<TensorFacts>,
    /// The operators in the file's order.
    pub nodes: Vec<NodeFacts>,
    /// How many tensors of weights there are.
    pub initializer_count: usize,
    /// Their size in the file.
    pub initializer_bytes: u64,
    /// Size of the file.
    pub file_bytes: u64,
}

impl OnnxFacts {
    /// How often each operator occurs.
    pub fn op_histogram(&self) -> BTreeMap<&str, usize> {
        let mut histogram = BTreeMap::new();
        for node in &self.nodes {
            *histogram.entry(node.op.as_str()).or_insert(0) += 1;
        }
        histogram
    }
}

/// Looks into a file.
///
/// # Errors
/// [`InspectError`]; no content of a file makes it panic.
pub fn inspect(path: &Path) -> Result<OnnxFacts, InspectError> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(InspectError::NotOnnx { reason: "it is a folder; name the .onnx file in it" });
    }
    if !metadata.is_file() {
        return Err(InspectError::NotOnnx { reason: "it is not a regular file; name an .onnx file" });
    }
    // A relative name without a folder lies in the working folder.
    inspect_reader(file, metadata.len(), Some(path.parent().unwrap_or(Path::new(""))))
}

/// Looks into a model wherever it is.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_source(source: &ModelSource) -> Result<OnnxFacts, InspectError> {
    match source {
        ModelSource::File(path) => inspect(path),
        ModelSource::Embedded(bytes) => inspect_bytes(bytes),
    }
}

/// Looks into bytes.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_bytes(bytes: &[u8]) -> Result<OnnxFacts, InspectError> {
    inspect_reader(Cursor::new(bytes), bytes.len() as u64, None)
}

fn inspect_reader(
    mut reader: impl Read + Seek,
    file_bytes: u64,
    folder: Option<&Path>,
) -> Result<OnnxFacts, InspectError> {
    if file_bytes == 0 {
        return Err(InspectError::Empty);
    }
    if file_bytes > MAX_FILE_BYTES {
        return Err(InspectError::TooMuch { what: "bytes", limit: MAX_FILE_BYTES });
    }
    let mut head = Vec::new();
    reader.by_ref().take(32).read_to_end(&mut head)?;
    if let Some(reason) = other_format(&head) {
        return Err(InspectError::NotOnnx { reason });
    }
    reader.rewind()?;
    let wire = Wire::new(reader, file_bytes);
    let mut walk = Walk { wire, kept: 0, string_bytes: 0, tensors: Tensors::default() };
    let mut model = Model { facts: OnnxFacts { file_bytes, ..OnnxFacts::default() }, ..Model::default() };
    match walk.model(&mut model, file_bytes) {
        // Before a version or the graph has been reached nothing proves that this is ONNX at all.
        Err(InspectError::Damaged { .. } | InspectError::Truncated { .. } | InspectError::TooMuch { .. })
            if !model.has_graph && !IR_VERSIONS.contains(&model.facts.ir_version) =>
        {
            Err(InspectError::NotOnnx {
                reason: "its first bytes are not those of a model; check that this is the file you mean, or copy it again",
            })
        }
        Err(error) => Err(error),
        Ok(()) if !model.has_graph && model.facts.ir_version == 0 => {
            Err(InspectError::NotOnnx { reason: "it has no graph; export the model again" })
        }
        // A cut may fall just between two fields. The operator sets come last.
        Ok(()) if !model.has_graph || model.facts.opsets.is_empty() => {
            Err(InspectError::Truncated { expected_bytes: file_bytes + 1, actual_bytes: file_bytes })
        }
        Ok(()) => {
            walk.tensors.check_external(folder)?;
            walk.tensors.check_made(&model.facts.nodes)?;
            Ok(model.finish())
        }
    }
}

/// What people really hand over instead of a model.
fn other_format(head: &[u8]) -> Option<&'static str> {
    let known: [(&[u8], &str); 6] = [
        (b"version https://git-lfs", "it is a Git LFS pointer; `git lfs pull` fetches the model itself"),
        (b"<!DOCTYPE", "it is a web page; download the file itself"),
        (b"<html", "it is a web page; download the file itself"),
        (b"PK\x03\x04", "it is a zip archive or a PyTorch file; export the model to ONNX first"),
        (b"\x1f\x8b", "it is compressed with gzip; unpack it first"),
        (b"ftrt", "it is a TensorRT plan, made for one GPU; give the ONNX file it was made from"),
    ];
    known.into_iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, reason)| reason)
}

#[derive(Default)]
struct Model {
    facts: OnnxFacts,
    has_graph: bool,
    producer_version: String,
    /// Names of weights: old files list them among the inputs, too.
    initializers: std::collections::HashSet<String>,
}

impl Model {
    fn finish(self) -> OnnxFacts {
        let mut facts = self.facts;
        facts.inputs.retain(|input| !self.initializers.contains(&input.name));
        facts.producer = format!("{} {}", facts.producer, self.producer_version).trim().to_owned();
        facts
    }
}

/// The walk through the messages; one method per message that matters.
pub(super) struct Walk<R> {
    pub(super) wire: Wire<R>,
    kept: usize,
    string_bytes: u64,
    pub(super) tensors: Tensors,
}

impl<R: Read + Seek> Walk<R> {
    /// Reads the next field and hands stretches of bytes to `each`, which must read or may leave them.
    pub(super) fn fields(
        &mut self,
        end: u64,
        mut each: impl FnMut(&mut Self, u32, FieldValue) -> Result<(), InspectError>,
    ) -> Result<(), InspectError> {
        while let Some(field) = self.wire.field(end)? {
            each(self, field.number, field.value)?;
            if let FieldValue::Bytes { end } = field.value {
                self.wire.skip_to(end)?;
            }
        }
        Ok(())
    }

    pub(super) fn keep(&mut self) -> Result<(), InspectError> {
        self.kept += 1;
        if self.kept > MAX_KEPT {
            return Err(InspectError::TooMuch { what: "operators and tensors", limit: MAX_KEPT as u64 });
        }
        Ok(())
    }

    fn string(&mut self, end: u64, limit_bytes: u64) -> Result<String, InspectError> {
        self.keep()?;
        let text = self.wire.string(end, limit_bytes)?;
        self.string_bytes += text.len() as u64;
        if self.string_bytes > MAX_STRING_BYTES {
            return Err(InspectError::TooMuch { what: "text", limit: MAX_STRING_BYTES });
        }
        Ok(text)
    }

    /// A name, fit to be printed: a file must not be able to steer the terminal it is shown on.
    pub(super) fn name(&mut self, end: u64) -> Result<String, InspectError> {
        let name = self.string(end, MAX_NAME_BYTES)?;
        if name.chars().any(char::is_control) {
            return Ok(name.replace(char::is_control, "\u{fffd}"));
        }
        Ok(name)
    }

    fn model(&mut self, model: &mut Model, end: u64) -> Result<(), InspectError> {
        self.fields(end, |walk, number, value| {
            match (number, value) {
                (1, FieldValue::Number(version)) => model.facts.ir_version = version,
                (2, FieldValue::Bytes { end }) => model.facts.producer = walk.name(end)?,
                (3, FieldValue::Bytes { end }) => model.producer_version = walk.name(end)?,
                (7, FieldValue::Bytes { end }) => {
                    model.has_graph = true;
                    walk.graph(model, end)?;
                }
                (8, FieldValue::Bytes { end }) => {
                    let (domain, version) = walk.opset(end)?;
                    model.facts.opsets.insert(domain, version);
                }
                (14, FieldValue::Bytes { end }) => {
                    let (key, value) = walk.entry(end)?;
                    model.facts.metadata.insert(key, value);
                }
                (20, FieldValue::Bytes { end }) => walk.training(end)?,
                (25, FieldValue::Bytes { end }) => walk.function(end)?,
                (5, FieldValue::Number(_)) | (4 | 6 | 26, FieldValue::Bytes { .. }) => {}
                _ if model.has_graph => {}
                _ => return Err(InspectError::Damaged { position: walk.wire.position() }),
            }
            Ok(())
        })
    }

    fn opset(&mut self, end: u64) -> Result<(String, u64), InspectError> {
        let mut opset = (String::new(), 0);
        self.fields(end, |walk, number, value| {
            match (number, value) {
                (1, FieldValue::Bytes { end }) => opset.0 = walk.name(end)?,
                (2, FieldValue::Number(version)) => opset.1 = version,
                _ => {}
            }
            Ok(())
        })?;
        Ok(opset)
    }

    pub(super) fn entry(&mut self, end: u64) -> Result<(String, String), InspectError> {
        let mut entry = (String::new(), String::new());
        self.fields(end, |walk, number, value| {
            match (number, value) {
                (1, FieldValue::Bytes { end }) => entry.0 = walk.name(end)?,
                (2, FieldValue::Bytes { end }) => entry.1 = walk.string(end, MAX_METADATA_BYTES)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(entry)
    }

    fn graph(&mut self, model: &mut Model, end: u64) -> Result<(), InspectError> {
        self.fields(end, |walk, number, value| {
            match (number, value) {
                (1, FieldValue::Bytes { end }) => model.facts.nodes.push(walk.node(end)?),
                (5, FieldValue::Bytes { end }) => {
                    model.facts.initializer_count += 1;
                    model.facts.initializer_bytes += end - walk.wire.position();
                    let name = walk.weights(end)?;
                    model.initializers.insert(name);
                }
                (11, FieldValue::Bytes { end }) => model.facts.inputs.push(walk.tensor(end)?),
                (12, FieldValue::Bytes { end }) => model.facts.outputs.push(walk.tensor(end)?),
                (13, FieldValue::Bytes { end }) => walk.value_info(end, 0)?,
                (15, FieldValue::Bytes { end }) => walk.sparse(end)?,
                _ => {}
            }
            Ok(())
        })
    }

    fn node(&mut self, end: u64) -> Result<NodeFacts, InspectError> {
        self.keep()?;
        let mut tensor = None;
        let mut node = NodeFacts { op: String::new(), inputs: Vec::new(), outputs: Vec::new() };
        self.fields(end, |walk, number, value| {
            match (number, value) {
                (1, FieldValue::Bytes { end }) => node.inputs.push(walk.name(end)?),
                (2, FieldValue::Bytes { end }) => node.outputs.push(walk.name(end)?),
                (4, FieldValue::Bytes { end }) => node.op = walk.name(end)?,
                (5, FieldValue::Bytes { end }) => tensor = walk.attribute(end, 0)?.or(tensor.take()),
                _ => {}
            }
            Ok(())
        })?;
        if let (Some(tensor), Some(output)) = (tensor, node.outputs.first()) {
            self.tensors.rename(&tensor, output);
        }
        Ok(node)
    }

    /// ValueInfoProto → TypeProto → TypeProto.Tensor → TensorShapeProto → Dimension.
    fn tensor(&mut self, end: u64) -> Result<TensorFacts, InspectError> {
        self.keep()?;
        let mut facts = TensorFacts { name: String::new(), dtype: "?", shape: None };
        self.fields(end, |walk, number, value| match (number, value) {
            (1, FieldValue::Bytes { end }) => {
                facts.name = walk.name(end)?;
                Ok(())
            }
            (2, FieldValue::Bytes { end }) => walk.fields(end, |walk, number, value| match (number, value) {
                (1, FieldValue::Bytes { end }) => walk.tensor_type(end, &mut facts),
                // Sequences and the like are no pictures; they may hold types that hold types.
                (4 | 5 | 9, FieldValue::Bytes { end }) => walk.nested_type(end, 1),
                _ => Ok(()),
            }),
            _ => Ok(()),
        })?;
        Ok(facts)
    }

    fn tensor_type(&mut self, end: u64, facts: &mut TensorFacts) -> Result<(), InspectError> {
        self.fields(end, |walk, number, value| {
            match (number, value) {
                (1, FieldValue::Number(code)) => facts.dtype = dtype_name(code),
                (2, FieldValue::Bytes { end }) => {
                    let mut shape = Vec::new();
                    walk.fields(end, |walk, number, value| {
                        if let (1, FieldValue::Bytes { end }) = (number, value) {
                            if shape.len() >= MAX_RANK {
                                return Err(InspectError::TooMuch {
                                    what: "dimensions",
                                    limit: MAX_RANK as u64,
                                });
                            }
                            shape.push(walk.dimension(end)?);
                        }
                        Ok(())
                    })?;
                    facts.shape = Some(shape);
                }
                _ => {}
            }
            Ok(())
        })
    }

    fn dimension(&mut self, end: u64) -> Result<Dim, InspectError> {
        let mut dim = Dim::Open(String::new());
        self.fields(end, |walk, number, value| {
            match (number, value) {
                // Zero and below are how some exporters write "open".
                (1, FieldValue::Number(size)) => match usize::try_from(size.cast_signed()) {
                    Ok(size) if size > 0 => dim = Dim::Fixed(size),
                    _ => {}
                },
                (2, FieldValue::Bytes { end }) => {
                    let name = walk.name(end)?;
                    // YOLOv7's and YOLOv6's exporters write a size as a name.
                    dim = name.parse().ok().filter(|&size| size > 0).map_or(Dim::Open(name), Dim::Fixed);
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(dim)
    }
}

/// TensorProto.DataType.
fn dtype_name(code: u64) -> &'static str {
    match code {
        1 => "f32",
        2 => "u8",
        3 => "i8",
        4 => "u16",
        5 => "i16",
        6 => "i32",
        7 => "i64",
        8 => "string",
        9 => "bool",
        10 => "f16",
        11 => "f64",
        12 => "u32",
        13 => "u64",
        16 => "bf16",
        _ => "?",
    }
}
