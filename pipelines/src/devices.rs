//! Which cameras and decoders this box has.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use gstreamer as gst;
use gstreamer::prelude::*;

use watchpost_cuda::Gpu;

use crate::InitError;
use crate::build::NO_GPU;
use crate::choice::{plugin_of, try_one, with_offer};
use crate::gst_cuda::GpuContext;
use crate::plan::{DecoderPlan, plan};
use crate::spec::{DecoderChoice, SourceKind, Spec};
use crate::table::{CODECS, Codec, Decoder, NEEDED, package_of};

/// What is on this box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceReport {
    /// V4L2 cameras, by device node.
    pub cameras: Vec<Camera>,
    /// Every decoder that watchpost knows, in order of preference for each codec.
    pub decoders: Vec<DecoderEntry>,
    /// What would decode a file, which may hold any codec, if the detector runs on this box's first GPU.
    pub decoding: DecoderPlan,
    /// Why no frame can be in a GPU's memory; `None` if it can.
    pub why_not_cuda: Option<String>,
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
    /// It is installed, and the video unit behind it opens.
    pub available: bool,
    /// Why not; `None` where it is.
    pub why_not: Option<String>,
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

/// Looks at this box. Cameras are opened for a moment, to ask for their formats.
///
/// # Errors
/// When GStreamer cannot be initialised.
pub fn devices() -> Result<DeviceReport, InitError> {
    crate::init()?;
    let installed = |element: &str| plugin_of(element).is_some();
    // Before anything is looked up: a plug-in may find out now that there is a driver.
    let (decoding, why_not_cuda) = decoding()?;
    let gpu = Gpu::open(0).map_err(|error| error.to_string());
    let gpu = gpu.as_ref().map_err(Clone::clone).and_then(GpuContext::of);
    let decoders = with_offer(&DecoderChoice::Hardware, gpu.as_deref().map_err(String::as_str), |offer| {
        let entry = |codec: &Codec, decoder: &Decoder| {
            let why_not = try_one(decoder.element, decoder.route, offer).err();
            DecoderEntry {
                codec: codec.name.to_owned(),
                element: decoder.element.to_owned(),
                available: why_not.is_none(),
                why_not: why_not.map(|why_not| why_not.words().to_owned()),
                hardware: decoder.route.is_hardware(),
            }
        };
        let of_codec =
            |codec: &'static Codec| codec.decoders.iter().map(move |decoder| entry(codec, decoder));
        CODECS.iter().flat_map(of_codec).collect()
    });
    let missing = NEEDED.iter().filter(|(element, _)| !installed(element)).map(|(element, needed_for)| {
        let package = package_of(element).to_owned();
        MissingEntry { element: (*element).to_owned(), package, needed_for: (*needed_for).to_owned() }
    });
    Ok(DeviceReport { cameras: cameras(), decoders, decoding, why_not_cuda, missing: missing.collect() })
}

/// What would decode, on the first GPU if there is one, and why not there.
fn decoding() -> Result<(DecoderPlan, Option<String>), InitError> {
    let gpu = Gpu::open(0).map_err(|error| error.to_string());
    let why_not = gpu.as_ref().map_or_else(|why| Some(why.clone()), |gpu| GpuContext::of(gpu).err());
    let any = SourceKind::File { path: PathBuf::new() };
    let mut plan = plan(&Spec { gpu: gpu.ok(), ..Spec::new(any) })?;
    // The plan knows only that it was given no GPU; why is said once.
    for codec in &mut plan.codecs {
        codec.why = codec.why.take().filter(|why| why != NO_GPU);
    }
    Ok((plan, why_not))
}

/// The V4L2 devices that the kernel lists and that send pictures.
fn cameras() -> Vec<Camera> {
    let Ok(entries) = std::fs::read_dir("/sys/class/video4linux") else { return Vec::new() };
    let mut nodes: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
    nodes.sort();
    let links: Vec<PathBuf> = std::fs::read_dir("/dev/v4l/by-id")
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    let camera = |node: &OsString| {
        let name = std::fs::read_to_string(Path::new("/sys/class/video4linux").join(node).join("name"));
        let device = Path::new("/dev").join(node);
        let by_id = links.iter().find(|link| link.canonicalize().is_ok_and(|target| target == device));
        Some(Camera {
            name: name.ok()?.trim().to_owned(),
            formats: formats(&device),
            by_id: by_id.cloned(),
            device,
        })
    };
    nodes.iter().filter_map(camera).collect()
}

/// What a device sends; empty where it cannot be opened.
fn formats(device: &Path) -> Vec<String> {
    let source =
        gst::ElementFactory::make("v4l2src").property("device", device.display().to_string()).build();
    let Ok(source) = source else { return Vec::new() };
    let mut formats = Vec::new();
    if source.set_state(gst::State::Ready).is_ok()
        && let Some(pad) = source.static_pad("src")
    {
        for structure in pad.query_caps(None).iter() {
            let size = match (structure.get::<i32>("width"), structure.get::<i32>("height")) {
                (Ok(width), Ok(height)) => format!(" {width}x{height}"),
                _ => String::new(),
            };
            let text = format!("{}{size}", structure.name());
            if !formats.contains(&text) {
                formats.push(text);
            }
        }
    }
    // A device that was opened closes; there is nothing to do about one that does not.
    let _ = source.set_state(gst::State::Null);
    formats
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_not_listed_as_available() {
        let report = devices().unwrap();
        assert!(report.decoders.iter().any(|decoder| decoder.available && !decoder.hardware), "{report:?}");
        for missing in &report.missing {
            assert!(
                !report
                    .decoders
                    .iter()
                    .any(|decoder| decoder.available && decoder.element == missing.element)
            );
            assert!(!missing.package.is_empty() && !missing.needed_for.is_empty());
        }
    }
}
