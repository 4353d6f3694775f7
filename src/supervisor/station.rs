//! A detector at work: the engine, the form of its slots, and who reads its outputs; and its thread.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};

use super::opening::thread_name;
use super::results::Results;
use super::{Message, ModelTag, StartError};
use crate::config::{CameraOptions, Config};
use crate::decode::{Decoder, Limits};
use crate::engine::{Engine, EngineError, Station, Worker};
use crate::filter::Filter;
use crate::frame::{SlotForm, Work};
use crate::metrics::Outcome;
use crate::model::{HeadRecipe, InputRecipe};
use crate::publish::{ObjectReader, Publisher};

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
    pub(super) fn slot_form(&self, epoch: u64) -> Arc<SlotForm> {
        Arc::new(SlotForm { epoch, input: self.input, place: self.engine.place() })
    }

    /// Allocates everything that is needed to read its outputs.
    ///
    /// # Errors
    /// [`StartError::Classes`]: a camera asks for labels that this model does not have.
    pub(super) fn station(
        self,
        form: Arc<SlotForm>,
        config: &Config,
        publisher: &Arc<Publisher>,
    ) -> Result<Station, StartError> {
        let filters = filters(config, &self.tag, &self.labels)?;
        let Self { engine, tag, input, head, labels } = self;
        let max_objects = config.detector.max_objects;
        let limits = Limits {
            score_threshold: lowest_threshold(config),
            iou_threshold: config.detector.iou_threshold,
            max_objects,
            max_candidates: CANDIDATES_MAX.max(max_objects),
            ..Limits::default()
        };
        let decoder = Decoder::new(&head, &input, labels.len(), limits);
        let reader = ObjectReader::new(labels.into(), decoder, max_objects);
        let mut results = Results { reader, tag, filters, publisher: Arc::clone(publisher) };
        Ok(Station { engine, form, finish: Box::new(move |work, outputs| results.finish(work, outputs)) })
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
