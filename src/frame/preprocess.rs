//! From a decoded frame, wherever it lies, into a slot, wherever that is. One per camera and engine.
//!
//! ```text
//!   decoded in        slot in host memory         slot in device memory
//!   system memory     letterbox.rs                letterbox.rs into page-locked memory, then an upload
//!   device memory     the kernel, read back       the kernel: the picture never visits the host
//! ```

use watchpost_cuda::{CudaError, Letterboxer, Recipe};

use super::{Geometry, Letterbox, LetterboxError, Place, Slot, SlotError, SlotForm, SlotMemory};
use crate::model::{ChannelOrder, InputRecipe};
use crate::source::Decoded;

/// Why a frame did not reach its slot.
#[derive(Debug, thiserror::Error)]
pub enum PreprocessError {
    /// The picture is not whole, or the slot is not the recipe's.
    #[error(transparent)]
    Letterbox(#[from] LetterboxError),
    /// The GPU refuses.
    #[error(transparent)]
    Device(#[from] CudaError),
    /// Nothing here was made for such slots.
    #[error("the slot lies in device memory and the engine's form says host memory")]
    Place,
}

/// What a camera needs to fill the slots of one engine.
#[derive(Debug)]
pub struct Preprocessor {
    epoch: u64,
    letterbox: Letterbox,
    device: Option<Letterboxer>,
}

impl Preprocessor {
    /// For slots of this form.
    ///
    /// # Errors
    /// [`SlotError`]; nothing stays allocated.
    pub fn new(form: &SlotForm) -> Result<Self, SlotError> {
        let device = match &form.place {
            Place::Host => None,
            Place::Device { gpu, .. } => Some(Letterboxer::new(gpu, device_recipe(&form.input))?),
        };
        Ok(Self { epoch: form.epoch, letterbox: Letterbox::new(&form.input), device })
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
        let picture = frame.picture();
        match (slot.memory_mut(), &mut self.device) {
            (SlotMemory::Host(tensor), _) => Ok(self.letterbox.run(&picture, tensor)?),
            (SlotMemory::Device(tensor), Some(device)) => {
                let geometry = self.letterbox.run(&picture, device.staging()?)?;
                device.upload(tensor)?;
                Ok(geometry)
            }
            (SlotMemory::Device(_), None) => Err(PreprocessError::Place),
        }
    }

    /// Waits until the last frame has been read: it may be dropped. A frame in system memory has been read already.
    ///
    /// # Errors
    /// [`CudaError`]
    pub fn finish(&mut self, frame: &Decoded) -> Result<(), CudaError> {
        let _in_system_memory = frame;
        Ok(())
    }
}

fn device_recipe(input: &InputRecipe) -> Recipe {
    Recipe {
        // Sides of a model's input; the letterboxer refuses what is too large.
        width: u32::try_from(input.width).unwrap_or(u32::MAX),
        height: u32::try_from(input.height).unwrap_or(u32::MAX),
        pad: f32::from(input.pad),
        scale: input.scale,
        offset: input.offset,
        bgr: input.channels == ChannelOrder::Bgr,
    }
}
