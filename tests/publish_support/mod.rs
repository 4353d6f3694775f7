//! What the tests of the outputs share.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use crossbeam_channel::{Receiver, bounded, never};
use watchpost::clock;
use watchpost::config::{OutputKind, OutputOptions};
use watchpost::metrics::{OutputSnapshot, Registry};
use watchpost::publish::{Detections, FrameSize, ModelPart, Object, Publisher, TsSource};

/// Long enough for a loaded machine; a test that needs it all has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn output(name: &str, kind: OutputKind) -> OutputOptions {
    OutputOptions { name: name.into(), kind, buffer_bytes: 1 << 20, max_readers: 64 }
}

pub fn unix(name: &str, path: &Path) -> OutputOptions {
    output(name, OutputKind::Unix { path: path.to_owned(), mode: 0o660, group: None })
}

pub fn tcp(name: &str) -> OutputOptions {
    output(name, OutputKind::Tcp { listen: SocketAddr::from(([127, 0, 0, 1], 0)) })
}

pub fn stdout(name: &str) -> OutputOptions {
    output(name, OutputKind::Stdout)
}

pub fn registry(outputs: &[OutputOptions]) -> Registry {
    Registry::new([], outputs.iter().map(|output| output.name.as_str()), clock::now())
}

/// Closed outputs, as `(output, reason)`.
pub type Closed = Receiver<(String, String)>;

pub fn start(outputs: &[OutputOptions], metrics: &Registry) -> (Publisher, Closed) {
    let (sender, closed) = bounded(16);
    let on_closed = move |output: &str, reason: &str| {
        let _ = sender.try_send((output.to_owned(), reason.to_owned()));
    };
    (Publisher::start(outputs, metrics, on_closed).expect("the outputs open"), closed)
}

pub fn snapshot(metrics: &Registry, output: &str) -> OutputSnapshot {
    metrics.output(output).expect("configured").snapshot()
}

/// Waits until `condition` holds; fails after [`PATIENCE`].
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = clock::now() + PATIENCE;
    while !condition() {
        assert!(clock::now() < deadline, "waited in vain: {what}");
        let _ = never::<()>().recv_timeout(Duration::from_millis(1));
    }
}

pub fn wait_for_readers(metrics: &Registry, output: &str, readers: u64) {
    eventually(&format!("{readers} readers on {output}"), || snapshot(metrics, output).readers == readers);
}

const LABELS: [&str; 3] = ["person", "行人", "a \"quoted\" one"];

/// Ten objects with borrowed labels.
pub fn objects() -> [Object<'static>; 10] {
    std::array::from_fn(|i| Object {
        track_id: (i % 2 == 0).then_some(i as u64),
        ..Object::new(
            LABELS[i % LABELS.len()],
            i as u32,
            0.5 + i as f32 / 100.0,
            [i as f32 * 10.3, 20.25, i as f32 * 10.3 + 99.9, 1000.0],
        )
    })
}

pub fn record<'a>(seq: u64, objects: &'a [Object<'a>]) -> Detections<'a> {
    Detections {
        camera: "gate",
        generation: 1,
        seq,
        ts: UNIX_EPOCH + Duration::from_millis(1_795_253_401_123 + seq),
        ts_source: TsSource::Arrival,
        pts_ns: Some(seq * 40_000_000),
        stamp: None,
        latency_ms: 41.7,
        frame: FrameSize { width: 1920, height: 1080 },
        model: ModelPart {
            name: "yolox-nano",
            sha256: "0123456789ab",
            backend: "builtin",
            precision: "fp32",
        },
        dropped_since_last: 0,
        objects,
    }
}

/// What a reader got of records with `seq` from 0: `(records, lost)`. Every line must parse, and the
/// sequence must be without a gap except where a `lost` record tells exactly how much is missing.
pub fn account(received: &[u8]) -> (u64, u64) {
    let (mut expected, mut records, mut lost) = (0, 0, 0);
    assert!(received.is_empty() || received.ends_with(b"\n"), "the last line is whole");
    for line in received.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let value: serde_json::Value = serde_json::from_slice(line).expect("every line is whole");
        match value["type"].as_str() {
            Some("lost") => {
                let missing = value["records"].as_u64().expect("a number");
                lost += missing;
                expected += missing;
            }
            Some("detections") => {
                assert_eq!(value["seq"].as_u64(), Some(expected), "after {records} records, {lost} lost");
                expected += 1;
                records += 1;
            }
            other => panic!("unexpected record {other:?}"),
        }
    }
    (records, lost)
}
