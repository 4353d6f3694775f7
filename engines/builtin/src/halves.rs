//! Running a graph that was cut in two: the first half, the operator between, the second half.

use rten::{NodeId, RunOptions, Value, ValueOrView};
use rten_tensor::Tensor;
use rten_tensor::prelude::*;

use crate::LoadError;
use crate::cut::Cut;
use crate::nms::{self, Settings};

/// The values at the cut.
#[derive(Debug)]
pub(crate) struct Halves {
    /// Boxes, scores, and what else crosses.
    crossing: Vec<NodeId>,
    indices: NodeId,
    /// How many outputs are the model's own.
    pub output_count: usize,
    settings: Settings,
}

impl Halves {
    pub fn new(model: &rten::Model, cut: &Cut) -> Result<Self, LoadError> {
        let id = |name: &String| {
            model.find_node(name).ok_or_else(|| LoadError::UnsupportedOperator {
                operator: format!("NonMaxSuppression: {name} is not there after loading"),
            })
        };
        let names = [&cut.boxes, &cut.scores].into_iter().chain(&cut.others);
        Ok(Self {
            crossing: names.map(id).collect::<Result<_, _>>()?,
            indices: id(&cut.indices)?,
            output_count: cut.output_count,
            settings: cut.settings,
        })
    }

    pub fn run(
        &self,
        model: &rten::Model,
        inputs: Vec<(NodeId, ValueOrView<'_>)>,
        output_ids: &[NodeId],
        options: &RunOptions,
    ) -> Result<Vec<Value>, rten::RunError> {
        let values = model.run(inputs, &self.crossing, Some(options.clone()))?;
        let selected = Value::from(self.select(&values));
        let mut inputs: Vec<(NodeId, ValueOrView<'_>)> = vec![(self.indices, selected.into())];
        inputs.extend(self.crossing.iter().zip(values).map(|(&id, value)| (id, value.into())));
        model.run(inputs, output_ids, Some(options.clone()))
    }

    /// What the operator selects: `[K, 3]`. Inputs that are not what ONNX says select nothing.
    fn select(&self, values: &[Value]) -> Tensor<i32> {
        let rows = match values {
            [Value::FloatTensor(boxes), Value::FloatTensor(scores), ..] => {
                match (boxes.shape(), scores.shape()) {
                    (&[pictures, box_count, 4], &[same_pictures, classes, same_count])
                        if (pictures, box_count) == (same_pictures, same_count) =>
                    {
                        nms::select(&boxes.to_vec(), &scores.to_vec(), (classes, box_count), self.settings)
                    }
                    _ => Vec::new(),
                }
            }
            _ => Vec::new(),
        };
        Tensor::from_data(&[rows.len() / 3, 3], rows)
    }
}
