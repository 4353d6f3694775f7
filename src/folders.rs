//! Folders that the environment names: systemd's, XDG's, the user's home.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// The folder that a variable names. systemd puts several into one variable with colons between them: the first.
///
/// A relative path is not to be trusted, the daemon's working folder is nobody's home; that it is passed over is
/// said once.
pub(crate) fn named_by(name: &'static str) -> Option<PathBuf> {
    absolute(name, env::var_os(name)?)
}

/// As [`named_by`], of a value.
pub(crate) fn absolute(name: &'static str, value: OsString) -> Option<PathBuf> {
    let first = env::split_paths(&value).next()?;
    if first.is_absolute() {
        return Some(first);
    }
    static SAID: Mutex<Vec<&str>> = Mutex::new(Vec::new());
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if !first.as_os_str().is_empty() && !said.contains(&name) {
        said.push(name);
        tracing::warn!(
            "${name} is passed over: it is not an absolute path (beginning with /), but {}",
            first.display()
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_absolute_path_is_taken_and_of_several_the_first() {
        let of = |value: &str| absolute("NAME", value.into());
        assert_eq!(of("/var/cache/w:/b"), Some(PathBuf::from("/var/cache/w")));
        assert_eq!(of("cache"), None);
        assert_eq!(of("cache:/b"), None);
        assert_eq!(of(""), None);
    }
}
