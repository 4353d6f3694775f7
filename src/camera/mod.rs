//! PURE: the life of one camera. No threads, no clock, no GStreamer.

mod backoff;
mod machine;

pub use backoff::{Backoff, BackoffOptions};
pub use machine::{Action, Announcement, Input, Limits, Machine, Reason, State, Timer};
