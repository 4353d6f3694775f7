//! The camera as a process: orders on stdin, events on stdout, and every way to end it.

mod watcher;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;
use watcher::*;
use watchpost_testcam::Codec;

struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    fn start(arguments: &[&str]) -> Self {
        let mut child = command(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdin, stdout }
    }

    fn event(&mut self) -> Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: `{line}`"))
    }

    fn order(&mut self, line: &str) -> Value {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
        self.event()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_watchpost-testcam"));
    command.arg("serve").args(["--scene", "seed=7,width=320,height=192,fps=15"]).args(arguments);
    command
}

#[test]
fn orders_are_carried_out_and_answered() {
    let mut process = Process::start(&["--cameras", "2"]);
    let ready = process.event();
    assert_eq!(ready["event"], "ready");
    assert_eq!(ready["url"], ready["urls"][0]);
    let url = ready["urls"][1].as_str().unwrap().to_owned();
    let watcher = Watcher::connect(&url, Codec::H264, TCP);
    watcher.pictures(3);
    let stats = process.order("stats");
    assert_eq!(stats["cameras"][0]["clients"], 0);
    assert_eq!(stats["cameras"][1]["clients"], 1);
    assert!(stats["cameras"][1]["frames_sent"].as_u64().unwrap() >= 3);
    let fault = process.order("@1 fault close");
    assert_eq!((&fault["event"], &fault["name"]), (&Value::from("fault"), &Value::from("close")));
    let now_ns = watchpost_testcam::unix_ns();
    assert!(now_ns - fault["at_unix_ns"].as_u64().unwrap() < 5_000_000_000);
    watcher.end();
    assert_eq!(process.order("heal")["event"], "heal");
    assert_eq!(process.order("resolution 256 144")["width"], 256);
    let watcher = Watcher::connect(&url, Codec::H264, TCP);
    assert_eq!(watcher.picture().size, (256, 144));
    let error = process.order("fault explode");
    assert_eq!(error["event"], "error");
    assert!(error["message"].as_str().unwrap().contains("`explode`"));
    let bye = process.order("quit");
    assert_eq!((&bye["event"], &bye["reason"]), (&Value::from("bye"), &Value::from("quit")));
    assert!(process.child.wait().unwrap().success());
}

#[test]
fn it_ends_with_its_stdin_a_signal_or_its_time() {
    let mut process = Process::start(&[]);
    process.event();
    drop(process.stdin.take());
    assert_eq!(process.event()["reason"], "end of stdin");
    assert!(process.child.wait().unwrap().success());

    let mut process = Process::start(&[]);
    process.event();
    let pid = process.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(process.event()["reason"], "signal");
    assert!(process.child.wait().unwrap().success());

    let mut process = Process::start(&["--duration", "300ms"]);
    process.event();
    assert_eq!(process.event()["reason"], "duration over");
    assert!(process.child.wait().unwrap().success());
}

#[test]
fn it_ends_when_its_parent_dies() {
    // A shell between this process and the camera is killed; the camera's stdin stays open here.
    let program = env!("CARGO_BIN_EXE_watchpost-testcam");
    let script = format!("exec 3<&0; '{program}' serve <&3 & wait");
    let mut shell = Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdin = shell.stdin.take();
    let stdout = BufReader::new(shell.stdout.take().unwrap());
    let mut process = Process { child: shell, stdin, stdout };
    assert_eq!(process.event()["event"], "ready");
    process.child.kill().unwrap();
    process.child.wait().unwrap();
    assert_eq!(process.event()["reason"], "parent died");
}

#[test]
fn wrong_arguments_end_it_with_a_message_and_an_exit_code() {
    for (arguments, code, named) in [
        (&["--gop", "0"][..], 64, "gop is 0"),
        (&["--user", "viewer", "--password-env", "WATCHPOST_TESTCAM_UNSET"], 64, "WATCHPOST_TESTCAM_UNSET"),
        (&["--frame-log", "/nowhere/log"], 73, "/nowhere/log"),
    ] {
        let output = command(arguments).stdin(Stdio::null()).output().unwrap();
        let words = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{words}");
        assert!(words.contains(named) && words.lines().count() == 1, "{words}");
    }
    let program = env!("CARGO_BIN_EXE_watchpost-testcam");
    let output = Command::new(program).args(["serve", "--clip", "/nowhere.mp4"]).output().unwrap();
    assert_eq!(output.status.code(), Some(66));
}

#[test]
fn the_password_comes_from_the_environment() {
    let mut child = command(&["--user", "viewer", "--password-env", "CAMERA_PASSWORD"])
        .env("CAMERA_PASSWORD", "s3cret")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdin = child.stdin.take();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let mut process = Process { child, stdin, stdout };
    let ready = process.event();
    assert!(!ready.to_string().contains("s3cret"));
    let url = ready["url"].as_str().unwrap();
    let access = Access { transport: "tcp", user: "viewer", password: "s3cret" };
    Watcher::connect(url, Codec::H264, access).pictures(2);
}

#[test]
fn the_help_explains_every_fault() {
    let program = env!("CARGO_BIN_EXE_watchpost-testcam");
    let output = Command::new(program).args(["serve", "--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for (usage, _) in watchpost_testcam::FAULTS {
        assert!(help.contains(usage), "{usage} is not in the help");
    }
}
