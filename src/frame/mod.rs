//! Frames: pictures, slots as credits, the newest-wins mailbox, the letterbox.

mod activity;
mod colour;
mod feed;
mod formed;
mod freeze;
mod host_tensor;
mod lazy;
mod letterbox;
mod letterbox_geometry;
mod letterbox_reference;
mod letterbox_rgb;
#[cfg(test)]
mod letterbox_tests;
mod mailbox;
mod mask;
mod motion;
mod pacer;
mod pool;
mod preprocess;
mod pump;
mod thinning;
mod turnstile;

pub use crate::source::{Layout, Matrix, Picture, PictureError, Plane, Range};
pub use feed::Feed;
pub use formed::FormedTensor;
pub use freeze::FreezeWatch;
pub use host_tensor::HostTensor;
pub use lazy::{Lazy, LazyOptions, Treatment};
pub use letterbox::*;
pub use letterbox_geometry::*;
pub use letterbox_reference::*;
pub use mailbox::{Mailbox, Numbered};
pub use mask::{PrivacyMask, black_out};
pub use motion::{GateOptions, Look, MotionGate};
pub use pacer::Pacer;
pub use pool::{Place, Pool, Restock, Slot, SlotError, SlotForm, SlotMemory};
pub use preprocess::{PreprocessError, Preprocessor};
pub use pump::{Bench, End, Pump, Work};
pub use turnstile::{Answer, Line, Ticket, Turnstile};
