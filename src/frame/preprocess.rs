//! From a decoded frame, wherever it lies, into a slot, wherever that is. One per camera and engine.
//!
//! ```text
//!   decoded in        slot in host memory         slot in device memory
//!   system memory     letterbox.rs                letterbox.rs into page-locked memory, then an upload
//!   device memory     the kernel, read back       the kernel: the picture never visits the host
//! ```
//!
//! A slot in host memory is of planes of floats, or of the form that its model takes ([`FormedTensor`]).
//!
//! Privacy masks are laid on the host in all four cases: with masks, a picture decoded in device memory visits the host
//! between kernel and slot, in the model's size.

use watchpost_cuda::{CudaError, DevicePicture, Gpu, Letterboxer, Placement as DevicePlacement, Recipe};

use super::mask::{PrivacyMask, Source};
use super::{
    FormedTensor, Geometry, Letterbox, LetterboxError, Place, Placement, Slot, SlotError, SlotForm,
    SlotMemory,
};
use crate::model::{ChannelOrder, InputRecipe};
use crate::source::{Decoded, Pixels};

/// Why a frame did not reach its slot.
#[derive(Debug, thiserror::Error)]
pub enum PreprocessError {
    /// The picture is not whole, or the slot is not the recipe's.
    #[error(transparent)]
    Letterbox(#[from] LetterboxError),
    /// The GPU refuses.
    #[error(transparent)]
    Device(#[from] CudaError),
    /// The frame or the slot is on a GPU that nobody named.
    #[error("the frame lies in the memory of a GPU that this engine does not know")]
    Place,
    /// The kernel does not crop.
    #[error(
        "the model wants pictures cropped (fit = \"center-crop\"), which is not done on the GPU: decode on the CPU, or write \
         another fit into its manifest"
    )]
    Crop,
}

/// What a camera needs to fill the slots of one engine.
#[derive(Debug)]
pub struct Preprocessor {
    epoch: u64,
    input: InputRecipe,
    letterbox: Letterbox,
    gpu: Option<Gpu>,
    /// Made at once for slots on the device, else with the first frame from there.
    device: Option<Letterboxer>,
    /// What the kernel wrote, on its way into a slot of another form; empty without such slots.
    planar: Vec<f32>,
}

impl Preprocessor {
    /// For slots of this form.
    ///
    /// # Errors
    /// [`SlotError`]; nothing stays allocated.
    pub fn new(form: &SlotForm) -> Result<Self, SlotError> {
        let input = form.input;
        let device = match &form.place {
            Place::Host | Place::HostFormed(_) => None,
            Place::Device { gpu, .. } => Some(Letterboxer::new(gpu, device_recipe(&input))?),
        };
        let letterbox = Letterbox::new(&input);
        Ok(Self { epoch: form.epoch, input, letterbox, gpu: form.gpu.clone(), device, planar: Vec::new() })
    }

    /// Whether it was made for this form.
    pub fn fits(&self, form: &SlotForm) -> bool {
        self.epoch == form.epoch
    }

    /// Writes the frame's picture into the slot, and over it what is masked. The frame must live until
    /// [`Self::finish`] has returned.
    ///
    /// # Errors
    /// [`PreprocessError`]; the slot's content is undefined then, and must not be shown to an engine.
    pub fn run(
        &mut self,
        frame: &Decoded,
        mask: &mut PrivacyMask,
        slot: &mut Slot,
    ) -> Result<Geometry, PreprocessError> {
        let input = self.input;
        match (frame.pixels(), slot.memory_mut()) {
            (Pixels::Host(picture), SlotMemory::Host(tensor)) => {
                let geometry = self.letterbox.run_in_slot(&picture, tensor)?;
                if !mask.is_empty() {
                    mask.cover(&input, Source::new(picture.width, picture.height, &picture.layout), tensor);
                }
                Ok(geometry)
            }
            (Pixels::Host(picture), SlotMemory::Formed(tensor)) => {
                let geometry = self.letterbox.run_formed(&picture, tensor)?;
                let source = Source::new(picture.width, picture.height, &picture.layout);
                mask.cover_formed(&input, source, tensor);
                Ok(geometry)
            }
            (Pixels::Host(picture), SlotMemory::Device(tensor)) => {
                let device = self.device.as_mut().ok_or(PreprocessError::Place)?;
                let staging = device.staging()?;
                let geometry = self.letterbox.run(&picture, staging)?;
                mask.cover(&input, Source::new(picture.width, picture.height, &picture.layout), staging);
                device.upload(tensor)?;
                Ok(geometry)
            }
            (Pixels::Device(picture), memory) => {
                let (width, height) = (picture.width(), picture.height());
                let placement = device_placement(&input, &picture)?;
                let source = Source::on_device(width, height);
                if let SlotMemory::Formed(tensor) = memory {
                    self.formed_from_device(&picture, placement, tensor)?;
                    mask.cover_formed(&input, source, tensor);
                    return Ok(Geometry::new(&input, width, height));
                }
                let device = self.device()?;
                match memory {
                    SlotMemory::Formed(_) => {}
                    SlotMemory::Host(tensor) => {
                        device.letterbox_to_host(&picture, placement, tensor)?;
                        mask.cover(&input, source, tensor);
                    }
                    SlotMemory::Device(tensor) if mask.is_empty() => {
                        device.letterbox(&picture, placement, tensor)?;
                    }
                    SlotMemory::Device(tensor) => {
                        let mut cover = |staged: &mut [f32]| mask.cover(&input, source, staged);
                        device.letterbox_over_host(&picture, placement, tensor, &mut cover)?;
                    }
                }
                Ok(Geometry::new(&input, width, height))
            }
        }
    }

    /// Waits until the last frame has been read: its decoder may have it back. One in system memory has been read already.
    ///
    /// # Errors
    /// [`CudaError`]
    pub fn finish(&mut self, frame: &Decoded) -> Result<(), CudaError> {
        match (frame.pixels(), &mut self.device) {
            (Pixels::Device(_), Some(device)) => device.finish(),
            _ => Ok(()),
        }
    }

    /// The kernel writes planes of floats; here they are put into the form of the slot.
    fn formed_from_device(
        &mut self,
        picture: &DevicePicture<'_>,
        placement: DevicePlacement,
        tensor: &mut FormedTensor,
    ) -> Result<(), PreprocessError> {
        let mut planar = std::mem::take(&mut self.planar);
        planar.resize(self.input.len(), 0.0);
        let read_back =
            self.device().and_then(|device| Ok(device.letterbox_to_host(picture, placement, &mut planar)?));
        let (first, rest) = planar.split_at(planar.len() / 3);
        let (second, third) = rest.split_at(rest.len() / 2);
        tensor.put(0, [first, second, third]);
        self.planar = planar;
        read_back
    }

    fn device(&mut self) -> Result<&mut Letterboxer, PreprocessError> {
        match &mut self.device {
            Some(device) => Ok(device),
            none => {
                let gpu = self.gpu.as_ref().ok_or(PreprocessError::Place)?;
                Ok(none.insert(Letterboxer::new(gpu, device_recipe(&self.input))?))
            }
        }
    }
}

/// Side of a [`Thumbnail`].
pub(super) const THUMBNAIL_SIDE: usize = 64;

/// A picture in device memory made so small that the host may look at it: for what compares pictures.
#[derive(Debug)]
pub(super) struct Thumbnail {
    device: Letterboxer,
    tensor: Vec<f32>,
}

impl Thumbnail {
    /// # Errors
    /// [`CudaError`]
    pub fn new(gpu: &Gpu) -> Result<Self, CudaError> {
        let side = THUMBNAIL_SIDE as u32;
        let recipe =
            Recipe { width: side, height: side, pad: 0.0, scale: [1.0; 3], offset: [0.0; 3], bgr: false };
        let device = Letterboxer::new(gpu, recipe)?;
        Ok(Self { device, tensor: vec![0.0; 3 * THUMBNAIL_SIDE * THUMBNAIL_SIDE] })
    }

    /// Green samples, row by row: most of what luma is.
    ///
    /// # Errors
    /// [`CudaError`]
    pub fn samples(
        &mut self,
        picture: &DevicePicture<'_>,
    ) -> Result<impl Iterator<Item = u8> + Clone + '_, CudaError> {
        let side = THUMBNAIL_SIDE as u32;
        let whole = DevicePlacement { left: 0, top: 0, width: side, height: side };
        self.device.letterbox_to_host(picture, whole, &mut self.tensor)?;
        let plane = THUMBNAIL_SIDE * THUMBNAIL_SIDE;
        // 0..=255 by the kernel; the cast would saturate.
        Ok(self.tensor[plane..2 * plane].iter().map(|&green| green.round() as u8))
    }
}

fn device_recipe(input: &InputRecipe) -> Recipe {
    Recipe {
        width: narrow(input.width),
        height: narrow(input.height),
        pad: f32::from(input.pad),
        scale: input.scale,
        offset: input.offset,
        bgr: input.channels == ChannelOrder::Bgr,
    }
}

fn device_placement(
    input: &InputRecipe,
    picture: &DevicePicture<'_>,
) -> Result<DevicePlacement, PreprocessError> {
    let placement = Placement::new(input, picture.width(), picture.height());
    let Placement { left, top, width, height, fitted_width, fitted_height, .. } = placement;
    if (fitted_width, fitted_height) != (width, height) {
        return Err(PreprocessError::Crop);
    }
    Ok(DevicePlacement { left: narrow(left), top: narrow(top), width: narrow(width), height: narrow(height) })
}

/// Sides of a model's input; the letterboxer refuses what is too large.
fn narrow(side: usize) -> u32 {
    u32::try_from(side).unwrap_or(u32::MAX)
}
