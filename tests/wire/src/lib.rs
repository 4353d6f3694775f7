//! Networks of their own for tests, and wires between them that can be told to misbehave.
//!
//! ```text
//!   daemon's network ── tun ─► wire (a thread of the test) ─► tun ── camera's network
//! ```
//!
//! A wire carries IP packets between the TCP stacks of two network namespaces. It loses, repeats, delays,
//! reorders and slows them like `tc netem`, which many kernels do not have, and it does what netem cannot: it
//! forgets connections as a NAT box does, and is plugged into another machine.
//!
//! Nothing here has a name on the machine or outlives the process: namespaces are held by descriptors, and
//! devices are gone with the descriptors that serve them, also when the process is killed.

mod conditions;
mod namespace;
mod tun;
mod wire;

pub use conditions::{Conditions, Counts};
pub use namespace::{Namespace, as_root, stage};
pub use wire::{Ends, Wire};

/// Why this machine cannot have such a network. The text says what is missing.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// The kernel, or who runs the container, does not allow it.
    #[error("{what}: {source}; run as root, with CAP_SYS_ADMIN and CAP_NET_ADMIN and with /dev/net/tun")]
    Refused {
        /// What was to be done.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program did not do what it was asked to.
    #[error("`{command}` failed: {said}")]
    Command {
        /// The command line.
        command: String,
        /// Its standard error.
        said: String,
    },
}

impl Unavailable {
    pub(crate) fn refused(what: &str) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.to_owned();
        move |source| Self::Refused { what, source }
    }
}

#[allow(clippy::disallowed_methods, reason = "packets between two kernels' stacks are late in real time")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}
