//! The outermost layer of an ONNX file, walked without reading what is inside.
//!
//! The library calls everything it cannot parse a parse error. A user has to know whether the file is
//! the wrong one or only half of the right one, and that the top-level lengths tell (protobuf encoding,
//! <https://protobuf.dev/programming-guides/encoding/>; field numbers of ModelProto in onnx.proto).

use std::io::{BufRead, BufReader, Read, Seek};

use crate::LoadError;

/// Field of ModelProto that holds the graph.
const GRAPH_FIELD: u64 = 7;
/// Field of ModelProto that names the operator sets; every model since IR version 3 has it.
const OPSET_FIELD: u64 = 8;
/// More top-level fields than this is no model: metadata has tens of entries.
const MAX_FIELDS: usize = 65_536;

/// Checks that `reader`, `total_bytes` long, is a whole ModelProto with a graph.
pub(crate) fn check(reader: impl Read + Seek, total_bytes: u64) -> Result<(), LoadError> {
    if total_bytes == 0 {
        return Err(LoadError::Empty);
    }
    let mut reader = BufReader::new(reader);
    if let Some(reason) = other_format(reader.fill_buf()?) {
        return Err(LoadError::NotOnnx { reason: reason.to_owned() });
    }
    let (mut position, mut has_graph, mut has_opset) = (0_u64, false, false);
    let cut = |expected_bytes| LoadError::Truncated { expected_bytes, actual_bytes: total_bytes };
    for _ in 0..MAX_FIELDS {
        if position == total_bytes {
            return match (has_graph, has_opset) {
                (true, true) => Ok(()),
                // Exporters write the operator sets after the graph: a cut just between is a cut.
                (true, false) => Err(cut(total_bytes + 1)),
                (false, _) => Err(not_onnx("it has no graph")),
            };
        }
        let Some((tag, tag_bytes)) = varint(&mut reader)? else { return Err(cut(position + 1)) };
        let (field, wire_type) = (tag >> 3, tag & 7);
        if !is_model_field(field, wire_type) {
            return Err(not_onnx("its first bytes are not those of a model"));
        }
        position += tag_bytes;
        let Some((value, value_bytes)) = varint(&mut reader)? else { return Err(cut(position + 1)) };
        position += value_bytes;
        if wire_type == 2 {
            let end = position.saturating_add(value);
            if end > total_bytes {
                let plausible = has_graph || field == GRAPH_FIELD;
                return Err(if plausible { cut(end) } else { not_onnx("a field is longer than the file") });
            }
            has_graph |= field == GRAPH_FIELD;
            has_opset |= field == OPSET_FIELD;
            reader.seek_relative(value.cast_signed())?;
            position = end;
        }
    }
    Err(not_onnx("it has too many fields"))
}

fn not_onnx(reason: &str) -> LoadError {
    LoadError::NotOnnx { reason: reason.to_owned() }
}

/// What people really hand over instead of a model.
fn other_format(head: &[u8]) -> Option<&'static str> {
    [
        (&b"version https://git-lfs"[..], "it is a Git LFS pointer; `git lfs pull` fetches the model itself"),
        (b"<!DOCTYPE", "it is a web page; download the file itself"),
        (b"<html", "it is a web page; download the file itself"),
        (b"PK\x03\x04", "it is a zip archive or a PyTorch file; export the model to ONNX first"),
        (b"\x1f\x8b", "it is gzip-compressed; unpack it first"),
        (b"RTEN", "it is an .rten file"),
    ]
    .into_iter()
    .find(|(magic, _)| head.starts_with(magic))
    .map(|(_, reason)| reason)
}

/// Fields of ModelProto: 1 and 5 are numbers, the others strings and messages.
fn is_model_field(field: u64, wire_type: u64) -> bool {
    match wire_type {
        0 => matches!(field, 1 | 5),
        2 => matches!(field, 2..=4 | 6..=8 | 14 | 20 | 25 | 26),
        _ => false,
    }
}

/// A base-128 number and how many bytes it took; `None` at the end of the file or beyond 64 bits.
fn varint(reader: &mut impl Read) -> Result<Option<(u64, u64)>, LoadError> {
    let mut value = 0_u64;
    for index in 0..10 {
        let mut byte = [0];
        if reader.read(&mut byte)? == 0 {
            return Ok(None);
        }
        value |= u64::from(byte[0] & 0x7f).checked_shl(7 * index).unwrap_or(0);
        if byte[0] & 0x80 == 0 {
            return Ok(Some((value, u64::from(index) + 1)));
        }
    }
    Ok(None)
}
