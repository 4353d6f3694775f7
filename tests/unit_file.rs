//! The systemd unit and its drop-ins: systemd itself finds nothing wrong with them, and says that they leave
//! little open.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// `systemd-analyze security` gives 0 for a service that may do nothing and 10 for one that may do everything.
const EXPOSURE_MAX: f64 = 2.0;

fn systemd() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd")
}

/// A folder with the unit, for a program that is there, and one drop-in.
fn unit_with(drop_in: Option<&Path>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let unit = fs::read_to_string(systemd().join("watchpost.service")).expect("readable");
    let unit = unit.replace("/usr/bin/watchpost", env!("CARGO_BIN_EXE_watchpost"));
    fs::write(folder.path().join("watchpost.service"), unit).expect("written");
    if let Some(drop_in) = drop_in {
        let drop_ins = folder.path().join("watchpost.service.d");
        fs::create_dir(&drop_ins).expect("made");
        fs::copy(drop_in, drop_ins.join(drop_in.file_name().expect("a name"))).expect("copied");
    }
    folder
}

/// `None`, said loudly, where there is no systemd.
fn analyze(arguments: &[&str], folder: &Path) -> Option<Output> {
    let mut command = Command::new("systemd-analyze");
    command.args(arguments).arg(folder.join("watchpost.service"));
    // The colon at the end stands for the folders where systemd looks anyway.
    command.env("SYSTEMD_UNIT_PATH", format!("{}:", folder.display()));
    match command.output() {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("NOT TESTED: systemd-analyze cannot be run: {error}");
            None
        }
    }
}

fn drop_ins() -> Vec<PathBuf> {
    let entries = fs::read_dir(systemd().join("watchpost.service.d")).expect("a folder");
    let paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    assert!(paths.len() >= 3, "{paths:?}");
    paths
}

#[test]
fn systemd_finds_no_mistake_in_the_unit_and_its_drop_ins() {
    for drop_in in std::iter::once(None).chain(drop_ins().into_iter().map(Some)) {
        let folder = unit_with(drop_in.as_deref());
        let Some(output) = analyze(&["verify", "--man=no"], folder.path()) else { return };
        let words = String::from_utf8_lossy(&output.stderr);
        // It looks at the units of this machine, too.
        let ours: Vec<&str> = words.lines().filter(|line| line.contains("watchpost")).collect();
        assert!(output.status.success() && ours.is_empty(), "{drop_in:?}: {words}");
    }
}

#[test]
fn the_unit_leaves_little_open_and_its_drop_ins_not_much_more() {
    for drop_in in std::iter::once(None).chain(drop_ins().into_iter().map(Some)) {
        let folder = unit_with(drop_in.as_deref());
        let Some(output) = analyze(&["security", "--offline=true", "--no-pager"], folder.path()) else {
            return;
        };
        let table = String::from_utf8_lossy(&output.stdout);
        let verdict = table.lines().rev().find(|line| line.contains("Overall exposure level"));
        let level =
            verdict.and_then(|line| line.split(':').nth(1)?.split_whitespace().next()?.parse::<f64>().ok());
        let level = level.unwrap_or_else(|| panic!("no verdict: {table}"));
        eprintln!("exposure {level} with {:?}", drop_in.as_ref().and_then(|path| path.file_name()));
        assert!(level <= EXPOSURE_MAX, "{drop_in:?}: {table}");
    }
}
