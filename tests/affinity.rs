//! Which CPUs which threads run on: as configured, within what the process may use, and off unless it is asked for.

mod program;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use program::{Ended, Running, next_record, run, watchpost};
use watchpost::affinity::{self, CpuSet};

/// The CPUs that each thread of a process may run on, by the thread's name.
fn threads(pid: u32) -> BTreeMap<String, String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs").flatten();
    let of_task = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let value =
            |key: &str| status.lines().find_map(|line| Some(line.strip_prefix(key)?.trim().to_owned()));
        Some((value("Name:")?, value("Cpus_allowed_list:")?))
    };
    tasks.filter_map(of_task).collect()
}

fn configure(folder: &Path, detector: &str, supervisor: &str) {
    let text = format!(
        "[detector]\nmodel = \"demo\"\nbackend = \"builtin\"\n{detector}\n[supervisor]\n{supervisor}\n[camera.gate]\nurl \
         = \"test://scene?fps=10&width=320&height=192\"\n[debug]\nsocket = \"off\"\n"
    );
    fs::write(folder.join("c.toml"), text).expect("written");
}

/// The two first CPUs that this machine gives.
fn two_cpus() -> Option<[String; 2]> {
    let numbers = affinity::allowed().to_string();
    let mut numbers = numbers.split(',').flat_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        first.parse::<usize>().expect("a number")..=last.parse::<usize>().expect("a number")
    });
    let two = numbers.next().zip(numbers.next()).map(|(a, b)| [a.to_string(), b.to_string()]);
    if two.is_none() {
        eprintln!("NOT TESTED: threads on different CPUs: this process may use one only");
    }
    two
}

#[test]
fn the_engine_runs_on_its_cpus_and_everything_else_on_theirs() {
    let Some([first, second]) = two_cpus() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let all = affinity::allowed().to_string();
    for (detector, supervisor, of_engine, of_cameras) in [
        (String::new(), String::new(), &all, &all),
        (format!("cpus = {second}"), String::new(), &second, &all),
        (String::new(), format!("camera_cpus = \"{first}\""), &all, &first),
        (format!("cpus = \"{second}\""), format!("camera_cpus = \"{first}\""), &second, &first),
        // Those that there are of these count.
        (format!("cpus = \"{second},1023\""), String::new(), &second, &all),
    ] {
        configure(folder.path(), &detector, &supervisor);
        let mut daemon = Running::start(watchpost(folder.path()).args(["run", "-c", "c.toml"]));
        let lines = daemon.lines();
        next_record(&lines, "detections");
        let threads = threads(daemon.pid());
        let case = format!("{detector:?} {supervisor:?}: {threads:?}");
        assert_eq!(&threads["engine-0"], of_engine, "{case}");
        for name in ["watchpost", "cam-gate", "scene", "publish-console"] {
            assert_eq!(&threads[name], of_cameras, "{name} {case}");
        }
        let ended = daemon.stop();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert_eq!(ended.stderr.contains("can be used"), detector.contains("1023"), "{}", ended.stderr);
    }
}

#[test]
fn a_reload_moves_the_thread_that_infers() {
    let Some([first, second]) = two_cpus() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    configure(folder.path(), &format!("cpus = {first}"), "");
    let mut daemon = Running::start(watchpost(folder.path()).args(["run", "-c", "c.toml"]));
    let lines = daemon.lines();
    next_record(&lines, "detections");
    let all = affinity::allowed().to_string();
    for (detector, expected) in [(format!("cpus = {second}"), &second), (String::new(), &all)] {
        configure(folder.path(), &detector, "");
        daemon.signal(rustix::process::Signal::HUP);
        program::eventually("it has moved", || {
            lines.try_iter().for_each(drop);
            threads(daemon.pid()).get("engine-0") == Some(expected)
        });
        next_record(&lines, "detections");
    }
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn cpus_that_a_container_does_not_give_are_told_with_those_that_it_does() {
    let Some([first, second]) = two_cpus() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    // The program begins with what the thread that starts it has.
    let within = |cpus: &str, detector: &str, supervisor: &str| -> Ended {
        configure(folder.path(), detector, supervisor);
        let cpus: CpuSet = cpus.parse().expect("CPUs");
        let folder = folder.path().to_owned();
        let started = move || {
            affinity::confine(&cpus).expect("they are there");
            run(watchpost(&folder).args(["run", "-c", "c.toml"]))
        };
        std::thread::spawn(started).join().expect("it ends")
    };
    for (detector, supervisor) in
        [(format!("cpus = {second}"), String::new()), (String::new(), format!("camera_cpus = {second}"))]
    {
        let words = ["none of the CPUs", &format!("may run on {first};")];
        within(&first, &detector, &supervisor).expect("a CPU of others", 78, &words);
    }
    for wrong in ["\"\"", "\"3-1\"", "\"all\"", "-1", "1024", "\"0-4000\"", "[0, 1]"] {
        within(&first, &format!("cpus = {wrong}"), "").expect(wrong, 78, &["`cpus` "]);
    }
    within(&first, "streams = 2", "").expect("streams alone", 78, &["mode = \"throughput\""]);
}
