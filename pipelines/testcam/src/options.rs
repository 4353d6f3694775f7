//! What a test camera is told before it starts.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::TestCameraError;

/// Everything a test camera needs to know before it starts. `Default` is a 640x360 scene at 15 frames/s as
/// H.264 on any free port, without authentication.
#[derive(Debug, Clone)]
pub struct CameraOptions {
    /// What the camera films.
    pub picture: Picture,
    /// How the pictures are encoded.
    pub codec: Codec,
    /// Target bit rate in kbit/s, 16 to 100 000. MJPEG has no rate control: there it is ignored.
    pub bitrate_kbps: u32,
    /// Distance between keyframes in frames, 1 to 600: a client that joins late waits up to this long for a
    /// picture. Ignored for MJPEG, where every frame is a keyframe.
    pub gop: u32,
    /// Has the H.264 and H.265 encoders use B-frames: pictures then arrive out of presentation order and a
    /// few frames late. In H.264 they are two of three, nothing refers to them, and the profile is High.
    pub b_frames: bool,
    /// H.264 in the High profile, as most cameras send it (CABAC, 8x8 transforms: it costs more to decode), instead of the
    /// Constrained Baseline profile.
    pub high_profile: bool,
    /// Leaves Nagle's algorithm on, as every socket has it that nobody told otherwise: what is left of a picture waits until the
    /// client has acknowledged what was sent before. On 127.0.0.1 only.
    pub nagle: bool,
    /// What a client must present (RTSP digest authentication). `None` lets everybody in.
    pub credentials: Option<Credentials>,
    /// The address on which the camera listens. On 127.0.0.1 it stands behind its relay; on any other one clients
    /// reach the RTSP server itself, over UDP too, and the faults that the relay makes are not to be had: there
    /// the network is what misbehaves.
    pub address: Ipv4Addr,
    /// TCP port on that address; 0 takes any free one.
    pub port: u16,
    /// Serve `rtsps://` instead of `rtsp://`.
    pub tls: Option<Tls>,
    /// How long after the start the port refuses connections, like a camera that is still booting.
    pub startup_delay: Duration,
    /// Where to write one line `number unix_ns` for every picture at the moment it is handed to the encoder.
    /// The file is created or truncated, flushed on every line, and stops growing at 64 MiB.
    pub frame_log: Option<PathBuf>,
    /// RTP timestamp of the first packet of each session's media; random if `None`. Near 2^32 it wraps soon. Sequence
    /// numbers then begin 100 before their own wrap.
    pub first_timestamp: Option<u32>,
}

impl Default for CameraOptions {
    fn default() -> Self {
        Self {
            picture: Picture::Scene { seed: 1, width: 640, height: 360, fps: 15 },
            codec: Codec::H264,
            bitrate_kbps: 1000,
            gop: 15,
            b_frames: false,
            high_profile: false,
            nagle: false,
            credentials: None,
            address: Ipv4Addr::LOCALHOST,
            port: 0,
            tls: None,
            startup_delay: Duration::ZERO,
            frame_log: None,
            first_timestamp: None,
        }
    }
}

impl CameraOptions {
    /// Whether clients reach the camera through its relay.
    pub(crate) fn has_relay(&self) -> bool {
        self.address == Ipv4Addr::LOCALHOST
    }

    /// Checks every number against its documented range.
    pub(crate) fn validate(&self) -> Result<(), TestCameraError> {
        let wrong = |what: String| Err(TestCameraError::Options(what));
        if let Picture::Scene { width, height, fps, .. } = self.picture {
            check_size(width, height, self.codec)?;
            if !(1..=120).contains(&fps) {
                return wrong(format!("fps is {fps}; give 1 to 120 frames per second"));
            }
        }
        if !(16..=100_000).contains(&self.bitrate_kbps) {
            return wrong(format!("bitrate_kbps is {}; give 16 to 100000", self.bitrate_kbps));
        }
        if !(1..=600).contains(&self.gop) {
            return wrong(format!("gop is {}; give a keyframe distance of 1 to 600 frames", self.gop));
        }
        if !self.has_relay() && self.startup_delay > Duration::ZERO {
            return wrong("startup_delay is made by the relay, which cameras on 127.0.0.1 have only".into());
        }
        if !self.has_relay() && self.nagle {
            return wrong("nagle is made by the relay, which cameras on 127.0.0.1 have only".into());
        }
        match &self.credentials {
            Some(c) if c.user.is_empty() => wrong("the user name is empty".into()),
            _ => Ok(()),
        }
    }
}

/// Checks a picture size: width a multiple of 8 and height even (I420 planes without padding), and for MJPEG
/// both multiples of 8 up to 2040, which is what the RTP payload of RFC 2435 can say.
pub(crate) fn check_size(width: u32, height: u32, codec: Codec) -> Result<(), TestCameraError> {
    let wrong = |rule: &str| {
        Err(TestCameraError::Options(format!("a picture of {width}x{height} cannot be served: {rule}")))
    };
    if !(96..=4096).contains(&width) || !(96..=4096).contains(&height) {
        return wrong("give 96 to 4096 pixels each way");
    }
    if !width.is_multiple_of(8) || !height.is_multiple_of(2) {
        return wrong("the width must be a multiple of 8 and the height even");
    }
    if codec == Codec::Mjpeg && (width > 2040 || height > 2040 || !height.is_multiple_of(8)) {
        return wrong("MJPEG over RTP needs multiples of 8 up to 2040 each way");
    }
    Ok(())
}

/// What a test camera films.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Picture {
    /// A procedural scene of `watchpost-scene`, stamped with its frame number, rendered in real time. After
    /// a change of resolution it is the same seed at the new size.
    Scene {
        /// Seed of the scene: the same seed, size and rate give the same pictures.
        seed: u64,
        /// Width in pixels: a multiple of 8, 96 to 4096.
        width: u32,
        /// Height in pixels: even, 96 to 4096.
        height: u32,
        /// Frames per second, 1 to 120.
        fps: u32,
    },
    /// The first video stream of a file, decoded and encoded again at its nominal frame rate and its own
    /// size, scaled down by a few pixels where the width is no multiple of 8 or the height is odd.
    Clip {
        /// Any container and codec that this machine's GStreamer opens.
        path: PathBuf,
        /// Starts again at the end. Without it the stream ends (RTCP BYE) and later sessions start over.
        repeat: bool,
    },
}

/// How the pictures are encoded and packed into RTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// H.264 by x264, RFC 6184.
    H264,
    /// H.265 by x265, RFC 7798.
    H265,
    /// JPEG pictures, RFC 2435.
    Mjpeg,
}

impl FromStr for Codec {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "h264" => Ok(Self::H264),
            "h265" => Ok(Self::H265),
            "mjpeg" => Ok(Self::Mjpeg),
            other => Err(format!("the codec `{other}` is not known; use h264, h265 or mjpeg")),
        }
    }
}

/// A user name and its password. `Debug` hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User name, not empty.
    pub user: String,
    /// Password; may be empty.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Where the certificate of an `rtsps://` camera comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// The certificate and key that are compiled in, self-signed for `localhost` and 127.0.0.1. The key is
    /// public: it protects nothing and is for tests only.
    SelfSigned,
    /// PEM files.
    Files {
        /// Certificate, PEM.
        certificate: PathBuf,
        /// Private key, PEM.
        key: PathBuf,
    },
}
