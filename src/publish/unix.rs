//! A Unix socket's file: made with its permissions, never over something that is not ours to replace, and
//! removed at the end only if it is still the one we made.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::PublishError;
use crate::config::Group;

/// `sun_path` on Linux, its closing NUL not counted.
const PATH_LIMIT_BYTES: usize = 107;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// The file of a listening socket. Dropping it removes the file, unless another has taken its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| found.dev() == self.device && found.ino() == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!("cannot remove the socket {}: {error}", self.path.display());
        }
    }
}

/// Binds and listens. The file has `mode` and `group` before anyone can connect, whatever the umask is: until
/// `listen` the kernel refuses every connection.
pub(super) fn listen(
    output: &str,
    path: &Path,
    mode: u32,
    group: Option<&Group>,
) -> Result<(OwnedFd, SocketFile), PublishError> {
    let gid = group.map(|group| gid_of(output, group)).transpose()?;
    let length = path.as_os_str().len();
    let address = match SocketAddrUnix::new(path) {
        Ok(address) if length <= PATH_LIMIT_BYTES => address,
        _ => {
            let (output, path) = (output.to_owned(), path.to_owned());
            return Err(PublishError::PathTooLong { output, path, length, limit: PATH_LIMIT_BYTES });
        }
    };
    make_way(output, path, &address)?;
    let failed = |errno: Errno| failure(output, path, errno.into());
    let socket = stream_socket().map_err(failed)?;
    // The file that bind makes takes its mode from the socket, less the umask: never more than asked for.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(mode)).map_err(failed)?;
    rustix::net::bind(&socket, &address).map_err(failed)?;
    let made = fs::symlink_metadata(path).map_err(|error| failure(output, path, error))?;
    let file = SocketFile { path: path.to_owned(), device: made.dev(), inode: made.ino() };
    if let Some((group, gid)) = group.zip(gid).filter(|(_, gid)| *gid != made.gid()) {
        // The file and not what it may point to by now.
        std::os::unix::fs::lchown(path, None, Some(gid))
            .map_err(|source| group_failure(output, path, group, source))?;
    }
    // What the umask took away.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|error| failure(output, path, error))?;
    rustix::net::listen(&socket, BACKLOG).map_err(failed)?;
    Ok((socket, file))
}

fn stream_socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// Removes the socket that a process which is gone has left behind; refuses to touch anything else.
fn make_way(output: &str, path: &Path, address: &SocketAddrUnix) -> Result<(), PublishError> {
    let Ok(found) = fs::symlink_metadata(path) else {
        // Not there, or not to be seen: bind will say what is wrong.
        return Ok(());
    };
    let (name, at) = (output.to_owned(), path.to_owned());
    if !found.file_type().is_socket() {
        return Err(PublishError::NotASocket { output: name, path: at });
    }
    let probe = stream_socket().map_err(|errno| failure(output, path, errno.into()))?;
    match rustix::net::connect(&probe, address) {
        // Again: its queue is full, but it is there.
        Ok(()) | Err(Errno::AGAIN) => Err(PublishError::SocketInUse { output: name, path: at }),
        Err(Errno::CONNREFUSED) => {
            tracing::info!("removing the socket {} that an ended process has left behind", path.display());
            fs::remove_file(path).map_err(|error| failure(output, path, error))
        }
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(PublishError::SocketUnclear { output: name, path: at, source: errno.into() }),
    }
}

fn failure(output: &str, path: &Path, source: io::Error) -> PublishError {
    let output = output.to_owned();
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new(".")).to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => PublishError::DirectoryMissing { output, directory },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            let permission = permission_of(&directory);
            PublishError::NotWritable { output, directory, user: current_user(), permission, source }
        }
        io::ErrorKind::AddrInUse => PublishError::SocketInUse { output, path: path.to_owned() },
        _ => PublishError::Listen {
            output,
            address: path.display().to_string(),
            source,
            advice: "choose another path",
        },
    }
}

/// The number of a group, which has to be one of this system's if it is given by name.
fn gid_of(output: &str, group: &Group) -> Result<u32, PublishError> {
    let name = match group {
        Group::Id(id) => return Ok(*id),
        Group::Name(name) => name,
    };
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let found = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    });
    found.ok_or_else(|| PublishError::UnknownGroup { output: output.to_owned(), group: name.clone() })
}

fn group_failure(output: &str, path: &Path, group: &Group, source: io::Error) -> PublishError {
    let (output, path, group) = (output.to_owned(), path.to_owned(), group.to_string());
    PublishError::GroupRefused { output, path, group, user: current_user(), source }
}

fn permission_of(directory: &Path) -> String {
    match fs::metadata(directory) {
        Ok(found) => format!("owner {}, mode {:04o}", user_name(found.uid()), found.mode() & 0o7777),
        Err(_) => "its permissions cannot be read".to_owned(),
    }
}

fn current_user() -> String {
    format!("user {}", user_name(rustix::process::geteuid().as_raw()))
}

/// `name (uid 997)`, or `uid 997` for a user without a line in /etc/passwd.
fn user_name(uid: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    });
    name.map_or_else(|| format!("uid {uid}"), |name| format!("{name} (uid {uid})"))
}
