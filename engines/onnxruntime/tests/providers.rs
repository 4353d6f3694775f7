//! Providers for the GPU on the library that this machine has: used, or refused by name, and the CPU goes on.
//!
//! One test, because the library is loaded once in a process.

#[path = "../../builtin/tests/onnx_writer/mod.rs"]
mod onnx_writer;

use onnx_writer::{Dim, Onnx};
use watchpost_cuda::{Element, Gpu, Letterboxer, Recipe, SlotTensor};
use watchpost_onnxruntime::{
    DeviceModel, DeviceOptions, LoadError, LoadOptions, Model, ModelBytes, Provider, check_provider,
    find_library,
};

const SIDE: usize = 32;
const LEN: usize = 3 * SIDE * SIDE;

#[test]
fn a_provider_is_used_or_refused_by_name_and_the_cpu_goes_on() {
    let library = match find_library() {
        Ok(library) => library,
        Err(error) => {
            eprintln!("NOT TESTED: providers of ONNX Runtime: {error}");
            return;
        }
    };
    let side = Dim::N(SIDE as u64);
    let onnx = Onnx::doubling(&[Dim::Open("batch"), Dim::N(3), side, side]).encode();
    let gpu = Gpu::open(0);
    let providers = [Provider::Cuda, Provider::TensorRt { is_fp16: false, cache: None }];
    for provider in providers {
        let name = provider.name();
        match (check_provider(&library, &provider), &gpu) {
            (Err(error), _) => {
                let LoadError::Provider { provider, reason } = &error else { panic!("{error:?}") };
                assert_eq!(*provider, name);
                assert!(!reason.is_empty() && !reason.contains(['\n', '\u{1b}']), "{reason}");
                eprintln!("{error}");
                eprintln!("NOT TESTED: inference with the provider {name}");
            }
            (Ok(()), Err(error)) => eprintln!("NOT TESTED: inference with the provider {name}: {error}"),
            (Ok(()), Ok(gpu)) => infer_on(gpu, &library, &onnx, provider),
        }
        // The CPU is none the worse for it.
        let options = LoadOptions { threads: 1, input_size: (SIDE, SIDE) };
        let mut model = Model::load(&library, ModelBytes::Memory(&onnx), options).expect("on the CPU");
        let mut first = 0.0;
        model.run(&[21.0; LEN], &mut |outputs| first = outputs[0].data[0]).expect("it infers");
        assert_eq!(first, 42.0);
    }
}

/// Slots on the device, read in place and as batches, against what was put into them.
fn infer_on(gpu: &Gpu, library: &std::path::Path, onnx: &[u8], provider: Provider) {
    let before = gpu.ledger().device_bytes();
    let name = provider.name();
    let options =
        DeviceOptions { provider, input_size: (SIDE, SIDE), max_batch: 4, memory_limit_bytes: Some(1 << 30) };
    let mut model = DeviceModel::load(library, ModelBytes::Memory(onnx), gpu, &options)
        .unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!((model.max_batch(), model.input().shape.as_slice()), (4, &[1, 3, SIDE, SIDE][..]));
    let side = SIDE as u32;
    let recipe =
        Recipe { width: side, height: side, pad: 0.0, scale: [1.0; 3], offset: [0.0; 3], bgr: false };
    let mut letterboxer = Letterboxer::new(gpu, recipe).expect("a letterboxer");
    let mut slots: Vec<SlotTensor> =
        (0..4).map(|_| SlotTensor::new(gpu, Element::F32, LEN).expect("a slot")).collect();
    for round in 0..20 {
        for (index, slot) in slots.iter_mut().enumerate() {
            letterboxer.staging().expect("staging").fill((round * 4 + index) as f32);
            letterboxer.upload(slot).expect("uploaded");
        }
        let count = round % 4 + 1;
        let lent: Vec<&SlotTensor> = slots[..count].iter().collect();
        let mut seen = 0;
        let mut each = |index: usize, outputs: &[watchpost_onnxruntime::TensorView<'_>]| {
            let expected = 2.0 * (round * 4 + index) as f32;
            assert!(
                outputs[0].data.iter().all(|value| *value == expected),
                "{name}: frame {index} of {count}"
            );
            seen += 1;
        };
        model.run(&lent, &mut each).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(seen, count);
    }
    drop((model, slots, letterboxer));
    assert_eq!(gpu.ledger().device_bytes(), before, "{name}: memory of the device was not given back");
    eprintln!("{name}: 20 batches of 1 to 4 slots on {}", gpu.info().name);
}
