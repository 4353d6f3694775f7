//! Which decoder a codec gets on this box, and why not a better one.

use gstreamer as gst;
use gstreamer::prelude::*;

use crate::gst_cuda::{GpuContext, has_nvcuvid};
use crate::spec::DecoderChoice;
use crate::table::{Codec, Decoder, Route, package_of};

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
}

/// Chooses among the decoders of `codec`.
///
/// # Errors
/// [`NoDecoder`] where nothing that `wish` allows is there.
pub(crate) fn choose(codec: &Codec, wish: &DecoderChoice, offer: &Offer<'_>) -> Result<Chosen, NoDecoder> {
    let chosen = |element: String, route| Chosen { element, route, why_not_hardware: None };
    if let DecoderChoice::Element(name) = wish {
        let known = codec.decoders.iter().find(|decoder| decoder.element == name);
        let route = known.map_or(Route::Other, |decoder| decoder.route);
        return match try_one(name, route, offer) {
            Ok(element) => Ok(chosen(element, route)),
            Err(reason) => Err(NoDecoder { reasons: vec![reason] }),
        };
    }
    let mut reasons = Vec::new();
    let mut of_nvidia = None;
    for decoder in codec.decoders.iter().filter(|decoder| is_allowed(decoder, wish)) {
        match try_one(decoder.element, decoder.route, offer) {
            Ok(element) => {
                let why_not_hardware = (!decoder.route.is_hardware()).then(|| match wish {
                    DecoderChoice::Software => "the CPU is asked for".to_owned(),
                    _ => of_nvidia.take().unwrap_or_else(|| "no GPU decodes this codec".to_owned()),
                });
                return Ok(Chosen { why_not_hardware, ..chosen(element, decoder.route) });
            }
            Err(reason) => {
                if decoder.route == Route::Nvcodec {
                    of_nvidia = Some(reason.clone());
                }
                if !reasons.contains(&reason) {
                    reasons.push(reason);
                }
            }
        }
    }
    Err(NoDecoder { reasons })
}

fn is_allowed(decoder: &Decoder, wish: &DecoderChoice) -> bool {
    match wish {
        DecoderChoice::Auto => decoder.route != Route::Other,
        DecoderChoice::Software => decoder.route == Route::Software,
        DecoderChoice::Hardware => decoder.route.is_hardware(),
        DecoderChoice::Element(name) => decoder.element == name,
    }
}

/// The factory to use, or why it cannot be.
fn try_one(element: &str, route: Route, offer: &Offer<'_>) -> Result<String, String> {
    let installed = |element: &str| (offer.plugin_of)(element);
    let absent = |element: &str| format!("{element} is not installed (package {})", package_of(element));
    match route {
        Route::Software => installed(element).map(|_| element.to_owned()).ok_or_else(|| absent(element)),
        Route::Other => installed(element).map(|_| element.to_owned()).ok_or_else(|| {
            format!(
                "{element} is not here: no device for it, or the package {} is missing",
                package_of(element)
            )
        }),
        Route::Jetson => {
            installed(element).ok_or_else(|| format!("{element} is not here: this is no Jetson"))?;
            installed(JETSON_CONVERTER).ok_or_else(|| absent(JETSON_CONVERTER))?;
            Ok(element.to_owned())
        }
        Route::Nvcodec => {
            let element = on_gpu(element, offer.cuda.clone()?);
            if installed(&element).is_some_and(|plugin| plugin == NVCODEC) {
                return Ok(element);
            }
            Err(if offer.has_nvcuvid {
                format!(
                    "{element} is not offered: this GPU does not decode the codec, or {}",
                    package(NVCODEC)
                )
            } else {
                "libnvcuvid.so.1 is not here: install the driver's decode library (in a container set \
                 NVIDIA_DRIVER_CAPABILITIES to include video)"
                    .to_owned()
            })
        }
    }
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
    look(&Offer { plugin_of: &plugin_of, cuda, has_nvcuvid: wants_cuda && has_nvcuvid() })
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

    fn codec(name: &str) -> &'static Codec {
        CODECS.iter().find(|codec| codec.name == name).unwrap()
    }

    fn ask(
        name: &str,
        wish: &DecoderChoice,
        installed: &[(&str, &str)],
        cuda: Result<u32, &str>,
    ) -> Result<Chosen, NoDecoder> {
        let plugin_of = |element: &str| {
            installed.iter().find(|(known, _)| *known == element).map(|(_, plugin)| (*plugin).to_owned())
        };
        let offer = Offer { plugin_of: &plugin_of, cuda: cuda.map_err(str::to_owned), has_nvcuvid: true };
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
        let on_cpu = ask("H.264", &DecoderChoice::Auto, DESKTOP, Err("no GPU is used")).unwrap();
        assert_eq!((on_cpu.element.as_str(), on_cpu.route), ("avdec_h264", Route::Software));
        assert_eq!(on_cpu.why_not_hardware.as_deref(), Some("no GPU is used"));
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
        assert_eq!((chosen.element.as_str(), chosen.route), ("vah264dec", Route::Other));
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
