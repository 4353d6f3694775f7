//! Building with the stand-in libraries: what is refused and why, timing caches, calibration, trtexec, wild calls.

mod caller;

use std::ffi::{CStr, c_char, c_void};
use std::path::Path;
use std::process::{Command, Output};
use std::ptr;

use caller::onnx_writer::{Dim, Onnx, dims, node};
use caller::steps::{Build, bytes_of, deserialize, doubling, nothing_is_left, text};
use caller::{Object, Raw, TensorRt, last_error};

const MAJORS: [u32; 2] = [10, 11];
const ALONE: &str = "nvinfer.cuda=0";
const SHAPES: [&[i64]; 3] = [&[1, 3, 2, 4], &[2, 3, 2, 4], &[4, 3, 2, 4]];

fn fixed() -> Vec<u8> {
    Onnx::doubling(&dims(&[1, 3, 2, 4])).encode()
}

fn set_flag(build: &Build<'_>, flag: i32) {
    call!(build.config, "setFlag", flag => i32; ());
}

fn refused(build: &Build<'_>, words: &str) {
    assert!(build.build().is_none());
    assert!(last_error().contains(words), "{}", last_error());
}

#[test]
fn a_model_that_cannot_be_run_is_refused_with_node_and_operator() {
    for major in MAJORS {
        let trt = TensorRt::new(major, ALONE);
        let build = Build::new(&trt);
        let mut unknown = Onnx::doubling(&dims(&[1, 3, 2, 4]));
        unknown.nodes = vec![node("DeformConvFromTheFuture", &["images", "two"], &["doubled"])];
        assert!(!build.parse(&unknown.encode()));
        assert!(!build.parse(b"no model"));
        assert_eq!(call!(build.parser, "getNbErrors"; i32), 2);
        let error = call!(build.parser, "getError", 0 => i32; Raw);
        let mut error = build.parser.other("IParserError", error).expect("an error");
        error.owned = false;
        // SAFETY: texts of the parser's.
        let part = |name: &str| {
            let part = call!(error, name; *const c_char);
            // SAFETY: a text of the parser's.
            unsafe { CStr::from_ptr(part) }.to_string_lossy()
        };
        assert!(part("desc").contains("DeformConvFromTheFuture"), "{}", part("desc"));
        assert_eq!(part("nodeOperator"), "DeformConvFromTheFuture");
        assert_eq!(part("nodeName"), "node-DeformConvFromTheFuture");
        assert!(call!(build.parser, "getError", 2 => i32; Raw).is_null());
        call!(build.parser, "clearErrors"; ());
        assert_eq!(call!(build.parser, "getNbErrors"; i32), 0);
        assert_eq!(call!(build.network, "getNbInputs"; i32), 0);
        refused(&build, "must have at least one output");
        trt.order("order.nvinfer.parse_fails", 1);
        assert!(!build.parse(&fixed()) && build.parse(&fixed()));
        assert_eq!(
            [call!(build.network, "getNbInputs"; i32), call!(build.network, "getNbOutputs"; i32)],
            [1, 1]
        );
        trt.order("order.nvinfer.build_fails", 1);
        refused(&build, "on demand");
        assert!(build.build().is_some());
        drop(build);
        nothing_is_left(&trt, 0);
    }
}

#[test]
fn an_open_batch_needs_a_profile_that_fits_the_model() {
    for major in MAJORS {
        let trt = TensorRt::new(major, ALONE);
        let with = |shapes: [&[i64]; 3]| {
            let build = Build::new(&trt);
            assert!(build.parse(&doubling()));
            assert_eq!(build.profile(shapes), 0);
            build
        };
        let unshaped = Build::new(&trt);
        assert!(unshaped.parse(&doubling()));
        refused(&unshaped, "missing dimensions in an optimization profile");
        assert_eq!(unshaped.profile([&[4, 3, 2, 4], &[2, 3, 2, 4], &[1, 3, 2, 4]]), -1);
        assert!(last_error().contains("not valid"), "{}", last_error());
        refused(&with([&[1, 3, 2, 4], &[1, 3, 2, 4], &[1, 3, 2, 8]]), "dimension 3");
        refused(&with([&[0, 3, 2, 4], &[1, 3, 2, 4], &[1, 3, 2, 4]]), "dimension 0");
        refused(&with([&[1, 3, 2], &[1, 3, 2], &[1, 3, 2]]), "four dimensions");
        assert!(with(SHAPES).build().is_some());
        // Its first axis is no batch: frames could not be told apart.
        let mut turned = Onnx::doubling(&[Dim::Open("n"), Dim::N(3), Dim::N(2), Dim::N(4)]);
        turned.nodes = vec![node("Transpose", &["images"], &["doubled"])];
        let build = Build::new(&trt);
        assert!(build.parse(&turned.encode()));
        assert_eq!(build.profile(SHAPES), 0);
        refused(&build, "does not begin with the batch");
        drop((unshaped, build));
        nothing_is_left(&trt, 0);
    }
}

#[test]
fn precisions_and_devices_are_what_the_major_has() {
    for major in MAJORS {
        let trt = TensorRt::new(major, ALONE);
        let build = Build::new(&trt);
        assert!(build.parse(&fixed()));
        set_flag(&build, 0);
        assert_eq!(call!(build.config, "getFlag", 0 => i32; bool), major == 10);
        if major == 11 {
            assert!(last_error().contains("no such BuilderFlag"), "{}", last_error());
        }
        let plan = build.build().expect("a plan");
        let words = if major == 10 { &b"fp16"[..] } else { b"as in the model" };
        assert!(plan.windows(words.len()).any(|window| window == words));
        // DLA: not here, then with two cores.
        call!(build.config, "setDefaultDeviceType", 1 => i32; ());
        call!(build.config, "setDLACore", 1 => i32; ());
        refused(&build, "DLA core 1 was asked for, the platform has 0");
        trt.configure(Some("nvinfer.dla_cores=2"));
        assert_eq!(call!(build.builder, "getNbDLACores"; i32), 2);
        assert!(build.build().is_some());
        drop(build);
        if major == 10 {
            let builder = trt.builder();
            let network = call!(builder, "createNetworkV2", 0b11 => u32; Raw);
            let network = builder.other("VNetworkDefinition", network).expect("a network");
            let config = call!(builder, "createBuilderConfig"; Raw);
            let config = builder.other("VBuilderConfig", config).expect("a config");
            let build = Build { parser: trt.create_parser(&network), config, network, builder };
            assert!(build.parse(&fixed()));
            set_flag(&build, 0);
            refused(&build, "strongly typed network cannot be built with fp16");
            drop(build);
        }
        nothing_is_left(&trt, 0);
    }
}

#[test]
fn a_timing_cache_is_filled_kept_and_known_again_by_its_version_only() {
    for major in MAJORS {
        let trt = TensorRt::new(major, ALONE);
        let cache = |build: &Build<'_>, blob: &[u8]| {
            let (start, size) = (blob.as_ptr().cast(), blob.len());
            call!(build.config, "createTimingCache", start => *const c_void, size => usize; Raw)
        };
        let build_with = |blob: &[u8]| {
            let build = Build::new(&trt);
            let cache = build.config.other("VTimingCache", cache(&build, blob)).expect("a cache");
            assert!(call!(build.config, "setTimingCache", cache.raw => Raw, false => bool; bool));
            assert!(build.parse(&fixed()) && build.build().is_some());
            bytes_of(&build.config.other("VHostMemory", call!(cache, "serialize"; Raw)).expect("bytes"))
        };
        let filled = build_with(&[]);
        assert_eq!(trt.count("nvinfer.timing_cache_hits"), 0);
        assert_eq!(build_with(&filled), filled);
        assert_eq!(trt.count("nvinfer.timing_cache_hits"), 1);
        let build = Build::new(&trt);
        for (blob, words) in [(&filled[1..], "damaged"), (&b"rubbish"[..], "damaged")] {
            assert!(cache(&build, blob).is_null());
            assert!(last_error().contains(words), "{}", last_error());
        }
        trt.configure(Some(&format!("nvinfer.version={major}.1")));
        assert!(cache(&build, &filled).is_null());
        assert!(last_error().contains("another version"), "{}", last_error());
        drop(build);
        nothing_is_left(&trt, 0);
    }
}

/// `IInt8EntropyCalibrator2`, as a binding writes one: its table, and what it has seen.
#[repr(C)]
struct Calibrator {
    table: &'static [*const c_void; 9],
    batches_left: u32,
    pictures: [f32; 2 * 24],
    written: Vec<u8>,
}

// SAFETY: addresses of functions.
unsafe impl Sync for Table {}
struct Table([*const c_void; 9]);

extern "C" fn unused() {
    std::process::abort();
}

extern "C" fn batch_size(_this: *const Calibrator) -> i32 {
    2
}

unsafe extern "C" fn batch(
    this: *mut Calibrator,
    bindings: *mut Raw,
    names: *const *const c_char,
    count: i32,
) -> bool {
    // SAFETY: the library passes one binding and one name.
    unsafe {
        assert_eq!((count, CStr::from_ptr(*names)), (1, c"images"));
        let Some(left) = (*this).batches_left.checked_sub(1) else { return false };
        (*this).batches_left = left;
        *bindings = (&raw mut (*this).pictures).cast();
    }
    true
}

unsafe extern "C" fn read_cache(_this: *mut Calibrator, length: *mut usize) -> *const c_void {
    // SAFETY: a place for the length.
    unsafe { *length = 0 };
    ptr::null()
}

unsafe extern "C" fn write_cache(this: *mut Calibrator, cache: *const c_void, length: usize) {
    // SAFETY: the library's bytes.
    unsafe { (*this).written = std::slice::from_raw_parts(cache.cast(), length).to_vec() };
}

extern "C" fn algorithm(_this: *mut Calibrator) -> i32 {
    2
}

static TABLE: Table = Table([
    unused as *const c_void,
    unused as *const c_void,
    unused as *const c_void,
    unused as *const c_void,
    batch_size as *const c_void,
    batch as *const c_void,
    read_cache as *const c_void,
    write_cache as *const c_void,
    algorithm as *const c_void,
]);

#[test]
fn a_calibrator_is_asked_for_batches_and_given_a_cache() {
    let trt = TensorRt::new(10, ALONE);
    let build = Build::new(&trt);
    assert!(build.parse(&fixed()));
    set_flag(&build, 1);
    let mut calibrator =
        Calibrator { table: &TABLE.0, batches_left: 3, pictures: [0.5; 48], written: Vec::new() };
    call!(build.config, "setInt8Calibrator", (&raw mut calibrator).cast() => Raw; ());
    assert!(build.build().is_some(), "{}", last_error());
    assert_eq!((calibrator.batches_left, trt.count("nvinfer.calibration_batches")), (0, 3));
    assert!(calibrator.written.starts_with(b"TRT-EntropyCalibration2"));
    drop(build);
    nothing_is_left(&trt, 0);
}

fn trtexec(major: u32, settings: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(watchpost_standins::tensorrt(major).join("trtexec"));
    command.args(arguments).env("WATCHPOST_STANDIN", format!("{ALONE},{settings}"));
    command.env_remove("WATCHPOST_STANDIN_LEDGER").output().expect("trtexec runs")
}

#[test]
fn trtexec_builds_what_the_library_loads_and_fails_in_words() {
    for major in MAJORS {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
        std::fs::write(path("model.onnx"), doubling()).expect("written");
        let (onnx, engine) =
            (format!("--onnx={}", path("model.onnx")), format!("--saveEngine={}", path("engine")));
        let shapes =
            ["--minShapes=images:1x3x2x4", "--optShapes=images:2x3x2x4", "--maxShapes=images:4x3x2x4"];
        let mut arguments = vec![onnx.as_str(), engine.as_str(), shapes[0], shapes[1], shapes[2]];
        let half = "--inputIOFormats=fp16:chw";
        arguments.extend(["--skipInference", "--memPoolSize=workspace:512", half]);
        arguments.extend((major == 10).then_some("--fp16"));
        let output = trtexec(major, "", &arguments);
        let words = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && words.contains("&&&& PASSED TensorRT.trtexec"), "{output:?}");

        let trt = TensorRt::new(major, ALONE);
        let runtime = trt.runtime();
        let plan = std::fs::read(path("engine")).expect("saved");
        let loaded = deserialize(&runtime, &plan).unwrap_or_else(|| panic!("{}", last_error()));
        let element = |name: &str| {
            let name = text(name);
            call!(loaded, "getTensorDataType", name.as_ptr() => *const c_char; i32)
        };
        assert_eq!([element("images"), element("doubled")], [1, 0]);
        drop((loaded, runtime));
        drop(trt);

        std::fs::remove_file(path("engine")).expect("removed");
        let strange = trtexec(major, "", &[&onnx, "--fp61"]);
        let failed = trtexec(major, "nvinfer.build_fails=1", &arguments);
        let missing = trtexec(major, "", &["--onnx=/nowhere.onnx", &engine]);
        let unshaped = trtexec(major, "", &[&onnx, &engine]);
        let all = [(strange, "Unknown option: --fp61"), (failed, "on demand"), (missing, "/nowhere.onnx")];
        for (output, words) in all.into_iter().chain([(unshaped, "optimization profile")]) {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                output.status.code() == Some(1) && text.contains("&&&& FAILED") && text.contains(words),
                "{text}"
            );
        }
        assert!(!Path::new(&path("engine")).exists());
    }
}

#[test]
fn another_process_reads_the_ledger_and_both_stand_ins_read_one_variable() {
    for major in MAJORS {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let ledger = watchpost_standins::Ledger::create(&path("ledger")).expect("a ledger");
        std::fs::write(path("model.onnx"), fixed()).expect("written");
        let mut command = Command::new(watchpost_standins::tensorrt(major).join("trtexec"));
        watchpost_standins::environment(&mut command, folder.path());
        command.arg(format!("--onnx={}", path("model.onnx").display()));
        command.arg(format!("--saveEngine={}", path("engine").display()));
        let settings = format!("cc=8.7,nvinfer{major}.version={major}.3.0,nvinfer.chatter=1");
        command.env("WATCHPOST_STANDIN", settings).env("WATCHPOST_STANDIN_LEDGER", path("ledger"));
        let output = command.output().expect("trtexec runs");
        let words = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && words.contains(&format!("[TensorRT v{major}0300]")), "{output:?}");
        assert_eq!((ledger.get("nvinfer.builds"), ledger.held()), (1, vec![]));
        // The plan is for that version and that device.
        let trt = TensorRt::new(major, ALONE);
        let runtime = trt.runtime();
        let plan = std::fs::read(path("engine")).expect("saved");
        assert!(deserialize(&runtime, &plan).is_none());
        trt.configure(Some(&format!("nvinfer.version={major}.3.0,nvinfer.compute_capability=8.7")));
        assert!(deserialize(&runtime, &plan).is_some(), "{}", last_error());
    }
}

#[test]
fn a_library_can_be_made_to_lack_a_symbol() {
    for major in MAJORS {
        let folder = tempfile::tempdir().expect("a folder");
        let name = format!("libnvinfer.so.{major}");
        let from = watchpost_standins::tensorrt(major);
        watchpost_standins::without_of(&from, &name, "createInferRuntime_INTERNAL", folder.path())
            .expect("copied");
        // SAFETY: the stand-in, a copy of it.
        let library = unsafe { libloading::Library::new(folder.path().join(name)) }.expect("it loads");
        // SAFETY: only looked up.
        unsafe {
            assert!(library.get::<*const c_void>(b"createInferRuntime_INTERNAL").is_err());
            assert!(library.get::<*const c_void>(b"createInferBuilder_INTERNAL").is_ok());
        }
    }
}

/// Runs the test `name` of this program in a process of its own, with a word in the environment.
fn in_a_child(name: &str, word: &str) -> Output {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command.args(["--exact", name, "--nocapture"]).env("STANDIN_CHILD", word);
    command.output().expect("it runs")
}

#[test]
fn a_call_of_what_is_not_there_stops_the_process_and_names_class_and_slot() {
    const NAME: &str = "a_call_of_what_is_not_there_stops_the_process_and_names_class_and_slot";
    if let Ok(word) = std::env::var("STANDIN_CHILD") {
        let trt = TensorRt::new(word.parse().expect("a major"), ALONE);
        let build = Build::new(&trt);
        wild(&build.network);
        return;
    }
    for major in MAJORS {
        let output = in_a_child(NAME, &major.to_string());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains("VNetworkDefinition slot 15 was called"), "{text}");
        assert!(text.contains("ITensor* getInput(int32_t index) const"), "{text}");
    }
}

fn wild(network: &Object<'_>) {
    call!(network, "getInput", 0 => i32; Raw);
}
