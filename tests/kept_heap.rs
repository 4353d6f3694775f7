//! What one inference has given back the next one takes again, without asking the system for it page by page.
//!
//! Without our allocator (`engines/blocks`, whose own tests do not depend on luck) most runs of this fail, not all: where another
//! thread's memory happens to lie on top of it glibc keeps what an inference took, too.

mod program;

use std::path::Path;

use program::{Running, next_record, run, shared, watchpost};

/// An inference of this model takes 10 MiB, which are 2400 pages.
const FAULTS_PER_FRAME_MAX: u64 = 100;

/// A field of proc_pid_stat(5), counted from 1 as there: 10 are a process's minor page faults, 11 those of its children that have
/// ended.
fn stat(process: &str, field: usize) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("Linux");
    let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
    fields.split_whitespace().nth(field - 3).and_then(|field| field.parse().ok()).expect("a number")
}

/// Page faults of a process that looks at so many frames.
fn faults(folder: &Path, clip: &Path, model: &Path, frames: u64) -> u64 {
    let before = stat("self", 11);
    let mut command = watchpost(folder);
    command.arg("detect").arg(clip).arg("-m").arg(model);
    command.args(["--backend", "builtin", "--threads", "1", "-o", "/dev/null", "--max-frames"]);
    run(command.arg(frames.to_string())).expect("detect", 0, &[]);
    stat("self", 11) - before
}

#[test]
fn the_built_in_engine_does_not_fault_its_memory_in_anew_for_each_frame() {
    let (Some(clip), Some(model)) =
        (shared("footage/people-walking-720p.mp4"), shared("models/yolox_nano.onnx"))
    else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let [few, many] = [10, 50].map(|frames| faults(folder.path(), &clip, &model, frames));
    let per_frame = many.saturating_sub(few) / 40;
    eprintln!("{per_frame} page faults a frame");
    assert!(per_frame < FAULTS_PER_FRAME_MAX, "{per_frame} page faults per frame: {few}, {many}");

    // The daemon, whose heaps are trimmed: what it keeps is kept apart from them.
    let config = folder.path().join("watchpost.toml");
    let text = format!(
        "[detector]\nmodel = {model:?}\nbackend = \"builtin\"\nthreads = 1\n\
         [output.console]\ntype = \"stdout\"\n[debug]\nsocket = \"off\"\n\
         [camera.gate]\nurl = \"test://scene?fps=10&width=640&height=360\"\n"
    );
    std::fs::write(&config, text).expect("a configuration");
    let mut daemon = Running::start(watchpost(folder.path()).args(["run", "-c"]).arg(&config));
    let lines = daemon.lines();
    let pid = daemon.pid().to_string();
    let after = |records: u64| {
        (0..records).for_each(|_| drop(next_record(&lines, "detections")));
        stat(&pid, 10)
    };
    let warm = after(20);
    let per_frame = (after(40) - warm) / 40;
    daemon.stop().expect("run", 0, &[]);
    eprintln!("{per_frame} page faults a frame in the daemon");
    assert!(per_frame < FAULTS_PER_FRAME_MAX, "{per_frame} page faults per frame in the daemon");
}
