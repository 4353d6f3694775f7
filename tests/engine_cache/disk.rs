//! Disks that are full, cannot be written, or are at their end.

use super::*;

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
