//! Who owns which byte, what is known about an address, and what happens to those who do not care.

mod device;

use std::ffi::c_void;
use std::ptr::null_mut;

use cudarc::driver::sys::{self, CUDA_MEMCPY2D, CUmemorytype, CUresult};
use device::{Device, Gate, bytes_of, device_bytes, download, filled, free_stream, ok, pinned, poison};
use watchpost_standins::names;

const INVALID: CUresult = CUresult::CUDA_ERROR_INVALID_VALUE;
const LOST: CUresult = CUresult::CUDA_ERROR_ILLEGAL_ADDRESS;

#[test]
fn every_byte_has_an_owner_until_it_is_freed() {
    let gpu = Device::new("total_mib=1");
    let free_bytes = || {
        // SAFETY: two places.
        unsafe {
            filled(|free| {
                filled(|total| sys::cuMemGetInfo_v2(free, total))
                    .map_or_else(|e| e, |_| CUresult::CUDA_SUCCESS)
            })
        }
        .unwrap()
    };
    let memory = device_bytes(1000);
    let host = pinned(500);
    assert_eq!((gpu.get(names::LIVE_ALLOCATIONS), gpu.get(names::LIVE_BYTES)), (1, 1000));
    assert_eq!((gpu.get(names::LIVE_PINNED), gpu.get(names::LIVE_PINNED_BYTES)), (1, 500));
    assert_eq!(free_bytes(), (1 << 20) - 1000);
    assert_eq!(download(memory, 1000), poison(1000));
    assert!(gpu.cuda.is_live(memory + 10, 990) && !gpu.cuda.is_live(memory + 10, 991));
    // SAFETY: live memory.
    unsafe {
        assert_eq!(
            filled(|place| sys::cuMemAlloc_v2(place, 1 << 20)),
            Err(CUresult::CUDA_ERROR_OUT_OF_MEMORY)
        );
        assert_eq!(filled(|place| sys::cuMemAlloc_v2(place, 0)), Err(INVALID));
        ok(sys::cuMemFree_v2(memory));
        ok(sys::cuMemFreeHost(host.cast()));
    }
    assert_eq!(free_bytes(), 1 << 20);
    assert_eq!(gpu.get(names::PEAK_BYTES), 1000);
    gpu.finish();
}

#[test]
fn freed_memory_is_seen_and_said() {
    let gpu = Device::new("");
    let memory = device_bytes(100);
    let mut bytes = [0u8; 100];
    // SAFETY: the calls that are wrong are refused.
    unsafe {
        ok(sys::cuMemFree_v2(memory));
        assert_eq!(sys::cuMemcpyDtoH_v2(bytes.as_mut_ptr().cast(), memory, 100), INVALID);
        assert_eq!(sys::cuMemcpyHtoD_v2(memory + 50, bytes.as_ptr().cast(), 10), INVALID);
        assert_eq!(sys::cuMemsetD8_v2(memory, 1, 100), INVALID);
        assert_eq!(gpu.get(names::USE_AFTER_FREE), 3);
        assert_eq!(sys::cuMemFree_v2(memory), INVALID);
        assert_eq!(gpu.get(names::DOUBLE_FREE), 1);
        // An address is not given out again.
        let other = device_bytes(100);
        assert_ne!(other, memory);
        ok(sys::cuMemFree_v2(other));
    }
    assert_eq!(gpu.get(names::VIOLATIONS), 4);
    assert!(gpu.cuda.report().contains(&format!("a copy reads of freed memory: 100 bytes at {memory:#x}")));
    gpu.abandon();
}

#[test]
fn nothing_beyond_the_end_is_touched() {
    let gpu = Device::new("");
    let memory = device_bytes(100);
    let bytes = [0u8; 200];
    // SAFETY: the calls that are wrong are refused.
    unsafe {
        assert_eq!(sys::cuMemcpyHtoD_v2(memory, bytes.as_ptr().cast(), 101), INVALID);
        assert_eq!(sys::cuMemcpyHtoD_v2(memory + 100, bytes.as_ptr().cast(), 1), INVALID);
        assert_eq!(sys::cuMemcpyHtoD_v2(0x1000, bytes.as_ptr().cast(), 1), INVALID);
        assert_eq!(gpu.get(names::OUT_OF_BOUNDS), 3);
        // What a kernel or a host function writes there is found when the memory is freed.
        (memory as *mut u8).add(100).write(0);
        ok(sys::cuMemFree_v2(memory));
        assert_eq!(gpu.get(names::OUT_OF_BOUNDS), 4);
    }
    gpu.abandon();
}

#[test]
fn what_is_left_when_a_context_ends_is_a_leak() {
    let gpu = Device::new("");
    device_bytes(100);
    pinned(100);
    free_stream();
    // SAFETY: plain calls of the driver.
    unsafe {
        ok(sys::cuCtxSetCurrent(null_mut()));
        ok(sys::cuDevicePrimaryCtxRelease_v2(0));
    }
    assert_eq!(gpu.get(names::LEAKED), 3, "{}", gpu.cuda.report());
    assert_eq!(gpu.cuda.held(), Vec::<String>::new());
    // SAFETY: what ended stays ended.
    unsafe {
        assert_eq!(sys::cuDevicePrimaryCtxRelease_v2(0), CUresult::CUDA_ERROR_INVALID_CONTEXT);
        ok(sys::cuCtxSetCurrent(gpu.context));
        assert_eq!(
            filled(|place| sys::cuMemAlloc_v2(place, 1)),
            Err(CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED)
        );
    }
    gpu.abandon();
}

#[test]
fn primary_contexts_are_counted_and_stacks_are_per_thread() {
    let gpu = Device::new("");
    // SAFETY: plain calls of the driver.
    unsafe {
        let again = filled(|place| sys::cuDevicePrimaryCtxRetain(place, 0)).unwrap();
        assert_eq!(again, gpu.context);
        let own = filled(|place| sys::cuCtxCreate_v2(place, 0, 0)).unwrap();
        assert_eq!(filled(|place| sys::cuCtxGetCurrent(place)).unwrap(), own);
        assert_eq!(gpu.get(names::LIVE_CONTEXTS), 3);
        std::thread::spawn(|| assert_eq!(filled(|place| sys::cuCtxGetCurrent(place)).unwrap(), null_mut()))
            .join()
            .unwrap();
        assert_eq!(filled(|place| sys::cuCtxPopCurrent_v2(place)).unwrap(), own);
        assert_eq!(filled(|place| sys::cuCtxGetCurrent(place)).unwrap(), gpu.context);
        ok(sys::cuCtxDestroy_v2(own));
        ok(sys::cuDevicePrimaryCtxRelease_v2(0));
    }
    gpu.finish();
}

#[test]
fn rows_are_copied_with_their_pitches() {
    let gpu = Device::new("");
    let (width, rows) = (10, 3);
    // SAFETY: live memory of the sizes that are said.
    unsafe {
        let mut pitch = 0;
        let memory = filled(|place| sys::cuMemAllocPitch_v2(place, &raw mut pitch, width, rows, 16)).unwrap();
        assert_eq!(pitch, 512);
        let picture: Vec<u8> = (0..30).collect();
        let mut copy = CUDA_MEMCPY2D {
            srcXInBytes: 0,
            srcY: 0,
            srcMemoryType: CUmemorytype::CU_MEMORYTYPE_HOST,
            srcHost: picture.as_ptr().cast(),
            srcDevice: 0,
            srcArray: null_mut(),
            srcPitch: width,
            dstXInBytes: 0,
            dstY: 0,
            dstMemoryType: CUmemorytype::CU_MEMORYTYPE_DEVICE,
            dstHost: null_mut(),
            dstDevice: memory,
            dstArray: null_mut(),
            dstPitch: pitch,
            WidthInBytes: width,
            Height: rows,
        };
        let work = free_stream();
        ok(sys::cuMemcpy2DAsync_v2(&raw const copy, work));
        ok(sys::cuStreamSynchronize(work));
        let all = download(memory, pitch * rows);
        for row in 0..rows {
            assert_eq!(all[row * pitch..][..width], picture[row * width..][..width]);
            assert_eq!(all[row * pitch + width..][..pitch - width], poison(pitch - width));
        }
        // One row more than there is.
        copy.Height = rows + 1;
        assert_eq!(sys::cuMemcpy2DAsync_v2(&raw const copy, work), INVALID);
        assert_eq!(gpu.get(names::OUT_OF_BOUNDS), 1);
        ok(sys::cuStreamDestroy_v2(work));
        ok(sys::cuMemFree_v2(memory));
    }
    gpu.abandon();
}

const PTX: &std::ffi::CStr = c".version 8.0\n.target sm_72\n.address_size 64\n.visible .entry to_half(\n)\n{\nret;\n}\n.visible .entry mystery()\n{\n}\n";

/// Launches `to_half` for `count` numbers, on a stream that is held up until the arguments have been overwritten.
unsafe fn to_half(from: u64, to: u64, count: u32) -> CUresult {
    // SAFETY: live handles; the kernel's parameters.
    unsafe {
        let module = filled(|place| sys::cuModuleLoadData(place, PTX.as_ptr().cast())).unwrap();
        let function = filled(|place| sys::cuModuleGetFunction(place, module, c"to_half".as_ptr())).unwrap();
        let work = free_stream();
        let gate = Gate::in_the_way_of(work);
        let mut arguments = (from, to, count);
        let mut pointers: [*mut c_void; 3] =
            [(&raw mut arguments.0).cast(), (&raw mut arguments.1).cast(), (&raw mut arguments.2).cast()];
        let (grid, block) = (count.div_ceil(32), 32);
        let list = pointers.as_mut_ptr();
        ok(sys::cuLaunchKernel(function, grid, 1, 1, block, 1, 1, 0, work, list, null_mut()));
        arguments = (0, 0, 0);
        std::hint::black_box(arguments);
        gate.open();
        let result = sys::cuStreamSynchronize(work);
        sys::cuStreamDestroy_v2(work);
        sys::cuModuleUnload(module);
        result
    }
}

#[test]
fn a_kernel_runs_in_its_turn_with_the_arguments_of_its_launch() {
    let gpu = Device::new("");
    let (from, to, host) = (device_bytes(12), device_bytes(6), pinned(12));
    // SAFETY: live memory of the sizes that are said.
    unsafe {
        host.cast::<[f32; 3]>().write_unaligned([1.0, -2.0, 0.5]);
        ok(sys::cuMemcpyHtoD_v2(from, host.cast(), 12));
        ok(to_half(from, to, 3));
        ok(sys::cuMemcpyDtoH_v2(host.cast(), to, 6));
        assert_eq!(bytes_of(host, 6), [0x00, 0x3c, 0x00, 0xc0, 0x00, 0x38]);
        ok(sys::cuMemFree_v2(from));
        ok(sys::cuMemFree_v2(to));
        ok(sys::cuMemFreeHost(host.cast()));
    }
    assert_eq!(gpu.get(names::KERNELS), 1);
    gpu.finish();
}

#[test]
fn a_kernel_that_reaches_beyond_its_memory_loses_the_device_for_good() {
    let gpu = Device::new("");
    let (from, to, other) = (device_bytes(12), device_bytes(6), device_bytes(8));
    // SAFETY: the kernel is not run: its memory is too small.
    unsafe {
        assert_eq!(to_half(from, to, 4), LOST);
        assert_eq!(sys::cuCtxSynchronize(), LOST);
        assert_eq!(filled(|place| sys::cuMemAlloc_v2(place, 8)), Err(LOST));
        // Whoever gives back what it has is told, and is off the ledger all the same.
        assert_eq!(sys::cuMemFree_v2(other), LOST);
        assert_eq!(sys::cuMemFree_v2(from), LOST);
        assert_eq!(sys::cuMemFree_v2(to), LOST);
    }
    assert_eq!(gpu.get(names::LIVE_BYTES), 0);
    assert_eq!((gpu.get(names::OUT_OF_BOUNDS), gpu.get(names::KERNELS)), (1, 0));
    gpu.abandon();
}

#[test]
fn modules_are_read_as_a_driver_of_that_age_would() {
    let gpu = Device::new("driver=12.2,cc=7.2");
    let load = |text: &str| {
        let text = std::ffi::CString::new(text).unwrap();
        // SAFETY: a text.
        filled(|place| unsafe { sys::cuModuleLoadData(place, text.as_ptr().cast()) })
    };
    assert_eq!(load(".version 8.3\n.target sm_72\n"), Err(CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION));
    assert_eq!(load(".version 8.2\n.target sm_75\n"), Err(CUresult::CUDA_ERROR_INVALID_PTX));
    assert_eq!(load("something else"), Err(CUresult::CUDA_ERROR_INVALID_IMAGE));
    let module = load(PTX.to_str().unwrap()).unwrap();
    let function = |name: &std::ffi::CStr| {
        // SAFETY: a live module and a text.
        filled(|place| unsafe { sys::cuModuleGetFunction(place, module, name.as_ptr()) }).map(drop)
    };
    assert_eq!(function(c"to_half"), Ok(()));
    assert_eq!(function(c"letterbox"), Err(CUresult::CUDA_ERROR_NOT_FOUND));
    assert_eq!(function(c"mystery"), Err(CUresult::CUDA_ERROR_NOT_SUPPORTED));
    // SAFETY: a live module.
    ok(unsafe { sys::cuModuleUnload(module) });
    gpu.finish();
}
