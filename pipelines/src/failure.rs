//! What went wrong, in one sentence that a user can act on.

use std::fmt;

use crate::scrub::scrub;

/// A kind of failure; the daemon decides and counts by it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// The host does not answer, has no route, or its name cannot be resolved.
    Unreachable,
    /// The host answers, but nothing listens on that port.
    Refused,
    /// User or password are missing or wrong.
    Unauthorized,
    /// No such stream, file or device.
    NotFound,
    /// The device is in use.
    Busy,
    /// We are not allowed to open the file or device.
    Permission,
    /// The certificate of `rtsps://` is not to be trusted.
    Certificate,
    /// Nothing here can decode this.
    UnsupportedCodec,
    /// The source has no video.
    NoVideo,
    /// A GStreamer element is not installed.
    MissingElement {
        /// The element.
        element: String,
        /// The Debian package that has it.
        package: String,
    },
    /// A decoder of the GPU or video unit is not there although it was asked for, or it is there and failed
    /// before its first picture. The CPU may well decode the stream.
    HardwareDecoder,
    /// Its pictures are larger than any that are decoded here.
    PictureTooLarge,
    /// The data is damaged or not what it claims to be.
    Decode,
    /// The source fell silent.
    Timeout,
    /// The source closed the connection, or it broke.
    Closed,
    /// What answers does not speak RTSP as it should.
    Protocol,
    /// Anything else; the message has GStreamer's words.
    Other,
}

impl FailureClass {
    /// A stable name for logs and records: `"unauthorized"`, `"missing_element"`, …
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not_found",
            Self::Busy => "busy",
            Self::Permission => "permission",
            Self::Certificate => "certificate",
            Self::UnsupportedCodec => "unsupported_codec",
            Self::NoVideo => "no_video",
            Self::MissingElement { .. } => "missing_element",
            Self::HardwareDecoder => "hardware_decoder",
            Self::PictureTooLarge => "picture_too_large",
            Self::Decode => "decode",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Protocol => "protocol",
            Self::Other => "other",
        }
    }
}

/// A failure of one source. The message holds no password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which kind.
    pub class: FailureClass,
    /// One sentence: what is wrong and what to do.
    pub message: String,
}

impl Failure {
    /// Scrubs `message`.
    pub(crate) fn new(class: FailureClass, message: impl AsRef<str>) -> Self {
        Self { class, message: scrub(message.as_ref()) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// GStreamer itself does not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("GStreamer cannot be initialised: {reason}")]
pub struct InitError {
    /// GStreamer's words.
    pub reason: String,
}

/// Why a pipeline did not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// GStreamer itself does not start.
    #[error(transparent)]
    Init(#[from] InitError),
    /// The launch template cannot be used.
    #[error("the pipeline template cannot be used: {reason}")]
    Template {
        /// What is wrong with it and what it needs.
        reason: String,
    },
    /// The source cannot be opened here.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl StartError {
    /// The same as a [`Failure`], for whoever treats failures at and after the start alike.
    #[must_use]
    pub fn into_failure(self) -> Failure {
        match self {
            Self::Failed(failure) => failure,
            other => Failure::new(FailureClass::Other, other.to_string()),
        }
    }
}
