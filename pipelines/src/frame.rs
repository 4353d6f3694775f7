//! A decoded picture, where the decoder left it: in system memory or on the GPU.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;
use gstreamer_video::prelude::*;
use watchpost_cuda::DevicePicture;
use watchpost_picture::{Layout, Matrix, Picture, Plane, Range};

use crate::census::Ticket;
use crate::device_frame::DeviceFrame;
use crate::gst_cuda::GpuContext;
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
    /// As NV12, with the ten bits of a sample in the upper bits of a little-endian 16-bit word.
    P010,
    /// Luma only.
    Gray8,
    /// Red, green and blue of a pixel behind each other; single pictures only.
    Rgb,
}

impl PixelFormat {
    fn of(format: gst_video::VideoFormat) -> Option<Self> {
        Some(match format {
            gst_video::VideoFormat::I420 => Self::I420,
            gst_video::VideoFormat::Y42b => Self::Y42b,
            gst_video::VideoFormat::Y444 => Self::Y444,
            gst_video::VideoFormat::Nv12 => Self::Nv12,
            gst_video::VideoFormat::P01010le => Self::P010,
            gst_video::VideoFormat::Gray8 => Self::Gray8,
            gst_video::VideoFormat::Rgb => Self::Rgb,
            _ => return None,
        })
    }
}

impl fmt::Display for PixelFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::I420 => "I420",
            Self::Y42b => "Y42B",
            Self::Y444 => "Y444",
            Self::Nv12 => "NV12",
            Self::P010 => "P010",
            Self::Gray8 => "GRAY8",
            Self::Rgb => "RGB",
        })
    }
}

/// The pixels of a frame, borrowed.
#[derive(Debug)]
pub enum Pixels<'a> {
    /// In system memory.
    Host(Picture<'a>),
    /// In the memory of the GPU that the spec named.
    Device(DevicePicture<'a>),
}

/// What of its pipeline a frame needs to know.
#[derive(Clone, Copy)]
pub(crate) struct Origin<'a> {
    /// What a network camera says of its own time.
    pub(crate) times: Option<Times<'a>>,
    /// The context that device memory has to be in.
    pub(crate) gpu: Option<&'a Arc<GpuContext>>,
    /// The stream is JPEG, and its decoder does not say what that means for the colours.
    pub(crate) is_jfif: bool,
    /// A GPU or video unit decodes.
    pub(crate) is_hardware: bool,
    /// Why the CPU decodes although a GPU or a video unit could be used.
    pub(crate) why_not_hardware: Option<&'a str>,
}

/// A decoded picture. It keeps the decoder's buffer until it is dropped: drop it soon, a hardware decoder has
/// few of them.
pub struct Frame {
    mapped: Mapped,
    format: PixelFormat,
    matrix: Matrix,
    range: Range,
    pts_ns: Option<u64>,
    duration: Option<Duration>,
    age: Option<Duration>,
    since_arrival: Option<Duration>,
    rtp_changes_count: Option<u64>,
    capture_unix_ns: Option<i64>,
    _ticket: Ticket,
}

/// A buffer, mapped where its memory is.
#[allow(
    clippy::large_enum_variant,
    reason = "both are about as large; a box would be an allocation per frame"
)]
enum Mapped {
    Host(gst_video::VideoFrame<gst_video::video_frame::Readable>),
    Device(DeviceFrame),
}

impl Frame {
    /// Maps the sample that just came out of `sink`.
    pub(crate) fn new(
        sample: &gst::Sample,
        sink: &gst_app::AppSink,
        origin: Origin<'_>,
    ) -> Result<Self, String> {
        let caps = sample.caps().ok_or("a frame came without its format")?;
        let info = gst_video::VideoInfo::from_caps(caps)
            .map_err(|_| format!("a frame has a format that is not video: {caps}"))?;
        let format = PixelFormat::of(info.format())
            .ok_or_else(|| format!("a frame has the format {}, which nothing here reads", info.format()))?;
        let buffer = sample.buffer_owned().ok_or("a frame came without its pixels")?;
        let running = running_time(sample, &buffer);
        let times = origin.times;
        let now = sink.current_running_time();
        let age_ns = running.zip(now).map(|(pts, now)| now.saturating_sub(pts).nseconds());
        let arrived = times.zip(buffer.pts()).and_then(|(times, pts)| times.rtp_times.arrived_at(pts));
        let since_arrival_ns = arrived.zip(now).map(|(arrived, now)| now.saturating_sub(arrived).nseconds());
        let duration = buffer.duration().map(Into::into);
        let mapped = match origin.gpu.filter(|gpu| gpu.is_cuda(buffer.peek_memory(0))) {
            Some(gpu) => Mapped::Device(DeviceFrame::map(buffer, &info, gpu)?),
            None => Mapped::Host(map_host(buffer, &info)?),
        };
        Ok(Self {
            mapped,
            format,
            matrix: if origin.is_jfif { Matrix::Bt601 } else { matrix(&info) },
            range: if origin.is_jfif { Range::Full } else { range(&info) },
            pts_ns: running.map(gst::ClockTime::nseconds),
            duration,
            age: age_ns.map(Duration::from_nanos),
            since_arrival: since_arrival_ns.map(Duration::from_nanos),
            rtp_changes_count: times.and_then(|times| times.rtp_times.changes_count()),
            capture_unix_ns: times
                .zip(running)
                .and_then(|(times, pts)| times.capture_clock.unix_ns(pts.nseconds())),
            _ticket: Ticket::of_frame(),
        })
    }

    /// Width in pixels.
    #[must_use]
    pub fn width(&self) -> u32 {
        match &self.mapped {
            Mapped::Host(frame) => frame.width(),
            Mapped::Device(frame) => frame.width(),
        }
    }

    /// Height in pixels.
    #[must_use]
    pub fn height(&self) -> u32 {
        match &self.mapped {
            Mapped::Host(frame) => frame.height(),
            Mapped::Device(frame) => frame.height(),
        }
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
        self.duration
    }

    /// How old it was when it came out of the pipeline, by its presentation time. For a network camera: since it would have
    /// arrived in this process had it been on its way for as long as the fastest of late, so its delay on the way, jitter buffer
    /// and decoder are in it; for a V4L2 camera: since it was captured. Means nothing for a file. Added to the time
    /// since the callback it is the frame's age.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.age
    }

    /// How long ago the first packet of a network camera's frame had arrived in this process when the frame came out of the
    /// pipeline; `None` for other sources, and for frames that were kept for long before they were decoded.
    #[must_use]
    pub fn since_arrival(&self) -> Option<Duration> {
        self.since_arrival
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
        self.matrix
    }

    /// The code range, from the caps; limited where the stream is silent.
    #[must_use]
    pub fn range(&self) -> Range {
        self.range
    }

    /// The pixels, where they are.
    #[must_use]
    pub fn pixels(&self) -> Pixels<'_> {
        match &self.mapped {
            Mapped::Host(frame) => Pixels::Host(self.host_picture(frame)),
            Mapped::Device(frame) => Pixels::Device(frame.picture(self.format, self.matrix, self.range)),
        }
    }

    /// The picture, borrowed; `None` if it is on the GPU.
    #[must_use]
    pub fn picture(&self) -> Option<Picture<'_>> {
        match &self.mapped {
            Mapped::Host(frame) => Some(self.host_picture(frame)),
            Mapped::Device(_) => None,
        }
    }

    fn host_picture<'a>(
        &'a self,
        frame: &'a gst_video::VideoFrame<gst_video::video_frame::Readable>,
    ) -> Picture<'a> {
        let plane = |index: u32| Plane {
            // Indices below are planes that the format has, so the error case cannot occur; an empty
            // plane would be refused by whoever checks its size.
            data: frame.plane_data(index).unwrap_or_default(),
            stride_bytes: usize::try_from(frame.plane_stride()[index as usize]).unwrap_or_default(),
        };
        let planar = |sub_x, sub_y| Layout::Planar { y: plane(0), u: plane(1), v: plane(2), sub_x, sub_y };
        let layout = match self.format {
            PixelFormat::I420 => planar(1, 1),
            PixelFormat::Y42b => planar(1, 0),
            PixelFormat::Y444 => planar(0, 0),
            // P010 is only ever on the GPU: the sink takes it from nowhere else.
            PixelFormat::Nv12 | PixelFormat::P010 => Layout::Nv12 { y: plane(0), uv: plane(1) },
            PixelFormat::Gray8 => Layout::Gray { y: plane(0) },
            PixelFormat::Rgb => Layout::Rgb { rgb: plane(0) },
        };
        Picture { width: self.width(), height: self.height(), layout, matrix: self.matrix, range: self.range }
    }
}

fn map_host(
    buffer: gst::Buffer,
    info: &gst_video::VideoInfo,
) -> Result<gst_video::VideoFrame<gst_video::video_frame::Readable>, String> {
    let frame = gst_video::VideoFrame::from_buffer_readable(buffer, info)
        .map_err(|_| "a frame's buffer cannot be read")?;
    if frame.plane_stride().iter().any(|&stride| stride < 0) {
        return Err("a frame is stored bottom-up".to_owned());
    }
    Ok(frame)
}

fn matrix(info: &gst_video::VideoInfo) -> Matrix {
    use gst_video::VideoColorMatrix as M;
    match info.colorimetry().matrix() {
        M::Bt709 | M::Bt2020 | M::Smpte240m => Matrix::Bt709,
        M::Bt601 | M::Fcc => Matrix::Bt601,
        _ if info.height() > 576 => Matrix::Bt709,
        _ => Matrix::Bt601,
    }
}

fn range(info: &gst_video::VideoInfo) -> Range {
    match info.colorimetry().range() {
        gst_video::VideoColorRange::Range0_255 => Range::Full,
        _ => Range::Limited,
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
            .field("on_gpu", &matches!(self.mapped, Mapped::Device(_)))
            .field("pts_ns", &self.pts_ns)
            .finish_non_exhaustive()
    }
}
