//! A leak in a running daemon is reported once, with its owner, as a record, in the metrics and in `debug`; and withdrawn when it is over. The same daemon without the leak says nothing.

mod fakes;

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use watchpost::camera::Reason;
use watchpost::source::{Fault, Opening, Receiver, Source};
use watchpost::supervisor::{GrowthPace, MemoryWatch, Supervisor, Verdict};

/// What takes minutes takes seconds: a point every 100 ms, so that 100 of them are 10 s.
const PACE: GrowthPace = GrowthPace {
    sample_every: Duration::from_millis(50),
    warm_up: Duration::from_millis(1000),
    point: Duration::from_millis(100),
};
const LEAK_BYTES: usize = 200 << 10;

/// A camera that cannot be opened, and as long as `leaks` says so loses memory in trying.
struct Leaky {
    leaks: Arc<AtomicBool>,
}

impl Source for Leaky {
    fn open(&self, _generation: u64, _receiver: Arc<dyn Receiver>) -> Result<Box<dyn Opening>, Fault> {
        if self.leaks.load(Ordering::Relaxed) {
            // Written to, so that it is resident.
            Box::leak(vec![1u8; LEAK_BYTES].into_boxed_slice());
        }
        Err(Fault { reason: Reason::ConnectFailed, detail: "on purpose".to_owned() })
    }
}

/// Runs for `time`, of which the first `leaking` with a leak. The growth records, and what `debug` says at the
/// end of the leak.
fn run(leaking: Duration, time: Duration) -> (Vec<serde_json::Value>, watchpost::supervisor::DebugState) {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = fakes::FakeEngine::new(Duration::ZERO, || {});
    let (mut parts, _sent) = fakes::parts(5, Duration::from_millis(20), engine, folder.path());
    let leaks = Arc::new(AtomicBool::new(!leaking.is_zero()));
    for source in &mut parts.sources[1..] {
        *source = Arc::new(Leaky { leaks: Arc::clone(&leaks) });
    }
    parts.config.supervisor.backoff_min = Duration::from_millis(100);
    parts.config.supervisor.backoff_max = Duration::from_millis(100);
    let watch = MemoryWatch { look_every: Duration::from_millis(50), growth: PACE, ..MemoryWatch::default() };
    let supervisor = Supervisor::start(parts).expect("starts").watch_memory_with(watch);
    let control = supervisor.control();
    let stream = UnixStream::connect(folder.path().join("records.sock")).expect("the socket is there");
    let reader = std::thread::spawn(move || {
        let lines = BufReader::new(stream).lines().map_while(Result::ok);
        lines
            .map(|line| serde_json::from_str(&line).expect("JSON"))
            .filter(|record: &serde_json::Value| record["type"] == "growth")
            .collect::<Vec<serde_json::Value>>()
    });
    let running = std::thread::spawn(move || supervisor.run());
    fakes::wait(leaking);
    let state = control.state(Duration::from_secs(2)).expect("the supervisor answers");
    leaks.store(false, Ordering::Relaxed);
    fakes::wait(time.saturating_sub(leaking));
    control.stop("the test is over");
    assert_eq!(running.join().expect("no panic"), Verdict::Stopped);
    (reader.join().expect("records"), state)
}

#[test]
fn a_leak_is_reported_once_with_its_owner_and_withdrawn_when_it_is_over() {
    // The control first: it grows by what the next one leaks otherwise.
    let (records, state) = run(Duration::ZERO, Duration::from_secs(6));
    assert!(records.is_empty(), "nothing grows: {records:?}");
    assert!(state.growth.as_array().is_some_and(|kinds| kinds.iter().all(|kind| kind["growing"] == false)));

    let (records, state) = run(Duration::from_secs(11), Duration::from_secs(22));
    for record in &records {
        println!("{record}");
    }
    assert_eq!(records.len(), 2, "once for the episode, once for its end: {records:?}");
    let (told, over) = (&records[0], &records[1]);
    assert_eq!((&told["kind"], &told["growing"]), (&"rss".into(), &true.into()));
    let detail = told["detail"].as_str().expect("a sentence");
    assert!(detail.starts_with("resident memory has grown by "), "{detail}");
    // 2xx KiB: the leaked block and what malloc adds.
    assert!(detail.contains("cameras were opened ") && detail.contains("that is 2"), "{detail}");
    assert!(told["per_hour"].as_f64().is_some_and(|rate| rate > 1e9), "{told}");
    assert_eq!((&over["kind"], &over["growing"]), (&"rss".into(), &false.into()));
    let of_debug = state.growth.as_array().expect("by kind").iter().find(|kind| kind["kind"] == "rss");
    assert_eq!(of_debug.expect("there")["growing"], true);
    assert_eq!(state.counters["watchpost_growing{kind=\"rss\"}"], 1);
    assert!(state.counters["watchpost_growth_bytes_per_hour{kind=\"rss\"}"].as_f64().expect("a rate") > 1e9);
}
