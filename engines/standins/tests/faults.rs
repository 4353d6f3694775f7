//! What can be told to fail fails as it does on a GPU, and when it was told to.

mod device;

use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};

use cudarc::driver::sys::{self, CUresult, CUstream};
use device::{Device, device_bytes, download, event, filled, free_stream, ok};
use libloading::Library;
use watchpost_standins::names;

const LOST: CUresult = CUresult::CUDA_ERROR_ILLEGAL_ADDRESS;
const NO_MEMORY: CUresult = CUresult::CUDA_ERROR_OUT_OF_MEMORY;

fn allocate() -> Result<u64, CUresult> {
    // SAFETY: a place for the address.
    filled(|place| unsafe { sys::cuMemAlloc_v2(place, 64) })
}

fn set(memory: u64, work: CUstream) -> CUresult {
    // SAFETY: numbers; the driver checks them.
    unsafe { sys::cuMemsetD8Async(memory, 1, 64, work) }
}

#[test]
fn memory_runs_out_at_the_nth_allocation_or_on_order() {
    let gpu = Device::new("oom_at=2");
    let first = allocate().unwrap();
    assert_eq!(allocate(), Err(NO_MEMORY));
    let third = allocate().unwrap();
    gpu.cuda.set(names::ORDER_OOM, 2);
    assert_eq!(allocate(), Err(NO_MEMORY));
    assert_eq!(allocate(), Err(NO_MEMORY));
    let last = allocate().unwrap();
    for memory in [first, third, last] {
        // SAFETY: live memory.
        ok(unsafe { sys::cuMemFree_v2(memory) });
    }
    gpu.finish();
}

#[test]
fn the_device_is_lost_at_the_nth_operation_and_stays_so() {
    let gpu = Device::new("");
    let (memory, work, mark) = (allocate().unwrap(), free_stream(), event());
    gpu.cuda.configure("lost_at_operation=2,lost_code=719");
    let failed = CUresult::CUDA_ERROR_LAUNCH_FAILED;
    ok(set(memory, work));
    // The call that starts it succeeds; who waits for it is told.
    ok(set(memory, work));
    // SAFETY: live handles.
    unsafe {
        assert_eq!(sys::cuStreamSynchronize(work), failed);
        assert_eq!(sys::cuEventRecord(mark, work), failed);
        assert_eq!(sys::cuEventSynchronize(mark), failed);
        assert_eq!(sys::cuStreamCreate(null_mut(), 0), failed);
        assert_eq!(sys::cuStreamDestroy_v2(work), failed);
        assert_eq!(sys::cuEventDestroy_v2(mark), failed);
        assert_eq!(sys::cuMemFree_v2(memory), failed);
        // These need no device.
        assert_eq!(filled(|place| sys::cuDeviceGetCount(place)).unwrap(), 1);
    }
    gpu.abandon();
}

#[test]
fn the_device_is_lost_when_the_order_comes_or_at_the_nth_wait() {
    let gpu = Device::new("lost_at_sync=2");
    let (memory, work) = (allocate().unwrap(), free_stream());
    // SAFETY: live handles.
    unsafe {
        ok(sys::cuStreamSynchronize(work));
        assert_eq!(sys::cuStreamSynchronize(work), LOST);
        gpu.cuda.reset();
        ok(sys::cuStreamSynchronize(work));
        gpu.cuda.set(names::ORDER_LOST, 700);
        ok(set(memory, work));
        assert_eq!(sys::cuStreamSynchronize(work), LOST);
        gpu.cuda.reset();
        ok(sys::cuStreamDestroy_v2(work));
        ok(sys::cuMemFree_v2(memory));
    }
    gpu.finish();
}

#[test]
fn an_operation_hangs_until_it_is_let_go() {
    let gpu = Device::new("");
    let (memory, work, other) = (allocate().unwrap(), free_stream(), free_stream());
    gpu.cuda.configure("hang_at=1");
    let done = AtomicBool::new(false);
    let (context, handle) = (gpu.context as usize, work as usize);
    std::thread::scope(|scope| {
        ok(set(memory, work));
        scope.spawn(|| {
            // SAFETY: live handles.
            unsafe {
                ok(sys::cuCtxSetCurrent(context as _));
                ok(sys::cuStreamSynchronize(handle as _));
            }
            done.store(true, Ordering::SeqCst);
        });
        for _ in 0..50 {
            // SAFETY: a live handle.
            ok(unsafe { sys::cuStreamSynchronize(other) });
        }
        assert!(!done.load(Ordering::SeqCst));
        // SAFETY: a live handle.
        assert_eq!(unsafe { sys::cuStreamQuery(work) }, CUresult::CUDA_ERROR_NOT_READY);
        gpu.cuda.configure("hang_at=0");
    });
    assert_eq!(download(memory, 64), vec![1; 64]);
    // SAFETY: live handles.
    unsafe {
        ok(sys::cuStreamDestroy_v2(work));
        ok(sys::cuStreamDestroy_v2(other));
        ok(sys::cuMemFree_v2(memory));
    }
    gpu.finish();
}

#[test]
fn a_driver_without_a_device_or_with_an_error_says_so() {
    let gpu = Device::new("");
    for (settings, error) in [
        ("devices=0", CUresult::CUDA_ERROR_NO_DEVICE),
        ("devices=1,init_error=999", CUresult::CUDA_ERROR_UNKNOWN),
        ("init_error=803", CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH),
    ] {
        gpu.cuda.configure(settings);
        // SAFETY: no pointers.
        assert_eq!(unsafe { sys::cuInit(0) }, error);
    }
    gpu.cuda.configure("init_error=0,devices=2,name=Orin,cc=8.7,driver=13.0");
    let mut name = [0u8; 64];
    // SAFETY: places of the sizes that are said.
    unsafe {
        ok(sys::cuInit(0));
        assert_eq!(filled(|place| sys::cuDeviceGetCount(place)).unwrap(), 2);
        ok(sys::cuDeviceGetName(name.as_mut_ptr().cast(), 64, 1));
        assert_eq!(filled(|place| sys::cuDriverGetVersion(place)).unwrap(), 13000);
        let text = filled(|place| sys::cuGetErrorName(LOST, place)).unwrap();
        assert_eq!(std::ffi::CStr::from_ptr(text), c"CUDA_ERROR_ILLEGAL_ADDRESS");
    }
    assert!(name.starts_with(b"watchpost stand-in Orin 1\0"), "{:?}", String::from_utf8_lossy(&name));
    gpu.finish();
}

#[test]
#[should_panic(expected = "oom_ta=1: there is no such key")]
fn a_setting_that_does_not_exist_is_refused() {
    Device::new("oom_ta=1");
}

#[test]
fn a_library_can_lack_a_symbol() {
    watchpost_standins::enter();
    let folder = tempfile::tempdir().unwrap();
    watchpost_standins::without("libcuda.so.1", "cuGraphLaunch", folder.path()).unwrap();
    for name in ["libcuda.so.1", "libcuda.so"] {
        // SAFETY: the stand-in runs no code when it is loaded.
        let library = unsafe { Library::new(folder.path().join(name)) }.unwrap();
        // SAFETY: not called.
        unsafe {
            assert!(library.get::<unsafe extern "C" fn()>("cuGraphLaunch").is_err());
            assert!(library.get::<unsafe extern "C" fn()>("cuGraphDestroy").is_ok());
        }
    }
    let error = watchpost_standins::without("libcuda.so.1", "cuNothing", folder.path()).unwrap_err();
    assert_eq!(error.to_string(), "libcuda.so.1 has no symbol cuNothing");
}

#[test]
fn the_hand_on_the_driver_can_be_asked_what_is_held() {
    let gpu = Device::new("");
    let memory = device_bytes(64);
    assert_eq!(gpu.cuda.held(), ["cuda.live_allocations=1", "cuda.live_bytes=64", "cuda.live_contexts=1"]);
    // SAFETY: live memory.
    ok(unsafe { sys::cuMemFree_v2(memory) });
    gpu.finish();
}

#[test]
fn functions_are_found_by_their_names_without_versions() {
    let gpu = Device::new("");
    let find = |name: &std::ffi::CStr| {
        // SAFETY: a text and a place.
        filled(|place| unsafe { sys::cuGetProcAddress_v2(name.as_ptr(), place, 12000, 0, null_mut()) })
    };
    let by_name = find(c"cuMemAlloc").unwrap();
    assert_eq!(find(c"cuMemAlloc_v2").unwrap(), by_name);
    assert_eq!(find(c"cuNothing"), Err(CUresult::CUDA_ERROR_NOT_FOUND));
    gpu.finish();
}
