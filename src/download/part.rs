//! The part of a file that has arrived: beside its target, locked, hashed as it grows.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{BUFFER_BYTES, DownloadError, Wanted};

/// `.NAME.DIGITS.part`. The digest is in its name, so that the part of another version is never gone on with.
pub(super) struct Part {
    path: PathBuf,
    file: File,
    len: u64,
    hasher: Sha256,
}

impl Part {
    /// Opens what an earlier run left, or makes it. What is longer than the file is no part of it.
    pub fn open(wanted: &Wanted) -> Result<Self, DownloadError> {
        let folder = folder_of(&wanted.target);
        let disk = |path: &Path, cause| DownloadError::Disk { path: path.to_owned(), cause };
        fs::create_dir_all(&folder).map_err(|cause| disk(&folder, cause))?;
        let name = wanted.target.file_name().unwrap_or_default().to_string_lossy();
        let path = folder.join(format!(".{name}.{}.part", wanted.sha256.get(..12).unwrap_or_default()));
        let file = match locked(&path) {
            Ok(file) => file,
            Err(TryLockError::WouldBlock) => return Err(DownloadError::InProgress { part: path }),
            Err(TryLockError::Error(cause)) => return Err(disk(&path, cause)),
        };
        let mut part = Self { path, file, len: 0, hasher: Sha256::new() };
        part.read_existing().map_err(|cause| disk(&part.path.clone(), cause))?;
        if part.len > wanted.size_bytes || part.len == wanted.size_bytes && part.digest() != wanted.sha256 {
            part.truncate()?;
        }
        Ok(part)
    }

    fn read_existing(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match self.file.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    self.hasher.update(&buffer[..count]);
                    self.len += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Bytes that have arrived.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the rest of `size_bytes` fits on the disk, as far as it tells.
    pub fn check_room(&self, size_bytes: u64) -> Result<(), DownloadError> {
        let needed_bytes = size_bytes.saturating_sub(self.len);
        let folder = folder_of(&self.path);
        let Ok(disk) = rustix::fs::fstatvfs(&self.file) else { return Ok(()) };
        let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        // Some file systems have no such figures and say zero blocks.
        if disk.f_blocks > 0 && needed_bytes > free_bytes {
            self.remove_if_empty();
            return Err(DownloadError::NoRoom { folder, needed_bytes, free_bytes });
        }
        Ok(())
    }

    pub fn append(&mut self, bytes: &[u8]) -> Result<(), DownloadError> {
        if let Err(cause) = self.file.write_all(bytes) {
            // What was written of these bytes is unknown: back to what was counted.
            let _ = self.file.set_len(self.len);
            return Err(self.disk(cause));
        }
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Back to nothing.
    pub fn truncate(&mut self) -> Result<(), DownloadError> {
        self.file.set_len(0).map_err(|cause| self.disk(cause))?;
        self.len = 0;
        self.hasher = Sha256::new();
        Ok(())
    }

    /// Removes it: nothing of it is worth keeping. Best effort: what stays is seen through the next time.
    pub fn discard(&mut self) {
        let _ = self.truncate();
        let _ = fs::remove_file(&self.path);
    }

    fn remove_if_empty(&self) {
        if self.len == 0 {
            let _ = fs::remove_file(&self.path);
        }
    }

    /// SHA-256 of what has arrived, in lower-case hexadecimal digits.
    pub fn digest(&self) -> String {
        self.hasher.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Makes the whole file appear at once.
    pub fn finish(self, target: &Path) -> Result<(), DownloadError> {
        self.file.sync_all().map_err(|cause| self.disk(cause))?;
        let done = fs::rename(&self.path, target).and_then(|()| File::open(folder_of(target))?.sync_all());
        done.map_err(|cause| DownloadError::Disk { path: target.to_owned(), cause })
    }

    fn disk(&self, cause: io::Error) -> DownloadError {
        DownloadError::Disk { path: self.path.clone(), cause }
    }
}

/// The file of this name, locked. The kernel takes the lock back from whoever dies.
fn locked(path: &Path) -> Result<File, TryLockError> {
    loop {
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).open(path).map_err(TryLockError::Error)?;
        file.try_lock()?;
        // Who had it before may just have made it the target: then the name is another file's, or nobody's.
        let ours = file.metadata().map_err(TryLockError::Error)?;
        if fs::metadata(path).is_ok_and(|named| (named.dev(), named.ino()) == (ours.dev(), ours.ino())) {
            return Ok(file);
        }
    }
}

fn folder_of(path: &Path) -> PathBuf {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}
