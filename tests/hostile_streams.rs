//! Cameras whose streams are damaged or lie: broken RTP, broken and absurd parameter sets, cut units, other codecs, false
//! clocks. The daemon neither crashes nor grows, says calmly what it saw, and has each camera back once its stream is
//! sane; the others notice nothing.

mod support;

use std::time::Duration;

use support::{Daemon, Setup, alone, assert_consistent, camera, detector, pause, scene, usage};
use watchpost::supervisor::DebugState;
use watchpost_testcam::{CameraOptions, Codec, Fault, Picture, TestCamera};

/// How long a fault lasts.
const HOLD: Duration = Duration::from_millis(1500);
/// How long recovery may take on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);
/// What memory may rise by at its peak: a few openings at once. Pictures of 16000x16000 would cost a decoder 900 MiB.
const PEAK_SLACK_KIB: u64 = 96 << 10;
/// Lines that the log may have, states included; no more than the daemon's reader keeps.
const LINES_MAX: usize = 400;

const KEYS: &str = "stall_timeout = \"2s\"\nopen_timeout = \"5s\"\ndetect_fps = 5\nread_stamp = true";
/// Name, codec and transport of those that suffer. What breaks the packets' headers reaches TCP only.
const VICTIMS: [(&str, Codec, &str); 4] = [
    ("h264", Codec::H264, "tcp"),
    ("h265", Codec::H265, "tcp"),
    ("mjpeg", Codec::Mjpeg, "tcp"),
    ("udp", Codec::H265, "udp"),
];

const SUPERVISOR: &str = "backoff_min = \"500ms\"\nbackoff_max = \"1s\"";

fn small(seed: u64, codec: Codec) -> CameraOptions {
    CameraOptions {
        picture: Picture::Scene { seed, width: 320, height: 192, fps: 15 },
        codec,
        ..CameraOptions::default()
    }
}

/// The most memory that a process has held so far.
fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("the process is there")
}

/// The codec that a camera is changed to.
fn another(codec: Codec) -> Codec {
    match codec {
        Codec::H264 => Codec::H265,
        Codec::H265 => Codec::Mjpeg,
        Codec::Mjpeg => Codec::H264,
    }
}

/// What each camera suffers in one round.
/// A name, and the fault for a camera of this codec.
type Named = (&'static str, fn(Codec) -> Fault);

fn faults() -> Vec<Named> {
    vec![
        ("broken packets", |_| Fault::BrokenPackets { seed: 7 }),
        ("lying reports", |_| Fault::LyingReports { seed: 7 }),
        ("broken headers", |_| Fault::BrokenHeaders { seed: 7 }),
        ("broken slices", |_| Fault::BrokenSlices { seed: 7 }),
        ("cut units", |_| Fault::CutUnits { seed: 7 }),
        ("16000x16000", |_| Fault::AbsurdSize { width: 16000, height: 16000 }),
        ("2x2", |_| Fault::AbsurdSize { width: 2, height: 2 }),
        ("0x0", |_| Fault::AbsurdSize { width: 0, height: 0 }),
        ("3 h ahead", |_| Fault::TimestampJump { seconds: 10_800 }),
        ("3 h back", |_| Fault::TimestampJump { seconds: -10_800 }),
        ("another codec", |codec| Fault::CodecChange { codec: another(codec) }),
        ("foreign codec", |codec| Fault::ForeignCodec { codec: another(codec) }),
    ]
}

struct Stage {
    daemon: Daemon,
    victims: Vec<(&'static str, Codec, TestCamera)>,
    neighbour: TestCamera,
}

impl Stage {
    fn new() -> Self {
        let victims: Vec<_> = VICTIMS
            .into_iter()
            .enumerate()
            .map(|(seed, (name, codec, _))| (name, codec, camera(small(seed as u64, codec))))
            .collect();
        let neighbour = camera(scene(9));
        let mut setup = Setup::new(&detector(), "").section("supervisor", SUPERVISOR);
        for ((name, _, camera), (.., transport)) in victims.iter().zip(VICTIMS) {
            setup = setup.camera(name, camera.url(), &format!("{KEYS}\ntransport = \"{transport}\""));
        }
        let daemon = setup.camera("calm", neighbour.url(), KEYS).start();
        let stage = Self { daemon, victims, neighbour };
        for name in VICTIMS.map(|(name, ..)| name).into_iter().chain(["calm"]) {
            stage.sees(name, 0, 0);
        }
        stage
    }

    /// Waits for detections in a picture with at least this number.
    fn sees(&self, name: &str, mark: usize, stamp: u64) {
        self.daemon.find(&format!("{name}: picture {stamp}"), mark, PATIENCE, |record| {
            (record.camera == name && record.stamp().is_some_and(|seen| seen >= stamp)).then_some(())
        });
    }

    fn frames_in(state: &DebugState, name: &str) -> (u64, u64) {
        let camera = state.cameras.iter().find(|camera| camera.name == name).expect("is there");
        (camera.frames_in, camera.generation)
    }

    /// One fault for all of them, from its beginning until all are back.
    fn suffer(&self, what: &str, fault: fn(Codec) -> Fault) {
        let (mark, before, sent_before) =
            (self.daemon.mark(), self.daemon.debug(), self.neighbour.frames_sent());
        for (_, codec, camera) in &self.victims {
            camera.inject(fault(*codec)).expect("the fault is known");
        }
        pause(HOLD);
        for (name, codec, camera) in &self.victims {
            match fault(*codec) {
                // What is too large is refused by name; a JPEG header cannot say as much.
                Fault::AbsurdSize { width: 16000, .. } if *codec != Codec::Mjpeg => {
                    let closing = self.daemon.state(name, "closing", mark, PATIENCE);
                    assert_eq!(closing.reason(), Some("unsupported"), "{closing}");
                    for words in ["16000x16000", "35 million pixels", "smaller size"] {
                        assert!(closing.detail().contains(words), "{words}: {closing}");
                    }
                }
                // It is watched in its new codec.
                Fault::CodecChange { .. } => {
                    self.daemon.state(name, "closing", mark, PATIENCE);
                    self.sees(name, mark, camera.stats().next_frame_number.into());
                }
                _ => {}
            }
        }
        let healed = self.daemon.mark();
        let stamps: Vec<u64> =
            self.victims.iter().map(|(.., camera)| camera.stats().next_frame_number.into()).collect();
        self.victims.iter().for_each(|(.., camera)| camera.heal());
        for ((name, ..), stamp) in self.victims.iter().zip(stamps) {
            self.sees(name, healed, stamp);
        }
        let (after, sent) = (self.daemon.debug(), self.neighbour.frames_sent() - sent_before);
        let ((was, old), (is, new)) = (Self::frames_in(&before, "calm"), Self::frames_in(&after, "calm"));
        assert_eq!(old, new, "{what}: the neighbour was restarted");
        // One frame may be on its way at either moment.
        assert!(
            (is - was) as f64 >= 0.99 * sent as f64 - 2.0,
            "{what}: the neighbour got {} of {sent}",
            is - was
        );
        let mut told: Vec<String> = Vec::new();
        for record in self.daemon.records_since(mark).iter().filter(|r| r.state() == Some("closing")) {
            let line = format!("{} {}", record.camera, record.reason().unwrap_or_default());
            if !told.contains(&line) {
                told.push(line);
            }
        }
        let peak = peak_kib(self.daemon.pid()) >> 10;
        eprintln!("| {what:14} | neighbour {} of {sent} | peak {peak} MiB | {} |", is - was, told.join(", "));
    }
}

#[test]
fn hostile_streams_are_survived_told_and_recovered_from() {
    let _alone = alone();
    let mut stage = Stage::new();
    let faults = faults();
    let mut warm = None;
    for (what, fault) in &faults {
        stage.suffer(what, *fault);
        warm.get_or_insert_with(|| (peak_kib(stage.daemon.pid()), usage(stage.daemon.pid())));
    }
    let (peak, warm) = warm.expect("there are faults");
    let end = usage(stage.daemon.pid());
    eprintln!("BAD INPUTS TRIED: {} streams", faults.len() * stage.victims.len());
    let highest = peak_kib(stage.daemon.pid());
    assert!(highest <= peak + PEAK_SLACK_KIB, "{} MiB became {} MiB", peak >> 10, highest >> 10);
    assert_eq!(end.fds, warm.fds, "descriptors");
    stage.daemon.stop();
    let log = stage.daemon.log();
    eprintln!("{} lines of log", log.len());
    assert!(log.len() < LINES_MAX, "{} lines are not calm", log.len());
    assert!(!log.iter().any(|line| line.contains("panicked")), "{log:#?}");
    assert_consistent(&stage.daemon.all_records());
}

#[test]
fn timestamps_and_sequence_numbers_wrap_without_notice() {
    let _alone = alone();
    // Three seconds before the wrap.
    let options =
        |seed| CameraOptions { first_timestamp: Some(u32::MAX - 3 * 90_000), ..small(seed, Codec::H264) };
    let (tcp, udp) = (camera(options(1)), camera(options(2)));
    let mut daemon = Setup::new(&detector(), "")
        .section("supervisor", SUPERVISOR)
        .camera("tcp", tcp.url(), KEYS)
        .camera("udp", udp.url(), &format!("{KEYS}\ntransport = \"udp\""))
        .start();
    for name in ["tcp", "udp"] {
        let first = daemon.find(name, 0, PATIENCE, |record| record.stamp().filter(|_| record.camera == name));
        daemon.find(&format!("{name} after the wrap"), 0, PATIENCE, |record| {
            let after = record.camera == name && record.stamp().is_some_and(|stamp| stamp > first + 5 * 15);
            after.then_some(())
        });
    }
    daemon.stop();
    let records = daemon.all_records();
    assert_consistent(&records);
    assert!(records.iter().all(|record| record.generation <= 1), "somebody was restarted");
}
