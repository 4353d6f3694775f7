//! One shot over a finite input: every frame is decoded, letterboxed, inferred and handed out, in order.
//!
//! ```text
//!   input thread: decode ─► free slot (waits) ─► letterbox ─► bounded channel ─► caller's thread: infer
//! ```
//!
//! Flow control is the daemon's, turned round: here the decoder waits for the slots, so nothing is lost and
//! nothing piles up.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use watchpost_pipelines::{
    DecoderChoice, FailureClass, Frame, Pipeline, Pull, PullPipeline, SourceKind, Spec,
};

use crate::camera::Reason;
use crate::clock;
use crate::engine::{Engine, EngineError, TensorView};
use crate::filter::{Event, Events};
use crate::frame::{Geometry, Pool, Preprocessor, PrivacyMask, Slot, SlotForm};
use crate::model::InputRecipe;
use crate::source::{Decoded, Fault, Picture, fault};
use crate::track::{Ids, Moment, Options, Tracked, Tracker, Workspace};
use crate::wake::{Bell, doorbell};

/// One being inferred, one ready, one being filled.
const SLOTS: usize = 3;
/// How often a thread that waits looks whether it should end.
const LOOK: Duration = Duration::from_millis(200);
/// A camera gets this long for its first frame and for each one after it; a file gets all the time it needs.
const CAMERA_PATIENCE: Duration = Duration::from_secs(10);

/// Something to look at.
#[derive(Debug, Clone)]
pub struct Input {
    /// As the user wrote it, without secrets; for an image of a folder, its path.
    pub name: String,
    /// What GStreamer opens.
    pub spec: Spec,
}

/// Which frames are inferred.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'a> {
    /// Every n-th frame, at least 1.
    pub every: u64,
    /// No more than so many frames of one input are decoded.
    pub max_frames: Option<u64>,
    /// The input plays at its own pace, and frames that find no free slot are dropped.
    pub realtime: bool,
    /// Frames come with their picture, which the decoder has to do without meanwhile.
    pub keep_pictures: bool,
    /// Set by whoever wants the run to end early, in order.
    pub stop: Option<&'a AtomicBool>,
}

/// A frame on its way to the engine.
#[derive(Debug)]
pub struct Ready {
    slot: Slot,
    /// Index of the input.
    pub input_index: usize,
    /// Number of the frame in its input, from 1.
    pub seq: u64,
    /// When it came out of the decoder.
    pub at: Instant,
    /// Presentation time.
    pub pts_ns: Option<u64>,
    /// From tensor pixels back to the frame's.
    pub geometry: Geometry,
    /// Frame width in pixels.
    pub width: u32,
    /// Frame height in pixels.
    pub height: u32,
    /// How long the decoder was waited for.
    pub decode: Duration,
    /// How long the letterbox took.
    pub preprocess: Duration,
    /// How long the frame is shown, where the input says so.
    pub duration: Option<Duration>,
    /// Where pictures are kept.
    picture: Option<Decoded>,
}

impl Ready {
    /// The picture at full size; `None` if it was not asked for, or is on a GPU.
    pub fn picture(&self) -> Option<Picture<'_>> {
        self.picture.as_ref()?.picture()
    }
}

/// Where an input says nothing about its times, its frames are so far apart.
const UNKNOWN_INTERVAL: Duration = Duration::from_millis(40);

/// Tells who is who from frame to frame and what happens to them, in each input by itself.
#[derive(Debug)]
pub struct Follower {
    tracker: Tracker,
    workspace: Workspace,
    /// As they are when an input begins.
    first_events: Option<Events>,
    events: Option<Events>,
    /// The input, and the time of its last frame.
    last: Option<(usize, Moment)>,
}

impl Follower {
    /// Objects are tracked so, and `events` tell of them.
    pub fn new(tracking: Options, events: Option<Events>) -> Self {
        let workspace = Workspace::new(tracking.max_objects);
        let tracker = Tracker::new(tracking, Ids::default());
        Self { tracker, workspace, first_events: events.clone(), events, last: None }
    }

    /// Says of each object of the next frame which one it is.
    pub fn follow(&mut self, ready: &Ready, objects: &mut [Tracked]) {
        let told = ready.pts_ns.map(Duration::from_nanos);
        let before = self.last.filter(|&(input_index, _)| input_index == ready.input_index);
        let at = match before {
            Some((_, before)) => told.filter(|&at| at > before.at).unwrap_or(before.at + UNKNOWN_INTERVAL),
            None => {
                self.events.clone_from(&self.first_events);
                told.unwrap_or_default()
            }
        };
        let generation = ready.input_index as u64;
        let Ready { width, height, .. } = *ready;
        let moment = Moment { at, generation, width, height };
        self.last = Some((ready.input_index, moment));
        self.tracker.update(&mut self.workspace, moment, objects);
    }

    /// Tells what has happened in zones and at lines in the frame of the last [`Self::follow`], given those of its objects
    /// that are published.
    pub fn tell(&mut self, objects: &[Tracked], tell: &mut dyn FnMut(&Event<'_>)) {
        if let (Some(events), Some((_, moment))) = (&mut self.events, self.last) {
            events.update(moment, objects.iter().copied(), tell);
        }
    }
}

/// What the caller is told, in order.
#[derive(Debug)]
enum Step {
    Frame(Box<Ready>),
    /// An input is at its end, in order or not.
    End {
        input_index: usize,
        fault: Option<Fault>,
    },
}

/// What comes of a run.
#[derive(Debug, Default)]
pub struct Totals {
    /// Frames inferred.
    pub frames: u64,
    /// Frames dropped because no slot was free (only in real time).
    pub dropped: u64,
    /// Inputs that could not be read to their end, and why.
    pub faults: Vec<(String, Fault)>,
}

/// Runs `inputs` through `engine`, one after the other. `each` gets every inferred frame, its outputs and the
/// inference time, and says whether to go on. What `mask` covers is black before the engine sees it.
///
/// # Errors
/// The engine failed. Inputs that fail do not end the run: they are in [`Totals::faults`].
pub fn run(
    inputs: &[Input],
    recipe: &InputRecipe,
    choice: Choice<'_>,
    mask: PrivacyMask,
    engine: &mut dyn Engine,
    each: &mut dyn FnMut(&Ready, &[TensorView<'_>], Duration) -> bool,
) -> Result<Totals, EngineError> {
    let stop = AtomicBool::new(false);
    let (steps_tx, steps_rx) = bounded(SLOTS);
    std::thread::scope(|scope| {
        let form =
            Arc::new(SlotForm { epoch: 1, input: *recipe, gpu: engine.place().gpu(), place: engine.place() });
        let (wake, bell) = doorbell();
        let pool = Pool::new(SLOTS, &form, wake)?;
        let mut filler = Filler { preprocessor: Preprocessor::new(&form)?, mask };
        let reader = Reader { inputs, choice, stop: &stop, steps: steps_tx, pool, bell };
        let reading = std::thread::Builder::new()
            .name("input".to_owned())
            .spawn_scoped(scope, move || reader.run(&mut filler));
        let reading = reading.map_err(|error| EngineError::Inference {
            backend: engine.backend(),
            reason: format!("no thread for reading the input: {error}"),
        })?;
        let result = infer(inputs, &steps_rx, engine, each);
        stop.store(true, Ordering::Release);
        // Lets a reader that waits to send see that nobody listens.
        drop(steps_rx);
        // Half of an input must not look like all of it.
        let dropped = reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        result.map(|totals| Totals { dropped, ..totals })
    })
}

fn infer(
    inputs: &[Input],
    steps: &Receiver<Step>,
    engine: &mut dyn Engine,
    each: &mut dyn FnMut(&Ready, &[TensorView<'_>], Duration) -> bool,
) -> Result<Totals, EngineError> {
    let mut totals = Totals::default();
    for step in steps {
        let ready = match step {
            Step::Frame(ready) => ready,
            Step::End { input_index, fault } => {
                totals.faults.extend(fault.map(|fault| (inputs[input_index].name.clone(), fault)));
                continue;
            }
        };
        let began = clock::now();
        let mut go_on = true;
        engine.infer(&[ready.slot.memory()], &mut |_index, outputs| {
            let took = clock::now().saturating_duration_since(began);
            go_on = each(&ready, outputs, took);
        })?;
        totals.frames += 1;
        if !go_on {
            break;
        }
    }
    Ok(totals)
}

/// What fills slots.
struct Filler {
    preprocessor: Preprocessor,
    mask: PrivacyMask,
}

struct Reader<'a> {
    inputs: &'a [Input],
    choice: Choice<'a>,
    stop: &'a AtomicBool,
    steps: Sender<Step>,
    pool: Pool,
    bell: Bell,
}

/// The caller does not want any more.
struct Enough;

impl Reader<'_> {
    /// Reads all inputs; returns how many frames were dropped.
    fn run(self, filler: &mut Filler) -> u64 {
        let mut dropped = 0;
        for (input_index, input) in self.inputs.iter().enumerate() {
            let mut lane = Lane { reader: &self, input_index };
            let mut failure = match lane.open(&input.spec, filler, &mut dropped) {
                Ok(failure) => failure,
                Err(Enough) => return dropped,
            };
            // Said before its first picture, so nothing is read twice.
            if let Some(of_hardware) = failure.take_if(|failure| is_for_the_cpu(failure, &input.spec)) {
                tracing::warn!("the CPU decodes it: {}", of_hardware.fault.detail);
                let on_cpu = Spec { decoder: DecoderChoice::Software, ..input.spec.clone() };
                failure = match lane.open(&on_cpu, filler, &mut dropped) {
                    Ok(failure) => failure,
                    Err(Enough) => return dropped,
                };
            }
            let fault = failure.map(|failure| failure.fault);
            if self.steps.send(Step::End { input_index, fault }).is_err() {
                return dropped;
            }
        }
        dropped
    }

    fn is_over(&self) -> bool {
        let asked = self.choice.stop.is_some_and(|stop| stop.load(Ordering::Acquire));
        asked || self.stop.load(Ordering::Acquire)
    }
}

struct Lane<'a> {
    reader: &'a Reader<'a>,
    input_index: usize,
}

/// What ended an input.
struct Broken {
    fault: Fault,
    /// A hardware decoder did, before its first picture.
    is_of_hardware: bool,
}

impl Broken {
    fn of(failure: watchpost_pipelines::Failure) -> Self {
        let is_of_hardware = failure.class == FailureClass::HardwareDecoder;
        Self { fault: fault(failure), is_of_hardware }
    }
}

/// The CPU may do what the hardware could not.
fn is_for_the_cpu(broken: &Broken, spec: &Spec) -> bool {
    broken.is_of_hardware && spec.decoder == DecoderChoice::Auto
}

impl Lane<'_> {
    fn open(
        &mut self,
        spec: &Spec,
        filler: &mut Filler,
        dropped: &mut u64,
    ) -> Result<Option<Broken>, Enough> {
        match Pipeline::start_pull(spec, &format!("detect-{}", self.input_index)) {
            Ok(pipeline) => self.read(&pipeline, filler, dropped),
            Err(error) => Ok(Some(Broken::of(error.into_failure()))),
        }
    }

    fn read(
        &mut self,
        pipeline: &PullPipeline,
        filler: &mut Filler,
        dropped: &mut u64,
    ) -> Result<Option<Broken>, Enough> {
        let choice = self.reader.choice;
        let mut seq: u64 = 0;
        let (mut duration, mut reached) = (None, Duration::ZERO);
        loop {
            let asked = clock::now();
            let frame = match self.next(pipeline)? {
                Ok(Some(frame)) => frame,
                Ok(None) => {
                    warn_if_cut_off(&self.reader.inputs[self.input_index].name, reached, duration);
                    return Ok(None);
                }
                Err(broken) => return Ok(Some(broken)),
            };
            let at = clock::now();
            seq += 1;
            if seq == 1 {
                duration = pipeline.duration();
            }
            reached = frame.pts_ns().map_or(reached, |pts_ns| reached.max(Duration::from_nanos(pts_ns)));
            if (seq - 1).is_multiple_of(choice.every) {
                match self.slot()? {
                    Some(slot) => self.send(Decoded::Gst(frame), slot, seq, filler, at, at - asked)?,
                    None => *dropped += 1,
                }
            }
            if choice.max_frames.is_some_and(|max| seq >= max) {
                return Ok(None);
            }
            if self.reader.is_over() {
                return Err(Enough);
            }
        }
    }

    /// The next frame, `None` at the end.
    fn next(&self, pipeline: &PullPipeline) -> Result<Result<Option<Frame>, Broken>, Enough> {
        let input = &self.reader.inputs[self.input_index];
        let is_file = matches!(input.spec.kind, SourceKind::File { .. } | SourceKind::Image { .. });
        let patience = if is_file { Duration::MAX } else { CAMERA_PATIENCE };
        let deadline = clock::now().checked_add(patience);
        loop {
            match pipeline.pull(LOOK) {
                Pull::Frame(frame) => return Ok(Ok(Some(frame))),
                Pull::Eos => return Ok(Ok(None)),
                Pull::Error(failure) => return Ok(Err(Broken::of(failure))),
                Pull::TimedOut if self.reader.is_over() => return Err(Enough),
                Pull::TimedOut if deadline.is_none_or(|deadline| clock::now() < deadline) => {}
                Pull::TimedOut => return Ok(Err(Broken { fault: silent(input), is_of_hardware: false })),
            }
        }
    }

    /// A free slot; in real time `None` if there is none now.
    fn slot(&self) -> Result<Option<Slot>, Enough> {
        loop {
            if let Some(slot) = self.reader.pool.take() {
                return Ok(Some(slot));
            }
            if self.reader.choice.realtime {
                return Ok(None);
            }
            if self.reader.is_over() {
                return Err(Enough);
            }
            self.reader.bell.wait(LOOK);
        }
    }

    fn send(
        &self,
        frame: Decoded,
        mut slot: Slot,
        seq: u64,
        filler: &mut Filler,
        at: Instant,
        decode: Duration,
    ) -> Result<(), Enough> {
        let began = clock::now();
        let geometry = match filler.preprocessor.run(&frame, &mut filler.mask, &mut slot) {
            Ok(geometry) => geometry,
            Err(error) => {
                tracing::warn!(seq, "a frame could not be read: {error}");
                return Ok(());
            }
        };
        let preprocess = clock::now() - began;
        let ready = Ready {
            slot,
            input_index: self.input_index,
            seq,
            at,
            pts_ns: frame.pts_ns(),
            geometry,
            width: geometry.source_width,
            height: geometry.source_height,
            decode,
            preprocess,
            duration: match &frame {
                Decoded::Gst(frame) => frame.duration(),
                Decoded::Memory(_) => None,
            },
            picture: self.reader.choice.keep_pictures.then_some(frame),
        };
        self.reader.steps.send(Step::Frame(Box::new(ready))).map_err(|_| Enough)
    }
}

/// A file that ends so much before its header says may only have a longer sound track.
const CUT_OFF: Duration = Duration::from_secs(1);

/// Demultiplexers take the end of a file that was cut off for an end in order.
fn warn_if_cut_off(name: &str, reached: Duration, duration: Option<Duration>) {
    if let Some(duration) = duration.filter(|&duration| reached + CUT_OFF < duration) {
        tracing::warn!(
            "{name} ends after {:.1} s and says it has {:.1} s: it may be cut off; copy it again",
            reached.as_secs_f64(),
            duration.as_secs_f64()
        );
    }
}

fn silent(input: &Input) -> Fault {
    let detail =
        format!("{}: no frame for {} s; is the camera sending?", input.name, CAMERA_PATIENCE.as_secs());
    Fault { reason: Reason::Stalled, detail }
}

/// Extensions of the files that GStreamer opens as single pictures.
pub const IMAGE_EXTENSIONS: [&str; 6] = ["jpg", "jpeg", "png", "bmp", "webp", "pnm"];

/// Whether a path looks like a single picture.
pub fn is_image(path: &std::path::Path) -> bool {
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| IMAGE_EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known)))
}

/// The images of a folder, by name.
///
/// # Errors
/// The folder cannot be read.
pub fn images_in(folder: &std::path::Path) -> std::io::Result<Vec<PathBuf>> {
    let mut images = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if is_image(&path) && path.is_file() {
            images.push(path);
        }
    }
    images.sort();
    Ok(images)
}
