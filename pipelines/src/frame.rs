//! A decoded picture in system memory.

use std::fmt;
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;
use gstreamer_video::prelude::*;
use watchpost_picture::{Layout, Matrix, Picture, Plane, Range};

use crate::outlet::Times;

/// How a frame's samples lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PixelFormat {
    /// 4:2:0, three planes.
    I420,
    /// 4:2:2, three planes.
    Y42b,
    /// 4:4:4, three planes.
    Y444,
    /// 4:2:0, luma and interleaved chroma.
    Nv12,
    /// Luma only.
    Gray8,
}

impl fmt::Display for PixelFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::I420 => "I420",
            Self::Y42b => "Y42B",
            Self::Y444 => "Y444",
            Self::Nv12 => "NV12",
            Self::Gray8 => "GRAY8",
        })
    }
}

/// A decoded picture. It keeps the decoder's buffer until it is dropped: drop it soon.
pub struct Frame {
    picture: gst_video::VideoFrame<gst_video::video_frame::Readable>,
    format: PixelFormat,
    pts_ns: Option<u64>,
    age: Option<Duration>,
    rtp_changes_count: Option<u64>,
    capture_unix_ns: Option<i64>,
}

impl Frame {
    /// Maps the sample that just came out of `sink`.
    pub(crate) fn new(
        sample: &gst::Sample,
        sink: &gst_app::AppSink,
        times: Option<Times<'_>>,
    ) -> Result<Self, String> {
        let caps = sample.caps().ok_or("a frame came without its format")?;
        let info = gst_video::VideoInfo::from_caps(caps)
            .map_err(|_| format!("a frame has a format that is not video: {caps}"))?;
        let format = match info.format() {
            gst_video::VideoFormat::I420 => PixelFormat::I420,
            gst_video::VideoFormat::Y42b => PixelFormat::Y42b,
            gst_video::VideoFormat::Y444 => PixelFormat::Y444,
            gst_video::VideoFormat::Nv12 => PixelFormat::Nv12,
            gst_video::VideoFormat::Gray8 => PixelFormat::Gray8,
            other => return Err(format!("a frame has the format {other}, which nothing here reads")),
        };
        let buffer = sample.buffer_owned().ok_or("a frame came without its pixels")?;
        let running = running_time(sample, &buffer);
        let age = running
            .and_then(|pts| Some(sink.current_running_time()?.saturating_sub(pts).nseconds()))
            .map(Duration::from_nanos);
        let picture = gst_video::VideoFrame::from_buffer_readable(buffer, &info)
            .map_err(|_| "a frame's buffer cannot be read")?;
        if picture.plane_stride().iter().any(|&stride| stride < 0) {
            return Err("a frame is stored bottom-up".to_owned());
        }
        Ok(Self {
            picture,
            format,
            pts_ns: running.map(gst::ClockTime::nseconds),
            age,
            rtp_changes_count: times.and_then(|times| times.rtp_changes_count),
            capture_unix_ns: times
                .zip(running)
                .and_then(|(times, pts)| times.capture_clock.unix_ns(pts.nseconds())),
        })
    }

    /// Width in pixels.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.picture.width()
    }

    /// Height in pixels.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.picture.height()
    }

    /// How the samples lie in memory.
    #[must_use]
    pub fn format(&self) -> PixelFormat {
        self.format
    }

    /// Presentation time since the pipeline began (GStreamer's running time), in nanoseconds.
    #[must_use]
    pub fn pts_ns(&self) -> Option<u64> {
        self.pts_ns
    }

    /// How long it is shown, where the stream says so.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        self.picture.buffer().duration().map(|duration| Duration::from_nanos(duration.nseconds()))
    }

    /// How old it was when it came out of the pipeline. For a network camera: since its packets arrived in
    /// this process, so jitter buffer and decoder are in it; for a V4L2 camera: since it was captured.
    /// Means nothing for a file. Added to the time since the callback it is the frame's age.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.age
    }

    /// How often the timestamp of a network camera's packets had changed when this frame came out of the
    /// decoder; `None` for other sources. It moves only when the camera's own time does, while
    /// [`Frame::pts_ns`] runs on: the jitter buffer and the decoder make timestamps up.
    #[must_use]
    pub fn rtp_changes_count(&self) -> Option<u64> {
        self.rtp_changes_count
    }

    /// When the camera captured it, by the camera's own clock (RTCP sender reports), in nanoseconds since
    /// 1970. `None` until the camera has told, and for sources that never do.
    #[must_use]
    pub fn capture_unix_ns(&self) -> Option<i64> {
        self.capture_unix_ns
    }

    /// The colour matrix, from the caps; what GStreamer assumes where the stream is silent: BT.601 up to
    /// 576 lines, BT.709 above. BT.2020 is read as BT.709, its nearest.
    #[must_use]
    pub fn matrix(&self) -> Matrix {
        use gst_video::VideoColorMatrix as M;
        match self.picture.info().colorimetry().matrix() {
            M::Bt709 | M::Bt2020 | M::Smpte240m => Matrix::Bt709,
            M::Bt601 | M::Fcc => Matrix::Bt601,
            _ if self.height() > 576 => Matrix::Bt709,
            _ => Matrix::Bt601,
        }
    }

    /// The code range, from the caps; limited where the stream is silent.
    #[must_use]
    pub fn range(&self) -> Range {
        match self.picture.info().colorimetry().range() {
            gst_video::VideoColorRange::Range0_255 => Range::Full,
            _ => Range::Limited,
        }
    }

    /// The picture, borrowed.
    #[must_use]
    pub fn picture(&self) -> Picture<'_> {
        let plane = |index: u32| Plane {
            // Indices below are planes that the format has, so the error case cannot occur; an empty
            // plane would be refused by whoever checks its size.
            data: self.picture.plane_data(index).unwrap_or_default(),
            stride_bytes: usize::try_from(self.picture.plane_stride()[index as usize]).unwrap_or_default(),
        };
        let planar = |sub_x, sub_y| Layout::Planar { y: plane(0), u: plane(1), v: plane(2), sub_x, sub_y };
        let layout = match self.format {
            PixelFormat::I420 => planar(1, 1),
            PixelFormat::Y42b => planar(1, 0),
            PixelFormat::Y444 => planar(0, 0),
            PixelFormat::Nv12 => Layout::Nv12 { y: plane(0), uv: plane(1) },
            PixelFormat::Gray8 => Layout::Gray { y: plane(0) },
        };
        Picture {
            width: self.width(),
            height: self.height(),
            layout,
            matrix: self.matrix(),
            range: self.range(),
        }
    }
}

/// The buffer's time on the pipeline's own scale, which begins near 0 and never jumps back.
fn running_time(sample: &gst::Sample, buffer: &gst::BufferRef) -> Option<gst::ClockTime> {
    let pts = buffer.pts()?;
    match sample.segment().and_then(|segment| segment.downcast_ref::<gst::ClockTime>()) {
        Some(segment) => segment.to_running_time(pts).or(Some(pts)),
        None => Some(pts),
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("width", &self.width())
            .field("height", &self.height())
            .field("format", &self.format)
            .field("pts_ns", &self.pts_ns)
            .finish_non_exhaustive()
    }
}
