//! A password goes from its place in the configuration to the camera, and is shown nowhere: not in a log at
//! its most talkative, an error, a record, the state, the command line of the process.

mod program;

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use program::{Ended, Running, eventually, next_record, run, watchpost};
use tempfile::TempDir;
use watchpost_testcam::{CameraOptions, Credentials, TestCamera};

const USER: &str = "viewer";
/// Has every kind of character that some text would write in another way.
const CANARY: &str = "cAnary+9/z$ 7q";
/// Base64 of `viewer:cAnary+9/z$ 7q` and of the password alone, less what padding changes.
const BASE64: [&str; 2] = ["dmlld2VyOmNBbmFyeSs5L3okID", "Y0FuYXJ5KzkveiQgN3"];

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            },
        )
        .collect()
}

/// Every way to write the canary, and the part that no way of writing changes.
fn forms() -> Vec<String> {
    let encoded = percent_encoded(CANARY);
    let mut forms = vec![CANARY.to_owned(), encoded.to_lowercase(), encoded, "cAnary".to_owned()];
    forms.extend(BASE64.map(str::to_owned));
    forms
}

#[track_caller]
fn assert_secret(what: &str, text: &str) {
    for form in forms() {
        if let Some(at) = text.find(&form) {
            let from = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
            let line = text[from..].lines().next().unwrap_or_default();
            panic!("{what} shows the password ({form}): {line}");
        }
    }
}

fn camera(password: &str) -> TestCamera {
    let credentials = Some(Credentials { user: USER.to_owned(), password: password.to_owned() });
    TestCamera::start(CameraOptions { credentials, ..CameraOptions::default() })
        .expect("the test camera starts")
}

/// A URL with user and password in it.
fn with_userinfo(url: &str) -> String {
    url.replace("rtsp://", &format!("rtsp://{USER}:{}@", percent_encoded(CANARY)))
}

fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("m.onnx"), program::blind_detector(2)).expect("written");
    fs::write(folder.path().join("password"), format!("{CANARY}\n")).expect("written");
    folder
}

fn config(folder: &Path, cameras: &str) {
    let path = |name: &str| folder.join(name).display().to_string();
    let text = format!(
        "[detector]\nmodel = \"m.onnx\"\n{cameras}\n[output.console]\ntype = \"stdout\"\n[output.local]\n\
         type = \"unix\"\npath = \"{}\"\n[debug]\nsocket = \"{}\"\n",
        path("out.sock"),
        path("debug.sock")
    );
    fs::write(folder.join("c.toml"), text).expect("written");
}

/// As talkative as it can be made.
fn talkative(folder: &Path, args: &[&str]) -> Command {
    let mut command = watchpost(folder);
    command.args(["--log-level", "trace"]).args(args);
    command.env("GST_DEBUG", "6").env("GATE_PASSWORD", CANARY);
    command
}

#[test]
fn the_daemon_shows_a_password_nowhere() {
    let (right, wrong) = (camera(CANARY), camera("another one"));
    let folder = folder();
    let unreachable = "rtsp://127.0.0.1:1/stream";
    let password_file =
        format!("username = \"viewer\"\npassword_file = \"{}\"\n", folder.path().join("password").display());
    let cameras: String = [
        ("from-url", with_userinfo(right.url()), ""),
        ("from-env", right.url().to_owned(), "username = \"viewer\"\npassword_env = \"GATE_PASSWORD\"\n"),
        ("from-file", right.url().to_owned(), &password_file),
        ("refused-url", with_userinfo(wrong.url()), ""),
        ("refused-env", wrong.url().to_owned(), "username = \"viewer\"\npassword_env = \"GATE_PASSWORD\"\n"),
        ("absent", with_userinfo(unreachable), ""),
        ("in-query", format!("{unreachable}?user=viewer&password={}", percent_encoded(CANARY)), ""),
    ]
    .iter()
    .map(|(name, url, more)| format!("[camera.{name}]\nurl = \"{url}\"\n{more}"))
    .collect();
    config(folder.path(), &cameras);

    let mut daemon = Running::start(&mut talkative(folder.path(), &["run", "-c", "c.toml"]));
    let socket = folder.path().join("out.sock");
    eventually("the socket listens", || {
        assert!(daemon.is_running(), "the daemon has ended");
        UnixStream::connect(&socket).is_ok()
    });
    let lines = daemon.lines();
    let mut records = String::new();
    let (mut streaming, mut failed) = (Vec::new(), Vec::new());
    // The three that are let in see something, and the others have failed for their own reasons.
    while streaming.len() < 3 || failed.len() < 4 {
        let record = next_record(&lines, "camera_state");
        records += &format!("{record}\n");
        let camera = record["camera"].to_string();
        match record["state"].as_str() {
            Some("streaming") => streaming.push(camera),
            Some("backing_off") => failed.push((camera, record["reason"].to_string())),
            _ => {}
        }
        streaming.dedup();
        failed.sort();
        failed.dedup();
    }
    assert!(streaming.iter().all(|camera| camera.starts_with("\"from-")), "{streaming:?}");
    assert!(failed.iter().filter(|(_, reason)| reason == "\"unauthorized\"").count() == 2, "{failed:?}");
    records += &next_record(&lines, "detections").to_string();

    let pid = daemon.pid();
    let proc = |name: &str| {
        String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/{name}")).expect("proc")).into_owned()
    };
    assert_secret("the command line", &proc("cmdline"));
    let state = run(watchpost(folder.path()).args(["debug", "--json", "--socket", "debug.sock"]));
    assert!(state.stdout.contains("from-env"), "{}", state.stderr);
    assert_secret("debug --json", &state.stdout);
    daemon.signal(rustix::process::Signal::USR1);
    next_record(&lines, "detections");
    let Ended { code, stderr, .. } = daemon.stop();
    assert_eq!(code, Some(0));
    assert_secret("a record", &records);
    // GStreamer's own words have come, through our log and not past it, and there are many of them.
    assert!(stderr.contains("rtspsrc"), "GStreamer's debug output is in the log");
    assert!(stderr.lines().count() > 1000, "{} lines", stderr.lines().count());
    assert_secret("the log", &stderr);
    let raw = stderr.lines().find(|line| line.starts_with("0:00:0"));
    assert!(raw.is_none(), "GStreamer writes past our log: {raw:?}");
}

#[test]
fn a_mistake_beside_a_password_is_shown_without_it() {
    let folder = folder();
    let userinfo = with_userinfo("rtsp://10.0.0.1/a");
    for (what, cameras) in [
        ("unknown key", format!("[camera.a]\nurll = \"{userinfo}\"\n")),
        ("broken line", format!("[camera.a]\nurl = \"{userinfo}\n")),
        ("broken URL", format!("[camera.a]\nurl = \"{}\"\n", userinfo.replace("10.0.0.1", "10.0.0.1:port"))),
        ("unknown scheme", format!("[camera.a]\nurl = \"{}\"\n", userinfo.replace("rtsp", "rtps"))),
        ("inline", format!("camera.a = {{ url = \"{userinfo}\", slots = 99 }}\n")),
        ("password in the file", format!("[camera.a]\nurl = \"csi://0\"\npassword = \"{CANARY}\"\n")),
        ("misspelt password", format!("[camera.a]\nurl = \"csi://0\"\npasword = \"{CANARY}\"\n")),
        ("wrong type", format!("[camera.a]\nurl = [\"{userinfo}\"]\n")),
    ] {
        fs::write(folder.path().join("c.toml"), format!("[detector]\nmodel = \"m.onnx\"\n{cameras}"))
            .expect("written");
        for command in ["run", "check"] {
            let ended = run(&mut talkative(folder.path(), &[command, "-c", "c.toml"]));
            ended.expect(&format!("{command}: {what}"), 78, &["c.toml"]);
            assert_secret(what, &ended.stderr);
        }
    }
    // What is right is shown with the secrets hidden.
    let cameras = format!(
        "[camera.a]\nurl = \"{userinfo}\"\n[camera.b]\nurl = \"rtsp://h/\"\nusername = \"viewer\"\n\
         password_env = \"GATE_PASSWORD\"\n[camera.c]\nurl = \"rtsp://h/x?password={}\"\n",
        percent_encoded(CANARY)
    );
    config(folder.path(), &cameras);
    for args in [&["check", "-c", "c.toml"][..], &["check", "-c", "c.toml", "--json"]] {
        let ended = run(&mut talkative(folder.path(), args));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(ended.stdout.contains("GATE_PASSWORD"), "{}", ended.stdout);
        assert_secret("check", &ended.stdout);
        assert_secret("check's log", &ended.stderr);
    }
    let mut variable = talkative(folder.path(), &["check", "-c", "c.toml"]);
    variable.env("WATCHPOST__CAMERA__A__URL", userinfo.replace("rtsp", "rtps"));
    let ended = run(&mut variable);
    ended.expect("in the environment", 78, &["WATCHPOST__CAMERA__A__URL"]);
    assert_secret("an environment variable", &ended.stderr);
}

#[test]
fn one_shot_commands_show_no_password_either() {
    let (right, wrong) = (camera(CANARY), camera("another one"));
    let folder = folder();
    let refused = with_userinfo(wrong.url());
    let absent = with_userinfo("rtsp://127.0.0.1:1/stream");
    let (good, odd) = (with_userinfo(right.url()), with_userinfo("rtsp://h/").replace("rtsp", "rtps"));
    let user = ["--username", USER, "--password-env", "GATE_PASSWORD"];
    let detect = ["-m", "m.onnx", "--max-frames", "3"];
    for (what, args, code) in [
        ("probe", &["probe", &good][..], 0),
        ("probe refused", &["probe", &refused], 66),
        ("probe absent", &["probe", &absent], 66),
        ("probe nonsense", &["probe", &odd], 64),
        ("probe by variable", &[&["probe", right.url()], &user[..]].concat(), 0),
        ("detect", &[&["detect", &good], &detect[..]].concat(), 0),
        ("detect refused", &[&["detect", &refused], &detect[..]].concat(), 66),
        ("detect absent", &[&["detect", &absent], &detect[..]].concat(), 66),
        ("detect nonsense", &[&["detect", &odd], &detect[..]].concat(), 64),
        ("a stray argument", &["devices", &good], 64),
        ("no such sub-command", &[&good], 64),
    ] {
        let Ended { code: ended, stdout, stderr } = run(&mut talkative(folder.path(), args));
        let last: Vec<&str> = stderr.lines().rev().filter(|line| !line.contains("TRACE")).take(5).collect();
        assert_eq!(ended, Some(code), "{what}: {last:#?}");
        assert_secret(&format!("{what}, stdout"), &stdout);
        assert_secret(&format!("{what}, stderr"), &stderr);
    }
}
