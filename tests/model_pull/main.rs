//! `watchpost model pull` against servers of our own, which do to a download what networks do.

#[path = "../program/disk.rs"]
mod disk;
#[path = "../program/mod.rs"]
mod program;
mod server;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use disk::Disk;
use program::{Ended, Running, contents, eventually, root, run, shared, watchpost};
use rustix::process::Signal;
use serde_json::Value;
use server::{Server, say, send, wait_for_hang_up};
use sha2::{Digest, Sha256};

/// A box with a description of a model that it does not have: in the working folder's `engines/models`.
struct Bench {
    folder: tempfile::TempDir,
    /// What the server should send.
    file: Arc<Vec<u8>>,
}

const CLASSES: u64 = 1500;

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = program::blind_detector(CLASSES);
        let models = folder.path().join("engines/models");
        fs::create_dir_all(&models).expect("made");
        let onnx = models.join("blind.onnx");
        fs::write(&onnx, &file).expect("written");
        run(watchpost(folder.path()).args(["model", "add", "engines/models/blind.onnx"])).expect_text(
            "add",
            0,
            &[],
        );
        fs::remove_file(onnx).expect("removed");
        let manifest = models.join("blind.toml");
        let text =
            fs::read_to_string(&manifest).expect("there").replace("license = \"\"", "license = \"MIT\"");
        let download = format!(
            "\n[download]\nurl = \"https://models.invalid/blind.onnx\"\nbytes = {}\nproject = \"https://models.invalid\"\n",
            file.len()
        );
        fs::write(manifest, text + &download).expect("written");
        Self { folder, file: Arc::new(file) }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// `watchpost model pull blind ARGS… --dir models`, without the proxies of this machine.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = watchpost(self.path());
        for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"] {
            command.env_remove(name).env_remove(name.to_lowercase());
        }
        command.args(["model", "pull", "blind", "--dir", "models"]).args(args);
        command
    }

    #[track_caller]
    fn pull(&self, what: &str, code: i32, args: &[&str], words: &[&str]) -> Ended {
        let ended = run(&mut self.command(args));
        ended.expect_text(what, code, words);
        // Whatever happened: a file of the model's name is the model.
        if let Ok(there) = fs::read(self.path().join("models/blind.onnx")) {
            assert_eq!(there, *self.file, "{what}");
        }
        assert_eq!(self.path().join("models/blind.toml").exists(), code == 0, "{what}");
        ended
    }

    /// The part that is kept.
    fn part(&self) -> PathBuf {
        let digest: String = Sha256::digest(&*self.file).iter().map(|byte| format!("{byte:02x}")).collect();
        self.path().join(format!("models/.blind.onnx.{}.part", &digest[..12]))
    }

    fn part_len(&self) -> Option<u64> {
        fs::metadata(self.part()).ok().map(|part| part.len())
    }

    fn leave_part(&self, bytes: &[u8]) {
        fs::create_dir_all(self.path().join("models")).expect("made");
        fs::write(self.part(), bytes).expect("written");
    }
}

#[test]
fn a_model_is_fetched_described_and_used() {
    let bench = Bench::new();
    let file = Arc::clone(&bench.file);
    let server = Server::start(move |asked, stream| send(asked, stream, &file, file.len()));
    let before = run(watchpost(bench.path()).args(["model", "list"]));
    assert!(
        before.stdout.contains("not pulled") && before.stdout.contains("watchpost model pull blind"),
        "{before:?}"
    );
    let ended = bench.pull("pull", 0, &["--mirror", &server.url("/depot/")], &[]);
    assert_eq!(server.asked()[0].path(), "/depot/blind.onnx");
    assert!(server.asked()[0].head.to_lowercase().contains("user-agent: watchpost/"), "{:?}", server.asked());
    // The licence stands before the file.
    let at = |words: &str| ended.stdout.find(words).unwrap_or_else(|| panic!("{words}: {}", ended.stdout));
    assert!(at("licence  MIT") < at("Written: ") && at("project  https://models.invalid") < at("Written: "));
    at("SHA-256 is right");
    let names: Vec<_> = contents(&bench.path().join("models")).into_keys().collect();
    assert_eq!(names.len(), 2, "nothing else is left: {names:?}");
    // Again: nothing is asked for.
    let again = bench.pull("again", 0, &["--mirror", &server.url("/depot")], &[]);
    assert!(again.stdout.contains("Already there"), "{again:?}");
    assert_eq!(server.asked().len(), 1);
    let shown = run(watchpost(bench.path()).args(["model", "show", "models/blind.toml"]));
    shown.expect_text("show", 0, &[]);
    assert!(shown.stdout.contains("[download]"), "{}", shown.stdout);
}

#[test]
fn a_cut_connection_is_gone_on_with_where_it_was_cut() {
    let bench = Bench::new();
    let (file, half) = (Arc::clone(&bench.file), bench.file.len() / 2);
    let server = Server::start(move |asked, stream| {
        let until = if asked.index == 0 { half } else { file.len() };
        send(asked, stream, &file, until);
    });
    bench.pull("cut", 0, &["--url", &server.url("/m")], &["trying again in 1 s"]);
    let from: Vec<Option<usize>> = server.asked().iter().map(|asked| asked.from).collect();
    assert_eq!(from, [None, Some(half)]);
}

#[test]
fn a_server_without_ranges_sends_all_of_it_again() {
    let bench = Bench::new();
    bench.leave_part(&bench.file[..1000]);
    let file = Arc::clone(&bench.file);
    let server = Server::start(move |_, stream| {
        say(stream, "200 OK", &format!("Content-Length: {}\r\n", file.len()), &file);
    });
    bench.pull("no ranges", 0, &["--url", &server.url("/m")], &["going on after", "starting over"]);
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_length_that_is_not_told_and_ranges_that_are_others_do_no_harm() {
    let bench = Bench::new();
    bench.leave_part(&bench.file[..1000]);
    let file = Arc::clone(&bench.file);
    let server = Server::start(move |asked, stream| match asked.from {
        Some(_) => {
            let headers = format!("Content-Range: bytes 0-99/{}\r\n", file.len());
            say(stream, "206 Partial Content", &headers, &file[..100]);
        }
        None => say(stream, "200 OK", "", &file),
    });
    bench.pull("another range", 0, &["--url", &server.url("/m")], &["starting over"]);
}

#[test]
fn a_part_that_is_another_file_s_is_seen_through() {
    let bench = Bench::new();
    let file = Arc::clone(&bench.file);
    let server = Server::start(move |asked, stream| send(asked, stream, &file, file.len()));
    for (what, part, requests) in [
        ("other bytes", vec![7; 1000], 2),
        ("too long", vec![7; bench.file.len() + 1], 1),
        ("as long and wrong", vec![7; bench.file.len()], 1),
        ("whole", bench.file.to_vec(), 0),
    ] {
        bench.leave_part(&part);
        let before = server.asked().len();
        bench.pull(what, 0, &["--url", &server.url("/m")], &[]);
        assert_eq!(server.asked().len() - before, requests, "{what}");
        assert_eq!(bench.part_len(), None, "{what}");
        fs::remove_dir_all(bench.path().join("models")).expect("removed");
    }
}

#[test]
fn redirects_are_followed_with_the_range_and_circles_are_not() {
    let bench = Bench::new();
    bench.leave_part(&bench.file[..1000]);
    let file = Arc::clone(&bench.file);
    let server = Server::start(move |asked, stream| match asked.path() {
        "/a" => say(stream, "302 Found", "Location: /b?signed=1\r\nContent-Length: 0\r\n", b""),
        "/b?signed=1" => send(asked, stream, &file, file.len()),
        _ => say(stream, "301 Moved Permanently", "Location: /circle\r\nContent-Length: 0\r\n", b""),
    });
    bench.pull(
        "a circle",
        69,
        &["--url", &server.url("/circle")],
        &["redirected again and again", "--mirror"],
    );
    assert!(server.asked().len() < 10);
    assert_eq!(bench.part_len(), Some(1000));
    bench.pull("a redirect", 0, &["--url", &server.url("/a")], &[]);
    let last = server.asked().pop().expect("asked");
    assert_eq!((last.path(), last.from), ("/b?signed=1", Some(1000)));
}

#[test]
fn another_file_is_refused_with_66_and_nothing_of_it_stays() {
    let bench = Bench::new();
    let mut other = bench.file.to_vec();
    other[5000] ^= 1;
    let size = other.len();
    let server = Server::start(move |asked, stream| match asked.path() {
        "/digest" => send(asked, stream, &other, size),
        "/short" => say(stream, "200 OK", "Content-Length: 9\r\n", b"<html>hi!"),
        "/long" => say(stream, "200 OK", "", &vec![0; size + 70_000]),
        "/total" => {
            let headers = format!("Content-Range: bytes 10-20/{}\r\n", size + 1);
            say(stream, "206 Partial Content", &headers, b"01234567890");
        }
        other => panic!("{other}"),
    });
    let url = |path: &str| server.url(path);
    bench.pull("digest", 66, &["--url", &url("/digest")], &["not the one that is described", "--url"]);
    bench.pull("short", 66, &["--url", &url("/short")], &["has 9 bytes", "login page"]);
    bench.pull("long", 66, &["--url", &url("/long")], &["has more than"]);
    bench.leave_part(&bench.file[..10]);
    bench.pull("total", 66, &["--url", &url("/total")], &["another file"]);
    assert_eq!(contents(&bench.path().join("models")).len(), 0);
}

#[test]
fn a_server_that_says_no_is_believed_and_one_that_is_busy_is_asked_again() {
    let bench = Bench::new();
    let file = Arc::clone(&bench.file);
    let server = Server::start(move |asked, stream| match asked.path() {
        "/404" => say(stream, "404 Not Found", "Content-Length: 0\r\n", b""),
        "/403" => say(stream, "403 Forbidden", "Content-Length: 0\r\n", b""),
        "/later" if asked.index > 3 => send(asked, stream, &file, file.len()),
        _ => say(stream, "503 Service Unavailable", "Content-Length: 0\r\n", b""),
    });
    let url = |path: &str| server.url(path);
    bench.pull("404", 69, &["--url", &url("/404")], &["answers 404: the file is not there", "--mirror"]);
    bench.pull("403", 69, &["--url", &url("/403")], &["answers 403: it does not let us"]);
    bench.pull(
        "503",
        69,
        &["--retries", "0", "--url", &url("/busy")],
        &["answers 503 (tried once)", "later"],
    );
    assert_eq!(server.asked().len(), 3, "a no is not asked about again");
    bench.pull("503, then it", 0, &["--url", &url("/later")], &["answers 503", "trying again in 1 s"]);
    assert_eq!(server.asked().len(), 5);
}

#[test]
fn a_server_that_sends_nothing_or_a_byte_at_a_time_is_given_up() {
    let bench = Bench::new();
    let file = Arc::clone(&bench.file);
    let server = Server::start(move |asked, stream| match asked.path() {
        "/silent" => wait_for_hang_up(stream),
        "/stops" => {
            send(asked, stream, &file, 4000);
            wait_for_hang_up(stream);
        }
        _ => {
            send(asked, stream, &file, 10);
            while stream.write_all(b"x").and_then(|()| stream.flush()).is_ok() {
                program::pause(std::time::Duration::from_millis(50));
            }
        }
    });
    let patience = ["--timeout", "1", "--retries", "0", "--url"];
    for (path, words, kept) in [
        ("/silent", "nothing came for too long", 0),
        ("/stops", "nothing came for too long", 4000),
        ("/trickle", "bytes came in", 4000),
    ] {
        bench.pull(
            path,
            69,
            &[&patience[..], &[&server.url(path)]].concat(),
            &[words, "tried once", "is kept"],
        );
        assert!(bench.part_len() >= Some(kept), "{path}: {:?}", bench.part_len());
    }
}

#[test]
fn nobody_there_is_told_after_the_last_attempt() {
    let bench = Bench::new();
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address")
    };
    let url = format!("http://{address}/m");
    let words = ["Connection refused (tried 2 times)", "check the network", "HTTPS_PROXY"];
    bench.pull("nobody", 69, &["--retries", "1", "--url", &url], &words);
    let words = ["not known", "check the network"];
    let url = "https://models.invalid/m";
    bench.pull("no such host", 69, &["--retries", "0", "--url", url], &words[1..]);
}

#[test]
fn who_is_ended_leaves_a_part_that_only_one_process_has_at_a_time() {
    let bench = Bench::new();
    let (file, half) = (Arc::clone(&bench.file), bench.file.len() / 2);
    let server = Server::start(move |asked, stream| {
        send(asked, stream, &file, if asked.index == 0 { half } else { file.len() });
        if asked.index == 0 {
            wait_for_hang_up(stream);
        }
    });
    let url = server.url("/m");
    let running = Running::start(&mut bench.command(&["--url", &url]));
    eventually("half of it is there", || bench.part_len() == Some(half as u64));
    bench.pull("a second one", 75, &["--url", &url], &["another process is fetching this file"]);
    // Not SIGINT, which whoever runs the tests in the background has had ignored.
    running.signal(Signal::TERM);
    assert_eq!(running.end().code, None, "it ends at once");
    assert_eq!(bench.part_len(), Some(half as u64));
    bench.pull("on", 0, &["--url", &url], &["going on after"]);
    assert_eq!(server.asked().last().and_then(|asked| asked.from), Some(half));
}

#[test]
fn a_disk_without_room_is_told_before_and_one_that_fills_up_keeps_what_fits() {
    let bench = Bench::new();
    let (file, half) = (Arc::clone(&bench.file), bench.file.len() / 2);
    let Some(disk) = Disk::mount(bench.path().join("models"), "size=2m") else { return };
    let filler = disk.0.join("filler");
    let fill = filler.clone();
    let server = Server::start(move |asked, stream| {
        if asked.index == 0 {
            // Somebody else takes the room after it was looked for.
            fs::write(&fill, vec![0; (2 << 20) - half - (64 << 10)]).expect("written");
        }
        send(asked, stream, &file, file.len());
    });
    let url = server.url("/m");
    bench.pull("it fills up", 74, &["--url", &url], &["the disk is full; make room", "--dir"]);
    let kept = bench.part_len().expect("a part");
    assert!(kept > 100_000, "{kept}");
    let words = ["bytes are needed and", "are free; make room", "--dir"];
    bench.pull("it is full", 74, &["--url", &url], &words);
    assert_eq!(bench.part_len(), Some(kept));
    fs::remove_file(filler).expect("removed");
    bench.pull("room was made", 0, &["--url", &url], &["going on after"]);
    let froms: Vec<_> = server.asked().iter().map(|asked| asked.from).collect();
    assert_eq!(froms, [None, Some(kept as usize)]);
}

#[test]
fn https_is_checked_and_never_left_for_http() {
    let bench = Bench::new();
    let file = Arc::clone(&bench.file);
    let plain = Server::start(|_, _| panic!("nobody may ask here"));
    let elsewhere = plain.url("/m");
    let server = Server::start_tls(move |asked, stream| match asked.path() {
        "/down" => say(stream, "302 Found", &format!("Location: {elsewhere}\r\nContent-Length: 0\r\n"), b""),
        _ => send(asked, stream, &file, file.len()),
    });
    let with = |path: &str| {
        let mut command = bench.command(&["--retries", "0", "--url", &server.url(path)]);
        command.env("SSL_CERT_FILE", root().join("tests/fixtures/tls/ca.pem"));
        run(&mut command)
    };
    with("/down").expect_text("downgrade", 69, &["from https to http", "--mirror"]);
    assert!(plain.asked().is_empty());
    let unknown = ["no safe connection", "UnknownIssuer", "ca-certificates"];
    bench.pull("nobody vouches", 69, &["--url", &server.url("/m")], &unknown);
    let mut command = bench.command(&["--url", &server.url("/m")]);
    command.env("SSL_CERT_FILE", "/nowhere").env("SSL_CERT_DIR", "/nowhere");
    run(&mut command).expect_text("nobody is trusted", 69, &["no certificates to trust", "ca-certificates"]);
    with("/m").expect_text("https", 0, &[]);
    assert!(bench.path().join("models/blind.toml").exists());
}

#[test]
fn the_proxy_of_the_environment_is_used() {
    let bench = Bench::new();
    let file = Arc::clone(&bench.file);
    let proxy = Server::start(move |asked, stream| send(asked, stream, &file, file.len()));
    let mut command = bench.command(&["--retries", "0", "--url", "http://models.invalid/m"]);
    run(command.env("HTTP_PROXY", proxy.url(""))).expect_text("proxy", 0, &[]);
    assert!(proxy.asked()[0].head.contains("models.invalid"), "{:?}", proxy.asked());
}

#[test]
fn what_is_in_the_way_is_told() {
    let bench = Bench::new();
    let url = ["--url", "http://127.0.0.1:1/m"];
    fs::create_dir(bench.path().join("models")).expect("made");
    let own = bench.path().join("models/blind.toml");
    let text = fs::read_to_string(bench.path().join("engines/models/blind.toml")).expect("there");
    let digest = text.lines().find(|line| line.starts_with("sha256")).expect("a digest");
    fs::write(&own, text.replace(digest, &format!("sha256 = \"{}\"", "0".repeat(64)))).expect("written");
    run(&mut bench.command(&url)).expect_text(
        "another model",
        64,
        &["describes another model", "--force", "--dir"],
    );
    fs::remove_dir_all(bench.path().join("models")).expect("removed");
    fs::write(bench.path().join("models"), "a file").expect("written");
    run(&mut bench.command(&url)).expect_text("no folder", 74, &["models", "--dir"]);
    fs::remove_file(bench.path().join("models")).expect("removed");
    for url in ["ftp://x/y", "nonsense", "http:///x", "https://user@"] {
        let ended = run(&mut bench.command(&["--url", url]));
        ended.expect_text(url, 64, &["is not a URL that can be fetched from", "https://HOST/PATH"]);
    }
    let ended = run(watchpost(bench.path()).args(["model", "pull", "yolox-nan"]));
    ended.expect_text("a slip", 66, &["did you mean \"yolox-nano\"?", "yolox-s", "model add"]);
}

#[test]
fn a_model_that_is_known_and_absent_is_told_with_how_to_get_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let words = ["watchpost model pull yolox-tiny", "19.3 MiB", "Apache-2.0"];
    run(watchpost(folder.path()).args(["model", "show", "yolox-tiny"])).expect_text("show", 66, &words);
    fs::write(folder.path().join("x.jpg"), "no picture").expect("written");
    run(watchpost(folder.path()).args(["detect", "x.jpg", "-m", "yolox-tiny"])).expect("detect", 66, &words);
    let config = "[detector]\nmodel = \"yolox-tiny\"\n[camera.a]\nurl = \"test://scene\"\n";
    fs::write(folder.path().join("c.toml"), config).expect("written");
    run(watchpost(folder.path()).args(["run", "-c", "c.toml"])).expect("run", 78, &words);
    let listed = run(watchpost(folder.path()).args(["model", "list", "--json"]));
    let listed: Value = serde_json::from_str(&listed.stdout).expect("JSON");
    let tiny =
        listed.as_array().expect("a list").iter().find(|one| one["name"] == "yolox-tiny").expect("listed");
    assert_eq!((&tiny["state"], &tiny["license"]), (&"not pulled".into(), &"Apache-2.0".into()));
    assert!(tiny["download"]["bytes"].as_u64() > Some(1 << 20) && tiny["evaluation"]["map_50_95"].is_f64());
    // Nothing was fetched without being asked for.
    assert_eq!(contents(folder.path()).len(), 2);
}

#[test]
fn yolox_nano_is_pulled_by_its_name_and_sees() {
    let (Some(models), Some(photos)) = (shared("models"), shared("footage/photos")) else { return };
    let file = fs::read(models.join("yolox_nano.onnx")).expect("the model");
    let server = Server::start(move |asked, stream| send(asked, stream, &file, file.len()));
    let folder = tempfile::tempdir().expect("a folder");
    let bench = |args: &[&str]| {
        let mut command = watchpost(folder.path());
        command
            .env_remove("HTTP_PROXY")
            .env_remove("http_proxy")
            .env_remove("ALL_PROXY")
            .env_remove("all_proxy");
        run(command.args(args))
    };
    let pulled = bench(&["model", "pull", "yolox-nano", "--mirror", &server.url("")]);
    pulled.expect_text("pull", 0, &[]);
    assert!(pulled.stdout.contains("licence  Apache-2.0"), "{}", pulled.stdout);
    assert!(pulled.stdout.contains("-m yolox-nano"), "{}", pulled.stdout);
    let photo = photos.join("zidane.jpg").display().to_string();
    let seen = bench(&["detect", &photo, "-m", "yolox-nano", "--backend", "builtin"]);
    seen.expect("detect", 0, &[]);
    let people = |record: &Value| {
        let objects = record["objects"].as_array().expect("a list").clone();
        objects.iter().filter(|object| object["label"] == "person").count()
    };
    assert_eq!(people(&seen.records()[0]), 2);
    assert_eq!(seen.records()[0]["model"]["name"], "yolox-nano");
}

#[test]
fn the_catalogue_describes_shared_models_as_looking_into_them_does() {
    let Some(models) = shared("models") else { return };
    let mut found = 0;
    for entry in watchpost::model::catalogue() {
        let entry = entry.expect("sound");
        let file = models.join(entry.file().and_then(|file| file.file_name()).expect("a name"));
        if !file.exists() {
            continue;
        }
        found += 1;
        let size = fs::metadata(&file).expect("there").len();
        assert_eq!(entry.download.as_ref().map(|download| download.size_bytes), Some(size), "{}", entry.name);
        let concluded = watchpost::model::find(file.to_str().expect("UTF-8"), &[]).expect("a model");
        assert_eq!((&entry.sha256, &entry.head), (&concluded.sha256, &concluded.head), "{}", entry.name);
        assert_eq!((&entry.input, &entry.labels), (&concluded.input, &concluded.labels), "{}", entry.name);
    }
    assert_eq!(found, 2);
}
