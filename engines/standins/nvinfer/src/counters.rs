//! What lives and what happened, in the ledger that all stand-ins share.

use std::ffi::{CString, c_char, c_int};
use std::path::Path;
use std::sync::LazyLock;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use watchpost_standin_contract::Ledger;

use crate::settings::{self, Amount};

type Count = unsafe extern "C" fn(*const c_char, i64);

/// The ledger of the stand-in libcuda in this process.
struct Theirs {
    count: Count,
    counter: unsafe extern "C" fn(*const c_char) -> i64,
    set: Count,
    take: unsafe extern "C" fn(*const c_char) -> c_int,
    violation: unsafe extern "C" fn(*const c_char),
    is_live: unsafe extern "C" fn(u64, usize) -> c_int,
    lose: unsafe extern "C" fn(c_int),
}

impl Theirs {
    fn find() -> Option<Self> {
        // SAFETY: the initialisers of the driver, which whoever uses TensorRT has loaded anyway.
        let library = unsafe { Library::open(Some("libcuda.so.1"), RTLD_NOW | RTLD_LOCAL) }.ok()?;
        // SAFETY: the functions of these names have these types: see api/control.rs of the stand-in libcuda, which is
        // never unloaded. A real driver has no such functions.
        unsafe {
            Some(Self {
                count: *library.get(b"standin_cuda_count\0").ok()?,
                counter: *library.get(b"standin_cuda_counter\0").ok()?,
                set: *library.get(b"standin_cuda_set\0").ok()?,
                take: *library.get(b"standin_cuda_take\0").ok()?,
                violation: *library.get(b"standin_cuda_violation\0").ok()?,
                is_live: *library.get(b"standin_cuda_is_live\0").ok()?,
                lose: *library.get(b"standin_cuda_lose\0").ok()?,
            })
        }
    }
}

/// With the stand-in libcuda there is one ledger in a process, its own; without, ours.
enum Book {
    Theirs(Theirs),
    Ours(Ledger),
}

static BOOK: LazyLock<Book> = LazyLock::new(|| {
    if let Some(theirs) = Theirs::find() {
        return Book::Theirs(theirs);
    }
    let ledger = match std::env::var_os("WATCHPOST_STANDIN_LEDGER") {
        Some(path) => Ledger::open(Path::new(&path)),
        None => Ledger::private(),
    };
    Book::Ours(ledger.unwrap_or_else(|error| settings::stop(&format!("WATCHPOST_STANDIN_LEDGER: {error}"))))
});

fn text(name: &str) -> CString {
    CString::new(name).unwrap_or_default()
}

/// Names of the numbers in the ledger. `live` in a name: must be zero when everything has been given back.
pub mod names {
    pub const LIVE_RUNTIMES: &str = "nvinfer.live_runtimes";
    pub const LIVE_ENGINES: &str = "nvinfer.live_engines";
    pub const LIVE_CONTEXTS: &str = "nvinfer.live_contexts";
    pub const LIVE_HOST_MEMORIES: &str = "nvinfer.live_host_memories";
    pub const LIVE_BUILDERS: &str = "nvinfer.live_builders";
    pub const LIVE_CONFIGS: &str = "nvinfer.live_builder_configs";
    pub const LIVE_NETWORKS: &str = "nvinfer.live_networks";
    pub const LIVE_PARSERS: &str = "nvinfer.live_onnx_parsers";
    pub const LIVE_TIMING_CACHES: &str = "nvinfer.live_timing_caches";
    /// Enqueued and not done. Not called live: a hang that was asked for leaves it above zero.
    pub const IN_FLIGHT: &str = "nvinfer.in_flight";
    /// Calls of `enqueueV3` that returned true.
    pub const ENQUEUED: &str = "nvinfer.enqueued";
    /// Frames inferred.
    pub const FRAMES: &str = "nvinfer.frames";
    /// Engines built.
    pub const BUILDS: &str = "nvinfer.builds";
    /// Builds that found their model in the timing cache.
    pub const TIMING_CACHE_HITS: &str = "nvinfer.timing_cache_hits";
    /// Batches of pictures that an INT8 calibrator gave.
    pub const CALIBRATION_BATCHES: &str = "nvinfer.calibration_batches";
    /// What no correct program does; standard error and the ledger's text say each.
    pub const VIOLATIONS: &str = "nvinfer.violations";
    /// Order: what hangs may end.
    pub const ORDER_RELEASE: &str = "order.nvinfer.release";
}

/// Adds to a number.
pub fn add(name: &str, delta: i64) {
    match &*BOOK {
        // SAFETY: the function's type; the text lives until it returns.
        Book::Theirs(theirs) => unsafe { (theirs.count)(text(name).as_ptr(), delta) },
        Book::Ours(ledger) => {
            ledger.row(name).change(delta);
        }
    }
}

/// A number as it is now.
pub fn get(name: &str) -> i64 {
    match &*BOOK {
        // SAFETY: as above.
        Book::Theirs(theirs) => unsafe { (theirs.counter)(text(name).as_ptr()) },
        Book::Ours(ledger) => ledger.get(name),
    }
}

/// Sets a number: gives an order.
pub fn set(name: &str, value: i64) {
    match &*BOOK {
        // SAFETY: as above.
        Book::Theirs(theirs) => unsafe { (theirs.set)(text(name).as_ptr(), value) },
        Book::Ours(ledger) => ledger.set(name, value),
    }
}

/// Whether the ledger orders this fault; takes one off the order.
pub fn ordered(key: &str) -> bool {
    let name = format!("order.nvinfer.{key}");
    if get(&name) <= 0 {
        return false;
    }
    match &*BOOK {
        // SAFETY: as above.
        Book::Theirs(theirs) => unsafe { (theirs.take)(text(&name).as_ptr()) != 0 },
        Book::Ours(ledger) => ledger.row(&name).take(),
    }
}

/// Sets every number to zero, where nobody else shares the ledger.
pub fn clear_own() {
    if let (Book::Ours(ledger), None) = (&*BOOK, std::env::var_os("WATCHPOST_STANDIN_LEDGER")) {
        ledger.clear();
    }
}

/// Something that no correct program does. It is counted and told; with `nvinfer.strict=1` it stops the process.
pub fn violation(what: &str) {
    add(names::VIOLATIONS, 1);
    match &*BOOK {
        // SAFETY: as above.
        Book::Theirs(theirs) => unsafe { (theirs.violation)(text(&format!("nvinfer: {what}")).as_ptr()) },
        Book::Ours(ledger) => ledger.say(&format!("nvinfer: {what}")),
    }
    eprintln!("stand-in libnvinfer: violation: {what}");
    if settings::amount(Amount::Strict) != 0 {
        std::process::abort();
    }
}

/// Whether all of the range is live device memory; if not, the device is lost, as it would be after a kernel's access.
/// For host functions, which must not ask the driver.
pub fn may_touch(what: &str, address: u64, bytes: u64) -> bool {
    /// `CUDA_ERROR_ILLEGAL_ADDRESS`
    const ILLEGAL_ADDRESS: c_int = 700;
    let Book::Theirs(theirs) = &*BOOK else { return true };
    // SAFETY: as above.
    let live = unsafe { (theirs.is_live)(address, usize::try_from(bytes).unwrap_or(usize::MAX)) != 0 };
    if !live {
        violation(&format!("{what} ({bytes} bytes at {address:#x}) is gone when its inference is done"));
        // SAFETY: as above.
        unsafe { (theirs.lose)(ILLEGAL_ADDRESS) };
    }
    live
}

/// One living object.
#[derive(Debug)]
pub struct Live(&'static str);

impl Live {
    /// Counts it until it is dropped.
    pub fn new(name: &'static str) -> Self {
        add(name, 1);
        Self(name)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        add(self.0, -1);
    }
}
