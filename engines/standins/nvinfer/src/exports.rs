//! The C functions that a stand-in `libnvinfer` exports, for both majors.

use std::ffi::{CStr, c_char, c_void};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::counters::{self, Live};
use crate::cuda::Cuda;
use crate::log::{Log, Logger, Severity};
use crate::settings::{self, Fault};

/// What a real library hands out in place of an object where there is no GPU.
const NO_OBJECT: usize = 0x228;

/// What an `IRuntime` owns.
pub(crate) struct Runtime {
    pub(crate) logger: Logger,
    pub(crate) cuda: Cuda,
    pub(crate) engines: Arc<AtomicUsize>,
    _live: Live,
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let engines = self.engines.load(Ordering::SeqCst);
        if engines > 0 {
            counters::violation(&format!("an IRuntime is deleted before {engines} of its engines"));
        }
    }
}

/// What an `IBuilder` owns.
pub(crate) struct Builder {
    pub(crate) logger: Logger,
    pub(crate) cuda: Cuda,
    _live: Live,
}

/// The functions of C++ that creating an object takes.
#[derive(Clone, Copy)]
pub struct Shim {
    /// Calls `ILogger::log`.
    pub log: Log,
    /// Whether a logger is one of this major.
    pub logger_is_sound: unsafe extern "C" fn(*mut c_void) -> bool,
    /// Makes the public object over a handle, with the logger.
    pub wrap: unsafe extern "C" fn(*mut c_void, *mut c_void) -> *mut c_void,
}

/// `createInferRuntime_INTERNAL`
///
/// # Safety
/// `logger` is null or an `ILogger` of this major.
pub unsafe fn create_runtime(shim: Shim, logger: *mut c_void, version: i32) -> *mut c_void {
    // SAFETY: as the caller promises.
    let created = unsafe { begin(shim, logger, version, "createInferRuntime") };
    let (logger_of, cuda) = match created {
        Ok(created) => created,
        Err(instead) => return instead,
    };
    let live = Live::new(&counters::LIVE_RUNTIMES);
    let runtime = Box::new(Runtime { logger: logger_of, cuda, engines: Arc::default(), _live: live });
    // SAFETY: the shim takes the box and gives it back to `wpn_runtime_free`.
    unsafe { (shim.wrap)(Box::into_raw(runtime).cast(), logger) }
}

/// `createInferBuilder_INTERNAL`
///
/// # Safety
/// As [`create_runtime`].
pub unsafe fn create_builder(shim: Shim, logger: *mut c_void, version: i32) -> *mut c_void {
    // SAFETY: as the caller promises.
    let created = unsafe { begin(shim, logger, version, "createInferBuilder") };
    let (logger_of, cuda) = match created {
        Ok(created) => created,
        Err(instead) => return instead,
    };
    let builder = Box::new(Builder { logger: logger_of, cuda, _live: Live::new(&counters::LIVE_BUILDERS) });
    // SAFETY: the shim takes the box and gives it back to `wpn_builder_free`.
    unsafe { (shim.wrap)(Box::into_raw(builder).cast(), logger) }
}

/// The logger and the driver, or what to return instead of an object.
///
/// # Safety
/// As [`create_runtime`].
unsafe fn begin(
    shim: Shim,
    logger: *mut c_void,
    version: i32,
    call: &str,
) -> Result<(Logger, Cuda), *mut c_void> {
    let own = settings::major();
    // Headers of one major against the library of another crash in the real one.
    if version / 10_000 != i32::try_from(own).unwrap_or(0) {
        counters::violation(&format!("{call} of TensorRT {own} is called with version {version}"));
        return Err(ptr::null_mut());
    }
    // SAFETY: as the caller promises.
    if !unsafe { (shim.logger_is_sound)(logger) } {
        counters::violation(&format!("{call}: the logger is null or is no ILogger of TensorRT {own}"));
        return Err(ptr::null_mut());
    }
    let logger = Logger::new(logger, shim.log);
    logger.chatter(call);
    let cuda = if settings::due(Fault::NoGpu) { Err(35) } else { Cuda::find() };
    cuda.map(|cuda| {
        logger.say(Severity::Info, &format!("{call}: stand-in TensorRT {}", settings::version()));
        (logger, cuda)
    })
    .map_err(|error| {
        logger.error(&format!("{call}: CUDA initialization failure with error: {error}"));
        ptr::without_provenance_mut(NO_OBJECT)
    })
}

/// `standin_nvinfer_configure`
///
/// # Safety
/// `list` is null (back to the beginning) or a C string.
pub unsafe fn configure(list: *const c_char) {
    if list.is_null() {
        settings::reset();
        counters::clear_own();
        return;
    }
    // SAFETY: as the caller promises.
    let list = unsafe { CStr::from_ptr(list) };
    settings::configure(&list.to_string_lossy()).unwrap_or_else(|error| settings::stop(&error));
}

/// `standin_nvinfer_count`
///
/// # Safety
/// `name` is a C string.
pub unsafe fn count(name: *const c_char) -> i64 {
    // SAFETY: as the caller promises.
    counters::get(&unsafe { CStr::from_ptr(name) }.to_string_lossy())
}

/// `standin_nvinfer_order`
///
/// # Safety
/// As [`count`].
pub unsafe fn order(name: *const c_char, value: i64) {
    // SAFETY: as the caller promises.
    counters::set(&unsafe { CStr::from_ptr(name) }.to_string_lossy(), value);
}

/// The exported functions of the library of one major.
#[macro_export]
macro_rules! exports {
    ($major:literal) => {
        mod exports {
            #![allow(non_snake_case, reason = "the real library's names")]

            use std::ffi::{c_char, c_void};

            use watchpost_standin_nvinfer::library::{self, Shim};

            unsafe extern "C" {
                safe fn wps_log(logger: *mut c_void, severity: i32, text: *const c_char);
                fn wps_logger_is_sound(logger: *mut c_void) -> bool;
                fn wps_wrap_runtime(runtime: *mut c_void, logger: *mut c_void) -> *mut c_void;
                fn wps_wrap_builder(builder: *mut c_void, logger: *mut c_void) -> *mut c_void;
                safe fn wps_headers() -> *const c_char;
            }

            fn shim(wrap: unsafe extern "C" fn(*mut c_void, *mut c_void) -> *mut c_void) -> Shim {
                library::set_major($major);
                Shim { log: wps_log, logger_is_sound: wps_logger_is_sound, wrap }
            }

            /// An `IRuntime`; 0x228 where there is no GPU, null for a wrong version or logger.
            ///
            /// # Safety
            /// `logger` is null or an `ILogger` of this major, and outlives what is created with it.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn createInferRuntime_INTERNAL(
                logger: *mut c_void,
                version: i32,
            ) -> *mut c_void {
                // SAFETY: as the caller promises.
                unsafe { library::create_runtime(shim(wps_wrap_runtime), logger, version) }
            }

            /// An `IBuilder`; 0x228 where there is no GPU, null for a wrong version or logger.
            ///
            /// # Safety
            /// As `createInferRuntime_INTERNAL`.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn createInferBuilder_INTERNAL(
                logger: *mut c_void,
                version: i32,
            ) -> *mut c_void {
                // SAFETY: as the caller promises.
                unsafe { library::create_builder(shim(wps_wrap_builder), logger, version) }
            }

            /// Major, minor and patch in one number.
            #[unsafe(no_mangle)]
            pub extern "C" fn getInferLibVersion() -> i32 {
                library::set_major($major);
                library::version().number().cast_signed()
            }

            /// The first part of the version.
            #[unsafe(no_mangle)]
            pub extern "C" fn getInferLibMajorVersion() -> i32 {
                library::set_major($major);
                library::version().major.cast_signed()
            }

            /// The second part of the version.
            #[unsafe(no_mangle)]
            pub extern "C" fn getInferLibMinorVersion() -> i32 {
                library::set_major($major);
                library::version().minor.cast_signed()
            }

            /// The third part of the version.
            #[unsafe(no_mangle)]
            pub extern "C" fn getInferLibPatchVersion() -> i32 {
                library::set_major($major);
                library::version().patch.cast_signed()
            }

            /// The fourth part of the version.
            #[unsafe(no_mangle)]
            pub extern "C" fn getInferLibBuildVersion() -> i32 {
                library::set_major($major);
                library::version().build.cast_signed()
            }

            /// Adds settings, as in `WATCHPOST_STANDIN`; null: back to the defaults, and
            /// every number of a ledger of this process alone to zero.
            ///
            /// # Safety
            /// `list` is null or a C string.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn standin_nvinfer_configure(list: *const c_char) {
                library::set_major($major);
                // SAFETY: as the caller promises.
                unsafe { library::configure(list) }
            }

            /// A number of the ledger, by its name.
            ///
            /// # Safety
            /// `name` is a C string.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn standin_nvinfer_count(name: *const c_char) -> i64 {
                // SAFETY: as the caller promises.
                unsafe { library::count(name) }
            }

            /// Sets a number of the ledger, by its name: gives an order.
            ///
            /// # Safety
            /// `name` is a C string.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn standin_nvinfer_order(name: *const c_char, value: i64) {
                // SAFETY: as the caller promises.
                unsafe { library::order(name, value) }
            }

            /// What `trtexec` does: the program beside the library calls it with its arguments.
            ///
            /// # Safety
            /// As `main` of C.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn standin_trtexec_main(
                count: i32,
                arguments: *const *const c_char,
            ) -> i32 {
                library::set_major($major);
                // SAFETY: as the caller promises.
                unsafe { library::trtexec(count, arguments) }
            }

            /// Which declarations the library was compiled with.
            #[unsafe(no_mangle)]
            pub extern "C" fn standin_nvinfer_headers() -> *const c_char {
                wps_headers()
            }
        }
    };
}
