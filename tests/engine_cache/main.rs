//! The engine cache on a real disk, with real processes: never a wrong engine, never a second build when a good one
//! is there, nothing left behind.
//!
//! Processes that have to die, race or run out of disk are this test binary again, as [`a_child_does_what_it_is_told`].

mod disk;
mod processes;
#[path = "../program/mod.rs"]
mod program;

use std::convert::Infallible;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use program::{contents, eventually};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde_json::{Value, json};
use watchpost::engine::cache::{
    BatchRequest, Cache, CacheError, Cached, EngineFacts, EngineKey, Miss, Origin, PlanPrecision,
};

const LIMIT: u64 = 1 << 30;

/// The `number`-th of many keys.
fn key(number: u32) -> EngineKey {
    EngineKey {
        model_sha256: format!("{number:064x}"),
        library: "tensorrt".to_owned(),
        library_version: "10.3.0.30".to_owned(),
        compute_capability: (8, 7),
        precision: PlanPrecision::Fp16,
        input_width: 640,
        input_height: 640,
        batch: BatchRequest::Upto(8),
        sparse: false,
        dla_core: None,
        calibration_sha256: None,
    }
}

/// A plan that only `key(number)` has.
fn plan(number: u32, bytes: usize) -> Vec<u8> {
    (0..bytes as u32)
        .map(|i| (i.wrapping_add(number << 16).wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

fn facts() -> EngineFacts {
    EngineFacts { model_name: "m".to_owned(), max_batch: 8, ..EngineFacts::default() }
}

/// Takes the engine, building it where it is missing; the plan must be right whatever happened.
#[track_caller]
fn take(cache: &Cache, number: u32, bytes: usize) -> Cached {
    let build = || Ok::<_, Infallible>((plan(number, bytes), facts()));
    let cached = cache
        .get_or_build(&key(number), &mut |line| panic!("nobody else builds: {line}"), build)
        .unwrap_or_else(|never| match never {});
    assert!(cached.plan == plan(number, bytes), "a wrong engine");
    cached
}

#[track_caller]
fn path_of(cached: &Cached) -> PathBuf {
    cached.kept.clone().expect("it was kept")
}

fn names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn what_was_built_is_found_by_its_key_and_by_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = Cache::at(&folder.path().join("made/here"), LIMIT);
    let built = take(&cache, 1, 5000);
    assert_eq!(built.origin, Origin::Built(Miss::Absent(None)));
    let hit = take(&cache, 1, 5000);
    assert_eq!((hit.origin, &hit.facts, &hit.kept), (Origin::Hit, &facts(), &built.kept));
    // Another start of the program.
    let again = Cache::at(&folder.path().join("made/here"), LIMIT);
    assert_eq!(take(&again, 1, 5000).origin, Origin::Hit);
    // Another GPU: the miss says what there is instead.
    let other_gpu = EngineKey { compute_capability: (8, 6), ..key(1) };
    let miss = again.get(&other_gpu).expect_err("another GPU").to_string();
    assert!(miss.contains("compute capability") && miss.contains("8.7, not 8.6"), "{miss}");
    let newer = EngineKey { library_version: "10.16.1.11".to_owned(), ..key(1) };
    let miss = again.get(&newer).expect_err("another version").to_string();
    assert!(miss.contains("10.3.0.30, not 10.16.1.11"), "{miss}");
    assert_eq!(names(&folder.path().join("made/here")).len(), 1);
}

#[test]
fn a_configuration_finds_what_was_built_for_it_with_flags_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = Cache::at(folder.path(), LIMIT);
    let int8 = EngineKey { precision: PlanPrecision::Int8, ..key(1) };
    let with = |pictures: &str| EngineKey { calibration_sha256: Some(pictures.repeat(64)), ..int8.clone() };
    for (seconds, pictures) in [(1000, "a"), (3000, "b"), (2000, "c")] {
        let build = || Ok::<_, Infallible>((pictures.repeat(9).into_bytes(), facts()));
        let built =
            cache.get_or_build(&with(pictures), &mut |_| {}, build).unwrap_or_else(|never| match never {});
        used_at(&path_of(&built), seconds);
    }
    assert!(cache.get(&int8).is_err());
    let (found, cached) = cache.get_fitting(&int8).expect("the one used last");
    assert_eq!((found, cached.plan), (with("b"), b"bbbbbbbbb".to_vec()));
    // One that is damaged is passed over; one that is exact comes first.
    fs::write(cached.kept.expect("kept"), "cut off").expect("written");
    assert_eq!(cache.get_fitting(&int8).expect("the next").0, with("c"));
    let exact = cache.get_or_build(&int8, &mut |_| {}, || Ok::<_, Infallible>((vec![1], facts())));
    exact.unwrap_or_else(|never| match never {});
    assert_eq!(cache.get_fitting(&int8).expect("the exact one").0, int8);
    let fp16 = cache.get_fitting(&key(1)).expect_err("none in fp16");
    assert!(fp16.to_string().contains("precision"), "{fp16}");
}

/// An engine under the name of another, as a copied or renamed file would be.
#[test]
fn a_file_under_a_wrong_name_is_not_loaded_but_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = Cache::at(folder.path(), LIMIT);
    let wrong: [(&str, EngineKey); 4] = [
        ("compute capability", EngineKey { compute_capability: (7, 2), ..key(1) }),
        ("version", EngineKey { library_version: "8.6.1.6".to_owned(), ..key(1) }),
        ("model", key(2)),
        ("precision", EngineKey { precision: PlanPrecision::Int8, ..key(1) }),
    ];
    for (what, other) in wrong {
        let build = || Ok::<_, Infallible>((plan(7, 900), facts()));
        let other = cache.get_or_build(&other, &mut |_| {}, build).unwrap_or_else(|never| match never {});
        let place = folder.path().join(format!("{}.engine", key(1).stem()));
        fs::copy(path_of(&other), &place).expect("copied");
        let built = take(&cache, 1, 1000);
        let Origin::Built(Miss::Key(reason)) = &built.origin else { panic!("{what}: {:?}", built.origin) };
        assert!(reason.contains(what), "{what}: {reason}");
        assert_eq!((path_of(&built), take(&cache, 1, 1000).origin), (place, Origin::Hit));
    }
}

#[test]
fn a_damaged_file_is_a_miss_with_a_reason_and_is_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = Cache::at(folder.path(), LIMIT);
    let path = path_of(&take(&cache, 1, 3000));
    let good = fs::read(&path).expect("readable");
    let front = good.len() - 3000;
    let cut = |length: usize| good[..length].to_vec();
    let flipped = |place: usize| {
        let mut bytes = good.clone();
        bytes[place] ^= 0x10;
        bytes
    };
    let damages: Vec<(Vec<u8>, &str)> = vec![
        (cut(0), "truncated"),
        (cut(7), "truncated"),
        (cut(55), "truncated"),
        (cut(56), "truncated"),
        (cut(front - 33), "truncated"),
        (cut(front - 1), "truncated"),
        (cut(front), "truncated"),
        (cut(good.len() - 1), "truncated"),
        ([&good[..], b"more"].concat(), "too long"),
        (flipped(0), "no engine file"),
        (flipped(8), "format"),
        (flipped(14), "header is damaged"),
        (flipped(16), "header is damaged"),
        (flipped(24), "header is damaged"),
        (flipped(60), "header is damaged"),
        (flipped(front - 1), "header is damaged"),
        (flipped(front), "plan is damaged"),
        (flipped(good.len() - 1), "plan is damaged"),
        (b"not an engine at all, but a text of more than fifty-six bytes".to_vec(), "no engine file"),
    ];
    for (damaged, reason) in damages {
        fs::write(&path, &damaged).expect("written");
        let built = take(&cache, 1, 3000);
        let Origin::Built(miss) = &built.origin else { panic!("{reason}: {:?}", built.origin) };
        assert!(miss.to_string().contains(reason) && miss.is_bad_file(), "{reason}: {miss}");
        assert_eq!(fs::read(&path).expect("readable"), good, "{reason}");
        assert_eq!(names(folder.path()).len(), 1, "{reason}");
    }
    // A folder in its place cannot be replaced: the engine is used from memory.
    fs::remove_file(&path).expect("removed");
    fs::create_dir(&path).expect("made");
    let built = take(&cache, 1, 3000);
    assert!(matches!(built.kept, Err(CacheError::Write { .. })), "{:?}", built.kept);
    assert_eq!(names(folder.path()).len(), 1);
}

#[test]
fn a_failed_build_leaves_nothing_and_a_failed_rebuild_leaves_what_was_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = Cache::at(folder.path(), LIMIT);
    let failed = cache.get_or_build(&key(1), &mut |_| {}, || Err("out of memory"));
    assert_eq!(failed.expect_err("it failed"), "out of memory");
    assert_eq!(names(folder.path()), Vec::<String>::new());
    let path = path_of(&take(&cache, 1, 100));
    assert!(cache.rebuild(&key(1), &mut |_| {}, || Err("out of memory")).is_err());
    assert_eq!(take(&cache, 1, 100).origin, Origin::Hit);
    let rebuilt = cache.rebuild(&key(1), &mut |_| {}, || Ok::<_, Infallible>((vec![9; 10], facts())));
    let rebuilt = rebuilt.unwrap_or_else(|never| match never {});
    assert_eq!((&rebuilt.origin, path_of(&rebuilt)), (&Origin::Built(Miss::NotWanted), path));
    assert_eq!(cache.get(&key(1)).expect("there").plan, vec![9; 10]);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        cache.get_or_build::<Infallible>(&key(2), &mut |_| {}, || panic!("on purpose"))
    }));
    assert!(panicked.is_err());
    assert_eq!(names(folder.path()).len(), 1, "a lock was left");
}

fn used_at(path: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    File::open(path).and_then(|file| file.set_modified(time)).expect("ours");
}

#[test]
fn the_engine_used_longest_ago_makes_room_and_never_one_in_use() {
    let folder = tempfile::tempdir().expect("a folder");
    // Four of them, with their headers, and not five.
    let cache = Cache::at(folder.path(), 5 * 100_000);
    let mut paths = Vec::new();
    for number in 0..4 {
        paths.push(path_of(&take(&cache, number, 100_000)));
    }
    for (path, seconds) in paths.iter().zip([1000, 2000, 3000, 4000]) {
        used_at(path, seconds);
    }
    // Loading notes the use: 0 is now the newest. 1 is old, but loaded.
    assert_eq!(take(&cache, 0, 100_000).origin, Origin::Hit);
    let loaded = take(&cache, 1, 100_000);
    used_at(&paths[1], 1);
    let fifth = path_of(&take(&cache, 4, 100_000));
    assert_eq!(paths.iter().map(|path| path.exists()).collect::<Vec<_>>(), [true, true, false, true]);
    assert!(fifth.exists());
    let list = cache.list().expect("listed");
    let in_use: Vec<bool> = list.iter().map(|entry| entry.in_use).collect();
    assert_eq!((list.len(), &list[3].path), (4, &paths[1]));
    assert_eq!(in_use, [false, false, false, true]);
    // Not loaded any more, it is the next to go.
    drop(loaded);
    take(&cache, 5, 100_000);
    assert!(!paths[1].exists());
    // One that can never fit drives out nobody.
    let before = contents(folder.path());
    let huge = take(&cache, 6, 600_000);
    let refused = huge.kept.expect_err("too large").to_string();
    assert!(refused.contains("engine_cache_limit") && refused.contains("500"), "{refused}");
    assert_eq!(contents(folder.path()), before);
    // All in use: the new one stays in memory.
    let held: Vec<Cached> = [0, 3, 4, 5].map(|number| take(&cache, number, 100_000)).into();
    assert!(matches!(take(&cache, 7, 100_000).kept, Err(CacheError::NoRoom { .. })));
    assert_eq!(contents(folder.path()), before);
    drop(held);
}

#[test]
fn strange_neighbours_do_not_hurt_and_are_listed_as_what_they_are() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("notes.txt"), "mine").expect("written");
    fs::write(folder.path().join("junk.engine"), "junk").expect("written");
    fs::create_dir(folder.path().join("folder.engine")).expect("made");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.path().join("fifo.engine"), mode).expect("made");
    let cache = Cache::at(folder.path(), LIMIT);
    take(&cache, 1, 100);
    assert_eq!(take(&cache, 1, 100).origin, Origin::Hit);
    let list = cache.list().expect("listed");
    assert_eq!(list.len(), 4);
    assert_eq!(list.iter().filter(|entry| entry.header.is_ok()).count(), 1);
    assert!(folder.path().join("notes.txt").exists());
}

#[test]
fn without_a_folder_the_engine_is_used_from_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("file"), "").expect("written");
    let cache = Cache::at(&folder.path().join("file/engines"), LIMIT);
    let built = take(&cache, 1, 100);
    assert!(matches!(built.kept, Err(CacheError::Folder { .. })), "{:?}", built.kept);
    assert!(cache.list().is_err());
}

// What needs processes of its own.

/// Runs this binary again: `orders` say what to do, stdout's last line is its report.
fn child(orders: &Value) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(arguments()).env("CHILD_ORDERS", orders.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn arguments() -> [&'static str; 3] {
    ["--exact", "a_child_does_what_it_is_told", "--nocapture"]
}

#[track_caller]
fn report(output: &Output) -> Value {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let line = out.lines().find_map(|line| line.split_once("REPORT ").map(|(_, report)| report));
    let line = line.unwrap_or_else(|| panic!("no report: {:?}\n{out}\n{err}", output.status));
    serde_json::from_str(line).expect("JSON")
}

/// Takes one engine as its orders say; does nothing without orders.
#[test]
fn a_child_does_what_it_is_told() {
    let Some(orders) = std::env::var_os("CHILD_ORDERS") else { return };
    let orders: Value = serde_json::from_str(&orders.to_string_lossy()).expect("JSON");
    let path = |name: &str| orders[name].as_str().map(PathBuf::from);
    let folder = path("folder").expect("a folder");
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let number = orders["number"].as_u64().unwrap_or(1) as u32;
    let bytes = orders["bytes"].as_u64().unwrap_or(1000) as usize;
    let content = plan(number, bytes);
    if let Some(bytes) = orders["file_limit"].as_u64() {
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).expect("allowed");
        setrlimit(Resource::Fsize, Rlimit { current: Some(bytes), maximum: None }).expect("allowed");
    }
    let cache = Cache::at(&folder, LIMIT);
    let mut report = Vec::new();
    let descriptors = || fs::read_dir("/proc/self/fd").expect("Linux").count();
    let before = descriptors();
    for _ in 0..orders["times"].as_u64().unwrap_or(1) {
        let build = || {
            if let Some(builds) = path("builds") {
                let mut builds = OpenOptions::new().append(true).create(true).open(builds).expect("opened");
                builds.write_all(b"x").expect("counted");
            }
            if let Some(until) = path("build_until") {
                eventually("somebody waits", || until.exists());
            }
            Ok::<_, Infallible>((content.clone(), facts()))
        };
        let mut say = |line: &str| {
            assert!(line.contains("waiting"), "{line}");
            if let Some(waiting) = path("waiting") {
                fs::write(waiting, line).expect("written");
            }
        };
        let cached = cache.get_or_build(&key(number), &mut say, build).unwrap_or_else(|never| match never {});
        assert!(cached.plan == content, "a wrong engine");
        let origin = match cached.origin {
            Origin::Hit => "hit".to_owned(),
            Origin::Waited => "waited".to_owned(),
            Origin::Built(miss) => format!("built: {miss}"),
        };
        report = vec![json!(origin), json!(cached.kept.err().map(|error| error.to_string()))];
    }
    report.push(json!(descriptors().abs_diff(before)));
    report.push(json!(names(&folder)));
    println!("\nREPORT {}", Value::from(report));
}

#[test]
fn two_hundred_hits_leave_no_descriptor_open() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = child(&json!({ "folder": folder.path(), "times": 200 })).output().expect("ran");
    let report = report(&output);
    assert_eq!((&report[0], &report[2]), (&json!("hit"), &json!(0)), "{report}");
    // The control: it would be seen.
    let cache = Cache::at(folder.path(), LIMIT);
    let held = take(&cache, 1, 1000);
    let open = fs::read_dir("/proc/self/fd").expect("Linux").flatten();
    let ours = open.filter(|entry| fs::read_link(entry.path()).is_ok_and(|path| path == path_of(&held)));
    assert_eq!(ours.count(), 1);
}
