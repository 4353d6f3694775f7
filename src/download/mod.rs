//! Fetches one file whose size and SHA-256 are known before the first byte: resumable, verified, in place at once.
//!
//! ```text
//! .NAME.SHA.part ──► request from its end on ──► append, hash ──► size and digest right ──► sync, rename to NAME
//!       ▲                      │ cut, stalled, 5xx                       │ wrong
//!       └──── wait, again ─────┘                                         └► once more from the start if it was resumed
//! ```
//!
//! What arrives is never trusted: it counts only with the right digest, so a mirror, a proxy or plain HTTP can at worst
//! waste time. Memory is one buffer, whatever the file's size; the file never takes more than its known size on disk.

mod error;
mod http;
mod part;

pub use error::DownloadError;

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use crate::clock;
use http::{Answer, Client};
use part::Part;

/// What is to be fetched, and to where.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// `https://…` or, for a mirror that somebody named, `http://…`.
    pub url: String,
    /// SHA-256 of the whole file, 64 hexadecimal digits in lower case.
    pub sha256: String,
    /// Its size.
    pub size_bytes: u64,
    /// Where it will be; its folder is made.
    pub target: PathBuf,
}

/// How patient a download is.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// A connection that brings less than [`LEAST_BYTES_PER_S`] for so long is given up.
    pub stall_timeout: Duration,
    /// Further attempts after one that brought nothing.
    pub retries: u32,
    /// Before the first of them; doubled for each further one.
    pub first_delay: Duration,
}

impl Default for Patience {
    /// 30 s, 5 retries after 1, 2, 4, 8, 16 s.
    fn default() -> Self {
        Self { stall_timeout: Duration::from_secs(30), retries: 5, first_delay: Duration::from_secs(1) }
    }
}

/// A connection slower than this over the whole stall timeout stands still.
pub const LEAST_BYTES_PER_S: u64 = 256;
/// An attempt that brought this much was no failure: the next ones count from the start.
const WORTHWHILE_BYTES: u64 = 256 << 10;
/// What is read at once.
const BUFFER_BYTES: usize = 64 << 10;

/// What a download tells while it runs.
#[derive(Debug)]
pub enum News<'a> {
    /// So many bytes of the file are there.
    Bytes(u64),
    /// It goes on where an earlier one ended.
    Resumed(u64),
    /// The server sends the file from its start only: what was there is fetched again.
    StartedOver,
    /// An attempt failed; the next begins after `delay`.
    Retrying {
        /// What happened.
        error: &'a DownloadError,
        /// How long until the next.
        delay: Duration,
    },
}

/// Fetches a file, or finds that its part is complete already. Returns the bytes that came over the network.
///
/// # Errors
/// [`DownloadError`]. Unless the content is wrong, what has arrived stays beside the target and is used the next time.
pub fn fetch(
    wanted: &Wanted,
    patience: Patience,
    tell: &mut dyn FnMut(News<'_>),
) -> Result<u64, DownloadError> {
    let client = Client::new(&wanted.url, patience.stall_timeout)?;
    let mut part = Part::open(wanted)?;
    let mut fetched = 0;
    // Bytes that came from an earlier run or connection may belong to another file: they get one chance.
    let mut may_start_over = part.len() > 0;
    if part.len() > 0 {
        tell(News::Resumed(part.len()));
    }
    part.check_room(wanted.size_bytes)?;
    loop {
        fetched += complete(&client, wanted, patience, &mut part, tell)?;
        let actual = part.digest();
        if actual == wanted.sha256 {
            part.finish(&wanted.target)?;
            return Ok(fetched);
        }
        if !may_start_over {
            part.discard();
            let (url, expected) = (wanted.url.clone(), wanted.sha256.clone());
            return Err(DownloadError::WrongDigest { url, expected, actual });
        }
        may_start_over = false;
        part.truncate()?;
        tell(News::StartedOver);
    }
}

/// Attempts until the part has its size.
fn complete(
    client: &Client,
    wanted: &Wanted,
    patience: Patience,
    part: &mut Part,
    tell: &mut dyn FnMut(News<'_>),
) -> Result<u64, DownloadError> {
    let (mut fetched, mut failures) = (0, 0);
    let mut ranges = true;
    while part.len() < wanted.size_bytes {
        let before = part.len();
        let attempt = attempt(client, wanted, patience, part, &mut ranges, tell);
        let brought = part.len().saturating_sub(before);
        fetched += brought;
        let error = match attempt {
            Ok(()) => continue,
            Err(error) if error.is_transient() => error,
            Err(error) => {
                if error.is_about_content() {
                    part.discard();
                }
                return Err(error);
            }
        };
        failures = if brought >= WORTHWHILE_BYTES { 1 } else { failures + 1 };
        if failures > patience.retries {
            return Err(error.after(failures));
        }
        let delay = patience.first_delay * 2_u32.saturating_pow(failures - 1).min(64);
        tell(News::Retrying { error: &error, delay });
        let _nobody_sends = crossbeam_channel::never::<()>().recv_timeout(delay);
    }
    Ok(fetched)
}

/// One request; what it brings is in the part, also when it fails.
fn attempt(
    client: &Client,
    wanted: &Wanted,
    patience: Patience,
    part: &mut Part,
    ranges: &mut bool,
    tell: &mut dyn FnMut(News<'_>),
) -> Result<(), DownloadError> {
    let from = if *ranges { part.len() } else { 0 };
    let mut body = match client.get(from, wanted.size_bytes)? {
        Answer::Rest(body) => body,
        Answer::Whole(body) => {
            if part.len() > 0 {
                part.truncate()?;
                tell(News::StartedOver);
            }
            body
        }
        Answer::NoSuchRange => {
            *ranges = false;
            return Ok(());
        }
    };
    let unreachable = |reason| DownloadError::Unreachable { url: wanted.url.clone(), reason, attempts: 1 };
    let mut buffer = vec![0; BUFFER_BYTES];
    let (mut window_began, mut window_bytes) = (clock::now(), 0_u64);
    loop {
        let count = body.read(&mut buffer).map_err(|error| unreachable(http::read_failure(&error)))?;
        if count == 0 {
            break;
        }
        let total = part.len() + count as u64;
        if total > wanted.size_bytes {
            return Err(DownloadError::wrong_size(wanted, format!("more than {}", wanted.size_bytes)));
        }
        part.append(&buffer[..count])?;
        tell(News::Bytes(total));
        window_bytes += count as u64;
        let now = clock::now();
        let window = now.saturating_duration_since(window_began);
        if window >= patience.stall_timeout {
            if window_bytes < LEAST_BYTES_PER_S * window.as_secs().max(1) {
                return Err(unreachable(format!("only {window_bytes} bytes came in {} s", window.as_secs())));
            }
            (window_began, window_bytes) = (now, 0);
        }
    }
    if part.len() < wanted.size_bytes {
        let (got, all) = (part.len(), wanted.size_bytes);
        return Err(unreachable(format!("the connection ended after {got} of {all} bytes")));
    }
    Ok(())
}
