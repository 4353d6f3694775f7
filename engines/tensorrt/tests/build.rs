//! Engines built on the stand-in libraries, both majors, by the builder and by `trtexec`.

mod support;

use std::fs;
use std::sync::Mutex;

use support::onnx_writer::{Dim, Onnx, dims, node, tensor};
use support::{Bench, LEN, alone, doubling, doubling_half, on_both};
use watchpost_tensorrt::{
    BuildOptions, BuildWay, Built, CalibrationFrames, LoadOptions, Precision, TensorRtError, build,
    build_preview, build_way,
};

const OPEN: Dim = Dim::Open("batch");

fn build_and_listen(
    bench: &Bench,
    onnx: &[u8],
    options: &BuildOptions<'_>,
) -> (Result<Built, TensorRtError>, Vec<String>) {
    let mut heard = Vec::new();
    let built = build(&bench.library, &bench.gpu, onnx, options, &mut |line| heard.push(line.to_owned()));
    (built, heard)
}

/// What an engine makes of a slot with this value, at both ends.
fn run(bench: &Bench, plan: &[u8]) -> (f32, f32) {
    let mut runner = bench.load(plan, LoadOptions::default()).unwrap();
    let slot = bench.slot(&runner, 3.0);
    let mut seen = (0.0, 0.0);
    runner.infer(&[&slot], &mut |_, outputs| seen = (outputs[0].data[0], outputs[0].data[LEN - 1])).unwrap();
    seen
}

#[test]
fn the_builder_builds_what_auto_means_on_each_major() {
    on_both(|bench| {
        let options = BuildOptions { max_batch: Some(4), ..BuildOptions::default() };
        let (built, heard) = build_and_listen(bench, &doubling(OPEN).encode(), &options);
        let built = built.unwrap();
        assert!(
            matches!(&built.way, BuildWay::Builder { parser } if parser.starts_with(bench.folder.path()))
        );
        assert_eq!(built.batch, (1, 4));
        let expected = if bench.major == 10 { Precision::Fp16 } else { Precision::Fp32 };
        assert_eq!(built.precision, expected);
        let preview = build_preview(&bench.library, &doubling(OPEN).encode(), &options).unwrap();
        assert_eq!(preview, (expected, (1, 4)));
        assert_eq!(
            heard.iter().any(|line| line.contains("convert_float_to_float16")),
            bench.major == 11,
            "{heard:?}"
        );
        assert_eq!(run(bench, &built.plan), (60.0, 6.0));
        let (half, _) = build_and_listen(bench, &doubling_half(OPEN).encode(), &options);
        assert_eq!(half.unwrap().precision, Precision::Fp16);
    });
}

#[test]
fn what_the_library_says_meanwhile_is_progress() {
    on_both(|bench| {
        bench.configure("nvinfer.chatter=3");
        let (built, heard) = build_and_listen(bench, &doubling(OPEN).encode(), &BuildOptions::default());
        built.unwrap();
        assert!(heard.len() > 3, "{heard:?}");
        // Nobody listens any more.
        bench.library.probe().unwrap();
    });
}

#[test]
fn a_model_that_the_parser_does_not_take_is_refused_in_its_words() {
    on_both(|bench| {
        let refused = |onnx: &[u8]| bench.build(onnx, &BuildOptions::default()).unwrap_err();
        bench.configure("nvinfer.parse_fails=1");
        let error = refused(&doubling(OPEN).encode());
        assert!(matches!(error, TensorRtError::Refused { what: "the model", .. }), "{error}");
        assert!(error.to_string().contains("MadeUp"), "{error}");
        let shape = dims(&[1, 3, 4, 8]);
        let odd = Onnx {
            inputs: vec![tensor("images", support::onnx_writer::F32, &shape)],
            outputs: vec![tensor("odd", support::onnx_writer::F32, &shape)],
            nodes: vec![node("NobodyHasThis", &["images"], &["odd"])],
            ..Onnx::default()
        };
        let error = refused(&odd.encode());
        assert!(error.to_string().contains("NobodyHasThis"), "{error}");
        assert!(matches!(refused(b"hello"), TensorRtError::Build(_)));
        assert!(matches!(refused(&support::two_inputs().encode()), TensorRtError::Build(_)));
        bench.configure("nvinfer.build_fails=1");
        let error = refused(&doubling(OPEN).encode());
        assert!(matches!(error, TensorRtError::Refused { what: "the model", .. }), "{error}");
        bench.build(&doubling(OPEN).encode(), &BuildOptions::default()).unwrap();
    });
}

#[test]
fn a_timing_cache_is_written_read_and_replaced_when_it_is_damaged() {
    on_both(|bench| {
        let path = bench.folder.path().join("timing");
        let options = BuildOptions { timing_cache: Some(path.clone()), ..BuildOptions::default() };
        let onnx = doubling(OPEN).encode();
        bench.build(&onnx, &options).unwrap();
        let written = fs::read(&path).unwrap();
        let hits = bench.count("nvinfer.timing_cache_hits");
        bench.build(&onnx, &options).unwrap();
        assert_eq!(bench.count("nvinfer.timing_cache_hits"), hits + 1);
        fs::write(&path, b"damaged").unwrap();
        bench.build(&onnx, &options).unwrap();
        assert_eq!(fs::read(&path).unwrap(), written);
        // Where it cannot be written the engine is built all the same.
        let nowhere =
            BuildOptions { timing_cache: Some("/nowhere/timing".into()), ..BuildOptions::default() };
        bench.build(&onnx, &nowhere).unwrap();
    });
}

/// Pictures that note which of them were asked for.
struct Frames {
    count: usize,
    broken: Option<usize>,
    asked: Mutex<Vec<usize>>,
}

impl CalibrationFrames for Frames {
    fn count(&self) -> usize {
        self.count
    }

    fn frame(&self, index: usize, to: &mut [f32]) -> Result<(), String> {
        assert_eq!(to.len(), LEN);
        to.fill(index as f32);
        self.asked.lock().unwrap().push(index);
        if self.broken == Some(index) { Err(format!("picture {index} is broken")) } else { Ok(()) }
    }
}

#[test]
fn int8_is_calibrated_with_pictures_on_ten_and_refused_on_eleven() {
    on_both(|bench| {
        let frames = Frames { count: 5, broken: None, asked: Mutex::default() };
        let scales = bench.folder.path().join("scales");
        let options = BuildOptions {
            precision: Precision::Int8,
            max_batch: Some(3),
            calibration: Some(&frames),
            calibration_cache: Some(scales.clone()),
            ..BuildOptions::default()
        };
        let onnx = doubling(OPEN).encode();
        let (built, _) = build_and_listen(bench, &onnx, &options);
        if bench.major == 11 {
            let words = built.unwrap_err().to_string();
            return assert!(words.contains("modelopt.onnx.quantization"), "{words}");
        }
        let built = built.unwrap();
        assert_eq!(built.precision, Precision::Int8);
        assert_eq!(*frames.asked.lock().unwrap(), [0, 1, 2, 3, 4]);
        assert_eq!(bench.count("nvinfer.calibration_batches"), 5);
        assert_eq!(run(bench, &built.plan), (60.0, 6.0));
        // The scales are kept: no pictures are needed again.
        assert!(!fs::read(&scales).unwrap().is_empty());
        let again = BuildOptions { calibration: None, ..options.clone() };
        build_and_listen(bench, &onnx, &again).0.unwrap();
        assert_eq!(bench.count("nvinfer.calibration_batches"), 5);

        let broken = Frames { count: 5, broken: Some(2), asked: Mutex::default() };
        let options = BuildOptions { calibration: Some(&broken), calibration_cache: None, ..options };
        let error = build_and_listen(bench, &onnx, &options).0.unwrap_err();
        assert_eq!(error.to_string(), "picture 2 is broken");
    });
}

#[test]
fn an_old_minor_is_built_for_by_trtexec() {
    alone(|| {
        for (major, version) in [(10, "10.3.0"), (11, "11.1.0")] {
            let bench = Bench::new(major, &format!("nvinfer.version={version}"));
            let way = build_way(&bench.library);
            // Another test program may put one on the path; this one does not.
            if let Ok(BuildWay::Trtexec { because, .. }) = &way {
                assert!(because.contains(version), "{because}");
            } else {
                let words = way.unwrap_err().to_string();
                assert!(words.contains(version) && words.contains("libnvinfer-bin"), "{words}");
            }
            bench.finish();
        }
    });
}

#[test]
fn memory_that_runs_out_during_a_build_leaves_nothing() {
    on_both(|bench| {
        let frames = Frames { count: 2, broken: None, asked: Mutex::default() };
        let precision = if bench.major == 10 { Precision::Int8 } else { Precision::Auto };
        let options = BuildOptions { precision, calibration: Some(&frames), ..BuildOptions::default() };
        for nth in 1..20 {
            bench.cuda.configure(&format!("oom_at={nth}"));
            let built = bench.build(&doubling(OPEN).encode(), &options);
            bench.cuda.configure("oom_at=0");
            bench.check();
            if built.is_ok() {
                return;
            }
        }
        panic!("it never came to an end");
    });
}
