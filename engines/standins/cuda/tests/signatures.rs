//! Every exported function takes what the driver's takes: as many arguments, of the same sizes. cudarc's declarations are
//! made from NVIDIA's header.

use cudarc::driver::sys;
use watchpost_standin_cuda::api::{
    contexts, copies, devices, errors, events, graphs, memory, modules, streams,
};

/// The sizes of a function's arguments.
trait Arguments {
    fn sizes(&self) -> Vec<usize>;
}

macro_rules! arguments {
    ($($argument:ident)*) => {
        impl<R, $($argument),*> Arguments for extern "C" fn($($argument),*) -> R {
            fn sizes(&self) -> Vec<usize> {
                vec![$(size_of::<$argument>()),*]
            }
        }
        impl<R, $($argument),*> Arguments for unsafe fn($($argument),*) -> R {
            fn sizes(&self) -> Vec<usize> {
                vec![$(size_of::<$argument>()),*]
            }
        }
    };
}

arguments!();
arguments!(A);
arguments!(A B);
arguments!(A B C);
arguments!(A B C D);
arguments!(A B C D E);
arguments!(A B C D E G);
arguments!(A B C D E G H I J K L);

macro_rules! same {
    ($($module:ident { $($name:ident($($argument:tt)*);)* })*) => {
        $($({
            let theirs: unsafe fn($(same!(@any $argument)),*) -> _ = sys::$name;
            let ours: extern "C" fn($(same!(@any $argument)),*) -> _ = $module::$name;
            assert_eq!(ours.sizes(), theirs.sizes(), stringify!($name));
        })*)*
    };
    (@any $argument:tt) => { _ };
}

#[test]
fn arguments_are_those_of_the_driver() {
    same! {
        errors {
            cuInit(a); cuDriverGetVersion(a); cuGetErrorName(a b); cuGetErrorString(a b);
        }
        devices {
            cuDeviceGetCount(a); cuDeviceGet(a b); cuDeviceGetName(a b c); cuDeviceGetUuid_v2(a b);
            cuDeviceTotalMem_v2(a b); cuDeviceGetAttribute(a b c); cuDeviceCanAccessPeer(a b c);
            cuDeviceGetPCIBusId(a b c); cuDeviceComputeCapability(a b c); cuDeviceGetDefaultMemPool(a b);
        }
        contexts {
            cuCtxCreate_v2(a b c); cuCtxCreate_v3(a b c d e); cuCtxDestroy_v2(a); cuCtxPushCurrent_v2(a);
            cuCtxPopCurrent_v2(a); cuCtxSetCurrent(a); cuCtxGetCurrent(a); cuCtxGetDevice(a); cuCtxGetFlags(a);
            cuCtxSetFlags(a); cuCtxGetApiVersion(a b); cuCtxGetId(a b); cuCtxGetStreamPriorityRange(a b);
            cuCtxGetLimit(a b); cuCtxSetLimit(a b); cuCtxGetCacheConfig(a); cuCtxSetCacheConfig(a); cuCtxSynchronize();
            cuCtxEnablePeerAccess(a b); cuCtxDisablePeerAccess(a); cuDevicePrimaryCtxRetain(a b);
            cuDevicePrimaryCtxRelease_v2(a); cuDevicePrimaryCtxReset_v2(a); cuDevicePrimaryCtxSetFlags_v2(a b);
            cuDevicePrimaryCtxGetState(a b c);
        }
        memory {
            cuMemAlloc_v2(a b); cuMemAllocPitch_v2(a b c d e); cuMemFree_v2(a); cuMemAllocHost_v2(a b);
            cuMemHostAlloc(a b c); cuMemFreeHost(a); cuMemHostRegister_v2(a b c); cuMemHostUnregister(a);
            cuMemHostGetDevicePointer_v2(a b c); cuMemGetInfo_v2(a b); cuMemGetAddressRange_v2(a b c);
            cuPointerGetAttribute(a b c); cuMemAllocAsync(a b c); cuMemFreeAsync(a b); cuMemAllocManaged(a b c);
        }
        copies {
            cuMemcpy(a b c); cuMemcpyAsync(a b c d); cuMemcpyHtoD_v2(a b c); cuMemcpyDtoH_v2(a b c);
            cuMemcpyDtoD_v2(a b c); cuMemcpyHtoDAsync_v2(a b c d); cuMemcpyDtoHAsync_v2(a b c d);
            cuMemcpyDtoDAsync_v2(a b c d); cuMemcpyPeerAsync(a b c d e f); cuMemcpy2D_v2(a);
            cuMemcpy2DUnaligned_v2(a); cuMemcpy2DAsync_v2(a b); cuMemsetD8_v2(a b c); cuMemsetD16_v2(a b c);
            cuMemsetD32_v2(a b c); cuMemsetD8Async(a b c d); cuMemsetD16Async(a b c d); cuMemsetD32Async(a b c d);
            cuMemsetD2D8_v2(a b c d e); cuMemsetD2D8Async(a b c d e f);
        }
        streams {
            cuStreamCreate(a b); cuStreamCreateWithPriority(a b c); cuStreamDestroy_v2(a); cuStreamSynchronize(a);
            cuStreamQuery(a); cuStreamWaitEvent(a b c); cuLaunchHostFunc(a b c); cuStreamAddCallback(a b c d);
            cuStreamGetCtx(a b); cuStreamGetFlags(a b); cuStreamGetPriority(a b); cuStreamGetId(a b);
            cuStreamBeginCapture_v2(a b); cuStreamEndCapture(a b); cuStreamIsCapturing(a b);
            cuThreadExchangeStreamCaptureMode(a);
        }
        events {
            cuEventCreate(a b); cuEventDestroy_v2(a); cuEventRecord(a b); cuEventRecordWithFlags(a b c);
            cuEventQuery(a); cuEventSynchronize(a); cuEventElapsedTime(a b c);
        }
        graphs {
            cuGraphInstantiateWithFlags(a b c); cuGraphInstantiateWithParams(a b c); cuGraphLaunch(a b);
            cuGraphUpload(a b); cuGraphExecDestroy(a); cuGraphDestroy(a); cuGraphGetNodes(a b c); cuGraphCreate(a b);
        }
        modules {
            cuModuleLoadData(a b); cuModuleLoadDataEx(a b c d e); cuModuleLoad(a b); cuModuleUnload(a);
            cuModuleGetFunction(a b c); cuModuleGetGlobal_v2(a b c d); cuFuncGetAttribute(a b c);
            cuFuncSetAttribute(a b c); cuFuncSetCacheConfig(a b);
            cuLaunchKernel(a b c d e f g h i j k);
        }
    }
}

#[test]
fn structures_are_those_of_the_driver() {
    assert_eq!(size_of::<copies::Memcpy2d>(), size_of::<sys::CUDA_MEMCPY2D>());
    assert_eq!(align_of::<copies::Memcpy2d>(), align_of::<sys::CUDA_MEMCPY2D>());
}
