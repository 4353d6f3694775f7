//! From a decoded frame, wherever it lies, into a slot, wherever that is. One per camera and engine.
//!
//! ```text
//!   decoded in        slot in host memory         slot in device memory
//!   system memory     letterbox.rs                letterbox.rs into pinned staging, then an upload
//! ```

use super::{Geometry, Letterbox, LetterboxError, Slot, SlotError, SlotForm, SlotMemory};
use crate::source::Decoded;

/// Why a frame did not reach its slot.
#[derive(Debug, thiserror::Error)]
pub enum PreprocessError {
    /// The picture is not whole, or the slot is not the recipe's.
    #[error(transparent)]
    Letterbox(#[from] LetterboxError),
}

/// What a camera needs to fill the slots of one engine. Allocates everything in [`Preprocessor::new`].
#[derive(Debug)]
pub struct Preprocessor {
    epoch: u64,
    letterbox: Letterbox,
}

impl Preprocessor {
    /// For slots of this form.
    ///
    /// # Errors
    /// [`SlotError`]; nothing stays allocated.
    pub fn new(form: &SlotForm) -> Result<Self, SlotError> {
        Ok(Self { epoch: form.epoch, letterbox: Letterbox::new(&form.input) })
    }

    /// Whether it was made for this form.
    pub fn fits(&self, form: &SlotForm) -> bool {
        self.epoch == form.epoch
    }

    /// Writes the frame's picture into the slot. The frame must live until [`Self::finish`] has returned.
    ///
    /// # Errors
    /// [`PreprocessError`]; the slot's content is undefined then.
    pub fn run(&mut self, frame: &Decoded, slot: &mut Slot) -> Result<Geometry, PreprocessError> {
        match slot.memory_mut() {
            SlotMemory::Host(tensor) => Ok(self.letterbox.run(&frame.picture(), tensor)?),
        }
    }
}
