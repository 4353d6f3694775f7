//! A stream through mailbox, wake rule and gate, in its own time.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use watchpost::config::{CameraOptions, Decode, Locator};
use watchpost::filter::Presence;
use watchpost::frame::{Feed, GateOptions, LazyOptions, Mailbox, MotionGate, Pacer, Place, SlotForm};
use watchpost::metrics::{Registry, Wake, process_usage};
use watchpost::model::{ChannelOrder, Fit, InputRecipe};
use watchpost::source::{Arrived, Decoded, Receiver as _, TsSource};
use watchpost::{clock, wake};
use watchpost_pipelines as pipelines;

use crate::stream::{Seen, Stream};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    All,
    Gate,
    Lazy,
    Both,
}

impl Mode {
    pub const ALL: [Self; 4] = [Self::All, Self::Gate, Self::Lazy, Self::Both];

    pub fn name(self) -> &'static str {
        match self {
            Self::All => "`all`",
            Self::Gate => "`all`, `motion_gate`",
            Self::Lazy => "`lazy`",
            Self::Both => "`lazy`, `motion_gate`",
        }
    }

    fn options(self, hold: Duration) -> CameraOptions {
        CameraOptions {
            decode: if matches!(self, Self::Lazy | Self::Both) { Decode::Lazy } else { Decode::All },
            motion_hold: hold,
            motion_gate: matches!(self, Self::Gate | Self::Both),
            ..CameraOptions::new("bench", Locator::Csi { sensor_index: 0 })
        }
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    events: usize,
    missed: usize,
    /// From the event's first frame to the time at which it was first inferred.
    late: Vec<Duration>,
    /// From the event's first frame to the first frame of it that was inferred.
    lost: Vec<Duration>,
    frames: usize,
    decoded: usize,
    inferred: usize,
    woken: u64,
    false_alarms: usize,
    seconds: f64,
    cpu_seconds: f64,
}

impl Outcome {
    pub fn add(&mut self, other: Self) {
        self.events += other.events;
        self.missed += other.missed;
        self.late.extend(other.late);
        self.lost.extend(other.lost);
        self.frames += other.frames;
        self.decoded += other.decoded;
        self.inferred += other.inferred;
        self.woken += other.woken;
        self.false_alarms += other.false_alarms;
        self.seconds += other.seconds;
        self.cpu_seconds += other.cpu_seconds;
    }
}

fn quantile(times: &[Duration], share: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort();
    let place = ((sorted.len() as f64 - 1.0) * share).round().max(0.0) as usize;
    sorted.get(place).copied().unwrap_or_default().as_secs_f64()
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p95, max] = [0.5, 0.95, 1.0].map(|share| quantile(&self.late, share));
        write!(
            f,
            "{} | {} | {p50:.2} / {p95:.2} / {max:.2} s | {:.2} s | {:.1} % | {:.2}/s | {} ({}) | {:.1} ms/s",
            self.events,
            self.missed,
            quantile(&self.lost, 0.95),
            100.0 * self.decoded as f64 / self.frames as f64,
            self.inferred as f64 / self.seconds,
            self.woken,
            self.false_alarms,
            1e3 * self.cpu_seconds / self.seconds
        )
    }
}

/// The camera's thread and the engine, who take no time.
struct Inside {
    gate: Option<MotionGate>,
    presence: Presence,
    arrived: u32,
    decoded: usize,
    /// The frame's number, and the time by arrivals, of each that was inferred.
    inferred: Vec<(u32, u32)>,
    wakes: Vec<u32>,
    over: bool,
}

struct Player {
    start: Instant,
    fps: f64,
    seen: Vec<Vec<Seen>>,
    feed: Arc<Feed>,
    mailbox: Arc<Mailbox>,
    inside: Mutex<Inside>,
}

impl Player {
    fn at(&self, number: u32) -> Instant {
        self.start + Duration::from_secs_f64(f64::from(number) / self.fps)
    }

    fn woken(&self) -> u64 {
        Wake::ALL.iter().map(|&why| self.feed.metrics.wake_count(why)).sum()
    }
}

impl pipelines::Receiver for Player {
    fn frame(&self, frame: pipelines::Frame) {
        let number = (frame.pts_ns().expect("a time") as f64 * 1e-9 * self.fps).round() as u32;
        let at = self.at(number);
        let mut inside = self.inside.lock().expect("no panic");
        inside.decoded += 1;
        let arrived = Arrived {
            frame: Decoded::Gst(frame),
            at,
            received_at: at,
            wall: SystemTime::UNIX_EPOCH,
            ts_source: TsSource::File,
        };
        self.mailbox.frame(arrived);
        let Some(numbered) = self.mailbox.take() else { return };
        if let Some(gate) = &mut inside.gate {
            let picture = numbered.arrived.frame.picture().expect("in system memory");
            let look = gate.look(&picture, at, self.feed.last_object());
            self.mailbox.looked(look.moved, at);
            if !look.infer {
                return;
            }
        }
        let now = inside.arrived;
        inside.inferred.push((number, now));
        let objects = self.seen.get(number as usize).into_iter().flatten();
        if inside.presence.is_lively(objects.map(|one| (one.class_id, one.bbox)), at) {
            self.feed.saw_object(at);
        }
    }

    fn event(&self, event: pipelines::Event) {
        match event {
            pipelines::Event::Eos => self.inside.lock().expect("no panic").over = true,
            pipelines::Event::Error(failure) => panic!("{failure}"),
            _ => {}
        }
    }

    fn judge(&self, kind: pipelines::PictureKind, size_bytes: usize) -> pipelines::Judgement {
        let number = self.inside.lock().expect("no panic").arrived;
        let woken = self.woken();
        let judgement = self.mailbox.judge(self.at(number), kind, size_bytes);
        let mut inside = self.inside.lock().expect("no panic");
        inside.arrived += 1;
        if self.woken() > woken {
            inside.wakes.push(number);
        }
        judgement
    }

    /// A real detector takes a moment.
    fn is_ready(&self) -> bool {
        false
    }

    fn kept(&self, mark: Option<u64>) {
        self.mailbox.kept(self.start, mark);
    }

    fn caught_up(&self) {
        self.mailbox.caught_up();
    }

    fn skipped(&self, mark: Option<u64>) {
        self.mailbox.skipped(self.start, mark);
    }
}

fn player(stream: &Stream, mode: Mode, detect_fps: f64, hold: Duration) -> Player {
    let (start, options) = (clock::now(), mode.options(hold));
    let registry = Registry::new(["bench"], [], start);
    let input = InputRecipe {
        width: 4,
        height: 4,
        channels: ChannelOrder::Rgb,
        fit: Fit::LetterboxCentre,
        pad: 0,
        scale: [1.0; 3],
        offset: [0.0; 3],
    };
    let form = Arc::new(SlotForm { epoch: 1, input, place: Place::Host, gpu: None });
    let metrics = Arc::clone(&registry.cameras()[0]);
    let feed = Arc::new(Feed::new(0, 1, &form, metrics, wake::doorbell(), start).expect("a slot"));
    feed.begin_generation(1);
    let lazy = LazyOptions::of(&options);
    let pacer = Pacer::new(Some(detect_fps));
    let inside = Inside {
        gate: GateOptions::of(&options).map(MotionGate::new),
        presence: Presence::default(),
        arrived: 0,
        decoded: 0,
        inferred: Vec::new(),
        wakes: Vec::new(),
        over: false,
    };
    Player {
        start,
        fps: stream.fps,
        seen: stream.seen.clone(),
        mailbox: Mailbox::new(Arc::clone(&feed), 1, pacer, options.decode, lazy),
        feed,
        inside: Mutex::new(inside),
    }
}

/// Plays it; the camera is awake for `hold` after the last motion.
pub fn play(stream: &Stream, mode: Mode, detect_fps: f64, hold: Duration) -> Outcome {
    let player = Arc::new(player(stream, mode, detect_fps, hold));
    let kind = pipelines::SourceKind::File { path: stream.path.clone() };
    let kept_bytes_max = LazyOptions::of(&mode.options(hold)).map_or(0, |lazy| lazy.buffer_bytes);
    let spec = pipelines::Spec { realtime: false, kept_bytes_max, ..pipelines::Spec::new(kind) };
    let cpu_before = process_usage().cpu_seconds;
    let receiver = Arc::clone(&player) as Arc<dyn pipelines::Receiver>;
    let pipeline = pipelines::Pipeline::start(&spec, "bench", receiver).expect("it starts");
    while !player.inside.lock().expect("no panic").over {
        std::thread::park_timeout(Duration::from_millis(20));
    }
    pipeline.stop();
    let cpu_seconds = process_usage().cpu_seconds - cpu_before;
    let inside = player.inside.lock().expect("no panic");
    let mut outcome = Outcome {
        frames: inside.arrived as usize,
        decoded: inside.decoded,
        inferred: inside.inferred.len(),
        woken: player.woken(),
        seconds: f64::from(inside.arrived) / stream.fps,
        cpu_seconds,
        ..Outcome::default()
    };
    let mut first: HashMap<u64, (u32, u32)> = HashMap::new();
    for &(number, now) in &inside.inferred {
        for one in &stream.seen[number as usize] {
            first.entry(one.id).or_insert((number, now));
        }
    }
    let after = |number: u32, event: u32| {
        Duration::from_secs_f64(f64::from(number.saturating_sub(event)) / stream.fps)
    };
    for event in &stream.events {
        outcome.events += 1;
        match first.get(&event.id) {
            Some(&(number, now)) => {
                outcome.late.push(after(now, event.first));
                outcome.lost.push(after(number, event.first));
            }
            None => outcome.missed += 1,
        }
    }
    // Nobody within two seconds.
    let near = (2.0 * stream.fps) as u32;
    let is_false =
        |&&at: &&u32| !stream.events.iter().any(|event| event.first <= at + near && at <= event.last + near);
    outcome.false_alarms = inside.wakes.iter().filter(is_false).count();
    outcome
}
