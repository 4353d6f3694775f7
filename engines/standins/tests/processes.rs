//! A process that is started with the stand-ins is watched and steered from outside.

mod device;

use std::path::Path;
use std::process::{Command, Output};

use cudarc::driver::sys::{self, CUresult};
use device::{filled, free_stream, ok};
use watchpost_standins::{Ledger, environment, names};

/// The environment variable that makes this program do the part of the process.
const PART: &str = "STANDINS_TEST_PART";

/// Not a test of its own: what the started process does.
#[test]
fn the_part_of_the_process() {
    let Ok(part) = std::env::var(PART) else { return };
    // SAFETY: plain calls of the driver; what it refuses is part of the play.
    unsafe {
        ok(sys::cuInit(0));
        let context = filled(|place| sys::cuDevicePrimaryCtxRetain(place, 0)).unwrap();
        ok(sys::cuCtxSetCurrent(context));
        let memory = filled(|place| sys::cuMemAlloc_v2(place, 1000));
        match part.as_str() {
            "forgets" => {}
            "gives back" => {
                ok(sys::cuMemFree_v2(memory.unwrap()));
                ok(sys::cuDevicePrimaryCtxRelease_v2(0));
            }
            "has no memory" => assert_eq!(memory, Err(CUresult::CUDA_ERROR_OUT_OF_MEMORY)),
            "is lost" => {
                let work = free_stream();
                ok(sys::cuMemsetD8Async(memory.unwrap(), 1, 1000, work));
                assert_eq!(sys::cuStreamSynchronize(work), CUresult::CUDA_ERROR_ECC_UNCORRECTABLE);
            }
            "frees twice" => {
                ok(sys::cuMemFree_v2(memory.unwrap()));
                sys::cuMemFree_v2(memory.unwrap());
            }
            other => panic!("no part {other}"),
        }
    }
}

fn play(part: &str, private: &Path, settings: &str) -> Output {
    let mut process = Command::new(std::env::current_exe().unwrap());
    process.args(["--exact", "the_part_of_the_process", "--nocapture"]).env(PART, part);
    environment(&mut process, private);
    process.env("WATCHPOST_STANDIN", settings).env("WATCHPOST_STANDIN_LEDGER", private.join("ledger"));
    process.output().unwrap()
}

fn play_well(part: &str, private: &Path, settings: &str) {
    let output = play(part, private, settings);
    assert!(output.status.success(), "{part}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_a_process_holds_is_read_from_outside() {
    let private = tempfile::tempdir().unwrap();
    let ledger = Ledger::create(&private.path().join("ledger")).unwrap();
    play_well("gives back", private.path(), "");
    assert_eq!(ledger.held(), Vec::<String>::new());
    assert_eq!((ledger.get(names::ALLOCATIONS), ledger.get(names::PEAK_BYTES)), (1, 1000));
    play_well("forgets", private.path(), "");
    assert_eq!(
        ledger.held(),
        ["cuda.live_allocations = 1", "cuda.live_bytes = 1000", "cuda.live_contexts = 1"],
        "a process that ends with what it has leaves it in the ledger"
    );
    play_well("frees twice", private.path(), "verbose=1");
    assert_eq!((ledger.get(names::VIOLATIONS), ledger.get(names::DOUBLE_FREE)), (1, 1));
    assert!(ledger.text().starts_with("freed twice: 0x"), "{}", ledger.text());
}

#[test]
fn a_process_is_steered_by_its_environment_and_by_orders() {
    let private = tempfile::tempdir().unwrap();
    let ledger = Ledger::create(&private.path().join("ledger")).unwrap();
    play_well("has no memory", private.path(), "oom_at=1");
    play_well("has no memory", private.path(), "total_bytes=999");
    ledger.set(names::ORDER_OOM, 1);
    play_well("has no memory", private.path(), "");
    play_well("is lost", private.path(), "lost_at_operation=1,lost_code=214");
    ledger.set(names::ORDER_LOST, 214);
    play_well("is lost", private.path(), "");
    assert_eq!(ledger.get(names::ORDER_LOST), 0, "an order is carried out once");
}

#[test]
fn a_process_that_is_set_up_wrongly_does_not_run() {
    let private = tempfile::tempdir().unwrap();
    let output = play("gives back", private.path(), "oom=1");
    assert!(!output.status.success());
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(words.contains("WATCHPOST_STANDIN: oom=1: there is no such key"), "{words}");
    std::fs::write(private.path().join("ledger"), "something else").unwrap();
    let output = play("gives back", private.path(), "");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && words.contains("is no ledger"), "{words}");
}
