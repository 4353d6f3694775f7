//! Putting the house together: everything that will ever be allocated for frames is allocated here.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::notify::Notify;
use super::opening::thread_name;
use super::results::Results;
use super::watched::{House, Watched};
use super::{LOOK_EVERY, Message, ModelTag, Supervisor, debug_socket};
use crate::clock;
use crate::config::{Auto, CameraOptions, Config};
use crate::decode::{Decoder, Limits};
use crate::engine::{Engine, EngineError, Pulse, Worker};
use crate::filter::{Filter, lacks_labels};
use crate::frame::{Feed, Turnstile, Work};
use crate::metrics::Registry;
use crate::model::{HeadRecipe, InputRecipe};
use crate::publish::{ObjectReader, PublishError, Publisher};
use crate::source::Source;

/// Boxes that pass the score threshold and are looked at by NMS, at most.
pub const CANDIDATES_MAX: usize = 3000;

/// What a daemon is made of.
pub struct Parts {
    /// The validated configuration. Its cameras are those of `sources`.
    pub config: Config,
    /// One for each camera of the configuration, in its order.
    pub sources: Vec<Arc<dyn Source>>,
    /// Loaded once, here.
    pub engine: Box<dyn Engine>,
    /// The model's name, hash, backend and precision.
    pub tag: ModelTag,
    /// The model's input.
    pub input: InputRecipe,
    /// The model's outputs.
    pub head: HeadRecipe,
    /// The model's labels.
    pub labels: Vec<String>,
}

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A camera asks for labels that the model does not have.
    #[error("camera.{camera}.classes: the model {model} {}", lacks_labels(.unknown, .labels))]
    Classes {
        /// Which camera.
        camera: String,
        /// Which model.
        model: String,
        /// What it asked for.
        unknown: Vec<String>,
        /// What there is.
        labels: Vec<String>,
    },
    /// An output cannot be opened.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The operating system refused something that everything else rests on.
    #[error("{what} could not be started: {error}")]
    System {
        /// What.
        what: &'static str,
        /// Its words.
        error: std::io::Error,
    },
}

impl Supervisor {
    /// Allocates, opens the outputs, starts the engine's thread. Cameras start with [`Supervisor::run`].
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub fn start(parts: Parts) -> Result<Self, StartError> {
        let now = clock::now();
        let Parts { config, sources, engine, tag, input, head, labels } = parts;
        let filters = filters(&config, &tag, &labels)?;
        let registry = Arc::new(Registry::new(
            config.cameras.iter().map(|camera| camera.name.as_str()),
            config.outputs.iter().map(|output| output.name.as_str()),
            tag.backend,
            now,
        ));
        // Every sender waits at most for the supervisor's next turn, which never waits for a sender.
        let (supervisor, inbox) = bounded(16 + 4 * config.cameras.len());
        let feeds = feeds(&config.cameras, &input, &registry, now);
        let slots: usize = config.cameras.iter().map(|camera| camera.slots).sum();
        let pool_bytes: usize = feeds.iter().map(|feed| feed.pool.bytes()).sum();
        registry.handles.pool_bytes.store(pool_bytes as u64, std::sync::atomic::Ordering::Relaxed);
        // Room for every slot: sending a filled slot never waits.
        let (work_tx, work_rx) = bounded(slots.max(1));
        let max_batch = match config.detector.max_batch_size {
            Auto::Auto => engine.max_batch(),
            Auto::Fixed(size) => size.min(engine.max_batch()),
        };
        let turnstile = Turnstile::new(max_batch, feeds.iter().map(|feed| feed.wake.clone()).collect());
        let publisher = Arc::new(start_publisher(&config, &registry, &supervisor)?);
        let pulse = Pulse::new(now);
        let worker = Worker {
            work: work_rx,
            turnstile: Arc::clone(&turnstile),
            max_batch,
            max_batch_delay: config.detector.max_batch_delay,
            pulse: Arc::clone(&pulse),
            metrics: Arc::clone(&registry),
        };
        let limits = Limits {
            score_threshold: lowest_threshold(&config),
            iou_threshold: config.detector.iou_threshold,
            max_objects: config.detector.max_objects,
            max_candidates: CANDIDATES_MAX.max(config.detector.max_objects),
            ..Limits::default()
        };
        let decoder = Decoder::new(&head, &input, labels.len(), limits);
        let desk =
            Desk { worker, engine, decoder, labels, tag, filters, max_objects: config.detector.max_objects };
        let engine = spawn_engine(desk, Arc::clone(&publisher), supervisor.clone())?;
        let debug_socket = config
            .debug_socket
            .as_deref()
            .and_then(|path| debug_socket::DebugSocket::start(path, supervisor.clone()));
        let house = House { turnstile, work: work_tx, supervisor, publisher };
        let cameras = watched(&config, sources, feeds, &input);
        Ok(Self {
            cameras,
            house,
            inbox,
            registry,
            pulse,
            engine: Some(engine),
            debug_socket,
            memory: config.memory,
            max_wedged: config.supervisor.max_wedged,
            soft_limit_exceeded: false,
            notify: Notify::new(),
            verdict: None,
            next_look: now + LOOK_EVERY,
        })
    }
}

fn filters(config: &Config, tag: &ModelTag, labels: &[String]) -> Result<Vec<Filter>, StartError> {
    let filter = |camera: &CameraOptions| {
        let threshold = camera.score_threshold.unwrap_or(config.detector.score_threshold);
        Filter::new(camera.classes.as_deref(), labels, threshold).map_err(|unknown| StartError::Classes {
            camera: camera.name.clone(),
            model: tag.name.clone(),
            unknown,
            labels: labels.to_vec(),
        })
    };
    config.cameras.iter().map(filter).collect()
}

/// The decoder serves all cameras: it keeps what the most curious of them wants to see.
fn lowest_threshold(config: &Config) -> f32 {
    let cameras = config.cameras.iter().filter_map(|camera| camera.score_threshold);
    cameras.fold(config.detector.score_threshold, f32::min)
}

fn feeds(
    cameras: &[CameraOptions],
    input: &InputRecipe,
    registry: &Registry,
    now: std::time::Instant,
) -> Vec<Arc<Feed>> {
    cameras
        .iter()
        .zip(&registry.cameras)
        .enumerate()
        .map(|(index, (camera, metrics))| {
            Arc::new(Feed::new(index, camera.slots, input.len(), Arc::clone(metrics), now))
        })
        .collect()
}

fn watched(
    config: &Config,
    sources: Vec<Arc<dyn Source>>,
    feeds: Vec<Arc<Feed>>,
    input: &InputRecipe,
) -> Vec<Watched> {
    let cameras = config.cameras.iter().zip(sources).zip(feeds);
    cameras
        .map(|((camera, source), feed)| Watched::new(camera.clone(), source, feed, input, &config.supervisor))
        .collect()
}

fn start_publisher(
    config: &Config,
    registry: &Registry,
    supervisor: &Sender<Message>,
) -> Result<Publisher, StartError> {
    let supervisor = supervisor.clone();
    let publisher = Publisher::start(&config.outputs, registry, move |_output, _reason| {
        let _looked_after_once_a_second_anyway = supervisor.try_send(Message::OutputClosed);
    })?;
    Ok(publisher)
}

/// What the engine's thread works with.
struct Desk {
    worker: Worker,
    engine: Box<dyn Engine>,
    decoder: Decoder,
    labels: Vec<String>,
    tag: ModelTag,
    filters: Vec<Filter>,
    max_objects: usize,
}

fn spawn_engine(
    desk: Desk,
    publisher: Arc<Publisher>,
    supervisor: Sender<Message>,
) -> Result<JoinHandle<()>, StartError> {
    std::thread::Builder::new()
        .name(thread_name("engine-", "0"))
        .spawn(move || {
            let mut ended = ReportEngine { supervisor, result: Err(None), drain: desk.worker.work.clone() };
            ended.result = run_engine(desk, publisher).map_err(Some);
        })
        .map_err(|error| StartError::System { what: "the engine's thread", error })
}

fn run_engine(desk: Desk, publisher: Arc<Publisher>) -> Result<(), EngineError> {
    let Desk { worker, mut engine, decoder, labels, tag, filters, max_objects } = desk;
    let reader = ObjectReader::new(&labels, decoder, max_objects);
    let mut results = Results { reader, tag: &tag, filters: &filters, publisher };
    worker.run(engine.as_mut(), &mut |work, outputs| results.finish(work, outputs))
}

/// Reports the end of the engine's thread, also when it unwinds; then no slot stays in the channel.
struct ReportEngine {
    supervisor: Sender<Message>,
    result: Result<(), Option<EngineError>>,
    drain: Receiver<Work>,
}

impl Drop for ReportEngine {
    fn drop(&mut self) {
        while let Ok(work) = self.drain.try_recv() {
            work.feed.dropped(crate::metrics::Outcome::Shutdown);
        }
        let result = std::mem::replace(&mut self.result, Ok(()));
        let _supervisor_gone = self.supervisor.send(Message::EngineEnded(result));
    }
}
