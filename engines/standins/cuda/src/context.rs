//! Contexts: the primary one of each device with its references, those of `cuCtxCreate`, and each thread's stack.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use crate::codes::{CONTEXT_IS_DESTROYED, INVALID_CONTEXT, INVALID_DEVICE, Outcome};
use crate::driver::{Driver, driver};
use crate::memory::Kind;
use crate::stream::Stream;

/// `CU_CTX_SCHED_BLOCKING_SYNC`: waiting threads sleep.
pub const SCHED_BLOCKING_SYNC: u32 = 4;

/// A context.
#[derive(Debug)]
pub struct Context {
    pub handle: u64,
    pub device: u32,
    pub flags: AtomicU32,
    primary: bool,
    alive: AtomicBool,
    /// The default stream, which is there from its first use.
    legacy: OnceLock<Arc<Stream>>,
}

/// Every context.
#[derive(Debug, Default)]
pub struct Contexts {
    all: HashMap<u64, Arc<Context>>,
    primary: HashMap<u32, Primary>,
}

#[derive(Debug, Default)]
struct Primary {
    context: Option<Arc<Context>>,
    references: u32,
    flags: u32,
}

thread_local! {
    static STACK: RefCell<Vec<Arc<Context>>> = const { RefCell::new(Vec::new()) };
}

impl Context {
    fn new(driver: &Driver, device: u32, flags: u32, primary: bool) -> Arc<Context> {
        Arc::new(Context {
            handle: driver.new_handle(),
            device,
            flags: AtomicU32::new(flags),
            primary,
            alive: AtomicBool::new(true),
            legacy: OnceLock::new(),
        })
    }

    /// Threads that wait for this context sleep.
    pub fn blocks(&self) -> bool {
        self.flags.load(Ordering::SeqCst) & SCHED_BLOCKING_SYNC != 0
    }

    /// The legacy default stream.
    pub fn legacy(self: &Arc<Self>) -> Arc<Stream> {
        self.legacy.get_or_init(|| Arc::new(Stream::legacy(self.handle))).clone()
    }

    /// The legacy default stream, if anybody has used it.
    pub fn legacy_if_used(&self) -> Option<&Arc<Stream>> {
        self.legacy.get()
    }

    /// Every stream of this context.
    pub fn streams(&self, driver: &Driver) -> Vec<Arc<Stream>> {
        let mut streams = driver.streams.all(|stream| stream.context == self.handle);
        streams.extend(self.legacy_if_used().cloned());
        streams
    }

    /// Waits until all that was given to this context's streams is done.
    pub fn finish(&self, driver: &Driver) {
        self.streams(driver).iter().for_each(|stream| stream.tail().wait());
    }

    /// Ends the context: its work is finished, and what its users still hold is gone and told.
    fn destroy(&self, driver: &'static Driver) {
        self.alive.store(false, Ordering::SeqCst);
        let streams = driver.streams.remove_all(|stream| stream.context == self.handle);
        driver.counters.live_streams.change(-(streams.len() as i64));
        streams.iter().chain(self.legacy_if_used()).for_each(|stream| stream.close(true));
        let events = driver.events.remove_all(|event| event.context == self.handle);
        driver.counters.live_events.change(-(events.len() as i64));
        let modules = driver.modules.remove_all(|module| module.context == self.handle);
        driver.counters.live_modules.change(-(modules.len() as i64));
        driver.functions.remove_all(|function| function.context == self.handle);
        for (what, count) in
            [("streams", streams.len()), ("events", events.len()), ("modules", modules.len())]
        {
            if count > 0 {
                driver.violation(
                    driver.counters.leaked,
                    &format!("{count} {what} left in a context that ended"),
                );
            }
        }
        self.drop_memory(driver);
    }

    fn drop_memory(&self, driver: &'static Driver) {
        let owned = driver.memory().owned_by(self.handle);
        for one in owned {
            let freed = driver.memory_mut().free(one.start, |_| true);
            if freed.is_err() {
                continue;
            }
            let (count, bytes) = match one.kind {
                Kind::Device(_) => (driver.counters.live_allocations, driver.counters.live_bytes),
                Kind::Pinned | Kind::Registered => {
                    (driver.counters.live_pinned, driver.counters.live_pinned_bytes)
                }
            };
            count.change(-1);
            bytes.change(-(one.bytes as i64));
            let what = format!("{} bytes ({:?}) left in a context that ended", one.bytes, one.kind);
            driver.violation(driver.counters.leaked, &what);
        }
    }
}

impl Contexts {
    /// The context with this handle, alive or not.
    pub fn get(&self, handle: u64) -> Outcome<Arc<Context>> {
        self.all.get(&handle).cloned().ok_or(INVALID_CONTEXT)
    }

    /// Flags and state (is it active?) of a device's primary context.
    pub fn primary_state(&self, device: u32) -> (u32, bool) {
        self.primary.get(&device).map_or((0, false), |one| (one.flags, one.context.is_some()))
    }

    /// Flags of the primary context, from now on too.
    pub fn set_primary_flags(&mut self, device: u32, flags: u32) {
        let primary = self.primary.entry(device).or_default();
        primary.flags = flags;
        if let Some(context) = &primary.context {
            context.flags.store(flags, Ordering::SeqCst);
        }
    }
}

/// One more reference to a device's primary context, which is made by the first.
pub fn retain_primary(driver: &'static Driver, device: u32) -> u64 {
    let mut contexts = driver.contexts();
    let primary = contexts.primary.entry(device).or_default();
    let flags = primary.flags;
    let context = primary.context.get_or_insert_with(|| Context::new(driver, device, flags, true)).clone();
    primary.references += 1;
    contexts.all.insert(context.handle, context.clone());
    driver.counters.live_contexts.change(1);
    context.handle
}

/// One reference less; the last ends the context. `reset` gives all back at once.
pub fn release_primary(driver: &'static Driver, device: u32, reset: bool) -> Outcome {
    let mut contexts = driver.contexts();
    let primary = contexts.primary.entry(device).or_default();
    if primary.references == 0 && !reset {
        driver.violation(
            driver.counters.double_free,
            "a primary context was released more often than retained",
        );
        return Err(INVALID_CONTEXT);
    }
    let given_back = if reset { primary.references } else { 1 };
    primary.references -= given_back;
    driver.counters.live_contexts.change(-i64::from(given_back));
    let ended = if primary.references == 0 { primary.context.take() } else { None };
    drop(contexts);
    if let Some(context) = ended {
        context.destroy(driver);
    }
    Ok(())
}

/// A context of the caller's own, which is current from now on.
pub fn create(driver: &'static Driver, device: u32, flags: u32) -> u64 {
    let context = Context::new(driver, device, flags, false);
    driver.contexts().all.insert(context.handle, context.clone());
    driver.counters.live_contexts.change(1);
    let handle = context.handle;
    STACK.with_borrow_mut(|stack| stack.push(context));
    handle
}

/// Ends a context of `cuCtxCreate`.
pub fn destroy(driver: &'static Driver, handle: u64) -> Outcome {
    let context = driver.contexts().get(handle)?;
    if context.primary {
        return Err(INVALID_CONTEXT);
    }
    if !context.alive.load(Ordering::SeqCst) {
        driver.violation(driver.counters.double_free, "a context was destroyed twice");
        return Err(CONTEXT_IS_DESTROYED);
    }
    STACK.with_borrow_mut(|stack| {
        if stack.last().is_some_and(|top| top.handle == handle) {
            stack.pop();
        }
    });
    context.destroy(driver);
    driver.counters.live_contexts.change(-1);
    Ok(())
}

/// The context on top of this thread's stack.
pub fn current() -> Outcome<Arc<Context>> {
    let top = STACK.with_borrow(|stack| stack.last().cloned()).ok_or(INVALID_CONTEXT)?;
    if top.alive.load(Ordering::SeqCst) { Ok(top) } else { Err(CONTEXT_IS_DESTROYED) }
}

/// Its handle; 0 without one.
pub fn current_handle() -> u64 {
    STACK.with_borrow(|stack| stack.last().map_or(0, |top| top.handle))
}

/// Puts a context on top of the stack.
pub fn push(handle: u64) -> Outcome {
    let context = driver().contexts().get(handle)?;
    STACK.with_borrow_mut(|stack| stack.push(context));
    Ok(())
}

/// Takes the top off.
pub fn pop() -> Outcome<u64> {
    STACK.with_borrow_mut(Vec::pop).map(|top| top.handle).ok_or(INVALID_CONTEXT)
}

/// Replaces the top; 0 takes it off.
pub fn set(handle: u64) -> Outcome {
    let context = if handle == 0 { None } else { Some(driver().contexts().get(handle)?) };
    STACK.with_borrow_mut(|stack| {
        stack.pop();
        stack.extend(context);
    });
    Ok(())
}

/// Is there such a device?
pub fn device(driver: &Driver, ordinal: i32) -> Outcome<u32> {
    u32::try_from(ordinal)
        .ok()
        .filter(|index| *index < driver.setting(|settings| settings.devices))
        .ok_or(INVALID_DEVICE)
}
