//! The letterbox on the frame path.

use super::{Geometry, Picture, PictureError, letterbox_reference};
use crate::model::InputRecipe;

/// Why a picture did not reach the tensor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LetterboxError {
    /// The picture is not whole.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// The tensor is not the recipe's.
    #[error(
        "the slot holds {got} values but the model's input has {expected}: the slot belongs to another model"
    )]
    TensorLength {
        /// `recipe.len()`.
        expected: usize,
        /// Length of the slice that was given.
        got: usize,
    },
}

impl LetterboxError {
    pub(super) fn check(
        recipe: &InputRecipe,
        picture: &Picture<'_>,
        tensor_len: usize,
    ) -> Result<(), LetterboxError> {
        picture.check()?;
        if tensor_len != recipe.len() {
            return Err(LetterboxError::TensorLength { expected: recipe.len(), got: tensor_len });
        }
        Ok(())
    }
}

/// Writes pictures into tensors of one recipe.
#[derive(Debug)]
pub struct Letterbox {
    recipe: InputRecipe,
}

impl Letterbox {
    /// For one model's input.
    pub fn new(recipe: &InputRecipe) -> Self {
        Self { recipe: *recipe }
    }

    /// Writes `picture` into `tensor` (`recipe.len()` values), every value of it.
    ///
    /// # Errors
    /// [`LetterboxError`] for a picture that is not whole or a tensor of another length; nothing is written then.
    pub fn run(&mut self, picture: &Picture<'_>, tensor: &mut [f32]) -> Result<Geometry, LetterboxError> {
        letterbox_reference(&self.recipe, picture, tensor)
    }

    /// Bytes held now.
    pub fn scratch_bytes(&self) -> usize {
        0
    }

    /// Bytes held after pictures of at most `source_width` pixels: the line for the memory budget.
    pub fn scratch_bytes_for(_recipe: &InputRecipe, _source_width: u32) -> usize {
        0
    }
}
