//! Engines on the stand-in libraries, both majors: every call goes through the virtual tables of C++ classes, so a wrong
//! slot, argument or order of destruction shows.

mod support;

use std::thread;

use support::onnx_writer::Dim;
use support::{Bench, LEN, doubling, doubling_half, on_both, two_outputs};
use watchpost_cuda::{CudaError, Element, Owner, SlotTensor};
use watchpost_tensorrt::{BuildOptions, LoadOptions, Runner, TensorElement, TensorRtError, TensorView};

const OPEN: Dim = Dim::Open("batch");
const PLAIN: LoadOptions = LoadOptions { contexts: 1, replay: false, dla_core: None };

/// First value and last value of each frame's first output.
fn infer(runner: &mut Runner, slots: &[&SlotTensor]) -> Result<Vec<(f32, f32)>, TensorRtError> {
    let mut seen = Vec::new();
    runner.infer(slots, &mut |index, outputs| {
        assert_eq!(index, seen.len());
        let TensorView { shape, data, .. } = outputs[0];
        assert_eq!(shape.iter().product::<usize>(), data.len());
        seen.push((data[0], data[data.len() - 1]));
    })?;
    Ok(seen)
}

/// What comes out of frames with these values.
fn doubled(values: &[f32]) -> Vec<(f32, f32)> {
    values.iter().map(|value| (20.0 * value, 2.0 * value)).collect()
}

#[test]
fn every_batch_size_gives_each_frame_its_own_results_plain_and_replayed() {
    on_both(|bench| {
        let plan = bench.plan(&doubling(OPEN), 5);
        for replay in [false, true] {
            let mut runner = bench.load(&plan, LoadOptions { replay, ..LoadOptions::default() }).unwrap();
            assert_eq!(
                (runner.input().name.as_str(), &runner.input().shape[..]),
                ("images", &[1, 3, 4, 8][..])
            );
            assert_eq!((runner.outputs()[0].name.as_str(), runner.max_batch()), ("doubled", 5));
            assert_eq!(runner.slot_element(), Element::F32);
            assert_eq!(runner.replayed(), if replay { &[1, 2, 4, 5][..] } else { &[] });
            let slots = bench.slots(&runner, 5);
            for count in [1, 5, 2, 3, 4, 1, 2] {
                // From the back, so that no frame is always in the same place.
                let chosen: Vec<&SlotTensor> = slots.iter().rev().take(count).collect();
                let values: Vec<f32> = (0..count).map(|index| 5.0 - index as f32).collect();
                assert_eq!(infer(&mut runner, &chosen).unwrap(), doubled(&values), "{count} replay={replay}");
            }
            drop((runner, slots));
            bench.check();
        }
    });
}

#[test]
fn a_fixed_batch_is_filled_up_and_gives_only_the_frames_that_were_asked_for() {
    on_both(|bench| {
        // What is built for DLA has one batch size.
        bench.configure("nvinfer.dla_cores=1");
        let options = BuildOptions { max_batch: Some(4), dla_core: Some(0), ..BuildOptions::default() };
        let plan = bench.build(&doubling_half(OPEN).encode(), &options).unwrap();
        for replay in [false, true] {
            let options = LoadOptions { replay, dla_core: Some(0), ..LoadOptions::default() };
            let mut runner = bench.load(&plan, options).unwrap();
            assert_eq!((runner.min_batch(), runner.max_batch()), (4, 4));
            let slots = bench.slots(&runner, 4);
            for count in 1..=4 {
                let chosen: Vec<&SlotTensor> = slots.iter().take(count).collect();
                let values: Vec<f32> = (1..=count).map(|value| value as f32).collect();
                assert_eq!(infer(&mut runner, &chosen).unwrap(), doubled(&values));
            }
        }
    });
}

#[test]
fn halves_and_integers_come_out_as_f32() {
    on_both(|bench| {
        let plan = bench.plan(&doubling_half(OPEN), 3);
        let mut runner = bench.load(&plan, LoadOptions::default()).unwrap();
        assert_eq!((runner.slot_element(), runner.outputs()[0].element), (Element::F16, TensorElement::F16));
        let slots = bench.slots(&runner, 3);
        let chosen: Vec<&SlotTensor> = slots.iter().collect();
        assert_eq!(infer(&mut runner, &chosen).unwrap(), doubled(&[1.0, 2.0, 3.0]));
        drop((runner, slots));

        let plan = bench.plan(&two_outputs(OPEN), 2);
        let mut runner = bench.load(&plan, LoadOptions::default()).unwrap();
        let infos = runner.outputs();
        assert_eq!(
            (infos.len(), infos[1].element, &infos[1].shape[..]),
            (2, TensorElement::I64, &[1, 4, 8][..])
        );
        let slots = bench.slots(&runner, 2);
        let mut frames = 0;
        runner
            .infer(&[&slots[1], &slots[0]], &mut |_, outputs| {
                frames += 1;
                assert_eq!((outputs[1].name, outputs[1].data.len()), ("channel", 32));
                assert!(outputs[1].data.iter().all(|&channel| channel == 0.0), "{:?}", outputs[1].data);
            })
            .unwrap();
        assert_eq!(frames, 2);
    });
}

#[test]
fn two_contexts_hold_two_batches_and_no_third() {
    on_both(|bench| {
        bench.configure("nvinfer.enqueue_us=3000");
        let plan = bench.plan(&doubling(OPEN), 2);
        for replay in [false, true] {
            let mut runner = bench.load(&plan, LoadOptions { contexts: 2, replay, dla_core: None }).unwrap();
            assert_eq!(runner.contexts(), 2);
            let slots = bench.slots(&runner, 4);
            for _ in 0..5 {
                runner.submit(&[&slots[0], &slots[1]]).unwrap();
                runner.submit(&[&slots[2]]).unwrap();
                assert!(matches!(runner.submit(&[&slots[3]]), Err(TensorRtError::Batch(_))));
                assert!(matches!(infer(&mut runner, &[&slots[3]]), Err(TensorRtError::Batch(_))));
                let mut seen = Vec::new();
                let mut note = |_: usize, outputs: &[TensorView<'_>]| seen.push(outputs[0].data[0]);
                assert_eq!(runner.collect(&mut note).unwrap(), 2);
                assert_eq!(runner.collect(&mut note).unwrap(), 1);
                assert_eq!(runner.collect(&mut note).unwrap(), 0);
                assert_eq!(seen, [20.0, 40.0, 60.0]);
            }
            // Under way when everything goes, the slots last: they would wait.
            runner.submit(&[&slots[0], &slots[1]]).unwrap();
            runner.submit(&[&slots[2]]).unwrap();
            drop(runner);
        }
    });
}

#[test]
fn a_wrong_batch_is_refused_and_the_runner_goes_on() {
    on_both(|bench| {
        let plan = bench.plan(&doubling(OPEN), 2);
        let mut runner = bench.load(&plan, LoadOptions::default()).unwrap();
        let slots = bench.slots(&runner, 3);
        let all: Vec<&SlotTensor> = slots.iter().collect();
        assert!(matches!(infer(&mut runner, &all), Err(TensorRtError::Batch(_))));
        assert!(matches!(infer(&mut runner, &[]), Err(TensorRtError::Batch(_))));
        let short = SlotTensor::new(&bench.gpu, Element::F32, LEN - 1).unwrap();
        let half = SlotTensor::new(&bench.gpu, Element::F16, LEN).unwrap();
        for wrong in [&short, &half] {
            for chosen in [&[wrong][..], &[&slots[0], wrong]] {
                let error = infer(&mut runner, chosen).unwrap_err();
                assert!(matches!(error, TensorRtError::Cuda(CudaError::Mismatch { .. })), "{error}");
            }
        }
        assert_eq!(infer(&mut runner, &all[..2]).unwrap(), doubled(&[1.0, 2.0]));
    });
}

#[test]
fn memory_is_counted_by_owner() {
    on_both(|bench| {
        bench.configure("nvinfer.activation_bytes=100000");
        let plan = bench.plan(&doubling(OPEN), 4);
        let runner = bench.load(&plan, PLAIN).unwrap();
        let frame = LEN as u64 * 4;
        let ledger = bench.gpu.ledger();
        assert_eq!(ledger.device(Owner::Activations).bytes, 100_000);
        assert_eq!(ledger.device(Owner::Batches).bytes, 4 * frame);
        assert_eq!(ledger.device(Owner::Outputs).bytes, 4 * frame);
        assert_eq!(ledger.pinned(Owner::Outputs).bytes, 4 * frame);
        assert_eq!(ledger.device(Owner::Slots).bytes, 0, "the warm-up's slot is gone");
        drop(runner);
        bench.check();
        let two = bench.load(&plan, LoadOptions { contexts: 2, ..PLAIN }).unwrap();
        assert_eq!(bench.gpu.ledger().device(Owner::Activations).bytes, 200_000);
        drop(two);
    });
}

#[test]
fn nothing_is_left_after_many_engines_also_when_they_go_on_other_threads() {
    on_both(|bench| {
        let plan = bench.plan(&doubling(OPEN), 3);
        for _ in 0..40 {
            let mut runner =
                bench.load(&plan, LoadOptions { contexts: 2, ..LoadOptions::default() }).unwrap();
            let slots = bench.slots(&runner, 3);
            let values = thread::scope(|scope| {
                let work = || {
                    let chosen: Vec<&SlotTensor> = slots.iter().collect();
                    infer(&mut runner, &chosen).unwrap()
                };
                scope.spawn(work).join().unwrap()
            });
            assert_eq!(values, doubled(&[1.0, 2.0, 3.0]));
            thread::spawn(move || drop(runner)).join().unwrap();
        }
        bench.check();
    });
}

#[test]
fn a_real_model_gives_what_the_built_in_engine_gives() {
    let model = include_bytes!("../../models/demo.onnx");
    on_both(|bench| {
        let plan = bench.build(model, &BuildOptions::default()).unwrap();
        let mut runner = bench.load(&plan, LoadOptions::default()).unwrap();
        let values: Vec<f32> = (0..runner.input().len()).map(|index| (index % 251) as f32).collect();
        let slot = real_slot(bench, &runner, &values);
        let mut got = Vec::new();
        runner
            .infer(&[&slot], &mut |_, outputs| {
                got = outputs.iter().map(|output| output.data.to_vec()).collect()
            })
            .unwrap();
        let options = watchpost_builtin::LoadOptions { threads: 1, input_size: None };
        let mut expected = Vec::new();
        watchpost_builtin::Model::from_bytes(model, options)
            .unwrap()
            .run(&values, &mut |outputs| {
                expected = outputs.iter().map(|output| output.data.to_vec()).collect()
            })
            .unwrap();
        assert!(got.iter().map(Vec::len).sum::<usize>() > 100);
        assert_eq!(got, expected);
    });
}

fn real_slot(bench: &Bench, runner: &Runner, values: &[f32]) -> SlotTensor {
    let side = |axis: usize| u32::try_from(runner.input().shape[axis]).unwrap();
    let recipe = watchpost_cuda::Recipe {
        width: side(3),
        height: side(2),
        pad: 0.0,
        scale: [1.0; 3],
        offset: [0.0; 3],
        bgr: false,
    };
    let mut letterboxer = watchpost_cuda::Letterboxer::new(&bench.gpu, recipe).unwrap();
    let mut slot = SlotTensor::new(&bench.gpu, runner.slot_element(), values.len()).unwrap();
    letterboxer.staging().unwrap().copy_from_slice(values);
    letterboxer.upload(&mut slot).unwrap();
    slot
}
