//! Which decoder a codec gets on this box, and why not a better one.

use gstreamer as gst;
use gstreamer::prelude::*;

use crate::gst_cuda::{GpuContext, has_nvcuvid};
use crate::spec::DecoderChoice;
use crate::table::{Codec, Decoder, Route, package_of};
use crate::video_unit::opens;

/// The plug-in whose decoders give CUDA memory. A Jetson has elements of the same names in other plug-ins.
const NVCODEC: &str = "nvcodec";
/// Brings a Jetson's pictures from the video unit's memory into system memory.
const JETSON_CONVERTER: &str = "nvvidconv";

/// A decoder that can be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// The element's factory.
    pub(crate) element: String,
    pub(crate) route: Route,
    /// Why the pictures are decoded by the CPU although they need not have been; in one line.
    pub(crate) why_not_hardware: Option<String>,
    /// That is because a decoder of this box's video unit is installed and does not open.
    pub(crate) unit_is_broken: bool,
}

/// No decoder serves, and why: one line for each that was thought of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoDecoder {
    pub(crate) reasons: Vec<String>,
}

/// What this box offers to choose from.
pub(crate) struct Offer<'a> {
    /// The plug-in that an element is in; `None`: not installed.
    pub(crate) plugin_of: &'a dyn Fn(&str) -> Option<String>,
    /// Index of the GPU whose context the pictures may be in, or why none.
    pub(crate) cuda: Result<u32, String>,
    /// The library that NVDEC is behind can be loaded.
    pub(crate) has_nvcuvid: bool,
    /// Opens the decoder of a video unit; its words where it does not open.
    pub(crate) opens: &'a dyn Fn(&str) -> Result<(), String>,
}

/// Why a decoder is not taken, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WhyNot {
    /// It is not here, or not for this stream.
    Absent(String),
    /// It is here and does not open.
    Broken(String),
}

impl WhyNot {
    pub(crate) fn words(&self) -> &str {
        match self {
            Self::Absent(words) | Self::Broken(words) => words,
        }
    }
}

/// Chooses among the decoders of `codec`.
///
/// # Errors
/// [`NoDecoder`] where nothing that `wish` allows is there.
pub(crate) fn choose(codec: &Codec, wish: &DecoderChoice, offer: &Offer<'_>) -> Result<Chosen, NoDecoder> {
    let chosen =
        |element: String, route| Chosen { element, route, why_not_hardware: None, unit_is_broken: false };
    if let DecoderChoice::Element(name) = wish {
        let known = codec.decoders.iter().find(|decoder| decoder.element == name);
        let route = known.map_or(Route::Other, |decoder| decoder.route);
        return match try_one(name, route, offer) {
            Ok(element) => Ok(chosen(element, route)),
            Err(why_not) => Err(NoDecoder { reasons: vec![why_not.words().to_owned()] }),
        };
    }
    let mut reasons = Vec::new();
    let (mut of_nvidia, mut broken) = (None, None);
    for decoder in codec.decoders.iter().filter(|decoder| is_allowed(decoder, wish)) {
        match try_one(decoder.element, decoder.route, offer) {
            Ok(element) if decoder.route.is_hardware() => return Ok(chosen(element, decoder.route)),
            Ok(element) => {
                let unit_is_broken = broken.is_some();
                let why = match wish {
                    DecoderChoice::Software => "the CPU is asked for".to_owned(),
                    _ => broken.or(of_nvidia).unwrap_or_else(|| "no GPU decodes this codec".to_owned()),
                };
                return Ok(Chosen {
                    why_not_hardware: Some(why),
                    unit_is_broken,
                    ..chosen(element, decoder.route)
                });
            }
            Err(why_not) => {
                let words = why_not.words().to_owned();
                match why_not {
                    WhyNot::Broken(words) => broken = broken.or(Some(words)),
                    WhyNot::Absent(words) if decoder.route == Route::Nvcodec => of_nvidia = Some(words),
                    WhyNot::Absent(_) => {}
                }
                if !reasons.contains(&words) {
                    reasons.push(words);
                }
            }
        }
    }
    Err(NoDecoder { reasons })
}

fn is_allowed(decoder: &Decoder, wish: &DecoderChoice) -> bool {
    match wish {
        DecoderChoice::Auto => true,
        DecoderChoice::Software => decoder.route == Route::Software,
        DecoderChoice::Hardware => decoder.route.is_hardware(),
        DecoderChoice::Element(name) => decoder.element == name,
    }
}

/// The factory to use, or why it cannot be.
pub(crate) fn try_one(element: &str, route: Route, offer: &Offer<'_>) -> Result<String, WhyNot> {
    let installed = |element: &str| (offer.plugin_of)(element);
    let absent = |element: &str| format!("{element} is not installed (package {})", package_of(element));
    let or_absent = |found: Option<String>, words: String| found.ok_or(WhyNot::Absent(words));
    match route {
        Route::Software | Route::Other => or_absent(installed(element), absent(element))?,
        Route::VideoUnit(interface) => {
            if installed(element).is_none() {
                return Err(WhyNot::Absent(interface.why_absent(element)));
            }
            (offer.opens)(element)
                .map_err(|why| WhyNot::Broken(format!("{element} is here and does not open: {why}")))?;
            return Ok(element.to_owned());
        }
        Route::Jetson => {
            or_absent(installed(element), format!("{element} is not here: this is no Jetson"))?;
            or_absent(installed(JETSON_CONVERTER), absent(JETSON_CONVERTER))?
        }
        Route::Nvcodec => {
            let gpu_index = offer.cuda.clone().map_err(WhyNot::Absent)?;
            return of_nvcodec(on_gpu(element, gpu_index), offer).map_err(WhyNot::Absent);
        }
    };
    Ok(element.to_owned())
}

fn of_nvcodec(element: String, offer: &Offer<'_>) -> Result<String, String> {
    if (offer.plugin_of)(&element).is_some_and(|plugin| plugin == NVCODEC) {
        return Ok(element);
    }
    Err(if offer.has_nvcuvid {
        format!("{element} is not offered: this GPU does not decode the codec, or {}", package(NVCODEC))
    } else {
        "libnvcuvid.so.1 is not here: install the driver's decode library (in a container set \
         NVIDIA_DRIVER_CAPABILITIES to include video)"
            .to_owned()
    })
}

fn package(plugin: &str) -> String {
    format!("the plug-in {plugin} (package gstreamer1.0-plugins-bad) is not installed")
}

/// nvcodec registers its decoders once for each GPU: `nvh264dec`, `nvh264device1dec`, …
fn on_gpu(element: &str, gpu_index: u32) -> String {
    match element.strip_suffix("dec") {
        Some(stem) if gpu_index > 0 => format!("{stem}device{gpu_index}dec"),
        _ => element.to_owned(),
    }
}

/// What this box offers to who wishes for `wish`.
pub(crate) fn with_offer<T>(
    wish: &DecoderChoice,
    gpu: Result<&GpuContext, &str>,
    look: impl FnOnce(&Offer<'_>) -> T,
) -> T {
    let cuda = gpu.map(GpuContext::index).map_err(str::to_owned);
    let wants_cuda = cuda.is_ok() && *wish != DecoderChoice::Software;
    look(&Offer { plugin_of: &plugin_of, cuda, has_nvcuvid: wants_cuda && has_nvcuvid(), opens: &opens })
}

/// The plug-in that an element is in, if it can be made.
pub(crate) fn plugin_of(element: &str) -> Option<String> {
    // A registry that was written when the driver was there names elements that cannot be made any more.
    let factory = gst::ElementFactory::find(element)?;
    let plugin = factory.plugin_name().map_or_else(String::new, |name| name.to_string());
    (plugin != NVCODEC || factory.load().is_ok()).then_some(plugin)
}

/// A registry that was written before the driver was installed says that nvcodec has no elements, and is
/// believed as long as the plug-in's file stays the same. Loading it looks again. (It also makes a context of its
/// own on every GPU, for a moment, which is why it is not done without need.)
pub(crate) fn load_nvcodec() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let plugin = gst::Registry::get().find_plugin(NVCODEC);
        if let Some(Err(error)) = plugin.map(|plugin| plugin.load()) {
            tracing::debug!("the plug-in {NVCODEC} cannot be loaded: {error}");
        }
    });
}

/// The converter that a route needs behind its decoder, with what comes out of it.
pub(crate) fn converter(route: Route) -> Option<(&'static str, &'static str)> {
    (route == Route::Jetson).then_some((JETSON_CONVERTER, "video/x-raw, format=(string)NV12"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::CODECS;
    use crate::video_unit::Interface;

    fn codec(name: &str) -> &'static Codec {
        CODECS.iter().find(|codec| codec.name == name).unwrap()
    }

    fn ask(
        name: &str,
        wish: &DecoderChoice,
        installed: &[(&str, &str)],
        cuda: Result<u32, &str>,
    ) -> Result<Chosen, NoDecoder> {
        ask_where(name, wish, installed, cuda, &|_| Ok(()))
    }

    fn ask_where(
        name: &str,
        wish: &DecoderChoice,
        installed: &[(&str, &str)],
        cuda: Result<u32, &str>,
        opens: &dyn Fn(&str) -> Result<(), String>,
    ) -> Result<Chosen, NoDecoder> {
        crate::init().unwrap();
        let plugin_of = |element: &str| {
            installed.iter().find(|(known, _)| *known == element).map(|(_, plugin)| (*plugin).to_owned())
        };
        let offer =
            Offer { plugin_of: &plugin_of, cuda: cuda.map_err(str::to_owned), has_nvcuvid: true, opens };
        choose(codec(name), wish, &offer)
    }

    const DESKTOP: &[(&str, &str)] =
        &[("nvh264dec", "nvcodec"), ("vah264dec", "va"), ("avdec_h264", "libav")];
    const JETSON: &[(&str, &str)] = &[
        ("nvv4l2decoder", "nvvideo4linux2"),
        ("nvvidconv", "nvvidconv"),
        ("nvjpegdec", "nvjpeg"),
        ("jpegdec", "jpeg"),
        ("avdec_h264", "libav"),
    ];

    #[test]
    fn auto_takes_the_gpu_where_there_is_one_and_says_why_where_not() {
        let on_gpu = ask("H.264", &DecoderChoice::Auto, DESKTOP, Ok(0)).unwrap();
        assert_eq!((on_gpu.element.as_str(), on_gpu.route), ("nvh264dec", Route::Nvcodec));
        assert_eq!(on_gpu.why_not_hardware, None);
        let only_cpu = &[("avdec_h264", "libav")];
        let on_cpu = ask("H.264", &DecoderChoice::Auto, only_cpu, Err("no GPU is used")).unwrap();
        assert_eq!((on_cpu.element.as_str(), on_cpu.route), ("avdec_h264", Route::Software));
        assert_eq!(on_cpu.why_not_hardware.as_deref(), Some("no GPU is used"));
        assert!(!on_cpu.unit_is_broken);
    }

    #[test]
    fn auto_takes_the_first_video_unit_that_opens_and_the_cpu_only_where_none_does() {
        let all: Vec<(&str, &str)> = codec("H.264")
            .decoders
            .iter()
            .filter(|decoder| !matches!(decoder.route, Route::Jetson | Route::Nvcodec))
            .map(|decoder| (decoder.element, "a plug-in"))
            .collect();
        let order: Vec<&str> = all.iter().map(|(element, _)| *element).collect();
        assert_eq!(
            order[..7],
            [
                "vah264dec",
                "qsvh264dec",
                "mppvideodec",
                "v4l2slh264dec",
                "v4l2h264dec",
                "vaapih264dec",
                "avdec_h264"
            ]
        );
        // Those before the first that opens do not open.
        for first in 0..7 {
            let opens = |element: &str| match order.iter().position(|known| *known == element) {
                Some(place) if place >= first => Ok(()),
                _ => Err("no device".to_owned()),
            };
            let chosen = ask_where("H.264", &DecoderChoice::Auto, &all, Err("no GPU"), &opens).unwrap();
            assert_eq!(chosen.element, order[first]);
            let is_last = chosen.element == "avdec_h264";
            assert_eq!((chosen.unit_is_broken, chosen.why_not_hardware.is_some()), (is_last, is_last));
            if is_last {
                assert_eq!(
                    chosen.why_not_hardware.as_deref(),
                    Some("vah264dec is here and does not open: no device")
                );
            }
        }
    }

    #[test]
    fn a_video_unit_is_not_opened_for_who_wants_the_cpu_or_has_an_nvidia_gpu() {
        let opens = |element: &str| panic!("{element} is opened");
        let on_cpu = ask_where("H.264", &DecoderChoice::Software, DESKTOP, Ok(0), &opens).unwrap();
        assert_eq!(on_cpu.element, "avdec_h264");
        assert_eq!(
            ask_where("H.264", &DecoderChoice::Auto, DESKTOP, Ok(0), &opens).unwrap().element,
            "nvh264dec"
        );
    }

    #[test]
    fn a_second_gpu_has_decoders_of_its_own() {
        let installed = &[("nvh264device1dec", "nvcodec"), ("nvh264dec", "nvcodec")];
        let chosen = ask("H.264", &DecoderChoice::Auto, installed, Ok(1)).unwrap();
        assert_eq!(chosen.element, "nvh264device1dec");
    }

    #[test]
    fn a_jetson_decodes_in_its_video_unit_and_its_own_jpeg_decoder_is_not_taken_for_nvcodecs() {
        let chosen = ask("H.264", &DecoderChoice::Auto, JETSON, Err("libgstcuda is not here")).unwrap();
        assert_eq!((chosen.element.as_str(), chosen.route), ("nvv4l2decoder", Route::Jetson));
        let jpeg = ask("JPEG", &DecoderChoice::Auto, JETSON, Ok(0)).unwrap();
        assert_eq!(jpeg.element, "jpegdec");
        let without_converter: Vec<_> =
            JETSON.iter().copied().filter(|(name, _)| *name != "nvvidconv").collect();
        let chosen = ask("H.264", &DecoderChoice::Auto, &without_converter, Err("no")).unwrap();
        assert_eq!(chosen.element, "avdec_h264");
    }

    #[test]
    fn software_is_software_and_hardware_never_is() {
        let chosen = ask("H.264", &DecoderChoice::Software, DESKTOP, Ok(0)).unwrap();
        assert_eq!(chosen.element, "avdec_h264");
        let chosen = ask("H.264", &DecoderChoice::Hardware, DESKTOP, Err("no GPU is used")).unwrap();
        assert_eq!((chosen.element.as_str(), chosen.route), ("vah264dec", Route::VideoUnit(Interface::Va)));
        let only_cpu = &[("avdec_h264", "libav")];
        let refused = ask("H.264", &DecoderChoice::Hardware, only_cpu, Err("no GPU is used")).unwrap_err();
        assert!(refused.reasons.iter().any(|reason| reason == "no GPU is used"), "{refused:?}");
        assert!(refused.reasons.iter().any(|reason| reason.contains("vah264dec")), "{refused:?}");
    }

    #[test]
    fn an_element_by_name_is_taken_or_refused() {
        let wish = DecoderChoice::Element("vah264dec".to_owned());
        assert_eq!(ask("H.264", &wish, DESKTOP, Ok(0)).unwrap().element, "vah264dec");
        let wish = DecoderChoice::Element("nvh264dec".to_owned());
        assert_eq!(ask("H.264", &wish, DESKTOP, Err("none")).unwrap_err().reasons, ["none"]);
    }

    #[test]
    fn what_the_gpu_cannot_decode_says_so() {
        let installed = &[("avdec_h264", "libav")];
        let chosen = ask("H.264", &DecoderChoice::Auto, installed, Ok(0)).unwrap();
        let why = chosen.why_not_hardware.unwrap();
        assert!(why.contains("nvh264dec"), "{why}");
    }
}
