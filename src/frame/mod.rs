//! Frames: pictures, slots as credits, the newest-wins mailbox, the letterbox.

mod letterbox;
mod letterbox_geometry;
mod letterbox_reference;
#[cfg(test)]
mod letterbox_tests;
mod picture;

pub use letterbox::*;
pub use letterbox_geometry::*;
pub use letterbox_reference::*;
pub use picture::*;
