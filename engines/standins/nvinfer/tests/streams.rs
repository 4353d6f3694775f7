//! The stand-in libraries over the stand-in libcuda: work is done in its stream, in its turn, in device memory.

mod caller;
#[path = "../../tests/device/mod.rs"]
mod device;

use caller::steps::{context, deserialize, doubling, plan, set_shape, text};
use caller::{Object, Raw, TensorRt, last_error};
use cudarc::driver::sys::{self, CUgraphExec, CUstream, CUstreamCaptureMode_enum as Mode};
use device::{Device, Gate, device_bytes, download, filled, free_stream, ok};
use watchpost_standins::names;

const MAJORS: [u32; 2] = [10, 11];
const VALUES: usize = 4 * 24;
const BYTES: usize = VALUES * 4;

/// Device memory of a context: input, output, activations.
struct Memory {
    input: u64,
    output: u64,
    activations: u64,
    activation_bytes: usize,
}

impl Memory {
    fn new(engine: &Object<'_>) -> Self {
        let bytes = call!(engine, "getDeviceMemorySizeForProfileV2", 0 => i32; i64);
        let activation_bytes = usize::try_from(bytes).expect("a size");
        let (input, output) = (device_bytes(BYTES), device_bytes(BYTES));
        Self { input, output, activations: device_bytes(activation_bytes), activation_bytes }
    }

    fn upload(&self, values: f32, stream: CUstream) {
        // SAFETY: all the floats are the same 32 bits; the memory is of that size.
        ok(unsafe { sys::cuMemsetD32Async(self.input, values.to_bits(), VALUES, stream) });
    }

    fn outputs(&self) -> Vec<f32> {
        download(self.output, BYTES).as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).collect()
    }

    fn free(self) {
        for memory in [self.input, self.output, self.activations] {
            // SAFETY: live memory.
            ok(unsafe { sys::cuMemFree_v2(memory) });
        }
    }
}

/// A context for batches of up to four, with everything set for a batch of two.
fn ready<'a>(engine: &Object<'a>, memory: &Memory) -> Object<'a> {
    let context = context(engine, 2).expect("a context");
    let (address, size) = (memory.activations as Raw, memory.activation_bytes as i64);
    call!(context, "setDeviceMemoryV2", address => Raw, size => i64; ());
    for (name, address) in [("images", memory.input), ("doubled", memory.output)] {
        assert!(set(&context, name, address), "{}", last_error());
    }
    assert!(set_shape(&context, "images", &[2, 3, 2, 4]));
    context
}

fn set(context: &Object<'_>, name: &str, address: u64) -> bool {
    let name = text(name);
    call!(context, "setTensorAddress", name.as_ptr() => *const std::ffi::c_char, address as Raw => Raw; bool)
}

fn enqueue(context: &Object<'_>, stream: CUstream) -> bool {
    call!(context, "enqueueV3", stream.cast() => Raw; bool)
}

fn destroy(stream: CUstream) {
    // SAFETY: a live stream.
    ok(unsafe { sys::cuStreamDestroy_v2(stream) });
}

fn wait(stream: CUstream) {
    // SAFETY: a live stream.
    ok(unsafe { sys::cuStreamSynchronize(stream) });
}

#[test]
fn an_inference_is_done_when_its_stream_comes_to_it_and_not_before() {
    for major in MAJORS {
        let gpu = Device::new("");
        let trt = TensorRt::new(major, "");
        let plan = plan(&trt, &doubling(), 4);
        let runtime = trt.runtime();
        let engine = deserialize(&runtime, &plan).unwrap_or_else(|| panic!("{}", last_error()));
        let (memory, stream) = (Memory::new(&engine), free_stream());
        let context = ready(&engine, &memory);
        let untouched = memory.outputs();
        let gate = Gate::in_the_way_of(stream);
        memory.upload(1.5, stream);
        assert!(enqueue(&context, stream), "{}", last_error());
        assert_eq!(trt.count("nvinfer.in_flight"), 1);
        assert!(memory.outputs().iter().zip(&untouched).all(|(now, then)| now.to_bits() == then.to_bits()));
        gate.open();
        wait(stream);
        let outputs = memory.outputs();
        assert!(outputs[..48].iter().all(|&value| value == 3.0), "{outputs:?}");
        assert!(
            outputs[48..].iter().zip(&untouched[48..]).all(|(now, then)| now.to_bits() == then.to_bits())
        );
        assert!(
            download(memory.activations, memory.activation_bytes)[..48 * 4].iter().all(|&byte| byte == 0xa5)
        );
        drop((context, engine, runtime));
        memory.free();
        destroy(stream);
        assert_eq!(trt.live(), []);
        drop(trt);
        gpu.finish();
    }
}

#[test]
fn a_captured_inference_is_replayed_with_what_the_input_holds_then() {
    for major in MAJORS {
        let gpu = Device::new("");
        let trt = TensorRt::new(major, "");
        let plan = plan(&trt, &doubling(), 4);
        let runtime = trt.runtime();
        let engine = deserialize(&runtime, &plan).expect("an engine");
        let (memory, stream) = (Memory::new(&engine), free_stream());
        let context = ready(&engine, &memory);
        let exec = captured(&context, stream);
        // SAFETY: live handles.
        unsafe {
            assert_eq!((trt.count("nvinfer.in_flight"), trt.count("nvinfer.frames")), (0, 0));
            for value in [1.0, 2.0] {
                memory.upload(value, stream);
                ok(sys::cuGraphLaunch(exec, stream));
                wait(stream);
                assert!(memory.outputs()[..48].iter().all(|&out| out == 2.0 * value));
            }
            ok(sys::cuGraphExecDestroy(exec));
        }
        drop((context, engine, runtime));
        memory.free();
        destroy(stream);
        assert_eq!(trt.live(), []);
        drop(trt);
        gpu.finish();
    }
}

#[test]
fn memory_that_is_none_or_crooked_is_refused_at_the_call() {
    for major in MAJORS {
        let gpu = Device::new("");
        let trt = TensorRt::new(major, "");
        let plan = plan(&trt, &doubling(), 4);
        let runtime = trt.runtime();
        let engine = deserialize(&runtime, &plan).expect("an engine");
        let (memory, stream) = (Memory::new(&engine), free_stream());
        let context = ready(&engine, &memory);
        assert!(!set(&context, "images", memory.input + 4));
        assert!(last_error().contains("aligned"), "{}", last_error());
        assert!(set(&context, "images", memory.input + 256));
        // Two frames are 192 bytes, three of four would run over the end.
        assert!(!enqueue(&context, stream));
        assert!(last_error().contains("not in one device allocation"), "{}", last_error());
        assert!(set(&context, "images", std::ptr::from_ref(&[0_u8; 4096][0]) as u64 / 4096 * 4096));
        assert!(!enqueue(&context, stream));
        assert_eq!(gpu.get(names::VIOLATIONS), 2);
        drop((context, engine, runtime));
        memory.free();
        destroy(stream);
        assert_eq!(trt.live(), []);
        drop(trt);
        gpu.abandon();
    }
}

/// What `enqueueV3` puts into a stream, as a graph.
fn captured(context: &Object<'_>, stream: CUstream) -> CUgraphExec {
    // SAFETY: live handles.
    unsafe {
        ok(sys::cuStreamBeginCapture_v2(stream, Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
        assert!(enqueue(context, stream), "{}", last_error());
        let graph = filled(|place| sys::cuStreamEndCapture(stream, place)).unwrap();
        let exec = filled(|place| sys::cuGraphInstantiateWithFlags(place, graph, 0)).unwrap();
        ok(sys::cuGraphDestroy(graph));
        exec
    }
}

#[test]
fn a_replay_into_memory_that_is_gone_loses_the_device() {
    for major in MAJORS {
        let gpu = Device::new("");
        let trt = TensorRt::new(major, "");
        let plan = plan(&trt, &doubling(), 4);
        let runtime = trt.runtime();
        let engine = deserialize(&runtime, &plan).expect("an engine");
        let (memory, stream) = (Memory::new(&engine), free_stream());
        let context = ready(&engine, &memory);
        let exec = captured(&context, stream);
        // SAFETY: live handles; the memory is given back too early: that is the test.
        let lost = unsafe {
            ok(sys::cuMemFree_v2(memory.output));
            ok(sys::cuGraphLaunch(exec, stream));
            let lost = sys::cuStreamSynchronize(stream);
            assert_eq!(sys::cuGraphExecDestroy(exec), lost);
            lost
        };
        assert_eq!(lost, sys::CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
        assert!(gpu.cuda.report().contains("doubled (192 bytes"), "{}", gpu.cuda.report());
        assert!(!enqueue(&context, stream) && last_error().contains("error 700"), "{}", last_error());
        let violations = gpu.get(names::VIOLATIONS);
        drop((context, engine, runtime));
        assert_eq!(gpu.get(names::VIOLATIONS), violations, "{}", gpu.cuda.report());
        assert_eq!(trt.live(), []);
        drop(trt);
        gpu.abandon();
    }
}

#[test]
fn a_replay_of_an_engine_that_is_gone_is_told() {
    for major in MAJORS {
        let gpu = Device::new("");
        let trt = TensorRt::new(major, "");
        let plan = plan(&trt, &doubling(), 4);
        let runtime = trt.runtime();
        let engine = deserialize(&runtime, &plan).expect("an engine");
        let (memory, stream) = (Memory::new(&engine), free_stream());
        let context = ready(&engine, &memory);
        let exec = captured(&context, stream);
        drop((context, engine, runtime));
        assert_eq!(gpu.get(names::VIOLATIONS), 0, "{}", gpu.cuda.report());
        // SAFETY: live handles.
        unsafe {
            ok(sys::cuGraphLaunch(exec, stream));
            wait(stream);
            ok(sys::cuGraphExecDestroy(exec));
        }
        assert!(gpu.cuda.report().contains("engine that has been deleted"), "{}", gpu.cuda.report());
        memory.free();
        destroy(stream);
        assert_eq!(trt.live(), []);
        drop(trt);
        gpu.abandon();
    }
}

#[test]
fn a_context_deleted_with_work_in_the_stream_is_told() {
    for major in MAJORS {
        let gpu = Device::new("");
        let trt = TensorRt::new(major, "");
        let plan = plan(&trt, &doubling(), 4);
        let runtime = trt.runtime();
        let engine = deserialize(&runtime, &plan).expect("an engine");
        let (memory, stream) = (Memory::new(&engine), free_stream());
        let context = ready(&engine, &memory);
        let gate = Gate::in_the_way_of(stream);
        assert!(enqueue(&context, stream));
        drop(context);
        assert!(gpu.cuda.report().contains("deleted with 1 inferences"), "{}", gpu.cuda.report());
        gate.open();
        wait(stream);
        drop((engine, runtime));
        memory.free();
        destroy(stream);
        assert_eq!(trt.live(), []);
        drop(trt);
        gpu.abandon();
    }
}

#[test]
fn a_device_without_memory_or_that_is_another_refuses_the_plan() {
    for major in MAJORS {
        let gpu = Device::new("cc=8.7");
        let trt = TensorRt::new(major, "");
        let plan = plan(&trt, &doubling(), 4);
        let runtime = trt.runtime();
        gpu.cuda.set(names::ORDER_OOM, 1);
        assert!(deserialize(&runtime, &plan).is_none());
        assert!(last_error().contains("OutOfMemory"), "{}", last_error());
        let engine = deserialize(&runtime, &plan).expect("an engine");
        assert_eq!(gpu.get(names::LIVE_ALLOCATIONS), 1, "the weights");
        gpu.cuda.set(names::ORDER_OOM, 1);
        assert!(context(&engine, 0).is_none());
        assert!(last_error().contains("OutOfMemory"), "{}", last_error());
        drop(context(&engine, 0).expect("a context with memory of its own"));
        drop(engine);
        gpu.cuda.configure("cc=7.5");
        assert!(deserialize(&runtime, &plan).is_none());
        assert!(
            last_error().contains("expecting compute 8.7 got compute 7.5") || last_error().contains("7.5")
        );
        drop(runtime);
        assert_eq!(trt.live(), []);
        drop(trt);
        gpu.finish();
    }
}

#[test]
fn a_machine_without_a_device_has_no_objects() {
    for major in MAJORS {
        let gpu = Device::new("");
        let trt = TensorRt::new(major, "");
        gpu.cuda.configure("devices=0");
        for function in ["createInferRuntime_INTERNAL", "createInferBuilder_INTERNAL"] {
            assert_eq!(trt.create(function) as usize, 0x228);
            assert!(last_error().contains("error: 100"), "{}", last_error());
        }
        assert_eq!(trt.live(), []);
        drop(trt);
        gpu.cuda.configure("devices=1");
        gpu.finish();
    }
}
