//! Every fault that the test camera knows: the daemon notices it in time, tells the story, publishes nothing
//! that was not seen, comes back by itself when the camera does, and the other cameras notice nothing.

mod support;

use std::time::{Duration, Instant};

use support::{
    Body, Daemon, Setup, alone, assert_consistent, camera, detector, pause, scene, seconds, usage,
};
use watchpost::clock;
use watchpost::supervisor::DebugState;
use watchpost_testcam::{CameraOptions, Codec, Credentials, Fault, Picture, TestCamera, Tls};

const STALL: Duration = Duration::from_secs(2);
/// What the daemon may take beyond its own timeouts to notice a fault.
const NOTICE_WITHIN: Duration = Duration::from_secs(1);
/// What it may take beyond `stall_timeout` until it has seen a new picture after the end of a fault.
const RECOVER_WITHIN: Duration = Duration::from_secs(3);
/// How long a fault lasts.
const HOLD: Duration = Duration::from_secs(5);

/// What the heaps may still grow by; that nothing is lost, `cycles.rs` says more sharply.
const RSS_SLACK_BYTES: u64 = 8 << 20;

const KEYS: &str = "stall_timeout = \"2s\"\nopen_timeout = \"2500ms\"\ndetect_fps = 5\nread_stamp = true";
const SUPERVISOR: &str = "backoff_min = \"500ms\"\nbackoff_max = \"1s\"";
const PASSWORD: &str = "correct-horse-battery";

/// What a fault has to look like from outside.
enum Effect {
    /// The camera is taken down for one of these reasons, and while the fault lasts it fails for one of those.
    Outage { first: &'static [&'static str], then: &'static [&'static str] },
    /// The camera is taken down for one of these reasons, and is back while the fault lasts: it is only old
    /// connections that are broken.
    Restart(&'static [&'static str]),
    /// The camera goes on, in this size.
    NewSize(u32, u32),
    /// The camera goes on with what can be decoded; if nothing can, it is taken down.
    Damage,
    /// Only who connects anew notices: the first frame does not come in time.
    SlowOpening,
}

fn effect(fault: Fault) -> Effect {
    match fault {
        Fault::StopSending | Fault::Vanish => Effect::Outage { first: &["stalled"], then: &["open_timeout"] },
        Fault::KeepaliveOnly => Effect::Outage { first: &["stalled"], then: &["open_timeout"] },
        Fault::FrozenPicture => Effect::Outage { first: &["frozen_picture"], then: &["frozen_picture"] },
        Fault::FrozenTimestamps => Effect::Outage { first: &["stalled"], then: &["stalled", "open_timeout"] },
        Fault::Close => Effect::Outage { first: &["eos"], then: &["connect_failed"] },
        Fault::AcceptSilent => Effect::Outage { first: &["eos"], then: &["open_timeout"] },
        Fault::Garbage { .. } => Effect::Outage {
            first: &["source_error", "stalled", "eos"],
            then: &["source_error", "open_timeout"],
        },
        Fault::Forget => Effect::Restart(&["stalled"]),
        Fault::Reset => Effect::Restart(&["eos"]),
        Fault::RefuseCredentials => Effect::Outage { first: &["eos"], then: &["unauthorized"] },
        Fault::CorruptPayload { .. } => Effect::Damage,
        Fault::ResolutionChange { width, height } => Effect::NewSize(width, height),
        Fault::SlowStart { .. } => Effect::SlowOpening,
        // Those have a test of their own: hostile_streams.rs.
        hostile => unreachable!("{}", hostile.name()),
    }
}

/// What is told of an opening that takes too long: how far it came.
fn where_it_stands(fault: Fault) -> &'static str {
    match fault {
        Fault::Vanish => "nothing answers at the camera's address",
        Fault::StopSending | Fault::AcceptSilent => "does not answer requests",
        Fault::KeepaliveOnly | Fault::SlowStart { .. } => "has agreed to send, but no picture has come",
        _ => "",
    }
}

/// The daemon, the camera that misbehaves, and those that do not.
struct Stage {
    daemon: Daemon,
    victim: TestCamera,
    /// With the names of those who watch it.
    healthy: Vec<(TestCamera, &'static [&'static str])>,
    /// Frames that the healthy cameras sent, and that arrived, over all faults.
    sent: u64,
    arrived: u64,
}

/// Counters at one moment.
struct Count {
    at: Instant,
    sent: Vec<u64>,
    state: DebugState,
}

impl Stage {
    fn new() -> Self {
        let credentials = Credentials { user: "viewer".to_owned(), password: PASSWORD.to_owned() };
        let victim = camera(CameraOptions { credentials: Some(credentials), ..scene(1) });
        let healthy: Vec<(TestCamera, &[&str])> =
            vec![(camera(scene(2)), &["a", "b"] as &[&str]), (camera(scene(3)), &["c"])];
        let mut setup = Setup::new(&detector(), "")
            .env("VICTIM_PASSWORD", PASSWORD)
            .section("supervisor", SUPERVISOR)
            .camera(
                "victim",
                victim.url(),
                &format!("{KEYS}\nfreeze_timeout = \"2s\"\nusername = \"viewer\"\npassword_env = \"VICTIM_PASSWORD\""),
            );
        for (camera, names) in &healthy {
            for name in *names {
                setup = setup.camera(name, camera.url(), KEYS);
            }
        }
        let daemon = setup.start();
        let stage = Self { daemon, victim, healthy, sent: 0, arrived: 0 };
        for name in ["victim", "a", "b", "c"] {
            stage.detections(name, 0, support::PATIENCE, 0);
        }
        stage
    }

    /// Waits for detections in a picture with at least this number; returns when they came.
    fn detections(&self, name: &str, mark: usize, patience: Duration, stamp: u64) -> Instant {
        self.daemon.find(&format!("{name}: detections from picture {stamp} on"), mark, patience, |record| {
            (record.camera == name && record.stamp().is_some_and(|seen| seen >= stamp)).then_some(record.at)
        })
    }

    fn count(&self) -> Count {
        let sent = self.healthy.iter().map(|(camera, _)| camera.frames_sent()).collect();
        Count { at: clock::now(), sent, state: self.daemon.debug() }
    }

    /// What arrived of what the healthy cameras sent; asserts that they were left in peace.
    fn neighbours(&mut self, name: &str, before: &Count, after: &Count) -> String {
        let (mut sent, mut arrived) = (0, 0);
        let mut of_nominal: f64 = f64::MAX;
        let nominal = 15.0 * after.at.duration_since(before.at).as_secs_f64();
        for (index, (_, names)) in self.healthy.iter().enumerate() {
            for neighbour in *names {
                let [then, now] = [before, after].map(|count| {
                    count.state.cameras.iter().find(|c| c.name == **neighbour).expect("is there")
                });
                assert_eq!(now.generation, then.generation, "{name}: {neighbour} was restarted");
                let came = now.frames_in - then.frames_in;
                let due = after.sent[index] - before.sent[index];
                // One frame may be on its way at either moment.
                assert!(
                    came as f64 >= 0.99 * due as f64 - 2.0,
                    "{name}: {neighbour} got {came} of {due} frames"
                );
                of_nominal = of_nominal.min(came as f64 / nominal);
                sent += due;
                arrived += came;
            }
        }
        self.sent += sent;
        self.arrived += arrived;
        format!("{:.1} % ({:.0} % of 15/s)", 100.0 * arrived as f64 / sent as f64, 100.0 * of_nominal)
    }

    /// One fault from its beginning to the recovery; a row of the table.
    fn suffer(&mut self, fault: Fault) -> [String; 6] {
        let (before, mark, began) = (self.count(), self.daemon.mark(), clock::now());
        self.victim.inject(fault).expect("the fault is known");
        let noticed = self.outage(fault, mark, began);
        let stamp = u64::from(self.victim.stats().next_frame_number);
        let (mut healed, mark) = (clock::now(), self.daemon.mark());
        self.victim.heal();
        if let (Effect::Restart(_), (_, Some(noticed))) = (effect(fault), &noticed) {
            // What was broken was gone when it was noticed.
            healed = *noticed;
        }
        let recovered = self.detections("victim", mark, STALL + RECOVER_WITHIN, stamp);
        if let Effect::NewSize(..) = effect(fault) {
            self.sees_size(640, 360, mark);
        }
        let after = self.count();
        let neighbours = self.neighbours(fault.name(), &before, &after);
        let (reasons, noticed) = noticed;
        let noticed = noticed.map_or("-".to_owned(), |at| seconds(began, at));
        let rss = format!("{:.1} MiB", usage(self.daemon.pid()).rss_bytes as f64 / f64::from(1 << 20));
        [fault.name().to_owned(), reasons, noticed, seconds(healed, recovered), neighbours, rss]
    }

    /// The fault's time; why the camera was down, and when that was noticed.
    fn outage(&self, fault: Fault, mark: usize, began: Instant) -> (String, Option<Instant>) {
        let down_in_time = |reasons: &[&str]| {
            let closing = self.daemon.state("victim", "closing", mark, STALL + NOTICE_WITHIN);
            assert!(closing.at.duration_since(began) <= STALL + NOTICE_WITHIN, "noticed late: {closing}");
            let reason = closing.reason().unwrap_or_default();
            assert!(reasons.contains(&reason), "not one of {reasons:?}: {closing}");
            closing
        };
        let noticed = match effect(fault) {
            Effect::Outage { first, then } => {
                let closing = down_in_time(first);
                let _tries_again = self.daemon.state("victim", "opening", mark, STALL + NOTICE_WITHIN);
                // So long that also the next opening can fail.
                self.daemon.find(
                    &format!("{} fails again: {then:?}", fault.name()),
                    mark,
                    HOLD + STALL,
                    |record| {
                        let again =
                            record.generation > closing.generation && record.state() == Some("closing");
                        let told = again && then.contains(&record.reason().unwrap_or_default());
                        if told && record.reason() == Some("open_timeout") {
                            assert!(record.detail().contains(where_it_stands(fault)), "{record}");
                        }
                        told.then_some(())
                    },
                );
                Some(closing.at)
            }
            Effect::Restart(reasons) => {
                let closing = down_in_time(reasons);
                self.daemon.find("it streams again", mark, STALL + RECOVER_WITHIN, |record| {
                    let again = record.generation > closing.generation;
                    (record.camera == "victim" && again && record.state() == Some("streaming")).then_some(())
                });
                Some(closing.at)
            }
            Effect::NewSize(width, height) => {
                self.sees_size(width, height, mark);
                None
            }
            Effect::SlowOpening => {
                self.opens_slowly(fault, mark);
                None
            }
            Effect::Damage => None,
        };
        if !matches!(effect(fault), Effect::Restart(_)) {
            pause(HOLD.saturating_sub(began.elapsed()));
        }
        let records = self.daemon.records_since(mark);
        let victims = records.iter().filter(|record| record.camera == "victim");
        let mut reasons: Vec<&str> = victims
            .clone()
            .filter(|record| record.state() == Some("closing"))
            .filter_map(|record| record.reason())
            .collect();
        reasons.dedup();
        if let Effect::NewSize(..) = effect(fault) {
            assert!(reasons.is_empty(), "a new size is no reason to restart: {reasons:?}");
        }
        let reasons = if reasons.is_empty() { "goes on".to_owned() } else { reasons.join(", ") };
        (reasons, noticed)
    }

    /// Whoever is connected already notices nothing; who connects anew waits too long.
    fn opens_slowly(&self, fault: Fault, mark: usize) {
        pause(Duration::from_secs(1));
        assert!(!self.daemon.records_since(mark).iter().any(|r| r.camera == "victim" && r.is_state()));
        self.victim.inject(Fault::Close).expect("known");
        self.daemon.state("victim", "closing", mark, NOTICE_WITHIN);
        self.victim.inject(fault).expect("known");
        self.daemon.find("the opening takes too long", mark, HOLD, |record| {
            let told = record.camera == "victim" && record.reason() == Some("open_timeout");
            assert!(!told || record.detail().contains(where_it_stands(fault)), "{record}");
            told.then_some(())
        });
    }

    fn sees_size(&self, wanted_width: u32, wanted_height: u32, mark: usize) {
        self.daemon.find(
            &format!("{wanted_width}x{wanted_height}"),
            mark,
            Duration::from_secs(3),
            |record| match record.body {
                Body::Detections { width, height, .. } if record.camera == "victim" => {
                    ((width, height) == (wanted_width, wanted_height)).then_some(())
                }
                _ => None,
            },
        );
    }
}

#[test]
fn every_fault_is_noticed_told_and_recovered_from_and_the_neighbours_go_on() {
    let _alone = alone();
    let mut stage = Stage::new();
    let mut rows = vec![
        ["fault", "reasons", "noticed after", "recovered after", "neighbours", "rss"].map(str::to_owned),
    ];
    let mut warm = None;
    for fault in Fault::all().into_iter().filter(|fault| !fault.is_hostile()) {
        let row = stage.suffer(fault);
        eprintln!("{}", row.join(" | "));
        rows.push(row);
        // Warm is a daemon in which everything has happened once, a restart as well.
        warm.get_or_insert_with(|| usage(stage.daemon.pid()));
    }
    let warm = warm.expect("there are faults");
    let end = usage(stage.daemon.pid());
    print_table(&rows);
    eprintln!("the daemon after the first fault: {warm:?}, after the last: {end:?}");
    assert!(stage.arrived as f64 >= 0.99 * stage.sent as f64, "{} of {}", stage.arrived, stage.sent);
    assert!(end.rss_bytes <= warm.rss_bytes + RSS_SLACK_BYTES, "memory grew");
    assert_eq!(end.fds, warm.fds, "descriptors");
    stage.daemon.stop();
    let log = stage.daemon.log().join("\n");
    let records = stage.daemon.all_records();
    assert_consistent(&records);
    assert!(!log.contains(PASSWORD), "the password is in the log");
    assert!(!records.iter().any(|record| record.detail().contains(PASSWORD)), "the password is in a record");
}

fn print_table(rows: &[[String; 6]]) {
    for row in rows {
        let [fault, reasons, noticed, recovered, neighbours, rss] = row;
        eprintln!(
            "| {fault:18} | {reasons:25} | {noticed:13} | {recovered:15} | {neighbours:24} | {rss:9} |"
        );
    }
}

/// A small scene, so that four encoders and four decoders find room on two cores.
fn small(seed: u64, codec: Codec) -> CameraOptions {
    CameraOptions {
        picture: Picture::Scene { seed, width: 320, height: 192, fps: 15 },
        codec,
        ..CameraOptions::default()
    }
}

#[test]
fn other_codecs_and_transports_fail_and_come_back_alike() {
    let _alone = alone();
    let tls = CameraOptions { tls: Some(Tls::SelfSigned), ..small(4, Codec::H264) };
    let kinds: [(&str, CameraOptions, &str); 4] = [
        ("udp", small(1, Codec::H264), "transport = \"udp\""),
        ("mjpeg", small(2, Codec::Mjpeg), ""),
        ("h265", small(3, Codec::H265), ""),
        ("tls", tls, "tls_verify = false"),
    ];
    let mut setup = Setup::new(&detector(), "").section("supervisor", SUPERVISOR);
    let mut cameras = Vec::new();
    for (name, options, keys) in kinds {
        let camera = camera(options);
        setup = setup.camera(name, camera.url(), &format!("{KEYS}\n{keys}"));
        cameras.push((name, camera));
    }
    let mut daemon = setup.start();
    let sees = |daemon: &Daemon, name: &str, mark: usize, patience: Duration, stamp: u64| {
        daemon.find(&format!("{name}: picture {stamp}"), mark, patience, |record| {
            (record.camera == name && record.stamp().is_some_and(|seen| seen >= stamp)).then_some(record.at)
        })
    };
    for (name, _) in &cameras {
        sees(&daemon, name, 0, support::PATIENCE, 0);
    }
    for fault in [Fault::KeepaliveOnly, Fault::FrozenTimestamps, Fault::Vanish] {
        let (mark, began) = (daemon.mark(), clock::now());
        for (_, camera) in &cameras {
            camera.inject(fault).expect("known");
        }
        let noticed: Vec<Instant> = cameras
            .iter()
            .map(|(name, _)| {
                let closing = daemon.state(name, "closing", mark, STALL + NOTICE_WITHIN);
                assert_eq!(closing.reason(), Some("stalled"), "{closing}");
                closing.at
            })
            .collect();
        pause(Duration::from_secs(4).saturating_sub(began.elapsed()));
        let (mark, healed) = (daemon.mark(), clock::now());
        let stamps: Vec<u64> =
            cameras.iter().map(|(_, camera)| camera.stats().next_frame_number.into()).collect();
        for (_, camera) in &cameras {
            camera.heal();
        }
        for (index, (name, _)) in cameras.iter().enumerate() {
            let recovered = sees(&daemon, name, mark, STALL + RECOVER_WITHIN, stamps[index]);
            let (noticed, recovered) = (seconds(began, noticed[index]), seconds(healed, recovered));
            eprintln!(
                "| {:18} | {name:6} | noticed after {noticed} | recovered after {recovered} |",
                fault.name()
            );
        }
    }
    daemon.stop();
    assert_consistent(&daemon.all_records());
}

#[test]
fn a_wrong_password_is_told_as_such_and_the_right_one_works() {
    let _alone = alone();
    let credentials = Credentials { user: "viewer".to_owned(), password: PASSWORD.to_owned() };
    let camera = camera(CameraOptions { credentials: Some(credentials), ..small(1, Codec::H264) });
    let login = |variable: &str| format!("{KEYS}\nusername = \"viewer\"\npassword_env = \"{variable}\"");
    let mut daemon = Setup::new(&detector(), "")
        .section("supervisor", SUPERVISOR)
        .env("RIGHT", PASSWORD)
        .env("WRONG", "staple-of-lies")
        .camera("right", camera.url(), &login("RIGHT"))
        .camera("wrong", camera.url(), &login("WRONG"))
        .camera("nobody", camera.url(), KEYS)
        .start();
    let wrong = daemon.state("wrong", "closing", 0, support::PATIENCE);
    assert_eq!(wrong.reason(), Some("unauthorized"), "{wrong}");
    assert!(wrong.detail().contains("viewer") && wrong.detail().contains("password"), "{wrong}");
    let nobody = daemon.state("nobody", "closing", 0, support::PATIENCE);
    assert_eq!(nobody.reason(), Some("unauthorized"), "{nobody}");
    daemon.state("right", "streaming", 0, support::PATIENCE);
    daemon.stop();
    let log = daemon.log().join("\n");
    for secret in [PASSWORD, "staple-of-lies"] {
        assert!(!log.contains(secret), "{log}");
        assert!(daemon.all_records().iter().all(|record| !record.detail().contains(secret)));
    }
}
