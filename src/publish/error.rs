//! Why an output cannot be opened, and what the user can do.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::os_words::plain_words;

/// An output could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The path does not fit the kernel's socket address.
    #[error(
        "output {output}: the socket path {path} has {length} bytes and the kernel takes at most {limit}; choose a shorter one",
        path = path.display()
    )]
    PathTooLong {
        /// The output's name.
        output: String,
        /// As configured.
        path: PathBuf,
        /// In bytes.
        length: usize,
        /// In bytes.
        limit: usize,
    },
    /// The socket's directory is not there.
    #[error(
        "output {output}: the directory {directory} for the socket does not exist; create it, or let systemd do it with RuntimeDirectory=",
        directory = directory.display()
    )]
    DirectoryMissing {
        /// The output's name.
        output: String,
        /// Where the socket should be.
        directory: PathBuf,
    },
    /// The socket's directory cannot be written.
    #[error(
        "output {output}: {user} may not create a socket in {directory} ({permission}): {words}; give that user write permission or choose another path",
        directory = directory.display(),
        words = plain_words(source)
    )]
    NotWritable {
        /// The output's name.
        output: String,
        /// Where the socket should be.
        directory: PathBuf,
        /// Who we are: name and uid.
        user: String,
        /// Owner and mode of the directory.
        permission: String,
        /// The kernel's words.
        source: io::Error,
    },
    /// No group has this name.
    #[error(
        "output {output}: there is no group {group} in /etc/group; create it (groupadd {group}), or write another name or a number"
    )]
    UnknownGroup {
        /// The output's name.
        output: String,
        /// As configured.
        group: String,
    },
    /// The socket cannot be given to the group.
    #[error(
        "output {output}: {user} may not give the socket {path} to the group {group} ({words}); let that user be in the group (usermod -aG, or SupplementaryGroups= in systemd), or leave `group` out",
        path = path.display(),
        words = plain_words(source)
    )]
    GroupRefused {
        /// The output's name.
        output: String,
        /// As configured.
        path: PathBuf,
        /// As configured.
        group: String,
        /// Who we are: name and uid.
        user: String,
        /// The kernel's words.
        source: io::Error,
    },
    /// Something that is no socket has the path.
    #[error("output {output}: {path} exists and is not a socket, so it is not replaced; move it away or choose another path", path = path.display())]
    NotASocket {
        /// The output's name.
        output: String,
        /// As configured.
        path: PathBuf,
    },
    /// A living process listens there.
    #[error(
        "output {output}: another process is listening on {path}; is watchpost running already? Stop it or choose another path",
        path = path.display()
    )]
    SocketInUse {
        /// The output's name.
        output: String,
        /// As configured.
        path: PathBuf,
    },
    /// A socket is there and does not let us find out whose it is.
    #[error(
        "output {output}: there is a socket at {path} and it cannot be told whether it is in use ({words}); remove it if it is not",
        path = path.display(),
        words = plain_words(source)
    )]
    SocketUnclear {
        /// The output's name.
        output: String,
        /// As configured.
        path: PathBuf,
        /// The kernel's words.
        source: io::Error,
    },
    /// Something has the port.
    #[error(
        "output {output}: another process is listening on {listen}; choose another port (`ss -ltnp` shows who it is)"
    )]
    PortInUse {
        /// The output's name.
        output: String,
        /// As configured.
        listen: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("output {output}: cannot listen on {address}: {}; {advice}", plain_words(source))]
    Listen {
        /// The output's name.
        output: String,
        /// As configured.
        address: String,
        /// The kernel's words.
        source: io::Error,
        /// What the user can do.
        advice: &'static str,
    },
    /// The process is short of something it needs for every output.
    #[error(
        "output {output}: cannot be set up: {}; check the limits on open files and threads",
        plain_words(source)
    )]
    Setup {
        /// The output's name.
        output: String,
        /// The kernel's words.
        source: io::Error,
    },
}
