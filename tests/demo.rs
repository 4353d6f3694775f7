//! `watchpost demo` as a user runs it: the real daemon over real RTSP, held against the scene's truth.

#[path = "program/disk.rs"]
mod disk;

use std::path::Path;
use std::process::Command;

use disk::Disk;
use serde_json::Value;

#[test]
fn the_demo_finds_what_is_there_and_accounts_for_every_frame() {
    let program = Path::new(env!("CARGO_BIN_EXE_watchpost"));
    if !program.with_file_name("watchpost-testcam").is_file() {
        eprintln!("NOT TESTED: the demo: watchpost-testcam is not built; run `cargo test --workspace`");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let report = folder.path().join("report.json");
    let output = Command::new(program)
        .args(["demo", "--duration", "10s", "--report"])
        .arg(&report)
        .output()
        .expect("it runs");
    let table = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{table}");
    eprintln!("{table}");

    let report: Value =
        serde_json::from_str(&std::fs::read_to_string(&report).expect("written")).expect("JSON");
    let number = |pointer: &str| {
        report.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer}: {report}"))
    };
    assert!(number("/recall") >= 0.95 && number("/precision") >= 0.95, "{table}");
    // Enough to mean something, and on every frame that was detected.
    assert!(number("/frames_scored") >= 100.0 && number("/counts/true_positives") >= 100.0, "{table}");
    let dropped = report["frames"]["dropped"].as_object().expect("by reason").values();
    let dropped: f64 = dropped.filter_map(Value::as_f64).sum();
    assert_eq!(number("/frames/in"), number("/frames/detected") + dropped + number("/frames/in_flight"));
    assert!(number("/frames/in_flight") <= 3.0, "two slots and a mailbox: {table}");
    assert_eq!(number("/restarts"), 0.0);
    assert!(number("/latency_ms/p50") > 0.0 && number("/rss_mib/warm") > 1.0, "{table}");
    assert!(number("/rss_mib/end") - number("/rss_mib/warm") < 5.0, "{table}");
    assert!(table.contains("recall") && table.contains("p99"), "{table}");

    // What it printed are the daemon's records, as many as were detected.
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a record"));
    let detections = records.filter(|record| record["type"] == "detections").count() as f64;
    assert!((detections - number("/frames/detected")).abs() <= 2.0, "{detections} records; {table}");
}

#[test]
fn a_report_that_finds_the_disk_full_is_said_and_the_old_one_stays() {
    let program = Path::new(env!("CARGO_BIN_EXE_watchpost"));
    if !program.with_file_name("watchpost-testcam").is_file() {
        eprintln!("NOT TESTED: the demo: watchpost-testcam is not built; run `cargo test --workspace`");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let Some(disk) = Disk::mount(folder.path().join("disk"), "size=4k") else { return };
    // It takes all the room there is.
    let report = disk.0.join("report.json");
    std::fs::write(&report, [b'x'; 4096]).expect("there is room for it");
    let output = Command::new(program)
        .args(["demo", "--duration", "2s", "--report"])
        .arg(&report)
        .env("TMPDIR", folder.path())
        .output()
        .expect("it runs");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(74), "{words}");
    let last = words.lines().last().unwrap_or_default();
    assert!(last.contains("report.json") && last.contains("the disk is full; make room"), "{words}");
    assert!(words.contains("recall"), "what was found out is told all the same: {words}");
    assert!(!output.stdout.is_empty());
    let left: Vec<_> = std::fs::read_dir(&disk.0).expect("a folder").flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(std::fs::read(&report).expect("there"), [b'x'; 4096]);
    let others = std::fs::read_dir(folder.path()).expect("a folder").flatten();
    assert_eq!(others.count(), 1, "the demo's own folder is gone");
}
