//! What to open.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use watchpost_cuda::Gpu;

use crate::scrub::scrub;

/// What to open and how. [`Spec::new`] fills in what a camera wants.
#[derive(Clone)]
pub struct Spec {
    /// Which source.
    pub kind: SourceKind,
    /// RTSP user and password; set as properties, never part of a URL.
    pub credentials: Option<Credentials>,
    /// RTSP lower transport. There is no silent fallback to the other one.
    pub transport: Transport,
    /// Check the certificate of `rtsps://`.
    pub tls_verify: bool,
    /// PEM file with the authorities to trust for `rtsps://` instead of the system's.
    pub tls_ca_file: Option<PathBuf>,
    /// RTSP jitter buffer; every frame is late by about this much.
    pub latency: Duration,
    /// Who decodes.
    pub decoder: DecoderChoice,
    /// The GPU whose memory frames may be in, for whoever can read them there. `None`: all frames are in system
    /// memory, and no NVIDIA GPU decodes.
    pub gpu: Option<Gpu>,
    /// Threads of the software decoder, at least 1.
    pub decode_threads: usize,
    /// Replaces the launch template of this source kind; see `launch/README.md`.
    pub template: Option<String>,
    /// Most bytes of coded pictures that are kept for a receiver that answers [`Judgement::Keep`](crate::Judgement::Keep).
    pub kept_bytes_max: usize,
    /// A file plays at its own pace instead of as fast as it decodes. Live sources always do.
    pub realtime: bool,
}

impl Spec {
    /// TCP, certificates checked, 200 ms of jitter buffer, one decoder thread, in real time.
    #[must_use]
    pub fn new(kind: SourceKind) -> Self {
        Self {
            kind,
            credentials: None,
            transport: Transport::Tcp,
            tls_verify: true,
            tls_ca_file: None,
            latency: Duration::from_millis(200),
            decoder: DecoderChoice::Auto,
            gpu: None,
            decode_threads: 1,
            template: None,
            kept_bytes_max: 0,
            realtime: true,
        }
    }
}

impl Spec {
    /// Who decodes, where that depends on the kind of source: a GPU's decoder takes longer to be made than the CPU
    /// takes for one picture, and few of them know every kind of JPEG.
    pub(crate) fn decoder_for_kind(&self) -> DecoderChoice {
        match (&self.kind, &self.decoder) {
            (SourceKind::Image { .. }, DecoderChoice::Auto) => DecoderChoice::Software,
            (_, decoder) => decoder.clone(),
        }
    }
}

impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spec")
            .field("kind", &self.kind)
            .field("credentials", &self.credentials)
            .field("transport", &self.transport)
            .field("tls_verify", &self.tls_verify)
            .field("tls_ca_file", &self.tls_ca_file)
            .field("latency", &self.latency)
            .field("decoder", &self.decoder)
            .field("gpu", &self.gpu.as_ref().map(|gpu| gpu.info().index))
            .field("decode_threads", &self.decode_threads)
            .field("template", &self.template.as_deref().map(scrub))
            .field("kept_bytes_max", &self.kept_bytes_max)
            .field("realtime", &self.realtime)
            .finish()
    }
}

/// Who decodes a stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DecoderChoice {
    /// The GPU or the video unit (VA-API, oneVPL, Rockchip's, V4L2) where one is there for the codec and opens, else
    /// the CPU. A hardware decoder that opens and does not work is a failure of class [`HardwareDecoder`](crate::FailureClass::HardwareDecoder):
    /// the next opening should ask for `Software`.
    #[default]
    Auto,
    /// The CPU.
    Software,
    /// The GPU or the video unit, and never the CPU.
    Hardware,
    /// The GStreamer element of this name and no other.
    Element(String),
}

/// Where pictures come from.
#[derive(Clone, PartialEq, Eq)]
pub enum SourceKind {
    /// A network camera.
    Rtsp {
        /// `rtsp://…` or `rtsps://…`, without user and password.
        url: String,
    },
    /// A USB camera or capture card.
    V4l2 {
        /// `/dev/video0` or a link to it, such as those in `/dev/v4l/by-id`.
        device: PathBuf,
    },
    /// A camera on the board's own connector.
    Csi {
        /// Index of the sensor, from 0.
        sensor_index: u32,
    },
    /// A video file.
    File {
        /// The file.
        path: PathBuf,
    },
    /// A single picture: one frame, then the end.
    Image {
        /// The file.
        path: PathBuf,
    },
}

impl fmt::Debug for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // It should hold no password; if it does, it is not printed.
            Self::Rtsp { url } => f.debug_struct("Rtsp").field("url", &scrub(url)).finish(),
            Self::V4l2 { device } => f.debug_struct("V4l2").field("device", device).finish(),
            Self::Csi { sensor_index } => f.debug_struct("Csi").field("sensor_index", sensor_index).finish(),
            Self::File { path } => f.debug_struct("File").field("path", path).finish(),
            Self::Image { path } => f.debug_struct("Image").field("path", path).finish(),
        }
    }
}

/// RTSP user and password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password; never printed.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).field("password", &"***").finish()
    }
}

/// RTSP lower transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Interleaved in the RTSP connection.
    Tcp,
    /// RTP over UDP.
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}
