//! A new configuration while cameras run: the thread that reads it, and PURE: what it changes.
//!
//! ```text
//!   SIGHUP, changed files ─► thread `reload`: read, check, load a new model ─► outputs ─► supervisor: detector, cameras
//!                                 │ anything wrong                              │ refused        │ refused
//!                                 └────────── the running configuration stays ◄─┴── undone ◄─────┘
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::alarm::Alarm;
use super::wishes::wishes;
use super::{Detector, Message, ModelTag, Upgrade};
use crate::clock;
use crate::config::{CameraOptions, Config, OutputOptions};
use crate::metrics::Registry;
use crate::publish::Publisher;
use crate::source::Source;

/// The files are looked at this often; a change counts when it has stood still for as long.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// An output that goes gets this long to bring its last lines to its readers.
const FLUSH_WITHIN: Duration = Duration::from_millis(400);
/// Why nothing is taken over any more.
pub(super) const STOPPING: &str = "the process is stopping";
/// The supervisor answers between two of its turns.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Reads the configuration again.
pub trait Reloader: Send {
    /// A number that changes when the files do.
    fn fingerprint(&self) -> u64;

    /// The new configuration, and what has to be made for it. `running` is the one in use.
    ///
    /// # Errors
    /// What is wrong with it, every mistake in words.
    fn load(&mut self, running: &Config) -> Result<Renewed, String>;
}

/// A validated configuration and what belongs to it.
pub struct Renewed {
    /// To run from now on.
    pub config: Config,
    /// One for each camera of the configuration, in its order.
    pub sources: Vec<Arc<dyn Source>>,
    /// Loaded where the configuration names another model or engine.
    pub detector: Option<Detector>,
    /// Makes a better engine for that detector.
    pub upgrade: Option<Upgrade>,
}

impl std::fmt::Debug for Renewed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Renewed").field("detector", &self.detector).finish_non_exhaustive()
    }
}

/// The thread that reloads.
pub(super) struct Reload {
    pub reloader: Box<dyn Reloader>,
    /// Somebody asks for it. Ends the thread when it is disconnected.
    pub requests: Receiver<()>,
    pub supervisor: Sender<Message>,
    pub publisher: Arc<Publisher>,
    pub registry: Arc<Registry>,
    /// In use.
    pub running: Config,
    pub tag: ModelTag,
    pub labels: Vec<String>,
}

impl Reload {
    /// Runs until nobody can ask any more.
    pub fn run(mut self) {
        let _alarm = Alarm::new(&self.supervisor, "reload");
        let mut known = self.reloader.fingerprint();
        let mut changed = None;
        loop {
            let asked = self.requests.recv_timeout(LOOK_EVERY);
            let now = self.reloader.fingerprint();
            match asked {
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) if now == known => changed = None,
                // An editor may still be writing.
                Err(RecvTimeoutError::Timeout) if changed != Some(now) => changed = Some(now),
                _ => {
                    known = now;
                    changed = None;
                    self.reload();
                }
            }
        }
    }

    fn reload(&mut self) {
        tracing::info!("reading the configuration again");
        match self.try_reload() {
            Ok(summary) => tracing::info!("the new configuration is in use: {summary}"),
            Err(why) if why == STOPPING => {
                tracing::info!("the new configuration is not taken over any more: {why}");
            }
            Err(why) => tracing::error!("the new configuration is refused, the one in use stays:\n{why}"),
        }
        // Whatever came of it, the service is ready again: systemd counts the time of a reload.
        let _supervisor_gone = self.supervisor.send(Message::ReloadDone);
    }

    fn try_reload(&mut self) -> Result<Summary, String> {
        // Nothing has been touched yet: whatever is wrong with the new one, the old one can stay.
        let load = AssertUnwindSafe(|| self.reloader.load(&self.running));
        let loaded = catch_unwind(load)
            .unwrap_or_else(|_panic| Err("reading it panicked, which is a fault of watchpost".to_owned()));
        let Renewed { config, sources, detector, upgrade } = loaded?;
        let (tag, labels) = match &detector {
            Some(detector) => (detector.tag.clone(), detector.labels.clone()),
            None => (self.tag.clone(), self.labels.clone()),
        };
        wishes(&config.cameras, &config.detector, &tag, &labels).map_err(|error| error.to_string())?;
        let summary = Summary::new(&self.running, &config, detector.is_some());
        self.change_outputs(&self.running.outputs, &config.outputs)?;
        let (answer, answered) = bounded(1);
        let renewed = Box::new(Renewed { config: config.clone(), sources, detector, upgrade });
        let sent = self.supervisor.send(Message::Renew(renewed, answer));
        let gone = || STOPPING.to_owned();
        let outcome = sent
            .map_err(|_gone| gone())
            .and_then(|()| answered.recv_timeout(ANSWER_WITHIN).unwrap_or_else(|_gone| Err(gone())));
        if let Err(why) = outcome {
            if why == STOPPING {
                return Err(why);
            }
            // What could be opened a moment ago can be opened again.
            self.change_outputs(&config.outputs, &self.running.outputs)?;
            return Err(why);
        }
        (self.running, self.tag, self.labels) = (config, tag, labels);
        Ok(summary)
    }

    /// From the outputs `old` to the outputs `new`; those that are in both are not touched.
    fn change_outputs(&self, old: &[OutputOptions], new: &[OutputOptions]) -> Result<(), String> {
        let gone: Vec<_> = old.iter().filter(|output| !new.contains(output)).collect();
        let come: Vec<_> = new.iter().filter(|output| !old.contains(output)).collect();
        let deadline = clock::now() + FLUSH_WITHIN;
        for output in &gone {
            self.publisher.remove(&output.name, &self.registry, deadline);
        }
        for (index, output) in come.iter().enumerate() {
            let Err(error) = self.publisher.add(output, &self.registry) else { continue };
            if self.publisher.is_over() {
                return Err(STOPPING.to_owned());
            }
            for output in &come[..index] {
                self.publisher.remove(&output.name, &self.registry, deadline);
            }
            for output in gone {
                if let Err(error) = self.publisher.add(output, &self.registry) {
                    tracing::error!(output = output.name, "the output cannot be opened again: {error}");
                }
            }
            return Err(error.to_string());
        }
        Ok(())
    }
}

/// PURE: what becomes of one camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing, or only what is read from its results.
    Kept,
    /// It is opened again.
    Reopened,
}

impl Change {
    /// From one set of options to another.
    pub fn between(old: &CameraOptions, new: &CameraOptions) -> Self {
        let settled = CameraOptions {
            classes: new.classes.clone(),
            score_threshold: new.score_threshold,
            score_thresholds: new.score_thresholds.clone(),
            boxes: new.boxes,
            zones: new.zones.clone(),
            lines: new.lines.clone(),
            privacy_masks: new.privacy_masks.clone(),
            priority: new.priority,
            track: new.track,
            track_keep: new.track_keep,
            track_across_restart: new.track_across_restart,
            ..old.clone()
        };
        if settled == *new { Self::Kept } else { Self::Reopened }
    }
}

/// PURE: what a reload did, for the log.
#[derive(Debug, PartialEq, Eq)]
struct Summary(String);

impl Summary {
    fn new(old: &Config, new: &Config, another_detector: bool) -> Self {
        let mut parts = Vec::new();
        let before = |name: &str| old.cameras.iter().find(|camera| camera.name == name);
        let named = |what: &str, names: Vec<&str>, parts: &mut Vec<String>| {
            if !names.is_empty() {
                parts.push(format!("{what} {}", names.join(", ")));
            }
        };
        let new_ones = new.cameras.iter().filter(|camera| before(&camera.name).is_none());
        named("new camera", new_ones.map(|camera| camera.name.as_str()).collect(), &mut parts);
        let changed =
            new.cameras.iter().filter(|camera| before(&camera.name).is_some_and(|old| old != *camera));
        named("changed camera", changed.map(|camera| camera.name.as_str()).collect(), &mut parts);
        let removed = old.cameras.iter().filter(|old| !new.cameras.iter().any(|new| new.name == old.name));
        named("removed camera", removed.map(|camera| camera.name.as_str()).collect(), &mut parts);
        if old.outputs != new.outputs {
            parts.push("outputs".to_owned());
        }
        if another_detector {
            parts.push("another detector".to_owned());
        } else if old.detector != new.detector {
            parts.push("detector settings".to_owned());
        }
        if old.memory != new.memory || old.supervisor != new.supervisor {
            parts.push("limits".to_owned());
        }
        if parts.is_empty() {
            parts.push("nothing changed".to_owned());
        }
        Self(parts.join("; "))
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
