//! Reload, as a user does it: the file is edited, SIGHUP or nothing is sent, and what did not change does not notice.

mod program;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam_channel::Receiver;
use program::{PATIENCE, Running, blind_detector, eventually, next_record, pause, record, watchpost};
use rustix::process::Signal;
use serde_json::Value;
use watchpost::clock;

/// The daemon with a configuration that can be edited.
struct Edited {
    folder: tempfile::TempDir,
    daemon: Running,
    lines: Receiver<String>,
}

fn config(model: &str, cameras: &str, more: &str) -> String {
    format!(
        "[detector]\nmodel = \"{model}\"\nbackend = \"builtin\"\nthreads = 1\n\n[debug]\nsocket = \"FOLDER/debug.sock\"\n\n\
         {cameras}\n[output.console]\ntype = \"stdout\"\n{more}\n"
    )
}

/// Sockets need absolute paths.
fn within(folder: &Path, text: &str) -> String {
    text.replace("FOLDER", &folder.to_string_lossy())
}

fn scene(name: &str, seed: u32, more: &str) -> String {
    format!("[camera.{name}]\nurl = \"test://scene?seed={seed}&fps=10&width=320&height=192\"\n{more}\n")
}

impl Edited {
    fn start(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("config.toml"), within(folder.path(), text)).expect("written");
        fs::write(folder.path().join("blind.onnx"), blind_detector(2)).expect("written");
        let mut command = watchpost(folder.path());
        let mut daemon = Running::start(command.args(["run", "-c", "config.toml"]));
        let lines = daemon.lines();
        Self { folder, daemon, lines }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn edit(&self, text: &str) {
        // As editors do it: a new file takes the place of the old one.
        let new = self.path().join("config.toml.new");
        fs::write(&new, within(self.path(), text)).expect("written");
        fs::rename(new, self.path().join("config.toml")).expect("renamed");
    }

    fn hangup(&self) {
        self.daemon.signal(Signal::HUP);
    }

    fn debug(&self) -> Value {
        let mut command = watchpost(self.path());
        let ended = program::run(command.args(["debug", "--json", "--socket", "./debug.sock"]));
        serde_json::from_str(&ended.stdout).unwrap_or_default()
    }

    /// Name, state and generation of every camera.
    fn cameras(&self) -> BTreeMap<String, (String, u64)> {
        let state = self.debug();
        let cameras = state["cameras"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let entry = |camera: &Value| {
            (text(&camera["name"]), (text(&camera["state"]), camera["generation"].as_u64().unwrap_or(0)))
        };
        cameras.iter().map(entry).collect()
    }

    /// Waits until the cameras are these, all streaming.
    #[track_caller]
    fn expect_streaming(&self, expected: &[(&str, u64)]) {
        let wanted: BTreeMap<_, _> = expected
            .iter()
            .map(|&(name, generation)| (name.to_owned(), ("streaming".to_owned(), generation)))
            .collect();
        eventually(&format!("cameras {wanted:?}; they are {:?}", self.cameras()), || {
            self.cameras() == wanted
        });
    }

    /// Everything that was published until now.
    fn drain(&self) -> Vec<Value> {
        self.lines.try_iter().map(|line| record(&line)).collect()
    }
}

fn detections<'a>(records: &'a [Value], camera: &str) -> Vec<&'a Value> {
    records.iter().filter(|r| r["type"] == "detections" && r["camera"] == camera).collect()
}

/// All of one opening, and none missing, but that on a busy machine a newer frame may take an older one's place.
#[track_caller]
fn assert_undisturbed(records: &[Value], camera: &str) {
    let of_camera = detections(records, camera);
    assert!(of_camera.len() > 10, "{camera}: {} records", of_camera.len());
    for pair in of_camera.windows(2) {
        assert_eq!(pair[1]["generation"], pair[0]["generation"]);
    }
    let dropped: u64 = of_camera[1..].iter().map(|r| r["dropped_since_last"].as_u64().unwrap_or(0)).sum();
    assert!(2 * dropped <= of_camera.len() as u64, "{camera} lost {dropped} of {}", of_camera.len());
}

#[test]
fn cameras_come_go_and_change_and_the_others_do_not_notice() {
    let before =
        config("demo", &(scene("keeps", 1, "") + &scene("changes", 2, "") + &scene("goes", 3, "")), "");
    let edited = Edited::start(&before);
    edited.expect_streaming(&[("keeps", 1), ("changes", 1), ("goes", 1)]);
    let mut records = edited.drain();

    let changed = scene("changes", 2, "detect_fps = 4");
    edited.edit(&config("demo", &(scene("keeps", 1, "") + &changed + &scene("comes", 4, "")), ""));
    edited.hangup();
    edited.expect_streaming(&[("keeps", 1), ("changes", 2), ("comes", 1)]);
    pause(Duration::from_millis(1500));
    records.extend(edited.drain());
    assert_undisturbed(&records, "keeps");
    assert!(detections(&records, "comes").len() > 3);
    let states: Vec<_> = records
        .iter()
        .filter(|r| r["type"] == "camera_state" && r["camera"] == "goes")
        .map(|r| (r["state"].as_str().unwrap_or(""), r["reason"].as_str().unwrap_or("")))
        .collect();
    assert_eq!(states.last(), Some(&("stopped", "shutdown")), "{states:?}");
    let numbers: Vec<_> =
        detections(&records, "changes").iter().map(|r| r["seq"].as_u64().unwrap_or(0)).collect();
    assert!(numbers.is_sorted(), "its frame numbers go on: {numbers:?}");
    let state = edited.debug();
    let keeps =
        state["cameras"].as_array().and_then(|all| all.iter().find(|c| c["name"] == "keeps").cloned());
    let outcomes = keeps.expect("it is there")["outcomes"].clone();
    for lost in ["stale_generation", "engine_error", "decode_error", "shutdown"] {
        assert_eq!(outcomes[lost], 0, "the reload cost it frames: {outcomes}");
    }
    let counters = state["counters"].to_string();
    assert!(!counters.contains("\"goes\"") && !counters.contains("goes"), "its counters are gone");

    // What is only read from the results needs no other opening.
    let filtered = scene("keeps", 1, "classes = [\"dog\"]\nscore_threshold = 0.5");
    edited.edit(&config("demo", &(filtered + &changed + &scene("comes", 4, "")), ""));
    edited.hangup();
    let only_dogs =
        |r: &Value| r["objects"].as_array().is_some_and(|o| o.iter().all(|o| o["label"] == "dog"));
    eventually("only dogs are published", || {
        pause(Duration::from_millis(700));
        let records = edited.drain();
        let of_camera = detections(&records, "keeps");
        of_camera.len() > 3 && of_camera.iter().all(|r| only_dogs(r))
    });
    edited.expect_streaming(&[("keeps", 1), ("changes", 2), ("comes", 1)]);
    let ended = edited.daemon.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("new camera comes; changed camera changes; removed camera goes"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_wrong_configuration_is_refused_with_its_messages_and_the_old_one_runs_on() {
    let cameras = scene("keeps", 1, "");
    let edited = Edited::start(&config("demo", &cameras, ""));
    edited.expect_streaming(&[("keeps", 1)]);
    let occupied = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = occupied.local_addr().expect("bound").port();
    let taken = format!(
        "[output.net]\ntype = \"tcp\"\nlisten = \"127.0.0.1:{port}\"\n[output.file]\ntype = \"unix\"\npath = \"FOLDER/a.sock\""
    );
    let wrong = [
        config("demo", &(cameras.clone() + &scene("bad name", 2, "")), ""),
        config("demo", &scene("keeps", 1, "classes = [\"unicorn\"]"), ""),
        config("no-such-model", &cameras, ""),
        config("demo", &(cameras.clone() + &scene("comes", 2, "")), &taken),
        "not toml".to_owned(),
    ];
    for text in &wrong {
        edited.edit(text);
        edited.hangup();
        pause(Duration::from_millis(600));
        edited.expect_streaming(&[("keeps", 1)]);
    }
    assert!(!edited.path().join("a.sock").exists(), "what was opened in vain is closed");
    let records = edited.drain();
    assert_undisturbed(&records, "keeps");
    let ended = edited.daemon.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for words in
        ["config.toml:", "unicorn", "no-such-model", "another process is listening", "the one in use stays"]
    {
        assert!(ended.stderr.contains(words), "{words:?} is not in:\n{}", ended.stderr);
    }
    assert_eq!(ended.stderr.matches("the one in use stays").count(), wrong.len(), "{}", ended.stderr);
}

#[test]
fn outputs_come_and_go_and_a_changed_file_is_enough() {
    let cameras = scene("keeps", 1, "");
    let edited = Edited::start(&config("demo", &cameras, ""));
    edited.expect_streaming(&[("keeps", 1)]);
    let socket: PathBuf = edited.path().join("more.sock");
    edited.edit(&config("demo", &cameras, "[output.more]\ntype = \"unix\"\npath = \"FOLDER/more.sock\""));
    // Nobody sends a signal.
    eventually("the new socket is there", || socket.exists());
    let stream = std::os::unix::net::UnixStream::connect(&socket).expect("somebody listens");
    let mut reader = std::io::BufReader::new(stream);
    let mut line = String::new();
    std::io::BufRead::read_line(&mut reader, &mut line).expect("a record comes");
    record(&line);
    edited.edit(&config("demo", &cameras, ""));
    eventually("the socket is gone", || !socket.exists());
    let rest = std::io::Read::read_to_end(&mut reader, &mut Vec::new());
    assert!(rest.is_ok(), "its reader is told in order");
    next_record(&edited.lines, "detections");
    edited.expect_streaming(&[("keeps", 1)]);
    assert_undisturbed(&edited.drain(), "keeps");
    assert_eq!(edited.daemon.stop().code, Some(0));
}

#[test]
fn the_model_can_be_changed_while_cameras_run() {
    let cameras = scene("keeps", 1, "") + &scene("other", 2, "");
    let edited = Edited::start(&config("demo", &cameras, ""));
    edited.expect_streaming(&[("keeps", 1), ("other", 1)]);
    for model in ["./blind.onnx", "demo", "./blind.onnx", "demo"] {
        edited.edit(&config(model, &cameras, ""));
        edited.hangup();
        let name = Path::new(model).file_stem().expect("a name").to_string_lossy().into_owned();
        let deadline = clock::now() + PATIENCE;
        let mut records = Vec::new();
        loop {
            let line = edited.lines.recv_deadline(deadline).expect("records go on");
            records.push(record(&line));
            if detections(&records, "keeps").last().is_some_and(|r| r["model"]["name"] == name.as_str()) {
                break;
            }
        }
        let empty = |r: &&Value| r["objects"].as_array().is_some_and(Vec::is_empty);
        let blind = detections(&records, "keeps").into_iter().filter(|r| r["model"]["name"] == "blind");
        assert!(blind.clone().count() == blind.filter(empty).count(), "the blind one sees nothing");
    }
    edited.expect_streaming(&[("keeps", 1), ("other", 1)]);
    let state = edited.debug();
    for camera in state["cameras"].as_array().expect("cameras") {
        assert_eq!(camera["restarts"], 0);
    }
    assert_eq!(edited.daemon.stop().code, Some(0));
}
