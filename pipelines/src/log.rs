//! GStreamer's log, in ours.

use gstreamer as gst;
use tracing::Level;

use crate::scrub::scrub;

/// Target of the events: `RUST_LOG=gstreamer=debug` shows them.
const TARGET: &str = "gstreamer";

/// Sends GStreamer's warnings and errors to `tracing` at debug level, and what `GST_DEBUG` asks for beyond
/// that at trace level. They stay below our own levels because GStreamer warns of much that is no trouble;
/// what matters arrives as an event.
pub(crate) fn route() {
    if std::env::var_os("GST_DEBUG").is_none() {
        gst::log::set_default_threshold(gst::DebugLevel::Warning);
        gst::log::set_active(true);
    }
    gst::log::add_log_function(|category, level, _file, _function, _line, object, message| {
        let (is_error, is_warning) = (level == gst::DebugLevel::Error, level == gst::DebugLevel::Warning);
        let wanted = if is_error || is_warning {
            tracing::enabled!(target: TARGET, Level::DEBUG)
        } else {
            tracing::enabled!(target: TARGET, Level::TRACE)
        };
        // Nothing is formatted for nobody: this runs on streaming threads.
        if !wanted {
            return;
        }
        let Some(text) = message.get() else { return };
        let text = scrub(&text);
        let object = object.map(|object| scrub(&object.to_string())).unwrap_or_default();
        let category = category.name();
        if is_error || is_warning {
            tracing::debug!(target: TARGET, category, object, "{text}");
        } else {
            tracing::trace!(target: TARGET, category, object, "{text}");
        }
    });
}
