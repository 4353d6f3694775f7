//! Cameras by name: names that nobody knows, name servers that fail or never answer, and a camera that comes back
//! at another address. Every opening asks anew, and who waits for a name server waits alone.

mod support;

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use support::{
    Daemon, PATIENCE, Record, Setup, alone, assert_consistent, camera, detector, pause, seconds, usage,
};
use watchpost::clock;
use watchpost_testcam::{CameraOptions, Fault, Picture, TestCamera, Tls};

const KEYS: &str = "stall_timeout = \"2s\"\nopen_timeout = \"2500ms\"\ndetect_fps = 5\nread_stamp = true";
const SUPERVISOR: &str = "backoff_min = \"500ms\"\nbackoff_max = \"1s\"";
/// A loaded machine may take so long until a camera is there.
const BACK_WITHIN: Duration = Duration::from_secs(60);
/// GLib looks names up on ten threads; with more that hang, others would have to wait for one.
const SILENT_COUNT: usize = 12;
const RTSP_PORT: u16 = 8554;

/// What the name server says of a name.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Answer {
    Address(Ipv4Addr),
    /// There is no such name.
    Unknown,
    /// It cannot tell (SERVFAIL).
    Broken,
    /// Nothing.
    Silence,
}

/// A name server on loopback, in the network of the thread that started it.
#[derive(Clone, Default)]
struct NameServer {
    zone: Arc<Mutex<HashMap<String, Answer>>>,
}

impl NameServer {
    fn start() -> Self {
        let server = Self::default();
        let socket = UdpSocket::bind("127.0.0.1:53").expect("the network is our own");
        let serving = server.clone();
        // It ends with the process: nothing can interrupt it, and nothing depends on it after the test.
        std::thread::spawn(move || serving.serve(&socket));
        server
    }

    fn say(&self, name: &str, answer: Answer) {
        self.zone.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), answer);
    }

    fn serve(&self, socket: &UdpSocket) {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            if let Some(answer) = self.answer(&query[..length]) {
                let _asker_gone = socket.send_to(&answer, from);
            }
        }
    }

    /// RFC 1035: header, question, answer.
    fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        let (mut labels, mut at) = (Vec::new(), 12);
        while let Some(&length @ 1..) = query.get(at) {
            labels
                .push(String::from_utf8_lossy(query.get(at + 1..at + 1 + usize::from(length))?).into_owned());
            at += 1 + usize::from(length);
        }
        let question = query.get(12..at + 5)?;
        let wants_v4 = question[question.len() - 4..] == [0, 1, 0, 1];
        let zone = self.zone.lock().unwrap_or_else(PoisonError::into_inner);
        let (code, address) = match zone.get(&labels.join(".")).copied().unwrap_or(Answer::Unknown) {
            Answer::Address(address) => (0, Some(address).filter(|_| wants_v4)),
            Answer::Unknown => (3, None),
            Answer::Broken => (2, None),
            Answer::Silence => return None,
        };
        let mut answer = query[..2].to_vec();
        answer.extend([0x81, 0x80 | code, 0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0]);
        answer.extend(question);
        if let Some(address) = address {
            // The name is that of the question; type A, class IN, an hour to live, four bytes.
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4]);
            answer.extend(address.octets());
        }
        Some(answer)
    }
}

/// A camera on an address of its own; every network has all of 127.
fn at(address: Ipv4Addr) -> TestCamera {
    camera(CameraOptions { address, port: RTSP_PORT, ..small(1) })
}

fn small(seed: u64) -> CameraOptions {
    CameraOptions {
        picture: Picture::Scene { seed, width: 320, height: 192, fps: 15 },
        ..CameraOptions::default()
    }
}

fn named(name: &str) -> String {
    format!("rtsp://{name}:{RTSP_PORT}/stream")
}

/// The first time that this camera is taken down.
fn fails(daemon: &Daemon, name: &str, mark: usize) -> Record {
    daemon.state(name, "closing", mark, PATIENCE)
}

/// One name server. Who gets no answer waits for as long as where nothing is configured: two times five seconds.
const ONE: &str = "nameserver 127.0.0.1\n";

/// Runs `work` where the name server is a thread of the test, `resolv` says which to ask and how, and `hosts` is
/// what /etc/hosts says.
fn with_names(test: &str, resolv: &str, hosts: &str, work: impl FnOnce(NameServer) + Send) {
    let _alone = alone();
    if !watchpost_wire::as_root(test) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("it is written");
        path
    };
    let files = [
        (file("resolv.conf", resolv), "/etc/resolv.conf"),
        (file("hosts", &format!("127.0.0.1 localhost\n{hosts}\n")), "/etc/hosts"),
        (file("nsswitch.conf", "hosts: files dns\n"), "/etc/nsswitch.conf"),
    ];
    let files: Vec<(&Path, &Path)> =
        files.iter().map(|(file, place)| (file.as_path(), Path::new(place))).collect();
    if let Err(why) = watchpost_wire::stage(&files, || work(NameServer::start())) {
        eprintln!("NOT TESTED: {test}: {why}");
    }
}

#[test]
fn a_camera_that_comes_back_at_another_address_is_found_by_its_name() {
    let [before, after] = [Ipv4Addr::new(127, 0, 1, 1), Ipv4Addr::new(127, 0, 1, 2)];
    with_names("a_camera_that_comes_back_at_another_address_is_found_by_its_name", ONE, "", |names| {
        names.say("moves.test", Answer::Address(before));
        let gone = at(before);
        let mut daemon = Setup::new(&detector(), "")
            .section("supervisor", SUPERVISOR)
            .camera("moves", &named("moves.test"), KEYS)
            .start();
        let seen = |mark, generation| {
            daemon.find("a picture", mark, BACK_WITHIN, |record| {
                (record.generation > generation && record.stamp().is_some()).then_some(record.at)
            })
        };
        seen(0, 0);
        let mark = daemon.mark();
        drop(gone);
        let closing = fails(&daemon, "moves", mark);
        let refused = daemon.find("nobody is there", mark, PATIENCE, |record| {
            (record.reason() == Some("connect_failed")).then(|| record.clone())
        });
        assert!(refused.detail().contains("refuses connections"), "{refused}");
        let _elsewhere = at(after);
        let (mark, there) = (daemon.mark(), clock::now());
        names.say("moves.test", Answer::Address(after));
        let back = seen(mark, closing.generation);
        eprintln!(
            "| new address | {} | seen {} after the name server knew |",
            closing.reason().unwrap_or("-"),
            seconds(there, back)
        );
        daemon.stop();
        assert_consistent(&daemon.all_records());
    });
}

#[test]
fn a_name_server_that_is_slow_is_asked_once() {
    // The first one is dead: every lookup takes two seconds, and two of them more than an opening may.
    let resolv = "nameserver 127.0.0.2\nnameserver 127.0.0.1\noptions timeout:2\n";
    with_names("a_name_server_that_is_slow_is_asked_once", resolv, "", |names| {
        let _silent = UdpSocket::bind("127.0.0.2:53").expect("the network is our own");
        let address = Ipv4Addr::new(127, 0, 1, 1);
        names.say("slow.test", Answer::Address(address));
        let _there = at(address);
        let mut daemon = Setup::new(&detector(), "")
            .section("supervisor", SUPERVISOR)
            .camera("slow", &named("slow.test"), &KEYS.replace("2500ms", "3500ms"))
            .start();
        let since = clock::now();
        let streaming = daemon.state("slow", "streaming", 0, BACK_WITHIN);
        eprintln!("| first of two name servers dead | streaming after {} |", seconds(since, streaming.at));
        daemon.stop();
        assert_consistent(&daemon.all_records());
    });
}

#[test]
fn who_waits_for_a_name_server_is_told_so_and_waits_alone() {
    let test = "who_waits_for_a_name_server_is_told_so_and_waits_alone";
    with_names(test, ONE, "127.0.0.1 hosted.test", |names| {
        let silent: Vec<String> = (0..SILENT_COUNT).map(|number| format!("silent{number}.test")).collect();
        names.say("broken.test", Answer::Broken);
        for name in &silent {
            names.say(name, Answer::Silence);
        }
        let late = at(Ipv4Addr::new(127, 0, 1, 1));
        let [plain, hosted] = [camera(small(2)), camera(small(3))];
        let secret = camera(CameraOptions { tls: Some(Tls::SelfSigned), ..small(4) });
        let mut setup = Setup::new(&detector(), "")
            .section("supervisor", SUPERVISOR)
            .camera("unknown", &named("unknown.test"), KEYS)
            .camera("broken", &named("broken.test"), KEYS)
            .camera("plain", plain.url(), KEYS)
            .camera("hosted", &hosted.url().replace("127.0.0.1", "hosted.test"), KEYS)
            .camera("secret", secret.url(), &format!("{KEYS}\ntls_verify = false"));
        for (number, name) in silent.iter().enumerate() {
            setup = setup.camera(&format!("silent{number}"), &named(name), KEYS);
        }
        let mut daemon = setup.start();
        for name in ["plain", "hosted", "secret"] {
            daemon.state(name, "streaming", 0, BACK_WITHIN);
        }
        let begin = (daemon.debug(), plain.frames_sent());
        tells_why(&daemon, &silent);
        comes_back_meanwhile(&daemon, &[("hosted", &hosted), ("secret", &secret)]);
        let end = (daemon.debug(), plain.frames_sent());
        let frames = |state: &watchpost::supervisor::DebugState| {
            state
                .cameras
                .iter()
                .find(|camera| camera.name == "plain")
                .map(|c| (c.frames_in, c.generation))
                .expect("it is there")
        };
        let (came, due) = (frames(&end.0).0 - frames(&begin.0).0, end.1 - begin.1);
        eprintln!("| plain: {came} of {due} frames |");
        assert_eq!(frames(&end.0).1, 1, "plain was restarted");
        // Some frames are on their way at either moment, on a busy machine a few.
        assert!(came as f64 >= 0.99 * due as f64 - 4.0, "plain got {came} of {due} frames");
        let held = usage(daemon.pid());
        eprintln!("| {SILENT_COUNT} names without an answer | {held:?} |");
        // As many lookups hang as cameras wait, however often each has tried.
        let lookups = lookups(daemon.pid());
        let each: BTreeSet<&String> = lookups.iter().collect();
        assert!(!lookups.is_empty() && each.len() == lookups.len(), "two lookups of one camera: {lookups:?}");

        // They are told in the end.
        let (mark, there) = (daemon.mark(), clock::now());
        for name in ["unknown.test", "broken.test", silent[0].as_str()] {
            names.say(name, Answer::Address(Ipv4Addr::new(127, 0, 1, 1)));
        }
        for name in ["unknown", "broken", "silent0"] {
            let streaming = daemon.state(name, "streaming", mark, BACK_WITHIN);
            eprintln!("| {name} | streaming {} after the name server knew |", seconds(there, streaming.at));
        }
        drop(late);
        let took = daemon.stop();
        eprintln!("| SIGTERM with {} names without an answer | {} ms |", SILENT_COUNT - 1, took.as_millis());
        let log = daemon.log().join("\n");
        assert!(!log.contains("left behind") && !log.contains("wedged"), "{log}");
        assert_consistent(&daemon.all_records());
    });
}

/// Each failure says what a person can do about it.
fn tells_why(daemon: &Daemon, silent: &[String]) {
    let unknown = fails(daemon, "unknown", 0);
    assert_eq!(unknown.reason(), Some("connect_failed"), "{unknown}");
    assert!(unknown.detail().contains("its name is not known to the name servers"), "{unknown}");
    let broken = fails(daemon, "broken", 0);
    assert_eq!(broken.reason(), Some("connect_failed"), "{broken}");
    assert!(broken.detail().contains("the name servers do not answer"), "{broken}");
    for number in 0..silent.len() {
        let waits = fails(daemon, &format!("silent{number}"), 0);
        assert_eq!(waits.reason(), Some("open_timeout"), "{waits}");
        assert!(waits.detail().contains("the name servers do not answer"), "{waits}");
    }
    eprintln!("| {} |\n| {} |", unknown, broken);
    eprintln!("| {} |", fails(daemon, "silent0", 0));
}

/// Cameras that are opened anew while others wait for the name server do not wait for it, nor for them.
fn comes_back_meanwhile(daemon: &Daemon, cameras: &[(&str, &TestCamera)]) {
    for _ in 0..3 {
        // Long enough that each of those who wait has asked again.
        pause(Duration::from_millis(2500));
        for (name, camera) in cameras {
            let mark = daemon.mark();
            camera.inject(Fault::Reset).expect("known");
            let closing = fails(daemon, name, mark);
            assert_eq!(closing.reason(), Some("eos"), "{closing}");
            daemon.find("it is back", mark, BACK_WITHIN, |record| {
                if record.camera != *name || record.generation == closing.generation {
                    return None;
                }
                assert_ne!(record.state(), Some("closing"), "the first try succeeds: {record}");
                record.stamp()
            });
        }
    }
}

/// Threads that ask for a name that has no answer.
fn lookups(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let names = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.starts_with("dns-silent")).collect()
}
