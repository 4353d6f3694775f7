//! Models as OpenVINO has compiled them, kept from start to start: a start from one takes a quarter of the time.
//!
//! OpenVINO can keep a folder itself (`CACHE_DIR`), but writes into it in place, believes what it finds there and never
//! forgets anything. Here a file is written beside its place, synced and renamed; its name holds the digest of its content,
//! so that a damaged one is seen before the library sees it; and those used longest ago go when there are too many.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::cache;
use crate::clock;
use crate::os_words::os_words;

/// Extension of what is kept.
const BLOB: &str = "blob";
/// Characters of the part of a name that says what the model was compiled for.
const KEY_LENGTH: usize = 32;
/// Files of the folder that are looked at.
const ENTRIES_MAX: usize = 1000;

/// Place of one compiled model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    folder: PathBuf,
    key: String,
    limit_bytes: u64,
}

impl Kept {
    /// For a model compiled under the conditions `what`; all files together may take `limit_bytes`. `None` where there is no
    /// folder for caches.
    pub fn of(what: &str, limit_bytes: u64) -> Option<Self> {
        Some(Self::at(&cache::default_folder()?.with_file_name("openvino"), what, limit_bytes))
    }

    fn at(folder: &Path, what: &str, limit_bytes: u64) -> Self {
        let mut key = hex(&Sha256::digest(what.as_bytes()));
        key.truncate(KEY_LENGTH);
        Self { folder: folder.to_owned(), key, limit_bytes }
    }

    /// What was kept, if it is as it was written. What is not is removed, with one warning.
    pub fn read(&self) -> Option<Vec<u8>> {
        let (path, digest) = files(&self.folder).find(|file| file.key == self.key)?.into_path();
        let file = File::open(&path).ok()?;
        let length = file.metadata().ok().filter(fs::Metadata::is_file)?.len();
        let bytes = if length <= self.limit_bytes { fs::read(&path).ok()? } else { Vec::new() };
        if hex(&Sha256::digest(&bytes)) == digest {
            // So that it counts as used; only the order of forgetting suffers where it may not be.
            let _order = file.set_modified(clock::wall());
            return Some(bytes);
        }
        tracing::warn!("{} is damaged: it is removed, and the model compiled again", path.display());
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!("{} cannot be removed: {}", path.display(), os_words(&error));
        }
        None
    }

    /// Keeps what `export` writes into a new file, and makes room for it.
    ///
    /// # Errors
    /// Why it is not kept.
    pub fn write(&self, export: impl FnOnce(&Path) -> Result<(), String>) -> Result<PathBuf, String> {
        let words = |error: io::Error| format!("{}: {}", self.folder.display(), os_words(&error));
        fs::create_dir_all(&self.folder).map_err(words)?;
        sweep(&self.folder);
        let temporary = self.folder.join(format!("{}.{}", self.key, std::process::id()));
        let written = export(&temporary).and_then(|()| self.put_in_place(&temporary).map_err(words));
        if written.is_err() {
            let _never_there = fs::remove_file(&temporary);
        }
        let path = written?;
        self.forget(&path);
        Ok(path)
    }

    fn put_in_place(&self, temporary: &Path) -> io::Result<PathBuf> {
        let bytes = fs::read(temporary)?;
        if bytes.len() as u64 > self.limit_bytes {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let file = File::open(temporary)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.sync_all()?;
        let path = self.folder.join(format!("{}-{}.{BLOB}", self.key, hex(&Sha256::digest(&bytes))));
        fs::rename(temporary, &path)?;
        File::open(&self.folder)?.sync_all()?;
        Ok(path)
    }

    /// Removes what `newest` replaces, and those used longest ago while all take more than they may.
    fn forget(&self, newest: &Path) {
        let mut others = Vec::new();
        let mut total_bytes = fs::metadata(newest).map_or(0, |found| found.len());
        for file in files(&self.folder).filter(|file| file.path != newest) {
            let Ok(found) = fs::metadata(&file.path) else { continue };
            if file.key == self.key {
                let _gone_already = fs::remove_file(&file.path);
                continue;
            }
            total_bytes += found.len();
            others.push((found.modified().unwrap_or(SystemTime::UNIX_EPOCH), found.len(), file.path));
        }
        others.sort();
        for (_, bytes, path) in others {
            if total_bytes <= self.limit_bytes {
                break;
            }
            if fs::remove_file(&path).is_ok() {
                total_bytes -= bytes;
            }
        }
    }
}

/// A file that has been put in place.
struct Found {
    path: PathBuf,
    key: String,
    digest: String,
}

impl Found {
    fn into_path(self) -> (PathBuf, String) {
        (self.path, self.digest)
    }
}

fn files(folder: &Path) -> impl Iterator<Item = Found> {
    let entries = fs::read_dir(folder).into_iter().flatten().take(ENTRIES_MAX).flatten();
    entries.filter_map(|entry| {
        let path = entry.path();
        let (key, digest) = path.file_stem()?.to_str()?.split_once('-')?;
        let (key, digest) = (key.to_owned(), digest.to_owned());
        (path.extension()? == BLOB).then_some(Found { path, key, digest })
    })
}

/// Removes what processes that are gone have left half-written.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().take(ENTRIES_MAX).flatten() {
        let path = entry.path();
        let pid = path.extension().and_then(|pid| pid.to_str()?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            let _somebody_else_did = fs::remove_file(&path);
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(kept: &Kept, bytes: &[u8]) -> Result<PathBuf, String> {
        kept.write(|path| fs::write(path, bytes).map_err(|error| error.to_string()))
    }

    fn count(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn what_is_kept_reads_back_and_a_damaged_file_is_nothing_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::at(&folder.path().join("new"), "a model", 1000);
        assert_eq!(kept.read(), None);
        let path = keep(&kept, b"compiled").unwrap();
        assert_eq!(kept.read().as_deref(), Some(&b"compiled"[..]));
        assert_eq!(Kept::at(path.parent().unwrap(), "another", 1000).read(), None);
        for damaged in [&b"compilee"[..], b"compile", b"", &[7; 2000]] {
            keep(&kept, b"compiled").unwrap();
            fs::write(&path, damaged).unwrap();
            assert_eq!(kept.read(), None);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_new_one_takes_the_place_of_its_like_and_those_used_longest_ago_go() {
        let folder = tempfile::tempdir().unwrap();
        let of = |what: &str| Kept::at(folder.path(), what, 100);
        keep(&of("a"), &[1; 40]).unwrap();
        keep(&of("a"), &[2; 40]).unwrap();
        assert_eq!((count(folder.path()), of("a").read().unwrap()), (1, vec![2; 40]));
        let b = keep(&of("b"), &[3; 40]).unwrap();
        // `a` was used after `b`.
        let long_ago = SystemTime::UNIX_EPOCH;
        File::open(&b).unwrap().set_modified(long_ago).unwrap();
        keep(&of("c"), &[4; 40]).unwrap();
        assert_eq!((of("b").read(), count(folder.path())), (None, 2));
        assert!(of("a").read().is_some() && of("c").read().is_some());
        // One that is larger than all may be is not kept, and nothing of it stays.
        assert!(keep(&of("d"), &[5; 101]).is_err());
        assert!(of("d").write(|_| Err("this device cannot".to_owned())).is_err());
        assert_eq!(count(folder.path()), 2);
    }

    #[test]
    fn halves_of_dead_processes_are_swept_away() {
        let folder = tempfile::tempdir().unwrap();
        // The number is above what Linux gives out.
        fs::write(folder.path().join("abc.4194999"), "half").unwrap();
        keep(&Kept::at(folder.path(), "a", 100), b"whole").unwrap();
        assert_eq!(count(folder.path()), 1);
    }
}
