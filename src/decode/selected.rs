//! Boxes, scores, and the indices that an ONNX NonMaxSuppression chose of them.
//!
//! `boxes [1, N, 4]`, `scores [1, labels, N]`, `indices [K, 3]`: picture, class, box. K depends on the picture. Source: ONNX
//! operator NonMaxSuppression (opset 11), whose own boxes are top, left, bottom, right, or centre and size.

use super::DecodeError;
use super::boxes::BoxReader;
use super::candidates::{Candidate, Candidates};
use super::error::Shape;
use super::head::{Binding, Head, bind_named};
use crate::engine::TensorView;
use crate::model::{BoxFormat, InputRecipe};

const FAMILY: &str = "selected";

#[derive(Debug)]
pub(super) struct Selected {
    names: [String; 3],
    reader: BoxReader,
    label_count: usize,
}

impl Selected {
    /// `names`: boxes, scores, indices.
    pub fn new(names: [&str; 3], format: BoxFormat, recipe: &InputRecipe, label_count: usize) -> Self {
        Self { names: names.map(str::to_owned), reader: BoxReader::new(format, recipe), label_count }
    }
}

impl Head for Selected {
    fn bind(&self, outputs: &[Shape<'_>]) -> Result<Binding, DecodeError> {
        let hint =
            "correct the names and labels in the manifest, or write it anew with `watchpost model add`";
        let mut index = [0; 3];
        for (index, name) in index.iter_mut().zip(&self.names) {
            *index = bind_named(FAMILY, outputs, name)?;
        }
        let [boxes, scores, indices] = index.map(|index| outputs[index]);
        let &[rows, 4] = boxes.frame(2) else { return Err(boxes.error(FAMILY, "[1, N, 4] (boxes)", hint)) };
        if scores.frame(2) != [self.label_count, rows] || rows > u32::MAX as usize {
            return Err(scores.error(
                FAMILY,
                format!("[1, {}, {rows}] (labels, boxes)", self.label_count),
                hint,
            ));
        }
        if !matches!(indices.dims, [_, 3]) {
            return Err(indices.error(FAMILY, "[K, 3] (picture, class, box)", hint));
        }
        Ok(Binding::new(&index))
    }

    fn collect(&mut self, tensors: &[TensorView<'_>], candidates: &mut Candidates) {
        let box_count = tensors[0].data.len() / 4;
        for row in tensors[2].data.chunks_exact(3) {
            // Indices that point nowhere (also the -1 that some exporters fill up with) are left out.
            let (class, anchor) = (row[1], row[2]);
            let there =
                class >= 0.0 && class < self.label_count as f32 && anchor >= 0.0 && anchor < box_count as f32;
            if there {
                let (class, anchor) = (class as usize, anchor as usize);
                candidates.offer(tensors[1].data[class * box_count + anchor], class as u32, anchor as u32);
            }
        }
    }

    fn bbox(&self, tensors: &[TensorView<'_>], candidate: &Candidate) -> [f32; 4] {
        let start = candidate.anchor as usize * 4;
        self.reader.read(tensors[0].data.get(start..start + 4).unwrap_or(&[]))
    }

    fn suppresses(&self) -> bool {
        false
    }
}
