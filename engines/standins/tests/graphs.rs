//! What a capture records is not done, and what is replayed is done again, with what memory holds then.

mod device;

use std::ptr::null_mut;

use cudarc::driver::sys::{self, CUresult, CUstreamCaptureMode_enum as Mode};
use device::{Device, device_bytes, download, event, filled, free_stream, ok, pinned, poison, stream};
use watchpost_standins::names;

const BYTES: usize = 32;

#[test]
fn a_captured_chain_over_two_streams_is_replayed() {
    let gpu = Device::new("");
    let (work, side, forked, joined) = (free_stream(), free_stream(), event(), event());
    let (first, second, host) = (device_bytes(BYTES), device_bytes(BYTES), pinned(BYTES));
    // SAFETY: live handles and memory of that size.
    unsafe {
        ok(sys::cuStreamBeginCapture_v2(work, Mode::CU_STREAM_CAPTURE_MODE_GLOBAL));
        ok(sys::cuMemcpyHtoDAsync_v2(first, host.cast(), BYTES, work));
        ok(sys::cuEventRecord(forked, work));
        ok(sys::cuStreamWaitEvent(side, forked, 0));
        ok(sys::cuMemcpyDtoDAsync_v2(second, first, BYTES, side));
        ok(sys::cuEventRecord(joined, side));
        ok(sys::cuStreamWaitEvent(work, joined, 0));
        let graph = filled(|place| sys::cuStreamEndCapture(work, place)).unwrap();
        assert_eq!(filled(|place| sys::cuGraphGetNodes(graph, null_mut(), place)).unwrap(), 2);
        let exec = filled(|place| sys::cuGraphInstantiateWithFlags(place, graph, 0)).unwrap();
        ok(sys::cuGraphDestroy(graph));
        assert_eq!(download(second, BYTES), poison(BYTES), "a capture does nothing");
        for round in 1..=3 {
            host.write_bytes(round, BYTES);
            ok(sys::cuGraphLaunch(exec, work));
            ok(sys::cuStreamSynchronize(work));
            assert_eq!(download(second, BYTES), vec![round; BYTES]);
        }
        assert_eq!(gpu.get(names::GRAPH_LAUNCHES), 3);
        assert_eq!(gpu.get(names::D2D_BYTES), 3 * BYTES as i64);
        ok(sys::cuGraphExecDestroy(exec));
        ok(sys::cuMemFree_v2(first));
        ok(sys::cuMemFree_v2(second));
        ok(sys::cuMemFreeHost(host.cast()));
        [forked, joined].into_iter().for_each(|one| ok(sys::cuEventDestroy_v2(one)));
        [work, side].into_iter().for_each(|one| ok(sys::cuStreamDestroy_v2(one)));
    }
    gpu.finish();
}

#[test]
fn what_a_capture_does_not_allow_ends_it() {
    let gpu = Device::new("");
    let (work, ordinary) = (free_stream(), stream(0));
    let memory = device_bytes(BYTES);
    let unsupported = CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    // SAFETY: live handles and memory of that size.
    unsafe {
        let spoil = |what: &mut dyn FnMut() -> CUresult| {
            ok(sys::cuStreamBeginCapture_v2(work, Mode::CU_STREAM_CAPTURE_MODE_GLOBAL));
            assert_eq!(what(), unsupported);
            let ended = filled(|place| sys::cuStreamEndCapture(work, place));
            assert_eq!(ended, Err(CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED));
        };
        spoil(&mut || sys::cuStreamSynchronize(work));
        spoil(&mut || filled(|place| sys::cuMemAlloc_v2(place, 1)).unwrap_err());
        spoil(&mut || sys::cuMemsetD8_v2(memory, 0, 1));
        assert_eq!(
            filled(|place| sys::cuStreamEndCapture(work, place)),
            Err(CUresult::CUDA_ERROR_STREAM_CAPTURE_UNMATCHED)
        );
        assert_eq!(
            sys::cuStreamBeginCapture_v2(null_mut(), Mode::CU_STREAM_CAPTURE_MODE_GLOBAL),
            unsupported
        );
        ok(sys::cuStreamBeginCapture_v2(ordinary, Mode::CU_STREAM_CAPTURE_MODE_RELAXED));
        let implicit = CUresult::CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
        assert_eq!(sys::cuMemsetD8Async(memory, 0, 1, null_mut()), implicit);
        let graph = filled(|place| sys::cuStreamEndCapture(ordinary, place)).unwrap();
        ok(sys::cuGraphDestroy(graph));
        ok(sys::cuMemFree_v2(memory));
        [work, ordinary].into_iter().for_each(|one| ok(sys::cuStreamDestroy_v2(one)));
    }
    gpu.finish();
}

#[test]
fn the_launch_that_loses_the_device_may_be_a_graphs() {
    let gpu = Device::new("lost_at_launch=2");
    let work = free_stream();
    // SAFETY: live handles.
    unsafe {
        let graph = filled(|place| sys::cuGraphCreate(place, 0)).unwrap();
        let exec = filled(|place| sys::cuGraphInstantiateWithFlags(place, graph, 0)).unwrap();
        ok(sys::cuGraphLaunch(exec, work));
        ok(sys::cuStreamSynchronize(work));
        ok(sys::cuGraphLaunch(exec, work));
        let lost = CUresult::CUDA_ERROR_ILLEGAL_ADDRESS;
        assert_eq!(sys::cuStreamSynchronize(work), lost);
        assert_eq!(sys::cuGraphExecDestroy(exec), lost);
        assert_eq!(sys::cuGraphDestroy(graph), lost);
        assert_eq!(sys::cuStreamDestroy_v2(work), lost);
    }
    gpu.abandon();
}
