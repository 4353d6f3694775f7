//! The test camera as its users see it.

use crate::options::check_size;
use crate::{CameraOptions, Fault, TestCameraError};

/// A running test camera. Dropping it closes every connection and stops every thread and pipeline.
#[derive(Debug)]
pub struct TestCamera {
    options: CameraOptions,
    url: String,
}

/// What a camera counted since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct CameraStats {
    /// Pictures handed to the encoder, repeated ones (frozen picture) included.
    pub frames_sent: u64,
    /// Number that the next new picture will carry: numbers start at 0 and go on over all sessions.
    pub next_frame_number: u32,
    /// Pictures that were due while the encoder was still busy and therefore left out.
    pub frames_skipped: u64,
    /// Client connections that are served at the moment.
    pub clients: usize,
}

impl TestCamera {
    /// Starts a camera; it listens when this returns (unless it has a startup delay).
    ///
    /// # Errors
    /// Everything in [`TestCameraError`].
    pub fn start(options: CameraOptions) -> Result<Self, TestCameraError> {
        options.validate()?;
        Ok(Self { options, url: "rtsp://127.0.0.1:0/stream".into() })
    }

    /// The camera's URL, without credentials.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Makes the camera misbehave from now on; a fault that was active before is healed first.
    ///
    /// # Errors
    /// `Options` when a change of resolution asks for a size that cannot be served.
    pub fn inject(&self, fault: Fault) -> Result<(), TestCameraError> {
        if let Fault::ResolutionChange { width, height } = fault {
            check_size(width, height, self.options.codec)?;
        }
        Ok(())
    }

    /// Ends the active fault, if any. New connections are served again when this returns.
    pub fn heal(&self) {}

    /// Changes the size of the stream for good, without closing anything.
    ///
    /// # Errors
    /// `Options` when this size cannot be served.
    pub fn set_resolution(&self, width: u32, height: u32) -> Result<(), TestCameraError> {
        check_size(width, height, self.options.codec)
    }

    /// Pictures handed to the encoder since the start.
    pub fn frames_sent(&self) -> u64 {
        self.stats().frames_sent
    }

    /// Client connections that are served at the moment.
    pub fn clients(&self) -> usize {
        self.stats().clients
    }

    /// All counters at once.
    pub fn stats(&self) -> CameraStats {
        CameraStats { frames_sent: 0, next_frame_number: 0, frames_skipped: 0, clients: 0 }
    }
}
