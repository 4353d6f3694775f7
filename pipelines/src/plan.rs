//! Which decoder a source would get, said before it is opened.

use std::fmt;

use gstreamer as gst;

use crate::InitError;
use crate::build::gpu_context;
use crate::choice::{choose, with_offer};
use crate::outlet::Memory;
use crate::spec::{SourceKind, Spec};
use crate::table::{CODECS, Codec, Route, templates};

/// Which decoders a source would get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecoderPlan {
    /// One for every codec that such a source may send; empty where nothing is left to choose.
    pub codecs: Vec<CodecPlan>,
    /// What decides instead of, or besides, the codec.
    pub note: Option<String>,
}

/// The decoder of one codec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodecPlan {
    /// `"H.264"`, …
    pub codec: String,
    /// The GStreamer element; `None`: the codec cannot be decoded.
    pub element: Option<String>,
    /// A GPU or video unit decodes.
    pub hardware: bool,
    /// Where the pictures will be.
    pub memory: Memory,
    /// Why not on the GPU, or why not at all.
    pub why: Option<String>,
}

/// Says which decoders `spec` leads to on this box. Opens nothing but the plug-ins.
///
/// # Errors
/// When GStreamer cannot be initialised.
pub fn plan(spec: &Spec) -> Result<DecoderPlan, InitError> {
    crate::init()?;
    if spec.template.is_some() {
        let note = Some("the camera's own template decides".to_owned());
        return Ok(DecoderPlan { codecs: Vec::new(), note });
    }
    let gpu = gpu_context(spec);
    let gpu = gpu.as_deref().map_err(String::as_str);
    let wish = spec.decoder_for_kind();
    let codecs = with_offer(&wish, gpu, |offer| {
        let of_codec = |codec: &Codec| match choose(codec, &wish, offer) {
            Ok(chosen) => CodecPlan {
                codec: codec.name.to_owned(),
                element: Some(chosen.element),
                hardware: chosen.route.is_hardware(),
                memory: if chosen.route == Route::Nvcodec { Memory::Cuda } else { Memory::System },
                why: chosen.why_not_hardware,
            },
            Err(no_decoder) => CodecPlan {
                codec: codec.name.to_owned(),
                element: None,
                hardware: false,
                memory: Memory::System,
                why: Some(no_decoder.reasons.join("; ")).filter(|why| !why.is_empty()),
            },
        };
        CODECS.iter().filter(|codec| may_send(&spec.kind, codec)).map(of_codec).collect()
    });
    Ok(DecoderPlan { codecs, note: note(&spec.kind) })
}

fn may_send(kind: &SourceKind, codec: &Codec) -> bool {
    match kind {
        SourceKind::Rtsp { .. } => !codec.rtp_encoding.is_empty(),
        SourceKind::V4l2 { .. } => matches!(codec.name, "H.264" | "H.265" | "JPEG"),
        SourceKind::Csi { .. } => false,
        SourceKind::File { .. } => codec.parser.is_some(),
        SourceKind::Image { .. } => matches!(codec.name, "JPEG" | "PNG" | "WebP" | "BMP"),
    }
}

fn note(kind: &SourceKind) -> Option<String> {
    match kind {
        SourceKind::V4l2 { .. } => Some("raw pictures need no decoder and are in system memory".to_owned()),
        SourceKind::Csi { .. } => {
            let installed = |element: &str| gst::ElementFactory::find(element).is_some();
            let source = templates(kind).iter().find(|template| installed(template.key_element));
            Some(match source {
                Some(template) => {
                    format!("{} gives raw pictures, which are in system memory", template.key_element)
                }
                None => "neither nvarguscamerasrc nor libcamerasrc is installed".to_owned(),
            })
        }
        _ => None,
    }
}

impl fmt::Display for DecoderPlan {
    /// One line for all codecs that are decoded alike.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut groups: Vec<(&CodecPlan, Vec<String>)> = Vec::new();
        for plan in &self.codecs {
            let words = match &plan.element {
                Some(element) => format!("{} {element}", plan.codec),
                None => plan.codec.clone(),
            };
            let alike = |known: &CodecPlan| {
                (known.element.is_some(), known.hardware, known.memory, &known.why)
                    == (plan.element.is_some(), plan.hardware, plan.memory, &plan.why)
            };
            match groups.iter_mut().find(|(known, _)| alike(known)) {
                Some((_, members)) => members.push(words),
                None => groups.push((plan, vec![words])),
            }
        }
        let mut lines: Vec<String> =
            groups.iter().map(|(plan, members)| line(plan, &members.join(", "))).collect();
        lines.extend(self.note.clone());
        f.write_str(&lines.join("\n"))
    }
}

fn line(plan: &CodecPlan, members: &str) -> String {
    let how = match (&plan.element, plan.hardware) {
        (None, _) => "not decoded".to_owned(),
        (Some(_), true) => format!("hardware, {}", plan.memory),
        (Some(_), false) => format!("CPU, {}", plan.memory),
    };
    match &plan.why {
        Some(why) => format!("{members}: {how} ({why})"),
        None => format!("{members}: {how}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::DecoderChoice;

    fn of(kind: SourceKind, decoder: DecoderChoice) -> DecoderPlan {
        plan(&Spec { decoder, ..Spec::new(kind) }).unwrap()
    }

    #[test]
    fn without_a_gpu_the_cpu_decodes_and_one_line_says_so() {
        let camera = of(SourceKind::Rtsp { url: "rtsp://x/".to_owned() }, DecoderChoice::Auto);
        let h264 = camera.codecs.iter().find(|plan| plan.codec == "H.264").unwrap();
        assert_eq!(h264.memory, Memory::System);
        if h264.hardware {
            eprintln!("NOT TESTED: the plan without hardware: this box has {h264:?}");
            return;
        }
        assert!(h264.why.as_deref().unwrap().contains("NVIDIA GPU"), "{h264:?}");
        let text = camera.to_string();
        assert!(
            text.contains("H.264 avdec_h264, H.265 avdec_h265, JPEG jpegdec: CPU, system memory"),
            "{text}"
        );
    }

    #[test]
    fn hardware_that_is_not_there_is_said_for_each_codec() {
        let camera = of(SourceKind::Rtsp { url: "rtsp://x/".to_owned() }, DecoderChoice::Hardware);
        let mpeg4 = camera.codecs.iter().find(|plan| plan.codec == "MPEG-4").unwrap();
        assert_eq!((mpeg4.element.as_deref(), mpeg4.why.as_deref()), (None, None));
        assert!(camera.to_string().contains("not decoded"), "{camera}");
    }

    #[test]
    fn where_no_decoder_is_needed_the_plan_says_what_decides() {
        let sensor = of(SourceKind::Csi { sensor_index: 0 }, DecoderChoice::Auto);
        assert!(sensor.codecs.is_empty() && sensor.note.is_some(), "{sensor:?}");
        let own = Spec { template: Some("x".to_owned()), ..Spec::new(SourceKind::Csi { sensor_index: 0 }) };
        assert_eq!(plan(&own).unwrap().to_string(), "the camera's own template decides");
    }
}
