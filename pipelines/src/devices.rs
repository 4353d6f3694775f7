//! Which cameras and decoders this box has.

use std::path::PathBuf;

/// What is on this box.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeviceReport {
    /// V4L2 cameras, by device node.
    pub cameras: Vec<Camera>,
    /// Every decoder that watchpost knows, in order of preference for each codec.
    pub decoders: Vec<DecoderEntry>,
    /// GStreamer elements that are not installed.
    pub missing: Vec<MissingEntry>,
}

/// A V4L2 camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Camera {
    /// What it calls itself.
    pub name: String,
    /// The device node, for example `/dev/video0`.
    pub device: PathBuf,
    /// The link that stays the same when it is plugged in elsewhere, where udev makes one.
    pub by_id: Option<PathBuf>,
    /// What it sends, for example `"image/jpeg 1920x1080"`.
    pub formats: Vec<String>,
}

/// A decoder element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecoderEntry {
    /// `"H.264"`, …
    pub codec: String,
    /// The GStreamer element.
    pub element: String,
    /// It is installed.
    pub available: bool,
    /// It needs a GPU or a video unit.
    pub hardware: bool,
}

/// An element that is not installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingEntry {
    /// The GStreamer element.
    pub element: String,
    /// The Debian package that has it.
    pub package: String,
    /// What does not work without it.
    pub needed_for: String,
}

/// Looks at this box.
#[must_use]
pub fn devices() -> DeviceReport {
    DeviceReport::default()
}
