//! Processes that take the same engine at once, and some that die.

use super::*;

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
