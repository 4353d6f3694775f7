//! A real RTSP camera, on loopback if not told otherwise, that can be told to misbehave.
//!
//! A [`TestCamera`] is a complete camera: pictures are rendered (or read from a clip) at real-time pace,
//! encoded, and served by an RTSP server. Clients do not reach that server directly:
//!
//! ```text
//! feeder ─► encoder ─► payloader ─► RTSP server ─► relay ─► client
//!   │                     │             │            │
//!   frozen picture        RTP headers   401,         connections: closed, swallowed, silent, garbled;
//!   change of size        and payload   codec        packets that break RFC 3550, false reports
//! ```
//!
//! Each [`Fault`] is made at the stage where a real camera would show it. RTP over UDP bypasses the relay;
//! the documentation of each fault says what is left of it there. A camera on another address than 127.0.0.1
//! has no relay: what its clients suffer there is made by the network.
//!
//! ```no_run
//! use watchpost_testcam::{CameraOptions, Fault, TestCamera};
//! let camera = TestCamera::start(CameraOptions::default())?;
//! println!("{}", camera.url());
//! camera.inject(Fault::Vanish)?;
//! camera.heal();
//! # Ok::<(), watchpost_testcam::TestCameraError>(())
//! ```

#![forbid(unsafe_code)]

mod camera;
mod damage;
mod fault;
mod feeder;
mod media;
mod noise;
mod options;
mod pace;
mod packets;
mod parameter_sets;
mod picture;
mod relay;
mod server;

pub use camera::{CameraStats, TestCamera};
pub use fault::{FAULTS, Fault, parse_duration, parse_size};
pub use options::{CameraOptions, Codec, Credentials, Picture, Tls};
pub use pace::unix_ns;

/// Why a test camera could not start or not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum TestCameraError {
    /// An option is out of its documented range.
    #[error("the camera's options are wrong: {0}")]
    Options(String),
    /// GStreamer could not be initialised, or lacks an element.
    #[error("GStreamer cannot serve this camera: {0}")]
    GStreamer(String),
    /// The TCP port is taken or not allowed.
    #[error("port {port} cannot be opened: {source}; choose another one, or 0 for any")]
    Port {
        /// The port that was asked for.
        port: u16,
        /// What the system said.
        source: std::io::Error,
    },
    /// The clip does not exist or has no video that can be decoded.
    #[error("the clip {path} cannot be played: {reason}")]
    Clip {
        /// The clip.
        path: std::path::PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate or its key cannot be used.
    #[error("the TLS certificate cannot be used: {0}")]
    Tls(String),
    /// The frame log cannot be written.
    #[error("the frame log {path} cannot be written: {source}")]
    FrameLog {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}
