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

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Detector, Message, StartError, Supervisor};
use crate::engine::EngineError;
use crate::frame::{Preprocessor, SlotError};

/// Why the old engine stays.
#[derive(Debug, thiserror::Error)]
enum Refused {
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
            let _supervisor_gone = supervisor.send(Message::EngineReady(upgrade().map(Box::new)));
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
        let (backend, precision) = (detector.tag.backend, detector.tag.precision);
        match self.take_over(*detector) {
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

    fn take_over(&mut self, detector: Detector) -> Result<(), Refused> {
        let form = detector.slot_form(self.epoch + 1);
        let mut shelves = Vec::with_capacity(self.cameras.len());
        for camera in &self.cameras {
            shelves.push((camera.feed.pool.prepare(&form)?, Preprocessor::new(&form)?));
        }
        let gpu = form.place.gpu();
        let station = detector.station(Arc::clone(&form), &self.config, &self.house.publisher)?;
        self.stations.try_send(station).map_err(|_full| Refused::Busy)?;
        self.epoch += 1;
        self.gpu = gpu;
        for (camera, (restock, preprocessor)) in self.cameras.iter().zip(shelves) {
            camera.feed.refit(restock, preprocessor);
        }
        let pool_bytes: usize = self.cameras.iter().map(|camera| camera.feed.pool.bytes()).sum();
        self.registry.handles.pool_bytes.store(pool_bytes as u64, Ordering::Relaxed);
        Ok(())
    }
}
