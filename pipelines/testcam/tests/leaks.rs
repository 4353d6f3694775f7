//! A camera leaves nothing behind. Alone in its process: it counts threads and descriptors.

mod watcher;

use std::time::Duration;

use watcher::*;
use watchpost_testcam::{Codec, Fault};

const CYCLES: usize = 30;

fn count(directory: &str) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).collect()
}

/// One life of a camera, with a client over TCP and one over UDP and a fault at its end.
fn live(fault: Fault) {
    let camera = start(small(Codec::H264));
    let tcp = Watcher::of(&camera);
    let udp = Watcher::connect(camera.url(), Codec::H264, UDP);
    tcp.picture();
    udp.picture();
    camera.inject(fault).unwrap();
    // Clients still connected, clients gone before: both must work.
    if matches!(fault, Fault::Vanish | Fault::FrozenPicture) {
        drop((tcp, udp));
        drop(camera);
    } else {
        drop(camera);
        drop((tcp, udp));
    }
    gstreamer::glib::ThreadPool::stop_unused_threads();
}

#[test]
fn thirty_cameras_leave_no_thread_and_no_descriptor() {
    let faults = Fault::all();
    // Once through every fault: what GLib and GStreamer keep for good is there afterwards.
    faults.into_iter().for_each(live);
    pause(Duration::from_secs(1));
    let (fds_before, threads_before) = (count("/proc/self/fd"), threads());
    for cycle in 0..CYCLES {
        live(faults[cycle % faults.len()]);
    }
    wait_until(|| threads().len() <= threads_before.len() && count("/proc/self/fd") <= fds_before);
    let (fds_after, threads_after) = (count("/proc/self/fd"), threads());
    assert!(threads_after.len() <= threads_before.len(), "{threads_before:?} became {threads_after:?}");
    assert!(fds_after <= fds_before, "{fds_before} descriptors became {fds_after}");
}
