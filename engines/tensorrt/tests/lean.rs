//! The real library: NVIDIA's lean runtime of both majors, which a script fetches (`tools/tensorrt-lean.sh`).
//!
//! It is a real libnvinfer without the builder, so the C functions, the version, the logger's layout and the object it
//! returns are the real ones. What could crash runs in a child process.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use watchpost_tensorrt::{BuildWay, Library, TensorRtError, build_way};

/// Tells the child which library to try.
const CHILD: &str = "WATCHPOST_TENSORRT_LEAN_CHILD";

/// `…/VERSION/tensorrt_lean_libs/libnvinfer_lean.so.MAJOR` below the folder that the environment names.
fn libraries() -> Vec<PathBuf> {
    let Some(folder) = std::env::var_os("WATCHPOST_TENSORRT_LEAN") else {
        eprintln!(
            "NOT TESTED: WATCHPOST_TENSORRT_LEAN names no folder with the lean runtime; \
             tools/tensorrt-lean.sh DIR fetches it"
        );
        return Vec::new();
    };
    let versions = std::fs::read_dir(&folder).expect("WATCHPOST_TENSORRT_LEAN is a folder");
    let mut found: Vec<PathBuf> = versions
        .map(|version| version.expect("an entry").path().join("tensorrt_lean_libs"))
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flat_map(|entries| entries.map(|entry| entry.expect("an entry").path()))
        .filter(|path| path.to_string_lossy().contains("libnvinfer_lean.so."))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no libnvinfer_lean.so below {}", Path::new(&folder).display());
    found
}

/// This test binary again, with one library to try.
fn child(library: &Path) -> Output {
    Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "in_a_child", "--nocapture"])
        .env(CHILD, library)
        .output()
        .expect("a child")
}

/// Runs in the child only; does nothing in an ordinary run.
#[test]
fn in_a_child() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let library = match Library::open(Path::new(&path)) {
        Ok(library) => library,
        Err(error) => return println!("GATE {error}"),
    };
    println!("OPEN {} lean={}", library.version(), library.is_lean());
    match library.probe() {
        Ok(()) => println!("STARTS"),
        Err(error) => println!("REFUSED {error}"),
    }
    // Twice: a refusal leaves nothing behind that the second trips over.
    assert!(matches!(library.probe(), Ok(()) | Err(TensorRtError::Start { .. })));
    println!("END");
}

#[test]
fn the_real_library_of_both_majors_is_opened_and_refuses_in_words() {
    for path in libraries() {
        let output = child(&path);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}: {:?}\n{text}", path.display(), output.status);
        println!("{}:\n{text}", path.display());
        let version = path.components().rev().nth(2).expect("a folder of its version");
        let version = version.as_os_str().to_string_lossy().into_owned();
        if version.starts_with("11.0.") || version.starts_with("10.0.") {
            let numbers = version.split('.').take(3).collect::<Vec<_>>().join(".");
            assert!(text.contains(&format!("GATE {} is TensorRT {numbers};", path.display())), "{text}");
            continue;
        }
        assert!(text.contains(&format!("OPEN {version} lean=true")), "{version}: {text}");
        // With a GPU it starts. Without one it must say why, in words that came through our logger: an empty reason
        // would mean that the library called another entry of our table.
        let gpu = watchpost_cuda::devices().is_ok_and(|devices| !devices.is_empty());
        if gpu {
            assert!(text.contains("STARTS"), "{text}");
        } else {
            assert!(text.contains("REFUSED TensorRT "), "{text}");
            assert!(text.contains("CUDA") && !text.contains("gave no reason"), "{text}");
        }
        assert!(text.contains("END"), "{text}");
    }
}

#[test]
fn the_lean_library_cannot_build_and_says_so() {
    for path in libraries() {
        let Ok(library) = Library::open(&path) else { continue };
        assert!(library.is_lean(), "{}", path.display());
        let words = match build_way(&library) {
            Ok(BuildWay::Trtexec { because, .. }) => because,
            Ok(way) => panic!("{}: {way:?}", path.display()),
            Err(error) => error.to_string(),
        };
        assert!(words.contains("lean runtime"), "{words}");
    }
}
