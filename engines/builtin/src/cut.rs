//! A graph with an operator in it that the library computes otherwise than ONNX says, cut in two around it.
//!
//! ```text
//!   picture ─► first half ─► boxes, scores ─► nms.rs ─► indices ─► second half ─► outputs
//!                   └───────────── other values ──────────────────────┘
//! ```
//!
//! Values that cross the cut are made outputs of the graph, so that the library does not fuse them away; the second half
//! is then run from them. That is done in the file's bytes, which are otherwise handed over as they are.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;

use rten_onnx::onnx::{GraphProto, ModelProto, NodeProto, TensorProto};

use crate::LoadError;
use crate::nms::Settings;

/// The operator's name in a file.
const OPERATOR: &[u8] = b"NonMaxSuppression";
/// Field of ModelProto that holds the graph, and of GraphProto that holds an output.
const GRAPH_FIELD: u64 = 7;
const OUTPUT_FIELD: u64 = 12;

/// Where a graph is cut. Names are those of its values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cut {
    pub boxes: String,
    pub scores: String,
    pub indices: String,
    /// What else crosses.
    pub others: Vec<String>,
    /// How many outputs the graph has itself; those added follow.
    pub output_count: usize,
    pub settings: Settings,
}

/// Whether the operator's name is in a file at all, read piece by piece.
pub(crate) fn is_needed(mut file: File) -> std::io::Result<bool> {
    let mut buffer = vec![0; 1 << 16];
    let mut kept = 0;
    loop {
        let read = file.read(&mut buffer[kept..])?;
        if read == 0 {
            return Ok(false);
        }
        let filled = kept + read;
        if contains(&buffer[..filled]) {
            return Ok(true);
        }
        // The name may begin at the end of this piece.
        kept = filled.min(OPERATOR.len() - 1);
        buffer.copy_within(filled - kept..filled, 0);
    }
}

pub(crate) fn contains(bytes: &[u8]) -> bool {
    bytes.windows(OPERATOR.len()).any(|window| window == OPERATOR)
}

/// Finds the operator and cuts the graph around it: the file's bytes with more outputs. `None` where there is none after all.
pub(crate) fn cut(bytes: &[u8]) -> Result<Option<(Cut, Vec<u8>)>, LoadError> {
    let model = ModelProto::parse_buf(bytes)
        .map_err(|error| LoadError::Invalid { reason: format!("its graph cannot be read: {error}") })?;
    let Some(graph) = model.graph else { return Ok(None) };
    let mut found = graph.node.iter().filter(|node| is_operator(node));
    let (node, more) = (found.next(), found.next());
    let Some(node) = node else { return Ok(None) };
    // Graphs inside nodes may use values of this one without saying so.
    let nested =
        graph.node.iter().find(|node| matches!(node.op_type.as_deref(), Some("If" | "Loop" | "Scan")));
    if more.is_some() || nested.is_some() {
        return Err(unsupported("more than one of it, or control flow"));
    }
    let cut = place(&graph, node)?;
    let names: Vec<&str> =
        [&cut.boxes, &cut.scores].into_iter().chain(&cut.others).map(String::as_str).collect();
    let own: HashSet<&str> = graph.output.iter().filter_map(|output| output.name.as_deref()).collect();
    let added: Vec<&str> = names.into_iter().filter(|name| !own.contains(name)).collect();
    let bytes = with_outputs(bytes, &added)
        .ok_or_else(|| LoadError::Invalid { reason: "its graph has no place in the file".to_owned() })?;
    Ok(Some((cut, bytes)))
}

fn is_operator(node: &NodeProto) -> bool {
    node.op_type.as_deref().map(str::as_bytes) == Some(OPERATOR)
}

fn unsupported(why: &str) -> LoadError {
    LoadError::UnsupportedOperator { operator: format!("NonMaxSuppression with {why}") }
}

fn place(graph: &GraphProto, node: &NodeProto) -> Result<Cut, LoadError> {
    let input = |index: usize| node.input.get(index).map(String::as_str).filter(|name| !name.is_empty());
    let (Some(boxes), Some(scores), Some(indices)) = (input(0), input(1), node.output.first()) else {
        return Err(unsupported("too few inputs"));
    };
    let constants = constants(graph);
    let number = |index: usize, default: Option<f64>| match input(index) {
        None => Ok(default),
        Some(name) => match constants.get(name).and_then(|tensor| first_number(tensor)) {
            Some(number) => Ok(Some(number)),
            None => Err(unsupported("limits that are computed in the graph")),
        },
    };
    let most = number(2, Some(0.0))?.unwrap_or(0.0);
    let centre =
        node.attribute.iter().find(|attribute| attribute.name.as_deref() == Some("center_point_box"));
    let settings = Settings {
        // More than fit count as as many as fit: the cast saturates.
        max_boxes_per_class: most as usize,
        iou_threshold: number(3, Some(0.0))?.unwrap_or(0.0) as f32,
        score_threshold: number(4, None)?.map(|threshold| threshold as f32),
        is_centre_and_size: centre.is_some_and(|attribute| attribute.i == Some(1)),
    };
    let others = crossing(graph, indices, &constants, [boxes, scores]);
    Ok(Cut {
        boxes: boxes.to_owned(),
        scores: scores.to_owned(),
        indices: indices.clone(),
        others,
        output_count: graph.output.len(),
        settings,
    })
}

/// Tensors that the file holds, by the name of their value.
fn constants(graph: &GraphProto) -> HashMap<&str, &TensorProto> {
    let weights = graph.initializer.iter().filter_map(|tensor| Some((tensor.name.as_deref()?, tensor)));
    let nodes = graph.node.iter().filter(|node| node.op_type.as_deref() == Some("Constant"));
    let values = nodes.filter_map(|node| {
        let tensor = node.attribute.iter().find_map(|attribute| attribute.t.as_ref())?;
        Some((node.output.first()?.as_str(), tensor))
    });
    weights.chain(values).collect()
}

/// The only number of a scalar.
fn first_number(tensor: &TensorProto) -> Option<f64> {
    if let Some(raw) = &tensor.raw_data {
        let raw = raw.borrow();
        let bytes: &[u8] = &raw;
        return match tensor.data_type?.0 {
            1 => Some(f64::from(f32::from_le_bytes(bytes.try_into().ok()?))),
            6 => Some(f64::from(i32::from_le_bytes(bytes.try_into().ok()?))),
            #[allow(clippy::cast_precision_loss, reason = "a limit beyond 2^53 is no limit")]
            7 => Some(i64::from_le_bytes(bytes.try_into().ok()?) as f64),
            _ => None,
        };
    }
    let float = tensor.float_data.first().map(|&number| f64::from(number));
    #[allow(clippy::cast_precision_loss, reason = "a limit beyond 2^53 is no limit")]
    let integer = tensor.int64_data.first().map(|&number| number as f64);
    float.or(integer)
}

/// Values that are made before the operator's output is known and used after, besides constants and the operator's inputs.
fn crossing(
    graph: &GraphProto,
    indices: &str,
    constants: &HashMap<&str, &TensorProto>,
    known: [&str; 2],
) -> Vec<String> {
    // Nodes come in an order in which they can be computed.
    let mut after: HashSet<&str> = HashSet::from([indices]);
    for node in &graph.node {
        if node.input.iter().any(|input| after.contains(input.as_str())) {
            after.extend(node.output.iter().map(String::as_str));
        }
    }
    let made: HashSet<&str> =
        graph.node.iter().flat_map(|node| node.output.iter().map(String::as_str)).collect();
    let (mut seen, mut crossing) = (HashSet::from(known), Vec::new());
    for node in
        graph.node.iter().filter(|node| node.output.iter().any(|output| after.contains(output.as_str())))
    {
        for input in node.input.iter().map(String::as_str) {
            let crosses = made.contains(input) && !after.contains(input) && !constants.contains_key(input);
            if crosses && seen.insert(input) {
                crossing.push(input.to_owned());
            }
        }
    }
    // What the graph gives out without going through the operator.
    for output in graph.output.iter().filter_map(|output| output.name.as_deref()) {
        if made.contains(output) && !after.contains(output) && seen.insert(output) {
            crossing.push(output.to_owned());
        }
    }
    crossing
}

/// The file with these values among the graph's outputs.
fn with_outputs(bytes: &[u8], names: &[&str]) -> Option<Vec<u8>> {
    let mut added = Vec::new();
    for name in names {
        // ValueInfoProto with its name only.
        let mut value = vec![1 << 3 | 2];
        varint(name.len() as u64, &mut value);
        value.extend(name.as_bytes());
        varint(OUTPUT_FIELD << 3 | 2, &mut added);
        varint(value.len() as u64, &mut added);
        added.extend(value);
    }
    let mut position = 0;
    while position < bytes.len() {
        let start = position;
        let tag = read_varint(bytes, &mut position)?;
        let length = read_varint(bytes, &mut position)?;
        if tag & 7 == 0 {
            continue;
        }
        let end = position.checked_add(usize::try_from(length).ok()?).filter(|&end| end <= bytes.len())?;
        if tag == GRAPH_FIELD << 3 | 2 {
            let mut out = Vec::with_capacity(bytes.len() + added.len() + 10);
            out.extend_from_slice(&bytes[..start]);
            varint(tag, &mut out);
            varint(length + added.len() as u64, &mut out);
            out.extend_from_slice(&bytes[position..end]);
            out.extend_from_slice(&added);
            out.extend_from_slice(&bytes[end..]);
            return Some(out);
        }
        position = end;
    }
    None
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn read_varint(bytes: &[u8], position: &mut usize) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*position)?;
        *position += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
