//! Files that a command writes as a whole: the old one stays until the new one is on the disk, and of one that
//! does not get so far nothing stays.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file on its way. Dropped unfinished it is gone.
#[derive(Debug)]
pub(super) struct Draft {
    target: PathBuf,
    file: File,
    /// Where it is until it is finished; `None` for a device or a pipe, which is written as it is.
    temporary: Option<PathBuf>,
}

impl Draft {
    /// Before the work: hours of it should not end with a file that has no place.
    pub fn begin(target: &Path) -> io::Result<Self> {
        let is_other = |found: fs::Metadata| !found.is_file() && !found.is_dir();
        // What the shell has opened for us is not to be replaced behind its back.
        if target.starts_with("/dev")
            || target.starts_with("/proc")
            || fs::metadata(target).is_ok_and(is_other)
        {
            let file = OpenOptions::new().write(true).open(target)?;
            return Ok(Self { target: target.to_owned(), file, temporary: None });
        }
        if target.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        // A link stays one.
        let target = fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let dir = folder_of(&target);
        sweep(dir, &format!(".{name}."));
        let temporary = dir.join(format!(".{name}.{}", std::process::id()));
        let file = File::create(&temporary)?;
        Ok(Self { target, file, temporary: Some(temporary) })
    }

    /// It is complete: puts it on the disk and in its place.
    pub fn finish(mut self) -> io::Result<()> {
        if let Some(temporary) = &self.temporary {
            self.file.sync_all()?;
            fs::rename(temporary, &self.target)?;
            self.temporary = None;
            File::open(folder_of(&self.target))?.sync_all()?;
        }
        Ok(())
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _best_effort = fs::remove_file(temporary);
        }
    }
}

/// Writes a file so that there is always a whole one.
pub(super) fn replace(target: &Path, fill: impl FnOnce(&mut Draft) -> io::Result<()>) -> io::Result<()> {
    let mut draft = Draft::begin(target)?;
    fill(&mut draft)?;
    draft.finish()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Removes what killed processes have left half-written: names of `prefix` and the number of a process that is
/// gone. Best effort: what cannot be removed only takes room.
fn sweep(dir: &Path, prefix: &str) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(prefix)?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_old_file_stays_until_the_new_one_is_whole_and_a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("old"), "old").unwrap();
        std::os::unix::fs::symlink("old", at("link")).unwrap();
        let mut draft = Draft::begin(&at("link")).unwrap();
        draft.write_all(b"half").unwrap();
        assert_eq!(fs::read_to_string(at("old")).unwrap(), "old");
        drop(draft);
        assert_eq!(names(folder.path()), ["link", "old"]);
        // What a killed one has left behind is swept away; the number is above what Linux gives out.
        fs::write(at(".old.4194999"), "left").unwrap();
        replace(&at("link"), |draft| draft.write_all(b"new")).unwrap();
        assert_eq!(names(folder.path()), ["link", "old"]);
        assert_eq!(fs::read_to_string(at("link")).unwrap(), "new");
        assert!(fs::symlink_metadata(at("link")).unwrap().is_symlink());
    }

    #[test]
    fn a_device_is_written_as_it_is_and_a_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        replace(Path::new("/dev/null"), |draft| draft.write_all(b"gone")).unwrap();
        let refused = Draft::begin(folder.path()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::IsADirectory);
        let refused = Draft::begin(&folder.path().join("absent/file")).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotFound);
    }
}
