//! Streams do their work in order, later than it is asked for, and wait only for what they were told to wait for.

mod device;

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};

use cudarc::driver::sys::{self, CUresult};
use device::{
    Device, Gate, bytes_of, device_bytes, download, event, free_stream, ok, pinned, poison, stream,
};
use watchpost_standins::names;

const BYTES: usize = 64;

/// A producer that is held up writes 7s; what a consumer on another stream sees.
fn consumer_sees(with_wait: bool) -> Vec<u8> {
    let gpu = Device::new("");
    let (producer, consumer, written) = (free_stream(), free_stream(), event());
    let (memory, from, to) = (device_bytes(BYTES), pinned(BYTES), pinned(BYTES));
    let gate = Gate::in_the_way_of(producer);
    // SAFETY: live handles and memory of that size.
    unsafe {
        from.write_bytes(7, BYTES);
        ok(sys::cuMemcpyHtoDAsync_v2(memory, from.cast(), BYTES, producer));
        ok(sys::cuEventRecord(written, producer));
        assert_eq!(sys::cuEventQuery(written), CUresult::CUDA_ERROR_NOT_READY);
        if with_wait {
            ok(sys::cuStreamWaitEvent(consumer, written, 0));
        }
        ok(sys::cuMemcpyDtoHAsync_v2(to.cast(), memory, BYTES, consumer));
        if with_wait {
            assert_eq!(sys::cuStreamQuery(consumer), CUresult::CUDA_ERROR_NOT_READY);
            gate.open();
        }
        ok(sys::cuStreamSynchronize(consumer));
        let seen = bytes_of(to, BYTES);
        gate.open();
        ok(sys::cuStreamSynchronize(producer));
        assert_eq!(download(memory, BYTES), vec![7; BYTES]);
        ok(sys::cuMemFree_v2(memory));
        ok(sys::cuMemFreeHost(from.cast()));
        ok(sys::cuMemFreeHost(to.cast()));
        ok(sys::cuEventDestroy_v2(written));
        ok(sys::cuStreamDestroy_v2(producer));
        ok(sys::cuStreamDestroy_v2(consumer));
        assert!(gpu.get(names::SPINNING_WAITS) > 0, "the context was not asked to block");
        gpu.finish();
        seen
    }
}

#[test]
fn a_consumer_that_does_not_wait_sees_what_was_there_before() {
    assert_eq!(consumer_sees(false), poison(BYTES));
}

#[test]
fn a_consumer_that_waits_for_the_event_sees_the_data() {
    assert_eq!(consumer_sees(true), vec![7; BYTES]);
}

#[test]
fn page_locked_memory_is_read_when_the_copy_runs_and_other_memory_when_it_is_asked_for() {
    let gpu = Device::new("");
    let (work, from, mut pageable) = (free_stream(), pinned(BYTES), vec![1u8; BYTES]);
    let (first, second) = (device_bytes(BYTES), device_bytes(BYTES));
    let gate = Gate::in_the_way_of(work);
    // SAFETY: live handles and memory of that size.
    unsafe {
        ok(sys::cuMemcpyHtoDAsync_v2(first, from.cast(), BYTES, work));
        ok(sys::cuMemcpyHtoDAsync_v2(second, pageable.as_ptr().cast(), BYTES, work));
        from.write_bytes(9, BYTES);
        pageable.fill(9);
        gate.open();
        ok(sys::cuStreamSynchronize(work));
        assert_eq!(download(first, BYTES), vec![9; BYTES]);
        assert_eq!(download(second, BYTES), vec![1; BYTES]);
        assert_eq!(gpu.get(names::PAGEABLE_COPIES), 1);
        assert_eq!((gpu.get(names::H2D_COPIES), gpu.get(names::H2D_BYTES)), (2, 128));
        assert_eq!((gpu.get(names::D2H_COPIES), gpu.get(names::D2H_BYTES)), (2, 128));
        ok(sys::cuStreamDestroy_v2(work));
        ok(sys::cuMemFree_v2(first));
        ok(sys::cuMemFree_v2(second));
        ok(sys::cuMemFreeHost(from.cast()));
    }
    gpu.finish();
}

#[test]
fn the_default_stream_comes_after_ordinary_streams_and_not_after_free_ones() {
    let gpu = Device::new("");
    let (ordinary, free) = (stream(0), free_stream());
    let memory = device_bytes(BYTES);
    let (held, freely_held) = (Gate::in_the_way_of(ordinary), Gate::in_the_way_of(free));
    // SAFETY: live handles and memory of that size.
    unsafe {
        ok(sys::cuMemsetD8Async(memory, 1, BYTES, null_mut()));
        assert_eq!(sys::cuStreamQuery(null_mut()), CUresult::CUDA_ERROR_NOT_READY);
        held.open();
        ok(sys::cuStreamSynchronize(null_mut()));
        assert_eq!(sys::cuStreamQuery(free), CUresult::CUDA_ERROR_NOT_READY);

        // And the other way round: ordinary streams come after the default one.
        let default_held = Gate::in_the_way_of(null_mut());
        ok(sys::cuMemsetD8Async(memory, 2, BYTES, ordinary));
        assert_eq!(sys::cuStreamQuery(ordinary), CUresult::CUDA_ERROR_NOT_READY);
        default_held.open();
        freely_held.open();
        ok(sys::cuCtxSynchronize());
        assert_eq!(download(memory, BYTES), vec![2; BYTES]);
        ok(sys::cuStreamDestroy_v2(ordinary));
        ok(sys::cuStreamDestroy_v2(free));
        ok(sys::cuMemFree_v2(memory));
    }
    gpu.finish();
}

#[test]
fn a_wait_means_the_record_that_was_there_when_it_was_asked_for() {
    let gpu = Device::new("");
    let (first, second, mark) = (free_stream(), free_stream(), event());
    // SAFETY: live handles.
    unsafe {
        // Never recorded: nothing to wait for.
        ok(sys::cuStreamWaitEvent(second, mark, 0));
        ok(sys::cuEventSynchronize(mark));
        ok(sys::cuStreamSynchronize(second));
        ok(sys::cuEventRecord(mark, first));
        ok(sys::cuStreamWaitEvent(second, mark, 0));
        // Recorded anew behind a gate: `second` does not wait for that one.
        let gate = Gate::in_the_way_of(first);
        ok(sys::cuEventRecord(mark, first));
        ok(sys::cuStreamSynchronize(second));
        assert_eq!(sys::cuEventQuery(mark), CUresult::CUDA_ERROR_NOT_READY);
        gate.open();
        ok(sys::cuEventSynchronize(mark));
        let later = event();
        ok(sys::cuEventRecord(later, first));
        ok(sys::cuEventSynchronize(later));
        let passed_ms = device::filled(|place| sys::cuEventElapsedTime(place, mark, later)).unwrap();
        assert!(passed_ms >= 0.0);
        for one in [mark, later] {
            ok(sys::cuEventDestroy_v2(one));
        }
        ok(sys::cuStreamDestroy_v2(first));
        ok(sys::cuStreamDestroy_v2(second));
    }
    gpu.finish();
}

unsafe extern "C" fn count(data: *mut c_void) {
    // SAFETY: the tests pass a counter that outlives the stream.
    unsafe { &*data.cast::<AtomicUsize>() }.fetch_add(1, Ordering::SeqCst);
}

#[test]
fn a_full_queue_holds_the_caller_up() {
    let gpu = Device::new("queue=4");
    let (work, other, memory) = (free_stream(), free_stream(), device_bytes(BYTES));
    let (given, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let gate = Gate::in_the_way_of(work);
    let (context, work_handle) = (gpu.context as usize, work as usize);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..20 {
                // SAFETY: live handles; the counter outlives the scope.
                unsafe {
                    ok(sys::cuCtxSetCurrent(context as _));
                    let data = std::ptr::from_ref(&done).cast_mut().cast();
                    ok(sys::cuLaunchHostFunc(work_handle as _, Some(count), data));
                }
                given.fetch_add(1, Ordering::SeqCst);
            }
        });
        while given.load(Ordering::SeqCst) < 4 {
            std::thread::yield_now();
        }
        // Plenty of time for another four, and each of these is a trip through a stream.
        for _ in 0..200 {
            // SAFETY: live handles and memory of that size.
            unsafe {
                ok(sys::cuMemsetD8Async(memory, 1, BYTES, other));
                ok(sys::cuStreamSynchronize(other));
            }
        }
        assert!(given.load(Ordering::SeqCst) <= 5, "a queue of 4 took {}", given.load(Ordering::SeqCst));
        assert_eq!(done.load(Ordering::SeqCst), 0);
        gate.open();
    });
    // SAFETY: live handles.
    unsafe {
        ok(sys::cuStreamSynchronize(work));
        assert_eq!(done.load(Ordering::SeqCst), 20);
        ok(sys::cuStreamDestroy_v2(work));
        ok(sys::cuStreamDestroy_v2(other));
        ok(sys::cuMemFree_v2(memory));
    }
    gpu.finish();
}

#[test]
fn a_stream_that_is_destroyed_still_does_its_work() {
    let gpu = Device::new("");
    let (work, done) = (free_stream(), AtomicUsize::new(0));
    let gate = Gate::in_the_way_of(work);
    // SAFETY: live handles; the counter outlives the work, for which the context's end waits.
    unsafe {
        let mark = event();
        for _ in 0..3 {
            ok(sys::cuLaunchHostFunc(work, Some(count), std::ptr::from_ref(&done).cast_mut().cast()));
        }
        ok(sys::cuEventRecord(mark, work));
        ok(sys::cuStreamDestroy_v2(work));
        assert_eq!(gpu.get(names::LIVE_STREAMS), 0);
        gate.open();
        ok(sys::cuEventSynchronize(mark));
        assert_eq!(done.load(Ordering::SeqCst), 3);
        ok(sys::cuEventDestroy_v2(mark));
    }
    gpu.finish();
}

unsafe extern "C" fn call_the_driver(data: *mut c_void) {
    // SAFETY: the test passes a place for the answer.
    unsafe { data.cast::<CUresult>().write(sys::cuMemFree_v2(1)) };
}

#[test]
fn a_host_function_may_not_call_the_driver() {
    let gpu = Device::new("");
    let work = free_stream();
    let mut answer = CUresult::CUDA_SUCCESS;
    // SAFETY: live handles; the answer outlives the synchronisation.
    unsafe {
        ok(sys::cuLaunchHostFunc(work, Some(call_the_driver), (&raw mut answer).cast()));
        ok(sys::cuStreamSynchronize(work));
    }
    assert_eq!(answer, CUresult::CUDA_ERROR_NOT_PERMITTED);
    assert_eq!(gpu.get(names::CALL_IN_CALLBACK), 1);
    // SAFETY: a live handle.
    ok(unsafe { sys::cuStreamDestroy_v2(work) });
    gpu.abandon();
}
