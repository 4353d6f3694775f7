//! The limit for `make bench-peers`: decodes a clip to the decoder's own frames and calls the engine on a tensor that
//! was allocated before. No scaling, no colours, no boxes, no records: whoever detects something in video does more.
//!
//! A camera's URL in place of the clip is watched live: the line then says how many milliseconds after it reached the decoder a
//! picture was inferred.
//!
//! The decoder is the one that the daemon takes, as bare as GStreamer has it; the engine is called through the crates that
//! bind it, whose `run` is one call of the library. One frame after the other, on one thread of the engine.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use clap::{Parser, ValueEnum};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

/// As the daemon has it: without it the built-in engine spends a sixth of its time on page faults.
#[global_allocator]
static ALLOCATOR: watchpost_blocks::Allocator = watchpost_blocks::Allocator;

/// What letterboxes are filled with: no engine is faster or slower for it.
const GREY: f32 = 114.0;

/// Prints one line a frame.
#[derive(Debug, Parser)]
struct Arguments {
    /// An MP4 file with H.264, or the URL of a camera that sends it
    input: String,
    /// An ONNX file
    #[arg(long)]
    model: PathBuf,
    #[arg(long)]
    backend: Backend,
    /// Width and height of the model's input
    #[arg(long)]
    size: usize,
    /// bfloat16 instead of f32 (OpenVINO only)
    #[arg(long)]
    bf16: bool,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    #[arg(long, default_value_t = u64::MAX)]
    max_frames: u64,
    /// Infer one picture of so many; the others are only decoded
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// Decode only pictures that others need (nal_ref_idc above 0): of a stream with B-frames a third
    #[arg(long)]
    references: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Backend {
    /// Decoding alone
    None,
    Builtin,
    Onnxruntime,
    Openvino,
}

type Failure = Box<dyn std::error::Error>;

/// One inference of a tensor that stays where it is.
type Infer = Box<dyn FnMut(&[f32]) -> Result<(), Failure>>;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("watchpost-bench-limit: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let tensor = vec![GREY; 3 * arguments.size * arguments.size];
    let mut infer = engine(arguments)?;
    let Decoder { pipeline, frames, arrivals } = decoder(arguments)?;
    let mut stdout = std::io::stdout().lock();
    let (mut frame_count, mut inferred_count) = (0, 0);
    while inferred_count < arguments.max_frames {
        // What failed ends the stream, too: the frame count tells.
        let Ok(sample) = frames.pull_sample() else { break };
        let pts = sample.buffer().and_then(gst::BufferRef::pts);
        drop(sample);
        frame_count += 1;
        if frame_count % arguments.every != 0 {
            continue;
        }
        infer(&tensor)?;
        inferred_count += 1;
        match pts.filter(|_| arguments.is_live()).and_then(|pts| arrivals.of(pts)) {
            None => stdout.write_all(b"{}\n")?,
            Some(at) => writeln!(
                stdout,
                r#"{{"type":"detections","seq":{frame_count},"latency_ms":{:.3}}}"#,
                at.elapsed().as_secs_f64() * 1e3
            )?,
        }
        stdout.flush()?;
    }
    pipeline.set_state(gst::State::Null)?;
    if frame_count == 0 { Err("there are no frames that could be decoded".into()) } else { Ok(()) }
}

impl Arguments {
    fn is_live(&self) -> bool {
        self.input.starts_with("rtsp://")
    }
}

/// When coded pictures reached the decoder, the latest few.
#[derive(Clone, Default)]
struct Arrivals(Arc<Mutex<VecDeque<(gst::ClockTime, Instant)>>>);

/// More than a decoder holds back.
const ARRIVALS: usize = 64;

impl Arrivals {
    fn note(&self, pts: gst::ClockTime) {
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.len() == ARRIVALS {
            latest.pop_front();
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "this program is no part of the daemon, and has no other clock"
        )]
        latest.push_back((pts, Instant::now()));
    }

    fn of(&self, pts: gst::ClockTime) -> Option<Instant> {
        let latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        latest.iter().find(|(of, _)| *of == pts).map(|&(_, at)| at)
    }
}

struct Decoder {
    pipeline: gst::Element,
    frames: gst_app::AppSink,
    arrivals: Arrivals,
}

/// The decoder, one frame ahead at most.
fn decoder(arguments: &Arguments) -> Result<Decoder, Failure> {
    gst::init()?;
    let source = match arguments.is_live() {
        true => "rtspsrc name=source protocols=tcp latency=0 ! rtph264depay",
        false => "filesrc name=source ! qtdemux",
    };
    let line = format!(
        "{source} ! h264parse ! video/x-h264,stream-format=byte-stream ! avdec_h264 name=decoder max-threads=1 ! appsink name=frames sync=false max-buffers=1"
    );
    let pipeline = gst::parse::launch(&line)?;
    let bin = pipeline.clone().downcast::<gst::Bin>().map_err(|_| "no pipeline")?;
    bin.by_name("source").ok_or("no source")?.set_property("location", &arguments.input);
    let arrivals = Arrivals::default();
    let coded = bin.by_name("decoder").and_then(|decoder| decoder.static_pad("sink")).ok_or("no decoder")?;
    let of_coded = arrivals.clone();
    let references = arguments.references;
    coded.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let Some(picture) = info.buffer() else { return gst::PadProbeReturn::Ok };
        if references && picture.map_readable().is_ok_and(|bytes| is_disposable(&bytes)) {
            return gst::PadProbeReturn::Drop;
        }
        if let Some(pts) = picture.pts() {
            of_coded.note(pts);
        }
        gst::PadProbeReturn::Ok
    });
    let frames = bin.by_name("frames").and_then(|sink| sink.downcast::<gst_app::AppSink>().ok());
    pipeline.set_state(gst::State::Playing)?;
    Ok(Decoder { pipeline, frames: frames.ok_or("no sink")?, arrivals })
}

/// Whether nothing refers to this H.264 picture (ITU-T H.264, 7.4.1: `nal_ref_idc` of its slices is 0).
fn is_disposable(picture: &[u8]) -> bool {
    let headers = picture.windows(4).filter(|four| four.starts_with(&[0, 0, 1])).map(|four| four[3]);
    headers
        .into_iter()
        .find(|header| (1..=5).contains(&(header & 0x1f)))
        .is_some_and(|slice| slice & 0x60 == 0)
}

fn engine(arguments: &Arguments) -> Result<Infer, Failure> {
    let Arguments { model, threads, size, .. } = arguments;
    match arguments.backend {
        Backend::None => Ok(Box::new(|_| Ok(()))),
        Backend::Builtin => {
            let options =
                watchpost_builtin::LoadOptions { threads: *threads, input_size: Some((*size, *size)) };
            let mut model = watchpost_builtin::Model::load(model, options)?;
            Ok(Box::new(move |tensor| Ok(model.run(tensor, &mut |_| {})?)))
        }
        Backend::Onnxruntime => {
            use watchpost_onnxruntime::{LoadOptions, Model, ModelBytes, find_library};
            let options = LoadOptions { threads: *threads, input_size: (*size, *size) };
            let mut model = Model::load(&find_library()?, ModelBytes::File(model), options)?;
            Ok(Box::new(move |tensor| Ok(model.run(tensor, &mut |_| {})?)))
        }
        Backend::Openvino => {
            use watchpost_openvino::{
                Arithmetic, Library, LoadOptions, Mode, Model, ModelBytes, find_library,
            };
            let options = LoadOptions {
                device: "CPU".to_owned(),
                threads: *threads,
                input_size: (*size, *size),
                arithmetic: Some(if arguments.bf16 { Arithmetic::Bf16 } else { Arithmetic::F32 }),
                mode: Mode::Latency,
                streams: 1,
            };
            let library = Library::load(&find_library()?)?;
            let mut model = Model::load(&library, ModelBytes::File(model), &options, None)?;
            Ok(Box::new(move |tensor| {
                Ok(model.run_frames(&[watchpost_builtin::Frame::F32(tensor)], &mut |_, _| {})?)
            }))
        }
    }
}
