//! CUDA through the driver API, loaded at run time: nothing of it is needed to build, and its absence is a typed answer.
//!
//! [`devices`] says what there is, [`Gpu::open`] takes one. Cameras have [`SlotTensor`]s, which a [`Letterboxer`] fills; an
//! engine reads them through a [`Batch`]. All memory is counted by [`Owner`], and comes back when it is dropped.

mod args;
mod batch;
mod device;
mod driver;
mod error;
mod gpu;
mod graph;
mod half;
mod kernels;
mod ledger;
mod letterbox;
mod memory;
mod picture;
mod slot;
mod stream;

pub use args::LetterboxArgs;
pub use batch::Batch;
pub use device::{DeviceInfo, Unavailable, devices};
pub use error::CudaError;
pub use gpu::{Gpu, RawContext};
pub use graph::Graph;
pub use half::to_f32 as f16_to_f32;
pub use ledger::{Copied, Held, Ledger, Owner};
pub use letterbox::{Letterboxer, Placement, Recipe};
pub use memory::{Buffer, Claim, Pinned};
pub use picture::{DeviceLayout, DevicePicture, DevicePlane};
pub use slot::{Element, SlotTensor};
pub use stream::{Event, RawStream, Stream};
pub use watchpost_picture::{Matrix, Range};
