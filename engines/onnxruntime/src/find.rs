//! Where the library may be.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Names a library file, before all other places.
pub const LIBRARY_VARIABLE: &str = "WATCHPOST_ONNXRUNTIME_LIB";

/// Folders of a Linux system, and of a Python environment relative to it.
const SYSTEM: [&str; 6] = [
    "/usr/local/lib",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/opt/onnxruntime/lib",
];
const STEM: &str = "libonnxruntime.so";
/// Entries of one folder that are looked at.
const ENTRIES_MAX: usize = 20_000;

/// No library was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotFound {
    /// [`LIBRARY_VARIABLE`] names a file that is not there.
    #[error("{LIBRARY_VARIABLE} names {}, which is not a file", .0.display())]
    Named(PathBuf),
    /// Nowhere.
    #[error(
        "no {STEM} in the system's library folders or in $VIRTUAL_ENV; install onnxruntime, or name the file with \
         {LIBRARY_VARIABLE}"
    )]
    Nowhere,
}

/// The library that would be loaded: the one that [`LIBRARY_VARIABLE`] names, else the first in the system's
/// library folders, else one of the active Python environment (`$VIRTUAL_ENV`).
///
/// # Errors
/// [`NotFound`].
pub fn find_library() -> Result<PathBuf, NotFound> {
    if let Some(named) = env::var_os(LIBRARY_VARIABLE).map(PathBuf::from) {
        return if named.is_file() { Ok(named) } else { Err(NotFound::Named(named)) };
    }
    let python = env::var_os("VIRTUAL_ENV").map(|environment| python_folders(Path::new(&environment)));
    let folders = SYSTEM.iter().map(PathBuf::from).chain(python.unwrap_or_default());
    folders.filter_map(|folder| newest_in(&folder)).next().ok_or(NotFound::Nowhere)
}

/// `lib/python3.*/site-packages/onnxruntime/capi`
fn python_folders(environment: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(environment.join("lib")) else { return Vec::new() };
    let pythons = entries.take(ENTRIES_MAX).filter_map(|entry| entry.ok().map(|entry| entry.path()));
    pythons.map(|python| python.join("site-packages/onnxruntime/capi")).filter(|path| path.is_dir()).collect()
}

/// `libonnxruntime.so`, or the highest `libonnxruntime.so.1.2.3` in this folder.
fn newest_in(folder: &Path) -> Option<PathBuf> {
    let plain = folder.join(STEM);
    if plain.is_file() {
        return Some(plain);
    }
    let versioned = fs::read_dir(folder).ok()?.take(ENTRIES_MAX).filter_map(|entry| {
        let path = entry.ok()?.path();
        let version = path.file_name()?.to_str()?.strip_prefix(STEM)?.strip_prefix('.')?.to_owned();
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
        assert_eq!(newest_in(folder.path()), None);
        for name in [
            "libonnxruntime.so.1.9.0",
            "libonnxruntime.so.1.31.1",
            "libonnxruntime.so.old",
            "libonnxruntime_providers_shared.so",
        ] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(newest_in(folder.path()), Some(folder.path().join("libonnxruntime.so.1.31.1")));
        fs::write(folder.path().join("libonnxruntime.so"), "").unwrap();
        assert_eq!(newest_in(folder.path()), Some(folder.path().join("libonnxruntime.so")));
    }
}
