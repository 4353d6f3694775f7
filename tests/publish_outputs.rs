//! Opening outputs: what is refused, with which words, and what is left behind.

mod publish_support;

use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

use publish_support::{eventually, output, registry, start, tcp, unix};
use watchpost::clock;
use watchpost::config::{Group, OutputKind, OutputOptions};
use watchpost::publish::{PublishError, Publisher, footprint_bytes};

fn refused(outputs: &[OutputOptions]) -> PublishError {
    match Publisher::start(outputs, &registry(outputs), |_, _| {}) {
        Err(error) => error,
        Ok(_) => panic!("the outputs were opened"),
    }
}

fn mode_of(path: &Path) -> u32 {
    path.metadata().expect("is there").permissions().mode() & 0o7777
}

#[test]
fn the_socket_has_the_configured_permissions_whatever_the_umask() {
    let directory = tempfile::tempdir().expect("a directory");
    for mode in [0o600, 0o660, 0o666, 0o777] {
        let path = directory.path().join(format!("{mode:o}.sock"));
        let outputs = [output("local", OutputKind::Unix { path: path.clone(), mode, group: None })];
        let (publisher, _closed) = start(&outputs, &registry(&outputs));
        assert_eq!(mode_of(&path), mode);
        publisher.shutdown(clock::now());
        assert!(!path.exists());
    }
}

#[test]
fn the_socket_has_the_configured_group_or_says_why_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("s.sock");
    let of =
        |group| [output("local", OutputKind::Unix { path: path.clone(), mode: 0o640, group: Some(group) })];
    let own = rustix::process::getegid().as_raw();
    let is_root = rustix::process::geteuid().is_root();
    // `daemon` is group 1 on every system that has it; who is root may give it the socket.
    let daemon = std::fs::read_to_string("/etc/group").unwrap_or_default().contains("\ndaemon:x:1:");
    let mut given = vec![(Group::Id(own), own)];
    given.extend(is_root.then_some((Group::Id(54321), 54321)));
    given.extend((is_root && daemon).then(|| (Group::Name("daemon".to_owned()), 1)));
    for (group, gid) in given {
        let outputs = of(group.clone());
        let (publisher, _closed) = start(&outputs, &registry(&outputs));
        assert_eq!(path.metadata().expect("is there").gid(), gid, "{group}");
        assert_eq!(mode_of(&path), 0o640);
        publisher.shutdown(clock::now());
    }
    let error = refused(&of(Group::Name("no-such-group".to_owned())));
    assert!(matches!(error, PublishError::UnknownGroup { .. }), "{error}");
    assert!(error.to_string().contains("groupadd no-such-group"), "{error}");
    if !is_root {
        let error = refused(&of(Group::Id(0)));
        assert!(matches!(error, PublishError::GroupRefused { .. }), "{error}");
    }
    assert!(!path.exists(), "nothing is left behind");
}

#[test]
fn a_socket_that_an_ended_process_left_behind_is_replaced() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("s.sock");
    drop(UnixListener::bind(&path).expect("binds"));
    assert!(path.exists(), "a stale socket");
    let outputs = [unix("local", &path)];
    let (_publisher, _closed) = start(&outputs, &registry(&outputs));
    UnixStream::connect(&path).expect("it is ours now");
}

#[test]
fn a_socket_in_use_is_left_alone_and_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("s.sock");
    let outputs = [unix("local", &path)];
    let (_first, _closed) = start(&outputs, &registry(&outputs));
    let error = refused(&outputs);
    assert!(matches!(error, PublishError::SocketInUse { .. }), "{error}");
    assert!(error.to_string().contains(path.to_str().expect("UTF-8")), "{error}");
    UnixStream::connect(&path).expect("the first is as it was");

    let other = directory.path().join("datagram.sock");
    let _datagram = UnixDatagram::bind(&other).expect("binds");
    let error = refused(&[unix("local", &other)]);
    assert!(matches!(error, PublishError::SocketUnclear { .. }), "{error}");
    assert!(other.exists());
}

#[test]
fn something_that_is_no_socket_is_never_replaced() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("precious.txt");
    std::fs::write(&path, "precious").expect("writes");
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).expect("links");
    for path in [&path, &link, &directory.path().to_owned()] {
        let error = refused(&[unix("local", path)]);
        assert!(matches!(error, PublishError::NotASocket { .. }), "{error}");
    }
    assert_eq!(std::fs::read_to_string(&path).expect("reads"), "precious");
}

#[test]
fn a_directory_that_is_missing_or_not_writable_is_named_with_its_user_and_permission() {
    let directory = tempfile::tempdir().expect("a directory");
    let error = refused(&[unix("local", &directory.path().join("missing/s.sock"))]);
    assert!(matches!(error, PublishError::DirectoryMissing { .. }), "{error}");
    assert!(error.to_string().contains("missing"), "{error}");

    // A directory that not even root can create a socket in.
    let closed = Path::new("/sys/kernel");
    let error = refused(&[unix("local", &closed.join("s.sock"))]);
    assert!(matches!(error, PublishError::NotWritable { .. }), "{error:?}");
    let text = error.to_string();
    for part in ["/sys/kernel", "user ", "uid ", "mode 0", "owner root"] {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
}

#[test]
fn a_path_that_the_kernel_cannot_take_is_refused_with_its_length() {
    let directory = tempfile::tempdir().expect("a directory");
    let error = refused(&[unix("local", &directory.path().join("x".repeat(100)))]);
    assert!(matches!(error, PublishError::PathTooLong { limit: 107, .. }), "{error}");
}

#[test]
fn a_port_in_use_and_an_address_of_another_machine_are_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("binds");
    let listen = taken.local_addr().expect("bound");
    let error = refused(&[output("net", OutputKind::Tcp { listen })]);
    assert!(matches!(error, PublishError::PortInUse { .. }), "{error}");
    assert!(error.to_string().contains(&listen.to_string()), "{error}");

    let listen = "192.0.2.1:7000".parse().expect("an address");
    let error = refused(&[output("net", OutputKind::Tcp { listen })]);
    assert!(matches!(error, PublishError::Listen { .. }), "{error}");
    assert!(error.to_string().contains("this machine's own"), "{error}");
}

#[test]
fn nothing_is_left_behind_when_one_of_several_outputs_cannot_be_opened() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("s.sock");
    let missing = directory.path().join("missing/s.sock");
    refused(&[unix("good", &path), tcp("net"), unix("bad", &missing)]);
    assert!(!path.exists());
}

#[test]
fn a_socket_file_that_has_become_another_ones_is_not_removed() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("s.sock");
    let outputs = [unix("local", &path)];
    let (publisher, _closed) = start(&outputs, &registry(&outputs));
    std::fs::rename(&path, directory.path().join("moved")).expect("moves");
    let _successor = UnixListener::bind(&path).expect("binds");
    publisher.shutdown(clock::now());
    UnixStream::connect(&path).expect("the successor is untouched");
}

#[test]
fn a_long_name_and_no_outputs_at_all_are_fine() {
    let outputs = [tcp("an-output-with-a-rather-long-name")];
    let (publisher, _closed) = start(&outputs, &registry(&outputs));
    // A thread takes its name when it begins to run.
    eventually("the thread has its name", || {
        let tasks = std::fs::read_dir("/proc/self/task").expect("reads").flatten();
        let mut names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        names.any(|name| name == "publish-an-outp\n")
    });
    assert!(publisher.shutdown(clock::now()));
    let (publisher, _closed) = start(&[], &registry(&[]));
    assert!(!publisher.closed_stdout() && !publisher.closed_all());
    assert!(publisher.shutdown(clock::now()));
    let readers = footprint_bytes(&outputs[0]) - (1 << 20);
    assert!((64 * 65_536..70 * 65_536).contains(&readers), "ring and 64 readers: {readers}");
}
