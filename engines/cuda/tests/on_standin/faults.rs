//! What does not belong together, runs out, unwinds or is lost.

use super::*;

#[test]
fn what_does_not_belong_together_is_refused_and_nothing_is_queued() {
    let standin = Standin::enter();
    standin.configure("devices=2");
    let gpu = Gpu::open(0).expect("a device");
    let other = Gpu::open(1).expect("a device");
    let mut decoder = Decoder::new(&gpu, 2).expect("a decoder");
    decoder.decode(1);
    let mut letterboxer = Letterboxer::new(&gpu, RECIPE).expect("room");
    let mut short = watchpost_cuda::SlotTensor::new(&gpu, Element::F16, LEN - 1).expect("a slot");
    let mut slot = slot(&gpu, Element::F16);
    let kernels = standin.counter(names::KERNELS);
    let refused = [
        letterboxer.letterbox(&decoder.picture(), PLACED, &mut short).unwrap_err(),
        letterboxer.letterbox(&decoder.picture(), scene::placed(0, 0, 33, 1), &mut slot).unwrap_err(),
        letterboxer.letterbox(&decoder.picture(), scene::placed(u32::MAX, 0, 2, 1), &mut slot).unwrap_err(),
        letterboxer.letterbox(&decoder.picture(), scene::placed(0, 0, 0, 1), &mut slot).unwrap_err(),
    ];
    assert!(matches!(refused[0], CudaError::Mismatch { what: "a slot", .. }), "{refused:?}");
    assert!(refused[1..].iter().all(|error| *error == CudaError::PlacementOutside), "{refused:?}");
    for (picture, word) in scene::bad_pictures(&decoder) {
        let error = letterboxer.letterbox(&picture, PLACED, &mut slot).unwrap_err().to_string();
        assert!(error.contains(word), "{error} does not say {word}");
    }
    for (width, height) in [(0, 32), (32, 0), (8193, 32)] {
        let error = Letterboxer::new(&gpu, watchpost_cuda::Recipe { width, height, ..RECIPE }).unwrap_err();
        assert!(matches!(error, CudaError::TensorSize { .. }), "{error}");
    }
    let (stream, foreign) = (Stream::new(&gpu).expect("a stream"), Stream::new(&other).expect("a stream"));
    let mut batch = Batch::new(&gpu, Element::F16, LEN, 1).expect("room");
    assert_eq!(batch.gather(&[&slot], &foreign), Err(CudaError::OtherGpu));
    for slots in [&[][..], &[&slot, &slot], &[&short]] {
        assert!(matches!(batch.gather(slots, &stream), Err(CudaError::Mismatch { .. })));
    }
    let wide = scene::slot(&gpu, Element::F32);
    assert!(matches!(batch.gather(&[&wide], &stream), Err(CudaError::Mismatch { .. })));
    stream.wait().expect("nothing to wait for");
    assert_eq!(standin.counter(names::KERNELS), kernels);
    drop((decoder, letterboxer, short, slot, wide, batch, stream, foreign, gpu, other));
    standin.nothing_is_held();
}

#[test]
fn a_recording_that_fails_or_unwinds_leaves_a_stream_that_works() {
    let standin = Standin::enter();
    let gpu = Gpu::open(0).expect("a device");
    let stream = Stream::new(&gpu).expect("a stream");
    let failed = Graph::record(&stream, |_| Err(CudaError::OtherGpu));
    assert_eq!(failed.map(drop).unwrap_err(), CudaError::OtherGpu);
    stream.wait().expect("the stream works");
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        Graph::record::<CudaError>(&stream, |_| panic!("in the middle")).map(drop)
    }));
    assert!(unwound.is_err());
    stream.wait().expect("the stream works");
    drop((stream, gpu));
    standin.nothing_is_held();
}

/// Everything once: what a camera and an engine take, and one frame each way.
fn route(gpu: &Gpu) -> Result<(), CudaError> {
    let stream = Stream::new(gpu)?;
    let mut decoder = Decoder::new(gpu, 0)?;
    let mut letterboxer = Letterboxer::new(gpu, RECIPE)?;
    let mut slots = [scene::try_slot(gpu)?, scene::try_slot(gpu)?];
    let mut batch = Batch::new(gpu, Element::F16, LEN, 2)?;
    let mut outputs = Pinned::new(gpu, Owner::Outputs, 256)?;
    decoder.try_decode(9)?;
    letterboxer.letterbox(&decoder.picture(), PLACED, &mut slots[0])?;
    letterboxer.finish()?;
    letterboxer.staging()?.fill(1.0);
    letterboxer.upload(&mut slots[1])?;
    let both = [&slots[0], &slots[1]];
    let address = batch.gather(&both, &stream)?;
    // SAFETY: the batch has more than 256 bytes; the wait below comes before anything goes.
    let copied = unsafe { stream.copy_to_host(&mut outputs, address, 256) };
    let read = batch.read_by(&both, &stream);
    stream.wait().and(copied).and(read)
}

#[test]
fn memory_that_runs_out_anywhere_is_a_typed_error_and_all_comes_back() {
    let standin = Standin::enter();
    let mut owners = Vec::new();
    for nth in 1.. {
        assert!(nth < 100, "every allocation fails");
        let gpu = Gpu::open(0).expect("a device");
        standin.configure(&format!("oom_at={nth}"));
        let ended = route(&gpu);
        standin.configure("oom_at=0");
        assert_eq!(gpu.lost(), None);
        assert!(gpu.ledger().is_empty(), "after the {nth}. allocation failed: {:?}", gpu.ledger());
        match ended {
            Err(CudaError::OutOfMemory { owner, bytes }) => {
                assert!(bytes > 0);
                owners.push(owner);
            }
            Err(other) => panic!("the {nth}. allocation: {other}"),
            Ok(()) => {
                route(&gpu).expect("the device works again");
                break;
            }
        }
        route(&gpu).expect("the device works again");
        drop(gpu);
        standin.nothing_is_held();
    }
    // Slots twice, staging on both sides, the batch, the outputs, and what stands for the decoder.
    let count = |wanted: Owner| owners.iter().filter(|&&owner| owner == wanted).count();
    assert_eq!((count(Owner::Slots), count(Owner::Batches), count(Owner::Outputs)), (2, 1, 1), "{owners:?}");
    assert!(count(Owner::Staging) >= 2, "{owners:?}");
    standin.nothing_is_held();
}

#[test]
fn a_lost_context_is_remembered_and_everything_refuses_at_once() {
    let standin = Standin::enter();
    for code in [700, 702, 716, 717, 718, 719, 999] {
        for operation in 1..=6 {
            standin.reset();
            let gpu = Gpu::open(0).expect("a device");
            let stream = Stream::new(&gpu).expect("a stream");
            let (event, slot) = (Event::new(&gpu).expect("an event"), slot(&gpu, Element::F16));
            let mut letterboxer = Letterboxer::new(&gpu, RECIPE).expect("room");
            standin.configure(&format!("lost_at_operation={operation},lost_code={code}"));
            let error = route(&gpu).unwrap_err();
            let CudaError::Lost { code: said, .. } = &error else { panic!("{code}: {error}") };
            assert_eq!(*said, code);
            assert!(error.is_lost() && error.to_string().contains("has to start again"), "{error}");
            assert_eq!(gpu.lost().as_ref(), Some(&error));
            // Whatever the driver would say now.
            standin.reset();
            assert_eq!(letterboxer.staging().map(|_| ()).as_ref(), Err(&error));
            assert_eq!(letterboxer.finish().as_ref(), Err(&error));
            assert_eq!(stream.wait().as_ref(), Err(&error));
            assert_eq!(event.wait().as_ref(), Err(&error));
            assert_eq!(event.has_happened(), Err(error.clone()));
            assert_eq!(Buffer::new(&gpu, Owner::Slots, 1).map(drop), Err(error.clone()));
            assert_eq!(Letterboxer::new(&gpu, RECIPE).map(drop), Err(error.clone()));
            assert_eq!(gpu.free_bytes(), Err(error.clone()));
            assert_eq!(standin.counter(names::SYNCHRONISATIONS), 0, "a refusal waited");
            drop((stream, event, slot, letterboxer));
            assert!(gpu.ledger().is_empty(), "{:?}", gpu.ledger());
            drop(gpu);
            standin.nothing_is_held();
        }
    }
    standin.reset();
    let gpu = Gpu::open(0).expect("a new process would begin like this");
    route(&gpu).expect("nothing of it stays");
}

#[test]
fn unwinding_gives_everything_back() {
    let standin = Standin::enter();
    standin.configure(scene::LATE);
    let gpu = Gpu::open(0).expect("a device");
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let mut decoder = Decoder::new(&gpu, 0).expect("a decoder");
        let mut letterboxer = Letterboxer::new(&gpu, RECIPE).expect("room");
        let mut slot = slot(&gpu, Element::F16);
        let stream = Stream::new(&gpu).expect("a stream");
        let mut batch = Batch::new(&gpu, Element::F16, LEN, 2).expect("room");
        decoder.decode_late(3);
        letterboxer.letterbox(&decoder.picture(), PLACED, &mut slot).expect("a kernel");
        batch.gather(&[&slot, &slot], &stream).expect("a batch");
        panic!("with all of it under way");
    }));
    assert!(unwound.is_err());
    assert!(gpu.ledger().is_empty(), "{:?}", gpu.ledger());
    drop(gpu);
    standin.nothing_is_held();
}

#[test]
fn no_thread_has_to_know_of_the_context() {
    let standin = Standin::enter();
    let gpu = Gpu::open(0).expect("a device");
    let mut decoder = Decoder::new(&gpu, 0).expect("a decoder");
    let (mut letterboxer, mut slot) =
        (Letterboxer::new(&gpu, RECIPE).expect("room"), slot(&gpu, Element::F16));
    decoder.decode(77);
    thread::scope(|scope| {
        scope.spawn(|| {
            letterboxer.letterbox(&decoder.picture(), PLACED, &mut slot).expect("a kernel");
            letterboxer.finish().expect("the kernel has run");
        });
    });
    same(
        &thread::spawn(move || tensor_of(&slot)).join().expect("a tensor"),
        &expected(77),
        "another thread's",
    );
    thread::spawn(move || drop((decoder, letterboxer, gpu))).join().expect("all of it goes");
    standin.nothing_is_held();
}
