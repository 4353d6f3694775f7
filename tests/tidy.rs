//! The style of the house, enforced: what a reader relies on without looking.

use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a file before its tests.
const LINES_MAX: usize = 500;

/// Rooms of `src/` from left to right: a room may use rooms before it, never rooms after it.
const ROOMS: [&str; 28] = [
    "clock",
    "descriptors",
    "folders",
    "os_words",
    "affinity",
    "shape",
    "wake",
    "config",
    "model",
    "camera",
    "metrics",
    "source",
    "frame",
    "batch",
    "engine",
    "decode",
    "track",
    "filter",
    "publish",
    "annotate",
    "snapshots",
    "budget",
    "download",
    "evaluate",
    "offline",
    "supervisor",
    "cli",
    "main",
];

/// Uses that run against the order, each with its reason.
const EXCEPTIONS: [(&str, &str); 0] = [];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
        let mut entries: Vec<_> =
            fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    walk(&path, files);
                }
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    let mut files = Vec::new();
    walk(&root().join(folder), &mut files);
    files
}

/// The code of a file, without comments and without its inline tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("readable");
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

fn is_test_file(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| stem == "tests" || stem.to_string_lossy().ends_with("_tests"))
}

fn complain(mistakes: Vec<String>) {
    assert!(mistakes.is_empty(), "\n{}\n", mistakes.join("\n"));
}

#[test]
fn files_stay_short() {
    let all = [
        "src",
        "pipelines/src",
        "pipelines/scene/src",
        "pipelines/testcam/src",
        "engines/builtin/src",
        "engines/cuda/src",
    ];
    let all = all.map(rust_files).concat();
    let mistakes = all.iter().filter(|path| !is_test_file(path)).filter_map(|path| {
        let text = fs::read_to_string(path).expect("readable");
        let lines = text.split("#[cfg(test)]").next().unwrap_or_default().lines().count();
        (lines > LINES_MAX).then(|| format!("{}: {lines} lines before its tests", path.display()))
    });
    complain(mistakes.collect());
}

#[test]
fn the_daemon_never_speaks_gstreamer_or_unsafe() {
    let mut mistakes = Vec::new();
    for path in rust_files("src") {
        let code = code(&path);
        // The adapter's own module has the name.
        let code = code.replace("use gst::Gst", "").replace("use gst::fault", "");
        for word in ["gst::", "gstreamer::", "dlopen", "unsafe ", "libloading"] {
            if code.contains(word) {
                mistakes.push(format!("{}: says {word}", path.display()));
            }
        }
    }
    complain(mistakes);
}

#[test]
fn leaf_crates_never_import_the_daemon() {
    let mut mistakes = Vec::new();
    for folder in ["pipelines", "engines"] {
        for path in rust_files(folder) {
            if code(&path).contains("watchpost::") {
                mistakes.push(format!("{}: imports the daemon", path.display()));
            }
        }
    }
    complain(mistakes);
}

#[test]
fn rooms_use_only_rooms_on_their_left() {
    let mut mistakes = Vec::new();
    for path in rust_files("src") {
        let relative =
            path.strip_prefix(root().join("src")).expect("below src").to_string_lossy().into_owned();
        let room = relative.split(['/', '.']).next().unwrap_or_default().to_owned();
        let Some(place) = ROOMS.iter().position(|r| *r == room) else {
            if room != "lib" {
                mistakes.push(format!("{relative}: the room {room} has no place in the order"));
            }
            continue;
        };
        let code = code(&path);
        for right in &ROOMS[place + 1..] {
            if code.contains(&format!("crate::{right}::"))
                && !EXCEPTIONS.contains(&(room.as_str(), right))
                && !is_test_file(&path)
            {
                mistakes.push(format!("{relative}: uses {right}, a room on its right"));
            }
        }
    }
    complain(mistakes);
}

#[test]
fn every_file_says_what_it_is_for() {
    let all = ["src", "pipelines", "engines", "tests", "benches"].map(rust_files).concat();
    let mistakes = all.iter().filter_map(|path| {
        let text = fs::read_to_string(path).expect("readable");
        (!text.starts_with("//! ")).then(|| format!("{}: does not begin with //!", path.display()))
    });
    complain(mistakes.collect());
}

#[test]
fn names_say_what_things_are() {
    let mut mistakes = Vec::new();
    for path in ["src", "pipelines", "engines"].map(rust_files).concat() {
        for line in code(&path).lines() {
            let mut words = line.split_whitespace().skip_while(|word| *word != "struct" && *word != "trait");
            let Some(name) = words.nth(1) else { continue };
            for banned in ["Manager", "Handler", "Helper", "Utils"] {
                if name.contains(banned) {
                    mistakes.push(format!("{}: {name}", path.display()));
                }
            }
        }
    }
    complain(mistakes);
}
