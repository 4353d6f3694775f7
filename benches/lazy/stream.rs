//! Streams with known truth.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use watchpost_scene::{Scene, SceneOptions, frame_bytes};

/// How cameras encode.
#[derive(Debug, Clone, Copy)]
pub struct Encoding {
    pub name: &'static str,
    /// `BITRATE`: that of the stream, in kbit/s.
    x264: &'static str,
}

impl Encoding {
    pub const ALL: [Self; 3] = [
        Self {
            name: "IPPP, constant bit rate",
            x264: "tune=zerolatency bitrate=BITRATE vbv-buf-capacity=500",
        },
        Self { name: "IPPP, constant quality", x264: "tune=zerolatency pass=quant quantizer=28" },
        Self {
            name: "B-frames, constant bit rate",
            x264: "bframes=2 b-adapt=false rc-lookahead=4 bitrate=BITRATE vbv-buf-capacity=500",
        },
    ];

    /// Options for pictures of this size and rate: half a megabit a second for 640x360 at 15/s, 4 for 1920x1080 at 30/s.
    fn options(self, width: u32, height: u32, fps: f64) -> String {
        let pixels_per_second = f64::from(width * height) * fps;
        let bitrate = 500.0 * (pixels_per_second / (640.0 * 360.0 * 15.0)).powf(0.72);
        self.x264.replace("BITRATE", &format!("{bitrate:.0}"))
    }
}

/// What is in a frame.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    pub id: u64,
    pub class_id: u32,
    pub bbox: [f32; 4],
}

/// An object, from the first frame that shows it to the last.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    pub id: u64,
    pub first: u32,
    pub last: u32,
}

/// A file and what it shows.
#[derive(Debug)]
pub struct Stream {
    pub path: PathBuf,
    pub fps: f64,
    /// By frame.
    pub seen: Vec<Vec<Seen>>,
    pub events: Vec<Event>,
}

/// Smaller ones no detector finds.
const HEIGHT_MIN: f32 = 16.0;
/// Keyframes are so far apart.
const GOP_S: f64 = 2.0;

impl Stream {
    /// A street on a quiet day at 640x360 and 15/s, with sensor noise of +-`noise` code values.
    pub fn of_scene(folder: &Path, seed: u64, noise: i32, encoding: Encoding, seconds: u32) -> Self {
        let options = SceneOptions { seed, width: 640, height: 360, fps: 15 };
        let scene = Scene::quiet(options, 0.05);
        let path = folder.join("scene.mp4");
        let frames = seconds * options.fps;
        render(&scene, frames, noise, encoding, &path);
        let seen = (0..frames).map(|number| {
            let objects = scene.objects(number).into_iter();
            let visible =
                objects.filter(|(_, one)| one.visible > 0.5 && one.bbox[3] - one.bbox[1] >= HEIGHT_MIN);
            visible.map(|(id, one)| Seen { id, class_id: one.class_id, bbox: one.bbox }).collect()
        });
        Self::new(path, f64::from(options.fps), seen.collect())
    }

    /// A street without anybody at 1920x1080 and 30/s.
    pub fn empty(folder: &Path, encoding: Encoding, seconds: u32) -> Self {
        let options = SceneOptions { seed: 7, width: 1920, height: 1080, fps: 30 };
        let (path, frames) = (folder.join("empty.mp4"), seconds * options.fps);
        render(&Scene::quiet(options, 0.0), frames, 2, encoding, &path);
        Self::new(path, f64::from(options.fps), vec![Vec::new(); frames as usize])
    }

    /// A clip, encoded again; `None` if it is not there. What it shows is found out where it is not `known`.
    pub fn of_clip(
        folder: &Path,
        name: &str,
        encoding: Encoding,
        known: Option<Vec<Vec<Seen>>>,
    ) -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let shared =
            std::env::var_os("WATCHPOST_SHARED").map_or_else(|| root.join("../shared"), PathBuf::from);
        let (clip, model) =
            (shared.join(format!("footage/{name}.mp4")), shared.join("models/yolox_nano.onnx"));
        if !clip.is_file() || !model.is_file() {
            eprintln!("NOT MEASURED: {} is not there; set WATCHPOST_SHARED", clip.display());
            return None;
        }
        let fps = if name.starts_with("car") { 12.5 } else { 10.0 };
        let path = folder.join(format!("{name}.mp4"));
        let gop = (GOP_S * fps) as u32;
        let line = format!(
            "filesrc location={} ! decodebin ! videoconvert ! x264enc speed-preset=superfast key-int-max={gop} {} \
             option-string=scenecut=0 ! h264parse ! mp4mux ! filesink location={}",
            clip.display(),
            encoding.options(768, 432, fps),
            path.display()
        );
        launch(&line, Stdio::null()).wait().expect("gst-launch-1.0 ends");
        Some(Self::new(path.clone(), fps, known.unwrap_or_else(|| detected(folder, &path, &model))))
    }

    fn new(path: PathBuf, fps: f64, seen: Vec<Vec<Seen>>) -> Self {
        let mut events: Vec<Event> = Vec::new();
        for (number, objects) in seen.iter().enumerate() {
            for object in objects {
                let number = number as u32;
                match events.iter_mut().find(|event| event.id == object.id) {
                    Some(event) => event.last = number,
                    None => events.push(Event { id: object.id, first: number, last: number }),
                }
            }
        }
        // What is there for less than half a second may be a flicker of the detector.
        events.retain(|event| f64::from(event.last - event.first) >= fps / 2.0);
        Self { path, fps, seen, events }
    }
}

/// What the detector says of every frame.
fn detected(folder: &Path, path: &Path, model: &Path) -> Vec<Vec<Seen>> {
    let records = folder.join("records.jsonl");
    let mut detect = Command::new(env!("CARGO_BIN_EXE_watchpost"));
    let args = ["detect", "--track", "--classes", "person,car,truck,bus", "--backend", "builtin"];
    let status = detect.args(args).arg(path).arg("-m").arg(model).arg("-o").arg(&records).status();
    assert!(status.expect("watchpost runs").success());
    let text = std::fs::read_to_string(&records).expect("records");
    let mut seen = Vec::new();
    for line in text.lines() {
        let record: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let objects = record["objects"].as_array().into_iter().flatten();
        seen.push(objects.filter_map(tracked).collect());
    }
    seen
}

fn tracked(object: &serde_json::Value) -> Option<Seen> {
    let corner = |index: usize| object["box"][index].as_f64().map(|value| value as f32);
    Some(Seen {
        id: object["track_id"].as_u64()?,
        class_id: object["class_id"].as_u64()? as u32,
        bbox: [corner(0)?, corner(1)?, corner(2)?, corner(3)?],
    })
}

fn launch(line: &str, input: Stdio) -> std::process::Child {
    let words = line.split_whitespace();
    let mut command = Command::new("gst-launch-1.0");
    command.arg("-q").args(words).stdin(input).spawn().expect("gst-launch-1.0 (Debian: gstreamer1.0-tools)")
}

fn render(scene: &Scene, frames: u32, noise: i32, encoding: Encoding, path: &Path) {
    let SceneOptions { width, height, fps, .. } = scene.options();
    let line = format!(
        "fdsrc fd=0 ! rawvideoparse format=i420 width={width} height={height} framerate={fps}/1 ! x264enc \
         speed-preset=superfast key-int-max={} {} option-string=scenecut=0 ! h264parse ! mp4mux ! filesink location={}",
        (GOP_S * f64::from(fps)) as u32,
        encoding.options(width, height, f64::from(fps)),
        path.display()
    );
    let mut child = launch(&line, Stdio::piped());
    let mut input = child.stdin.take().expect("a pipe");
    let mut i420 = vec![0; frame_bytes(width, height)];
    let table = noise_table(noise);
    for number in 0..frames {
        scene.render(number, &mut i420);
        if noise > 0 {
            // Another part of the table in every row of every frame.
            for (row, samples) in
                i420[..(width * height) as usize].chunks_exact_mut(width as usize).enumerate()
            {
                let place = (number as usize * 7919 + row * 104_729) % (table.len() - samples.len());
                for (sample, noise) in samples.iter_mut().zip(&table[place..]) {
                    *sample = sample.saturating_add_signed(*noise);
                }
            }
        }
        input.write_all(&i420).expect("the encoder reads");
    }
    drop(input);
    assert!(child.wait().expect("it ends").success(), "gst-launch-1.0 failed");
}

/// Numbers from `-amplitude` to `amplitude`, nearly normal: the difference of two.
fn noise_table(amplitude: i32) -> Vec<i8> {
    let (mut state, range) = (0x9e37_79b9_7f4a_7c15_u64, amplitude as u64 + 1);
    let next = || {
        // xorshift64*
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let chance = state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        ((chance & 0xffff) % range) as i8 - ((chance >> 16) % range) as i8
    };
    std::iter::repeat_with(next).take(1 << 20).collect()
}
