//! A folder that cannot fill the disk: so many files, so many bytes, so much room for others; the oldest go first.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;

use crate::annotate::Canvas;
use crate::config::{SnapshotOptions, show_size};
use crate::metrics::SnapshotOutcome;

/// What a picture is called until it is whole.
const PART: &str = ".snapshot.part";
/// Files that are looked at when the folder is opened.
const LISTED_MAX: usize = 200_000;

/// One file of ours.
#[derive(Debug)]
struct Kept {
    name: String,
    bytes: u64,
}

/// Our pictures in a folder; files of others are never touched.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    max_files: usize,
    max_bytes: u64,
    min_free_bytes: u64,
    /// Oldest first; at most `max_files` and one.
    kept: VecDeque<Kept>,
    bytes: u64,
    is_listed: bool,
    /// It was said that pictures are not saved.
    told: bool,
}

impl Folder {
    pub fn new(path: PathBuf, options: &SnapshotOptions) -> Self {
        Self {
            path,
            max_files: options.max_files,
            max_bytes: options.max_bytes,
            min_free_bytes: options.min_free_bytes,
            kept: VecDeque::new(),
            bytes: 0,
            is_listed: false,
            told: false,
        }
    }

    /// Saves the best picture of a track so far in the place of the one before. Trouble is told once, until it is over.
    pub fn save(
        &mut self,
        camera: &str,
        track_id: u64,
        since: SystemTime,
        canvas: &Canvas,
    ) -> SnapshotOutcome {
        let result = self.try_save(&file_name(camera, track_id, since), canvas);
        match result {
            Ok(()) => {
                if std::mem::take(&mut self.told) {
                    tracing::info!(folder = %self.path.display(), "snapshots are saved again");
                }
                SnapshotOutcome::Written
            }
            Err(why) => {
                if !std::mem::replace(&mut self.told, true) {
                    tracing::warn!(folder = %self.path.display(), "snapshots are not saved: {why}; detection goes on");
                }
                SnapshotOutcome::Failed
            }
        }
    }

    fn try_save(&mut self, name: &str, canvas: &Canvas) -> Result<(), String> {
        let words = |error: io::Error| match error.kind() {
            io::ErrorKind::StorageFull => "the disk is full; make room".to_owned(),
            _ => crate::os_words::os_words(&error),
        };
        if !self.is_listed {
            fs::create_dir_all(&self.path).map_err(words)?;
            self.list().map_err(words)?;
            self.is_listed = true;
        }
        // Also where nothing of ours is left: the rest of the disk belongs to others.
        self.make_room();
        let free = free_bytes(&self.path).map_err(words)?;
        if free < self.min_free_bytes {
            let (free, wanted) = (show_size(free), show_size(self.min_free_bytes));
            return Err(format!("the disk has {free} free, and snapshots.min_free is {wanted}; make room"));
        }
        let part = self.path.join(PART);
        let written = File::create(&part)
            .and_then(|file| canvas.write_png(file))
            .and_then(|()| fs::metadata(&part).map(|meta| meta.len()))
            .and_then(|bytes| fs::rename(&part, self.path.join(name)).map(|()| bytes));
        let bytes = written.map_err(|error| {
            let _best_effort = fs::remove_file(&part);
            words(error)
        })?;
        self.remember(name, bytes);
        self.make_room();
        Ok(())
    }

    fn remember(&mut self, name: &str, bytes: u64) {
        if let Some(index) = self.kept.iter().rposition(|kept| kept.name == name)
            && let Some(old) = self.kept.remove(index)
        {
            self.bytes = self.bytes.saturating_sub(old.bytes);
        }
        self.kept.push_back(Kept { name: name.to_owned(), bytes });
        self.bytes += bytes;
    }

    /// Removes the oldest until the limits hold.
    fn make_room(&mut self) {
        while self.kept.len() > self.max_files || self.bytes > self.max_bytes {
            let Some(oldest) = self.kept.pop_front() else { return };
            self.bytes = self.bytes.saturating_sub(oldest.bytes);
            let _gone_already = fs::remove_file(self.path.join(oldest.name));
        }
    }

    /// What is there from before.
    fn list(&mut self) -> io::Result<()> {
        let _none_there = fs::remove_file(self.path.join(PART));
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path)?.take(LISTED_MAX).flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Ok(meta) = entry.metadata()
                && is_ours(&name)
                && meta.is_file()
            {
                found.push((meta.modified().unwrap_or(SystemTime::UNIX_EPOCH), name, meta.len()));
            }
        }
        found.sort();
        for (_, name, bytes) in found {
            self.remember(&name, bytes);
        }
        Ok(())
    }
}

/// `gate-20261121T130501Z-17.png`: the camera, when the track was seen first, its number.
fn file_name(camera: &str, track_id: u64, since: SystemTime) -> String {
    let since = Timestamp::try_from(since).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{camera}-{}-{track_id}.png", since.strftime("%Y%m%dT%H%M%SZ"))
}

fn is_ours(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".png") else { return false };
    let mut parts = stem.rsplitn(3, '-');
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let id = parts.next().is_some_and(digits);
    let time = parts.next().is_some_and(|time| {
        time.len() == 16 && time.ends_with('Z') && time.as_bytes()[8] == b'T' && digits(&time[..8])
    });
    id && time && parts.next().is_some_and(|camera| !camera.is_empty())
}

fn free_bytes(path: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(path)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(path: &Path, max_files: usize, max_bytes: u64, min_free_bytes: u64) -> Folder {
        let dir = Some(path.to_owned());
        Folder::new(path.to_owned(), &SnapshotOptions { dir, max_files, max_bytes, min_free_bytes })
    }

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    fn save(folder: &mut Folder, id: u64) -> SnapshotOutcome {
        folder.save("gate", id, SystemTime::UNIX_EPOCH, &Canvas::new(20, 20))
    }

    #[test]
    fn the_oldest_go_and_files_of_others_stay() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("new/folder");
        let mut first = folder(&path, 3, u64::MAX, 0);
        assert_eq!(save(&mut first, 1), SnapshotOutcome::Written);
        for name in ["diary.txt", "gate-1.png", "gate-20260101T000000Z-x.png"] {
            fs::write(path.join(name), "mine").unwrap();
        }
        (2..=5).for_each(|id| assert_eq!(save(&mut first, id), SnapshotOutcome::Written));
        let ours =
            |path: &Path| -> Vec<String> { names(path).into_iter().filter(|name| is_ours(name)).collect() };
        let expected: Vec<String> = (3..=5).map(|id| format!("gate-19700101T000000Z-{id}.png")).collect();
        assert_eq!(ours(&path), expected);
        // A better picture of a track takes the place of the one before, and its track is young again.
        save(&mut first, 3);
        save(&mut first, 6);
        assert_eq!(ours(&path)[0], "gate-19700101T000000Z-3.png");
        // Another process goes on with what is there; a part that was left is removed.
        fs::write(path.join(PART), "half").unwrap();
        let mut second = folder(&path, 2, u64::MAX, 0);
        save(&mut second, 7);
        assert_eq!(ours(&path).len(), 2);
        assert_eq!(names(&path).len(), 5, "{:?}", names(&path));
    }

    #[test]
    fn bytes_are_bounded_too() {
        let temp = tempfile::tempdir().unwrap();
        let mut bounded = folder(temp.path(), 1000, 400, 0);
        (0..50).for_each(|id| assert_eq!(save(&mut bounded, id), SnapshotOutcome::Written));
        let bytes: u64 =
            fs::read_dir(temp.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        assert!(bytes > 0 && bytes <= 400, "{bytes}");
    }

    #[test]
    fn a_disk_without_room_and_a_folder_that_cannot_be_made_are_survived() {
        let temp = tempfile::tempdir().unwrap();
        let mut full = folder(temp.path(), 10, u64::MAX, u64::MAX);
        assert_eq!(save(&mut full, 1), SnapshotOutcome::Failed);
        assert_eq!(names(temp.path()), Vec::<String>::new());
        full.min_free_bytes = 0;
        assert_eq!(save(&mut full, 1), SnapshotOutcome::Written);
        fs::write(temp.path().join("file"), "").unwrap();
        let mut nowhere = folder(&temp.path().join("file/below"), 10, u64::MAX, 0);
        assert_eq!(save(&mut nowhere, 1), SnapshotOutcome::Failed);
    }
}
