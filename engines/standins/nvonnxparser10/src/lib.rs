//! A stand-in `libnvonnxparser.so.10`: the classes are C++ (see the build script), these are the C functions.

use std::ffi::c_void;

unsafe extern "C" {
    fn wps_create_parser(network: *mut c_void, logger: *mut c_void) -> *mut c_void;
}

/// The `IParser` of an `INetworkDefinition`; null for null.
///
/// # Safety
/// `network` is a network of the stand-in `libnvinfer.so.10`, or null.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "the real library's name")]
pub unsafe extern "C" fn createNvOnnxParser_INTERNAL(
    network: *mut c_void,
    logger: *mut c_void,
    version: i32,
) -> *mut c_void {
    if network.is_null() || version / 10_000 != 10 {
        return std::ptr::null_mut();
    }
    // SAFETY: as the caller promises.
    unsafe { wps_create_parser(network, logger) }
}

/// Major, minor and patch in one number.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "the real library's name")]
pub extern "C" fn getNvOnnxParserVersion() -> i32 {
    101_600
}
