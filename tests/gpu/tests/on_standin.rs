//! The proof itself, proved: on the stand-in libraries every check that can run passes and the report says that it proves
//! nothing; and each check fails when something is broken on purpose.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use watchpost_standins::{Ledger, names};

/// `prove` on a machine whose GPU is the stand-in.
fn prove(folder: &Path, arguments: &[&str]) -> (Output, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_prove"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("WATCHPOST_") {
            command.env_remove(name);
        }
    }
    let output = watchpost_standins::environment(&mut command, folder)
        .current_dir(folder)
        .env("WATCHPOST_TENSORRT_LIB", watchpost_standins::tensorrt(10))
        .env("WATCHPOST_STANDIN_LEDGER", folder.join("ledger"))
        .args(["--out", "out", "--quick", "--cycles", "4", "--cameras", "2"])
        .args(arguments)
        .output()
        .expect("the program starts");
    let report = fs::read_to_string(folder.join("out/report.json")).expect("a report");
    (output, serde_json::from_str(&report).expect("JSON"))
}

fn checks(report: &Value) -> Vec<(&str, &str, String)> {
    let text = |value: &'_ Value| value.as_str().unwrap_or_default().to_owned();
    let all = report["checks"].as_array().expect("checks");
    all.iter()
        .map(|check| {
            let name = check["check"].as_str().expect("a name");
            (name, check["result"].as_str().expect("a result"), text(&check["reason"]))
        })
        .collect()
}

/// The daemon is another package's program: `cargo test --workspace` builds it.
fn daemon() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_BIN_EXE_prove")).with_file_name("watchpost");
    if path.is_file() {
        return Some(path);
    }
    eprintln!("NOT TESTED: {} is not there; build it with `cargo build --bin watchpost`", path.display());
    None
}

#[test]
fn every_check_that_can_run_passes_and_the_report_proves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = Ledger::create(&folder.path().join("ledger")).expect("a ledger");
    let (output, report) = prove(folder.path(), &[]);
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}");
    assert_eq!(report["proves"], false);
    assert!(report["why_not"].as_str().is_some_and(|why| why.contains("stand-in")), "{report}");
    assert!(report["gpu"].as_str().is_some_and(|gpu| gpu.contains("stand-in")), "{report}");
    assert!(words.contains("THIS REPORT PROVES NOTHING"), "{words}");
    let text = fs::read_to_string(folder.path().join("out/report.md")).expect("a table");
    assert!(text.contains("**THIS REPORT PROVES NOTHING"), "{text}");
    for (name, result, reason) in checks(&report) {
        println!("{name}: {result} {reason}");
        let may_lack = match name {
            "nvdec" => true,
            "end_to_end" => daemon().is_none(),
            _ => false,
        };
        assert!(
            result == "passed" || (may_lack && result == "skipped"),
            "{name}: {result}: {reason}\n{words}"
        );
    }
    assert_eq!(checks(&report).len(), 6);
    assert_eq!(ledger.held(), Vec::<String>::new(), "{}", ledger.text());
    assert_eq!(ledger.get(names::VIOLATIONS), 0, "{}", ledger.text());
}

#[test]
fn a_check_fails_when_something_is_broken() {
    let folder = tempfile::tempdir().expect("a folder");
    Ledger::create(&folder.path().join("ledger")).expect("a ledger");
    let (output, report) = prove(folder.path(), &["--control"]);
    assert_eq!(output.status.code(), Some(1));
    let words = [
        ("kernel", "sample values"),
        ("memory", "an order was not kept"),
        ("nvdec", "went over the host"),
        ("engine", "outputs are off"),
        ("end_to_end", "free memory of the GPU went"),
    ];
    for (name, result, reason) in checks(&report) {
        println!("{name}: {result} {reason}");
        let Some((_, words)) = words.iter().find(|(check, _)| *check == name) else {
            assert_eq!((name, result), ("machine", "passed"));
            continue;
        };
        let may_lack = name == "nvdec" || (name == "end_to_end" && daemon().is_none());
        let seen = result == "failed" && reason.contains(words);
        assert!(seen || (may_lack && result == "skipped"), "{name}: {result}: {reason}");
    }
}

#[test]
fn a_device_that_is_lost_fails_its_check_and_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = Ledger::create(&folder.path().join("ledger")).expect("a ledger");
    ledger.set(names::ORDER_LOST, 700);
    let (output, report) =
        prove(folder.path(), &["--only", "kernel", "--only", "memory", "--only", "machine"]);
    assert_eq!(output.status.code(), Some(1));
    let found = checks(&report);
    println!("{found:?}");
    assert_eq!((found[0].1, found[1].1, found[2].1), ("passed", "failed", "passed"));
    assert!(found[1].2.contains("700"), "{found:?}");
}

#[test]
fn without_a_driver_everything_is_skipped_with_the_reason_and_nothing_is_proved() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_prove"));
    let output = command
        .current_dir(folder.path())
        .args(["--out", "out", "--quick"])
        // No library has this name below it.
        .env("CUDA_VISIBLE_DEVICES", "")
        .output()
        .expect("the program starts");
    let report = fs::read_to_string(folder.path().join("out/report.json")).expect("a report");
    let report: Value = serde_json::from_str(&report).expect("JSON");
    if Path::new("/dev/nvidiactl").exists() {
        eprintln!("NOT TESTED: this machine has an NVIDIA driver");
        return;
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(report["proves"], false);
    for (name, result, reason) in checks(&report) {
        assert!(result == "skipped" && reason.contains("NVIDIA driver"), "{name}: {result}: {reason}");
    }
}
