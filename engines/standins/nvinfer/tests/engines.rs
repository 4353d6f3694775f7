//! The stand-in libraries of both majors, called as a binding calls the real ones.

mod caller;

use std::ffi::c_char;
use std::ptr;

use caller::onnx_writer::{F16, I64, Onnx, dims, int_attribute, node, node_with, tensor};
use caller::steps::{
    Build, bytes_of, context, deserialize, doubling, enqueue, nothing_is_left, plan, set_address, set_memory,
    set_shape, text,
};
use caller::{Dims, Object, Raw, TensorRt, last_error, logged};

const MAJORS: [u32; 2] = [10, 11];
/// Without the stand-in libcuda: device memory is ours, work is done inside `enqueueV3`.
const ALONE: &str = "nvinfer.cuda=0";

#[test]
fn a_model_is_built_loaded_and_inferred_in_batches_and_nothing_is_left() {
    for major in MAJORS {
        let trt = TensorRt::new(major, ALONE);
        let plan = plan(&trt, &doubling(), 8);
        let runtime = trt.runtime();
        let engine = deserialize(&runtime, &plan).unwrap_or_else(|| panic!("{}", last_error()));
        let name = |index: i32| call!(engine, "getIOTensorName", index => i32; *const c_char);
        assert_eq!(call!(engine, "getNbIOTensors"; i32), 2);
        // SAFETY: names that the engine owns.
        let names = [name(0), name(1)].map(|name| unsafe { std::ffi::CStr::from_ptr(name) });
        assert_eq!(names, [c"images", c"doubled"]);
        for (name, mode) in [(c"images", 1), (c"doubled", 2), (c"nothing", 0)] {
            let name = name.as_ptr();
            assert_eq!(call!(engine, "getTensorIOMode", name => *const c_char; i32), mode);
            assert_eq!(call!(engine, "getTensorDataType", name => *const c_char; i32), 0);
            assert_eq!(call!(engine, "getTensorLocation", name => *const c_char; i32), 0);
            let shape = call!(engine, "getTensorShape", name => *const c_char; Dims).shape();
            assert_eq!(shape, if mode == 0 { vec![] } else { vec![-1, 3, 2, 4] });
        }
        assert!(last_error().contains("nothing is not the name"), "{}", last_error());
        let of_profile = |select: i32| call!(engine, "getProfileShape", c"images".as_ptr() => *const c_char, 0 => i32, select => i32; Dims);
        assert_eq!([0, 1, 2].map(|select| of_profile(select).shape()[0]), [1, 2, 8]);
        let bytes = call!(engine, "getDeviceMemorySizeForProfileV2", 0 => i32; i64);
        assert!(bytes > 0);

        let context = context(&engine, 2).expect("a context");
        let mut input: Vec<f32> = (0..8 * 24).map(|value| value as f32).collect();
        let mut output = vec![0.0_f32; 8 * 24];
        let mut memory = vec![0_u8; bytes as usize];
        assert!(!enqueue(&context) && last_error().contains("shape"), "{}", last_error());
        assert!(set_shape(&context, "images", &[8, 3, 2, 4]));
        assert!(!enqueue(&context) && last_error().contains("device memory"), "{}", last_error());
        set_memory(&context, &mut memory[..100]);
        assert!(!enqueue(&context) && last_error().contains("100 bytes"), "{}", last_error());
        set_memory(&context, &mut memory);
        assert!(!enqueue(&context) && last_error().contains("address of images"), "{}", last_error());
        assert!(set_address(&context, "images", &mut input) && set_address(&context, "doubled", &mut output));
        for batch in [8_usize, 3, 1] {
            assert!(set_shape(&context, "images", &[batch as i64, 3, 2, 4]));
            let shape = call!(context, "getTensorShape", c"doubled".as_ptr() => *const c_char; Dims);
            assert_eq!(shape.shape(), [batch as i64, 3, 2, 4]);
            output.fill(-1.0);
            assert!(enqueue(&context), "{}", last_error());
            let (done, rest) = output.split_at(batch * 24);
            assert!(done.iter().zip(&input).all(|(out, value)| *out == value * 2.0));
            assert!(rest.iter().all(|&value| value == -1.0));
        }
        assert!(memory.iter().all(|&byte| byte == 0xa5), "the activations were not written");
        assert_eq!((trt.count("nvinfer.frames"), trt.count("nvinfer.enqueued")), (12, 3));
        trt.order("nvinfer.frames", 0);
        trt.order("nvinfer.enqueued", 0);
        let again = engine.other("VHostMemory", call!(engine, "serialize"; Raw)).expect("bytes");
        assert_eq!(bytes_of(&again), plan);
        drop((again, context, engine, runtime));
        nothing_is_left(&trt, 0);
    }
}

#[test]
fn shapes_outside_the_profile_and_unknown_names_are_refused() {
    for major in MAJORS {
        let trt = TensorRt::new(major, ALONE);
        let plan = plan(&trt, &doubling(), 4);
        let runtime = trt.runtime();
        let engine = deserialize(&runtime, &plan).expect("an engine");
        let context = context(&engine, 0).expect("a context");
        for (name, shape) in [
            ("images", &[5, 3, 2, 4][..]),
            ("images", &[0, 3, 2, 4]),
            ("images", &[1, 3, 2, 5]),
            ("images", &[1, 3, 2]),
            ("doubled", &[1, 3, 2, 4]),
            ("other", &[1, 3, 2, 4]),
        ] {
            assert!(!set_shape(&context, name, shape), "{name} {shape:?}");
            assert!(last_error().contains("setInputShape"), "{}", last_error());
        }
        assert!(!set_address(&context, "other", &mut [0.0_f32]));
        assert!(!enqueue(&context));
        drop((context, engine, runtime));
        nothing_is_left(&trt, 0);
    }
}

#[test]
fn half_precision_and_whole_numbers_keep_their_types() {
    for major in MAJORS {
        let trt = TensorRt::new(major, ALONE);
        let shape = dims(&[1, 3, 2, 4]);
        let onnx = Onnx {
            inputs: vec![tensor("images", F16, &shape)],
            outputs: vec![tensor("same", F16, &shape), tensor("whole", I64, &shape)],
            nodes: vec![
                node("Identity", &["images"], &["same"]),
                node_with("Cast", &["images"], &["whole"], &[int_attribute("to", I64)]),
            ],
            ..Onnx::default()
        };
        let build = Build::new(&trt);
        assert!(build.parse(&onnx.encode()), "{}", last_error());
        let plan = build.build().unwrap_or_else(|| panic!("{}", last_error()));
        drop(build);
        let runtime = trt.runtime();
        let engine = deserialize(&runtime, &plan).expect("an engine");
        let element = |name: &str| {
            let name = text(name);
            call!(engine, "getTensorDataType", name.as_ptr() => *const c_char; i32)
        };
        assert_eq!(["images", "same", "whole"].map(element), [1, 1, 8]);
        let context = context(&engine, 0).expect("a context");
        let mut input: Vec<u16> =
            (0_u8..24).map(|value| half::f16::from_f32(f32::from(value) + 0.25).to_bits()).collect();
        let (mut same, mut whole) = (vec![0_u16; 24], vec![0_i64; 24]);
        assert!(set_address(&context, "images", &mut input));
        assert!(set_address(&context, "same", &mut same) && set_address(&context, "whole", &mut whole));
        assert!(enqueue(&context), "{}", last_error());
        assert_eq!((same, whole), (input, (0..24).collect()));
        drop((context, engine, runtime));
        nothing_is_left(&trt, 0);
    }
}

#[test]
fn plans_of_other_versions_or_devices_and_what_is_no_plan_are_refused_with_a_reason() {
    for major in MAJORS {
        let trt = TensorRt::new(major, ALONE);
        let plan = plan(&trt, &doubling(), 4);
        let runtime = trt.runtime();
        let refused = |plan: &[u8], words: &str| {
            assert!(deserialize(&runtime, plan).is_none());
            assert!(last_error().contains(words), "{}", last_error());
        };
        refused(b"what is this", "no plan");
        refused(b"", "no plan");
        refused(&plan[..plan.len() / 2], "damaged");
        trt.configure(Some(&format!("nvinfer.version={major}.2.1")));
        refused(&plan, "not compatible with this version");
        let own = if major == 10 { "10.16.0.72" } else { "11.4.0.106" };
        trt.configure(Some(&format!("nvinfer.version={own},nvinfer.compute_capability=7.5")));
        refused(&plan, "incompatible device");
        trt.configure(Some("nvinfer.compute_capability=8.6"));
        assert!(deserialize(&runtime, &plan).is_some());
        drop(runtime);
        nothing_is_left(&trt, 0);
    }
}

#[test]
fn versions_are_told_as_they_are_set() {
    for (major, expected) in [(10, 101_600), (11, 110_400)] {
        let trt = TensorRt::new(major, ALONE);
        assert_eq!(trt.number("getInferLibVersion"), expected);
        assert_eq!(trt.number("getInferLibMajorVersion"), expected / 10_000);
        trt.configure(Some("nvinfer.version=8.6.1.6"));
        assert_eq!(trt.number("getInferLibVersion"), 80_601);
        let parts = ["Major", "Minor", "Patch", "Build"];
        assert_eq!(parts.map(|part| trt.number(&format!("getInferLib{part}Version"))), [8, 6, 1, 6]);
        // Only the other major's: nothing changes.
        trt.configure(Some(&format!("nvinfer{}.version=12.0", 21 - major)));
        assert_eq!(trt.number("getInferLibVersion"), 80_601);
    }
}

#[test]
fn without_a_gpu_there_is_a_word_in_the_log_and_no_pointer() {
    for major in MAJORS {
        let trt = TensorRt::new(major, "nvinfer.cuda=0,nvinfer.no_gpu=all");
        for function in ["createInferRuntime_INTERNAL", "createInferBuilder_INTERNAL"] {
            assert_eq!(trt.create(function) as usize, 0x228);
            assert!(last_error().contains("error: 35"), "{}", last_error());
        }
        nothing_is_left(&trt, 0);
        // Headers of another major, or something that is no logger: the real one would crash.
        trt.configure(Some("nvinfer.no_gpu=never"));
        let other = i32::try_from((21 - major) * 10_000).unwrap();
        assert!(trt.create_with("createInferRuntime_INTERNAL", ptr::null_mut(), other).is_null());
        let own = i32::try_from(major * 10_000).unwrap();
        assert!(trt.create_with("createInferRuntime_INTERNAL", ptr::null_mut(), own).is_null());
        if major == 11 {
            assert!(trt.create_with("createInferRuntime_INTERNAL", caller::no_logger(), own).is_null());
        }
        nothing_is_left(&trt, i64::from(major) - 8);
    }
}

#[test]
fn each_fault_comes_when_it_is_asked_for() {
    for major in MAJORS {
        let trt = TensorRt::new(major, ALONE);
        let plan = plan(&trt, &doubling(), 4);
        let runtime = trt.runtime();
        trt.configure(Some("nvinfer.deserialize_fails=1,nvinfer.context_fails=2,nvinfer.enqueue_fails=2+"));
        assert!(deserialize(&runtime, &plan).is_none());
        let engine = deserialize(&runtime, &plan).expect("the second time");
        let first = context(&engine, 0).expect("the first");
        assert!(context(&engine, 0).is_none());
        assert!(last_error().contains("OutOfMemory"), "{}", last_error());
        let (mut input, mut output) = (vec![1.0_f32; 96], vec![0.0_f32; 96]);
        assert!(set_address(&first, "images", &mut input) && set_address(&first, "doubled", &mut output));
        assert!(set_shape(&first, "images", &[1, 3, 2, 4]));
        assert_eq!([0; 3].map(|_| enqueue(&first)), [true, false, false]);
        // Orders in the ledger: that many next calls.
        trt.configure(Some("nvinfer.enqueue_fails=never"));
        trt.order("order.nvinfer.enqueue_fails", 2);
        assert_eq!([0; 3].map(|_| enqueue(&first)), [false, false, true]);
        trt.order("order.nvinfer.outputs_nan", 1);
        assert!(enqueue(&first) && output[..24].iter().all(|value| value.is_nan()));
        assert!(enqueue(&first) && output[..24].iter().all(|&value| value == 2.0));
        drop((first, engine, runtime));
        nothing_is_left(&trt, 0);
    }
}

#[test]
fn what_hangs_ends_when_it_is_released() {
    for major in MAJORS {
        let trt = TensorRt::new(major, ALONE);
        let plan = plan(&trt, &doubling(), 1);
        let runtime = trt.runtime();
        let engine = deserialize(&runtime, &plan).expect("an engine");
        let context = context(&engine, 0).expect("a context");
        let (mut input, mut output) = (vec![1.0_f32; 24], vec![0.0_f32; 24]);
        assert!(set_address(&context, "images", &mut input) && set_address(&context, "doubled", &mut output));
        assert!(set_shape(&context, "images", &[1, 3, 2, 4]));
        for fault in ["enqueue_hangs", "work_hangs"] {
            trt.order("order.nvinfer.release", 0);
            trt.order(&format!("order.nvinfer.{fault}"), 1);
            let hanging = Hanging(&context);
            std::thread::scope(|scope| {
                let thread = scope.spawn(move || hanging.enqueue());
                // The order has been taken: it hangs, or is about to.
                while trt.count(&format!("order.nvinfer.{fault}")) > 0 {
                    std::thread::yield_now();
                }
                assert!(!thread.is_finished());
                trt.order("order.nvinfer.release", 1);
                assert!(thread.join().expect("no panic"));
            });
        }
        drop((context, engine, runtime));
        nothing_is_left(&trt, 0);
    }
}

/// A context that another thread uses while this one only waits.
struct Hanging<'a>(&'a Object<'a>);

// SAFETY: TensorRT's objects are bound to no thread; one thread at a time uses it.
unsafe impl Send for Hanging<'_> {}

impl Hanging<'_> {
    fn enqueue(self) -> bool {
        enqueue(self.0)
    }
}

#[test]
fn chatter_has_every_severity_a_long_line_and_bytes_that_are_no_text() {
    for major in MAJORS {
        let trt = TensorRt::new(major, "nvinfer.cuda=0,nvinfer.chatter=1");
        drop(trt.runtime());
        let lines = logged();
        assert!((0..=4).all(|severity| lines.iter().any(|(its, _)| *its == severity)), "{lines:?}");
        assert!(lines.iter().any(|(_, text)| text.len() > 10_000));
        assert!(lines.iter().any(|(_, text)| text.contains('\u{fffd}')));
        nothing_is_left(&trt, 0);
    }
}

#[test]
fn objects_deleted_in_the_wrong_order_are_told() {
    for major in MAJORS {
        let trt = TensorRt::new(major, ALONE);
        let plan = plan(&trt, &doubling(), 1);
        let runtime = trt.runtime();
        let engine = deserialize(&runtime, &plan).expect("an engine");
        let context = context(&engine, 0).expect("a context");
        drop(runtime);
        assert_eq!(trt.count("nvinfer.violations"), 1);
        drop(engine);
        assert_eq!(trt.count("nvinfer.violations"), 2);
        drop(context);
        nothing_is_left(&trt, 2);
        // The parser owns the weights that the network refers to.
        let Build { parser, config, network, builder } = Build::new(&trt);
        let build = Build { parser, config, network, builder };
        assert!(build.parse(&Onnx::doubling(&dims(&[1, 3, 2, 4])).encode()));
        let Build { parser, config, network, builder } = build;
        drop(parser);
        let plan = call!(builder, "buildSerializedNetwork", network.raw => Raw, config.raw => Raw; Raw);
        drop(builder.other("VHostMemory", plan).expect("a plan"));
        drop((config, network, builder));
        nothing_is_left(&trt, 1);
    }
}

#[test]
fn the_library_says_whose_declarations_it_was_compiled_with() {
    for major in MAJORS {
        let trt = TensorRt::new(major, ALONE);
        let headers = trt.headers();
        let variable = format!("WATCHPOST_TENSORRT_INCLUDE_{major}");
        match std::env::var_os(&variable) {
            Some(folder) if !folder.is_empty() => {
                assert!(headers.contains(&format!("NVIDIA's headers {major}.")), "{headers}");
                eprintln!("tested {headers}");
            }
            _ => eprintln!(
                "NOT TESTED: the calls against NVIDIA's class declarations: set {variable} to the folder of NvInfer.h of \
                 TensorRT {major}"
            ),
        }
    }
}
