//! Another engine takes over while cameras run: no record is lost, nothing of the old one stays.
//!
//! ```text
//!   supervisor                 camera's thread            engine's thread
//!   allocate new shelves
//!   send the station ────────────────────────────────────► becomes the current one
//!   restock each camera ─────► old slots go on ───────────► inferred by the old engine
//!                              new slots ─────────────────► inferred by the new one
//!                                                          old engine is dropped with its last slot
//! ```
//!
//! Whatever is refused on the way (memory, a class that the new model does not know) leaves the old engine in
//! place.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::{Detector, Message, StartError, Supervisor};
use crate::config::Config;
use crate::engine::{EngineError, Order, Station};
use crate::frame::{Pool, Preprocessor, SlotError};

/// Why the old engine stays.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error(transparent)]
    Slots(#[from] SlotError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("the engine before it is still on its way out")]
    Busy,
}

impl Supervisor {
    /// Starts the work on a better engine; its end is a message.
    pub(super) fn start_upgrade(&self, upgrade: super::Upgrade) {
        let supervisor = self.house.supervisor.clone();
        let work = move || {
            let built = catch_unwind(AssertUnwindSafe(upgrade)).unwrap_or_else(|_panic| {
                let reason = "its preparation panicked, which is a fault of watchpost".to_owned();
                Err(EngineError::Unavailable { backend: "that would take over", reason })
            });
            let _supervisor_gone = supervisor.send(Message::EngineReady(built.map(Box::new)));
        };
        // Nobody joins it: the end of the process ends it.
        if let Err(error) = std::thread::Builder::new().name("engine-build".to_owned()).spawn(work) {
            tracing::warn!("no thread for building a faster engine: {error}");
        }
    }

    /// A better engine is ready, or will never be.
    pub(super) fn engine_ready(&mut self, built: Result<Box<Detector>, EngineError>) {
        let detector = match built {
            Ok(detector) => detector,
            Err(error) => {
                tracing::warn!("no faster engine: {error}; the one in use stays");
                return;
            }
        };
        if detector.tag.sha256 != self.reading.tag.sha256 {
            tracing::info!(
                model = detector.tag.name,
                "an engine is ready for a model that is no longer configured"
            );
            return;
        }
        let (backend, precision) = (detector.tag.backend, detector.tag.precision);
        match self.take_over_as_configured(*detector) {
            Ok(()) => tracing::info!(backend, precision, "another engine takes over"),
            Err(why) => {
                tracing::warn!(
                    backend,
                    precision,
                    "the engine is ready and not used: {why}; the one in use stays"
                );
            }
        }
    }

    fn take_over_as_configured(&mut self, detector: Detector) -> Result<(), Refused> {
        let config = self.config.clone();
        self.take_over(detector, &config)
    }

    /// All cameras get slots for this detector, whose outputs are read as `config` says.
    pub(super) fn take_over(&mut self, detector: Detector, config: &Config) -> Result<(), Refused> {
        // Frames that are decoded on a GPU go on to be, until their cameras are opened again.
        let gpu = detector.engine.place().gpu().or_else(|| self.house.gpu.clone());
        let form = detector.slot_form(self.form.epoch + 1, gpu.clone());
        let mut shelves = Vec::with_capacity(self.cameras.len());
        for camera in &self.cameras {
            let capacity = camera.feed.pool.capacity();
            shelves.push((Pool::prepare(capacity, &form)?, Preprocessor::new(&form)?));
        }
        let outputs = detector.outputs();
        let reading = outputs.reading(&self.cameras, config, &self.house.publisher, &self.house.handed_on)?;
        let station = Station { engine: detector.engine, form: Arc::clone(&form), reading };
        self.orders.try_send(Order::Install(station)).map_err(|_full| Refused::Busy)?;
        for (camera, (restock, preprocessor)) in self.cameras.iter().zip(shelves) {
            camera.feed.refit(restock, preprocessor);
        }
        self.house.gpu = gpu;
        (self.form, self.reading) = (form, outputs);
        self.count_pool();
        Ok(())
    }
}
