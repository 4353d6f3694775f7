//! A detector at work: the engine, the form of its slots, and who reads its outputs; and its thread.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};
use watchpost_cuda::Gpu;

use super::identities::Identities;
use super::opening::thread_name;
use super::results::{Results, View};
use super::watched::Watched;
use super::wishes::{Wish, lowest_shown, wishes};
use super::{Message, ModelTag, StartError};
use crate::config::{Auto, CameraOptions, Config};
use crate::decode::{Decoder, Limits};
use crate::engine::{Engine, EngineError, Reading, Station, Worker};
use crate::filter::Presence;
use crate::frame::{SlotForm, Work};
use crate::metrics::Outcome;
use crate::model::{HeadRecipe, InputRecipe};
use crate::publish::{ObjectReader, Publisher};
use crate::snapshots::{Snapshots, Writers};
use crate::track::{Ids, LOW_SCORE, Workspace};

/// Boxes that pass the score threshold and are looked at by NMS, at most.
pub const CANDIDATES_MAX: usize = 3000;

/// A model on its engine, loaded once.
pub struct Detector {
    /// Infers.
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

impl std::fmt::Debug for Detector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Detector").field("tag", &self.tag).field("input", &self.input).finish_non_exhaustive()
    }
}

/// Makes a better engine for the same model. Work of minutes, on a thread of its own.
pub type Upgrade = Box<dyn FnOnce() -> Result<Detector, EngineError> + Send>;

impl Detector {
    /// What its slots are like; `epoch` counts the engines of this process.
    pub(super) fn slot_form(&self, epoch: u64, gpu: Option<Gpu>) -> Arc<SlotForm> {
        Arc::new(SlotForm { epoch, input: self.input, place: self.engine.place(), gpu })
    }

    /// How its outputs can be read.
    pub(super) fn outputs(&self) -> Outputs {
        Outputs {
            tag: self.tag.clone(),
            input: self.input,
            head: self.head.clone(),
            labels: self.labels.clone(),
        }
    }
}

/// What one reading hands on to the next.
#[derive(Debug, Default)]
pub(super) struct HandedOn {
    /// Numbers for tracks.
    ids: Ids,
    /// Of snapshots.
    writers: Writers,
}

/// A detector without its engine: what is needed to read its outputs, also in another way later.
pub(super) struct Outputs {
    pub tag: ModelTag,
    input: InputRecipe,
    head: HeadRecipe,
    pub labels: Vec<String>,
}

impl Outputs {
    /// Allocates everything that is needed to read the outputs for these cameras.
    ///
    /// # Errors
    /// [`StartError::Classes`]: a camera asks for labels that this model does not have.
    pub fn reading(
        &self,
        cameras: &[Watched],
        config: &Config,
        publisher: &Arc<Publisher>,
        handed_on: &HandedOn,
    ) -> Result<Reading, StartError> {
        let detector = &config.detector;
        let limits = Limits {
            score_threshold: lowest_threshold(config),
            iou_threshold: detector.iou_threshold,
            max_objects: detector.max_objects,
            max_candidates: CANDIDATES_MAX.max(detector.max_objects),
            ..Limits::default()
        };
        let decoder = Decoder::new(&self.head, &self.input, self.labels.len(), limits);
        let reader = ObjectReader::new(self.labels.as_slice().into(), decoder, detector.max_objects);
        let labels: Arc<[String]> = self.labels.as_slice().into();
        let mut views: Vec<Option<View>> = Vec::new();
        let wishes = wishes(&config.cameras, detector, &self.tag, &self.labels)?;
        for (options, Wish { filter, tracking, events }) in config.cameras.iter().zip(wishes) {
            let Some(camera) = cameras.iter().find(|camera| camera.options.name == options.name) else {
                continue;
            };
            let model = (self.tag.sha256.as_str(), &labels);
            let identities = Identities::new(&camera.memory, model, tracking, &handed_on.ids, events);
            let index = camera.feed.index;
            views.resize_with(views.len().max(index + 1), || None);
            views[index] = Some(View { filter, identities, presence: Presence::default() });
        }
        let tracks = config.cameras.iter().any(|camera| camera.track);
        let mut results = Results {
            reader,
            tag: self.tag.clone(),
            views,
            workspace: Workspace::new(if tracks { detector.max_objects } else { 0 }),
            publisher: Arc::clone(publisher),
            snapshots: self.snapshots(cameras, config, &handed_on.writers),
        };
        Ok(Reading {
            finish: Box::new(move |work, outputs| results.finish(work, outputs)),
            max_batch: match detector.max_batch_size {
                Auto::Auto => None,
                Auto::Fixed(size) => Some(size),
            },
            max_batch_delay: detector.max_batch_delay,
        })
    }
}

impl Outputs {
    /// Without a thread there are no pictures, but all the rest.
    fn snapshots(&self, cameras: &[Watched], config: &Config, writers: &Writers) -> Option<Snapshots> {
        let options = |name: &str| config.cameras.iter().find(|options| options.name == name);
        let cameras: Vec<_> = cameras
            .iter()
            .filter_map(|camera| {
                let options = options(&camera.options.name)?;
                Some((camera.feed.index, options, Arc::clone(&camera.feed.metrics)))
            })
            .collect();
        Snapshots::start(&config.snapshots, &self.input, &cameras, writers).unwrap_or_else(|error| {
            tracing::warn!(%error, "no thread could be started for snapshots; none are saved");
            None
        })
    }
}

/// The decoder serves all cameras: it keeps what the most curious of them wants to see. A tracker wants boxes that
/// nobody is shown.
fn lowest_threshold(config: &Config) -> f32 {
    let wanted = |camera: &CameraOptions| {
        let shown = lowest_shown(camera, &config.detector);
        if camera.track { shown.min(LOW_SCORE) } else { shown }
    };
    config.cameras.iter().map(wanted).fold(config.detector.score_threshold, f32::min)
}

/// Starts the engine's thread.
pub(super) fn spawn_engine(
    worker: Worker,
    station: Station,
    supervisor: Sender<Message>,
) -> Result<JoinHandle<()>, StartError> {
    std::thread::Builder::new()
        .name(thread_name("engine-", "0"))
        .spawn(move || {
            let mut ended = ReportEngine { supervisor, result: Err(None), drain: worker.work.clone() };
            ended.result = worker.run(station).map_err(Some);
        })
        .map_err(|error| StartError::System { what: "the engine's thread", error })
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
            work.feed.dropped(Outcome::Shutdown);
        }
        let result = std::mem::replace(&mut self.result, Ok(()));
        let _supervisor_gone = self.supervisor.send(Message::EngineEnded(result));
    }
}
