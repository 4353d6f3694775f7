//! The command line.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use watchpost_testcam::{CameraOptions, Codec, Credentials, FAULTS, Picture, Tls, parse_duration};

/// Test cameras: real RTSP servers on loopback that can be told to misbehave.
#[derive(Debug, Parser)]
#[command(name = "watchpost-testcam", version, about, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve a scene or a clip over RTSP until told to stop
    #[command(after_long_help = orders_help(), after_help = "More, with every fault explained: --help")]
    Serve(Serve),
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Film a rendered scene: any of seed, width, height and fps
    #[arg(long, value_name = "KEY=N,…", default_value = "seed=1,width=640,height=360,fps=15", value_parser = parse_scene)]
    scene: Picture,
    /// Play a video file instead of a scene
    #[arg(long, value_name = "FILE", conflicts_with = "scene")]
    clip: Option<PathBuf>,
    /// End the stream with the clip instead of starting again
    #[arg(long, requires = "clip")]
    once: bool,
    /// h264, h265 or mjpeg
    #[arg(long, default_value = "h264")]
    codec: Codec,
    /// User name that clients must give (digest authentication)
    #[arg(long, requires = "password_env")]
    user: Option<String>,
    /// Environment variable that holds the password
    #[arg(long, value_name = "VARIABLE", requires = "user")]
    password_env: Option<String>,
    /// Address on which the cameras listen; on any other than 127.0.0.1 without the faults of connections
    #[arg(long, value_name = "IPV4", default_value_t = Ipv4Addr::LOCALHOST)]
    address: Ipv4Addr,
    /// TCP port on that address; 0 takes any free one. Further cameras take the following ports
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Serve rtsps:// with a self-signed certificate
    #[arg(long)]
    tls: bool,
    /// Target bit rate (not for mjpeg)
    #[arg(long, value_name = "N", default_value_t = 1000)]
    bitrate_kbps: u32,
    /// Frames from one keyframe to the next [default: one second]
    #[arg(long, value_name = "N")]
    gop: Option<u32>,
    /// Let the encoder use B-frames
    #[arg(long)]
    b_frames: bool,
    /// H.264 in the High profile, as most cameras send it, instead of Constrained Baseline
    #[arg(long)]
    high_profile: bool,
    /// Wait for acknowledgements with what is left of a picture (Nagle's algorithm), as sockets do by default
    #[arg(long)]
    nagle: bool,
    /// Write `number unix_ns` for every picture that is handed to the encoder
    #[arg(long, value_name = "FILE")]
    frame_log: Option<PathBuf>,
    /// RTP timestamp to begin with [default: random]; near 4294967295 it wraps soon, and sequence numbers do
    #[arg(long, value_name = "N")]
    first_timestamp: Option<u32>,
    /// Refuse connections for this long after the start, as in 3s
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration)]
    startup_delay: Duration,
    /// End after this long, as in 60s
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) duration: Option<Duration>,
    /// Number of cameras; scene seeds count up, frame logs get the ending .1, .2 and so on
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse_camera_count)]
    pub(crate) cameras: usize,
}

impl Serve {
    /// The options of every camera.
    pub(crate) fn all_options(&self) -> Result<Vec<CameraOptions>, String> {
        (0..self.cameras).map(|index| self.options(index)).collect()
    }

    fn options(&self, index: usize) -> Result<CameraOptions, String> {
        let credentials = match (&self.user, &self.password_env) {
            (Some(user), Some(variable)) => {
                let password = std::env::var(variable)
                    .map_err(|_| format!("the environment variable {variable} holds no password; set it"))?;
                Some(Credentials { user: user.clone(), password })
            }
            _ => None,
        };
        let port = match self.port {
            0 => 0,
            first => {
                first.checked_add(index as u16).ok_or("there are not enough ports; choose a lower one")?
            }
        };
        let frame_log = self.frame_log.clone().map(|mut path| {
            if index > 0 {
                path.as_mut_os_string().push(format!(".{index}"));
            }
            path
        });
        let (picture, fps) = self.picture(index);
        Ok(CameraOptions {
            picture,
            codec: self.codec,
            bitrate_kbps: self.bitrate_kbps,
            gop: self.gop.unwrap_or(fps),
            b_frames: self.b_frames,
            high_profile: self.high_profile,
            nagle: self.nagle,
            credentials,
            address: self.address,
            port,
            tls: self.tls.then_some(Tls::SelfSigned),
            startup_delay: self.startup_delay,
            frame_log,
            first_timestamp: self.first_timestamp,
        })
    }

    /// The picture of one camera, and its frames per second as far as they are known before it is opened.
    fn picture(&self, index: usize) -> (Picture, u32) {
        match (&self.clip, &self.scene) {
            (Some(path), _) => (Picture::Clip { path: path.clone(), repeat: !self.once }, 25),
            (None, &Picture::Scene { seed, width, height, fps }) => {
                (Picture::Scene { seed: seed.wrapping_add(index as u64), width, height, fps }, fps)
            }
            (None, clip) => (clip.clone(), 25),
        }
    }
}

fn parse_scene(text: &str) -> Result<Picture, String> {
    let (mut seed, mut width, mut height, mut fps) = (1, 640, 360, 15);
    for pair in text.split(',') {
        let (key, value) = pair.split_once('=').ok_or_else(|| format!("`{pair}` is not KEY=NUMBER"))?;
        let number: u64 = value.parse().map_err(|_| format!("`{value}` is not a whole number"))?;
        let small = u32::try_from(number).map_err(|_| format!("{key} cannot be {number}"));
        match key {
            "seed" => seed = number,
            "width" => width = small?,
            "height" => height = small?,
            "fps" => fps = small?,
            other => return Err(format!("`{other}` is not known; use seed, width, height and fps")),
        }
    }
    Ok(Picture::Scene { seed, width, height, fps })
}

fn parse_camera_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=64) => Ok(count),
        _ => Err("give 1 to 64 cameras".into()),
    }
}

/// Explains the orders and every fault.
fn orders_help() -> String {
    let mut help = String::from(
        "Prints one JSON line when the camera listens:\n  \
         {\"event\":\"ready\",\"url\":\"rtsp://127.0.0.1:PORT/stream\",\"urls\":[…],\"at_unix_ns\":…}\n\
         then reads orders from stdin, one a line, and answers each with one JSON line:\n  \
         fault NAME [ARG]      misbehave from now on; ends the fault before\n  \
         heal                  behave again\n  \
         resolution W H        change the size of the stream for good\n  \
         stats                 frames_sent, next_frame_number, frames_skipped, clients of each camera\n  \
         quit                  end; so do the end of stdin, SIGTERM, SIGINT and the death of the parent\n\
         With several cameras, `@1 fault close` addresses the second; without `@` all are meant.\n\n\
         Faults:\n",
    );
    for (usage, effect) in FAULTS {
        let _ = writeln!(help, "  {usage:<25} {effect}");
    }
    help
}
