//! The whole crate on the stand-in libcuda: real order of streams and events, real kernels, faults on demand.

mod faults;
#[path = "../scene/mod.rs"]
mod scene;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use scene::{Decoder, LEN, PLACED, RECIPE, Standin, expected, grey, same, slot, tensor_of};
use watchpost_cuda::{
    Batch, Buffer, Claim, CudaError, Element, Event, Gpu, Graph, Ledger, Letterboxer, Owner, Pinned, Stream,
    devices,
};
use watchpost_standins::names;

#[test]
fn a_device_is_described_as_the_driver_describes_it() {
    let standin = Standin::enter();
    standin.configure("name=Test GPU,cc=8.7,total_mib=4096,integrated=1,driver=12.4,devices=2");
    let devices = devices().expect("two devices");
    assert_eq!(devices.len(), 2);
    assert_eq!(devices[1].index, 1);
    assert!(devices[1].name.contains("Test GPU"), "{:?}", devices[1]);
    assert_eq!(devices[1].compute_capability, (8, 7));
    assert_eq!(devices[1].total_bytes, 4096 << 20);
    assert_eq!(devices[1].driver, (12, 4));
    assert!(devices[1].integrated);
    assert!(devices[1].uuid.starts_with("GPU-") && devices[1].uuid.len() == 40, "{}", devices[1].uuid);
    assert_ne!(devices[0].uuid, devices[1].uuid);
    assert_eq!(Gpu::open(2).unwrap_err(), CudaError::NoSuchDevice { index: 2, count: 2 });
    standin.nothing_is_held();
}

#[test]
fn a_device_opened_twice_is_one_with_one_ledger() {
    let standin = Standin::enter();
    let (first, second) = (Gpu::open(0).expect("a device"), Gpu::open(0).expect("a device"));
    assert_eq!(first.context(), second.context());
    let buffer = Buffer::new(&first, Owner::Weights, 1000).expect("memory");
    let pinned = Pinned::new(&second, Owner::Outputs, 10).expect("memory");
    let claim = Claim::new(&second, Owner::Weights, 24);
    assert_eq!((claim.bytes(), buffer.len_bytes(), pinned.len_bytes()), (24, 1000, 10));
    let ledger = second.ledger();
    let weights = ledger.device(Owner::Weights);
    assert_eq!((weights.bytes, weights.count), (1024, 2));
    assert_eq!(ledger.pinned(Owner::Outputs).bytes, 10);
    assert_eq!((ledger.device_bytes(), ledger.pinned_bytes()), (1024, 10));
    assert!(pinned.bytes().iter().all(|&byte| byte == 0));
    assert!(first.free_bytes().expect("a device") < first.info().total_bytes);
    drop((buffer, pinned, claim));
    assert_eq!(first.ledger(), Ledger::default());
    drop(first);
    assert!(second.free_bytes().is_ok(), "the context went with the first of two");
    drop(second);
    standin.nothing_is_held();
}

#[test]
fn a_decoded_picture_becomes_a_tensor_without_visiting_the_host() {
    let standin = Standin::enter();
    let gpu = Gpu::open(0).expect("a device");
    for element in [Element::F16, Element::F32] {
        for layout in 0..3 {
            let mut decoder = Decoder::new(&gpu, layout).expect("a decoder");
            let (mut letterboxer, mut slot) =
                (Letterboxer::new(&gpu, RECIPE).expect("room"), slot(&gpu, element));
            decoder.decode(85);
            let before = [names::H2D_COPIES, names::D2H_COPIES].map(|name| standin.counter(name));
            letterboxer.letterbox(&decoder.picture(), PLACED, &mut slot).expect("a kernel");
            letterboxer.finish().expect("the kernel has run");
            let after = [names::H2D_COPIES, names::D2H_COPIES].map(|name| standin.counter(name));
            assert_eq!(before, after, "something went over the host");
            // Reading it back is counted, here as by the driver.
            let (copied, driver) = (gpu.copied(), standin.counter(names::D2H_BYTES));
            same(&tensor_of(&slot), &expected(85), &format!("{element:?}, layout {layout}"));
            let read = i64::try_from(gpu.copied().to_host_bytes - copied.to_host_bytes).expect("small");
            assert_eq!(read, standin.counter(names::D2H_BYTES) - driver);
            assert_eq!(read, slot.bytes() as i64);
            assert_eq!(gpu.copied().to_device_bytes, copied.to_device_bytes);
        }
    }
    drop(gpu);
    standin.nothing_is_held();
}

#[test]
fn a_picture_is_read_only_when_its_decoder_is_ready() {
    let standin = Standin::enter();
    standin.configure(scene::LATE);
    let gpu = Gpu::open(0).expect("a device");
    let mut decoder = Decoder::new(&gpu, 0).expect("a decoder");
    let (mut letterboxer, mut slot) =
        (Letterboxer::new(&gpu, RECIPE).expect("room"), slot(&gpu, Element::F32));
    for level in [10, 200, 30] {
        decoder.decode_late(level);
        letterboxer.letterbox(&decoder.picture(), PLACED, &mut slot).expect("a kernel");
        letterboxer.finish().expect("the kernel has run");
        assert!(decoder.is_ready(), "finish returned before the picture was complete");
        same(&tensor_of(&slot), &expected(level), "a picture that came late");
    }
    drop((decoder, letterboxer, slot, gpu));
    standin.nothing_is_held();
}

#[test]
fn frames_of_the_cpu_are_uploaded_and_converted() {
    let standin = Standin::enter();
    standin.configure(scene::LATE);
    let gpu = Gpu::open(0).expect("a device");
    for element in [Element::F16, Element::F32] {
        let (mut letterboxer, mut slot) =
            (Letterboxer::new(&gpu, RECIPE).expect("room"), slot(&gpu, element));
        let error = letterboxer.upload(&mut slot).unwrap_err();
        assert!(matches!(error, CudaError::Mismatch { .. }), "uploaded what was never staged: {error}");
        // The next frame is staged while the last is on its way: it must not be overtaken.
        for level in [1.0, 2.0, 3.0_f32] {
            letterboxer.staging().expect("pinned memory").fill(level);
            letterboxer.upload(&mut slot).expect("an upload");
        }
        letterboxer.staging().expect("pinned memory").fill(9.0);
        same(&tensor_of(&slot), &[3.0; LEN], &format!("{element:?}"));
        let (device, pinned) = Letterboxer::staging_bytes_for(&RECIPE, element);
        let ledger = gpu.ledger();
        assert_eq!(ledger.device(Owner::Staging).bytes, device as u64);
        assert_eq!(ledger.pinned(Owner::Staging).bytes, pinned as u64);
        assert_eq!(ledger.device(Owner::Slots).bytes, slot.bytes() as u64);
    }
    drop(gpu);
    assert_eq!(standin.counter(names::PAGEABLE_COPIES), standin.reads());
    standin.nothing_is_held();
}

#[test]
fn an_engine_on_the_host_gets_the_same_tensor() {
    let standin = Standin::enter();
    standin.configure(scene::LATE);
    let gpu = Gpu::open(0).expect("a device");
    let mut decoder = Decoder::new(&gpu, 0).expect("a decoder");
    let mut letterboxer = Letterboxer::new(&gpu, RECIPE).expect("room");
    let mut tensor = vec![f32::NAN; LEN];
    for level in [50, 60] {
        decoder.decode_late(level);
        letterboxer.letterbox_to_host(&decoder.picture(), PLACED, &mut tensor).expect("a kernel");
        same(&tensor, &expected(level), "a tensor of the host");
    }
    let error = letterboxer.letterbox_to_host(&decoder.picture(), PLACED, &mut tensor[1..]).unwrap_err();
    assert!(matches!(error, CudaError::Mismatch { .. }), "{error}");
    drop((decoder, letterboxer, gpu));
    standin.nothing_is_held();
}

#[test]
fn what_the_host_writes_over_a_picture_on_its_way_is_in_the_slot() {
    let standin = Standin::enter();
    standin.configure(scene::LATE);
    let gpu = Gpu::open(0).expect("a device");
    let mut decoder = Decoder::new(&gpu, 0).expect("a decoder");
    for element in [Element::F16, Element::F32] {
        let (mut letterboxer, mut slot) =
            (Letterboxer::new(&gpu, RECIPE).expect("room"), slot(&gpu, element));
        for level in [20, 90] {
            decoder.decode_late(level);
            let picture = decoder.picture();
            let mut seen = Vec::new();
            let mut change = |tensor: &mut [f32]| {
                seen = tensor.to_vec();
                tensor[..LEN / 2].fill(0.25);
            };
            letterboxer.letterbox_over_host(&picture, PLACED, &mut slot, &mut change).expect("a kernel");
            letterboxer.finish().expect("the picture has been read");
            same(&seen, &expected(level), "what the host saw");
            let mut changed = expected(level);
            changed[..LEN / 2].fill(0.25);
            same(&tensor_of(&slot), &changed, &format!("{element:?}"));
        }
    }
    drop((decoder, gpu));
    standin.nothing_is_held();
}

#[test]
fn slots_are_gathered_in_order_when_each_is_filled() {
    let standin = Standin::enter();
    standin.configure(scene::LATE);
    let gpu = Gpu::open(0).expect("a device");
    for element in [Element::F16, Element::F32] {
        let stream = Stream::new(&gpu).expect("a stream");
        let mut batch = Batch::new(&gpu, element, LEN, 3).expect("room");
        let mut decoders = [40, 80, 120].map(|level| (level, Decoder::new(&gpu, 0).expect("a decoder")));
        let mut letterboxers = [0, 1, 2].map(|_| Letterboxer::new(&gpu, RECIPE).expect("room"));
        let mut slots = [0, 1, 2].map(|_| slot(&gpu, element));
        for (((level, decoder), letterboxer), slot) in
            decoders.iter_mut().zip(&mut letterboxers).zip(&mut slots)
        {
            decoder.decode_late(*level);
            letterboxer.letterbox(&decoder.picture(), PLACED, slot).expect("a kernel");
        }
        let all = [&slots[2], &slots[0], &slots[1]];
        let address = batch.gather(&all, &stream).expect("a batch");
        batch.read_by(&all, &stream).expect("an event");
        let three = scene::read(&gpu, &stream, address, element, 3 * LEN);
        same(&three, &[expected(120), expected(40), expected(80)].concat(), &format!("{element:?}"));
        // One is read where it is, also only when it is filled.
        decoders[2].1.decode_late(160);
        letterboxers[2].letterbox(&decoders[2].1.picture(), PLACED, &mut slots[2]).expect("a kernel");
        let address = batch.gather(&[&slots[2]], &stream).expect("a batch");
        assert_eq!(address, slots[2].address());
        batch.read_by(&[&slots[2]], &stream).expect("an event");
        same(&scene::read(&gpu, &stream, address, element, LEN), &expected(160), "one alone");
        letterboxers.iter_mut().for_each(|letterboxer| letterboxer.finish().expect("kernels have run"));
    }
    drop(gpu);
    standin.nothing_is_held();
}

#[test]
fn a_slot_is_overwritten_only_when_it_has_been_read() {
    let standin = Standin::enter();
    standin.configure(scene::LATE);
    let gpu = Gpu::open(0).expect("a device");
    let stream = Stream::new(&gpu).expect("a stream");
    let mut decoder = Decoder::new(&gpu, 0).expect("a decoder");
    let mut letterboxer = Letterboxer::new(&gpu, RECIPE).expect("room");
    let mut slots = [slot(&gpu, Element::F32), slot(&gpu, Element::F32)];
    let mut batch = Batch::new(&gpu, Element::F32, LEN, 2).expect("room");
    for slot in &mut slots {
        decoder.decode(70);
        letterboxer.letterbox(&decoder.picture(), PLACED, slot).expect("a kernel");
        letterboxer.finish().expect("the kernel has run");
    }
    // The engine is busy with other things; meanwhile the slots come home, as when its thread unwinds.
    let busy = scene::keep_busy(&gpu, &stream);
    let address = batch.gather(&[&slots[0], &slots[1]], &stream).expect("a batch");
    decoder.decode(250);
    letterboxer.letterbox(&decoder.picture(), PLACED, &mut slots[0]).expect("a kernel");
    let mut other = Letterboxer::new(&gpu, RECIPE).expect("room");
    other.staging().expect("pinned memory").fill(4.0);
    other.upload(&mut slots[1]).expect("an upload");
    let gathered = scene::read(&gpu, &stream, address, Element::F32, 2 * LEN);
    same(&gathered, &[expected(70), expected(70)].concat(), "what the engine reads");
    same(&tensor_of(&slots[0]), &expected(250), "the next picture");
    same(&tensor_of(&slots[1]), &[4.0; LEN], "the next upload");
    letterboxer.finish().expect("kernels have run");
    drop((busy, stream, decoder, letterboxer, other, slots, batch, gpu));
    standin.nothing_is_held();
}

#[test]
fn two_who_write_one_slot_do_so_one_after_the_other() {
    let standin = Standin::enter();
    standin.configure(scene::LATE);
    let gpu = Gpu::open(0).expect("a device");
    let (mut late, mut early) =
        (Decoder::new(&gpu, 0).expect("a decoder"), Decoder::new(&gpu, 0).expect("a decoder"));
    let mut letterboxers = [0, 1].map(|_| Letterboxer::new(&gpu, RECIPE).expect("room"));
    let mut slot = slot(&gpu, Element::F32);
    // The camera's last picture of one opening was dropped unread; the next opening has another letterboxer.
    early.decode(20);
    late.decode_late(10);
    letterboxers[0].letterbox(&late.picture(), PLACED, &mut slot).expect("a kernel");
    letterboxers[1].letterbox(&early.picture(), PLACED, &mut slot).expect("a kernel");
    letterboxers.iter_mut().for_each(|letterboxer| letterboxer.finish().expect("kernels have run"));
    same(&tensor_of(&slot), &expected(20), "the picture that was written last");
    drop((late, early, letterboxers, slot, gpu));
    standin.nothing_is_held();
}

#[test]
fn a_batch_is_overwritten_only_when_it_has_been_read() {
    let standin = Standin::enter();
    standin.configure(scene::LATE);
    let gpu = Gpu::open(0).expect("a device");
    let streams = [0, 1].map(|_| Stream::new(&gpu).expect("a stream"));
    let mut letterboxer = Letterboxer::new(&gpu, RECIPE).expect("room");
    let mut slots = [0, 1].map(|_| slot(&gpu, Element::F32));
    let mut batch = Batch::new(&gpu, Element::F32, LEN, 2).expect("room");
    for (level, slot) in [1.0, 2.0_f32].into_iter().zip(&mut slots) {
        letterboxer.staging().expect("pinned memory").fill(level);
        letterboxer.upload(slot).expect("an upload");
    }
    let address = batch.gather(&[&slots[0], &slots[0]], &streams[0]).expect("a batch");
    // An engine that is slow to read it.
    let busy = scene::keep_busy(&gpu, &streams[0]);
    let mut outputs = Pinned::new(&gpu, Owner::Outputs, 4).expect("memory");
    // SAFETY: one f32 of the batch; all lives until the wait below.
    unsafe { streams[0].copy_to_host(&mut outputs, address, 4) }.expect("a copy");
    batch.read_by(&[&slots[0], &slots[0]], &streams[0]).expect("an event");
    batch.gather(&[&slots[1], &slots[1]], &streams[1]).expect("a batch");
    streams.iter().for_each(|stream| stream.wait().expect("work has run"));
    assert_eq!(outputs.f32s(), [1.0]);
    drop((streams, letterboxer, slots, batch, busy, outputs, gpu));
    standin.nothing_is_held();
}

#[test]
fn a_frame_allocates_nothing_and_waits_without_spinning() {
    let standin = Standin::enter();
    let gpu = Gpu::open(0).expect("a device");
    let stream = Stream::new(&gpu).expect("a stream");
    let mut decoder = Decoder::new(&gpu, 0).expect("a decoder");
    let mut letterboxer = Letterboxer::new(&gpu, RECIPE).expect("room");
    let mut slots = [slot(&gpu, Element::F16), slot(&gpu, Element::F16)];
    let mut batch = Batch::new(&gpu, Element::F16, LEN, 2).expect("room");
    let mut frame = |level: u8| {
        decoder.decode(level);
        letterboxer.letterbox(&decoder.picture(), PLACED, &mut slots[0]).expect("a kernel");
        letterboxer.finish().expect("the kernel has run");
        letterboxer.staging().expect("pinned memory").fill(1.0);
        letterboxer.upload(&mut slots[1]).expect("an upload");
        let both = [&slots[0], &slots[1]];
        batch.gather(&both, &stream).expect("a batch");
        batch.read_by(&both, &stream).expect("an event");
        stream.wait().expect("work has run");
    };
    frame(0);
    let (ledger, made) = (gpu.ledger(), standin.counter(names::ALLOCATIONS));
    let events = standin.counter(names::LIVE_EVENTS);
    for level in 1..100 {
        frame(level);
    }
    assert_eq!(standin.counter(names::ALLOCATIONS), made);
    assert_eq!(standin.counter(names::LIVE_EVENTS), events);
    assert_eq!(gpu.ledger(), ledger);
    assert!(standin.counter(names::SYNCHRONISATIONS) > 200);
    assert_eq!(standin.counter(names::SPINNING_WAITS), 0);
    drop((stream, decoder, letterboxer, slots, batch, gpu));
    standin.nothing_is_held();
}

#[test]
fn a_graph_is_replayed_as_often_as_it_is_launched() {
    let standin = Standin::enter();
    let gpu = Gpu::open(0).expect("a device");
    let stream = Stream::new(&gpu).expect("a stream");
    let (mut from, to) = (buffer(&gpu, &[0; 64]), buffer(&gpu, &[0; 64]));
    let mut graph = Graph::record(&stream, |stream| {
        // Another camera starts meanwhile.
        thread::scope(|scope| {
            scope.spawn(|| {
                Buffer::new(&gpu, Owner::Slots, 64).map(drop).expect("memory while another thread records")
            });
        });
        // SAFETY: both buffers have 64 bytes and outlive the graph's launches.
        unsafe { stream.copy(to.address(), from.address(), 64) }
    })
    .expect("a graph");
    assert_eq!(gpu.ledger().graph_count, 1);
    let mut seen = [9; 64];
    to.read(&stream, &mut seen).expect("a copy");
    assert_eq!(seen, [0; 64], "recording runs nothing");
    for level in [1, 2] {
        from.write(&stream, &[level; 64]).expect("a copy");
        // SAFETY: as above.
        unsafe { graph.launch(&stream) }.expect("a launch");
        to.read(&stream, &mut seen).expect("a copy");
        assert_eq!(seen, [level; 64]);
    }
    drop((graph, from, to, stream, gpu));
    standin.nothing_is_held();
}

fn buffer(gpu: &Gpu, bytes: &[u8]) -> Buffer {
    let mut buffer = Buffer::new(gpu, Owner::Outputs, bytes.len()).expect("memory");
    buffer.write(&Stream::new(gpu).expect("a stream"), bytes).expect("a copy");
    buffer
}

#[test]
fn the_scene_itself_is_right() {
    // The grey that the tests expect, by hand: full range, so a level is its sample; offset 1, scale 1/2.
    assert_eq!(grey(100), 51.0);
}
