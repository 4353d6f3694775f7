//! A slot's tensor of float planes in host memory, which remembers that its padding is written.
//!
//! A letterbox writes the same padding into the same slot again and again: for a 16:9 camera and a square model two fifths
//! of the tensor. So the tensor knows for which placement that has been done, and forgets it as soon as anybody else may write.

use std::ops::{Deref, DerefMut};

use super::Placement;

/// Values, and around which picture they are padding.
#[derive(Debug)]
pub struct HostTensor {
    values: Box<[f32]>,
    padded: Option<Placement>,
}

impl HostTensor {
    /// `len` zeros.
    pub fn new(len: usize) -> Self {
        vec![0.0; len].into()
    }

    /// Has `write` write a picture, and the padding around `placement` unless it is told that this is there already.
    pub(super) fn write(&mut self, placement: Placement, write: impl FnOnce(&mut [f32], bool)) {
        // Not remembered while it is being written: whoever unwinds leaves it half done.
        let is_padded = self.padded.take() == Some(placement);
        write(&mut self.values, is_padded);
        self.padded = Some(placement);
    }
}

impl From<Vec<f32>> for HostTensor {
    fn from(values: Vec<f32>) -> Self {
        Self { values: values.into_boxed_slice(), padded: None }
    }
}

impl FromIterator<f32> for HostTensor {
    fn from_iter<I: IntoIterator<Item = f32>>(values: I) -> Self {
        Vec::from_iter(values).into()
    }
}

impl Deref for HostTensor {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values
    }
}

impl DerefMut for HostTensor {
    fn deref_mut(&mut self) -> &mut [f32] {
        self.padded = None;
        &mut self.values
    }
}
