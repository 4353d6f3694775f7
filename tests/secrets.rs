//! A password goes from its place in the configuration to the camera, and is shown nowhere: not in a log at
//! its most talkative, an error, a record, the state, the command line of the process.

mod program;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
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

/// A camera that sends everybody somewhere else, with user and password in the address.
fn redirecting(to: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let url = format!("rtsp://{}/stream", listener.local_addr().expect("an address"));
    let to = with_userinfo(to);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let Some(number) = lines.find_map(|line| line.strip_prefix("CSeq: ").map(str::to_owned)) else {
                continue;
            };
            let _rest = lines.find(String::is_empty);
            let answer = format!("RTSP/1.0 302 Moved\r\nCSeq: {number}\r\nLocation: {to}\r\n\r\n");
            let _gone = (&stream).write_all(answer.as_bytes());
            let _until_it_hangs_up = lines.count();
        }
    });
    url
}

/// As talkative as it can be made.
fn talkative(folder: &Path, args: &[&str]) -> Command {
    let mut command = watchpost(folder);
    command.args(["--log-level", "trace"]).args(args);
    command.env("GST_DEBUG", "9").env("GATE_PASSWORD", CANARY);
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
        ("redirected", redirecting(unreachable), "username = \"viewer\"\npassword_env = \"GATE_PASSWORD\"\n"),
        ("in-query", format!("{unreachable}?user=viewer&password={}", percent_encoded(CANARY)), ""),
    ]
    .iter()
    .map(|(name, url, more)| format!("[camera.{name}]\nurl = \"{url}\"\n{more}"))
    .collect();
    // Those that are refused try it again and again.
    config(folder.path(), &(cameras + "[supervisor]\nbackoff_min = \"100ms\"\nbackoff_max = \"300ms\"\n"));

    let mut daemon = Running::start(&mut talkative(folder.path(), &["run", "-c", "c.toml"]));
    let socket = folder.path().join("out.sock");
    eventually("the socket listens", || {
        assert!(daemon.is_running(), "the daemon has ended");
        UnixStream::connect(&socket).is_ok()
    });
    let lines = daemon.lines();
    let mut records = String::new();
    let (mut streaming, mut failed, mut refused_count) = (Vec::new(), Vec::new(), 0);
    // The three that are let in see something, and the others have failed for their own reasons.
    while streaming.len() < 3 || failed.len() < 5 || refused_count < 8 {
        let record = next_record(&lines, "camera_state");
        records += &format!("{record}\n");
        let camera = record["camera"].to_string();
        match record["state"].as_str() {
            Some("streaming") => streaming.push(camera),
            Some("backing_off") => {
                refused_count += usize::from(record["reason"] == "unauthorized");
                failed.push((camera, record["reason"].to_string()));
            }
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
    let state = run(watchpost(folder.path()).args(["debug", "--socket", "debug.sock"]));
    assert!(state.stdout.contains("refused-env"), "{}", state.stderr);
    assert_secret("debug", &state.stdout);
    assert_secret("the threads' names", &thread_names(pid));
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

fn thread_names(pid: u32) -> String {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("proc").flatten();
    tasks.map(|task| fs::read_to_string(task.path().join("comm")).unwrap_or_default()).collect()
}

/// Its environment can be read by every process of its user for as long as it builds: minutes.
#[test]
fn the_process_that_builds_an_engine_gets_no_password() {
    let folder = folder();
    let gate = camera(CANARY);
    let text = format!(
        "[detector]\nmodel = \"demo\"\nbackend = \"auto\"\nthreads = 1\n[camera.gate]\nurl = \"{}\"\nusername = \
         \"viewer\"\npassword_env = \"GATE_PASSWORD\"\n[debug]\nsocket = \"off\"\n",
        gate.url()
    );
    fs::write(folder.path().join("c.toml"), text).expect("written");
    let ledger = folder.path().join("ledger");
    let _ledger = watchpost_standins::Ledger::create(&ledger).expect("a ledger");
    let mut command = talkative(folder.path(), &["run", "-c", "c.toml"]);
    watchpost_standins::environment(&mut command, folder.path())
        .env("WATCHPOST_TENSORRT_LIB", watchpost_standins::tensorrt(10))
        .env("WATCHPOST_STANDIN", "nvinfer.build_ms=20000")
        .env("WATCHPOST_STANDIN_LEDGER", ledger)
        .env("WATCHPOST__CAMERA__OTHER__URL", with_userinfo("rtsp://127.0.0.1:1/x"))
        .env("CREDENTIALS_DIRECTORY", folder.path());
    let mut daemon = Running::start(&mut command);
    let lines = daemon.lines();
    next_record(&lines, "detections");
    let mut builder = None;
    eventually("an engine is built", || {
        builder = children(daemon.pid()).pop();
        builder.is_some_and(|pid| {
            // Its own environment, not what it has of ours until it becomes another program.
            String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default())
                .contains("build")
        })
    });
    let proc = |name: &str| {
        let bytes = fs::read(format!("/proc/{}/{name}", builder.expect("found"))).expect("it builds");
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let environment = proc("environ");
    assert!(environment.contains("WATCHPOST_TENSORRT_LIB") && environment.contains("CACHE_DIRECTORY"));
    assert_secret("the builder's environment", &environment);
    for name in ["GATE_PASSWORD", "CREDENTIALS_DIRECTORY", "WATCHPOST__"] {
        assert!(!environment.contains(name), "{name} is passed on");
    }
    assert_secret("the builder's command line", &proc("cmdline"));
    let ended = daemon.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_secret("the log", &ended.stderr);
    eventually("the builder goes with the daemon", || {
        !Path::new(&format!("/proc/{}", builder.expect("found"))).exists()
    });
}

/// Processes whose parent this is.
fn children(pid: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("proc").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parent = |child: u32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    pids.filter(|child| parent(*child) == Some(pid)).collect()
}
