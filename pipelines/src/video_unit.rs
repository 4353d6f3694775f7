//! Video units of boxes without NVIDIA: which programming interface reaches them, why a decoder of one is not here, and
//! whether one that is here opens.
//!
//! Where the pictures are. Every decoder below is asked for system memory, because the sink takes nothing else from
//! it, and the sink says that rows may be padded (`accept_video_meta`). Then none of them should copy a picture with the
//! CPU on its own account. That is read in the source of `va`, taken from the documentation of the others, and was seen on
//! no device:
//! - `va` hands out its surfaces as system memory. The GPU brings one into memory that the CPU reads when the letterbox
//!   maps it. (A stream that is cropped at its top or left edge is copied by the CPU: `vapostproc` would save that and
//!   cost every other stream a pass of the GPU.) `qsv` and `vaapi` download into system memory in the decoder.
//! - V4L2 and Rockchip's decoders hand out what the unit wrote, mapped.
//! - What the letterbox does not read (ten bits, tiles) is converted by the CPU, in `videoconvert`.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;

use crate::explain::words_of;
use crate::scrub;

/// So long others wait for the thread that tries a decoder: drivers that take longer to open are as good as none.
const TRIAL_PATIENCE: Duration = Duration::from_secs(5);

/// How a program reaches a video unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Interface {
    /// VA-API, through the plug-in that is still developed. Intel and AMD.
    Va,
    /// Intel's oneVPL.
    Qsv,
    /// Rockchip's own.
    Mpp,
    /// V4L2 where the program keeps the reference pictures: Rockchip, Allwinner, MediaTek, NXP, Raspberry Pi (H.265).
    V4l2Stateless,
    /// V4L2 where the unit does: Raspberry Pi (H.264), Qualcomm, NXP, Amlogic.
    V4l2Stateful,
    /// VA-API, through the plug-in that came before.
    Vaapi,
}

/// What there is to say of an interface.
struct Facts {
    plugin: &'static str,
    package: &'static str,
    /// A folder of devices, and how those that count begin.
    nodes: (&'static str, &'static [&'static str]),
    /// What else is needed, once a device is there.
    driver: &'static str,
    /// Who may open the devices.
    group: &'static str,
}

const DRI: (&str, &[&str]) = ("dri", &["renderD"]);
const VA_DRIVER: &str = "its VA-API driver is missing or does not decode this codec: `vainfo` lists what it does (packages \
     intel-media-va-driver, mesa-va-drivers)";

impl Interface {
    fn facts(self) -> Facts {
        let (bad, good) = ("gstreamer1.0-plugins-bad", "gstreamer1.0-plugins-good");
        match self {
            Self::Va => Facts { plugin: "va", package: bad, nodes: DRI, driver: VA_DRIVER, group: "render" },
            Self::Vaapi => Facts {
                plugin: "vaapi",
                package: "gstreamer1.0-vaapi",
                nodes: DRI,
                driver: VA_DRIVER,
                group: "render",
            },
            Self::Qsv => Facts {
                plugin: "qsv",
                package: bad,
                nodes: DRI,
                driver: "it is no GPU of Intel's, or its runtime is missing (package libmfx-gen1.2 or libmfx1)",
                group: "render",
            },
            Self::Mpp => Facts {
                plugin: "rockchipmpp",
                package: "of Rockchip's GStreamer plug-ins (gstreamer1.0-rockchip1)",
                nodes: ("", &["mpp_service", "vpu_service"]),
                driver: "the plug-in does not take this unit",
                group: "video",
            },
            Self::V4l2Stateless => Facts {
                plugin: "v4l2codecs",
                package: bad,
                nodes: ("", &["media"]),
                driver: "none of these devices decodes this codec",
                group: "video",
            },
            Self::V4l2Stateful => Facts {
                plugin: "video4linux2",
                package: good,
                nodes: ("", &["video"]),
                driver: "none of these devices decodes this codec",
                group: "video",
            },
        }
    }

    /// The Debian package of its plug-in.
    pub(crate) fn package(self) -> &'static str {
        self.facts().package
    }

    /// Why its decoder `element` is not here, in one line.
    pub(crate) fn why_absent(self, element: &str) -> String {
        let has_plugin = gst::Registry::get().find_plugin(self.facts().plugin).is_some();
        why_absent(self, element, has_plugin, Path::new("/dev"))
    }
}

/// `devices` is the folder of the device nodes.
fn why_absent(interface: Interface, element: &str, has_plugin: bool, devices: &Path) -> String {
    let Facts { plugin, package, nodes: (folder, beginnings), driver, group } = interface.facts();
    if !has_plugin {
        return format!("{element} is not installed: package {package}");
    }
    let folder = devices.join(folder);
    let found = nodes(&folder, beginnings);
    let Some(node) = found.first() else {
        return format!(
            "{element} is not here: there is no {}*, so no such video unit, or this container is not given it",
            folder.join(beginnings[0]).display()
        );
    };
    // A V4L2 node may be a camera, which opening wakes.
    let is_refused = |node: &PathBuf| {
        let opened: std::io::Result<File> = OpenOptions::new().read(true).write(true).open(node);
        opened.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
    };
    if group == "render" && found.iter().all(is_refused) {
        return format!(
            "{element} is not here: {} may not be opened: let the user join the group {group}",
            node.display()
        );
    }
    format!("{element} is not here: {} is there, and {driver} (plug-in {plugin})", node.display())
}

/// Device nodes whose names begin so, sorted.
fn nodes(folder: &Path, beginnings: &[&str]) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let counts = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        beginnings.iter().any(|beginning| name.starts_with(beginning))
    };
    let mut found: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(counts).collect();
    found.sort();
    found
}

/// What came of opening a decoder.
#[derive(Debug, Clone)]
enum Trial {
    /// A thread is at it.
    Running,
    Over(Result<(), String>),
}

/// One entry for each decoder of the table.
static TRIALS: Mutex<Option<HashMap<String, Trial>>> = Mutex::new(None);
static TRIED: Condvar = Condvar::new();

/// Whether a decoder that is installed opens: reaches READY, where elements open their devices. It is tried once in
/// the life of the process.
///
/// # Errors
/// One line: its own words, or that it has not come back.
pub(crate) fn opens(element: &str) -> Result<(), String> {
    let lock = || TRIALS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut trials = lock();
    match trials.get_or_insert_default().get(element) {
        None => {
            trials.get_or_insert_default().insert(element.to_owned(), Trial::Running);
            drop(trials);
            let result = try_to_open(element);
            lock().get_or_insert_default().insert(element.to_owned(), Trial::Over(result.clone()));
            TRIED.notify_all();
            result
        }
        Some(Trial::Over(result)) => result.clone(),
        Some(Trial::Running) => {
            let is_running = |trials: &mut Option<HashMap<String, Trial>>| {
                matches!(trials.get_or_insert_default().get(element), Some(Trial::Running))
            };
            let (mut trials, _) = TRIED
                .wait_timeout_while(trials, TRIAL_PATIENCE, is_running)
                .unwrap_or_else(PoisonError::into_inner);
            match trials.get_or_insert_default().get(element) {
                Some(Trial::Over(result)) => result.clone(),
                _ => Err(format!("its driver has not come back for {} s", TRIAL_PATIENCE.as_secs())),
            }
        }
    }
}

fn try_to_open(element: &str) -> Result<(), String> {
    let made = gst::ElementFactory::make(element).build().map_err(|error| scrub(&error.to_string()))?;
    let bus = gst::Bus::new();
    made.set_bus(Some(&bus));
    let opened = made.set_state(gst::State::Ready);
    let words = bus.pop_filtered(&[gst::MessageType::Error]).and_then(|message| match message.view() {
        gst::MessageView::Error(error) => Some(scrub(&words_of(&error.error(), error.debug().as_deref()))),
        _ => None,
    });
    // What was opened closes; there is nothing to do about one that does not.
    let _ = made.set_state(gst::State::Null);
    made.set_bus(None);
    bus.set_flushing(true);
    opened.map(|_| ()).map_err(|_| words.unwrap_or_else(|| "it does not say why".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_for_not_being_here_has_its_words() {
        let box_ = tempfile::tempdir().unwrap();
        let why = |interface, has_plugin| why_absent(interface, "xdec", has_plugin, box_.path());
        assert_eq!(why(Interface::Va, false), "xdec is not installed: package gstreamer1.0-plugins-bad");
        let none = why(Interface::Va, true);
        assert!(none.contains("dri/renderD*") && none.contains("container"), "{none}");
        std::fs::create_dir(box_.path().join("dri")).unwrap();
        std::fs::write(box_.path().join("dri/card0"), "").unwrap();
        assert!(why(Interface::Va, true).contains("there is no"));
        std::fs::write(box_.path().join("dri/renderD128"), "").unwrap();
        let no_driver = why(Interface::Va, true);
        assert!(no_driver.contains("renderD128 is there") && no_driver.contains("vainfo"), "{no_driver}");
        assert!(why(Interface::V4l2Stateful, true).contains("there is no"));
        std::fs::write(box_.path().join("video11"), "").unwrap();
        assert!(why(Interface::V4l2Stateful, true).contains("video11 is there"));
        assert!(why(Interface::Mpp, true).contains("mpp_service"));
    }

    #[test]
    fn an_element_that_is_not_there_does_not_open_and_one_that_is_does() {
        crate::init().unwrap();
        assert!(opens("nonsense").is_err());
        for _ in 0..2 {
            assert_eq!(opens("videoconvert"), Ok(()));
        }
    }
}
