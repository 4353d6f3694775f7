//! Frames: pictures, slots as credits, the newest-wins mailbox, the letterbox.

mod picture;

pub use picture::*;
