//! What is there because somebody asks for the symbol, and does nothing: OpenGL, textures, arrays, occupancy.

use crate::codes::{Code, NO_DEVICE, NOT_SUPPORTED};

macro_rules! unsupported {
    ($($name:ident: $code:expr;)*) => {
        // Arguments are in registers or on the caller's stack: a function that ignores them needs no declaration.
        $(#[unsafe(no_mangle)]
        pub extern "C" fn $name() -> Code {
            $code
        })*
    };
}

unsupported! {
    cuGraphicsMapResources: NOT_SUPPORTED;
    cuGraphicsUnmapResources: NOT_SUPPORTED;
    cuGraphicsUnregisterResource: NOT_SUPPORTED;
    cuGraphicsResourceSetMapFlags_v2: NOT_SUPPORTED;
    cuGraphicsSubResourceGetMappedArray: NOT_SUPPORTED;
    cuGraphicsResourceGetMappedPointer_v2: NOT_SUPPORTED;
    cuGraphicsGLRegisterImage: NOT_SUPPORTED;
    cuGraphicsGLRegisterBuffer: NOT_SUPPORTED;
    cuGLGetDevices: NO_DEVICE;
    cuGLGetDevices_v2: NO_DEVICE;
    cuTexObjectCreate: NOT_SUPPORTED;
    cuTexObjectDestroy: NOT_SUPPORTED;
    cuLaunchCooperativeKernel: NOT_SUPPORTED;
    cuMemPoolCreate: NOT_SUPPORTED;
    cuMemPoolDestroy: NOT_SUPPORTED;
    cuMemPoolTrimTo: NOT_SUPPORTED;
    cuMemPrefetchAsync_v2: NOT_SUPPORTED;
    cuStreamAttachMemAsync: NOT_SUPPORTED;
    cuImportExternalMemory: NOT_SUPPORTED;
    cuExternalMemoryGetMappedBuffer: NOT_SUPPORTED;
    cuDestroyExternalMemory: NOT_SUPPORTED;
    cuOccupancyMaxActiveBlocksPerMultiprocessor: NOT_SUPPORTED;
    cuOccupancyMaxPotentialBlockSize: NOT_SUPPORTED;
    cuMemcpy3D_v2: NOT_SUPPORTED;
    cuMemcpy3DAsync_v2: NOT_SUPPORTED;
    cuArrayCreate_v2: NOT_SUPPORTED;
    cuArrayDestroy: NOT_SUPPORTED;
    cuIpcGetMemHandle: NOT_SUPPORTED;
    cuIpcGetEventHandle: NOT_SUPPORTED;
}
