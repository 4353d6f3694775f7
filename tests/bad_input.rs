//! Everything a user can get wrong before a frame is seen: configuration, model, input, command line. Each
//! ends with its exit code, says what is wrong and what to do, and costs nothing that was right.

mod program;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use program::onnx_writer::{Onnx, dims};
use program::{Ended, Running, blind_detector, contents, next_record, pause, record, run, shared, watchpost};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const SCENE: &str = "[camera.gate]\nurl = \"test://scene?fps=10\"\n";

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn write(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    fs::write(folder.join(name), bytes).expect("written");
}

fn end(folder: &Path, args: &[&str]) -> Ended {
    run(watchpost(folder).args(args))
}

/// An ONNX file that can be run and is no detector.
fn classifier() -> Vec<u8> {
    let shape = dims(&[1, 1000]);
    Onnx::doubling(&shape).encode()
}

fn manifest(sha256: &str, labels: &str) -> String {
    format!(
        "schema = 1\nname = \"m\"\nfile = \"m.onnx\"\nsha256 = \"{sha256}\"\n[input]\nwidth = 64\nheight = 64\n\
         channels = \"rgb\"\nfit = \"letterbox-center\"\npad = 114\nscale = [0.0039, 0.0039, 0.0039]\n\
         offset = [0.0, 0.0, 0.0]\n[head]\nfamily = \"yolov8\"\n[labels]\n{labels}\n"
    )
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_wrong_configuration_ends_with_78_and_shows_the_place() {
    for (what, text, words) in [
        ("broken TOML", "[detector\nmodel = \"m.onnx\"\n", &["c.toml:1", "closing ]"][..]),
        (
            "unknown key",
            "[detector]\nmodel = \"m.onnx\"\n[camera.gate]\nurl = \"test://scene\"\nstall_timout = \"5s\"\n",
            &["c.toml:5", "stall_timout", "did you mean `stall_timeout`?"],
        ),
        ("no url", "[detector]\nmodel = \"m.onnx\"\n[camera.gate]\nslots = 2\n", &["url", "rtsp://"]),
        (
            "illegal name",
            "[detector]\nmodel = \"m.onnx\"\n[camera.\"front door\"]\nurl = \"test://scene\"\n",
            &["front door", "a-z"],
        ),
        (
            "unknown scheme",
            "[detector]\nmodel = \"m.onnx\"\n[camera.a]\nurl = \"http://x/\"\n",
            &["c.toml:4", "rtsp://"],
        ),
        ("nothing in it", "", &["model", "[camera."]),
        (
            "unknown class",
            "",
            &["camera.gate.classes", "\"labell\" (did you mean \"label", "it has: label0, label1"],
        ),
    ] {
        let folder = folder();
        write(folder.path(), "m.onnx", blind_detector(2));
        let with_class = format!("[detector]\nmodel = \"m.onnx\"\n{SCENE}classes = [\"labell\"]\n");
        write(folder.path(), "c.toml", if what == "unknown class" { with_class.as_str() } else { text });
        let before = contents(folder.path());
        for command in ["run", "check"] {
            let ended = end(folder.path(), &[command, "-c", "c.toml"]);
            ended.expect(&format!("{command}: {what}"), 78, words);
            assert_eq!(ended.stdout, "", "{what}: stdout is for records");
        }
        assert_eq!(contents(folder.path()), before, "{what}: nothing is left behind");
    }
    let folder = folder();
    let missing = ["there is no configuration file", "-c FILE", "[camera.gate]", "watchpost demo"];
    end(folder.path(), &["run", "-c", "absent.toml"]).expect("missing config", 78, &missing);
}

/// File name, bytes, and what must be said of them.
type BadModel = (&'static str, Vec<u8>, &'static [&'static str]);

fn bad_models() -> Vec<BadModel> {
    let whole = blind_detector(2);
    let noise: Vec<u8> = (0..4096_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut models: Vec<BadModel> = vec![
        ("zero.onnx", Vec::new(), &["is empty (0 bytes)", "download it again"]),
        ("text.onnx", b"just some text, no model\n".to_vec(), &["is not an ONNX model", "copy it again"]),
        ("noise.onnx", noise, &["is not an ONNX model", "check that this is the file you mean"]),
        (
            "shape.onnx",
            classifier(),
            &["has an input this detector cannot be fed with", "use a detection model"],
        ),
        (
            "lfs.onnx",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n".to_vec(),
            &["Git LFS pointer", "git lfs pull"],
        ),
    ];
    for (name, percent) in [("cut1.onnx", 3), ("cut50.onnx", 50), ("cut99.onnx", 99)] {
        models.push((
            name,
            whole[..whole.len() * percent / 100].to_vec(),
            &["is truncated", "copy it again"],
        ));
    }
    models
}

#[test]
fn a_model_that_is_none_ends_with_66_and_in_a_configuration_with_78() {
    for (name, bytes, words) in bad_models() {
        let folder = folder();
        write(folder.path(), name, bytes);
        write(folder.path(), "c.toml", format!("[detector]\nmodel = \"{name}\"\n{SCENE}"));
        write(folder.path(), "a.jpg", "never opened");
        bad_model(folder.path(), name, words);
    }
    let folder = folder();
    write(folder.path(), "a.jpg", "never opened");
    fs::create_dir(folder.path().join("folder.onnx")).expect("made");
    for (name, words) in [
        ("absent.onnx", &["absent.onnx: No such file", "check the path"][..]),
        ("folder.onnx", &["folder.onnx", "is a folder"]),
        ("absent/model", &["a path must end in .toml", ".onnx"]),
    ] {
        write(folder.path(), "c.toml", format!("[detector]\nmodel = \"{name}\"\n{SCENE}"));
        bad_model(folder.path(), name, words);
    }
    let unknown = ["there is no model \"nope\"", "watchpost model add FILE.onnx"];
    end(folder.path(), &["detect", "a.jpg", "-m", "nope"]).expect("unknown name", 66, &unknown);
}

fn bad_model(folder: &Path, name: &str, words: &[&str]) {
    let before = contents(folder);
    for (args, code) in [
        (&["detect", "a.jpg", "-m", name][..], 66),
        (&["model", "show", name], 66),
        (&["run", "-c", "c.toml"], 78),
        (&["check", "-c", "c.toml"], 78),
    ] {
        let ended = end(folder, args);
        ended.expect(&format!("{} {name}", args[0]), code, words);
        assert_eq!(ended.stdout, "");
    }
    if Path::new(name).extension().is_some() {
        end(folder, &["model", "add", name]).expect(&format!("model add {name}"), 66, words);
    }
    assert_eq!(contents(folder), before, "{name}: nothing is left behind, no manifest either");
}

#[test]
fn a_manifest_that_does_not_fit_its_model_is_told_apart() {
    let onnx = blind_detector(2);
    let digest = sha256(&onnx);
    let two = "names = [\"a\", \"b\"]";
    for (what, text, extra, words) in [
        (
            "wrong sha256",
            manifest(&"0".repeat(64), two),
            None,
            &["not the file that the manifest", "model add"][..],
        ),
        (
            "label count",
            manifest(&digest, "names = [\"a\", \"b\", \"c\"]"),
            None,
            &["3 names", "2 classes", "one name per class"],
        ),
        (
            "labels missing",
            manifest(&digest, "file = \"l.txt\""),
            None,
            &["l.txt: No such file", "check the path"],
        ),
        (
            "labels not UTF-8",
            manifest(&digest, "file = \"l.txt\""),
            Some(&b"a\n\xff\xfe\n"[..]),
            &["l.txt", "not UTF-8", "save it as UTF-8"],
        ),
        (
            "labels with a gap",
            manifest(&digest, "file = \"l.txt\""),
            Some(b"a\n\nb\n"),
            &["l.txt", "label 2 is empty", "one label a line"],
        ),
        (
            "another size",
            manifest(&digest, two).replace("width = 64", "width = 96"),
            None,
            &["96x64", "[1, 3, 64, 64]", "model add m.onnx --force"],
        ),
        ("unknown key", manifest(&digest, two).replace("pad =", "padd ="), None, &["m.toml:", "\"pad\""]),
        ("broken TOML", "schema = 1\nname = \n".to_owned(), None, &["m.toml:2:"]),
    ] {
        let folder = folder();
        write(folder.path(), "m.onnx", &onnx);
        write(folder.path(), "m.toml", text);
        write(folder.path(), "c.toml", format!("[detector]\nmodel = \"m.toml\"\n{SCENE}"));
        write(folder.path(), "a.jpg", "never opened");
        if let Some(labels) = extra {
            write(folder.path(), "l.txt", labels);
        }
        end(folder.path(), &["detect", "a.jpg", "-m", "m.toml"]).expect(what, 66, words);
        end(folder.path(), &["run", "-c", "c.toml"]).expect(what, 78, words);
    }
}

#[test]
fn what_this_box_cannot_do_ends_with_69_and_the_reason() {
    for (key, words) in [
        ("backend = \"tensorrt\"", &["tensorrt", "is unavailable", "backend = \"auto\""][..]),
        ("backend = \"openvino\"", &["openvino", "no libopenvino_c.so", "backend = \"auto\""]),
        ("precision = \"int8\"", &["precision int8", "fp32 only", "precision = \"auto\""]),
        ("precision = \"fp16\"", &["precision fp16", "fp32 only"]),
    ] {
        let folder = folder();
        write(folder.path(), "m.onnx", blind_detector(2));
        write(folder.path(), "c.toml", format!("[detector]\nmodel = \"m.onnx\"\n{key}\n{SCENE}"));
        for command in ["run", "check"] {
            end(folder.path(), &[command, "-c", "c.toml"]).expect(&format!("{command}: {key}"), 69, words);
        }
    }
}

#[test]
fn wrong_use_of_the_command_line_ends_with_64() {
    let folder = folder();
    write(folder.path(), "m.onnx", blind_detector(2));
    write(folder.path(), "a.jpg", "never opened");
    let detect = ["detect", "a.jpg", "-m", "m.onnx"];
    for (args, words) in [
        (&["detec"][..], &["detec", "detect", "--help"][..]),
        (&[], &["Usage"]),
        (&["run", "--bogus"], &["--bogus", "--help"]),
        (&["detect"], &["INPUTS", "Usage"]),
        (&[&detect[..], &["--max-frames", "0"]].concat(), &["--max-frames", "a whole number from 1"]),
        (&[&detect[..], &["--max-frames", "many"]].concat(), &["--max-frames", "a whole number from 1"]),
        (&[&detect[..], &["--every", "-1"]].concat(), &["'-1'"]),
        (&[&detect[..], &["--score-threshold", "2"]].concat(), &["between 0 and 1"]),
        (
            &[&detect[..], &["--classes", "lable1"]].concat(),
            &["no label \"lable1\" (did you mean \"label1\"?)"],
        ),
        (&[&detect[..], &["-o", "a.jpg"]].concat(), &["--output a.jpg", "choose another one"]),
        (&[&detect[..], &["--summary", "m.onnx"]].concat(), &["--summary m.onnx", "choose another one"]),
        (&[&detect[..], &["-o", "x", "--summary", "x"]].concat(), &["--summary x", "choose another one"]),
        (&["detect", "http://x/a.mp4", "-m", "m.onnx"], &["http://", "known are rtsp://"]),
        (&["detect", "test://scene", "-m", "m.onnx"], &["never ends", "watchpost run"]),
        (&["probe", "10.0.0.12"], &["the URL has no scheme", "rtsp://HOST/PATH"]),
        (&["probe", "rtsp://h/", "--timeout", "3"], &["--timeout", "\"3s\""]),
        (&["probe", "rtsp://h/", "--password-env", "NOT_SET"], &["NOT_SET is not set"]),
        (&["completions", "fishy"], &["fishy", "fish"]),
        (&["--log-level", "a=b=c", "devices"], &["--log-level", "try info or debug"]),
        (&["model", "add", "m.onnx", "--size", "640"], &["640x384"]),
    ] {
        let ended = end(folder.path(), args);
        ended.expect(&args.join(" "), 64, words);
        assert_eq!(ended.stdout, "");
    }
    assert_eq!(fs::read(folder.path().join("a.jpg")).expect("there"), b"never opened");
    assert_eq!(fs::read(folder.path().join("m.onnx")).expect("there"), blind_detector(2));
}

/// A video without pictures, or `None` where this machine cannot make one.
fn audio_only(path: &Path) -> Option<()> {
    let location = format!("location={}", path.display());
    let pipeline = ["-q", "audiotestsrc", "num-buffers=20", "!", "wavenc", "!", "filesink", &location];
    let made = Command::new("gst-launch-1.0").args(pipeline).status().is_ok_and(|status| status.success());
    if !made {
        eprintln!("NOT TESTED: a file with sound only; gst-launch-1.0 or wavenc is not installed");
    }
    made.then_some(())
}

#[test]
fn an_input_that_is_no_video_ends_with_66() {
    let folder = folder();
    let noise: Vec<u8> = (0..100_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    write(folder.path(), "m.onnx", blind_detector(2));
    write(folder.path(), "zero.mp4", "");
    write(folder.path(), "zero.jpg", "");
    write(folder.path(), "noise.mp4", &noise);
    write(folder.path(), "noise.jpg", &noise);
    write(folder.path(), "text.mp4", "this is a text, whatever its name says\n".repeat(9));
    fs::create_dir(folder.path().join("empty")).expect("made");
    let audio = audio_only(&folder.path().join("audio.wav"));
    let before = contents(folder.path());
    for (name, words) in [
        ("absent.mp4", &["absent.mp4: No such file", "check the path"][..]),
        ("zero.mp4", &["zero.mp4 is empty"]),
        ("zero.jpg", &["zero.jpg is empty"]),
        ("noise.mp4", &["noise.mp4", "not a video"]),
        ("noise.jpg", &["noise.jpg"]),
        ("text.mp4", &["text.mp4", "not a video"]),
        ("empty", &["the folder holds no images", "jpg"]),
        ("audio.wav", &["audio.wav has no video"]),
    ] {
        if name == "audio.wav" && audio.is_none() {
            continue;
        }
        let ended = end(folder.path(), &["detect", name, "-m", "m.onnx"]);
        ended.expect(name, 66, words);
        assert_eq!(ended.stdout, "", "{name}: nothing was decoded");
        assert_eq!(ended.stderr.matches(name).count(), 1, "{name} is named once: {}", ended.stderr);
        let url = format!("file://{}", folder.path().join(name).display());
        if !["empty", "zero.jpg", "noise.jpg"].contains(&name) {
            end(folder.path(), &["probe", &url]).expect(&format!("probe {name}"), 66, &[name]);
        }
    }
    assert_eq!(contents(folder.path()), before, "nothing is left behind");
}

#[test]
fn one_bad_input_among_good_ones_costs_only_itself() {
    let Some(photos) = shared("footage/photos") else { return };
    let folder = folder();
    let images = folder.path().join("images");
    fs::create_dir(&images).expect("made");
    write(folder.path(), "m.onnx", blind_detector(2));
    write(folder.path(), "zero.mp4", "");
    let dog = fs::read(photos.join("dog.jpg")).expect("a photo");
    for (name, bytes) in
        [("a.jpg", &dog[..]), ("b.jpg", &dog[..dog.len() / 20]), ("c.jpg", b"text"), ("d.jpg", &dog)]
    {
        fs::write(images.join(name), bytes).expect("written");
    }
    let dog = photos.join("dog.jpg").display().to_string();
    let args = ["detect", "zero.mp4", "images", "absent.mp4", &dog, "-m", "m.onnx", "--summary", "s.json"];
    let ended = end(folder.path(), &args);
    ended.expect(
        "bad among good",
        66,
        &["images/b.jpg", "images/c.jpg", "zero.mp4 is empty", "absent.mp4: No such"],
    );
    let cameras: Vec<String> = ended.records().iter().map(|record| record["camera"].to_string()).collect();
    assert_eq!(cameras, ["\"images/a.jpg\"", "\"images/d.jpg\"", &format!("\"{dog}\"")]);
    let summary = fs::read_to_string(folder.path().join("s.json")).expect("the summary is there, too");
    let summary: serde_json::Value = serde_json::from_str(&summary).expect("JSON");
    assert_eq!(summary["frames"], 3);
}

#[test]
fn a_camera_that_cannot_be_probed_says_why() {
    use watchpost_testcam::{CameraOptions, Credentials, TestCamera};
    let credentials = Credentials { user: "viewer".to_owned(), password: "right".to_owned() };
    let camera =
        TestCamera::start(CameraOptions { credentials: Some(credentials), ..CameraOptions::default() })
            .expect("the test camera starts");
    // A port that was free a moment ago.
    let free =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let absent_path = camera.url().rsplit_once('/').expect("a path").0.to_owned() + "/no-such-stream";
    let with_user = ["--username", "viewer", "--password-env", "GATE_PASSWORD"];
    for (what, url, password, words) in [
        (
            "refused port",
            format!("rtsp://127.0.0.1:{free}/x"),
            "",
            &["refuses connections", "check the port"][..],
        ),
        (
            "unknown host",
            "rtsp://no-such-host.invalid/x".to_owned(),
            "",
            &["cannot be reached", "check the host name"],
        ),
        ("no password", camera.url().to_owned(), "", &["asks for a user and a password"]),
        (
            "wrong password",
            camera.url().to_owned(),
            "wrong-one",
            &["does not accept user \"viewer\"", "check both"],
        ),
        ("unknown path", absent_path, "right", &["no-such-stream", "check the path"]),
        ("no such device", "v4l2:///dev/video97".to_owned(), "", &["/dev/video97 does not exist"]),
    ] {
        let folder = folder();
        let mut command = watchpost(folder.path());
        command.args(["probe", &url, "--timeout", "20s"]).env("GATE_PASSWORD", password);
        if !password.is_empty() {
            command.args(with_user);
        }
        let ended = run(&mut command);
        ended.expect(what, 66, words);
        assert_eq!(ended.stdout, "");
        assert!(!ended.stderr.contains("wrong-one"), "{what}: {}", ended.stderr);
    }
    let folder = folder();
    let mut command = watchpost(folder.path());
    command.args(["probe", camera.url(), "--json"]).args(with_user).env("GATE_PASSWORD", "right");
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(0), "and the right one is let in: {}", ended.stderr);
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!((&report["width"], &report["height"]), (&640.into(), &360.into()));
}

/// Passes one connection on to `port`, and its first bytes only after a while, like a camera that is far away.
fn slow_door(port: u16, delay: Duration) -> u16 {
    let door = TcpListener::bind("127.0.0.1:0").expect("listens");
    let own_port = door.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        let (client, _) = door.accept().expect("a client");
        pause(delay);
        let camera = TcpStream::connect(("127.0.0.1", port)).expect("the camera");
        for (from, to) in [(&client, &camera), (&camera, &client)] {
            let (mut from, mut to) = (from.try_clone().expect("a clone"), to.try_clone().expect("a clone"));
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        }
    });
    own_port
}

#[test]
fn a_camera_that_takes_its_time_to_answer_is_waited_for() {
    let camera = watchpost_testcam::TestCamera::start(watchpost_testcam::CameraOptions::default())
        .expect("the test camera starts");
    let port = camera.url().split([':', '/']).find_map(|part| part.parse().ok()).expect("a port");
    let slow = slow_door(port, Duration::from_millis(900));
    let url = camera.url().replace(&port.to_string(), &slow.to_string());
    let folder = folder();
    write(folder.path(), "m.onnx", blind_detector(2));
    let ended = end(folder.path(), &["detect", &url, "-m", "m.onnx", "--max-frames", "2"]);
    ended.expect("slow camera", 0, &[]);
    assert_eq!(ended.records().len(), 2);
}

#[test]
fn a_camera_that_falls_silent_ends_detect_and_what_was_seen_is_there() {
    use watchpost_testcam::{CameraOptions, Fault, TestCamera};
    let camera = TestCamera::start(CameraOptions::default()).expect("the test camera starts");
    let folder = folder();
    write(folder.path(), "m.onnx", blind_detector(2));
    let mut detect = Running::start(watchpost(folder.path()).args(["detect", camera.url(), "-m", "m.onnx"]));
    let lines = detect.lines();
    next_record(&lines, "detections");
    camera.inject(Fault::KeepaliveOnly).expect("silent");
    detect.end().expect("silent camera", 66, &["no frame for 10 s; is the camera sending?"]);
    assert!(lines.iter().all(|line| record(&line)["type"] == "detections"));
}

#[test]
fn a_clip_that_was_cut_off_is_read_to_its_end_and_said_to_be_cut_off() {
    let Some(clip) = shared("footage/car-detection.mp4") else { return };
    let folder = folder();
    let whole = fs::read(clip).expect("the clip");
    write(folder.path(), "m.onnx", blind_detector(2));
    for (name, percent, is_cut_off) in [("half.mp4", 50, true), ("whole.mp4", 100, false)] {
        write(folder.path(), name, &whole[..whole.len() * percent / 100]);
        let ended = end(folder.path(), &["detect", name, "-m", "m.onnx"]);
        ended.expect(name, 0, &[]);
        let words = format!("{name} ends after");
        assert_eq!(ended.stderr.contains(&words), is_cut_off, "{}", ended.stderr);
        let records = ended.records().len();
        assert!(if is_cut_off { (50..377).contains(&records) } else { records == 377 }, "{name}: {records}");
    }
}
