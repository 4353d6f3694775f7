//! `test://scene`: a procedural scene drawn in this process, at its frame rate, without a network.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use watchpost_scene::{Scene, SceneOptions};

use super::{Arrived, Decoded, Fault, MemoryFrame, MemoryPicture, Opening, Receiver, Source, TsSource};
use crate::camera::Reason;
use crate::clock;
use crate::wake::doorbell;

/// One is being drawn, one is the newest, one is being letterboxed.
const PICTURES: usize = 3;

/// A camera that shows a scene.
#[derive(Debug)]
pub struct SceneSource {
    options: SceneOptions,
}

impl SceneSource {
    /// A scene of these options; sizes must be even.
    pub fn new(options: SceneOptions) -> Self {
        Self { options }
    }
}

impl Source for SceneSource {
    fn open(&self, _generation: u64, receiver: Arc<dyn Receiver>) -> Result<Box<dyn Opening>, Fault> {
        let over = Arc::new(AtomicBool::new(false));
        let options = self.options;
        let flag = Arc::clone(&over);
        let thread = std::thread::Builder::new()
            .name("scene".to_owned())
            .spawn(move || {
                let drawing = AssertUnwindSafe(|| draw(options, &flag, receiver.as_ref()));
                if catch_unwind(drawing).is_err() {
                    let detail = "the thread that draws the scene panicked".to_owned();
                    receiver.fault(Fault { reason: Reason::Internal, detail });
                }
            })
            .map_err(|error| Fault {
                reason: Reason::Internal,
                detail: format!("no thread for the scene: {error}"),
            })?;
        Ok(Box::new(Drawing { over, thread: Some(thread) }))
    }
}

struct Drawing {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Opening for Drawing {}

impl Drop for Drawing {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The thread looks at the flag once a frame.
            let _panicked = thread.join();
        }
    }
}

fn draw(options: SceneOptions, over: &AtomicBool, receiver: &dyn Receiver) {
    let interval_ns = 1_000_000_000 / u64::from(options.fps.max(1));
    let mut pictures = [(); PICTURES].map(|()| Arc::new(MemoryPicture::new(options.width, options.height)));
    let scene = Scene::new(options);
    let start = clock::now();
    // Nobody rings: this bell only keeps the time.
    let (_wake, bell) = doorbell();
    for number in 0u32.. {
        let pts_ns = u64::from(number) * interval_ns;
        let due_at = start + Duration::from_nanos(pts_ns);
        bell.wait_until(due_at);
        if over.load(Ordering::Relaxed) {
            return;
        }
        // The process stood still, or drawing is too slow: as with a camera, what was not taken then is gone.
        if clock::now().saturating_duration_since(due_at) > Duration::from_nanos(interval_ns) {
            continue;
        }
        // All three still lent out: the receiver is behind, this frame is never drawn.
        let Some(free) = pictures.iter_mut().find(|picture| Arc::strong_count(picture) == 1) else {
            continue;
        };
        if let Some(picture) = Arc::get_mut(free) {
            scene.render(number, picture.i420_mut());
            let frame = Decoded::Memory(MemoryFrame::new(Arc::clone(free), pts_ns));
            let at = clock::now();
            receiver.frame(Arrived {
                frame,
                at,
                received_at: at,
                wall: clock::wall(),
                ts_source: TsSource::Arrival,
            });
        }
    }
}
