//! The best picture of each track, on disk: chosen on the engine's thread, written on one of its own.
//!
//! ```text
//!   engine's thread: better than before? ─► cut out of the slot ─► bounded channel ─► `snapshots`: PNG, bounded folder
//!                          ▲                                                              │
//!                          └──────────────── pictures, made once ◄───────────────────────┘
//! ```
//!
//! **What is saved** is cut out of the tensor that the model saw, brought back to red, green and blue. A camera's frame
//! goes back to its decoder as soon as it is letterboxed: keeping every frame until the engine is done would take twice
//! the decoder's pictures and a copy at full size for each frame that may turn out to be the best. The tensor is there
//! anyway, privacy masks are in it, and nothing is paid until a picture is chosen. The price: a snapshot has the model's
//! resolution, and there is none where slots are in a GPU's memory.
//!
//! A picture that finds no free buffer is not waited for: the next frame tries again.
//!
//! A reload begins with another thread, while the one before may still have pictures. Only who writes alone knows how
//! many there are, so [`Writers`] of one folder follow each other.

mod folder;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};

use crate::annotate::Canvas;
use crate::config::{CameraOptions, SnapshotOptions};
use crate::frame::{Geometry, SlotMemory};
use crate::metrics::{CameraMetrics, SnapshotOutcome};
use crate::model::{ChannelOrder, InputRecipe};
use crate::publish::Object;
use folder::Folder;

/// Pictures on their way to the disk.
const PICTURES: usize = 3;
/// Tracks of one camera whose best is known; of more, the one that was seen least recently gives way.
const TRACKS_MAX: usize = 256;
/// A picture is worth saving if it is so much better than the last one of its track.
const BETTER: f32 = 1.15;
/// A camera has a picture saved no more often than this.
const INTERVAL: Duration = Duration::from_millis(400);
/// Around the box, in its own sides.
const MARGIN: f32 = 0.12;

/// The threads that write. All reloads of a process share it.
#[derive(Debug, Clone, Default)]
pub struct Writers(Arc<Mutex<Vec<Writer>>>);

/// One of them, and its folder; disconnected when it has ended.
type Writer = (PathBuf, Receiver<Infallible>);

impl Writers {
    /// One more for a folder, which writes as long as the sender lives; and those that have to end before.
    fn follow(&self, dir: &Path) -> (Sender<Infallible>, Vec<Receiver<Infallible>>) {
        let mut writers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        writers.retain(|(_, ended)| ended.try_recv() == Err(TryRecvError::Empty));
        let before =
            writers.iter().filter(|(other, _)| other == dir).map(|(_, ended)| ended.clone()).collect();
        let (writes, ended) = bounded(0);
        writers.push((dir.to_owned(), ended));
        (writes, before)
    }
}

/// A picture on its way.
struct Snapshot {
    canvas: Canvas,
    camera: String,
    metrics: Option<Arc<CameraMetrics>>,
    track_id: u64,
    /// When its track was seen first.
    since: SystemTime,
}

/// What is known of a track.
#[derive(Debug, Clone, Copy)]
struct Best {
    id: u64,
    /// Score times area, in pixels of the frame.
    quality: f32,
    since: SystemTime,
    seen: Instant,
}

/// One camera's tracks.
#[derive(Debug)]
struct Watch {
    name: String,
    metrics: Arc<CameraMetrics>,
    tracks: Vec<Best>,
    last: Option<Instant>,
}

/// Chooses and cuts out, for all cameras of one model. Lives on the engine's thread; nothing is allocated after `start`.
pub struct Snapshots {
    recipe: InputRecipe,
    /// By the index of the camera.
    cameras: Vec<Option<Watch>>,
    free: Receiver<Snapshot>,
    chosen: Sender<Snapshot>,
    told_of_gpu: bool,
}

/// Which frame it is.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Monotonic.
    pub now: Instant,
    /// When the frame was taken.
    pub wall: SystemTime,
}

impl Snapshots {
    /// Starts the thread; it ends when this is dropped and all is written. It writes when the ones before it in the same
    /// folder have ended, if it has something to write. `cameras`: index, options and counters of each.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start(
        options: &SnapshotOptions,
        recipe: &InputRecipe,
        cameras: &[(usize, &CameraOptions, Arc<CameraMetrics>)],
        writers: &Writers,
    ) -> std::io::Result<Option<Self>> {
        let wanting = || cameras.iter().filter(|(_, camera, _)| camera.snapshots);
        let (Some(dir), Some(_)) = (&options.dir, wanting().next()) else { return Ok(None) };
        let mut watches: Vec<Option<Watch>> = Vec::new();
        for (index, camera, metrics) in wanting() {
            watches.resize_with(watches.len().max(index + 1), || None);
            let (name, metrics) = (camera.name.clone(), Arc::clone(metrics));
            watches[*index] =
                Some(Watch { name, metrics, tracks: Vec::with_capacity(TRACKS_MAX), last: None });
        }
        let longest = wanting().map(|(_, camera, _)| camera.name.len()).max().unwrap_or(0);
        let (home, free) = bounded(PICTURES);
        for _ in 0..PICTURES {
            let canvas = Canvas::new(recipe.width, recipe.height);
            let camera = String::with_capacity(longest);
            let since = SystemTime::UNIX_EPOCH;
            let _has_room = home.try_send(Snapshot { canvas, camera, metrics: None, track_id: 0, since });
        }
        let (chosen, next) = bounded::<Snapshot>(PICTURES);
        let folder = Folder::new(dir.clone(), options);
        let (writes, before) = writers.follow(dir);
        std::thread::Builder::new().name("snapshots".to_owned()).spawn(move || {
            write_all(folder, before, &next, &home);
            drop(writes);
        })?;
        Ok(Some(Self { recipe: *recipe, cameras: watches, free, chosen, told_of_gpu: false }))
    }

    /// Memory for `budget`: the pictures, and what is known of tracks.
    pub fn footprint_bytes(recipe: &InputRecipe, cameras: usize) -> usize {
        PICTURES * 3 * recipe.width * recipe.height + cameras * TRACKS_MAX * size_of::<Best>()
    }

    /// Looks at the objects of one frame, and has at most one of them saved.
    pub fn consider(
        &mut self,
        camera_index: usize,
        moment: Moment,
        memory: &SlotMemory,
        geometry: &Geometry,
        objects: &[Object<'_>],
    ) {
        let Some(Some(watch)) = self.cameras.get_mut(camera_index) else { return };
        if watch.last.is_some_and(|last| moment.now.saturating_duration_since(last) < INTERVAL) {
            return;
        }
        let Some((object, id)) = watch.choose(objects, moment) else { return };
        if let SlotMemory::Device(_) = memory {
            if !std::mem::replace(&mut self.told_of_gpu, true) {
                tracing::warn!("snapshots are not saved: pictures are in the GPU's memory with this engine");
            }
            watch.metrics.snapshot_taken(SnapshotOutcome::Skipped);
            return;
        }
        let Ok(mut snapshot) = self.free.try_recv() else {
            watch.metrics.snapshot_taken(SnapshotOutcome::Skipped);
            return;
        };
        cut_out(&self.recipe, geometry, memory, object.bbox, &mut snapshot.canvas);
        watch.keep(id, quality(object), moment);
        snapshot.camera.clone_from(&watch.name);
        snapshot.metrics = Some(Arc::clone(&watch.metrics));
        snapshot.track_id = id;
        snapshot.since =
            watch.tracks.iter().find(|best| best.id == id).map_or(moment.wall, |best| best.since);
        // As many pictures as places: there is room.
        let _room = self.chosen.try_send(snapshot);
    }
}

impl Watch {
    /// The object that gains most, if one gains enough.
    fn choose<'o, 'a>(&mut self, objects: &'o [Object<'a>], moment: Moment) -> Option<(&'o Object<'a>, u64)> {
        let mut choice: Option<(&Object<'_>, u64, f32)> = None;
        for object in objects {
            let Some(id) = object.track_id.filter(|_| object.bbox.iter().all(|side| side.is_finite())) else {
                continue;
            };
            let known = self.tracks.iter_mut().find(|best| best.id == id);
            let before = known.map_or(0.0, |best| {
                best.seen = moment.now;
                best.quality
            });
            let gain = if before > 0.0 { quality(object) / before } else { f32::MAX };
            if gain > BETTER && choice.is_none_or(|(.., most)| gain > most) {
                choice = Some((object, id, gain));
            }
        }
        choice.map(|(object, id, _)| (object, id))
    }

    fn keep(&mut self, id: u64, quality: f32, moment: Moment) {
        self.last = Some(moment.now);
        if let Some(best) = self.tracks.iter_mut().find(|best| best.id == id) {
            best.quality = quality;
            return;
        }
        if self.tracks.len() >= TRACKS_MAX
            && let Some(oldest) = (0..self.tracks.len()).min_by_key(|&index| self.tracks[index].seen)
        {
            self.tracks.swap_remove(oldest);
        }
        self.tracks.push(Best { id, quality, since: moment.wall, seen: moment.now });
    }
}

fn quality(object: &Object<'_>) -> f32 {
    let [x1, y1, x2, y2] = object.bbox;
    object.score * ((x2 - x1) * (y2 - y1)).max(1.0)
}

/// The part of the picture around a box, from a tensor back to red, green and blue.
fn cut_out(
    recipe: &InputRecipe,
    geometry: &Geometry,
    memory: &SlotMemory,
    bbox: [f32; 4],
    canvas: &mut Canvas,
) {
    let [x1, y1, x2, y2] = bbox;
    let (beside, above) = (MARGIN * (x2 - x1), MARGIN * (y2 - y1));
    let (source_width, source_height) = (geometry.source_width as f32, geometry.source_height as f32);
    // The first and the last pixel of the tensor that show this part of the source.
    let span = |from: f32, to: f32, scale: f32, offset: f32, source: f32, most: usize| {
        let at = |side: f32| side.clamp(0.0, source) * scale + offset;
        let first = at(from).floor().clamp(0.0, most.saturating_sub(1) as f32) as usize;
        let last = (at(to).ceil().min(most as f32) as usize).max(first + 1);
        (first, last)
    };
    let (left, right) =
        span(x1 - beside, x2 + beside, geometry.scale_x, geometry.offset_x, source_width, recipe.width);
    let (top, bottom) =
        span(y1 - above, y2 + above, geometry.scale_y, geometry.offset_y, source_height, recipe.height);
    let plane_len = recipe.width * recipe.height;
    canvas.resize(right - left, bottom - top);
    let rows = canvas.pixels.chunks_exact_mut(3 * (right - left));
    for (row, pixels) in (top..bottom).zip(rows) {
        for (column, pixel) in (left..right).zip(pixels.as_chunks_mut::<3>().0) {
            for (channel, value) in pixel.iter_mut().enumerate() {
                let plane = match recipe.channels {
                    ChannelOrder::Rgb => channel,
                    ChannelOrder::Bgr => 2 - channel,
                };
                let at = row * recipe.width + column;
                let code = match memory {
                    SlotMemory::Host(tensor) => tensor.get(plane * plane_len + at).copied().unwrap_or(0.0),
                    SlotMemory::Formed(tensor) => tensor.value(plane, at),
                    SlotMemory::Device(_) => 0.0,
                };
                // The cast saturates.
                *value = ((code - recipe.offset[plane]) / recipe.scale[plane]).round() as u8;
            }
        }
    }
}

fn write_all(
    mut folder: Folder,
    mut before: Vec<Receiver<Infallible>>,
    next: &Receiver<Snapshot>,
    home: &Sender<Snapshot>,
) {
    for mut snapshot in next {
        // Here and not at the start: a reading that is never used has nothing to wait for.
        for writer in before.drain(..) {
            let _ended = writer.recv();
        }
        let outcome = folder.save(&snapshot.camera, snapshot.track_id, snapshot.since, &snapshot.canvas);
        if let Some(metrics) = snapshot.metrics.take() {
            metrics.snapshot_taken(outcome);
        }
        let _nobody_needs_it = home.try_send(snapshot);
    }
}

impl std::fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshots").field("cameras", &self.cameras).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
