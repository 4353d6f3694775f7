//! The one state of the library: settings, ledger, memory, everything with a handle, and whether the device is lost.

use std::cell::Cell;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::time::Duration;

use watchpost_standin_contract::{Ledger, Row, names};

use crate::codes::{Code, INVALID_HANDLE, NOT_INITIALIZED, NOT_PERMITTED, Outcome, SUCCESS};
use crate::context::Contexts;
use crate::event::Event;
use crate::graph::Graph;
use crate::memory::{Memory, Wrong};
use crate::module::{Function, Module};
use crate::settings::Settings;
use crate::stream::Stream;

macro_rules! counters {
    ($($field:ident = $name:ident;)*) => {
        /// The ledger's rows, looked up once.
        #[derive(Clone, Copy, Debug)]
        pub struct Counters {
            $(pub $field: Row<'static>,)*
        }

        impl Counters {
            fn of(ledger: &'static Ledger) -> Counters {
                Counters { $($field: ledger.row(names::$name),)* }
            }
        }
    };
}

counters! {
    live_allocations = LIVE_ALLOCATIONS;
    live_bytes = LIVE_BYTES;
    live_pinned = LIVE_PINNED;
    live_pinned_bytes = LIVE_PINNED_BYTES;
    live_streams = LIVE_STREAMS;
    live_events = LIVE_EVENTS;
    live_modules = LIVE_MODULES;
    live_graphs = LIVE_GRAPHS;
    live_contexts = LIVE_CONTEXTS;
    allocations = ALLOCATIONS;
    peak_bytes = PEAK_BYTES;
    kernels = KERNELS;
    graph_launches = GRAPH_LAUNCHES;
    host_functions = HOST_FUNCTIONS;
    synchronisations = SYNCHRONISATIONS;
    spinning_waits = SPINNING_WAITS;
    h2d_bytes = H2D_BYTES;
    h2d_copies = H2D_COPIES;
    d2h_bytes = D2H_BYTES;
    d2h_copies = D2H_COPIES;
    d2d_bytes = D2D_BYTES;
    d2d_copies = D2D_COPIES;
    pageable_copies = PAGEABLE_COPIES;
    violations = VIOLATIONS;
    use_after_free = USE_AFTER_FREE;
    double_free = DOUBLE_FREE;
    out_of_bounds = OUT_OF_BOUNDS;
    leaked = LEAKED;
    bad_handle = BAD_HANDLE;
    call_in_callback = CALL_IN_CALLBACK;
    order_lost = ORDER_LOST;
    order_oom = ORDER_OOM;
    order_hang = ORDER_HANG;
    order_delay_us = ORDER_DELAY_US;
}

/// What has happened since the settings were set.
#[derive(Debug, Default)]
struct Seen {
    allocations: AtomicU64,
    operations: AtomicU64,
    launches: AtomicU64,
    syncs: AtomicU64,
}

/// See the module.
#[derive(Debug)]
pub struct Driver {
    settings: RwLock<Settings>,
    seen: Seen,
    pub ledger: &'static Ledger,
    pub counters: Counters,
    memory: RwLock<Memory>,
    contexts: Mutex<Contexts>,
    pub streams: Table<Stream>,
    pub events: Table<Event>,
    pub modules: Table<Module>,
    pub functions: Table<Function>,
    pub graphs: Table<Graph>,
    pub execs: Table<Graph>,
    next_handle: AtomicU64,
    ready: AtomicBool,
    lost: AtomicI32,
    patience: (Mutex<()>, Condvar),
}

thread_local! {
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// Takes a lock, also after a panic.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The library's state. Its first use reads the environment.
pub fn driver() -> &'static Driver {
    static DRIVER: OnceLock<Driver> = OnceLock::new();
    DRIVER.get_or_init(|| {
        let mut settings = Settings::default();
        if let Some(text) = std::env::var_os("WATCHPOST_STANDIN")
            && let Err(problem) = settings.change(&text.to_string_lossy())
        {
            give_up(&format!("WATCHPOST_STANDIN: {problem}"));
        }
        let ledger = match std::env::var_os("WATCHPOST_STANDIN_LEDGER") {
            Some(path) => Ledger::open(Path::new(&path)),
            None => Ledger::private(),
        };
        let ledger = ledger.unwrap_or_else(|error| give_up(&format!("WATCHPOST_STANDIN_LEDGER: {error}")));
        Driver::new(settings, Box::leak(Box::new(ledger)))
    })
}

/// A test that is set up wrongly must not run on as if it were right.
fn give_up(problem: &str) -> ! {
    eprintln!("stand-in libcuda: {problem}");
    std::process::abort();
}

impl Driver {
    fn new(settings: Settings, ledger: &'static Ledger) -> Driver {
        Driver {
            settings: RwLock::new(settings),
            seen: Seen::default(),
            ledger,
            counters: Counters::of(ledger),
            memory: RwLock::default(),
            contexts: Mutex::default(),
            streams: Table::new("stream"),
            events: Table::new("event"),
            modules: Table::new("module"),
            functions: Table::new("function"),
            graphs: Table::new("graph"),
            execs: Table::new("executable graph"),
            next_handle: AtomicU64::new(1),
            ready: AtomicBool::new(false),
            lost: AtomicI32::new(SUCCESS),
            patience: (Mutex::new(()), Condvar::new()),
        }
    }

    fn settings(&self) -> RwLockReadGuard<'_, Settings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of the settings. A closure, so that no lock is held longer than it takes.
    pub fn setting<T>(&self, which: impl FnOnce(&Settings) -> T) -> T {
        which(&self.settings())
    }

    pub fn memory(&self) -> RwLockReadGuard<'_, Memory> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn memory_mut(&self) -> RwLockWriteGuard<'_, Memory> {
        self.memory.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn contexts(&self) -> MutexGuard<'_, Contexts> {
        lock(&self.contexts)
    }

    /// A handle that was never given out before: what is stale stays so. They look like addresses, but are none.
    pub fn new_handle(&self) -> u64 {
        0x5744_0000_0000 + 64 * self.next_handle.fetch_add(1, Ordering::SeqCst)
    }

    /// cuInit has been called with success.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::SeqCst);
    }

    /// Changes settings; faults count from now. Whoever hangs or waits looks again.
    pub fn configure(&self, text: &str) -> Result<(), String> {
        let mut settings = self.settings().clone();
        settings.change(text)?;
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
        for counter in [&self.seen.allocations, &self.seen.operations, &self.seen.launches, &self.seen.syncs]
        {
            counter.store(0, Ordering::SeqCst);
        }
        self.patience.1.notify_all();
        Ok(())
    }

    /// Default settings, no faults, a device that is not lost, and a clean list of violations. What is live stays.
    pub fn reset(&self) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Settings::default();
        self.lost.store(SUCCESS, Ordering::SeqCst);
        for (name, value) in self.ledger.all() {
            if value != 0 && !name.contains("live") {
                self.ledger.set(&name, 0);
            }
        }
        self.patience.1.notify_all();
    }

    /// The error that ended the device, if one has.
    pub fn lost(&self) -> Outcome {
        match self.lost.load(Ordering::SeqCst) {
            SUCCESS => Ok(()),
            code => Err(code),
        }
    }

    /// The device is gone, for good: the first error stays.
    pub fn lose(&self, code: Code) -> Code {
        let first = self.lost.compare_exchange(SUCCESS, code, Ordering::SeqCst, Ordering::SeqCst);
        first.err().unwrap_or(code)
    }

    /// Notes what no correct program does.
    pub fn violation(&self, kind: Row<'static>, what: &str) {
        self.counters.violations.change(1);
        kind.change(1);
        self.ledger.say(what);
        if self.setting(|settings| settings.verbose) {
            eprintln!("stand-in libcuda: {what}");
        }
    }

    /// Notes an access to memory that is not there.
    pub fn wrong_access(&self, wrong: Wrong, what: &str, address: u64, bytes: u64) {
        let (kind, words) = match wrong {
            Wrong::Freed => (self.counters.use_after_free, "of freed memory"),
            Wrong::OutOfBounds => (self.counters.out_of_bounds, "beyond the end of an allocation"),
            Wrong::Foreign => (self.counters.out_of_bounds, "of memory that is not the driver's"),
        };
        self.violation(kind, &format!("{what} {words}: {bytes} bytes at {address:#x}"));
    }

    /// An allocation is wanted: is it time for one to fail?
    pub fn next_allocation_fails(&self) -> bool {
        let number = self.seen.allocations.fetch_add(1, Ordering::SeqCst) + 1;
        self.setting(|settings| settings.oom_at) == number || self.counters.order_oom.take()
    }

    /// A kernel or a graph is launched: is it the one that ends the device?
    pub fn next_launch_fails(&self) -> bool {
        let number = self.seen.launches.fetch_add(1, Ordering::SeqCst) + 1;
        self.setting(|settings| settings.lost_at_launch) == number
    }

    /// Somebody waits for the device: a fault may show here.
    pub fn next_sync(&self, spins: bool) -> Outcome {
        self.counters.synchronisations.change(1);
        if spins {
            self.counters.spinning_waits.change(1);
        }
        let number = self.seen.syncs.fetch_add(1, Ordering::SeqCst) + 1;
        if self.setting(|settings| settings.lost_at_sync) == number {
            return Err(self.lose(self.setting(|settings| settings.lost_code)));
        }
        self.lost()
    }

    /// A stream begins an operation: what is to go wrong with it, and how long it takes.
    pub fn begin_operation(&self) -> Outcome {
        self.lost()?;
        let number = self.seen.operations.fetch_add(1, Ordering::SeqCst) + 1;
        let ordered_us = self.counters.order_delay_us.get().max(0) as u64;
        let delay_us = self.setting(|settings| settings.delay_us).saturating_add(ordered_us);
        self.pause(Duration::from_micros(delay_us));
        while self.setting(|settings| settings.hang_at) == number || self.counters.order_hang.get() != 0 {
            // Another process may give the order, so nobody can wake us.
            self.pause(Duration::from_millis(5));
        }
        if self.setting(|settings| settings.lost_at_operation) == number {
            return Err(self.lose(self.setting(|settings| settings.lost_code)));
        }
        match self.counters.order_lost.get() {
            0 => Ok(()),
            code => {
                self.counters.order_lost.set(0);
                Err(self.lose(code as Code))
            }
        }
    }

    fn pause(&self, time: Duration) {
        if time.is_zero() {
            return;
        }
        let started_ns = now_ns();
        loop {
            let passed = Duration::from_nanos(now_ns() - started_ns);
            let Some(rest) = time.checked_sub(passed).filter(|rest| !rest.is_zero()) else { return };
            let guard = lock(&self.patience.0);
            drop(self.patience.1.wait_timeout(guard, rest));
        }
    }
}

/// Nanoseconds on the monotonic clock: what events are stamped with.
pub fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place for the result.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Everything of one sort that has a handle.
#[derive(Debug)]
pub struct Table<T> {
    what: &'static str,
    all: Mutex<HashMap<u64, Arc<T>>>,
}

impl<T> Table<T> {
    fn new(what: &'static str) -> Self {
        Table { what, all: Mutex::default() }
    }

    pub fn insert(&self, handle: u64, one: T) -> Arc<T> {
        let one = Arc::new(one);
        lock(&self.all).insert(handle, one.clone());
        one
    }

    /// The one with this handle; a handle that is none, or no more, is a violation.
    pub fn get(&self, handle: u64) -> Outcome<Arc<T>> {
        let found = lock(&self.all).get(&handle).cloned();
        found.ok_or_else(|| {
            let driver = driver();
            driver.violation(
                driver.counters.bad_handle,
                &format!("no {} has the handle {handle:#x}", self.what),
            );
            INVALID_HANDLE
        })
    }

    /// Takes it out; once only.
    pub fn remove(&self, handle: u64) -> Outcome<Arc<T>> {
        let found = lock(&self.all).remove(&handle);
        found.ok_or_else(|| {
            let driver = driver();
            driver.violation(
                driver.counters.double_free,
                &format!("destroyed twice: {} {handle:#x}", self.what),
            );
            INVALID_HANDLE
        })
    }

    /// Takes out all that `which` says.
    pub fn remove_all(&self, which: impl Fn(&T) -> bool) -> Vec<Arc<T>> {
        let mut all = lock(&self.all);
        let handles: Vec<u64> = all.iter().filter(|(_, one)| which(one)).map(|(handle, _)| *handle).collect();
        handles.iter().filter_map(|handle| all.remove(handle)).collect()
    }

    /// All that `which` says.
    pub fn all(&self, which: impl Fn(&T) -> bool) -> Vec<Arc<T>> {
        lock(&self.all).values().filter(|one| which(one)).cloned().collect()
    }
}

/// Runs a host function of the caller's, from which the driver may not be called.
pub fn as_callback(run: impl FnOnce()) {
    IN_CALLBACK.set(true);
    run();
    IN_CALLBACK.set(false);
}

fn code(outcome: Outcome) -> Code {
    outcome.err().unwrap_or(SUCCESS)
}

/// An entry point that needs cuInit only, and works on a lost device.
pub fn query(run: impl FnOnce(&'static Driver) -> Outcome) -> Code {
    let driver = driver();
    if !driver.ready.load(Ordering::SeqCst) {
        return NOT_INITIALIZED;
    }
    if IN_CALLBACK.get() {
        driver.violation(driver.counters.call_in_callback, "a host function called the driver");
        return NOT_PERMITTED;
    }
    code(run(driver))
}

/// An entry point that uses the device.
pub fn call(run: impl FnOnce(&'static Driver) -> Outcome) -> Code {
    query(|driver| {
        driver.lost()?;
        run(driver)
    })
}
