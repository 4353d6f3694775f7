//! Networks that lose, delay, reorder, slow down, part and forget: cameras in networks of their own, behind wires
//! that misbehave. What suffers is told and comes back, and who does not suffer notices nothing.

mod support;

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use support::{
    Daemon, PATIENCE, Record, Setup, Usage, alone, assert_consistent, camera, detector, pause, seconds,
    usage, wait_for,
};
use watchpost::clock;
use watchpost::supervisor::{CameraDebug, DebugState};
use watchpost_testcam::{CameraOptions, Picture, TestCamera};
use watchpost_wire::{Conditions, Counts, Ends, Namespace, Unavailable, Wire};

const KEYS: &str = "stall_timeout = \"2s\"\nopen_timeout = \"2500ms\"\ndetect_fps = 5\nread_stamp = true";
const SUPERVISOR: &str = "backoff_min = \"500ms\"\nbackoff_max = \"1s\"";
/// How long a bad wire stays bad.
const HOLD: Duration = Duration::from_secs(6);
/// A loaded machine may take so long until a camera is back.
const BACK_WITHIN: Duration = Duration::from_secs(60);
const RTSP_PORT: u16 = 8554;
/// What the heaps may still grow by; that nothing is lost, `cycles.rs` says more sharply.
const RSS_SLACK_BYTES: u64 = 8 << 20;

fn options(number: u8, address: Ipv4Addr) -> CameraOptions {
    CameraOptions {
        picture: Picture::Scene { seed: number.into(), width: 320, height: 192, fps: 15 },
        // So little that what waits in a camera's socket for a forgotten client does not hold up the others: the
        // server of the test camera sends a picture to all of its clients before the next one.
        bitrate_kbps: 100,
        address,
        port: RTSP_PORT,
        ..CameraOptions::default()
    }
}

/// A camera in a network of its own.
struct Remote {
    name: &'static str,
    number: u8,
    wire: Wire,
    far: Namespace,
    /// `None` while it starts anew.
    camera: Option<TestCamera>,
}

impl Remote {
    fn new(name: &'static str, number: u8) -> Result<Self, Unavailable> {
        let far = Namespace::new()?;
        let ends = Ends { near: address(number, 1), far: address(number, 2) };
        let wire = Wire::new(&format!("wire{number}"), &Namespace::current()?, &far, ends, number.into())?;
        let camera = Some(far.inside(|| camera(options(number, ends.far)))?);
        Ok(Self { name, number, wire, far, camera })
    }

    fn camera(&self) -> &TestCamera {
        self.camera.as_ref().expect("it runs")
    }

    /// Power off and on: nobody says goodbye, and afterwards nobody knows of a connection.
    fn start_anew(&mut self) -> Result<(), Unavailable> {
        self.wire.unplug();
        self.camera = None;
        self.far = Namespace::new()?;
        let address = address(self.number, 2);
        self.wire.plug(&self.far, address)?;
        self.camera = Some(self.far.inside(|| camera(options(self.number, address)))?);
        Ok(())
    }

    fn heal(&self, trouble: Trouble) -> Result<(), Unavailable> {
        match trouble {
            Trouble::Bad(_) | Trouble::Parted => self.wire.set(Conditions::default()),
            // The camera's sockets have not noticed: only the cable was out.
            Trouble::Unplugged => self.wire.plug(&self.far, address(self.number, 2))?,
            Trouble::Forgotten | Trouble::StartedAnew => {}
        }
        Ok(())
    }

    fn suffer(&mut self, trouble: Trouble) -> Result<(), Unavailable> {
        match trouble {
            Trouble::Bad(conditions) => self.wire.set(conditions),
            Trouble::Parted => self.wire.set(Conditions::PARTED),
            Trouble::Unplugged => self.wire.unplug(),
            Trouble::Forgotten => self.wire.forget(),
            Trouble::StartedAnew => return self.start_anew(),
        }
        Ok(())
    }
}

/// Each camera has a network of its own, where the daemon is 1 and the camera 2.
fn address(number: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, number, host)
}

/// What one camera suffers.
#[derive(Clone, Copy)]
enum Trouble {
    /// The wire is bad; the camera goes on with what arrives, or fails for a reason and comes back.
    Bad(Conditions),
    /// Nothing gets through.
    Parted,
    /// The far end is pulled out.
    Unplugged,
    /// The wire has forgotten all connections.
    Forgotten,
    /// Power off and on.
    StartedAnew,
}

struct Stage {
    daemon: Daemon,
    victims: Vec<Remote>,
    /// Behind a good wire.
    neighbour: Remote,
    /// On loopback.
    local: TestCamera,
}

/// Frames sent by the cameras and what the daemon has seen of them.
struct Count {
    victims: Vec<u64>,
    neighbours: [u64; 2],
    state: DebugState,
}

impl Stage {
    fn new() -> Result<Self, Unavailable> {
        let kinds =
            [("wired", "tcp"), ("radio", "udp"), ("distant", "tcp"), ("shuffled", "udp"), ("narrow", "tcp")];
        let mut setup = Setup::new(&detector(), "").section("supervisor", SUPERVISOR);
        let mut victims = Vec::new();
        for (number, (name, transport)) in (1..).zip(kinds) {
            let victim = Remote::new(name, number)?;
            let keys = format!("{KEYS}\ntransport = \"{transport}\"");
            setup = setup.camera(name, victim.camera().url(), &keys);
            victims.push(victim);
        }
        let neighbour = Remote::new("neighbour", 100)?;
        let local = camera(CameraOptions { port: 0, ..options(101, Ipv4Addr::LOCALHOST) });
        let setup =
            setup.camera("neighbour", neighbour.camera().url(), KEYS).camera("local", local.url(), KEYS);
        let stage = Self { daemon: setup.start(), victims, neighbour, local };
        for victim in &stage.victims {
            stage.sees(victim.name, 0, 0);
        }
        stage.sees("neighbour", 0, 0);
        stage.sees("local", 0, 0);
        Ok(stage)
    }

    /// Waits for detections in a picture with at least this number; returns when they came.
    fn sees(&self, name: &str, mark: usize, stamp: u64) -> Instant {
        self.daemon.find(&format!("{name}: picture {stamp}"), mark, BACK_WITHIN, |record| {
            (record.camera == name && record.stamp().is_some_and(|seen| seen >= stamp)).then_some(record.at)
        })
    }

    fn count(&self) -> Count {
        Count {
            victims: self.victims.iter().map(|victim| victim.camera().frames_sent()).collect(),
            neighbours: [self.neighbour.camera().frames_sent(), self.local.frames_sent()],
            state: self.daemon.debug(),
        }
    }

    /// All victims suffer at once, each its own trouble; a row of the table for each.
    fn suffer(&mut self, troubles: [(&str, Trouble); 5]) -> Result<(), Unavailable> {
        let before = self.count();
        let (mark, began) = (self.daemon.mark(), clock::now());
        let carried: Vec<Counts> = self.victims.iter().map(|victim| victim.wire.counts()).collect();
        for (victim, (_, trouble)) in self.victims.iter_mut().zip(troubles) {
            victim.suffer(trouble)?;
        }
        let closed: Vec<Option<Record>> = self
            .victims
            .iter()
            .zip(troubles)
            .map(|(victim, (_, trouble))| self.noticed(victim, trouble, mark))
            .collect();
        pause(HOLD.saturating_sub(began.elapsed()));
        for ((victim, (what, trouble)), before) in self.victims.iter().zip(troubles).zip(&carried) {
            wait_for(&format!("{what}: it happens"), PATIENCE, || {
                before.shows(trouble, victim.wire.counts()).then_some(())
            });
        }
        let during = self.count();
        let (healed, healed_mark) = (clock::now(), self.daemon.mark());
        let stamps: Vec<u64> =
            self.victims.iter().map(|victim| victim.camera().stats().next_frame_number.into()).collect();
        for (victim, (_, trouble)) in self.victims.iter().zip(troubles) {
            victim.heal(trouble)?;
        }
        for (index, (what, trouble)) in troubles.into_iter().enumerate() {
            let victim = &self.victims[index];
            let recovered = match (&closed[index], trouble) {
                (Some(closing), Trouble::Forgotten | Trouble::StartedAnew) => {
                    seconds(closing.at, self.back(victim.name, mark, closing.generation))
                }
                _ => seconds(healed, self.sees(victim.name, healed_mark, stamps[index])),
            };
            self.stays_dark(victim.name, trouble, mark..healed_mark);
            let arrived = 100.0 * arrived(victim.name, &before, &during) as f64
                / (during.victims[index].saturating_sub(before.victims[index]).max(1)) as f64;
            let arrived =
                if matches!(trouble, Trouble::Bad(_)) { format!("{arrived:.0} %") } else { "-".to_owned() };
            let noticed = closed[index].as_ref().map_or("-".to_owned(), |closing| seconds(began, closing.at));
            let reasons = self.reasons(victim.name, mark);
            eprintln!(
                "| {:8} {what:44} | {reasons:28} | {noticed:7} | {recovered:7} | {arrived:6} |",
                victim.name
            );
        }
        self.neighbours(&before);
        Ok(())
    }

    /// The record that says that the camera was taken down, where it has to be.
    fn noticed(&self, victim: &Remote, trouble: Trouble, mark: usize) -> Option<Record> {
        if matches!(trouble, Trouble::Bad(_)) {
            return None;
        }
        let closing = self.daemon.state(victim.name, "closing", mark, PATIENCE);
        // A connection whose packets go nowhere is silent; one that the new machine knows nothing of is reset.
        assert!(matches!(closing.reason(), Some("stalled" | "eos")), "{closing}");
        Some(closing)
    }

    /// When the first picture of a later opening came.
    fn back(&self, name: &str, mark: usize, closed: u64) -> Instant {
        self.daemon.find(&format!("{name} is back"), mark, BACK_WITHIN, |record| {
            (record.camera == name && record.generation > closed && record.stamp().is_some())
                .then_some(record.at)
        })
    }

    /// What is told of a camera that cannot be reached: after it was noticed, nothing but states.
    fn stays_dark(&self, name: &str, trouble: Trouble, during: std::ops::Range<usize>) {
        if !matches!(trouble, Trouble::Parted | Trouble::Unplugged) {
            return;
        }
        let records = self.daemon.records_since(during.start);
        let records: Vec<_> = records[..during.len()].iter().filter(|record| record.camera == name).collect();
        let closing =
            records.iter().position(|record| record.state() == Some("closing")).expect("it was noticed");
        let seen = records[closing..].iter().find(|record| !record.is_state());
        assert!(seen.is_none(), "{name}: seen behind a wire that carries nothing: {seen:?}");
    }

    fn reasons(&self, name: &str, mark: usize) -> String {
        let records = self.daemon.records_since(mark);
        let closings = records.iter().filter(|r| r.camera == name && r.state() == Some("closing"));
        let mut reasons: Vec<&str> = closings.filter_map(|record| record.reason()).collect();
        reasons.dedup();
        if reasons.is_empty() { "goes on".to_owned() } else { reasons.join(", ") }
    }

    /// Nobody else was restarted; the frames that they have got since then.
    fn neighbours(&self, before: &Count) -> [(&'static str, u64, u64); 2] {
        let after = self.count();
        let mut rows = [("neighbour", 0, 0), ("local", 0, 0)];
        for ((name, came, due), index) in rows.iter_mut().zip(0..) {
            assert_eq!(
                debug(name, &after).generation,
                debug(name, before).generation,
                "{name} was restarted"
            );
            *came = arrived(name, before, &after);
            *due = after.neighbours[index] - before.neighbours[index];
            eprintln!("  {name}: {came} of {due} frames");
        }
        rows
    }
}

fn debug<'a>(name: &str, count: &'a Count) -> &'a CameraDebug {
    count.state.cameras.iter().find(|camera| camera.name == name).expect("it is configured")
}

fn arrived(name: &str, before: &Count, after: &Count) -> u64 {
    debug(name, after).frames_in - debug(name, before).frames_in
}

/// Whether what a wire has counted shows that the trouble has taken place.
trait Shows {
    fn shows(&self, trouble: Trouble, after: Counts) -> bool;
}

impl Shows for Counts {
    fn shows(&self, trouble: Trouble, after: Counts) -> bool {
        let lost = after.lost > self.lost;
        match trouble {
            Trouble::Bad(told) => {
                (lost || told.loss == 0.0 && told.bytes_per_s.is_none())
                    && (after.repeated > self.repeated || told.duplicate == 0.0)
                    && (after.reordered > self.reordered || told.reorder == 0.0)
            }
            Trouble::Parted | Trouble::Unplugged => lost,
            Trouble::Forgotten => after.forgotten > self.forgotten,
            Trouble::StartedAnew => true,
        }
    }
}

const MS: Duration = Duration::from_millis(1);
const GOOD: Conditions = Conditions { loss: 0.0, ..Conditions::PARTED };

fn network() -> Result<(), Unavailable> {
    let mut stage = Stage::new()?;
    let begin = stage.count();
    let bad = Trouble::Bad;
    stage.suffer([
        ("tcp: 2 % lost", bad(Conditions { loss: 0.02, ..GOOD })),
        ("udp: 2 % lost", bad(Conditions { loss: 0.02, ..GOOD })),
        ("tcp: 100 ms each way, +-50 ms", bad(Conditions { delay: MS * 100, jitter: MS * 50, ..GOOD })),
        (
            "udp: 20 ms, 25 % overtake, 5 % twice",
            bad(Conditions { delay: MS * 20, reorder: 0.25, duplicate: 0.05, ..GOOD }),
        ),
        ("tcp: 6 kB/s", bad(Conditions { bytes_per_s: Some(6_000), ..GOOD })),
    ])?;
    let warm = settled(&stage, None);
    stage.suffer([
        ("tcp: parted", Trouble::Parted),
        ("udp: unplugged", Trouble::Unplugged),
        ("tcp: forgotten by a NAT", Trouble::Forgotten),
        ("udp: power off and on", Trouble::StartedAnew),
        ("tcp: power off and on", Trouble::StartedAnew),
    ])?;
    stage.suffer([
        ("tcp: 10 % lost", bad(Conditions { loss: 0.1, ..GOOD })),
        ("udp: 10 % lost", bad(Conditions { loss: 0.1, ..GOOD })),
        (
            "tcp: 20 ms, 25 % overtake, 5 % twice",
            bad(Conditions { delay: MS * 20, reorder: 0.25, duplicate: 0.05, ..GOOD }),
        ),
        ("udp: 100 ms each way, +-50 ms", bad(Conditions { delay: MS * 100, jitter: MS * 50, ..GOOD })),
        ("tcp: unplugged", Trouble::Unplugged),
    ])?;
    let end = settled(&stage, Some(warm));
    eprintln!("the daemon after the first troubles: {warm:?}, after the last: {end:?}");
    for (name, came, due) in stage.neighbours(&begin) {
        // Some frames are on their way at either moment, on a busy machine a few.
        assert!(came as f64 >= 0.99 * due as f64 - 4.0, "{name} got {came} of {due} frames");
    }
    assert!(end.rss_bytes <= warm.rss_bytes + RSS_SLACK_BYTES, "memory grew");
    stage.daemon.stop();
    assert_consistent(&stage.daemon.all_records());
    Ok(())
}

/// What the daemon holds once all cameras stream; with `like`, once it holds no more than that.
fn settled(stage: &Stage, like: Option<Usage>) -> Usage {
    wait_for("descriptors and threads are what they were", BACK_WITHIN, || {
        let all = stage.daemon.debug().cameras.iter().all(|camera| camera.state == "streaming");
        let usage = usage(stage.daemon.pid());
        let fits = like.is_none_or(|like| usage.fds <= like.fds && usage.threads <= like.threads);
        (all && fits).then_some(usage)
    })
}

/// Routes that lead nowhere, and what has to be told of cameras behind them.
const NOWHERE: [(&str, &str, &str); 3] = [
    ("unrouted", "", "this machine has no route to it"),
    ("unreachable", "unreachable", "no machine answers at its address"),
    ("prohibited", "prohibit", "a rule of this machine forbids it"),
];

fn routes() {
    let mut setup = Setup::new(&detector(), "").section("supervisor", SUPERVISOR);
    for (number, (name, route, _)) in (1..).zip(NOWHERE) {
        if !route.is_empty() {
            let route = ["route", "add", route, &format!("{}/24", address(number, 0))];
            assert!(Command::new("ip").args(route).status().expect("iproute2 is there").success());
        }
        setup = setup.camera(name, &format!("rtsp://{}/stream", address(number, 2)), KEYS);
    }
    let mut daemon = setup.start();
    for (name, _, words) in NOWHERE {
        let closing = daemon.state(name, "closing", 0, PATIENCE);
        eprintln!("| {closing} |");
        assert_eq!(closing.reason(), Some("connect_failed"), "{closing}");
        assert!(closing.detail().contains(words), "{closing}");
    }
    daemon.stop();
    assert_consistent(&daemon.all_records());
}

#[test]
fn why_a_camera_cannot_be_reached_is_told() {
    let _alone = alone();
    if !watchpost_wire::as_root("why_a_camera_cannot_be_reached_is_told") {
        return;
    }
    if let Err(why) = watchpost_wire::stage(&[], routes) {
        eprintln!("NOT TESTED: routes that lead nowhere: {why}");
    }
}

#[test]
fn bad_networks_are_told_and_recovered_from_and_the_neighbours_go_on() {
    let _alone = alone();
    if !watchpost_wire::as_root("bad_networks_are_told_and_recovered_from_and_the_neighbours_go_on") {
        return;
    }
    match watchpost_wire::stage(&[], network).and_then(|done| done) {
        Ok(()) => {}
        Err(why) => eprintln!("NOT TESTED: bad networks: {why}"),
    }
}
