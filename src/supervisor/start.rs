//! Putting the house together: everything that will ever be allocated for frames is allocated here.

use std::sync::Arc;

use crossbeam_channel::{Sender, bounded};
use watchpost_cuda::Gpu;

use super::memory::{Memory, MemoryWatch};
use super::notify::Notify;
use super::reload::{Reload, Reloader};
use super::station::{HandedOn, spawn_engine};
use super::watched::{House, Watched};
use super::{Detector, LOOK_EVERY, Message, Supervisor, Upgrade, debug_socket};
use crate::clock;
use crate::config::{CameraOptions, Config};
use crate::engine::{ORDERS_MAX, Pulse, Station, WORK_MAX, Worker};
use crate::frame::{Feed, Preprocessor, SlotError, SlotForm, Turnstile};
use crate::metrics::Registry;
use crate::publish::{PublishError, Publisher};
use crate::source::Source;
use crate::wake::doorbell;

/// Engines of this process are counted from here.
const FIRST_EPOCH: u64 = 1;

/// What a daemon is made of.
pub struct Parts {
    /// The validated configuration. Its cameras are those of `sources`.
    pub config: Config,
    /// One for each camera of the configuration, in its order.
    pub sources: Vec<Arc<dyn Source>>,
    /// What looks at the frames.
    pub detector: Detector,
    /// What a better engine will run on: its decoders may be used already.
    pub gpu: Option<Gpu>,
    /// Makes a better engine for the same model in the background, which then takes over.
    pub upgrade: Option<Upgrade>,
    /// Reads the configuration again when that is asked for.
    pub reloader: Option<Box<dyn Reloader>>,
}

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Cameras ask for labels that the model does not have; a line for each key.
    #[error("{0}")]
    Classes(String),
    /// There is no memory for the frame slots.
    #[error(transparent)]
    Slots(#[from] SlotError),
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
        let Parts { config, sources, detector, gpu, upgrade, reloader } = parts;
        let gpu = detector.engine.place().gpu().or(gpu);
        let registry = Arc::new(Registry::new(
            config.cameras.iter().map(|camera| camera.name.as_str()),
            config.outputs.iter().map(|output| output.name.as_str()),
            now,
        ));
        // Every sender waits at most for the supervisor's next turn, which never waits for a sender.
        let (supervisor, inbox) = bounded(16 + 4 * config.cameras.len());
        let form = detector.slot_form(FIRST_EPOCH, gpu.clone());
        let feeds = feeds(&config.cameras, &form, &registry, now)?;
        let cameras = watched(&config, sources, &feeds, &form)?;
        // Room for everything that the turnstile lets in, also while one engine takes over from another: sending a
        // filled slot never waits.
        let (work_tx, work_rx) = bounded(WORK_MAX);
        let (orders_tx, orders_rx) = bounded(ORDERS_MAX);
        let turnstile = Turnstile::new(1, feeds.iter().map(|feed| feed.wake.clone()).collect());
        let publisher = Arc::new(start_publisher(&config, &registry, &supervisor)?);
        let pulse = Pulse::new(now);
        let worker = Worker {
            work: work_rx,
            orders: orders_rx,
            turnstile: Arc::clone(&turnstile),
            pulse: Arc::clone(&pulse),
            metrics: Arc::clone(&registry),
        };
        let outputs = detector.outputs();
        let handed_on = HandedOn::default();
        let reading = outputs.reading(&cameras, &config, &publisher, &handed_on)?;
        let station = Station { engine: detector.engine, form: Arc::clone(&form), reading };
        let engine = spawn_engine(worker, station, supervisor.clone())?;
        let debug_socket = config
            .debug_socket
            .as_deref()
            .and_then(|path| debug_socket::DebugSocket::start(path, supervisor.clone()));
        let mut supervisor = Self {
            cameras,
            house: House { turnstile, work: work_tx, supervisor, publisher, gpu, handed_on },
            inbox,
            registry,
            pulse,
            engine: Some(engine),
            orders: orders_tx,
            form,
            reading: outputs,
            reload: None,
            left_behind: Vec::new(),
            debug_socket,
            memory: Memory::new(MemoryWatch::default(), now),
            config,
            notify: Notify::new(),
            verdict: None,
            next_look: now + LOOK_EVERY,
            pause_ended_at: now,
        };
        supervisor.count_pool();
        if let Some(reloader) = reloader {
            supervisor.reload = Some(supervisor.spawn_reload(reloader)?);
        }
        if let Some(upgrade) = upgrade {
            supervisor.start_upgrade(upgrade);
        }
        Ok(supervisor)
    }
}

impl Supervisor {
    /// Starts the thread that reads the configuration again.
    fn spawn_reload(&self, reloader: Box<dyn Reloader>) -> Result<Sender<()>, StartError> {
        let (ask, requests) = bounded(1);
        let reload = Reload {
            reloader,
            requests,
            supervisor: self.house.supervisor.clone(),
            publisher: Arc::clone(&self.house.publisher),
            registry: Arc::clone(&self.registry),
            running: self.config.clone(),
            tag: self.reading.tag.clone(),
            labels: self.reading.labels.clone(),
        };
        // Nobody joins it: it may be loading a model, and the end of the process ends it.
        std::thread::Builder::new()
            .name("reload".to_owned())
            .spawn(move || reload.run())
            .map_err(|error| StartError::System { what: "the thread that reloads", error })?;
        Ok(ask)
    }
}

fn feeds(
    cameras: &[CameraOptions],
    form: &Arc<SlotForm>,
    registry: &Registry,
    now: std::time::Instant,
) -> Result<Vec<Arc<Feed>>, SlotError> {
    let metrics = registry.cameras();
    let cameras = cameras.iter().zip(&metrics).enumerate();
    cameras
        .map(|(index, (camera, metrics))| {
            Ok(Arc::new(Feed::new(index, camera.slots, form, Arc::clone(metrics), doorbell(), now)?))
        })
        .collect()
}

fn watched(
    config: &Config,
    sources: Vec<Arc<dyn Source>>,
    feeds: &[Arc<Feed>],
    form: &SlotForm,
) -> Result<Vec<Watched>, SlotError> {
    let cameras = config.cameras.iter().zip(sources).zip(feeds);
    cameras
        .map(|((camera, source), feed)| {
            let preprocessor = Preprocessor::new(form)?;
            Ok(Watched::new(camera.clone(), source, Arc::clone(feed), preprocessor, &config.supervisor))
        })
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
