//! Writes frames of the procedural scene to files: raw I420 with its truth as JSON Lines, or pictures to look at.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use watchpost_scene::{Scene, SceneOptions, frame_bytes};

const USAGE: &str = "\
Usage: scene-render --out PREFIX [--seeds FIRST..END] [--frames N] [--start N] [--step N]
                    [--width W] [--height H] [--fps N] [--ppm]

Writes PREFIX.i420 (tightly packed frames, seed after seed) and PREFIX.jsonl, one line a frame:
  {\"seed\":1,\"frame\":0,\"objects\":[{\"object_id\":…,\"class_id\":0,\"label\":\"person\",\"bbox\":[x1,y1,x2,y2],\"visible\":1.0},…]}
With --ppm it writes one picture a frame instead: PREFIX-SEED-FRAME.ppm.

Defaults: seeds 1..2 (END is not included), 100 frames from 0 by steps of 1, 640x360 at 15 fps.";

struct Arguments {
    out: PathBuf,
    seeds: std::ops::Range<u64>,
    frames: u32,
    start: u32,
    step: u32,
    width: u32,
    height: u32,
    fps: u32,
    ppm: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.is_empty() || arguments.iter().any(|argument| argument == "--help") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    match parse(&arguments).and_then(|arguments| write(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("scene-render: {message}");
            ExitCode::from(2)
        }
    }
}

fn parse(words: &[String]) -> Result<Arguments, String> {
    let mut parsed = Arguments {
        out: PathBuf::new(),
        seeds: 1..2,
        frames: 100,
        start: 0,
        step: 1,
        width: 640,
        height: 360,
        fps: 15,
        ppm: false,
    };
    let mut words = words.iter();
    while let Some(name) = words.next() {
        if name == "--ppm" {
            parsed.ppm = true;
            continue;
        }
        let value = words.next().ok_or_else(|| format!("{name} needs a value; see --help"))?;
        let number = || value.parse::<u32>().map_err(|_| format!("{name} needs a number, not `{value}`"));
        match name.as_str() {
            "--out" => parsed.out = PathBuf::from(value),
            "--seeds" => {
                let range = value.split_once("..").and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?));
                parsed.seeds = range.ok_or_else(|| format!("--seeds needs FIRST..END, not `{value}`"))?;
            }
            "--frames" => parsed.frames = number()?,
            "--start" => parsed.start = number()?,
            "--step" => parsed.step = number()?,
            "--width" => parsed.width = number()?,
            "--height" => parsed.height = number()?,
            "--fps" => parsed.fps = number()?,
            _ => return Err(format!("there is no option {name}; see --help")),
        }
    }
    if parsed.out.as_os_str().is_empty() {
        return Err("say with --out where the files go; see --help".into());
    }
    Ok(parsed)
}

fn write(arguments: &Arguments) -> Result<(), String> {
    let &Arguments { width, height, fps, .. } = arguments;
    let mut i420 = vec![0; frame_bytes(width, height)];
    let mut files = None;
    if !arguments.ppm {
        files = Some((create(arguments, "i420")?, create(arguments, "jsonl")?));
    }
    for seed in arguments.seeds.clone() {
        let options = SceneOptions { seed, width, height, fps };
        options.validate().map_err(|wrong| wrong.to_string())?;
        let scene = Scene::new(options);
        for index in 0..arguments.frames {
            let frame = arguments.start + index * arguments.step;
            scene.render(frame, &mut i420);
            let written = match &mut files {
                Some((pixels, lines)) => pixels
                    .write_all(&i420)
                    .and_then(|()| writeln!(lines, "{}", truth_line(&scene, seed, frame))),
                None => {
                    let path = format!("{}-{seed}-{frame:05}.ppm", arguments.out.display());
                    std::fs::write(path, ppm(&i420, width as usize, height as usize))
                }
            };
            written.map_err(|error| format!("cannot write {}: {error}", arguments.out.display()))?;
        }
    }
    Ok(())
}

fn create(arguments: &Arguments, extension: &str) -> Result<BufWriter<File>, String> {
    let path = format!("{}.{extension}", arguments.out.display());
    File::create(&path).map(BufWriter::new).map_err(|error| format!("cannot create {path}: {error}"))
}

fn truth_line(scene: &Scene, seed: u64, frame: u32) -> serde_json::Value {
    let objects: Vec<serde_json::Value> = scene
        .objects(frame)
        .into_iter()
        .map(|(object_id, truth)| {
            serde_json::json!({
                "object_id": object_id,
                "class_id": truth.class_id,
                "label": truth.label,
                "bbox": truth.bbox,
                "visible": truth.visible,
            })
        })
        .collect();
    serde_json::json!({ "seed": seed, "frame": frame, "objects": objects })
}

/// The frame as a binary PPM picture, by the BT.601 limited-range matrix.
fn ppm(i420: &[u8], width: usize, height: usize) -> Vec<u8> {
    let (luma, chroma) = i420.split_at(width * height);
    let (u, v) = chroma.split_at(chroma.len() / 2);
    let mut out = format!("P6\n{width} {height}\n255\n").into_bytes();
    for y in 0..height {
        for x in 0..width {
            let c = y / 2 * (width / 2) + x / 2;
            let luma = 1.164 * (f32::from(luma[y * width + x]) - 16.0);
            let (u, v) = (f32::from(u[c]) - 128.0, f32::from(v[c]) - 128.0);
            out.extend([luma + 1.596 * v, luma - 0.392 * u - 0.813 * v, luma + 2.017 * u].map(|c| c as u8));
        }
    }
    out
}
