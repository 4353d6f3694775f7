//! `watchpost probe URL`: connect once and tell what is there.

use std::io::Write;
use std::time::Duration;

use serde_json::json;

use super::common::{print, print_json, start_gstreamer};
use super::{Failure, exit};
use crate::camera::Reason;
use crate::config::{CameraOptions, Locator, Secret, Transport, parse_duration, parse_url};
use crate::source::{GstSource, fault};

/// Arguments of `watchpost probe`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
    watchpost probe rtsp://10.0.0.12/stream2 --username viewer --password-env GATE_PASSWORD
    watchpost probe v4l2:///dev/video0
    watchpost probe file:///tmp/clip.mp4")]
pub struct ProbeArgs {
    /// rtsp://, rtsps://, v4l2:///dev/…, csi://N or file:///…
    url: String,

    /// RTSP user
    #[arg(long)]
    username: Option<String>,

    /// Environment variable that holds the RTSP password (a password on the command line is seen by `ps`)
    #[arg(long, value_name = "NAME")]
    password_env: Option<String>,

    /// tcp or udp
    #[arg(long, default_value = "tcp", value_parser = ["tcp", "udp"])]
    transport: String,

    /// Do not check the certificate of rtsps://
    #[arg(long)]
    insecure: bool,

    /// Give up after this
    #[arg(long, default_value = "10s", value_name = "DURATION")]
    timeout: String,

    /// Print a JSON object instead of text
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ProbeArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let usage = |message: String| Failure::new(exit::USAGE, message);
    let timeout: Duration =
        parse_duration(&args.timeout).map_err(|error| usage(format!("--timeout: {error}")))?;
    let camera = camera(args)?;
    let source = GstSource::new(&camera).ok_or_else(|| {
        usage("test://scene is drawn by watchpost itself; there is nothing to probe".to_owned())
    })?;
    start_gstreamer()?;
    let report = watchpost_pipelines::probe(source.spec(), timeout).map_err(|failure| {
        let fault = fault(failure);
        let code = match fault.reason {
            Reason::Unsupported => exit::UNAVAILABLE,
            _ => exit::NO_INPUT,
        };
        Failure::new(code, fault.detail)
    })?;
    let first_frame_ms = report.time_to_first_frame.as_millis();
    let codec = report.codec.as_deref().unwrap_or("raw");
    let decoder = report.decoder.as_deref().unwrap_or("none");
    let format = format!("{:?}", report.format).to_uppercase();
    if args.json {
        let value = json!({
            "codec": codec, "width": report.width, "height": report.height, "fps": report.fps,
            "decoder": decoder, "format": format, "colorimetry": report.colorimetry,
            "transport": report.transport.map(|t| t.to_string()), "time_to_first_frame_ms": first_frame_ms,
        });
        return print_json(out, &value);
    }
    let fps = report.fps.map_or("unknown".to_owned(), |fps| format!("{fps:.2}/s"));
    let mut text = format!(
        "codec                {codec}\nsize                 {}x{}\nrate                 {fps}\n\
         decoder              {decoder} ({format})\n",
        report.width, report.height,
    );
    if let Some(colorimetry) = &report.colorimetry {
        text += &format!("colorimetry          {colorimetry}\n");
    }
    if let Some(transport) = report.transport {
        text += &format!("transport            {transport}\n");
    }
    text += &format!("time to first frame  {first_frame_ms} ms\n");
    print(out, &text)
}

fn camera(args: &ProbeArgs) -> Result<CameraOptions, Failure> {
    let usage = |message: String| Failure::new(exit::USAGE, message);
    let url = parse_url(&args.url).map_err(|error| usage(format!("the URL {error}")))?;
    let mut camera = CameraOptions::new("probe", url.locator);
    camera.username = args.username.clone().or(url.username);
    camera.password = match &args.password_env {
        Some(name) => Some(Secret::new(
            std::env::var(name)
                .map_err(|_| usage(format!("--password-env: the variable {name} is not set")))?,
        )),
        None => url.password,
    };
    camera.transport = if args.transport == "udp" { Transport::Udp } else { Transport::Tcp };
    camera.tls_verify = !args.insecure;
    if let Locator::File { path } = &camera.locator
        && !path.exists()
    {
        return Err(Failure::new(
            exit::NO_INPUT,
            format!("{}: No such file or folder; check the path", path.display()),
        ));
    }
    Ok(camera)
}
