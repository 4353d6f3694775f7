//! A running pipeline, and the two ways to have its frames.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::arenas::Trim;
use crate::build::{Delivery, build};
use crate::core::Core;
use crate::failure::StartError;
use crate::outlet::{Inbox, Pull, Push, Receiver};
use crate::spec::Spec;

/// How often a reader that waits looks whether the pipeline is still alive.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long nothing may run before that is believed.
const LIFELESS_MS: u64 = 3000;

/// Notices a pipeline that has died without a word; see [`Core::seems_dead`].
#[derive(Debug, Default)]
struct Vigil {
    /// How long its reader has waited while nothing ran.
    lifeless_ms: AtomicU64,
}

impl Vigil {
    /// `waited` more passed without anything.
    fn look(&self, core: &Core, waited: Duration) {
        if !core.seems_dead() {
            self.lifeless_ms.store(0, Ordering::Relaxed);
            return;
        }
        let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        let before_ms = self.lifeless_ms.fetch_add(waited_ms, Ordering::Relaxed);
        if before_ms.saturating_add(waited_ms) >= LIFELESS_MS {
            core.fail_as_unreadable();
        }
    }
}

/// A source that pushes: frames arrive as they are decoded, and a newer one replaces an older one that its
/// receiver had no time for. Dropping it is [`Pipeline::stop`].
#[derive(Debug)]
pub struct Pipeline {
    core: Core,
    vigil: Vigil,
    /// Behind `core`: dropped after it. Live cameras come and go for months; offline work ends by itself.
    _trim: Trim,
}

impl Pipeline {
    /// Builds and starts. Connecting goes on in the background: what becomes of it is told by events, and
    /// the caller keeps its own deadline for the first frame.
    ///
    /// `name` is used for GStreamer's objects, which are seen in its log.
    ///
    /// # Errors
    /// When the pipeline cannot be built or its source refuses at once (no such device, a file that cannot
    /// be opened); the receiver may have got the same failure as an event.
    pub fn start(spec: &Spec, name: &str, receiver: Arc<dyn Receiver>) -> Result<Self, StartError> {
        let core = build(spec, name, Delivery::NewestWins, Arc::new(Push::new(receiver)))?;
        core.play()?;
        Ok(Self { core, vigil: Vigil::default(), _trim: Trim })
    }

    /// Whoever waits for the first frame says that `waited` more, [`LOOK_INTERVAL`] at most, passed without one:
    /// a file that nothing reads any more is then reported.
    pub(crate) fn look_for_life(&self, waited: Duration) {
        self.vigil.look(&self.core, waited);
    }

    /// Takes everything down on the calling thread: connection, device, threads, buffers. No callback runs
    /// after it has returned. Never call it from a callback.
    pub fn stop(self) {
        drop(self);
    }

    /// The name it was started with.
    #[must_use]
    pub fn name(&self) -> &str {
        self.core.name()
    }

    /// Builds and starts for offline work: no frame is dropped, and the source waits for whoever pulls.
    /// At most two decoded frames wait in between.
    ///
    /// # Errors
    /// As for [`Pipeline::start`].
    pub fn start_pull(spec: &Spec, name: &str) -> Result<PullPipeline, StartError> {
        let inbox = Arc::new(Inbox::default());
        let core = build(spec, name, Delivery::Lossless, inbox.clone())?;
        core.play()?;
        Ok(PullPipeline { core, inbox, vigil: Vigil::default() })
    }
}

/// A source that is pulled. Dropping it is [`PullPipeline::stop`].
pub struct PullPipeline {
    core: Core,
    inbox: Arc<Inbox>,
    vigil: Vigil,
}

impl PullPipeline {
    /// How long the source says it is; known once the first frame is there, and not for cameras.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        self.core.duration()
    }

    /// The next frame, waiting for it for at most `timeout`. Frames that were decoded before the end or
    /// before a failure come first; after that the answer stays [`Pull::Eos`] or [`Pull::Error`].
    #[must_use]
    pub fn pull(&self, timeout: Duration) -> Pull {
        let mut left = timeout;
        loop {
            let step = left.min(LOOK_INTERVAL);
            match self.inbox.pull(self.core.sink(), self.core.origin(), step) {
                Pull::TimedOut => self.vigil.look(&self.core, step),
                pulled => return pulled,
            }
            left -= step;
            if left.is_zero() {
                return self.inbox.pull(self.core.sink(), self.core.origin(), left);
            }
        }
    }

    /// Takes everything down on the calling thread.
    pub fn stop(self) {
        drop(self);
    }
}

impl std::fmt::Debug for PullPipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PullPipeline").field("core", &self.core).finish_non_exhaustive()
    }
}
