//! What goes wrong, on the stand-in libraries: a typed error with words, nothing left, and the process goes on.

mod support;

use std::path::Path;
use std::process::Command;

use support::onnx_writer::Dim;
use support::{Bench, MAJORS, alone, configure, doubling, folder, on_both, raw};
use tempfile::TempDir;
use watchpost_cuda::{CudaError, SlotTensor};
use watchpost_standins::without_of;
use watchpost_tensorrt::{Library, LoadOptions, Runner, TensorRtError, Version};

const OPEN: Dim = Dim::Open("batch");

fn load(bench: &Bench, plan: &[u8]) -> Result<Runner, TensorRtError> {
    bench.load(plan, LoadOptions::default())
}

fn infer(runner: &mut Runner, slot: &SlotTensor) -> Result<f32, TensorRtError> {
    let mut value = 0.0;
    runner.infer(&[slot], &mut |_, outputs| value = outputs[0].data[0])?;
    Ok(value)
}

#[test]
fn a_version_that_is_not_known_is_refused_by_its_name_and_nothing_of_it_is_called() {
    alone(|| {
        for (major, version) in
            [(10, "8.6.1"), (10, "9.3.0"), (10, "12.0.0"), (10, "10.2.0"), (11, "11.0.0"), (11, "12.1.0")]
        {
            let folder = folder(major);
            let path = folder.path().join(format!("libnvinfer.so.{major}"));
            let library = raw(&path);
            configure(&library, Some(&format!("nvinfer.version={version}")));
            let error = Library::open(&path).unwrap_err();
            assert!(matches!(error, TensorRtError::UnsupportedVersion { .. }), "{error}");
            let words = error.to_string();
            assert!(words.contains(&format!("is TensorRT {version};")) && words.contains("10.3"), "{words}");
            configure(&library, None);
        }
    });
}

/// The libraries, one of them without a symbol.
fn without(major: u32, symbol: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let library = format!("libnvinfer.so.{major}");
    without_of(&watchpost_standins::tensorrt(major), &library, symbol, folder.path()).unwrap();
    folder
}

#[test]
fn a_library_that_lacks_a_function_is_refused_by_the_functions_name() {
    alone(|| {
        for major in MAJORS {
            for symbol in ["getInferLibVersion", "createInferRuntime_INTERNAL"] {
                let folder = without(major, symbol);
                let error = Library::open(&folder.path().join(format!("libnvinfer.so.{major}"))).unwrap_err();
                assert!(
                    matches!(&error, TensorRtError::Library { reason, .. } if reason.contains(symbol)),
                    "{error}"
                );
            }
            let folder = without(major, "createInferBuilder_INTERNAL");
            let library = Library::open(&folder.path().join(format!("libnvinfer.so.{major}"))).unwrap();
            assert!(library.is_lean(), "it runs engines, and builds none");
            let folder = without(major, "getInferLibBuildVersion");
            let library = Library::open(&folder.path().join(format!("libnvinfer.so.{major}"))).unwrap();
            assert_eq!(library.version().build, 0);
        }
    });
}

#[test]
fn what_the_library_hands_out_without_a_gpu_is_not_taken_for_a_runtime() {
    on_both(|bench| {
        let plan = bench.plan(&doubling(OPEN), 1);
        bench.configure("nvinfer.no_gpu=all");
        for error in [bench.library.probe().unwrap_err(), load(bench, &plan).unwrap_err()] {
            assert!(matches!(&error, TensorRtError::Start { words, .. } if words.contains("35")), "{error}");
        }
        let error = bench.build(&doubling(OPEN).encode(), &Default::default()).unwrap_err();
        assert!(matches!(error, TensorRtError::Start { .. }), "{error}");
        bench.configure("nvinfer.no_gpu=never");
        bench.library.probe().unwrap();
    });
}

#[test]
fn a_plan_that_is_not_for_this_box_is_refused_in_the_librarys_words() {
    on_both(|bench| {
        let plan = bench.plan(&doubling(OPEN), 2);
        let words = |plan: &[u8]| match load(bench, plan).unwrap_err() {
            TensorRtError::Refused { what: "the engine", words, version, .. } => {
                assert_eq!(version.major, bench.major);
                assert_ne!(words, "it gave no reason");
                words
            }
            other => panic!("{other}"),
        };
        words(b"");
        words(b"not a plan");
        words(&plan[..plan.len() / 2]);
        bench.configure("nvinfer.deserialize_fails=1");
        words(&plan);
        load(bench, &plan).unwrap();
        bench.configure("nvinfer.compute_capability=7.2");
        words(&plan);
    });
    // Of the other major.
    alone(|| {
        let [ten, eleven] = MAJORS.map(|major| Bench::new(major, ""));
        let plan = ten.plan(&doubling(OPEN), 2);
        let error = load(&eleven, &plan).unwrap_err();
        assert!(matches!(error, TensorRtError::Refused { .. }), "{error}");
        ten.check();
        eleven.check();
    });
}

#[test]
fn an_enqueue_that_fails_is_an_error_and_the_next_one_works() {
    on_both(|bench| {
        let plan = bench.plan(&doubling(OPEN), 3);
        let mut runner = bench.load(&plan, LoadOptions { replay: false, ..LoadOptions::default() }).unwrap();
        let slots = bench.slots(&runner, 3);
        let all: Vec<&SlotTensor> = slots.iter().collect();
        bench.configure("nvinfer.enqueue_fails=1");
        let error = runner.infer(&all, &mut |_, _| panic!("no results")).unwrap_err();
        assert!(
            matches!(&error, TensorRtError::Enqueue { words, .. } if words != "it gave no reason"),
            "{error}"
        );
        assert!(!error.is_lost());
        assert_eq!(infer(&mut runner, &slots[1]).unwrap(), 40.0);
        // What is recorded does not enqueue at all.
        let mut replaying = load(bench, &plan).unwrap();
        assert_eq!(replaying.replayed(), [1, 2, 3]);
        bench.configure("nvinfer.enqueue_fails=all");
        assert_eq!(infer(&mut replaying, &slots[1]).unwrap(), 40.0);
        assert!(infer(&mut runner, &slots[1]).is_err());
        drop((runner, replaying, slots));
        // At the warm-up: the engine is not loaded.
        bench.configure("nvinfer.enqueue_fails=1");
        assert!(matches!(load(bench, &plan).unwrap_err(), TensorRtError::Enqueue { .. }));
        bench.check();
        // While recording: it runs without graphs.
        bench.configure("nvinfer.enqueue_fails=3");
        let mut runner = load(bench, &plan).unwrap();
        assert_eq!(runner.replayed(), [] as [usize; 0]);
        let slot = bench.slot(&runner, 1.0);
        assert_eq!(infer(&mut runner, &slot).unwrap(), 20.0);
    });
}

#[test]
fn a_context_that_cannot_be_made_is_an_error_or_one_context_fewer() {
    on_both(|bench| {
        let plan = bench.plan(&doubling(OPEN), 3);
        bench.configure("nvinfer.context_fails=1");
        assert!(matches!(load(bench, &plan).unwrap_err(), TensorRtError::Refused { .. }));
        bench.check();
        bench.configure("nvinfer.context_fails=2");
        let options = LoadOptions { contexts: 3, ..LoadOptions::default() };
        let mut runner = bench.load(&plan, options).unwrap();
        assert_eq!(runner.contexts(), 1);
        let slot = bench.slot(&runner, 1.0);
        assert_eq!(infer(&mut runner, &slot).unwrap(), 20.0);
    });
}

#[test]
fn memory_that_runs_out_at_any_allocation_leaves_nothing() {
    on_both(|bench| {
        let plan = bench.plan(&doubling(OPEN), 3);
        let options = LoadOptions { contexts: 2, ..LoadOptions::default() };
        let mut failed = 0;
        for nth in 1..100 {
            bench.cuda.configure(&format!("oom_at={nth}"));
            let loaded = bench.load(&plan, options);
            bench.cuda.configure("oom_at=0");
            match loaded {
                Ok(mut runner) => {
                    let slot = bench.slot(&runner, 1.0);
                    assert_eq!(infer(&mut runner, &slot).unwrap(), 20.0, "allocation {nth}");
                    if runner.contexts() == 2 && runner.replayed() == [1, 2, 3] {
                        break;
                    }
                }
                Err(error) => {
                    failed += 1;
                    let expected = matches!(
                        error,
                        TensorRtError::Cuda(CudaError::OutOfMemory { .. }) | TensorRtError::Refused { .. }
                    );
                    assert!(expected && !error.is_lost(), "allocation {nth}: {error}");
                }
            }
            bench.check();
        }
        assert!(failed >= 4, "{failed}");
    });
}

/// Runs in a child only, because what it loses stays lost: `WATCHPOST_TENSORRT_LOST=MAJOR:SETTING`.
#[test]
fn in_a_child() {
    let Ok(asked) = std::env::var("WATCHPOST_TENSORRT_LOST") else { return };
    let (major, key) = asked.split_once(':').unwrap();
    alone(|| {
        let bench = Bench::new(major.parse().unwrap(), "");
        let plan = bench.plan(&doubling(OPEN), 2);
        let mut runner = bench.load(&plan, LoadOptions { replay: false, ..LoadOptions::default() }).unwrap();
        let slot = bench.slot(&runner, 1.0);
        infer(&mut runner, &slot).unwrap();
        bench.cuda.configure(&format!("{key}=1"));
        let errors: Vec<_> = (0..3).filter_map(|_| infer(&mut runner, &slot).err()).collect();
        let last = errors.last().unwrap_or_else(|| panic!("{key}: no error"));
        assert!(last.is_lost(), "{key}: {last}");
        let error = load(&bench, &plan).unwrap_err();
        assert!(error.is_lost(), "{key}: {error}");
        drop((runner, slot));
        // The library's destructors were left alone: they may end the process.
        assert_eq!(bench.count("nvinfer.live_contexts"), 1);
        println!("LOST {last}");
    });
}

#[test]
fn a_lost_context_is_told_as_such_and_everything_can_still_be_dropped() {
    for key in ["lost_at_sync", "lost_at_operation"] {
        for major in MAJORS {
            let output = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "in_a_child", "--nocapture"])
                .env("WATCHPOST_TENSORRT_LOST", format!("{major}:{key}"))
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            let complaints = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{key} {:?}\n{text}\n{complaints}", output.status);
            assert!(text.contains("LOST the GPU's context is lost"), "{text}");
        }
    }
}

#[test]
fn an_older_minor_is_refused_for_the_method_that_it_does_not_have() {
    let version = Version::new(10, 3, 0);
    let error =
        TensorRtError::OldMinor { method: "parse", since: Some(Version::new(10, 16, 0)), have: version };
    assert_eq!(
        error.to_string(),
        "TensorRT 10.3.0 is too old for parse (it is there from 10.16.0 on); install a newer TensorRT"
    );
}

#[test]
fn a_path_that_is_no_file_is_refused() {
    let error = Library::open(Path::new("/nowhere/libnvinfer.so.10")).unwrap_err();
    assert!(error.to_string().contains("/nowhere/libnvinfer.so.10"), "{error}");
}
