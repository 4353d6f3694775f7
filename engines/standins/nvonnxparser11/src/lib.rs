//! A stand-in `libnvonnxparser.so.11`: the classes are C++ (see the build script), these are the C functions.

use std::ffi::c_void;

/// `NV_ONNX_PARSER_VERSION`: 0.1.0 in every TensorRT there has been.
const VERSION: i32 = 100;

unsafe extern "C" {
    fn wps_create_parser(network: *mut c_void, logger: *mut c_void) -> *mut c_void;
}

/// The `IParser` of an `INetworkDefinition`; null for null, and for a caller of another version.
///
/// # Safety
/// `network` is a network of the stand-in `libnvinfer.so.11`, or null.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "the real library's name")]
pub unsafe extern "C" fn createNvOnnxParser_INTERNAL(
    network: *mut c_void,
    logger: *mut c_void,
    version: i32,
) -> *mut c_void {
    if network.is_null() || version != VERSION {
        return std::ptr::null_mut();
    }
    // SAFETY: as the caller promises.
    unsafe { wps_create_parser(network, logger) }
}

/// The parser's own version.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "the real library's name")]
pub extern "C" fn getNvOnnxParserVersion() -> i32 {
    VERSION
}
