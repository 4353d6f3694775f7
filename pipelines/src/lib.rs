//! Everything GStreamer: launch templates, bus, frame mapping, teardown.
//!
//! The daemon says what to open with a [`Spec`] and gets decoded pictures back, in system memory or, where the
//! spec names a GPU, in the GPU's, either as
//! they happen ([`Pipeline`]: newest wins, for cameras) or one by one without loss ([`PullPipeline`]: for
//! files). Nothing of GStreamer's own types is visible outside this crate.
//!
//! In reading order: [`mod@spec`] says what to open, `table` which launch template and which decoder that
//! takes, `launch` fills the template in, `build` makes the pipeline out of it, `link` adds the decoder once
//! the codec is known, and `core` takes it all down again. `choice` says who decodes, `video_unit` knows the
//! video units of boxes without NVIDIA, `plan` tells it beforehand, and `gst_cuda` brings GStreamer's elements into the process's CUDA context. `report` and `outlet` carry samples and messages
//! to whoever asked; `recording` goes the other way and writes pictures into a file; `frame` is what a picture looks like;
//! `explain` turns GStreamer's words into ours and `scrub` keeps passwords out of them; `sockets` cuts off cameras that would
//! keep a teardown waiting, and acknowledges those that wait for us; `rtp_times` knows when packets arrived.
//!
//! Four rules hold everywhere:
//! - no GLib main loop and no thread of our own: callbacks come from GStreamer's streaming threads;
//! - a callback never runs after `stop()` has returned;
//! - a pipeline is owned by one value whose drop takes everything down, also when building failed half way;
//! - every text that leaves the crate went through [`scrub()`].

mod arenas;
mod build;
mod capture_time;
mod census;
mod choice;
mod coded;
mod core;
mod device_frame;
mod devices;
mod explain;
mod failure;
mod frame;
mod gst_cuda;
mod held_back;
mod kept;
mod keyframes;
mod launch;
mod link;
mod log;
mod names;
mod no_display;
mod outlet;
mod picture_limit;
mod pipeline;
mod plan;
mod probe;
mod recording;
mod report;
mod rtp_check;
mod rtp_times;
mod scrub;
mod sockets;
pub mod spec;
mod table;
mod v4l2;
mod video_unit;

pub use arenas::trim_after_closing;
pub use census::{live_objects, open_coded, open_frames, open_objects, open_pipelines};
pub use coded::PictureKind;
pub use devices::{Camera, DecoderEntry, DeviceReport, MissingEntry, devices};
pub use failure::{Failure, FailureClass, InitError, StartError};
pub use frame::{Frame, PixelFormat, Pixels};
pub use kept::kept_bytes_bound;
pub use names::{host_name, resolve, with_address};
pub use outlet::{Event, Judgement, Memory, Pull, Receiver, SourceInfo, Stage};
pub use pipeline::{Pipeline, PullPipeline};
pub use plan::{CodecPlan, DecoderPlan, plan};
pub use probe::{ProbeReport, probe};
pub use recording::{Recording, RecordingError, can_record};
pub use scrub::scrub;
pub use spec::{Credentials, DecoderChoice, SourceKind, Spec, Transport};
pub use watchpost_cuda::{DeviceLayout, DevicePicture, DevicePlane, Gpu};
pub use watchpost_picture::{Layout, Matrix, Picture, Plane, Range};

use std::sync::OnceLock;

/// Starts GStreamer and routes its log into `tracing`. Calling it again costs nothing. Best called before
/// any thread is started: it also limits the heaps that the C library keeps for threads.
///
/// # Errors
/// When the GStreamer libraries cannot be initialised; every later call repeats the same answer.
pub fn init() -> Result<(), InitError> {
    static DONE: OnceLock<Result<(), InitError>> = OnceLock::new();
    DONE.get_or_init(|| {
        arenas::limit();
        // The default log function would print debug strings, passwords and all, to stderr.
        gstreamer::log::remove_default_log_function();
        gstreamer::init().map_err(|error| InitError { reason: scrub(error.message()) })?;
        log::route();
        sockets::listen();
        Ok(())
    })
    .clone()
}

/// Reads a packet as those of a camera are read. For the fuzz targets.
#[doc(hidden)]
pub fn look_at_packet(packet: &[u8]) {
    for encoding in ["H264", "H265", "JPEG", "MP4V-ES"] {
        let _sound = rtp_check::is_sound(encoding, packet);
    }
    let _time = capture_time::sender_report_unix_ns(packet);
}

/// The version of the GStreamer libraries in use, for example `"1.22.0"`.
#[must_use]
pub fn version() -> String {
    let (major, minor, micro, _) = gstreamer::version();
    format!("{major}.{minor}.{micro}")
}
