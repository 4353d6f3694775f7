//! The limit for `make bench-peers`: decodes a clip to the decoder's own frames and calls the engine on a tensor that
//! was allocated before. No scaling, no colours, no boxes, no records: whoever detects something in video does more.
//!
//! The decoder is the one that the daemon takes, as bare as GStreamer has it; the engine is called through the crates that
//! bind it, whose `run` is one call of the library. One frame after the other, on one thread of the engine.
#![forbid(unsafe_code)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

/// What letterboxes are filled with: no engine is faster or slower for it.
const GREY: f32 = 114.0;

/// Prints one line a frame.
#[derive(Debug, Parser)]
struct Arguments {
    /// An MP4 file with H.264
    clip: PathBuf,
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
    let (pipeline, frames) = decoder(&arguments.clip)?;
    let mut stdout = std::io::stdout().lock();
    let mut frame_count = 0;
    while frame_count < arguments.max_frames {
        // What failed ends the stream, too: the frame count tells.
        let Ok(sample) = frames.pull_sample() else { break };
        drop(sample);
        infer(&tensor)?;
        frame_count += 1;
        stdout.write_all(b"{}\n")?;
        stdout.flush()?;
    }
    pipeline.set_state(gst::State::Null)?;
    if frame_count == 0 { Err("the clip has no frames that could be decoded".into()) } else { Ok(()) }
}

/// The decoder, one frame ahead at most.
fn decoder(clip: &Path) -> Result<(gst::Element, gst_app::AppSink), Failure> {
    gst::init()?;
    let line = "filesrc name=file ! qtdemux ! h264parse ! avdec_h264 max-threads=1 \
                ! appsink name=frames sync=false max-buffers=1";
    let pipeline = gst::parse::launch(line)?;
    let bin = pipeline.clone().downcast::<gst::Bin>().map_err(|_| "no pipeline")?;
    let file = bin.by_name("file").ok_or("no source")?;
    file.set_property("location", clip.to_str().ok_or("the clip's path is not UTF-8")?);
    let frames = bin.by_name("frames").and_then(|sink| sink.downcast::<gst_app::AppSink>().ok());
    pipeline.set_state(gst::State::Playing)?;
    Ok((pipeline, frames.ok_or("no sink")?))
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
