//! A source and an engine that do nothing but keep time, so that tests see the frame path alone.
#![allow(dead_code, reason = "every test binary uses its own part")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use watchpost::config::{
    CameraOptions, Config, DetectorOptions, Locator, MemoryOptions, OutputKind, OutputOptions,
};
use watchpost::engine::{Engine, EngineError, TensorView};
use watchpost::frame::{Place, SlotMemory};
use watchpost::model::{ChannelOrder, Fit, HeadRecipe, InputRecipe};
use watchpost::source::{
    Arrived, Decoded, Fault, MemoryFrame, MemoryPicture, Opening, Receiver, Source, TsSource,
};
use watchpost::supervisor::{Detector, ModelTag, Parts};

/// Input side of the fake model.
pub const SIDE: usize = 416;
/// Boxes of a YOLOX head of that size.
pub const BOXES: usize = 52 * 52 + 26 * 26 + 13 * 13;
const CHANNELS: usize = 5 + 3;

/// The one place in these tests where a thread really waits.
#[allow(clippy::disallowed_methods, reason = "the fakes keep real time")]
pub fn wait(time: Duration) {
    std::thread::sleep(time);
}

#[allow(clippy::disallowed_methods, reason = "the fakes keep real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// A camera that shows pictures at a steady rate.
pub struct FakeSource {
    pub interval: Duration,
    /// For so many frames something moves, for as many nothing does; 0: it shows one picture.
    pub moves_for: u64,
    /// Called on the camera's thread and on the source's own thread when they begin.
    pub on_thread: fn(),
    pub sent: Arc<AtomicU64>,
}

struct Running {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Opening for Running {}

impl Drop for Running {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the fake source does not panic");
        }
    }
}

/// A bright square at another place in each; grey the first.
fn pictures() -> [Arc<MemoryPicture>; 4] {
    std::array::from_fn(|place| {
        let mut picture = MemoryPicture::new(640, 360);
        for row in picture.i420_mut().chunks_exact_mut(640).skip(100).take(if place == 0 { 0 } else { 120 }) {
            row[150 * place..][..100].fill(235);
        }
        Arc::new(picture)
    })
}

impl Source for FakeSource {
    fn open(&self, _generation: u64, receiver: Arc<dyn Receiver>) -> Result<Box<dyn Opening>, Fault> {
        (self.on_thread)();
        let over = Arc::new(AtomicBool::new(false));
        let (flag, on_thread, sent) = (Arc::clone(&over), self.on_thread, Arc::clone(&self.sent));
        let (interval, moves_for) = (self.interval, self.moves_for);
        let thread = std::thread::spawn(move || {
            let pictures = pictures();
            let mut next = now();
            on_thread();
            for number in 1u64.. {
                wait(next.saturating_duration_since(now()));
                next += interval;
                if flag.load(Ordering::Relaxed) {
                    return;
                }
                let moves = moves_for > 0 && (number / moves_for).is_multiple_of(2);
                let picture = if moves { number as usize % pictures.len() } else { 0 };
                let frame =
                    Decoded::Memory(MemoryFrame::new(Arc::clone(&pictures[picture]), number * 1_000_000));
                sent.fetch_add(1, Ordering::Relaxed);
                let at = now();
                receiver.frame(Arrived {
                    frame,
                    at,
                    received_at: at,
                    wall: SystemTime::UNIX_EPOCH,
                    ts_source: TsSource::Arrival,
                });
            }
        });
        Ok(Box::new(Running { over, thread: Some(thread) }))
    }
}

/// An engine whose inference takes a given time and sees the same objects in every frame, but where they come and go.
pub struct FakeEngine {
    pub inference: Duration,
    pub on_thread: fn(),
    pub output: Vec<f32>,
    /// How far the three go to and fro, in cells of the head; 0: they stand still.
    pub sway: f32,
    /// Of so many frames one is without an object, each object in its own; 0: objects stay.
    pub blink_every: usize,
    /// Where it wants its slots to be.
    pub place: Place,
    /// Of the head's cells only so many in a row show an object, and the row goes on by so many from frame to frame.
    pub parade: Option<(usize, usize)>,
    frame: usize,
}

/// Where the three objects are in the head.
const PLACES: [(usize, usize); 3] = [(700, 0), (1400, 1), (3000, 2)];

impl FakeEngine {
    pub fn new(inference: Duration, on_thread: fn()) -> Self {
        let mut output = vec![0.0; BOXES * CHANNELS];
        for (index, class) in PLACES {
            let row = &mut output[index * CHANNELS..][..CHANNELS];
            row[2..4].copy_from_slice(&[1.0, 1.2]);
            row[4] = 0.9;
            row[5 + class] = 0.95;
        }
        let place = Place::Host;
        Self { inference, on_thread, output, sway: 0.0, blink_every: 0, parade: None, place, frame: 0 }
    }

    /// As many objects as the head has cells, of high and of low scores, which come and go.
    pub fn crowded(on_thread: fn()) -> Self {
        let mut engine = Self::new(Duration::ZERO, on_thread);
        for (index, row) in engine.output.chunks_exact_mut(CHANNELS).enumerate() {
            row[2..4].copy_from_slice(&[-0.5, -0.3]);
            row[4] = if index % 3 == 0 { 0.3 } else { 0.9 };
            row[5 + index % 3] = 0.95;
        }
        engine.blink_every = 7;
        engine
    }

    fn blink(&mut self) {
        if self.blink_every == 0 {
            return;
        }
        self.frame += 1;
        for (index, row) in self.output.chunks_exact_mut(CHANNELS).enumerate() {
            let has_gone = self
                .parade
                .is_some_and(|(length, step)| (index + BOXES - self.frame * step % BOXES) % BOXES >= length);
            let is_away = has_gone || (index + self.frame).is_multiple_of(self.blink_every);
            let score = if index % 3 == 0 { 0.3 } else { 0.9 };
            row[4] = if is_away { 0.0 } else { score };
        }
    }
}

impl Engine for FakeEngine {
    fn backend(&self) -> &'static str {
        "fake"
    }

    fn precision(&self) -> &'static str {
        "fp32"
    }

    fn max_batch(&self) -> usize {
        1
    }

    fn place(&self) -> Place {
        self.place.clone()
    }

    fn infer(
        &mut self,
        inputs: &[&SlotMemory],
        each: &mut dyn FnMut(usize, &[TensorView<'_>]),
    ) -> Result<(), EngineError> {
        (self.on_thread)();
        if !self.inference.is_zero() {
            wait(self.inference);
        }
        if self.sway > 0.0 {
            self.frame += 1;
            let phase = (self.frame as f32 / 200.0).sin() * self.sway;
            for (index, _) in PLACES {
                self.output[index * CHANNELS] = phase;
            }
        }
        for index in 0..inputs.len() {
            self.blink();
            each(index, &[TensorView { name: "output", shape: &[1, BOXES, CHANNELS], data: &self.output }]);
        }
        Ok(())
    }
}

/// A daemon of `cameras` fake cameras that publishes to a Unix socket in `folder`.
pub fn parts(
    cameras: usize,
    interval: Duration,
    engine: FakeEngine,
    folder: &std::path::Path,
) -> (Parts, Arc<AtomicU64>) {
    let sent = Arc::new(AtomicU64::new(0));
    let scene = Locator::Scene { seed: 1, fps: 1, width: 640, height: 360 };
    let on_thread = engine.on_thread;
    let options: Vec<CameraOptions> =
        (0..cameras).map(|index| CameraOptions::new(format!("cam{index}"), scene.clone())).collect();
    let sources = options
        .iter()
        .map(|_| {
            Arc::new(FakeSource { interval, moves_for: 0, on_thread, sent: Arc::clone(&sent) })
                as Arc<dyn Source>
        })
        .collect();
    let socket = OutputKind::Unix { path: folder.join("records.sock"), mode: 0o600, group: None };
    let config = Config {
        detector: DetectorOptions::new("fake"),
        cameras: options,
        outputs: vec![OutputOptions::new("local", socket)],
        memory: MemoryOptions::default(),
        snapshots: Default::default(),
        supervisor: Default::default(),
        debug_socket: None,
    };
    let parts = Parts {
        config,
        sources,
        detector: Detector {
            engine: Box::new(engine),
            tag: ModelTag {
                name: "fake".to_owned(),
                sha256: "000000000000".to_owned(),
                backend: "fake",
                precision: "fp32",
            },
            input: InputRecipe {
                width: SIDE,
                height: SIDE,
                channels: ChannelOrder::Rgb,
                fit: Fit::LetterboxCentre,
                pad: 114,
                scale: [1.0 / 255.0; 3],
                offset: [0.0; 3],
            },
            head: HeadRecipe::Yolox { strides: vec![8, 16, 32] },
            labels: ["person", "car", "dog"].map(str::to_owned).to_vec(),
        },
        gpu: None,
        upgrade: None,
        reloader: None,
    };
    (parts, sent)
}
