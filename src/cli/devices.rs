//! `watchpost devices`: what this box has, and one line each for what it has not.

use std::fmt::Write as _;
use std::io::Write;

use serde_json::json;

use super::common::{decoders_json, print, print_json};
use super::{Failure, exit};
use crate::engine;

/// Arguments of `watchpost devices`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
    watchpost devices --json | jq '.decoders[] | select(.available) | .element'")]
pub struct DevicesArgs {
    /// Print a JSON object instead of text
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &DevicesArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let report =
        watchpost_pipelines::devices().map_err(|error| Failure::new(exit::UNAVAILABLE, error.to_string()))?;
    let backends = engine::backends();
    if args.json {
        let value = json!({
            "cameras": report.cameras.iter().map(|c| json!({
                "name": c.name, "device": c.device, "by_id": c.by_id, "formats": c.formats,
            })).collect::<Vec<_>>(),
            "decoders": report.decoders.iter().map(|d| json!({
                "codec": d.codec, "element": d.element, "available": d.available, "hardware": d.hardware,
                "why_not": d.why_not,
            })).collect::<Vec<_>>(),
            "decoding": decoders_json(&report.decoding),
            "why_not_cuda": report.why_not_cuda,
            "missing": report.missing.iter().map(|m| json!({
                "element": m.element, "package": m.package, "needed_for": m.needed_for,
            })).collect::<Vec<_>>(),
            "backends": backends.iter().map(|b| json!({
                "name": b.name, "available": b.available, "explanation": b.explanation,
            })).collect::<Vec<_>>(),
            "gstreamer": watchpost_pipelines::version(),
        });
        return print_json(out, &value);
    }
    print(out, &text(&report, &backends))
}

fn text(report: &watchpost_pipelines::DeviceReport, backends: &[engine::BackendReport]) -> String {
    let mut text = String::from("Cameras (V4L2)\n");
    // Writing into a String cannot fail.
    if report.cameras.is_empty() {
        text += "  none found; network cameras need no entry here: try `watchpost probe rtsp://…`\n";
    }
    for camera in &report.cameras {
        let path = camera.by_id.as_ref().unwrap_or(&camera.device);
        let _ = writeln!(text, "  {}  v4l2://{}  {}", camera.name, path.display(), camera.formats.join(", "));
    }
    text += "\nDecoders\n";
    for decoder in &report.decoders {
        let kind = if decoder.hardware { "hardware" } else { "software" };
        let state = decoder.why_not.as_ref().map_or("found".to_owned(), |why_not| format!("no: {why_not}"));
        let _ = writeln!(text, "  {:6}  {:16}  {kind}  {state}", decoder.codec, decoder.element);
    }
    text += "\nDecoding, as `decoder = \"auto\"` chooses\n";
    for line in report.decoding.to_string().lines() {
        let _ = writeln!(text, "  {line}");
    }
    match &report.why_not_cuda {
        Some(why) => {
            let _ = writeln!(text, "  CUDA memory: not here: {why}");
        }
        None => text += "  CUDA memory: used where the detector runs on the GPU\n",
    }
    text += "\nBackends\n";
    for backend in backends {
        let state = if backend.available { "found" } else { "not here" };
        let _ = writeln!(text, "  {:12}  {state:8}  {}", backend.name, backend.explanation);
    }
    if !report.missing.is_empty() {
        text += "\nNot installed\n";
    }
    for missing in &report.missing {
        let _ = writeln!(text, "  {} (package {}): {}", missing.element, missing.package, missing.needed_for);
    }
    let _ = writeln!(text, "\nGStreamer {}", watchpost_pipelines::version());
    text
}
