//! The engine's threads are counted in a process of their own.

mod onnx_writer;

use onnx_writer::{Onnx, dims};
use watchpost_builtin::{LoadOptions, Model};

const CHILD: &str = "WATCHPOST_COUNT_THREADS";

fn library_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let name = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default()
    };
    tasks.map(name).filter(|name| name.starts_with("rten-")).count()
}

#[test]
fn as_many_threads_as_asked_for_and_one_that_sleeps() {
    if std::env::var_os(CHILD).is_none() {
        let this = std::env::current_exe().unwrap();
        let status = std::process::Command::new(this)
            .args(["--exact", "as_many_threads_as_asked_for_and_one_that_sleeps"])
            .env(CHILD, "1")
            .env("RTEN_NUM_THREADS", "1")
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let options = LoadOptions { threads: 3, input_size: None };
    let mut model =
        Model::from_bytes(Onnx::doubling(&dims(&[1, 3, 64, 64])).encode().leak(), options).unwrap();
    let input = vec![1.0; model.picture().frame_len()];
    // A thread names itself when it first runs, which may be after the first inferences.
    let mut counted = 0;
    for _ in 0..5000 {
        model.run(&input, &mut |outputs| assert_eq!(outputs[0].data[0], 2.0)).unwrap();
        counted = library_threads();
        assert!(counted <= 3 + 1, "{counted} threads");
        if counted == 3 + 1 {
            break;
        }
    }
    assert_eq!(counted, 3 + 1);
}
