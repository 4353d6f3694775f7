//! GStreamer's errors in our words.

use std::path::Path;

use gstreamer as gst;
use gstreamer::glib;

use crate::failure::{Failure, FailureClass};
use crate::log;
use crate::scrub::scrub;
use crate::spec::{SourceKind, Spec};
use crate::v4l2;

/// What a pipeline opens, as messages name it.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// URL without credentials, or path.
    pub(crate) label: String,
    pub(crate) kind: SourceKind,
    pub(crate) username: Option<String>,
}

impl Target {
    pub(crate) fn of(spec: &Spec) -> Self {
        let label = match &spec.kind {
            SourceKind::Rtsp { url } => scrub(url),
            SourceKind::V4l2 { device } => device.display().to_string(),
            SourceKind::Csi { sensor_index } => format!("csi://{sensor_index}"),
            SourceKind::File { path } | SourceKind::Image { path } => path.display().to_string(),
        };
        let username = spec.credentials.as_ref().map(|credentials| credentials.username.clone());
        Self { label, kind: spec.kind.clone(), username }
    }
}

/// Puts an error of GStreamer into one sentence. `debug` is the longer text that comes with it; it holds
/// URLs and is read here for what the error code leaves out, never passed on as it is.
pub(crate) fn explain(
    error: &glib::Error,
    debug: Option<&str>,
    target: &Target,
    missing_plugin: Option<&str>,
) -> Failure {
    // rtspsrc answers every failure to connect with "Generic error"; the reason is only in its log.
    let reason = match target.kind {
        SourceKind::Rtsp { .. } => log::take_connection_error(),
        _ => None,
    };
    let debug_words = debug.unwrap_or_default();
    let words =
        format!("{} {debug_words} {}", error.message(), reason.as_deref().unwrap_or_default()).to_lowercase();
    let class = classify(error, &words, target);
    let message = match &class {
        FailureClass::Other => other(error, reason.as_deref().or(debug), target),
        FailureClass::Unreachable => unreachable(&target.label, &words),
        FailureClass::Closed if says_broken(&words) => format!(
            "the connection to {} broke: the camera has reset it, as when it starts anew, or the network failed",
            target.label
        ),
        class => sentence(class, target, missing_plugin),
    };
    Failure::new(class, message)
}

fn classify(error: &glib::Error, words: &str, target: &Target) -> FailureClass {
    let says = |any: &[&str]| any.iter().any(|text| words.contains(text));
    let network = matches!(target.kind, SourceKind::Rtsp { .. });
    if let Some(stream) = error.kind::<gst::StreamError>() {
        return match stream {
            // Streams that we cannot decode were refused with a word of our own; what is left is none.
            gst::StreamError::CodecNotFound if network && says(&["no supported stream"]) => {
                FailureClass::NoVideo
            }
            gst::StreamError::CodecNotFound => FailureClass::UnsupportedCodec,
            gst::StreamError::Decode
            | gst::StreamError::Demux
            | gst::StreamError::Format
            | gst::StreamError::TypeNotFound
            | gst::StreamError::WrongType => FailureClass::Decode,
            // Nothing was linked: pads of another kind than video are left alone.
            gst::StreamError::Failed if says(&["not-linked"]) => FailureClass::NoVideo,
            gst::StreamError::Failed if !network && says(&["internal data"]) => FailureClass::Decode,
            _ => FailureClass::Other,
        };
    }
    match error.kind::<gst::ResourceError>() {
        Some(gst::ResourceError::NotAuthorized) if network => FailureClass::Unauthorized,
        Some(gst::ResourceError::NotAuthorized) => FailureClass::Permission,
        Some(gst::ResourceError::Busy) => FailureClass::Busy,
        Some(gst::ResourceError::NotFound) => FailureClass::NotFound,
        Some(_) if network => classify_network(says),
        Some(_) if says(&["busy"]) => FailureClass::Busy,
        Some(_) if says(&["permission denied"]) => FailureClass::Permission,
        Some(_) if says(&["no such file", "no such device"]) => FailureClass::NotFound,
        _ => FailureClass::Other,
    }
}

/// No name server knows it. The C library's words, and what GIO makes of them.
const NAME_UNKNOWN: [&str; 3] = ["name or service not known", "no address associated", "error resolving"];
/// No name server answers, or none can say.
const NAME_UNANSWERED: [&str; 1] = ["temporary failure in name resolution"];
/// Nobody at that address.
const NO_MACHINE: [&str; 2] = ["no route to host", "host is unreachable"];
/// Nobody on the way there.
const NO_ROUTE: [&str; 2] = ["network is unreachable", "network unreachable"];
/// Our own kernel lets nobody there.
const FORBIDDEN: [&str; 2] = ["permission denied", "operation not permitted"];
/// A connection that ended otherwise than by a word from the camera. rtspsrc says "System error" for whatever
/// the system said when it read or wrote.
const BROKEN: [&str; 4] =
    ["reset by peer", "broken pipe", "receive message. (system error)", "send message. (system error)"];

fn says_broken(words: &str) -> bool {
    BROKEN.iter().any(|text| words.contains(text))
}

/// What keeps `label` from being reached, by what was said in lower case.
pub(crate) fn unreachable(label: &str, words: &str) -> String {
    let says = |any: &[&str]| any.iter().any(|text| words.contains(text));
    let why = if says(&NAME_UNANSWERED) {
        "the name servers do not answer for its name; check the host name, the DNS servers and the network"
    } else if says(&NAME_UNKNOWN) {
        "its name is not known to the name servers; check the host name"
    } else if says(&NO_MACHINE) {
        "no machine answers at its address; check the address, and the camera's power and cable"
    } else if says(&NO_ROUTE) {
        "this machine has no route to it; check the network of this machine"
    } else if says(&FORBIDDEN) {
        "a rule of this machine forbids it; check its firewall and routes"
    } else {
        "check the host name and the network"
    };
    format!("{label} cannot be reached: {why}")
}

/// rtspsrc has few codes of its own; what really happened is in the words of GIO and of the C library.
fn classify_network(says: impl Fn(&[&str]) -> bool) -> FailureClass {
    if says(&["certificate", "handshake"]) {
        FailureClass::Certificate
    } else if says(&["tls support is not available", "tls/ssl support not available"]) {
        FailureClass::MissingElement { element: "TLS".to_owned(), package: "glib-networking".to_owned() }
    } else if says(&["connection refused"]) {
        FailureClass::Refused
    } else if [&NAME_UNKNOWN[..], &NAME_UNANSWERED, &NO_MACHINE, &NO_ROUTE, &FORBIDDEN].into_iter().any(&says)
    {
        FailureClass::Unreachable
    } else if says(&["unauthorized", "401"]) {
        FailureClass::Unauthorized
    } else if says(&["not found", "404"]) {
        FailureClass::NotFound
    } else if says(&["timeout", "timed out", "could not receive any udp packets"]) {
        FailureClass::Timeout
    } else if says(&["connection was closed", "closed by", "eof"]) || says(&BROKEN) {
        FailureClass::Closed
    } else if says(&["parse error", "wrong content type", "not an rtsp"]) {
        FailureClass::Protocol
    } else {
        FailureClass::Other
    }
}

fn sentence(class: &FailureClass, target: &Target, missing_plugin: Option<&str>) -> String {
    let label = &target.label;
    match class {
        FailureClass::Unreachable => unreachable(label, ""),
        FailureClass::Refused => {
            format!(
                "{label} refuses connections: nothing listens there; check the port, or the camera is starting"
            )
        }
        FailureClass::Unauthorized => match &target.username {
            Some(user) => format!("{label} does not accept user \"{user}\" with this password: check both"),
            None => format!("{label} asks for a user and a password, and none are configured"),
        },
        FailureClass::NotFound => match target.kind {
            SourceKind::Rtsp { .. } => {
                format!(
                    "{label} does not exist on that camera: check the path of the URL in the camera's manual"
                )
            }
            _ => format!("{label} does not exist"),
        },
        FailureClass::Busy => match &target.kind {
            SourceKind::V4l2 { device } => busy(device),
            _ => format!("{label} is in use by another program"),
        },
        FailureClass::Permission => match target.kind {
            SourceKind::V4l2 { .. } => {
                format!("{label} may not be opened: add the user to the group `video`")
            }
            _ => format!("{label} may not be read: check its permissions"),
        },
        FailureClass::Certificate => format!(
            "{label} shows a certificate that is not trusted: set tls_ca_file to its authority, or tls_verify = \
             false if you trust the network"
        ),
        FailureClass::UnsupportedCodec => match missing_plugin {
            Some(what) => format!("{label} cannot be decoded: no {what} is installed"),
            None => format!("{label} cannot be decoded: no decoder for its codec is installed"),
        },
        FailureClass::HardwareDecoder => format!("{label} could not be decoded by the GPU or video unit"),
        FailureClass::PictureTooLarge => format!("{label} has larger pictures than are decoded here"),
        FailureClass::Decode => match target.kind {
            SourceKind::Rtsp { .. } => format!("{label} sends video that cannot be decoded"),
            _ => format!("{label} is damaged, or not a video or image"),
        },
        FailureClass::Timeout => format!("{label} does not answer in time"),
        FailureClass::Closed => format!("{label} closed the connection"),
        FailureClass::NoVideo => format!("{label} has no video stream"),
        FailureClass::MissingElement { element, package } if element == "TLS" => {
            format!("{label} needs TLS, which is not installed: install the package {package}")
        }
        FailureClass::MissingElement { element, package } => missing_element(element, package),
        FailureClass::Protocol => format!("{label} does not answer as an RTSP camera does: check the port"),
        FailureClass::Other => format!("{label} failed"),
    }
}

/// The sentence about an element that is not installed.
pub(crate) fn missing_element(element: &str, package: &str) -> String {
    format!("the GStreamer element {element} is not installed: install the package {package}")
}

fn busy(device: &Path) -> String {
    let label = device.display();
    match v4l2::holder(device) {
        Some((process, pid)) => format!("{label} is in use by {process} (process {pid})"),
        None => format!("{label} is in use by another program"),
    }
}

/// A hardware decoder failed before its first picture.
pub(crate) fn hardware_failure(element: &str, what: &str, target: &Target) -> Failure {
    let message = format!("the hardware decoder {element} does not decode {}: {what}", target.label);
    Failure::new(FailureClass::HardwareDecoder, message)
}

/// What GStreamer says of `target`. `debug` may be its log line instead.
fn other(error: &glib::Error, debug: Option<&str>, target: &Target) -> String {
    format!("{}: {}", target.label, words_of(error, debug))
}

/// GStreamer's own words, shortened to the part that says something.
pub(crate) fn words_of(error: &glib::Error, debug: Option<&str>) -> String {
    let mut message = error.message().trim_end_matches('.').to_owned();
    // The debug text is "file.c(123): function (): /GstPipeline:x/…:\nwhat happened".
    let detail = debug.map(|debug| debug.split_once('\n').map_or(debug, |(_, detail)| detail).trim());
    let detail = detail.filter(|detail| !detail.contains(".c("));
    if let Some(detail) = detail.filter(|detail| !detail.is_empty()) {
        message.push_str(" (");
        message.push_str(detail.lines().next().unwrap_or_default().trim_end_matches('.'));
        message.push(')');
    }
    message
}

/// A failure of our own finding, in the same words.
pub(crate) fn failure(class: FailureClass, target: &Target) -> Failure {
    let message = sentence(&class, target, None);
    Failure::new(class, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usb_camera_that_is_in_use_names_its_holder() {
        crate::init().unwrap();
        // A device that this process holds, as far as /proc can tell.
        let device = tempfile::NamedTempFile::new().unwrap();
        let path = device.path().to_owned();
        let target = Target::of(&Spec::new(SourceKind::V4l2 { device: path.clone() }));
        let said_by_v4l2src = [
            glib::Error::new(gst::ResourceError::Busy, "Could not open device"),
            // Some of its ways to fail have no code of their own.
            glib::Error::new(
                gst::ResourceError::Failed,
                "Call to VIDIOC_REQBUFS failed: Device or resource busy",
            ),
        ];
        for error in said_by_v4l2src {
            let failure = explain(&error, None, &target, None);
            assert_eq!(failure.class, FailureClass::Busy, "{failure:?}");
            let holder = format!("(process {})", std::process::id());
            assert!(failure.message.contains(&holder), "{failure:?}");
            assert!(failure.message.starts_with(&path.display().to_string()), "{failure:?}");
        }
    }
}
