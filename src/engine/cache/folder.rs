//! The folder of the cache: where it is, who builds what in it, what is swept away.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::file::open_plain;
use crate::folders;

/// Extension of an engine.
pub(super) const ENGINE: &str = "engine";
/// Extension of the file whose lock says that somebody builds this engine. It holds their process id.
const LOCK: &str = "lock";
/// Extension of an engine that is being written; only the holder of the lock touches it.
const TEMPORARY: &str = "tmp";
/// Entries of the folder that are looked at.
const ENTRIES_MAX: usize = 10_000;

/// `engines/` below `$CACHE_DIRECTORY` (systemd), else `$XDG_CACHE_HOME/watchpost`, else `~/.cache/watchpost`.
pub fn default_folder() -> Option<PathBuf> {
    folder_from(folders::named_by)
}

fn folder_from(named_by: impl Fn(&'static str) -> Option<PathBuf>) -> Option<PathBuf> {
    let home = || named_by("HOME").map(|home| home.join(".cache"));
    let cache = named_by("CACHE_DIRECTORY")
        .or_else(|| named_by("XDG_CACHE_HOME").or_else(home).map(|caches| caches.join("watchpost")))?;
    Some(cache.join("engines"))
}

pub(super) fn engine_path(folder: &Path, stem: &str) -> PathBuf {
    folder.join(format!("{stem}.{ENGINE}"))
}

pub(super) fn temporary_path(folder: &Path, stem: &str) -> PathBuf {
    folder.join(format!("{stem}.{TEMPORARY}"))
}

/// The right to build and write one engine, among all threads and processes. The kernel takes it back from a
/// process that dies, however it dies.
pub(super) struct BuildLock {
    file: File,
    path: PathBuf,
}

impl BuildLock {
    /// Waits for the lock; `waiting` is told once, with the process id of the holder where it is known.
    pub(super) fn take(folder: &Path, stem: &str, waiting: &mut dyn FnMut(&str)) -> io::Result<Self> {
        let path = folder.join(format!("{stem}.{LOCK}"));
        let mut told = false;
        loop {
            let file = open_lock(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    if !told {
                        waiting(fs::read_to_string(&path).unwrap_or_default().trim());
                        told = true;
                    }
                    wait(&file)?;
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
            if let Some(lock) = Self::confirmed(file, &path)? {
                return Ok(lock);
            }
        }
    }

    /// The lock, if nobody has it.
    fn try_take(folder: &Path, stem: &str) -> io::Result<Option<Self>> {
        let path = folder.join(format!("{stem}.{LOCK}"));
        let file = open_lock(&path)?;
        match file.try_lock() {
            Ok(()) => Self::confirmed(file, &path),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// The last holder removes the file: a lock on a file that has no name any more excludes nobody.
    fn confirmed(file: File, path: &Path) -> io::Result<Option<Self>> {
        let ours = file.metadata()?;
        match fs::symlink_metadata(path) {
            Ok(named) if (named.dev(), named.ino()) == (ours.dev(), ours.ino()) => {
                let lock = Self { file, path: path.to_owned() };
                // For whoever waits; not worth a failure.
                let _unknown_holder = lock.file.set_len(0).and_then(|()| {
                    io::Write::write_all(&mut &lock.file, std::process::id().to_string().as_bytes())
                });
                Ok(Some(lock))
            }
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Drop for BuildLock {
    fn drop(&mut self) {
        // Removed while it is held; closing it then lets the next one in, who sees that the name is gone.
        let _swept_later = fs::remove_file(&self.path);
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

fn wait(file: &File) -> io::Result<()> {
    loop {
        match file.lock() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Removes what dead processes left: halves of engines, and locks that nobody holds.
pub(super) fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut stems = BTreeSet::new();
    for entry in entries.take(ENTRIES_MAX).flatten() {
        let path = entry.path();
        let is_rest = path.extension().is_some_and(|extension| extension == LOCK || extension == TEMPORARY);
        if let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()).filter(|_| is_rest) {
            stems.insert(stem.to_owned());
        }
    }
    for stem in stems {
        // Where it cannot be removed, it cannot be written either, and that is told when it is tried.
        if let Ok(Some(lock)) = BuildLock::try_take(folder, &stem) {
            let temporary = temporary_path(folder, &stem);
            if fs::remove_file(&temporary).is_ok() {
                tracing::info!(file = %temporary.display(), "removed half an engine that a dead process left");
            }
            drop(lock);
        }
    }
}

/// An engine file as the file system knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) used: SystemTime,
}

/// All engine files, those used longest ago first.
pub(super) fn entries(folder: &Path) -> io::Result<Vec<Entry>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)?.take(ENTRIES_MAX) {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != ENGINE) {
            continue;
        }
        // Gone since it was listed: then there is nothing to tell of it.
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        let used = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        found.push(Entry { path, bytes: meta.len(), used });
    }
    found.sort_by(|a, b| (a.used, &a.path).cmp(&(b.used, &b.path)));
    Ok(found)
}

/// Whether somebody has the engine loaded.
pub(super) fn is_in_use(path: &Path) -> bool {
    let Ok(file) = open_plain(path) else { return false };
    matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

/// Removes engines, those used longest ago first, until `incoming_bytes` more fit below `limit_bytes`. Engines that
/// somebody has loaded stay, and so does `spared`. Says whether there is room.
pub(super) fn make_room(
    folder: &Path,
    spared: &Path,
    incoming_bytes: u64,
    limit_bytes: u64,
) -> io::Result<bool> {
    let others: Vec<Entry> = entries(folder)?.into_iter().filter(|entry| entry.path != spared).collect();
    let mut sum = others.iter().fold(incoming_bytes, |sum, entry| sum.saturating_add(entry.bytes));
    for entry in others {
        if sum <= limit_bytes {
            break;
        }
        let Ok(file) = open_plain(&entry.path) else { continue };
        // Held until it is removed: nobody begins to use it in between.
        if file.try_lock().is_ok() && fs::remove_file(&entry.path).is_ok() {
            tracing::info!(
                file = %entry.path.display(), bytes = entry.bytes, limit_bytes,
                "removed the engine that was used longest ago, to stay below the cache's limit"
            );
            sum = sum.saturating_sub(entry.bytes);
        }
    }
    Ok(sum <= limit_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_systemds_else_the_desktops_else_below_home() {
        let from = |variables: &[(&str, &str)]| {
            let find = |name: &'static str| {
                let (_, value) = variables.iter().find(|(known, _)| *known == name)?;
                folders::absolute(name, (*value).into())
            };
            folder_from(find).map(|path| path.display().to_string()).unwrap_or_default()
        };
        let home = ("HOME", "/home/a");
        let xdg = ("XDG_CACHE_HOME", "/x");
        assert_eq!(from(&[home]), "/home/a/.cache/watchpost/engines");
        assert_eq!(from(&[home, xdg]), "/x/watchpost/engines");
        assert_eq!(from(&[home, xdg, ("CACHE_DIRECTORY", "/var/cache/w:/b")]), "/var/cache/w/engines");
        assert_eq!(
            from(&[home, ("XDG_CACHE_HOME", ""), ("CACHE_DIRECTORY", "")]),
            "/home/a/.cache/watchpost/engines"
        );
        assert_eq!(from(&[home, ("XDG_CACHE_HOME", "relative")]), "/home/a/.cache/watchpost/engines");
        assert_eq!(from(&[]), "");
    }

    #[test]
    fn a_lock_excludes_until_it_is_dropped_and_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let lock = BuildLock::take(folder.path(), "a", &mut |_| panic!("nobody has it")).unwrap();
        assert!(BuildLock::try_take(folder.path(), "a").unwrap().is_none());
        assert!(BuildLock::try_take(folder.path(), "b").unwrap().is_some());
        drop(lock);
        assert!(BuildLock::try_take(folder.path(), "a").unwrap().is_some());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn many_threads_have_the_lock_one_at_a_time() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let folder = tempfile::tempdir().unwrap();
        let inside = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let lock = BuildLock::take(folder.path(), "a", &mut |_| {}).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                        drop(lock);
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
