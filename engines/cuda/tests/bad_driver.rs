//! Drivers that are there and of no use: each in a process of its own, because a driver that works is kept.

use std::fs;
use std::path::Path;
use std::process::Command;

use watchpost_cuda::{Gpu, devices};
use watchpost_standins::{environment, environment_of, without};

/// Set for the process that says what `devices` says.
const ASKED: &str = "WATCHPOST_TEST_ASKED";

#[test]
fn says_what_devices_says() {
    if std::env::var_os(ASKED).is_none() {
        return;
    }
    let said = devices().map(|devices| devices.len()).map_err(|error| error.to_string());
    println!("DEVICES {said:?}");
    let opened = Gpu::open(0).map(drop).map_err(|error| error.to_string());
    println!("OPEN {opened:?}");
}

/// What a process says that finds the stand-ins of `folder`, set to `settings`.
fn ask(folder: Option<&Path>, settings: &str) -> [String; 2] {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "says_what_devices_says", "--nocapture"]);
    let private = tempfile::tempdir().expect("a folder");
    match folder {
        Some(folder) => environment_of(&mut command, folder, private.path()),
        None => environment(&mut command, private.path()),
    };
    let output = command.env(ASKED, "1").env("WATCHPOST_STANDIN", settings).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    ["DEVICES ", "OPEN "].map(|word| {
        let line = text.lines().find_map(|line| line.split_once(word));
        line.unwrap_or_else(|| panic!("it said nothing of {word}: {text}")).1.to_owned()
    })
}

#[test]
fn a_driver_that_works_is_seen() {
    assert_eq!(ask(None, "devices=3"), ["Ok(3)", "Ok(())"]);
}

#[test]
fn a_driver_that_does_not_start_says_what_to_do() {
    for (settings, word) in [
        ("init_error=100", "CUDA_VISIBLE_DEVICES"),
        ("init_error=803", "restart the box"),
        ("init_error=34", "LD_LIBRARY_PATH"),
        ("init_error=999", "nvidia-smi"),
        ("devices=0", "no GPU is visible"),
    ] {
        let said = ask(None, settings);
        for said in &said {
            assert!(said.starts_with("Err(") && said.contains(word), "{settings}: {said}");
        }
        // Whoever opens a device is told the same.
        assert_eq!(said[0], said[1]);
    }
}

/// The functions that the crate asks for, read from its source.
fn symbols() -> Vec<&'static str> {
    let source = include_str!("../src/driver.rs");
    let table = source.split_once("\ndriver! {").expect("the table").1.split_once("\n}").expect("its end").0;
    table.lines().filter_map(|line| line.trim().split_once('(')).map(|(name, _)| name).collect()
}

#[test]
fn a_library_that_lacks_a_function_is_too_old_and_nothing_panics() {
    let symbols = symbols();
    assert!(symbols.len() > 30 && symbols[0] == "cuInit", "{symbols:?}");
    // Each takes a copy of the library: some, and the last.
    let some = symbols.iter().step_by(9).chain(symbols.last()).chain(&["cuGetErrorName"]);
    for symbol in some {
        let folder = tempfile::tempdir().expect("a folder");
        without("libcuda.so.1", symbol, folder.path()).expect("a library without it");
        for said in ask(Some(folder.path()), "") {
            assert!(said.starts_with("Err(") && said.contains(symbol) && said.contains("too old"), "{said}");
        }
    }
}

#[test]
fn a_file_that_is_no_library_is_no_driver() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("libcuda.so.1"), "not a library").expect("a file");
    for said in ask(Some(folder.path()), "") {
        assert!(said.starts_with("Err(") && said.contains("does not load"), "{said}");
    }
}
