//! Which template a source takes, and which elements a codec takes. All choices are made here.

use crate::spec::SourceKind;
use crate::video_unit::Interface;

/// A launch template and what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Template {
    /// Text of the file in `launch/`.
    pub(crate) text: &'static str,
    /// The element that tells whether this template can work on this box.
    pub(crate) key_element: &'static str,
}

const RTSP: &[Template] = &[Template { text: include_str!("../launch/rtsp.launch"), key_element: "rtspsrc" }];
const V4L2: &[Template] = &[Template { text: include_str!("../launch/v4l2.launch"), key_element: "v4l2src" }];
const CSI: &[Template] = &[
    // On a Jetson both may be there, and only Argus reaches the image processor.
    Template { text: include_str!("../launch/csi-nvargus.launch"), key_element: "nvarguscamerasrc" },
    Template { text: include_str!("../launch/csi-libcamera.launch"), key_element: "libcamerasrc" },
];
const FILE: &[Template] =
    &[Template { text: include_str!("../launch/file.launch"), key_element: "parsebin" }];
const IMAGE: &[Template] =
    &[Template { text: include_str!("../launch/image.launch"), key_element: "parsebin" }];

/// The templates of a source kind; the first whose key element is installed is taken.
pub(crate) fn templates(kind: &SourceKind) -> &'static [Template] {
    match kind {
        SourceKind::Rtsp { .. } => RTSP,
        SourceKind::V4l2 { .. } => V4L2,
        SourceKind::Csi { .. } => CSI,
        SourceKind::File { .. } => FILE,
        SourceKind::Image { .. } => IMAGE,
    }
}

/// A codec: from its packets or its bytes to pictures.
#[derive(Debug)]
pub(crate) struct Codec {
    /// As people write it.
    pub(crate) name: &'static str,
    /// `encoding-name` of its RTP payload; empty where it never comes over RTP.
    pub(crate) rtp_encoding: &'static str,
    /// Takes it out of RTP.
    pub(crate) depayloader: Option<&'static str>,
    /// Caps of its byte stream.
    pub(crate) caps: &'static str,
    /// Finds the pictures in the byte stream.
    pub(crate) parser: Option<&'static str>,
    /// In order of preference; what is not installed is skipped.
    pub(crate) decoders: &'static [Decoder],
}

/// A decoder element.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decoder {
    pub(crate) element: &'static str,
    pub(crate) route: Route,
}

/// What decodes, and where the pictures are when they leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Route {
    /// The CPU, into system memory.
    Software,
    /// NVDEC of an NVIDIA GPU, into CUDA memory of the process's own context.
    Nvcodec,
    /// The video unit of a Jetson; `nvvidconv` then copies into system memory.
    ///
    /// A Jetson's GPU could read the decoder's NVMM surfaces in place. What that takes (a proprietary struct's
    /// layout, surfaces that are block-linear by default, EGL images or imported dma-bufs) could be tried
    /// nowhere so far; this way uses nothing but elements that NVIDIA documents, and costs one copy by the
    /// video image compositor, not by the CPU, in memory that both share anyway.
    Jetson,
    /// A video unit of another maker's, into system memory: see `video_unit`.
    VideoUnit(Interface),
    /// A decoder that this table does not know, asked for by its name.
    Other,
}

impl Route {
    /// It needs a GPU or a video unit.
    pub(crate) fn is_hardware(self) -> bool {
        self != Self::Software
    }
}

const fn software(element: &'static str) -> Decoder {
    Decoder { element, route: Route::Software }
}

const fn nvcodec(element: &'static str) -> Decoder {
    Decoder { element, route: Route::Nvcodec }
}

const fn jetson(element: &'static str) -> Decoder {
    Decoder { element, route: Route::Jetson }
}

const fn of(interface: Interface, element: &'static str) -> Decoder {
    Decoder { element, route: Route::VideoUnit(interface) }
}

/// Every codec that has its chain spelled out. Others are left to `decodebin` where they come out of a file.
///
/// Decoders come in this order: those of NVIDIA, whose pictures the detector may read where they are; VA-API, which is the
/// same for all makers and still cared for; what Intel and Rockchip offer besides; V4L2, of which the newer kind is simpler
/// and fails earlier; the old VA-API plug-in, which is being given up; the CPU.
pub(crate) const CODECS: &[Codec] = &[
    Codec {
        name: "H.264",
        rtp_encoding: "H264",
        depayloader: Some("rtph264depay"),
        caps: "video/x-h264",
        parser: Some("h264parse"),
        decoders: &[
            jetson("nvv4l2decoder"),
            nvcodec("nvh264dec"),
            of(Interface::Va, "vah264dec"),
            of(Interface::Qsv, "qsvh264dec"),
            of(Interface::Mpp, "mppvideodec"),
            of(Interface::V4l2Stateless, "v4l2slh264dec"),
            of(Interface::V4l2Stateful, "v4l2h264dec"),
            of(Interface::Vaapi, "vaapih264dec"),
            software("avdec_h264"),
            software("openh264dec"),
        ],
    },
    Codec {
        name: "H.265",
        rtp_encoding: "H265",
        depayloader: Some("rtph265depay"),
        caps: "video/x-h265",
        parser: Some("h265parse"),
        decoders: &[
            jetson("nvv4l2decoder"),
            nvcodec("nvh265dec"),
            of(Interface::Va, "vah265dec"),
            of(Interface::Qsv, "qsvh265dec"),
            of(Interface::Mpp, "mppvideodec"),
            of(Interface::V4l2Stateless, "v4l2slh265dec"),
            of(Interface::V4l2Stateful, "v4l2h265dec"),
            of(Interface::Vaapi, "vaapih265dec"),
            software("avdec_h265"),
            software("libde265dec"),
        ],
    },
    Codec {
        name: "JPEG",
        rtp_encoding: "JPEG",
        depayloader: Some("rtpjpegdepay"),
        caps: "image/jpeg",
        parser: Some("jpegparse"),
        decoders: &[
            nvcodec("nvjpegdec"),
            of(Interface::Va, "vajpegdec"),
            of(Interface::Qsv, "qsvjpegdec"),
            of(Interface::Mpp, "mppjpegdec"),
            of(Interface::V4l2Stateful, "v4l2jpegdec"),
            of(Interface::Vaapi, "vaapijpegdec"),
            software("jpegdec"),
            software("avdec_mjpeg"),
        ],
    },
    Codec {
        name: "AV1",
        // Cameras that send it are rare, and its depayloader is in no plug-in package of GStreamer's own.
        rtp_encoding: "",
        depayloader: None,
        caps: "video/x-av1",
        parser: Some("av1parse"),
        decoders: &[
            nvcodec("nvav1dec"),
            of(Interface::Va, "vaav1dec"),
            of(Interface::V4l2Stateless, "v4l2slav1dec"),
            software("dav1ddec"),
            software("av1dec"),
        ],
    },
    Codec {
        name: "MPEG-4",
        rtp_encoding: "MP4V-ES",
        depayloader: Some("rtpmp4vdepay"),
        caps: "video/mpeg, mpegversion=(int)4, systemstream=(boolean)false",
        parser: Some("mpeg4videoparse"),
        decoders: &[software("avdec_mpeg4")],
    },
    Codec {
        name: "PNG",
        rtp_encoding: "",
        depayloader: None,
        caps: "image/png",
        parser: None,
        decoders: &[software("pngdec"), software("gdkpixbufdec")],
    },
    Codec {
        name: "WebP",
        rtp_encoding: "",
        depayloader: None,
        caps: "image/webp",
        parser: None,
        decoders: &[software("webpdec")],
    },
    Codec {
        name: "BMP",
        rtp_encoding: "",
        depayloader: None,
        caps: "image/bmp",
        parser: None,
        // avdec_bmp wants the whole file in one buffer, and there is no parser to make one.
        decoders: &[software("gdkpixbufdec")],
    },
];

/// JPEG as a single picture, which has time: red, green and blue as the library gives them that the tools of the models
/// use, too. The others make luma and chroma of it; jpegdec by leaving chroma samples of 4:4:4 out, so that a model sees
/// other colours at edges than its own tool shows it.
pub(crate) const STILL_JPEG: Codec = Codec {
    name: "JPEG",
    rtp_encoding: "",
    depayloader: None,
    caps: "image/jpeg",
    parser: Some("jpegparse"),
    decoders: &[software("gdkpixbufdec"), software("avdec_mjpeg"), software("jpegdec")],
};

/// The Debian package of each element that this crate asks for by name.
const PACKAGES: &[(&str, &[&str])] = &[
    (
        "gstreamer1.0-plugins-base",
        &["appsink", "appsrc", "videoconvert", "videoscale", "decodebin", "parsebin", "typefind"],
    ),
    (
        "gstreamer1.0-plugins-good",
        &[
            "rtspsrc",
            "rtpbin",
            "udpsrc",
            "rtph264depay",
            "rtph265depay",
            "rtpjpegdepay",
            "rtpmp4vdepay",
            "v4l2src",
            "jpegdec",
            "pngdec",
            "gdkpixbufdec",
            "qtdemux",
            "matroskademux",
            "avidemux",
            "mp4mux",
        ],
    ),
    (
        "gstreamer1.0-plugins-bad",
        &[
            "h264parse",
            "h265parse",
            "jpegparse",
            "mpeg4videoparse",
            "openh264dec",
            "openh264enc",
            "libde265dec",
            "webpdec",
            "tsdemux",
            "nvh264dec",
            "nvh265dec",
            "nvjpegdec",
            "nvav1dec",
            "av1parse",
            "av1dec",
        ],
    ),
    ("gstreamer1.0-plugins-ugly", &["x264enc"]),
    ("gstreamer1.0-plugins-rs", &["dav1ddec"]),
    ("gstreamer1.0-libav", &["avdec_h264", "avdec_h265", "avdec_mjpeg", "avdec_mpeg4"]),
    ("gstreamer1.0-libcamera", &["libcamerasrc"]),
    ("nvidia-l4t-gstreamer", &["nvarguscamerasrc", "nvvidconv", "nvv4l2decoder"]),
    ("libgstreamer1.0-0", &["filesrc", "filesink", "capsfilter"]),
];

/// The Debian package that has `element`.
pub(crate) fn package_of(element: &str) -> &'static str {
    let known = CODECS.iter().flat_map(|codec| codec.decoders).find(|decoder| decoder.element == element);
    if let Some(Decoder { route: Route::VideoUnit(interface), .. }) = known {
        return interface.package();
    }
    PACKAGES
        .iter()
        .find(|(_, elements)| elements.contains(&element))
        .map_or("a GStreamer plug-in package (apt-file search can tell)", |(package, _)| package)
}

/// What does not work without an element; those that every box should have.
pub(crate) const NEEDED: &[(&str, &str)] = &[
    ("appsink", "everything"),
    ("videoconvert", "everything"),
    ("parsebin", "video files and images"),
    ("rtspsrc", "network cameras"),
    ("rtpbin", "network cameras"),
    ("udpsrc", "network cameras over UDP"),
    ("rtph264depay", "H.264 network cameras"),
    ("h264parse", "H.264"),
    ("avdec_h264", "H.264"),
    ("rtph265depay", "H.265 network cameras"),
    ("h265parse", "H.265"),
    ("avdec_h265", "H.265"),
    ("rtpjpegdepay", "JPEG network cameras"),
    ("jpegdec", "JPEG"),
    ("pngdec", "PNG images"),
    ("webpdec", "WebP images"),
    ("v4l2src", "USB cameras"),
    ("qtdemux", "MP4 files"),
    ("matroskademux", "Matroska and WebM files"),
    ("avidemux", "AVI files"),
    ("tsdemux", "MPEG transport stream files"),
    ("libcamerasrc", "CSI cameras (csi://) except on NVIDIA Jetson"),
    ("nvarguscamerasrc", "CSI cameras (csi://) on NVIDIA Jetson"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_of_the_tables_has_a_package() {
        let chains = CODECS.iter().flat_map(|codec| {
            let chain = [codec.depayloader, codec.parser].into_iter().flatten();
            chain.chain(codec.decoders.iter().map(|decoder| decoder.element))
        });
        let needed = NEEDED.iter().map(|(element, _)| *element);
        for element in chains.chain(needed) {
            assert!(!package_of(element).contains("apt-file"), "{element} has no package");
        }
    }

    #[test]
    fn every_codec_has_a_software_decoder() {
        for codec in CODECS {
            assert!(codec.decoders.iter().any(|decoder| !decoder.route.is_hardware()), "{}", codec.name);
        }
    }
}
