//! Places that cannot be written, readers that do not read, readers that go, disks that are full: nothing that
//! was right is lost, and the user learns what to do.

#[path = "program/disk.rs"]
mod disk;
mod program;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use disk::Disk;
use program::{Running, contents, eventually, next_record, record, run, shared, watchpost};
use serde_json::Value;
use tempfile::TempDir;

/// A folder with a model that takes no time and sees nothing, and room for sockets.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("m.onnx"), program::blind_detector(2)).expect("written");
    folder
}

/// `watchpost run` with one scene and these outputs.
fn daemon(folder: &Path, outputs: &str) -> Command {
    configured(folder, "[camera.gate]\nurl = \"test://scene?fps=30\"\n", outputs)
}

fn configured(folder: &Path, cameras: &str, outputs: &str) -> Command {
    let debug = format!("[debug]\nsocket = \"{}\"\n", folder.join("debug.sock").display());
    let config = format!("[detector]\nmodel = \"m.onnx\"\n{cameras}{outputs}{debug}");
    fs::write(folder.join("c.toml"), config).expect("written");
    let mut command = watchpost(folder);
    command.args(["run", "-c", "c.toml"]);
    command
}

const CONSOLE: &str = "[output.console]\ntype = \"stdout\"\n";

fn unix(path: &Path) -> String {
    format!("[output.local]\ntype = \"unix\"\npath = \"{}\"\n", path.display())
}

/// The state of the daemon in `folder`, as `watchpost debug --json` shows it.
fn debug(folder: &Path) -> Value {
    let ended = run(watchpost(folder).args(["debug", "--json", "--socket", "debug.sock"]));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).expect("JSON")
}

/// A connection that fails after a while instead of waiting for ever.
fn connect(daemon: &mut Running, socket: &Path) -> UnixStream {
    eventually("the socket listens", || {
        assert!(daemon.is_running(), "the daemon has ended");
        UnixStream::connect(socket).is_ok()
    });
    let stream = UnixStream::connect(socket).expect("it listens");
    stream.set_read_timeout(Some(program::PATIENCE)).expect("a timeout");
    stream
}

/// Reads this many whole records.
fn read_records(stream: UnixStream, count: usize) -> Vec<Value> {
    let lines = BufReader::new(stream).lines().take(count);
    let records: Vec<Value> = lines.map(|line| record(&line.expect("in time"))).collect();
    assert_eq!(records.len(), count, "the stream goes on");
    records
}

#[test]
fn an_output_that_cannot_be_opened_is_told_before_anything_runs() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("file.sock"), "precious").expect("written");
    let _live = UnixListener::bind(at("live.sock")).expect("listens");
    let port = TcpListener::bind("127.0.0.1:0").expect("listens");
    let address = port.local_addr().expect("an address");
    let tcp = format!("[output.net]\ntype = \"tcp\"\nlisten = \"{address}\"\n");
    let locked = Disk::mount(at("locked"), "ro,size=4k");
    for (what, outputs, code, words) in [
        (
            "missing directory",
            unix(&at("absent/x.sock")),
            78,
            &["output local", "does not exist; create it"][..],
        ),
        (
            "unwritable directory",
            unix(&at("locked/x.sock")),
            78,
            &["may not create a socket in", "locked", "choose another path"],
        ),
        ("regular file", unix(&at("file.sock")), 78, &["is not a socket", "move it away"]),
        (
            "path too long",
            unix(&at(&"x".repeat(120))),
            78,
            &["`path` is too long for a socket", "at most 107 bytes"],
        ),
        ("live listener", unix(&at("live.sock")), 69, &["is watchpost running already?", "another path"]),
        ("port in use", tcp, 69, &["output net", &address.to_string(), "choose another port"]),
    ] {
        if what == "unwritable directory" && locked.is_none() {
            continue;
        }
        let mut command = daemon(folder.path(), &format!("{CONSOLE}{outputs}"));
        let before = contents(folder.path());
        let ended = run(&mut command);
        ended.expect(what, code, words);
        assert_eq!(ended.stdout, "", "{what}: no camera was opened");
        assert_eq!(contents(folder.path()), before, "{what}: nothing is left behind or replaced");
    }
}

#[test]
fn readers_that_do_not_read_or_vanish_cost_nobody_anything() {
    let folder = folder();
    let socket = folder.path().join("out.sock");
    let cameras: String = (0..4)
        .map(|n| format!("[camera.c{n}]\nurl = \"test://scene?fps=60&width=160&height=160\"\n"))
        .collect();
    let outputs = format!("{}buffer = \"64KiB\"\n", unix(&socket));
    let mut daemon = Running::start(&mut configured(folder.path(), &cameras, &outputs));
    let never_reads = connect(&mut daemon, &socket);
    for length in 1..20 {
        let mut vanishes = connect(&mut daemon, &socket);
        let mut some = vec![0; length];
        vanishes.read_exact(&mut some).expect("the beginning of a line");
    }
    // More than the kernel and the ring keep for a reader that does not read.
    let records = read_records(connect(&mut daemon, &socket), 1500);
    let of = |kind: &str| records.iter().filter(|record| record["type"] == kind).count();
    assert!(of("detections") > 1400, "{:?}", records.last());
    assert_eq!(of("lost"), 0, "a good reader loses nothing to the bad ones");
    // Late, but it is told what it lost, and its lines are whole.
    let mut late = BufReader::new(never_reads).lines().map(|line| record(&line.expect("in time")));
    let lost = late.find(|record| record["type"] == "lost").expect("it is told");
    assert!(
        lost["count"].as_u64().or(lost["lines"].as_u64()).or(lost["records"].as_u64()) > Some(0),
        "{lost}"
    );
    let counted = "watchpost_records_total{output=\"local\",outcome=\"lost\"}";
    assert!(debug(folder.path())["counters"][counted].as_u64() > Some(0));
    daemon.stop().expect("bad readers", 0, &[]);
    assert!(!socket.exists() && !folder.path().join("debug.sock").exists(), "the sockets are gone");
}

#[test]
fn a_daemon_whose_only_reader_has_gone_ends_in_order() {
    let folder = folder();
    let mut daemon = Running::start(&mut daemon(folder.path(), CONSOLE));
    let mut first = String::new();
    let mut stdout = BufReader::new(daemon.stdout.take().expect("piped"));
    stdout.read_line(&mut first).expect("a record");
    record(first.trim_end());
    drop(stdout);
    daemon.end().expect("| head -1", 0, &["nobody reads any output any more; stopping"]);
}

#[test]
fn a_daemon_with_another_output_goes_on_when_stdout_closes() {
    let folder = folder();
    let socket = folder.path().join("out.sock");
    let mut daemon = Running::start(&mut daemon(folder.path(), &format!("{CONSOLE}{}", unix(&socket))));
    let mut stdout = BufReader::new(daemon.stdout.take().expect("piped"));
    stdout.read_line(&mut String::new()).expect("a record");
    drop(stdout);
    let records = read_records(connect(&mut daemon, &socket), 60);
    assert!(records.iter().filter(|record| record["type"] == "detections").count() >= 50);
    assert!(daemon.is_running());
    daemon.stop().expect("stdout closed", 0, &["nobody reads standard output any more", "stopping: SIGTERM"]);
}

#[test]
fn a_daemon_whose_log_nobody_reads_goes_on() {
    let folder = folder();
    let mut command = daemon(folder.path(), CONSOLE);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    command.stderr(writer);
    let mut daemon = Running::start(&mut command);
    // The command holds an end of the pipe, too.
    drop(command);
    let lines = daemon.lines();
    next_record(&lines, "detections");
    drop(reader);
    for _ in 0..3 {
        daemon.signal(rustix::process::Signal::USR1);
        next_record(&lines, "detections");
    }
    // Every one of its threads lives.
    assert_eq!(debug(folder.path())["cameras"][0]["state"], "streaming");
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn a_full_disk_under_the_daemons_stdout_is_waited_for() {
    let folder = folder();
    let mut command = daemon(folder.path(), CONSOLE);
    command.stdout(fs::File::options().write(true).open("/dev/full").expect("/dev/full"));
    let daemon = Running::start(&mut command);
    eventually("it runs", || folder.path().join("debug.sock").exists());
    eventually("frames are seen", || {
        debug(folder.path())["cameras"][0]["outcomes"]["detected"].as_u64() > Some(30)
    });
    daemon.stop().expect("/dev/full", 0, &["No space left on device", "trying again every second"]);
}

#[test]
fn commands_whose_reader_has_gone_end_without_a_word() {
    let folder = folder();
    fs::write(
        folder.path().join("c.toml"),
        "[detector]\nmodel = \"m.onnx\"\n[camera.a]\nurl = \"test://scene\"\n",
    )
    .expect("written");
    for args in [
        &["check", "-c", "c.toml"][..],
        &["check", "-c", "c.toml", "--json"],
        &["model", "list"],
        &["model", "show", "m.onnx"],
        &["devices"],
        &["completions", "bash"],
        &["--help"],
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let ended = run(watchpost(folder.path()).args(args).stdout(writer));
        ended.expect(&args.join(" "), 0, &[]);
        assert!(!ended.stderr.contains("watchpost:"), "{}", ended.stderr);
    }
}

/// The clip and its number of frames.
fn clip() -> Option<(String, usize)> {
    Some((shared("footage/car-detection.mp4")?.display().to_string(), 377))
}

#[test]
fn detect_ends_early_and_quietly_when_its_reader_has_seen_enough() {
    let Some((clip, _)) = clip() else { return };
    let folder = folder();
    let args = ["detect", &clip, "-m", "m.onnx", "--summary", "s.json"];
    let mut detect = Running::start(watchpost(folder.path()).args(args));
    let mut stdout = BufReader::new(detect.stdout.take().expect("piped"));
    stdout.read_line(&mut String::new()).expect("a record");
    drop(stdout);
    let ended = detect.end();
    ended.expect("detect | head -1", 0, &[]);
    assert!(!ended.stderr.contains("watchpost:"), "{}", ended.stderr);
    let summary: Value =
        serde_json::from_str(&fs::read_to_string(folder.path().join("s.json")).expect("there"))
            .expect("JSON");
    assert!(summary["frames"].as_u64() < Some(377), "it did not go on for nobody: {summary}");
}

#[test]
fn a_place_that_cannot_be_written_ends_detect_with_74() {
    let Some((clip, _)) = clip() else { return };
    let folder = folder();
    fs::create_dir(folder.path().join("there")).expect("made");
    let detect = ["detect", &clip, "-m", "m.onnx", "--max-frames", "3"];
    for (options, records, words) in [
        (
            ["-o", "/dev/full"],
            0,
            &["/dev/full", "the disk is full; make room", "; 0 records were written"][..],
        ),
        (["-o", "absent/x"], 0, &["absent/x", "its folder does not exist; create it"]),
        (["-o", "there"], 0, &["there cannot be written", "is a folder; name a file in it"]),
        (["--summary", "absent/x"], 0, &["absent/x", "its folder does not exist; create it"]),
        (["--summary", "/dev/full"], 3, &["/dev/full", "the disk is full; make room"]),
    ] {
        let before = contents(folder.path());
        let ended = run(watchpost(folder.path()).args(detect).args(options));
        ended.expect(&options.join(" "), 74, words);
        assert_eq!(ended.records().len(), records, "{options:?}");
        assert_eq!(contents(folder.path()), before, "{options:?}: nothing is left behind");
    }
    let full = fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let ended = run(watchpost(folder.path()).args(detect).stdout(full));
    ended.expect("> /dev/full", 74, &["stdout", "the disk is full", "0 records were written"]);
}

#[test]
fn a_disk_that_fills_up_keeps_every_record_that_was_counted() {
    let Some((clip, frames)) = clip() else { return };
    let folder = folder();
    let Some(disk) = Disk::mount(folder.path().join("disk"), "size=64k") else { return };
    let output = disk.0.join("out.jsonl");
    let args = ["detect", &clip, "-m", "m.onnx", "--summary", "s.json", "-o"];
    let ended = run(watchpost(folder.path()).args(args).arg(&output));
    let text = fs::read_to_string(&output).expect("the file");
    let count = text.lines().map(record).count();
    assert!(count > 50 && count < frames, "{count} records fit");
    assert!(text.ends_with('\n'), "no half line is left");
    ended.expect(
        "full disk",
        74,
        &["the disk is full; make room", &format!("; {count} records were written before")],
    );
    let summary: Value =
        serde_json::from_str(&fs::read_to_string(folder.path().join("s.json")).expect("there"))
            .expect("JSON");
    // The frame whose record did not fit was seen, and so may be the next two.
    let seen = summary["frames"].as_u64().expect("a number");
    assert!((count as u64 + 1..=count as u64 + 3).contains(&seen), "{seen} seen, {count} written");
}

/// Fills a disk to the last byte. Returns the file that takes the room.
fn fill(disk: &Disk) -> PathBuf {
    let filler = disk.0.join("filler");
    let mut file = fs::File::create(&filler).expect("made");
    while file.write_all(&[0; 512]).is_ok() {}
    filler
}

/// A folder with one picture and its truth.
fn labelled(folder: &Path) {
    let images = folder.join("images");
    fs::create_dir(&images).expect("made");
    let file = fs::File::create(images.join("one.png")).expect("made");
    let mut picture = png::Encoder::new(file, 64, 64);
    picture.set_color(png::ColorType::Rgb);
    picture.write_header().expect("written").write_image_data(&[90; 64 * 64 * 3]).expect("written");
    fs::write(images.join("one.txt"), "0 0.5 0.5 0.2 0.2\n").expect("written");
}

#[test]
fn on_a_full_disk_what_is_replaced_as_a_whole_stays_as_it_was() {
    let folder = folder();
    let Some(disk) = Disk::mount(folder.path().join("disk"), "size=64k") else { return };
    labelled(folder.path());
    let demo = Path::new(env!("CARGO_BIN_EXE_watchpost")).with_file_name("watchpost-testcam").is_file();
    if !demo {
        eprintln!("NOT TESTED: demo --report: watchpost-testcam is not built; run `cargo test --workspace`");
    }
    for name in ["summary.json", "report.json", "eval.json", "results.json", "m.toml"] {
        fs::write(disk.0.join(name), "the old one").expect("written");
    }
    fill(&disk);
    let before = contents(&disk.0);
    for args in [
        &["detect", "images/one.png", "-m", "m.onnx", "--summary", "disk/summary.json"][..],
        &["eval", "m.onnx", "--images", "images", "--json", "disk/eval.json"],
        &["eval", "m.onnx", "--images", "images", "--results", "disk/results.json"],
        &["model", "add", "m.onnx", "--force", "--dir", "disk"],
        &["model", "add", "m.onnx", "--force", "--copy", "--name", "other", "--dir", "disk"],
        &["demo", "--duration", "1s", "--report", "disk/report.json"],
    ] {
        if args[0] == "demo" && !demo {
            continue;
        }
        let ended = run(watchpost(folder.path()).args(args));
        ended.expect_text(&args.join(" "), 74, &["disk/", "the disk is full; make room"]);
        assert_eq!(contents(&disk.0), before, "{args:?}");
        for name in ["summary.json", "report.json", "eval.json", "results.json", "m.toml"] {
            assert_eq!(fs::read_to_string(disk.0.join(name)).expect("there"), "the old one", "{args:?}");
        }
    }
}

#[test]
fn a_report_that_has_no_place_is_told_before_the_work() {
    let folder = folder();
    labelled(folder.path());
    let before = contents(folder.path());
    for (args, words) in [
        (&["demo", "--report", "absent/x"][..], "its folder does not exist; create it"),
        (&["demo", "--report", "images"], "is a folder; name a file in it"),
        (
            &["eval", "m.onnx", "--images", "images", "--json", "absent/x"],
            "its folder does not exist; create it",
        ),
        (
            &["eval", "m.onnx", "--images", "images", "--results", "absent/x"],
            "its folder does not exist; create it",
        ),
    ] {
        let ended = run(watchpost(folder.path()).args(args));
        ended.expect_text(&args.join(" "), 74, &[words]);
        assert_eq!(ended.stdout, "", "{args:?}: nothing was done");
        assert_eq!(contents(folder.path()), before, "{args:?}: nothing is left behind");
    }
}

#[test]
fn records_on_a_disk_that_was_full_go_on_whole_when_there_is_room() {
    let folder = folder();
    let Some(disk) = Disk::mount(folder.path().join("disk"), "size=256k") else { return };
    let records = disk.0.join("records.jsonl");
    let file = fs::File::create(&records).expect("made");
    let filler = fill(&disk);
    // Room for some pages of records.
    let kept = fs::metadata(&filler).expect("there").len() - 64 * 1024;
    fs::File::options().write(true).open(&filler).expect("opened").set_len(kept).expect("cut");
    let mut command = daemon(folder.path(), CONSOLE);
    command.stdout(file);
    let daemon = Running::start(&mut command);
    let size = || fs::metadata(&records).expect("there").len();
    eventually("the disk is full", || size() >= 60 * 1024);
    let full = size();
    eventually("frames are still seen", || {
        debug(folder.path())["cameras"][0]["outcomes"]["detected"].as_u64() > Some(400)
    });
    fs::remove_file(filler).expect("removed");
    eventually("the records go on", || size() > full + 8192);
    daemon.stop().expect(
        "a disk that was full",
        0,
        &["No space left on device", "trying again every second"],
    );
    let text = fs::read_to_string(&records).expect("readable");
    assert!(text.ends_with('\n'), "no half line at the end");
    let count = text.lines().map(record).count();
    println!("{count} whole records, across {full} bytes on a full disk");
}

#[test]
fn folders_that_are_missing_or_not_absolute_do_not_keep_it_from_watching() {
    let folder = folder();
    let missing = folder.path().join("missing/deep").display().to_string();
    for (value, warned) in [(missing.as_str(), false), ("relative", true)] {
        let mut command = daemon(folder.path(), CONSOLE);
        for name in ["STATE_DIRECTORY", "CACHE_DIRECTORY", "XDG_DATA_HOME", "XDG_CACHE_HOME", "HOME"] {
            command.env(name, value);
        }
        let mut daemon = Running::start(&mut command);
        let lines = daemon.lines();
        next_record(&lines, "detections");
        let ended = daemon.stop();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(!ended.stderr.contains("ERROR"), "{}", ended.stderr);
        program::assert_plain("folders", &ended.stderr);
        let said =
            ended.stderr.matches("$STATE_DIRECTORY is passed over: it is not an absolute path").count();
        assert!(said <= 1, "once: {}", ended.stderr);
        // What is not needed is not looked at, and nothing is said of it.
        let listed = run(watchpost(folder.path()).args(["engine", "list"]).env("CACHE_DIRECTORY", value));
        let words =
            "$CACHE_DIRECTORY is passed over: it is not an absolute path (beginning with /), but relative";
        assert_eq!(listed.stderr.matches(words).count(), usize::from(warned), "{}", listed.stderr);
        program::assert_plain("engine list", &listed.stderr);
    }
}

#[test]
fn a_short_pause_is_no_reason_to_stop() {
    // A reader that pauses for longer than a pipe holds lines still gets whole ones.
    let folder = folder();
    let mut daemon = Running::start(&mut daemon(folder.path(), CONSOLE));
    let mut stdout = BufReader::new(daemon.stdout.take().expect("piped"));
    stdout.read_line(&mut String::new()).expect("a record");
    program::pause(Duration::from_millis(800));
    let records: Vec<Value> = stdout.lines().take(30).map(|line| record(&line.expect("a line"))).collect();
    assert_eq!(records.len(), 30);
    let _stopped = daemon.stop();
}
