//! Where an engine's library may be.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders of a Linux system, for every library.
const SYSTEM: [&str; 5] =
    ["/usr/local/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
/// Entries of one folder that are looked at.
const ENTRIES_MAX: usize = 20_000;

/// What is looked for, and where besides the system's library folders.
#[derive(Debug, Clone, Copy)]
pub struct Search {
    /// The environment variable that names a library file, before all other places.
    pub variable: &'static str,
    /// `libNAME.so`, as the file is called without a version.
    pub stem: &'static str,
    /// What a user installs.
    pub product: &'static str,
    /// Where its archives are usually unpacked.
    pub folders: &'static [&'static str],
    /// Its folder in a Python environment, below `site-packages`.
    pub python: &'static str,
}

/// No library was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotFound {
    /// The variable names a file that is not there.
    #[error("{variable} names {}, which is not a file", .path.display())]
    Named {
        /// The variable.
        variable: &'static str,
        /// What it says.
        path: PathBuf,
    },
    /// Nowhere.
    #[error(
        "no {stem} in the system's library folders or in $VIRTUAL_ENV; install {product}, or name the file with \
         {variable}"
    )]
    Nowhere {
        /// [`Search::stem`].
        stem: &'static str,
        /// [`Search::product`].
        product: &'static str,
        /// [`Search::variable`].
        variable: &'static str,
    },
}

impl Search {
    /// The library that would be loaded: the one that the variable names, else the first in the system's library
    /// folders, else one of the active Python environment (`$VIRTUAL_ENV`).
    ///
    /// # Errors
    /// [`NotFound`].
    pub fn find(&self) -> Result<PathBuf, NotFound> {
        let Self { variable, stem, product, .. } = *self;
        if let Some(path) = env::var_os(variable).map(PathBuf::from) {
            return if path.is_file() { Ok(path) } else { Err(NotFound::Named { variable, path }) };
        }
        let python = env::var_os("VIRTUAL_ENV").map(|environment| self.in_python(Path::new(&environment)));
        let system = SYSTEM.iter().chain(self.folders).map(PathBuf::from);
        let mut found =
            system.chain(python.unwrap_or_default()).filter_map(|folder| newest_in(&folder, stem));
        found.next().ok_or(NotFound::Nowhere { stem, product, variable })
    }

    /// `lib/python3.*/site-packages/…`
    fn in_python(&self, environment: &Path) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(environment.join("lib")) else { return Vec::new() };
        let pythons = entries.take(ENTRIES_MAX).filter_map(|entry| entry.ok().map(|entry| entry.path()));
        let folders = pythons.map(|python| python.join("site-packages").join(self.python));
        folders.filter(|path| path.is_dir()).collect()
    }
}

/// The file without a version, or the one with the highest in this folder.
fn newest_in(folder: &Path, stem: &str) -> Option<PathBuf> {
    let plain = folder.join(stem);
    if plain.is_file() {
        return Some(plain);
    }
    let versioned = fs::read_dir(folder).ok()?.take(ENTRIES_MAX).filter_map(|entry| {
        let path = entry.ok()?.path();
        let version = path.file_name()?.to_str()?.strip_prefix(stem)?.strip_prefix('.')?.to_owned();
        let numbers: Option<Vec<u32>> = version.split('.').map(|part| part.parse().ok()).collect();
        Some((numbers?, path))
    });
    versioned.max().map(|(_, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_of_a_folder_is_taken_and_other_files_are_not() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(newest_in(folder.path(), "libonnxruntime.so"), None);
        for name in [
            "libonnxruntime.so.1.9.0",
            "libonnxruntime.so.1.31.1",
            "libonnxruntime.so.old",
            "libonnxruntime_providers_shared.so",
        ] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(
            newest_in(folder.path(), "libonnxruntime.so"),
            Some(folder.path().join("libonnxruntime.so.1.31.1"))
        );
        fs::write(folder.path().join("libonnxruntime.so"), "").unwrap();
        assert_eq!(
            newest_in(folder.path(), "libonnxruntime.so"),
            Some(folder.path().join("libonnxruntime.so"))
        );
    }
}
