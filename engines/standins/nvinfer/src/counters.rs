//! What lives and what happened, in the ledger that all stand-ins share.

use std::ffi::{CString, c_char, c_int};
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{LazyLock, OnceLock};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use watchpost_standin_contract::Ledger;

use crate::settings::{self, Amount};

/// The ledger of the stand-in libcuda in this process.
struct Theirs {
    row: unsafe extern "C" fn(*const c_char) -> *const AtomicI64,
    counter: unsafe extern "C" fn(*const c_char) -> i64,
    set: unsafe extern "C" fn(*const c_char, i64),
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
                row: *library.get(b"standin_cuda_row\0").ok()?,
                counter: *library.get(b"standin_cuda_counter\0").ok()?,
                set: *library.get(b"standin_cuda_set\0").ok()?,
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

/// A number of the ledger, looked up once.
pub struct Counter {
    name: &'static str,
    cell: OnceLock<&'static AtomicI64>,
}

impl Counter {
    pub const fn new(name: &'static str) -> Self {
        Self { name, cell: OnceLock::new() }
    }

    fn cell(&self) -> &'static AtomicI64 {
        self.cell.get_or_init(|| match &*BOOK {
            // SAFETY: the function's type; the number stays where it is as long as the process lives. It is null only
            // for a name that is no text.
            Book::Theirs(theirs) => unsafe { &*(theirs.row)(text(self.name).as_ptr()) },
            Book::Ours(ledger) => ledger.row(self.name).cell(),
        })
    }

    /// Adds to it.
    pub fn add(&self, delta: i64) {
        self.cell().fetch_add(delta, Ordering::SeqCst);
    }

    /// What it is now.
    pub fn get(&self) -> i64 {
        self.cell().load(Ordering::SeqCst)
    }

    /// Takes one away if it is above zero, and says whether it was: an order for a number of times.
    pub fn take(&self) -> bool {
        let less = |value: i64| (value > 0).then(|| value - 1);
        self.get() > 0 && self.cell().fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub static $name: Counter = Counter::new($text);)*
    };
}

// `live` in a name: must be zero when everything has been given back.
counters! {
    LIVE_RUNTIMES = "nvinfer.live_runtimes";
    LIVE_ENGINES = "nvinfer.live_engines";
    LIVE_CONTEXTS = "nvinfer.live_contexts";
    LIVE_HOST_MEMORIES = "nvinfer.live_host_memories";
    LIVE_BUILDERS = "nvinfer.live_builders";
    LIVE_CONFIGS = "nvinfer.live_builder_configs";
    LIVE_NETWORKS = "nvinfer.live_networks";
    LIVE_PARSERS = "nvinfer.live_onnx_parsers";
    LIVE_TIMING_CACHES = "nvinfer.live_timing_caches";
    /// Enqueued and not done. Not called live: a hang that was asked for leaves it above zero.
    IN_FLIGHT = "nvinfer.in_flight";
    /// Calls of `enqueueV3` that returned true.
    ENQUEUED = "nvinfer.enqueued";
    /// Frames inferred.
    FRAMES = "nvinfer.frames";
    /// Engines built.
    BUILDS = "nvinfer.builds";
    /// Builds that found their model in the timing cache.
    TIMING_CACHE_HITS = "nvinfer.timing_cache_hits";
    /// Batches of pictures that an INT8 calibrator gave.
    CALIBRATION_BATCHES = "nvinfer.calibration_batches";
    /// What no correct program does; standard error and the ledger's text say each.
    VIOLATIONS = "nvinfer.violations";
    /// Order: what hangs may end.
    ORDER_RELEASE = "order.nvinfer.release";
}

fn text(name: &str) -> CString {
    CString::new(name).unwrap_or_default()
}

/// A number as it is now, by its name.
pub fn get(name: &str) -> i64 {
    match &*BOOK {
        // SAFETY: the function's type; the text lives until it returns.
        Book::Theirs(theirs) => unsafe { (theirs.counter)(text(name).as_ptr()) },
        Book::Ours(ledger) => ledger.get(name),
    }
}

/// Sets a number, by its name: gives an order.
pub fn set(name: &str, value: i64) {
    match &*BOOK {
        // SAFETY: as above.
        Book::Theirs(theirs) => unsafe { (theirs.set)(text(name).as_ptr(), value) },
        Book::Ours(ledger) => ledger.set(name, value),
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
    VIOLATIONS.add(1);
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
pub struct Live(&'static Counter);

impl Live {
    /// Counts it until it is dropped.
    pub fn new(counter: &'static Counter) -> Self {
        counter.add(1);
        Self(counter)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}
