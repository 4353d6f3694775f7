//! The real daemon under a stand-in for systemd: every message that it sends is checked.

use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Kills its process should the test fail.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _already_gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn message(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 1024];
    let length = socket.recv(&mut bytes).expect("a message in time");
    String::from_utf8(bytes[..length].to_vec()).expect("UTF-8")
}

#[test]
#[allow(clippy::disallowed_methods, reason = "systemd's clock is a real one")]
fn systemd_is_told_ready_then_alive_and_how_it_stands_then_stopping() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("config.toml");
    std::fs::write(
        &config,
        "[detector]\nmodel = \"demo\"\n[camera.scene]\nurl = \"test://scene\"\n\
         [camera.absent]\nurl = \"rtsp://127.0.0.1:9/none\"\n[debug]\nsocket = \"off\"\n",
    )
    .expect("written");
    let path = folder.path().join("notify.sock");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let child = Command::new(env!("CARGO_BIN_EXE_watchpost"))
        .args(["--log-format", "systemd", "run", "-c"])
        .arg(&config)
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "5000000")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut daemon = Daemon(child);

    // Ready although one camera is absent.
    assert_eq!(message(&socket).trim_end(), "READY=1");
    let (mut alive, mut status) = (0, String::new());
    while alive < 3 || !status.starts_with("STATUS=1 of 2 cameras up, 15 frames/s") {
        let message = message(&socket);
        match message.trim_end() {
            "WATCHDOG=1" => alive += 1,
            other => {
                assert!(other.starts_with("STATUS="), "{other}");
                status = other.to_owned();
            }
        }
        assert!(alive < 20, "the status is still {status}");
    }

    let pid = rustix::process::Pid::from_raw(i32::try_from(daemon.0.id()).expect("a pid")).expect("not 0");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    let asked = Instant::now();
    let mut last = String::new();
    while !last.contains("STOPPING=1") {
        last = message(&socket);
    }
    assert!(last.contains("EXTEND_TIMEOUT_USEC=1600000"), "{last}");
    assert!(daemon.0.wait().expect("its status").success());
    assert!(asked.elapsed() < Duration::from_secs(2));
}
