//! `prove-nvdec`: pictures decoded on the GPU, letterboxed there, and what the CPU makes of the same file. A program of its
//! own, because it needs GStreamer to start.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use watchpost::clock;
use watchpost::frame::Letterbox;
use watchpost::model::{Fit, InputRecipe};
use watchpost_cuda::{Element, Gpu, Letterboxer, Owner, SlotTensor, Stream};
use watchpost_pipelines::{
    DecoderChoice, Memory, Pipeline, Pixels, Pull, PullPipeline, SourceKind, Spec, plan,
};
use watchpost_prove::outcome::{Figures, Outcome, Stop, demand, rounded};
use watchpost_prove::pictures::{device_placement, device_recipe, recipe};
use watchpost_prove::settings::Settings;

const PATIENCE: Duration = Duration::from_secs(30);
/// Frames that are compared.
const COMPARED_MAX: usize = 200;
/// In sample values: the kernel and the CPU's letterbox are each within 0.1 of the specification.
const BOUND: f64 = 0.25;

fn main() -> ExitCode {
    let settings = match Settings::read() {
        Ok(settings) => settings,
        Err(words) => words.exit(),
    };
    let outcome = Outcome::of("nvdec", |figures| run(&settings, figures));
    match serde_json::to_string(&outcome) {
        Ok(line) => println!("{line}"),
        Err(error) => eprintln!("prove-nvdec: {error}"),
    }
    ExitCode::SUCCESS
}

fn run(settings: &Settings, figures: &mut Figures) -> Result<(), Stop> {
    watchpost_cuda::devices().map_err(|why| Stop::skipped(why.to_string()))?;
    let gpu = Gpu::open(0)?;
    watchpost_pipelines::init().map_err(|error| Stop::skipped(error.to_string()))?;
    figures.insert("gstreamer".to_owned(), watchpost_pipelines::version().into());
    let clip = match &settings.clip {
        Some(clip) => clip.clone(),
        None => make_clip(&settings.out, settings.quick)?,
    };
    let on_gpu =
        Spec { gpu: Some(gpu.clone()), realtime: false, ..Spec::new(SourceKind::File { path: clip }) };
    let plan = plan(&on_gpu).map_err(|error| Stop::skipped(error.to_string()))?;
    let can = plan.codecs.iter().filter(|codec| codec.memory == Memory::Cuda);
    if can.count() == 0 {
        let why = plan.codecs.iter().find(|codec| codec.codec == "H.264").and_then(|codec| codec.why.clone());
        return Err(Stop::skipped(why.unwrap_or_else(|| "no decoder of the GPU".to_owned())));
    }
    let on_cpu = Spec { gpu: None, decoder: DecoderChoice::Software, ..on_gpu.clone() };
    let without = no_decoder(&on_cpu)?;
    if let Some(why) = without {
        figures.insert("compared_with_the_cpu".to_owned(), format!("no: {why}").into());
    } else {
        compare(&gpu, &on_gpu, &on_cpu, settings, figures)?;
    }
    rate(&gpu, &on_gpu, figures)?;
    demand(gpu.ledger().is_empty(), || format!("after the clip the ledger has {:?}", gpu.ledger()))
}

/// Why the CPU cannot decode, if it cannot.
fn no_decoder(on_cpu: &Spec) -> Result<Option<String>, Stop> {
    let plan = plan(on_cpu).map_err(|error| Stop::failed(error.to_string()))?;
    let h264 = plan.codecs.into_iter().find(|codec| codec.codec == "H.264" && codec.element.is_none());
    Ok(h264.map(|codec| codec.why.unwrap_or_else(|| "the CPU has no decoder".to_owned())))
}

/// A clip of a moving pattern, encoded here.
fn make_clip(folder: &Path, quick: bool) -> Result<PathBuf, Stop> {
    std::fs::create_dir_all(folder)?;
    let path = std::path::absolute(folder.join("clip.mkv"))?;
    let (count, width, height) = if quick { (20, 320, 240) } else { (600, 1920, 1080) };
    // What comes out here has been through the encoder, so the file is as good as written when it ends.
    let template = format!(
        "videotestsrc num-buffers={count} pattern=smpte horizontal-speed=7 \
         ! video/x-raw,format=I420,width={width},height={height},framerate=30/1 \
         ! x264enc speed-preset=veryfast key-int-max=30 ! h264parse ! tee name=both \
         both. ! queue ! matroskamux streamable=true ! filesink location={} \
         both. ! queue ! avdec_h264 ! videoconvert ! appsink name=sink",
        path.display()
    );
    let kind = SourceKind::Rtsp { url: "rtsp://none/".to_owned() };
    let spec = Spec { template: Some(template), realtime: false, ..Spec::new(kind) };
    let missing = |why: String| Stop::skipped(format!("no clip could be made ({why}): give one with --clip"));
    let pipeline = Pipeline::start_pull(&spec, "clip").map_err(|error| missing(error.to_string()))?;
    loop {
        match pipeline.pull(PATIENCE) {
            Pull::Frame(_) => {}
            Pull::Eos => return Ok(path),
            Pull::Error(failure) => return Err(missing(failure.message)),
            Pull::TimedOut => return Err(missing("the encoder does not come to an end".to_owned())),
        }
    }
}

fn open(spec: &Spec, name: &str) -> Result<PullPipeline, Stop> {
    Pipeline::start_pull(spec, name).map_err(|error| Stop::failed(format!("{name}: {error}")))
}

/// The next frame; `None` at the end.
fn next(pipeline: &PullPipeline, name: &str) -> Result<Option<watchpost_pipelines::Frame>, Stop> {
    match pipeline.pull(PATIENCE) {
        Pull::Frame(frame) => Ok(Some(frame)),
        Pull::Eos => Ok(None),
        Pull::Error(failure) => Err(Stop::failed(format!("{name}: {}", failure.message))),
        Pull::TimedOut => Err(Stop::failed(format!("{name}: no frame in {} s", PATIENCE.as_secs()))),
    }
}

/// Frame by frame: what NVDEC and the kernel make, and what the CPU makes.
fn compare(
    gpu: &Gpu,
    on_gpu: &Spec,
    on_cpu: &Spec,
    settings: &Settings,
    figures: &mut Figures,
) -> Result<(), Stop> {
    let recipe = recipe(640, 384, Fit::LetterboxCentre);
    let (device, host) = (open(on_gpu, "the GPU")?, open(on_cpu, "the CPU")?);
    let stream = Stream::new(gpu)?;
    let mut letterboxer = Letterboxer::new(gpu, device_recipe(&recipe))?;
    let mut letterbox = Letterbox::new(&recipe);
    let mut slot = SlotTensor::new(gpu, Element::F32, recipe.len())?;
    let mut expected = vec![0.0; recipe.len()];
    let mut seen = Seen::default();
    while seen.frames < COMPARED_MAX {
        let (shown, wanted) = match (next(&device, "the GPU")?, next(&host, "the CPU")?) {
            (Some(shown), Some(wanted)) => (shown, wanted),
            (None, None) => break,
            (shown, _) => {
                let which = if shown.is_some() { "CPU" } else { "GPU" };
                let words =
                    format!("after {} frames the {which} has no more, and the other has", seen.frames);
                return Err(Stop::Failed(words));
            }
        };
        let Pixels::Device(picture) = shown.pixels() else {
            return Err(Stop::failed(
                "a frame came in system memory although a decoder of the GPU was to be used",
            ));
        };
        let before = gpu.copied();
        let placement = device_placement(&recipe, shown.width(), shown.height());
        letterboxer.letterbox(&picture, placement, &mut slot)?;
        letterboxer.finish()?;
        if settings.control {
            letterboxer.staging()?.fill(0.0);
            letterboxer.upload(&mut slot)?;
        }
        demand(gpu.copied() == before && gpu.ledger().pinned(Owner::Staging).bytes == 0, || {
            format!(
                "a frame went over the host: {:?} were copied before it, {:?} after",
                before,
                gpu.copied()
            )
        })?;
        let Some(picture) = wanted.picture() else {
            return Err(Stop::failed("the CPU decoded into no memory"));
        };
        letterbox.run(&picture, &mut expected).map_err(|error| Stop::failed(error.to_string()))?;
        seen.frame(&slot.to_host(&stream)?, &expected, &recipe);
    }
    demand(seen.frames > 9, || format!("the clip has {} frames: too few to prove anything", seen.frames))?;
    figures.insert("frames_compared".to_owned(), seen.frames.into());
    figures.insert("bytes_copied_between_host_and_device_per_frame".to_owned(), 0.into());
    if gpu.info().name.contains("watchpost stand-in") {
        let why = "no: the stand-in's decoder draws pictures of its own";
        figures.insert("compared_with_the_cpu".to_owned(), why.into());
        return Ok(());
    }
    let psnr = 10.0 * (255.0 * 255.0 / (seen.squares / seen.values)).log10();
    figures.insert(
        "compared_with_the_cpu".to_owned(),
        json!({ "greatest_error_sample_values": seen.greatest, "psnr_db": rounded(psnr.min(999.0)) }),
    );
    demand(seen.greatest <= BOUND, || format!("off by {:.3} sample values, allowed {BOUND}", seen.greatest))
}

#[derive(Default)]
struct Seen {
    frames: usize,
    greatest: f64,
    squares: f64,
    values: f64,
}

impl Seen {
    fn frame(&mut self, got: &[f32], expected: &[f32], recipe: &InputRecipe) {
        self.frames += 1;
        self.values += recipe.len() as f64;
        for (got, expected) in got.iter().zip(expected) {
            let error = f64::from((got - expected).abs());
            let error = if error.is_nan() { f64::INFINITY } else { error };
            self.greatest = self.greatest.max(error);
            self.squares += error * error;
        }
    }
}

/// One camera's way as fast as it goes: decoder, kernel, slot.
fn rate(gpu: &Gpu, on_gpu: &Spec, figures: &mut Figures) -> Result<(), Stop> {
    let recipe = recipe(640, 640, Fit::LetterboxCentre);
    let mut letterboxer = Letterboxer::new(gpu, device_recipe(&recipe))?;
    let mut slot = SlotTensor::new(gpu, Element::F16, recipe.len())?;
    let device = open(on_gpu, "the GPU")?;
    let (mut frames, mut began) = (0_u32, clock::now());
    while let Some(frame) = next(&device, "the GPU")? {
        let Pixels::Device(picture) = frame.pixels() else {
            return Err(Stop::failed("a frame came in system memory"));
        };
        letterboxer.letterbox(
            &picture,
            device_placement(&recipe, frame.width(), frame.height()),
            &mut slot,
        )?;
        letterboxer.finish()?;
        if frames == 0 {
            // The decoder has been made.
            began = clock::now();
        }
        frames += 1;
    }
    let seconds = clock::now().saturating_duration_since(began).as_secs_f64();
    let rate = if frames > 1 { f64::from(frames - 1) / seconds } else { 0.0 };
    figures.insert("decoded_frames_per_second_one_camera".to_owned(), rounded(rate));
    Ok(())
}
