//! Writes pictures into an H.264 MP4 file.
//!
//! ```text
//!   push() ─► appsrc (2 pictures) ─► convert, scale ─► encoder ─► mp4mux (fragments of 1 s) ─► filesink
//! ```
//!
//! Memory does not depend on how long the recording is: the encoder looks at one picture at a time, the multiplexer
//! forgets a fragment when it is written, and whoever pushes waits for the encoder. What was written when the process is
//! killed can be played up to the last whole second.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;
use gstreamer_video::prelude::*;

use crate::arenas::Trim;
use crate::census::Ticket;
use crate::failure::InitError;
use crate::scrub::scrub;
use crate::table::package_of;

/// Pictures that wait for the encoder.
const QUEUE_PICTURES: u64 = 2;
/// How often one who waits looks again: nothing is lost when a wake-up is.
const LOOK: Duration = Duration::from_millis(200);
/// Units of the file's clock in a second, MPEG's.
const TIMESCALE: u32 = 90_000;
/// What the encoder is told; the times of the pictures are their own.
const NOMINAL_FPS: i32 = 30;

/// An encoder and how it is set up: constant quality, no look-ahead, no reordering.
struct Encoder {
    element: &'static str,
    settings: &'static str,
}

/// The first that is installed is used. libav's MPEG-4 encoder is none of them: it loses the times of the pictures.
const ENCODERS: [Encoder; 2] = [
    Encoder {
        element: "x264enc",
        settings: "tune=zerolatency speed-preset=veryfast pass=qual quantizer=21 key-int-max=60",
    },
    Encoder {
        element: "openh264enc",
        settings: "rate-control=quality bitrate=8000000 max-bitrate=16000000 complexity=low gop-size=60",
    },
];

/// Why a recording cannot be made, or not be ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordingError {
    /// GStreamer itself does not start.
    #[error(transparent)]
    Init(#[from] InitError),
    /// No H.264 encoder is installed.
    #[error(
        "no H.264 encoder is installed; install gstreamer1.0-plugins-bad (openh264enc) or gstreamer1.0-plugins-ugly \
         (x264enc), or have single pictures written into a folder"
    )]
    NoEncoder,
    /// Another element is not installed.
    #[error("the GStreamer element {element} is not installed; install the Debian package {package}")]
    MissingElement {
        /// The element.
        element: String,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// No picture has such a size.
    #[error("a picture of {width}x{height} cannot be recorded: sides from 2 to 8192 pixels can")]
    Size {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
    },
    /// There is no room for more.
    #[error("the disk is full")]
    DiskFull,
    /// Anything else, in GStreamer's words.
    #[error("the recording failed: {0}")]
    Failed(String),
}

/// What the bus said.
#[derive(Default)]
struct State {
    failure: Option<RecordingError>,
    is_over: bool,
}

/// Whoever pushes waits here.
#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, message: &gst::Message) {
        let mut state = self.state();
        match message.view() {
            gst::MessageView::Error(error) if state.failure.is_none() => {
                let error = error.error();
                state.failure = Some(match error.kind::<gst::ResourceError>() {
                    Some(gst::ResourceError::NoSpaceLeft) => RecordingError::DiskFull,
                    _ => RecordingError::Failed(scrub(error.message())),
                });
            }
            gst::MessageView::Eos(_) => state.is_over = true,
            _ => return,
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until `is_enough`, or until the pipeline has failed.
    fn wait(&self, mut is_enough: impl FnMut(&State) -> bool) -> Result<(), RecordingError> {
        let mut state = self.state();
        loop {
            if let Some(failure) = &state.failure {
                return Err(failure.clone());
            }
            if is_enough(&state) {
                return Ok(());
            }
            state = self.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Buffers for pictures of one size, used again and again.
struct Buffers {
    info: gst_video::VideoInfo,
    pool: gst::BufferPool,
}

impl Drop for Buffers {
    fn drop(&mut self) {
        let _was_inactive = self.pool.set_active(false);
    }
}

/// A file that is being written. Dropping it without [`Recording::finish`] leaves it unfinished.
pub struct Recording {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    gate: Arc<Gate>,
    buffers: Option<Buffers>,
    last_pts_ns: Option<u64>,
    _ticket: Ticket,
    _trim: Trim,
}

impl Recording {
    /// Begins a file of pictures of this size; sides that are odd become one larger. A file that is there is written over.
    ///
    /// # Errors
    /// Elements are missing, or the file cannot be written.
    pub fn start(path: &Path, width: u32, height: u32) -> Result<Self, RecordingError> {
        crate::init()?;
        let refused = RecordingError::Size { width, height };
        if !(2..=8192).contains(&width) || !(2..=8192).contains(&height) {
            return Err(refused);
        }
        let encoder = choose(is_installed)?;
        let description = describe(encoder, width.next_multiple_of(2), height.next_multiple_of(2));
        let failed = |error: gst::glib::Error| RecordingError::Failed(scrub(error.message()));
        let pipeline = gst::parse::launch(&description)
            .map_err(failed)?
            .downcast::<gst::Pipeline>()
            .map_err(|_| RecordingError::Failed("no pipeline came out of its description".to_owned()))?;
        let lost = || RecordingError::Failed("the pipeline lacks an element of its description".to_owned());
        let source = pipeline.by_name("source").and_downcast::<gst_app::AppSrc>().ok_or_else(lost)?;
        let sink = pipeline.by_name("sink").ok_or_else(lost)?;
        let mux = pipeline.by_name("mux").ok_or_else(lost)?;
        sink.set_property("location", path);
        for pad in mux.sink_pads() {
            pad.set_property("trak-timescale", TIMESCALE);
        }
        let gate = Arc::new(Gate::default());
        if let Some(bus) = pipeline.bus() {
            let gate = Arc::clone(&gate);
            bus.set_sync_handler(move |_, message| {
                gate.hear(message);
                gst::BusSyncReply::Drop
            });
        }
        let waiting = Arc::clone(&gate);
        let callbacks =
            gst_app::AppSrcCallbacks::builder().need_data(move |_, _| waiting.changed.notify_all()).build();
        source.set_callbacks(callbacks);
        let recording = Self {
            pipeline,
            source,
            gate,
            buffers: None,
            last_pts_ns: None,
            _ticket: Ticket::of_pipeline(),
            _trim: Trim,
        };
        match recording.pipeline.set_state(gst::State::Playing) {
            Ok(_) => Ok(recording),
            Err(_) => Err(recording.gate.state().failure.take().unwrap_or_else(|| {
                RecordingError::Failed("the pipeline refused to start and said no reason".to_owned())
            })),
        }
    }

    /// Adds a picture of red, green and blue, `3 * width * height` bytes; waits while the encoder has enough to do. One of
    /// another size than the first is scaled, with borders. Times must rise; one that does not is moved behind the last.
    ///
    /// # Errors
    /// The disk is full, or the pipeline failed. Nothing can be added any more.
    pub fn push(
        &mut self,
        rgb: &[u8],
        width: u32,
        height: u32,
        pts_ns: u64,
        duration: Duration,
    ) -> Result<(), RecordingError> {
        if rgb.is_empty() || rgb.len() != 3 * width as usize * height as usize {
            return Err(RecordingError::Size { width, height });
        }
        let mut buffer = self.buffer(rgb, width, height)?;
        // Two pictures may not have one time; a thousandth of a second is less than any camera's interval.
        let pts_ns = self.last_pts_ns.map_or(pts_ns, |last| pts_ns.max(last.saturating_add(1_000_000)));
        self.last_pts_ns = Some(pts_ns);
        let lengths = buffer.make_mut();
        lengths.set_pts(gst::ClockTime::from_nseconds(pts_ns));
        lengths.set_duration(gst::ClockTime::try_from(duration).ok());
        let source = &self.source;
        self.gate.wait(|_| source.current_level_buffers() < QUEUE_PICTURES)?;
        match source.push_buffer(buffer) {
            Ok(_) => Ok(()),
            // The reason comes over the bus, now or in a moment.
            Err(_) => self.gate.wait(|_| false),
        }
    }

    /// Ends the file and waits until it is whole.
    ///
    /// # Errors
    /// As for [`Recording::push`]; the file is not whole then.
    pub fn finish(self) -> Result<(), RecordingError> {
        if self.source.end_of_stream().is_err() {
            self.gate.wait(|_| false)?;
        }
        self.gate.wait(|state| state.is_over)
    }

    fn buffer(&mut self, rgb: &[u8], width: u32, height: u32) -> Result<gst::Buffer, RecordingError> {
        let failed = |what: &str| RecordingError::Failed(format!("no memory for a picture: {what}"));
        let fits = |buffers: &Buffers| (buffers.info.width(), buffers.info.height()) == (width, height);
        if !self.buffers.as_ref().is_some_and(fits) {
            let buffers = buffers(width, height).ok_or_else(|| failed("its pool does not start"))?;
            self.source.set_caps(buffers.info.to_caps().ok().as_ref());
            self.buffers = Some(buffers);
        }
        let buffers = self.buffers.as_ref().ok_or_else(|| failed("no pool"))?;
        let buffer = buffers.pool.acquire_buffer(None).map_err(|_| failed("its pool is empty"))?;
        let mut frame = gst_video::VideoFrame::from_buffer_writable(buffer, &buffers.info)
            .map_err(|_| failed("it cannot be written"))?;
        let stride_bytes = usize::try_from(frame.plane_stride()[0]).unwrap_or_default();
        let row_bytes = 3 * width as usize;
        let plane = frame.plane_data_mut(0).map_err(|_| failed("it has no plane"))?;
        for (to, from) in plane.chunks_mut(stride_bytes.max(1)).zip(rgb.chunks_exact(row_bytes)) {
            to[..row_bytes].copy_from_slice(from);
        }
        Ok(frame.into_buffer())
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if self.pipeline.set_state(gst::State::Null).is_err() {
            tracing::warn!("the recording refused to go to NULL");
        }
        self.source.set_callbacks(gst_app::AppSrcCallbacks::builder().build());
        if let Some(bus) = self.pipeline.bus() {
            bus.unset_sync_handler();
        }
    }
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recording").field("last_pts_ns", &self.last_pts_ns).finish_non_exhaustive()
    }
}

fn buffers(width: u32, height: u32) -> Option<Buffers> {
    let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, width, height)
        .fps(gst::Fraction::new(NOMINAL_FPS, 1))
        .build()
        .ok()?;
    let pool = gst::BufferPool::new();
    let mut config = pool.config();
    // As many as are under way: the queue's, the converter's, and the one that is being filled.
    config.set_params(info.to_caps().ok().as_ref(), u32::try_from(info.size()).ok()?, 0, 0);
    pool.set_config(config).ok()?;
    pool.set_active(true).ok()?;
    Some(Buffers { info, pool })
}

fn is_installed(element: &str) -> bool {
    gst::ElementFactory::find(element).is_some()
}

/// Whether this box can record at all.
///
/// # Errors
/// Says what to install.
pub fn can_record() -> Result<(), RecordingError> {
    crate::init()?;
    choose(is_installed).map(|_| ())
}

fn choose(is_installed: impl Fn(&str) -> bool) -> Result<&'static Encoder, RecordingError> {
    for element in ["appsrc", "videoconvert", "videoscale", "h264parse", "mp4mux", "filesink"] {
        if !is_installed(element) {
            let package = package_of(element);
            return Err(RecordingError::MissingElement { element: element.to_owned(), package });
        }
    }
    ENCODERS.iter().find(|encoder| is_installed(encoder.element)).ok_or(RecordingError::NoEncoder)
}

fn describe(encoder: &Encoder, width: u32, height: u32) -> String {
    let Encoder { element, settings } = encoder;
    // What players assume where a stream does not say.
    let colorimetry = if height > 576 { "bt709" } else { "bt601" };
    format!(
        "appsrc name=source format=time is-live=false max-bytes=0 max-time=0 max-buffers={QUEUE_PICTURES} \
         ! videoconvert ! videoscale add-borders=true \
         ! video/x-raw, format=I420, width={width}, height={height}, pixel-aspect-ratio=1/1, colorimetry={colorimetry} \
         ! {element} {settings} ! h264parse ! mp4mux name=mux fragment-duration=1000 ! filesink name=sink"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_encoder_that_is_there_is_used_and_a_lack_says_what_to_install() {
        assert_eq!(choose(|_| true).map(|encoder| encoder.element), Ok("x264enc"));
        assert_eq!(choose(|element| element != "x264enc").map(|encoder| encoder.element), Ok("openh264enc"));
        let none = choose(|element| !element.ends_with("264enc")).map(|_| ()).unwrap_err();
        assert!(none.to_string().contains("install gstreamer1.0-plugins-bad"), "{none}");
        let no_mux = choose(|element| element != "mp4mux").map(|_| ()).unwrap_err();
        assert!(no_mux.to_string().contains("gstreamer1.0-plugins-good"), "{no_mux}");
        for element in ["appsrc", "videoscale", "h264parse", "filesink", "x264enc", "openh264enc"] {
            assert!(!package_of(element).contains("apt-file"), "{element} has no package");
        }
    }
}
