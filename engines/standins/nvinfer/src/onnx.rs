//! What an ONNX file says of its inputs and outputs: names, types, sizes. The built-in engine widens f16 to f32 and
//! settles open sizes, TensorRT does neither, so this is read from the file. Field numbers are those of onnx.proto.

/// An input or output as the file declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    pub name: String,
    /// TensorProto.DataType
    pub element: u64,
    /// -1 for a size that is open.
    pub sizes: Vec<i64>,
}

/// The graph's inputs (without initialisers) and outputs; `None` where the bytes are no model.
pub fn inputs_and_outputs(model: &[u8]) -> Option<(Vec<Declared>, Vec<Declared>)> {
    let graph = find(model, 7)?;
    let weights: Vec<&[u8]> = all(graph, 5)?.into_iter().filter_map(|tensor| find(tensor, 8)).collect();
    let declared =
        |number| -> Option<Vec<Declared>> { all(graph, number)?.into_iter().map(declared).collect() };
    let mut inputs = declared(11)?;
    inputs.retain(|input| !weights.contains(&input.name.as_bytes()));
    Some((inputs, declared(12)?))
}

fn declared(info: &[u8]) -> Option<Declared> {
    let name = String::from_utf8(find(info, 1)?.to_vec()).ok()?;
    let tensor = find(find(info, 2)?, 1)?;
    let mut element = 0;
    let mut sizes = Vec::new();
    for (number, value) in fields(tensor)? {
        match (number, value) {
            (1, Field::Number(value)) => element = value,
            (2, Field::Bytes(shape)) => {
                for dimension in all(shape, 1)? {
                    sizes.push(size(dimension)?);
                }
            }
            _ => {}
        }
    }
    Some(Declared { name, element, sizes })
}

fn size(dimension: &[u8]) -> Option<i64> {
    let value = fields(dimension)?.into_iter().find_map(|field| match field {
        (1, Field::Number(value)) => i64::try_from(value).ok(),
        _ => None,
    });
    Some(value.unwrap_or(-1))
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn fields(mut message: &[u8]) -> Option<Vec<(u64, Field<'_>)>> {
    let mut out = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let value = match tag & 7 {
            0 => Field::Number(varint(&mut message)?),
            1 => Field::Bytes(take(&mut message, 8)?),
            2 => {
                let length = varint(&mut message)?;
                Field::Bytes(take(&mut message, usize::try_from(length).ok()?)?)
            }
            5 => Field::Bytes(take(&mut message, 4)?),
            _ => return None,
        };
        out.push((tag >> 3, value));
    }
    Some(out)
}

fn all(message: &[u8], wanted: u64) -> Option<Vec<&[u8]>> {
    let matching = fields(message)?.into_iter().filter(|(number, _)| *number == wanted);
    matching.map(|(_, value)| if let Field::Bytes(bytes) = value { Some(bytes) } else { None }).collect()
}

fn find(message: &[u8], wanted: u64) -> Option<&[u8]> {
    all(message, wanted)?.into_iter().next()
}

fn take<'a>(message: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = message.split_at_checked(length)?;
    *message = rest;
    Some(taken)
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for index in 0..10 {
        let byte = *take(message, 1)?.first()?;
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::onnx_writer::{Dim, F16, Onnx, dims, node, tensor, weights};

    #[test]
    fn names_types_and_open_sizes_are_read_and_initialisers_are_no_inputs() {
        let mut model = Onnx::doubling(&[Dim::Open("n"), Dim::N(3), Dim::N(2), Dim::N(4)]);
        model.inputs.push(tensor("two", F16, &dims(&[1])));
        model.outputs.push(tensor("half", F16, &dims(&[7])));
        model.nodes.push(node("Identity", &["images"], &["half"]));
        model.weights = vec![weights("two", &[1], &[2.0])];
        let (inputs, outputs) = inputs_and_outputs(&model.encode()).unwrap();
        let expected = |name: &str, element, sizes: &[i64]| Declared {
            name: name.to_owned(),
            element,
            sizes: sizes.to_vec(),
        };
        assert_eq!(inputs, [expected("images", 1, &[-1, 3, 2, 4])]);
        assert_eq!(outputs, [expected("doubled", 1, &[-1, 3, 2, 4]), expected("half", F16, &[7])]);
    }

    #[test]
    fn no_cut_model_is_read_and_none_makes_it_panic() {
        let model = Onnx::doubling(&dims(&[1, 3, 2, 4])).encode();
        for length in 0..model.len() {
            let _ = inputs_and_outputs(&model[..length]);
        }
        assert_eq!(inputs_and_outputs(b"no model at all"), None);
    }
}
