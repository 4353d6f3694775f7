//! Putting the house together: everything that will ever be allocated for frames is allocated here.

use std::sync::Arc;

use crossbeam_channel::{Sender, bounded};

use super::notify::Notify;
use super::station::spawn_engine;
use super::watched::{House, Watched};
use super::{Detector, LOOK_EVERY, Message, Supervisor, Upgrade, debug_socket};
use crate::clock;
use crate::config::{Auto, CameraOptions, Config};
use crate::engine::{Pulse, Worker};
use crate::filter::lacks_labels;
use crate::frame::{Feed, Preprocessor, SlotError, SlotForm, Turnstile};
use crate::metrics::Registry;
use crate::publish::{PublishError, Publisher};
use crate::source::Source;

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
    /// Makes a better engine for the same model in the background, which then takes over.
    pub upgrade: Option<Upgrade>,
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
        let Parts { config, sources, detector, upgrade } = parts;
        let registry = Arc::new(Registry::new(
            config.cameras.iter().map(|camera| camera.name.as_str()),
            config.outputs.iter().map(|output| output.name.as_str()),
            now,
        ));
        // Every sender waits at most for the supervisor's next turn, which never waits for a sender.
        let (supervisor, inbox) = bounded(16 + 4 * config.cameras.len());
        let form = detector.slot_form(FIRST_EPOCH);
        let gpu = form.place.gpu();
        let feeds = feeds(&config.cameras, &form, &registry, now)?;
        let cameras = watched(&config, sources, &feeds, &form)?;
        let slots: usize = config.cameras.iter().map(|camera| camera.slots).sum();
        let pool_bytes: usize = feeds.iter().map(|feed| feed.pool.bytes()).sum();
        registry.handles.pool_bytes.store(pool_bytes as u64, std::sync::atomic::Ordering::Relaxed);
        // Room for every slot, and for those of an engine on its way out: sending a filled slot never waits.
        let (work_tx, work_rx) = bounded(2 * slots.max(1));
        let (stations_tx, stations_rx) = bounded(1);
        let turnstile = Turnstile::new(1, feeds.iter().map(|feed| feed.wake.clone()).collect());
        let publisher = Arc::new(start_publisher(&config, &registry, &supervisor)?);
        let pulse = Pulse::new(now);
        let worker = Worker {
            work: work_rx,
            stations: stations_rx,
            turnstile: Arc::clone(&turnstile),
            max_batch: match config.detector.max_batch_size {
                Auto::Auto => None,
                Auto::Fixed(size) => Some(size),
            },
            max_batch_delay: config.detector.max_batch_delay,
            pulse: Arc::clone(&pulse),
            metrics: Arc::clone(&registry),
        };
        let station = detector.station(form, &config, &publisher)?;
        let engine = spawn_engine(worker, station, supervisor.clone())?;
        let debug_socket = config
            .debug_socket
            .as_deref()
            .and_then(|path| debug_socket::DebugSocket::start(path, supervisor.clone()));
        let supervisor = Self {
            cameras,
            house: House { turnstile, work: work_tx, supervisor, publisher },
            inbox,
            registry,
            pulse,
            engine: Some(engine),
            stations: stations_tx,
            epoch: FIRST_EPOCH,
            gpu,
            debug_socket,
            config,
            soft_limit_exceeded: false,
            notify: Notify::new(),
            verdict: None,
            next_look: now + LOOK_EVERY,
        };
        if let Some(upgrade) = upgrade {
            supervisor.start_upgrade(upgrade);
        }
        Ok(supervisor)
    }
}

fn feeds(
    cameras: &[CameraOptions],
    form: &Arc<SlotForm>,
    registry: &Registry,
    now: std::time::Instant,
) -> Result<Vec<Arc<Feed>>, SlotError> {
    let cameras = cameras.iter().zip(&registry.cameras).enumerate();
    cameras
        .map(|(index, (camera, metrics))| {
            Ok(Arc::new(Feed::new(index, camera.slots, form, Arc::clone(metrics), now)?))
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
