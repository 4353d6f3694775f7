//! One file per sub-command. A sub-command ends with `Ok(())` (0) or a [`Failure`].

pub mod model;

/// Exit codes, after sysexits.h.
pub mod exit {
    /// Wrong use of the command line.
    pub const USAGE: u8 = 64;
    /// An input is missing or cannot be read.
    pub const NO_INPUT: u8 = 66;
    /// A backend or device is unavailable.
    pub const UNAVAILABLE: u8 = 69;
    /// A fault of ours.
    pub const INTERNAL: u8 = 70;
    /// An output could not be written (disk full, file system read-only).
    pub const IO: u8 = 74;
    /// Try again: systemd restarts.
    pub const TRY_AGAIN: u8 = 75;
    /// The configuration is wrong: systemd does not restart.
    pub const CONFIG: u8 = 78;
}

/// Why a sub-command failed: what the user reads, and the exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// One of [`exit`].
    pub code: u8,
    /// What is wrong and what to do; may have several lines.
    pub message: String,
}

impl Failure {
    /// A failure with its exit code.
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}
