//! What one inference has given back the next one takes again, without asking the system for it page by page.

mod program;

use std::path::Path;

use program::{run, shared, watchpost};

/// An inference of this model takes 10 MiB, which are 2500 pages.
const FAULTS_PER_FRAME_MAX: u64 = 400;

/// Minor page faults of all children that have ended (proc_pid_stat(5), field 11).
fn faults_of_children() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
    fields.split_whitespace().nth(8).and_then(|field| field.parse().ok()).expect("a number")
}

/// Page faults of a process that looks at so many frames.
fn faults(folder: &Path, clip: &Path, model: &Path, frames: u64) -> u64 {
    let before = faults_of_children();
    let mut command = watchpost(folder);
    command.arg("detect").arg(clip).arg("-m").arg(model);
    command.args(["--backend", "builtin", "--threads", "1", "-o", "/dev/null", "--max-frames"]);
    run(command.arg(frames.to_string())).expect("detect", 0, &[]);
    faults_of_children() - before
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
    assert!(per_frame < FAULTS_PER_FRAME_MAX, "{per_frame} page faults per frame: {few}, {many}");
}
