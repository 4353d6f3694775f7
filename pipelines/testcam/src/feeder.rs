//! The thread that films: one picture every 1/fps seconds into the encoder of the running media.

use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer_app as gst_app;

use crate::picture::{PictureSource, RawPicture, slot_time};
use crate::{TestCameraError, pace};

/// A frame log stops growing here.
const FRAME_LOG_BYTES_MAX: u64 = 64 << 20;
/// Pictures that may wait in front of the encoder before the next one is left out.
const WAITING_MAX: u64 = 2;

/// The filming thread. Dropping it stops the thread.
pub(crate) struct Feeder {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread and those who steer it share.
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    pub(crate) frames_sent: AtomicU64,
    pub(crate) frames_skipped: AtomicU64,
    pub(crate) next_number: AtomicU32,
}

struct State {
    media: Option<Media>,
    frozen: bool,
    size: (u32, u32),
    stopping: bool,
    media_count: u64,
}

/// The encoder of the running media.
struct Media {
    id: u64,
    input: gst_app::AppSrc,
    /// Whether it asked for data, which it does once it is playing.
    hungry: bool,
}

impl Feeder {
    pub(crate) fn start(pictures: PictureSource, frame_log: Option<File>) -> Result<Self, TestCameraError> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                media: None,
                frozen: false,
                size: pictures.size(),
                stopping: false,
                media_count: 0,
            }),
            changed: Condvar::new(),
            frames_sent: AtomicU64::new(0),
            frames_skipped: AtomicU64::new(0),
            next_number: AtomicU32::new(0),
        });
        let filming =
            Filming { shared: shared.clone(), pictures, frame_log: frame_log.map(FrameLog::new), last: None };
        let thread = std::thread::Builder::new()
            .name("testcam-film".into())
            .spawn(move || filming.run())
            .map_err(|error| TestCameraError::GStreamer(format!("no thread can be started: {error}")))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.shared.change(|state| {
            state.stopping = true;
            state.media = None;
        });
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Films into `input` from now on, instead of whatever was there. Returns the id to detach it with.
    pub(crate) fn attach(self: &Arc<Self>, input: gst_app::AppSrc) -> u64 {
        let id = self.change(|state| {
            state.media_count += 1;
            let id = state.media_count;
            state.media = Some(Media { id, input: input.clone(), hungry: false });
            id
        });
        let shared = Arc::downgrade(self);
        input.set_callbacks(
            gst_app::AppSrcCallbacks::builder()
                .need_data(move |_, _| {
                    let Some(shared) = shared.upgrade() else { return };
                    shared.change(|state| match &mut state.media {
                        Some(media) if media.id == id => media.hungry = true,
                        _ => {}
                    });
                })
                .build(),
        );
        id
    }

    /// Stops filming into the media with this id.
    pub(crate) fn detach(&self, id: u64) {
        self.change(|state| {
            if state.media.as_ref().is_some_and(|media| media.id == id) {
                state.media = None;
            }
        });
    }

    /// Repeats the last picture while `frozen`.
    pub(crate) fn freeze(&self, frozen: bool) {
        self.change(|state| state.frozen = frozen);
    }

    pub(crate) fn set_size(&self, size: (u32, u32)) {
        self.change(|state| state.size = size);
    }

    pub(crate) fn size(&self) -> (u32, u32) {
        self.lock().size
    }
}

/// The thread's own half.
struct Filming {
    shared: Arc<Shared>,
    pictures: PictureSource,
    frame_log: Option<FrameLog>,
    last: Option<RawPicture>,
}

impl Filming {
    fn run(mut self) {
        while let Some((id, input)) = self.next_media() {
            self.pictures.rewind();
            self.film(id, &input);
            self.shared.detach(id);
        }
    }

    /// Waits for media that want data; `None` when the camera stops.
    fn next_media(&self) -> Option<(u64, gst_app::AppSrc)> {
        let mut state = self.shared.lock();
        loop {
            if state.stopping {
                return None;
            }
            if let Some(media) = state.media.as_ref().filter(|media| media.hungry) {
                return Some((media.id, media.input.clone()));
            }
            state = self.shared.changed.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    /// Feeds one media until it goes away or the clip ends.
    fn film(&mut self, id: u64, input: &gst_app::AppSrc) {
        let rate = self.pictures.rate();
        let started = pace::now();
        let mut caps = None;
        let mut slot = 0;
        while let Some((frozen, size)) = self.wait_until(id, started + slot_time(slot, rate)) {
            if input.current_level_buffers() >= WAITING_MAX {
                self.shared.frames_skipped.fetch_add(1, Relaxed);
            } else {
                let Some(picture) = self.shoot(frozen, size) else {
                    let _ = input.end_of_stream();
                    return;
                };
                if caps.as_ref() != Some(&picture.caps) {
                    input.set_caps(Some(&picture.caps));
                    caps = Some(picture.caps);
                }
                if !push(input, picture.buffer, slot, rate) {
                    return;
                }
                self.shared.frames_sent.fetch_add(1, Relaxed);
            }
            slot += 1;
            // After a hold-up the slots that are long past are left out, instead of catching up in a burst.
            while started + slot_time(slot + 1, rate) < pace::now() {
                slot += 1;
                self.shared.frames_skipped.fetch_add(1, Relaxed);
            }
        }
    }

    /// Sleeps until the next picture is due; `None` when this media is no longer the one to feed.
    fn wait_until(&self, id: u64, due: Instant) -> Option<(bool, (u32, u32))> {
        let mut state = self.shared.lock();
        loop {
            if state.stopping || state.media.as_ref().is_none_or(|media| media.id != id) {
                return None;
            }
            let left = due.saturating_duration_since(pace::now());
            if left == Duration::ZERO {
                return Some((state.frozen, state.size));
            }
            let woken = self.shared.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
    }

    /// The next picture, or the last one again.
    fn shoot(&mut self, frozen: bool, size: (u32, u32)) -> Option<RawPicture> {
        if let Some(last) = self.last.as_ref().filter(|_| frozen) {
            return Some(last.clone());
        }
        if self.pictures.size() != size {
            self.pictures.set_size(size.0, size.1);
        }
        let number = self.shared.next_number.load(Relaxed);
        let picture = self.pictures.next(number)?;
        self.shared.next_number.store(number.wrapping_add(1), Relaxed);
        if let Some(log) = &mut self.frame_log {
            log.write(number);
        }
        self.last = Some(picture.clone());
        Some(picture)
    }
}

/// Hands a picture to the encoder; false when it takes no more.
fn push(input: &gst_app::AppSrc, mut buffer: gst::Buffer, slot: u64, rate: gst::Fraction) -> bool {
    let at = |slot| gst::ClockTime::try_from(slot_time(slot, rate)).unwrap_or(gst::ClockTime::ZERO);
    {
        let buffer = buffer.make_mut();
        buffer.set_pts(at(slot));
        buffer.set_duration(at(slot + 1).saturating_sub(at(slot)));
    }
    input.push_buffer(buffer).is_ok()
}

/// One line `number unix_ns` a picture.
struct FrameLog {
    file: File,
    bytes: u64,
}

impl FrameLog {
    fn new(file: File) -> Self {
        Self { file, bytes: 0 }
    }

    /// A log that cannot be written any more stops: the camera films on.
    fn write(&mut self, number: u32) {
        let line = format!("{number} {}\n", pace::unix_ns());
        if self.bytes + line.len() as u64 <= FRAME_LOG_BYTES_MAX
            && self.file.write_all(line.as_bytes()).is_ok()
        {
            self.bytes += line.len() as u64;
        }
    }
}
