//! The engine cache on a real disk, with real processes: never a wrong engine, never a second build when a good one
//! is there, nothing left behind.
//!
//! Processes that have to die, race or run out of disk are this test binary again, as [`a_child_does_what_it_is_told`].

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
fn of_two_processes_one_builds_and_the_other_waits_and_hits() {
    let folder = tempfile::tempdir().expect("a folder");
    let (engines, builds, waiting) =
        (folder.path().join("e"), folder.path().join("builds"), folder.path().join("waiting"));
    let orders = json!({ "folder": engines, "builds": builds, "build_until": waiting, "waiting": waiting });
    let first = child(&orders).spawn().expect("started");
    eventually("the first builds", || builds.exists());
    let pid = first.id();
    let second = child(&orders).output().expect("ran");
    let first = first.wait_with_output().expect("ended");
    assert_eq!(report(&first)[0], "built: none was built");
    assert_eq!(report(&second)[0], "waited");
    assert_eq!(fs::read_to_string(&builds).expect("read"), "x");
    let said = fs::read_to_string(&waiting).expect("read");
    assert!(said.contains(&format!("process {pid}")), "{said}");
    assert_eq!(names(&engines).len(), 1);
}

#[test]
fn of_many_processes_at_once_one_builds() {
    let folder = tempfile::tempdir().expect("a folder");
    let (engines, builds) = (folder.path().join("e"), folder.path().join("builds"));
    let orders = json!({ "folder": engines, "builds": builds, "bytes": 3_000_000, "times": 3 });
    let children: Vec<Child> = (0..6).map(|_| child(&orders).spawn().expect("started")).collect();
    for child in children {
        let output = child.wait_with_output().expect("ended");
        assert_eq!(report(&output)[0], "hit", "the last of three");
    }
    assert_eq!(fs::read_to_string(&builds).expect("read"), "x");
    assert_eq!(names(&engines).len(), 1);
}

#[test]
fn a_builder_that_is_killed_leaves_the_lock_to_the_next() {
    let folder = tempfile::tempdir().expect("a folder");
    let (engines, builds, waiting) =
        (folder.path().join("e"), folder.path().join("builds"), folder.path().join("waiting"));
    let never = folder.path().join("never");
    let orders = json!({ "folder": engines, "builds": builds, "build_until": never });
    let mut first = child(&orders).spawn().expect("started");
    eventually("the first builds", || builds.exists());
    let second =
        child(&json!({ "folder": engines, "builds": builds, "waiting": waiting })).spawn().expect("started");
    eventually("the second waits", || waiting.exists());
    first.kill().expect("killed");
    first.wait().expect("ended");
    let second = second.wait_with_output().expect("ended");
    assert_eq!(report(&second)[0], "built: none was built");
    assert_eq!(fs::read_to_string(&builds).expect("read"), "xx");
    assert_eq!(names(&engines).len(), 1);
}

#[test]
fn kill_9_in_the_middle_of_a_write_leaves_a_clean_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let bytes = 96_u64 << 20;
    let orders = json!({ "folder": folder.path(), "bytes": bytes });
    let half = folder.path().join(format!("{}.tmp", key(1).stem()));
    let mut caught_sizes = Vec::new();
    for _ in 0..20 {
        let mut child = child(&orders).spawn().expect("started");
        eventually("it writes", || {
            fs::metadata(&half).is_ok_and(|meta| meta.len() > 0)
                || child.try_wait().is_ok_and(|end| end.is_some())
        });
        child.kill().expect("killed");
        child.wait().expect("ended");
        let Ok(meta) = fs::metadata(&half) else {
            // It was faster: the engine is whole, or it is not there.
            fs::remove_file(folder.path().join(format!("{}.engine", key(1).stem()))).expect("whole");
            continue;
        };
        caught_sizes.push(meta.len());
        assert!(names(folder.path()).iter().all(|name| !name.ends_with(".engine")));
        let cache = Cache::at(folder.path(), LIMIT);
        assert_eq!(names(folder.path()), Vec::<String>::new(), "half an engine was left");
        assert_eq!(cache.get(&key(1)).expect_err("it was never whole"), Miss::Absent(None));
        if caught_sizes.len() == 3 {
            break;
        }
    }
    println!("killed when so many bytes of {bytes} were written: {caught_sizes:?}");
    assert!(!caught_sizes.is_empty(), "20 processes wrote faster than one could be killed");
}

/// The kernel kills a process at the very byte that a limit names: SIGXFSZ, which no Rust program catches.
#[test]
fn death_at_any_byte_of_the_write_leaves_a_clean_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = path_of(&take(&Cache::at(folder.path(), LIMIT), 1, 4000));
    let whole = fs::metadata(&path).expect("there").len();
    fs::remove_file(path).expect("removed");
    let half = format!("{}.tmp", key(1).stem());
    for limit in [8, 55, 56, 200, whole - 4000 - 32, whole - 4000, whole - 3999, whole - 1] {
        let ended = child(&json!({ "folder": folder.path(), "bytes": 4000, "file_limit": limit }));
        let ended = { ended }.output().expect("ran");
        assert_eq!(ended.status.signal(), Some(25), "SIGXFSZ at {limit}: {ended:?}");
        let meta = fs::metadata(folder.path().join(&half)).expect("half an engine");
        assert_eq!(meta.len(), limit);
        let cache = Cache::at(folder.path(), LIMIT);
        assert_eq!(names(folder.path()), Vec::<String>::new(), "at {limit}");
        assert!(matches!(cache.get(&key(1)), Err(Miss::Absent(None))));
    }
    // Without a new start, the next who builds it removes the half.
    let cache = Cache::at(folder.path(), LIMIT);
    fs::write(folder.path().join(&half), "half").expect("written");
    assert_eq!(take(&cache, 1, 4000).origin, Origin::Built(Miss::Absent(None)));
    assert_eq!(names(folder.path()).len(), 1);
}

#[test]
fn a_sweep_does_not_touch_what_a_living_process_writes() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = Cache::at(folder.path(), LIMIT);
    let half = folder.path().join(format!("{}.tmp", key(1).stem()));
    let build = || {
        // As if its write had begun.
        fs::write(&half, "half").expect("written");
        let _another_start = Cache::at(folder.path(), LIMIT);
        assert!(half.exists(), "another start removed it");
        Ok::<_, Infallible>((plan(1, 100), facts()))
    };
    let built = cache.get_or_build(&key(1), &mut |_| {}, build).unwrap_or_else(|never| match never {});
    assert!(built.kept.is_ok());
}

#[test]
fn a_write_that_fails_leaves_the_engine_in_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let orders = json!({ "folder": folder.path(), "bytes": 100_000, "file_limit": 50_000, "times": 3 });
    // Ignored here, the signal stays ignored there, and the write fails instead.
    let inner = child(&orders);
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(inner.get_program()).args(arguments());
    command.env("CHILD_ORDERS", orders.to_string());
    let output = command.output().expect("ran");
    let report = report(&output);
    assert_eq!(report[0], "built: none was built");
    assert!(report[1].as_str().is_some_and(|error| error.contains("cannot be written")), "{report}");
    assert_eq!(report[3], json!([]), "half an engine was left");
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(log.matches("used from memory").count(), 1, "said once in three times: {log}");
}

/// Runs a child in a mount namespace of its own, with a small tmpfs as its folder. `prepare` may use `$folder`.
/// `None`, and a loud word, where this machine does not allow that.
fn on_a_small_disk(prepare: &str, orders: &Value) -> Option<Output> {
    let folder = tempfile::tempdir().expect("a folder");
    let inner = child(&Value::Null);
    let script = format!(
        "folder=$1; shift; mount -t tmpfs -o size=256k,nr_inodes=64 none \"$folder\" && {{ {prepare}\n}} && exec \"$@\""
    );
    let mut orders = orders.clone();
    orders["folder"] = json!(folder.path());
    let run = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--map-root-user", "sh", "-c", script, "sh"]).arg(folder.path());
        command.arg(inner.get_program()).args(arguments()).env("CHILD_ORDERS", orders.to_string()).output()
    };
    let allowed = run("mount -t tmpfs -o size=4k none \"$1\"");
    if !allowed.is_ok_and(|output| output.status.success()) {
        eprintln!("NOT TESTED: a full and a read-only disk: mounting a tmpfs of its own is not allowed here");
        return None;
    }
    Some(run(&script).expect("ran"))
}

#[test]
fn a_full_disk_leaves_the_engine_in_memory_and_no_half_of_it() {
    let orders = json!({ "bytes": 1_000_000, "times": 2 });
    let Some(output) = on_a_small_disk(":", &orders) else { return };
    let first = report(&output);
    assert_eq!(first[0], "built: none was built");
    assert!(first[1].as_str().is_some_and(|error| error.contains("the disk is full")), "{first}");
    assert_eq!(first[3], json!([]));
    // One that fits is kept.
    let fits = on_a_small_disk(":", &json!({ "bytes": 100_000 })).expect("as before");
    assert!(report(&fits)[1].is_null());
    // Not even the lock can be made: no inode is left.
    let no_inodes =
        "i=0; while touch \"$folder/$i\"; do i=$((i+1)); [ $i -gt 100 ] && exit 9; done 2>/dev/null; true";
    let output = on_a_small_disk(no_inodes, &json!({ "bytes": 100 })).expect("as before");
    let locked_out = report(&output);
    assert!(locked_out[1].as_str().is_some_and(|error| error.contains("the disk is full")), "{locked_out}");
}

#[test]
fn a_read_only_disk_still_gives_hits_and_new_engines_stay_in_memory() {
    let inner = std::env::current_exe().expect("this binary");
    let prepare = format!(
        "'{}' {} >/dev/null 2>&1; mount -o remount,ro \"$folder\"",
        inner.display(),
        arguments().join(" ")
    );
    // Prepared with the same orders: what it built is there, read-only.
    let Some(output) = on_a_small_disk(&prepare, &json!({ "bytes": 5000 })) else { return };
    let hit = report(&output);
    assert_eq!((&hit[0], &hit[1]), (&json!("hit"), &Value::Null), "{hit}");
    let output =
        on_a_small_disk("mount -o remount,ro \"$folder\"", &json!({ "times": 3 })).expect("as before");
    let built = report(&output);
    assert_eq!(built[0], "built: none was built");
    assert!(built[1].as_str().is_some_and(|error| error.contains("read-only")), "{built}");
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(log.matches("used from memory").count(), 1, "{log}");
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
