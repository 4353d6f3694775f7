//! Built engines, kept on disk under what they were built from.
//!
//! Building takes minutes, so an engine is kept; a wrong engine is worse than none, so nothing of a file is believed
//! that has not been verified. All that goes wrong with the disk costs time, never an engine: what was built is used
//! from memory.
//!
//! | file            | what                                                                                  |
//! |-----------------|---------------------------------------------------------------------------------------|
//! | `STEM.engine`   | a whole engine (see `file.rs`); a shared lock on it: somebody has it loaded            |
//! | `STEM.lock`     | an exclusive lock on it: somebody builds this engine, others wait                     |
//! | `STEM.tmp`      | an engine that is being written; becomes `STEM.engine` by renaming                    |

mod file;
mod folder;
mod key;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

pub use file::{EngineFacts, FORMAT_VERSION, Header, Miss};
pub use folder::default_folder;
pub use key::{BatchRequest, EngineKey, PlanPrecision};

use crate::clock;
use crate::config::show_size;
use crate::os_words::os_words;
use folder::BuildLock;

/// Why an engine could not be kept. It is used from memory all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    /// No variable says where.
    #[error(
        "there is no folder for it: none of $CACHE_DIRECTORY, $XDG_CACHE_HOME and $HOME is set to an absolute path; \
         set one"
    )]
    NoFolder,
    /// The folder is not there and cannot be made.
    #[error("its folder {} cannot be used: {reason}", .path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// It cannot be locked, which is needed for writing.
    #[error("{} cannot be locked: {reason}", .path.display())]
    Lock {
        /// The folder.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// It cannot be written.
    #[error("{} cannot be written: {reason}", .path.display())]
    Write {
        /// The engine's file.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// It is larger than what may be kept.
    #[error(
        "it takes {bytes} bytes, and beside the engines in use the cache may take {}; raise detector.engine_cache_limit",
        show_size(*.limit_bytes)
    )]
    NoRoom {
        /// Its size.
        bytes: u64,
        /// What is allowed.
        limit_bytes: u64,
    },
}

/// How an engine came to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// It was in the cache.
    Hit,
    /// Somebody else built it while we waited.
    Waited,
    /// It was built now, because of this.
    Built(Miss),
}

/// An engine, verified or just built.
#[derive(Debug)]
pub struct Cached {
    /// What the runtime deserializes.
    pub plan: Vec<u8>,
    /// What is known about it.
    pub facts: EngineFacts,
    /// How it came here.
    pub origin: Origin,
    /// Its file, or why there is none.
    pub kept: Result<PathBuf, CacheError>,
    /// While this lives, no process removes the engine to make room for another.
    pub in_use: InUse,
}

/// A claim on an engine's file.
#[derive(Debug)]
pub struct InUse {
    _locked: Option<File>,
}

/// One line of `watchpost engine list`.
#[derive(Debug)]
pub struct Listed {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// When it was built or last loaded.
    pub used: SystemTime,
    /// Whether a process has it loaded.
    pub in_use: bool,
    /// Its header, or what is wrong with the file.
    pub header: Result<Header, Miss>,
}

/// The folder of engines.
#[derive(Debug)]
pub struct Cache {
    folder: Result<PathBuf, CacheError>,
    limit_bytes: u64,
    said: AtomicBool,
}

impl Cache {
    /// The cache of this process: [`default_folder`], kept below `limit_bytes`.
    pub fn open(limit_bytes: u64) -> Self {
        match default_folder() {
            Some(folder) => Self::at(&folder, limit_bytes),
            None => Self { folder: Err(CacheError::NoFolder), limit_bytes, said: AtomicBool::new(false) },
        }
    }

    /// The cache in `folder`, which is made when something is kept in it. What dead processes left is removed.
    pub fn at(folder: &Path, limit_bytes: u64) -> Self {
        folder::sweep(folder);
        Self { folder: Ok(folder.to_owned()), limit_bytes, said: AtomicBool::new(false) }
    }

    /// Where it is, or why there is none.
    ///
    /// # Errors
    /// [`CacheError::NoFolder`].
    pub fn folder(&self) -> Result<&Path, CacheError> {
        self.folder.as_deref().map_err(CacheError::clone)
    }

    /// The engine for `key`: from the cache, else from whoever is building it now, else from `build`, and then it is
    /// kept. `say` is told when this process has to wait for another.
    ///
    /// # Errors
    /// Those of `build`. Trouble with the disk is in [`Cached::kept`] and said once in the log.
    pub fn get_or_build<E>(
        &self,
        key: &EngineKey,
        say: &mut dyn FnMut(&str),
        build: impl FnOnce() -> Result<(Vec<u8>, EngineFacts), E>,
    ) -> Result<Cached, E> {
        self.obtain(key, false, say, build)
    }

    /// As [`Cache::get_or_build`], but what is in the cache is replaced.
    ///
    /// # Errors
    /// Those of `build`; then the engine that was there stays.
    pub fn rebuild<E>(
        &self,
        key: &EngineKey,
        say: &mut dyn FnMut(&str),
        build: impl FnOnce() -> Result<(Vec<u8>, EngineFacts), E>,
    ) -> Result<Cached, E> {
        self.obtain(key, true, say, build)
    }

    /// The engine for `key`, if it is there and whole.
    ///
    /// # Errors
    /// [`Miss`] says why not.
    pub fn get(&self, key: &EngineKey) -> Result<Cached, Miss> {
        let folder = self.folder().map_err(|error| Miss::Unreadable(error.to_string()))?;
        let path = folder::engine_path(folder, &key.stem());
        let mut opened = file::open(&path).map_err(|miss| match miss {
            Miss::Absent(_) => Miss::Absent(self.nearest(key)),
            other => other,
        })?;
        if opened.header.key != *key {
            return Err(Miss::Key(key.differences(&opened.header.key).join(", ")));
        }
        let plan = opened.plan()?;
        let in_use = claim(opened.file, true);
        Ok(Cached { plan, facts: opened.header.facts, origin: Origin::Hit, kept: Ok(path), in_use })
    }

    /// As [`Cache::get`]; and where there is none, the engine used last that differs only in what a configuration does
    /// not say, because whoever built it for this model wanted it: sparsity, the DLA core, the calibration pictures.
    ///
    /// # Errors
    /// [`Miss`] says why there is none.
    pub fn get_fitting(&self, key: &EngineKey) -> Result<(EngineKey, Cached), Miss> {
        let miss = match self.get(key) {
            Ok(cached) => return Ok((key.clone(), cached)),
            Err(miss) => miss,
        };
        let listed = self.list().unwrap_or_default();
        let fitting = listed.into_iter().filter_map(|entry| entry.header.ok()).map(|header| header.key);
        fitting
            .filter(|found| key.is_fitted_by(found))
            .find_map(|found| self.get(&found).ok().map(|cached| (found, cached)))
            .ok_or(miss)
    }

    fn obtain<E>(
        &self,
        key: &EngineKey,
        is_unwanted: bool,
        say: &mut dyn FnMut(&str),
        build: impl FnOnce() -> Result<(Vec<u8>, EngineFacts), E>,
    ) -> Result<Cached, E> {
        let stem = key.stem();
        let look = || if is_unwanted { Err(Miss::NotWanted) } else { self.get(key) };
        if let Ok(hit) = look() {
            return Ok(told_hit(hit, &stem));
        }
        let lock = self.lock(&stem, say);
        // Whoever had the lock may have built it since we looked, whether we had to wait or not.
        let miss = match look() {
            Ok(hit) => return Ok(told_hit(Cached { origin: Origin::Waited, ..hit }, &stem)),
            Err(miss) => miss,
        };
        tell_miss(&miss, &stem);
        let (plan, facts) = build()?;
        let header = Header { key: key.clone(), facts };
        let kept = lock.and_then(|(folder, _lock)| {
            if miss.is_bad_file() {
                // On a full disk its bytes may be the ones that are missing. If it stays, it is replaced.
                let _replaced = fs::remove_file(folder::engine_path(&folder, &stem));
            }
            self.keep(&folder, &stem, &header, &plan)
        });
        if let Err(error) = &kept
            && !self.said.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                "the engine is used from memory and will be built again at the next start: {error}"
            );
        }
        let in_use = kept.as_ref().ok().and_then(|path| file::open_plain(path).ok());
        let in_use = in_use.map_or(InUse { _locked: None }, |file| claim(file, false));
        Ok(Cached { plan, facts: header.facts, origin: Origin::Built(miss), kept, in_use })
    }

    fn lock(&self, stem: &str, say: &mut dyn FnMut(&str)) -> Result<(PathBuf, BuildLock), CacheError> {
        let folder = self.folder()?.to_owned();
        fs::create_dir_all(&folder)
            .map_err(|error| CacheError::Folder { path: folder.clone(), reason: words(&error) })?;
        let mut waiting = |holder: &str| {
            let holder = if holder.is_empty() { String::new() } else { format!(" (process {holder})") };
            let line = format!("another process{holder} is building this engine; waiting for it");
            tracing::info!(engine = stem, "{line}");
            say(&line);
        };
        match BuildLock::take(&folder, stem, &mut waiting) {
            Ok(lock) => Ok((folder, lock)),
            Err(error) => Err(CacheError::Lock { path: folder, reason: words(&error) }),
        }
    }

    /// Writes the engine beside its place, makes sure that it is on the disk, and puts it into its place. Needs the
    /// lock of `stem`.
    fn keep(&self, folder: &Path, stem: &str, header: &Header, plan: &[u8]) -> Result<PathBuf, CacheError> {
        let path = folder::engine_path(folder, stem);
        let temporary = folder::temporary_path(folder, stem);
        let refuse = |error: io::Error| CacheError::Write { path: path.clone(), reason: words(&error) };
        let front = file::front(header, plan).map_err(refuse)?;
        let bytes = (front.len() + plan.len()) as u64;
        let has_room = |incoming_bytes| folder::make_room(folder, &path, incoming_bytes, self.limit_bytes);
        // A large engine that does not fit in any case must not drive out the others first.
        if bytes > self.limit_bytes || !has_room(bytes).map_err(refuse)? {
            return Err(CacheError::NoRoom { bytes, limit_bytes: self.limit_bytes });
        }
        // The rest of one who died with this lock.
        let _none_there = fs::remove_file(&temporary);
        let written = file::write(&temporary, &front, plan)
            .and_then(|()| fs::rename(&temporary, &path))
            // Only now a power failure cannot take the name away again.
            .and_then(|()| File::open(folder)?.sync_all());
        if let Err(error) = written {
            // Best effort: the error that matters is the one above.
            let _swept_later = fs::remove_file(&temporary);
            return Err(refuse(error));
        }
        Ok(path)
    }

    /// All engines, the one used last in front; their headers are verified, their plans are not.
    ///
    /// # Errors
    /// [`CacheError`] when the folder cannot be read.
    pub fn list(&self) -> Result<Vec<Listed>, CacheError> {
        let folder = self.folder()?;
        let entries = match folder::entries(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            entries => entries
                .map_err(|error| CacheError::Folder { path: folder.to_owned(), reason: os_words(&error) })?,
        };
        let listed = entries.into_iter().rev().map(|entry| Listed {
            header: file::open(&entry.path).map(|opened| opened.header),
            in_use: folder::is_in_use(&entry.path),
            path: entry.path,
            bytes: entry.bytes,
            used: entry.used,
        });
        Ok(listed.collect())
    }

    /// What the engine of the same model that differs least differs in.
    fn nearest(&self, key: &EngineKey) -> Option<String> {
        let listed = self.list().ok()?;
        let keys = listed.into_iter().filter_map(|entry| entry.header.ok()).map(|header| header.key);
        let same_model = keys.filter(|found| found.model_sha256 == key.model_sha256);
        let differences = same_model.map(|found| key.differences(&found)).min_by_key(Vec::len)?;
        Some(differences.join(", "))
    }
}

/// Verifies a whole engine file; its header and the bytes of its plan.
///
/// # Errors
/// [`Miss`] says what is wrong with it.
pub fn verify(path: &Path) -> Result<(Header, u64), Miss> {
    let mut opened = file::open(path)?;
    opened.plan()?;
    let plan_bytes = opened.plan_bytes();
    Ok((opened.header, plan_bytes))
}

/// Keeps others from removing the engine, and notes that it was used. Neither is worth a failure: the engine is good.
fn claim(file: File, note_use: bool) -> InUse {
    if note_use {
        let _read_only = file.set_modified(clock::wall());
    }
    let _unprotected = file.lock_shared();
    InUse { _locked: Some(file) }
}

fn told_hit(hit: Cached, stem: &str) -> Cached {
    tracing::info!(engine = stem, gpu = hit.facts.gpu_name, "the engine is in the cache");
    hit
}

fn tell_miss(miss: &Miss, stem: &str) {
    if miss.is_bad_file() {
        tracing::warn!(engine = stem, "no engine in the cache: {miss}; it is built anew and replaced");
    } else {
        tracing::info!(engine = stem, "no engine in the cache: {miss}");
    }
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "the disk is full; make room".to_owned(),
        io::ErrorKind::FileTooLarge => "files may not be that large here; raise the limit".to_owned(),
        _ => os_words(error),
    }
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
