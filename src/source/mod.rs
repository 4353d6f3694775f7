//! Where pictures come from: the `Source` seam and its adapters.
//!
//! A [`Source`] is what a camera's configuration names. Opening it gives an [`Opening`], which delivers
//! into a [`Receiver`] from threads of its own until it is dropped. An opening never waits for its
//! receiver; a receiver returns at once.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::camera::Reason;
mod gst;
mod lookup;
mod memory;
mod scene;

pub use gst::GstSource;
pub(crate) use gst::fault;
pub use lookup::Lookup;
pub use memory::{MemoryFrame, MemoryPicture};
pub use scene::SceneSource;
pub use watchpost_picture::{Layout, Matrix, Picture, PictureError, Plane, Range};
pub use watchpost_pipelines::{Gpu, Judgement, PictureKind, Pixels};

/// Which clock a frame's wall time comes from. The names are those of the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TsSource {
    /// The camera's own clock, from RTCP sender reports.
    RtcpSr,
    /// Our clock when the frame arrived.
    Arrival,
    /// The driver's capture time.
    #[serde(rename = "v4l2")]
    V4l2,
    /// Position in a file.
    File,
}

/// A decoded frame, still in the memory of whoever decoded it. Dropping it gives that memory back.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "a box would be an allocation per frame")]
pub enum Decoded {
    /// From a GStreamer pipeline.
    Gst(watchpost_pipelines::Frame),
    /// From this process's own memory: scenes, replays, tests.
    Memory(MemoryFrame),
}

impl Decoded {
    /// The pixels, where they are.
    pub fn pixels(&self) -> Pixels<'_> {
        match self {
            Self::Gst(frame) => frame.pixels(),
            Self::Memory(frame) => Pixels::Host(frame.picture()),
        }
    }

    /// The picture, borrowed; `None` if it is on the GPU.
    pub fn picture(&self) -> Option<Picture<'_>> {
        match self {
            Self::Gst(frame) => frame.picture(),
            Self::Memory(frame) => Some(frame.picture()),
        }
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (u32, u32) {
        match self {
            Self::Gst(frame) => (frame.width(), frame.height()),
            Self::Memory(frame) => (frame.picture().width, frame.picture().height),
        }
    }

    /// A number that moves with the source's own timestamps and stands still when they do.
    pub fn progress_mark(&self) -> Option<u64> {
        match self {
            Self::Gst(frame) => frame.rtp_changes_count().or(frame.pts_ns()),
            Self::Memory(frame) => Some(frame.pts_ns()),
        }
    }

    /// Presentation time in the stream, in nanoseconds.
    pub fn pts_ns(&self) -> Option<u64> {
        match self {
            Self::Gst(frame) => frame.pts_ns(),
            Self::Memory(frame) => Some(frame.pts_ns()),
        }
    }
}

/// A frame and when it came.
#[derive(Debug)]
pub struct Arrived {
    /// The frame.
    pub frame: Decoded,
    /// Its place on the camera's own timeline, on our monotonic clock: when it would have arrived had it been on its way for as
    /// long as the fastest. Rates and ages count from here, so that they do not follow a network's jitter.
    pub at: Instant,
    /// When its first packet arrived in this process, on the monotonic clock.
    pub received_at: Instant,
    /// When it was taken, or arrived, on the wall clock.
    pub wall: SystemTime,
    /// Which of the two `wall` is.
    pub ts_source: TsSource,
}

/// Why an opening failed or a stream broke, in words that carry no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The kind, as records and metrics name it.
    pub reason: Reason,
    /// One sentence: what happened and, where there is something to do, what.
    pub detail: String,
}

/// How far an opening has come that has not given a frame yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Stage {
    /// It has begun, and nothing more is known.
    #[default]
    Begun,
    /// The name of the camera is being looked up.
    LookingUp,
    /// A connection is being made.
    Connecting,
    /// The camera is being asked for its stream.
    Asking,
    /// The camera has agreed to send.
    Awaiting,
}

impl Stage {
    /// All of them, each at its number.
    pub const ALL: [Self; 5] = [Self::Begun, Self::LookingUp, Self::Connecting, Self::Asking, Self::Awaiting];

    /// What keeps an opening at this stage, and what to do; empty where nothing can be said.
    pub fn as_words(self) -> &'static str {
        match self {
            Self::Begun => "",
            Self::LookingUp => {
                "the name servers do not answer for the camera's name; check the DNS servers and the network"
            }
            Self::Connecting => {
                "nothing answers at the camera's address; check the address, and the camera's power and cable"
            }
            Self::Asking => "the camera takes the connection and does not answer requests; it may have hung",
            Self::Awaiting => {
                "the camera has agreed to send, but no picture has come; it may have as many viewers as it can serve, or a \
                 firewall keeps UDP away"
            }
        }
    }
}

/// What an opening delivers into. Every call returns at once.
pub trait Receiver: Send + Sync {
    /// A decoded frame.
    fn frame(&self, arrived: Arrived);
    /// The stream is over or broken; nothing more will come. [`Reason::Ended`] is an end in order.
    fn fault(&self, fault: Fault);
    /// Whether the next coded picture, of this kind, is to be decoded; asked for each, in order. Sources that cannot
    /// tell them apart need not ask.
    fn wants(&self, _at: Instant, _kind: PictureKind) -> bool {
        true
    }
    /// What becomes of the next coded picture, of this kind and size; asked for each, in order, in place of [`Self::wants`].
    fn judge(&self, at: Instant, kind: PictureKind, _size_bytes: usize) -> Judgement {
        if self.wants(at, kind) { Judgement::Decode } else { Judgement::Leave }
    }
    /// Whether a frame that came now would not take the place of another. Asked while what was kept is decoded.
    fn is_ready(&self) -> bool {
        true
    }
    /// A picture was kept undecoded. `mark` is what [`Decoded::progress_mark`] would have been.
    fn kept(&self, _at: Instant, _mark: Option<u64>) {}
    /// All that was kept has been decoded.
    fn caught_up(&self) {}
    /// Whether some pictures are left out at present.
    fn leaves_out(&self) -> bool {
        false
    }
    /// The opening has come so far.
    fn stage(&self, _stage: Stage) {}
    /// A picture was skipped undecoded. `mark` is what [`Decoded::progress_mark`] would have been.
    fn skipped(&self, _at: Instant, _mark: Option<u64>) {}
}

/// A running opening. Dropping it tears it down, on the dropping thread, and may take a while.
pub trait Opening: Send {}

/// What a camera's configuration names.
pub trait Source: Send + Sync {
    /// Opens it. Returns as soon as the opening is under way: the first frame comes later.
    ///
    /// # Errors
    /// What can be said at once: a missing element, a broken template, a device that is not there.
    fn open(&self, generation: u64, receiver: Arc<dyn Receiver>) -> Result<Box<dyn Opening>, Fault>;

    /// What has to be found out before it can be opened.
    fn lookup(&self) -> Option<&Lookup> {
        None
    }

    /// From the next opening on frames may be in this GPU's memory; `None`: in system memory only. A source
    /// whose frames never are on a GPU does nothing.
    fn use_gpu(&self, _gpu: Option<&Gpu>) {}
}
