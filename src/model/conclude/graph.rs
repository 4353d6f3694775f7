//! Reading a graph from its end: who made the numbers of an output.

use std::collections::{HashMap, HashSet};

use crate::model::{NodeFacts, OnnxFacts};

/// What the pieces of an output come from. An output is put together of pieces by operators that only move numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Pieces {
    /// Pieces that a Sigmoid made.
    pub sigmoid: usize,
    /// Pieces that a Softmax made.
    pub softmax: usize,
    /// Pieces that come straight from a convolution.
    pub convolution: usize,
    /// Pieces that arithmetic made: decoded boxes, mostly.
    pub arithmetic: usize,
    /// All others.
    pub other: usize,
}

impl Pieces {
    pub fn total(&self) -> usize {
        self.sigmoid + self.softmax + self.convolution + self.arithmetic + self.other
    }
}

/// Walks back from an output through operators that only move numbers, and looks at who made them.
pub(super) fn pieces(facts: &OnnxFacts, output: &str) -> Pieces {
    let makers: HashMap<&str, &NodeFacts> = facts
        .nodes
        .iter()
        .flat_map(|node| node.outputs.iter().map(move |output| (output.as_str(), node)))
        .collect();
    let mut open = vec![output];
    let mut seen = HashSet::new();
    let mut pieces = Pieces::default();
    while let Some(name) = open.pop() {
        let Some(node) = makers.get(name).filter(|_| seen.insert(name)) else { continue };
        match node.op.as_str() {
            "Concat" => open.extend(node.inputs.iter().map(String::as_str)),
            // The first input is the tensor, the others say how to move it; quantised models come through pairs.
            "Transpose" | "Reshape" | "Flatten" | "Identity" | "Cast" | "Squeeze" | "Unsqueeze" | "Slice"
            | "Split" | "Gather" | "QuantizeLinear" | "DequantizeLinear" => {
                open.extend(node.inputs.first().map(String::as_str));
            }
            "Sigmoid" | "HardSigmoid" => pieces.sigmoid += 1,
            "Softmax" => pieces.softmax += 1,
            "Conv" | "ConvTranspose" | "BatchNormalization" => pieces.convolution += 1,
            "Mul" | "Add" | "Sub" | "Div" | "Exp" | "Pow" => pieces.arithmetic += 1,
            _ => pieces.other += 1,
        }
    }
    pieces
}

/// Whether the graph has an operator of this kind.
pub(super) fn has(facts: &OnnxFacts, op: &str) -> bool {
    facts.nodes.iter().any(|node| node.op == op)
}
