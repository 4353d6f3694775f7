//! What can go wrong with a download. Each message says what to do.

use std::io;
use std::path::PathBuf;

use super::Wanted;
use crate::os_words::os_words;

/// Why a file was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The URL cannot be asked for.
    #[error("{url:?} is not a URL that can be fetched from: {reason}; write https://HOST/PATH")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody answered, or the answer broke off, as often as it was tried.
    #[error(
        "{url}: {reason} ({}); check the network, and HTTPS_PROXY where there is a proxy, then run it again: what has \
         arrived is kept",
        tries(*attempts)
    )]
    Unreachable {
        /// What was asked for.
        url: String,
        /// What happened last.
        reason: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// Who answers is not known to be the one that was asked.
    #[error(
        "{url}: no safe connection: {reason}; check the clock of this box and its certificates (package ca-certificates, or \
         SSL_CERT_FILE)"
    )]
    Untrusted {
        /// What was asked for.
        url: String,
        /// What TLS complained about.
        reason: String,
    },
    /// The server says that it cannot now.
    #[error("{url}: the server answers {status} ({}); try again later: what has arrived is kept", tries(*attempts))]
    Busy {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
        /// How often it was tried.
        attempts: u32,
    },
    /// The server says no.
    #[error("{url}: the server answers {status}{}; --url or --mirror names another place", status_words(*status))]
    Refused {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// A redirect that is not followed.
    #[error("{url}: {reason}; --url or --mirror names another place")]
    Redirect {
        /// What was asked for.
        url: String,
        /// Why not.
        reason: &'static str,
    },
    /// It is another file.
    #[error(
        "{url}: the file there has {got} bytes and should have {expected}: it is another file, or something between here \
         and there answered instead (a login page, a proxy); --url or --mirror names another place"
    )]
    WrongSize {
        /// What was asked for.
        url: String,
        /// How large it should be.
        expected: u64,
        /// How large it is.
        got: String,
    },
    /// It has the right size and is another file.
    #[error(
        "{url}: the file there is not the one that is described (sha256 {actual}, it should be {expected}): it was \
         deleted; --url or --mirror names another place"
    )]
    WrongDigest {
        /// What was asked for.
        url: String,
        /// What it should be.
        expected: String,
        /// What came.
        actual: String,
    },
    /// There is no room for it.
    #[error(
        "{}: {needed_bytes} bytes are needed and {free_bytes} are free; make room, or choose another place with --dir",
        folder.display()
    )]
    NoRoom {
        /// Where.
        folder: PathBuf,
        /// How many bytes are still to come.
        needed_bytes: u64,
        /// How many fit.
        free_bytes: u64,
    },
    /// Somebody else fetches it now.
    #[error("{}: another process is fetching this file; wait for it", part.display())]
    InProgress {
        /// The part that is locked.
        part: PathBuf,
    },
    /// The disk says no.
    #[error("{}: {}", path.display(), os_words(cause))]
    Disk {
        /// Which file or folder.
        path: PathBuf,
        /// The operating system's words.
        cause: io::Error,
    },
}

fn tries(attempts: u32) -> String {
    if attempts == 1 { "tried once".to_owned() } else { format!("tried {attempts} times") }
}

fn status_words(status: u16) -> &'static str {
    match status {
        401 | 403 => ": it does not let us",
        404 | 410 => ": the file is not there (any more)",
        _ => "",
    }
}

impl DownloadError {
    pub(super) fn wrong_size(wanted: &Wanted, got: String) -> Self {
        Self::WrongSize { url: wanted.url.clone(), expected: wanted.size_bytes, got }
    }

    /// Whether the same request may succeed a little later.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Busy { .. })
    }

    /// Whether what has arrived is worth nothing.
    pub(super) fn is_about_content(&self) -> bool {
        matches!(self, Self::WrongSize { .. } | Self::WrongDigest { .. })
    }

    /// The same with the number of attempts.
    pub(super) fn after(mut self, count: u32) -> Self {
        if let Self::Unreachable { attempts, .. } | Self::Busy { attempts, .. } = &mut self {
            *attempts = count;
        }
        self
    }
}
