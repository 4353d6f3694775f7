//! Writes tiny ONNX files for tests: just enough protobuf to say what a test is about.
//! Field numbers are those of onnx.proto.
#![allow(dead_code, reason = "each test file uses its own part")]

/// TensorProto.DataType
pub const F32: u64 = 1;
pub const U8: u64 = 2;
pub const I64: u64 = 7;
pub const F16: u64 = 10;

/// A dimension: a number, or a name for one that is left open.
#[derive(Clone, Copy)]
pub enum Dim {
    N(u64),
    Open(&'static str),
}

pub fn dims(sizes: &[u64]) -> Vec<Dim> {
    sizes.iter().map(|&size| Dim::N(size)).collect()
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub fn number(field: u64, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    varint(field << 3, &mut out);
    varint(value, &mut out);
    out
}

pub fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint(field << 3 | 2, &mut out);
    varint(value.len() as u64, &mut out);
    out.extend_from_slice(value);
    out
}

/// ValueInfoProto
pub fn tensor(name: &str, dtype: u64, shape: &[Dim]) -> Vec<u8> {
    let dimensions: Vec<u8> = shape
        .iter()
        .flat_map(|dim| match dim {
            Dim::N(size) => bytes(1, &number(1, *size)),
            Dim::Open(name) => bytes(1, &bytes(2, name.as_bytes())),
        })
        .collect();
    let tensor_type = [number(1, dtype), bytes(2, &dimensions)].concat();
    [bytes(1, name.as_bytes()), bytes(2, &bytes(1, &tensor_type))].concat()
}

/// NodeProto without attributes
pub fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> Vec<u8> {
    node_with(op, inputs, outputs, &[])
}

/// NodeProto with attributes that are already encoded
pub fn node_with(op: &str, inputs: &[&str], outputs: &[&str], attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut out: Vec<u8> = inputs.iter().flat_map(|name| bytes(1, name.as_bytes())).collect();
    out.extend(outputs.iter().flat_map(|name| bytes(2, name.as_bytes())));
    out.extend(bytes(3, format!("node-{op}").as_bytes()));
    out.extend(bytes(4, op.as_bytes()));
    out.extend(attributes.iter().flat_map(|attribute| bytes(5, attribute)));
    out
}

/// AttributeProto with an integer
pub fn int_attribute(name: &str, value: u64) -> Vec<u8> {
    [bytes(1, name.as_bytes()), number(3, value), number(20, 2)].concat()
}

/// TensorProto with f32 values
pub fn weights(name: &str, shape: &[u64], values: &[f32]) -> Vec<u8> {
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let mut out: Vec<u8> = shape.iter().flat_map(|&size| number(1, size)).collect();
    out.extend(number(2, F32));
    out.extend(bytes(8, name.as_bytes()));
    out.extend(bytes(9, &raw));
    out
}

/// A whole model.
#[derive(Default, Clone)]
pub struct Onnx {
    pub inputs: Vec<Vec<u8>>,
    pub outputs: Vec<Vec<u8>>,
    pub nodes: Vec<Vec<u8>>,
    pub weights: Vec<Vec<u8>>,
    pub metadata: Vec<(&'static str, String)>,
}

impl Onnx {
    pub fn encode(&self) -> Vec<u8> {
        let mut graph: Vec<u8> = self.nodes.iter().flat_map(|node| bytes(1, node)).collect();
        graph.extend(bytes(2, b"graph"));
        graph.extend(self.weights.iter().flat_map(|weights| bytes(5, weights)));
        graph.extend(self.inputs.iter().flat_map(|tensor| bytes(11, tensor)));
        graph.extend(self.outputs.iter().flat_map(|tensor| bytes(12, tensor)));
        let mut model = number(1, 8);
        model.extend(bytes(2, b"test"));
        model.extend(bytes(7, &graph));
        model.extend(bytes(8, &number(2, 17)));
        for (key, value) in &self.metadata {
            model.extend(bytes(14, &[bytes(1, key.as_bytes()), bytes(2, value.as_bytes())].concat()));
        }
        model
    }

    /// A model whose one output is its input, doubled.
    pub fn doubling(shape: &[Dim]) -> Self {
        Self {
            inputs: vec![tensor("images", F32, shape)],
            outputs: vec![tensor("doubled", F32, shape)],
            nodes: vec![node("Mul", &["images", "two"], &["doubled"])],
            weights: vec![weights("two", &[1], &[2.0])],
            ..Self::default()
        }
    }

    /// A model whose output is its input of any type, doubled, as floats.
    pub fn doubling_as_floats(dtype: u64, shape: &[u64]) -> Self {
        let shape = dims(shape);
        Self {
            inputs: vec![tensor("images", dtype, &shape)],
            outputs: vec![tensor("doubled", F32, &shape)],
            nodes: vec![
                node_with("Cast", &["images"], &["float"], &[int_attribute("to", F32)]),
                node("Add", &["float", "float"], &["doubled"]),
            ],
            ..Self::default()
        }
    }
}
