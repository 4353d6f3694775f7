//! What a reload does to running cameras: those that did not change do not notice.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Supervisor;
use super::debug_socket::DebugSocket;
use super::reload::{Change, Renewed};
use super::station::Detector;
use super::takeover::Refused;
use super::watched::Watched;
use crate::camera::Input;
use crate::clock;
use crate::config::{CameraOptions, Config};
use crate::engine::Order;
use crate::frame::{Feed, Pool, Preprocessor, SlotError};
use crate::source::Source;
use crate::wake::doorbell;

impl Supervisor {
    /// Takes over a new configuration, or says why not; then everything is as it was.
    pub(super) fn renew(&mut self, renewed: Renewed) -> Result<(), String> {
        let Renewed { config, sources, detector, upgrade } = renewed;
        let now = clock::now();
        let come = self.new_cameras(&config, sources.iter(), now).map_err(|error| error.to_string())?;
        let fresh_indices: Vec<usize> = come.iter().map(|camera| camera.feed.index).collect();
        self.cameras.extend(come);
        if let Err(why) = self.change_detector(&config, detector) {
            self.cameras.retain(|camera| !fresh_indices.contains(&camera.feed.index));
            for index in fresh_indices {
                self.house.turnstile.part(index);
            }
            self.registry_follows();
            return Err(why.to_string());
        }
        if let Some(upgrade) = upgrade {
            self.start_upgrade(upgrade);
        }
        let old = std::mem::replace(&mut self.config, config);
        self.change_cameras(&sources, now);
        if old.debug_socket != self.config.debug_socket {
            self.debug_socket.take();
            let path = self.config.debug_socket.as_deref();
            self.debug_socket = path.and_then(|path| DebugSocket::start(path, self.house.supervisor.clone()));
        }
        Ok(())
    }

    /// What is allocated for the cameras that come; nothing of it runs yet.
    fn new_cameras<'a>(
        &self,
        config: &Config,
        sources: impl Iterator<Item = &'a Arc<dyn Source>>,
        now: Instant,
    ) -> Result<Vec<Watched>, SlotError> {
        let mut come = Vec::new();
        for (options, source) in config.cameras.iter().zip(sources) {
            if self.cameras.iter().any(|camera| camera.options.name == options.name) {
                continue;
            }
            let (wake, bell) = doorbell();
            let index = self.house.turnstile.join(wake.clone());
            let metrics = self.registry.add_camera(&options.name, now);
            let made = Feed::new(index, options.slots, &self.form, Arc::clone(&metrics), (wake, bell), now)
                .and_then(|feed| Ok((feed, Preprocessor::new(&self.form)?)));
            match made {
                Ok((feed, preprocessor)) => come.push(Watched::new(
                    options.clone(),
                    Arc::clone(source),
                    Arc::new(feed),
                    preprocessor,
                    &config.supervisor,
                )),
                Err(error) => {
                    self.registry.remove_camera(&metrics);
                    self.house.turnstile.part(index);
                    for camera in come {
                        self.registry.remove_camera(&camera.feed.metrics);
                        self.house.turnstile.part(camera.feed.index);
                    }
                    return Err(error);
                }
            }
        }
        Ok(come)
    }

    /// The engine's thread reads results by the new configuration before any new camera runs.
    fn change_detector(&mut self, config: &Config, detector: Option<Detector>) -> Result<(), Refused> {
        if let Some(detector) = detector {
            return self.take_over(detector, config);
        }
        let reading =
            self.reading.reading(&self.cameras, config, &self.house.publisher, &self.house.handed_on)?;
        self.orders.try_send(Order::Read(reading)).map_err(|_full| Refused::Busy)
    }

    fn change_cameras(&mut self, sources: &[Arc<dyn Source>], now: Instant) {
        let Self { cameras, config, house, form, .. } = self;
        for camera in cameras.iter_mut() {
            let place = config.cameras.iter().position(|options| options.name == camera.options.name);
            match place {
                None => camera.retire(now, house),
                Some(place) => {
                    let (options, source) = (&config.cameras[place], &sources[place]);
                    resize(camera, options, |capacity| Pool::prepare(capacity, form));
                    let limits = &config.supervisor;
                    match Change::between(&camera.options, options) {
                        Change::Kept if !camera.is_leaving() => camera.adopt(options.clone()),
                        Change::Kept | Change::Reopened => {
                            camera.reopen_as(options.clone(), Arc::clone(source), limits, now, house)
                        }
                    }
                }
            }
            if camera.is_new() {
                camera.handle(Input::Start, now, house);
            }
        }
        self.settle_cameras(now);
        self.count_pool();
    }

    /// After every turn: cameras that have come to rest go, or begin again with their new options.
    pub(super) fn settle_cameras(&mut self, now: Instant) {
        let Self { cameras, house, form, registry, left_behind, .. } = self;
        for camera in cameras.iter_mut() {
            camera.begin_again_if_at_rest(form, now, house);
        }
        cameras.retain_mut(|camera| {
            let gone = camera.has_gone();
            if gone {
                registry.remove_camera(&camera.feed.metrics);
                house.turnstile.part(camera.feed.index);
                left_behind.append(&mut camera.wedged);
            }
            !gone
        });
        left_behind.retain(|running| !running.is_finished());
    }

    /// The counters of cameras that did not come after all go again.
    fn registry_follows(&self) {
        for metrics in self.registry.cameras() {
            if !self.cameras.iter().any(|camera| Arc::ptr_eq(&camera.feed.metrics, &metrics)) {
                self.registry.remove_camera(&metrics);
            }
        }
    }

    /// Slots have come or gone.
    pub(super) fn count_pool(&self) {
        let pool_bytes: usize = self.cameras.iter().map(|camera| camera.feed.pool.bytes()).sum();
        self.registry.handles.pool_bytes.store(pool_bytes as u64, Ordering::Relaxed);
    }
}

/// Another number of slots takes effect at once; without memory for it the camera keeps those it has.
fn resize(
    camera: &Watched,
    options: &CameraOptions,
    prepare: impl FnOnce(usize) -> Result<crate::frame::Restock, SlotError>,
) {
    if camera.feed.pool.capacity() == options.slots {
        return;
    }
    match prepare(options.slots) {
        Ok(restock) => camera.feed.pool.restock(restock),
        Err(error) => tracing::warn!(camera = options.name, "the camera keeps its slots: {error}"),
    }
}
