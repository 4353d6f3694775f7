//! GStreamer's log, in ours.

use std::cell::RefCell;

use gstreamer as gst;
use gstreamer::glib;
use tracing::Level;

use crate::scrub::scrub;

/// Target of the events: `RUST_LOG=gstreamer=debug` shows them.
const TARGET: &str = "gstreamer";

/// The categories that say why a connection failed. The RTSP library logs to the default one up to 1.22 at least.
const CONNECTION: [&str; 2] = ["default", "rtspconnection"];

thread_local! {
    /// What it said last on this thread; the error message is posted by the same thread right after.
    static CONNECTION_ERROR: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Why the last connection that this thread tried failed, in the words of GIO.
pub(crate) fn take_connection_error() -> Option<String> {
    CONNECTION_ERROR.with_borrow_mut(Option::take)
}

/// Sends GStreamer's warnings and errors to `tracing` at debug level, and what `GST_DEBUG` asks for beyond
/// that at trace level. They stay below our own levels because GStreamer warns of much that is no trouble;
/// what matters arrives as an event.
pub(crate) fn route() {
    // GLib prints its criticals to stderr; rtspsrc up to 1.22 causes some when it is stopped early.
    glib::log_set_default_handler(|domain, level, text| {
        tracing::debug!(target: TARGET, domain = domain.unwrap_or_default(), ?level, "{}", scrub(text));
    });
    if gst::log::get_default_threshold() < gst::DebugLevel::Warning {
        // This makes the log active, too. `set_active` would do so for every level: libraries would then put together what they
        // say at any level before it is thrown away, and librtsp up to 1.22 at least crashes over one such line.
        gst::log::set_default_threshold(gst::DebugLevel::Warning);
    }
    gst::log::add_log_function(|category, level, _file, _function, _line, object, message| {
        let (is_error, is_warning) = (level == gst::DebugLevel::Error, level == gst::DebugLevel::Warning);
        if is_error && CONNECTION.contains(&category.name()) {
            let text = message.get().map(|text| scrub(&text));
            CONNECTION_ERROR.set(text);
        }
        // Raw bytes, written as numbers: no password could be found in them.
        if level == gst::DebugLevel::Memdump {
            return;
        }
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

#[cfg(test)]
mod tests {
    use gstreamer as gst;

    unsafe extern "C" {
        /// Up to which level libraries put log lines together, whatever becomes of them.
        static _gst_debug_min: std::ffi::c_int;
    }

    #[test]
    fn libraries_put_together_no_lines_that_nobody_asked_for() {
        if std::env::var_os("GST_DEBUG").is_some() {
            return;
        }
        crate::init().unwrap();
        // SAFETY: an int of libgstreamer, which is loaded; nobody changes levels in this process after `init`.
        let least = unsafe { _gst_debug_min };
        assert_eq!(gst::log::get_default_threshold(), gst::DebugLevel::Warning);
        assert_eq!(least, 2, "2 is WARNING");
    }
}
