//! Classifiers: what the whole picture shows.
//!
//! One output `[1, labels]`; its best labels, at most [`TOP`], are detections whose box is the whole tensor. Sources: Ultralytics
//! `nn/modules/head.py` (`Classify`, which ends with a softmax when exported); torchvision's classifiers end with logits.

use super::DecodeError;
use super::candidates::{Candidate, Candidates};
use super::error::Shape;
use super::head::{Binding, Head, bind_one};
use crate::engine::TensorView;
use crate::model::{Activation, InputRecipe};

const FAMILY: &str = "classification";

/// Labels that are told of one picture, if their scores are good enough.
pub(super) const TOP: usize = 5;

#[derive(Debug)]
pub(super) struct Classify {
    activation: Activation,
    label_count: usize,
    width: f32,
    height: f32,
}

impl Classify {
    pub fn new(activation: Activation, recipe: &InputRecipe, label_count: usize) -> Self {
        Self { activation, label_count, width: recipe.width as f32, height: recipe.height as f32 }
    }
}

impl Head for Classify {
    fn bind(&self, outputs: &[Shape<'_>]) -> Result<Binding, DecodeError> {
        let count = self.label_count;
        bind_one(
            FAMILY,
            outputs,
            || format!("[1, {count}] (a number per label)"),
            |dims| {
                let got = dims.last().copied().unwrap_or(0);
                format!("this one would have {got} labels: the manifest names {count}")
            },
            // Exporters may leave the pooled picture's dimensions of one behind.
            |dims| count > 0 && dims.contains(&count) && dims.iter().product::<usize>() == count,
        )
    }

    fn collect(&mut self, tensors: &[TensorView<'_>], candidates: &mut Candidates) {
        let data = tensors[0].data;
        let greatest = data.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = data.iter().map(|value| (value - greatest).exp()).sum();
        for (label, &value) in data.iter().enumerate() {
            let score = match self.activation {
                Activation::None => value,
                Activation::Sigmoid => super::scores::sigmoid(value),
                Activation::Softmax => (value - greatest).exp() / sum,
            };
            candidates.offer(score, label as u32, label as u32);
        }
    }

    fn bbox(&self, _tensors: &[TensorView<'_>], _candidate: &Candidate) -> [f32; 4] {
        [0.0, 0.0, self.width, self.height]
    }

    fn suppresses(&self) -> bool {
        false
    }

    fn objects_max(&self) -> usize {
        TOP
    }
}
