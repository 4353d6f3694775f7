//! `watchpost detect --annotate`: what was detected, drawn into the pictures: a folder of PNG files, or one MP4.
//!
//! Nothing half-written has the name of a result: a picture and a film get their names when they are whole.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use watchpost_pipelines::{Recording, RecordingError, SourceKind, can_record};

use super::common::output_failure;
use super::{Failure, exit};
use crate::annotate::{Canvas, Painter, Surroundings};
use crate::offline::{self, Input, Ready};
use crate::publish::Object;

/// How long a single picture is shown in a film.
const STILL: Duration = Duration::from_secs(1);
/// How long a frame is shown whose input does not say.
const UNKNOWN_INTERVAL: Duration = Duration::from_millis(40);
/// Characters of an input's name in a file's name.
const NAME_MAX: usize = 40;

/// Draws into pictures and writes them.
pub(super) struct Pictures {
    /// As the user wrote it.
    name: String,
    painter: Painter,
    surroundings: Surroundings,
    canvas: Canvas,
    output: Output,
    /// The input of the last frame.
    input_index: Option<usize>,
    written: u64,
    failure: Option<Failure>,
}

enum Output {
    Folder(PathBuf),
    Film(Box<Film>),
}

impl Pictures {
    /// Sees that `path` can be written: hours of work should not end with pictures that have no place.
    pub fn open(path: &Path, labels: &[String], surroundings: Surroundings) -> Result<Self, Failure> {
        let texts = labels.iter().map(String::as_str).chain(surroundings.names());
        let name = path.display().to_string();
        let extension = path.extension().unwrap_or_default();
        let output = if extension.eq_ignore_ascii_case("mp4") {
            Output::Film(Box::new(Film::open(path)?))
        } else {
            Output::Folder(open_folder(path)?)
        };
        let mut painter = Painter::new(texts.clone());
        if let Some(missing) = painter.missing(texts) {
            tracing::warn!("{missing}");
        }
        Ok(Self {
            name,
            painter,
            surroundings,
            canvas: Canvas::default(),
            output,
            input_index: None,
            written: 0,
            failure: None,
        })
    }

    /// Draws one frame's objects and writes the picture; false when nothing more can be written.
    pub fn add(&mut self, inputs: &[Input], ready: &Ready, objects: &[Object<'_>]) -> bool {
        if self.input_index != Some(ready.input_index) {
            self.input_index = Some(ready.input_index);
            self.painter.begin_input();
            if let Output::Film(film) = &mut self.output {
                film.timeline.begin_input();
            }
        }
        let shown = match ready.picture().map(|picture| self.canvas.show(&picture)) {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(error.to_string()),
            None => Err("it is in the memory of a GPU".to_owned()),
        };
        if let Err(why) = shown {
            tracing::warn!(seq = ready.seq, "a frame cannot be drawn: {why}");
            return true;
        }
        self.painter.draw(&mut self.canvas, &self.surroundings, objects);
        let written = match &mut self.output {
            Output::Folder(folder) => {
                let path = folder.join(file_name(inputs, ready));
                write_png(&self.canvas, &path)
                    .map_err(|error| output_failure(&path.display().to_string(), &error))
            }
            Output::Film(film) => film.add(&self.canvas, &inputs[ready.input_index], ready),
        };
        match written {
            Ok(()) => self.written += 1,
            Err(failure) => self.failure = Some(failure),
        }
        self.failure.is_none()
    }

    /// Ends in order what was begun. `stopped`: the user has seen enough.
    pub fn finish(self, stopped: bool) -> Result<(), Failure> {
        let Self { name, output, written, failure, .. } = self;
        let ended = match (output, failure) {
            (Output::Folder(_), None) => Ok(()),
            (Output::Folder(_), Some(mut failure)) => {
                failure.message += &format!("; {written} pictures were written before");
                Err(failure)
            }
            (Output::Film(film), failure) => {
                failure.map_or_else(|| film.finish(), Err).map_err(|mut failure| {
                    failure.message += &format!("; nothing is left of it, after {written} frames");
                    failure
                })
            }
        };
        if stopped && ended.is_ok() {
            tracing::warn!("stopped early: {name} holds {written} frames");
        }
        ended
    }
}

/// A folder that is empty, or that is made: pictures of others are never written over or mixed with ours.
fn open_folder(path: &Path) -> Result<PathBuf, Failure> {
    let name = path.display().to_string();
    let failed = |error: io::Error| output_failure(&name, &error);
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    let refused = |what: &str| Err(Failure::new(exit::USAGE, format!("--annotate {name}: {what}")));
    let is_folder = match fs::metadata(path) {
        Ok(meta) if !meta.is_dir() => {
            return refused("this is no folder; name a folder, or a file that ends in .mp4");
        }
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(failed(error)),
    };
    if is_folder {
        if fs::read_dir(path).map_err(failed)?.next().is_some() {
            return refused("the folder is not empty; empty it, or name another one");
        }
    } else {
        let known = ["mkv", "avi", "mov", "webm", "m4v", "ts", "gif"].contains(&extension.as_str())
            || offline::is_image(path);
        if known {
            return refused("only a folder or a file that ends in .mp4 is written");
        }
        fs::create_dir(path).map_err(failed)?;
    }
    // Whoever may not write there is told now.
    let probe = path.join(".part");
    File::create(&probe).and_then(|_| fs::remove_file(&probe)).map_err(failed)?;
    Ok(path.to_owned())
}

/// `0001-clip-00000042.png`: by input, then by frame. A single picture has no number of its own.
fn file_name(inputs: &[Input], ready: &Ready) -> String {
    let input = &inputs[ready.input_index];
    let stem = match &input.spec.kind {
        SourceKind::File { path } | SourceKind::Image { path } => {
            path.file_stem().unwrap_or_default().to_string_lossy()
        }
        _ => input.name.split_once("://").map_or(input.name.as_str(), |(_, rest)| rest).into(),
    };
    let stem: String =
        stem.chars().map(|c| if c.is_alphanumeric() || c == '_' { c } else { '-' }).take(NAME_MAX).collect();
    let digits = inputs.len().to_string().len().max(4);
    let number = ready.input_index + 1;
    match input.spec.kind {
        SourceKind::Image { .. } => format!("{number:0digits$}-{stem}.png"),
        _ => format!("{number:0digits$}-{stem}-{:08}.png", ready.seq),
    }
}

fn write_png(canvas: &Canvas, path: &Path) -> io::Result<()> {
    let part = path.with_file_name(".part");
    let written =
        File::create(&part).and_then(|file| canvas.write_png(file)).and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        let _best_effort = fs::remove_file(&part);
    }
    written
}

/// An MP4 file in the making.
struct Film {
    path: PathBuf,
    /// What it is called until it is whole; removed unless it becomes that.
    part: Part,
    recording: Option<Recording>,
    timeline: Timeline,
}

impl Film {
    fn open(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let refused = |what: &str| Failure::new(exit::USAGE, format!("--annotate {name}: {what}"));
        if fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
            return Err(refused("this is no file; choose another name"));
        }
        can_record()
            .map_err(|error| Failure::new(exit::UNAVAILABLE, format!("--annotate {name}: {error}")))?;
        let mut file_name = std::ffi::OsString::from(".");
        file_name.push(path.file_name().ok_or_else(|| refused("this is no name of a file"))?);
        file_name.push(".part");
        let part = Part::open(path.with_file_name(file_name), &name)?;
        Ok(Self { path: path.to_owned(), part, recording: None, timeline: Timeline::default() })
    }

    fn add(&mut self, canvas: &Canvas, input: &Input, ready: &Ready) -> Result<(), Failure> {
        let sides = (u32::try_from(canvas.width), u32::try_from(canvas.height));
        let (width, height) = (sides.0.unwrap_or(u32::MAX), sides.1.unwrap_or(u32::MAX));
        let is_still = matches!(input.spec.kind, SourceKind::Image { .. });
        let (at, duration) = self.timeline.place(ready.pts_ns, ready.duration, is_still);
        let recording = match &mut self.recording {
            Some(recording) => Ok(recording),
            None => Recording::start(&self.part.path, width, height)
                .map(|recording| self.recording.insert(recording)),
        };
        let pushed =
            recording.and_then(|recording| recording.push(&canvas.pixels, width, height, at, duration));
        pushed.map_err(|error| recording_failure(&self.path, &error))
    }

    fn finish(self) -> Result<(), Failure> {
        let Self { path, part, recording, .. } = self;
        // Without a frame there is no film; why there is none is told by others.
        let Some(recording) = recording else { return Ok(()) };
        recording.finish().map_err(|error| recording_failure(&path, &error))?;
        part.become_file(&path).map_err(|error| output_failure(&path.display().to_string(), &error))
    }
}

fn recording_failure(path: &Path, error: &RecordingError) -> Failure {
    let name = path.display().to_string();
    match error {
        RecordingError::DiskFull => output_failure(&name, &io::ErrorKind::StorageFull.into()),
        RecordingError::Failed(_) => Failure::new(exit::IO, format!("{name} cannot be written: {error}")),
        RecordingError::Size { .. } => Failure::new(exit::NO_INPUT, format!("--annotate {name}: {error}")),
        _ => Failure::new(exit::UNAVAILABLE, format!("--annotate {name}: {error}")),
    }
}

/// A file that is removed unless it becomes something.
struct Part {
    path: PathBuf,
    /// Locked: two processes do not write one file.
    file: File,
    is_whole: bool,
}

impl Part {
    fn open(path: PathBuf, name: &str) -> Result<Self, Failure> {
        let file = File::options().write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|error| output_failure(name, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { path, file, is_whole: false }),
            Err(fs::TryLockError::WouldBlock) => Err(Failure::new(
                exit::USAGE,
                format!("--annotate {name}: another process is writing this file; choose another one"),
            )),
            Err(fs::TryLockError::Error(error)) => Err(output_failure(name, &error)),
        }
    }

    /// Takes its name when it is on the disk.
    fn become_file(mut self, path: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, path)?;
        self.is_whole = true;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.is_whole {
            let _best_effort = fs::remove_file(&self.path);
        }
    }
}

/// Times of a film: those of each input, one input behind the other.
#[derive(Debug, Default)]
struct Timeline {
    /// Where the input began, on its own clock and in the film.
    began: Option<(u64, u64)>,
    /// Where the last frame begins and ends in the film.
    last: u64,
    end: u64,
}

impl Timeline {
    fn begin_input(&mut self) {
        self.began = None;
    }

    /// Where in the film a frame begins, in nanoseconds, and how long it is shown.
    fn place(&mut self, pts_ns: Option<u64>, duration: Option<Duration>, is_still: bool) -> (u64, Duration) {
        let duration = if is_still { STILL } else { duration.unwrap_or(UNKNOWN_INTERVAL) };
        let at = match (pts_ns, self.began) {
            (Some(pts_ns), Some((own, film))) => film.saturating_add(pts_ns.saturating_sub(own)),
            (pts_ns, None) => {
                self.began = pts_ns.map(|pts_ns| (pts_ns, self.end));
                self.end
            }
            (None, Some(_)) => self.end,
        };
        self.last = at.max(self.last);
        let duration_ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.end = self.last.saturating_add(duration_ns);
        (self.last, duration)
    }
}

/// Set by the first SIGTERM or SIGINT; a second one ends the process at once.
pub(super) fn stop_on_signal() -> Result<Arc<AtomicBool>, Failure> {
    let failure =
        |error: io::Error| Failure::new(exit::INTERNAL, format!("signals cannot be handled: {error}"));
    let told = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // The order matters: a second signal finds the flag that the first one set.
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&told))
            .map_err(failure)?;
        signal_hook::flag::register(signal, Arc::clone(&told)).map_err(failure)?;
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_one_input_are_kept_and_inputs_follow_each_other() {
        let mut timeline = Timeline::default();
        let frame = Some(Duration::from_nanos(40));
        let mut place = |pts, still| timeline.place(pts, frame, still).0;
        assert_eq!(
            [place(Some(1000), false), place(Some(1040), false), place(Some(1200), false)],
            [0, 40, 200]
        );
        timeline.begin_input();
        let mut place = |pts, still| timeline.place(pts, frame, still).0;
        assert_eq!([place(Some(0), true), place(Some(0), true)], [240, 240]);
        timeline.begin_input();
        // Of a clock that goes back nothing is believed.
        let mut place = |pts| timeline.place(pts, frame, false).0;
        let second = 1_000_000_000;
        assert_eq!(
            [place(Some(500)), place(Some(100)), place(None)],
            [second + 240, second + 240, second + 280]
        );
    }
}
