//! The cameras, and the configurations in which the daemon watches them.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use watchpost_testcam::{CameraOptions, Credentials, Picture, TestCamera};

use super::Failure;
use super::form::{FPS, Form, STALL_TIMEOUT};

/// The variable that holds the cameras' password.
pub const PASSWORD: (&str, &str) = ("SOAK_PASSWORD", "correct-horse-battery");
const USER: &str = "viewer";
/// Cameras that are watched by those who come and go.
const HOSTS: usize = 2;

/// A camera that comes and goes with reloads; the numbers are what a change of it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guest {
    pub number: usize,
    pub latency_ms: u64,
    pub detect_fps: u64,
    pub slots: usize,
}

/// What the configuration names.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    /// Without victims, neighbours and guests there is only the camera of the resting daemon.
    pub at_work: bool,
    pub guests: Vec<Guest>,
    /// Outputs that come and go.
    pub more_outputs: usize,
    /// Something that no configuration may have.
    pub is_wrong: bool,
}

/// All cameras of a run. They are real RTSP servers in this process.
pub struct Stage {
    pub resting: TestCamera,
    pub neighbours: Vec<TestCamera>,
    pub victims: Vec<TestCamera>,
    hosts: Vec<TestCamera>,
    pub folder: PathBuf,
    pub tcp_port: u16,
}

pub fn victim(index: usize) -> String {
    format!("victim{index}")
}

pub fn neighbour(index: usize) -> String {
    format!("neighbour{index}")
}

impl Stage {
    pub fn new(form: &Form, folder: &Path) -> Result<Self, Failure> {
        let mut seed = 0;
        let mut cameras = |count: usize, credentials: Option<Credentials>| {
            (0..count)
                .map(|_| {
                    seed += 1;
                    camera(seed, credentials.clone())
                })
                .collect::<Result<Vec<_>, Failure>>()
        };
        let credentials = Credentials { user: USER.to_owned(), password: PASSWORD.1.to_owned() };
        // Free now; whoever takes it meanwhile makes the daemon say so.
        let tcp_port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        Ok(Self {
            resting: cameras(1, None)?.remove(0),
            neighbours: cameras(form.neighbours, None)?,
            victims: cameras(form.victims, Some(credentials))?,
            hosts: cameras(if form.disturbed { HOSTS } else { 0 }, None)?,
            folder: folder.to_owned(),
            tcp_port,
        })
    }

    /// Cameras that the daemon watches in this layout.
    pub fn cameras_count(&self, layout: &Layout) -> usize {
        let at_work = if layout.at_work { self.victims.len() + self.neighbours.len() } else { 0 };
        1 + at_work + layout.guests.len()
    }

    /// The configuration file.
    pub fn config(&self, layout: &Layout) -> String {
        let folder = self.folder.display();
        let mut text = format!(
            "[detector]\nmodel = \"demo\"\nbackend = \"builtin\"\nthreads = 1\n\n\
             [supervisor]\nbackoff_min = \"100ms\"\nbackoff_max = \"300ms\"\n\n\
             [debug]\nsocket = \"{folder}/debug.sock\"\n\n\
             [defaults]\nstall_timeout = \"{}ms\"\nopen_timeout = \"1500ms\"\nlatency = \"50ms\"\nread_stamp = true\n\n\
             [output.console]\ntype = \"stdout\"\n\n\
             [output.local]\ntype = \"unix\"\npath = \"{folder}/records.sock\"\nbuffer = \"64KiB\"\nmax_readers = 24\n\n\
             [output.net]\ntype = \"tcp\"\nlisten = \"127.0.0.1:{}\"\nbuffer = \"64KiB\"\nmax_readers = 8\n",
            STALL_TIMEOUT.as_millis(),
            self.tcp_port,
        );
        let mut add = |name: &str, camera: &TestCamera, keys: &str| {
            let _infallible = write!(text, "\n[camera.{name}]\nurl = \"{}\"\n{keys}\n", camera.url());
        };
        // So seldom that its slots are seen at home.
        add("resting", &self.resting, "detect_fps = 2");
        if layout.at_work {
            for (index, camera) in self.neighbours.iter().enumerate() {
                add(&neighbour(index), camera, "");
            }
            let keys = format!(
                "freeze_timeout = \"{}ms\"\nusername = \"{USER}\"\npassword_env = \"{}\"",
                STALL_TIMEOUT.as_millis(),
                PASSWORD.0
            );
            for (index, camera) in self.victims.iter().enumerate() {
                add(&victim(index), camera, &keys);
            }
        }
        for guest in &layout.guests {
            let Guest { number, latency_ms, detect_fps, slots } = *guest;
            let keys = format!("latency = \"{latency_ms}ms\"\ndetect_fps = {detect_fps}\nslots = {slots}");
            add(&format!("guest{number}"), &self.hosts[number % HOSTS], &keys);
        }
        for number in 0..layout.more_outputs {
            let _infallible = write!(
                text,
                "\n[output.more{number}]\ntype = \"unix\"\npath = \"{folder}/more{number}.sock\"\n"
            );
        }
        if layout.is_wrong {
            text += "\n[camera.wrong]\nurl = \"gopher://nowhere\"\n";
        }
        text
    }
}

fn camera(seed: u64, credentials: Option<Credentials>) -> Result<TestCamera, Failure> {
    let options = CameraOptions {
        picture: Picture::Scene { seed, width: 320, height: 192, fps: FPS },
        bitrate_kbps: 1000,
        // A client that comes back sees a picture within half a second.
        gop: FPS / 2,
        credentials,
        ..CameraOptions::default()
    };
    TestCamera::start(options).map_err(|error| Failure(format!("a test camera does not start: {error}")))
}
