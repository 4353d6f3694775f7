//! What most tests do with the library: build, load, infer.

use std::ffi::{CString, c_char, c_void};
use std::ptr;

use super::onnx_writer::{Dim, Onnx};
use super::{Dims, Object, Raw, TensorRt, last_error};
use crate::call;

pub fn text(value: &str) -> CString {
    CString::new(value).expect("no zero")
}

/// 3 x 2 x 4 floats a frame, doubled; the batch is open.
pub fn doubling() -> Vec<u8> {
    Onnx::doubling(&[Dim::Open("n"), Dim::N(3), Dim::N(2), Dim::N(4)]).encode()
}

pub fn bytes_of(memory: &Object<'_>) -> Vec<u8> {
    let data = call!(memory, "data"; *const u8);
    let size = call!(memory, "size"; usize);
    // SAFETY: the object's own bytes.
    unsafe { std::slice::from_raw_parts(data, size) }.to_vec()
}

/// What a build is made of, in the order in which it is deleted.
pub struct Build<'a> {
    pub parser: Object<'a>,
    pub config: Object<'a>,
    pub network: Object<'a>,
    pub builder: Object<'a>,
}

impl<'a> Build<'a> {
    pub fn new(trt: &'a TensorRt) -> Self {
        let builder = trt.builder();
        let network = call!(builder, "createNetworkV2", 1 => u32; Raw);
        let network = builder.other("VNetworkDefinition", network).expect("a network");
        let config =
            builder.other("VBuilderConfig", call!(builder, "createBuilderConfig"; Raw)).expect("a config");
        let parser = trt.create_parser(&network);
        Self { parser, config, network, builder }
    }

    pub fn parse(&self, onnx: &[u8]) -> bool {
        let (start, size) = (onnx.as_ptr().cast(), onnx.len());
        call!(self.parser, "parse", start => *const c_void, size => usize, ptr::null() => *const c_char; bool)
    }

    /// Adds a profile of `images` for batches of 1 to `max`; its index.
    pub fn profile(&self, shapes: [&[i64]; 3]) -> i32 {
        let mut profile = self
            .builder
            .other("VOptimizationProfile", call!(self.builder, "createOptimizationProfile"; Raw))
            .expect("a profile");
        profile.owned = false;
        let name = text("images");
        for (select, shape) in (0..).zip(shapes) {
            let dims = Dims::new(shape);
            let name = name.as_ptr();
            assert!(
                call!(profile, "setDimensions", name => *const c_char, select => i32, &dims => *const Dims; bool)
            );
        }
        call!(self.config, "addOptimizationProfile", profile.raw => Raw; i32)
    }

    pub fn build(&self) -> Option<Vec<u8>> {
        let plan = call!(
            self.builder, "buildSerializedNetwork", self.network.raw => Raw, self.config.raw => Raw; Raw
        );
        self.builder.other("VHostMemory", plan).map(|memory| bytes_of(&memory))
    }
}

pub fn plan(trt: &TensorRt, onnx: &[u8], max: i64) -> Vec<u8> {
    let build = Build::new(trt);
    assert!(build.parse(onnx), "{}", last_error());
    assert_eq!(build.profile([&[1, 3, 2, 4], &[max.min(2), 3, 2, 4], &[max, 3, 2, 4]]), 0);
    build.build().unwrap_or_else(|| panic!("{}", last_error()))
}

pub fn deserialize<'a>(runtime: &Object<'a>, plan: &[u8]) -> Option<Object<'a>> {
    let (start, size) = (plan.as_ptr().cast(), plan.len());
    let engine = call!(runtime, "deserializeCudaEngine", start => *const c_void, size => usize; Raw);
    runtime.other("VCudaEngine", engine)
}

pub fn context<'a>(engine: &Object<'a>, strategy: i32) -> Option<Object<'a>> {
    engine.other("VExecutionContext", call!(engine, "createExecutionContext", strategy => i32; Raw))
}

pub fn set_shape(context: &Object<'_>, name: &str, shape: &[i64]) -> bool {
    let (name, dims) = (text(name), Dims::new(shape));
    call!(context, "setInputShape", name.as_ptr() => *const c_char, &dims => *const Dims; bool)
}

pub fn set_address<T>(context: &Object<'_>, name: &str, values: &mut [T]) -> bool {
    let (name, address) = (text(name), values.as_mut_ptr().cast());
    call!(context, "setTensorAddress", name.as_ptr() => *const c_char, address => Raw; bool)
}

pub fn set_memory(context: &Object<'_>, memory: &mut [u8]) {
    let (address, size) = (memory.as_mut_ptr().cast(), memory.len() as i64);
    call!(context, "setDeviceMemoryV2", address => Raw, size => i64; ());
}

pub fn enqueue(context: &Object<'_>) -> bool {
    call!(context, "enqueueV3", ptr::null_mut() => Raw; bool)
}

pub fn nothing_is_left(trt: &TensorRt, violations: i64) {
    assert_eq!(trt.live(), []);
    assert_eq!(trt.count("nvinfer.violations"), violations);
    trt.order("nvinfer.violations", 0);
}
