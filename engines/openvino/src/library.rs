//! Loading the library, and seeing what it is before anything of it is trusted.

use std::ffi::CStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use openvino_sys::{ov_status_e, ov_version_t};

use crate::model::LoadError;

/// Year and release of the oldest OpenVINO whose numbers of element types are ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OldestVersion(u32, u32);

const OLDEST: OldestVersion = OldestVersion(2025, 1);

impl fmt::Display for OldestVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// The library, once in the process: what has been loaded stays, for its plugins keep threads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    path: PathBuf,
    version: String,
}

static LOADED: Mutex<Option<Library>> = Mutex::new(None);

type GetVersion = unsafe extern "C" fn(*mut ov_version_t) -> ov_status_e;
type FreeVersion = unsafe extern "C" fn(*mut ov_version_t);

impl Library {
    /// Loads `path`, or gives the library that is loaded already.
    ///
    /// # Errors
    /// [`LoadError::Library`]: it is no OpenVINO, or an old one.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(library) = &*loaded {
            return Ok(library.clone());
        }
        let refuse = |reason: String| LoadError::Library { path: path.to_owned(), reason };
        // The bindings panic on a library that lacks functions or has a version of another form: it is asked first.
        let version = version_of(path).map_err(refuse)?;
        if year_and_release(&version).is_none_or(|found| found < (OLDEST.0, OLDEST.1)) {
            return Err(refuse(format!(
                "it is OpenVINO {version}, and {OLDEST} or newer is needed; install a newer one"
            )));
        }
        openvino_sys::library::load_from(path).map_err(refuse)?;
        let library = Self { path: path.to_owned(), version };
        *loaded = Some(library.clone());
        Ok(library)
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// As it says: `2026.4.1-…`.
    pub fn version(&self) -> &str {
        &self.version
    }
}

/// What the library says of itself.
fn version_of(path: &Path) -> Result<String, String> {
    // SAFETY: loading a library runs its initialisers; this one was named by the user or lies in a folder of the system.
    let library = unsafe { libloading::Library::new(path) }.map_err(|error| words(&error))?;
    // SAFETY: these are the functions' types in OpenVINO's C headers since 2022.1.
    let (get, free) = unsafe {
        (
            library.get::<GetVersion>(b"ov_get_openvino_version\0").map_err(|error| words(&error))?,
            library.get::<FreeVersion>(b"ov_version_free\0").map_err(|error| words(&error))?,
        )
    };
    let mut version = ov_version_t { buildNumber: std::ptr::null(), description: std::ptr::null() };
    // SAFETY: `version` is valid for writes.
    if unsafe { get(&raw mut version) } != ov_status_e::OK || version.buildNumber.is_null() {
        return Err("it does not say its version".to_owned());
    }
    // SAFETY: the library gave a string that ends with 0 and lives until it is freed below.
    let text = unsafe { CStr::from_ptr(version.buildNumber) }.to_string_lossy().into_owned();
    // SAFETY: filled by the function above, freed once.
    unsafe { free(&raw mut version) };
    Ok(text)
}

fn year_and_release(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn words(error: &libloading::Error) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string);
    source.unwrap_or_else(|| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_others_are_none() {
        assert_eq!(year_and_release("2026.4.1-22174-releases/2026/4"), Some((2026, 4)));
        assert_eq!(year_and_release("custom_main_abc"), None);
        assert_eq!(year_and_release(""), None);
    }

    #[test]
    fn a_file_that_is_no_openvino_is_refused_with_a_reason() {
        let junk = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(Library::load(junk.path()), Err(LoadError::Library { .. })));
        // A real library, of something else.
        let other = Path::new("/lib/x86_64-linux-gnu/libc.so.6");
        if other.is_file() {
            let refused = Library::load(other).unwrap_err().to_string();
            assert!(refused.contains("ov_get_openvino_version"), "{refused}");
        }
    }
}
