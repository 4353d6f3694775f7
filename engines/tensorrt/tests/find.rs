//! Where the library is looked for, and what is said when it is not there; each case in a child process, because that is
//! what an environment belongs to.

mod support;

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use support::onnx_writer::Dim;
use support::{doubling, folder};
use watchpost_tensorrt::{BuildOptions, BuildWay, LIBRARY_VARIABLE, LoadOptions, Runner, build, find};

/// What the child is to do.
const CHILD: &str = "WATCHPOST_TENSORRT_CHILD";

/// A child that sees the stand-in GPU, these folders of libraries, and nothing else of this environment.
fn child(task: &str, folders: &[&Path], set: &[(&str, &Path)]) -> String {
    let cuda = watchpost_standins::folder();
    let folders: Vec<&Path> = [cuda.as_path()].into_iter().chain(folders.iter().copied()).collect();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "in_a_child", "--nocapture"]).env(CHILD, task);
    command.env("LD_LIBRARY_PATH", std::env::join_paths(folders).unwrap());
    command.env_remove(LIBRARY_VARIABLE).env_remove("VIRTUAL_ENV").env_remove("WATCHPOST_STANDIN");
    command.envs(set.iter().map(|(name, value)| (OsString::from(name), value.as_os_str())));
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}\n{text}\n{complaints}", output.status);
    let line = text.lines().find(|line| line.starts_with("FOUND ") || line.starts_with("NOT FOUND "));
    line.unwrap_or_else(|| panic!("{text}\n{complaints}")).to_owned()
}

/// Runs in a child only.
#[test]
fn in_a_child() {
    let Ok(task) = std::env::var(CHILD) else { return };
    let library = match find() {
        Ok(library) => library,
        Err(reason) => return println!("\nNOT FOUND {reason}"),
    };
    if task == "find" {
        return println!("\nFOUND {} {}", library.version(), library.path().display());
    }
    let gpu = watchpost_cuda::Gpu::open(0).unwrap();
    let options = BuildOptions { max_batch: Some(4), ..BuildOptions::default() };
    let mut lines = 0;
    let onnx = doubling(Dim::Open("batch")).encode();
    let built = build(&library, &gpu, &onnx, &options, &mut |_| lines += 1).unwrap();
    let BuildWay::Trtexec { because, .. } = &built.way else { panic!("{:?}", built.way) };
    let runner = Runner::load(&library, &gpu, &built.plan, LoadOptions::default()).unwrap();
    println!("\nFOUND max_batch={} lines={} {because}", runner.max_batch(), lines > 1);
}

/// Whether this machine has a TensorRT of its own in a system folder, which would be found, too.
fn machine_has_one() -> bool {
    let found = child("find", &[], &[]);
    if found.starts_with("FOUND") {
        eprintln!("NOT TESTED here: what is said when there is none; this machine has {found}");
    }
    found.starts_with("FOUND")
}

#[test]
fn nothing_is_found_where_nothing_is_and_the_line_says_what_to_do() {
    if machine_has_one() {
        return;
    }
    let line = child("find", &[], &[]);
    assert!(line.contains("no libnvinfer.so.10 or .11") && line.contains(LIBRARY_VARIABLE), "{line}");
    let line = child("find", &[], &[(LIBRARY_VARIABLE, Path::new("/nowhere/libnvinfer.so.10"))]);
    assert!(line.contains("/nowhere/libnvinfer.so.10, which is not there"), "{line}");
}

#[test]
fn a_file_or_a_folder_that_is_named_comes_first() {
    let (ten, eleven) = (folder(10), folder(11));
    let file = ten.path().join("libnvinfer.so.10");
    let line = child("find", &[eleven.path()], &[(LIBRARY_VARIABLE, &file)]);
    assert!(line.starts_with("FOUND 10.16.0") && line.contains("libnvinfer.so.10"), "{line}");
    let line = child("find", &[ten.path()], &[(LIBRARY_VARIABLE, eleven.path())]);
    assert!(line.starts_with("FOUND 11.4.0"), "{line}");
}

#[test]
fn of_two_majors_the_newer_is_taken_unless_it_cannot_be_used() {
    let (ten, eleven) = (folder(10), folder(11));
    let both = [ten.path(), eleven.path()];
    assert!(child("find", &both, &[]).starts_with("FOUND 11.4.0"));
    let newer = ("WATCHPOST_STANDIN", Path::new("nvinfer11.version=12.0.0"));
    assert!(child("find", &both, &[newer]).starts_with("FOUND 10.16.0"));
    if machine_has_one() {
        return;
    }
    let neither = ("WATCHPOST_STANDIN", Path::new("nvinfer11.version=12.0.0,nvinfer10.version=8.6.1"));
    let line = child("find", &both, &[neither]);
    assert!(line.starts_with("NOT FOUND"), "{line}");
    assert!(line.contains("TensorRT 12.0.0") && line.contains("TensorRT 8.6.1"), "{line}");
}

#[test]
fn a_python_environment_is_looked_into() {
    if machine_has_one() {
        return;
    }
    let environment = tempfile::tempdir().unwrap();
    let site = environment.path().join("lib/python3.11/site-packages");
    fs::create_dir_all(&site).unwrap();
    symlink(watchpost_standins::tensorrt(11), site.join("tensorrt_libs")).unwrap();
    let line = child("find", &[], &[("VIRTUAL_ENV", environment.path())]);
    assert!(line.starts_with("FOUND 11.4.0") && line.contains("tensorrt_libs"), "{line}");
}

#[test]
fn without_a_gpu_the_library_is_not_even_looked_for() {
    let eleven = folder(11);
    let line = child("find", &[eleven.path()], &[("WATCHPOST_STANDIN", Path::new("devices=0"))]);
    assert!(line.starts_with("NOT FOUND") && line.contains("GPU"), "{line}");
}

#[test]
fn trtexec_builds_where_the_parsers_interface_is_not_known() {
    for (major, version) in [(10, "10.3.0"), (11, "11.1.0")] {
        let folder = folder(major);
        let path = std::env::join_paths([folder.path()]).unwrap();
        let setting = format!("nvinfer.version={version}");
        let set = [
            ("PATH", Path::new(&path)),
            ("WATCHPOST_STANDIN", Path::new(&setting)),
            (LIBRARY_VARIABLE, folder.path()),
        ];
        let line = child("trtexec", &[], &set);
        assert!(line.starts_with("FOUND max_batch=4 lines=true"), "{line}");
        assert!(line.contains(version), "{line}");
    }
}
